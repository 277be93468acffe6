//! The integer passes of conv2d: forward and data gradient as one implicit GEMM whose epilogue rounds and stores, and the weight gradient.
//!
//! A task computes 64 output rows, 32 channels at a time: integer sums into a small array, then scale, mask, round and add up while they are in the first-level
//! cache. Formulas: [`crate::backend::Int8`]. Not here: the integer sums themselves ([`super::dot`]: forward and data gradient, [`super::wgrad_i8`]).

use std::ops::Range;
use std::sync::PoisonError;

use rayon::prelude::*;

use super::super::Cpu;
use super::super::memory::{Parts, f32s, f32s_mut, i8s, i8s_mut, u32_of};
use super::super::noise::Source;
use super::super::simd_int8::{Level, vectorised_i8};
use super::super::stream::{Read, Write};
use super::super::tile::{self, COLUMNS, ROWS, Strip, Tile};
use super::choice::IntegerPath;
use super::dot::{self, BLOCKS, Sums};
use super::lines::Lines;
use super::packed::{Packed, Scratch};
use super::panels::Weights;
use super::taps::{Backward, Forward, Taps};
use super::winograd::{Filter, Winograd};
use super::{wgrad_i8, wgrad_packed, wgrad_wide_i8};
use crate::Result;
use crate::backend::{Bfp, Normalised, Span};
use crate::ops::batchnorm::{GradientSums, OutputSums};
use crate::ops::conv2d::{Conv2dI8, Conv2dStreamI8};
use crate::ops::quantize::Form;
use crate::quant::bfp;
use crate::quant::layout::{blocks, blocks_across, pad};

/// Where the integer sums come from.
enum Engine<'a> {
    /// The reference.
    Plain(dot::Gemm<'a>),
    /// The same products on packed factors.
    Packed(Packed<'a>),
    /// Fewer products.
    Winograd(Filter<'a>),
}

impl Engine<'_> {
    /// Blocks of 64 rows of a task.
    fn blocks(&self) -> usize {
        match self {
            Engine::Plain(_) => 1,
            Engine::Packed(packed) => packed.blocks(),
            Engine::Winograd(filter) => filter.blocks(),
        }
    }

    /// Calls `each(block, column, sums)` for the blocks of rows `range` of a tensor of `rows` rows and every 32 of `width` channels.
    fn sums(
        &self,
        level: Level,
        taps: &impl Taps,
        x: &[i8],
        range: Range<usize>,
        rows: usize,
        each: &mut dyn FnMut(usize, usize, &Sums),
    ) {
        let there = |block: usize| (rows - block * ROWS).min(ROWS);
        match self {
            Engine::Plain(gemm) => {
                let mut sums = Sums::new();
                for block in range {
                    for column in 0..blocks_across(gemm.width) {
                        gemm.block(taps, block * ROWS, there(block), column, &mut sums);
                        each(block, column, &sums);
                    }
                }
            }
            Engine::Packed(packed) => packed.sums(level, taps, x, range, rows, each),
            Engine::Winograd(filter) => filter.sums(x, range, rows, each),
        }
    }
}

/// What a pass reads.
struct Input<'a> {
    engine: Engine<'a>,
    x: &'a [i8],
    /// Per image.
    row_exponents: &'a [i8],
    /// Rows of an image.
    image: usize,
    /// Per output channel; `None`: 0.
    column_exponents: Option<&'a [i8]>,
    noise: Source,
}

/// Rows, output channels, exponents and mantissas; the latter two are empty where nothing is stored.
struct Output<'a> {
    rows: usize,
    channels: usize,
    mantissas: &'a mut [i8],
    exponents: &'a mut [i8],
}

