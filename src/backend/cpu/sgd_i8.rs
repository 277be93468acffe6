//! The 8-bit optimiser step: gradients, momenta and weights rounded row by row, and the weights packed for the integer GEMMs.
//!
//! Formulas: [`crate::ops::sgd::SgdI8`].

use std::cell::RefCell;

use rayon::prelude::*;

use super::Cpu;
use super::elementwise::GRAIN;
use super::memory::{f32s, f32s_mut, i8s_mut, u32_of};
use super::noise::{GROUP, Source};
use super::quantize::{largest, round_each};
use super::simd_int8::{Level, vectorised_i8};
use crate::backend::Span;
use crate::ops::sgd::{Format, Segment, SgdI8};
use crate::quant::bfp;
use crate::quant::layout::{PAD, pad};
use crate::{Error, Result};

/// Channels that are transposed at once: padding makes whole ones.
const CHANNELS: usize = PAD;

/// What a step needs besides the tensors.
struct Step<'a> {
    level: Level,
    p: &'a SgdI8,
    lr: f32,
    /// For weights, momenta, gradients.
    noise: [Source; 3],
}

/// Scratch of a task.
struct Scratch {
    noise: Vec<u16>,
    gradient: Vec<f32>,
    momentum: Vec<f32>,
    weight: Vec<f32>,
    mantissas: Vec<i8>,
}

/// Runs `body` with the thread's scratch, which only grows: a step allocates nothing.
fn with_scratch<R>(body: impl FnOnce(&mut Scratch) -> R) -> R {
    const EMPTY: Scratch = Scratch {
        noise: Vec::new(),
        gradient: Vec::new(),
        momentum: Vec::new(),
        weight: Vec::new(),
        mantissas: Vec::new(),
    };
    thread_local!(static SCRATCH: RefCell<Scratch> = const { RefCell::new(EMPTY) });
    SCRATCH.with_borrow_mut(body)
}

vectorised_i8! {
    /// `g + l1*sign(w)`.
    fn with_l1(g: &[f32], w: &[f32], l1: f32, out: &mut [f32]) {
        for ((out, g), w) in out.iter_mut().zip(g).zip(w) {
            let sign = if *w > 0.0 { 1.0 } else if *w < 0.0 { -1.0 } else { 0.0 };
            *out = g + l1 * sign;
        }
    }
}

vectorised_i8! {
    /// `d = g + wd*w`, `v' = mu*v + d`, `w' = w - lr*v'`; v' and w' go to `new_v` and `new_w`.
    fn update(g: &[f32], v: &[f32], w: &[f32], mu: f32, wd: f32, lr: f32, new_v: &mut [f32], new_w: &mut [f32]) {
        let n = g.len();
        let (v, w, new_v, new_w) = (&v[..n], &w[..n], &mut new_v[..n], &mut new_w[..n]);
        for i in 0..n {
            let d = g[i] + wd * w[i];
            new_v[i] = mu * v[i] + d;
            new_w[i] = w[i] - lr * new_v[i];
        }
    }
}

vectorised_i8! {
    fn round(values: &[f32], e: i32, noise: &[u16], out: &mut [i8]) {
        let scale = bfp::power(21 - e);
        for ((out, value), noise) in out.iter_mut().zip(values).zip(noise) {
            *out = bfp::round_scaled(value * scale, u32::from(*noise));
        }
    }
}

vectorised_i8! {
    fn expand(mantissas: &[i8], e: i32, out: &mut [f32]) {
        out.iter_mut().zip(mantissas).for_each(|(out, m)| *out = bfp::value(*m, e));
    }
}

/// Mantissas and exponent of one row whose first element has place `first` in the arena.
fn quantise(
    level: Level,
    source: Source,
    first: usize,
    values: &[f32],
    noise: &mut Vec<u16>,
    mantissas: &mut Vec<i8>,
) -> i32 {
    let mut max = 0.0;
    largest(level, values, &mut max);
    let e = bfp::exponent(max);
    let skipped = first % GROUP;
    noise.resize((skipped + values.len()).next_multiple_of(GROUP), 0);
    mantissas.resize(values.len(), 0);
    source.elements(level, first / GROUP, noise);
    round(level, values, e, &noise[skipped..], mantissas);
    e
}

