//! The backward pass of a training step in `int8`, from the gradient of the last node down.

use super::{Bfp, Block, Conv, Eight};
use crate::graph::{NodeId, Op};
use crate::ops::batchnorm::{BatchNormBwdStreamI8, BatchNormI8, GradientForm, GradientSums, SizesI8};
use crate::ops::conv2d::Conv2dI8;
use crate::ops::quantize::QuantizeGradient;
use crate::ops::{Emit, Kernel, Value, u};
use crate::quant::layout::{Role, pad, tensor};

impl Eight<'_, '_> {
    pub(super) fn backward(&mut self, id: NodeId) {
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
        if self.inner.contains(&id) && matches!(self.base.graph.node(id).op, Op::Add(_)) {
            let Some(dy) = self.take_f32(id) else { return };
            let needs = self.base.graph.node(id).inputs.iter().map(|input| self.base.needs[input.0].then_some(dy));
            let given = needs.collect();
            return self.give(id, given);
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
        if let Some(gradient) = self.base.pending.remove(&from) {
            self.base.pending.insert(to, gradient);
        }
        if let Some(gradient) = self.stored_gradients.remove(&from) {
            self.stored_gradients.insert(to, gradient);
        }
    }

    /// The gradient of the output of `id` in f32, if there is any.
    fn take_f32(&mut self, id: NodeId) -> Option<Value> {
        match self.stored_gradients.remove(&id) {
            Some(q) => Some(self.dequantized(id, q, true)),
            None => self.base.pending.remove(&id),
        }
    }

    /// Hands f32 gradients on to the inputs of `id`; a stored one that is there already is converted first.
    fn give(&mut self, id: NodeId, gradients: Vec<Option<Value>>) {
        for input in self.base.graph.node(id).inputs.clone() {
            if self.stored_gradients.contains_key(&input)
                && let Some(dx) = self.take_f32(input)
            {
                self.base.pending.insert(input, dx);
            }
        }
        self.base.hand_on(id, gradients);
    }

    /// Hands a stored gradient on to the input of `id`.
    fn give_stored(&mut self, id: NodeId, dx: Bfp) {
        let input = self.base.graph.node(id).inputs[0];
        if self.stored_gradients.contains_key(&input) || self.base.pending.contains_key(&input) {
            let dx = self.dequantized(input, dx, true);
            return self.give(id, vec![Some(dx)]);
        }
        self.stored_gradients.insert(input, dx);
    }

    /// Batchnorm, ReLU and pool of a block and the gradients of its convolution.
    fn backward_block(&mut self, id: NodeId, block: &Block) {
        let (y, s) = (block.y, SizesI8::of(&block.p));
        let (dz, sums) = match self.behind.remove(&id) {
            Some(gradient) => gradient,
            None => {
                let stored = self.stored_gradients.remove(&id);
                let f32 = self.base.pending.remove(&id);
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

    /// A batchnorm that reads a stream: its gradient in f32, on top of what has come to the stream before.
    fn backward_stream(&mut self, id: NodeId, block: &Block, dz: Bfp, sums: Value) {
        let (input, s, y) = (self.base.graph.node(id).inputs[0], SizesI8::of(&block.p), block.y);
        let other = self.take_f32(input);
        let dx = self.value(input, "d ", self.base.bytes(input));
        let mut inputs = vec![dz.mantissas, dz.exponents, sums, y.mantissas, y.exponents];
        inputs.extend([block.gamma, block.mean, block.invstd]);
        inputs.extend(other);
        let [dgamma, dbeta] = block.gradients;
        let p = BatchNormBwdStreamI8 { rows: u(s.rows), c: u(s.c), add: u32::from(other.is_some()) };
        self.base.call(Kernel::BatchNormBwdStreamI8(p), &inputs, &[dgamma, dbeta, dx]);
        if self.base.needs[input.0] {
            self.base.pending.insert(input, dx);
        }
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
            return self.give_stored(id, dx);
        };
        inputs.extend([block.y.mantissas, block.y.exponents, block.affine]);
        let dz = self.new_stored(bn, "d ", rows, shape.c);
        let sums = self.new_sums(bn, "sums of d ", rows, shape.c, size_of::<GradientSums>());
        let p = Conv2dI8 { conv: conv.conv, noise: self.noise(bn, Role::Dz), wide: 0 };
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
            let wide = u32::from(self.options.is_wide());
            let dyw = self.bfp(id, "wgrad's d ", mantissas << wide, k);
            let p = QuantizeGradient {
                n: c.n,
                pixels: c.p * c.q,
                k: c.k,
                dgrad: u32::from(dgrad),
                noise: self.noise(id, Role::Dyw),
                dyd_tensor: tensor(u(id.0), Role::Dyd),
                wide,
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
