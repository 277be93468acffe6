//! The 8-bit batchnorm, forward: statistics from the sums that the convolution left, then normalise, ReLU, max-pool and quantise image by image.
//!
//! Formulas: [`crate::backend::Int8::batchnorm_fwd_i8`]. Not here: the backward passes ([`super::i8_grad`], [`super::i8_bwd`]).

use rayon::prelude::*;

use super::super::Cpu;
use super::super::lane_sums::in_lanes;
use super::super::memory::{Parts, f32s, f32s_mut, i8s, i8s_mut, u32_of};
use super::super::noise::Source;
use super::super::quantize::{RUN, Run, largest, with_scratch};
use super::super::simd_int8::{Level, vectorised_i8};
use super::super::tile::{COLUMNS, ROWS};
use crate::Result;
use crate::backend::{BatchNormState, Bfp, Span};
use crate::ops::batchnorm::{BatchNormI8, OutputSums, SizesI8};
use crate::ops::pool::Pool;
use crate::quant::bfp;

/// Channels of a task where work goes channel by channel.
pub(super) const CHANNELS: usize = 8;

/// A stored tensor.
#[derive(Clone, Copy)]
pub(super) struct Stored<'a> {
    pub mantissas: &'a [i8],
    pub exponents: &'a [i8],
}

impl Stored<'_> {
    /// `2^(e-6)` of the block of row `row` and block of channels `column`.
    #[inline(always)]
    pub(super) fn scale(&self, s: &SizesI8, row: usize, column: usize) -> f32 {
        bfp::power(i32::from(self.exponents[row / ROWS * s.across + column]) - 6)
    }
}

/// `2^e` in f64.
pub(super) fn power(e: i32) -> f64 {
    f64::from(bfp::power(e))
}

vectorised_i8! {
    /// `z = fma(a, m * scale, b)` and its ReLU for one block of channels of a pixel.
    fn normalise(m: &[i8], scale: f32, a: &[f32], b: &[f32], relu: bool, z: &mut [f32]) {
        let n = z.len();
        let (m, a, b) = (&m[..n], &a[..n], &b[..n]);
        for j in 0..n {
            let value = a[j].mul_add(f32::from(m[j]) * scale, b[j]);
            z[j] = if relu { value.max(0.0) } else { value };
        }
    }
}

vectorised_i8! {
    /// Takes `z` where it is larger than the best so far, or the first.
    fn better(z: &[f32], tap: u8, first: bool, best: &mut [f32], index: &mut [u8]) {
        let n = z.len();
        let (best, index) = (&mut best[..n], &mut index[..n]);
        for j in 0..n {
            let wins = first | (z[j] > best[j]);
            best[j] = if wins { z[j] } else { best[j] };
            index[j] = if wins { tap } else { index[j] };
        }
    }
}

vectorised_i8! {
    /// `max = max(max, |z|)` over the two ends of y of each channel.
    fn ends(sums: &[OutputSums], scale: f32, a: &[f32], b: &[f32], relu: bool, max: &mut f32) {
        let mut all = 0u32;
        for ((sums, a), b) in sums.iter().zip(a).zip(b) {
            for m in [sums.min, sums.max] {
                let z = a.mul_add(f32::from(m) * scale, *b);
                let size = if relu { z.max(0.0) } else { z.abs() };
                all = all.max(size.to_bits());
            }
        }
        *max = max.max(f32::from_bits(all));
    }
}

vectorised_i8! {
    fn multiply(z: &[f32], scale: f32, out: &mut [f32]) {
        out.iter_mut().zip(z).for_each(|(out, z)| *out = z * scale);
    }
}

/// Statistics of a stored tensor, from its sums.
pub(super) struct Statistics<'a> {
    pub s: &'a SizesI8,
    pub y: &'a Stored<'a>,
    pub sums: &'a [OutputSums],
    pub gamma: &'a [f32],
    pub beta: &'a [f32],
    pub eps: f32,
    pub momentum: f32,
}

