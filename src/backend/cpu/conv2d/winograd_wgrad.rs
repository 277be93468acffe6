//! The weight gradient of 3x3 convolutions with stride 1 by Winograd's F(3x3, 2x2), in integers: the sums of [`super::wgrad_i8`], exactly.
//!
//! A tile has 2x2 output gradients g and 4x4 inputs d as in [`super::winograd`], and gives a term of all nine taps: `dw += A' [(G g G') . (B' d B)] A` with `G = [1 0; 1/2 1/2; 1/2 -1/2; 0 1]`,
//! `A' = [1 1 1 0; 0 1 -1 0; 0 1 1 -1]` and the same B. With `2G` on both sides factors are at most 508, and four times the sum of at most [`SLICE`] pixels is below
//! 2^31: everything is modulo 2^32 until the final shift. The sums over tiles are products of matrices, one for each of the 16 places.

use super::choice::IntegerPath;
use super::lanes::{self, TILE_ROWS, Unit};
use super::packed::grow;
use super::registers::{Register, with_registers};
use super::winograd::{PLACES, Winograd, tile_inputs};

/// Pixels of a slice: `4 * 127^2 * 32768 < 2^31`.
pub(super) const SLICE: usize = 32_768;
/// Tiles whose products are summed in registers, two a step.
const STRETCH: usize = 64;
/// Taps.
const TAPS: usize = 9;

/// `2G g` of two registers.
#[inline(always)]
unsafe fn gradients<R: Register>(g: [R; 2]) -> [R; 4] {
    let [a, b] = g;
    // SAFETY: the caller's promise.
    unsafe { [a.add16(a), a.add16(b), a.sub16(b), b.add16(b)] }
}

/// `(2G) g (2G)'` of 16 channels of one tile, place by place.
#[inline(always)]
unsafe fn tile_gradients<R: Register>(g: &[*const i8; 4], c: usize) -> [[R; 4]; 4] {
    // SAFETY: the caller's promise.
    unsafe {
        let left = gradients([R::widen(g[0].add(c)), R::widen(g[2].add(c))]);
        let right = gradients([R::widen(g[1].add(c)), R::widen(g[3].add(c))]);
        let mut rows = [[R::zero(); 4]; 4];
        for (row, (left, right)) in rows.iter_mut().zip(left.into_iter().zip(right)) {
            *row = gradients([left, right]);
        }
        rows
    }
}

/// Where the words of a step go: place by place, runs of `width` channels.
#[derive(Clone, Copy)]
pub(super) struct Target {
    /// First word.
    start: *mut u32,
    /// Words from place to place.
    place: usize,
    /// Words from run to run.
    run: usize,
    /// Channels of a run: 8, 16 or 32.
    width: usize,
    /// Step.
    step: usize,
}

