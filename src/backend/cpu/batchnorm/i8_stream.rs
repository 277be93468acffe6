//! The 8-bit batchnorm that reads a residual stream, backward: from dZ to the gradient of the stream, in 16 bits or f32.
//!
//! Formulas: [`crate::backend::Int8::batchnorm_bwd_stream_i8`]. Not here: dY for a convolution, which is rounded ([`super::i8_bwd`]).

use rayon::prelude::*;

use super::super::Cpu;
use super::super::memory::{Parts, f32s, f32s_mut, i8s};
use super::super::simd_int8::vectorised_i8;
use super::super::stream::{Read, Write};
use super::super::tile::{COLUMNS, ROWS, Tile};
use super::i8::{CHANNELS, Stored};
use super::i8_bwd::Coefficients;
use crate::Result;
use crate::backend::{Bfp, Span};
use crate::ops::batchnorm::{BatchNormBwdStreamI8, GradientSums, SizesI8};
use crate::ops::quantize::Form;

vectorised_i8! {
    /// `out = fma(A, dz, fma(B, y, D))` of one block of channels of a pixel; `scales` of dz and y.
    fn gradient(dz: &[i8], y: &[i8], scales: [f32; 2], factors: [&[f32]; 3], out: &mut [f32]) {
        let n = out.len();
        let (dz, y, [a, b, d]) = (&dz[..n], &y[..n], factors);
        let (a, b, d) = (&a[..n], &b[..n], &d[..n]);
        for j in 0..n {
            out[j] = a[j].mul_add(f32::from(dz[j]) * scales[0], b[j].mul_add(f32::from(y[j]) * scales[1], d[j]));
        }
    }
}

impl Cpu {
    /// `channel`: gamma, mean, 1/std; `written`: dgamma, dbeta, scratch memory.
    #[allow(clippy::too_many_arguments)]
    pub(in super::super) fn batchnorm_bwd_stream_i8(
        &self,
        p: &BatchNormBwdStreamI8,
        dz: Bfp,
        sums: Span,
        y: Bfp,
        channel: [Span; 3],
        [other, dx]: [Bfp; 2],
        written: [Span; 3],
    ) -> Result<()> {
        let s = SizesI8::of_stream(p);
        let (one, stored) = (s.c * 4, s.rows * s.stride);
        let (channel, [dgamma, dbeta, ws]) = (channel.map(|span| (span, one)), written);
        let added = if p.add != 0 { Form::of(p.other).bytes(s.rows, s.c) } else { [0; 2] };
        let made = Form::of(p.form).bytes(s.rows, s.c);
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
                (other.mantissas, added[0]),
                (other.exponents, added[1]),
            ],
            [
                (dgamma, one),
                (dbeta, one),
                (ws, Self::batchnorm_bwd_stream_i8_workspace(p)),
                (dx.mantissas, made[0]),
                (dx.exponents, made[1]),
            ],
        )?;
        let ([dz, dze, sums, y, ye, gamma, mean, invstd, other, others], [dgamma, dbeta, ws, dx, dxe]) =
            (io.read, io.write);
        let (dz, y) =
            (Stored { mantissas: i8s(dz), exponents: i8s(dze) }, Stored { mantissas: i8s(y), exponents: i8s(ye) });
        let sums: &[GradientSums] = bytemuck::cast_slice(sums);
        let ([gamma, mean, invstd], [dgamma, dbeta, ws]) =
            ([gamma, mean, invstd].map(f32s), [dgamma, dbeta, ws].map(f32s_mut));
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
        let other = (p.add != 0).then(|| Read::new(p.other, other, others, s.c));
        let dx = Write::new(p.form, dx, dxe, s.c);
        (0..s.tiles).into_par_iter().for_each(|number| {
            let mut tile = Tile::new();
            for column in 0..s.across {
                let (first, rows) = (column * COLUMNS, (s.rows - number * ROWS).min(ROWS));
                let width = (s.c - first).min(COLUMNS);
                // The last block of channels may be narrower than the one before it.
                tile.values.iter_mut().for_each(|row| row[width..].fill(0.0));
                for (i, values) in tile.values.iter_mut().enumerate().take(rows) {
                    let row = number * ROWS + i;
                    let (at, scales) = (row * s.stride + first, [&dz, &y].map(|t| t.scale(&s, row, column)));
                    let (dz, y) = (&dz.mantissas[at..], &y.mantissas[at..]);
                    gradient(level, dz, y, scales, factors.map(|all| &all[first..]), &mut values[..width]);
                }
                if let Some(other) = &other {
                    other.add_to(level, number, column, rows, &mut tile);
                }
                // SAFETY: each task has its own rows.
                unsafe { dx.put(level, number, column, &tile) };
            }
        });
        Ok(())
    }

    /// Bytes of scratch memory: three coefficients of each channel.
    pub(in super::super) fn batchnorm_bwd_stream_i8_workspace(p: &BatchNormBwdStreamI8) -> usize {
        3 * p.c as usize * 4
    }
}