impl Step<'_> {
    /// Rounds each of `values`, which lie from place `first` on, by itself.
    fn each(&self, source: Source, first: usize, values: &mut [f32], noise: &mut Vec<u16>) {
        let skipped = first % GROUP;
        noise.resize((skipped + values.len()).next_multiple_of(GROUP), 0);
        source.elements(self.level, first / GROUP, noise);
        round_each(self.level, &noise[skipped..], values);
    }

    /// Steps one row (or run of a parameter without rows) from place `first` on; the weights are not yet rounded.
    fn row(&self, first: usize, format: u32, g: &[f32], v: &mut [f32], w: &mut [f32], scratch: &mut Scratch) {
        let (sgd, n) = (&self.p.sgd, g.len());
        let Scratch { noise, gradient, momentum, weight, mantissas } = scratch;
        for buffer in [&mut *gradient, momentum, weight] {
            buffer.resize(n, 0.0);
        }
        let scales = (sgd.scales as usize).saturating_sub(first).min(n);
        with_l1(self.level, &g[..scales], &w[..scales], sgd.l1, &mut gradient[..scales]);
        gradient[scales..].copy_from_slice(&g[scales..]);
        let rounds = format != Format::F32 as u32 && self.p.round_gradients != 0;
        let elements = format == Format::Elements as u32;
        if rounds && elements {
            self.each(self.noise[2], first, gradient, noise);
        } else if rounds {
            let e = quantise(self.level, self.noise[2], first, gradient, noise, mantissas);
            expand(self.level, mantissas, e, gradient);
        }
        update(self.level, gradient, v, w, sgd.momentum, sgd.weight_decay, self.lr, momentum, weight);
        if rounds && !elements {
            let e = quantise(self.level, self.noise[1], first, momentum, noise, mantissas);
            expand(self.level, mantissas, e, v);
        } else {
            v.copy_from_slice(momentum);
        }
        if rounds && elements {
            self.each(self.noise[1], first, v, noise);
        }
        w.copy_from_slice(weight);
    }

    /// Rounds one row of weights; the mantissas stay in `scratch`.
    fn weights(&self, first: usize, w: &mut [f32], scratch: &mut Scratch) -> i32 {
        let e = quantise(self.level, self.noise[0], first, w, &mut scratch.noise, &mut scratch.mantissas);
        if self.p.master_f32 == 0 {
            expand(self.level, &scratch.mantissas, e, w);
        }
        e
    }

    /// Rounds and packs the weights of one segment.
    fn pack(&self, segment: &Segment, w: &mut [f32], packed: &mut [u8]) -> Result<()> {
        let s = Shape::of(segment);
        if segment.format == Format::Elements as u32 {
            if self.p.master_f32 == 0 {
                w.par_chunks_mut(GRAIN).enumerate().for_each(|(i, w)| {
                    with_scratch(|scratch| self.each(self.noise[0], s.offset + i * GRAIN, w, &mut scratch.noise));
                });
            }
            return Ok(());
        }
        let rows = w.par_chunks_mut(s.columns).enumerate();
        if segment.format != Format::Conv as u32 {
            if self.p.master_f32 == 0 {
                rows.for_each(|(k, w)| {
                    with_scratch(|scratch| self.weights(s.offset + k * s.columns, w, scratch));
                });
            }
            return Ok(());
        }
        let (c, k) = (pad(s.c), pad(s.rows));
        let (weights, transposed, exponents) =
            (segment.weights as usize, segment.transposed as usize, segment.exponents as usize);
        let [weights, transposed, exponents] = packed
            .get_disjoint_mut([
                weights..weights + s.rows * s.taps * c,
                transposed..transposed + s.c * s.taps * k,
                exponents..exponents + s.rows,
            ])
            .map_err(|_| bad(segment, "packed weights lie outside their memory or overlap"))?;
        let (weights, transposed, exponents) = (i8s_mut(weights), i8s_mut(transposed), i8s_mut(exponents));
        let rows = rows.zip(weights.par_chunks_mut(s.taps * c)).zip(exponents);
        rows.for_each(|(((k, w), weights), exponent)| {
            with_scratch(|scratch| {
                *exponent = self.weights(s.offset + k * s.columns, w, scratch) as i8;
                for (to, from) in weights.chunks_exact_mut(c).zip(scratch.mantissas.chunks_exact(s.c)) {
                    to[..s.c].copy_from_slice(from);
                    to[s.c..].fill(0);
                }
            });
        });
        let weights = &*weights;
        transposed.par_chunks_mut(CHANNELS * s.taps * k).enumerate().for_each(|(group, to)| {
            let channels = to.len() / (s.taps * k);
            for tap in 0..s.taps {
                for first in (0..k).step_by(CHANNELS) {
                    // A square of bytes at a time: whole lines are read, and short runs written.
                    let mut square = [[0i8; CHANNELS]; CHANNELS];
                    for (i, row) in square.iter_mut().enumerate().take(s.rows.saturating_sub(first)) {
                        let at = ((first + i) * s.taps + s.taps - 1 - tap) * c + group * CHANNELS;
                        row.copy_from_slice(&weights[at..at + CHANNELS]);
                    }
                    for (channel, to) in to.chunks_exact_mut(s.taps * k).enumerate().take(channels) {
                        let to = &mut to[tap * k + first..][..CHANNELS];
                        to.iter_mut().zip(&square).for_each(|(to, row)| *to = row[channel]);
                    }
                }
            }
        });
        Ok(())
    }
}