impl Statistics<'_> {
    /// Moves the running ones and writes mean, 1/std and, padded, a and b.
    pub(super) fn write(&self, outputs: [&mut [f32]; 4], [a, b]: [&mut [f32]; 2]) {
        let Statistics { s, y, sums, gamma, beta, .. } = *self;
        let [running_mean, running_var, mean, invstd] = outputs;
        a.fill(0.0);
        b.fill(0.0);
        let groups = [&mut a[..s.c], &mut b[..s.c], mean, invstd, running_mean, running_var];
        let groups = groups.map(|all| Parts::new(all, CHANNELS));
        (0..s.c.div_ceil(CHANNELS)).into_par_iter().for_each(|group| {
            // SAFETY: each task has its own group of channels.
            let [a, b, mean_out, invstd_out, running_mean, running_var] =
                groups.each_ref().map(|all| unsafe { all.part(group) });
            for (i, a_out) in a.iter_mut().enumerate() {
                let c = group * CHANNELS + i;
                let [s1, s2] = in_lanes(s.tiles, |tile| {
                    let (sums, e) = (sums[tile * s.stride + c], i32::from(y.exponents[tile * s.across + c / COLUMNS]));
                    [f64::from(sums.sum) * power(e - 6), f64::from(sums.squares) * power(2 * e - 12)]
                });
                let m = s.rows as f64;
                let mean = s1 / m;
                let var = (s2 / m - mean * mean).max(0.0);
                let invstd = 1.0 / (var + f64::from(self.eps)).sqrt();
                let a = f64::from(gamma[c]) * invstd;
                let unbiased = if s.rows > 1 { var * m / (m - 1.0) } else { var };
                let momentum = f64::from(self.momentum);
                let moved = |old: f32, new: f64| ((1.0 - momentum) * f64::from(old) + momentum * new) as f32;
                (mean_out[i], invstd_out[i]) = (mean as f32, invstd as f32);
                (*a_out, b[i]) = (a as f32, (f64::from(beta[c]) - mean * a) as f32);
                (running_mean[i], running_var[i]) = (moved(running_mean[i], mean), moved(running_var[i], unbiased));
            }
        });
    }
}

/// A stored tensor and its affine map.
#[derive(Clone, Copy)]
pub(super) struct Map<'a> {
    pub y: Stored<'a>,
    pub a: &'a [f32],
    pub b: &'a [f32],
}

impl Map<'_> {
    /// z of row `row` from the first channel of block `column` on, as many as `z` has.
    pub(super) fn part(&self, level: Level, s: &SizesI8, row: usize, column: usize, relu: bool, z: &mut [f32]) {
        let (first, scale) = (column * COLUMNS, self.y.scale(s, row, column));
        let m = &self.y.mantissas[row * s.stride + first..];
        normalise(level, m, scale, &self.a[first..], &self.b[first..], relu, z);
    }
}

/// The pass over the images.
struct Apply<'a> {
    level: Level,
    s: SizesI8,
    map: Map<'a>,
    sums: &'a [OutputSums],
    relu: bool,
}

impl Apply<'_> {
    /// z of row `row`, all padded channels.
    fn pixel(&self, row: usize, z: &mut [f32]) {
        for (column, z) in z.chunks_mut(COLUMNS).enumerate() {
            self.map.part(self.level, &self.s, row, column, self.relu, z);
        }
    }

    /// Exponent of image `n`.
    fn exponent(&self, n: usize, z: &mut [f32]) -> i32 {
        let mut max = 0.0f32;
        if self.s.whole_blocks() {
            // z rises or falls with y: its largest size is at an end.
            let per_image = self.s.pixels / ROWS;
            for tile in n * per_image..(n + 1) * per_image {
                let sums = &self.sums[tile * self.s.stride..][..self.s.c];
                for (column, sums) in sums.chunks(COLUMNS).enumerate() {
                    let (first, scale) = (column * COLUMNS, self.map.y.scale(&self.s, tile * ROWS, column));
                    let (a, b) = (&self.map.a[first..], &self.map.b[first..]);
                    ends(self.level, sums, scale, a, b, self.relu, &mut max);
                }
            }
        } else {
            for row in n * self.s.pixels..(n + 1) * self.s.pixels {
                self.pixel(row, z);
                let mut size = 0.0;
                largest(self.level, z, &mut size);
                max = max.max(size);
            }
        }
        bfp::exponent(max)
    }

    /// Normalises, pools and rounds image `n`; `z` and `best` are scratch, a pixel each.
    fn image(
        &self,
        n: usize,
        pool: &Pool,
        noise: Source,
        out: &mut [i8],
        index: &mut [u8],
        (z, best): (&mut [f32], &mut [f32]),
    ) -> i8 {
        let SizesI8 { stride, pixels, .. } = self.s;
        let e = self.exponent(n, z);
        let (scale, mut run, mut filled, mut done) = (bfp::power(21 - e), Run::new(), 0, 0);
        let base = n * out.len();
        for pixel in 0..self.s.pooled {
            if pool.kernel_h == 0 {
                self.pixel(n * pixels + pixel, best);
            } else {
                let index = &mut index[pixel * stride..][..stride];
                let mut first = true;
                each_tap(pool, pixel as u32, |tap, input| {
                    self.pixel(n * pixels + input, z);
                    better(self.level, z, tap, first, best, index);
                    first = false;
                });
                index[self.s.c..].fill(0);
            }
            for part in best.chunks(RUN) {
                if filled + part.len() > RUN {
                    run.round(self.level, noise, base + done, &mut out[done..done + filled]);
                    (done, filled) = (done + filled, 0);
                }
                multiply(self.level, part, scale, &mut run.scaled[filled..filled + part.len()]);
                filled += part.len();
            }
        }
        run.round(self.level, noise, base + done, &mut out[done..done + filled]);
        e as i8
    }
}

