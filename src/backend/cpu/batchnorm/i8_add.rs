//! The end of a residual block in 8 bits: batchnorm, addition and ReLU in one, and the gradient behind them.
//!
//! Formulas: [`crate::backend::Int8::batchnorm_add_fwd_i8`]. Here as there the sum is rounded to 16 bits block by block, and from those to an operand image by image. Not here: statistics and
//! normalisation ([`super::i8`]).

use rayon::prelude::*;

use super::super::Cpu;
use super::super::memory::{Parts, f32s, f32s_mut, i8s, i8s_mut, u32_of};
use super::super::noise::Source;
use super::super::quantize::operands;
use super::super::simd_int8::vectorised_i8;
use super::super::stream::{Read, Write, add};
use super::super::tile::{self, COLUMNS, ROWS, Strip, Tile};
use super::i8::{Map, Statistics, Stored};
use crate::Result;
use crate::backend::int8::{batchnorm_add_fwd_tensors, batchnorm_add_grad_tensors};
use crate::backend::{BatchNormInput, Bfp, Span, Summand};
use crate::ops::batchnorm::{GradientSums, SizesI8};
use crate::ops::batchnorm_add::{BatchNormAddGradI8, BatchNormAddI8};
use crate::ops::quantize::Form;
use crate::quant::layout::{blocks_across, pad};

vectorised_i8! {
    /// The ReLU, and a bit for each number that it lets through: eight to a byte.
    fn rectify(values: &mut [f32], mask: &mut [u8]) {
        for (values, mask) in values.chunks_exact_mut(8).zip(mask) {
            let mut bits = 0;
            for (j, value) in values.iter_mut().enumerate() {
                let through = *value > 0.0;
                bits |= u8::from(through) << j;
                *value = if through { *value } else { 0.0 };
            }
            *mask = bits;
        }
    }
}

vectorised_i8! {
    /// 0 where the mask has no bit.
    fn keep(mask: &[u8], values: &mut [f32]) {
        for (values, mask) in values.chunks_exact_mut(8).zip(mask) {
            for (j, value) in values.iter_mut().enumerate() {
                *value = if mask >> j & 1 != 0 { *value } else { 0.0 };
            }
        }
    }
}