/// A segment's sizes.
struct Shape {
    offset: usize,
    rows: usize,
    columns: usize,
    taps: usize,
    c: usize,
}

impl Shape {
    fn of(s: &Segment) -> Shape {
        let [offset, rows, columns, taps, c] = [s.offset, s.rows, s.columns, s.taps, s.c].map(|v| v as usize);
        Shape { offset, rows, columns, taps, c }
    }

    fn elements(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.rows * self.columns
    }
}

fn bad(segment: &Segment, what: &str) -> Error {
    Error::Graph { node: "sgd_step_i8".into(), op: "sgd", what: format!("{what}: {segment:?}") }
}

/// Whether a segment can be walked in an arena of `count` elements.
fn check(segment: &Segment, count: usize) -> Result<Shape> {
    let s = Shape::of(segment);
    if s.elements().end > count || s.columns == 0 {
        return Err(bad(segment, "segment outside the arena"));
    }
    if segment.format == Format::Conv as u32 && (s.c == 0 || s.taps * s.c != s.columns) {
        return Err(bad(segment, "columns are not taps x channels"));
    }
    Ok(s)
}

impl Cpu {
    fn step_of<'a>(&self, p: &'a SgdI8, lr: f32, step: u32) -> Step<'a> {
        let noise = p.tensors.map(|tensor| Source::random(p.seed, step, tensor));
        Step { level: self.level, p, lr, noise }
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn sgd_step_i8(
        &self,
        p: &SgdI8,
        table: Span,
        lr: Span,
        step: Span,
        g: Span,
        v: Span,
        w: Span,
        packed: Span,
    ) -> Result<()> {
        let n = p.sgd.count as usize;
        let io = self.memory.open(
            "sgd_step_i8",
            [(table, p.segments as usize * size_of::<Segment>()), (lr, 4), (step, 4), (g, n * 4)],
            [(v, n * 4), (w, n * 4), (packed, packed.bytes())],
        )?;
        let ([table, lr, step, g], [v, w, packed]) = (io.read, io.write);
        let (g, v, w) = (f32s(g), f32s_mut(v), f32s_mut(w));
        let step = self.step_of(p, f32s(lr)[0], u32_of(step));
        for segment in bytemuck::cast_slice::<u8, Segment>(table) {
            let s = check(segment, n)?;
            let (g, v, w) = (&g[s.elements()], &mut v[s.elements()], &mut w[s.elements()]);
            let format = segment.format;
            let in_rows = format == Format::Rows as u32 || format == Format::Conv as u32;
            let run = if in_rows { s.columns } else { GRAIN };
            let rows = w.par_chunks_mut(run).zip(v.par_chunks_mut(run)).zip(g.par_chunks(run)).enumerate();
            rows.for_each(|(i, ((w, v), g))| {
                with_scratch(|scratch| step.row(s.offset + i * run, format, g, v, w, scratch));
            });
            if format != Format::F32 as u32 {
                step.pack(segment, w, packed)?;
            }
        }
        Ok(())
    }

    pub(super) fn sgd_pack_i8(&self, p: &SgdI8, table: Span, step: Span, w: Span, packed: Span) -> Result<()> {
        let n = p.sgd.count as usize;
        let io = self.memory.open(
            "sgd_pack_i8",
            [(table, p.segments as usize * size_of::<Segment>()), (step, 4)],
            [(w, n * 4), (packed, packed.bytes())],
        )?;
        let ([table, step], [w, packed]) = (io.read, io.write);
        let (w, step) = (f32s_mut(w), self.step_of(p, 0.0, u32_of(step)));
        for segment in bytemuck::cast_slice::<u8, Segment>(table) {
            let s = check(segment, n)?;
            if segment.format != Format::F32 as u32 {
                step.pack(segment, &mut w[s.elements()], packed)?;
            }
        }
        Ok(())
    }
}