impl Target {
    /// Writes 16 channels of two tiles from channel `c` on, all places.
    ///
    /// # Safety
    /// All of it is valid memory.
    #[inline(always)]
    unsafe fn put<R: Register>(&self, c: usize, tiles: [[[R; 4]; 4]; 2]) {
        let [first, second] = &tiles;
        for (place, (first, second)) in first.as_flattened().iter().zip(second.as_flattened()).enumerate() {
            // SAFETY: the caller's promise.
            unsafe {
                for (half, words) in first.pair(*second).iter().enumerate() {
                    let channel = c + 8 * half;
                    let run = channel / self.width * self.run + self.step * self.width + channel % self.width;
                    words.store32(self.start.add(place * self.place + run).cast());
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn inputs_body<R: Register>(d: &[[*const i8; PLACES]; 2], depth: usize, to: Target) {
    for c in (0..depth).step_by(16) {
        // SAFETY: the caller's promise.
        unsafe { to.put::<R>(c, [tile_inputs(&d[0], c), tile_inputs(&d[1], c)]) };
    }
}

with_registers! {
    /// `B' d B` of two tiles for `depth` channels (a multiple of 16); pointers are valid for `depth` bytes, the target for all places.
    fn transform_inputs = inputs_body(d: &[[*const i8; PLACES]; 2], depth: usize, to: Target)
}

#[inline(always)]
unsafe fn gradients_body<R: Register>(g: &[[*const i8; 4]; 2], depth: usize, to: Target) {
    for c in (0..depth).step_by(16) {
        // SAFETY: the caller's promise.
        unsafe { to.put::<R>(c, [tile_gradients(&g[0], c), tile_gradients(&g[1], c)]) };
    }
}

with_registers! {
    /// `(2G) g (2G)'` of two tiles, as [`transform_inputs`].
    fn transform_gradients = gradients_body(g: &[[*const i8; 4]; 2], depth: usize, to: Target)
}

/// `A' m` of four registers: three.
#[inline(always)]
unsafe fn taps<R: Register>(m: [R; 4]) -> [R; 3] {
    let [a, b, c, d] = m;
    // SAFETY: the caller's promise.
    unsafe {
        let sum = b.add32(c);
        [a.add32(sum), b.sub32(c), sum.sub32(d)]
    }
}

#[inline(always)]
unsafe fn output_body<R: Register>(m: *const i32, length: usize, out: *mut i32) {
    for at in (0..length).step_by(8) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut rows = [[R::zero(); 4]; 3];
            for i in 0..4 {
                let load = |j: usize| R::load32(m.add((j * 4 + i) * length + at));
                let column = taps([load(0), load(1), load(2), load(3)]);
                rows.iter_mut().zip(column).for_each(|(row, value)| row[i] = value);
            }
            for (r, row) in rows.iter().enumerate() {
                for (s, value) in taps(*row).iter().enumerate() {
                    value.quarter32().store32(out.add((r * 3 + s) * length + at));
                }
            }
        }
    }
}

with_registers! {
    /// `A' m A / 4`: `m[16][length]` to `out[9][length]`, length a multiple of 8.
    fn transform_output = output_body(m: *const i32, length: usize, out: *mut i32)
}

/// Scratch of a thread.
#[derive(Default)]
pub(super) struct Buffers {
    gradients: Vec<u32>,
    inputs: Vec<u32>,
    sums: Vec<i32>,
    zeros: Vec<i8>,
}

/// A block of outputs and channels.
pub(super) struct Block<'a> {
    pub products: IntegerPath,
    pub shape: Winograd,
    pub x: &'a [i8],
    /// `[pixels][stride]`.
    pub dyw: &'a [i8],
    pub stride: usize,
    /// First output and outputs, a multiple of 16.
    pub k: (usize, usize),
    /// First channel and channels, a multiple of 16.
    pub c: (usize, usize),
}

impl Block<'_> {
    /// Sums over the output pixels `range` (whole blocks of 64, but for the last) to `out[taps][outputs][channels]`.
    pub(super) fn sum(&self, range: std::ops::Range<usize>, buffers: &mut Buffers, out: &mut [i32]) {
        let ((first_k, k), (first_c, c)) = (self.k, self.c);
        let (width, most) = (self.products.panel(), STRETCH / 2);
        let Buffers { gradients, inputs, sums, zeros } = buffers;
        grow(gradients, PLACES * k * most, 0);
        grow(inputs, PLACES * c.next_multiple_of(width) * most, 0);
        grow(sums, PLACES * k * c, 0);
        grow(zeros, k.max(c), 0);
        // SAFETY: who chose the products has made sure that the machine has them. No other task runs on this thread before the unit goes.
        let unit = unsafe { Unit::new(self.products) };
        for start in range.clone().step_by(4 * STRETCH) {
            let tiles = (range.end - start).min(4 * STRETCH) / 4;
            let steps = tiles.div_ceil(2);
            let row = |tile: usize| (tile < tiles).then(|| self.shape.row(start, tile));
            for step in 0..steps {
                let pair = [row(2 * step), row(2 * step + 1)];
                let d = pair.map(|row| {
                    let pixels = row.map_or([None; PLACES], |row| self.shape.pixels(row));
                    pixels.map(|at| at.map_or(&zeros[..c], |at| &self.x[at + first_c..][..c]).as_ptr())
                });
                let start = inputs.as_mut_ptr();
                let to = Target { start, place: c.next_multiple_of(width) * steps, run: width * steps, width, step };
                // SAFETY: only products of AVX2 come here; the pointers are those of slices of `c`, and the buffer has all places.
                unsafe { transform_inputs(true, &d, c, to) };
                let g = pair.map(|row| {
                    let rows = row.map(|row| [row, row + 1, row + self.shape.q, row + self.shape.q + 1]);
                    let rows = rows.map(|rows| rows.map(|row| &self.dyw[row * self.stride + first_k..][..k]));
                    rows.unwrap_or([&zeros[..k]; 4]).map(|row| row.as_ptr())
                });
                let start = gradients.as_mut_ptr();
                let to = Target { start, place: k * steps, run: TILE_ROWS * steps, width: TILE_ROWS, step };
                // SAFETY: as above, with slices of `k`.
                unsafe { transform_gradients(true, &g, k, to) };
            }
            for place in 0..PLACES {
                let words = &gradients[place * k * steps..][..k * steps];
                let rows = lanes::Rows { start: words.as_ptr(), shape: lanes::Shape::Grouped, count: k };
                let panels = c.next_multiple_of(width) * steps;
                let columns = lanes::Columns {
                    start: inputs[place * panels..][..panels].as_ptr(),
                    width,
                    panel: steps * width,
                    count: c,
                    sums: sums[place * k * c..][..k * c].as_mut_ptr(),
                    stride: c,
                };
                // SAFETY: both factors were written for `steps` steps, the sums are `k` rows of `c`.
                unsafe { unit.multiply(rows, columns, steps, start == range.start) };
            }
        }
        let out = &mut out[..TAPS * k * c];
        // SAFETY: only products of AVX2 come here; sixteen places are read, nine taps written.
        unsafe { transform_output(true, sums.as_ptr(), k * c, out.as_mut_ptr()) };
    }
}
