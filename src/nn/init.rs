//! Initial weights as in the official code (early-bird.md 1.3): convolutions N(0, sqrt(2/(k*k*Cout))), BN scale 0.5 and shift 0; the classifier N(0, 0.01) with bias 0 in
//! VGG and in networks of one's own, PyTorch's default U(-1/sqrt(fan in), 1/sqrt(fan in)) in PreResNet and ResNet; ResNets have BN scale 1 and the default for the biases
//! of their convolutions. Every tensor has its own stream of random numbers, drawn from (seed, name), so that adding a layer moves no other.

use crate::autograd::{StateDict, Tensor};
use crate::graph::{Graph, Parameter};
use crate::ops::ParameterKind;
use crate::quant::philox::{Stream, stream_of};

/// Initial state of `graph` for `seed`.
pub fn init(graph: &Graph, seed: u64) -> StateDict {
    let parameters = graph.parameters();
    let stored = parameters.iter().filter(|p| p.kind != ParameterKind::Index);
    stored.map(|p| (p.name.clone(), tensor(graph, p, &parameters, seed))).collect()
}

/// As [`init`], for a pruned network that is to start afresh ("re-init"): the same rule on the smaller shapes.
pub fn init_like(graph: &Graph, seed: u64) -> StateDict {
    init(graph, seed ^ 0x5eed_0000_0000_0001)
}

fn tensor(graph: &Graph, parameter: &Parameter, all: &[Parameter], seed: u64) -> Tensor {
    let dims = crate::autograd::torch_dims(parameter);
    let n = parameter.elements();
    let (resnet, preresnet) = (graph.name().starts_with("resnet"), graph.name().starts_with("preresnet"));
    // A bias takes the fan-in of its node's weight.
    let weight = all.iter().find(|p| p.node == parameter.node);
    let fan_in = weight.map_or(1, |w| w.dims[1..].iter().product::<usize>().max(1)) as f64;
    let data = match (parameter.kind, &parameter.dims[..]) {
        (ParameterKind::ConvWeight, &[k, r, s, _]) => {
            normal(&parameter.name, seed, n, (2.0 / (k * r * s) as f64).sqrt())
        }
        (ParameterKind::LinearWeight | ParameterKind::Bias, _) if resnet || preresnet => {
            uniform(&parameter.name, seed, n, 1.0 / fan_in.sqrt())
        }
        (ParameterKind::LinearWeight, _) => normal(&parameter.name, seed, n, 0.01),
        (ParameterKind::Scale, _) if resnet => vec![1.0; n],
        (ParameterKind::Scale, _) => vec![0.5; n],
        (ParameterKind::RunningVar, _) => vec![1.0; n],
        _ => vec![0.0; n],
    };
    Tensor { dims, data }
}

fn normal(name: &str, seed: u64, n: usize, std: f64) -> Vec<f32> {
    let mut stream = Stream::new(seed, stream_of(name));
    (0..n).map(|_| (stream.normal() * std) as f32).collect()
}

fn uniform(name: &str, seed: u64, n: usize, bound: f64) -> Vec<f32> {
    let mut stream = Stream::new(seed, stream_of(name));
    (0..n).map(|_| ((2.0 * stream.unit() - 1.0) * bound) as f32).collect()
}
