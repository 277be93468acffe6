//! Pools on the CPU: one task per image.

use rayon::prelude::*;

use super::Cpu;
use super::memory::{f32s, f32s_mut};
use crate::Result;
use crate::backend::Span;
use crate::ops::pool::Pool;

/// Sizes of a pool as usize.
struct Sizes {
    c: usize,
    x: usize,
    y: usize,
    n: usize,
}

impl Sizes {
    fn of(p: &Pool) -> Sizes {
        let c = p.c as usize;
        Sizes { c, x: (p.h * p.w) as usize * c, y: (p.p * p.q) as usize * c, n: p.n as usize }
    }
}

/// Calls `f(output pixel, tap, input pixel)` for every tap of every window of one image that is not padding, windows and taps in order.
#[inline(always)]
fn windows(p: &Pool, mut f: impl FnMut(usize, usize, usize)) {
    for row in 0..p.p {
        for column in 0..p.q {
            for r in 0..p.kernel_h {
                for s in 0..p.kernel_w {
                    // Wrapping: a negative coordinate becomes a huge one.
                    let h = (row * p.stride + r).wrapping_sub(p.padding);
                    let w = (column * p.stride + s).wrapping_sub(p.padding);
                    if h < p.h && w < p.w {
                        f((row * p.q + column) as usize, (r * p.kernel_w + s) as usize, (h * p.w + w) as usize);
                    }
                }
            }
        }
    }
}

impl Cpu {
    pub(super) fn maxpool_fwd(&self, p: &Pool, x: Span, y: Span, index: Span) -> Result<()> {
        let Sizes { c, x: x_size, y: y_size, n } = Sizes::of(p);
        let io =
            self.memory.open("maxpool_fwd_f32", [(x, n * x_size * 4)], [(y, n * y_size * 4), (index, n * y_size)])?;
        let ([x], [y, index]) = (io.read.map(f32s), io.write);
        let y = f32s_mut(y);
        let images = y.par_chunks_mut(y_size).zip(index.par_chunks_mut(y_size)).zip(x.par_chunks(x_size));
        images.for_each(|((y, index), x)| {
            y.fill(f32::NEG_INFINITY);
            index.fill(u8::MAX);
            windows(p, |output, tap, input| {
                let (x, y) = (&x[input * c..][..c], &mut y[output * c..][..c]);
                for ((y, index), x) in y.iter_mut().zip(&mut index[output * c..][..c]).zip(x) {
                    // The first tap always enters, so that a window of -inf has a winner, too; a NaN wins and stays.
                    let wins = *x > *y || *index == u8::MAX || x.is_nan();
                    (*y, *index) = if wins { (*x, tap as u8) } else { (*y, *index) };
                }
            });
        });
        Ok(())
    }

    pub(super) fn maxpool_bwd(&self, p: &Pool, index: Span, dy: Span, dx: Span) -> Result<()> {
        let Sizes { c, x: x_size, y: y_size, n } = Sizes::of(p);
        let io =
            self.memory.open("maxpool_bwd_f32", [(index, n * y_size), (dy, n * y_size * 4)], [(dx, n * x_size * 4)])?;
        let ([index, dy], [dx]) = (io.read, io.write.map(f32s_mut));
        let dy = f32s(dy);
        let images = dx.par_chunks_mut(x_size).zip(index.par_chunks(y_size)).zip(dy.par_chunks(y_size));
        images.for_each(|((dx, index), dy)| {
            dx.fill(0.0);
            windows(p, |output, tap, input| {
                let (index, dy) = (&index[output * c..][..c], &dy[output * c..][..c]);
                for ((dx, index), dy) in dx[input * c..][..c].iter_mut().zip(index).zip(dy) {
                    *dx += if *index == tap as u8 { *dy } else { 0.0 };
                }
            });
        });
        Ok(())
    }

    pub(super) fn avgpool_fwd(&self, p: &Pool, x: Span, y: Span) -> Result<()> {
        let Sizes { c, x: x_size, y: y_size, n } = Sizes::of(p);
        let io = self.memory.open("avgpool_fwd_f32", [(x, n * x_size * 4)], [(y, n * y_size * 4)])?;
        let ([x], [y]) = (io.read.map(f32s), io.write.map(f32s_mut));
        let taps = (p.kernel_h * p.kernel_w) as f32;
        y.par_chunks_mut(y_size).zip(x.par_chunks(x_size)).for_each(|(y, x)| {
            y.fill(0.0);
            windows(p, |output, _, input| {
                y[output * c..][..c].iter_mut().zip(&x[input * c..][..c]).for_each(|(y, x)| *y += x);
            });
            y.iter_mut().for_each(|y| *y /= taps);
        });
        Ok(())
    }

    pub(super) fn avgpool_bwd(&self, p: &Pool, dy: Span, dx: Span) -> Result<()> {
        let Sizes { c, x: x_size, y: y_size, n } = Sizes::of(p);
        let io = self.memory.open("avgpool_bwd_f32", [(dy, n * y_size * 4)], [(dx, n * x_size * 4)])?;
        let ([dy], [dx]) = (io.read.map(f32s), io.write.map(f32s_mut));
        let taps = (p.kernel_h * p.kernel_w) as f32;
        dx.par_chunks_mut(x_size).zip(dy.par_chunks(y_size)).for_each(|(dx, dy)| {
            dx.fill(0.0);
            windows(p, |output, _, input| {
                dx[input * c..][..c].iter_mut().zip(&dy[output * c..][..c]).for_each(|(dx, dy)| *dx += dy / taps);
            });
        });
        Ok(())
    }
}
