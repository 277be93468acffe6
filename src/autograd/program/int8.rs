//! The training step in `int8`: which tensors are block floating point, where they turn into f32 and back, and which passes are one (kernels.md sections 1 and 3).
//!
//! A convolution without bias whose only reader is a batchnorm is a *block* with it, with the ReLU and the max-pool behind them where those are the only readers: integer GEMM, then
//! normalise + ReLU + pool + quantise in one pass; backwards both quantisations of the output gradient in one pass. Where a block's input comes from another
//! block with a ReLU and no pool, the data gradient's epilogue masks it and sums it up. A block whose batchnorm an addition alone reads ends with that addition and the ReLU behind it ([`join`]).
//! Everything else is f32 as in [`super`], on tensors that are converted where they are first wanted so. A convolution that is in no block writes its output in more than 8 bits, where an
//! addition alone reads it on top of the other summand: so the stream of a residual network is written once. A batchnorm that reads such a tensor begins a block of its own; what it reads is
//! stored in the same pass. Such a tensor and its gradient have 16 bits where 8-bit operators alone read it ([`Eight::is_16`]), else they are f32. A gather of channels between such a tensor
//! and a batchnorm is part of the batchnorm's block ([`Eight::gathers_for`]). Where a product is in f32, convolutions have their own conversions.
//!
//! The noise of a tensor is keyed by its node and its [`Role`]; each tensor has one writer, so that no two share their random bits.

mod backward;
mod forward;
mod join;

use std::collections::{HashMap, HashSet};

use super::super::packing::Packing;
use super::super::precision::Int8Options;
use super::{Lowering, Place};
use crate::graph::{NodeId, Op};
use crate::ops::batchnorm::BatchNormI8;
use crate::ops::conv2d::Conv2d;
use crate::ops::quantize::{Dequantize, Form, Noise, Quantize};
use crate::ops::{Emit, Kernel, Node, Value, u};
use crate::quant::layout::{BLOCK_ROWS, Role, blocks, pad, tensor};

/// Emits the training step; returns the logits.
pub(super) fn train(lowering: &mut Lowering, packing: &Packing, options: Int8Options) -> crate::Result<Value> {
    let step = lowering.place("step", 4, Place::Step);
    let mut eight = Eight {
        step,
        packing,
        options,
        edges: vec![Edge::default(); lowering.graph.nodes().len()],
        convs: HashMap::new(),
        blocks: HashMap::new(),
        joins: HashMap::new(),
        kept: HashMap::new(),
        ends: HashMap::new(),
        inner: HashSet::new(),
        f32_nodes: HashMap::new(),
        stored_gradients: HashMap::new(),
        behind: HashMap::new(),
        base: lowering,
    };
    let ids: Vec<NodeId> = eight.base.graph.ids().collect();
    ids[..ids.len().saturating_sub(1)].iter().for_each(|id| eight.forward(*id));
    let Some(last) = ids.last() else { return Ok(Value(0)) };
    let logits = eight.end(*last);
    ids.iter().rev().for_each(|id| eight.backward(*id));
    Ok(logits)
}

/// Mantissas and exponents.
#[derive(Clone, Copy)]
struct Bfp {
    mantissas: Value,
    exponents: Value,
}

/// A gradient in blocks of 8 or 16 bits.
#[derive(Clone, Copy)]
struct Blocks {
    q: Bfp,
    form: Form,
}

/// The output of a node, in the forms that exist so far.
#[derive(Clone, Copy, Default)]
struct Edge {
    f32: Option<Value>,
    /// A residual stream in 16 bits.
    stream: Option<Bfp>,
    /// An operand of an integer GEMM.
    operand: Option<Bfp>,
}

/// A convolution with integer products.
#[derive(Clone)]
struct Conv {
    conv: Conv2d,
    weights: Bfp,
    transposed: Value,
    /// Where the weight gradient goes.
    dw: Value,
    /// The f32 weights.
    w: Value,
    /// For convolutions in a block: the output as it was stored, with its sums.
    stored: Option<(Bfp, Value)>,
}

/// A batchnorm in a block.
#[derive(Clone)]
struct Block {
    /// The convolution before it; without one the block begins with an f32 tensor.
    conv: Option<NodeId>,
    /// Its input, as it was stored, with sums.
    y: Bfp,
    y_sums: Value,
    /// Noise is set for each pass.
    p: BatchNormI8,
    gamma: Value,
    beta: Value,
    running: [Value; 2],
    gradients: [Value; 2],
    mean: Value,
    invstd: Value,
    affine: Value,
    /// Winners of the pool.
    index: Option<Value>,
}

