//! Grid of `kernels/cast.cu`.

use super::grid_stride;
use super::launch::Kernels;
use crate::driver::{DevPtr, Result, StreamId};

/// The narrow formats that f32 is cast to and from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Narrow {
    /// IEEE half precision.
    F16,
    /// bfloat16.
    Bf16,
    /// Signed 8 bits, saturating.
    I8,
    /// Unsigned 8 bits, saturating.
    U8,
}

impl Narrow {
    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            Narrow::F16 | Narrow::Bf16 => 2,
            Narrow::I8 | Narrow::U8 => 1,
        }
    }
}

/// `y[i] = to(x[i])` for `n` f32.
pub fn cast_from_f32(kernels: &Kernels, stream: StreamId, to: Narrow, x: DevPtr, y: DevPtr, n: u32) -> Result<()> {
    if n == 0 {
        return Ok(());
    }
    let dims = grid_stride(kernels, n.div_ceil(4));
    match to {
        Narrow::F16 => kernels.cast_f32_f16(dims, stream, x, y, n),
        Narrow::Bf16 => kernels.cast_f32_bf16(dims, stream, x, y, n),
        Narrow::I8 => kernels.cast_f32_i8(dims, stream, x, y, n),
        Narrow::U8 => kernels.cast_f32_u8(dims, stream, x, y, n),
    }
}

/// `y[i] = f32(x[i])` for `n` elements of `from`.
pub fn cast_to_f32(kernels: &Kernels, stream: StreamId, from: Narrow, x: DevPtr, y: DevPtr, n: u32) -> Result<()> {
    if n == 0 {
        return Ok(());
    }
    let dims = grid_stride(kernels, n.div_ceil(4));
    match from {
        Narrow::F16 => kernels.cast_f16_f32(dims, stream, x, y, n),
        Narrow::Bf16 => kernels.cast_bf16_f32(dims, stream, x, y, n),
        Narrow::I8 => kernels.cast_i8_f32(dims, stream, x, y, n),
        Narrow::U8 => kernels.cast_u8_f32(dims, stream, x, y, n),
    }
}
