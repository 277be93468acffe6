//! The backend of GPUs, real and virtual: grid, block and arguments for each kernel. One file per operator; all of them know only
//! [`crate::driver::Driver`].
//!
//! Not here yet: `impl Backend`. What there is serves the mask kernel and the products that the operators will be lowered to.

pub mod cast;
pub mod copy;
pub mod fill;
pub mod launch;
pub mod mask;
pub mod matmul;

use crate::driver::Dims;
use launch::Kernels;

/// Blocks of 256 threads for `work` items in a grid-stride loop: enough to fill the device, no more.
fn grid_stride(kernels: &Kernels, work: u32) -> Dims {
    let props = kernels.driver().props();
    let resident = props.sm_count * (props.max_threads_per_sm / 256);
    Dims::linear(work.div_ceil(256).clamp(1, resident.max(1)), 256)
}
