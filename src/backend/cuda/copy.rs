//! Grid of `kernels/copy.cu`.

use super::grid_stride;
use super::launch::Kernels;
use crate::driver::{DevPtr, Result, StreamId};

/// `y = x` for `n` bytes that do not overlap.
pub fn copy_u8(kernels: &Kernels, stream: StreamId, x: DevPtr, y: DevPtr, n: u32) -> Result<()> {
    if n == 0 {
        return Ok(());
    }
    // Differently aligned ranges go byte by byte.
    let work = if x.0 % 16 == y.0 % 16 { n.div_ceil(16) } else { n };
    kernels.copy_u8(grid_stride(kernels, work), stream, x, y, n)
}
