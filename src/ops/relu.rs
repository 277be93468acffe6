//! ReLU as an operator of its own, where it cannot be fused into a batchnorm.

use bytemuck::{Pod, Zeroable};
use serde::{Deserialize, Serialize};

use super::operator::{one, u};
use super::{Emit, Kernel, Node, Operator, Shape, Value};

/// Attributes in the network: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReluAttr {}

/// What kernels receive.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Relu {
    /// Elements.
    pub n: u32,
}

impl Operator for ReluAttr {
    fn stem(&self) -> &'static str {
        "relu"
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape, String> {
        one(inputs)
    }

    fn flops(&self, _inputs: &[Shape], y: Shape) -> u64 {
        y.elements() as u64
    }

    fn forward(&self, node: &Node, emit: &mut dyn Emit) -> Vec<Value> {
        emit.call(Kernel::ReluFwd(lowered(node)), &[node.inputs[0].value], &[node.output.value]);
        Vec::new()
    }

    fn backward(&self, node: &Node, dy: Value, emit: &mut dyn Emit) -> Vec<Option<Value>> {
        let dx = emit.over(dy, &node.name);
        emit.call(Kernel::ReluBwd(lowered(node)), &[node.output.value, dy], &[dx]);
        vec![Some(dx)]
    }
}

fn lowered(node: &Node) -> Relu {
    Relu { n: u(node.batch * node.output.shape.elements()) }
}
