//! 2-D convolution: any kernel, stride and zero padding, optional bias.
//!
//! Lowered to `conv2d_fwd`, `conv2d_dgrad`, `conv2d_wgrad`. The first layer of a network needs no input gradient and gets none.

use bytemuck::{Pod, Zeroable};
use serde::{Deserialize, Serialize};

use super::operator::{one, u};
use super::quantize::Noise;
use super::{Emit, Kernel, Node, Operator, ParameterKind, ParameterSpec, Shape, Value};
use crate::quant::layout::pad;

/// Attributes in the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conv2dAttr {
    /// Output channels K.
    pub out_channels: usize,
    /// Kernel rows and columns (R, S).
    pub kernel: (usize, usize),
    /// Stride along rows and columns.
    pub stride: (usize, usize),
    /// Zero padding at each end of rows and columns.
    pub padding: (usize, usize),
    /// Whether there is a bias.
    pub bias: bool,
}

impl Conv2dAttr {
    /// A square kernel without bias.
    pub fn square(out_channels: usize, kernel: usize, stride: usize, padding: usize) -> Self {
        Conv2dAttr {
            out_channels,
            kernel: (kernel, kernel),
            stride: (stride, stride),
            padding: (padding, padding),
            bias: false,
        }
    }
}

/// What kernels receive. N batch, H W C input, K output channels, R S taps, P Q output.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
#[allow(missing_docs)] // the letters above
pub struct Conv2d {
    pub n: u32,
    pub h: u32,
    pub w: u32,
    pub c: u32,
    pub k: u32,
    pub r: u32,
    pub s: u32,
    pub p: u32,
    pub q: u32,
    pub stride_h: u32,
    pub stride_w: u32,
    pub pad_h: u32,
    pub pad_w: u32,
}

impl Conv2d {
    /// For a batch of `n` images of shape `x`; `attr` must fit (see [`Operator::shape`]).
    pub fn new(n: usize, x: Shape, attr: &Conv2dAttr) -> Result<Self, String> {
        let y = attr.shape(&[x])?;
        Ok(Conv2d {
            n: u(n),
            h: u(x.h),
            w: u(x.w),
            c: u(x.c),
            k: u(attr.out_channels),
            r: u(attr.kernel.0),
            s: u(attr.kernel.1),
            p: u(y.h),
            q: u(y.w),
            stride_h: u(attr.stride.0),
            stride_w: u(attr.stride.1),
            pad_h: u(attr.padding.0),
            pad_w: u(attr.padding.1),
        })
    }

    /// Elements of the input `[N][H][W][C]`.
    pub fn x_len(&self) -> usize {
        self.n as usize * self.h as usize * self.w as usize * self.c as usize
    }

    /// Elements of the weights `[K][R][S][C]`.
    pub fn w_len(&self) -> usize {
        self.k as usize * self.r as usize * self.s as usize * self.c as usize
    }

    /// Elements of the output `[N][P][Q][K]`.
    pub fn y_len(&self) -> usize {
        self.rows() * self.k as usize
    }

    /// Output pixels of the batch, N*P*Q: rows of the forward GEMM.
    pub fn rows(&self) -> usize {
        self.n as usize * self.p as usize * self.q as usize
    }

    /// Input pixels of the batch in the largest class of those whose (row, column) plus padding leave the same rests modulo the stride: rows of the largest GEMM
    /// of the input gradient.
    pub fn class_rows(&self) -> usize {
        self.n as usize * self.h.div_ceil(self.stride_h) as usize * self.w.div_ceil(self.stride_w) as usize
    }

    /// The shape as 8-bit tensors lie in memory: channels padded.
    pub fn padded(&self) -> Conv2d {
        Conv2d { c: u(pad(self.c as usize)), k: u(pad(self.k as usize)), ..*self }
    }

    /// Multiply-adds of one pass.
    pub fn macs(&self) -> u64 {
        self.rows() as u64 * self.w_len() as u64
    }
}

