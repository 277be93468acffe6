//! Operations and bytes of a network, layer by layer: what the energy model multiplies.
//!
//! Counted per operator from shapes alone. DRAM bytes are compulsory traffic: every kernel reads its inputs and writes its outputs once (batchnorm reads its rows twice: sums, then
//! the pass that uses them). SRAM bytes are what those kernels load from on-chip memory into registers: with tiles of 8x8 results per thread, whatever the type, two operands serve
//! eight multiply-adds each; and all DRAM traffic passes the SRAM once. Not here: energies ([`super::profile`]).

mod int8;

use crate::graph::{Graph, NodeId, Op};

/// Counted work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Multiply-adds in f32.
    pub macs_f32: u64,
    /// Multiply-adds of f16 numbers, added up in f32.
    pub macs_f16: u64,
    /// Multiply-adds of 8-bit integers, added up in 32 bits.
    pub macs_i8: u64,
    /// Other operations, all in f32.
    pub ops_f32: u64,
    /// Bytes from and to DRAM.
    pub dram_bytes: u64,
    /// Bytes from and to on-chip memory.
    pub sram_bytes: u64,
}

impl Cost {
    /// Multiply-adds of all types.
    pub fn macs(&self) -> u64 {
        self.macs_f32 + self.macs_f16 + self.macs_i8
    }

    /// `times` times as much.
    pub fn times(&self, times: f64) -> Cost {
        let scale = |n: u64| (n as f64 * times).round() as u64;
        Cost {
            macs_f32: scale(self.macs_f32),
            macs_f16: scale(self.macs_f16),
            macs_i8: scale(self.macs_i8),
            ops_f32: scale(self.ops_f32),
            dram_bytes: scale(self.dram_bytes),
            sram_bytes: scale(self.sram_bytes),
        }
    }
}

impl std::ops::Add for Cost {
    type Output = Cost;

    fn add(self, other: Cost) -> Cost {
        Cost {
            macs_f32: self.macs_f32 + other.macs_f32,
            macs_f16: self.macs_f16 + other.macs_f16,
            macs_i8: self.macs_i8 + other.macs_i8,
            ops_f32: self.ops_f32 + other.ops_f32,
            dram_bytes: self.dram_bytes + other.dram_bytes,
            sram_bytes: self.sram_bytes + other.sram_bytes,
        }
    }
}

impl std::iter::Sum for Cost {
    fn sum<I: Iterator<Item = Cost>>(costs: I) -> Cost {
        costs.fold(Cost::default(), |a, b| a + b)
    }
}

/// How a network is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numerics {
    /// f32 throughout.
    F32,
    /// f16 tensors and products, added up in f32; weights and momenta in f32, with a copy of the weights in f16. No run trains so: for comparison.
    F16,
    /// The official code's 8 bits, as it really runs: f32 arithmetic and f32 tensors, with quantisers in passes of their own.
    Eb8,
    /// The same, as if an 8-bit device executed it, which is what the paper's energies assume: 8-bit products, one byte per element, quantisers on the way.
    Eb8AsI8,
    /// Block floating point with 8-bit mantissas, fused: 14 bytes per output element and step, one of them sums (kernels.md section 3 counts 13 without).
    Int8,
}

impl Numerics {
    /// As in files.
    pub fn name(self) -> &'static str {
        match self {
            Numerics::F32 => "f32",
            Numerics::F16 => "f16",
            Numerics::Eb8 => "eb8",
            Numerics::Eb8AsI8 => "eb8-as-8bit",
            Numerics::Int8 => "int8",
        }
    }

    /// How a run of this `--search-precision` or `--train-precision` is modelled: for `eb8` in both readings.
    pub fn of_precision(precision: &str) -> &'static [Numerics] {
        match precision {
            "f32" => &[Numerics::F32],
            "eb8" => &[Numerics::Eb8, Numerics::Eb8AsI8],
            "int8" => &[Numerics::Int8],
            _ => &[],
        }
    }

    /// Bytes of an element of an activation, gradient or weight.
    fn bytes(self) -> u64 {
        match self {
            Numerics::F32 | Numerics::Eb8 => 4,
            Numerics::F16 => 2,
            Numerics::Eb8AsI8 | Numerics::Int8 => 1,
        }
    }
}

/// Results that a thread holds along either side of its tile: an operand is loaded once for so many multiply-adds.
const TILE: u64 = 8;
/// Operations to round one element: scale, add noise, round, clamp, convert, and the maximum that gives the exponent.
const ROUND_OPS: u64 = 6;

