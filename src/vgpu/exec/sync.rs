//! Instructions that lanes of a warp execute together: shuffles, votes, matches, reductions, `bar.warp.sync`, and `.aligned` ones.
//!
//! The ISA lets the lanes of a mask meet at *different* instructions, as long as operation, qualifiers and mask agree; so they meet by those, not by
//! pc. All sources are read before a result is written. Lanes that have exited are not waited for.

use super::block::Block;
use super::lanes::{bits, get, get64, pred, put, put_pred};
use super::warp::{Split, State};
use super::{Halt, lanes};
use crate::vgpu::ir::{Ins, NO_ROW, Op, Redux, Scope};
use crate::vgpu::report::Kind;

/// A set of lanes at one instruction of a meeting.
type Part = (u32, u32);

impl<const CHECK: bool, const COUNT: bool> Block<'_, CHECK, COUNT> {
    /// Lets waiting lanes of warp `w` go on where all that they wait for are there.
    pub fn settle(&mut self, w: usize) -> Result<(), Halt> {
        while self.settle_one(w)? {}
        if self.warps[w].live == 0 {
            return self.settle_barriers();
        }
        Ok(())
    }

    fn settle_one(&mut self, w: usize) -> Result<bool, Halt> {
        let live = self.warps[w].live;
        for i in 0..self.warps[w].splits.len() {
            let split = self.warps[w].splits[i];
            match split.state {
                State::Run => {}
                State::Sync(members) => {
                    let key = self.sync_key(split.pc);
                    let meets =
                        |s: &Split| s.state == State::Sync(members) && self.sync_key(s.pc) == key && s.mask != 0;
                    let parts: Vec<Part> =
                        self.warps[w].splits.iter().filter(|s| meets(s)).map(|s| (s.pc, s.mask)).collect();
                    let here = parts.iter().fold(0, |all, p| all | p.1);
                    if members & live & !here == 0 {
                        self.release(w, &parts, State::Sync(members));
                        self.sync(w, &parts, members)?;
                        return Ok(true);
                    }
                }
                State::Whole if split.mask == live => {
                    self.release(w, &[(split.pc, split.mask)], State::Whole);
                    if live != u32::MAX {
                        let what =
                            format!("a warp-wide instruction, but only lanes {live:#010x} of the warp are there");
                        self.fault(Kind::PartialWarp, what, split.pc, w, live.trailing_zeros())?;
                    } else {
                        self.whole(w, split.pc)?;
                    }
                    return Ok(true);
                }
                State::Whole => {}
                State::Bar => {
                    if self.warps[w].splits.iter().all(|s| s.state == State::Bar) {
                        return self.arrive(w);
                    }
                }
            }
        }
        Ok(false)
    }

    /// Lets lanes that waited in `state` run on behind their instructions.
    pub fn release(&mut self, w: usize, parts: &[Part], state: State) {
        self.effects += 1;
        for &(pc, mask) in parts {
            self.warps[w].splits.retain(|s| !(s.pc == pc && s.state == state));
            self.warps[w].put(Split::new(pc + 1, mask));
        }
    }

    /// Operation and qualifiers: what must agree between lanes that meet.
    fn sync_key(&self, pc: u32) -> (Op, u32, i64) {
        let ins = &self.kernel.code[pc as usize];
        (ins.op, ins.x, ins.imm)
    }

    /// Executes a `.sync` instruction for all `parts`; `members` is the mask that they named.
    pub fn sync(&mut self, w: usize, parts: &[Part], members: u32) -> Result<(), Halt> {
        let here = parts.iter().fold(0, |all, p| all | p.1);
        let kernel = self.kernel;
        let (first_pc, _) = parts[0];
        let op = kernel.code[first_pc as usize].op;
        let file = self.file(w);
        // One row from all parts.
        let gather = |field: fn(&Ins) -> u16| {
            let mut all = [0u32; 32];
            for &(pc, mask) in parts {
                // SAFETY: lowering gave the instruction rows that exist.
                let row = unsafe { get(&file, field(&kernel.code[pc as usize])) };
                for lane in 0..32 {
                    if mask >> lane & 1 == 1 {
                        all[lane] = row[lane];
                    }
                }
            }
            all
        };
        match op {
            Op::WarpBar => {
                if let Some(san) = &mut self.san {
                    san.warp_sync(w as u32, here);
                }
                let _ = members;
            }
            Op::Shfl => {
                let mode = kernel.code[first_pc as usize].x;
                let (a, b, c) = (gather(|i| i.a), gather(|i| i.b), gather(|i| i.c));
                let mut d = [0u32; 32];
                let (mut valid, mut absent) = (0u32, 0u32);
                for lane in 0..32u32 {
                    let (source, inside) = shuffle(mode, lane, b[lane as usize], c[lane as usize]);
                    valid |= u32::from(inside) << lane;
                    d[lane as usize] = a[source as usize];
                    absent |= u32::from(here >> source & 1 == 0) << lane;
                }
                for &(pc, mask) in parts {
                    let lost = absent & mask;
                    if lost != 0 && CHECK {
                        let lane = lost.trailing_zeros();
                        let what = format!(
                            "shuffle reads lane {}, which does not take part (lanes {here:#010x} do): its value is undefined",
                            shuffle(mode, lane, b[lane as usize], c[lane as usize]).0
                        );
                        self.fault(Kind::SyncMask, what, pc, w, lane)?;
                    }
                    let ins = &kernel.code[pc as usize];
                    // SAFETY: as above.
                    unsafe {
                        put(&file, ins.d, mask, &d);
                        put_pred(&file, ins.q, mask, valid);
                    }
                }
            }
            Op::Vote => {
                let mut votes = 0;
                for &(pc, mask) in parts {
                    let ins = &kernel.code[pc as usize];
                    // SAFETY: as above.
                    let p = unsafe { pred(&file, ins.a) } ^ u32::from(ins.b).wrapping_neg();
                    votes |= p & mask;
                }
                for &(pc, mask) in parts {
                    let ins = &kernel.code[pc as usize];
                    let truth = |t: bool| u32::from(t).wrapping_neg();
                    // SAFETY: as above.
                    unsafe {
                        match ins.x {
                            0 => put_pred(&file, ins.d, mask, truth(votes == here)),
                            1 => put_pred(&file, ins.d, mask, truth(votes != 0)),
                            2 => put_pred(&file, ins.d, mask, truth(votes == 0 || votes == here)),
                            _ => put(&file, ins.d, mask, &[votes; 32]),
                        }
                    }
                }
            }
            Op::Match => {
                let wide = kernel.code[first_pc as usize].imm == 64;
                let mut a = [0u64; 32];
                for &(pc, mask) in parts {
                    let ins = &kernel.code[pc as usize];
                    // SAFETY: as above.
                    let row = unsafe { if wide { get64(&file, ins.a) } else { get(&file, ins.a).map(u64::from) } };
                    for lane in 0..32 {
                        if mask >> lane & 1 == 1 {
                            a[lane] = row[lane];
                        }
                    }
                }
                for &(pc, mask) in parts {
                    let ins = &kernel.code[pc as usize];
                    // SAFETY: as above.
                    unsafe {
                        if ins.x == 0 {
                            let d: [u32; 32] = std::array::from_fn(|lane| here & bits(|other| a[other] == a[lane]));
                            put(&file, ins.d, mask, &d);
                        } else {
                            let one = a[here.trailing_zeros() as usize & 31];
                            let all = here & bits(|other| a[other] == one) == here;
                            put(&file, ins.d, mask, &[if all { here } else { 0 }; 32]);
                            put_pred(&file, ins.q, mask, u32::from(all).wrapping_neg());
                        }
                    }
                }
            }
            Op::Redux => {
                let a = gather(|i| i.a);
                let taken = (0..32).filter(|lane| here >> lane & 1 == 1).map(|lane| a[lane]);
                let r = reduce(kernel.code[first_pc as usize].x, taken);
                for &(pc, mask) in parts {
                    // SAFETY: as above.
                    unsafe { put(&file, kernel.code[pc as usize].d, mask, &[r; 32]) };
                }
            }
            _ => {
                // elect.sync: the lowest lane.
                let leader = here.trailing_zeros();
                for &(pc, mask) in parts {
                    let ins = &kernel.code[pc as usize];
                    // SAFETY: as above.
                    unsafe {
                        if ins.d != NO_ROW {
                            put(&file, ins.d, mask, &[leader; 32]);
                        }
                        put_pred(&file, ins.q, mask, 1u32.wrapping_shl(leader));
                    }
                }
            }
        }
        Ok(())
    }

    /// Executes an instruction of the whole warp: 32 lanes are there.
    pub fn whole(&mut self, w: usize, pc: u32) -> Result<(), Halt> {
        let file = self.file(w);
        let ins = &self.kernel.code[pc as usize];
        match ins.op {
            Op::Ldmatrix => self.ldmatrix(w, pc, &file, ins),
            Op::Stmatrix => self.stmatrix(w, pc, &file, ins),
            _ => {
                // SAFETY: lowering gave the instruction rows and list entries that exist.
                unsafe { (ins.row)(&file, ins, u32::MAX) };
                Ok(())
            }
        }
    }

    /// `membar` and `fence`.
    pub fn fence(&mut self, w: usize, pc: u32, m: u32, scope: u32) {
        let scope =
            [Scope::Cta, Scope::Cluster, Scope::Gpu].into_iter().find(|s| *s as u32 == scope).unwrap_or(Scope::Sys);
        if let Some(san) = &mut self.san {
            san.fence(&crate::vgpu::san::At { pc, warp: w as u32, mask: m }, scope);
        }
    }
}

