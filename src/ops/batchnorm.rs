//! Batch normalisation over all but the channel axis, with the ReLU behind it fused in where there is one.
//!
//! PyTorch's `BatchNorm2d`: `y = gamma * (x - mean) / sqrt(var + eps) + beta`; training normalises by the biased batch variance and moves the running
//! variance by the unbiased one, momentum 0.1, eps 1e-5.

use bytemuck::{Pod, Zeroable};
use serde::{Deserialize, Serialize};

use super::operator::{one, u};
use super::pool::Pool;
use super::quantize::Noise;
use super::{Emit, Kernel, Node, Operator, ParameterKind, ParameterSpec, Shape, Value};
use crate::quant::layout::{BLOCK_ROWS, blocks, blocks_across, pad};

/// Attributes in the network.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchNormAttr {
    /// Added to the variance.
    pub eps: f32,
    /// Share of the batch's statistics in the running ones.
    pub momentum: f32,
}

impl Default for BatchNormAttr {
    fn default() -> Self {
        BatchNormAttr { eps: 1e-5, momentum: 0.1 }
    }
}

/// What kernels receive.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct BatchNorm {
    /// Rows: N*H*W.
    pub rows: u32,
    /// Channels.
    pub c: u32,
    /// Added to the variance.
    pub eps: f32,
    /// Share of the batch's statistics in the running ones.
    pub momentum: f32,
    /// 1: a ReLU follows and is part of this operator.
    pub relu: u32,
}

/// The 8-bit passes: a stored tensor in, an operand out, a max-pool on the way where one follows.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct BatchNormI8 {
    /// Window of the max-pool behind it, and always the images: `n`, `h`, `w`, `c` in, `p`, `q` out. Without a pool `kernel_h` is 0 and `p`, `q` are `h`, `w`.
    pub pool: Pool,
    /// Added to the variance.
    pub eps: f32,
    /// Share of the batch's statistics in the running ones.
    pub momentum: f32,
    /// 1: a ReLU follows (before the pool) and is part of this operator.
    pub relu: u32,
    /// [`super::quantize::Form`] of the gradient that comes from behind, any.
    pub gradient: u32,
    /// 1: another gradient comes from behind and is added.
    pub add: u32,
    /// [`super::quantize::Form`] of that, any.
    pub more: u32,
    /// 1: the convolution before it wants a data gradient, too.
    pub dgrad: u32,
    /// Rounding of the operand (forward), of dZ (`grad`), of dY for the weight gradient (`bwd`).
    pub noise: Noise,
    /// Tensor number of dY for the data gradient.
    pub dyd_tensor: u32,
    /// 1: dY for the weight gradient in 16 bits ([`crate::quant::bfp::round_wide`]): all high bytes, then all low ones.
    pub wide: u32,
}

/// The backward pass of a batchnorm that reads a residual stream, or some channels of it: the gradient of the stream, in 16 bits or f32.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct BatchNormBwdStreamI8 {
    /// N*H*W.
    pub rows: u32,
    /// Channels of the batchnorm, unpadded.
    pub c: u32,
    /// 1: on top of what comes to the stream from elsewhere.
    pub add: u32,
    /// [`super::quantize::Form`] of that, any.
    pub other: u32,
    /// [`super::quantize::Form`] of what is written: f32 or 16 bits.
    pub form: u32,
    /// 1: the stream has `wide` channels, of which the batchnorm reads those that an index names; 0: it has `c`.
    pub select: u32,
    /// Channels of the stream, unpadded; counts with `select` only.
    pub wide: u32,
}

impl BatchNormBwdStreamI8 {
    /// Channels of the stream.
    pub fn stream(&self) -> usize {
        (if self.select != 0 { self.wide } else { self.c }) as usize
    }

    /// Channels that the index names: those of the batchnorm, or 0 where there is no index.
    pub fn named(&self) -> usize {
        if self.select != 0 { self.c as usize } else { 0 }
    }
}

/// Sizes of the 8-bit tensors around a batchnorm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizesI8 {
    /// Images.
    pub n: usize,
    /// Channels, unpadded.
    pub c: usize,
    /// Channels, padded.
    pub stride: usize,
    /// Blocks across the channels.
    pub across: usize,
    /// Pixels of an image before the pool.
    pub pixels: usize,
    /// Pixels of an image behind the pool.
    pub pooled: usize,
    /// N*H*W.
    pub rows: usize,
    /// Blocks of 64 rows.
    pub tiles: usize,
}

impl SizesI8 {
    /// Those of `n` images of `pixels` and, behind a pool, `pooled` pixels of `c` channels.
    pub(super) fn new(n: usize, pixels: usize, pooled: usize, c: usize) -> SizesI8 {
        let rows = n * pixels;
        let (stride, across, tiles) = (pad(c), blocks_across(c), rows.div_ceil(BLOCK_ROWS));
        SizesI8 { n, c, stride, across, pixels, pooled, rows, tiles }
    }

