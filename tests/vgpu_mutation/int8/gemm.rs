//! Integer GEMMs: forward, data gradient (plain and masked) and weight gradient, with every tile.

use earlybird::backend::Backend;
use earlybird::backend::cuda::launch::Kernels;
use earlybird::driver::{DevPtr, Dims, Result, StreamId};
use earlybird::ops::Shape;
use earlybird::ops::batchnorm::{GradientSums, OutputSums};
use earlybird::ops::conv2d::{Conv2d, Conv2dAttr, Conv2dI8, Conv2dStreamI8};
use earlybird::ops::quantize::Form;
use earlybird::quant::layout::{blocks, pad};

use super::{STREAM, exponents, mantissas, rounding};
use crate::bench::{Bench, Case, Outcome, at};

/// The case of a GEMM.
pub fn case(kernel: &str) -> Option<Case> {
    Some(match kernel {
        "conv2d_fwd_i8" => |b| forward(b, "conv2d_fwd_i8", LARGE, Kernels::conv2d_fwd_i8),
        "conv2d_fwd_i8_n64" => |b| forward(b, "conv2d_fwd_i8_n64", N64, Kernels::conv2d_fwd_i8_n64),
        "conv2d_fwd_i8_small" => |b| forward(b, "conv2d_fwd_i8_small", SMALL, Kernels::conv2d_fwd_i8_small),
        "conv2d_fwd_i8_n32" => |b| forward(b, "conv2d_fwd_i8_n32", N32, Kernels::conv2d_fwd_i8_n32),
        "conv2d_fwd_i8_any" => |b| forward(b, "conv2d_fwd_i8_any", ANY, Kernels::conv2d_fwd_i8_any),
        "conv2d_fwd_i8_stream" => |b| stream(b, "conv2d_fwd_i8_stream", LARGE, Kernels::conv2d_fwd_i8_stream),
        "conv2d_fwd_i8_stream_n64" => |b| stream(b, "conv2d_fwd_i8_stream_n64", N64, Kernels::conv2d_fwd_i8_stream_n64),
        "conv2d_fwd_i8_stream_small" => {
            |b| stream(b, "conv2d_fwd_i8_stream_small", SMALL, Kernels::conv2d_fwd_i8_stream_small)
        }
        "conv2d_fwd_i8_stream_n32" => |b| stream(b, "conv2d_fwd_i8_stream_n32", N32, Kernels::conv2d_fwd_i8_stream_n32),
        "conv2d_fwd_i8_stream_any" => |b| stream(b, "conv2d_fwd_i8_stream_any", ANY, Kernels::conv2d_fwd_i8_stream_any),
        "conv2d_dgrad_i8" => |b| backward(b, "conv2d_dgrad_i8", LARGE, Kernels::conv2d_dgrad_i8),
        "conv2d_dgrad_i8_n64" => |b| backward(b, "conv2d_dgrad_i8_n64", N64, Kernels::conv2d_dgrad_i8_n64),
        "conv2d_dgrad_i8_small" => |b| backward(b, "conv2d_dgrad_i8_small", SMALL, Kernels::conv2d_dgrad_i8_small),
        "conv2d_dgrad_i8_n32" => |b| backward(b, "conv2d_dgrad_i8_n32", N32, Kernels::conv2d_dgrad_i8_n32),
        "conv2d_dgrad_i8_any" => |b| backward(b, "conv2d_dgrad_i8_any", ANY, Kernels::conv2d_dgrad_i8_any),
        "conv2d_dgrad_i8_masked" => |b| masked(b, "conv2d_dgrad_i8_masked", LARGE, Kernels::conv2d_dgrad_i8_masked),
        "conv2d_dgrad_i8_masked_n64" => {
            |b| masked(b, "conv2d_dgrad_i8_masked_n64", N64, Kernels::conv2d_dgrad_i8_masked_n64)
        }
        "conv2d_dgrad_i8_masked_small" => {
            |b| masked(b, "conv2d_dgrad_i8_masked_small", SMALL, Kernels::conv2d_dgrad_i8_masked_small)
        }
        "conv2d_dgrad_i8_masked_n32" => {
            |b| masked(b, "conv2d_dgrad_i8_masked_n32", N32, Kernels::conv2d_dgrad_i8_masked_n32)
        }
        "conv2d_dgrad_i8_masked_any" => {
            |b| masked(b, "conv2d_dgrad_i8_masked_any", ANY, Kernels::conv2d_dgrad_i8_masked_any)
        }
        "conv2d_wgrad_i8" => |b| weights(b, "conv2d_wgrad_i8", 128, Kernels::conv2d_wgrad_i8),
        "conv2d_wgrad_i8_small" => |b| weights(b, "conv2d_wgrad_i8_small", 64, Kernels::conv2d_wgrad_i8_small),
        _ => return None,
    })
}

