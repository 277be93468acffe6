//! The end of a residual block in `int8`, where it is a batchnorm: the addition, and the ReLU behind it, in one pass with the batchnorm, or with both of them where the shortcut has one, too.
//!
//! What is added is a stream of 16 bits or f32; the sum is one again where 8-bit operators read it. Not here: blocks that end in a convolution, which adds by itself ([`super::forward`]).

use super::backward::Behind;
use super::{Block, Blocks, Edge, Eight};
use crate::graph::{NodeId, Op};
use crate::ops::batchnorm::{GradientSums, SizesI8};
use crate::ops::batchnorm_add::{BatchNormAddGradI8, BatchNormAddI8, mask_bytes};
use crate::ops::quantize::Form;
use crate::ops::{Emit, Kernel, Value, u};
use crate::quant::layout::Role;

/// An addition in one pass with its batchnorms.
#[derive(Clone)]
pub(super) struct Join {
    /// One or two.
    batchnorms: Vec<NodeId>,
    /// What is added to a single one.
    other: Option<NodeId>,
    /// Where the ReLU let through, if there is one.
    mask: Option<Value>,
}

impl Eight<'_, '_> {
    /// The batchnorms that the addition `sum` is one pass with.
    pub(super) fn joined(&self, sum: NodeId) -> Vec<NodeId> {
        if self.options.f32_products.is_empty() { self.base.graph.batchnorms_of(sum) } else { Vec::new() }
    }

    /// Whether an addition is to compute the batchnorm `id`.
    pub(super) fn joins(&self, id: NodeId) -> bool {
        self.base.graph.reader(id).is_some_and(|sum| self.joined(sum).contains(&id))
    }

    /// Batchnorms, addition and ReLU; as an operand as well where a convolution reads the sum.
    pub(super) fn forward_join(&mut self, sum: NodeId, batchnorms: Vec<NodeId>) {
        let graph = self.base.graph;
        let relu = graph.reader(sum).filter(|next| matches!(graph.node(*next).op, Op::Relu(_)));
        let end = relu.unwrap_or(sum);
        let blocks: Vec<Block> = batchnorms.iter().filter_map(|id| self.new_block(*id, None, false)).collect();
        let (Some(first), second) = (blocks.first(), blocks.get(1)) else { return };
        let other = graph.node(sum).inputs.iter().copied().find(|input| !batchnorms.contains(input));
        let s = SizesI8::of(&first.p);
        let mut inputs = vec![first.y.mantissas, first.y.exponents, first.y_sums, first.gamma, first.beta];
        let mut outputs = first.state().to_vec();
        let mut other_form = Form::Stored;
        if let Some(second) = second {
            inputs.extend([second.y.mantissas, second.y.exponents, second.y_sums, second.gamma, second.beta]);
            outputs.extend(second.state());
        } else if let Some(other) = other {
            let (values, form) = self.stream_of(other);
            inputs.extend(values);
            other_form = form;
        }
        inputs.push(self.step);
        let readers = graph.consumers(end);
        let operand = readers.iter().any(|reader| self.packing.convolution(*reader).is_some());
        let mut edge = Edge::default();
        let form = if readers.iter().any(|reader| self.reads_16(*reader, end)) {
            let q = self.new_stream(end, "");
            outputs.extend([q.mantissas, q.exponents]);
            edge.stream = Some(q);
            Form::Bfp16
        } else {
            let value = self.value(end, "", self.base.bytes(end));
            outputs.push(value);
            edge.f32 = Some(value);
            Form::F32
        };
        let mask = relu.map(|relu| self.value(relu, "mask of ", mask_bytes(s.rows, s.c)));
        outputs.extend(mask);
        if operand {
            let q = self.new_operand(end);
            outputs.extend([q.mantissas, q.exponents]);
            edge.operand = Some(q);
        }
        let of_second = second.map_or(first.p, |second| second.p);
        let p = BatchNormAddI8 {
            n: u(s.n),
            pixels: u(s.pixels),
            c: u(s.c),
            eps: [first.p.eps, of_second.eps],
            momentum: [first.p.momentum, of_second.momentum],
            relu: u32::from(relu.is_some()),
            both: u32::from(second.is_some()),
            other: other_form as u32,
            form: form as u32,
            operand: u32::from(operand),
            noise: self.noise(end, Role::X),
        };
        self.base.call(Kernel::BatchNormAddFwdI8(p), &inputs, &outputs);
        self.edges[end.0] = edge;
        self.inner.extend([sum, end]);
        let other = other.filter(|_| second.is_none());
        self.blocks.extend(batchnorms.iter().copied().zip(blocks));
        self.joins.insert(end, Join { batchnorms, other, mask });
    }

    /// The gradient behind the batchnorms, and that of the stream.
    pub(super) fn backward_join(&mut self, id: NodeId, join: &Join) {
        let Some(Behind { values: mut inputs, gradient, add, more }) = self.take_behind(id) else { return };
        let blocks: Vec<Block> = join.batchnorms.iter().filter_map(|bn| self.blocks.get(bn).cloned()).collect();
        let (Some(first), second) = (blocks.first(), blocks.get(1)) else { return };
        let (s, bn) = (SizesI8::of(&first.p), join.batchnorms[0]);
        inputs.extend(join.mask);
        inputs.push(first.y.mantissas);
        inputs.extend(second.map(|second| second.y.mantissas));
        inputs.push(self.step);
        let dz = self.new_stored(bn, "d ", s.rows, s.c);
        let mut outputs = vec![dz.mantissas, dz.exponents];
        for bn in &join.batchnorms {
            let sums = self.new_sums(*bn, "sums of d ", s.rows, s.c, size_of::<GradientSums>());
            outputs.push(sums);
            self.behind.insert(*bn, (dz, sums));
        }
        let other = join.other.filter(|other| self.base.needs[other.0]);
        if let Some(other) = other {
            let q = self.new_stream(other, "d ");
            outputs.extend([q.mantissas, q.exponents]);
            self.give_to(other, Blocks { q, form: Form::Bfp16 });
        }
        let p = BatchNormAddGradI8 {
            rows: u(s.rows),
            c: u(s.c),
            relu: u32::from(join.mask.is_some()),
            both: u32::from(second.is_some()),
            up: gradient,
            add,
            more,
            stream: u32::from(other.is_some()),
            noise: self.noise(bn, Role::Dz),
        };
        self.base.call(Kernel::BatchNormAddGradI8(p), &inputs, &outputs);
    }
}
