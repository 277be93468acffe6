//! Batchnorm, addition and ReLU in one, at the end of a residual block: in 8 bits only. What is added is a stream, or a second batchnorm where the shortcut has one.
//!
//! Formulas: [`crate::backend::Int8::batchnorm_add_fwd_i8`]. Not a node of a network: lowering makes it of the nodes that are there.

use bytemuck::{Pod, Zeroable};

use super::batchnorm::SizesI8;
use super::quantize::{Form, Noise};
use crate::quant::layout::pad;

/// The forward pass.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct BatchNormAddI8 {
    /// Images N.
    pub n: u32,
    /// H*W.
    pub pixels: u32,
    /// Channels C, unpadded.
    pub c: u32,
    /// Added to the variance, of the batchnorm and of the second one.
    pub eps: [f32; 2],
    /// Share of the batch's statistics in the running ones, of each.
    pub momentum: [f32; 2],
    /// 1: a ReLU follows the addition.
    pub relu: u32,
    /// 1: what is added is a second batchnorm of a stored tensor.
    pub both: u32,
    /// [`super::quantize::Form`] of what is added where it is a stream, any.
    pub other: u32,
    /// [`super::quantize::Form`] of the sum that is written: f32 or 16 bits.
    pub form: u32,
    /// 1: the sum is written as an operand, too; its form is 16 bits then.
    pub operand: u32,
    /// Rounding of the operand.
    pub noise: Noise,
}

impl BatchNormAddI8 {
    /// Form of what is added: a second batchnorm's input is stored.
    pub fn other(&self) -> Form {
        if self.both != 0 { Form::Stored } else { Form::of(self.other) }
    }
}

/// The gradient behind it: that of the sum before its ReLU, as both summands take it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct BatchNormAddGradI8 {
    /// N*H*W.
    pub rows: u32,
    /// Channels C, unpadded.
    pub c: u32,
    /// 1: a ReLU followed the addition.
    pub relu: u32,
    /// 1: there is a second batchnorm, which wants sums of its own.
    pub both: u32,
    /// [`super::quantize::Form`] of what comes from behind, any.
    pub up: u32,
    /// 1: another gradient comes from behind and is added.
    pub add: u32,
    /// [`super::quantize::Form`] of that, any.
    pub more: u32,
    /// 1: the gradient is written for a stream, too, in 16 bits.
    pub stream: u32,
    /// Rounding of dZ.
    pub noise: Noise,
}

/// Bytes of a mask: a bit for each padded element, `[rows][pad C / 8]`; channel `c` is bit `c % 8` of byte `c / 8`.
pub fn mask_bytes(rows: usize, c: usize) -> usize {
    rows * pad(c) / 8
}

impl SizesI8 {
    /// Those of `p`.
    pub fn of_sum(p: &BatchNormAddI8) -> SizesI8 {
        SizesI8::new(p.n as usize, p.pixels as usize, p.pixels as usize, p.c as usize)
    }
}
