//! Training whole nets against PyTorch in f64, and inference of pruned nets.
//!
//! f32 training is chaotic, because a ReLU or a max-pool tie may fall the other way. So the truth is PyTorch in f64, and what is allowed is three times the deviation of
//! PyTorch's own f32 (the worse of NCHW and NHWC, recorded with the golden) plus 2e-6, 4e-5 and 2e-3 after 1, 5 and 20 steps, and between these on a log-log line.
//! A GPU is judged after 1 and 3 steps: a virtual one has no time for more, and what later steps add is chaos, not another kernel.

use std::sync::Arc;

use earlybird::autograd::{Hyper, Session, StateDict};
use earlybird::nn::{ModelOptions, build};
use earlybird::ops::Shape;

use super::device::Device;
use super::store::{Case, Golden, Tensor};

const ALLOWED: [(f64, f64); 3] = [(1.0, 2e-6), (5.0, 4e-5), (20.0, 2e-3)];

for_each_device!(a_pruned_net_answers_as_pytorch_says_and_as_the_dense_net_with_zeroed_channels);

/// As `for_each_device` does it, but that a virtual GPU has no time for all checks here: the residual nets, which are small, run with them, once.
mod stays_as_near_to_pytorch_f64_as_pytorch_f32_does {
    use crate::device;

    mod cpu {
        #[test]
        fn vgg() {
            super::device::cpu().iter().for_each(crate::training::vgg);
        }

        #[test]
        fn residual() {
            super::device::cpu().iter().for_each(crate::training::residual);
        }
    }

    mod vgpu {
        #[test]
        fn vgg() {
            super::device::unchecked_vgpu().iter().for_each(crate::training::vgg);
        }

        #[test]
        fn residual() {
            super::device::vgpu().iter().take(1).for_each(crate::training::residual);
        }
    }

    mod cuda {
        #[test]
        fn vgg() {
            super::device::cuda().iter().for_each(crate::training::vgg);
        }

        #[test]
        fn residual() {
            super::device::cuda().iter().for_each(crate::training::residual);
        }
    }
}

/// The additive part after `steps` steps.
fn allowance(steps: f64) -> f64 {
    let [(from, a), (to, b)] = if steps <= ALLOWED[1].0 { [ALLOWED[0], ALLOWED[1]] } else { [ALLOWED[1], ALLOWED[2]] };
    a * (b / a).powf((steps / from).ln() / (to / from).ln())
}

/// uint8 NCHW to normalised f32 NHWC with the CIFAR constants.
fn normalise(images: &Tensor) -> Vec<f32> {
    let (mean, std) = ([0.4914f32, 0.4822, 0.4465], [0.2023f32, 0.1994, 0.2010]);
    let last = images.channels_last();
    last.data.iter().enumerate().map(|(i, v)| (*v as f32 / 255.0 - mean[i % 3]) / std[i % 3]).collect()
}

/// Relative norm of `state - (init + difference)` over all weights and running statistics.
fn deviation(difference: &StateDict, state: &StateDict, init: &StateDict) -> f64 {
    assert_eq!(state.keys().collect::<Vec<_>>(), difference.keys().collect::<Vec<_>>());
    let (mut off, mut norm) = (0.0, 0.0);
    for (name, d) in difference {
        for ((got, start), d) in state[name].data.iter().zip(&init[name].data).zip(&d.data) {
            let want = f64::from(*start) + f64::from(*d);
            off += (f64::from(*got) - want).powi(2);
            norm += want.powi(2);
        }
    }
    (off / norm).sqrt()
}

