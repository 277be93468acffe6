//! Lowering a network for a batch: forward calls, the loss, and (for training) the backward calls derived from the same nodes in reverse.
//!
//! Not here: where arena values lie ([`super::plan`]) and who runs the calls ([`super::Session`]).

mod eb8;
mod int8;

use std::collections::HashMap;

use super::layout::{Arena, Layout};
use super::packing::Packing;
use super::precision::Precision;
use crate::graph::{Graph, NodeId};
use crate::ops::add::Add;
use crate::ops::softmax_xent::SoftmaxXent;
use crate::ops::{Activation, Call, Emit, Kernel, Node, Value};
use crate::quant::layout::Role;
use crate::{Error, Result};

/// What a program is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Batch statistics, loss and all gradients.
    Train,
    /// Batch statistics, which move the running ones, and loss, no gradients; always f32.
    Statistics,
    /// Running statistics and loss, no gradients; always f32.
    Evaluate,
}

/// Where a value lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the planned arena, for a part of the program.
    Arena,
    /// A parameter, at an element of its arena.
    Parameter(Arena, usize),
    /// The gradient of the trained parameter at this element.
    Gradient(usize),
    /// The batch's images.
    Images,
    /// The batch's labels.
    Labels,
    /// The running [`crate::ops::Metrics`].
    Metrics,
    /// The low half of the step counter in [`crate::ops::advance::StepState`].
    Step,
    /// The packed weights, from this byte on.
    Packed(usize),
}

/// A value of a program.
#[derive(Clone, Debug)]
pub struct ValueInfo {
    /// For messages.
    pub name: String,
    /// Length.
    pub bytes: usize,
    /// Where it lives.
    pub place: Place,
}

/// A lowered network.
#[derive(Clone, Debug)]
pub struct Program {
    /// Images per batch.
    pub batch: usize,
    /// All values, by number.
    pub values: Vec<ValueInfo>,
    /// Calls in order.
    pub calls: Vec<Call>,
    /// The logits, for callers that want them.
    pub logits: Value,
}

/// Lowers `graph` for `batch` images, in the precision of `packing` where it trains. `workspace` tells how much scratch memory a kernel wants.
///
/// # Errors
/// [`Error::Graph`] where the graph is no classifier, or a tensor has more elements than a kernel can index.
pub fn lower(
    graph: &Graph,
    layout: &Layout,
    packing: &Packing,
    batch: usize,
    mode: Mode,
    workspace: &dyn Fn(&Kernel) -> usize,
) -> Result<Program> {
    graph.check_classifier()?;
    for id in graph.ids() {
        if batch == 0 || batch.saturating_mul(graph.shape(id).elements()) > u32::MAX as usize {
            let what = format!("{batch} images of {} are none or more than 2^32 elements", graph.shape(id));
            return Err(Error::Graph { node: graph.node(id).name.clone(), op: graph.node(id).op.stem(), what });
        }
    }
    let mut lowering = Lowering::new(graph, layout, batch, mode, workspace);
    let logits = match (packing.precision, mode) {
        (Precision::Int8(options), Mode::Train) => int8::train(&mut lowering, packing, options)?,
        (precision, Mode::Train) => {
            if precision == Precision::Eb8 {
                lowering.rounding = Some(eb8::Rounding::new(&mut lowering, packing));
            }
            let (nodes, logits) = lowering.forward();
            let dlogits = lowering.loss_and_gradient(logits);
            lowering.backward(&nodes, dlogits);
            logits
        }
        (_, Mode::Statistics | Mode::Evaluate) => {
            let (_, logits) = lowering.forward();
            lowering.loss(logits);
            logits
        }
    };
    Ok(Program { batch, values: lowering.values, calls: lowering.calls, logits })
}

/// A program in the making.
struct Lowering<'a> {
    graph: &'a Graph,
    layout: &'a Layout,
    batch: usize,
    mode: Mode,
    workspace: &'a dyn Fn(&Kernel) -> usize,
    /// Whether each node's output needs a gradient.
    needs: Vec<bool>,
    /// Whether and how outputs and their gradients are rounded on the way.
    rounding: Option<eb8::Rounding>,
    /// f32 gradients of outputs that their nodes are still to take, by node; several may have the same value.
    pending: HashMap<NodeId, Value>,
    values: Vec<ValueInfo>,
    calls: Vec<Call>,
}