/// The integer passes. Forward and data gradient are one sum of `i32` per output, the weight gradient one per slice of
/// [`crate::quant::layout::WGRAD_SLICE`] rows and `i64` across slices: exact, so that no order of work shows.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct Conv2dI8 {
    /// Shape, channels unpadded.
    pub conv: Conv2d,
    /// Rounding of the pass's stored output; the weight gradient has none.
    pub noise: Noise,
    /// 1: the weight gradient's dY has 16 bits, in two tensors of 8; the other passes do not look.
    pub wide: u32,
}

/// The forward pass of a convolution whose output has 16 bits or is f32: what a residual stream is made of. The sums are scaled as for a stored output, and never rounded to 8 bits.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct Conv2dStreamI8 {
    /// The product, and the rounding of the stored copy.
    pub product: Conv2dI8,
    /// 1: another tensor of the same shape is added.
    pub add: u32,
    /// [`super::quantize::Form`] of that tensor: f32 or 16 bits.
    pub other: u32,
    /// [`super::quantize::Form`] of what is written: f32 or 16 bits.
    pub form: u32,
    /// 1: what comes of it is stored in blocks, too, with its sums: for the batchnorm that reads it.
    pub store: u32,
}

fn extent(size: usize, kernel: usize, stride: usize, pad: usize) -> Option<usize> {
    (size + 2 * pad).checked_sub(kernel).map(|room| room / stride + 1)
}

impl Operator for Conv2dAttr {
    fn stem(&self) -> &'static str {
        "conv2d"
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let x = one(inputs)?;
        let (Conv2dAttr { kernel, stride, padding, .. }, k) = (self, self.out_channels);
        if k == 0 || x.c == 0 || kernel.0 == 0 || kernel.1 == 0 || stride.0 == 0 || stride.1 == 0 {
            return Err(format!("channels, kernel and stride must be at least 1: {self:?} on {x}"));
        }
        match (extent(x.h, kernel.0, stride.0, padding.0), extent(x.w, kernel.1, stride.1, padding.1)) {
            (Some(h), Some(w)) => Ok(Shape::new(h, w, k)),
            _ => Err(format!("kernel {}x{} with padding {:?} does not fit into {x}", kernel.0, kernel.1, padding)),
        }
    }

    fn parameters(&self, inputs: &[Shape]) -> Vec<ParameterSpec> {
        let c = inputs.first().map_or(0, |x| x.c);
        let dims = vec![self.out_channels, self.kernel.0, self.kernel.1, c];
        let mut all = vec![ParameterSpec { suffix: "weight", kind: ParameterKind::ConvWeight, dims }];
        if self.bias {
            all.push(ParameterSpec { suffix: "bias", kind: ParameterKind::Bias, dims: vec![self.out_channels] });
        }
        all
    }

    fn flops(&self, inputs: &[Shape], y: Shape) -> u64 {
        let c = inputs.first().map_or(0, |x| x.c);
        let per_output = 2 * self.kernel.0 * self.kernel.1 * c + usize::from(self.bias);
        per_output as u64 * y.elements() as u64
    }

    fn forward(&self, node: &Node, emit: &mut dyn Emit) -> Vec<Value> {
        if let Ok(p) = Conv2d::new(node.batch, node.inputs[0].shape, self) {
            let mut inputs = vec![node.inputs[0].value];
            inputs.extend(&node.parameters);
            emit.call(Kernel::Conv2dFwd(p), &inputs, &[node.output.value]);
        }
        Vec::new()
    }

    fn backward(&self, node: &Node, dy: Value, emit: &mut dyn Emit) -> Vec<Option<Value>> {
        let x = node.inputs[0];
        let Ok(p) = Conv2d::new(node.batch, x.shape, self) else { return vec![None] };
        let gradients: Vec<Value> = node.gradients.iter().flatten().copied().collect();
        emit.call(Kernel::Conv2dWgrad(p), &[x.value, dy], &gradients);
        if !node.needs[0] {
            return vec![None];
        }
        let dx = emit.value(&format!("d {}", node.name), node.bytes(x.shape));
        emit.call(Kernel::Conv2dDgrad(p), &[dy, node.parameters[0]], &[dx]);
        vec![Some(dx)]
    }
}
