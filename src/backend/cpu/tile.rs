//! A block of 64 rows x 32 channels of a stored tensor on its way into memory: exponent, rounding, sums.
//!
//! What a GEMM or a gradient computes lands in a [`Tile`] that stays in the first-level cache; [`Strip::put`] rounds it and writes it. Not here: where the numbers come
//! from. Formulas: [`crate::quant::bfp`], [`crate::quant::layout`].

use super::elementwise::magnitude;
use super::noise::Source;
use super::simd_int8::{Level, vectorised_i8};
use crate::ops::batchnorm::{GradientSums, OutputSums};
use crate::quant::bfp;
use crate::quant::layout::{BLOCK_CHANNELS, BLOCK_ROWS, blocks_across, pad};

/// Rows of a block.
pub(super) const ROWS: usize = BLOCK_ROWS;
/// Channels of a block.
pub(super) const COLUMNS: usize = BLOCK_CHANNELS;

/// Scratch of one task: the block's values, its mantissas and its random numbers.
#[repr(C, align(64))]
pub(super) struct Tile {
    /// Values; rows and channels that the tensor does not have are 0.
    pub values: [[f32; COLUMNS]; ROWS],
    /// Mantissas, after [`Strip::put`].
    pub mantissas: [[i8; COLUMNS]; ROWS],
    /// Mantissas of the conv output in the same place, where a gradient wants them.
    pub other: [[i8; COLUMNS]; ROWS],
    noise: [[u16; COLUMNS]; ROWS],
}

impl Tile {
    /// All zero.
    pub(super) fn new() -> Tile {
        Tile {
            values: [[0.0; COLUMNS]; ROWS],
            mantissas: [[0; COLUMNS]; ROWS],
            other: [[0; COLUMNS]; ROWS],
            noise: [[0; COLUMNS]; ROWS],
        }
    }

    /// Fills `other` with rows of `mantissas` (`stride` bytes each) from channel `first` on, `width` of them.
    pub(super) fn load_other(&mut self, mantissas: &[i8], stride: usize, first: usize, width: usize) {
        let mut rows = mantissas.chunks_exact(stride);
        for to in &mut self.other {
            match rows.next() {
                Some(row) if width == COLUMNS => to.copy_from_slice(&row[first..first + COLUMNS]),
                Some(row) => {
                    to[..width].copy_from_slice(&row[first..first + width]);
                    to[width..].fill(0);
                }
                None => to.fill(0),
            }
        }
    }
}

/// The 64 rows of a stored tensor that one task writes.
pub(super) struct Strip<'a> {
    /// Number of the rows' block.
    pub number: usize,
    /// Channels, unpadded.
    pub channels: usize,
    /// `[rows][pad C]`.
    pub mantissas: &'a mut [i8],
    /// One per block of channels.
    pub exponents: &'a mut [i8],
}

impl Strip<'_> {
    /// Rows that there are.
    pub(super) fn rows(&self) -> usize {
        self.mantissas.len() / pad(self.channels)
    }

    /// Padded channels of block `column`.
    pub(super) fn width(&self, column: usize) -> usize {
        (pad(self.channels) - column * COLUMNS).min(COLUMNS)
    }

    /// Rounds the tile and writes it as block `column`.
    pub(super) fn put(&mut self, level: Level, column: usize, tile: &mut Tile, noise: Source) {
        let block = self.number * blocks_across(self.channels) + column;
        let mut max = 0.0;
        largest(level, &tile.values, &mut max);
        let e = bfp::exponent(max);
        self.exponents[column] = e as i8;
        if noise.stochastic() {
            noise.tile(level, block, &mut tile.noise);
            round(level, &tile.values, &tile.noise, bfp::power(21 - e), &mut tile.mantissas);
        } else {
            nearest(level, &tile.values, e, &mut tile.mantissas);
        }
        let (stride, width, first) = (pad(self.channels), self.width(column), column * COLUMNS);
        for (to, from) in self.mantissas.chunks_exact_mut(stride).zip(&tile.mantissas) {
            copy(&mut to[first..first + width], from);
        }
    }
}