/// Rows, columns, threads and bytes of shared memory of a tile; whether it is for any taps and strides.
#[derive(Clone, Copy)]
struct Tile(usize, usize, u32, u32, bool);

const LARGE: Tile = Tile(128, 128, 128, 81920, false);
const N64: Tile = Tile(128, 64, 128, 61440, false);
const SMALL: Tile = Tile(64, 64, 64, 49152, false);
const N32: Tile = Tile(128, 32, 64, 61440, false);
const ANY: Tile = Tile(64, 64, 64, 32768, true);

impl Tile {
    fn dims(self, b: &Bench, kernel: &'static str, rows: usize, columns: usize) -> Outcome<Dims> {
        let Tile(m, n, threads, shared, _) = self;
        b.kernels.allow_shared("conv2d_i8", kernel, shared)?;
        let grid = [rows.div_ceil(m) as u32, columns.div_ceil(n) as u32, 1];
        Ok(Dims { grid, block: [threads, 1, 1], shared })
    }

    /// The shapes that it can do; `gradient`: as a data gradient.
    fn shapes(self, gradient: bool) -> Vec<(Conv2d, bool)> {
        let fits = |p: &Conv2d| self.4 || (p.r <= 12 && (!gradient || p.stride_h.is_power_of_two()));
        let all = SHAPES.iter().enumerate().map(|(i, s)| (convolution(*s), i % 2 == 0));
        all.filter(|(p, _)| fits(p)).collect()
    }
}

/// Images, height, width, C, K, kernel, stride, padding.
type Sizes = (usize, usize, usize, usize, usize, usize, usize, usize);

/// Every number of stages up to one more than are in flight; strides; rows behind the tensor's end in every quarter of a block; tiles that are not full in either direction, parts of them that are empty, and one that is full; more than 128 rows; a second
/// block of rows whose few rows are all 0, see [`quiet`].
const SHAPES: [Sizes; 23] = [
    (1, 1, 1, 1, 1, 1, 1, 0),
    (1, 5, 5, 20, 37, 3, 1, 1),
    (3, 5, 5, 16, 130, 1, 1, 0),
    (2, 9, 9, 48, 16, 3, 2, 1),
    (2, 6, 6, 130, 20, 3, 1, 1),
    (1, 8, 8, 64, 64, 3, 1, 1),
    (1, 14, 13, 3, 5, 13, 1, 6),
    (1, 2, 3, 100, 100, 1, 1, 0),
    (1, 2, 2, 144, 144, 1, 1, 0),
    (1, 4, 4, 64, 64, 2, 1, 0),
    (1, 4, 4, 90, 90, 2, 1, 0),
    (1, 11, 6, 16, 20, 1, 1, 0),
    (1, 11, 6, 210, 210, 1, 1, 0),
    (1, 12, 11, 3, 5, 5, 1, 2),
    (1, 12, 11, 3, 5, 3, 1, 1),
    (1, 7, 8, 20, 20, 7, 2, 3),
    (2, 6, 5, 16, 20, 1, 2, 0),
    (1, 7, 7, 20, 20, 3, 3, 1),
    (1, 1, 1, 20, 70, 1, 1, 0),
    (1, 2, 1, 20, 70, 1, 1, 0),
    (1, 5, 4, 20, 70, 1, 1, 0),
    (1, 9, 4, 20, 70, 1, 1, 0),
    (1, 13, 4, 20, 70, 1, 1, 0),
];

