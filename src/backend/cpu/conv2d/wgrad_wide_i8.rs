//! The integer weight gradient from output gradients of 16 bits: `dw[k][tap][c] = sum over output pixels of dyw[row][k] * x[pixel(row, tap)][c]`, exact.
//!
//! `dyw` comes as two tensors of signed bytes, all high ones and all low ones. Not here: gradients of 8 bits, and the loop over rows that both share ([`super::wgrad_i8`]).

use super::super::simd_int8::{Level, vectorised_i8};
use super::wgrad_i8::over_rows;
use crate::ops::conv2d::Conv2d;
use crate::quant::bfp::{self, MAX, WIDE_MAX};

/// Rows whose products an i32 holds.
const ROWS: usize = 512;
const _: () = assert!((WIDE_MAX as i64) * (MAX as i64) * (ROWS as i64) <= i32::MAX as i64);

vectorised_i8! {
    /// `sums += dy * x`.
    fn add(dy: i32, x: &[i8], sums: &mut [i32]) {
        for (sum, x) in sums.iter_mut().zip(x) {
            *sum += dy * i32::from(*x);
        }
    }
}

/// Computes `dw` from padded operands.
pub(super) fn run(level: Level, p: &Conv2d, shape: &Conv2d, x: &[i8], dyw: &[i8], exponents: &[i8], dw: &mut [f32]) {
    let (high, low) = dyw.split_at(p.rows() * shape.k as usize);
    let dy = |at: usize| i32::from(high[at]) * 256 + i32::from(low[at]);
    let add = |dy: i32, x: &[i8], sums: &mut [i32]| add(level, dy, x, sums);
    over_rows(p, shape, x, ROWS, dy, add, |k| bfp::power(i32::from(exponents[k]) - 20), dw);
}
