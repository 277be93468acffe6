//! 3x3 products with stride 1 by Winograd's minimal filtering F(2x2, 3x3), in integers: the sums of [`super::dot`], exactly, with 16 multiplications where the definition has 36.
//!
//! Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016), section 4.1: `Y = A' [(G g G') . (B' d B)] A` for tiles of 2x2 outputs and 4x4 inputs d. `G` has halves, so that `2G` is used on both sides and the
//! result divided by 4. **Nothing is rounded**: `B' d B` sums four mantissas (at most 508), `(2G) g (2G)'` nine (at most 1143), both fit into 16 bits; sums of their products and of `A'`
//! are taken modulo 2^32, and four times the result, at most `4 * 9 * C * 127^2`, is below 2^31 for all `C <=` [`MOST`]. Dividing by 4 is a shift then.
//!
//! It pays where factors are widened to 16 bits anyway, with `vpmaddwd`; instructions that multiply bytes cannot use it ([`super::choice`]). A task has some blocks of 64 rows; because rows of an image are powers of two long
//! ([`Winograd::fits`]), each block is 16 whole tiles. Not here: the weight gradient ([`super::winograd_wgrad`]).

use std::cell::RefCell;

use rayon::prelude::*;

use super::super::tile::{COLUMNS, ROWS};
use super::choice::IntegerPath;
use super::dot::{BLOCKS, Sums};
use super::lanes::{self, Unit};
use super::packed::{Scratch, grow};
use super::panels::Weights;
use super::registers::{Register, with_registers};
use crate::ops::conv2d::Conv2d;
use crate::quant::layout::pad;

/// IntegerPath of a tile.
pub(super) const PLACES: usize = 16;
/// Tiles of a block of rows.
pub(super) const TILES: usize = ROWS / 4;
/// Most channels that are summed over: `4 * 9 * 3328 * 127^2 < 2^31`.
pub(super) const MOST: usize = 3328;
/// Fewest channels that are summed over: with less, products pixel by pixel are fewer than those of padded channels.
const LEAST: usize = 8;
/// Bytes of transformed inputs of a task: they should stay in the second-level cache.
const INPUTS: usize = 256 << 10;

/// The geometry of a pass, as the forward pass sees it: the data gradient is a correlation with the transposed weights, padded by `2 - pad`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Winograd {
    /// Input rows and columns.
    pub h: usize,
    /// See `h`.
    pub w: usize,
    /// Bytes per pixel: padded channels.
    pub depth: usize,
    /// Output rows and columns.
    pub p: usize,
    /// See `p`.
    pub q: usize,
    /// Padding above.
    pub pad_h: usize,
    /// Padding to the left.
    pub pad_w: usize,
}

impl Winograd {
    /// That of the forward pass of `p`, where it can be used.
    pub(super) fn forward(products: IntegerPath, p: &Conv2d) -> Option<Winograd> {
        let [h, w, c, out_h, out_w] = [p.h, p.w, p.c, p.p, p.q].map(|v| v as usize);
        let all =
            Winograd { h, w, depth: pad(c), p: out_h, q: out_w, pad_h: p.pad_h as usize, pad_w: p.pad_w as usize };
        all.fits(products, p, c).then_some(all)
    }

    /// That of the data gradient.
    pub(super) fn backward(products: IntegerPath, p: &Conv2d) -> Option<Winograd> {
        let [h, w, k, out_h, out_w] = [p.p, p.q, p.k, p.h, p.w].map(|v| v as usize);
        let (pad_h, pad_w) = (2usize.checked_sub(p.pad_h as usize)?, 2usize.checked_sub(p.pad_w as usize)?);
        let all = Winograd { h, w, depth: pad(k), p: out_h, q: out_w, pad_h, pad_w };
        all.fits(products, p, k).then_some(all)
    }