/// The lane that `lane` reads in `shfl.sync`, and whether it is inside its segment (ISA's pseudo-code; outside, a lane reads itself).
fn shuffle(mode: u32, lane: u32, b: u32, c: u32) -> (u32, bool) {
    let (b, clamp, segment) = (b & 31, c & 31, c >> 8 & 31);
    let highest = (lane & segment) | (clamp & !segment);
    let lowest = lane & segment;
    let (j, inside) = match mode {
        0 => {
            let j = lane.wrapping_sub(b) as i32;
            (j, j >= highest as i32)
        }
        1 => ((lane + b) as i32, lane + b <= highest),
        2 => ((lane ^ b) as i32, lane ^ b <= highest),
        _ => {
            let j = lowest | (b & !segment);
            (j as i32, j <= highest)
        }
    };
    if inside { (j as u32 & 31, true) } else { (lane, false) }
}

fn reduce(op: u32, values: impl Iterator<Item = u32>) -> u32 {
    let is = |r: Redux| op == r as u32;
    let step: fn(u32, u32) -> u32 = match () {
        _ if is(Redux::Add) => u32::wrapping_add,
        _ if is(Redux::MinU) => u32::min,
        _ if is(Redux::MaxU) => u32::max,
        _ if is(Redux::MinS) => |a, b| (a as i32).min(b as i32) as u32,
        _ if is(Redux::MaxS) => |a, b| (a as i32).max(b as i32) as u32,
        _ if is(Redux::And) => |a, b| a & b,
        _ if is(Redux::Or) => |a, b| a | b,
        _ => |a, b| a ^ b,
    };
    values.reduce(step).unwrap_or(0)
}

