//! Tiles, grids and slices of `kernels/conv2d.cu`.
//!
//! Tiles of the forward pass and of the input gradient give the same bits, so the device may choose. How the weight gradient is sliced depends on the shape alone:
//! the same bits on every device.

use super::device::Cuda;
use super::linear;
use super::{grid_stride, wide};
use crate::Result;
use crate::backend::Span;
use crate::driver::Dims;
use crate::ops::conv2d::Conv2d;

/// Multiprocessors that weight gradients are planned for: those of an A100, on every device.
const WGRAD_SMS: usize = 108;
/// Most blocks of a weight gradient: four per multiprocessor.
const WGRAD_BLOCKS: usize = 4 * WGRAD_SMS;
/// Multiply-adds of a multiprocessor, and bytes of memory, in a nanosecond (A100).
const MACS_PER_NS: usize = 90;
const BYTES_PER_NS: usize = 2039;
/// Rows of a slice at the least.
const SLICE_ROWS: usize = 512;
/// The kernels' step along rows.
const STEP: usize = 16;

/// Blocks that a tile takes along rows and columns.
fn tiles(rows: usize, columns: usize, tile: Tile) -> (usize, usize) {
    (rows.div_ceil(tile.0), columns.div_ceil(tile.1))
}

/// Rows and columns of a tile; threads of its block.
#[derive(Clone, Copy, PartialEq)]
struct Tile(usize, usize, u32);

const LARGE: Tile = Tile(128, 128, 256);
const SMALL: Tile = Tile(64, 32, 64);
/// Element by element: forward pass and input gradient, weight gradient.
const ANY: Tile = Tile(64, 64, 64);
const ANY_WGRAD: Tile = Tile(64, 32, 32);

/// Blocks of one tile each, `z` times.
fn dims(rows: usize, columns: usize, tile: Tile, z: usize) -> Dims {
    let (x, y) = tiles(rows, columns, tile);
    Dims { grid: [x as u32, y as u32, z as u32], block: [tile.2, 1, 1], shared: 0 }
}

/// Whether 128x128 tiles, over `z` products, keep three quarters of the device busy to the end and are mostly full. (Small ones cost a tenth more per
/// multiply-add, and twice the traffic.)
fn large(cuda: &Cuda, rows: usize, columns: usize, z: usize) -> bool {
    let (x, y) = tiles(rows * z, columns, LARGE);
    let sms = cuda.kernels().driver().props().sm_count as usize;
    let rounds = (x * y).div_ceil(sms);
    columns > 64 && 4 * x * y >= 3 * rounds * sms
}

/// Slices of the weight gradient, and rows of each: as many as take the least time, that of the multiprocessor with the most blocks and that of adding the
/// slices up, at peak rates.
fn slices(p: &Conv2d) -> (usize, usize) {
    let columns = p.r as usize * p.s as usize * p.c as usize;
    let tile = wgrad_tile(p);
    let (x, y) = tiles(p.k as usize, columns, tile);
    let rows = p.rows().max(1);
    let most = (WGRAD_BLOCKS / (x * y).max(1)).clamp(1, rows.div_ceil(SLICE_ROWS));
    let cost = |slices: usize| {
        let products = (x * y * slices).div_ceil(WGRAD_SMS) * rows.div_ceil(slices) * (tile.0 * tile.1) / MACS_PER_NS;
        let sum = if slices == 1 { 0 } else { 2000 + 2 * slices * p.w_len() * 4 / BYTES_PER_NS };
        products + sum
    };
    // Two blocks per multiprocessor at the least, where rows allow: one alone waits for its own loads.
    let least = (2 * WGRAD_SMS).div_ceil((x * y).max(1)).min(most);
    let wanted = (least..=most).min_by_key(|&slices| cost(slices)).unwrap_or(least);
    let per_slice = rows.div_ceil(wanted).next_multiple_of(STEP);
    (rows.div_ceil(per_slice), per_slice)
}

/// The tile that a weight gradient of this shape is planned for.
fn wgrad_tile(p: &Conv2d) -> Tile {
    if p.k >= 128 && p.k.is_multiple_of(4) && p.c.is_multiple_of(4) { LARGE } else { SMALL }
}

/// Bytes of scratch memory of the weight gradient: every slice's sums, where there are several.
pub(super) fn workspace(p: &Conv2d) -> usize {
    match slices(p).0 {
        1 => 0,
        n => n * p.w_len() * 4,
    }
}

