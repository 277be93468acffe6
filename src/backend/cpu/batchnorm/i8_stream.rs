//! The 8-bit batchnorm that reads a residual stream, or some channels of it, backward: from dZ to the gradient of the stream, in 16 bits or f32.
//!
//! Formulas: [`crate::backend::Int8::batchnorm_bwd_stream_i8`]. Not here: dY for a convolution, which is rounded ([`super::i8_bwd`]).

use rayon::prelude::*;

use super::super::Cpu;
use super::super::memory::{Parts, f32s, f32s_mut, i8s};
use super::super::select::check;
use super::super::simd_int8::vectorised_i8;
use super::super::stream::{Read, Write};
use super::super::tile::{COLUMNS, ROWS, Tile};
use super::i8::{CHANNELS, Stored};
use super::i8_bwd::Coefficients;
use crate::Result;
use crate::backend::{Bfp, Span};
use crate::ops::batchnorm::{BatchNormBwdStreamI8, GradientSums, SizesI8};
use crate::ops::quantize::Form;
use crate::quant::layout::blocks_across;

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
    /// `channel`: gamma, mean, 1/std, and the index; `written`: dgamma, dbeta, scratch memory.
    #[allow(clippy::too_many_arguments)]
    pub(in super::super) fn batchnorm_bwd_stream_i8(
        &self,
        p: &BatchNormBwdStreamI8,
        dz: Bfp,
        sums: Span,
        y: Bfp,
        channel: [Span; 4],
        [other, dx]: [Bfp; 2],
        written: [Span; 3],
    ) -> Result<()> {
        let (s, wide) = (SizesI8::of_stream(p), p.stream());
        let (one, stored, [dgamma, dbeta, ws]) = (s.c * 4, s.rows * s.stride, written);
        let added = if p.add != 0 { Form::of(p.other).bytes(s.rows, wide) } else { [0; 2] };
        let made = Form::of(p.form).bytes(s.rows, wide);
        let io = self.memory.open(
            "batchnorm_bwd_stream_i8",
            [
                (dz.mantissas, stored),
                (dz.exponents, s.exponents()),
                (sums, s.sums() * size_of::<GradientSums>()),
                (y.mantissas, stored),
                (y.exponents, s.exponents()),
                (channel[0], one),
                (channel[1], one),
                (channel[2], one),
                (channel[3], p.named() * 4),
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
        let ([dz, dze, sums, y, ye, gamma, mean, invstd, index, other, others], [dgamma, dbeta, ws, dx, dxe]) =
            (io.read, io.write);
        let index: &[u32] = bytemuck::cast_slice(index);
        check(index, p.wide)?;
        if s.rows * s.c == 0 {
            return Ok(());
        }
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
        let other = (p.add != 0).then(|| Read::new(p.other, other, others, wide));
        let dx = Write::new(p.form, dx, dxe, wide);
        // dY of `out.len()` channels of a row from channel `first` on, all of one block.
        let row = |row: usize, first: usize, out: &mut [f32]| {
            if out.is_empty() {
                return;
            }
            let (at, scales) = (row * s.stride + first, [&dz, &y].map(|t| t.scale(&s, row, first / COLUMNS)));
            let (dz, y) = (&dz.mantissas[at..], &y.mantissas[at..]);
            gradient(level, dz, y, scales, factors.map(|all| &all[first..]), out);
        };
        (0..s.tiles).into_par_iter().for_each(|number| {
            let mut tile = Tile::new();
            let rows = (s.rows - number * ROWS).min(ROWS);
            for column in 0..blocks_across(wide) {
                let first = column * COLUMNS;
                let width = (wide - first).min(COLUMNS);
                let values = tile.values.iter_mut().enumerate().take(rows);
                if p.select != 0 {
                    let below = |channel| index.partition_point(|own| (*own as usize) < channel);
                    let (from, end) = (below(first), below(first + width));
                    let places = &index[from..end];
                    // The run of channels that the block has, up to and behind the first that is of another block.
                    let cut = from.next_multiple_of(COLUMNS).min(end) - from;
                    let mut own = [0.0; COLUMNS];
                    for (i, values) in values {
                        let (head, tail) = own[..places.len()].split_at_mut(cut);
                        row(number * ROWS + i, from, head);
                        row(number * ROWS + i, from + cut, tail);
                        *values = [0.0; COLUMNS];
                        places.iter().zip(&own).for_each(|(place, own)| values[*place as usize - first] = *own);
                    }
                } else {
                    for (i, values) in values {
                        row(number * ROWS + i, first, &mut values[..width]);
                        // The last block of channels may be narrower than the one before it.
                        values[width..].fill(0.0);
                    }
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
