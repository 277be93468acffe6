//! Training a whole net against PyTorch in f64, and inference of pruned nets.
//!
//! f32 training is chaotic, because a ReLU or a max-pool tie may fall the other way. So the truth is PyTorch in f64, and what is allowed is three times the deviation of
//! PyTorch's own f32 (the worse of NCHW and NHWC, recorded with the golden) plus 2e-6, 4e-5 and 2e-3 after 1, 5 and 20 steps.

use std::sync::Arc;

use earlybird::autograd::{Hyper, Session, StateDict};
use earlybird::nn::{ModelOptions, build};

use super::device::devices;
use super::store::{Golden, Tensor};

const ALLOWED: [f64; 3] = [2e-6, 4e-5, 2e-3];

/// uint8 NCHW to normalised f32 NHWC with the CIFAR constants.
fn normalise(images: &Tensor) -> Vec<f32> {
    let (mean, std) = ([0.4914f32, 0.4822, 0.4465], [0.2023f32, 0.1994, 0.2010]);
    let last = images.channels_last();
    last.data.iter().enumerate().map(|(i, v)| (*v as f32 / 255.0 - mean[i % 3]) / std[i % 3]).collect()
}

/// Relative norm of `state - (init + difference)` over all weights and running statistics.
fn deviation(golden: &Golden, state: &StateDict, init: &StateDict, after: &str) -> f64 {
    let difference = golden.state(after);
    assert_eq!(state.keys().collect::<Vec<_>>(), difference.keys().collect::<Vec<_>>());
    let (mut off, mut norm) = (0.0, 0.0);
    for (name, d) in &difference {
        for ((got, start), d) in state[name].data.iter().zip(&init[name].data).zip(&d.data) {
            let want = f64::from(*start) + f64::from(*d);
            off += (f64::from(*got) - want).powi(2);
            norm += want.powi(2);
        }
    }
    (off / norm).sqrt()
}

#[test]
fn twenty_steps_stay_as_near_to_pytorch_f64_as_pytorch_f32_does() {
    let golden = Golden::open("train");
    let case = golden.cases("train").remove(0);
    let options = ModelOptions { width: case.number("width"), ..Default::default() };
    let graph = Arc::new(build(&format!("vgg{}", case.size("depth")), &options).unwrap());
    let init = golden.state("init");
    let images = normalise(&case.tensor("images"));
    let labels: Vec<u32> = case.tensor("labels").data.iter().map(|l| *l as u32).collect();
    let (batch, lr) = (case.size("batch"), case.number("lr") as f32);
    let [momentum, weight_decay, l1] = ["momentum", "weight_decay", "l1"].map(|key| case.number(key) as f32);
    let (marks, losses) = (case.list("steps"), case.list("losses"));
    let (nchw, nhwc) = (case.list("torch_f32_nchw"), case.list("torch_f32_nhwc"));
    for device in devices() {
        let mut session =
            Session::new(graph.clone(), device.backend.clone(), Hyper { momentum, weight_decay, l1 }).unwrap();
        session.load_state(&init).unwrap();
        let pixels = images.len() / labels.len();
        for (step, loss) in losses.iter().enumerate() {
            let rows = (0..batch).map(|i| (step * batch + i) % labels.len());
            let (mut x, mut y) = (Vec::new(), Vec::new());
            for row in rows {
                x.extend_from_slice(&images[row * pixels..(row + 1) * pixels]);
                y.push(labels[row]);
            }
            session.step(&x, &y, lr).unwrap();
            let got = session.take_metrics().unwrap().loss();
            assert!((got - loss).abs() < 1e-3 * loss, "step {}: loss {got}, PyTorch has {loss}", step + 1);
            if let Some(mark) = marks.iter().position(|m| *m == (step + 1) as f64) {
                let state = session.state_dict().unwrap();
                let off = deviation(&golden, &state, &init, &format!("after{}", step + 1));
                let allowed = 3.0 * nchw[mark].max(nhwc[mark]) + ALLOWED[mark];
                println!("step {}: {off:.2e} off, PyTorch f32 {:.2e} and {:.2e}", step + 1, nchw[mark], nhwc[mark]);
                assert!(off <= allowed, "after {} steps {off:e} from PyTorch f64, allowed {allowed:e}", step + 1);
            }
        }
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

#[test]
fn a_pruned_net_answers_as_pytorch_says_and_as_the_dense_net_with_zeroed_channels() {
    let (golden, graph) = (Golden::open("surgery"), super::surgery::network());
    let images = golden.find("surgery/images").unwrap().channels_last().f32();
    for device in devices() {
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
}
