//! Barriers of a block: `bar.sync`, `bar.arrive`, `bar.red` with sixteen identifiers, whole blocks or a stated number of threads.

use super::Halt;
use super::block::Block;
use super::lanes::{get, pred, put, put_pred};
use super::sync::uniform;
use super::warp::State;
use crate::vgpu::ir::{NO_ROW, Op};
use crate::vgpu::report::{Finding, Kind};

/// One barrier while warps arrive.
#[derive(Clone, Default)]
pub(super) struct Bar {
    /// Threads that were asked for; `None` for all of the block.
    threads: Option<u32>,
    /// Warps that wait, and where.
    waiting: Vec<(usize, u32)>,
    /// Bits of waiting warps.
    synced: u32,
    /// Bits of warps that only arrived.
    arrived: u32,
    /// Pc of the first arrival.
    first: u32,
    /// `bar.red`: true predicates and threads so far.
    votes: u32,
    voters: u32,
}

impl<const CHECK: bool, const COUNT: bool> Block<'_, CHECK, COUNT> {
    /// All live lanes of warp `w` are at a barrier instruction. True where something changed.
    pub fn arrive(&mut self, w: usize) -> Result<bool, Halt> {
        let warp = &self.warps[w];
        let split = warp.splits[0];
        let (pc, lane) = (split.pc, split.mask.trailing_zeros());
        if warp.splits.len() > 1 {
            let other = warp.splits[1];
            let what = "threads of a warp wait at different barriers".to_string();
            let finding = Finding::at(Kind::BarrierDivergence, what, self.kernel, pc, Some(self.who(w as u32, lane)))
                .with_other(self.kernel, other.pc, Some(self.who(w as u32, other.mask.trailing_zeros())))
                .with_hint("every thread of the block must reach the same barrier: move it out of the branch");
            self.note(finding);
            return Err(Halt);
        }
        let all = self.warp_mask(w);
        let ins = self.kernel.code[pc as usize];
        if warp.live != all && ins.x & 1 == 1 && CHECK {
            let gone = all & !warp.live;
            let what = format!("a barrier while lanes {gone:#010x} of the warp have exited");
            let finding = Finding::at(Kind::ExitedAtBarrier, what, self.kernel, pc, Some(self.who(w as u32, lane)))
                .with_hint("let threads without work go on to the barrier instead of returning early");
            self.note(finding);
        }
        let file = self.file(w);
        // SAFETY: lowering gave the instruction rows that exist.
        let (ids, counts) = unsafe { (get(&file, ins.a), (ins.b != NO_ROW).then(|| get(&file, ins.b))) };
        let live = self.warps[w].live;
        let id = uniform(&ids, live);
        let count = counts.map(|c| uniform(&c, live));
        let bad = match (id, count) {
            (None, _) | (_, Some(None)) => {
                Some("threads of a warp name different barriers or thread counts".to_string())
            }
            (Some(id), _) if id > 15 => Some(format!("barrier {id}: there are 0 to 15")),
            (_, Some(Some(n))) if n == 0 || n % 32 != 0 => {
                Some(format!("{n} threads: not a multiple of the warp size"))
            }
            (_, None) if ins.op == Op::BarArrive => Some("bar.arrive needs a thread count".into()),
            (_, Some(Some(n))) if n > self.task.warps * 32 => {
                Some(format!("waits for {n} threads, the block has {}", self.task.threads))
            }
            _ => None,
        };
        if let Some(what) = bad {
            self.fault(Kind::BarrierMisuse, what, pc, w, lane)?;
            return Err(Halt);
        }
        let (id, threads) = (id.unwrap_or(0) as usize, count.flatten());
        let bit = 1u32 << w;
        let bar = &mut self.bars[id];
        let fresh = bar.synced | bar.arrived == 0;
        let misuse = if fresh {
            *bar = Bar { threads, first: pc, ..Bar::default() };
            None
        } else if bar.threads != threads {
            Some(
                format!("barrier {id} is asked for {} here", counted(threads))
                    + &format!(", for {} elsewhere", counted(bar.threads)),
            )
        } else if (ins.op == Op::BarRed) != (self.kernel.code[bar.first as usize].op == Op::BarRed) {
            Some(format!("barrier {id} is used with and without a reduction at the same time"))
        } else if (bar.synced | bar.arrived) & bit != 0 {
            Some(format!("the warp arrives at barrier {id} twice before it completes"))
        } else {
            None
        };
        if let Some(what) = misuse {
            let other = self.bars[id].first;
            let finding = Finding::at(Kind::BarrierMisuse, what, self.kernel, pc, Some(self.who(w as u32, lane)))
                .with_other(self.kernel, other, None);
            self.note(finding);
            return Err(Halt);
        }
        if COUNT {
            self.counts.barriers += 1;
        }
        self.effects += 1;
        let bar = &mut self.bars[id];
        if ins.op == Op::BarArrive {
            bar.arrived |= bit;
            if let Some(san) = &mut self.san {
                san.arrive(id as u32, w as u32);
            }
            self.release(w, &[(pc, split.mask)], State::Bar);
        } else {
            bar.synced |= bit;
            bar.waiting.push((w, pc));
            if ins.op == Op::BarRed {
                // SAFETY: as above.
                let p = unsafe { pred(&file, ins.c) } ^ u32::from(ins.e).wrapping_neg();
                bar.votes += (p & split.mask).count_ones();
                bar.voters += split.mask.count_ones();
            }
        }
        let complete = self.complete(id);
        Ok(complete || ins.op == Op::BarArrive)
    }

    /// Lets the warps go on that wait at barrier `id`, if all are there.
    fn complete(&mut self, id: usize) -> bool {
        let alive = self.warps.iter().filter(|w| w.live != 0).count() as u32;
        let bar = &self.bars[id];
        let here = (bar.synced | bar.arrived).count_ones();
        let needed = bar.threads.map_or(alive, |t| t / 32);
        if here == 0 || here < needed {
            return false;
        }
        let bar = std::mem::take(&mut self.bars[id]);
        if CHECK && bar.threads.is_none() && (alive as usize) < self.warps.len() {
            let what = "a barrier of the whole block after a warp has exited".to_string();
            let (w, pc) = bar.waiting[0];
            let finding = Finding::at(Kind::ExitedAtBarrier, what, self.kernel, pc, Some(self.who(w as u32, 0)));
            self.note(
                finding.warning().with_hint("hardware counts exited threads as arrived; CUDA does not promise it"),
            );
        }
        if let Some(san) = &mut self.san {
            san.barrier(id as u32, bar.synced, bar.arrived, bar.threads.is_none());
        }
        for &(w, pc) in &bar.waiting {
            let ins = self.kernel.code[pc as usize];
            let mask = self.warps[w].live;
            if ins.op == Op::BarRed {
                let file = self.file(w);
                // SAFETY: lowering gave the instruction a row or predicate that exists.
                unsafe {
                    match ins.imm {
                        0 => put(&file, ins.d, mask, &[bar.votes; 32]),
                        1 => put_pred(&file, ins.d, mask, u32::from(bar.votes == bar.voters).wrapping_neg()),
                        _ => put_pred(&file, ins.d, mask, u32::from(bar.votes != 0).wrapping_neg()),
                    }
                }
            }
            self.release(w, &[(pc, mask)], State::Bar);
        }
        true
    }

    /// A warp has ended: barriers of the whole block may be complete without it.
    pub fn settle_barriers(&mut self) -> Result<(), Halt> {
        for id in 0..self.bars.len() {
            if self.bars[id].synced != 0 && self.bars[id].threads.is_none() {
                self.complete(id);
            }
        }
        Ok(())
    }

    /// The lanes that warp `w` began with.
    pub fn warp_mask(&self, w: usize) -> u32 {
        u32::MAX >> (32 - (self.task.threads - w as u32 * 32).min(32))
    }
}

fn counted(threads: Option<u32>) -> String {
    threads.map_or_else(|| "the whole block".into(), |n| format!("{n} threads"))
}
