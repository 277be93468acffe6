//! The network as data: nodes, shape inference, parameter names, FLOPs. One structure serves the executor, autograd, the memory plan, checkpoints and the pruner.
//!
//! Not here: how a node is computed ([`crate::ops`], [`crate::backend`]) or differentiated ([`crate::autograd`]). Models are built in [`crate::nn`]; a
//! network of one's own is built the same way:
//!
//! ```
//! use earlybird::graph::Graph;
//! use earlybird::ops::{Shape, conv2d::Conv2dAttr};
//! let mut g = Graph::new("tiny");
//! let x = g.input(Shape::new(8, 8, 1));
//! let x = g.conv2d(x, "conv", Conv2dAttr::square(4, 3, 1, 1))?;
//! let x = g.batchnorm(x, "bn")?;
//! let x = g.relu(x, "relu")?;
//! let x = g.global_avgpool(x, "pool")?;
//! g.linear(x, "classifier", 10)?;
//! assert_eq!(g.parameter_count(), 4 * 9 + 8 + 50);
//! # Ok::<(), earlybird::Error>(())
//! ```

mod op;

pub use op::Op;

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::ops::add::AddAttr;
use crate::ops::batchnorm::BatchNormAttr;
use crate::ops::conv2d::Conv2dAttr;
use crate::ops::linear::LinearAttr;
use crate::ops::pool::{AvgPoolAttr, GlobalAvgPoolAttr, MaxPoolAttr, Window};
use crate::ops::relu::ReluAttr;
use crate::ops::select::SelectAttr;
use crate::ops::{ParameterKind, Shape};
use crate::{Error, Result};

/// A node by its place in [`Graph::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub usize);

/// One operator in the network; its inputs stand before it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Unique; the prefix of its parameters' names.
    pub name: String,
    /// What it does.
    #[serde(flatten)]
    pub op: Op,
    /// Where its inputs come from.
    pub inputs: Vec<NodeId>,
}

/// A parameter of the network.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Full PyTorch name: `feature.0.weight`.
    pub name: String,
    /// The node it belongs to.
    pub node: NodeId,
    /// What it is for.
    pub kind: ParameterKind,
    /// Dimensions in memory order.
    pub dims: Vec<usize>,
    /// Shape of its node's input image.
    pub input: Shape,
}

impl Parameter {
    /// Elements.
    pub fn elements(&self) -> usize {
        self.dims.iter().product()
    }
}

/// A batchnorm layer, in the order in which masks run over the network.
#[derive(Clone, Debug, PartialEq)]
pub struct BnLayer {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Its channels.
    pub channels: usize,
}

/// A network: nodes in an order in which they can be computed; the last one is the output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "GraphFile", into = "GraphFile")]
pub struct Graph {
    name: String,
    nodes: Vec<Node>,
    shapes: Vec<Shape>,
}

/// What is written to files; shapes are inferred again when it is read.
#[derive(Serialize, Deserialize)]
struct GraphFile {
    name: String,
    nodes: Vec<Node>,
}

impl From<Graph> for GraphFile {
    fn from(graph: Graph) -> Self {
        GraphFile { name: graph.name, nodes: graph.nodes }
    }
}

impl TryFrom<GraphFile> for Graph {
    type Error = Error;

    fn try_from(file: GraphFile) -> Result<Graph> {
        let mut graph = Graph::new(&file.name);
        for node in file.nodes {
            graph.push(node)?;
        }
        Ok(graph)
    }
}

/// Largest side, channel count and node count that are believed: far above any real network, far below where sizes overflow.
const LIMIT: usize = 1 << 20;

impl Graph {
    /// An empty network called `name` (the model's name, such as `vgg16`).
    pub fn new(name: &str) -> Self {
        Graph { name: name.into(), nodes: Vec::new(), shapes: Vec::new() }
    }

    /// The model's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// One node.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// Output shape of a node, per image.
    pub fn shape(&self, id: NodeId) -> Shape {
        self.shapes[id.0]
    }

