//! A network computed in f64 by the definitions, straight from graph and state dict (PyTorch's layouts): the truth for finite differences.
//!
//! Knows nothing of lowering, layouts in memory or backends. Naive loops over `ndarray`s, NHWC activations, OIHW weights, CHW-flattened linear columns.

use std::collections::BTreeMap;

use earlybird::autograd::StateDict;
use earlybird::graph::{Graph, Node, Op};
use ndarray::{Array4, ArrayD, Axis, IxDyn, s};

/// Parameters by name, in f64.
pub type Parameters = BTreeMap<String, ArrayD<f64>>;

pub fn parameters(state: &StateDict) -> Parameters {
    let wide = |data: &[f32]| data.iter().map(|v| f64::from(*v)).collect();
    state
        .iter()
        .map(|(name, t)| (name.clone(), ArrayD::from_shape_vec(IxDyn(&t.dims), wide(&t.data)).unwrap()))
        .collect()
}

/// The loss of a batch in training mode, and how far it is from a place where it has no derivative or a badly conditioned one.
pub struct Outcome {
    /// Mean cross-entropy.
    pub loss: f64,
    /// Smallest distance of a ReLU's input from 0 and of a maximum from the second largest; exact ties do not count, because both sides of one have the same
    /// derivative here (they come from equal inputs, such as zeros behind a ReLU).
    pub margin: f64,
    /// Smallest variance that a batchnorm divides by.
    pub variance: f64,
}

struct Run<'a> {
    parameters: &'a Parameters,
    margin: f64,
    variance: f64,
}

pub fn evaluate(g: &Graph, parameters: &Parameters, images: &[f32], labels: &[u32]) -> Outcome {
    let mut run = Run { parameters, margin: f64::INFINITY, variance: f64::INFINITY };
    let mut outputs: Vec<Array4<f64>> = Vec::new();
    for node in g.nodes() {
        let inputs: Vec<&Array4<f64>> = node.inputs.iter().map(|id| &outputs[id.0]).collect();
        outputs.push(match &node.op {
            Op::Input(shape) => {
                let wide = images.iter().map(|v| f64::from(*v)).collect();
                Array4::from_shape_vec((labels.len(), shape.h, shape.w, shape.c), wide).unwrap()
            }
            Op::Conv2d(_) => run.conv2d(node, inputs[0]),
            Op::BatchNorm(attr) => run.batchnorm(node, inputs[0], f64::from(attr.eps)),
            Op::Relu(_) => run.relu(inputs[0]),
            Op::MaxPool(pool) => run.pool(inputs[0], [pool.0.kernel; 2], pool.0.stride, pool.0.padding, true),
            Op::AvgPool(pool) => run.pool(inputs[0], [pool.0.kernel; 2], pool.0.stride, pool.0.padding, false),
            Op::GlobalAvgPool(_) => {
                let (_, h, w, _) = inputs[0].dim();
                run.pool(inputs[0], [h, w], 1, 0, false)
            }
            Op::Linear(_) => run.linear(node, inputs[0]),
            Op::Add(_) => inputs[0] + inputs[1],
            Op::Select(attr) => {
                let channels: Vec<usize> = attr.channels.iter().map(|c| *c as usize).collect();
                inputs[0].select(Axis(3), &channels)
            }
        });
    }
    let logits = outputs.last().unwrap();
    let loss = labels.iter().enumerate().map(|(n, label)| {
        let row = logits.slice(s![n, 0, 0, ..]);
        row.mapv(f64::exp).sum().ln() - row[*label as usize]
    });
    Outcome { loss: loss.sum::<f64>() / labels.len() as f64, margin: run.margin, variance: run.variance }
}