/// A residual stream that is written, on top of another one where there is one.
struct Stream<'a> {
    other: Option<Read<'a>>,
    sum: Write<'a>,
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
    /// Scales of the rows of block `number`.
    fn row_scales(&self, number: usize, rows: usize) -> [f32; ROWS] {
        let (first, last) = (number * ROWS, rows - 1);
        std::array::from_fn(|i| bfp::power(i32::from(self.row_exponents[(first + i).min(last) / self.image]) - 6))
    }

    /// Runs the GEMM and its epilogue, some blocks of 64 rows a task.
    fn run(
        &self,
        level: Level,
        taps: &impl Taps,
        out: Output,
        sums: &mut [OutputSums],
        masked: Option<(Mask, &mut [GradientSums])>,
        stream: Option<Stream>,
    ) {
        let (channels, stride, all) = (out.channels, pad(out.channels), out.rows);
        let (across, stored) = (blocks_across(channels), !out.mantissas.is_empty());
        let (strips, group) = (all.div_ceil(ROWS), self.engine.blocks());
        let (mantissas, exponents) = (Parts::new(out.mantissas, ROWS * stride), Parts::new(out.exponents, across));
        let sums = Parts::new(sums, stride);
        let (mask, gradients) = match masked {
            Some((mask, sums)) => (Some(mask), sums),
            None => (None, &mut [][..]),
        };
        let gradients = Parts::new(gradients, stride);
        (0..strips.div_ceil(group)).into_par_iter().for_each(|task| {
            let range = task * group..((task + 1) * group).min(strips);
            let scales: [[f32; ROWS]; BLOCKS] =
                std::array::from_fn(|i| self.row_scales((range.start + i).min(range.end - 1), all));
            let mut tile = Tile::new();
            self.engine.sums(level, taps, self.x, range.clone(), all, &mut |number, column, acc| {
                // SAFETY: each task has its own numbers, and uses one after the other.
                let (mantissas, exponents) = unsafe { (mantissas.part(number), exponents.part(number)) };
                // SAFETY: as above.
                let (sums, gradients) = unsafe { (sums.part(number), gradients.part(number)) };
                let mut strip = Strip { number, channels, mantissas, exponents };
                let (first, rows, k) = (number * ROWS, (all - number * ROWS).min(ROWS), column * COLUMNS);
                let columns: [f32; COLUMNS] = std::array::from_fn(|j| {
                    let exponents = self.column_exponents.map_or(Some(0), |all| all.get(k + j).copied());
                    exponents.map_or(0.0, |e| bfp::power(i32::from(e) - 6))
                });
                scale(level, acc, &scales[number - range.start], &columns, &mut tile.values);
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
                if let Some(stream) = &stream {
                    if let Some(other) = &stream.other {
                        other.add_to(level, number, column, rows, &mut tile);
                    }
                    // SAFETY: as above.
                    unsafe { stream.sum.put(level, number, column, &tile) };
                }
                if stored {
                    strip.put(level, column, &mut tile, self.noise);
                }
                if !sums.is_empty() {
                    tile::output_sums(level, &tile, rows, &mut sums[k..]);
                }
                if !gradients.is_empty() {
                    tile::gradient_sums(level, &tile, &mut gradients[k..]);
                }
            });
        });
    }
}

