//! Conversions between f32 tensors and block floating point, and the rounding noise that all 8-bit operators share.
//!
//! Formats and formulas: [`crate::quant::bfp`], [`crate::quant::layout`]. A conversion has no gradient of its own: gradients pass as if it were not there
//! (straight-through).

use bytemuck::{Pod, Zeroable};

use crate::quant::layout::{blocks, pad};

/// How a tensor that f32 and 8-bit operators both know lies in memory: residual streams, their gradients, and what meets them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Form {
    /// f32 `[rows][C]`, unpadded, without exponents.
    #[default]
    F32 = 0,
    /// 8-bit mantissas `[rows][pad C]` in blocks ([`crate::quant::layout`]).
    Stored = 1,
    /// 16-bit mantissas in the same blocks ([`crate::quant::bfp::round_16`]).
    Bfp16 = 2,
}

impl Form {
    /// The form of this number; f32 for numbers that are none.
    pub fn of(number: u32) -> Form {
        [Form::F32, Form::Stored, Form::Bfp16].into_iter().find(|form| *form as u32 == number).unwrap_or_default()
    }

    /// Bytes of the elements, and of the exponents, of a tensor of `rows` x `c`.
    pub fn bytes(self, rows: usize, c: usize) -> [usize; 2] {
        match self {
            Form::F32 => [rows * c * 4, 0],
            Form::Stored => [rows * pad(c), blocks(rows, c)],
            Form::Bfp16 => [rows * pad(c) * 2, blocks(rows, c)],
        }
    }
}

/// What keys the rounding of one tensor; the step is in device memory, because it changes under a captured graph.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct Noise {
    /// The run's seed, low and high half.
    pub seed: [u32; 2],
    /// Number of the tensor, [`crate::quant::layout::tensor`].
    pub tensor: u32,
    /// 1: stochastic; 0: to nearest (half-up where operands are rounded, half-even where tensors are only stored).
    pub stochastic: u32,
}

/// Groups of f32 to the nearest numbers of their 8-bit grids, in f32 and in place: [`crate::quant::bfp::Grid`]. What `eb8` does with an output and its gradient, a group per image.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct Round {
    /// Groups, each with an exponent of its own.
    pub groups: u32,
    /// Elements of a group.
    pub length: u32,
    /// Rounding; noise `element` of the index over all groups.
    pub noise: Noise,
}

/// Images `[N][pixels][C]`, in f32 or 16 bits, to an operand.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct Quantize {
    /// Images.
    pub n: u32,
    /// H*W.
    pub pixels: u32,
    /// Channels C, unpadded.
    pub c: u32,
    /// [`Form`] of the images: f32 or 16 bits.
    pub form: u32,
    /// Rounding.
    pub noise: Noise,
}

/// Block floating point to f32 `[N][pixels][C]`: exact.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct Dequantize {
    /// Images.
    pub n: u32,
    /// H*W.
    pub pixels: u32,
    /// Channels C, unpadded.
    pub c: u32,
    /// 0: an operand; otherwise the [`Form`] of a tensor in blocks.
    pub stored: u32,
}

impl Dequantize {
    /// Bytes of the mantissas and of the exponents that are read.
    pub fn bytes(&self) -> [usize; 2] {
        let (n, rows, c) = (self.n as usize, self.n as usize * self.pixels as usize, self.c as usize);
        match self.stored {
            0 => [rows * pad(c), n],
            form => Form::of(form).bytes(rows, c),
        }
    }
}

/// Rows, in f32 or 16 bits, or some of their channels, to a stored tensor `[rows][C]`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct Store {
    /// N*H*W.
    pub rows: u32,
    /// Channels C that are stored, unpadded.
    pub c: u32,
    /// [`Form`] of the rows: f32 or 16 bits.
    pub form: u32,
    /// 1: the rows have `from` channels, of which an index names C; 0: they have C.
    pub select: u32,
    /// Channels of the rows, unpadded; counts with `select` only.
    pub from: u32,
    /// Rounding.
    pub noise: Noise,
}

impl Store {
    /// f32 rows `[rows][c]`, all of them.
    pub fn all(rows: usize, c: usize, noise: Noise) -> Store {
        let [rows, c] = [rows, c].map(|n| n as u32);
        Store { rows, c, form: Form::F32 as u32, select: 0, from: c, noise }
    }

    /// Channels of the tensor that is read.
    pub fn read(&self) -> usize {
        (if self.select != 0 { self.from } else { self.c }) as usize
    }

    /// Channels that the index names: C, or 0 where there is no index.
    pub fn named(&self) -> usize {
        if self.select != 0 { self.c as usize } else { 0 }
    }
}

/// An output gradient `[N][pixels][K]` of a convolution, in f32 or 16 bits, to both of its quantised forms.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct QuantizeGradient {
    /// Images.
    pub n: u32,
    /// P*Q.
    pub pixels: u32,
    /// Channels K, unpadded.
    pub k: u32,
    /// 1: the convolution wants a data gradient, too.
    pub dgrad: u32,
    /// [`Form`] of the gradient: f32 or 16 bits.
    pub form: u32,
    /// Rounding, and the tensor number, of dY for the weight gradient.
    pub noise: Noise,
    /// Tensor number of dY for the data gradient.
    pub dyd_tensor: u32,
    /// 1: dY for the weight gradient in 16 bits ([`crate::quant::bfp::round_wide`]): all high bytes, then all low ones.
    pub wide: u32,
}
