//! Grid of `kernels/fill.cu`.

use super::grid_stride;
use super::launch::Kernels;
use crate::driver::{DevPtr, Result, StreamId};

/// `x[i] = value` for `n` elements of 4 bytes; `x` is 4-byte aligned.
pub fn fill_u32(kernels: &Kernels, stream: StreamId, x: DevPtr, n: u32, value: u32) -> Result<()> {
    if n == 0 {
        return Ok(()); // a grid of no blocks is an error of the driver
    }
    kernels.fill_u32(grid_stride(kernels, n.div_ceil(4)), stream, x, n, value)
}

/// [`fill_u32`] with an f32.
pub fn fill_f32(kernels: &Kernels, stream: StreamId, x: DevPtr, n: u32, value: f32) -> Result<()> {
    fill_u32(kernels, stream, x, n, value.to_bits())
}
