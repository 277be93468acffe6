//! Grids of `kernels/sgd_i8.cu`: one launch for all parameters.

use super::device::Cuda;
use crate::Result;
use crate::backend::Span;
use crate::driver::Dims;
use crate::ops::sgd::{Segment, SgdI8};

/// Blocks that fill the device; each takes every so-many-th row.
fn dims(cuda: &Cuda, p: &SgdI8) -> Dims {
    let props = cuda.kernels().driver().props();
    let resident = props.sm_count * (props.max_threads_per_sm / 256);
    Dims::linear(resident.min(p.sgd.count).max(1), 256)
}

/// The whole step. `scalars`: learning rate and steps so far.
#[allow(clippy::too_many_arguments)] // an operator's tensors
pub(super) fn step(
    cuda: &Cuda,
    p: &SgdI8,
    table: Span,
    scalars: [Span; 2],
    g: Span,
    v: Span,
    w: Span,
    packed: Span,
) -> Result<()> {
    let bytes = p.sgd.count as usize * 4;
    let reads = [(table, p.segments as usize * size_of::<Segment>()), (scalars[0], 4), (scalars[1], 4), (g, bytes)];
    let writes = [(v, bytes), (w, bytes), (packed, packed.bytes())];
    let ([table, lr, now, g], [v, w, packed]) = cuda.open("sgd_step_i8", reads, writes)?;
    match p.sgd.count {
        0 => Ok(()),
        _ => Ok(cuda.kernels().sgd_step_i8(dims(cuda, p), cuda.stream(), p, table, lr, now, g, v, w, packed)?),
    }
}

/// Only rounding and packing.
pub(super) fn pack(cuda: &Cuda, p: &SgdI8, table: Span, step: Span, w: Span, packed: Span) -> Result<()> {
    let reads = [(table, p.segments as usize * size_of::<Segment>()), (step, 4)];
    let writes = [(w, p.sgd.count as usize * 4), (packed, packed.bytes())];
    let ([table, now], [w, packed]) = cuda.open("sgd_pack_i8", reads, writes)?;
    match p.sgd.count {
        0 => Ok(()),
        _ => Ok(cuda.kernels().sgd_pack_i8(dims(cuda, p), cuda.stream(), p, table, now, w, packed)?),
    }
}
