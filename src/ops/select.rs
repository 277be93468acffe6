//! Channel select: a gather of some channels, as the official `channel_selection` layer. The channel numbers are a constant parameter.

use bytemuck::{Pod, Zeroable};
use serde::{Deserialize, Serialize};

use super::operator::{one, u};
use super::{Emit, Kernel, Node, Operator, ParameterKind, ParameterSpec, Shape, Value};

/// Attributes in the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelectAttr {
    /// Channels kept, ascending and distinct.
    pub channels: Vec<u32>,
}

/// What kernels receive.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Select {
    /// Rows: N*H*W.
    pub rows: u32,
    /// Channels of the input.
    pub c: u32,
    /// Channels of the output.
    pub k: u32,
}

impl Operator for SelectAttr {
    fn stem(&self) -> &'static str {
        "select"
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let x = one(inputs)?;
        let ascending = self.channels.windows(2).all(|pair| pair[0] < pair[1]);
        match self.channels.last() {
            Some(&last) if ascending && (last as usize) < x.c => Ok(Shape::new(x.h, x.w, self.channels.len())),
            _ => Err(format!("channels must be ascending, distinct, at least one, and below {}", x.c)),
        }
    }

    fn parameters(&self, _inputs: &[Shape]) -> Vec<ParameterSpec> {
        vec![ParameterSpec { suffix: "indexes", kind: ParameterKind::Index, dims: vec![self.channels.len()] }]
    }

    /// The official count leaves selections out (early-bird.md 6.1).
    fn flops(&self, _inputs: &[Shape], _y: Shape) -> u64 {
        0
    }

    fn forward(&self, node: &Node, emit: &mut dyn Emit) -> Vec<Value> {
        let inputs = [node.inputs[0].value, node.parameters[0]];
        emit.call(Kernel::SelectFwd(self.lowered(node)), &inputs, &[node.output.value]);
        Vec::new()
    }

    fn backward(&self, node: &Node, dy: Value, emit: &mut dyn Emit) -> Vec<Option<Value>> {
        if !node.needs[0] {
            return vec![None];
        }
        let dx = emit.value(&format!("d {}", node.name), node.bytes(node.inputs[0].shape));
        emit.call(Kernel::SelectBwd(self.lowered(node)), &[dy, node.parameters[0]], &[dx]);
        vec![Some(dx)]
    }
}

impl SelectAttr {
    fn lowered(&self, node: &Node) -> Select {
        let x = node.inputs[0].shape;
        Select { rows: u(node.batch * x.h * x.w), c: u(x.c), k: u(self.channels.len()) }
    }
}
