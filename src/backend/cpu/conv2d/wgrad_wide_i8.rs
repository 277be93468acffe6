//! The integer weight gradient from output gradients of 16 bits: `dw[k][tap][c] = sum over output pixels of dyw[row][k] * x[pixel(row, tap)][c]`, exact.
//!
//! `dyw` comes as two tensors of signed bytes, all high ones and all low ones. Not here: gradients of 8 bits ([`super::wgrad_i8`]).

use rayon::prelude::*;

use super::super::simd_int8::{Level, vectorised_i8};
use super::taps::{Forward, Taps};
use super::wgrad_i8::with_sums;
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
    let (taps, c, depth, stride) = (Forward(shape), p.c as usize, shape.c as usize, shape.k as usize);
    let count = (p.r * p.s) as usize;
    let (high, low) = dyw.split_at(p.rows() * stride);
    dw.par_chunks_mut(count * c).enumerate().for_each(|(k, dw)| {
        let scale = bfp::power(i32::from(exponents[k]) - 20);
        with_sums(count * depth, |total, sums| {
            for first in (0..p.rows()).step_by(ROWS) {
                sums.fill(0);
                for row in first..(first + ROWS).min(p.rows()) {
                    let (at, place) = (row * stride + k, taps.row(row));
                    let dy = i32::from(high[at]) * 256 + i32::from(low[at]);
                    for (tap, sums) in sums.chunks_exact_mut(depth).enumerate() {
                        let Some(at) = taps.pixel(&place, tap / p.s as usize, tap % p.s as usize) else { continue };
                        add(level, dy, &x[at..at + depth], sums);
                    }
                }
                total.iter_mut().zip(&*sums).for_each(|(total, sum)| *total += i64::from(*sum));
            }
            for (dw, total) in dw.chunks_exact_mut(c).zip(total.chunks_exact(depth)) {
                dw.iter_mut().zip(total).for_each(|(dw, total)| *dw = *total as f32 * scale);
            }
        });
    });
}
