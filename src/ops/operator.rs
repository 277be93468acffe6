//! What an operator states about itself: shape rule, parameters, cost, and how it is lowered forwards and backwards.
//!
//! A new operator is one file beside this one with an `impl Operator`, a variant in [`crate::graph::Op`], its [`Kernel`](super::Kernel)s, and one file in each backend.

use serde::{Deserialize, Serialize};

use super::{Emit, Shape, Value};

/// What a parameter is for; surgery, initialisation, L1 and checkpoints go by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ParameterKind {
    /// Convolution weights, `[K][R][S][C]` in memory, OIHW in checkpoints.
    ConvWeight,
    /// Linear weights, `[K][C]`.
    LinearWeight,
    /// Bias of a convolution or linear layer.
    Bias,
    /// BN scale (gamma): what the masks are drawn from.
    Scale,
    /// BN shift (beta).
    Shift,
    /// BN running mean: state, not trained.
    RunningMean,
    /// BN running variance: state, not trained.
    RunningVar,
    /// Channel numbers of a select node: constant, stored as u32.
    Index,
}

impl ParameterKind {
    /// Whether the optimiser moves it.
    pub fn trained(self) -> bool {
        !matches!(self, ParameterKind::RunningMean | ParameterKind::RunningVar | ParameterKind::Index)
    }
}

/// A parameter that an operator wants, named relative to its node.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterSpec {
    /// PyTorch's suffix: `weight`, `bias`, `running_mean`.
    pub suffix: &'static str,
    /// What it is for.
    pub kind: ParameterKind,
    /// Dimensions in memory order (`[K, R, S, C]` for convolutions).
    pub dims: Vec<usize>,
}

impl ParameterSpec {
    /// Elements.
    pub fn elements(&self) -> usize {
        self.dims.iter().product()
    }
}

/// A tensor of a whole batch at an edge of the network.
#[derive(Clone, Copy, Debug)]
pub struct Activation {
    /// The value.
    pub value: Value,
    /// Shape per image.
    pub shape: Shape,
}

/// A node while it is lowered for a batch.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name, for messages and value names.
    pub name: String,
    /// Images per batch.
    pub batch: usize,
    /// Training (batch statistics, values saved) or inference.
    pub training: bool,
    /// A ReLU that follows and is computed here.
    pub relu: bool,
    /// What it reads.
    pub inputs: Vec<Activation>,
    /// Which inputs need a gradient.
    pub needs: Vec<bool>,
    /// What it writes; the value exists already.
    pub output: Activation,
    /// Its parameters, in the order of [`Operator::parameters`].
    pub parameters: Vec<Value>,
    /// Where each parameter's gradient goes, for the trained ones.
    pub gradients: Vec<Option<Value>>,
    /// What [`Operator::forward`] saved.
    pub saved: Vec<Value>,
}

impl Node {
    /// Bytes of an f32 tensor of `shape` for the whole batch.
    pub fn bytes(&self, shape: Shape) -> usize {
        self.batch * shape.elements() * 4
    }
}

/// The rules of one operator.
pub trait Operator {
    /// The operator's one word: `conv2d`.
    fn stem(&self) -> &'static str;

    /// Output shape for these inputs, or what does not fit.
    fn shape(&self, inputs: &[Shape]) -> Result<Shape, String>;

    /// Parameters for these inputs.
    fn parameters(&self, _inputs: &[Shape]) -> Vec<ParameterSpec> {
        Vec::new()
    }

    /// Forward operations per image, counted as the official code counts them (early-bird.md 6.1: a multiply-add is 2).
    fn flops(&self, inputs: &[Shape], output: Shape) -> u64;

    /// Emits the forward calls; returns the values the backward pass will want in [`Node::saved`].
    fn forward(&self, node: &Node, emit: &mut dyn Emit) -> Vec<Value>;

    /// Emits the backward calls for the output gradient `dy`; returns each input's gradient (`None` where `needs` says it is not wanted). `dy` is dead
    /// afterwards, so an operator that can work in place may return it.
    fn backward(&self, node: &Node, dy: Value, emit: &mut dyn Emit) -> Vec<Option<Value>>;
}

/// The only input of a one-input operator, or a message.
pub(super) fn one<T: Copy>(inputs: &[T]) -> Result<T, String> {
    match inputs {
        [x] => Ok(*x),
        _ => Err(format!("takes one input, has {}", inputs.len())),
    }
}

/// Parameter structs hold u32: the largest tensor a kernel can index. Larger sizes are refused when the plan is made.
pub(crate) fn u(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
