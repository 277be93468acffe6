//! Stochastic gradient descent with momentum and weight decay in PyTorch's order, plus the L1 sub-gradient on BN scales.
//!
//! Per element (early-bird.md 1.2): `d = g + l1*sign(w)` (BN scales only, sign(0) = 0) `+ wd*w`; `v = mu*v + d`; `w -= lr*v`. `v` starts at 0, which equals
//! PyTorch's "first step v = d". No Nesterov, no dampening. All parameters lie in one arena with the BN scales first, so that one launch does the step
//! and the mask kernel finds its input in one piece.

use bytemuck::{Pod, Zeroable};

/// What kernels receive; the learning rate is in device memory, because it changes under a captured graph.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct Sgd {
    /// Elements of the arena.
    pub count: u32,
    /// The first this many are BN scales and get the L1 term.
    pub scales: u32,
    /// Momentum mu.
    pub momentum: f32,
    /// Weight decay wd, on every parameter.
    pub weight_decay: f32,
    /// L1 factor on BN scales.
    pub l1: f32,
}
