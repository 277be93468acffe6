//! Tensors that are f32 or in blocks, as [`Form`] says, block by block of 64 rows x 32 channels: residual streams, their gradients, and what is added to them.
//!
//! Formulas: [`crate::quant::bfp`]. Not here: blocks of 8 bits that are written, which have noise and sums ([`super::tile`]).

use super::memory::{Parts, f32s, i8s};
use super::simd_int8::{Level, vectorised_i8};
use super::tile::{self, COLUMNS, ROWS, Tile};
use crate::ops::quantize::Form;
use crate::quant::bfp;
use crate::quant::layout::{blocks_across, pad};

vectorised_i8! {
    /// `out = m * 2^(e-6)`.
    fn expand(m: &[i8], e: i32, out: &mut [f32]) {
        out.iter_mut().zip(m).for_each(|(out, m)| *out = bfp::value(*m, e));
    }
}

vectorised_i8! {
    /// `out = m * 2^(e-14)`.
    fn expand_16(m: &[i16], e: i32, out: &mut [f32]) {
        out.iter_mut().zip(m).for_each(|(out, m)| *out = bfp::value_16(*m, e));
    }
}

vectorised_i8! {
    /// `out = m * scale`.
    fn scale_16(m: &[i16], scale: &[f32], out: &mut [f32]) {
        out.iter_mut().zip(m).zip(scale).for_each(|((out, m), scale)| *out = f32::from(*m) * scale);
    }
}

vectorised_i8! {
    /// `to = from + to`.
    fn add(from: &[f32], to: &mut [f32]) {
        to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
    }
}

vectorised_i8! {
    /// 16-bit mantissas of a row in a block of exponent `e`.
    fn round_16(values: &[f32], e: i32, out: &mut [i16]) {
        out.iter_mut().zip(values).for_each(|(out, value)| *out = bfp::round_16(*value, e));
    }
}

/// A tensor of `c` channels that is read.
#[derive(Clone, Copy)]
pub(super) struct Read<'a> {
    form: Form,
    elements: &'a [u8],
    exponents: &'a [i8],
    c: usize,
}

