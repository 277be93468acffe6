//! The forward pass of a training step in `int8`, up to the loss.

use super::super::Place;
use super::{Bfp, Block, Conv, Edge, Eight};
use crate::autograd::packing::Packed;
use crate::graph::{NodeId, Op};
use crate::ops::batchnorm::{BatchNormI8, OutputSums};
use crate::ops::classifier::Classifier;
use crate::ops::conv2d::{Conv2d, Conv2dAttr, Conv2dI8, Conv2dStreamI8};
use crate::ops::pool::{Pool, Window};
use crate::ops::quantize::{Form, Store};
use crate::ops::{Emit, Kernel, Value, u};
use crate::quant::layout::{Role, pad, tensor};

impl Eight<'_, '_> {
    pub(super) fn forward(&mut self, id: NodeId) {
        if self.inner.contains(&id) {
            return;
        }
        let (graph, node) = (self.base.graph, self.base.graph.node(id));
        match &node.op {
            Op::Input(_) => self.edges[id.0].f32 = Some(self.base.images(id)),
            Op::Select(_) if self.gathers_for(id).is_some() => {
                self.inner.insert(id);
            }
            Op::Conv2d(attr) if self.packing.convolution(id).is_some() => self.forward_conv(id, *attr),
            Op::BatchNorm(_) if self.joins(id) => {}
            Op::Add(_) if !self.joined(id).is_empty() => self.forward_join(id, self.joined(id)),
            Op::BatchNorm(_) if self.options.f32_products.is_empty() => self.forward_block(id),
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
        } else if self.options.f32_products.is_empty() && self.block_of(id).is_none() {
            self.forward_stream(id, &made);
        } else {
            let x = self.operand_of(input);
            let (rows, k) = (conv.rows(), conv.k as usize);
            let y = self.new_stored(id, "", rows, k);
            let sums = self.new_sums(id, "sums of ", rows, k, size_of::<OutputSums>());
            let p = Conv2dI8 { conv, noise: self.noise(id, Role::Y), wide: 0 };
            let inputs = [x.mantissas, x.exponents, weights.mantissas, weights.exponents, self.step];
            self.base.call(Kernel::Conv2dFwdI8(p), &inputs, &[y.mantissas, y.exponents, sums]);
            match self.block_of(id) {
                Some(_) => made.stored = Some((y, sums)),
                None => self.edges[id.0].f32 = Some(self.dequantized(id, y, Form::Stored as u32)),
            }
        }
        self.convs.insert(id, made);
    }

    /// A convolution in no block: its output, or the sum that it goes into, in 16 bits or f32, and stored for the first batchnorm that reads it.
    fn forward_stream(&mut self, id: NodeId, made: &Conv) {
        let graph = self.base.graph;
        let sum = graph.added_into(id);
        let to = sum.map_or(id, |(sum, _)| sum);
        let x = self.operand_of(graph.node(id).inputs[0]);
        let other = sum.map(|(_, other)| self.stream_of(other));
        let reader = graph.consumers(to).into_iter().find(|reader| matches!(graph.node(*reader).op, Op::BatchNorm(_)));
        let mut inputs = vec![x.mantissas, x.exponents, made.weights.mantissas, made.weights.exponents, self.step];
        let (add, other) = (other.is_some(), other.unwrap_or_default());
        inputs.extend(other.0);
        let mut edge = Edge::default();
        let (mut outputs, form) = if self.is_16(to) {
            let s = self.new_stream(to, "");
            edge.stream = Some(s);
            (vec![s.mantissas, s.exponents], Form::Bfp16)
        } else {
            let s = self.value(to, "", self.base.bytes(to));
            edge.f32 = Some(s);
            (vec![s], Form::F32)
        };
        if let Some(reader) = reader {
            let (y, sums) = self.new_input(reader);
            outputs.extend([y.mantissas, y.exponents, sums]);
            self.kept.insert(reader, (y, sums));
        }
        let noise = self.noise(reader.unwrap_or(id), Role::Y);
        let product = Conv2dI8 { conv: made.conv, noise, wide: 0 };
        let (add, store) = (u32::from(add), u32::from(reader.is_some()));
        let p = Conv2dStreamI8 { product, add, other: other.1 as u32, form: form as u32, store };
        self.base.call(Kernel::Conv2dStreamI8(p), &inputs, &outputs);
        self.edges[to.0] = edge;
        if to != id {
            self.inner.insert(to);
        }
    }

    /// Room for what the batchnorm `id` reads, stored, with its sums.
    fn new_input(&mut self, id: NodeId) -> (Bfp, Value) {
        let shape = self.base.graph.shape(id);
        let rows = self.base.batch * shape.h * shape.w;
        let y = self.new_stored(id, "input of ", rows, shape.c);
        (y, self.new_sums(id, "sums of the input of ", rows, shape.c, size_of::<OutputSums>()))
    }

