//! Work of a training step in `int8`, node by node: what is a byte per element, what is two or four, and where one becomes the other (kernels.md section 3).
//!
//! Convolutions, and batchnorms with the ReLU and max-pool behind them, pass bytes to each other; residual streams between them and their gradients have two bytes, everything else is f32.
//! Counted beside mantissas: the sums that a pass leaves
//! for the next one. Not counted: exponents (a byte for 2,048 elements) and partial weight gradients, which a GPU with many multiprocessors keeps in its L2 cache.
//! Evaluation is in f32 in every precision.

use super::{Cost, Counter, ROUND_OPS};
use crate::graph::{NodeId, Op};

/// Channels are stored in multiples of this.
const CHANNELS: u64 = 16;
/// 16 bytes of sums for 64 elements, each time they are written or read.
const ELEMENTS_PER_BYTE_OF_SUMS: u64 = 4;

impl Counter<'_> {
    /// Bytes of the output of `id` at one each.
    fn bytes_i8(&self, id: NodeId) -> u64 {
        let shape = self.graph.shape(id);
        self.batch * (shape.h * shape.w) as u64 * (shape.c as u64).next_multiple_of(CHANNELS)
    }

    fn is_conv(&self, id: NodeId) -> bool {
        matches!(self.graph.node(id).op, Op::Conv2d(_))
    }

    fn is_batchnorm(&self, id: NodeId) -> bool {
        matches!(self.graph.node(id).op, Op::BatchNorm(_))
    }

    /// Whether a batchnorm reads this convolution's output and nothing else does.
    fn in_block(&self, conv: NodeId) -> bool {
        self.graph.reader(conv).is_some_and(|reader| self.is_batchnorm(reader))
    }

    /// Whether the batchnorm `id` reads what a convolution stored for it alone.
    fn behind_conv(&self, id: NodeId) -> bool {
        let input = self.graph.node(id).inputs[0];
        self.is_conv(input) && self.in_block(input)
    }

    /// Whether a convolution computes the addition `id`.
    fn sums_on_the_way(&self, id: NodeId) -> bool {
        let mut inputs = self.graph.node(id).inputs.iter();
        inputs.any(|input| self.is_conv(*input) && self.graph.added_into(*input).is_some_and(|(sum, _)| sum == id))
    }

    /// Whether the convolution that made `input` has stored it for the batchnorm `bn`: for the first that reads it.
    fn stored_by_conv(&self, input: NodeId, bn: NodeId) -> bool {
        let readers = self.graph.consumers(input);
        let first = readers.iter().find(|reader| self.is_batchnorm(**reader));
        self.is_stream(input) && first == Some(&bn)
    }

    /// Whether a convolution in no block writes `id`.
    fn is_stream(&self, id: NodeId) -> bool {
        match self.graph.node(id).op {
            Op::Conv2d(_) => !self.in_block(id) && self.graph.added_into(id).is_none(),
            Op::Add(_) => self.sums_on_the_way(id),
            _ => false,
        }
    }

    /// Whether `id` is a stream of 16 bits: 8-bit operators alone read it.
    fn is_16(&self, id: NodeId) -> bool {
        let (readers, convs) = (self.graph.consumers(id), |add: NodeId| self.graph.node(add).inputs.iter());
        let adds = |add: NodeId, conv: NodeId| self.is_conv(conv) && self.graph.added_into(conv) == Some((add, id));
        let is_8 = |reader: NodeId| match self.graph.node(reader).op {
            Op::Conv2d(_) => true,
            Op::Add(_) => convs(reader).any(|conv| adds(reader, *conv)),
            _ => self.stored_by_conv(id, reader),
        };
        self.is_stream(id) && !readers.is_empty() && readers.into_iter().all(is_8)
    }

    /// Bytes of the output of `id` as an operator reads it that takes 16 bits or f32.
    fn stream_bytes(&self, id: NodeId) -> u64 {
        if self.is_16(id) { 2 * self.bytes_i8(id) } else { 4 * self.elements(id) }
    }

    /// Bytes of the gradient of a stream when all that reads it is through; `but`: but for this batchnorm, the last one.
    fn gradient_bytes(&self, id: NodeId, but: Option<NodeId>) -> u64 {
        let readers = self.graph.consumers(id);
        let mut others = readers.iter().copied().filter(|reader| Some(*reader) != but);
        match (others.next(), others.next()) {
            _ if but.is_none() && readers.iter().any(|reader| self.is_batchnorm(*reader)) => self.stream_bytes(id),
            (Some(conv), None) if self.is_conv(conv) && but.is_some() => self.bytes_i8(id),
            (Some(add), None) if self.is_stream(add) => self.gradient_bytes(add, None),
            (None, _) if but.is_some() => 0,
            _ => 4 * self.elements(id),
        }
    }

    /// Where the pass of the batchnorm `id` ends: itself, or the ReLU or max-pool that it computes, too.
    fn end_of(&self, id: NodeId) -> (NodeId, Option<NodeId>) {
        let relu = self.graph.reader(id).filter(|next| matches!(self.graph.node(*next).op, Op::Relu(_)));
        let end = relu.unwrap_or(id);
        let pool = self.graph.reader(end).filter(|next| matches!(self.graph.node(*next).op, Op::MaxPool(_)));
        (pool.unwrap_or(end), pool)
    }

    /// The batchnorm whose pass ends in `id`, or passes through it.
    fn pass_of(&self, id: NodeId) -> Option<NodeId> {
        let node = self.graph.node(id);
        match &node.op {
            Op::BatchNorm(_) => Some(id),
            Op::Relu(_) | Op::MaxPool(_) => {
                let from = node.inputs[0];
                let pooled = matches!(self.graph.node(from).op, Op::MaxPool(_));
                self.pass_of(from).filter(|_| !pooled && self.graph.reader(from) == Some(id))
            }
            _ => None,
        }
    }

    /// Whether `id` takes its input in f32.
    fn wants_f32(&self, id: NodeId) -> bool {
        match self.graph.node(id).op {
            Op::Conv2d(_) => false,
            Op::Relu(_) | Op::MaxPool(_) => self.pass_of(id).is_none(),
            Op::BatchNorm(_) => !self.behind_conv(id),
            _ => true,
        }
    }

    /// A pass between the two forms: a byte and four.
    fn conversion(&self, id: NodeId, ops: u64) -> Cost {
        self.moved(self.bytes_i8(id) + 4 * self.elements(id), ops * self.elements(id))
    }

    /// Conversions of inputs that `id` is the first to want in the other form; a batchnorm reads what a convolution stored, or stores it itself.
    fn conversions(&self, id: NodeId) -> Cost {
        if self.is_batchnorm(id) {
            return Cost::default();
        }
        let f32 = self.wants_f32(id);
        let inputs = self.graph.node(id).inputs.iter();
        let first = inputs.filter(|input| {
            let is_f32 = self.pass_of(**input).is_none();
            let others = self.graph.consumers(**input);
            // The stored output of a convolution is converted by the convolution's own pass.
            f32 != is_f32
                && !(f32 && self.is_conv(**input))
                && others.iter().find(|other| self.wants_f32(**other) == f32) == Some(&id)
        });
        let from_16 = |id: NodeId| self.moved(3 * self.bytes_i8(id), ROUND_OPS * self.elements(id));
        first
            .map(|input| match self.is_16(*input) {
                true => from_16(*input),
                false => self.conversion(*input, if f32 { 1 } else { ROUND_OPS }),
            })
            .sum()
    }

    /// How the gradient of the output of `id` arrives: bytes per element, and whether the data gradient's own pass has masked it and left its sums.
    fn gradient_of(&self, id: NodeId) -> (u64, bool) {
        let from_conv = self.graph.reader(id).is_some_and(|reader| self.is_conv(reader));
        let masks = matches!(self.graph.node(id).op, Op::Relu(_)) && self.pass_of(id).is_some();
        (if from_conv { 1 } else { 4 }, from_conv && masks)
    }

    /// Work of `id`, forward and backward; `f32`: what it would be in f32.
    pub(super) fn layer_i8(&self, id: NodeId, f32: (Cost, Cost, Cost)) -> (Cost, Cost) {
        let node = self.graph.node(id);
        let (forward, backward) = match &node.op {
            Op::Conv2d(attr) => {
                let c = self.graph.shape(node.inputs[0]).c as u64;
                self.conv_i8(id, (attr.kernel.0 * attr.kernel.1) as u64 * c)
            }
            Op::BatchNorm(_) => self.batchnorm_i8(id),
            Op::Relu(_) | Op::MaxPool(_) if self.pass_of(id).is_some() => Default::default(),
            Op::Add(_) if self.sums_on_the_way(id) => Default::default(),
            _ => (f32.0, f32.1),
        };
        (forward + self.conversions(id), backward + self.meeting_i8(id))
    }

    fn conv_i8(&self, id: NodeId, depth: u64) -> (Cost, Cost) {
        let input = self.graph.node(id).inputs[0];
        let (x, y, w) = (self.bytes_i8(input), self.bytes_i8(id), depth * self.graph.shape(id).c as u64);
        let (elements, sums) = (self.elements(id), y / ELEMENTS_PER_BYTE_OF_SUMS);
        let product = self.products(elements * depth, 1);
        let mut forward = product + self.moved(x + w, ROUND_OPS * elements);
        // Integer products leave 32-bit sums.
        let mut backward = product + self.moved(x + y + 4 * w, 0);
        if self.in_block(id) {
            forward = forward + self.moved(y + sums, 0);
        } else {
            // Its output goes to a stream, on top of what it is added to, and is stored for a batchnorm behind; its gradient is that of the stream: a pass for the exponents, one that
            // rounds twice.
            let sum = self.graph.added_into(id);
            let (to, below) = sum.map_or((id, 0), |(sum, other)| (sum, self.stream_bytes(other)));
            forward = forward + self.moved(self.stream_bytes(to) + below, elements);
            let readers = self.graph.consumers(to);
            if readers.iter().any(|reader| self.is_batchnorm(*reader)) {
                forward = forward + self.moved(y + sums, 0);
            }
            backward = backward + self.moved(2 * self.gradient_bytes(to, None) + 2 * y, 2 * ROUND_OPS * elements);
        }
        if self.needs[input.0] {
            let (_, masked) = self.gradient_of(input);
            // A pass that masks reads the stored output below once more and leaves its sums.
            let again = if masked { x + x / ELEMENTS_PER_BYTE_OF_SUMS } else { 0 };
            backward = backward + product + self.moved(x + w + y + again, ROUND_OPS * self.elements(input));
        }
        (forward, backward)
    }

    /// Batchnorm, with the ReLU and the pool behind it.
    fn batchnorm_i8(&self, id: NodeId) -> (Cost, Cost) {
        let (end, pool) = self.end_of(id);
        let (y, out, elements) = (self.bytes_i8(id), self.bytes_i8(end), self.elements(id));
        let (index, sums) = (if pool.is_some() { out } else { 0 }, y / ELEMENTS_PER_BYTE_OF_SUMS);
        let forward = self.moved(y + sums + out + index, (6 + ROUND_OPS) * elements);
        let (bytes, masked) = self.gradient_of(end);
        let up = if bytes == 1 { out } else { 4 * self.elements(end) };
        let grad = if masked { Cost::default() } else { self.moved(up + index + 2 * y + sums, ROUND_OPS * elements) };
        if self.behind_conv(id) {
            return (forward, grad + self.moved(4 * y + 2 * sums, (9 + 2 * ROUND_OPS) * elements));
        }
        // An f32 tensor is stored first, unless who made it has done so; its gradient goes on top of what other readers hand on.
        let input = self.graph.node(id).inputs[0];
        let store = match self.stored_by_conv(input, id) {
            true => Cost::default(),
            false => self.conversion(input, ROUND_OPS) + self.moved(sums, 0),
        };
        let onto = self.moved(self.stream_bytes(input) + self.gradient_bytes(input, Some(id)), elements);
        (forward + store, grad + self.moved(2 * y + sums, 9 * elements) + onto)
    }

    /// Gradients of several readers meet in f32; so does a convolution's data gradient whose input is f32. One batchnorm alone adds its own to any form.
    fn meeting_i8(&self, id: NodeId) -> Cost {
        let readers = self.graph.consumers(id);
        if !self.needs[id.0] || readers.is_empty() || (self.pass_of(id).is_some() && readers.len() == 1) {
            return Cost::default();
        }
        let stored = readers.iter().filter(|reader| self.is_conv(**reader)).count();
        // A batchnorm at a stream adds its own on the way.
        let added = readers.iter().filter(|reader| self.is_batchnorm(**reader)).count();
        let meet = (readers.len() - 1).saturating_sub(added);
        let stored = if added > 0 && readers.len() == added + 1 { 0 } else { stored };
        let sums = self.moved(12 * self.elements(id), self.elements(id)).times(meet as f64);
        self.conversion(id, 1).times(stored as f64) + sums
    }
}
