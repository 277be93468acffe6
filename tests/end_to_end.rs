//! The main job through the command, on every device: search, ticket, surgery, training on, evaluation, resume. A small data set of its own, so that a virtual GPU with
//! every check on has time for it; a finding of a check fails the run.
//!
//! Not here: what the run folder holds (`tests/cli`), whether a step is right (`tests/golden`). The long run on the digits: README, "Measured".

#![allow(clippy::unwrap_used)] // clippy.toml allows it in test functions only, not in their helpers

mod common;

use std::path::Path;

use common::{earlybird, gpu, gpu_name, have_kernels, outcome};
use earlybird::data::synthetic;
use earlybird::ticket::{Mask, Ticket};
use serde_json::Value;

macro_rules! for_each_device {
    ($($body:ident),* $(,)?) => {
        mod cpu {
            $(#[test]
            fn $body() {
                super::$body("cpu");
            })*
        }
        mod vgpu {
            $(#[test]
            fn $body() {
                if super::have_kernels(stringify!($body)) {
                    super::$body("vgpu,check");
                }
            })*
        }
        mod cuda {
            $(#[test]
            fn $body() {
                if super::gpu().is_some() {
                    super::$body(&super::gpu_name());
                }
            })*
        }
    };
}

for_each_device!(a_ticket_is_found_cut_and_trained_on, a_run_goes_on_after_a_stop_to_the_same_bits);

/// Images of each of the five files of training images.
const IMAGES: usize = 4;

/// A folder in the binary form of CIFAR-10 with images that a network can learn.
fn data(folder: &Path) {
    let data = synthetic(5 * IMAGES, 32, 32, 3, 10, 3);
    let write = |name: &str, images: &[u8], labels: &[u32]| {
        let mut bytes = Vec::new();
        for (image, label) in images.chunks_exact(3072).zip(labels) {
            bytes.push(*label as u8);
            (0..3).for_each(|c| bytes.extend(image.iter().skip(c).step_by(3)));
        }
        std::fs::write(folder.join(name), bytes).unwrap();
    };
    for file in 0..5 {
        let (first, last) = (file * IMAGES, (file + 1) * IMAGES);
        let images = &data.train.images[first * 3072..last * 3072];
        write(&format!("data_batch_{}.bin", file + 1), images, &data.train.labels[first..last]);
    }
    write("test_batch.bin", &data.test.images, &data.test.labels);
}

/// Runs the command in `folder` and expects success; standard output.
fn ok(folder: &Path, arguments: &[&str]) -> String {
    let (code, out, err) = outcome(earlybird(arguments).current_dir(folder).output().unwrap());
    assert_eq!(code, 0, "{arguments:?}\n{out}{err}");
    out
}

/// A run whose ticket emerges after two of its three epochs of five steps.
fn train(folder: &Path, device: &str, extra: &[&str]) {
    let flags = [
        "train --data . --model vgg11 --width 0.0625 --batch-size 4 --epochs 3 --prune 0.5 --queue 2 --eps 0.9 --lr 0.05 --no-augment",
        "--threads 2 --quiet --device",
    ];
    let mut arguments: Vec<&str> = flags.iter().flat_map(|line| line.split(' ')).collect();
    arguments.push(device);
    arguments.extend(extra);
    ok(folder, &arguments);
}

fn summary(folder: &Path, run: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder.join(run).join("summary.json")).unwrap()).unwrap()
}

/// Mean loss of the training images, epoch by epoch.
fn losses(folder: &Path, run: &str) -> Vec<f64> {
    let csv = std::fs::read_to_string(folder.join(run).join("metrics.csv")).unwrap();
    let rows: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    let column = rows[0].iter().position(|name| *name == "train_loss").unwrap();
    rows[1..].iter().map(|row| row[column].parse().unwrap()).collect()
}

fn ticket(folder: &Path, run: &str) -> Mask {
    Ticket::load(&folder.join(run).join("ticket-p50.safetensors")).unwrap().mask
}

fn a_ticket_is_found_cut_and_trained_on(device: &str) {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    data(folder);
    train(folder, device, &["--out", "run"]);
    let result = summary(folder, "run");
    assert_eq!(result["outcome"], "trained", "{result}");
    assert_eq!(result["device"].as_str().unwrap().split(':').next(), device.split([':', ',']).next());
    let [before, after] = ["before", "after"].map(|when| result[when]["bn_channels"].as_u64().unwrap());
    assert!(before == 172 && after <= 86, "{result}");
    let eval = ok(folder, &["eval", "run/model.safetensors", "--data", ".", "--device", device]);
    assert!(eval.contains("loss"), "{eval}");
    // Beside the CPU: losses by rounding, the mask by the few scales that rounding moves across the threshold.
    train(folder, "cpu", &["--out", "beside"]);
    let (got, want) = (losses(folder, "run"), losses(folder, "beside"));
    assert_eq!((got.len(), want.len()), (3, 3));
    for (epoch, (got, want)) in got.iter().zip(&want).enumerate().take(2) {
        assert!((got - want).abs() < 1e-3 * want, "epoch {}: loss {got}, on the CPU {want}", epoch + 1);
    }
    assert!(got[2].is_finite() && (got[2] - want[2]).abs() < 0.2 * want[2], "after surgery: {got:?}, {want:?}");
    let (got, want) = (ticket(folder, "run"), ticket(folder, "beside"));
    let differ = (0..172).filter(|c| got.kept(*c) != want.kept(*c)).count();
    assert!(differ <= 8, "{differ} of 172 channels differ from the CPU's ticket");
}

fn a_run_goes_on_after_a_stop_to_the_same_bits(device: &str) {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    data(folder);
    train(folder, device, &["--out", "whole", "--steps", "8"]);
    train(folder, device, &["--out", "parts", "--steps", "6"]);
    ok(folder, &["train", "--resume", "parts", "--steps", "8", "--quiet"]);
    let model = |run: &str| std::fs::read(folder.join(run).join("model.safetensors")).unwrap();
    assert!(model("whole") == model("parts"), "the weights differ");
}
