//! Training where data, order and masks lie on the device: the same bits, events and decisions as with the host's loader and the host's masks.
//!
//! Not here: single steps and what they ask of the driver (`tests/step`), the operators themselves (`tests/ops`).

#![allow(clippy::unwrap_used, clippy::expect_used)] // clippy.toml allows them in test functions only, not in their helpers

#[path = "../common/mod.rs"]
mod common;
mod search;
mod training;

use std::sync::Arc;

use earlybird::autograd::{Hyper, Precision, Session, StateDict};
use earlybird::backend::Backend;
use earlybird::graph::Graph;
use earlybird::nn::init;
use earlybird::ops::Shape;
use earlybird::ops::conv2d::Conv2dAttr;

/// A small classifier for images of 6x6x3 and 4 classes.
fn network() -> Arc<Graph> {
    let mut g = Graph::new("small");
    let x = g.input(Shape::new(6, 6, 3));
    let x = g.conv2d(x, "stem", Conv2dAttr::square(9, 3, 1, 1)).unwrap();
    let x = g.batchnorm(x, "bn").unwrap();
    let x = g.relu(x, "relu").unwrap();
    let x = g.conv2d(x, "conv", Conv2dAttr::square(37, 3, 2, 1)).unwrap();
    let x = g.batchnorm(x, "bn2").unwrap();
    let x = g.relu(x, "relu2").unwrap();
    let x = g.global_avgpool(x, "pool").unwrap();
    g.linear(x, "head", 4).unwrap();
    Arc::new(g)
}

/// A session with the same initial weights every time.
fn session(backend: &Arc<dyn Backend>, precision: Precision) -> Session {
    let (graph, hyper) = (network(), Hyper::default());
    let mut session = Session::with_precision(graph.clone(), backend.clone(), hyper, precision, 9).unwrap();
    session.load_state(&init(&graph, 5)).unwrap();
    session
}

/// Every number of a state, as bits.
fn bits(state: &StateDict) -> Vec<(String, Vec<u32>)> {
    let bits = |data: &[f32]| data.iter().map(|v| v.to_bits()).collect();
    state.iter().map(|(name, tensor)| (name.clone(), bits(&tensor.data))).collect()
}