impl<'a> Lowering<'a> {
    fn new(
        graph: &'a Graph,
        layout: &'a Layout,
        batch: usize,
        mode: Mode,
        workspace: &'a dyn Fn(&Kernel) -> usize,
    ) -> Self {
        Lowering {
            graph,
            layout,
            batch,
            mode,
            workspace,
            needs: graph.needs_gradients(),
            rounding: None,
            pending: HashMap::new(),
            values: Vec::new(),
            calls: Vec::new(),
        }
    }

    fn place(&mut self, name: &str, bytes: usize, place: Place) -> Value {
        self.values.push(ValueInfo { name: name.into(), bytes, place });
        Value(self.values.len() as u32 - 1)
    }

    /// Bytes of an f32 tensor at the output of `id`.
    fn bytes(&self, id: NodeId) -> usize {
        self.batch * self.graph.shape(id).elements() * 4
    }

    /// The batch's images.
    fn images(&mut self, id: NodeId) -> Value {
        self.place("images", self.bytes(id), Place::Images)
    }

    /// The batch's labels, and the sums that the loss goes to.
    fn labels_and_metrics(&mut self) -> (Value, Value) {
        let labels = self.place("labels", self.batch * 4, Place::Labels);
        (labels, self.place("metrics", size_of::<crate::ops::Metrics>(), Place::Metrics))
    }

    /// The parameters of `id` and, in training, where their gradients go.
    fn parameters(&mut self, id: NodeId) -> (Vec<Value>, Vec<Option<Value>>) {
        let (graph, node) = (self.graph, self.graph.node(id));
        let inputs: Vec<_> = node.inputs.iter().map(|i| graph.shape(*i)).collect();
        let (mut parameters, mut gradients) = (Vec::new(), Vec::new());
        for spec in node.op.operator().map_or_else(Vec::new, |op| op.parameters(&inputs)) {
            let name = format!("{}.{}", node.name, spec.suffix);
            let Some(placed) = self.layout.get(&name) else { continue };
            let (arena, offset, bytes) = (placed.arena, placed.offset, spec.elements() * 4);
            parameters.push(self.place(&name, bytes, Place::Parameter(arena, offset)));
            let gradient = (spec.kind.trained() && self.mode == Mode::Train)
                .then(|| self.place(&format!("d {name}"), bytes, Place::Gradient(offset)));
            gradients.push(gradient);
        }
        (parameters, gradients)
    }

    /// Emits the forward calls of node `id` in f32, from `inputs` to a new value, with the ReLU behind it where `relu` says so.
    fn forward_node(&mut self, id: NodeId, inputs: &[Value], relu: bool) -> Option<Node> {
        let (graph, node) = (self.graph, self.graph.node(id));
        let op = node.op.operator()?;
        let output = self.value(&node.name, self.bytes(id));
        let (parameters, gradients) = self.parameters(id);
        let activation = |(value, id): (&Value, &NodeId)| Activation { value: *value, shape: graph.shape(*id) };
        let mut lowered = Node {
            name: node.name.clone(),
            batch: self.batch,
            training: self.mode != Mode::Evaluate,
            relu,
            inputs: inputs.iter().zip(&node.inputs).map(activation).collect(),
            needs: node.inputs.iter().map(|i| self.needs[i.0]).collect(),
            output: Activation { value: output, shape: graph.shape(id) },
            parameters,
            gradients,
            saved: Vec::new(),
        };
        lowered.saved = op.forward(&lowered, self);
        Some(lowered)
    }

    /// Emits the forward calls; returns every node as lowered, and the last one's output.
    fn forward(&mut self) -> (Vec<Option<Node>>, Value) {
        let graph = self.graph;
        let (mut outputs, mut nodes): (Vec<Value>, Vec<Option<Node>>) = (Vec::new(), Vec::new());
        for id in graph.ids() {
            let node = graph.node(id);
            let lowered = match graph.fused_into(id) {
                Some(_) => None,
                None => {
                    let inputs: Vec<Value> = node.inputs.iter().map(|i| outputs[i.0]).collect();
                    self.forward_node(id, &inputs, graph.fuses_relu(id))
                }
            };
            outputs.push(match (&lowered, node.inputs.first()) {
                (Some(lowered), _) => {
                    self.round(id, Role::Y, lowered.output.value);
                    lowered.output.value
                }
                (None, Some(source)) => outputs[source.0],
                (None, None) => self.images(id),
            });
            nodes.push(lowered);
        }
        let logits = outputs.last().copied().unwrap_or(Value(0));
        (nodes, logits)
    }

