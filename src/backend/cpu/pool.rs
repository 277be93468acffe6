//! Pools on the CPU: one task per image.

use rayon::prelude::*;

use super::Cpu;
use super::memory::{f32s, f32s_mut};
use super::simd::vectorised;
use crate::Result;
use crate::backend::Span;
use crate::ops::pool::Pool;

/// Sizes of a pool as usize.
struct Sizes {
    x: usize,
    y: usize,
    n: usize,
}

impl Sizes {
    fn of(p: &Pool) -> Sizes {
        let c = p.c as usize;
        Sizes { x: (p.h * p.w) as usize * c, y: (p.p * p.q) as usize * c, n: p.n as usize }
    }
}

/// Calls `f(output pixel, tap, input pixel)` for every tap of every window of one image that is not padding, windows and taps in order; pixels by their first
/// element.
#[inline(always)]
fn windows(p: &Pool, mut f: impl FnMut(usize, usize, usize)) {
    let c = p.c as usize;
    for row in 0..p.p {
        for column in 0..p.q {
            for r in 0..p.kernel_h {
                for s in 0..p.kernel_w {
                    // Wrapping: a negative coordinate becomes a huge one.
                    let h = (row * p.stride + r).wrapping_sub(p.padding);
                    let w = (column * p.stride + s).wrapping_sub(p.padding);
                    if h < p.h && w < p.w {
                        let (output, input) = ((row * p.q + column) as usize * c, (h * p.w + w) as usize * c);
                        f(output, (r * p.kernel_w + s) as usize, input);
                    }
                }
            }
        }
    }
}

impl Cpu {
    pub(super) fn maxpool_fwd(&self, p: &Pool, x: Span, y: Span, index: Span) -> Result<()> {
        let Sizes { x: x_size, y: y_size, n } = Sizes::of(p);
        let io =
            self.memory.open("maxpool_fwd_f32", [(x, n * x_size * 4)], [(y, n * y_size * 4), (index, n * y_size)])?;
        let ([x], [y, index]) = (io.read.map(f32s), io.write);
        let y = f32s_mut(y);
        let images = y.par_chunks_mut(y_size).zip(index.par_chunks_mut(y_size)).zip(x.par_chunks(x_size));
        let path = self.path;
        images.for_each(|((y, index), x)| maximum(path, p, x, y, index));
        Ok(())
    }

    pub(super) fn maxpool_bwd(&self, p: &Pool, index: Span, dy: Span, dx: Span) -> Result<()> {
        let Sizes { x: x_size, y: y_size, n } = Sizes::of(p);
        let io =
            self.memory.open("maxpool_bwd_f32", [(index, n * y_size), (dy, n * y_size * 4)], [(dx, n * x_size * 4)])?;
        let ([index, dy], [dx]) = (io.read, io.write.map(f32s_mut));
        let dy = f32s(dy);
        let images = dx.par_chunks_mut(x_size).zip(index.par_chunks(y_size)).zip(dy.par_chunks(y_size));
        let path = self.path;
        images.for_each(|((dx, index), dy)| scatter(path, p, index, dy, dx));
        Ok(())
    }

    pub(super) fn avgpool_fwd(&self, p: &Pool, x: Span, y: Span) -> Result<()> {
        let Sizes { x: x_size, y: y_size, n } = Sizes::of(p);
        let io = self.memory.open("avgpool_fwd_f32", [(x, n * x_size * 4)], [(y, n * y_size * 4)])?;
        let ([x], [y]) = (io.read.map(f32s), io.write.map(f32s_mut));
        let path = self.path;
        y.par_chunks_mut(y_size).zip(x.par_chunks(x_size)).for_each(|(y, x)| mean(path, p, x, y));
        Ok(())
    }

    pub(super) fn avgpool_bwd(&self, p: &Pool, dy: Span, dx: Span) -> Result<()> {
        let Sizes { x: x_size, y: y_size, n } = Sizes::of(p);
        let io = self.memory.open("avgpool_bwd_f32", [(dy, n * y_size * 4)], [(dx, n * x_size * 4)])?;
        let ([dy], [dx]) = (io.read.map(f32s), io.write.map(f32s_mut));
        let path = self.path;
        dx.par_chunks_mut(x_size).zip(dy.par_chunks(y_size)).for_each(|(dx, dy)| spread(path, p, dy, dx));
        Ok(())
    }
}

/// Whether the windows cover the image without gap, overlap or padding: each input pixel is in exactly one.
#[inline(always)]
fn tiles(p: &Pool) -> bool {
    let along = |size: u32, kernel: u32, count: u32| kernel == p.stride && size == count * kernel;
    p.padding == 0 && along(p.h, p.kernel_h, p.p) && along(p.w, p.kernel_w, p.q)
}

vectorised! {
    /// Maxima of one image and their places.
    fn maximum(p: &Pool, x: &[f32], y: &mut [f32], index: &mut [u8]) {
        let c = p.c as usize;
        y.fill(f32::NEG_INFINITY);
        index.fill(u8::MAX);
        windows(p, |output, tap, input| {
            let (x, y, index) = (&x[input..input + c], &mut y[output..output + c], &mut index[output..output + c]);
            for i in 0..c {
                // The first tap always enters, so that a window of -inf has a winner, too; a NaN wins and stays.
                let wins = (x[i] > y[i]) | (index[i] == u8::MAX) | x[i].is_nan();
                y[i] = if wins { x[i] } else { y[i] };
                index[i] = if wins { tap as u8 } else { index[i] };
            }
        });
    }
}

vectorised! {
    /// Hands the gradients of one image to the winners.
    fn scatter(p: &Pool, index: &[u8], dy: &[f32], dx: &mut [f32]) {
        let c = p.c as usize;
        if tiles(p) {
            windows(p, |output, tap, input| {
                let (index, dy, dx) = (&index[output..output + c], &dy[output..output + c], &mut dx[input..input + c]);
                for i in 0..c {
                    dx[i] = if index[i] == tap as u8 { dy[i] } else { 0.0 };
                }
            });
            return;
        }
        dx.fill(0.0);
        windows(p, |output, tap, input| {
            let (index, dy, dx) = (&index[output..output + c], &dy[output..output + c], &mut dx[input..input + c]);
            for i in 0..c {
                dx[i] += if index[i] == tap as u8 { dy[i] } else { 0.0 };
            }
        });
    }
}

vectorised! {
    /// Means of one image.
    fn mean(p: &Pool, x: &[f32], y: &mut [f32]) {
        let (c, taps) = (p.c as usize, (p.kernel_h * p.kernel_w) as f32);
        y.fill(0.0);
        windows(p, |output, _, input| {
            y[output..output + c].iter_mut().zip(&x[input..input + c]).for_each(|(y, x)| *y += x);
        });
        y.iter_mut().for_each(|y| *y /= taps);
    }
}

vectorised! {
    /// Hands the gradients of one image to all pixels of their windows.
    fn spread(p: &Pool, dy: &[f32], dx: &mut [f32]) {
        let (c, taps) = (p.c as usize, (p.kernel_h * p.kernel_w) as f32);
        dx.fill(0.0);
        windows(p, |output, _, input| {
            dx[input..input + c].iter_mut().zip(&dy[output..output + c]).for_each(|(dx, dy)| *dx += dy / taps);
        });
    }
}
