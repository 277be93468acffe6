//! The integer weight gradient: `dw[k][tap][c] = sum over output pixels of dyw[row][k] * x[pixel(row, tap)][c]`, i32 within a slice, i64 across slices, exact.

use std::cell::RefCell;

use rayon::prelude::*;

use super::taps::{Forward, Taps};
use crate::ops::conv2d::Conv2d;
use crate::quant::bfp;
use crate::quant::layout::WGRAD_SLICE;

/// Computes `dw` from padded operands.
pub(super) fn run(p: &Conv2d, shape: &Conv2d, x: &[i8], dyw: &[i8], exponents: &[i8], dw: &mut [f32]) {
    let add = |dy: i32, x: &[i8], sums: &mut [i32]| {
        sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += dy * i32::from(*x));
    };
    let scale = |k: usize| bfp::power(i32::from(exponents[k]) - 12);
    over_rows(p, shape, x, WGRAD_SLICE, |at| i32::from(dyw[at]), add, scale, dw);
}

/// Sums over all rows, `slice` rows at a time in i32: `dy` is the output gradient at an index, `add` adds its products with a pixel, `scale` is what a sum
/// of an output channel is worth.
#[allow(clippy::too_many_arguments)]
pub(super) fn over_rows(
    p: &Conv2d,
    shape: &Conv2d,
    x: &[i8],
    slice: usize,
    dy: impl Fn(usize) -> i32 + Sync,
    add: impl Fn(i32, &[i8], &mut [i32]) + Sync,
    scale: impl Fn(usize) -> f32 + Sync,
    dw: &mut [f32],
) {
    // Scratch that only grows, for a step allocates nothing.
    thread_local!(static SUMS: RefCell<(Vec<i64>, Vec<i32>)> = const { RefCell::new((Vec::new(), Vec::new())) });
    let (taps, c, depth, stride) = (Forward(shape), p.c as usize, shape.c as usize, shape.k as usize);
    let count = (p.r * p.s) as usize;
    dw.par_chunks_mut(count * c).enumerate().for_each(|(k, dw)| {
        let scale = scale(k);
        SUMS.with_borrow_mut(|(total, sums)| {
            total.clear();
            total.resize(count * depth, 0);
            sums.resize(count * depth, 0);
            for first in (0..p.rows()).step_by(slice) {
                sums.fill(0);
                for row in first..(first + slice).min(p.rows()) {
                    let (dy, place) = (dy(row * stride + k), taps.row(row));
                    for (tap, sums) in sums.chunks_exact_mut(depth).enumerate() {
                        let Some(at) = taps.pixel(&place, tap / p.s as usize, tap % p.s as usize) else { continue };
                        add(dy, &x[at..at + depth], sums);
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
