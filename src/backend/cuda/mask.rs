//! Grid of `kernels/mask.cu`: one block.

use super::device::Cuda;
use super::launch::Kernels;
use crate::backend::MaskSpans;
use crate::driver::{DevPtr, Dims, Result, StreamId};
use crate::ops::mask::Mask;

/// What the mask kernel reads and writes, in device memory.
#[derive(Clone, Copy, Debug)]
pub struct MaskBuffers {
    /// All BN scales of the net, f32.
    pub scales: DevPtr,
    /// u32 `[ratio][depth + 1][words]`.
    pub ring: DevPtr,
    /// f32 per ratio.
    pub thresholds: DevPtr,
    /// u32 `[ratio][depth]`: Hamming distance to the q-th previous mask, 0xffffffff where there is none yet.
    pub distances: DevPtr,
    /// u32 per ratio: channels kept; behind them, scales that are not finite.
    pub kept: DevPtr,
}

/// Ranks all scales and draws one mask per ratio: one launch of one block.
pub fn mask_step_f32(kernels: &Kernels, stream: StreamId, p: &Mask, b: &MaskBuffers) -> Result<()> {
    kernels.mask_step_f32(Dims::linear(1, 1024), stream, p, b.scales, b.ring, b.thresholds, b.distances, b.kept)
}

/// [`mask_step_f32`] on spans.
pub(super) fn step(cuda: &Cuda, p: &Mask, spans: MaskSpans) -> crate::Result<()> {
    let lengths = p.lengths()?;
    let writes = [
        (spans.ring, lengths.ring),
        (spans.thresholds, lengths.thresholds),
        (spans.distances, lengths.distances),
        (spans.kept, lengths.kept),
    ];
    let ([scales], [ring, thresholds, distances, kept]) =
        cuda.open("mask_step_f32", [(spans.scales, lengths.scales)], writes)?;
    Ok(mask_step_f32(cuda.kernels(), cuda.stream(), p, &MaskBuffers { scales, ring, thresholds, distances, kept })?)
}
