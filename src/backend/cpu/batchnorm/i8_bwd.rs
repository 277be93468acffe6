//! The 8-bit batchnorm, backward: from dZ to both quantised output gradients of the convolution before it.
//!
//! Formulas: [`crate::backend::Int8::batchnorm_bwd_i8`]. Exponents come from bounds, so that one pass over the data does it all.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::super::Cpu;
use super::super::lane_sums::in_lanes;
use super::super::memory::{Parts, f32s, f32s_mut, i8s, i8s_mut, u32_of};
use super::super::noise::Source;
use super::super::quantize::{RUN, Run, with_scratch};
use super::super::simd_int8::{Level, vectorised_i8};
use super::super::tile::{COLUMNS, ROWS};
use super::i8::{CHANNELS, Stored, power};
use crate::Result;
use crate::backend::{BatchNormGradients, Bfp, Span};
use crate::ops::batchnorm::{BatchNormI8, GradientSums, OutputSums, SizesI8};
use crate::quant::bfp;

/// Room above a bound for the roundings of dY.
const MARGIN: f64 = 1.0 + 1.0 / 1024.0;

/// `max |y - mean|` and `max |dz|` of one image and channel.
#[repr(C)]
#[derive(Clone, Copy, Default, Pod, Zeroable)]
pub(super) struct Extremes {
    y: f64,
    g: f64,
}

vectorised_i8! {
    /// `dY = fma(A, dz, fma(B, y, D))` of one block of channels of a pixel, times each scale.
    fn gradient(
        dz: &[i8], dz_scale: f32, y: &[i8], y_scale: f32, a: &[f32], b: &[f32], d: &[f32],
        first: (&[f32], &mut [f32]), second: (&[f32], &mut [f32]),
    ) {
        let n = second.1.len();
        let (dz, y, a, b, d) = (&dz[..n], &y[..n], &a[..n], &b[..n], &d[..n]);
        let ((s1, o1), (s2, o2)) = (first, second);
        let (s2, wanted) = (&s2[..n], !o1.is_empty());
        if wanted {
            let (s1, o1) = (&s1[..n], &mut o1[..n]);
            for j in 0..n {
                let dy = a[j].mul_add(f32::from(dz[j]) * dz_scale, b[j].mul_add(f32::from(y[j]) * y_scale, d[j]));
                o1[j] = dy * s1[j];
                o2[j] = dy * s2[j];
            }
        } else {
            for j in 0..n {
                let dy = a[j].mul_add(f32::from(dz[j]) * dz_scale, b[j].mul_add(f32::from(y[j]) * y_scale, d[j]));
                o2[j] = dy * s2[j];
            }
        }
    }
}

/// What the bounds are made of.
struct Bounds<'a> {
    level: Level,
    s: SizesI8,
    dz: Stored<'a>,
    y: Stored<'a>,
    sums: &'a [GradientSums],
    y_sums: &'a [OutputSums],
    mean: &'a [f32],
}

impl Bounds<'_> {
    /// Calls `each` for the blocks of channels of a row: first channel, channels, scales of y and dz, and their part of `out`.
    fn blocks(&self, row: usize, out: &mut [Extremes], each: impl Fn(usize, usize, [f64; 2], &mut [Extremes])) {
        for (column, out) in out.chunks_mut(COLUMNS).enumerate() {
            let scales = [&self.y, &self.dz].map(|t| f64::from(t.scale(&self.s, row, column)));
            each(column * COLUMNS, out.len(), scales, out);
        }
    }

    /// Extremes of image `n`, channel by channel.
    fn image(&self, n: usize, out: &mut [Extremes]) {
        let s = &self.s;
        out.fill(Extremes::default());
        if s.whole_blocks() {
            let per_image = s.pixels / ROWS;
            for tile in n * per_image..(n + 1) * per_image {
                self.blocks(tile * ROWS, out, |first, width, scales, out| {
                    let at = tile * s.stride + first;
                    let (y, dz) = (&self.y_sums[at..][..width], &self.sums[at..][..width]);
                    of_sums(self.level, y, dz, scales, &self.mean[first..], out);
                });
            }
        } else {
            for row in n * s.pixels..(n + 1) * s.pixels {
                self.blocks(row, out, |first, width, scales, out| {
                    let at = row * s.stride + first;
                    let (y, dz) = (&self.y.mantissas[at..][..width], &self.dz.mantissas[at..][..width]);
                    of_row(self.level, y, dz, scales, &self.mean[first..], out);
                });
            }
        }
    }
}

