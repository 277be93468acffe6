//! The `select` policy's view of a network: what each batchnorm's channels reach, and what a gather must feed.
//!
//! Behind a batchnorm whose readers are all convolutions or linear layers, a pruned channel is 0 and can go; where the tensor in front of the batchnorm is somebody
//! else's, too (a residual stream), a gather is put between. A batchnorm that an `Add` reads lies on the stream, which keeps its width; a convolution that enters a
//! block from there reads, as in the official ResNet-18, only the channels that the last batchnorm in front of it keeps (early-bird.md 3.2, 3.3).
//! Not here: which channels a mask keeps, and the cut itself ([`super::surgery`]).

use crate::graph::{Graph, NodeId, Op};

/// What can be done behind a batchnorm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Only convolutions and linear layers read it: the nodes up to them, the batchnorm first, get narrower.
    Block(Vec<NodeId>),
    /// It is added to something: the stream keeps its width.
    Stream,
    /// Nothing, and why.
    Fixed(&'static str),
}

/// ReLU and pools: they have their input's channels, and 0 stays 0.
fn passes(op: &Op) -> bool {
    matches!(op, Op::Relu(_) | Op::MaxPool(_) | Op::AvgPool(_) | Op::GlobalAvgPool(_))
}

/// What the output of batchnorm `norm` reaches.
pub fn reach(graph: &Graph, norm: NodeId) -> Reach {
    let (mut inside, mut next) = (vec![norm], 0);
    let (mut stream, mut fixed) = (false, None);
    while let Some(id) = inside.get(next).copied() {
        next += 1;
        let readers = graph.consumers(id);
        if readers.is_empty() {
            fixed = Some("it is the output of the network");
        }
        for reader in readers {
            match &graph.node(reader).op {
                Op::Conv2d(_) | Op::Linear(_) => {}
                Op::Add(_) => stream = true,
                Op::BatchNorm(_) => fixed = Some("another batchnorm reads its channels"),
                op if passes(op) => inside.push(reader),
                _ => fixed = Some("a select reads its channels by number"),
            }
        }
    }
    match (stream, fixed) {
        (_, Some(why)) => Reach::Fixed(why),
        (true, None) => Reach::Stream,
        (false, None) => Reach::Block(inside),
    }
}

/// The node that makes the channels of `norm`'s input and for nobody else, so that it can make fewer.
pub fn own_producer(graph: &Graph, norm: NodeId) -> Option<NodeId> {
    let input = *graph.node(norm).inputs.first()?;
    let makes = matches!(graph.node(input).op, Op::Conv2d(_) | Op::Select(_));
    (makes && graph.consumers(input) == [norm]).then_some(input)
}

/// The batchnorm whose mask decides what convolution `conv` reads of a stream: the last one in front of it, where an add's first input counts as the way it came.
/// `None` where there is none, or where the convolution leads back to the stream (a down-sample convolution reads the stream whole).
pub fn entry(graph: &Graph, conv: NodeId) -> Option<NodeId> {
    if !matches!(graph.node(conv).op, Op::Conv2d(_)) || joins_a_stream(graph, conv) {
        return None;
    }
    let mut at = *graph.node(conv).inputs.first()?;
    loop {
        match &graph.node(at).op {
            Op::BatchNorm(_) => return Some(at),
            op if passes(op) || matches!(op, Op::Add(_)) => at = *graph.node(at).inputs.first()?,
            _ => return None,
        }
    }
}

/// Whether what `conv` makes is added to something before another convolution reads it.
fn joins_a_stream(graph: &Graph, conv: NodeId) -> bool {
    let mut open = vec![conv];
    while let Some(id) = open.pop() {
        for reader in graph.consumers(id) {
            match &graph.node(reader).op {
                Op::Add(_) => return true,
                op if passes(op) || matches!(op, Op::BatchNorm(_)) => open.push(reader),
                _ => {}
            }
        }
    }
    false
}
