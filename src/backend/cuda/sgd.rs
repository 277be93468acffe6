//! Grid of `kernels/sgd.cu`.

use super::device::Cuda;
use super::grid_stride;
use crate::Result;
use crate::backend::Span;
use crate::ops::sgd::Sgd;

/// One step of all parameters.
pub(super) fn step(cuda: &Cuda, p: &Sgd, lr: Span, g: Span, v: Span, w: Span) -> Result<()> {
    let bytes = p.count as usize * 4;
    let ([lr, g], [v, w]) = cuda.open("sgd_step_f32", [(lr, 4), (g, bytes)], [(v, bytes), (w, bytes)])?;
    if p.count == 0 {
        return Ok(());
    }
    let kernels = cuda.kernels();
    Ok(kernels.sgd_step_f32(grid_stride(kernels, p.count.div_ceil(4)), cuda.stream(), p, lr, g, v, w)?)
}