impl Block {
    /// What its forward pass writes: running statistics, mean, 1/std, affine map.
    fn state(&self) -> [Value; 5] {
        [self.running[0], self.running[1], self.mean, self.invstd, self.affine]
    }
}

struct Eight<'l, 'a> {
    base: &'l mut Lowering<'a>,
    packing: &'l Packing,
    options: Int8Options,
    step: Value,
    /// By node.
    edges: Vec<Edge>,
    /// Convolutions with integer products.
    convs: HashMap<NodeId, Conv>,
    /// By batchnorm.
    blocks: HashMap<NodeId, Block>,
    /// Additions in one pass with batchnorms: by where the pass ends.
    joins: HashMap<NodeId, join::Join>,
    /// What a batchnorm without a convolution reads, stored by who made it, with sums: by batchnorm.
    kept: HashMap<NodeId, (Bfp, Value)>,
    /// The batchnorm of the block that ends here.
    ends: HashMap<NodeId, NodeId>,
    /// Gathers, ReLUs, pools and additions that blocks compute, and additions that convolutions do.
    inner: HashSet<NodeId>,
    /// Nodes as lowered in f32.
    f32_nodes: HashMap<NodeId, Node>,
    /// Gradients in blocks that nodes are still to take, besides those in f32.
    stored_gradients: HashMap<NodeId, Vec<Blocks>>,
    /// Gradients behind batchnorms, masked and summed up: by batchnorm.
    behind: HashMap<NodeId, (Bfp, Value)>,
}

impl Eight<'_, '_> {
    // ---- values -------------------------------------------------------------------------------------------------------

    fn name(&self, id: NodeId) -> &str {
        &self.base.graph.node(id).name
    }

    fn value(&mut self, id: NodeId, what: &str, bytes: usize) -> Value {
        let name = format!("{what}{}", self.name(id));
        self.base.value(&name, bytes)
    }

    fn bfp(&mut self, id: NodeId, what: &str, mantissas: usize, exponents: usize) -> Bfp {
        Bfp {
            mantissas: self.value(id, what, mantissas),
            exponents: self.value(id, &format!("exponents of {what}"), exponents),
        }
    }

    /// A tensor of 16 bits as large as the output of `id`.
    fn new_stream(&mut self, id: NodeId, what: &str) -> Bfp {
        let (n, shape) = (self.base.batch, self.base.graph.shape(id));
        let [mantissas, exponents] = Form::Bfp16.bytes(n * shape.h * shape.w, shape.c);
        self.bfp(id, what, mantissas, exponents)
    }

    /// An operand as large as the output of `id`.
    fn new_operand(&mut self, id: NodeId) -> Bfp {
        let (n, shape) = (self.base.batch, self.base.graph.shape(id));
        self.bfp(id, "", n * shape.h * shape.w * pad(shape.c), n)
    }

    /// A stored tensor of `rows` x `channels`.
    fn new_stored(&mut self, id: NodeId, what: &str, rows: usize, channels: usize) -> Bfp {
        self.bfp(id, what, rows * pad(channels), blocks(rows, channels))
    }

    /// Sums of a stored tensor, `each` bytes per block of rows and padded channel.
    fn new_sums(&mut self, id: NodeId, what: &str, rows: usize, channels: usize, each: usize) -> Value {
        self.value(id, what, rows.div_ceil(BLOCK_ROWS) * pad(channels) * each)
    }

    fn noise(&self, id: NodeId, role: Role) -> Noise {
        Noise { seed: self.packing.key(), tensor: tensor(u(id.0), role), stochastic: 1 }
    }

    /// The output of `id` in f32.
    fn f32_of(&mut self, id: NodeId) -> Value {
        match self.edges[id.0] {
            Edge { f32: Some(value), .. } => value,
            Edge { stream: Some(q), .. } => self.now_f32(id, q, Form::Bfp16 as u32),
            Edge { operand: Some(q), .. } => self.now_f32(id, q, 0),
            // Nodes come after what they read, and each leaves one form at least.
            _ => Value(0),
        }
    }

    /// The output of `id`, from another form of it.
    fn now_f32(&mut self, id: NodeId, q: Bfp, stored: u32) -> Value {
        let value = self.dequantized(id, q, stored);
        self.edges[id.0].f32 = Some(value);
        value
    }

    /// The output of `id` as what an operator takes in f32 or in 16 bits, whichever there is.
    fn stream_of(&mut self, id: NodeId) -> (Vec<Value>, Form) {
        match self.edges[id.0].stream {
            Some(q) => (vec![q.mantissas, q.exponents], Form::Bfp16),
            None => (vec![self.f32_of(id)], Form::F32),
        }
    }