    /// Whether kernel and stride are right, blocks of 64 rows are whole tiles, and `channels` enough to pay for the padding.
    fn fits(&self, products: IntegerPath, p: &Conv2d, channels: usize) -> bool {
        let tiled = self.p.is_multiple_of(2) && self.q.is_multiple_of(2) && ROWS.is_multiple_of(2 * self.q);
        let shape = p.r == 3 && p.s == 3 && p.stride_h == 1 && p.stride_w == 1;
        products == IntegerPath::Avx2 && tiled && shape && self.depth <= MOST && channels >= LEAST
    }

    /// First byte of each pixel of the tile whose first output is row `row` of the tensor; `None` for padding.
    #[inline(always)]
    pub(super) fn pixels(&self, row: usize) -> [Option<usize>; PLACES] {
        let (image, pixel) = (row / (self.p * self.q), row % (self.p * self.q));
        let (top, left) = (pixel / self.q, pixel % self.q);
        std::array::from_fn(|i| {
            // Wrapping: a negative coordinate becomes a huge one.
            let (h, w) = ((top + i / 4).wrapping_sub(self.pad_h), (left + i % 4).wrapping_sub(self.pad_w));
            (h < self.h && w < self.w).then(|| ((image * self.h + h) * self.w + w) * self.depth)
        })
    }

    /// First output row (of the tensor) of tile `tile` of the block that starts at row `first`.
    #[inline(always)]
    pub(super) fn row(&self, first: usize, tile: usize) -> usize {
        let across = self.q / 2;
        first + tile / across * 2 * self.q + tile % across * 2
    }
}

/// `B' d` of four registers.
///
/// # Safety
/// The machine has the instructions of `R`.
#[inline(always)]
pub(super) unsafe fn inputs<R: Register>(d: [R; 4]) -> [R; 4] {
    let [a, b, c, d] = d;
    // SAFETY: the caller's promise.
    unsafe { [a.sub16(c), b.add16(c), c.sub16(b), b.sub16(d)] }
}

/// `B' d B` of 16 channels of one tile, place by place.
///
/// # Safety
/// The machine has the instructions of `R`; each pointer and 16 bytes from `c` on are valid.
#[inline(always)]
pub(super) unsafe fn tile_inputs<R: Register>(d: &[*const i8; PLACES], c: usize) -> [[R; 4]; 4] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut rows = [[R::zero(); 4]; 4];
        for j in 0..4 {
            // Columns first; then row by row.
            let column = inputs([
                R::widen(d[j].add(c)),
                R::widen(d[4 + j].add(c)),
                R::widen(d[8 + j].add(c)),
                R::widen(d[12 + j].add(c)),
            ]);
            rows.iter_mut().zip(column).for_each(|(row, value)| row[j] = value);
        }
        for row in &mut rows {
            *row = inputs(*row);
        }
        rows
    }
}

#[inline(always)]
unsafe fn input_body<R: Register>(d: &[*const i8; PLACES], depth: usize, stride: usize, out: *mut i16) {
    for c in (0..depth).step_by(16) {
        // SAFETY: the caller's promise.
        unsafe {
            let rows = tile_inputs::<R>(d, c);
            for (place, value) in rows.as_flattened().iter().enumerate() {
                value.store16(out.add(place * stride + c));
            }
        }
    }
}

with_registers! {
    /// `B' d B` of one tile for `depth` channels (a multiple of 16): place by place, `stride` numbers apart. The pointers are valid for `depth` bytes, `out` for all places.
    fn transform_input = input_body(d: &[*const i8; PLACES], depth: usize, stride: usize, out: *mut i16)
}

/// `2G g` of three registers.
#[inline(always)]
unsafe fn weights<R: Register>(g: [R; 3]) -> [R; 4] {
    let [a, b, c] = g;
    // SAFETY: the caller's promise.
    unsafe {
        let ends = a.add16(c);
        [a.add16(a), ends.add16(b), ends.sub16(b), c.add16(c)]
    }
}

#[inline(always)]
unsafe fn weights_body<R: Register>(w: *const i8, depth: usize, out: *mut i16) {
    for c in (0..depth).step_by(16) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut rows = [[R::zero(); 3]; 4];
            for j in 0..3 {
                let at = w.add(j * depth + c);
                let column = weights([R::widen(at), R::widen(at.add(3 * depth)), R::widen(at.add(6 * depth))]);
                rows.iter_mut().zip(column).for_each(|(row, value)| row[j] = value);
            }
            for (i, row) in rows.iter().enumerate() {
                for (j, value) in weights(*row).iter().enumerate() {
                    value.store16(out.add((i * 4 + j) * depth + c));
                }
            }
        }
    }
}

