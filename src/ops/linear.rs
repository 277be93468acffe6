//! Fully connected layer over the flattened image, in HWC order.
//!
//! PyTorch flattens CHW: for images larger than 1x1 checkpoints permute the columns (see [`crate::train::checkpoint`]).

use bytemuck::{Pod, Zeroable};
use serde::{Deserialize, Serialize};

use super::operator::{one, u};
use super::{Emit, Kernel, Node, Operator, ParameterKind, ParameterSpec, Shape, Value};

/// Attributes in the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinearAttr {
    /// Output features K.
    pub out_features: usize,
    /// Whether there is a bias.
    pub bias: bool,
}

/// What kernels receive.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Linear {
    /// Batch.
    pub n: u32,
    /// Input features.
    pub c: u32,
    /// Output features.
    pub k: u32,
}

impl Operator for LinearAttr {
    fn stem(&self) -> &'static str {
        "linear"
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape, String> {
        one(inputs)?;
        if self.out_features == 0 {
            return Err("needs at least one output feature".into());
        }
        Ok(Shape::new(1, 1, self.out_features))
    }

    fn parameters(&self, inputs: &[Shape]) -> Vec<ParameterSpec> {
        let c = inputs.first().map_or(0, Shape::elements);
        let dims = vec![self.out_features, c];
        let mut all = vec![ParameterSpec { suffix: "weight", kind: ParameterKind::LinearWeight, dims }];
        if self.bias {
            all.push(ParameterSpec { suffix: "bias", kind: ParameterKind::Bias, dims: vec![self.out_features] });
        }
        all
    }

    /// `2*in*out + out`, with the bias counted whether there is one or not, as the official code does (early-bird.md 6.1).
    fn flops(&self, inputs: &[Shape], _y: Shape) -> u64 {
        let c = inputs.first().map_or(0, Shape::elements);
        (2 * c * self.out_features + self.out_features) as u64
    }

    fn forward(&self, node: &Node, emit: &mut dyn Emit) -> Vec<Value> {
        let mut inputs = vec![node.inputs[0].value];
        inputs.extend(&node.parameters);
        emit.call(Kernel::LinearFwd(self.lowered(node)), &inputs, &[node.output.value]);
        Vec::new()
    }

    fn backward(&self, node: &Node, dy: Value, emit: &mut dyn Emit) -> Vec<Option<Value>> {
        let (x, p) = (node.inputs[0], self.lowered(node));
        let gradients: Vec<Value> = node.gradients.iter().flatten().copied().collect();
        emit.call(Kernel::LinearWgrad(p), &[x.value, dy], &gradients);
        if !node.needs[0] {
            return vec![None];
        }
        let dx = emit.value(&format!("d {}", node.name), node.bytes(x.shape));
        emit.call(Kernel::LinearDgrad(p), &[dy, node.parameters[0]], &[dx]);
        vec![Some(dx)]
    }
}

impl LinearAttr {
    fn lowered(&self, node: &Node) -> Linear {
        Linear { n: u(node.batch), c: u(node.inputs[0].shape.elements()), k: u(self.out_features) }
    }
}
