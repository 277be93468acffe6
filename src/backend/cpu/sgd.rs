//! sgd on the CPU: one pass over all parameters. 20 bytes per parameter.

use rayon::prelude::*;

use super::Cpu;
use super::elementwise::GRAIN;
use super::memory::{f32s, f32s_mut};
use super::simd::vectorised;
use crate::Result;
use crate::backend::Span;
use crate::ops::sgd::Sgd;

impl Cpu {
    pub(super) fn sgd_step(&self, p: &Sgd, lr: Span, g: Span, v: Span, w: Span) -> Result<()> {
        let n = p.count as usize;
        let io = self.memory.open("sgd_step_f32", [(lr, 4), (g, n * 4)], [(v, n * 4), (w, n * 4)])?;
        let ([lr, g], [v, w]) = (io.read.map(f32s), io.write.map(f32s_mut));
        let (path, lr) = (self.path, lr[0]);
        let tasks = w.par_chunks_mut(GRAIN).zip(v.par_chunks_mut(GRAIN)).zip(g.par_chunks(GRAIN)).enumerate();
        tasks.for_each(|(task, ((w, v), g))| {
            let scales = (p.scales as usize).saturating_sub(task * GRAIN).min(w.len());
            let ((ws, w), (vs, v), (gs, g)) = (w.split_at_mut(scales), v.split_at_mut(scales), g.split_at(scales));
            step(path, ws, vs, gs, lr, p.momentum, p.weight_decay, p.l1);
            step(path, w, v, g, lr, p.momentum, p.weight_decay, 0.0);
        });
        Ok(())
    }
}

vectorised! {
    /// PyTorch's order, each operation rounded by itself: early-bird.md 1.2.
    fn step(w: &mut [f32], v: &mut [f32], g: &[f32], lr: f32, momentum: f32, weight_decay: f32, l1: f32) {
        for ((w, v), g) in w.iter_mut().zip(v).zip(g) {
            let sign = if *w > 0.0 { 1.0 } else if *w < 0.0 { -1.0 } else { 0.0 };
            let d = (g + l1 * sign) + weight_decay * *w;
            *v = momentum * *v + d;
            *w -= lr * *v;
        }
    }
}