/// Work of one layer for a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerCost {
    /// Name of the node.
    pub name: String,
    /// Its operator's one word.
    pub op: &'static str,
    /// Forward in training mode.
    pub forward: Cost,
    /// Gradients of inputs and parameters.
    pub backward: Cost,
    /// Forward with running statistics.
    pub evaluation: Cost,
}

/// Every layer of `graph` for a batch of `batch` images. The optimiser's step is not in it: [`optimiser`].
pub fn layers(graph: &Graph, batch: usize, numerics: Numerics) -> Vec<LayerCost> {
    let needs = graph.needs_gradients();
    let counter = Counter { graph, batch: batch as u64, numerics, needs: &needs };
    graph.ids().filter(|id| graph.node(*id).op.operator().is_some()).map(|id| counter.layer(id)).collect()
}

/// One training step: forward, backward, optimiser.
pub fn step(graph: &Graph, batch: usize, numerics: Numerics) -> Cost {
    let layers = layers(graph, batch, numerics);
    layers.iter().map(|layer| layer.forward + layer.backward).sum::<Cost>() + optimiser(graph, numerics)
}

/// One evaluation of a batch.
pub fn evaluation(graph: &Graph, batch: usize, numerics: Numerics) -> Cost {
    layers(graph, batch, numerics).iter().map(|layer| layer.evaluation).sum()
}

/// The optimiser's step on all parameters: gradient, momentum and weight are read, the last two written.
pub fn optimiser(graph: &Graph, numerics: Numerics) -> Cost {
    let count = graph.parameter_count() as u64;
    let (ops, bytes) = match numerics {
        Numerics::F32 => (6, 20),
        Numerics::F16 => (6, 20), // the gradient in f16, the f16 copy written
        // Three quantisers, each with a pass for the maximum and one that reads and writes.
        Numerics::Eb8 => (6 + 3 * ROUND_OPS, 20 + 3 * 12),
        Numerics::Eb8AsI8 => (6 + 3 * ROUND_OPS, 5),
        // The gradient's 32-bit sums are read; weight and momentum lie on the 8-bit grid as f32, so that a run may change its precision; mantissas in both layouts are written.
        Numerics::Int8 => (6 + 3 * ROUND_OPS, 22),
    };
    on_chip(Cost { ops_f32: count * ops, dram_bytes: count * bytes, ..Cost::default() })
}

/// One draw of masks: all scales are read and sorted. Counted as the official code prints it, `3 N log2 N + 2 N` operations (early-bird.md section 3).
pub fn draw(graph: &Graph) -> Cost {
    let n = graph.bn_channels() as f64;
    let ops = 3.0 * n * n.max(1.0).log2() + 2.0 * n;
    on_chip(Cost { ops_f32: ops as u64, dram_bytes: 4 * n as u64 + n as u64 / 8, ..Cost::default() })
}

/// Surgery: weights and momenta of the dense network are read, those of the pruned one written.
pub fn surgery(dense: &Graph, pruned: &Graph) -> Cost {
    let bytes = 8 * (dense.parameter_count() + pruned.parameter_count()) as u64;
    on_chip(Cost { dram_bytes: bytes, ..Cost::default() })
}

/// DRAM traffic passes on-chip memory once.
fn on_chip(cost: Cost) -> Cost {
    Cost { sram_bytes: cost.sram_bytes + cost.dram_bytes, ..cost }
}

#[derive(Clone, Copy)]
struct Counter<'g> {
    graph: &'g Graph,
    batch: u64,
    numerics: Numerics,
    needs: &'g [bool],
}

