//! The training step in `int8`: which tensors are block floating point, where they turn into f32 and back, and which passes are one (kernels.md sections 1 and 3).
//!
//! A convolution without bias whose only reader is a batchnorm is a *block* with it, with the ReLU and the max-pool behind them where those are the only readers: integer GEMM, then
//! normalise + ReLU + pool + quantise in one pass; backwards both quantisations of the output gradient in one pass. Where a block's input comes from another
//! block with a ReLU and no pool, the data gradient's epilogue masks it and sums it up. Everything else is f32 as in [`super`], on tensors that are converted where they are first
//! wanted so. A convolution that is in no block, or has a product in f32, has its own conversions.
//!
//! The noise of a tensor is keyed by its node and its [`Role`]; each tensor has one writer, so that no two share their random bits.

use std::collections::{HashMap, HashSet};

use super::super::packing::{Packed, Packing};
use super::super::precision::Int8Options;
use super::{Lowering, Place};
use crate::graph::{NodeId, Op};
use crate::ops::batchnorm::{BatchNormAttr, BatchNormI8, GradientForm, GradientSums, OutputSums, SizesI8};
use crate::ops::classifier::Classifier;
use crate::ops::conv2d::{Conv2d, Conv2dAttr, Conv2dI8};
use crate::ops::pool::Pool;
use crate::ops::quantize::{Dequantize, Noise, Quantize, QuantizeGradient};
use crate::ops::{Emit, Kernel, Node, Value};
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
        ends: HashMap::new(),
        inner: HashSet::new(),
        f32_nodes: HashMap::new(),
        f32_gradients: HashMap::new(),
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

/// The output of a node, in the forms that exist so far.
#[derive(Clone, Copy, Default)]
struct Edge {
    f32: Option<Value>,
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
    conv: NodeId,
    /// Noise is set for each pass.
    p: BatchNormI8,
    gamma: Value,
    gradients: [Value; 2],
    mean: Value,
    invstd: Value,
    affine: Value,
    /// Winners of the pool.
    index: Option<Value>,
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
    /// The batchnorm of the block that ends here.
    ends: HashMap<NodeId, NodeId>,
    /// ReLUs and pools that blocks compute.
    inner: HashSet<NodeId>,
    /// Nodes as lowered in f32.
    f32_nodes: HashMap<NodeId, Node>,
    f32_gradients: HashMap<NodeId, Value>,
    stored_gradients: HashMap<NodeId, Bfp>,
    /// Gradients behind batchnorms, masked and summed up: by batchnorm.
    behind: HashMap<NodeId, (Bfp, Value)>,
}