with_registers! {
    /// `(2G) g (2G)'` of one output channel, `w[9][depth]`, to `out[16][depth]`; depth is a multiple of 16.
    fn transform_weights = weights_body(w: *const i8, depth: usize, out: *mut i16)
}

/// `A' m` of four registers: two.
#[inline(always)]
unsafe fn outputs<R: Register>(m: [R; 4]) -> [R; 2] {
    let [a, b, c, d] = m;
    // SAFETY: the caller's promise.
    unsafe { [a.add32(b).add32(c), b.sub32(c).sub32(d)] }
}

#[inline(always)]
unsafe fn output_body<R: Register>(m: *const i32, stride: usize, row: usize, q: usize, sums: *mut i32) {
    for j in (0..COLUMNS).step_by(8) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut rows = [[R::zero(); 4]; 2];
            for i in 0..4 {
                let at = m.add(i * stride + j);
                let column = outputs([
                    R::load32(at),
                    R::load32(at.add(4 * stride)),
                    R::load32(at.add(8 * stride)),
                    R::load32(at.add(12 * stride)),
                ]);
                rows.iter_mut().zip(column).for_each(|(row, value)| row[i] = value);
            }
            for (k, values) in rows.iter().enumerate() {
                let [left, right] = outputs(*values);
                let at = sums.add((row + k * q) * COLUMNS + j);
                left.quarter32().store32(at);
                right.quarter32().store32(at.add(COLUMNS));
            }
        }
    }
}

with_registers! {
    /// `A' m A / 4` of one tile for 32 channels: `m[place * stride..]`; the four outputs go to rows `row`, `row + 1`, `row + q`, `row + q + 1` of `sums`, 32 each.
    fn transform_output = output_body(m: *const i32, stride: usize, row: usize, q: usize, sums: *mut i32)
}

/// Transformed weights, ready to be multiplied.
pub(super) struct Filter<'a> {
    products: IntegerPath,
    shape: Winograd,
    width: usize,
    /// `[blocks of 32 channels][places][panels][steps][columns of a panel]`.
    panels: &'a [u32],
}

/// Scratch of a thread.
#[derive(Default)]
struct Buffers {
    inputs: Vec<u32>,
    sums: Vec<i32>,
    zeros: Vec<i8>,
    weights: Vec<u32>,
}

thread_local!(static BUFFERS: RefCell<Buffers> = RefCell::default());

