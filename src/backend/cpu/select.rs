//! select on the CPU: channel gather and scatter.

use rayon::prelude::*;

use super::Cpu;
use super::memory::{f32s, f32s_mut};
use crate::backend::Span;
use crate::ops::select::Select;
use crate::{Error, Result};

/// Rows per task.
const ROWS: usize = 256;

/// An error where `index` is not ascending and distinct, or names a channel that a tensor of `channels` does not have.
pub(super) fn check(index: &[u32], channels: u32) -> Result<()> {
    let fail = |what| Err(Error::Graph { node: "select".into(), op: "select", what });
    if let Some(pair) = index.windows(2).find(|pair| pair[0] >= pair[1]) {
        return fail(format!("channel {} before channel {}: channels must be ascending", pair[0], pair[1]));
    }
    match index.last() {
        Some(bad) if *bad >= channels => fail(format!("channel {bad} of {channels}")),
        _ => Ok(()),
    }
}

impl Cpu {
    pub(super) fn select_fwd(&self, p: &Select, x: Span, index: Span, y: Span) -> Result<()> {
        let (rows, c, k) = (p.rows as usize, p.c as usize, p.k as usize);
        let io = self.memory.open("select_fwd_f32", [(x, rows * c * 4), (index, k * 4)], [(y, rows * k * 4)])?;
        let ([x, index], [y]) = (io.read, io.write.map(f32s_mut));
        let (x, index): (&[f32], &[u32]) = (f32s(x), bytemuck::cast_slice(index));
        check(index, p.c)?;
        y.par_chunks_mut(k * ROWS).zip(x.par_chunks(c * ROWS)).for_each(|(y, x)| {
            for (y, x) in y.chunks_exact_mut(k).zip(x.chunks_exact(c)) {
                y.iter_mut().zip(index).for_each(|(y, channel)| *y = x[*channel as usize]);
            }
        });
        Ok(())
    }

    pub(super) fn select_bwd(&self, p: &Select, dy: Span, index: Span, dx: Span) -> Result<()> {
        let (rows, c, k) = (p.rows as usize, p.c as usize, p.k as usize);
        let io = self.memory.open("select_bwd_f32", [(dy, rows * k * 4), (index, k * 4)], [(dx, rows * c * 4)])?;
        let ([dy, index], [dx]) = (io.read, io.write.map(f32s_mut));
        let (dy, index): (&[f32], &[u32]) = (f32s(dy), bytemuck::cast_slice(index));
        check(index, p.c)?;
        dx.par_chunks_mut(c * ROWS).zip(dy.par_chunks(k * ROWS)).for_each(|(dx, dy)| {
            dx.fill(0.0);
            for (dx, dy) in dx.chunks_exact_mut(c).zip(dy.chunks_exact(k)) {
                dy.iter().zip(index).for_each(|(dy, channel)| dx[*channel as usize] = *dy);
            }
        });
        Ok(())
    }
}