fn u(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
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
            Edge { operand: Some(q), .. } => {
                let value = self.dequantized(id, q, false);
                self.edges[id.0].f32 = Some(value);
                value
            }
            // Nodes come after what they read, and each leaves one form at least.
            _ => Value(0),
        }
    }

    /// The output of `id` as an operand.
    fn operand_of(&mut self, id: NodeId) -> Bfp {
        if let Some(operand) = self.edges[id.0].operand {
            return operand;
        }
        let (x, q, shape) = (self.f32_of(id), self.new_operand(id), self.base.graph.shape(id));
        let noise = self.noise(id, Role::X);
        let p = Quantize { n: u(self.base.batch), pixels: u(shape.h * shape.w), c: u(shape.c), noise };
        self.base.call(Kernel::QuantizeFwdI8(p), &[x, self.step], &[q.mantissas, q.exponents]);
        self.edges[id.0].operand = Some(q);
        q
    }

    /// `q`, as large as the output of `id`, in f32.
    fn dequantized(&mut self, id: NodeId, q: Bfp, stored: bool) -> Value {
        let shape = self.base.graph.shape(id);
        let value = self.value(id, "f32 of ", self.base.bytes(id));
        let (n, pixels) = (u(self.base.batch), u(shape.h * shape.w));
        let p = Dequantize { n, pixels, c: u(shape.c), stored: u32::from(stored) };
        self.base.call(Kernel::DequantizeFwdI8(p), &[q.mantissas, q.exponents], &[value]);
        value
    }

    // ---- structure ----------------------------------------------------------------------------------------------------

    /// The only reader of `id`.
    fn reader(&self, id: NodeId) -> Option<NodeId> {
        match self.base.graph.consumers(id)[..] {
            [reader] => Some(reader),
            _ => None,
        }
    }

    /// The batchnorm that `conv` is a block with.
    fn block_of(&self, conv: NodeId) -> Option<NodeId> {
        let whole = self.options.f32_products.is_empty() && self.packing.convolution(conv).is_some();
        self.reader(conv).filter(|bn| whole && matches!(self.base.graph.node(*bn).op, Op::BatchNorm(_)))
    }

    /// Whether `bn` is in a block.
    fn is_blocked(&self, bn: NodeId) -> bool {
        self.base.graph.node(bn).inputs.first().is_some_and(|conv| self.block_of(*conv) == Some(bn))
    }

    // ---- forward ------------------------------------------------------------------------------------------------------

    fn forward(&mut self, id: NodeId) {
        if self.inner.contains(&id) {
            return;
        }
        let (graph, node) = (self.base.graph, self.base.graph.node(id));
        match &node.op {
            Op::Input(_) => self.edges[id.0].f32 = Some(self.base.images(id)),
            Op::Conv2d(attr) if self.packing.convolution(id).is_some() => self.forward_conv(id, *attr),
            Op::BatchNorm(attr) if self.is_blocked(id) => self.forward_block(id, *attr),
            Op::Relu(_) if graph.fused_into(id).is_some() => self.edges[id.0] = self.edges[node.inputs[0].0],
            _ => {
                let inputs: Vec<Value> = node.inputs.iter().map(|input| self.f32_of(*input)).collect();
                if let Some(lowered) = self.base.forward_node(id, &inputs, graph.fuses_relu(id)) {
                    self.edges[id.0].f32 = Some(lowered.output.value);
                    self.f32_nodes.insert(id, lowered);
                }
            }
        }
    }

    fn packed(&mut self, id: NodeId, conv: &Conv2d, places: Packed) -> (Bfp, Value) {
        let Conv2d { k, r, s, c, .. } = *conv;
        let [k, taps, c] = [k, r * s, c].map(|n| n as usize);
        let name = self.name(id).to_string();
        let mut at = |what: &str, bytes, byte| self.base.place(&format!("{what} {name}"), bytes, Place::Packed(byte));
        let mantissas = at("weights of", k * taps * pad(c), places.weights);
        let exponents = at("weight exponents of", k, places.exponents);
        let transposed = at("transposed weights of", c * taps * pad(k), places.transposed);
        (Bfp { mantissas, exponents }, transposed)
    }

    /// A convolution with integer products.
    fn forward_conv(&mut self, id: NodeId, attr: Conv2dAttr) {
        let input = self.base.graph.node(id).inputs[0];
        let (Some(places), Ok(conv)) =
            (self.packing.convolution(id), Conv2d::new(self.base.batch, self.base.graph.shape(input), &attr))
        else {
            return;
        };
        let (weights, transposed) = self.packed(id, &conv, places);
        let (parameters, gradients) = self.base.parameters(id);
        let ([w], [Some(dw)]) = (&parameters[..], &gradients[..]) else { return };
        let mut made = Conv { conv, weights, transposed, dw: *dw, w: *w, stored: None };
        if self.options.f32_products.forward {
            let (x, y) = (self.f32_of(input), self.value(id, "", self.base.bytes(id)));
            self.base.call(Kernel::Conv2dFwd(conv), &[x, *w], &[y]);
            self.edges[id.0].f32 = Some(y);
        } else {
            let x = self.operand_of(input);
            let (rows, k) = (conv.rows(), conv.k as usize);
            let y = self.new_stored(id, "", rows, k);
            let sums = self.new_sums(id, "sums of ", rows, k, size_of::<OutputSums>());
            let p = Conv2dI8 { conv, noise: self.noise(id, Role::Y) };
            let inputs = [x.mantissas, x.exponents, weights.mantissas, weights.exponents, self.step];
            self.base.call(Kernel::Conv2dFwdI8(p), &inputs, &[y.mantissas, y.exponents, sums]);
            match self.block_of(id) {
                Some(_) => made.stored = Some((y, sums)),
                None => self.edges[id.0].f32 = Some(self.dequantized(id, y, true)),
            }
        }
        self.convs.insert(id, made);
    }

    /// Batchnorm, ReLU and pool of a block, from the stored output of its convolution to an operand.
    fn forward_block(&mut self, id: NodeId, attr: BatchNormAttr) {
        let (graph, conv) = (self.base.graph, self.base.graph.node(id).inputs[0]);
        let Some((y, sums)) = self.convs.get(&conv).and_then(|conv| conv.stored) else { return };
        let (mut end, mut relu, mut window) = (id, false, None);
        if let Some(next) = self.reader(end).filter(|next| matches!(graph.node(*next).op, Op::Relu(_))) {
            (end, relu) = (next, true);
            self.inner.insert(next);
        }
        if let Some(next) = self.reader(end)
            && let Op::MaxPool(pool) = &graph.node(next).op
        {
            (end, window) = (next, Some(pool.0));
            self.inner.insert(next);
        }
        let (n, shape, out) = (self.base.batch, graph.shape(id), graph.shape(end));
        let kernel = u(window.map_or(0, |w| w.kernel));
        let pool = Pool {
            n: u(n),
            h: u(shape.h),
            w: u(shape.w),
            c: u(shape.c),
            p: u(out.h),
            q: u(out.w),
            kernel_h: kernel,
            kernel_w: kernel,
            stride: u(window.map_or(1, |w| w.stride)),
            padding: u(window.map_or(0, |w| w.padding)),
        };
        let p = BatchNormI8 {
            pool,
            eps: attr.eps,
            momentum: attr.momentum,
            relu: u32::from(relu),
            gradient: GradientForm::F32 as u32,
            dgrad: u32::from(self.base.needs[graph.node(conv).inputs[0].0]),
            noise: self.noise(id, Role::X),
            dyd_tensor: tensor(u(conv.0), Role::Dyd),
        };
        let (parameters, gradients) = self.base.parameters(id);
        let ([gamma, beta, running_mean, running_var], [Some(dgamma), Some(dbeta), ..]) =
            (&parameters[..], &gradients[..])
        else {
            return;
        };
        let c = shape.c;
        let [mean, invstd] = ["mean of ", "invstd of "].map(|what| self.value(id, what, c * 4));
        let affine = self.value(id, "affine map of ", 2 * pad(c) * 4);
        let operand = self.new_operand(end);
        let index = window.map(|_| self.value(end, "index of ", n * out.h * out.w * pad(c)));
        let inputs = [y.mantissas, y.exponents, sums, *gamma, *beta, self.step];
        let mut outputs = vec![*running_mean, *running_var, mean, invstd, affine, operand.mantissas, operand.exponents];
        outputs.extend(index);
        self.base.call(Kernel::BatchNormFwdI8(p), &inputs, &outputs);
        self.edges[end.0].operand = Some(operand);
        self.ends.insert(end, id);
        let block = Block { conv, p, gamma: *gamma, gradients: [*dgamma, *dbeta], mean, invstd, affine, index };
        self.blocks.insert(id, block);
    }

    /// The last node, the loss, and their gradients: in one operator where the last node is linear; returns the logits.
    fn end(&mut self, id: NodeId) -> Value {
        let (graph, node) = (self.base.graph, self.base.graph.node(id));
        let (Op::Linear(_), [input]) = (&node.op, &node.inputs[..]) else {
            self.forward(id);
            let logits = self.f32_of(id);
            let dlogits = self.base.loss_and_gradient(logits);
            self.f32_gradients.insert(id, dlogits);
            return logits;
        };
        let x = self.f32_of(*input);
        let (parameters, gradients) = self.base.parameters(id);
        let (n, c, k) = (self.base.batch, graph.shape(*input).elements(), graph.classes());
        let p = Classifier { n: u(n), c: u(c), k: u(k), bias: u(parameters.len() - 1) };
        let labels = self.base.place("labels", n * 4, Place::Labels);
        let metrics = self.base.place("metrics", size_of::<crate::ops::Metrics>(), Place::Metrics);
        let [logits, dlogits] = ["", "d "].map(|what| self.value(id, what, n * k * 4));
        let (losses, hits) = (self.value(id, "losses of ", n * 8), self.value(id, "hits of ", n * 4));
        let dx = self.value(*input, "d ", self.base.bytes(*input));
        let mut inputs = vec![x];
        inputs.extend(&parameters);
        inputs.push(labels);
        self.base.call(Kernel::ClassifierFwd(p), &inputs, &[logits, dlogits, losses, hits]);
        let mut outputs = vec![dx];
        outputs.extend(gradients.iter().flatten());
        outputs.push(metrics);
        self.base.call(Kernel::ClassifierBwd(p), &[x, parameters[0], dlogits, losses, hits], &outputs);
        self.f32_gradients.insert(*input, dx);
        logits
    }

    // ---- backward -----------------------------------------------------------------------------------------------------

    fn backward(&mut self, id: NodeId) {
        if let Some(bn) = self.ends.get(&id).copied() {
            // Everything up to the batchnorm is one pass there.
            if bn != id {
                self.move_gradient(id, bn);
            }
        }
        if let Some(block) = self.blocks.get(&id).cloned() {
            return self.backward_block(id, &block);
        }
        if let Some(source) = self.base.graph.fused_into(id).filter(|_| !self.inner.contains(&id)) {
            return self.move_gradient(id, source);
        }
        if let Some(conv) = self.convs.get(&id).cloned() {
            // That of a block has its gradients already.
            if conv.stored.is_none() {
                self.backward_conv(id, &conv);
            }
            return;
        }
        let Some(lowered) = self.f32_nodes.remove(&id) else { return };
        let Some(dy) = self.take_f32(id) else { return };
        if let Some(op) = self.base.graph.node(id).op.operator() {
            let given = op.backward(&lowered, dy, self.base);
            self.give(id, given);
        }
    }

    fn move_gradient(&mut self, from: NodeId, to: NodeId) {
        if let Some(gradient) = self.f32_gradients.remove(&from) {
            self.f32_gradients.insert(to, gradient);
        }
        if let Some(gradient) = self.stored_gradients.remove(&from) {
            self.stored_gradients.insert(to, gradient);
        }
    }

    /// The gradient of the output of `id` in f32, if there is any.
    fn take_f32(&mut self, id: NodeId) -> Option<Value> {
        match self.stored_gradients.remove(&id) {
            Some(q) => Some(self.dequantized(id, q, true)),
            None => self.f32_gradients.remove(&id),
        }
    }

    /// Hands f32 gradients on to the inputs of `id`; a stored one that is there already is converted first.
    fn give(&mut self, id: NodeId, gradients: Vec<Option<Value>>) {
        for input in self.base.graph.node(id).inputs.clone() {
            if self.stored_gradients.contains_key(&input)
                && let Some(dx) = self.take_f32(input)
            {
                self.f32_gradients.insert(input, dx);
            }
        }
        let mut pending = std::mem::take(&mut self.f32_gradients);
        self.base.hand_on(id, gradients, &mut pending);
        self.f32_gradients = pending;
    }

    /// Hands a stored gradient on to the input of `id`.
    fn give_stored(&mut self, id: NodeId, dx: Bfp) {
        let input = self.base.graph.node(id).inputs[0];
        if self.stored_gradients.contains_key(&input) || self.f32_gradients.contains_key(&input) {
            let dx = self.dequantized(input, dx, true);
            return self.give(id, vec![Some(dx)]);
        }
        self.stored_gradients.insert(input, dx);
    }

    /// Batchnorm, ReLU and pool of a block and the gradients of its convolution.
    fn backward_block(&mut self, id: NodeId, block: &Block) {
        let Some(conv) = self.convs.get(&block.conv).cloned() else { return };
        let Some((y, y_sums)) = conv.stored else { return };
        let s = SizesI8::of(&block.p);
        let (dz, sums) = match self.behind.remove(&id) {
            Some(gradient) => gradient,
            None => {
                let stored = self.stored_gradients.remove(&id);
                let f32 = self.f32_gradients.remove(&id);
                let mut inputs = match (stored, f32) {
                    (Some(q), _) => vec![q.mantissas, q.exponents],
                    (None, Some(dy)) => vec![dy],
                    (None, None) => return,
                };
                let gradient = if stored.is_some() { GradientForm::Stored } else { GradientForm::F32 };
                inputs.extend(block.index);
                inputs.extend([y.mantissas, y.exponents, block.affine, self.step]);
                let dz = self.new_stored(id, "d ", s.rows, s.c);
                let sums = self.new_sums(id, "sums of d ", s.rows, s.c, size_of::<GradientSums>());
                let p = BatchNormI8 { gradient: gradient as u32, noise: self.noise(id, Role::Dz), ..block.p };
                self.base.call(Kernel::BatchNormGradI8(p), &inputs, &[dz.mantissas, dz.exponents, sums]);
                (dz, sums)
            }
        };
        let x = self.operand_of(self.base.graph.node(block.conv).inputs[0]);
        let p = BatchNormI8 { noise: self.noise(block.conv, Role::Dyw), ..block.p };
        let dyd = (p.dgrad != 0).then(|| self.bfp(block.conv, "dgrad's d ", s.rows * s.stride, s.n));
        let dyw = self.bfp(block.conv, "wgrad's d ", s.rows * s.stride, s.c);
        let inputs = [
            dz.mantissas,
            dz.exponents,
            sums,
            y.mantissas,
            y.exponents,
            y_sums,
            block.gamma,
            block.mean,
            block.invstd,
            conv.weights.exponents,
            x.exponents,
            self.step,
        ];
        let mut outputs = block.gradients.to_vec();
        outputs.extend(dyd.iter().flat_map(|dyd| [dyd.mantissas, dyd.exponents]));
        outputs.extend([dyw.mantissas, dyw.exponents]);
        self.base.call(Kernel::BatchNormBwdI8(p), &inputs, &outputs);
        self.wgrad(block.conv, &conv, dyw);
        if let Some(dyd) = dyd {
            self.dgrad(block.conv, &conv, dyd);
        }
    }

    fn wgrad(&mut self, id: NodeId, conv: &Conv, dyw: Bfp) {
        let x = self.operand_of(self.base.graph.node(id).inputs[0]);
        let p = Conv2dI8 { conv: conv.conv, noise: self.noise(id, Role::Dyw) };
        let inputs = [x.mantissas, x.exponents, dyw.mantissas, dyw.exponents];
        self.base.call(Kernel::Conv2dWgradI8(p), &inputs, &[conv.dw]);
    }

    /// The data gradient; where the convolution's input is a block with a ReLU, no pool and no other reader, masked and summed up for its batchnorm.
    fn dgrad(&mut self, id: NodeId, conv: &Conv, dyd: Bfp) {
        let input = self.base.graph.node(id).inputs[0];
        let shape = self.base.graph.shape(input);
        let rows = self.base.batch * shape.h * shape.w;
        let alone = self.reader(input) == Some(id);
        let before = self.ends.get(&input).filter(|_| alone).copied();
        let before = before.and_then(|bn| Some((bn, self.blocks.get(&bn)?.clone())));
        let before = before.filter(|(_, block)| block.p.relu != 0 && block.p.pool.kernel_h == 0);
        let mut inputs = vec![dyd.mantissas, dyd.exponents, conv.transposed, self.step];
        let Some((bn, block)) = before else {
            let dx = self.new_stored(id, "input's d ", rows, shape.c);
            // A convolution has no gradient behind a batchnorm, so its number is free.
            let p = Conv2dI8 { conv: conv.conv, noise: self.noise(id, Role::Dz) };
            self.base.call(Kernel::Conv2dDgradI8(p), &inputs, &[dx.mantissas, dx.exponents]);
            return self.give_stored(id, dx);
        };
        let Some((y, _)) = self.convs.get(&block.conv).and_then(|conv| conv.stored) else { return };
        inputs.extend([y.mantissas, y.exponents, block.affine]);
        let dz = self.new_stored(bn, "d ", rows, shape.c);
        let sums = self.new_sums(bn, "sums of d ", rows, shape.c, size_of::<GradientSums>());
        let p = Conv2dI8 { conv: conv.conv, noise: self.noise(bn, Role::Dz) };
        self.base.call(Kernel::Conv2dDgradI8(p), &inputs, &[dz.mantissas, dz.exponents, sums]);
        self.behind.insert(bn, (dz, sums));
    }

    /// A convolution that is in no block, from the f32 gradient of its output.
    fn backward_conv(&mut self, id: NodeId, conv: &Conv) {
        let Some(dy) = self.take_f32(id) else { return };
        let input = self.base.graph.node(id).inputs[0];
        let (needed, f32) = (self.base.needs[input.0], self.options.f32_products);
        let (dgrad, c) = (needed && !f32.dgrad, conv.conv);
        let quantized = (dgrad || !f32.wgrad).then(|| {
            let x = self.operand_of(input);
            let (n, k, mantissas) = (c.n as usize, c.k as usize, c.rows() * pad(c.k as usize));
            let dyd = dgrad.then(|| self.bfp(id, "dgrad's d ", mantissas, n));
            let dyw = self.bfp(id, "wgrad's d ", mantissas, k);
            let p = QuantizeGradient {
                n: c.n,
                pixels: c.p * c.q,
                k: c.k,
                dgrad: u32::from(dgrad),
                noise: self.noise(id, Role::Dyw),
                dyd_tensor: tensor(u(id.0), Role::Dyd),
            };
            let mut outputs: Vec<Value> = dyd.iter().flat_map(|dyd| [dyd.mantissas, dyd.exponents]).collect();
            outputs.extend([dyw.mantissas, dyw.exponents]);
            let inputs = [dy, conv.weights.exponents, x.exponents, self.step];
            self.base.call(Kernel::QuantizeBwdI8(p), &inputs, &outputs);
            (dyd, dyw)
        });
        match quantized {
            Some((_, dyw)) if !f32.wgrad => self.wgrad(id, conv, dyw),
            _ => {
                let x = self.f32_of(input);
                self.base.call(Kernel::Conv2dWgrad(c), &[x, dy], &[conv.dw]);
            }
        }
        match quantized {
            Some((Some(dyd), _)) => self.dgrad(id, conv, dyd),
            _ if needed => {
                let dx = self.value(input, "d ", self.base.bytes(input));
                self.base.call(Kernel::Conv2dDgrad(c), &[dy, conv.w], &[dx]);
                self.give(id, vec![Some(dx)]);
            }
            _ => {}
        }
    }
}
