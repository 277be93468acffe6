//! Initial weights as in the official code (early-bird.md 1.3): convolutions N(0, sqrt(2/(k*k*Cout))), BN scale 0.5 and shift 0, the VGG classifier N(0, 0.01) with
//! bias 0. Every tensor has its own stream of random numbers, drawn from (seed, name), so that adding a layer moves no other.

use crate::autograd::{StateDict, Tensor};
use crate::graph::{Graph, Parameter};
use crate::ops::ParameterKind;
use crate::quant::philox::{Stream, stream_of};

/// Initial state of `graph` for `seed`.
pub fn init(graph: &Graph, seed: u64) -> StateDict {
    graph
        .parameters()
        .iter()
        .filter(|p| p.kind != ParameterKind::Index)
        .map(|p| (p.name.clone(), tensor(p, seed)))
        .collect()
}

/// As [`init`], for a pruned network that is to start afresh ("re-init"): the same rule on the smaller shapes.
pub fn init_like(graph: &Graph, seed: u64) -> StateDict {
    init(graph, seed ^ 0x5eed_0000_0000_0001)
}

fn tensor(parameter: &Parameter, seed: u64) -> Tensor {
    let dims = crate::autograd::torch_dims(parameter);
    let n = parameter.elements();
    let data = match (parameter.kind, &parameter.dims[..]) {
        (ParameterKind::ConvWeight, &[k, r, s, _]) => {
            normal(&parameter.name, seed, n, (2.0 / (k * r * s) as f64).sqrt())
        }
        (ParameterKind::LinearWeight, _) => normal(&parameter.name, seed, n, 0.01),
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
