//! The integer passes of conv2d: forward and data gradient as one implicit GEMM whose epilogue rounds and stores, and the weight gradient.
//!
//! A task computes 64 output rows, 32 channels at a time: integer sums into a small array, then scale, mask, round and add up while they are in the first-level
//! cache. Formulas: [`crate::backend::Int8`]. Not here: the integer sums themselves ([`super::dot`]: forward and data gradient, [`super::wgrad_i8`]).

use rayon::prelude::*;

use super::super::Cpu;
use super::super::memory::{Parts, f32s, f32s_mut, i8s, i8s_mut, u32_of};
use super::super::noise::Source;
use super::super::simd_int8::{Level, vectorised_i8};
use super::super::tile::{self, COLUMNS, ROWS, Strip, Tile};
use super::dot::{self, Sums};
use super::taps::{Backward, Forward, Taps};
use super::{wgrad_i8, wgrad_wide_i8};
use crate::Result;
use crate::backend::{Bfp, Normalised, Span};
use crate::ops::batchnorm::{GradientSums, OutputSums};
use crate::ops::conv2d::Conv2dI8;
use crate::quant::bfp;
use crate::quant::layout::{blocks, blocks_across, pad};

/// What a pass reads.
struct Input<'a> {
    gemm: dot::Gemm<'a>,
    /// Per image.
    row_exponents: &'a [i8],
    /// Rows of an image.
    image: usize,
    /// Per output channel; `None`: 0.
    column_exponents: Option<&'a [i8]>,
    noise: Source,
}

/// Output channels, exponents and mantissas.
struct Output<'a> {
    channels: usize,
    mantissas: &'a mut [i8],
    exponents: &'a mut [i8],
}

/// A batchnorm's stored input and the map behind it, to mask a gradient.
struct Mask<'a> {
    mantissas: &'a [i8],
    exponents: &'a [i8],
    affine: &'a [f32],
}

vectorised_i8! {
    /// `values = sums * (column * row)`.
    fn scale(sums: &Sums, rows: &[f32; ROWS], columns: &[f32; COLUMNS], values: &mut [[f32; COLUMNS]; ROWS]) {
        for ((values, sums), row) in values.iter_mut().zip(&sums.0).zip(rows) {
            for j in 0..COLUMNS {
                values[j] = sums[j] as f32 * (columns[j] * row);
            }
        }
    }
}

impl Input<'_> {
    /// Runs the GEMM and its epilogue, 64 rows a task.
    fn run(
        &self,
        level: Level,
        taps: &impl Taps,
        out: Output,
        sums: &mut [OutputSums],
        masked: Option<(Mask, &mut [GradientSums])>,
    ) {
        let (channels, stride) = (out.channels, pad(out.channels));
        let across = blocks_across(channels);
        let strips = out.mantissas.len().div_ceil(ROWS * stride);
        let (mantissas, exponents) = (Parts::new(out.mantissas, ROWS * stride), Parts::new(out.exponents, across));
        let sums = Parts::new(sums, stride);
        let (mask, gradients) = match masked {
            Some((mask, sums)) => (Some(mask), sums),
            None => (None, &mut [][..]),
        };
        let gradients = Parts::new(gradients, stride);
        (0..strips).into_par_iter().for_each(|number| {
            // SAFETY: each task has its own number.
            let (mantissas, exponents) = unsafe { (mantissas.part(number), exponents.part(number)) };
            // SAFETY: as above.
            let (sums, gradients) = unsafe { (sums.part(number), gradients.part(number)) };
            let mut strip = Strip { number, channels, mantissas, exponents };
            let (first, rows) = (number * ROWS, strip.rows());
            let row_scales: [f32; ROWS] = std::array::from_fn(|i| {
                let image = (first + i.min(rows - 1)) / self.image;
                bfp::power(i32::from(self.row_exponents[image]) - 6)
            });
            let (mut tile, mut acc) = (Tile::new(), Sums::new());
            for column in 0..across {
                let k = column * COLUMNS;
                self.gemm.block(taps, first, rows, column, &mut acc);
                let columns: [f32; COLUMNS] = std::array::from_fn(|j| {
                    let exponents = self.column_exponents.map_or(Some(0), |all| all.get(k + j).copied());
                    exponents.map_or(0.0, |e| bfp::power(i32::from(e) - 6))
                });
                scale(level, &acc, &row_scales, &columns, &mut tile.values);
                if let Some(mask) = &mask {
                    let (a, b) = mask.affine.split_at(stride);
                    let e = mask.exponents[number * across + column];
                    let rows = &mask.mantissas[first * stride..(first + rows) * stride];
                    tile.load_other(rows, stride, k, strip.width(column));
                    tile::mask(
                        level,
                        &mut tile,
                        bfp::power(i32::from(e) - 6),
                        &tile::part(a, column),
                        &tile::part(b, column),
                    );
                }
                strip.put(level, column, &mut tile, self.noise);
                if !sums.is_empty() {
                    tile::output_sums(level, &tile, rows, &mut sums[k..]);
                }
                if !gradients.is_empty() {
                    tile::gradient_sums(level, &tile, &mut gradients[k..]);
                }
            }
        });
    }
}

