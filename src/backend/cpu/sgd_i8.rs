//! The 8-bit optimiser step: gradients, momenta and weights rounded row by row, and the weights packed for the integer GEMMs.
//!
//! Formulas: [`crate::ops::sgd::SgdI8`].

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::Cpu;
use super::elementwise::{GRAIN, magnitude};
use super::memory::{Parts, f32s, f32s_mut, i8s_mut, u32_of};
use super::noise::{GROUP, Source};
use super::quantize::{largest, round_each};
use super::simd_int8::{Level, vectorised_i8};
use super::stream::expand;
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
    gradient: Vec<f32>,
    rounded: Vec<f32>,
    mantissas: Vec<i8>,
}

/// Runs `body` with the thread's scratch, which only grows: a step allocates nothing.
fn with_scratch<R>(body: impl FnOnce(&mut Scratch) -> R) -> R {
    const EMPTY: Scratch = Scratch { gradient: Vec::new(), rounded: Vec::new(), mantissas: Vec::new() };
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
    /// `d = g + wd*w`, `v' = mu*v + d`, `w' = w - lr*v'`; v' and w' replace v and w.
    fn update(g: &[f32], v: &mut [f32], w: &mut [f32], mu: f32, wd: f32, lr: f32) {
        for ((g, v), w) in g.iter().zip(v).zip(w) {
            let d = g + wd * *w;
            *v = mu * *v + d;
            *w -= lr * *v;
        }
    }
}

/// The step's constants for a row, and the scales of its gradient's mantissas: into the grid and back.
#[derive(Clone, Copy)]
pub(super) struct Rate {
    mu: f32,
    wd: f32,
    lr: f32,
    into: f32,
    back: f32,
}

vectorised_i8! {
    /// [`update`] of a gradient that is rounded on the way; w' replaces w; `largest` grows to the bits of the largest `|v'|` and `|w'|`.
    fn update_row(rate: Rate, noise: &[u16], g: &[f32], v: &[f32], w: &mut [f32], new_v: &mut [f32], largest: &mut [u32; 2]) {
        let n = g.len();
        let (noise, v, w, new_v) = (&noise[..n], &v[..n], &mut w[..n], &mut new_v[..n]);
        let [mut of_v, mut of_w] = *largest;
        for i in 0..n {
            let rounded = f32::from(bfp::round_scaled(g[i] * rate.into, u32::from(noise[i]))) * rate.back;
            let d = rounded + rate.wd * w[i];
            new_v[i] = rate.mu * v[i] + d;
            w[i] -= rate.lr * new_v[i];
            of_v = of_v.max(magnitude(new_v[i]));
            of_w = of_w.max(magnitude(w[i]));
        }
        *largest = [of_v, of_w];
    }
}

vectorised_i8! {
    /// Mantissas of a piece of a row of exponent `e`.
    fn round(values: &[f32], e: i32, noise: &[u16], out: &mut [i8]) {
        let scale = bfp::power(21 - e);
        for ((out, value), noise) in out.iter_mut().zip(values).zip(noise) {
            *out = bfp::round_scaled(value * scale, u32::from(*noise));
        }
    }
}

vectorised_i8! {
    /// The same as numbers.
    fn round_to(values: &[f32], e: i32, noise: &[u16], out: &mut [f32]) {
        let scale = bfp::power(21 - e);
        for ((out, value), noise) in out.iter_mut().zip(values).zip(noise) {
            *out = bfp::value(bfp::round_scaled(value * scale, u32::from(*noise)), e);
        }
    }
}

/// Elements whose random numbers are drawn at once: they stay in the first-level cache until they are used.
const PIECE: usize = 1024;

/// Calls `each(range, numbers)` for pieces of a row of `n` elements whose first has place `first` in the arena, with the random numbers of each.
fn pieces(level: Level, source: Source, first: usize, n: usize, mut each: impl FnMut(Range<usize>, &[u16])) {
    let mut noise = [0; PIECE + GROUP];
    for start in (0..n).step_by(PIECE) {
        let (end, skipped) = ((start + PIECE).min(n), (first + start) % GROUP);
        let noise = &mut noise[..(skipped + end - start).next_multiple_of(GROUP)];
        source.elements(level, (first + start) / GROUP, noise);
        each(start..end, &noise[skipped..]);
    }
}

