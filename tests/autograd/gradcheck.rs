//! Gradients of whole networks against finite differences.
//!
//! The differences are taken in f64 on [`reference`], central with step 1e-5: their truncation error is about 1e-10 of the third derivative and their rounding
//! error about 1e-11, so they are the truth to at least eight digits where the loss is smooth. Batches on which a ReLU's input or the lead of a maximum is
//! smaller than [`MARGIN`], or a batchnorm divides by a tiny variance, are replaced by others: there, f32 and f64 may rightly take different branches.
//!
//! What f32 may be off by: sums of at most a few hundred terms through at most ten layers, so some hundred roundings of terms of the size of the largest
//! gradient. Allowed is [`RELATIVE`] of the tensor's own largest gradient plus [`GLOBAL`] of the network's largest (a bias in front of a batchnorm has gradient 0 by
//! cancellation of terms of that size). A wrong term is off by its whole size, thousands of times more.

use std::sync::Arc;

use earlybird::autograd::{Hyper, Session, StateDict};
use earlybird::graph::{Graph, NodeId};
use earlybird::ops::Shape;
use earlybird::ops::conv2d::Conv2dAttr;
use earlybird::ops::pool::Window;
use earlybird::quant::philox::Stream;

use crate::device::Device;
use crate::random::{batch, network, state};
use crate::reference::{Parameters, evaluate, parameters};

for_each_device!(every_operator, random_networks_with_branches, one_direction_through_all_parameters);

const STEP: f64 = 1e-5;
const MARGIN: f64 = 2e-4;
const RELATIVE: f64 = 2e-5;
const GLOBAL: f64 = 4e-6;

/// A network with parameters and a batch on which its loss is smooth.
struct Setup {
    graph: Arc<Graph>,
    state: StateDict,
    images: Vec<f32>,
    labels: Vec<u32>,
}

fn setup(graph: Graph, n: usize, seed: u64) -> Option<Setup> {
    (0..40).find_map(|attempt| {
        let state = state(&graph, seed * 1000 + attempt);
        let (images, labels) = batch(&graph, n, seed * 1000 + attempt);
        let outcome = evaluate(&graph, &parameters(&state), &images, &labels);
        (outcome.margin > MARGIN && outcome.variance > 0.01).then(|| Setup {
            graph: Arc::new(graph.clone()),
            state,
            images,
            labels,
        })
    })
}

impl Setup {
    /// Gradients on the device, whose loss must be the reference's.
    fn differentiate(&self, device: &Device) -> StateDict {
        let mut session = Session::new(self.graph.clone(), device.backend.clone(), Hyper::default()).unwrap();
        session.load_state(&self.state).unwrap();
        session.differentiate(&self.images, &self.labels).unwrap();
        let (got, want) = (session.take_metrics().unwrap().loss(), self.loss(&parameters(&self.state)));
        assert!((got - want).abs() < 1e-5 * want.max(1.0), "{}: loss {got}, the reference has {want}", device.name);
        session.gradients().unwrap()
    }

    fn loss(&self, parameters: &Parameters) -> f64 {
        evaluate(&self.graph, parameters, &self.images, &self.labels).loss
    }

    /// The derivative of the loss along one element.
    fn slope(&self, parameters: &mut Parameters, name: &str, i: usize) -> f64 {
        let mut at = |offset: f64| {
            let value = parameters.get_mut(name).unwrap().as_slice_mut().unwrap();
            let start = value[i];
            value[i] = start + offset;
            let loss = self.loss(parameters);
            parameters.get_mut(name).unwrap().as_slice_mut().unwrap()[i] = start;
            loss
        };
        (at(STEP) - at(-STEP)) / (2.0 * STEP)
    }
}

fn largest(values: impl IntoIterator<Item = f32>) -> f64 {
    values.into_iter().fold(0.0, |m, v| m.max(f64::from(v).abs()))
}

/// Checks up to `samples` elements of every tensor, the largest gradient's among them.
fn check(device: &Device, what: &str, setup: &Setup, samples: usize) {
    let gradients = setup.differentiate(device);
    let mut parameters = parameters(&setup.state);
    let global = largest(gradients.values().flat_map(|t| t.data.iter().copied()));
    let mut stream = Stream::new(5, 5);
    for (name, gradient) in &gradients {
        let own = largest(gradient.data.iter().copied());
        let top = (0..gradient.data.len()).max_by(|a, b| gradient.data[*a].abs().total_cmp(&gradient.data[*b].abs()));
        let mut places: Vec<usize> = (0..gradient.data.len()).collect();
        if places.len() > samples {
            places = (1..samples).map(|_| stream.below(gradient.data.len() as u32) as usize).chain(top).collect();
        }
        for i in places {
            let (got, want) = (f64::from(gradient.data[i]), setup.slope(&mut parameters, name, i));
            let allowed = RELATIVE * own + GLOBAL * global;
            let off = (got - want).abs();
            assert!(
                off <= allowed,
                "{} {what}: d {name}[{i}] is {got:e}, not {want:e}; off {off:e}, allowed {allowed:e}",
                device.name
            );
        }
    }
}

type Build = fn(&mut Graph, NodeId) -> earlybird::Result<NodeId>;

