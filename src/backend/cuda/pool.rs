//! Grids of `kernels/pool.cu`: a thread per group of four channels where they can be read together, else per channel.

use super::device::Cuda;
use super::{grid_stride, wide};
use crate::Result;
use crate::backend::Span;
use crate::ops::pool::Pool;

/// Elements of x and y.
fn sizes(p: &Pool) -> (usize, usize) {
    let pixels = |h: u32, w: u32| p.n as usize * h as usize * w as usize * p.c as usize;
    (pixels(p.h, p.w), pixels(p.p, p.q))
}

/// Threads of a backward pass, times `v` channels each: one per pixel, or one per window where windows tile the image.
fn backward_work(p: &Pool, v: usize) -> u32 {
    let tiling = p.kernel_h == p.stride && p.kernel_w == p.stride && p.padding == 0;
    let side = |n: u32| if tiling { n.div_ceil(p.stride) } else { n } as usize;
    (p.n as usize * side(p.h) * side(p.w) * (p.c as usize / v)) as u32
}

/// Maxima and their places.
pub(super) fn max_fwd(cuda: &Cuda, p: &Pool, x: Span, y: Span, index: Span) -> Result<()> {
    let (n_x, n_y) = sizes(p);
    let ([x], [y, index]) = cuda.open("maxpool_fwd_f32", [(x, n_x * 4)], [(y, n_y * 4), (index, n_y)])?;
    let (kernels, stream) = (cuda.kernels(), cuda.stream());
    if n_y == 0 {
        return Ok(());
    }
    if wide(p.c, &[x, y, index]) {
        return Ok(kernels.maxpool_fwd_f32(grid_stride(kernels, n_y as u32 / 4), stream, p, x, y, index)?);
    }
    Ok(kernels.maxpool_fwd_f32_any(grid_stride(kernels, n_y as u32), stream, p, x, y, index)?)
}

/// The gradient goes to the winners.
pub(super) fn max_bwd(cuda: &Cuda, p: &Pool, index: Span, dy: Span, dx: Span) -> Result<()> {
    let (n_x, n_y) = sizes(p);
    let ([index, dy], [dx]) = cuda.open("maxpool_bwd_f32", [(index, n_y), (dy, n_y * 4)], [(dx, n_x * 4)])?;
    let (kernels, stream) = (cuda.kernels(), cuda.stream());
    if n_x == 0 {
        return Ok(());
    }
    if wide(p.c, &[index, dy, dx]) {
        return Ok(kernels.maxpool_bwd_f32(grid_stride(kernels, backward_work(p, 4)), stream, p, index, dy, dx)?);
    }
    Ok(kernels.maxpool_bwd_f32_any(grid_stride(kernels, backward_work(p, 1)), stream, p, index, dy, dx)?)
}

/// Means of windows; of the whole image where the window is the image.
pub(super) fn avg_fwd(cuda: &Cuda, p: &Pool, x: Span, y: Span) -> Result<()> {
    let (n_x, n_y) = sizes(p);
    let ([x], [y]) = cuda.open("avgpool_fwd_f32", [(x, n_x * 4)], [(y, n_y * 4)])?;
    let (kernels, stream) = (cuda.kernels(), cuda.stream());
    if n_y == 0 {
        return Ok(());
    }
    if wide(p.c, &[x, y]) {
        return Ok(kernels.avgpool_fwd_f32(grid_stride(kernels, n_y as u32 / 4), stream, p, x, y)?);
    }
    Ok(kernels.avgpool_fwd_f32_any(grid_stride(kernels, n_y as u32), stream, p, x, y)?)
}

/// The gradient is shared among the window.
pub(super) fn avg_bwd(cuda: &Cuda, p: &Pool, dy: Span, dx: Span) -> Result<()> {
    let (n_x, n_y) = sizes(p);
    let ([dy], [dx]) = cuda.open("avgpool_bwd_f32", [(dy, n_y * 4)], [(dx, n_x * 4)])?;
    let (kernels, stream) = (cuda.kernels(), cuda.stream());
    if n_x == 0 {
        return Ok(());
    }
    if wide(p.c, &[dy, dx]) {
        return Ok(kernels.avgpool_bwd_f32(grid_stride(kernels, backward_work(p, 4)), stream, p, dy, dx)?);
    }
    Ok(kernels.avgpool_bwd_f32_any(grid_stride(kernels, backward_work(p, 1)), stream, p, dy, dx)?)
}
