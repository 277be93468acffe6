//! The integer GEMM of the forward pass and the data gradient on packed factors: the same sums as [`super::dot`], fast.
//!
//! Weights are packed once per call. A task has 64 rows or, with large weights, a few times as many. Tiles read them from lines of pixels where they can ([`super::lines`]); else a task packs a
//! stretch of their taps at a time, short enough that a panel of weights stays in the first-level cache, and multiplies it with all columns. Padding and rows that there are not become zeros.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::super::simd_int8::Level;
use super::super::tile::{COLUMNS, ROWS};
use super::choice::{Form, IntegerPath};
use super::dot::{BLOCKS, Sums};
use super::lanes::{self, Unit};
use super::lines::Lines;
use super::panels::{self, Weights};
use super::taps::Taps;
use super::tiles::{Overlapping, TILE};
use crate::quant::layout::pad;

/// Words of a row that are multiplied at once: a panel of 16 columns is 20 kB then.
const STRETCH: usize = 320;
/// The same for tiles: nine taps of 64 channels. A panel of 32 columns and the 32 rows that pass by are 36 kB, and loading and storing the sums of a block comes to a sixth of its 576 cycles.
const TILE_STRETCH: usize = 144;

/// Bytes of packed weights that stay in the second-level cache from task to task. More come from behind it for every task, at a rate that tiles would wait for: tasks of several blocks of rows use them several times.
const CACHED: usize = 1 << 19;

/// Scratch memory that lives from call to call.
#[derive(Default)]
pub(in super::super) struct Scratch {
    pub(super) panels: Vec<u32>,
    corrections: Vec<[i32; COLUMNS]>,
}

/// Grows a buffer that lives from call to call; only growth allocates.
pub(super) fn grow<T: Clone>(buffer: &mut Vec<T>, length: usize, value: T) {
    if buffer.len() < length {
        buffer.resize(length, value);
    }
}

/// Packed weights, ready to be multiplied.
pub(super) struct Packed<'a> {
    products: IntegerPath,
    form: Form,
    /// Rows are taken from lines of pixels.
    lines: Option<Lines>,
    weights: Weights<'a>,
    blocks: usize,
    panels: &'a [u32],
    corrections: &'a [[i32; COLUMNS]],
}

