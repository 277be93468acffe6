//! quantize on the CPU: tensors in f32 or 16 bits to operands, stored tensors and output gradients, and back.
//!
//! Here also: rounding a run of elements of an operand, which the batchnorm uses as well, and rounding in f32. Formulas: [`crate::backend::Int8`].

use std::cell::RefCell;

use rayon::prelude::*;

use super::Cpu;
use super::elementwise::magnitude;
use super::memory::{Parts, f32s_mut, i8s, i8s_mut, u32_of};
use super::noise::{GROUP, Source};
use super::select::check;
use super::simd_int8::{Level, vectorised_i8};
use super::stream::{Read, expand, expand_16};
use super::tile::{self, COLUMNS, ROWS, Strip, Tile};
use crate::Result;
use crate::backend::{Bfp, Span};
use crate::ops::batchnorm::OutputSums;
use crate::ops::quantize::{Dequantize, Form, Quantize, QuantizeGradient, Round, Store};
use crate::quant::bfp;
use crate::quant::layout::{blocks, blocks_across, pad};

/// Elements of an operand that are rounded at once.
pub(super) const RUN: usize = 2048;

vectorised_i8! {
    /// Mantissas of values that were scaled by `2^(21-e)`.
    fn round(scaled: &[f32], noise: &[u16], out: &mut [i8]) {
        for ((out, value), noise) in out.iter_mut().zip(scaled).zip(noise) {
            *out = bfp::round_scaled(*value, u32::from(*noise));
        }
    }
}

vectorised_i8! {
    /// High and low bytes of the 16-bit mantissas of values that were scaled by `2^(21-e)`.
    fn round_wide(scaled: &[f32], noise: &[u16], high: &mut [i8], low: &mut [i8]) {
        for (((high, low), value), noise) in high.iter_mut().zip(low).zip(scaled).zip(noise) {
            (*high, *low) = bfp::round_wide(*value, u32::from(*noise));
        }
    }
}

vectorised_i8! {
    /// `out = x * scale`.
    fn scaled(x: &[f32], scale: &[f32], out: &mut [f32]) {
        out.iter_mut().zip(x).zip(scale).for_each(|((out, x), scale)| *out = x * scale);
    }
}

vectorised_i8! {
    /// `max = max(max, |x|)`, none of them NaN.
    fn raise(x: &[f32], max: &mut [f32]) {
        for (max, x) in max.iter_mut().zip(x) {
            *max = f32::from_bits(max.to_bits().max(magnitude(*x)));
        }
    }
}

vectorised_i8! {
    /// Largest absolute value.
    fn largest(values: &[f32], max: &mut f32) {
        let bits = values.iter().fold(0, |max: u32, value| max.max(magnitude(*value)));
        *max = f32::from_bits(bits);
    }
}

vectorised_i8! {
    /// Values to the numbers of a grid.
    fn round_to(grid: bfp::Grid, noise: &[u16], values: &mut [f32]) {
        for (value, noise) in values.iter_mut().zip(noise) {
            *value = grid.round(*value, u32::from(*noise));
        }
    }
}

vectorised_i8! {
    /// Values to the numbers of grids of their own.
    fn round_each(noise: &[u16], values: &mut [f32]) {
        for (value, noise) in values.iter_mut().zip(noise) {
            *value = bfp::Grid::of(value.abs()).round(*value, u32::from(*noise));
        }
    }
}

/// A buffer of scaled values and their random numbers, on the way into an operand.
pub(super) struct Run {
    noise: [u16; RUN],
    /// Values times `2^(21-e)`, in padded memory order.
    pub scaled: [f32; RUN],
}

impl Run {
    /// Empty. 12 kB: it lives on the stack of a task, so that no call allocates.
    pub(super) fn new() -> Run {
        Run { noise: [0; RUN], scaled: [0.0; RUN] }
    }

    /// Fills the first `length` values from pixels of `c` unpadded f32 (`stride` padded), from padded element `first` on: each times its channel's `scale`.
    fn take(
        &mut self,
        level: Level,
        x: &[f32],
        scale: &[f32],
        (c, stride): (usize, usize),
        first: usize,
        length: usize,
    ) {
        let (mut at, mut left) = (first, &mut self.scaled[..length]);
        while !left.is_empty() {
            let (pixel, channel) = (at / stride, at % stride);
            let (part, rest) = left.split_at_mut((stride - channel).min(left.len()));
            let there = c.saturating_sub(channel).min(part.len());
            let (values, padding) = part.split_at_mut(there);
            scaled(level, &x[pixel * c + channel.min(c)..][..there], &scale[channel.min(c)..][..there], values);
            padding.fill(0.0);
            at += part.len();
            left = rest;
        }
    }

