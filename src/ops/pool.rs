//! Pooling: maximum and mean over windows, and the mean over the whole image.
//!
//! Window rule as PyTorch's defaults: floor mode, zero padding at most half the kernel. In `maxpool` padding never wins; in `avgpool` it counts as 0.

use bytemuck::{Pod, Zeroable};
use serde::{Deserialize, Serialize};

use super::operator::{one, u};
use super::{Emit, Kernel, Node, Operator, Shape, Value};

/// Attributes of a windowed pool (square windows).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Side of the window.
    pub kernel: usize,
    /// Step between windows.
    pub stride: usize,
    /// Padding at each end.
    pub padding: usize,
}

/// Maximum over windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaxPoolAttr(pub Window);

/// Mean over windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AvgPoolAttr(pub Window);

/// Mean over the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GlobalAvgPoolAttr {
    /// Whether its operations are counted: the official ResNet pools in a module that its hooks see, the official PreResNet does not (early-bird.md 6.1).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub counted: bool,
}

/// What kernels receive: N batch, H W C input, P Q output.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[allow(missing_docs)] // the letters above
pub struct Pool {
    pub n: u32,
    pub h: u32,
    pub w: u32,
    pub c: u32,
    pub p: u32,
    pub q: u32,
    pub kernel_h: u32,
    pub kernel_w: u32,
    pub stride: u32,
    pub padding: u32,
}

impl Window {
    fn shape(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let x = one(inputs)?;
        if self.kernel == 0 || self.stride == 0 || self.padding * 2 > self.kernel || self.kernel > 15 {
            return Err(format!("window {self:?}: kernel 1 to 15, stride at least 1, padding at most half the kernel"));
        }
        let extent =
            |size: usize| (size + 2 * self.padding).checked_sub(self.kernel).map(|room| room / self.stride + 1);
        match (extent(x.h), extent(x.w)) {
            (Some(h), Some(w)) => Ok(Shape::new(h, w, x.c)),
            _ => Err(format!("window {0}x{0} with padding {1} does not fit into {x}", self.kernel, self.padding)),
        }
    }

    fn lowered(&self, node: &Node) -> Pool {
        pool(node, (self.kernel, self.kernel), self.stride, self.padding)
    }
}

fn pool(node: &Node, kernel: (usize, usize), stride: usize, padding: usize) -> Pool {
    let (x, y) = (node.inputs[0].shape, node.output.shape);
    Pool {
        n: u(node.batch),
        h: u(x.h),
        w: u(x.w),
        c: u(x.c),
        p: u(y.h),
        q: u(y.w),
        kernel_h: u(kernel.0),
        kernel_w: u(kernel.1),
        stride: u(stride),
        padding: u(padding),
    }
}

/// The backward pass that all pools share: one call from `inputs` to a fresh `dx`.
fn emit_dx(node: &Node, kernel: Kernel, inputs: &[Value], emit: &mut dyn Emit) -> Vec<Option<Value>> {
    if !node.needs[0] {
        return vec![None];
    }
    let dx = emit.value(&format!("d {}", node.name), node.bytes(node.inputs[0].shape));
    emit.call(kernel, inputs, &[dx]);
    vec![Some(dx)]
}

impl Operator for MaxPoolAttr {
    fn stem(&self) -> &'static str {
        "maxpool"
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape, String> {
        self.0.shape(inputs)
    }

    fn flops(&self, _inputs: &[Shape], y: Shape) -> u64 {
        (self.0.kernel * self.0.kernel * y.elements()) as u64
    }

    fn forward(&self, node: &Node, emit: &mut dyn Emit) -> Vec<Value> {
        let index = emit.value(&format!("{} index", node.name), node.batch * node.output.shape.elements());
        emit.call(Kernel::MaxPoolFwd(self.0.lowered(node)), &[node.inputs[0].value], &[node.output.value, index]);
        vec![index]
    }

    fn backward(&self, node: &Node, dy: Value, emit: &mut dyn Emit) -> Vec<Option<Value>> {
        let Some(&index) = node.saved.first() else { return vec![None] };
        emit_dx(node, Kernel::MaxPoolBwd(self.0.lowered(node)), &[index, dy], emit)
    }
}

impl Operator for AvgPoolAttr {
    fn stem(&self) -> &'static str {
        "avgpool"
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape, String> {
        self.0.shape(inputs)
    }

    /// 0: the official VGG pools inside `forward`, which its hooks do not see (early-bird.md 6.1).
    fn flops(&self, _inputs: &[Shape], _y: Shape) -> u64 {
        0
    }

    fn forward(&self, node: &Node, emit: &mut dyn Emit) -> Vec<Value> {
        emit.call(Kernel::AvgPoolFwd(self.0.lowered(node)), &[node.inputs[0].value], &[node.output.value]);
        Vec::new()
    }

    fn backward(&self, node: &Node, dy: Value, emit: &mut dyn Emit) -> Vec<Option<Value>> {
        emit_dx(node, Kernel::AvgPoolBwd(self.0.lowered(node)), &[dy], emit)
    }
}

impl GlobalAvgPoolAttr {
    fn lowered(node: &Node) -> Pool {
        let x = node.inputs[0].shape;
        pool(node, (x.h, x.w), 1, 0)
    }
}

impl Operator for GlobalAvgPoolAttr {
    fn stem(&self) -> &'static str {
        "global_avgpool"
    }

    fn shape(&self, inputs: &[Shape]) -> Result<Shape, String> {
        one(inputs).map(|x| Shape::new(1, 1, x.c))
    }

    /// One per input where it is counted (early-bird.md 6.1), else 0.
    fn flops(&self, inputs: &[Shape], _y: Shape) -> u64 {
        inputs.first().filter(|_| self.counted).map_or(0, |x| x.elements() as u64)
    }

    fn forward(&self, node: &Node, emit: &mut dyn Emit) -> Vec<Value> {
        emit.call(Kernel::GlobalAvgPoolFwd(Self::lowered(node)), &[node.inputs[0].value], &[node.output.value]);
        Vec::new()
    }

    fn backward(&self, node: &Node, dy: Value, emit: &mut dyn Emit) -> Vec<Option<Value>> {
        emit_dx(node, Kernel::GlobalAvgPoolBwd(Self::lowered(node)), &[dy], emit)
    }
}