/// Trains `case` on a device: the loss of every step and the state after each of the steps listed must be PyTorch's. `below` is what its states' names begin with.
fn follow(golden: &Golden, case: &Case, below: &str, model: &str, device: &Device) {
    let (images, labels) = (case.tensor("images"), case.tensor("labels"));
    let input = Shape::new(images.dims[2], images.dims[3], images.dims[1]);
    let options = ModelOptions { width: case.number("width"), input, ..Default::default() };
    let graph = Arc::new(build(model, &options).unwrap());
    let init = golden.state(&format!("{below}init"));
    let images = normalise(&images);
    let labels: Vec<u32> = labels.data.iter().map(|l| *l as u32).collect();
    let (batch, lr) = (case.size("batch"), case.number("lr") as f32);
    let [momentum, weight_decay, l1] = ["momentum", "weight_decay", "l1"].map(|key| case.number(key) as f32);
    let (marks, losses) = (case.list("steps"), case.list("losses"));
    let (nchw, nhwc) = (case.list("torch_f32_nchw"), case.list("torch_f32_nhwc"));
    let mut session = Session::new(graph, device.backend.clone(), Hyper { momentum, weight_decay, l1 }).unwrap();
    session.load_state(&init).unwrap();
    let pixels = images.len() / labels.len();
    for (step, loss) in losses.iter().enumerate().take(if device.is_cpu() { losses.len() } else { 3 }) {
        let rows = (0..batch).map(|i| (step * batch + i) % labels.len());
        let (mut x, mut y) = (Vec::new(), Vec::new());
        for row in rows {
            x.extend_from_slice(&images[row * pixels..(row + 1) * pixels]);
            y.push(labels[row]);
        }
        session.step(&x, &y, lr).unwrap();
        let got = session.take_metrics().unwrap().loss();
        assert!((got - loss).abs() < 1e-3 * loss, "{model} step {}: loss {got}, PyTorch has {loss}", step + 1);
        if let Some(mark) = marks.iter().position(|m| *m == (step + 1) as f64) {
            let state = session.state_dict().unwrap();
            let off = deviation(&golden.state(&format!("{below}after{}", step + 1)), &state, &init);
            let allowed = 3.0 * nchw[mark].max(nhwc[mark]) + allowance(marks[mark]);
            println!(
                "{}: {model} step {}: {off:.2e} off, PyTorch f32 {:.2e} and {:.2e}",
                device.name,
                step + 1,
                nchw[mark],
                nhwc[mark]
            );
            assert!(off <= allowed, "{model} after {} steps {off:e} from PyTorch f64, allowed {allowed:e}", step + 1);
        }
    }
}

fn vgg(device: &Device) {
    let golden = Golden::open("train");
    let case = golden.cases("train").remove(0);
    follow(&golden, &case, "", &format!("vgg{}", case.size("depth")), device);
}

/// PreResNet-20 on 32x32 images and ResNet-18 on 64x64 ones.
fn residual(device: &Device) {
    let golden = Golden::open("residual");
    for case in golden.cases("train") {
        let model = case.about["model"].as_str().unwrap();
        follow(&golden, &case, &format!("{}/", case.id), model, device);
    }
}

/// 1e-5 of the largest logit: eight layers of sums of up to 288 terms in f32.
fn same_logits(what: &str, got: &[f32], want: &Tensor) {
    let largest = want.data.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    for (got, want) in got.iter().zip(&want.data) {
        assert!((f64::from(*got) - want).abs() <= 1e-5 * largest, "{what}: logit {got} for {want}");
    }
    assert_eq!(got.len(), want.data.len());
}

fn a_pruned_net_answers_as_pytorch_says_and_as_the_dense_net_with_zeroed_channels(device: &Device) {
    let (golden, graph) = (Golden::open("surgery"), super::surgery::network());
    let images = golden.find("surgery/images").unwrap().channels_last().f32();
    let mut dense = Session::new(graph.clone(), device.backend.clone(), Hyper::default()).unwrap();
    dense.load_state(&golden.state("dense")).unwrap();
    same_logits("dense", &dense.logits(&images).unwrap(), &golden.find("surgery/y").unwrap());
    for case in golden.cases("surgery") {
        let state = super::surgery::dense(&golden, &case);
        let surgery = super::surgery::operate(&graph, &case, &state);
        let want = case.tensor("y");
        let small = Arc::new(surgery.graph.clone());
        let mut pruned = Session::new(small, device.backend.clone(), Hyper::default()).unwrap();
        pruned.load_state(&surgery.cut(&state).unwrap()).unwrap();
        same_logits(case.id, &pruned.logits(&images).unwrap(), &want);
        dense.load_state(&earlybird::ticket::masked_state(&surgery, &state)).unwrap();
        same_logits(&format!("{} masked", case.id), &dense.logits(&images).unwrap(), &want);
    }
}