    /// Rounds the first `out.len()` values (a multiple of 8) as the elements of `noise` from padded index `first` (a multiple of 8) on.
    pub(super) fn round(&mut self, level: Level, noise: Source, first: usize, out: &mut [i8]) {
        let n = out.len();
        noise.elements(level, first / GROUP, &mut self.noise[..n]);
        round(level, &self.scaled[..n], &self.noise[..n], out);
    }

    /// As [`Run::round`], to 16 bits where there is a `low`.
    pub(super) fn round_gradient(
        &mut self,
        level: Level,
        noise: Source,
        first: usize,
        high: &mut [i8],
        low: &mut [i8],
    ) {
        if low.is_empty() {
            return self.round(level, noise, first, high);
        }
        let n = high.len();
        noise.elements(level, first / GROUP, &mut self.noise[..n]);
        round_wide(level, &self.scaled[..n], &self.noise[..n], high, low);
    }
}

/// `length` f32 of the thread's own, with whatever is in them: per-channel numbers of a task. Only growth allocates. Not to be nested.
pub(super) fn with_scratch<R>(length: usize, body: impl FnOnce(&mut [f32]) -> R) -> R {
    thread_local!(static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) });
    SCRATCH.with_borrow_mut(|scratch| {
        if scratch.len() < length {
            scratch.resize(length, 0.0);
        }
        body(&mut scratch[..length])
    })
}

/// Images of `pixels` x `c` to an operand: mantissas `q`, an exponent each.
pub(super) fn operands(
    level: Level,
    x: Read,
    (pixels, c): (usize, usize),
    noise: Source,
    q: &mut [i8],
    exponents: &mut [i8],
) {
    let (image, stride) = (pixels * pad(c), pad(c));
    q.par_chunks_mut(image).zip(exponents).enumerate().for_each(|(i, (q, e))| {
        let mut run = Run::new();
        with_scratch(stride + x.room(pixels), |scratch| {
            let (scale, room) = scratch.split_at_mut(stride);
            let (x, mut max) = (x.rows(level, i * pixels, pixels, room), 0.0);
            largest(level, x, &mut max);
            let exponent = bfp::exponent(max);
            *e = exponent as i8;
            scale.fill(bfp::power(21 - exponent));
            for (first, length) in pieces(pixels, stride) {
                run.take(level, x, scale, (c, stride), first, length);
                run.round(level, noise, i * image + first, &mut q[first..first + length]);
            }
        });
    });
}

/// First element and length of the runs of an image.
fn pieces(pixels: usize, stride: usize) -> impl Iterator<Item = (usize, usize)> {
    let all = pixels * stride;
    (0..all).step_by(RUN).map(move |first| (first, RUN.min(all - first)))
}

impl Cpu {
    pub(super) fn quantize_round_i8(&self, p: &Round, step: Span, x: Span) -> Result<()> {
        let (groups, length) = (p.groups as usize, p.length as usize);
        let io = self.memory.open("quantize_round_i8", [(step, 4)], [(x, groups * length * 4)])?;
        let ([step], [x]) = (io.read, io.write);
        if length == 0 {
            return Ok(());
        }
        let (level, source) = (self.level, Source::new(&p.noise, u32_of(step)));
        f32s_mut(x).par_chunks_mut(length).enumerate().for_each(|(group, values)| {
            let mut max = 0.0;
            largest(level, values, &mut max);
            let (grid, first) = (bfp::Grid::of(max), group * length);
            let mut noise = [0; RUN + GROUP];
            for (run, values) in (first..).step_by(RUN).zip(values.chunks_mut(RUN)) {
                let skipped = run % GROUP;
                let end = (skipped + values.len()).next_multiple_of(GROUP);
                source.elements(level, run / GROUP, &mut noise[..end]);
                round_to(level, grid, &noise[skipped..end], values);
            }
        });
        Ok(())
    }