/// Rows of pixels, those behind the first block all 0 where a pixel meets one pixel alone: rows behind the tensor's end must not count for the exponent of that block.
fn quiet(p: &Conv2d, start: usize, rows: usize, c: usize) -> Vec<i8> {
    let mut m = mantissas(start, rows, c);
    if (p.h, p.r) == (11, 1) {
        m[64 * pad(c)..].fill(0);
    }
    m
}

fn convolution((n, h, w, c, k, kernel, stride, padding): Sizes) -> Conv2d {
    let attr = Conv2dAttr::square(k, kernel, stride, padding);
    Conv2d::new(n, Shape::new(h, w, c), &attr).unwrap_or_else(|e| panic!("{e}"))
}

fn call(conv: Conv2d, stochastic: bool, wide: bool) -> Conv2dI8 {
    Conv2dI8 { conv, noise: rounding(stochastic), wide: u32::from(wide) }
}

/// Taps, pixels of the output and of the input.
fn extents(p: &Conv2d) -> (usize, usize, usize) {
    ((p.r * p.s) as usize, p.rows(), (p.n * p.h * p.w) as usize)
}

type A = DevPtr;
type Forward = fn(&Kernels, Dims, StreamId, &Conv2dI8, A, A, A, A, A, A, A, A, u32) -> Result<()>;

fn forward(b: &Bench, name: &'static str, tile: Tile, launch: Forward) -> Outcome {
    for (p, stochastic) in b.each(tile.shapes(false)) {
        let (n, c, k, (taps, rows, pixels)) = (p.n as usize, p.c as usize, p.k as usize, extents(&p));
        let (x, xe) = (b.small(&quiet(&p, 0, pixels, c))?, b.small(&exponents(n))?);
        let (w, we) = (b.small(&mantissas(7, k * taps, c))?, b.small(&exponents(k))?);
        let (y, ye, step) = (b.blank(rows * pad(k))?, b.blank(blocks(rows, k))?, b.step()?);
        let sums = b.blank(rows.div_ceil(64) * pad(k) * size_of::<OutputSums>())?;
        let (dims, p) = (tile.dims(b, name, rows, pad(k))?, call(p, stochastic, false));
        let [x_, xe_, w_, we_, step_] = [&x, &xe, &w, &we, &step].map(at);
        launch(&b.kernels, dims, STREAM, &p, x_, xe_, w_, we_, step_, at(&y), at(&ye), at(&sums), 0)?;
        b.take(&[&y, &ye, &sums])?;
    }
    Ok(())
}

type Stream = fn(&Kernels, Dims, StreamId, &Conv2dStreamI8, A, A, A, A, A, A, A, A, A, A, A, A, u32) -> Result<()>;