impl Cpu {
    pub(in super::super) fn conv2d_fwd_i8(
        &self,
        p: &Conv2dI8,
        x: Bfp,
        w: Bfp,
        step: Span,
        y: Bfp,
        sums: Span,
    ) -> Result<()> {
        let (conv, shape) = (&p.conv, p.conv.padded());
        let (n, k, rows) = (conv.n as usize, conv.k as usize, conv.rows());
        let io = self.memory.open(
            "conv2d_fwd_i8",
            [
                (x.mantissas, shape.x_len()),
                (x.exponents, n),
                (w.mantissas, k * (shape.r * shape.s * shape.c) as usize),
                (w.exponents, k),
                (step, 4),
            ],
            [
                (y.mantissas, rows * pad(k)),
                (y.exponents, blocks(rows, k)),
                (sums, rows.div_ceil(ROWS) * pad(k) * size_of::<OutputSums>()),
            ],
        )?;
        let ([x, xe, w, we, step], [y, ye, sums]) = (io.read, io.write);
        let input = Input {
            gemm: dot::Gemm { x: i8s(x), w: i8s(w), width: k, flipped: false },
            row_exponents: i8s(xe),
            image: (conv.p * conv.q) as usize,
            column_exponents: Some(i8s(we)),
            noise: Source::new(&p.noise, u32_of(step)),
        };
        let out = Output { channels: k, mantissas: i8s_mut(y), exponents: i8s_mut(ye) };
        input.run(self.level, &Forward(&shape), out, bytemuck::cast_slice_mut(sums), None);
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    pub(in super::super) fn conv2d_dgrad_i8(
        &self,
        p: &Conv2dI8,
        dyd: Bfp,
        transposed: Span,
        step: Span,
        fused: Option<Normalised>,
        dx: Bfp,
        sums: Span,
    ) -> Result<()> {
        let (conv, shape) = (&p.conv, p.conv.padded());
        let (n, c) = (conv.n as usize, conv.c as usize);
        let rows = (conv.n * conv.h * conv.w) as usize;
        let none = transposed.part(0, 0)?;
        let (before, affine, there) = match fused {
            Some(fused) => (fused.y, fused.affine, 1),
            None => (Bfp { mantissas: none, exponents: none }, none, 0),
        };
        let io = self.memory.open(
            "conv2d_dgrad_i8",
            [
                (dyd.mantissas, shape.y_len()),
                (dyd.exponents, n),
                (transposed, c * (shape.r * shape.s * shape.k) as usize),
                (step, 4),
                (before.mantissas, there * rows * pad(c)),
                (before.exponents, there * blocks(rows, c)),
                (affine, there * 2 * pad(c) * 4),
            ],
            [
                (dx.mantissas, rows * pad(c)),
                (dx.exponents, blocks(rows, c)),
                (sums, there * rows.div_ceil(ROWS) * pad(c) * size_of::<GradientSums>()),
            ],
        )?;
        let ([dyd, ed, w, step, before, before_exponents, affine], [dx, dxe, sums]) = (io.read, io.write);
        let input = Input {
            gemm: dot::Gemm { x: i8s(dyd), w: i8s(w), width: c, flipped: true },
            row_exponents: i8s(ed),
            image: (conv.h * conv.w) as usize,
            column_exponents: None,
            noise: Source::new(&p.noise, u32_of(step)),
        };
        let mask = Mask { mantissas: i8s(before), exponents: i8s(before_exponents), affine: f32s(affine) };
        let masked = (there == 1).then_some((mask, bytemuck::cast_slice_mut(sums)));
        let out = Output { channels: c, mantissas: i8s_mut(dx), exponents: i8s_mut(dxe) };
        if conv.stride_h == 1 && conv.stride_w == 1 {
            input.run(self.level, &Backward::<true>(&shape), out, &mut [], masked);
        } else {
            input.run(self.level, &Backward::<false>(&shape), out, &mut [], masked);
        }
        Ok(())
    }

    pub(in super::super) fn conv2d_wgrad_i8(&self, p: &Conv2dI8, x: Bfp, dyw: Bfp, dw: Span) -> Result<()> {
        let (conv, shape) = (&p.conv, p.conv.padded());
        let wide = p.wide != 0;
        let dyw_bytes = shape.y_len() << usize::from(wide);
        let io = self.memory.open(
            "conv2d_wgrad_i8",
            [(x.mantissas, shape.x_len()), (dyw.mantissas, dyw_bytes), (dyw.exponents, conv.k as usize)],
            [(dw, conv.w_len() * 4)],
        )?;
        let ([x, dyw, ew], [dw]) = (io.read, io.write);
        match wide {
            true => wgrad_wide_i8::run(self.level, conv, &shape, i8s(x), i8s(dyw), i8s(ew), f32s_mut(dw)),
            false => wgrad_i8::run(conv, &shape, i8s(x), i8s(dyw), i8s(ew), f32s_mut(dw)),
        }
        Ok(())
    }
}
