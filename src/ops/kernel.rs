//! A lowered operator: which backend function, with which parameters, on which values.
//!
//! Not here: where a value lies in memory ([`crate::autograd::plan`] decides) and who runs the calls ([`crate::autograd::Session`]).

use crate::ops::add::Add;
use crate::ops::batchnorm::{BatchNorm, BatchNormBwdStreamI8, BatchNormI8};
use crate::ops::batchnorm_add::{BatchNormAddGradI8, BatchNormAddI8};
use crate::ops::classifier::Classifier;
use crate::ops::conv2d::{Conv2d, Conv2dI8, Conv2dStreamI8};
use crate::ops::linear::Linear;
use crate::ops::pool::Pool;
use crate::ops::quantize::{Dequantize, Quantize, QuantizeGradient, Round, Store};
use crate::ops::relu::Relu;
use crate::ops::select::Select;
use crate::ops::sgd::{Sgd, SgdI8};
use crate::ops::softmax_xent::SoftmaxXent;

/// A tensor of a lowered program, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(pub u32);

/// One function of [`crate::backend::Backend`] with its parameter struct. The comment of each names inputs → outputs in call order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kernel {
    /// x → y, same bytes
    Copy,
    /// a, b → y
    AddFwd(Add),
    /// x → y
    ReluFwd(Relu),
    /// y, dy → dx
    ReluBwd(Relu),
    /// x, w[, bias] → y
    Conv2dFwd(Conv2d),
    /// dy, w → dx
    Conv2dDgrad(Conv2d),
    /// x, dy → dw[, dbias]
    Conv2dWgrad(Conv2d),
    /// x, gamma, beta → y, mean, invstd, running_mean, running_var (the last two are read, too)
    BatchNormFwd(BatchNorm),
    /// x, gamma, beta, running_mean, running_var → y
    BatchNormEval(BatchNorm),
    /// x, y, gamma, mean, invstd, dy → dx, dgamma, dbeta
    BatchNormBwd(BatchNorm),
    /// x → y, index
    MaxPoolFwd(Pool),
    /// index, dy → dx
    MaxPoolBwd(Pool),
    /// x → y
    AvgPoolFwd(Pool),
    /// dy → dx
    AvgPoolBwd(Pool),
    /// x → y
    GlobalAvgPoolFwd(Pool),
    /// dy → dx
    GlobalAvgPoolBwd(Pool),
    /// x, w[, bias] → y
    LinearFwd(Linear),
    /// dy, w → dx
    LinearDgrad(Linear),
    /// x, dy → dw[, dbias]
    LinearWgrad(Linear),
    /// x, index → y
    SelectFwd(Select),
    /// dy, index → dx
    SelectBwd(Select),
    /// logits, labels → probs, metrics
    SoftmaxXentFwd(SoftmaxXent),
    /// probs, labels → dlogits
    SoftmaxXentBwd(SoftmaxXent),
    /// lr, g → v, w
    SgdStep(Sgd),

    // ---- 8 bits: mantissas and exponents are two values, `step` is the device's step counter; see [`crate::backend::Int8`]
    /// step → x (read, too)
    QuantizeRound(Round),
    /// x, step → q, qe
    QuantizeFwdI8(Quantize),
    /// x[, index], step → q, qe, sums
    QuantizeStoreI8(Store),
    /// dy, we, xe, step → [dyd, dyde,] dyw, dywe
    QuantizeBwdI8(QuantizeGradient),
    /// q, qe → x
    DequantizeFwdI8(Dequantize),
    /// x, xe, w, we, step → y, ye, sums
    Conv2dFwdI8(Conv2dI8),
    /// x, xe, w, we, step[, other] → s[, q, qe, sums]
    Conv2dStreamI8(Conv2dStreamI8),
    /// dyd, dyde, transposed w, step[, y, ye, affine of the batchnorm before] → dx, dxe[, sums]
    Conv2dDgradI8(Conv2dI8),
    /// x, xe, dyw, dywe → dw
    Conv2dWgradI8(Conv2dI8),
    /// y, ye, sums, gamma, beta, step → running_mean, running_var (read, too), mean, invstd, affine, out, oute[, index]
    BatchNormFwdI8(BatchNormI8),
    /// up[, more][, index], y, ye, affine, step → dz, dze, sums
    BatchNormGradI8(BatchNormI8),
    /// dz, dze, sums, y, ye, y sums, gamma, mean, invstd, we, xe, step → dgamma, dbeta[, dyd, dyde], dyw, dywe
    BatchNormBwdI8(BatchNormI8),
    /// dz, dze, sums, y, ye, gamma, mean, invstd[, index][, other] → dgamma, dbeta, dx
    BatchNormBwdStreamI8(BatchNormBwdStreamI8),
    /// y, ye, sums, gamma, beta, (other, or the same five of the second batchnorm), step → running_mean, running_var (read, too), mean, invstd, affine[, the same of the second], out[, mask]
    /// [, operand, operande]
    BatchNormAddFwdI8(BatchNormAddI8),
    /// up[, more][, mask], y[, y of the second], step → dz, dze, sums[, sums of the second][, dx, dxe]
    BatchNormAddGradI8(BatchNormAddGradI8),
    /// x, w[, bias], labels → logits, dlogits, losses, hits
    ClassifierFwd(Classifier),
    /// x, w, dlogits, losses, hits → dx, dw[, dbias], metrics
    ClassifierBwd(Classifier),
    /// table, lr, step, g → v, w, packed weights
    SgdStepI8(SgdI8),
}

/// A kernel on values, in execution order inside a program.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// What runs.
    pub kernel: Kernel,
    /// Values it reads.
    pub inputs: Vec<Value>,
    /// Values it writes.
    pub outputs: Vec<Value>,
    /// Its scratch memory, where it wants any.
    pub workspace: Option<Value>,
}

/// What an operator may do while it is lowered.
pub trait Emit {
    /// A new value of `bytes` bytes in the arena; `name` is for messages.
    fn value(&mut self, name: &str, bytes: usize) -> Value;
    /// Appends a call; scratch memory is added by the receiver.
    fn call(&mut self, kernel: Kernel, inputs: &[Value], outputs: &[Value]);
    /// Where an operator that reads the gradient `dy` element by element may write a gradient of the same size: `dy` itself, or a new value (with `name`) where another node is still to read it.
    fn over(&mut self, dy: Value, name: &str) -> Value;
}
