//! The integer weight gradient: `dw[k][tap][c] = sum over output pixels of dyw[row][k] * x[pixel(row, tap)][c]`, i32 within a slice, i64 across slices, exact.

use std::cell::RefCell;

use rayon::prelude::*;

use super::taps::{Forward, Taps};
use crate::ops::conv2d::Conv2d;
use crate::quant::bfp;
use crate::quant::layout::WGRAD_SLICE;

/// Runs `body` with `length` sums of each kind, all 0: the thread's scratch, which only grows, for a step allocates nothing.
pub(super) fn with_sums(length: usize, body: impl FnOnce(&mut [i64], &mut [i32])) {
    thread_local!(static SUMS: RefCell<(Vec<i64>, Vec<i32>)> = const { RefCell::new((Vec::new(), Vec::new())) });
    SUMS.with_borrow_mut(|(total, sums)| {
        total.clear();
        total.resize(length, 0);
        sums.clear();
        sums.resize(length, 0);
        body(total, sums);
    });
}

/// Computes `dw` from padded operands.
pub(super) fn run(p: &Conv2d, shape: &Conv2d, x: &[i8], dyw: &[i8], exponents: &[i8], dw: &mut [f32]) {
    let (taps, c, depth, stride) = (Forward(shape), p.c as usize, shape.c as usize, shape.k as usize);
    let count = (p.r * p.s) as usize;
    dw.par_chunks_mut(count * c).enumerate().for_each(|(k, dw)| {
        let scale = bfp::power(i32::from(exponents[k]) - 12);
        with_sums(count * depth, |total, sums| {
            for first in (0..p.rows()).step_by(WGRAD_SLICE) {
                sums.fill(0);
                for row in first..(first + WGRAD_SLICE).min(p.rows()) {
                    let (dy, place) = (i32::from(dyw[row * stride + k]), taps.row(row));
                    for (tap, sums) in sums.chunks_exact_mut(depth).enumerate() {
                        let Some(at) = taps.pixel(&place, tap / p.s as usize, tap % p.s as usize) else { continue };
                        sums.iter_mut().zip(&x[at..at + depth]).for_each(|(sum, x)| *sum += dy * i32::from(*x));
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