/// The first active lane's value of a register that must be the same in all of them.
pub(super) fn uniform(values: &[u32; 32], m: u32) -> Option<u32> {
    let first = values[m.trailing_zeros() as usize & 31];
    (m & !lanes::bits(|lane| values[lane] == first) == 0).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shuffles_follow_the_isa() {
        // Full warp: clamp 0 for up, 31 for the others, no segments.
        assert_eq!(shuffle(0, 5, 1, 0), (4, true));
        assert_eq!(shuffle(0, 0, 1, 0), (0, false));
        assert_eq!(shuffle(1, 30, 1, 31), (31, true));
        assert_eq!(shuffle(1, 31, 1, 31), (31, false));
        assert_eq!(shuffle(2, 3, 16, 31), (19, true));
        assert_eq!(shuffle(3, 3, 40, 31), (8, true), "only five bits of the lane count");
        // Segments of eight lanes: segment mask 0x18.
        let c = 0x18 << 8 | 31;
        assert_eq!(shuffle(3, 13, 2, c), (10, true));
        assert_eq!(shuffle(1, 15, 1, c), (15, false));
        assert_eq!(shuffle(0, 8, 1, 0x18 << 8), (8, false));
    }

    #[test]
    fn reductions() {
        let v = [3u32, u32::MAX, 7];
        let all = |op: Redux| reduce(op as u32, v.into_iter());
        assert_eq!(all(Redux::Add), 9);
        assert_eq!((all(Redux::MinU), all(Redux::MaxU)), (3, u32::MAX));
        assert_eq!((all(Redux::MinS), all(Redux::MaxS)), (u32::MAX, 7));
        assert_eq!((all(Redux::And), all(Redux::Or), all(Redux::Xor)), (3, u32::MAX, 3 ^ u32::MAX ^ 7));
    }
}
