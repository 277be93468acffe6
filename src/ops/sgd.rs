//! Stochastic gradient descent with momentum and weight decay in PyTorch's order, plus the L1 sub-gradient on BN scales.
//!
//! Per element (early-bird.md 1.2): `d = g + l1*sign(w)` (BN scales only, sign(0) = 0) `+ wd*w`; `v = mu*v + d`; `w -= lr*v`. `v` starts at 0, which equals
//! PyTorch's "first step v = d". No Nesterov, no dampening. All parameters lie in one arena with the BN scales first, so that one launch does the step
//! and the mask kernel finds its input in one piece.

use bytemuck::{Pod, Zeroable};

use super::operator::u;
use crate::quant::layout::pad;

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

/// How the 8-bit step treats a parameter.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Stays in f32: BN scales and shifts, biases.
    F32 = 0,
    /// Weights, momenta and gradients of a row share an exponent each: linear weights.
    Rows = 1,
    /// The same, and the mantissas are written for the integer GEMMs, too: convolution weights.
    Conv = 2,
    /// Every element has exponents of its own, over f32's whole range: numbers of 7 significant bits. What the official code makes of BN scales and shifts and biases.
    Elements = 3,
}

/// A parameter in the table that the 8-bit step walks. Element `i` of row `k` is element `offset + k * columns + i` of the arena.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Segment {
    /// First element in the arena.
    pub offset: u32,
    /// Rows (K).
    pub rows: u32,
    /// Elements of a row: R*S*C.
    pub columns: u32,
    /// A [`Format`].
    pub format: u32,
    /// Taps R*S, for [`Format::Conv`].
    pub taps: u32,
    /// Channels C, for [`Format::Conv`].
    pub c: u32,
    /// First byte of the mantissas `[K][taps][pad C]`.
    pub weights: u32,
    /// First byte of the transposed mantissas `[C][flipped taps][pad K]`.
    pub transposed: u32,
    /// First byte of the exponents `[K]`.
    pub exponents: u32,
}

impl Segment {
    /// One row of `columns` elements from `offset` on that stays in f32, and has no packed weights.
    pub const fn plain(offset: u32, columns: u32) -> Segment {
        let format = Format::F32 as u32;
        Segment { offset, rows: 1, columns, format, taps: 0, c: 0, weights: 0, transposed: 0, exponents: 0 }
    }

    /// The same, each element with an exponent of its own.
    pub const fn elements(offset: u32, columns: u32) -> Segment {
        Segment { format: Format::Elements as u32, ..Segment::plain(offset, columns) }
    }

    /// `k` output channels of `taps` taps of `c` channels from `offset` on; packed weights, transposed weights and exponents follow each other from byte `weights` on.
    pub fn conv(offset: u32, [k, taps, c]: [u32; 3], weights: u32) -> Segment {
        let transposed = weights + k * taps * u(pad(c as usize));
        let exponents = transposed + c * taps * u(pad(k as usize));
        let format = Format::Conv as u32;
        Segment { offset, rows: k, columns: taps * c, format, taps, c, weights, transposed, exponents }
    }

    /// Bytes of packed weights up to the end of this convolution's.
    pub const fn packed(&self) -> usize {
        self.exponents as usize + self.rows as usize
    }
}

/// The 8-bit step, for all parameters at once (early-bird.md 5.2, with exponents as in `quant`). Per element, each operation rounded by itself:
/// `g' = g + l1*sign(w)` (BN scales only), then `g'' = Q(g')` where the format says so, `d = g'' + wd*w`, `v' = mu*v + d`, `w' = w - lr*v'`,
/// and `w = Q(w')`, `v = Q(v')`. A row has one exponent for each of g', w' and v'; in [`Format::Elements`], an element, and Q is [`crate::quant::bfp::Grid`]. Weights and momenta
/// are numbers of the 8-bit grid, held as f32.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct SgdI8 {
    /// The plain step's constants; `count` elements in the arena.
    pub sgd: Sgd,
    /// Segments in the table.
    pub segments: u32,
    /// 1: the arena keeps weights in f32 and only their 8-bit copies are rounded.
    pub master_f32: u32,
    /// 1: gradients and momenta are rounded, too.
    pub round_gradients: u32,
    /// The run's seed.
    pub seed: [u32; 2],
    /// Tensor numbers of weights, momenta and gradients; the noise of an element is that of its place in the arena.
    pub tensors: [u32; 3],
}
