//! A lowered operator: which backend function, with which parameters, on which values.
//!
//! Not here: where a value lies in memory ([`crate::autograd::plan`] decides) and who runs the calls ([`crate::autograd::Session`]).

use crate::ops::add::Add;
use crate::ops::batchnorm::BatchNorm;
use crate::ops::conv2d::Conv2d;
use crate::ops::linear::Linear;
use crate::ops::pool::Pool;
use crate::ops::relu::Relu;
use crate::ops::select::Select;
use crate::ops::sgd::Sgd;
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
}