/// A network around one operator: a convolution in front, so that the operator's input gradient matters, and a head behind.
fn around(build: Build) -> Graph {
    let mut g = Graph::new("one operator");
    let x = g.input(Shape::new(6, 5, 2));
    let x = g.conv2d(x, "front", Conv2dAttr { bias: true, ..Conv2dAttr::square(5, 3, 1, 1) }).unwrap();
    let x = build(&mut g, x).unwrap();
    g.linear(x, "head", 3).unwrap();
    g
}

fn every_operator(device: &Device) {
    let builds: [(&str, Build); 17] = [
        ("conv2d 3x3", |g, x| g.conv2d(x, "op", Conv2dAttr::square(4, 3, 1, 1))),
        ("conv2d 2x3, stride 2x1, bias", |g, x| {
            let attr = Conv2dAttr { out_channels: 3, kernel: (2, 3), stride: (2, 1), padding: (1, 0), bias: true };
            g.conv2d(x, "op", attr)
        }),
        ("conv2d 1x1", |g, x| g.conv2d(x, "op", Conv2dAttr::square(7, 1, 1, 0))),
        ("batchnorm", |g, x| g.batchnorm(x, "op")),
        ("batchnorm with its relu", |g, x| g.batchnorm(x, "op").and_then(|x| g.relu(x, "relu"))),
        ("batchnorm read by a relu and an add", |g, x| {
            let x = g.batchnorm(x, "op")?;
            let y = g.relu(x, "relu")?;
            g.add(x, y, "sum")
        }),
        ("relu", |g, x| g.relu(x, "op")),
        ("maxpool", |g, x| g.maxpool(x, "op", Window { kernel: 2, stride: 2, padding: 0 })),
        ("maxpool, overlapping", |g, x| g.maxpool(x, "op", Window { kernel: 3, stride: 2, padding: 1 })),
        ("avgpool", |g, x| g.avgpool(x, "op", Window { kernel: 2, stride: 2, padding: 0 })),
        ("avgpool, overlapping", |g, x| g.avgpool(x, "op", Window { kernel: 3, stride: 1, padding: 1 })),
        ("global_avgpool", |g, x| g.global_avgpool(x, "op")),
        ("linear", |g, x| g.linear(x, "op", 6)),
        ("add of one tensor to itself", |g, x| g.add(x, x, "op")),
        ("add around a convolution", |g, x| {
            let y = g.conv2d(x, "inner", Conv2dAttr::square(5, 3, 1, 1))?;
            g.add(y, x, "op")
        }),
        ("select", |g, x| g.select(x, "op", vec![0, 3, 4])),
        ("select beside its input", |g, x| {
            let y = g.select(x, "op", vec![1, 2])?;
            let y = g.conv2d(y, "widen", Conv2dAttr::square(5, 1, 1, 0))?;
            g.add(x, y, "sum")
        }),
    ];
    for (i, (what, build)) in builds.into_iter().enumerate() {
        let setup = setup(around(build), 3, i as u64 + 1).unwrap_or_else(|| panic!("{what}: no smooth batch"));
        check(device, what, &setup, 40);
    }
}

/// Networks that together hold every operator, with inputs read several times, and gradients that meet.
fn random_networks_with_branches(device: &Device) {
    let mut seen = std::collections::BTreeSet::new();
    let mut checked = 0;
    for seed in 0..60 {
        let graph = network(seed, 8);
        let Some(setup) = setup(graph, 4, seed) else { continue };
        seen.extend(setup.graph.nodes().iter().map(|node| node.op.stem()));
        check(device, &format!("network {seed}"), &setup, 5);
        checked += 1;
        if checked == 16 {
            break;
        }
    }
    assert_eq!((checked, seen.len()), (16, 10), "{seen:?}");
}

/// The slope along a random direction through all parameters at once equals the gradient's component: no element is left out.
fn one_direction_through_all_parameters(device: &Device) {
    let mut checked = 0;
    for seed in 100..140 {
        let Some(setup) = setup(network(seed, 10), 4, seed) else { continue };
        let gradients = setup.differentiate(device);
        let start = parameters(&setup.state);
        let mut stream = Stream::new(seed, 3);
        let (mut ahead, mut back, mut want, mut size) = (start.clone(), start.clone(), 0.0, 0.0);
        for (name, gradient) in &gradients {
            for (i, slope) in gradient.data.iter().enumerate() {
                let d = stream.normal();
                ahead.get_mut(name).unwrap().as_slice_mut().unwrap()[i] += STEP * d;
                back.get_mut(name).unwrap().as_slice_mut().unwrap()[i] -= STEP * d;
                want += d * f64::from(*slope);
                size += (d * f64::from(*slope)).powi(2);
            }
        }
        let slope = (setup.loss(&ahead) - setup.loss(&back)) / (2.0 * STEP);
        let allowed = 1e-4 * size.sqrt();
        assert!(
            (slope - want).abs() <= allowed,
            "{} network {seed}: {want:e} along the direction, not {slope:e}",
            device.name
        );
        checked += 1;
    }
    assert!(checked >= 20, "only {checked} smooth networks");
}
