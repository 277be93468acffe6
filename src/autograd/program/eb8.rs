//! The training step in `eb8`: that of f32, with the official code's quantisers where it has them (early-bird.md 5.1).
//!
//! The output of every convolution, and of every linear layer but the classifier, is rounded to 8 bits, one exponent per image; so is the gradient that comes back to it, before
//! both of its products. Everything else, and therefore what a convolution reads, is f32. Gradients of parameters, weights and momenta are rounded by the optimiser's
//! step: weights with an exponent per output channel, BN scales and shifts and biases with one each, all of them only from the first step on.
//!
//! One thing is not as in the official code: evaluation is f32, there the outputs are rounded at random in tests, too.

use super::super::packing::Packing;
use super::{Lowering, Place};
use crate::graph::{NodeId, Op};
use crate::ops::quantize::{Noise, Round};
use crate::ops::{Emit, Kernel, Value};
use crate::quant::layout::{Role, tensor};

/// What the quantisers need to know.
#[derive(Clone, Copy)]
pub(super) struct Rounding {
    /// The step counter.
    step: Value,
    seed: [u32; 2],
}

impl Rounding {
    /// For a program of `lowering`.
    pub(super) fn new(lowering: &mut Lowering, packing: &Packing) -> Rounding {
        Rounding { step: lowering.place("step", 4, Place::Step), seed: packing.key() }
    }
}

impl Lowering<'_> {
    /// The gradient `dy` that comes to `id`, rounded where this program does so: in place, or a copy of it where another node is still to read it as it is.
    pub(super) fn rounded_gradient(&mut self, id: NodeId, dy: Value) -> Value {
        let to = if self.rounds(id) { self.over(dy, &self.graph.node(id).name) } else { dy };
        if to != dy {
            self.call(Kernel::Copy, &[dy], &[to]);
        }
        self.round(id, Role::Dyd, to);
        to
    }

    /// Whether what `id` puts out is rounded, and what comes back to it.
    fn rounds(&self, id: NodeId) -> bool {
        let last = id.0 + 1 == self.graph.nodes().len();
        self.rounding.is_some()
            && match self.graph.node(id).op {
                Op::Conv2d(_) => true,
                Op::Linear(_) => !last,
                _ => false,
            }
    }

    /// Rounds the output ([`Role::Y`]) of `id`, or the gradient that comes to it ([`Role::Dyd`]), in place where this program does so at all.
    pub(super) fn round(&mut self, id: NodeId, role: Role, value: Value) {
        let Some(rounding) = self.rounding.filter(|_| self.rounds(id)) else { return };
        let noise = Noise { seed: rounding.seed, tensor: tensor(id.0 as u32, role), stochastic: 1 };
        let length = self.graph.shape(id).elements() as u32;
        let p = Round { groups: self.batch as u32, length, noise };
        self.call(Kernel::QuantizeRound(p), &[rounding.step], &[value]);
    }
}
