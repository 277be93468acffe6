//! `ldmatrix` and `stmatrix`: 8x8 matrices of 16-bit elements between shared memory and the fragments of `mma`.
//!
//! Row `r` of matrix `i` is 16 bytes at the address of lane `8i + r`; the other lanes' addresses are not looked at. Lane `l` holds bytes `4(l & 3)..` of row
//! `l >> 2`; transposed, elements `[2(l & 3) + h][l >> 2]` for its halves `h` ([`super::mma::matrix`]).

use super::Halt;
use super::access::{Lanes, Verb, addresses};
use super::block::Block;
use super::lanes::{each, get, put};
use super::mma::matrix::{ldmatrix_row, stmatrix_rows};
use crate::vgpu::ir::{File, Ins};
use crate::vgpu::mem;
use crate::vgpu::ptx::ast::Space;
use crate::vgpu::report::Kind;
use crate::vgpu::san::{AccessKind, NoValues, Values};

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
                unsafe { put(file, reg, u32::MAX, &ldmatrix_row(&rows, ins.d == 1)) };
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
                access.regs.iter().map(|&reg| stmatrix_rows(&unsafe { get(file, reg) }, ins.d == 1)).collect();
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