    pub(super) fn quantize_fwd_i8(&self, p: &Quantize, x: Bfp, step: Span, q: Bfp) -> Result<()> {
        let (n, pixels, c) = (p.n as usize, p.pixels as usize, p.c as usize);
        let image = pixels * pad(c);
        let [elements, exponents] = Form::of(p.form).bytes(n * pixels, c);
        let io = self.memory.open(
            "quantize_fwd_i8",
            [(x.mantissas, elements), (x.exponents, exponents), (step, 4)],
            [(q.mantissas, n * image), (q.exponents, n)],
        )?;
        let ([x, xe, step], [q, e]) = (io.read, io.write);
        let noise = Source::new(&p.noise, u32_of(step));
        operands(self.level, Read::new(p.form, x, xe, c), (pixels, c), noise, i8s_mut(q), i8s_mut(e));
        Ok(())
    }

    pub(super) fn dequantize_fwd_i8(&self, p: &Dequantize, q: Bfp, x: Span) -> Result<()> {
        let (n, pixels, c) = (p.n as usize, p.pixels as usize, p.c as usize);
        let (rows, stride, across) = (n * pixels, pad(c), blocks_across(c));
        let (wide, [mantissas, exponents]) = (p.stored == Form::Bfp16 as u32, p.bytes());
        let io = self.memory.open(
            "dequantize_fwd_i8",
            [(q.mantissas, mantissas), (q.exponents, exponents)],
            [(x, rows * c * 4)],
        )?;
        let ([q, e], [x]) = (io.read, io.write.map(f32s_mut));
        let e = i8s(e);
        x.par_chunks_mut(ROWS * c).enumerate().for_each(|(block, x)| {
            for (i, x) in x.chunks_exact_mut(c).enumerate() {
                let at = (block * ROWS + i) * stride;
                for (column, x) in x.chunks_mut(COLUMNS).enumerate() {
                    let e = if p.stored != 0 { e[block * across + column] } else { e[(block * ROWS + i) / pixels] };
                    let (at, e) = (at + column * COLUMNS, i32::from(e));
                    match wide {
                        true => expand_16(self.level, &bytemuck::cast_slice(q)[at..], e, x),
                        false => expand(self.level, &i8s(q)[at..], e, x),
                    }
                }
            }
        });
        Ok(())
    }

