//! The backward pass of a training step in `int8`, from the gradient of the last node down.

use super::{Bfp, Block, Blocks, Conv, Eight};
use crate::graph::{NodeId, Op};
use crate::ops::add::Add;
use crate::ops::batchnorm::{BatchNormBwdStreamI8, BatchNormI8, GradientSums, SizesI8};
use crate::ops::conv2d::Conv2dI8;
use crate::ops::quantize::{Form, QuantizeGradient};
use crate::ops::{Emit, Kernel, Value, u};
use crate::quant::layout::{Role, pad, tensor};

/// Gradients that a pass adds up: their values, and the parameters that say what they are.
pub(super) struct Behind {
    pub values: Vec<Value>,
    /// [`Form`] of the first.
    pub gradient: u32,
    /// 1: there is a second.
    pub add: u32,
    /// [`Form`] of that.
    pub more: u32,
}

impl Eight<'_, '_> {
    pub(super) fn backward(&mut self, id: NodeId) {
        if let Some(bn) = self.ends.get(&id).copied() {
            // Everything up to the batchnorm is one pass there.
            if bn != id {
                self.move_gradient(id, bn);
            }
        }
        if let Some(join) = self.joins.get(&id).cloned() {
            return self.backward_join(id, &join);
        }
        if let Some(block) = self.blocks.get(&id).cloned() {
            return self.backward_block(id, &block);
        }
        if let Some(source) = self.base.graph.fused_into(id).filter(|_| !self.inner.contains(&id)) {
            return self.move_gradient(id, source);
        }
        if self.inner.contains(&id) && matches!(self.base.graph.node(id).op, Op::Add(_)) {
            if let Some(gradient) = self.take_16(id) {
                return self.give_blocks(id, gradient);
            }
            let Some(dy) = self.take_f32(id) else { return };
            let needs = self.base.graph.node(id).inputs.iter().map(|input| self.base.needs[input.0].then_some(dy));
            let given = needs.collect();
            return self.base.hand_on(id, given);
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
            self.base.hand_on(id, given);
        }
    }

    fn move_gradient(&mut self, from: NodeId, to: NodeId) {
        if let Some(gradient) = self.base.pending.remove(&from) {
            self.base.pending.insert(to, gradient);
        }
        if let Some(gradients) = self.stored_gradients.remove(&from) {
            self.stored_gradients.insert(to, gradients);
        }
    }

    /// The gradients of the output of `id` as they are, `most` of at least one: where there are more, the first of them meet in f32.
    fn take_up_to(&mut self, id: NodeId, most: usize) -> Vec<(Vec<Value>, Form)> {
        let mut blocks = self.stored_gradients.remove(&id).unwrap_or_default();
        let mut f32 = self.base.pending.remove(&id);
        let (count, add) = (blocks.len() + usize::from(f32.is_some()), Add { n: u(self.base.bytes(id) / 4) });
        if count > most {
            let mut sum = None;
            for Blocks { q, form } in blocks.drain(..(count - most + 1).min(blocks.len())) {
                let value = self.dequantized(id, q, form as u32);
                match sum {
                    None => sum = Some(value),
                    Some(sum) => self.base.call(Kernel::AddFwd(add), &[sum, value], &[sum]),
                }
            }
            // Another node may still be to read the f32 gradient; this sum is nobody else's.
            if let (Some(sum), Some(other)) = (sum, f32) {
                self.base.call(Kernel::AddFwd(add), &[sum, other], &[sum]);
            }
            f32 = sum.or(f32);
        }
        let blocks = blocks.into_iter().map(|Blocks { q, form }| (vec![q.mantissas, q.exponents], form));
        blocks.chain(f32.map(|value| (vec![value], Form::F32))).collect()
    }

    /// What comes to the output of `id` from behind, for a pass that takes one tensor or two; `None` where nothing comes.
    pub(super) fn take_behind(&mut self, id: NodeId) -> Option<Behind> {
        let gradients = self.take_up_to(id, 2);
        let (first, second) = (gradients.first()?.1, gradients.get(1).map(|(_, form)| *form));
        Some(Behind {
            values: gradients.iter().flat_map(|(values, _)| values).copied().collect(),
            gradient: first as u32,
            add: u32::from(second.is_some()),
            more: second.unwrap_or_default() as u32,
        })
    }

    /// The gradient of the output of `id` in f32, if there is any.
    fn take_f32(&mut self, id: NodeId) -> Option<Value> {
        match &self.take_up_to(id, 1)[..] {
            [(values, Form::F32)] => values.first().copied(),
            [(values, form)] => {
                let q = Bfp { mantissas: *values.first()?, exponents: *values.get(1)? };
                Some(self.dequantized(id, q, *form as u32))
            }
            _ => None,
        }
    }

