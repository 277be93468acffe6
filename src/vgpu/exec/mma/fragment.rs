//! Which lane holds which element of an `mma` operand.
//!
//! With g = lane / 4 and t = lane % 4, every form but two reads the same *bytes*: register s of a row holds bytes 4t..4t+3 of the s-th 16 bytes of the row's
//! K elements (PTX ISA, "Matrix Fragments for mma"; 32 bytes with 64-bit registers for f64). A's rows are g and g + 8, B's columns g, and C and D hold
//! columns 2t and 2t + 1 of rows g and g + 8. Since a register of all lanes is one row of memory here, row g's piece is the 16 bytes at 16 g of that row.
//! The exception, `m8n8k4` of f16, is four products by groups of eight lanes.

use super::{Acc, Form};
use crate::vgpu::exec::lanes::{get, put};
use crate::vgpu::ir::{File, Ins, RowId, WARP};
use crate::vgpu::num::half::{F16, Kind};

/// The `i`-th register of an instruction's list.
///
/// # Safety
/// The list must have it.
#[inline(always)]
pub unsafe fn reg(file: &File, ins: &Ins, i: usize) -> RowId {
    // SAFETY: the caller's promise.
    unsafe { *file.lists.add(ins.x as usize + i) }
}

/// Registers `first ..` as rows of up to 32 bytes: `halves` of eight rows each, `segments` pieces to a row.
///
/// # Safety
/// The list and its rows must exist.
#[inline(always)]
unsafe fn rows<const R: usize>(file: &File, ins: &Ins, first: usize, halves: usize, segments: usize) -> [[u8; 32]; R] {
    let mut out = [[0; 32]; R];
    for s in 0..segments.min(2) {
        for h in 0..halves.min(R / 8) {
            // SAFETY: the caller's promise; a row is 128 bytes.
            let row =
                unsafe { *file.rows.add(reg(file, ins, first + s * halves + h) as usize).cast::<[[u8; 16]; 8]>() };
            for (g, piece) in row.iter().enumerate() {
                out[8 * h + g][16 * s..16 * s + 16].copy_from_slice(piece);
            }
        }
    }
    out
}

/// A, row by row.
///
/// # Safety
/// The instruction's list and rows must exist.
#[inline(always)]
pub unsafe fn a(file: &File, ins: &Ins, form: &Form) -> [[u8; 32]; 16] {
    // SAFETY: the caller's promise.
    unsafe { rows(file, ins, form.registers()[0], form.m / 8, form.segments()) }
}

/// B, column by column.
///
/// # Safety
/// The instruction's list and rows must exist.
#[inline(always)]
pub unsafe fn b(file: &File, ins: &Ins, form: &Form) -> [[u8; 32]; 8] {
    let [d, a, ..] = form.registers();
    // SAFETY: the caller's promise.
    unsafe { rows(file, ins, d + a, 1, form.segments()) }
}

/// C in 32-bit elements, row by row.
///
/// # Safety
/// The instruction's list and rows must exist.
#[inline(always)]
pub unsafe fn c32(file: &File, ins: &Ins, form: &Form) -> [[u32; 8]; 16] {
    let [d, a, b, _] = form.registers();
    let mut out = [[0; 8]; 16];
    for h in 0..form.m / 8 {
        // SAFETY: the caller's promise.
        let (even, odd) = unsafe {
            let at = d + a + b + 2 * h;
            (get(file, reg(file, ins, at)), get(file, reg(file, ins, at + 1)))
        };
        for l in 0..WARP {
            out[8 * h + l / 4][2 * (l % 4)] = even[l];
            out[8 * h + l / 4][2 * (l % 4) + 1] = odd[l];
        }
    }
    out
}

/// C as f32 bits, from f16 or f32.
///
/// # Safety
/// The instruction's list and rows must exist.
#[inline(always)]
pub unsafe fn c_float(file: &File, ins: &Ins, form: &Form) -> [[f32; 8]; 16] {
    if form.c == Acc::F32 {
        // SAFETY: the caller's promise.
        return unsafe { c32(file, ins, form) }.map(|row| row.map(f32::from_bits));
    }
    let [d, a, b, _] = form.registers();
    let mut out = [[0.0; 8]; 16];
    for h in 0..form.m / 8 {
        // SAFETY: the caller's promise.
        let pair = unsafe { get(file, reg(file, ins, d + a + b + h)) };
        for l in 0..WARP {
            out[8 * h + l / 4][2 * (l % 4)] = F16::wide(pair[l] & 0xffff);
            out[8 * h + l / 4][2 * (l % 4) + 1] = F16::wide(pair[l] >> 16);
        }
    }
    out
}