/// With and without a tensor below and a stored copy, in f32 and 16 bits, by turns. Then a whole block of rows of f32 that ends in the middle of each pair of channels a thread can have.
fn stream(b: &Bench, name: &'static str, tile: Tile, launch: Stream) -> Outcome {
    let odd = (0..8).map(|j| (convolution((1, 8, 8, 3, 8 * j + 5, 1, 1, 0)), false));
    let (shapes, whole) = (tile.shapes(false), tile.shapes(false).len());
    for (i, (p, stochastic)) in b.each(shapes.into_iter().chain(odd).enumerate()) {
        let (n, c, k, (taps, rows, pixels)) = (p.n as usize, p.c as usize, p.k as usize, extents(&p));
        let (add, stored) = (i % 3 != 2, i % 4 != 3);
        let of = |wide: bool| if wide { Form::Bfp16 } else { Form::F32 };
        let (add, stored) = (add || i >= whole, stored || i >= whole);
        let (below, form) = (of(i < whole && i % 2 == 0), of(i < whole && i % 5 < 3));
        let (x, xe) = (b.small(&quiet(&p, 0, pixels, c))?, b.small(&exponents(n))?);
        let (w, we) = (b.small(&mantissas(7, k * taps, c))?, b.small(&exponents(k))?);
        let ([other, oe], step) = (b.tensor(below, if add { rows } else { 0 }, k)?, b.step()?);
        let ([s, se], q) = (b.written(form, rows, k)?, b.blank(usize::from(stored) * rows * pad(k))?);
        let e = b.blank(usize::from(stored) * blocks(rows, k))?;
        let sums = b.blank(usize::from(stored) * rows.div_ceil(64) * pad(k) * size_of::<OutputSums>())?;
        let (dims, product) = (tile.dims(b, name, rows, pad(k))?, call(p, stochastic, false));
        let (add, store) = (u32::from(add), u32::from(stored));
        let p = Conv2dStreamI8 { product, add, other: below as u32, form: form as u32, store };
        let [x_, xe_, w_, we_, step_, other_, oe_] = [&x, &xe, &w, &we, &step, &other, &oe].map(at);
        let [s_, se_, q_, e_, sums_] = [&s, &se, &q, &e, &sums].map(at);
        launch(&b.kernels, dims, STREAM, &p, x_, xe_, w_, we_, step_, other_, oe_, s_, se_, q_, e_, sums_, 0)?;
        b.take(&[&s, &se, &q, &e, &sums])?;
    }
    Ok(())
}

type Backward = fn(&Kernels, Dims, StreamId, &Conv2dI8, A, A, A, A, A, A, u32) -> Result<()>;

fn backward(b: &Bench, name: &'static str, tile: Tile, launch: Backward) -> Outcome {
    for (p, stochastic) in b.each(tile.shapes(true)) {
        let (n, c, k, (taps, rows, pixels)) = (p.n as usize, p.c as usize, p.k as usize, extents(&p));
        let (dy, ed) = (b.small(&quiet(&p, 0, rows, k))?, b.small(&exponents(n))?);
        let (w, step) = (b.small(&mantissas(7, c * taps, k))?, b.step()?);
        let (dx, dxe) = (b.blank(pixels * pad(c))?, b.blank(blocks(pixels, c))?);
        let (dims, p) = (tile.dims(b, name, pixels, pad(c))?, call(p, stochastic, false));
        launch(&b.kernels, dims, STREAM, &p, at(&dy), at(&ed), at(&w), at(&step), at(&dx), at(&dxe), 0)?;
        b.take(&[&dx, &dxe])?;
    }
    Ok(())
}

type Masked = fn(&Kernels, Dims, StreamId, &Conv2dI8, A, A, A, A, A, A, A, A, A, A, u32) -> Result<()>;

fn masked(b: &Bench, name: &'static str, tile: Tile, launch: Masked) -> Outcome {
    for (p, stochastic) in b.each(tile.shapes(true)) {
        let (n, c, k, (taps, rows, pixels)) = (p.n as usize, p.c as usize, p.k as usize, extents(&p));
        let (dy, ed) = (b.small(&quiet(&p, 0, rows, k))?, b.small(&exponents(n))?);
        let (w, step) = (b.small(&mantissas(7, c * taps, k))?, b.step()?);
        let (y, ye, affine) =
            (b.small(&mantissas(9, pixels, c))?, b.small(&exponents(blocks(pixels, c)))?, b.affine(c)?);
        let (dx, dxe) = (b.blank(pixels * pad(c))?, b.blank(blocks(pixels, c))?);
        let sums = b.blank(pixels.div_ceil(64) * pad(c) * size_of::<GradientSums>())?;
        let (dims, p) = (tile.dims(b, name, pixels, pad(c))?, call(p, stochastic, false));
        let [dy, ed, w, step, y, ye, affine] = [&dy, &ed, &w, &step, &y, &ye, &affine].map(at);
        let (dx_, dxe_, sums_) = (at(&dx), at(&dxe), at(&sums));
        launch(&b.kernels, dims, STREAM, &p, dy, ed, w, step, y, ye, affine, dx_, dxe_, sums_, 0)?;
        b.take(&[&dx, &dxe, &sums])?;
    }
    Ok(())
}

