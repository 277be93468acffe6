//! `ldmatrix` and `stmatrix`: 8x8 matrices of 16-bit elements between shared memory and the fragments of `mma`.
//!
//! Row `r` of matrix `i` is 16 bytes at the address of lane `8i + r`; the other lanes' addresses are not looked at. Lane `l` holds bytes `4(l & 3)..` of row
//! `l >> 2`; transposed, elements `[2(l & 3) + h][l >> 2]` for its halves `h`.

use super::Halt;
use super::access::{Lanes, Verb, addresses};
use super::block::Block;
use super::lanes::{each, get, put};
use crate::vgpu::ir::{File, Ins};
use crate::vgpu::mem;
use crate::vgpu::ptx::ast::Space;
use crate::vgpu::report::Kind;
use crate::vgpu::san::{AccessKind, NoValues, Values};

/// What each lane gets of the eight rows of a matrix.
pub fn distribute(rows: &[[u8; 16]; 8], transposed: bool) -> [u32; 32] {
    let element = |r: usize, c: usize| u32::from(rows[r][2 * c]) | u32::from(rows[r][2 * c + 1]) << 8;
    std::array::from_fn(|lane| {
        let (g, t) = (lane >> 2, 2 * (lane & 3));
        match transposed {
            false => element(g, t) | element(g, t + 1) << 16,
            true => element(t, g) | element(t + 1, g) << 16,
        }
    })
}

/// The eight rows of a matrix from what each lane holds: the inverse of [`distribute`].
pub fn collect(lanes: &[u32; 32], transposed: bool) -> [[u8; 16]; 8] {
    let mut rows = [[0u8; 16]; 8];
    for (lane, value) in lanes.iter().enumerate() {
        let (g, t) = (lane >> 2, 2 * (lane & 3));
        for h in 0..2 {
            let (r, c) = if transposed { (t + h, g) } else { (g, t + h) };
            let half = (value >> (16 * h)) as u16;
            rows[r][2 * c..2 * c + 2].copy_from_slice(&half.to_le_bytes());
        }
    }
    rows
}

impl<const CHECK: bool, const COUNT: bool> Block<'_, CHECK, COUNT> {
    /// `ldmatrix.sync.aligned.m8n8.x{1,2,4}{.trans}.shared.b16`.
    pub fn ldmatrix(&mut self, w: usize, pc: u32, file: &File, ins: &Ins) -> Result<(), Halt> {
        let access = &self.kernel.accesses[ins.x as usize];
        let m = u32::MAX >> (32 - 8 * access.count.clamp(1, 4));
        // SAFETY: lowering gave the instruction rows that exist.
        let addr = unsafe { addresses(file, ins.a, access.wide, ins.imm, m) };
        self.by_space(access.space, &addr, m, |block, space, addr, m| {
            if space != Space::Shared {
                let lane = m.trailing_zeros();
                return block.fault(Kind::WrongSpace, "ldmatrix outside shared memory".into(), pc, w, lane);
            }
            let lanes = block.translate(w, pc, Verb::Load, space, addr, 16, m)?;
            block.observe(w, pc, AccessKind::LoadMatrix, Verb::Load, &lanes, 16, &NoValues);
            for (i, &reg) in access.regs.iter().enumerate() {
                let rows: [[u8; 16]; 8] = std::array::from_fn(|r| {
                    if lanes.mask >> (8 * i + r) & 1 == 0 {
                        return [mem::POISON; 16];
                    }
                    // SAFETY: a checked address: the lane is in the mask.
                    unsafe { mem::read(lanes.ptr[8 * i + r]) }
                });
                // SAFETY: rows exist.
                unsafe { put(file, reg, u32::MAX, &distribute(&rows, ins.d == 1)) };
            }
            Ok(())
        })
    }

    /// `stmatrix.sync.aligned.m8n8.x{1,2,4}{.trans}.shared.b16`.
    pub fn stmatrix(&mut self, w: usize, pc: u32, file: &File, ins: &Ins) -> Result<(), Halt> {
        let access = &self.kernel.accesses[ins.x as usize];
        let m = u32::MAX >> (32 - 8 * access.count.clamp(1, 4));
        // SAFETY: lowering gave the instruction rows that exist.
        let addr = unsafe { addresses(file, ins.a, access.wide, ins.imm, m) };
        self.effects += 1;
        self.by_space(access.space, &addr, m, |block, space, addr, m| {
            if space != Space::Shared {
                let lane = m.trailing_zeros();
                return block.fault(Kind::WrongSpace, "stmatrix outside shared memory".into(), pc, w, lane);
            }
            let lanes = block.translate(w, pc, Verb::Store, space, addr, 16, m)?;
            // SAFETY: rows exist.
            let matrices: Vec<_> =
                access.regs.iter().map(|&reg| collect(&unsafe { get(file, reg) }, ins.d == 1)).collect();
            block.observe(w, pc, AccessKind::StoreMatrix, Verb::Store, &lanes, 16, &Rows(&matrices, &lanes));
            for lane in each(lanes.mask) {
                // SAFETY: a checked address.
                unsafe { mem::write(lanes.ptr[lane], matrices[lane / 8][lane % 8]) };
            }
            Ok(())
        })
    }
}

/// What the lanes of `stmatrix` write: a row of a matrix each.
struct Rows<'a>(&'a [[[u8; 16]; 8]], &'a Lanes);

impl Values for Rows<'_> {
    fn unchanged(&self, lane: usize) -> bool {
        // SAFETY: a checked address.
        unsafe { mem::read::<16>(self.1.ptr[lane]) == self.0[lane / 8][lane % 8] }
    }

    fn equal(&self, a: usize, b: usize) -> bool {
        self.0[a / 8][a % 8] == self.0[b / 8][b % 8]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_are_those_of_the_isa_and_go_back() {
        let rows: [[u8; 16]; 8] = std::array::from_fn(|r| std::array::from_fn(|b| (16 * r + b) as u8));
        let straight = distribute(&rows, false);
        assert_eq!(straight[0].to_le_bytes(), [0, 1, 2, 3]);
        assert_eq!(straight[6].to_le_bytes(), [24, 25, 26, 27], "row 1, bytes 8 to 11");
        let turned = distribute(&rows, true);
        assert_eq!(turned[0].to_le_bytes(), [0, 1, 16, 17], "elements [0][0] and [1][0]");
        assert_eq!(turned[5].to_le_bytes(), [34, 35, 50, 51], "elements [2][1] and [3][1]");
        for t in [false, true] {
            assert_eq!(collect(&distribute(&rows, t), t), rows);
        }
    }
}
