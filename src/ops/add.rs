//! Elementwise sum of two tensors: residual connections, and gradients that meet.

use bytemuck::{Pod, Zeroable};
use serde::{Deserialize, Serialize};

use super::operator::u;
use super::{Emit, Kernel, Node, Operator, Shape, Value};

/// Attributes in the network: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddAttr {}

/// What kernels receive.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Add {
    /// Elements.
    pub n: u32,
}

impl Operator for AddAttr {
    fn stem(&self) -> &'static str {
        "add"
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape, String> {
        match inputs {
            [a, b] if a == b => Ok(*a),
            [a, b] => Err(format!("adds tensors of different shapes: {a} and {b}")),
            _ => Err(format!("takes two inputs, has {}", inputs.len())),
        }
    }

    /// The official count leaves additions out (early-bird.md 6.1).
    fn flops(&self, _inputs: &[Shape], _y: Shape) -> u64 {
        0
    }

    fn forward(&self, node: &Node, emit: &mut dyn Emit) -> Vec<Value> {
        let p = Add { n: u(node.batch * node.output.shape.elements()) };
        emit.call(Kernel::AddFwd(p), &[node.inputs[0].value, node.inputs[1].value], &[node.output.value]);
        Vec::new()
    }

    /// Both inputs get `dy` itself: who writes over a gradient asks ([`Emit::over`]) whether another is still to read it.
    fn backward(&self, node: &Node, dy: Value, _emit: &mut dyn Emit) -> Vec<Option<Value>> {
        node.needs.iter().map(|need| need.then_some(dy)).collect()
    }
}