    /// Emits the loss; returns its parameters, the labels and the probabilities.
    fn loss(&mut self, logits: Value) -> (SoftmaxXent, Value, Value) {
        let (batch, classes) = (self.batch, self.graph.classes());
        let loss = SoftmaxXent { n: batch as u32, classes: classes as u32 };
        let (labels, metrics) = self.labels_and_metrics();
        let probs = self.value("probs", batch * classes * 4);
        self.call(Kernel::SoftmaxXentFwd(loss), &[logits, labels], &[probs, metrics]);
        (loss, labels, probs)
    }

    /// Emits the loss and its gradient; returns the latter.
    fn loss_and_gradient(&mut self, logits: Value) -> Value {
        let (loss, labels, probs) = self.loss(logits);
        let dlogits = self.value("d logits", self.values[probs.0 as usize].bytes);
        self.call(Kernel::SoftmaxXentBwd(loss), &[probs, labels], &[dlogits]);
        dlogits
    }

    /// Emits the backward calls: every node in reverse, gradients that meet are added.
    fn backward(&mut self, nodes: &[Option<Node>], dlogits: Value) {
        let graph = self.graph;
        if let Some(last) = graph.ids().last() {
            self.pending.insert(last, dlogits);
        }
        for id in graph.ids().rev() {
            let Some(dy) = self.pending.remove(&id) else { continue };
            let node = graph.node(id);
            let (Some(op), Some(lowered)) = (node.op.operator(), &nodes[id.0]) else {
                // A fused ReLU hands its gradient to its batchnorm; the input node has no use for one.
                if let Some(source) = graph.fused_into(id) {
                    self.pending.insert(source, dy);
                }
                continue;
            };
            let dy = self.rounded_gradient(id, dy);
            let given = op.backward(lowered, dy, self);
            self.hand_on(id, given);
        }
    }

    /// Hands the gradients of the inputs of `id` to those who made the inputs; gradients that meet are added, in the place of one that nobody else is to read.
    fn hand_on(&mut self, id: NodeId, gradients: Vec<Option<Value>>) {
        let inputs = &self.graph.node(id).inputs;
        for (i, (input, gradient)) in inputs.iter().zip(&gradients).enumerate() {
            let Some(gradient) = *gradient else { continue };
            let Some(sum) = self.pending.remove(input) else {
                self.pending.insert(*input, gradient);
                continue;
            };
            let bytes = self.values[sum.0 as usize].bytes;
            let mut free = [sum, gradient].into_iter();
            let free = free.find(|value| !self.shared(*value) && !gradients[i + 1..].contains(&Some(*value)));
            let to =
                free.unwrap_or_else(|| self.value(&format!("d {} and others", self.graph.node(*input).name), bytes));
            self.call(Kernel::AddFwd(Add { n: (bytes / 4) as u32 }), &[sum, gradient], &[to]);
            self.pending.insert(*input, to);
        }
    }

    /// Whether a node is still to take `gradient`.
    fn shared(&self, gradient: Value) -> bool {
        self.pending.values().any(|pending| *pending == gradient)
    }
}

impl Emit for Lowering<'_> {
    fn value(&mut self, name: &str, bytes: usize) -> Value {
        self.place(name, bytes, Place::Arena)
    }

    fn call(&mut self, kernel: Kernel, inputs: &[Value], outputs: &[Value]) {
        let bytes = (self.workspace)(&kernel);
        let workspace = (bytes > 0).then(|| self.value("workspace", bytes));
        self.calls.push(Call { kernel, inputs: inputs.to_vec(), outputs: outputs.to_vec(), workspace });
    }

    fn over(&mut self, dy: Value, name: &str) -> Value {
        if self.shared(dy) { self.value(&format!("d {name}"), self.values[dy.0 as usize].bytes) } else { dy }
    }
}
