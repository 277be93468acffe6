//! The backend of GPUs, real and virtual: grid, block and arguments for each kernel. One file per operator; all of them know only
//! [`crate::driver::Driver`].
//!
//! [`Cuda`] is the backend, `capture` records series of calls as graphs.

mod add;
mod advance;
mod augment;
mod batchnorm;
mod batchnorm_add_i8;
mod batchnorm_i8;
mod capture;
pub mod cast;
mod classifier;
mod conv2d;
mod conv2d_i8;
pub mod copy;
mod device;
pub mod fill;
mod int8;
pub mod launch;
mod linear;
pub mod mask;
pub mod matmul;
mod memory;
mod pool;
mod quantize;
mod relu;
mod select;
mod sgd;
mod sgd_i8;
mod softmax_xent;

pub use device::Cuda;
pub use memory::MOST_BYTES;

use crate::driver::{DevPtr, Dims};
use launch::Kernels;

/// Blocks of 256 threads for `work` items in a grid-stride loop: enough to fill the device, no more.
fn grid_stride(kernels: &Kernels, work: u32) -> Dims {
    let props = kernels.driver().props();
    let resident = props.sm_count * (props.max_threads_per_sm / 256);
    Dims::linear(work.div_ceil(256).clamp(1, resident.max(1)), 256)
}

/// Blocks of 256 threads for `n` elements in rows of `c`, of which element i belongs to thread i modulo the number that comes with them: a multiple of `c`, so that
/// each thread stays with one column, and of the 8 elements of a sector. `each` elements per thread, or fewer where most of the device would have none.
fn by_column(kernels: &Kernels, n: usize, c: u32, each: usize) -> (Dims, u32) {
    let unit = c * 8 / (1 << c.trailing_zeros().min(3));
    let props = kernels.driver().props();
    let most = (props.sm_count * props.max_threads_per_sm).max(1024);
    let threads = u32::try_from(n / each).unwrap_or(most).clamp(1024, most).next_multiple_of(unit);
    (Dims::linear(threads.div_ceil(256), 256), threads)
}

/// Whether channels can be read in fours: `c` a multiple of 4 and every address aligned to 16.
fn wide(c: u32, addresses: &[DevPtr]) -> bool {
    c.is_multiple_of(4) && addresses.iter().all(|a| a.0 % 16 == 0)
}