/// Calls `f(tap, input pixel)` for every tap of a window that is not padding, in order.
fn each_tap(p: &Pool, output: u32, mut f: impl FnMut(u8, usize)) {
    let (row, column) = (output / p.q * p.stride, output % p.q * p.stride);
    for r in 0..p.kernel_h {
        for s in 0..p.kernel_w {
            // Wrapping: a negative coordinate becomes a huge one.
            let (h, w) = ((row + r).wrapping_sub(p.padding), (column + s).wrapping_sub(p.padding));
            if h < p.h && w < p.w {
                f((r * p.kernel_w + s) as u8, (h * p.w + w) as usize);
            }
        }
    }
}

impl Cpu {
    #[allow(clippy::too_many_arguments)]
    pub(in super::super) fn batchnorm_fwd_i8(
        &self,
        p: &BatchNormI8,
        y: Bfp,
        sums: Span,
        state: BatchNormState,
        step: Span,
        out: Bfp,
        index: Span,
    ) -> Result<()> {
        let s = SizesI8::of(p);
        let (one, image) = (s.c * 4, s.pooled * s.stride);
        let places = if p.pool.kernel_h == 0 { 0 } else { s.n * image };
        let io = self.memory.open(
            "batchnorm_fwd_i8",
            [
                (y.mantissas, s.rows * s.stride),
                (y.exponents, s.exponents()),
                (sums, s.sums() * size_of::<OutputSums>()),
                (state.gamma, one),
                (state.beta, one),
                (step, 4),
            ],
            [
                (state.running_mean, one),
                (state.running_var, one),
                (state.mean, one),
                (state.invstd, one),
                (state.affine, 2 * s.stride * 4),
                (out.mantissas, s.n * image),
                (out.exponents, s.n),
                (index, places),
            ],
        )?;
        let [y, ye, sums, gamma, beta, step] = io.read;
        let [running_mean, running_var, mean, invstd, affine, out, out_exponents, index] = io.write;
        let (sums, gamma, beta): (&[OutputSums], _, _) = (bytemuck::cast_slice(sums), f32s(gamma), f32s(beta));
        let y = Stored { mantissas: i8s(y), exponents: i8s(ye) };
        let [running_mean, running_var, mean, invstd] = [running_mean, running_var, mean, invstd].map(f32s_mut);
        let (a, b) = f32s_mut(affine).split_at_mut(s.stride);
        let of = Statistics { s: &s, y: &y, sums, gamma, beta, eps: p.eps, momentum: p.momentum };
        of.write([running_mean, running_var, mean, invstd], [&mut *a, &mut *b]);
        let apply = Apply { level: self.level, s, map: Map { y, a, b }, sums, relu: p.relu != 0 };
        let noise = Source::new(&p.noise, u32_of(step));
        let index = Parts::new(index, image);
        let images = i8s_mut(out).par_chunks_mut(image).zip(i8s_mut(out_exponents));
        images.enumerate().for_each(|(n, (out, e))| {
            // SAFETY: each task has its own image.
            let index = unsafe { index.part(n) };
            *e = with_scratch(2 * s.stride, |scratch| {
                apply.image(n, &p.pool, noise, out, index, scratch.split_at_mut(s.stride))
            });
        });
        Ok(())
    }
}
