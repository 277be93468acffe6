//! The 8-bit batchnorm that reads a residual stream, backward: from dZ to the gradient of the stream, in f32.
//!
//! Formulas: [`crate::backend::Int8::batchnorm_bwd_stream_i8`]. Not here: dY for a convolution, which is rounded ([`super::i8_bwd`]).

use rayon::prelude::*;

use super::super::Cpu;
use super::super::memory::{Parts, f32s, f32s_mut, i8s};
use super::super::simd_int8::vectorised_i8;
use super::super::tile::{COLUMNS, ROWS};
use super::i8::{CHANNELS, Stored};
use super::i8_bwd::Coefficients;
use crate::Result;
use crate::backend::{Bfp, Span};
use crate::ops::batchnorm::{BatchNormBwdStreamI8, GradientSums, SizesI8};

vectorised_i8! {
    /// `out = dY`, on top of `other` unless that is empty, with `dY = fma(A, dz, fma(B, y, D))`, of one block of channels of a pixel; `scales` of dz and y.
    fn gradient(dz: &[i8], y: &[i8], scales: [f32; 2], factors: [&[f32]; 3], other: &[f32], out: &mut [f32]) {
        let n = out.len();
        let (dz, y, [a, b, d]) = (&dz[..n], &y[..n], factors);
        let (a, b, d) = (&a[..n], &b[..n], &d[..n]);
        for j in 0..n {
            out[j] = a[j].mul_add(f32::from(dz[j]) * scales[0], b[j].mul_add(f32::from(y[j]) * scales[1], d[j]));
        }
        out.iter_mut().zip(other).for_each(|(out, other)| *out += *other);
    }
}

impl Cpu {
    /// `channel`: gamma, mean, 1/std; `written`: dgamma, dbeta, dx, scratch memory.
    #[allow(clippy::too_many_arguments)]
    pub(in super::super) fn batchnorm_bwd_stream_i8(
        &self,
        p: &BatchNormBwdStreamI8,
        dz: Bfp,
        sums: Span,
        y: Bfp,
        channel: [Span; 3],
        other: Span,
        written: [Span; 4],
    ) -> Result<()> {
        let s = SizesI8::of_stream(p);
        let (one, stored, all) = (s.c * 4, s.rows * s.stride, s.rows * s.c * 4);
        let (channel, [dgamma, dbeta, dx, ws]) = (channel.map(|span| (span, one)), written);
        let io = self.memory.open(
            "batchnorm_bwd_stream_i8",
            [
                (dz.mantissas, stored),
                (dz.exponents, s.exponents()),
                (sums, s.sums() * size_of::<GradientSums>()),
                (y.mantissas, stored),
                (y.exponents, s.exponents()),
                channel[0],
                channel[1],
                channel[2],
                (other, if p.add != 0 { all } else { 0 }),
            ],
            [(dgamma, one), (dbeta, one), (dx, all), (ws, Self::batchnorm_bwd_stream_i8_workspace(p))],
        )?;
        let ([dz, dze, sums, y, ye, gamma, mean, invstd, other], written) = (io.read, io.write.map(f32s_mut));
        let (dz, y) =
            (Stored { mantissas: i8s(dz), exponents: i8s(dze) }, Stored { mantissas: i8s(y), exponents: i8s(ye) });
        let sums: &[GradientSums] = bytemuck::cast_slice(sums);
        let ([gamma, mean, invstd, other], [dgamma, dbeta, dx, ws]) = ([gamma, mean, invstd, other].map(f32s), written);
        let (a, ws) = ws.split_at_mut(s.c);
        let (b, ws) = ws.split_at_mut(s.c);
        let d = &mut ws[..s.c];
        let groups = [&mut *a, &mut *b, &mut *d, dgamma, dbeta].map(|all| Parts::new(all, CHANNELS));
        (0..s.c.div_ceil(CHANNELS)).into_par_iter().for_each(|group| {
            // SAFETY: each task has its own group of channels.
            let [a, b, d, dgamma, dbeta] = unsafe { groups.each_ref().map(|all| all.part(group)) };
            for i in 0..a.len() {
                let of = Coefficients::of(&s, (&dz, &y), sums, [gamma, mean, invstd], group * CHANNELS + i);
                (a[i], b[i], d[i], dgamma[i], dbeta[i]) = (of.a, of.b, of.d, of.dgamma, of.dbeta);
            }
        });
        let (level, factors) = (self.level, [&*a, &*b, &*d]);
        dx.par_chunks_mut(ROWS * s.c).enumerate().for_each(|(block, dx)| {
            for (i, dx) in dx.chunks_exact_mut(s.c).enumerate() {
                let row = block * ROWS + i;
                let other = other.get(row * s.c..(row + 1) * s.c).unwrap_or_default();
                for (column, dx) in dx.chunks_mut(COLUMNS).enumerate() {
                    let (first, at) = (column * COLUMNS, row * s.stride + column * COLUMNS);
                    let scales = [dz.scale(&s, row, column), y.scale(&s, row, column)];
                    let (dz, y, other) =
                        (&dz.mantissas[at..], &y.mantissas[at..], other.get(first..).unwrap_or_default());
                    gradient(level, dz, y, scales, factors.map(|all| &all[first..]), other, dx);
                }
            }
        });
        Ok(())
    }

    /// Bytes of scratch memory: three coefficients of each channel.
    pub(in super::super) fn batchnorm_bwd_stream_i8_workspace(p: &BatchNormBwdStreamI8) -> usize {
        3 * p.c as usize * 4
    }
}
