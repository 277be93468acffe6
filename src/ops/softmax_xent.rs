//! Softmax cross-entropy: the loss at the end of a classifier, mean over the batch.
//!
//! Not a node of the network: [`crate::autograd`] puts it behind the last one.

use bytemuck::{Pod, Zeroable};

/// What kernels receive.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct SoftmaxXent {
    /// Batch.
    pub n: u32,
    /// Classes.
    pub classes: u32,
}