/// `y = conv(x, w) + bias`.
pub(super) fn fwd(cuda: &Cuda, p: &Conv2d, x: Span, w: Span, bias: Option<Span>, y: Span) -> Result<()> {
    let k = p.k as usize;
    let bias_arg = bias.map_or((w, 0), |bias| (bias, k * 4));
    let reads = [(x, p.x_len() * 4), (w, p.w_len() * 4), bias_arg];
    let ([x, w, bias_at], [y]) = cuda.open("conv2d_fwd_f32", reads, [(y, p.y_len() * 4)])?;
    if p.y_len() == 0 {
        return Ok(());
    }
    let bias = if bias.is_some() { bias_at } else { crate::driver::DevPtr::NULL };
    let (kernels, stream) = (cuda.kernels(), cuda.stream());
    let dims = |tile| dims(p.rows(), k, tile, 1);
    if !wide(p.c, &[x, w]) {
        return Ok(kernels.conv2d_fwd_f32_any(dims(ANY), stream, p, x, w, bias, y)?);
    }
    if large(cuda, p.rows(), k, 1) {
        return Ok(kernels.conv2d_fwd_f32(dims(LARGE), stream, p, x, w, bias, y)?);
    }
    Ok(kernels.conv2d_fwd_f32_small(dims(SMALL), stream, p, x, w, bias, y)?)
}

/// Gradient of the input: a product for every residue class of pixels, of which those are the largest that begin with the first tap.
pub(super) fn dgrad(cuda: &Cuda, p: &Conv2d, dy: Span, w: Span, dx: Span) -> Result<()> {
    let reads = [(dy, p.y_len() * 4), (w, p.w_len() * 4)];
    let ([dy, w], [dx]) = cuda.open("conv2d_dgrad_f32", reads, [(dx, p.x_len() * 4)])?;
    if p.x_len() == 0 {
        return Ok(());
    }
    let (kernels, stream) = (cuda.kernels(), cuda.stream());
    let (rows, classes) = (p.class_rows(), p.stride_h as usize * p.stride_w as usize);
    let c = p.c as usize;
    let dims = |tile| dims(rows, c, tile, classes);
    if !(wide(p.c, &[dy, w, dx]) && p.k.is_multiple_of(4)) {
        return Ok(kernels.conv2d_dgrad_f32_any(dims(ANY), stream, p, dy, w, dx)?);
    }
    if large(cuda, rows, c, classes) {
        return Ok(kernels.conv2d_dgrad_f32(dims(LARGE), stream, p, dy, w, dx)?);
    }
    Ok(kernels.conv2d_dgrad_f32_small(dims(SMALL), stream, p, dy, w, dx)?)
}

/// Gradients of the weights and, where there is one, of the bias.
pub(super) fn wgrad(cuda: &Cuda, p: &Conv2d, x: Span, dy: Span, dw: Span, dbias: Option<Span>, ws: Span) -> Result<()> {
    let bias_arg = match dbias {
        Some(dbias) => (dbias, p.k as usize * 4),
        None => (dw.part(0, 0)?, 0),
    };
    let reads = [(x, p.x_len() * 4), (dy, p.y_len() * 4)];
    let writes = [(dw, p.w_len() * 4), bias_arg, (ws, workspace(p))];
    let ([x, dy], [dw, dbias_at, ws]) = cuda.open("conv2d_wgrad_f32", reads, writes)?;
    if p.w_len() == 0 {
        return Ok(());
    }
    let (kernels, stream) = (cuda.kernels(), cuda.stream());
    let (count, per_slice) = slices(p);
    let out = if count > 1 { ws } else { dw };
    let columns = p.r as usize * p.s as usize * p.c as usize;
    let dims = |tile| dims(p.k as usize, columns, tile, count);
    let rows = per_slice as u32;
    if !(wide(p.c, &[x, dy, out]) && p.k.is_multiple_of(4)) {
        kernels.conv2d_wgrad_f32_any(dims(ANY_WGRAD), stream, p, x, dy, out, rows)?;
    } else if wgrad_tile(p) == LARGE {
        kernels.conv2d_wgrad_f32(dims(LARGE), stream, p, x, dy, out, rows)?;
    } else {
        kernels.conv2d_wgrad_f32_small(dims(SMALL), stream, p, x, dy, out, rows)?;
    }
    if count > 1 {
        let n = p.w_len() as u32;
        kernels.conv2d_wgrad_sum_f32(grid_stride(kernels, n), stream, ws, dw, count as u32, n)?;
    }
    match dbias {
        Some(_) => linear::bias_bwd(cuda, dy, dbias_at, p.rows() as u32, p.k),
        None => Ok(()),
    }
}