    /// A tensor in f32 or 16 bits, or channels of it, as a convolution would have stored it, for the batchnorm `id` that reads it.
    fn store(&mut self, id: NodeId) -> (Bfp, Value) {
        if let Some(kept) = self.kept.remove(&id) {
            return kept;
        }
        let ((input, gather), shape) = (self.stream_before(id), self.base.graph.shape(id));
        let ((mut inputs, form), from) = (self.stream_of(input), u(self.base.graph.shape(input).c));
        let rows = self.base.batch * shape.h * shape.w;
        let (y, sums) = self.new_input(id);
        let index = gather.and_then(|gather| self.index_of(gather));
        let (form, select, noise) = (form as u32, u32::from(index.is_some()), self.noise(id, Role::Y));
        let p = Store { rows: u(rows), c: u(shape.c), form, select, from, noise };
        inputs.extend(index);
        inputs.push(self.step);
        self.base.call(Kernel::QuantizeStoreI8(p), &inputs, &[y.mantissas, y.exponents, sums]);
        (y, sums)
    }

    /// A batchnorm's block, from the stored output of its convolution or what else it reads; `window` and where it leads, of the max-pool that it computes.
    pub(super) fn new_block(&mut self, id: NodeId, window: Option<(Window, NodeId)>, relu: bool) -> Option<Block> {
        let (graph, conv) = (self.base.graph, self.conv_of(id));
        let Op::BatchNorm(attr) = graph.node(id).op else { return None };
        let (y, y_sums) = match conv {
            None => self.store(id),
            Some(conv) => self.convs.get(&conv)?.stored?,
        };
        let (n, shape) = (self.base.batch, graph.shape(id));
        let out = window.map_or(shape, |(_, end)| graph.shape(end));
        let kernel = u(window.map_or(0, |(w, _)| w.kernel));
        let pool = Pool {
            n: u(n),
            h: u(shape.h),
            w: u(shape.w),
            c: u(shape.c),
            p: u(out.h),
            q: u(out.w),
            kernel_h: kernel,
            kernel_w: kernel,
            stride: u(window.map_or(1, |(w, _)| w.stride)),
            padding: u(window.map_or(0, |(w, _)| w.padding)),
        };
        let p = BatchNormI8 {
            pool,
            eps: attr.eps,
            momentum: attr.momentum,
            relu: u32::from(relu),
            gradient: Form::F32 as u32,
            add: 0,
            more: 0,
            dgrad: u32::from(self.base.needs[graph.node(conv.unwrap_or(id)).inputs[0].0]),
            noise: self.noise(id, Role::X),
            dyd_tensor: tensor(u(conv.unwrap_or(id).0), Role::Dyd),
            wide: 0,
        };
        let (parameters, gradients) = self.base.parameters(id);
        let ([gamma, beta, running_mean, running_var], [Some(dgamma), Some(dbeta), ..]) =
            (&parameters[..], &gradients[..])
        else {
            return None;
        };
        let [mean, invstd] = ["mean of ", "invstd of "].map(|what| self.value(id, what, shape.c * 4));
        let affine = self.value(id, "affine map of ", 2 * pad(shape.c) * 4);
        let index = window.map(|(_, end)| self.value(end, "index of ", n * out.h * out.w * pad(shape.c)));
        let (running, gradients) = ([*running_mean, *running_var], [*dgamma, *dbeta]);
        let (gamma, beta) = (*gamma, *beta);
        Some(Block { conv, y, y_sums, p, gamma, beta, running, gradients, mean, invstd, affine, index })
    }

    /// Batchnorm, ReLU and pool of a block, from the stored output of its convolution to an operand.
    fn forward_block(&mut self, id: NodeId) {
        let graph = self.base.graph;
        let (mut end, mut relu, mut window) = (id, false, None);
        if let Some(next) = graph.reader(end).filter(|next| matches!(graph.node(*next).op, Op::Relu(_))) {
            (end, relu) = (next, true);
            self.inner.insert(next);
        }
        if let Some(next) = graph.reader(end)
            && let Op::MaxPool(pool) = &graph.node(next).op
        {
            (end, window) = (next, Some((pool.0, next)));
            self.inner.insert(next);
        }
        let Some(block) = self.new_block(id, window, relu) else { return };
        let operand = self.new_operand(end);
        let y = block.y;
        let inputs = [y.mantissas, y.exponents, block.y_sums, block.gamma, block.beta, self.step];
        let mut outputs = block.state().to_vec();
        outputs.extend([operand.mantissas, operand.exponents]);
        outputs.extend(block.index);
        self.base.call(Kernel::BatchNormFwdI8(block.p), &inputs, &outputs);
        self.edges[end.0].operand = Some(operand);
        self.ends.insert(end, id);
        self.blocks.insert(id, block);
    }

    /// The last node, the loss, and their gradients: in one operator where the last node is linear; returns the logits.
    pub(super) fn end(&mut self, id: NodeId) -> Value {
        let (graph, node) = (self.base.graph, self.base.graph.node(id));
        let (Op::Linear(_), [input]) = (&node.op, &node.inputs[..]) else {
            self.forward(id);
            let logits = self.f32_of(id);
            let dlogits = self.base.loss_and_gradient(logits);
            self.base.pending.insert(id, dlogits);
            return logits;
        };
        let x = self.f32_of(*input);
        let (parameters, gradients) = self.base.parameters(id);
        let (n, c, k) = (self.base.batch, graph.shape(*input).elements(), graph.classes());
        let p = Classifier { n: u(n), c: u(c), k: u(k), bias: u(parameters.len() - 1) };
        let (labels, metrics) = self.base.labels_and_metrics();
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
        self.base.pending.insert(*input, dx);
        logits
    }
}