/// The first `to.len()` bytes of a row; whole rows are moves of known length, not calls.
#[inline(always)]
fn copy(to: &mut [i8], from: &[i8; COLUMNS]) {
    let width = to.len();
    match <&mut [i8; COLUMNS]>::try_from(&mut *to) {
        Ok(to) => *to = *from,
        Err(_) => to.copy_from_slice(&from[..width]),
    }
}

vectorised_i8! {
    /// Largest absolute value.
    fn largest(values: &[[f32; COLUMNS]; ROWS], max: &mut f32) {
        let mut all = [0u32; COLUMNS];
        for row in values {
            for (max, value) in all.iter_mut().zip(row) {
                *max = (*max).max(magnitude(*value));
            }
        }
        *max = f32::from_bits(all.iter().fold(0, |max, value| max.max(*value)));
    }
}

vectorised_i8! {
    fn round(values: &[[f32; COLUMNS]; ROWS], noise: &[[u16; COLUMNS]; ROWS], scale: f32, out: &mut [[i8; COLUMNS]; ROWS]) {
        for ((out, row), noise) in out.iter_mut().zip(values).zip(noise) {
            for j in 0..COLUMNS {
                out[j] = bfp::round_scaled(row[j] * scale, u32::from(noise[j]));
            }
        }
    }
}

vectorised_i8! {
    fn nearest(values: &[[f32; COLUMNS]; ROWS], e: i32, out: &mut [[i8; COLUMNS]; ROWS]) {
        for (out, row) in out.iter_mut().zip(values) {
            for j in 0..COLUMNS {
                out[j] = bfp::round_nearest(row[j], e);
            }
        }
    }
}

vectorised_i8! {
    /// Sums over the first `rows` rows.
    fn output_sums(tile: &Tile, rows: usize, sums: &mut [OutputSums]) {
        let (mut squares, mut sum) = ([0i32; COLUMNS], [0i32; COLUMNS]);
        let (mut min, mut max) = ([i8::MAX; COLUMNS], [i8::MIN; COLUMNS]);
        for row in &tile.mantissas[..rows.min(ROWS)] {
            for j in 0..COLUMNS {
                let m = i32::from(row[j]);
                squares[j] += m * m;
                sum[j] += m;
                min[j] = min[j].min(row[j]);
                max[j] = max[j].max(row[j]);
            }
        }
        for (j, sums) in sums.iter_mut().enumerate().take(COLUMNS) {
            *sums = OutputSums { squares: squares[j] as u32, sum: sum[j] as i16, min: min[j], max: max[j] };
        }
    }
}

vectorised_i8! {
    /// Sums of the mantissas, and of their products with `other`; rows that there are not hold zeros.
    fn gradient_sums(tile: &Tile, sums: &mut [GradientSums]) {
        let (mut products, mut sum, mut max) = ([0i32; COLUMNS], [0i32; COLUMNS], [0u8; COLUMNS]);
        for (row, other) in tile.mantissas.iter().zip(&tile.other) {
            for j in 0..COLUMNS {
                let m = i32::from(row[j]);
                products[j] += m * i32::from(other[j]);
                sum[j] += m;
                max[j] = max[j].max(row[j].unsigned_abs());
            }
        }
        for (j, sums) in sums.iter_mut().enumerate().take(COLUMNS) {
            *sums = GradientSums { products: products[j], sum: sum[j] as i16, max: max[j], zero: 0 };
        }
    }
}

vectorised_i8! {
    /// Keeps the values where `fma(a, y, b) > 0` with y the `other` mantissas times `scale`; `a` and `b` of the block's channels, 0 where there are none.
    fn mask(tile: &mut Tile, scale: f32, a: &[f32; COLUMNS], b: &[f32; COLUMNS]) {
        for (row, other) in tile.values.iter_mut().zip(&tile.other) {
            for j in 0..COLUMNS {
                let z = a[j].mul_add(f32::from(other[j]) * scale, b[j]);
                row[j] = if z > 0.0 { row[j] } else { 0.0 };
            }
        }
    }
}

/// The block's part of a row of per-channel numbers, zeros behind its end.
pub(super) fn part(all: &[f32], column: usize) -> [f32; COLUMNS] {
    std::array::from_fn(|j| all.get(column * COLUMNS + j).copied().unwrap_or(0.0))
}