/// Raises extremes by a distance of y from the mean and by a size of dz.
#[inline(always)]
fn raise(out: &mut Extremes, y: f64, g: f64) {
    let y = y.abs();
    out.y = if y > out.y { y } else { out.y };
    out.g = if g > out.g { g } else { out.g };
}

vectorised_i8! {
    /// Extremes of the channels of a block, from its sums; `scales` of y and dz.
    fn of_sums(y: &[OutputSums], dz: &[GradientSums], scales: [f64; 2], mean: &[f32], out: &mut [Extremes]) {
        for (((out, y), dz), mean) in out.iter_mut().zip(y).zip(dz).zip(mean) {
            for m in [y.min, y.max] {
                raise(out, f64::from(m) * scales[0] - f64::from(*mean), f64::from(dz.max) * scales[1]);
            }
        }
    }
}

vectorised_i8! {
    /// The same from a pixel's mantissas.
    fn of_row(y: &[i8], dz: &[i8], scales: [f64; 2], mean: &[f32], out: &mut [Extremes]) {
        for (((out, y), dz), mean) in out.iter_mut().zip(y).zip(dz).zip(mean) {
            raise(out, f64::from(*y) * scales[0] - f64::from(*mean), f64::from(dz.unsigned_abs()) * scales[1]);
        }
    }
}

/// What the gradients of a channel's parameters and of its input come to.
pub(super) struct Coefficients {
    pub dgamma: f32,
    pub dbeta: f32,
    pub a: f32,
    pub b: f32,
    pub d: f32,
    /// `|A*m1|`.
    shift: f64,
}

impl Coefficients {
    /// Of channel `c`, from the sums over dZ; `channel` are gamma, mean and 1/std of all.
    pub(super) fn of(
        s: &SizesI8,
        (dz, y): (&Stored, &Stored),
        sums: &[GradientSums],
        channel: [&[f32]; 3],
        c: usize,
    ) -> Coefficients {
        let [sum, dot] = in_lanes(s.tiles, |tile| {
            let (sums, block) = (sums[tile * s.stride + c], tile * s.across + c / COLUMNS);
            let (e, ey) = (i32::from(dz.exponents[block]), i32::from(y.exponents[block]));
            [f64::from(sums.sum) * power(e - 6), f64::from(sums.products) * power(e - 6 + ey - 6)]
        });
        let [gamma, mean, invstd] = channel.map(|all| f64::from(all[c]));
        let m = s.rows as f64;
        let u = (dot - mean * sum) * invstd;
        let (m1, m2) = (sum / m, u / m);
        let a = gamma * invstd;
        let b = -(a * m2 * invstd);
        let d = -(a * m1) - b * mean;
        let shift = (f64::from(a as f32) * m1).abs();
        Coefficients { dgamma: u as f32, dbeta: sum as f32, a: a as f32, b: b as f32, d: d as f32, shift }
    }
}

