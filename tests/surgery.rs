//! Surgery of sequential networks by random masks: what is removed, what stays, and that nothing else changes.
//!
//! The invariant, on networks of random widths, depths, poolings and biases: in eval mode the pruned network's logits equal those of the dense one with the
//! scales and shifts of the removed channels set to 0. Not here: the official rules on recorded networks (`tests/golden`), residual networks.

#![allow(clippy::unwrap_used, clippy::expect_used)] // clippy.toml allows them in test functions only, not in their helpers

#[path = "common/cases.rs"]
mod cases;

use std::sync::Arc;

use cases::cases;
use earlybird::autograd::{Hyper, Session, StateDict, Tensor, torch_dims};
use earlybird::backend::cpu::Cpu;
use earlybird::graph::Graph;
use earlybird::nn::{ModelOptions, build};
use earlybird::ops::conv2d::Conv2dAttr;
use earlybird::ops::pool::Window;
use earlybird::ops::{ParameterKind, Shape};
use earlybird::quant::philox::{Stream, stream_of};
use earlybird::ticket::{Mask, Surgery, SurgeryOptions, masked_state, plan_surgery};
use proptest::prelude::*;

/// Convolution, batchnorm, ReLU and now and then a pool, some times over; a linear layer on an image of one pixel or several.
fn sequential(widths: &[usize], seed: u64) -> Graph {
    let mut stream = Stream::new(seed, 1);
    let mut g = Graph::new("sequential");
    let mut x = g.input(Shape::new(9, 8, 3));
    for (i, width) in widths.iter().enumerate() {
        let kernel = [1, 3, 5][stream.below(3) as usize];
        let bias = stream.below(2) == 0;
        let attr = Conv2dAttr { bias, ..Conv2dAttr::square(*width, kernel, 1, kernel / 2) };
        x = g.conv2d(x, &format!("conv{i}"), attr).unwrap();
        x = g.batchnorm(x, &format!("bn{i}")).unwrap();
        x = g.relu(x, &format!("relu{i}")).unwrap();
        let window = Window { kernel: 2, stride: 2, padding: 0 };
        let small = g.shape(x).h < 4;
        match stream.below(4) {
            0 if !small => x = g.maxpool(x, &format!("pool{i}"), window).unwrap(),
            1 if !small => x = g.avgpool(x, &format!("pool{i}"), window).unwrap(),
            _ => {}
        }
    }
    if stream.below(2) == 0 {
        x = g.global_avgpool(x, "mean").unwrap();
    }
    g.linear(x, "classifier", 4).unwrap();
    g
}

/// Random parameters and running statistics, or (for momenta) random tensors of every trained parameter.
fn tensors(g: &Graph, seed: u64, momenta: bool) -> StateDict {
    let wanted =
        g.parameters().into_iter().filter(|p| p.kind != ParameterKind::Index && (p.kind.trained() || !momenta));
    wanted
        .map(|p| {
            let mut stream = Stream::new(seed, stream_of(&p.name));
            let dims = torch_dims(&p);
            let fan_in = dims[1..].iter().product::<usize>().max(1) as f64;
            let mut draw = || match p.kind {
                ParameterKind::ConvWeight | ParameterKind::LinearWeight => stream.normal() / fan_in.sqrt(),
                ParameterKind::RunningVar => 0.5 + stream.unit(),
                _ => stream.normal(),
            };
            (p.name.clone(), Tensor { dims, data: (0..p.elements()).map(|_| draw() as f32).collect() })
        })
        .collect()
}

fn scales(g: &Graph, state: &StateDict) -> Vec<f32> {
    g.bn_layers().iter().flat_map(|layer| state[&format!("{}.weight", layer.name)].data.clone()).collect()
}

fn logits(g: &Graph, state: &StateDict, images: &[f32]) -> Vec<f32> {
    let mut session = Session::new(Arc::new(g.clone()), Cpu::new(), Hyper::default()).unwrap();
    session.load_state(state).unwrap();
    session.logits(images).unwrap()
}

