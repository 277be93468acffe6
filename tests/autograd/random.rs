//! Small random networks with branches: shared inputs, residual adds, selects, several heads that are added up.

use std::collections::BTreeMap;

use earlybird::autograd::{StateDict, Tensor};
use earlybird::graph::{Graph, NodeId};
use earlybird::ops::conv2d::Conv2dAttr;
use earlybird::ops::linear::LinearAttr;
use earlybird::ops::pool::Window;
use earlybird::ops::{ParameterKind, Shape};
use earlybird::quant::philox::{Stream, stream_of};

/// Classes of every network here.
pub const CLASSES: usize = 3;

/// Appends the operator that `choice` stands for to a random node; nothing where it does not fit.
fn grow(g: &mut Graph, stream: &mut Stream, choice: u32) {
    let pick = |stream: &mut Stream, nodes: &[NodeId]| nodes[stream.below(nodes.len() as u32) as usize];
    let all: Vec<NodeId> = g.ids().collect();
    // Mostly the newest node, now and then an older one: a branch.
    let x = if stream.below(3) > 0 { all[all.len() - 1] } else { pick(stream, &all) };
    let (shape, name) = (g.shape(x), format!("n{}", all.len()));
    let window = Window { kernel: 1 + stream.below(3) as usize, stride: 1 + stream.below(2) as usize, padding: 0 };
    // An operator that does not fit its input is refused and leaves the graph as it was.
    let _ = match choice {
        0 | 1 => {
            let kernel = (1 + stream.below(3) as usize, 1 + stream.below(3) as usize);
            let attr = Conv2dAttr {
                out_channels: 1 + stream.below(6) as usize,
                kernel,
                stride: (1 + stream.below(2) as usize, 1 + stream.below(2) as usize),
                padding: (kernel.0 / 2, kernel.1 / 2),
                bias: stream.below(2) == 0,
            };
            g.conv2d(x, &name, attr)
        }
        2 => g.batchnorm(x, &name),
        3 => g.relu(x, &name),
        4 => g.maxpool(x, &name, window),
        5 => g.avgpool(x, &name, Window { padding: window.kernel / 2, ..window }),
        6 => {
            let mut channels: Vec<u32> = (0..shape.c as u32).filter(|_| stream.below(3) > 0).collect();
            if channels.is_empty() {
                channels.push(0);
            }
            g.select(x, &name, channels)
        }
        7 => g.batchnorm(x, &name).and_then(|y| g.relu(y, &format!("{name} relu"))),
        _ => {
            let same: Vec<NodeId> = all.iter().copied().filter(|other| g.shape(*other) == shape).collect();
            g.add(x, pick(stream, &same), &name)
        }
    };
}

/// A network from `seed`: up to `size` operators, then one head per open end, all heads added.
pub fn network(seed: u64, size: usize) -> Graph {
    let mut stream = Stream::new(seed, 7);
    let mut g = Graph::new("random");
    let side = 3 + stream.below(5) as usize;
    let x = g.input(Shape::new(side, side + stream.below(2) as usize, 1 + stream.below(4) as usize));
    // The image needs no gradient: something trained comes first, so that gradients meet further up.
    g.conv2d(x, "stem", Conv2dAttr::square(1 + stream.below(6) as usize, 3, 1, 1)).unwrap();
    for _ in 0..size {
        let choice = stream.below(12);
        grow(&mut g, &mut stream, choice);
    }
    let ends: Vec<NodeId> = g.ids().filter(|id| g.consumers(*id).is_empty()).collect();
    let mut sum: Option<NodeId> = None;
    for (i, end) in ends.into_iter().enumerate() {
        let flat = if stream.below(2) == 0 { g.global_avgpool(end, &format!("mean{i}")).unwrap() } else { end };
        let linear = earlybird::graph::Op::Linear(LinearAttr { out_features: CLASSES, bias: stream.below(2) == 0 });
        let head = g.add_node(&format!("head{i}"), linear, &[flat]).unwrap();
        sum = Some(sum.map_or(head, |sum| g.add(sum, head, &format!("sum{i}")).unwrap()));
    }
    g.check_classifier().unwrap();
    g
}

/// Parameters that keep activations near 1: no tensor is 0, no scale alike.
pub fn state(g: &Graph, seed: u64) -> StateDict {
    let tensor = |p: earlybird::graph::Parameter| {
        let mut stream = Stream::new(seed, stream_of(&p.name));
        let dims = earlybird::autograd::torch_dims(&p);
        let fan_in = dims[1..].iter().product::<usize>().max(1) as f64;
        let mut draw = || match p.kind {
            ParameterKind::ConvWeight | ParameterKind::LinearWeight => stream.normal() / fan_in.sqrt(),
            ParameterKind::Scale | ParameterKind::RunningVar => 0.5 + stream.unit(),
            _ => 0.5 * stream.normal(),
        };
        (p.name.clone(), Tensor { dims, data: (0..p.elements()).map(|_| draw() as f32).collect() })
    };
    g.parameters().into_iter().filter(|p| p.kind != ParameterKind::Index).map(tensor).collect::<BTreeMap<_, _>>()
}

/// `n` images of the network's shape, NHWC, and their labels.
pub fn batch(g: &Graph, n: usize, seed: u64) -> (Vec<f32>, Vec<u32>) {
    let mut stream = Stream::new(seed, 11);
    let images = (0..n * g.input_shape().elements()).map(|_| stream.normal() as f32).collect();
    (images, (0..n).map(|_| stream.below(g.classes() as u32)).collect())
}
