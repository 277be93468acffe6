//! The end of a classifier on the CPU, image by image and class by class. Formulas and order: [`crate::ops::classifier`].

use rayon::prelude::*;

use super::Cpu;
use super::lane_sums::{LANES, add_up, in_lanes};
use super::memory::{f32s, f32s_mut};
use super::simd_int8::{Level, vectorised_i8};
use super::softmax_xent::check;
use crate::Result;
use crate::backend::Span;
use crate::ops::Metrics;
use crate::ops::classifier::{Classifier, TOP1, TOP5, exp, ln};

vectorised_i8! {
    /// Products of both, added to their lanes.
    fn products(x: &[f32], w: &[f32], lanes: &mut [f64; LANES]) {
        let ((x32, x_rest), (w32, w_rest)) = (x.as_chunks::<LANES>(), w.as_chunks::<LANES>());
        for (x, w) in x32.iter().zip(w32) {
            for i in 0..LANES {
                lanes[i] += f64::from(x[i]) * f64::from(w[i]);
            }
        }
        for ((lane, x), w) in lanes.iter_mut().zip(x_rest).zip(w_rest) {
            *lane += f64::from(*x) * f64::from(*w);
        }
    }
}

vectorised_i8! {
    /// `sums += factor * values`.
    fn add_scaled(factor: f64, values: &[f32], sums: &mut [f64]) {
        sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += factor * f64::from(*value));
    }
}

/// Columns that one pass of the backward sums holds.
const COLUMNS: usize = 64;

/// `out[j] = f32(sum_i factors[i] * row_i[j])`, `rows` of `out.len()` elements one after the other.
fn weighted(level: Level, factors: impl Iterator<Item = f32> + Clone, rows: &[f32], out: &mut [f32]) {
    let c = out.len();
    for (block, out) in out.chunks_mut(COLUMNS).enumerate() {
        let (first, mut sums) = (block * COLUMNS, [0.0f64; COLUMNS]);
        let sums = &mut sums[..out.len()];
        for (factor, row) in factors.clone().zip(rows.chunks_exact(c)) {
            add_scaled(level, f64::from(factor), &row[first..first + sums.len()], sums);
        }
        out.iter_mut().zip(sums).for_each(|(out, sum)| *out = *sum as f32);
    }
}

/// One image: gradient of its logits, its loss, its hits.
fn image(p: &Classifier, logits: &[f32], label: usize, dlogits: &mut [f32]) -> (f64, u32) {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let power = |logit: &f32| exp(f64::from(logit - largest));
    let [sum] = in_lanes(logits.len(), |k| [power(&logits[k])]);
    for (k, (d, logit)) in dlogits.iter_mut().zip(logits).enumerate() {
        let hit = if k == label { 1.0 } else { 0.0 };
        *d = ((power(logit) / sum - hit) / f64::from(p.n)) as f32;
    }
    let own = logits[label];
    let before = logits.iter().enumerate().filter(|(k, v)| **v > own || (**v == own && *k < label)).count();
    let known = !own.is_nan();
    let hits = if known && before == 0 { TOP1 } else { 0 } | if known && before < 5 { TOP5 } else { 0 };
    (ln(sum) - f64::from(own - largest), hits)
}

impl Cpu {
    #[allow(clippy::too_many_arguments)] // an operator's tensors
    pub(super) fn classifier_fwd(
        &self,
        p: &Classifier,
        x: Span,
        w: Span,
        bias: Span,
        labels: Span,
        logits: Span,
        dlogits: Span,
        losses: Span,
        hits: Span,
    ) -> Result<()> {
        let (n, c, k) = (p.n as usize, p.c as usize, p.k as usize);
        let io = self.memory.open(
            "classifier_fwd_f32",
            [(x, n * c * 4), (w, k * c * 4), (bias, p.bias as usize * k * 4), (labels, n * 4)],
            [(logits, n * k * 4), (dlogits, n * k * 4), (losses, n * 8), (hits, n * 4)],
        )?;
        let ([x, w, bias, labels], [logits, dlogits, losses, hits]) = (io.read, io.write);
        let (x, w, bias, labels): (_, _, _, &[u32]) = (f32s(x), f32s(w), f32s(bias), bytemuck::cast_slice(labels));
        let (logits, dlogits) = (f32s_mut(logits), f32s_mut(dlogits));
        let (losses, hits): (&mut [f64], &mut [u32]) =
            (bytemuck::cast_slice_mut(losses), bytemuck::cast_slice_mut(hits));
        check(p.k, labels)?;
        let level = self.level;
        let outputs = logits.par_chunks_mut(k).zip(dlogits.par_chunks_mut(k)).zip(losses).zip(hits);
        x.par_chunks(c).zip(labels).zip(outputs).for_each(|((x, label), (((logits, dlogits), loss), hits))| {
            for (k, (logit, w)) in logits.iter_mut().zip(w.chunks_exact(c)).enumerate() {
                let mut lanes = [0.0; LANES];
                products(level, x, w, &mut lanes);
                let [sum] = add_up(lanes.map(|lane| [lane]));
                *logit = bias.get(k).map_or(sum, |bias| sum + f64::from(*bias)) as f32;
            }
            (*loss, *hits) = image(p, logits, *label as usize, dlogits);
        });
        Ok(())
    }

    #[allow(clippy::too_many_arguments)] // an operator's tensors
    pub(super) fn classifier_bwd(
        &self,
        p: &Classifier,
        x: Span,
        w: Span,
        dlogits: Span,
        losses: Span,
        hits: Span,
        dx: Span,
        dw: Span,
        dbias: Span,
        metrics: Span,
    ) -> Result<()> {
        let (n, c, k) = (p.n as usize, p.c as usize, p.k as usize);
        let io = self.memory.open(
            "classifier_bwd_f32",
            [(x, n * c * 4), (w, k * c * 4), (dlogits, n * k * 4), (losses, n * 8), (hits, n * 4)],
            [(dx, n * c * 4), (dw, k * c * 4), (dbias, p.bias as usize * k * 4), (metrics, size_of::<Metrics>())],
        )?;
        let ([x, w, dlogits, losses, hits], [dx, dw, dbias, metrics]) = (io.read, io.write);
        let (x, w, dlogits) = (f32s(x), f32s(w), f32s(dlogits));
        let (losses, hits): (&[f64], &[u32]) = (bytemuck::cast_slice(losses), bytemuck::cast_slice(hits));
        let level = self.level;
        f32s_mut(dx)
            .par_chunks_mut(c)
            .zip(dlogits.par_chunks(k))
            .for_each(|(dx, dlogits)| weighted(level, dlogits.iter().copied(), w, dx));
        let class = |number: usize| dlogits.iter().skip(number).step_by(k).copied();
        f32s_mut(dw).par_chunks_mut(c).enumerate().for_each(|(k, dw)| weighted(level, class(k), x, dw));
        for (k, dbias) in f32s_mut(dbias).iter_mut().enumerate() {
            *dbias = class(k).fold(0.0f64, |sum, d| sum + f64::from(d)) as f32;
        }
        let metrics: &mut Metrics = &mut bytemuck::cast_slice_mut::<u8, Metrics>(metrics)[0];
        let [loss] = in_lanes(losses.len(), |n| [losses[n]]);
        metrics.loss_sum += loss;
        metrics.top1 += hits.iter().filter(|hits| **hits & TOP1 != 0).count() as u64;
        metrics.top5 += hits.iter().filter(|hits| **hits & TOP5 != 0).count() as u64;
        metrics.count += u64::from(p.n);
        Ok(())
    }
}
