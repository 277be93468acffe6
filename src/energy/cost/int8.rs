//! Work of a training step in `int8`, node by node: what is a byte per element, what is two or four, and where one becomes the other (kernels.md section 3).
//!
//! Convolutions, and batchnorms with the ReLU and max-pool behind them, pass bytes to each other; an addition of batchnorms is one pass with them and its ReLU; residual streams between them and their gradients have two bytes, everything else is f32.
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

    /// Whether the gather `id` is part of the block of the batchnorm that alone reads it.
    fn gathers(&self, id: NodeId) -> bool {
        let is_select = matches!(self.graph.node(id).op, Op::Select(_));
        is_select && self.graph.reader(id).is_some_and(|reader| self.is_batchnorm(reader))
    }

    /// Whether `reader` is a batchnorm that begins a block, or its gather.
    fn begins_block(&self, reader: NodeId) -> bool {
        self.is_batchnorm(reader) || self.gathers(reader)
    }

    /// Whether a convolution computes the addition `id`.
    fn sums_on_the_way(&self, id: NodeId) -> bool {
        let mut inputs = self.graph.node(id).inputs.iter();
        inputs.any(|input| self.is_conv(*input) && self.graph.added_into(*input).is_some_and(|(sum, _)| sum == id))
    }

    /// The addition in one pass with batchnorms that ends in `id`: its ReLU, or itself without one.
    fn sum_of(&self, id: NodeId) -> Option<NodeId> {
        let is_relu = |id: NodeId| matches!(self.graph.node(id).op, Op::Relu(_));
        let sum = if is_relu(id) { self.graph.node(id).inputs[0] } else { id };
        let relu = self.graph.reader(sum).filter(|next| is_relu(*next));
        (!self.graph.batchnorms_of(sum).is_empty() && relu.unwrap_or(sum) == id).then_some(sum)
    }

    /// Whether the batchnorm `id` is one pass with the addition behind it.
    fn is_added(&self, id: NodeId) -> bool {
        self.graph.reader(id).is_some_and(|sum| self.graph.batchnorms_of(sum).contains(&id))
    }

    /// Whether a convolution that reads `id` finds it as an operand that the pass of an addition has written.
    fn is_operand_of_sum(&self, id: NodeId) -> bool {
        self.sum_of(id).is_some() && self.graph.consumers(id).iter().any(|reader| self.is_conv(*reader))
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

    /// Whether `reader` is an addition that takes the stream `id` as it is, on the way.
    fn adds(&self, reader: NodeId, id: NodeId) -> bool {
        let mut inputs = self.graph.node(reader).inputs.iter();
        let batchnorms = self.graph.batchnorms_of(reader);
        inputs.any(|conv| self.is_conv(*conv) && self.graph.added_into(*conv) == Some((reader, id)))
            || !(batchnorms.is_empty() || batchnorms.contains(&id))
    }

    /// Whether `id` is a stream of 16 bits: 8-bit operators alone read it, or one of them where an addition of batchnorms writes it.
    fn is_16(&self, id: NodeId) -> bool {
        let readers = self.graph.consumers(id);
        let is_8 = |reader: NodeId| match self.graph.node(reader).op {
            Op::Conv2d(_) => true,
            Op::Add(_) => self.adds(reader, id),
            _ => self.begins_block(reader),
        };
        match self.sum_of(id) {
            Some(_) => readers.into_iter().any(is_8),
            None => self.is_stream(id) && !readers.is_empty() && readers.into_iter().all(is_8),
        }
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
            _ if but.is_none() && readers.iter().any(|reader| self.begins_block(*reader)) => self.stream_bytes(id),
            (Some(conv), None) if self.is_conv(conv) && but.is_some() => self.bytes_i8(id),
            (Some(block), None) if self.begins_block(block) => self.stream_bytes(id),
            (Some(add), None) if self.is_stream(add) => self.gradient_bytes(add, None),
            (Some(add), None) if self.adds(add, id) => 2 * self.bytes_i8(id),
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
            Op::Select(_) => !self.gathers(id),
            _ => true,
        }
    }

    /// A pass between the two forms: a byte and four.
    fn conversion(&self, id: NodeId, ops: u64) -> Cost {
        self.moved(self.bytes_i8(id) + 4 * self.elements(id), ops * self.elements(id))
    }

    /// Conversions of inputs that `id` is the first to want in the other form; a batchnorm reads what a convolution stored, or stores it itself, and an addition takes what it finds.
    fn conversions(&self, id: NodeId) -> Cost {
        if self.begins_block(id) || (matches!(self.graph.node(id).op, Op::Relu(_)) && self.sum_of(id).is_some()) {
            return Cost::default();
        }
        let f32 = self.wants_f32(id);
        let first = |input: &NodeId| {
            let readers = self.graph.consumers(*input);
            readers.into_iter().find(|reader| !self.begins_block(*reader) && self.wants_f32(*reader) == f32) == Some(id)
        };
        let inputs = self.graph.node(id).inputs.iter().copied().filter(first);
        inputs.map(|input| if f32 { self.made_f32(input, id) } else { self.made_operand(input) }).sum()
    }

    /// What it takes to have `id` as an operand.
    fn made_operand(&self, id: NodeId) -> Cost {
        match self.is_16(id) {
            _ if self.pass_of(id).is_some() || self.sum_of(id).is_some() => Cost::default(),
            true => self.moved(3 * self.bytes_i8(id), ROUND_OPS * self.elements(id)),
            false => self.conversion(id, ROUND_OPS),
        }
    }

    /// What it takes to have `id` in f32 for `reader`.
    fn made_f32(&self, id: NodeId, reader: NodeId) -> Cost {
        match self.is_16(id) {
            // The stored output of a convolution is converted by the convolution's own pass.
            _ if self.is_conv(id) || (self.is_batchnorm(id) && self.is_added(id)) => Cost::default(),
            true if self.adds(reader, id) => Cost::default(),
            true => self.moved(2 * self.bytes_i8(id) + 4 * self.elements(id), self.elements(id)),
            false if self.pass_of(id).is_some() => self.conversion(id, 1),
            false => Cost::default(),
        }
    }

    /// Bytes of the gradients that arrive at `id`, up to two of them as they are; more meet in f32.
    fn arriving(&self, id: NodeId) -> u64 {
        let readers = self.graph.consumers(id);
        let of = |reader: &NodeId| match self.graph.node(*reader).op {
            Op::Conv2d(_) => self.bytes_i8(id),
            Op::Add(_) if self.adds(*reader, id) => 2 * self.bytes_i8(id),
            _ => 4 * self.elements(id),
        };
        if readers.len() > 2 { 4 * self.elements(id) } else { readers.iter().map(of).sum() }
    }

    /// The addition `sum` in one pass with its batchnorms and the ReLU behind it: forward, and the gradient behind all of them.
    fn sum_i8(&self, sum: NodeId) -> (Cost, Cost) {
        let (batchnorms, elements) = (self.graph.batchnorms_of(sum), self.elements(sum));
        let relu = self.graph.reader(sum).filter(|next| matches!(self.graph.node(*next).op, Op::Relu(_)));
        let (end, y, count) = (relu.unwrap_or(sum), self.bytes_i8(sum), batchnorms.len() as u64);
        let other = self.graph.node(sum).inputs.iter().find(|input| !batchnorms.contains(input));
        let (sums, mask) = (y / ELEMENTS_PER_BYTE_OF_SUMS, if relu.is_some() { y / 8 } else { 0 });
        // What is rounded to an operand is read again for it.
        let (operand, ops) = if self.is_operand_of_sum(end) { (3 * y, ROUND_OPS) } else { (0, 0) };
        let added = other.map_or(0, |other| self.stream_bytes(*other));
        let forward = count * (y + sums) + added + self.stream_bytes(end) + mask + operand;
        let stream = if other.is_some_and(|other| self.needs[other.0]) { 2 * y } else { 0 };
        let backward = self.arriving(end) + mask + count * (y + sums) + y + stream;
        (self.moved(forward, (6 * count + 2 + ops) * elements), self.moved(backward, ROUND_OPS * elements))
    }

    /// Whether the data gradient of the convolution behind `id` masks it in its own pass and leaves its sums.
    fn is_masked(&self, id: NodeId) -> bool {
        let from_conv = self.graph.reader(id).is_some_and(|reader| self.is_conv(reader));
        from_conv && matches!(self.graph.node(id).op, Op::Relu(_)) && self.pass_of(id).is_some()
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
            Op::Add(_) if !self.graph.batchnorms_of(id).is_empty() => self.sum_i8(id),
            Op::Relu(_) if self.sum_of(id).is_some() => Default::default(),
            Op::Select(_) if self.gathers(id) => Default::default(),
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
            // A pass that masks reads the stored output below once more and leaves its sums.
            let again = if self.is_masked(input) { x + x / ELEMENTS_PER_BYTE_OF_SUMS } else { 0 };
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
        let up = self.arriving(end);
        let grad = if self.is_masked(end) {
            Cost::default()
        } else {
            self.moved(up + index + 2 * y + sums, ROUND_OPS * elements)
        };
        let (forward, grad) = if self.is_added(id) { Default::default() } else { (forward, grad) };
        if self.behind_conv(id) {
            return (forward, grad + self.moved(4 * y + 2 * sums, (9 + 2 * ROUND_OPS) * elements));
        }
        // Another tensor, or some channels of it, is stored first, unless who made it has done so; its gradient goes on top of what other readers hand on.
        let before = self.graph.node(id).inputs[0];
        let (input, reader) =
            if self.gathers(before) { (self.graph.node(before).inputs[0], before) } else { (before, id) };
        let store = match self.stored_by_conv(input, id) {
            true => Cost::default(),
            false => self.moved(if self.is_16(input) { 2 * y } else { 4 * elements } + y + sums, ROUND_OPS * elements),
        };
        let onto = self.moved(self.stream_bytes(input) + self.gradient_bytes(input, Some(reader)), elements);
        (forward + store, grad + self.moved(2 * y + sums, 9 * elements) + onto)
    }

    /// Gradients of several readers meet in f32; so does a convolution's data gradient whose input is f32. One batchnorm alone adds its own to any form.
    fn meeting_i8(&self, id: NodeId) -> Cost {
        let readers = self.graph.consumers(id);
        if !self.needs[id.0] || readers.is_empty() {
            return Cost::default();
        }
        if (self.pass_of(id).is_some() || self.sum_of(id).is_some()) && readers.len() <= 2 {
            return Cost::default();
        }
        let stored = readers.iter().filter(|reader| self.is_conv(**reader)).count();
        // A batchnorm at a stream adds its own on the way.
        let added = readers.iter().filter(|reader| self.begins_block(**reader)).count();
        let meet = (readers.len() - 1).saturating_sub(added);
        let stored = if added > 0 && readers.len() == added + 1 { 0 } else { stored };
        let sums = self.moved(12 * self.elements(id), self.elements(id)).times(meet as f64);
        self.conversion(id, 1).times(stored as f64) + sums
    }
}