/// A convolution's weight gradient, pixels of a slice, slices of a group, and whether dY has 16 bits.
type Split = (Sizes, usize, usize, bool);

/// One slice and several, of fewer and more stages than are in flight; groups of one level and of two; one group and several; both halves of 16 bits.
const SPLITS: [Split; 9] = [
    ((1, 5, 5, 20, 37, 3, 1, 1), 64, 1, false),
    ((1, 20, 15, 16, 16, 1, 1, 0), 320, 1, false),
    ((1, 20, 17, 1, 3, 1, 1, 0), 64, 6, false),
    ((2, 9, 9, 3, 5, 3, 2, 1), 64, 9, true),
    ((1, 13, 10, 16, 17, 1, 1, 0), 64, 2, true),
    ((1, 15, 10, 3, 133, 3, 1, 1), 64, 2, false),
    ((3, 4, 4, 130, 20, 1, 1, 0), 64, 1, false),
    ((1, 5, 5, 3, 130, 3, 1, 1), 64, 1, false),
    // A stage behind those in flight begins in the second image.
    ((2, 14, 13, 3, 20, 3, 1, 1), 384, 1, false),
];

type Weights = fn(&Kernels, Dims, StreamId, &Conv2dI8, A, A, A, A, u32, u32, A, A) -> Result<()>;

fn weights(b: &Bench, name: &'static str, side: usize, launch: Weights) -> Outcome {
    for (sizes, slice, group, wide) in b.each(SPLITS) {
        let p = convolution(sizes);
        let (c, k, (taps, rows, pixels)) = (p.c as usize, p.k as usize, extents(&p));
        let (halves, slices) = (1 + usize::from(wide), rows.div_ceil(slice));
        let tiles = [pad(k).div_ceil(side), (taps * pad(c)).div_ceil(side)];
        let shared = (4 * 2 * side * 64) as u32;
        b.kernels.allow_shared("conv2d_wgrad_i8", name, shared)?;
        let deep = halves * slices;
        let dims = Dims { grid: [tiles[0] as u32, tiles[1] as u32, deep as u32], block: [side as u32, 1, 1], shared };
        let mut nodes = 0;
        let mut width = group.min(slices);
        while width > 1 {
            width = width.div_ceil(4);
            nodes += width;
        }
        let counters = tiles[0] * tiles[1] * (halves * slices.div_ceil(group) * nodes + 1);
        let (x, dyw) = (b.small(&mantissas(0, pixels, c))?, b.small(&mantissas(7, halves * rows, k))?);
        let (ew, dw) = (b.small(&exponents(k))?, b.room(p.w_len())?);
        // One slice alone needs neither counters nor room for sums.
        let alone = deep == 1;
        let tickets = b.words(&vec![0; if alone { 0 } else { counters }])?;
        let partial = b.cuda.alloc(if alone { 0 } else { deep * tiles[0] * tiles[1] * side * side * 4 })?;
        let (p, slice, group) = (call(p, true, wide), slice as u32, group as u32);
        let (x, dyw, partial, ew) = (at(&x), at(&dyw), at(&partial), at(&ew));
        launch(&b.kernels, dims, STREAM, &p, x, dyw, partial, at(&tickets), slice, group, ew, at(&dw))?;
        b.take(&[&dw, &tickets])?;
    }
    Ok(())
}
