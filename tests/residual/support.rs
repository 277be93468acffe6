//! Networks, random tensors and masks for these tests.

use std::sync::Arc;

use earlybird::autograd::{Hyper, Session, StateDict, Tensor, torch_dims};
use earlybird::backend::cpu::Cpu;
use earlybird::graph::Graph;
use earlybird::nn::{ModelOptions, build};
use earlybird::ops::conv2d::Conv2dAttr;
use earlybird::ops::pool::Window;
use earlybird::ops::{ParameterKind, Shape};
use earlybird::quant::philox::{Stream, stream_of};
use earlybird::ticket::{Mask, Policy, Surgery, SurgeryOptions, plan_surgery};

pub const POLICIES: [Policy; 2] = [Policy::Select, Policy::Group];

/// Every residual model, narrow and for small images, and the branched one.
pub fn networks() -> Vec<Graph> {
    let small = |model: &str, width, side| {
        build(model, &ModelOptions { classes: 4, input: Shape::new(side, side, 3), width }).unwrap()
    };
    vec![
        small("preresnet20", 0.25, 8),
        small("preresnet56", 0.13, 8),
        small("resnet18", 0.1, 33),
        small("resnet34", 0.06, 32),
        small("resnet50", 0.05, 32),
        small("resnet50-official", 0.05, 32),
        small("resnet101", 0.04, 32),
        branched(),
    ]
}

/// A network of no list: a convolution that two norms read, branches of different depth, a three-way sum, a projection with bias, a sum inside a branch, a norm behind
/// a pool, and a linear layer over several pixels.
pub fn branched() -> Graph {
    let conv = |out, kernel, bias| Conv2dAttr { bias, ..Conv2dAttr::square(out, kernel, 1, kernel / 2) };
    let mut g = Graph::new("branched");
    let x = g.input(Shape::new(9, 7, 3));
    let stem = g.conv2d(x, "stem", conv(10, 3, true)).unwrap();
    let mut ends = Vec::new();
    for (name, kernel) in [("a", 1), ("b", 3)] {
        let y = g.batchnorm(stem, &format!("{name}.bn1")).unwrap();
        let y = g.relu(y, &format!("{name}.relu1")).unwrap();
        let y = g.conv2d(y, &format!("{name}.conv1"), conv(8, kernel, false)).unwrap();
        let y = g.batchnorm(y, &format!("{name}.bn2")).unwrap();
        let y = g.relu(y, &format!("{name}.relu2")).unwrap();
        ends.push(g.conv2d(y, &format!("{name}.conv2"), conv(12, 1, kernel == 3)).unwrap());
    }
    let shortcut = g.conv2d(stem, "project", conv(12, 1, true)).unwrap();
    let ab = g.add(ends[0], ends[1], "ab").unwrap();
    let sum = g.add(ab, shortcut, "abc").unwrap();
    let y = g.batchnorm(sum, "middle").unwrap();
    let y = g.relu(y, "middle.relu").unwrap();
    let y = g.maxpool(y, "pool", Window { kernel: 3, stride: 2, padding: 1 }).unwrap();
    // Inside: one half of the same tensor goes through a block, the other waits.
    let z = g.conv2d(y, "inner.conv1", conv(6, 3, false)).unwrap();
    let z = g.batchnorm(z, "inner.bn1").unwrap();
    let z = g.relu(z, "inner.relu").unwrap();
    let z = g.conv2d(z, "inner.conv2", conv(12, 3, false)).unwrap();
    let z = g.batchnorm(z, "inner.bn2").unwrap();
    let z = g.add(z, y, "inner.add").unwrap();
    let z = g.relu(z, "inner.out").unwrap();
    let z = g.avgpool(z, "mean", Window { kernel: 2, stride: 2, padding: 0 }).unwrap();
    let z = g.batchnorm(z, "last").unwrap();
    let z = g.relu(z, "last.relu").unwrap();
    g.linear(z, "classifier", 4).unwrap();
    g
}

/// Random parameters and running statistics.
pub fn state(g: &Graph, seed: u64) -> StateDict {
    let wanted = g.parameters().into_iter().filter(|p| p.kind != ParameterKind::Index);
    wanted
        .map(|p| {
            let mut stream = Stream::new(seed, stream_of(&p.name));
            let dims = torch_dims(&p);
            let fan_in = dims[1..].iter().product::<usize>().max(1) as f64;
            let mut draw = || match p.kind {
                ParameterKind::ConvWeight | ParameterKind::LinearWeight => stream.normal() * (2.0 / fan_in).sqrt(),
                ParameterKind::RunningVar => 0.5 + stream.unit(),
                ParameterKind::Scale => 0.3 + stream.unit(),
                _ => 0.3 * stream.normal(),
            };
            (p.name.clone(), Tensor { dims, data: (0..p.elements()).map(|_| draw() as f32).collect() })
        })
        .collect()
}

pub fn scales(g: &Graph, state: &StateDict) -> Vec<f32> {
    g.bn_layers().iter().flat_map(|layer| state[&format!("{}.weight", layer.name)].data.clone()).collect()
}

/// Each channel is kept with probability `share`.
pub fn mask(g: &Graph, share: f64, seed: u64) -> Mask {
    let mut stream = Stream::new(seed, 7);
    Mask::from_bools((0..g.bn_channels()).map(|_| stream.unit() < share))
}

pub fn operate(g: &Graph, dense: &StateDict, mask: &Mask, options: SurgeryOptions) -> Surgery {
    plan_surgery(g, mask, &scales(g, dense), options).unwrap()
}

pub fn images(g: &Graph, count: usize, seed: u64) -> Vec<f32> {
    let mut stream = Stream::new(seed, 2);
    (0..count * g.input_shape().elements()).map(|_| stream.normal() as f32).collect()
}

pub fn session(g: &Graph, state: &StateDict, hyper: Hyper) -> Session {
    let mut session = Session::new(Arc::new(g.clone()), Cpu::new(), hyper).unwrap();
    session.load_state(state).unwrap();
    session
}

pub fn logits(g: &Graph, state: &StateDict, images: &[f32]) -> Vec<f32> {
    session(g, state, Hyper::default()).logits(images).unwrap()
}
