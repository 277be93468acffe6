//! The cut itself: which channels every tensor keeps, the smaller network, and the slices of its parameters.
//!
//! Not here: how it is decided what stays ([`super::surgery`]).

use std::collections::HashMap;

use crate::Result;
use crate::autograd::{StateDict, Tensor};
use crate::graph::{Graph, Node, NodeId, Op, Parameter};
use crate::ops::ParameterKind;
use crate::ops::select::SelectAttr;

/// Channels kept, by node of the dense network.
#[derive(Clone, Debug)]
pub(super) struct Cuts {
    /// Of the node's output; `None` where all stay.
    pub writes: Vec<Option<Vec<u32>>>,
    /// What a gather put in front of the node takes of its input, which stays whole.
    pub gathers: Vec<Option<Vec<u32>>>,
}

impl Cuts {
    /// Nothing is removed.
    pub fn none(graph: &Graph) -> Cuts {
        Cuts { writes: vec![None; graph.nodes().len()], gathers: vec![None; graph.nodes().len()] }
    }

    /// Channels of its first input that the node reads; `None` for all.
    pub fn reads(&self, graph: &Graph, id: NodeId) -> Option<&Vec<u32>> {
        let input = graph.node(id).inputs.first()?;
        self.gathers[id.0].as_ref().or(self.writes[input.0].as_ref())
    }

    /// The smaller network.
    pub fn apply(&self, graph: &Graph) -> Result<Graph> {
        let mut pruned = Graph::new(graph.name());
        let mut places: Vec<NodeId> = Vec::new();
        let mut gathers: HashMap<(NodeId, &Vec<u32>), NodeId> = HashMap::new();
        for id in graph.ids() {
            let mut node = graph.node(id).clone();
            node.inputs = node.inputs.iter().map(|input| places[input.0]).collect();
            if let (Some(kept), Some(input)) = (&self.gathers[id.0], graph.node(id).inputs.first()) {
                node.inputs[0] = match gathers.get(&(*input, kept)) {
                    Some(gather) => *gather,
                    None => {
                        let op = Op::Select(SelectAttr { channels: kept.clone() });
                        let name = gather_name(graph, &pruned, &node.name);
                        pruned.push(Node { name, op, inputs: vec![node.inputs[0]] })?
                    }
                };
                gathers.insert((*input, kept), node.inputs[0]);
            }
            match (&mut node.op, &self.writes[id.0]) {
                (Op::Conv2d(attr), Some(kept)) => attr.out_channels = kept.len(),
                (Op::Select(attr), Some(kept)) => {
                    attr.channels = kept.iter().map(|k| attr.channels[*k as usize]).collect();
                }
                _ => {}
            }
            places.push(pruned.push(node)?);
        }
        Ok(pruned)
    }

    /// The slice of `tensor` that stays of `parameter`.
    pub fn slice(&self, graph: &Graph, parameter: &Parameter, tensor: &Tensor) -> Tensor {
        let node = graph.node(parameter.node);
        let (input, output) = (self.reads(graph, parameter.node), self.writes[parameter.node.0].as_ref());
        match (parameter.kind, &tensor.dims[..]) {
            (ParameterKind::ConvWeight, &[_, _, r, s]) => gather(&gather(tensor, 0, output, 1), 1, input, r * s),
            // Columns are CHW: a channel is a run of H*W columns.
            (ParameterKind::LinearWeight, _) => gather(tensor, 1, input, parameter.input.h * parameter.input.w),
            (ParameterKind::Bias, _) if matches!(node.op, Op::Linear(_)) => tensor.clone(),
            _ => gather(tensor, 0, output, 1),
        }
    }

    /// Sets to 0 what surgery drops although batchnorms that are 0 there do not make it 0 already: columns of weights that read it, and the rows that write it.
    pub fn silence(&self, graph: &Graph, state: &mut StateDict) {
        let dead = self.dead(graph);
        for parameter in graph.parameters() {
            let (id, node) = (parameter.node, graph.node(parameter.node));
            let Some(tensor) = state.get_mut(&parameter.name) else { continue };
            let row = tensor.data.len() / tensor.dims[0].max(1);
            if let (Op::Conv2d(_), Some(kept)) = (&node.op, &self.writes[id.0]) {
                let raw = graph.consumers(id).iter().any(|c| !matches!(graph.node(*c).op, Op::BatchNorm(_)));
                let dropped = (0..tensor.dims[0]).filter(|k| raw && kept.binary_search(&(*k as u32)).is_err());
                dropped.for_each(|k| tensor.data[k * row..][..row].fill(0.0));
            }
            let weight = matches!(parameter.kind, ParameterKind::ConvWeight | ParameterKind::LinearWeight);
            let whole = self.gathers[id.0].is_some() || node.inputs.first().is_some_and(|input| !dead[input.0]);
            if let Some(kept) = self.reads(graph, id).filter(|_| weight && whole) {
                let run = row / parameter.input.c;
                for line in tensor.data.chunks_exact_mut(row) {
                    let runs = line.chunks_exact_mut(run).enumerate();
                    runs.filter(|(c, _)| kept.binary_search(&(*c as u32)).is_err()).for_each(|(_, run)| run.fill(0.0));
                }
            }
        }
    }

    /// For every node, whether scales and shifts of 0 alone make its dropped channels 0.
    fn dead(&self, graph: &Graph) -> Vec<bool> {
        let mut dead: Vec<bool> = Vec::new();
        for id in graph.ids() {
            let node = graph.node(id);
            dead.push(match node.op {
                Op::BatchNorm(_) => true,
                Op::Input(_) | Op::Conv2d(_) | Op::Linear(_) | Op::Select(_) => false,
                _ => node.inputs.iter().all(|input| dead[input.0]),
            });
        }
        dead
    }
}

/// `layer1.0.select` before `layer1.0.bn1`, as the official code has it; the reader's own name where that is taken.
fn gather_name(dense: &Graph, pruned: &Graph, reader: &str) -> String {
    let parent = reader.rsplit_once('.').map_or(String::new(), |(parent, _)| format!("{parent}."));
    let free = |name: &String| dense.nodes().iter().chain(pruned.nodes()).all(|node| node.name != *name);
    let numbered = (2..).map(|i| format!("{reader}_select{i}"));
    let mut names = [format!("{parent}select"), format!("{reader}_select")].into_iter().chain(numbered);
    names.find(free).unwrap_or_default() // the numbers do not end
}

/// Keeps some indices of dimension `dim`; for `dim` 1, an index is a run of `run` elements and leading dimension 0 stays.
fn gather(tensor: &Tensor, dim: usize, kept: Option<&Vec<u32>>, run: usize) -> Tensor {
    let Some(kept) = kept else { return tensor.clone() };
    let mut dims = tensor.dims.clone();
    let row: usize = tensor.dims[1..].iter().product();
    let data = match dim {
        0 => {
            dims[0] = kept.len();
            kept.iter().flat_map(|k| &tensor.data[*k as usize * row..][..row]).copied().collect()
        }
        _ => {
            dims[1] = if tensor.dims.len() == 2 { kept.len() * run } else { kept.len() };
            let rows = tensor.data.chunks_exact(row.max(1));
            rows.flat_map(|row| kept.iter().flat_map(|k| &row[*k as usize * run..][..run])).copied().collect()
        }
    };
    Tensor { dims, data }
}