impl Step<'_> {
    /// Rounds each of `values`, which lie from place `first` on, by itself.
    fn each(&self, source: Source, first: usize, values: &mut [f32]) {
        pieces(self.level, source, first, values.len(), |range, noise| {
            round_each(self.level, noise, &mut values[range]);
        });
    }

    /// The gradient with its L1 part, which scales have: `g` itself where none are.
    fn gradient<'g>(&self, first: usize, g: &'g [f32], w: &[f32], buffer: &'g mut Vec<f32>) -> &'g [f32] {
        let scales = (self.p.sgd.scales as usize).saturating_sub(first).min(g.len());
        if scales == 0 {
            return g;
        }
        buffer.clear();
        buffer.extend_from_slice(g);
        with_l1(self.level, &g[..scales], &w[..scales], self.p.sgd.l1, &mut buffer[..scales]);
        buffer
    }

    /// Steps elements from place `first` on that share no exponents; the weights are not yet rounded.
    fn run(&self, first: usize, rounds: bool, g: &[f32], v: &mut [f32], w: &mut [f32], scratch: &mut Scratch) {
        let sgd = &self.p.sgd;
        let Scratch { gradient: buffer, rounded, .. } = scratch;
        let mut g = self.gradient(first, g, w, buffer);
        if rounds {
            rounded.clear();
            rounded.extend_from_slice(g);
            self.each(self.noise[2], first, rounded);
            g = rounded;
        }
        update(self.level, g, v, w, sgd.momentum, sgd.weight_decay, self.lr);
        if rounds {
            self.each(self.noise[1], first, v);
        }
    }

    /// Steps one row from place `first` on; the weights are not yet rounded. Returns their largest size.
    fn row(&self, first: usize, g: &[f32], v: &mut [f32], w: &mut [f32], scratch: &mut Scratch) -> f32 {
        let (level, sgd, n) = (self.level, &self.p.sgd, g.len());
        let Scratch { gradient: buffer, rounded: new_v, .. } = scratch;
        let (g, mut max) = (self.gradient(first, g, w, buffer), 0.0);
        if self.p.round_gradients == 0 {
            update(level, g, v, w, sgd.momentum, sgd.weight_decay, self.lr);
            largest(level, w, &mut max);
            return max;
        }
        largest(level, g, &mut max);
        let e = bfp::exponent(max);
        let (into, back) = (bfp::power(21 - e), bfp::power(e - 6));
        let rate = Rate { mu: sgd.momentum, wd: sgd.weight_decay, lr: self.lr, into, back };
        let mut sizes = [0; 2];
        new_v.resize(n, 0.0);
        pieces(level, self.noise[2], first, n, |range, noise| {
            let (g, v, w) = (&g[range.clone()], &v[range.clone()], &mut w[range.clone()]);
            update_row(level, rate, noise, g, v, w, &mut new_v[range], &mut sizes);
        });
        let e = bfp::exponent(f32::from_bits(sizes[0]));
        pieces(level, self.noise[1], first, n, |range, noise| {
            round_to(level, &new_v[range.clone()], e, noise, &mut v[range]);
        });
        f32::from_bits(sizes[1])
    }

    /// Rounds one row of weights, the largest of which has size `max`; the mantissas stay in `scratch`.
    fn weights(&self, first: usize, max: f32, w: &mut [f32], scratch: &mut Scratch) -> i32 {
        let (level, e, mantissas) = (self.level, bfp::exponent(max), &mut scratch.mantissas);
        mantissas.resize(w.len(), 0);
        pieces(level, self.noise[0], first, w.len(), |range, noise| {
            round(level, &w[range.clone()], e, noise, &mut mantissas[range]);
        });
        if self.p.master_f32 == 0 {
            expand(level, mantissas, e, w);
        }
        e
    }

    /// Steps the elements of one segment, whose momenta and gradients are given, then rounds and packs its weights; without momenta and gradients only that.
    fn segment(
        &self,
        segment: &Segment,
        w: &mut [f32],
        given: Option<(&mut [f32], &[f32])>,
        packed: &mut [u8],
    ) -> Result<()> {
        let (s, steps) = (Shape::of(segment), given.is_some());
        let (v, g) = given.unwrap_or_default();
        let (elements, in_f32) = (segment.format == Format::Elements as u32, segment.format == Format::F32 as u32);
        if elements || in_f32 {
            let (v, rounds) = (Parts::new(v, GRAIN), elements && self.p.round_gradients != 0);
            w.par_chunks_mut(GRAIN).enumerate().for_each(|(i, w)| {
                let first = s.offset + i * GRAIN;
                if steps {
                    // SAFETY: each task has its own part.
                    let v = unsafe { v.part(i) };
                    let g = &g[i * GRAIN..][..w.len()];
                    with_scratch(|scratch| self.run(first, rounds, g, v, w, scratch));
                }
                if elements && self.p.master_f32 == 0 {
                    self.each(self.noise[0], first, w);
                }
            });
            return Ok(());
        }
        let v = Parts::new(v, s.columns);
        let first = |k: usize| s.offset + k * s.columns;
        // Steps row k; the largest size of its weights.
        let row = |k: usize, w: &mut [f32], scratch: &mut Scratch| {
            if steps {
                // SAFETY: each task has its own row.
                let v = unsafe { v.part(k) };
                return self.row(first(k), &g[k * s.columns..][..w.len()], v, w, scratch);
            }
            let mut max = 0.0;
            largest(self.level, w, &mut max);
            max
        };
        let rows = w.par_chunks_mut(s.columns).enumerate();
        if segment.format != Format::Conv as u32 {
            rows.for_each(|(k, w)| {
                with_scratch(|scratch| {
                    let max = row(k, w, scratch);
                    // Nobody reads mantissas that are not packed.
                    if self.p.master_f32 == 0 {
                        self.weights(first(k), max, w, scratch);
                    }
                });
            });
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
                let max = row(k, w, scratch);
                *exponent = self.weights(first(k), max, w, scratch) as i8;
                for (to, from) in weights.chunks_exact_mut(c).zip(scratch.mantissas.chunks_exact(s.c)) {
                    to[..s.c].copy_from_slice(from);
                    to[s.c..].fill(0);
                }
            });
        });
        let weights = &*weights;
        transposed.par_chunks_mut(CHANNELS * s.taps * k).enumerate().for_each(|(group, to)| {
            for tap in 0..s.taps {
                for first in (0..k).step_by(CHANNELS) {
                    // A square of bytes at a time: whole lines are read, and short runs written.
                    let mut square = [[0; CHANNELS]; CHANNELS];
                    for (i, row) in square.iter_mut().enumerate().take(s.rows.saturating_sub(first)) {
                        let at = ((first + i) * s.taps + s.taps - 1 - tap) * c + group * CHANNELS;
                        row.copy_from_slice(&weights[at..at + CHANNELS]);
                    }
                    transpose(&mut square);
                    for (to, row) in to.chunks_exact_mut(s.taps * k).zip(&square) {
                        to[tap * k + first..][..CHANNELS].copy_from_slice(row);
                    }
                }
            }
        });
        Ok(())
    }
}

/// Rows to columns: four times every row is interleaved with the one half the square below.
fn transpose(square: &mut [[i8; CHANNELS]; CHANNELS]) {
    const { assert!(CHANNELS == 16) };
    for _ in 0..4 {
        let from = *square;
        for i in 0..8 {
            let (a, b) = (&from[i], &from[i + 8]);
            for j in 0..8 {
                (square[2 * i][2 * j], square[2 * i][2 * j + 1]) = (a[j], b[j]);
                (square[2 * i + 1][2 * j], square[2 * i + 1][2 * j + 1]) = (a[j + 8], b[j + 8]);
            }
        }
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
            let given = Some((&mut v[s.elements()], &g[s.elements()]));
            step.segment(segment, &mut w[s.elements()], given, packed)?;
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
            step.segment(segment, &mut w[s.elements()], None, packed)?;
        }
        Ok(())
    }
}