    /// Ids of all nodes in order.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = NodeId> + use<> {
        (0..self.nodes.len()).map(NodeId)
    }

    /// Appends a node after checking names, inputs and shapes.
    ///
    /// # Errors
    /// [`Error::Graph`] where the name is taken, an input does not stand before it, or the shapes do not fit.
    pub fn push(&mut self, node: Node) -> Result<NodeId> {
        let fail = |what: String| Error::Graph { node: node.name.clone(), op: node.op.stem(), what };
        if self.nodes.iter().any(|other| other.name == node.name) {
            return Err(fail("the name is taken".into()));
        }
        if let Some(bad) = node.inputs.iter().find(|id| id.0 >= self.nodes.len()) {
            return Err(fail(format!("input {} is not before the node", bad.0)));
        }
        let inputs: Vec<Shape> = node.inputs.iter().map(|id| self.shape(*id)).collect();
        let shape = match (&node.op, node.op.operator()) {
            (Op::Input(shape), _) if self.nodes.is_empty() && inputs.is_empty() => *shape,
            (Op::Input(_), _) => return Err(fail("there is one input node, it comes first and has no inputs".into())),
            (_, Some(op)) => op.shape(&inputs).map_err(fail)?,
            (_, None) => return Err(fail("has no rules".into())),
        };
        let sides = [shape.h, shape.w, shape.c];
        if sides.contains(&0) || sides.iter().any(|side| *side > LIMIT) || shape.elements() > 1 << 31 {
            return Err(fail(format!("its output {shape} is empty or too large")));
        }
        if node.op.operator().is_some_and(|op| op.parameters(&inputs).iter().any(|p| p.elements() > 1 << 31)) {
            return Err(fail("its parameters are too large".into()));
        }
        if self.nodes.len() >= LIMIT {
            return Err(fail("too many nodes".into()));
        }
        self.nodes.push(node);
        self.shapes.push(shape);
        Ok(NodeId(self.nodes.len() - 1))
    }

    /// Appends `op` on `inputs`.
    pub fn add_node(&mut self, name: &str, op: Op, inputs: &[NodeId]) -> Result<NodeId> {
        self.push(Node { name: name.into(), op, inputs: inputs.to_vec() })
    }

    /// The image; must be the first node. (A second one, or an empty shape, is refused by whatever is built on it.)
    pub fn input(&mut self, shape: Shape) -> NodeId {
        if self.nodes.is_empty() {
            self.nodes.push(Node { name: "input".into(), op: Op::Input(shape), inputs: Vec::new() });
            self.shapes.push(shape);
        }
        NodeId(0)
    }

    /// Convolution of `x`.
    pub fn conv2d(&mut self, x: NodeId, name: &str, attr: Conv2dAttr) -> Result<NodeId> {
        self.add_node(name, Op::Conv2d(attr), &[x])
    }

    /// Batch normalisation with PyTorch's defaults.
    pub fn batchnorm(&mut self, x: NodeId, name: &str) -> Result<NodeId> {
        self.add_node(name, Op::BatchNorm(BatchNormAttr::default()), &[x])
    }

    /// ReLU.
    pub fn relu(&mut self, x: NodeId, name: &str) -> Result<NodeId> {
        self.add_node(name, Op::Relu(ReluAttr {}), &[x])
    }

    /// Maximum over `kernel` x `kernel` windows.
    pub fn maxpool(&mut self, x: NodeId, name: &str, window: Window) -> Result<NodeId> {
        self.add_node(name, Op::MaxPool(MaxPoolAttr(window)), &[x])
    }

    /// Mean over `kernel` x `kernel` windows.
    pub fn avgpool(&mut self, x: NodeId, name: &str, window: Window) -> Result<NodeId> {
        self.add_node(name, Op::AvgPool(AvgPoolAttr(window)), &[x])
    }

    /// Mean over the image.
    pub fn global_avgpool(&mut self, x: NodeId, name: &str) -> Result<NodeId> {
        self.add_node(name, Op::GlobalAvgPool(GlobalAvgPoolAttr::default()), &[x])
    }

    /// Fully connected layer with bias.
    pub fn linear(&mut self, x: NodeId, name: &str, out_features: usize) -> Result<NodeId> {
        self.add_node(name, Op::Linear(LinearAttr { out_features, bias: true }), &[x])
    }

    /// Elementwise sum.
    pub fn add(&mut self, a: NodeId, b: NodeId, name: &str) -> Result<NodeId> {
        self.add_node(name, Op::Add(AddAttr {}), &[a, b])
    }

    /// Gather of the given channels.
    pub fn select(&mut self, x: NodeId, name: &str, channels: Vec<u32>) -> Result<NodeId> {
        self.add_node(name, Op::Select(SelectAttr { channels }), &[x])
    }

    /// Shape of the image the network takes; 0x0x0 for an empty network.
    pub fn input_shape(&self) -> Shape {
        self.shapes.first().copied().unwrap_or(Shape::new(0, 0, 0))
    }

    /// Elements of the output: the classes of a classifier.
    pub fn classes(&self) -> usize {
        self.shapes.last().map_or(0, Shape::elements)
    }

    /// Nodes that read `id`.
    pub fn consumers(&self, id: NodeId) -> Vec<NodeId> {
        self.ids().filter(|other| self.node(*other).inputs.contains(&id)).collect()
    }

    /// The only node that reads `id`, if it is a single one.
    pub fn reader(&self, id: NodeId) -> Option<NodeId> {
        match self.consumers(id)[..] {
            [reader] => Some(reader),
            _ => None,
        }
    }

    /// The batchnorm that computes this ReLU on the way, if one does: one whose output nothing else reads.
    pub fn fused_into(&self, id: NodeId) -> Option<NodeId> {
        let node = self.node(id);
        let source = *node.inputs.first()?;
        let is_bn = matches!(self.node(source).op, Op::BatchNorm(_));
        (matches!(node.op, Op::Relu(_)) && is_bn && self.consumers(source).len() == 1).then_some(source)
    }

    /// The batchnorms that alone are read by the addition `sum`: they can write the sum. None where it adds one to itself, and for other nodes.
    pub fn batchnorms_of(&self, sum: NodeId) -> Vec<NodeId> {
        let node = self.node(sum);
        let ([a, b], Op::Add(_)) = (&node.inputs[..], &node.op) else { return Vec::new() };
        let own = |id: &NodeId| matches!(self.node(*id).op, Op::BatchNorm(_)) && self.reader(*id) == Some(sum);
        if a == b { Vec::new() } else { node.inputs.iter().copied().filter(own).collect() }
    }

    /// The addition that alone reads `id`, and its other summand, where that is there before `id` and no batchnorm writes the sum: who computes `id` can.
    pub fn added_into(&self, id: NodeId) -> Option<(NodeId, NodeId)> {
        let sum = self.reader(id).filter(|sum| matches!(self.node(*sum).op, Op::Add(_)))?;
        if !self.batchnorms_of(sum).is_empty() {
            return None;
        }
        let other = self.node(sum).inputs.iter().copied().find(|input| *input != id)?;
        (other.0 < id.0).then_some((sum, other))
    }

    /// Whether a gradient flows into each node: to parameters of its own or of what it reads, so not into the input.
    pub fn needs_gradients(&self) -> Vec<bool> {
        let mut needs: Vec<bool> = Vec::new();
        for id in self.ids() {
            needs.push(self.trains(id) || self.node(id).inputs.iter().any(|input| needs[input.0]));
        }
        needs
    }

    /// Whether this node computes the ReLU behind it.
    pub fn fuses_relu(&self, id: NodeId) -> bool {
        self.consumers(id).iter().any(|consumer| self.fused_into(*consumer) == Some(id))
    }

    /// Whether the node has parameters that are trained.
    pub fn trains(&self, id: NodeId) -> bool {
        let node = self.node(id);
        node.op.operator().is_some_and(|op| op.parameters(&self.input_shapes(node)).iter().any(|p| p.kind.trained()))
    }

    /// All parameters, node by node.
    pub fn parameters(&self) -> Vec<Parameter> {
        let mut all = Vec::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let Some(op) = node.op.operator() else { continue };
            let inputs = self.input_shapes(node);
            for spec in op.parameters(&inputs) {
                all.push(Parameter {
                    name: format!("{}.{}", node.name, spec.suffix),
                    node: NodeId(index),
                    kind: spec.kind,
                    dims: spec.dims,
                    input: inputs[0],
                });
            }
        }
        all
    }

    /// The same network whose running statistics move by `momentum` with each batch.
    pub fn with_bn_momentum(&self, momentum: f32) -> Graph {
        let mut graph = self.clone();
        for node in &mut graph.nodes {
            if let Op::BatchNorm(attr) = &mut node.op {
                attr.momentum = momentum;
            }
        }
        graph
    }

    /// Trained parameter elements.
    pub fn parameter_count(&self) -> usize {
        self.parameters().iter().filter(|p| p.kind.trained()).map(Parameter::elements).sum()
    }

    /// Batchnorm layers in mask order: the order of the nodes, which for the models of [`crate::nn`] is PyTorch's module order.
    pub fn bn_layers(&self) -> Vec<BnLayer> {
        let layer = |id: NodeId| match self.node(id).op {
            Op::BatchNorm(_) => {
                Some(BnLayer { node: id, name: self.node(id).name.clone(), channels: self.shape(id).c })
            }
            _ => None,
        };
        self.ids().filter_map(layer).collect()
    }

    /// Channels of all batchnorm layers: the length of a mask.
    pub fn bn_channels(&self) -> usize {
        self.bn_layers().iter().map(|layer| layer.channels).sum()
    }

    /// Forward operations per image as the official code counts them (early-bird.md 6.1).
    pub fn flops(&self) -> u64 {
        let cost = |(node, shape): (&Node, &Shape)| {
            node.op.operator().map_or(0, |op| op.flops(&self.input_shapes(node), *shape))
        };
        self.nodes.iter().zip(&self.shapes).map(cost).sum()
    }

    fn input_shapes(&self, node: &Node) -> Vec<Shape> {
        node.inputs.iter().map(|id| self.shape(*id)).collect()
    }

    /// Checks that the graph can be trained as a classifier: it has nodes, one output, and everything reaches it.
    pub fn check_classifier(&self) -> Result<()> {
        let fail =
            |node: &Node, what: &str| Error::Graph { node: node.name.clone(), op: node.op.stem(), what: what.into() };
        let Some(last) = self.nodes.last() else {
            return Err(Error::Graph { node: self.name.clone(), op: "graph", what: "has no nodes".into() });
        };
        let output = self.shapes[self.nodes.len() - 1];
        if output.h != 1 || output.w != 1 || output.c < 2 {
            return Err(fail(
                last,
                &format!("a classifier ends in 1x1 with two classes or more, this ends in {output}"),
            ));
        }
        let read: HashSet<NodeId> = self.nodes.iter().flat_map(|node| node.inputs.iter().copied()).collect();
        match self.ids().take(self.nodes.len() - 1).find(|id| !read.contains(id)) {
            Some(id) => Err(fail(self.node(id), "nothing reads its output")),
            None => Ok(()),
        }
    }
}