impl Run<'_> {
    fn parameter(&self, node: &Node, suffix: &str) -> Option<&ArrayD<f64>> {
        self.parameters.get(&format!("{}.{suffix}", node.name))
    }

    fn conv2d(&self, node: &Node, x: &Array4<f64>) -> Array4<f64> {
        let Op::Conv2d(attr) = &node.op else { unreachable!() };
        let (n, h, w, c) = x.dim();
        let weights = self.parameter(node, "weight").unwrap();
        let bias = self.parameter(node, "bias");
        let extent = |size: usize, kernel: usize, stride: usize, pad: usize| (size + 2 * pad - kernel) / stride + 1;
        let p = extent(h, attr.kernel.0, attr.stride.0, attr.padding.0);
        let q = extent(w, attr.kernel.1, attr.stride.1, attr.padding.1);
        Array4::from_shape_fn((n, p, q, attr.out_channels), |(n, i, j, k)| {
            let mut sum = bias.map_or(0.0, |b| b[[k]]);
            for (r, s) in (0..attr.kernel.0).flat_map(|r| (0..attr.kernel.1).map(move |s| (r, s))) {
                let row = (i * attr.stride.0 + r).wrapping_sub(attr.padding.0);
                let column = (j * attr.stride.1 + s).wrapping_sub(attr.padding.1);
                if row < h && column < w {
                    sum += (0..c).map(|c| x[(n, row, column, c)] * weights[[k, c, r, s]]).sum::<f64>();
                }
            }
            sum
        })
    }

    fn batchnorm(&mut self, node: &Node, x: &Array4<f64>, eps: f64) -> Array4<f64> {
        let [gamma, beta] = ["weight", "bias"].map(|suffix| self.parameter(node, suffix).unwrap().clone());
        let mut y = x.clone();
        for (c, mut channel) in y.axis_iter_mut(Axis(3)).enumerate() {
            let mean = channel.mean().unwrap();
            let variance = channel.mapv(|v| (v - mean).powi(2)).mean().unwrap();
            self.variance = self.variance.min(variance);
            channel.mapv_inplace(|v| (v - mean) / (variance + eps).sqrt() * gamma[[c]] + beta[[c]]);
        }
        y
    }

    fn relu(&mut self, x: &Array4<f64>) -> Array4<f64> {
        let nonzero = x.iter().filter(|v| **v != 0.0).map(|v| v.abs());
        self.margin = nonzero.fold(self.margin, f64::min);
        x.mapv(|v| v.max(0.0))
    }

    fn pool(
        &mut self,
        x: &Array4<f64>,
        kernel: [usize; 2],
        stride: usize,
        padding: usize,
        maximum: bool,
    ) -> Array4<f64> {
        let (n, h, w, c) = x.dim();
        let extent = |size: usize, kernel: usize| (size + 2 * padding - kernel) / stride + 1;
        let dims = (n, extent(h, kernel[0]), extent(w, kernel[1]), c);
        let mut margin = self.margin;
        let y = Array4::from_shape_fn(dims, |(n, i, j, c)| {
            let rows = (i * stride).saturating_sub(padding)..(i * stride + kernel[0] - padding).min(h);
            let columns = (j * stride).saturating_sub(padding)..(j * stride + kernel[1] - padding).min(w);
            let window = x.slice(s![n, rows, columns, c]);
            if !maximum {
                return window.sum() / (kernel[0] * kernel[1]) as f64;
            }
            let top = window.iter().copied().fold(f64::MIN, f64::max);
            margin = window.iter().filter(|v| **v != top).map(|v| top - v).fold(margin, f64::min);
            top
        });
        self.margin = margin;
        y
    }

    fn linear(&self, node: &Node, x: &Array4<f64>) -> Array4<f64> {
        let (n, h, w, c) = x.dim();
        let weights = self.parameter(node, "weight").unwrap();
        let bias = self.parameter(node, "bias");
        Array4::from_shape_fn((n, 1, 1, weights.shape()[0]), |(n, _, _, k)| {
            let mut sum = bias.map_or(0.0, |b| b[[k]]);
            for (c, (i, j)) in (0..c).flat_map(|c| (0..h).flat_map(move |i| (0..w).map(move |j| (c, (i, j))))) {
                sum += x[(n, i, j, c)] * weights[[k, (c * h + i) * w + j]];
            }
            sum
        })
    }
}
