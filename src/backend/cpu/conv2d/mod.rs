//! conv2d on the CPU: forward and data gradient as one implicit GEMM ([`gemm`]), the weight gradient as another ([`wgrad`]); and the integer passes ([`i8`]), by the definition ([`dot`],
//! [`wgrad_i8`]) or on packed factors ([`packed`], [`wgrad_packed`], [`winograd`]; instruction sets: [`choice`], [`lanes`], and for AMX [`amx`] and [`tiles`]).
//!
//! Numbers to expect, VGG16, batch 128: 0.63 GFLOP forward per image, three passes, so 120 images/s are 226 GFLOP/s.

mod amx;
mod choice;
mod dot;
mod emulated_tiles;
mod gemm;
mod i8;
mod lanes;
mod lines;
mod packed;
mod panels;
mod registers;
mod taps;
mod tiles;
#[cfg(all(test, target_os = "linux", target_arch = "x86_64"))]
mod trapped_tiles;
mod wgrad;
mod wgrad_i8;
mod wgrad_packed;
mod wgrad_wide_i8;
mod winograd;
mod winograd_wgrad;

use super::Cpu;
use super::memory::{f32s, f32s_mut};
use crate::Result;
use crate::backend::Span;
use crate::ops::conv2d::Conv2d;
pub use amx::{NoAmx, usable as amx};
pub use choice::IntegerPath;
use gemm::{Gemm, pack, packed_len, tile_shape};
pub(super) use packed::Scratch;
use taps::{Backward, Forward, few_channels, patches};

/// Passes of a convolution, as far as scratch memory goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Forward.
    Fwd,
    /// Data gradient.
    Dgrad,
    /// Weight gradient.
    Wgrad,
}

impl Cpu {
    /// Bytes of scratch memory of one pass.
    pub(super) fn conv2d_workspace(&self, p: &Conv2d, pass: Pass) -> usize {
        let taps = (p.r * p.s) as usize;
        let (c, k) = (p.c as usize, p.k as usize);
        4 * match pass {
            Pass::Fwd => packed_len(self.path, taps, c, k) + if few_channels(p) { taps * c } else { c },
            Pass::Dgrad => packed_len(self.path, taps, k, c) + k,
            Pass::Wgrad => wgrad::Split::new(p).workspace(p),
        }
    }

    pub(super) fn conv2d_fwd(&self, p: &Conv2d, x: Span, w: Span, bias: Option<Span>, y: Span, ws: Span) -> Result<()> {
        let (bias_span, bias_bytes) = bias.map_or((w, 0), |bias| (bias, p.k as usize * 4));
        let scratch = self.conv2d_workspace(p, Pass::Fwd);
        let io = self.memory.open(
            "conv2d_fwd_f32",
            [(x, p.x_len() * 4), (w, p.w_len() * 4), (bias_span, bias_bytes)],
            [(y, p.y_len() * 4), (ws, scratch)],
        )?;
        let ([x, w, bias], [y, ws]) = (io.read.map(f32s), io.write.map(f32s_mut));
        let (taps, c, k) = ((p.r * p.s) as usize, p.c as usize, p.k as usize);
        let (panels, zeros) = ws.split_at_mut(packed_len(self.path, taps, c, k));
        zeros.fill(0.0);
        let (_, nr) = tile_shape(self.path);
        // Panels [c][k]: a transposition of [k][c], tap by tap.
        pack(self.path, taps, c, k, panels, |first, tap, rows| {
            for (j, k) in (first..(first + nr).min(k)).enumerate() {
                let from = &w[(k * taps + tap) * c..][..c];
                from.iter().zip(rows[j..].iter_mut().step_by(nr)).for_each(|(from, to)| *to = *from);
            }
        });
        let gemm = Gemm { x, panels, zeros, width: k, bias: (bias_bytes > 0).then_some(bias) };
        if few_channels(p) {
            let make = |first: usize, rows: usize, out: &mut Vec<f32>| patches(p, x, first, rows, out);
            gemm.run_patches(self.path, taps * c, p.rows(), y, make);
        } else {
            gemm.run(self.path, &Forward(p), p.rows(), y);
        }
        Ok(())
    }

    pub(super) fn conv2d_dgrad(&self, p: &Conv2d, dy: Span, w: Span, dx: Span, ws: Span) -> Result<()> {
        let scratch = self.conv2d_workspace(p, Pass::Dgrad);
        let io = self.memory.open(
            "conv2d_dgrad_f32",
            [(dy, p.y_len() * 4), (w, p.w_len() * 4)],
            [(dx, p.x_len() * 4), (ws, scratch)],
        )?;
        let ([dy, w], [dx, ws]) = (io.read.map(f32s), io.write.map(f32s_mut));
        let (taps, c, k) = ((p.r * p.s) as usize, p.c as usize, p.k as usize);
        let (panels, zeros) = ws.split_at_mut(packed_len(self.path, taps, k, c));
        zeros.fill(0.0);
        let (_, nr) = tile_shape(self.path);
        // Panels [k][c]: runs of c as they are.
        pack(self.path, taps, k, c, panels, |first, tap, rows| {
            let run = nr.min(c - first);
            for (k, row) in rows.chunks_exact_mut(nr).enumerate() {
                row[..run].copy_from_slice(&w[(k * taps + tap) * c + first..][..run]);
            }
        });
        let gemm = Gemm { x: dy, panels, zeros, width: c, bias: None };
        let rows = (p.n * p.h * p.w) as usize;
        if p.stride_h == 1 && p.stride_w == 1 {
            gemm.run(self.path, &Backward::<true>(p), rows, dx);
        } else {
            gemm.run(self.path, &Backward::<false>(p), rows, dx);
        }
        Ok(())
    }

    pub(super) fn conv2d_wgrad(
        &self,
        p: &Conv2d,
        x: Span,
        dy: Span,
        dw: Span,
        dbias: Option<Span>,
        ws: Span,
    ) -> Result<()> {
        let scratch = self.conv2d_workspace(p, Pass::Wgrad);
        let (bias_span, bias_bytes) = match dbias {
            Some(dbias) => (dbias, p.k as usize * 4),
            None => (dw.part(0, 0)?, 0),
        };
        let io = self.memory.open(
            "conv2d_wgrad_f32",
            [(x, p.x_len() * 4), (dy, p.y_len() * 4)],
            [(dw, p.w_len() * 4), (bias_span, bias_bytes), (ws, scratch)],
        )?;
        let ([x, dy], [dw, dbias, ws]) = (io.read.map(f32s), io.write.map(f32s_mut));
        wgrad::run(self.path, p, x, dy, dw, ws);
        super::linear::column_sums(dy, dbias);
        Ok(())
    }
}