/// The rule of what stays, layer by layer, written from its definition.
fn check_kept(g: &Graph, surgery: &Surgery, mask: &Mask, scales: &[f32], options: SurgeryOptions) {
    let mut first = 0;
    for (layer, plan) in g.bn_layers().iter().zip(&surgery.layers) {
        let magnitude = |c: u32| scales[first + c as usize].abs();
        let kept_by_mask: Vec<u32> = (0..layer.channels as u32).filter(|c| mask.kept(first + *c as usize)).collect();
        let wanted = kept_by_mask.len().max(options.min_channels).div_ceil(options.round_to) * options.round_to;
        assert_eq!(plan.kept.len(), wanted.min(layer.channels), "{plan:?}");
        assert!(plan.kept.is_sorted() && kept_by_mask.iter().all(|c| plan.kept.contains(c)), "{plan:?}");
        // Whoever was added is no smaller than whoever was left out.
        let added = plan.kept.iter().filter(|c| !kept_by_mask.contains(c)).map(|c| magnitude(*c));
        let left = (0..layer.channels as u32).filter(|c| !plan.kept.contains(c)).map(magnitude);
        assert!(added.fold(f32::INFINITY, f32::min) >= left.fold(0.0, f32::max), "{plan:?}");
        assert_eq!(plan.saved, kept_by_mask.len() < options.min_channels.min(layer.channels), "{plan:?}");
        assert_eq!((plan.before, plan.masked, &plan.obstacle), (layer.channels, kept_by_mask.len(), &None));
        first += layer.channels;
    }
}

/// `removed` of a tensor's element, by its place in the network.
fn check_cut(g: &Graph, surgery: &Surgery, dense: &StateDict, cut: &StateDict) {
    let kept_by = |node: &str| surgery.layers.iter().find(|l| l.layer == node).map(|l| l.kept.clone());
    let mut input: Vec<u32> = (0..g.input_shape().c as u32).collect();
    for node in g.nodes() {
        let place = |suffix: &str| format!("{}.{suffix}", node.name);
        let output = kept_by(&node.name.replace("conv", "bn"));
        if node.name.starts_with("conv") {
            let (from, to, out) = (&dense[&place("weight")], &cut[&place("weight")], output.unwrap());
            let [_, c, r, s] = from.dims[..] else { panic!() };
            assert_eq!(to.dims, [out.len(), input.len(), r, s]);
            for (i, value) in to.data.iter().enumerate() {
                let (k, channel, tap) = (i / (input.len() * r * s), i / (r * s) % input.len(), i % (r * s));
                let from = from.data[(out[k] as usize * c + input[channel] as usize) * r * s + tap];
                assert_eq!(*value, from, "{}", node.name);
            }
            if let Some(bias) = dense.get(&place("bias")) {
                let picked: Vec<f32> = out.iter().map(|k| bias.data[*k as usize]).collect();
                assert_eq!(cut[&place("bias")].data, picked);
            }
            input = out;
        } else if node.name.starts_with("bn") {
            for suffix in ["weight", "bias", "running_mean", "running_var"] {
                let Some(from) = dense.get(&place(suffix)) else { continue };
                let picked: Vec<f32> = input.iter().map(|k| from.data[*k as usize]).collect();
                assert_eq!(cut[&place(suffix)].data, picked, "{} {suffix}", node.name);
            }
        }
    }
    assert_eq!(cut.get("classifier.bias"), dense.get("classifier.bias"));
    assert_eq!(cut.keys().collect::<Vec<_>>(), dense.keys().collect::<Vec<_>>());
}

fn networks() -> impl Strategy<Value = (Vec<usize>, u64, Vec<bool>, SurgeryOptions)> {
    let widths = proptest::collection::vec(1usize..20, 1..5);
    let options = (1usize..6, prop_oneof![Just(1usize), Just(4), Just(8)])
        .prop_map(|(min_channels, round_to)| SurgeryOptions { min_channels, round_to, ..Default::default() });
    (widths, any::<u64>(), options, 0.0f64..1.0).prop_flat_map(|(widths, seed, options, kept)| {
        let channels = widths.iter().sum::<usize>();
        (Just(widths), Just(seed), proptest::collection::vec(proptest::bool::weighted(kept), channels), Just(options))
    })
}

