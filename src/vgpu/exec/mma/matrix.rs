//! How a warp holds an 8x8 matrix of 16-bit elements: the distribution that `ldmatrix`, `stmatrix` and `movmatrix` share. Not here: addresses and memory,
//! which the machine's memory accesses know.
//!
//! Lane `l` holds the elements `2 (l % 4)` and `2 (l % 4) + 1` of row `l / 4` in one register, the first in the low half (PTX ISA, `ldmatrix`).

use crate::vgpu::exec::lanes::{RowFns, get, put, row_fns};
use crate::vgpu::ir::WARP;

/// What `ldmatrix` gives the lanes of one matrix whose rows are `rows`; with `trans` lane `l` gets elements of column `l / 4` instead.
#[inline(always)]
pub fn ldmatrix_row(rows: &[[u8; 16]; 8], trans: bool) -> [u32; WARP] {
    let mut lanes = [0; WARP];
    for (l, lane) in lanes.iter_mut().enumerate() {
        let (row, four) = (&rows[l >> 2], 4 * (l & 3));
        *lane = u32::from_le_bytes([row[four], row[four + 1], row[four + 2], row[four + 3]]);
    }
    if trans { transpose(&lanes) } else { lanes }
}

/// The rows that `stmatrix` writes for one matrix: the inverse of [`ldmatrix_row`].
#[inline(always)]
pub fn stmatrix_rows(lanes: &[u32; WARP], trans: bool) -> [[u8; 16]; 8] {
    let lanes = if trans { transpose(lanes) } else { *lanes };
    let mut rows = [[0; 16]; 8];
    for (l, lane) in lanes.iter().enumerate() {
        rows[l >> 2][4 * (l & 3)..][..4].copy_from_slice(&lane.to_le_bytes());
    }
    rows
}

/// `movmatrix.sync.aligned.m8n8.trans.b16`: the transposed matrix in the same distribution.
#[inline(always)]
pub fn transpose(lanes: &[u32; WARP]) -> [u32; WARP] {
    // Element [r][c] is half c % 2 of lane 4 r + c / 2.
    let element = |r: usize, c: usize| lanes[4 * r + c / 2] >> (16 * (c & 1)) & 0xffff;
    std::array::from_fn(|l| {
        let (row, col) = (l >> 2, 2 * (l & 3));
        element(col, row) | element(col + 1, row) << 16
    })
}

/// `movmatrix`: destination `d`, source `a`.
pub fn movmatrix() -> RowFns {
    row_fns!(|file, ins, mask| put(file, ins.d, mask, &transpose(&get(file, ins.a))))
}
