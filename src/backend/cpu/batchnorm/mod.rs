//! batchnorm on the CPU, with the ReLU behind it.
//!
//! Statistics are taken over blocks of [`BLOCK`] rows: mean and squared deviations of a block in f32 (two passes over data that is in the cache), blocks combined in f64
//! by Chan's formula ("Updating formulae and a pairwise algorithm for computing sample variances", 1979), in order. So a large mean costs no precision, and
//! the result does not depend on threads.
//!
//! Bytes per element: forward reads x twice (once from the cache), writes y; backward reads x, y, dy twice and writes dx. The loops over rows are in [`rows`].

pub(super) mod i8;
mod i8_add;
mod i8_bwd;
mod i8_grad;
mod i8_stream;
mod rows;

use rayon::prelude::*;
use rows::Rows;

use super::Cpu;
use super::memory::{f32s, f32s_mut};
use super::simd::vectorised;
use crate::Result;
use crate::backend::Span;
use crate::ops::batchnorm::BatchNorm;

/// Rows per block.
const BLOCK: usize = 64;
/// Channels that are combined together.
const LANES: usize = 8;

impl Cpu {
    /// Bytes of scratch memory: two numbers per block and channel, and the channel's coefficients.
    pub(super) fn batchnorm_workspace(p: &BatchNorm) -> usize {
        let c = p.c as usize;
        4 * (2 * (p.rows as usize).div_ceil(BLOCK) * c + 3 * c)
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn batchnorm_fwd(
        &self,
        p: &BatchNorm,
        x: Span,
        gamma: Span,
        beta: Span,
        running_mean: Span,
        running_var: Span,
        y: Span,
        mean: Span,
        invstd: Span,
        ws: Span,
    ) -> Result<()> {
        let (rows, c) = (p.rows as usize, p.c as usize);
        let (all, one) = (rows * c * 4, c * 4);
        let io = self.memory.open(
            "batchnorm_fwd_f32",
            [(x, all), (gamma, one), (beta, one)],
            [
                (y, all),
                (mean, one),
                (invstd, one),
                (running_mean, one),
                (running_var, one),
                (ws, Self::batchnorm_workspace(p)),
            ],
        )?;
        let [x, gamma, beta] = io.read.map(f32s);
        let [y, mean, invstd, running_mean, running_var, ws] = io.write.map(f32s_mut);
        let (coefficients, partial) = ws.split_at_mut(3 * c);
        let path = self.path;
        partial[..2 * rows.div_ceil(BLOCK) * c].par_chunks_mut(2 * c).zip(x.par_chunks(BLOCK * c)).for_each(
            |(out, x)| {
                let (mean, deviations) = out.split_at_mut(c);
                // SAFETY: a block is whole rows of c channels.
                unsafe { rows::statistics(path, x, mean, deviations) };
            },
        );
        let (scale, shift) = coefficients.split_at_mut(c);
        let mut sums = [[0.0f64; LANES]; 2];
        for channel in 0..c {
            if channel % LANES == 0 {
                combine(path, partial, rows, c, channel, &mut sums);
            }
            let (average, squares) = (sums[0][channel % LANES], sums[1][channel % LANES]);
            let count = rows as f64;
            let variance = squares / count;
            let inverse = 1.0 / (variance + f64::from(p.eps)).sqrt();
            let unbiased = squares / (count - 1.0).max(1.0);
            let momentum = f64::from(p.momentum);
            let blend = |old: f32, new: f64| ((1.0 - momentum) * f64::from(old) + momentum * new) as f32;
            running_mean[channel] = blend(running_mean[channel], average);
            running_var[channel] = blend(running_var[channel], unbiased);
            mean[channel] = average as f32;
            invstd[channel] = inverse as f32;
            let factor = f64::from(gamma[channel]) * inverse;
            scale[channel] = factor as f32;
            shift[channel] = (f64::from(beta[channel]) - average * factor) as f32;
        }
        let (scale, shift) = (&*scale, &shift[..c]);
        y.par_chunks_mut(BLOCK * c).zip(x.par_chunks(BLOCK * c)).for_each(|(y, x)| {
            // SAFETY: a block is whole rows of c channels.
            unsafe { rows::affine(path, x, y, scale, shift, p.relu != 0) };
        });
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn batchnorm_eval(
        &self,
        p: &BatchNorm,
        x: Span,
        gamma: Span,
        beta: Span,
        running_mean: Span,
        running_var: Span,
        y: Span,
    ) -> Result<()> {
        let (rows, c) = (p.rows as usize, p.c as usize);
        let (all, one) = (rows * c * 4, c * 4);
        self.copy_unless_same(x, y, all)?;
        let reads = [(gamma, one), (beta, one), (running_mean, one), (running_var, one)];
        let io = self.memory.open("batchnorm_eval_f32", reads, [(y, all)])?;
        let ([gamma, beta, mean, variance], [y]) = (io.read.map(f32s), io.write.map(f32s_mut));
        let path = self.path;
        y.par_chunks_mut(BLOCK * c).for_each(|y| {
            // In place and without scratch memory: a few channels at a time, their coefficients on the stack.
            for first in (0..c).step_by(16) {
                let n = 16.min(c - first);
                let (mut scale, mut shift) = ([0.0; 16], [0.0; 16]);
                for i in 0..n {
                    let channel = first + i;
                    let factor = f64::from(gamma[channel]) / (f64::from(variance[channel]) + f64::from(p.eps)).sqrt();
                    scale[i] = factor as f32;
                    shift[i] = (f64::from(beta[channel]) - f64::from(mean[channel]) * factor) as f32;
                }
                // SAFETY: rows of c channels from channel `first` on; the last has n of them left.
                unsafe { rows::strided_affine(path, &mut y[first..], c, &scale[..n], &shift[..n], p.relu != 0) };
            }
        });
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn batchnorm_bwd(
        &self,
        p: &BatchNorm,
        x: Span,
        y: Span,
        gamma: Span,
        mean: Span,
        invstd: Span,
        dy: Span,
        dx: Span,
        dgamma: Span,
        dbeta: Span,
        ws: Span,
    ) -> Result<()> {
        let (rows, c) = (p.rows as usize, p.c as usize);
        let (all, one) = (rows * c * 4, c * 4);
        self.copy_unless_same(dy, dx, all)?;
        let io = self.memory.open(
            "batchnorm_bwd_f32",
            [(x, all), (y, all), (gamma, one), (mean, one), (invstd, one)],
            [(dx, all), (dgamma, one), (dbeta, one), (ws, Self::batchnorm_workspace(p))],
        )?;
        let [x, y, gamma, mean, invstd] = io.read.map(f32s);
        let [dx, dgamma, dbeta, ws] = io.write.map(f32s_mut);
        let (coefficients, partial) = ws.split_at_mut(3 * c);
        let (path, relu) = (self.path, p.relu != 0);
        let size = BLOCK * c;
        partial[..2 * rows.div_ceil(BLOCK) * c]
            .par_chunks_mut(2 * c)
            .zip(x.par_chunks(size).zip(y.par_chunks(size)).zip(dx.par_chunks(size)))
            .for_each(|(out, ((x, y), dy))| {
                let (sum, dot) = out.split_at_mut(c);
                // SAFETY: a block is whole rows of c channels.
                unsafe { rows::gradient_sums(path, Rows { x, y, mean, relu }, dy, sum, dot) };
            });
        let (a, rest) = coefficients.split_at_mut(c);
        let (b, d) = rest.split_at_mut(c);
        let mut sums = [[0.0f64; LANES]; 2];
        for channel in 0..c {
            if channel % LANES == 0 {
                add_up(path, partial, rows, c, channel, &mut sums);
            }
            let (sum, dot) = (sums[0][channel % LANES], sums[1][channel % LANES]);
            let (n, inverse) = (rows as f64, f64::from(invstd[channel]));
            dbeta[channel] = sum as f32;
            dgamma[channel] = (dot * inverse) as f32;
            // dx = gamma*invstd * (dy - sum/n - (x - mean) * invstd^2 * dot/n) = a*dy + b*(x - mean) + d
            let factor = f64::from(gamma[channel]) * inverse;
            a[channel] = factor as f32;
            b[channel] = (-factor * inverse * inverse * dot / n) as f32;
            d[channel] = (-factor * sum / n) as f32;
        }
        let (a, b, d) = (&*a, &*b, &d[..c]);
        dx.par_chunks_mut(size).zip(x.par_chunks(size).zip(y.par_chunks(size))).for_each(|(dx, (x, y))| {
            // SAFETY: a block is whole rows of c channels.
            unsafe { rows::gradient(path, Rows { x, y, mean, relu }, dx, a, b, d) };
        });
        Ok(())
    }
}

/// The two numbers of a block's channels `first..first + LANES`; behind the last channel that one again.
#[inline(always)]
fn lanes(block: &[f32], c: usize, first: usize) -> [[f64; LANES]; 2] {
    [&block[..c], &block[c..2 * c]].map(|half| match half[first..].first_chunk::<LANES>() {
        Some(full) => full.map(f64::from),
        None => std::array::from_fn(|i| f64::from(half[(first + i).min(c - 1)])),
    })
}

vectorised! {
    /// Mean and squared deviations of [`LANES`] channels from those of the blocks, by Chan's formula, in order.
    fn combine(partial: &[f32], rows: usize, c: usize, first: usize, out: &mut [[f64; LANES]; 2]) {
        let (mut count, mut average, mut squares) = (0.0f64, [0.0f64; LANES], [0.0f64; LANES]);
        for (block, partial) in partial.chunks_exact(2 * c).take(rows.div_ceil(BLOCK)).enumerate() {
            let n = BLOCK.min(rows - block * BLOCK) as f64;
            let share = n / (count + n);
            let [means, deviations] = lanes(partial, c, first);
            for i in 0..LANES {
                let delta = means[i] - average[i];
                average[i] += delta * share;
                squares[i] += deviations[i] + delta * delta * (count * share);
            }
            count += n;
        }
        *out = [average, squares];
    }
}

vectorised! {
    /// Sums over the blocks of [`LANES`] channels, in order.
    fn add_up(partial: &[f32], rows: usize, c: usize, first: usize, out: &mut [[f64; LANES]; 2]) {
        let (mut sum, mut dot) = ([0.0f64; LANES], [0.0f64; LANES]);
        for partial in partial.chunks_exact(2 * c).take(rows.div_ceil(BLOCK)) {
            let [sums, dots] = lanes(partial, c, first);
            for i in 0..LANES {
                sum[i] += sums[i];
                dot[i] += dots[i];
            }
        }
        *out = [sum, dot];
    }
}