impl<'a> Packed<'a> {
    /// Packs `weights`, to be multiplied with `rows` rows; `lines`: how tiles find their rows in lines of pixels, if they do.
    pub(super) fn new(
        products: IntegerPath,
        form: Form,
        rows: usize,
        lines: Option<Lines>,
        mut weights: Weights<'a>,
        scratch: &'a mut Scratch,
    ) -> Packed<'a> {
        let lines = lines.filter(|_| form == Form::Tiles);
        if let Some(lines) = &lines {
            // Lines of a data gradient are read forwards, so that the taps are, too.
            weights.flipped = false;
            weights.line = Some(weights.taps / lines.taps());
        }
        let (across, panel) = (weights.width.div_ceil(COLUMNS), weights.steps(form) * COLUMNS);
        let Scratch { panels, corrections } = scratch;
        grow(panels, across * panel, 0);
        grow(corrections, across, [0; COLUMNS]);
        let (panels, corrections) = (&mut panels[..across * panel], &mut corrections[..across]);
        // Tasks stay four times as many as threads.
        let most = rows.div_ceil(ROWS) / (4 * rayon::current_num_threads());
        let blocks = if form == Form::Tiles && 4 * panels.len() > CACHED { most.clamp(1, BLOCKS) } else { 1 };
        let packs = panels.par_chunks_mut(panel).zip(&mut *corrections).enumerate();
        packs.for_each(|(block, (panel, correction))| weights.pack(products, form, block, panel, correction));
        Packed { products, form, lines, weights, blocks, panels, corrections }
    }

    /// Blocks of 64 rows of a task.
    pub(super) fn blocks(&self) -> usize {
        self.blocks
    }

    /// Calls `each(block, column, sums)` for the blocks `range` of a tensor of `rows` rows and every 32 channels; sums are 0 for rows and channels that there are not.
    pub(super) fn sums(
        &self,
        level: Level,
        taps: &impl Taps,
        x: &[i8],
        range: Range<usize>,
        rows: usize,
        each: &mut dyn FnMut(usize, usize, &Sums),
    ) {
        thread_local!(static BUFFERS: RefCell<(Vec<u32>, Vec<Sums>)> = const { RefCell::new((Vec::new(), Vec::new())) });
        let (blocks, first) = (range.len(), range.start * ROWS);
        let rows = rows.min(range.end * ROWS) - first;
        BUFFERS.with_borrow_mut(|(words, sums)| {
            let all = blocks * self.corrections.len();
            grow(sums, all, Sums::new());
            let sums = &mut sums[..all];
            // Rows that there are not: where the last block is not whole.
            if !rows.is_multiple_of(ROWS) || !pad(self.weights.width).is_multiple_of(COLUMNS) {
                sums.fill(Sums::new());
            }
            match &self.lines {
                Some(lines) => self.sums_of_lines(lines, x, first, rows, words, sums),
                None => self.sums_of_rows(level, taps, x, first, rows, words, sums),
            }
            for (column, (sums, correction)) in sums.chunks_exact_mut(blocks).zip(self.corrections).enumerate() {
                for (i, sums) in sums.iter_mut().enumerate() {
                    if self.form == Form::Quads {
                        let there = (rows - i * ROWS).min(ROWS);
                        for row in &mut sums.0[..there] {
                            row.iter_mut().zip(correction).for_each(|(sum, more)| *sum = sum.wrapping_add(*more));
                        }
                        // Rows that there are not were multiplied as zeros, which sum up to minus the correction.
                        sums.0[there..].fill([0; COLUMNS]);
                    }
                    each(range.start + i, column, sums);
                }
            }
        });
    }

    /// A panel of columns and the sums of all blocks, which lie one behind the other.
    fn columns(&self, column: usize, from: usize, sums: &mut [Sums]) -> lanes::Columns {
        let (all, width) = (self.weights.steps(self.form), self.products.panel());
        lanes::Columns {
            start: self.panels[column * all * COLUMNS + from * width..].as_ptr(),
            width,
            panel: all * width,
            count: (pad(self.weights.width) - column * COLUMNS).min(COLUMNS),
            sums: sums.as_mut_ptr().cast(),
            stride: COLUMNS,
        }
    }

    /// Sums of the `rows` rows from `first` on, packed tap by tap; `sums`: `[columns][blocks]`.
    #[allow(clippy::too_many_arguments)]
    fn sums_of_rows(
        &self,
        level: Level,
        taps: &impl Taps,
        x: &[i8],
        first: usize,
        rows: usize,
        words: &mut Vec<u32>,
        sums: &mut [Sums],
    ) {
        let (all, blocks) = (self.weights.steps(self.form), rows.div_ceil(ROWS));
        let most = if self.form == Form::Tiles { TILE_STRETCH } else { STRETCH };
        let stretch = all.div_ceil(all.div_ceil(most)).next_multiple_of(self.form.grain());
        grow(words, blocks * ROWS * stretch, 0);
        // SAFETY: who chose the products has made sure that the machine has them. No other task runs on this thread before the unit goes.
        let unit = unsafe { Unit::new(self.products) };
        for from in (0..all).step_by(stretch) {
            let steps = stretch.min(all - from);
            self.pack(level, taps, x, first, rows, from, steps, &mut words[..blocks * ROWS * steps]);
            for (column, sums) in sums.chunks_exact_mut(blocks).enumerate() {
                let shape = lanes::Shape::Dense(steps);
                let rows = lanes::Rows { start: words.as_ptr(), shape, count: blocks * ROWS };
                // SAFETY: rows of `steps` words were packed, the block has panels of `all` steps, the sums are as many rows of 32.
                unsafe { unit.multiply(rows, self.columns(column, from, sums), steps, from == 0) };
            }
        }
    }

    /// The same from lines of pixels.
    fn sums_of_lines(
        &self,
        lines: &Lines,
        x: &[i8],
        first: usize,
        rows: usize,
        words: &mut Vec<u32>,
        sums: &mut [Sums],
    ) {
        let mut starts = [0; BLOCKS * ROWS / TILE];
        let starts = &mut starts[..rows / TILE];
        lines.copy(x, first, rows, words, starts);
        let mut tiles = [words.as_ptr().cast::<u8>(); BLOCKS * ROWS / TILE];
        tiles.iter_mut().zip(&*starts).for_each(|(tile, start)| *tile = tile.wrapping_add(*start));
        let rows = Overlapping {
            tiles: &tiles[..starts.len()],
            row: lines.row(),
            line: lines.line(),
            steps: lines.steps(),
            lines: lines.taps(),
        };
        // SAFETY: as above.
        let unit = unsafe { Unit::new(self.products) };
        for (column, sums) in sums.chunks_exact_mut(starts.len().div_ceil(ROWS / TILE)).enumerate() {
            // SAFETY: the lines of all tiles were copied, the block has panels of all their steps, the sums are as many rows of 32.
            unsafe { unit.multiply_lines(rows, self.columns(column, 0, sums)) };
        }
    }

    /// Packs words `from..from + steps` of the rows.
    #[allow(clippy::too_many_arguments)]
    fn pack(
        &self,
        level: Level,
        taps: &impl Taps,
        x: &[i8],
        first: usize,
        rows: usize,
        from: usize,
        steps: usize,
        words: &mut [u32],
    ) {
        let (_, extent) = taps.extent();
        let (depth, per_tap) = (self.form.depth(), self.weights.used / self.form.depth());
        let (zero, taken) = (self.form.zero_row(), self.weights.taps * per_tap);
        for (i, words) in words.chunks_exact_mut(steps).enumerate() {
            if i >= rows {
                words.fill(zero);
                continue;
            }
            let (row, mut at, mut left) = (taps.row(first + i), from, words);
            while !left.is_empty() {
                if at >= taken {
                    left.fill(zero);
                    break;
                }
                let (tap, word) = (at / per_tap, at % per_tap);
                let (part, rest) = left.split_at_mut((per_tap - word).min(left.len()));
                match taps.pixel(&row, tap / extent, tap % extent) {
                    Some(pixel) => {
                        panels::row(level, self.form, &x[pixel + word * depth..][..part.len() * depth], part);
                    }
                    None => part.fill(zero),
                }
                at += part.len();
                left = rest;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::dot::Gemm;
    use super::super::emulated_tiles::idle;
    use super::super::taps::Forward;
    use super::*;
    use crate::ops::Shape;
    use crate::ops::conv2d::{Conv2d, Conv2dAttr};

    /// Tiles are configured while they multiply and at no other time, on every thread, and after a panic.
    #[test]
    fn tiles_are_left_empty() {
        let conv = Conv2d::new(3, Shape::new(9, 11, 20), &Conv2dAttr::square(45, 3, 1, 1)).unwrap().padded();
        let bytes = |len: usize| (0..len).map(|i| (i * 97 % 256) as u8 as i8).collect::<Vec<i8>>();
        let (depth, rows) = (conv.c as usize, conv.rows());
        let (mut x, w) = (bytes(3 * 9 * 11 * depth), bytes(45 * 9 * depth));
        x.chunks_exact_mut(depth).for_each(|pixel| pixel[20..].fill(0));
        let weights = Weights { w: &w, width: 45, taps: 9, depth, used: 20, flipped: false, line: None };
        let mut scratch = Scratch::default();
        let packed = Packed::new(IntegerPath::EmulatedAmx, Form::Tiles, rows, None, weights, &mut scratch);
        let gemm = Gemm { x: &x, w: &w, width: 45, flipped: false };
        let block = |number: usize, fail: bool| {
            let there = (rows - number * ROWS).min(ROWS);
            packed.sums(Level::Portable, &Forward(&conv), &x, number..number + 1, rows, &mut |_, column, sums| {
                assert!(idle(), "the epilogue of block {number} has tiles");
                let mut want = Sums::new();
                gemm.block(&Forward(&conv), number * ROWS, there, column, &mut want);
                assert!(sums.0 == want.0, "block {number}, column {column}");
                assert!(!fail, "on purpose");
            });
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        pool.install(|| (0..rows.div_ceil(ROWS)).into_par_iter().for_each(|number| block(number, false)));
        assert!(pool.broadcast(|_| idle()).into_iter().all(|idle| idle));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| block(0, true))).is_err() && idle());
        // SAFETY: needs nothing of the machine.
        let unit = unsafe { Unit::new(IntegerPath::EmulatedAmx) };
        assert!(!idle());
        drop(unit);
        assert!(idle());
    }
}