    /// The gradient of the output of `id` if it is a single one, in blocks of 16 bits.
    fn take_16(&mut self, id: NodeId) -> Option<Blocks> {
        let gradients = self.stored_gradients.get(&id).filter(|_| !self.base.pending.contains_key(&id))?;
        let &[gradient @ Blocks { form: Form::Bfp16, .. }] = &gradients[..] else { return None };
        self.stored_gradients.remove(&id);
        Some(gradient)
    }

    /// Hands a gradient in blocks on to `to`.
    pub(super) fn give_to(&mut self, to: NodeId, dx: Blocks) {
        if self.base.needs[to.0] {
            self.stored_gradients.entry(to).or_default().push(dx);
        }
    }

    /// Hands a gradient in blocks on to the inputs of `id`.
    fn give_blocks(&mut self, id: NodeId, dx: Blocks) {
        for input in self.base.graph.node(id).inputs.clone() {
            self.give_to(input, dx);
        }
    }

    /// Batchnorm, ReLU and pool of a block and the gradients of its convolution.
    fn backward_block(&mut self, id: NodeId, block: &Block) {
        let (y, s) = (block.y, SizesI8::of(&block.p));
        let (dz, sums) = match self.behind.remove(&id) {
            Some(gradient) => gradient,
            None => {
                let Some(Behind { values: mut inputs, gradient, add, more }) = self.take_behind(id) else { return };
                inputs.extend(block.index);
                inputs.extend([y.mantissas, y.exponents, block.affine, self.step]);
                let dz = self.new_stored(id, "d ", s.rows, s.c);
                let sums = self.new_sums(id, "sums of d ", s.rows, s.c, size_of::<GradientSums>());
                let noise = self.noise(id, Role::Dz);
                let p = BatchNormI8 { gradient, add, more, noise, ..block.p };
                self.base.call(Kernel::BatchNormGradI8(p), &inputs, &[dz.mantissas, dz.exponents, sums]);
                (dz, sums)
            }
        };
        let Some((owner, conv)) = block.conv.and_then(|id| Some((id, self.convs.get(&id)?.clone()))) else {
            return self.backward_stream(id, block, dz, sums);
        };
        let x = self.operand_of(self.base.graph.node(owner).inputs[0]);
        let wide = self.options.is_wide();
        let p = BatchNormI8 { noise: self.noise(owner, Role::Dyw), wide: u32::from(wide), ..block.p };
        let dyd = (p.dgrad != 0).then(|| self.bfp(owner, "dgrad's d ", s.rows * s.stride, s.n));
        let dyw = self.bfp(owner, "wgrad's d ", (s.rows * s.stride) << u32::from(wide), s.c);
        let inputs = [
            dz.mantissas,
            dz.exponents,
            sums,
            y.mantissas,
            y.exponents,
            block.y_sums,
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
        self.wgrad(owner, &conv, dyw);
        if let Some(dyd) = dyd {
            self.dgrad(owner, &conv, dyd);
        }
    }

    /// A batchnorm that reads a stream or channels of it: the stream's gradient in 16 bits where the stream has them, else in f32, on top of what has come to the stream before.
    fn backward_stream(&mut self, id: NodeId, block: &Block, dz: Bfp, sums: Value) {
        let ((input, gather), s, y) = (self.stream_before(id), SizesI8::of(&block.p), block.y);
        let (index, wide) = (gather.and_then(|gather| self.index_of(gather)), u(self.base.graph.shape(input).c));
        let other = self.take_up_to(input, 1).pop();
        let (add, other) = (other.is_some(), other.unwrap_or_default());
        let mut inputs = vec![dz.mantissas, dz.exponents, sums, y.mantissas, y.exponents];
        inputs.extend([block.gamma, block.mean, block.invstd]);
        inputs.extend(index);
        inputs.extend(other.0);
        let mut outputs = block.gradients.to_vec();
        let (add, needed) = (u32::from(add), self.base.needs[input.0]);
        let form = if self.edges[input.0].stream.is_some() {
            let q = self.new_stream(input, "d ");
            outputs.extend([q.mantissas, q.exponents]);
            self.give_to(input, Blocks { q, form: Form::Bfp16 });
            Form::Bfp16
        } else {
            let dx = self.value(input, "d ", self.base.bytes(input));
            outputs.push(dx);
            needed.then(|| self.base.pending.insert(input, dx));
            Form::F32
        };
        let (rows, c, select, other, form) =
            (u(s.rows), u(s.c), u32::from(index.is_some()), other.1 as u32, form as u32);
        let p = BatchNormBwdStreamI8 { rows, c, add, other, form, select, wide };
        self.base.call(Kernel::BatchNormBwdStreamI8(p), &inputs, &outputs);
    }

    fn wgrad(&mut self, id: NodeId, conv: &Conv, dyw: Bfp) {
        let x = self.operand_of(self.base.graph.node(id).inputs[0]);
        let p = Conv2dI8 { conv: conv.conv, noise: self.noise(id, Role::Dyw), wide: u32::from(self.options.is_wide()) };
        let inputs = [x.mantissas, x.exponents, dyw.mantissas, dyw.exponents];
        self.base.call(Kernel::Conv2dWgradI8(p), &inputs, &[conv.dw]);
    }

    /// The data gradient; where the convolution's input is a block with a ReLU, no pool and no other reader, masked and summed up for its batchnorm.
    fn dgrad(&mut self, id: NodeId, conv: &Conv, dyd: Bfp) {
        let input = self.base.graph.node(id).inputs[0];
        let shape = self.base.graph.shape(input);
        let rows = self.base.batch * shape.h * shape.w;
        let alone = self.base.graph.reader(input) == Some(id);
        let before = self.ends.get(&input).filter(|_| alone).copied();
        let before = before.and_then(|bn| Some((bn, self.blocks.get(&bn)?.clone())));
        let before = before.filter(|(_, block)| block.p.relu != 0 && block.p.pool.kernel_h == 0);
        let mut inputs = vec![dyd.mantissas, dyd.exponents, conv.transposed, self.step];
        let Some((bn, block)) = before else {
            let dx = self.new_stored(id, "input's d ", rows, shape.c);
            // A convolution has no gradient behind a batchnorm, so its number is free.
            let p = Conv2dI8 { conv: conv.conv, noise: self.noise(id, Role::Dz), wide: 0 };
            self.base.call(Kernel::Conv2dDgradI8(p), &inputs, &[dx.mantissas, dx.exponents]);
            return self.give_blocks(id, Blocks { q: dx, form: Form::Stored });
        };
        inputs.extend([block.y.mantissas, block.y.exponents, block.affine]);
        let dz = self.new_stored(bn, "d ", rows, shape.c);
        let sums = self.new_sums(bn, "sums of d ", rows, shape.c, size_of::<GradientSums>());
        let p = Conv2dI8 { conv: conv.conv, noise: self.noise(bn, Role::Dz), wide: 0 };
        self.base.call(Kernel::Conv2dDgradI8(p), &inputs, &[dz.mantissas, dz.exponents, sums]);
        self.behind.insert(bn, (dz, sums));
    }

    /// A convolution that is in no block, from the gradient of its output in 16 bits or f32.
    fn backward_conv(&mut self, id: NodeId, conv: &Conv) {
        let (input, f32) = (self.base.graph.node(id).inputs[0], self.options.f32_products);
        let needed = self.base.needs[input.0];
        let blocks = if f32.is_empty() { self.take_16(id) } else { None };
        let (dy, form) = match blocks {
            Some(Blocks { q, form }) => (vec![q.mantissas, q.exponents], form),
            None => match self.take_f32(id) {
                Some(dy) => (vec![dy], Form::F32),
                None => return,
            },
        };
        let (dgrad, c) = (needed && !f32.dgrad, conv.conv);
        let quantized = (dgrad || !f32.wgrad).then(|| {
            let x = self.operand_of(input);
            let (n, k, mantissas) = (c.n as usize, c.k as usize, c.rows() * pad(c.k as usize));
            let dyd = dgrad.then(|| self.bfp(id, "dgrad's d ", mantissas, n));
            let wide = u32::from(self.options.is_wide());
            let dyw = self.bfp(id, "wgrad's d ", mantissas << wide, k);
            let p = QuantizeGradient {
                n: c.n,
                pixels: c.p * c.q,
                k: c.k,
                dgrad: u32::from(dgrad),
                form: form as u32,
                noise: self.noise(id, Role::Dyw),
                dyd_tensor: tensor(u(id.0), Role::Dyd),
                wide,
            };
            let mut outputs: Vec<Value> = dyd.iter().flat_map(|dyd| [dyd.mantissas, dyd.exponents]).collect();
            outputs.extend([dyw.mantissas, dyw.exponents]);
            let inputs = [&dy[..], &[conv.weights.exponents, x.exponents, self.step]].concat();
            self.base.call(Kernel::QuantizeBwdI8(p), &inputs, &outputs);
            (dyd, dyw)
        });
        match quantized {
            Some((_, dyw)) if !f32.wgrad => self.wgrad(id, conv, dyw),
            _ => {
                let x = self.f32_of(input);
                self.base.call(Kernel::Conv2dWgrad(c), &[x, dy[0]], &[conv.dw]);
            }
        }
        match quantized {
            Some((Some(dyd), _)) => self.dgrad(id, conv, dyd),
            _ if needed => {
                let dx = self.value(input, "d ", self.base.bytes(input));
                self.base.call(Kernel::Conv2dDgrad(c), &[dy[0], conv.w], &[dx]);
                self.base.hand_on(id, vec![Some(dx)]);
            }
            _ => {}
        }
    }
}