impl Cpu {
    #[allow(clippy::too_many_arguments)]
    pub(in super::super) fn batchnorm_add_fwd_i8(
        &self,
        p: &BatchNormAddI8,
        first: BatchNormInput,
        other: Summand,
        step: Span,
        sum: Bfp,
        mask: Span,
        operand: Bfp,
    ) -> Result<()> {
        let (s, second) = (SizesI8::of_sum(p), other.parts(step.part(0, 0)?));
        let ws = (step.part(0, 0)?, 0);
        let (reads, writes) = batchnorm_add_fwd_tensors(p, first, second, step, sum, mask, operand, ws);
        let io = self.memory.open("batchnorm_add_fwd_i8", reads, writes)?;
        let [y, ye, sums, gamma, beta, other, others, other_sums, other_gamma, other_beta, step] = io.read;
        let [running_mean, running_var, mean, invstd, affine, written @ ..] = io.write;
        let [other_running_mean, other_running_var, other_mean, other_invstd, other_affine, written @ ..] = written;
        let [out, oute, mask, operand, operande, _ws] = written;
        if s.rows * s.c == 0 {
            return Ok(());
        }
        let of =
            |number: usize, y: &Stored, sums: &[u8], [gamma, beta]: [&[u8]; 2], to: [&mut [u8]; 4], map: &mut [f32]| {
                let (a, b) = map.split_at_mut(s.stride);
                let (eps, momentum, sums) = (p.eps[number], p.momentum[number], bytemuck::cast_slice(sums));
                let of = Statistics { s: &s, y, sums, gamma: f32s(gamma), beta: f32s(beta), eps, momentum };
                of.write(to.map(f32s_mut), [a, b]);
            };
        let (affine, other_affine) = (f32s_mut(affine), f32s_mut(other_affine));
        let y = Stored { mantissas: i8s(y), exponents: i8s(ye) };
        of(0, &y, sums, [gamma, beta], [running_mean, running_var, mean, invstd], affine);
        let other_y = Stored { mantissas: i8s(other), exponents: i8s(others) };
        if p.both != 0 {
            let to = [other_running_mean, other_running_var, other_mean, other_invstd];
            of(1, &other_y, other_sums, [other_gamma, other_beta], to, other_affine);
        }
        let maps = [(y, &*affine), (other_y, &*other_affine)].map(|(y, affine)| {
            let (a, b) = affine.split_at(affine.len() / 2);
            Map { y, a, b }
        });
        let stream = (p.both == 0).then(|| Read::new(p.other, other, others, s.c));
        let (level, bits) = (self.level, Parts::new(mask, ROWS * s.stride / 8));
        let to = Write::new(p.form, out, oute, s.c);
        (0..s.tiles).into_par_iter().for_each(|number| {
            // SAFETY: each task has its own rows.
            let bits = unsafe { bits.part(number) };
            let (mut tile, mut added) = (Tile::new(), [0.0; COLUMNS]);
            let rows = (s.rows - number * ROWS).min(ROWS);
            for column in 0..s.across {
                let first = column * COLUMNS;
                let width = (s.stride - first).min(COLUMNS);
                for (i, values) in tile.values.iter_mut().enumerate().take(rows) {
                    let row = number * ROWS + i;
                    maps[0].part(level, &s, row, column, false, &mut values[..width]);
                    // The last block of channels may be narrower than the one before it.
                    values[width..].fill(0.0);
                    if p.both != 0 {
                        maps[1].part(level, &s, row, column, false, &mut added[..width]);
                        add(level, &added[..width], &mut values[..width]);
                    }
                }
                if let Some(stream) = &stream {
                    stream.add_to(level, number, column, rows, &mut tile);
                }
                if p.relu != 0 {
                    for (values, mask) in tile.values.iter_mut().zip(bits.chunks_exact_mut(s.stride / 8)) {
                        rectify(level, &mut values[..width], &mut mask[first / 8..(first + width) / 8]);
                    }
                }
                // SAFETY: each task has its own rows.
                unsafe { to.put(level, number, column, &tile) };
            }
        });
        if p.operand != 0 {
            let (x, noise) = (Read::new(p.form, out, oute, s.c), Source::new(&p.noise, u32_of(step)));
            operands(level, x, (s.pixels, s.c), noise, i8s_mut(operand), i8s_mut(operande));
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    pub(in super::super) fn batchnorm_add_grad_i8(
        &self,
        p: &BatchNormAddGradI8,
        up: Bfp,
        more: Bfp,
        mask: Span,
        y: Span,
        second: Option<(Span, Span)>,
        step: Span,
        dz: Bfp,
        sums: Span,
        dx: Bfp,
    ) -> Result<()> {
        let (rows, c, none) = (p.rows as usize, p.c as usize, step.part(0, 0)?);
        let (stride, across, second) = (pad(c), blocks_across(c), second.unwrap_or((none, none)));
        let (reads, writes) = batchnorm_add_grad_tensors(p, up, more, mask, y, second, step, dz, sums, dx);
        let io = self.memory.open("batchnorm_add_grad_i8", reads, writes)?;
        let [up, upe, more, moree, mask, y, other_y, step] = io.read;
        let [dz, dze, sums, other_sums, dx, dxe] = io.write;
        if rows * c == 0 {
            return Ok(());
        }
        let (up, more) = (Read::new(p.up, up, upe, c), (p.add != 0).then(|| Read::new(p.more, more, moree, c)));
        let (ys, other_ys, noise) = (i8s(y), i8s(other_y), Source::new(&p.noise, u32_of(step)));
        let (level, to) = (self.level, (p.stream != 0).then(|| Write::new(Form::Bfp16 as u32, dx, dxe, c)));
        let other_sums = Parts::new(bytemuck::cast_slice_mut::<u8, GradientSums>(other_sums), stride);
        let sums: &mut [GradientSums] = bytemuck::cast_slice_mut(sums);
        let strips = i8s_mut(dz).par_chunks_mut(ROWS * stride).zip(i8s_mut(dze).par_chunks_mut(across));
        strips.zip(sums.par_chunks_mut(stride)).enumerate().for_each(|(number, ((mantissas, exponents), sums))| {
            let mut strip = Strip { number, channels: c, mantissas, exponents };
            let (mut tile, rows) = (Tile::new(), strip.rows());
            let part = number * ROWS * stride..(number * ROWS + rows) * stride;
            // SAFETY: each task has its own rows.
            let other_sums = unsafe { other_sums.part(number) };
            for column in 0..across {
                let (first, width) = (column * COLUMNS, strip.width(column));
                tile.values.iter_mut().for_each(|row| row.fill(0.0));
                up.add_to(level, number, column, rows, &mut tile);
                if let Some(more) = &more {
                    more.add_to(level, number, column, rows, &mut tile);
                }
                if p.relu != 0 {
                    let masks = mask[part.start / 8..part.end / 8].chunks_exact(stride / 8);
                    for (values, mask) in tile.values.iter_mut().zip(masks) {
                        keep(level, &mask[first / 8..(first + width) / 8], &mut values[..width]);
                    }
                }
                strip.put(level, column, &mut tile, noise);
                tile.load_other(&ys[part.clone()], stride, first, width);
                tile::gradient_sums(level, &tile, &mut sums[first..]);
                if p.both != 0 {
                    tile.load_other(&other_ys[part.clone()], stride, first, width);
                    tile::gradient_sums(level, &tile, &mut other_sums[first..]);
                }
                if let Some(to) = &to {
                    // SAFETY: each task has its own rows.
                    unsafe { to.put(level, number, column, &tile) };
                }
            }
        });
        Ok(())
    }
}
