//! Lowering a network for a batch: forward calls, the loss, and (for training) the backward calls derived from the same nodes in reverse.
//!
//! Not here: where arena values lie ([`super::plan`]) and who runs the calls ([`super::Session`]).

use std::collections::HashMap;

use super::layout::{Arena, Layout};
use crate::graph::{Graph, NodeId, Op};
use crate::ops::add::Add;
use crate::ops::softmax_xent::SoftmaxXent;
use crate::ops::{Activation, Call, Emit, Kernel, Node, Value};
use crate::{Error, Result};

/// What a program is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Batch statistics, loss and all gradients.
    Train,
    /// Running statistics and loss, no gradients.
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

/// Lowers `graph` for `batch` images. `workspace` tells how much scratch memory a kernel wants.
///
/// # Errors
/// [`Error::Graph`] where the graph is no classifier, or a tensor has more elements than a kernel can index.
pub fn lower(
    graph: &Graph,
    layout: &Layout,
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
    let mut lowering = Lowering { graph, layout, batch, mode, workspace, values: Vec::new(), calls: Vec::new() };
    let (nodes, logits) = lowering.forward();
    let loss = SoftmaxXent { n: batch as u32, classes: graph.classes() as u32 };
    let labels = lowering.place("labels", batch * 4, Place::Labels);
    let metrics = lowering.place("metrics", size_of::<crate::ops::Metrics>(), Place::Metrics);
    let probs = lowering.value("probs", batch * graph.classes() * 4);
    lowering.call(Kernel::SoftmaxXentFwd(loss), &[logits, labels], &[probs, metrics]);
    if mode == Mode::Train {
        let dlogits = lowering.value("d logits", batch * graph.classes() * 4);
        lowering.call(Kernel::SoftmaxXentBwd(loss), &[probs, labels], &[dlogits]);
        lowering.backward(&nodes, dlogits);
    }
    Ok(Program { batch, values: lowering.values, calls: lowering.calls, logits })
}

struct Lowering<'a> {
    graph: &'a Graph,
    layout: &'a Layout,
    batch: usize,
    mode: Mode,
    workspace: &'a dyn Fn(&Kernel) -> usize,
    values: Vec<ValueInfo>,
    calls: Vec<Call>,
}

impl Lowering<'_> {
    fn place(&mut self, name: &str, bytes: usize, place: Place) -> Value {
        self.values.push(ValueInfo { name: name.into(), bytes, place });
        Value(self.values.len() as u32 - 1)
    }

    /// Emits the forward calls; returns every node as lowered, and the last one's output.
    fn forward(&mut self) -> (Vec<Option<Node>>, Value) {
        let graph = self.graph;
        let mut outputs: Vec<Value> = Vec::new();
        let mut nodes = Vec::new();
        let mut needs = Vec::new();
        for id in graph.ids() {
            let (node, shape) = (graph.node(id), graph.shape(id));
            let bytes = self.batch * shape.elements() * 4;
            let Some(op) = node.op.operator() else {
                outputs.push(self.place("images", bytes, Place::Images));
                nodes.push(None);
                needs.push(false);
                continue;
            };
            if graph.fused_into(id).is_some() {
                outputs.push(outputs[node.inputs[0].0]);
                needs.push(needs[node.inputs[0].0]);
                nodes.push(None);
                continue;
            }
            let output = self.value(&node.name, bytes);
            let relu = matches!(node.op, Op::BatchNorm(_))
                && graph.consumers(id).iter().any(|consumer| graph.fused_into(*consumer) == Some(id));
            let mut lowered = Node {
                name: node.name.clone(),
                batch: self.batch,
                training: self.mode == Mode::Train,
                relu,
                inputs: node
                    .inputs
                    .iter()
                    .map(|i| Activation { value: outputs[i.0], shape: graph.shape(*i) })
                    .collect(),
                needs: node.inputs.iter().map(|i| needs[i.0]).collect(),
                output: Activation { value: output, shape },
                parameters: Vec::new(),
                gradients: Vec::new(),
                saved: Vec::new(),
            };
            let inputs: Vec<_> = node.inputs.iter().map(|i| graph.shape(*i)).collect();
            for spec in op.parameters(&inputs) {
                let name = format!("{}.{}", node.name, spec.suffix);
                let Some(placed) = self.layout.get(&name) else { continue };
                let (arena, offset, bytes) = (placed.arena, placed.offset, spec.elements() * 4);
                lowered.parameters.push(self.place(&name, bytes, Place::Parameter(arena, offset)));
                let gradient = (spec.kind.trained() && self.mode == Mode::Train)
                    .then(|| self.place(&format!("d {name}"), bytes, Place::Gradient(offset)));
                lowered.gradients.push(gradient);
            }
            needs.push(lowered.needs.contains(&true) || lowered.gradients.iter().any(Option::is_some));
            lowered.saved = op.forward(&lowered, self);
            outputs.push(output);
            nodes.push(Some(lowered));
        }
        let logits = outputs.last().copied().unwrap_or(Value(0));
        (nodes, logits)
    }

    /// Emits the backward calls: every node in reverse, gradients that meet are added.
    fn backward(&mut self, nodes: &[Option<Node>], dlogits: Value) {
        let graph = self.graph;
        let mut gradients: HashMap<NodeId, Value> = HashMap::new();
        if let Some(last) = graph.ids().last() {
            gradients.insert(last, dlogits);
        }
        for id in graph.ids().rev() {
            let Some(dy) = gradients.remove(&id) else { continue };
            let node = graph.node(id);
            let (Some(op), Some(lowered)) = (node.op.operator(), &nodes[id.0]) else {
                // A fused ReLU hands its gradient to its batchnorm; the input node has no use for one.
                if let Some(source) = graph.fused_into(id) {
                    gradients.insert(source, dy);
                }
                continue;
            };
            let mut given: Vec<Value> = Vec::new();
            for (input, gradient) in node.inputs.iter().zip(op.backward(lowered, dy, self)) {
                let Some(mut gradient) = gradient else { continue };
                if let Some(&sum) = gradients.get(input) {
                    let p = Add { n: (self.values[sum.0 as usize].bytes / 4) as u32 };
                    self.call(Kernel::AddFwd(p), &[sum, gradient], &[sum]);
                    continue;
                }
                if given.contains(&gradient) {
                    // Two inputs were given the same value and each may be overwritten further up.
                    let copy = self.value(&format!("d {} copy", node.name), self.values[gradient.0 as usize].bytes);
                    self.call(Kernel::Copy, &[gradient], &[copy]);
                    gradient = copy;
                }
                given.push(gradient);
                gradients.insert(*input, gradient);
            }
        }
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
}
