//! linear on the CPU: a 1x1 convolution in all but name, computed row by row. A classifier's share of a step is far below a percent.

use rayon::prelude::*;

use super::Cpu;
use super::memory::{f32s, f32s_mut};
use super::simd::vectorised;
use crate::Result;
use crate::backend::Span;
use crate::ops::linear::Linear;

vectorised! {
    /// `y += factor * x`.
    fn add_scaled(factor: f32, x: &[f32], y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y += factor * x;
        }
    }
}

vectorised! {
    /// `out = sum x*w` over chains of 16 lanes, then the lanes in order.
    fn dot(x: &[f32], w: &[f32], out: &mut f32) {
        let mut lanes = [0.0f32; 16];
        let (x16, x_rest) = x.as_chunks::<16>();
        let (w16, w_rest) = w.as_chunks::<16>();
        for (x, w) in x16.iter().zip(w16) {
            for i in 0..16 {
                lanes[i] += x[i] * w[i];
            }
        }
        let rest: f32 = x_rest.iter().zip(w_rest).map(|(x, w)| x * w).sum();
        *out = lanes.iter().sum::<f32>() + rest;
    }
}

/// Columns that one task sums.
const COLUMNS: usize = 16;

/// Column sums of rows of `sums.len()` elements, in f64 in the order of the rows.
pub(super) fn column_sums(rows: &[f32], sums: &mut [f32]) {
    let c = sums.len();
    sums.par_chunks_mut(COLUMNS).enumerate().for_each(|(task, out)| {
        let (first, mut sums) = (task * COLUMNS, [0.0f64; COLUMNS]);
        for row in rows.chunks_exact(c) {
            sums.iter_mut().zip(&row[first..first + out.len()]).for_each(|(sum, x)| *sum += f64::from(*x));
        }
        out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum as f32);
    });
}

impl Cpu {
    pub(super) fn linear_fwd(&self, p: &Linear, x: Span, w: Span, bias: Option<Span>, y: Span) -> Result<()> {
        let (n, c, k) = (p.n as usize, p.c as usize, p.k as usize);
        let (bias, bias_bytes) = bias.map_or((w, 0), |bias| (bias, k * 4));
        let io = self.memory.open(
            "linear_fwd_f32",
            [(x, n * c * 4), (w, k * c * 4), (bias, bias_bytes)],
            [(y, n * k * 4)],
        )?;
        let ([x, w, bias], [y]) = (io.read.map(f32s), io.write.map(f32s_mut));
        let path = self.path;
        y.par_chunks_mut(k).zip(x.par_chunks(c)).for_each(|(y, x)| {
            for (k, (y, w)) in y.iter_mut().zip(w.chunks_exact(c)).enumerate() {
                dot(path, x, w, y);
                *y += bias.get(k).copied().unwrap_or(0.0);
            }
        });
        Ok(())
    }

    pub(super) fn linear_dgrad(&self, p: &Linear, dy: Span, w: Span, dx: Span) -> Result<()> {
        let (n, c, k) = (p.n as usize, p.c as usize, p.k as usize);
        let io = self.memory.open("linear_dgrad_f32", [(dy, n * k * 4), (w, k * c * 4)], [(dx, n * c * 4)])?;
        let ([dy, w], [dx]) = (io.read.map(f32s), io.write.map(f32s_mut));
        let path = self.path;
        dx.par_chunks_mut(c).zip(dy.par_chunks(k)).for_each(|(dx, dy)| {
            dx.fill(0.0);
            dy.iter().zip(w.chunks_exact(c)).for_each(|(dy, w)| add_scaled(path, *dy, w, dx));
        });
        Ok(())
    }

    pub(super) fn linear_wgrad(&self, p: &Linear, x: Span, dy: Span, dw: Span, dbias: Option<Span>) -> Result<()> {
        let (n, c, k) = (p.n as usize, p.c as usize, p.k as usize);
        let (dbias, bias_bytes) = match dbias {
            Some(dbias) => (dbias, k * 4),
            None => (dw.part(0, 0)?, 0),
        };
        let io = self.memory.open(
            "linear_wgrad_f32",
            [(x, n * c * 4), (dy, n * k * 4)],
            [(dw, k * c * 4), (dbias, bias_bytes)],
        )?;
        let ([x, dy], [dw, dbias]) = (io.read.map(f32s), io.write.map(f32s_mut));
        let path = self.path;
        dw.par_chunks_mut(c).enumerate().for_each(|(out, dw)| {
            dw.fill(0.0);
            x.chunks_exact(c).zip(dy.chunks_exact(k)).for_each(|(x, dy)| add_scaled(path, dy[out], x, dw));
        });
        column_sums(dy, dbias);
        Ok(())
    }
}