    /// Those of `p`.
    pub fn of(p: &BatchNormI8) -> SizesI8 {
        let [n, h, w, c, p, q] = [p.pool.n, p.pool.h, p.pool.w, p.pool.c, p.pool.p, p.pool.q].map(|size| size as usize);
        SizesI8::new(n, h * w, p * q, c)
    }

    /// Those of a batchnorm that reads a stream: as of one image of all rows.
    pub fn of_stream(p: &BatchNormBwdStreamI8) -> SizesI8 {
        SizesI8::new(1, p.rows as usize, p.rows as usize, p.c as usize)
    }

    /// Exponents of a stored tensor, a byte each.
    pub fn exponents(&self) -> usize {
        blocks(self.rows, self.c)
    }

    /// Sums of a stored tensor: one per block of rows and padded channel.
    pub fn sums(&self) -> usize {
        self.tiles * self.stride
    }

    /// Whether every block of rows lies in one image.
    pub fn whole_blocks(&self) -> bool {
        self.pixels.is_multiple_of(BLOCK_ROWS)
    }
}

/// Sums over the 64 rows of a block, of one channel of a conv output: exact. All of them with the exponent of the channel's block.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct OutputSums {
    /// Sum of squared mantissas, at most `64 * 127^2`.
    pub squares: u32,
    /// Sum of mantissas.
    pub sum: i16,
    /// Smallest mantissa.
    pub min: i8,
    /// Largest mantissa.
    pub max: i8,
}

/// The same of a gradient dZ: sums with the exponents of both blocks.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct GradientSums {
    /// Sum of products of the mantissas of dZ and of the conv output.
    pub products: i32,
    /// Sum of mantissas of dZ.
    pub sum: i16,
    /// Largest absolute mantissa of dZ.
    pub max: u8,
    /// Always 0.
    pub zero: u8,
}

impl Operator for BatchNormAttr {
    fn stem(&self) -> &'static str {
        "batchnorm"
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape, String> {
        one(inputs)
    }

    fn parameters(&self, inputs: &[Shape]) -> Vec<ParameterSpec> {
        let dims = vec![inputs.first().map_or(0, |x| x.c)];
        [
            ("weight", ParameterKind::Scale),
            ("bias", ParameterKind::Shift),
            ("running_mean", ParameterKind::RunningMean),
            ("running_var", ParameterKind::RunningVar),
        ]
        .map(|(suffix, kind)| ParameterSpec { suffix, kind, dims: dims.clone() })
        .into()
    }

    fn flops(&self, inputs: &[Shape], _y: Shape) -> u64 {
        2 * inputs.first().map_or(0, Shape::elements) as u64
    }

    fn forward(&self, node: &Node, emit: &mut dyn Emit) -> Vec<Value> {
        let (x, p) = (node.inputs[0].value, self.lowered(node));
        let [gamma, beta, running_mean, running_var] = node.parameters[..] else { return Vec::new() };
        if !node.training {
            emit.call(Kernel::BatchNormEval(p), &[x, gamma, beta, running_mean, running_var], &[node.output.value]);
            return Vec::new();
        }
        let c_bytes = p.c as usize * 4;
        let mean = emit.value(&format!("{} mean", node.name), c_bytes);
        let invstd = emit.value(&format!("{} invstd", node.name), c_bytes);
        let outputs = [node.output.value, mean, invstd, running_mean, running_var];
        emit.call(Kernel::BatchNormFwd(p), &[x, gamma, beta], &outputs);
        vec![mean, invstd]
    }

    fn backward(&self, node: &Node, dy: Value, emit: &mut dyn Emit) -> Vec<Option<Value>> {
        let (x, p) = (node.inputs[0].value, self.lowered(node));
        let ([mean, invstd], [Some(dgamma), Some(dbeta), ..]) = (&node.saved[..], &node.gradients[..]) else {
            return vec![None];
        };
        let inputs = [x, node.output.value, node.parameters[0], *mean, *invstd, dy];
        let dx = emit.over(dy, &node.name);
        emit.call(Kernel::BatchNormBwd(p), &inputs, &[dx, *dgamma, *dbeta]);
        vec![Some(dx)]
    }
}

impl BatchNormAttr {
    fn lowered(&self, node: &Node) -> BatchNorm {
        let shape = node.inputs[0].shape;
        BatchNorm {
            rows: u(node.batch * shape.h * shape.w),
            c: u(shape.c),
            eps: self.eps,
            momentum: self.momentum,
            relu: u32::from(node.relu),
        }
    }
}