impl Cpu {
    /// What computes the sums of a pass; `shape` says whether Winograd's algorithm can with given products, `lines` how tiles find rows in lines of pixels.
    fn engine<'a>(
        &self,
        shape: impl Fn(IntegerPath) -> Option<Winograd>,
        lines: Option<Lines>,
        rows: usize,
        x: &'a [i8],
        w: Weights<'a>,
        scratch: &'a mut Scratch,
    ) -> Engine<'a> {
        let products = self.products.of_depth(w.taps * w.used);
        match (shape(products), products.form()) {
            (Some(shape), Some(_)) => Engine::Winograd(Filter::new(products, shape, w, scratch)),
            (None, Some(form)) => Engine::Packed(Packed::new(products, form, rows, lines, w, scratch)),
            (_, None) => Engine::Plain(dot::Gemm { x, w: w.w, width: w.width, flipped: w.flipped }),
        }
    }

    pub(in super::super) fn conv2d_fwd_i8(
        &self,
        p: &Conv2dI8,
        x: Bfp,
        w: Bfp,
        step: Span,
        y: Bfp,
        sums: Span,
    ) -> Result<()> {
        let stored = Conv2dStreamI8 { product: *p, add: 0, other: 0, form: 0, store: 1 };
        self.forward_i8("conv2d_fwd_i8", &stored, [x, w, y], step, None, sums)
    }

    #[allow(clippy::too_many_arguments)]
    pub(in super::super) fn conv2d_stream_i8(
        &self,
        p: &Conv2dStreamI8,
        x: Bfp,
        w: Bfp,
        step: Span,
        other: Bfp,
        s: Bfp,
        q: Bfp,
        sums: Span,
    ) -> Result<()> {
        self.forward_i8("conv2d_stream_i8", p, [x, w, q], step, Some([other, s]), sums)
    }

    /// The forward pass; `stream`: what is added, and where the sums go, where they are wanted.
    fn forward_i8(
        &self,
        op: &'static str,
        p: &Conv2dStreamI8,
        [x, w, y]: [Bfp; 3],
        step: Span,
        stream: Option<[Bfp; 2]>,
        sums: Span,
    ) -> Result<()> {
        let (conv, shape) = (&p.product.conv, p.product.conv.padded());
        let (n, k, rows, stored) = (conv.n as usize, conv.k as usize, conv.rows(), usize::from(p.store != 0));
        let [other, sum] = stream.unwrap_or([Bfp::f32(step); 2]);
        let of = |form: u32, there: bool| if there { Form::of(form).bytes(rows, k) } else { [0; 2] };
        let (added, written) = (of(p.other, p.add != 0), of(p.form, stream.is_some()));
        let io = self.memory.open(
            op,
            [
                (x.mantissas, shape.x_len()),
                (x.exponents, n),
                (w.mantissas, k * (shape.r * shape.s * shape.c) as usize),
                (w.exponents, k),
                (step, 4),
                (other.mantissas, added[0]),
                (other.exponents, added[1]),
            ],
            [
                (y.mantissas, stored * rows * pad(k)),
                (y.exponents, stored * blocks(rows, k)),
                (sums, stored * rows.div_ceil(ROWS) * pad(k) * size_of::<OutputSums>()),
                (sum.mantissas, written[0]),
                (sum.exponents, written[1]),
            ],
        )?;
        let ([x, xe, w, we, step, other, others], [y, ye, sums, sum, sum_exponents]) = (io.read, io.write);
        let weights = Weights {
            w: i8s(w),
            width: k,
            taps: (shape.r * shape.s) as usize,
            depth: shape.c as usize,
            used: conv.c.next_multiple_of(4) as usize,
            flipped: false,
            line: None,
        };
        let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let input = Input {
            engine: self.engine(
                |products| Winograd::forward(products, conv),
                Lines::forward(&shape),
                rows,
                i8s(x),
                weights,
                &mut scratch,
            ),
            x: i8s(x),
            row_exponents: i8s(xe),
            image: (conv.p * conv.q) as usize,
            column_exponents: Some(i8s(we)),
            noise: Source::new(&p.product.noise, u32_of(step)),
        };
        let out = Output { rows, channels: k, mantissas: i8s_mut(y), exponents: i8s_mut(ye) };
        let stream = stream.map(|_| Stream {
            other: (p.add != 0).then(|| Read::new(p.other, other, others, k)),
            sum: Write::new(p.form, sum, sum_exponents, k),
        });
        input.run(self.level, &Forward(&shape), out, bytemuck::cast_slice_mut(sums), None, stream);
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
        let weights = Weights {
            w: i8s(w),
            width: c,
            taps: (shape.r * shape.s) as usize,
            depth: shape.k as usize,
            used: conv.k.next_multiple_of(4) as usize,
            flipped: true,
            line: None,
        };
        let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let input = Input {
            engine: self.engine(
                |products| Winograd::backward(products, conv),
                Lines::backward(&shape),
                rows,
                i8s(dyd),
                weights,
                &mut scratch,
            ),
            x: i8s(dyd),
            row_exponents: i8s(ed),
            image: (conv.h * conv.w) as usize,
            column_exponents: None,
            noise: Source::new(&p.noise, u32_of(step)),
        };
        let mask = Mask { mantissas: i8s(before), exponents: i8s(before_exponents), affine: f32s(affine) };
        let masked = (there == 1).then_some((mask, bytemuck::cast_slice_mut(sums)));
        let out = Output { rows, channels: c, mantissas: i8s_mut(dx), exponents: i8s_mut(dxe) };
        if conv.stride_h == 1 && conv.stride_w == 1 {
            input.run(self.level, &Backward::<true>(&shape), out, &mut [], masked, None);
        } else {
            input.run(self.level, &Backward::<false>(&shape), out, &mut [], masked, None);
        }
        Ok(())
    }

    /// Bytes of scratch memory of the weight gradient: only packed factors need any.
    pub(in super::super) fn conv2d_wgrad_i8_workspace(&self, p: &Conv2dI8) -> usize {
        let products = self.products.of_depth(p.conv.rows());
        match products.form() {
            Some(_) if p.wide == 0 => wgrad_packed::Split::new(products, &p.conv).workspace(),
            _ => 0,
        }
    }

    pub(in super::super) fn conv2d_wgrad_i8(&self, p: &Conv2dI8, x: Bfp, dyw: Bfp, dw: Span, ws: Span) -> Result<()> {
        let (conv, shape) = (&p.conv, p.conv.padded());
        let wide = p.wide != 0;
        let dyw_bytes = shape.y_len() << usize::from(wide);
        let io = self.memory.open(
            "conv2d_wgrad_i8",
            [(x.mantissas, shape.x_len()), (dyw.mantissas, dyw_bytes), (dyw.exponents, conv.k as usize)],
            [(dw, conv.w_len() * 4), (ws, self.conv2d_wgrad_i8_workspace(p))],
        )?;
        let ([x, dyw, ew], [dw, ws]) = (io.read, io.write);
        let (x, dyw, ew, dw) = (i8s(x), i8s(dyw), i8s(ew), f32s_mut(dw));
        let products = self.products.of_depth(conv.rows());
        match products.form() {
            // Both bytes at once, unpacked.
            _ if wide => wgrad_wide_i8::run(self.level, conv, &shape, x, dyw, ew, dw),
            Some(form) => {
                let ws = bytemuck::cast_slice_mut(ws);
                wgrad_packed::run((products, form), self.level, conv, &shape, x, dyw, ew, dw, ws);
            }
            None => wgrad_i8::run(conv, &shape, x, dyw, ew, dw),
        }
        Ok(())
    }
}
