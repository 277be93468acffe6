//! Grid of `kernels/add.cu`.

use super::device::Cuda;
use super::grid_stride;
use crate::Result;
use crate::backend::Span;
use crate::ops::add::Add;

/// `y = a + b`; `y` may be `a` or `b`.
pub(super) fn fwd(cuda: &Cuda, p: &Add, a: Span, b: Span, y: Span) -> Result<()> {
    let bytes = p.n as usize * 4;
    let ([a, b], [y]) = cuda.open_in_place("add_fwd_f32", [(a, bytes), (b, bytes)], [(y, bytes)])?;
    if p.n == 0 {
        return Ok(());
    }
    let kernels = cuda.kernels();
    Ok(kernels.add_fwd_f32(grid_stride(kernels, p.n.div_ceil(4)), cuda.stream(), p, a, b, y)?)
}