impl<'a> Filter<'a> {
    /// Transforms and packs `w`, whose taps lie in the order of the correlation.
    pub(super) fn new(products: IntegerPath, shape: Winograd, w: Weights<'a>, scratch: &'a mut Scratch) -> Filter<'a> {
        let steps = shape.depth / 2;
        let block = PLACES * steps * COLUMNS;
        let all = w.width.div_ceil(COLUMNS) * block;
        grow(&mut scratch.panels, all, 0);
        let panels = &mut scratch.panels[..all];
        let width = products.panel();
        panels.par_chunks_mut(block).enumerate().for_each(|(number, out)| {
            let there = (w.width - number * COLUMNS).min(COLUMNS);
            if there < COLUMNS {
                out.fill(0);
            }
            BUFFERS.with_borrow_mut(|buffers| {
                grow(&mut buffers.weights, PLACES * steps, 0);
                let words = &mut buffers.weights[..PLACES * steps];
                for j in 0..there {
                    let from = &w.w[(number * COLUMNS + j) * 9 * shape.depth..][..9 * shape.depth];
                    let to: &mut [i16] = bytemuck::cast_slice_mut(words);
                    // SAFETY: only products of AVX2 come here; nine taps of `depth` are read, sixteen places written.
                    unsafe { transform_weights(true, from.as_ptr(), shape.depth, to.as_mut_ptr()) };
                    for (place, words) in words.chunks_exact(steps).enumerate() {
                        let first = place * steps * COLUMNS + j / width * steps * width + j % width;
                        out[first..].iter_mut().step_by(width).zip(words).for_each(|(out, word)| *out = *word);
                    }
                }
            });
        });
        Filter { products, shape, width: w.width, panels }
    }

    /// Blocks of rows of a task.
    pub(super) fn blocks(&self) -> usize {
        (INPUTS / (PLACES * TILES * self.shape.depth * 2)).clamp(1, BLOCKS)
    }

    /// Calls `each(block, column, sums)` for the blocks of rows `range` of a tensor of `rows` rows and every 32 channels.
    pub(super) fn sums(
        &self,
        x: &[i8],
        range: std::ops::Range<usize>,
        rows: usize,
        each: &mut dyn FnMut(usize, usize, &Sums),
    ) {
        let (depth, steps) = (self.shape.depth, self.shape.depth / 2);
        let tiles = range.len() * TILES;
        BUFFERS.with_borrow_mut(|Buffers { inputs, sums, zeros, .. }| {
            grow(inputs, PLACES * BLOCKS * TILES * steps, 0);
            grow(sums, PLACES * BLOCKS * TILES * COLUMNS, 0);
            grow(zeros, depth, 0);
            for (number, block) in range.clone().enumerate() {
                for tile in 0..TILES {
                    let row = self.shape.row(block * ROWS, tile);
                    let numbers: &mut [i16] = bytemuck::cast_slice_mut(inputs);
                    let out = &mut numbers[(number * TILES + tile) * depth..];
                    // Behind the last row everything is multiplied by zero.
                    let pixels = if row < rows { self.shape.pixels(row) } else { [None; PLACES] };
                    let d = pixels.map(|at| at.map_or(&zeros[..depth], |at| &x[at..at + depth]).as_ptr());
                    // SAFETY: only products of AVX2 come here; the pointers are those of slices of `depth`, and all places lie inside the inputs.
                    unsafe { transform_input(true, &d, depth, tiles * depth, out.as_mut_ptr()) };
                }
            }
            // SAFETY: who chose the products has made sure that the machine has them. No other task runs on this thread before the unit goes.
            let unit = unsafe { Unit::new(self.products) };
            let mut out = Sums::new();
            for column in 0..self.width.div_ceil(COLUMNS) {
                let there = (pad(self.width) - column * COLUMNS).min(COLUMNS);
                let (panel, width) = (steps * COLUMNS, self.products.panel());
                for place in 0..PLACES {
                    let panel = &self.panels[(column * PLACES + place) * panel..][..panel];
                    let words = &inputs[place * tiles * steps..][..tiles * steps];
                    let rows = lanes::Rows { start: words.as_ptr(), shape: lanes::Shape::Dense(steps), count: tiles };
                    let columns = lanes::Columns {
                        start: panel.as_ptr(),
                        width,
                        panel: steps * width,
                        count: there,
                        sums: sums[place * tiles * COLUMNS..].as_mut_ptr(),
                        stride: COLUMNS,
                    };
                    // SAFETY: the words are `tiles` rows of `steps`, the panels have `steps` steps, the sums are `tiles` rows of 32.
                    unsafe { unit.multiply(rows, columns, steps, true) };
                }
                for (number, block) in range.clone().enumerate() {
                    for tile in 0..TILES {
                        let row = self.shape.row(0, tile);
                        let m = &sums[(number * TILES + tile) * COLUMNS..];
                        let to = out.0.as_mut_ptr().cast();
                        // SAFETY: only products of AVX2 come here; places of the sums are `tiles` rows of 32 apart, and the tile lies inside the block's 64 rows.
                        unsafe { transform_output(true, m.as_ptr(), tiles * COLUMNS, row, self.shape.q, to) };
                    }
                    if there < COLUMNS {
                        out.0.iter_mut().for_each(|row| row[there..].fill(0));
                    }
                    each(block, column, &out);
                }
            }
        });
    }
}