    /// The output of `id` as an operand.
    fn operand_of(&mut self, id: NodeId) -> Bfp {
        if let Some(operand) = self.edges[id.0].operand {
            return operand;
        }
        let ((mut inputs, form), q) = (self.stream_of(id), self.new_operand(id));
        let (shape, noise) = (self.base.graph.shape(id), self.noise(id, Role::X));
        let (n, pixels) = (u(self.base.batch), u(shape.h * shape.w));
        let p = Quantize { n, pixels, c: u(shape.c), form: form as u32, noise };
        inputs.push(self.step);
        self.base.call(Kernel::QuantizeFwdI8(p), &inputs, &[q.mantissas, q.exponents]);
        self.edges[id.0].operand = Some(q);
        q
    }

    /// `q`, as large as the output of `id`, in f32; `stored` as in [`Dequantize`].
    fn dequantized(&mut self, id: NodeId, q: Bfp, stored: u32) -> Value {
        let shape = self.base.graph.shape(id);
        let value = self.value(id, "f32 of ", self.base.bytes(id));
        let (n, pixels) = (u(self.base.batch), u(shape.h * shape.w));
        let p = Dequantize { n, pixels, c: u(shape.c), stored };
        self.base.call(Kernel::DequantizeFwdI8(p), &[q.mantissas, q.exponents], &[value]);
        value
    }

    // ---- structure ----------------------------------------------------------------------------------------------------

    /// The batchnorm that `conv` is a block with.
    fn block_of(&self, conv: NodeId) -> Option<NodeId> {
        let whole = self.options.f32_products.is_empty() && self.packing.convolution(conv).is_some();
        self.base.graph.reader(conv).filter(|bn| whole && matches!(self.base.graph.node(*bn).op, Op::BatchNorm(_)))
    }

    /// The batchnorm that alone reads the gather `select`, and begins a block with it: channels are gathered where its input is stored, and scattered where its gradient meets others.
    fn gathers_for(&self, select: NodeId) -> Option<NodeId> {
        let graph = self.base.graph;
        let gathers = self.options.f32_products.is_empty() && matches!(graph.node(select).op, Op::Select(_));
        graph.reader(select).filter(|bn| gathers && matches!(graph.node(*bn).op, Op::BatchNorm(_)))
    }

    /// What a batchnorm without a convolution reads: a tensor, and the gather that is between.
    fn stream_before(&self, bn: NodeId) -> (NodeId, Option<NodeId>) {
        let input = self.base.graph.node(bn).inputs[0];
        match self.gathers_for(input) {
            Some(_) => (self.base.graph.node(input).inputs[0], Some(input)),
            None => (input, None),
        }
    }

    /// The channel numbers of a gather.
    fn index_of(&mut self, select: NodeId) -> Option<Value> {
        self.base.parameters(select).0.first().copied()
    }

    /// Whether `reader` is an addition that takes `id` in 16 bits: a batchnorm's, or that of a convolution with integer products.
    fn adds_16(&self, reader: NodeId, id: NodeId) -> bool {
        let integer = |conv: &NodeId| self.packing.convolution(*conv).is_some();
        let mut inputs = self.base.graph.node(reader).inputs.iter();
        let graph = self.base.graph;
        let conv = inputs.any(|input| integer(input) && graph.added_into(*input) == Some((reader, id)));
        let batchnorms = self.joined(reader);
        conv || !(batchnorms.is_empty() || batchnorms.contains(&id))
    }

    /// Whether `reader` takes the stream `id` in 8 or 16 bits: a convolution with integer products, an addition, a batchnorm that begins a block, all of it or some channels.
    fn reads_16(&self, reader: NodeId, id: NodeId) -> bool {
        match self.base.graph.node(reader).op {
            Op::Conv2d(_) => self.packing.convolution(reader).is_some(),
            Op::Add(_) => self.adds_16(reader, id),
            Op::BatchNorm(_) => true,
            Op::Select(_) => self.gathers_for(reader).is_some(),
            _ => false,
        }
    }

    /// Whether a convolution in no block writes `to` in 16 bits: where all that reads it takes it so.
    fn is_16(&self, to: NodeId) -> bool {
        let readers = self.base.graph.consumers(to);
        !readers.is_empty() && readers.into_iter().all(|reader| self.reads_16(reader, to))
    }

    /// The convolution that is a block with `bn`.
    fn conv_of(&self, bn: NodeId) -> Option<NodeId> {
        self.base.graph.node(bn).inputs.first().copied().filter(|conv| self.block_of(*conv) == Some(bn))
    }
}
