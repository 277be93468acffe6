//! Grid of `kernels/mask.cu`.

use super::launch::Kernels;
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
    /// u32 per ratio: channels kept.
    pub kept: DevPtr,
}

/// Ranks all scales and draws one mask per ratio: one launch of one block.
pub fn mask_step_f32(kernels: &Kernels, stream: StreamId, p: &Mask, b: &MaskBuffers) -> Result<()> {
    kernels.mask_step_f32(Dims::linear(1, 1024), stream, p, b.scales, b.ring, b.thresholds, b.distances, b.kept)
}
