//! Grid of `kernels/relu.cu`.

use super::device::Cuda;
use super::grid_stride;
use crate::Result;
use crate::backend::Span;
use crate::ops::relu::Relu;

/// `y = max(x, 0)`; `y` may be `x`.
pub(super) fn fwd(cuda: &Cuda, p: &Relu, x: Span, y: Span) -> Result<()> {
    let bytes = p.n as usize * 4;
    let ([x], [y]) = cuda.open_in_place("relu_fwd_f32", [(x, bytes)], [(y, bytes)])?;
    if p.n == 0 {
        return Ok(());
    }
    let kernels = cuda.kernels();
    Ok(kernels.relu_fwd_f32(grid_stride(kernels, p.n.div_ceil(4)), cuda.stream(), p, x, y)?)
}

/// `dx = dy` where `y > 0`, else 0; `dx` may be `dy`.
pub(super) fn bwd(cuda: &Cuda, p: &Relu, y: Span, dy: Span, dx: Span) -> Result<()> {
    let bytes = p.n as usize * 4;
    let ([y, dy], [dx]) = cuda.open_in_place("relu_bwd_f32", [(y, bytes), (dy, bytes)], [(dx, bytes)])?;
    if p.n == 0 {
        return Ok(());
    }
    let kernels = cuda.kernels();
    Ok(kernels.relu_bwd_f32(grid_stride(kernels, p.n.div_ceil(4)), cuda.stream(), p, y, dy, dx)?)
}
