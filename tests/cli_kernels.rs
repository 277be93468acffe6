//! `earlybird kernels`: the kernels of this build and their static cost. Every project PTX assembles for every architecture, within its budget.

mod common;

use common::{earlybird, have_kernels, have_ptxas, outcome};

#[test]
fn every_kernel_assembles_for_four_architectures_within_its_budget() {
    if !have_kernels("kernel budgets") || !have_ptxas("kernel budgets") {
        return;
    }
    let (code, out, err) = outcome(earlybird(&["kernels", "budget", "--json"]).output().unwrap());
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    let rows = json["verdicts"].as_array().unwrap();
    let over: Vec<String> = rows.iter().filter(|row| !row["over"].is_null()).map(|row| row.to_string()).collect();
    assert_eq!(code, 0, "{over:#?}{err}");
    let kernels: usize = earlybird::driver::kernels::MODULES.iter().map(|m| m.entries.len()).sum();
    for metric in ["registers", "spills", "stack"] {
        let judged = rows.iter().filter(|row| row["metric"] == metric).count();
        assert_eq!(judged, 4 * kernels, "{metric} of each kernel on sm_80, 86, 89 and 90");
    }
    assert!(rows.iter().any(|row| row["kernel"] == "conv2d_fwd_f32" && row["metric"] == "loop.FFMA / loop"));
    assert_eq!(json["over"], 0);
}

#[test]
fn list_and_show_name_parameters_and_hash() {
    if !have_kernels("kernels list") {
        return;
    }
    let (code, out, _) = outcome(earlybird(&["kernels", "list"]).output().unwrap());
    assert!(code == 0 && out.contains("mask_step_f32(p: ops::mask::Mask, scales: ptr"), "{out}");
    let (_, out, _) = outcome(earlybird(&["kernels", "list", "--json"]).output().unwrap());
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    for (module, ours) in json["modules"].as_array().unwrap().iter().zip(earlybird::driver::kernels::MODULES) {
        assert_eq!(module["ptx_sha256"], ours.sha256);
        assert!(
            !ours.ptx.contains("/home/") && !ours.ptx.contains(env!("CARGO_MANIFEST_DIR")),
            "{} names a folder",
            ours.name
        );
    }
    let (code, out, _) = outcome(earlybird(&["kernels", "show", "fill_u32", "--ptx"]).output().unwrap());
    assert!(code == 0 && out.starts_with(".version"), "{out}");
}

#[test]
fn an_unknown_kernel_and_a_missing_ptxas_are_bad_input() {
    if !have_kernels("kernels show") {
        return;
    }
    let (code, _, err) = outcome(earlybird(&["kernels", "show", "nope"]).output().unwrap());
    assert!(code == 2 && err.contains("no kernel named nope"), "{code}: {err}");
    let (code, _, err) =
        outcome(earlybird(&["kernels", "budget"]).env("EARLYBIRD_PTXAS", "/nope/ptxas").output().unwrap());
    assert!(code == 2 && err.contains("/nope/ptxas") && err.contains("make nvrtc"), "{code}: {err}");
}
