//! `earlybird doctor`: the CPU learns, the virtual GPU agrees with it.

mod common;

use common::{earlybird, have_kernels, outcome};

#[test]
fn the_cpu_learns_sixteen_images() {
    let (code, out, err) = outcome(earlybird(&["doctor"]).output().unwrap());
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("cpu        ok: a small network learns"), "{out}");
}

#[test]
fn the_virtual_gpu_agrees_with_the_cpu_operator_by_operator() {
    if !have_kernels("doctor on the virtual GPU") {
        return;
    }
    let (code, out, err) = outcome(earlybird(&["doctor", "--device", "vgpu"]).output().unwrap());
    assert_eq!(code, 0, "{out}{err}");
    for part in
        ["conv2d, gradients", "batchnorm, gradients", "linear, gradients", "sgd, weights", "evaluation, outputs"]
    {
        assert!(out.lines().any(|l| l.contains("ok: ") && l.contains(part)), "{part}: {out}");
    }
}
