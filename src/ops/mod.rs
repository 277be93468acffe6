//! One file per operator: its attributes in the network, the parameter struct that kernels receive, its shape rule, gradient rule and cost.
//! No device code: `crate::backend` has that, under the same file names.
//!
//! An operator appears in two forms. In the network ([`crate::graph`]) it is its *attributes* (kernel size, stride) without a batch. Lowered for a
//! batch ([`crate::autograd`]) it is one or more [`Kernel`]s: parameter struct plus the values read and written.

pub mod add;
pub mod advance;
pub mod augment;
pub mod batchnorm;
pub mod batchnorm_add;
pub mod classifier;
pub mod conv2d;
pub mod linear;
pub mod mask;
pub mod matmul;
pub mod pool;
pub mod quantize;
pub mod relu;
pub mod select;
pub mod sgd;
pub mod softmax_xent;

mod kernel;
mod operator;

pub use kernel::{Call, Emit, Kernel, Value};
pub(crate) use operator::u;
pub use operator::{Activation, Node, Operator, ParameterKind, ParameterSpec};

use bytemuck::{Pod, Zeroable};
use serde::{Deserialize, Serialize};

/// Shape of one image inside the network, without the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Shape {
    /// Rows.
    pub h: usize,
    /// Columns.
    pub w: usize,
    /// Channels.
    pub c: usize,
}

impl Shape {
    /// `h` x `w` pixels of `c` channels.
    pub fn new(h: usize, w: usize, c: usize) -> Self {
        Shape { h, w, c }
    }

    /// Elements per image.
    pub fn elements(&self) -> usize {
        self.h * self.w * self.c
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}x{}", self.h, self.w, self.c)
    }
}

/// Sums over the samples seen since they were last taken.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable, Serialize, Deserialize)]
pub struct Metrics {
    /// Sum of the samples' cross-entropy losses, in nats.
    pub loss_sum: f64,
    /// Samples whose largest logit is the label's.
    pub top1: u64,
    /// Samples whose label is among the five largest logits.
    pub top5: u64,
    /// Samples.
    pub count: u64,
}

impl Metrics {
    /// Mean loss per sample; NaN where there was none.
    pub fn loss(&self) -> f64 {
        self.loss_sum / self.count as f64
    }

    /// Share of samples classified right, 0 to 1; NaN where there was none.
    pub fn accuracy(&self) -> f64 {
        self.top1 as f64 / self.count as f64
    }

    /// Share of samples whose label is among the five largest logits, 0 to 1; NaN where there was none.
    pub fn top5_accuracy(&self) -> f64 {
        self.top5 as f64 / self.count as f64
    }

    /// Adds another's sums.
    pub fn merge(&mut self, other: &Metrics) {
        self.loss_sum += other.loss_sum;
        self.top1 += other.top1;
        self.top5 += other.top5;
        self.count += other.count;
    }
}
