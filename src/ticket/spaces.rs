//! Channel spaces: which tensors of a network share their channels, read off the graph. What the `group` policy removes channels from.
//!
//! A convolution or linear layer opens a new space; batchnorm, ReLU and pools stay in their input's; an `Add` ties its inputs' spaces into one; a select opens a
//! new one. Channels go from whole spaces, so that producers, batchnorms and consumers always agree. Not here: the `select` policy, for which every batchnorm
//! stands alone ([`super::streams`]).

use std::collections::BTreeMap;

use crate::graph::{Graph, NodeId, Op};

/// A set of tensors that share their channels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Channels.
    pub channels: usize,
    /// Nodes that create the channels: convolutions, linear layers, selects, the input.
    pub producers: Vec<NodeId>,
    /// Batchnorms inside the space, whose scales score its channels.
    pub norms: Vec<NodeId>,
    /// Whether a select reads it by the numbers of its channels.
    pub selected: bool,
    /// Whether the network's output lies in it.
    pub output: bool,
}

impl Space {
    /// Why no channel can be removed from the space; `None` if some can.
    pub fn obstacle(&self, graph: &Graph) -> Option<&'static str> {
        let narrows = |id: &NodeId| matches!(graph.node(*id).op, Op::Conv2d(_) | Op::Select(_));
        if self.output {
            Some("it is the output of the network")
        } else if self.selected {
            Some("a select reads its channels by number")
        } else if !self.producers.iter().all(narrows) {
            Some("no convolution produces its channels")
        } else {
            None
        }
    }
}

/// The spaces of a network.
#[derive(Clone, Debug)]
pub struct Spaces {
    /// For every node, the number of its output's space.
    pub of: Vec<usize>,
    /// Spaces by number.
    pub all: BTreeMap<usize, Space>,
}

impl Spaces {
    /// Finds the spaces of `graph`.
    pub fn new(graph: &Graph) -> Spaces {
        // Union-find over nodes; a space's number is its lowest node.
        let mut parent: Vec<usize> = (0..graph.nodes().len()).collect();
        let find = |parent: &Vec<usize>, mut i: usize| {
            while parent[i] != i {
                i = parent[i];
            }
            i
        };
        for id in graph.ids() {
            let node = graph.node(id);
            for input in node.inputs.iter().filter(|_| !opens(&node.op)) {
                let (a, b) = (find(&parent, id.0), find(&parent, input.0));
                parent[a.max(b)] = a.min(b);
            }
        }
        let of: Vec<usize> = (0..parent.len()).map(|i| find(&parent, i)).collect();
        let mut all: BTreeMap<usize, Space> = BTreeMap::new();
        for id in graph.ids() {
            let space = all.entry(of[id.0]).or_default();
            space.channels = graph.shape(id).c;
            match graph.node(id).op {
                Op::BatchNorm(_) => space.norms.push(id),
                ref op if opens(op) => space.producers.push(id),
                _ => {}
            }
            space.selected |= graph.consumers(id).iter().any(|c| matches!(graph.node(*c).op, Op::Select(_)));
            space.output |= id.0 + 1 == graph.nodes().len();
        }
        Spaces { of, all }
    }
}

/// Whether the operator's output has channels of its own.
fn opens(op: &Op) -> bool {
    matches!(op, Op::Input(_) | Op::Conv2d(_) | Op::Linear(_) | Op::Select(_))
}