    pub(super) fn quantize_store_i8(
        &self,
        p: &Store,
        x: Bfp,
        index: Span,
        step: Span,
        q: Bfp,
        sums: Span,
    ) -> Result<()> {
        let (rows, c) = (p.rows as usize, p.c as usize);
        let (stride, across) = (pad(c), blocks_across(c));
        let [elements, x_exponents] = Form::of(p.form).bytes(rows, p.read());
        let io = self.memory.open(
            "quantize_store_i8",
            [(x.mantissas, elements), (x.exponents, x_exponents), (index, p.named() * 4), (step, 4)],
            [
                (q.mantissas, rows * stride),
                (q.exponents, blocks(rows, c)),
                (sums, rows.div_ceil(ROWS) * stride * size_of::<OutputSums>()),
            ],
        )?;
        let ([x, xe, index, step], [q, e, sums]) = (io.read, io.write);
        let (index, sums): (&[u32], &mut [OutputSums]) = (bytemuck::cast_slice(index), bytemuck::cast_slice_mut(sums));
        check(index, p.from)?;
        if rows * c == 0 {
            return Ok(());
        }
        let (level, noise, x) = (self.level, Source::new(&p.noise, u32_of(step)), Read::new(p.form, x, xe, p.read()));
        let strips = i8s_mut(q).par_chunks_mut(ROWS * stride).zip(i8s_mut(e).par_chunks_mut(across));
        let tasks = strips.zip(sums.par_chunks_mut(stride));
        tasks.enumerate().for_each(|(number, ((mantissas, exponents), sums))| {
            let mut strip = Strip { number, channels: c, mantissas, exponents };
            let (mut tile, rows) = (Tile::new(), strip.rows());
            for column in 0..across {
                let first = column * COLUMNS;
                match p.select {
                    0 => x.fill(level, number, column, rows, &mut tile),
                    _ => {
                        let channels = &index[first..(first + COLUMNS).min(c)];
                        x.gather(level, number, channels, rows, &mut tile);
                    }
                }
                strip.put(level, column, &mut tile, noise);
                tile::output_sums(level, &tile, rows, &mut sums[first..]);
            }
        });
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn quantize_bwd_i8(
        &self,
        p: &QuantizeGradient,
        dy: Bfp,
        weight_exponents: Span,
        input_exponents: Span,
        step: Span,
        dyd: Bfp,
        dyw: Bfp,
        ws: Span,
    ) -> Result<()> {
        let (n, pixels, k) = (p.n as usize, p.pixels as usize, p.k as usize);
        let (stride, wanted, wide) = (pad(k), usize::from(p.dgrad != 0), usize::from(p.wide != 0));
        let (image, all) = (pixels * stride, n * pixels * stride);
        let [elements, exponents] = Form::of(p.form).bytes(n * pixels, k);
        let io = self.memory.open(
            "quantize_bwd_i8",
            [
                (dy.mantissas, elements),
                (dy.exponents, exponents),
                (weight_exponents, wanted * k),
                (input_exponents, n),
                (step, 4),
            ],
            [
                (dyd.mantissas, wanted * all),
                (dyd.exponents, wanted * n),
                (dyw.mantissas, all << wide),
                (dyw.exponents, k),
                (ws, Self::quantize_bwd_i8_workspace(p)),
            ],
        )?;
        let ([dy, dye, we, xe, step], [dyd, ed, dyw, ew, ws]) = (io.read, io.write);
        let (dy, we, xe, step) = (Read::new(p.form, dy, dye, k), i8s(we), i8s(xe), u32_of(step));
        let (level, largest_of_channels) = (self.level, f32s_mut(ws));
        // Largest |dy| per sample and channel: powers of two change no order.
        largest_of_channels.par_chunks_mut(k).enumerate().for_each(|(i, max)| {
            max.fill(0.0);
            with_scratch(dy.room(pixels), |room| {
                let dy = dy.rows(level, i * pixels, pixels, room);
                dy.chunks_exact(k).for_each(|row| raise(level, row, max));
            });
        });
        let ew = i8s_mut(ew);
        for (channel, ew) in ew.iter_mut().enumerate() {
            let scaled = (0..n).map(|i| largest_of_channels[i * k + channel] * bfp::power(i32::from(xe[i])));
            *ew = bfp::exponent(scaled.fold(0.0, f32::max)) as i8;
        }
        let (dyd_noise, dyw_noise) = Source::both(&p.noise, p.dyd_tensor, step);
        let (dyd, ed) = (Parts::new(i8s_mut(dyd), image), Parts::new(i8s_mut(ed), 1));
        let ew = &*ew;
        let (dyw, low) = i8s_mut(dyw).split_at_mut(all);
        let low = Parts::new(low, image * wide);
        dyw.par_chunks_mut(image).enumerate().for_each(|(i, dyw)| {
            // SAFETY: each task has its own image.
            let (dyd, ed, low) = unsafe { (dyd.part(i), ed.part(i), low.part(i)) };
            let x = bfp::power(i32::from(xe[i]));
            let mut run = Run::new();
            with_scratch(k + dy.room(pixels), |scratch| {
                let (scale, room) = scratch.split_at_mut(k);
                let dy = dy.rows(level, i * pixels, pixels, room);
                let mut put = |out: &mut [i8], low: &mut [i8], noise: Source, scale: &[f32]| {
                    for (first, length) in pieces(pixels, stride) {
                        run.take(level, dy, scale, (k, stride), first, length);
                        let low = if low.is_empty() { &mut [][..] } else { &mut low[first..first + length] };
                        run.round_gradient(level, noise, i * image + first, &mut out[first..first + length], low);
                    }
                };
                scale.iter_mut().zip(ew).for_each(|(scale, ew)| *scale = bfp::power(21 - i32::from(*ew)) * x);
                put(dyw, low, dyw_noise, scale);
                if let [ed] = ed {
                    let max = &largest_of_channels[i * k..(i + 1) * k];
                    let scaled = max.iter().zip(we).map(|(max, we)| max * bfp::power(i32::from(*we)));
                    let e = bfp::exponent(scaled.fold(0.0, f32::max));
                    *ed = e as i8;
                    scale.iter_mut().zip(we).for_each(|(scale, we)| {
                        *scale = bfp::power(i32::from(*we)) * bfp::power(21 - e);
                    });
                    put(dyd, &mut [], dyd_noise, scale);
                }
            });
        });
        Ok(())
    }

    /// Bytes of scratch memory: the largest gradient of each sample and channel.
    pub(super) fn quantize_bwd_i8_workspace(p: &QuantizeGradient) -> usize {
        (p.n * p.k) as usize * 4
    }
}
