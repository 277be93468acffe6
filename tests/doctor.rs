//! `earlybird doctor`: the CPU learns, the virtual GPU agrees with it.

mod common;

use common::{earlybird, have_kernels, outcome};

#[test]
fn the_cpu_learns_sixteen_images() {
    let (code, out, err) = outcome(earlybird(&["doctor"]).output().unwrap());
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("cpu        ok: a small network learns"), "{out}");
    // Either AMX is used or it says why not.
    let products = out.lines().find(|line| line.starts_with("int8       products by ")).unwrap();
    assert!(products.contains("by amx, tried out") || products.contains("; no AMX: "), "{products}");
}

#[test]
fn the_virtual_gpu_agrees_with_the_cpu_operator_by_operator() {
    if !have_kernels("doctor on the virtual GPU") {
        return;
    }
    let (code, out, err) = outcome(earlybird(&["doctor", "--device", "vgpu", "--json"]).output().unwrap());
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("ok         conv2d_fwd_i8_any") && out.contains("kernels passed"), "{out}");
    for part in
        ["conv2d, gradients", "batchnorm, gradients", "linear, gradients", "sgd, weights", "evaluation, outputs"]
    {
        assert!(out.lines().any(|l| l.contains("ok: ") && l.contains(part)), "{part}: {out}");
    }
    let json: serde_json::Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!((&json["passed"], &json["device"]), (&true.into(), &"vgpu:a100".into()));
    let kernels = json["selftest"]["kernels"].as_array().unwrap();
    assert!(kernels.len() > 80 && kernels.iter().all(|k| k["verdict"] == "passed" && k["cases"].as_u64() > Some(0)));
}