/// Writes D from 32-bit elements; for an f16 D their low halves.
///
/// # Safety
/// The instruction's list and rows must exist.
#[inline(always)]
pub unsafe fn store(file: &File, ins: &Ins, form: &Form, mask: u32, values: &[[u32; 8]; 16]) {
    for h in 0..form.m / 8 {
        let even: [u32; WARP] = std::array::from_fn(|l| values[8 * h + l / 4][2 * (l % 4)]);
        let odd: [u32; WARP] = std::array::from_fn(|l| values[8 * h + l / 4][2 * (l % 4) + 1]);
        // SAFETY: the caller's promise.
        unsafe {
            if form.d == Acc::F16 {
                let pair = std::array::from_fn(|l| (even[l] & 0xffff) | odd[l] << 16);
                put(file, reg(file, ins, h), mask, &pair);
            } else {
                put(file, reg(file, ins, 2 * h), mask, &even);
                put(file, reg(file, ins, 2 * h + 1), mask, &odd);
            }
        }
    }
}

/// One of the four products of `m8n8k4`, in raw bits.
pub struct Quad {
    /// A by rows; 4 elements each.
    pub a: [[u32; 4]; 8],
    /// B by columns; 4 elements each.
    pub b: [[u32; 4]; 8],
    /// C by rows, as f32.
    pub c: [[f32; 8]; 8],
}

/// Lane of group `q` (lanes 4q..4q+3 and 16+4q..) that holds the `i`-th of its eight rows.
fn quad_lane(q: usize, i: usize) -> usize {
    4 * q + i % 4 + 16 * (i / 4)
}

/// Row and column of element `i` of a 32-bit accumulator in `lane` of its group.
fn quad_acc32(lane: usize, i: usize) -> (usize, usize) {
    ((lane & 1) + (i & 2) + 4 * usize::from(lane >= 16), (i & 4) + (lane & 2) + (i & 1))
}

/// The four products' operands.
///
/// # Safety
/// The instruction's list and rows must exist.
pub unsafe fn quads(file: &File, ins: &Ins, form: &Form) -> [Quad; 4] {
    let [nd, na, nb, _] = form.registers();
    // SAFETY: the caller's promise.
    let row = |i: usize| unsafe { get(file, reg(file, ins, i)) };
    let (a, b) = ([row(nd), row(nd + 1)], [row(nd + na), row(nd + na + 1)]);
    let half = |x: &[[u32; WARP]; 2], lane: usize, i: usize| x[i / 2][lane] >> (16 * (i & 1)) & 0xffff;
    let first_c = nd + na + nb;
    std::array::from_fn(|q| {
        let mut quad = Quad { a: [[0; 4]; 8], b: [[0; 4]; 8], c: [[0.0; 8]; 8] };
        for i in 0..8 {
            let lane = quad_lane(q, i);
            for j in 0..4 {
                // By rows a lane holds row i of A, by columns four rows of column lane % 4; B the other way round.
                let (r, k) = if form.a_col { (j + 4 * (i / 4), i % 4) } else { (i, j) };
                quad.a[r][k] = half(&a, lane, j);
                let (k, n) = if form.b_row { (i % 4, j + 4 * (i / 4)) } else { (j, i) };
                quad.b[n][k] = half(&b, lane, j);
            }
            for j in 0..8 {
                if form.c == Acc::F16 {
                    quad.c[i][j] = F16::wide(row(first_c + j / 2)[lane] >> (16 * (j & 1)) & 0xffff);
                } else {
                    let (r, n) = quad_acc32(lane, j);
                    quad.c[r][n] = f32::from_bits(row(first_c + j)[lane]);
                }
            }
        }
        quad
    })
}

/// Writes D of the four products, elements as in [`store`].
///
/// # Safety
/// The instruction's list and rows must exist.
pub unsafe fn store_quads(file: &File, ins: &Ins, form: &Form, mask: u32, values: &[[[u32; 8]; 8]; 4]) {
    let mut out = [[0; WARP]; 8];
    for (q, values) in values.iter().enumerate() {
        for i in 0..8 {
            let lane = quad_lane(q, i);
            for j in 0..8 {
                if form.d == Acc::F16 {
                    out[j / 2][lane] |= (values[i][j] & 0xffff) << (16 * (j & 1));
                } else {
                    let (r, n) = quad_acc32(lane, j);
                    out[j][lane] = values[r][n];
                }
            }
        }
    }
    for (i, row) in out.iter().enumerate().take(form.registers()[0]) {
        // SAFETY: the caller's promise.
        unsafe { put(file, reg(file, ins, i), mask, row) };
    }
}