impl Cpu {
    #[allow(clippy::too_many_arguments)]
    pub(in super::super) fn batchnorm_bwd_i8(
        &self,
        p: &BatchNormI8,
        dz: Bfp,
        sums: Span,
        y: Bfp,
        y_sums: Span,
        gradients: BatchNormGradients,
        step: Span,
        dyd: Bfp,
        dyw: Bfp,
        ws: Span,
    ) -> Result<()> {
        let s = SizesI8::of(p);
        let (one, all, image) = (s.c * 4, s.rows * s.stride, s.pixels * s.stride);
        let (wanted, wide) = (usize::from(p.dgrad != 0), usize::from(p.wide != 0));
        let io = self.memory.open(
            "batchnorm_bwd_i8",
            [
                (dz.mantissas, all),
                (dz.exponents, s.exponents()),
                (sums, s.sums() * size_of::<GradientSums>()),
                (y.mantissas, all),
                (y.exponents, s.exponents()),
                (y_sums, s.sums() * size_of::<OutputSums>()),
                (gradients.gamma, one),
                (gradients.mean, one),
                (gradients.invstd, one),
                (gradients.weight_exponents, s.c),
                (gradients.input_exponents, s.n),
                (step, 4),
            ],
            [
                (gradients.dgamma, one),
                (gradients.dbeta, one),
                (dyd.mantissas, wanted * all),
                (dyd.exponents, wanted * s.n),
                (dyw.mantissas, all << wide),
                (dyw.exponents, s.c),
                (ws, Self::batchnorm_bwd_i8_workspace(p)),
            ],
        )?;
        let [dz, dze, sums, y, ye, y_sums, gamma, mean, invstd, we, xe, step] = io.read;
        let [dgamma, dbeta, dyd, ed, dyw, ew, ws] = io.write;
        let (dz, y) =
            (Stored { mantissas: i8s(dz), exponents: i8s(dze) }, Stored { mantissas: i8s(y), exponents: i8s(ye) });
        let (sums, y_sums): (&[GradientSums], &[OutputSums]) =
            (bytemuck::cast_slice(sums), bytemuck::cast_slice(y_sums));
        let ([gamma, mean, invstd], [we, xe]) = ([gamma, mean, invstd].map(f32s), [we, xe].map(i8s));
        // Whole f64 first: a workspace is aligned to 4 bytes only.
        let (_, ws, _) = bytemuck::pod_align_to_mut::<u8, f64>(ws);
        let (shift, ws) = ws.split_at_mut(s.c);
        let (extremes, ws) = ws.split_at_mut(2 * s.n * s.c);
        let extremes: &mut [Extremes] = bytemuck::cast_slice_mut(extremes);
        let mut factors: [&mut [f32]; 3] = Default::default();
        let mut rest: &mut [f32] = bytemuck::cast_slice_mut(ws);
        for factor in &mut factors {
            (*factor, rest) = std::mem::take(&mut rest).split_at_mut(s.stride);
            factor[s.c..].fill(0.0);
        }
        let [a, b, d] = factors;
        let [dgamma, dbeta] = [dgamma, dbeta].map(f32s_mut);
        let groups = [&mut a[..s.c], &mut b[..s.c], &mut d[..s.c], dgamma, dbeta];
        let (groups, shifts) = (groups.map(|all| Parts::new(all, CHANNELS)), Parts::new(shift, CHANNELS));
        (0..s.c.div_ceil(CHANNELS)).into_par_iter().for_each(|group| {
            // SAFETY: each task has its own group of channels.
            let ([a_out, b_out, d_out, dgamma, dbeta], shift) =
                unsafe { (groups.each_ref().map(|all| all.part(group)), shifts.part(group)) };
            for (i, shift) in shift.iter_mut().enumerate() {
                let of = Coefficients::of(&s, (&dz, &y), sums, [gamma, mean, invstd], group * CHANNELS + i);
                (dgamma[i], dbeta[i]) = (of.dgamma, of.dbeta);
                (a_out[i], b_out[i], d_out[i]) = (of.a, of.b, of.d);
                *shift = of.shift;
            }
        });
        let (a, b, d, shift) = (&*a, &*b, &*d, &*shift);
        let bounds = Bounds { level: self.level, s, dz, y, sums, y_sums, mean };
        extremes.par_chunks_mut(s.c).enumerate().for_each(|(n, out)| bounds.image(n, out));
        let extremes = &*extremes;
        let largest_input = power(xe.iter().copied().max().map_or(0, i32::from));
        let ew = i8s_mut(ew);
        for (c, shift) in shift.iter().enumerate() {
            let (mut r, mut y) = (0.0f64, 0.0f64);
            for n in 0..s.n {
                let extremes = &extremes[n * s.c + c];
                r = r.max(extremes.g * power(i32::from(xe[n])));
                y = y.max(extremes.y);
            }
            let (a, b) = (f64::from(a[c]).abs(), f64::from(b[c]).abs());
            ew[c] = bfp::exponent(((a * r + (b * y + shift) * largest_input) * MARGIN) as f32) as i8;
        }
        let (dyd_noise, dyw_noise) = Source::both(&p.noise, p.dyd_tensor, u32_of(step));
        let (dyd, ed) = (Parts::new(i8s_mut(dyd), image), Parts::new(i8s_mut(ed), 1));
        let (level, ew) = (self.level, &*ew);
        let (dyw, low) = i8s_mut(dyw).split_at_mut(all);
        let low = Parts::new(low, image * wide);
        dyw.par_chunks_mut(image).enumerate().for_each(|(n, dyw)| {
            // SAFETY: each task has its own image.
            let (dyd, ed, low) = unsafe { (dyd.part(n), ed.part(n), low.part(n)) };
            with_scratch(2 * s.stride, |scratch| {
                scratch.fill(0.0);
                let (d_scales, w_scales) = scratch.split_at_mut(s.stride);
                let x = bfp::power(i32::from(xe[n]));
                for c in 0..s.c {
                    w_scales[c] = bfp::power(21 - i32::from(ew[c])) * x;
                }
                if let [ed] = ed {
                    let bound = shift.iter().enumerate().map(|(c, shift)| {
                        let (extremes, a, b) = (&extremes[n * s.c + c], f64::from(a[c]).abs(), f64::from(b[c]).abs());
                        power(i32::from(we[c])) * ((a * extremes.g + (b * extremes.y + shift)) * MARGIN)
                    });
                    let e = bfp::exponent(bound.fold(0.0, f64::max) as f32);
                    *ed = e as i8;
                    for c in 0..s.c {
                        d_scales[c] = bfp::power(i32::from(we[c])) * bfp::power(21 - e);
                    }
                }
                let (mut d_run, mut w_run) = (Run::new(), Run::new());
                // A run is whole blocks of channels of consecutive pixels.
                let (mut filled, mut done) = (0, 0);
                for pixel in 0..s.pixels {
                    let row = n * s.pixels + pixel;
                    for column in 0..s.across {
                        let first = column * COLUMNS;
                        let width = (s.stride - first).min(COLUMNS);
                        if filled + width > RUN {
                            flush(level, &mut d_run, dyd_noise, n * image, done, filled, dyd, &mut []);
                            flush(level, &mut w_run, dyw_noise, n * image, done, filled, dyw, low);
                            (done, filled) = (done + filled, 0);
                        }
                        let at = row * s.stride + first;
                        let to = filled..filled + width;
                        let d_out = if dyd.is_empty() { &mut [][..] } else { &mut d_run.scaled[to.clone()] };
                        gradient(
                            level,
                            &dz.mantissas[at..],
                            dz.scale(&s, row, column),
                            &y.mantissas[at..],
                            y.scale(&s, row, column),
                            &a[first..],
                            &b[first..],
                            &d[first..],
                            (&d_scales[first..], d_out),
                            (&w_scales[first..], &mut w_run.scaled[to]),
                        );
                        filled += width;
                    }
                }
                flush(level, &mut d_run, dyd_noise, n * image, done, filled, dyd, &mut []);
                flush(level, &mut w_run, dyw_noise, n * image, done, filled, dyw, low);
            });
        });
        Ok(())
    }

    /// Bytes of scratch memory: coefficients of the channels, extremes of each image and channel, and room to align them.
    pub(in super::super) fn batchnorm_bwd_i8_workspace(p: &BatchNormI8) -> usize {
        let s = SizesI8::of(p);
        8 + (s.c + 2 * s.n * s.c) * 8 + (3 * s.stride).next_multiple_of(2) * 4
    }
}

/// Rounds what a run holds into `out`, if it is wanted, with low bytes into `low`, if they are.
#[allow(clippy::too_many_arguments)]
fn flush(
    level: Level,
    run: &mut Run,
    noise: Source,
    image: usize,
    done: usize,
    filled: usize,
    out: &mut [i8],
    low: &mut [i8],
) {
    if !out.is_empty() {
        let low = if low.is_empty() { low } else { &mut low[done..done + filled] };
        run.round_gradient(level, noise, image + done, &mut out[done..done + filled], low);
    }
}
