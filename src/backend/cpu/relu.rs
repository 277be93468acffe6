//! relu on the CPU, where it is not fused into a batchnorm.

use rayon::prelude::*;

use super::Cpu;
use super::elementwise::GRAIN;
use super::memory::f32s_mut;
use crate::Result;
use crate::backend::Span;
use crate::ops::relu::Relu;

impl Cpu {
    pub(super) fn relu_fwd(&self, p: &Relu, x: Span, y: Span) -> Result<()> {
        let n = p.n as usize;
        self.copy_unless_same(x, y, n * 4)?;
        let io = self.memory.open("relu_fwd_f32", [], [(y, n * 4)])?;
        let [y] = io.write.map(f32s_mut);
        // A comparison, not `max`: NaN stays NaN.
        y.par_chunks_mut(GRAIN).for_each(|y| y.iter_mut().for_each(|y| *y = if *y < 0.0 { 0.0 } else { *y }));
        Ok(())
    }

    pub(super) fn relu_bwd(&self, p: &Relu, y: Span, dy: Span, dx: Span) -> Result<()> {
        let n = p.n as usize;
        self.copy_unless_same(dy, dx, n * 4)?;
        self.zip("relu_bwd_f32", n, y, dx, |dx, y| *dx = if y > 0.0 { *dx } else { 0.0 })
    }
}
