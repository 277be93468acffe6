//! Copies and fills, and what the elementwise operators share.

use rayon::prelude::*;

use super::Cpu;
use super::memory::{f32s, f32s_mut};
use crate::backend::Span;
use crate::{Error, Result};

/// Elements per task.
pub(super) const GRAIN: usize = 1 << 15;

/// Bits of the absolute value: in its order, and integers have no NaN.
#[inline(always)]
pub(super) fn magnitude(value: f32) -> u32 {
    value.to_bits() & 0x7fff_ffff
}

impl Cpu {
    /// `y = x`.
    pub(super) fn copy_span(&self, x: Span, y: Span) -> Result<()> {
        if x.bytes() != y.bytes() {
            let what = format!("{} bytes into {}", x.bytes(), y.bytes());
            return Err(Error::Graph { node: "copy".into(), op: "copy", what });
        }
        let io = self.memory.open("copy", [(x, x.bytes())], [(y, y.bytes())])?;
        let ([x], [y]) = (io.read, io.write);
        y.par_chunks_mut(GRAIN * 4).zip(x.par_chunks(GRAIN * 4)).for_each(|(y, x)| y.copy_from_slice(x));
        Ok(())
    }

    /// Prepares an operator that works in place on `y`: its input `x` is copied there unless it is there already.
    pub(super) fn copy_unless_same(&self, x: Span, y: Span, bytes: usize) -> Result<()> {
        if x.address() == y.address() { Ok(()) } else { self.copy_span(x.part(0, bytes)?, y.part(0, bytes)?) }
    }

    pub(super) fn fill(&self, value: f32, x: Span) -> Result<()> {
        let io = self.memory.open("fill_f32", [], [(x, x.bytes())])?;
        let [x] = io.write.map(f32s_mut);
        x.par_chunks_mut(GRAIN).for_each(|x| x.fill(value));
        Ok(())
    }

    /// `y = f(y, x)` elementwise.
    pub(super) fn zip(
        &self,
        op: &'static str,
        n: usize,
        x: Span,
        y: Span,
        f: impl Fn(&mut f32, f32) + Sync,
    ) -> Result<()> {
        let io = self.memory.open(op, [(x, n * 4)], [(y, n * 4)])?;
        let ([x], [y]) = (io.read.map(f32s), io.write.map(f32s_mut));
        y.par_chunks_mut(GRAIN)
            .zip(x.par_chunks(GRAIN))
            .for_each(|(y, x)| y.iter_mut().zip(x).for_each(|(y, x)| f(y, *x)));
        Ok(())
    }
}