impl Counter<'_> {
    fn elements(&self, id: NodeId) -> u64 {
        self.batch * self.graph.shape(id).elements() as u64
    }

    /// Products of one GEMM, with what they load from on-chip memory.
    fn products(&self, macs: u64, bytes: u64) -> Cost {
        let sram_bytes = macs * 2 * bytes / TILE;
        match bytes {
            1 => Cost { macs_i8: macs, sram_bytes, ..Cost::default() },
            2 => Cost { macs_f16: macs, sram_bytes, ..Cost::default() },
            _ => Cost { macs_f32: macs, sram_bytes, ..Cost::default() },
        }
    }

    fn moved(&self, bytes: u64, ops: u64) -> Cost {
        on_chip(Cost { dram_bytes: bytes, ops_f32: ops, ..Cost::default() })
    }

    fn layer(&self, id: NodeId) -> LayerCost {
        let node = self.graph.node(id);
        let (forward, backward, evaluation) = if self.numerics == Numerics::Int8 {
            let f32 = Counter { numerics: Numerics::F32, ..*self }.work(id);
            let (forward, backward) = self.layer_i8(id, f32);
            (forward, backward, f32.2)
        } else {
            let (forward, backward, evaluation) = self.work(id);
            (forward, backward + self.meeting(id), evaluation)
        };
        LayerCost { name: node.name.clone(), op: node.op.stem(), forward, backward, evaluation }
    }

    /// Forward, backward without the sums of gradients that meet, and evaluation; not in `int8`.
    fn work(&self, id: NodeId) -> (Cost, Cost, Cost) {
        let node = self.graph.node(id);
        match &node.op {
            Op::Conv2d(attr) => {
                let c = self.graph.shape(node.inputs[0]).c as u64;
                let taps = (attr.kernel.0 * attr.kernel.1) as u64;
                self.gemm(id, taps * c, true)
            }
            // The classifier stays in f32 in every precision.
            Op::Linear(_) => self.gemm(id, self.graph.shape(node.inputs[0]).elements() as u64, false),
            Op::BatchNorm(_) => self.batchnorm(id),
            _ => self.elementwise(id),
        }
    }

    /// A convolution or a linear layer with `depth` products per output element.
    fn gemm(&self, id: NodeId, depth: u64, narrow: bool) -> (Cost, Cost, Cost) {
        let input = self.graph.node(id).inputs[0];
        let (x, y) = (self.elements(input), self.elements(id));
        let w = depth * self.graph.shape(id).c as u64;
        let b = if narrow { self.numerics.bytes() } else { 4 };
        let product = self.products(y * depth, b);
        // What a quantiser adds to a tensor of y elements: work, and in the simulation passes of its own.
        let quantiser = match (self.numerics, narrow) {
            (Numerics::Eb8, true) => self.moved(12 * y, ROUND_OPS * y),
            (Numerics::Eb8AsI8, true) => self.moved(0, ROUND_OPS * y),
            _ => Cost::default(),
        };
        let forward = product + self.moved(b * (x + w + y), 0) + quantiser;
        let mut backward = product + self.moved(b * (x + y + w), 0) + quantiser;
        if self.needs[input.0] {
            backward = backward + product + self.moved(b * (x + w + y), 0);
        }
        (forward, backward, forward)
    }

    /// Batchnorm, with the ReLU behind it where there is one.
    fn batchnorm(&self, id: NodeId) -> (Cost, Cost, Cost) {
        let (y, b) = (self.elements(id), self.numerics.bytes());
        let relu = self.graph.reader(id).filter(|reader| self.graph.fused_into(*reader).is_some());
        let ops_relu = if relu.is_some() { y } else { 0 };
        let (fwd_ops, bwd_ops, eval_ops) = (6 * y + ops_relu, 9 * y + ops_relu, 2 * y + ops_relu);
        let output = if relu.is_some() { 2 } else { 0 }; // the ReLU's mask is taken from the output, in both passes
        let forward = self.moved(3 * b * y, fwd_ops);
        (forward, self.moved((5 + output) * b * y, bwd_ops), self.moved(2 * b * y, eval_ops))
    }

    fn elementwise(&self, id: NodeId) -> (Cost, Cost, Cost) {
        let node = self.graph.node(id);
        let (y, b) = (self.elements(id), self.numerics.bytes());
        let x: u64 = node.inputs.iter().map(|input| self.elements(*input)).sum();
        let gradient = node.inputs.iter().any(|input| self.needs[input.0]);
        let only = |cost: Cost| if gradient { cost } else { Cost::default() };
        match &node.op {
            Op::Relu(_) if self.graph.fused_into(id).is_some() => Default::default(),
            Op::MaxPool(_) => {
                let forward = self.moved(b * (x + y) + y, x); // a byte says which element won
                (forward, only(self.moved(b * (x + y) + y, 0)), forward)
            }
            Op::Relu(_) => (self.moved(b * (x + y), y), only(self.moved(3 * b * y, y)), self.moved(b * (x + y), y)),
            // The sum's gradient is handed on to both sides as it is.
            Op::Add(_) => {
                let forward = self.moved(b * (x + y), y);
                (forward, Cost::default(), forward)
            }
            _ => {
                let forward = self.moved(b * (x + y), x);
                (forward, only(self.moved(b * (x + y), x)), forward)
            }
        }
    }

    /// Gradients of several readers meet: each but the first is added.
    fn meeting(&self, id: NodeId) -> Cost {
        let readers = self.graph.consumers(id).len().saturating_sub(1) as u64;
        if !self.needs[id.0] || readers == 0 {
            return Cost::default();
        }
        let y = self.elements(id);
        self.moved(readers * 3 * self.numerics.bytes() * y, readers * y)
    }
}