proptest! {
    #![proptest_config(cases(96))]

    #[test]
    fn a_pruned_net_answers_as_the_masked_dense_net((widths, seed, kept, options) in networks()) {
        let g = sequential(&widths, seed);
        let (dense, momenta) = (tensors(&g, seed, false), tensors(&g, seed ^ 1, true));
        let (mask, scales) = (Mask::from_bools(kept), scales(&g, &dense));
        let surgery = plan_surgery(&g, &mask, &scales, options).unwrap();
        check_kept(&g, &surgery, &mask, &scales, options);
        let cut = surgery.cut(&dense).unwrap();
        check_cut(&g, &surgery, &dense, &cut);
        check_cut(&g, &surgery, &momenta, &surgery.cut(&momenta).unwrap());
        prop_assert_eq!(surgery.graph.bn_channels(), surgery.kept_channels().0);

        let mut stream = Stream::new(seed, 2);
        let images: Vec<f32> = (0..3 * g.input_shape().elements()).map(|_| stream.normal() as f32).collect();
        let want = logits(&g, &masked_state(&surgery, &dense), &images);
        let got = logits(&surgery.graph, &cut, &images);
        // The same terms but for zeros, in another order: a few hundred roundings of the size of the largest logit.
        let size = want.iter().fold(1.0f32, |m, v| m.max(v.abs()));
        for (got, want) in got.iter().zip(&want) {
            prop_assert!((got - want).abs() <= 2e-5 * size, "{} for {}", got, want);
        }
    }
}

#[test]
fn momenta_and_running_statistics_train_on_in_the_pruned_net() {
    let g = sequential(&[12, 9], 3);
    let dense = tensors(&g, 3, false);
    let mask = Mask::from_bools((0..21).map(|i| i % 3 != 0));
    let surgery = plan_surgery(&g, &mask, &scales(&g, &dense), SurgeryOptions::default()).unwrap();
    let small = Arc::new(surgery.graph.clone());
    let hyper = Hyper { momentum: 0.5, weight_decay: 0.0, l1: 0.0 };
    let mut session = Session::new(small, Cpu::new(), hyper).unwrap();
    session.load_state(&surgery.cut(&dense).unwrap()).unwrap();
    let momenta = surgery.cut(&tensors(&g, 4, true)).unwrap();
    session.load_momenta(&momenta).unwrap();
    assert_eq!(session.momenta().unwrap(), momenta);
    let images = vec![0.5; 2 * g.input_shape().elements()];
    session.step(&images, &[0, 1], 0.25).unwrap();
    // v = 0.5*v + g and w = w - 0.25*v, with the gradients of this very step.
    let (after, gradients) = (session.momenta().unwrap(), session.gradients().unwrap());
    for (name, v) in &after {
        for ((v, old), g) in v.data.iter().zip(&momenta[name].data).zip(&gradients[name].data) {
            assert!((v - (0.5 * old + g)).abs() <= 1e-6 * (1.0 + old.abs() + g.abs()), "{name}");
        }
    }
}

#[test]
fn an_empty_mask_leaves_one_channel_per_layer_and_says_so() {
    let g = build("vgg11", &ModelOptions { width: 0.125, ..Default::default() }).unwrap();
    let dense = tensors(&g, 1, false);
    let none = Mask::from_bools((0..g.bn_channels()).map(|_| false));
    let surgery = plan_surgery(&g, &none, &scales(&g, &dense), SurgeryOptions::default()).unwrap();
    assert!(surgery.layers.iter().all(|layer| layer.saved && layer.kept.len() == 1));
    let images = vec![0.1; g.input_shape().elements()];
    assert_eq!(logits(&surgery.graph, &surgery.cut(&dense).unwrap(), &images).len(), 10);
    let all = Mask::from_bools((0..g.bn_channels()).map(|_| true));
    let surgery = plan_surgery(&g, &all, &scales(&g, &dense), SurgeryOptions::default()).unwrap();
    assert_eq!(surgery.graph, g);
    assert_eq!(surgery.cut(&dense).unwrap(), dense);
}

#[test]
fn what_belongs_to_another_network_is_refused() {
    let g = sequential(&[6, 5], 1);
    let dense = tensors(&g, 1, false);
    let scales = scales(&g, &dense);
    let mask = |n: usize| Mask::from_bools((0..n).map(|i| i % 2 == 0));
    for (mask, scales) in [(mask(10), &scales[..]), (mask(11), &scales[1..])] {
        let error = plan_surgery(&g, &mask, scales, SurgeryOptions::default()).unwrap_err();
        assert!(error.to_string().contains("11 BN channels"), "{error}");
    }
    let surgery = plan_surgery(&g, &mask(11), &scales, SurgeryOptions::default()).unwrap();
    let mut bad = dense.clone();
    bad.get_mut("conv1.weight").unwrap().dims.swap(0, 1);
    let error = surgery.cut(&bad).unwrap_err();
    assert!(error.to_string().contains("conv1.weight"), "{error}");
}