impl<'a> Read<'a> {
    /// The tensor in these bytes.
    pub(super) fn new(form: u32, elements: &'a [u8], exponents: &'a [u8], c: usize) -> Read<'a> {
        Read { form: Form::of(form), elements, exponents: i8s(exponents), c }
    }

    /// The numbers of row `row` from the first channel of block `column` on, as many as `out` has.
    pub(super) fn part(&self, level: Level, row: usize, column: usize, out: &mut [f32]) {
        let (first, stride) = (column * COLUMNS, pad(self.c));
        let place = row * stride + first;
        let e = || i32::from(self.exponents[row / ROWS * blocks_across(self.c) + column]);
        match self.form {
            Form::F32 => out.copy_from_slice(&f32s(self.elements)[row * self.c + first..][..out.len()]),
            Form::Stored => expand(level, &i8s(self.elements)[place..], e(), out),
            Form::Bfp16 => expand_16(level, &bytemuck::cast_slice(self.elements)[place..], e(), out),
        }
    }

    /// Adds block `column` of the rows from block `number` on to the tile, for as many rows as there are.
    pub(super) fn add_to(&self, level: Level, number: usize, column: usize, rows: usize, tile: &mut Tile) {
        let width = (self.c - column * COLUMNS).min(COLUMNS);
        let mut part = [0.0; COLUMNS];
        for (i, values) in tile.values.iter_mut().enumerate().take(rows) {
            self.part(level, number * ROWS + i, column, &mut part[..width]);
            add(level, &part[..width], &mut values[..width]);
        }
    }

    /// Fills the tile with block `column` of the rows from block `number` on, for as many rows as there are.
    pub(super) fn fill(&self, level: Level, number: usize, column: usize, rows: usize, tile: &mut Tile) {
        let width = (self.c - column * COLUMNS).min(COLUMNS);
        for (i, values) in tile.values.iter_mut().enumerate().take(rows) {
            self.part(level, number * ROWS + i, column, &mut values[..width]);
            values[width..].fill(0.0);
        }
    }

    /// Fills the tile with these channels, in f32 or 16 bits, of the rows from block `number` on, for as many rows as there are.
    pub(super) fn gather(&self, level: Level, number: usize, channels: &[u32], rows: usize, tile: &mut Tile) {
        let (stride, across, width) = (pad(self.c), blocks_across(self.c), channels.len());
        if self.form == Form::F32 {
            let from = f32s(self.elements)[number * ROWS * self.c..].chunks_exact(self.c);
            for (values, from) in tile.values.iter_mut().zip(from).take(rows) {
                values.iter_mut().zip(channels).for_each(|(value, channel)| *value = from[*channel as usize]);
                values[width..].fill(0.0);
            }
            return;
        }
        // Each channel comes with the exponent of its block.
        let (mut scale, mut mantissas) = ([0.0; COLUMNS], [0i16; COLUMNS]);
        for (scale, channel) in scale.iter_mut().zip(channels) {
            *scale = bfp::power(i32::from(self.exponents[number * across + *channel as usize / COLUMNS]) - 14);
        }
        let from = bytemuck::cast_slice::<u8, i16>(self.elements)[number * ROWS * stride..].chunks_exact(stride);
        for (values, from) in tile.values.iter_mut().zip(from).take(rows) {
            mantissas.iter_mut().zip(channels).for_each(|(m, channel)| *m = from[*channel as usize]);
            scale_16(level, &mantissas, &scale, values);
        }
    }

    /// Floats that [`Read::rows`] wants for `rows` rows.
    pub(super) fn room(&self, rows: usize) -> usize {
        if self.form == Form::F32 { 0 } else { rows * self.c }
    }

    /// Rows `first..first + rows` in f32, unpadded: as they lie, or in `room`.
    pub(super) fn rows<'r>(&self, level: Level, first: usize, rows: usize, room: &'r mut [f32]) -> &'r [f32]
    where
        'a: 'r,
    {
        if self.form == Form::F32 {
            return &f32s(self.elements)[first * self.c..(first + rows) * self.c];
        }
        for (i, row) in room.chunks_exact_mut(self.c).enumerate() {
            for (column, part) in row.chunks_mut(COLUMNS).enumerate() {
                self.part(level, first + i, column, part);
            }
        }
        room
    }
}

/// A tensor of `c` channels that tasks write, 64 rows each.
pub(super) struct Write<'a> {
    form: Form,
    elements: Parts<'a, u8>,
    exponents: Parts<'a, u8>,
    c: usize,
}

impl<'a> Write<'a> {
    /// The tensor in these bytes: f32 or 16 bits.
    pub(super) fn new(form: u32, elements: &'a mut [u8], exponents: &'a mut [u8], c: usize) -> Write<'a> {
        let form = Form::of(form);
        let [strip, across] = form.bytes(ROWS, c);
        Write { form, elements: Parts::new(elements, strip), exponents: Parts::new(exponents, across), c }
    }

    /// Writes the tile as block `column` of the rows of block `number`.
    ///
    /// # Safety
    /// While it runs, nobody else is at the rows of block `number`.
    pub(super) unsafe fn put(&self, level: Level, number: usize, column: usize, tile: &Tile) {
        // SAFETY: the caller has these rows alone.
        let (elements, exponents) = unsafe { (self.elements.part(number), self.exponents.part(number)) };
        let (first, stride) = (column * COLUMNS, pad(self.c));
        if self.form != Form::Bfp16 {
            let width = (self.c - first).min(COLUMNS);
            let rows = bytemuck::cast_slice_mut::<u8, f32>(elements).chunks_exact_mut(self.c);
            rows.zip(&tile.values).for_each(|(to, from)| to[first..first + width].copy_from_slice(&from[..width]));
            return;
        }
        let (mut max, width) = (0.0, (stride - first).min(COLUMNS));
        tile::largest(level, &tile.values, &mut max);
        let e = bfp::exponent(max);
        exponents[column] = e as i8 as u8;
        let rows = bytemuck::cast_slice_mut::<u8, i16>(elements).chunks_exact_mut(stride);
        rows.zip(&tile.values).for_each(|(to, from)| round_16(level, from, e, &mut to[first..first + width]));
    }
}
