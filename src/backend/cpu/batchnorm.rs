//! batchnorm on the CPU, with the ReLU behind it.
//!
//! Statistics are taken over blocks of [`BLOCK`] rows: mean and squared deviations of a block in f32 (two passes over data that is in the cache), blocks combined in f64
//! by Chan's formula ("Updating formulae and a pairwise algorithm for computing sample variances", 1979), in order. So a large mean costs no precision, and
//! the result does not depend on threads.
//!
//! Bytes per element: forward reads x twice (once from the cache), writes y; backward reads x, y, dy twice and writes dx.

use rayon::prelude::*;

use super::Cpu;
use super::memory::{f32s, f32s_mut};
use super::simd::vectorised;
use crate::Result;
use crate::backend::Span;
use crate::ops::batchnorm::BatchNorm;

/// Rows per block.
const BLOCK: usize = 64;

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
                block_statistics(path, x, mean, deviations);
            },
        );
        let (scale, shift) = coefficients.split_at_mut(c);
        for channel in 0..c {
            let (mut count, mut average, mut squares) = (0.0f64, 0.0f64, 0.0f64);
            for (block, partial) in partial.chunks_exact(2 * c).take(rows.div_ceil(BLOCK)).enumerate() {
                let n = BLOCK.min(rows - block * BLOCK) as f64;
                let delta = f64::from(partial[channel]) - average;
                let total = count + n;
                average += delta * n / total;
                squares += f64::from(partial[c + channel]) + delta * delta * count * n / total;
                count = total;
            }
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
            y.copy_from_slice(x);
            affine(path, y, scale, shift, p.relu != 0);
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
                strided_affine(path, &mut y[first..], c, &scale[..n], &shift[..n], p.relu != 0);
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
            .zip(x.par_chunks(size).zip(y.par_chunks(size)).zip(dx.par_chunks_mut(size)))
            .for_each(|(out, ((x, y), dy))| {
                let (sum, dot) = out.split_at_mut(c);
                masked_sums(path, x, y, dy, mean, sum, dot, relu);
            });
        let (a, rest) = coefficients.split_at_mut(c);
        let (b, d) = rest.split_at_mut(c);
        for channel in 0..c {
            let (mut sum, mut dot) = (0.0f64, 0.0f64);
            for partial in partial.chunks_exact(2 * c).take(rows.div_ceil(BLOCK)) {
                sum += f64::from(partial[channel]);
                dot += f64::from(partial[c + channel]);
            }
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
        dx.par_chunks_mut(size).zip(x.par_chunks(size)).for_each(|(dx, x)| apply_gradient(path, dx, x, mean, a, b, d));
        Ok(())
    }
}

vectorised! {
    /// Mean of a block's rows and the sum of squared deviations from it, per channel.
    fn block_statistics(x: &[f32], mean: &mut [f32], deviations: &mut [f32]) {
        let c = mean.len();
        let n = (x.len() / c) as f32;
        mean.fill(0.0);
        deviations.fill(0.0);
        for row in x.chunks_exact(c) {
            for (sum, x) in mean.iter_mut().zip(row) {
                *sum += x;
            }
        }
        for sum in mean.iter_mut() {
            *sum /= n;
        }
        for row in x.chunks_exact(c) {
            for ((sum, x), mean) in deviations.iter_mut().zip(row).zip(&*mean) {
                let delta = x - mean;
                *sum += delta * delta;
            }
        }
    }
}

vectorised! {
    /// `y = scale * y + shift`, then ReLU if wanted.
    fn affine(y: &mut [f32], scale: &[f32], shift: &[f32], relu: bool) {
        for row in y.chunks_exact_mut(scale.len()) {
            for ((y, scale), shift) in row.iter_mut().zip(scale).zip(shift) {
                let value = *y * scale + shift;
                *y = if relu && value < 0.0 { 0.0 } else { value };
            }
        }
    }
}

vectorised! {
    /// As `affine`, on some channels of rows of `stride`.
    fn strided_affine(y: &mut [f32], stride: usize, scale: &[f32], shift: &[f32], relu: bool) {
        for row in y.chunks_mut(stride) {
            for ((y, scale), shift) in row.iter_mut().zip(scale).zip(shift) {
                let value = *y * scale + shift;
                *y = if relu && value < 0.0 { 0.0 } else { value };
            }
        }
    }
}

vectorised! {
    /// Masks dy by the ReLU (in place) and sums dy and dy*(x - mean) per channel.
    fn masked_sums(x: &[f32], y: &[f32], dy: &mut [f32], mean: &[f32], sum: &mut [f32], dot: &mut [f32], relu: bool) {
        let c = mean.len();
        sum.fill(0.0);
        dot.fill(0.0);
        for ((x, y), dy) in x.chunks_exact(c).zip(y.chunks_exact(c)).zip(dy.chunks_exact_mut(c)) {
            for i in 0..c {
                let gradient = if !relu || y[i] > 0.0 { dy[i] } else { 0.0 };
                dy[i] = gradient;
                sum[i] += gradient;
                dot[i] += gradient * (x[i] - mean[i]);
            }
        }
    }
}

vectorised! {
    /// `dx = a*dx + b*(x - mean) + d`.
    fn apply_gradient(dx: &mut [f32], x: &[f32], mean: &[f32], a: &[f32], b: &[f32], d: &[f32]) {
        let c = mean.len();
        for (dx, x) in dx.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
            for i in 0..c {
                dx[i] = a[i] * dx[i] + (b[i] * (x[i] - mean[i]) + d[i]);
            }
        }
    }
}
