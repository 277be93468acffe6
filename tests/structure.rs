//! The house rules that no compiler checks: who may know whom, how long a file may get, and one stem per operator in every layer.

#![allow(clippy::unwrap_used)] // clippy.toml allows it in test functions only, not in their helpers

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty());
    found
}

/// The layer a file of `src/` belongs to: its folder or its own name.
fn layer(path: &Path) -> String {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let first = path.strip_prefix(source).unwrap().components().next().unwrap();
    first.as_os_str().to_string_lossy().trim_end_matches(".rs").to_string()
}

/// Code without comments and tests: what the rules are about.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let body = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    body.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn layers_know_only_those_below() {
    // Every layer with all that it may name of the crate. `error` and `fsio` are below everything.
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("vgpu", &[][..]),
        ("quant", &[]),
        ("fsio", &[]),
        ("error", &["driver", "vgpu"]),
        ("driver", &["vgpu", "ops", "quant"]),
        ("ops", &["backend", "graph", "autograd", "train", "quant"]), // the last four in links of doc comments only
        ("backend", &["ops", "driver", "quant"]),
        ("graph", &["ops"]),
        ("autograd", &["graph", "ops", "backend", "quant"]),
        ("energy", &["graph", "ops", "nn"]), // nn in links of doc comments only
        ("nn", &["graph", "ops", "autograd", "quant"]),
        ("data", &["quant"]),
        ("measure", &["nn", "data", "autograd", "graph", "ops", "backend", "driver", "vgpu", "quant"]),
        ("train", &["data", "nn", "autograd", "graph", "ops", "backend", "quant"]),
        ("selftest", &["data", "ops", "backend", "driver", "quant"]),
        ("ticket", &["energy", "train", "data", "nn", "autograd", "graph", "ops", "backend", "quant"]),
    ]);
    let layers = [
        "autograd", "backend", "cli", "data", "driver", "energy", "graph", "nn", "ops", "quant", "report", "selftest",
        "ticket", "train", "vgpu",
    ];
    for path in rust_files("src") {
        let Some(allowed) = allowed.get(layer(&path).as_str()) else { continue };
        let code = code(&path);
        for other in layers {
            let named = code.contains(&format!("crate::{other}::")) || code.contains(&format!("use crate::{other};"));
            let itself = other == layer(&path);
            assert!(!named || itself || allowed.contains(&other), "{} must not know crate::{other}", path.display());
        }
    }
}

#[test]
fn only_the_driver_names_cudarc() {
    for path in rust_files("src") {
        let driver = layer(&path) == "driver";
        assert!(driver || !code(&path).contains("cudarc::"), "{} names cudarc", path.display());
    }
}

#[test]
fn no_file_is_longer_than_600_lines() {
    for path in rust_files("src").into_iter().chain(rust_files("tests")) {
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 600, "{} has {lines} lines: split it", path.display());
    }
}

#[test]
fn every_module_says_what_it_is() {
    for path in rust_files("src") {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//!"), "{} has no module comment", path.display());
    }
}

#[test]
fn unsafe_stays_where_it_belongs() {
    for path in rust_files("src") {
        let name = path.to_string_lossy().to_string();
        let allowed = ["src/driver/", "src/vgpu/", "src/backend/cpu/"].iter().any(|place| name.contains(place));
        assert!(allowed || !code(&path).contains("unsafe "), "{name} must not need unsafe");
    }
}

#[test]
fn an_operator_has_the_same_stem_in_every_layer() {
    let stems = |folder: &str| -> Vec<String> {
        let files = rust_files(folder).into_iter();
        files.filter_map(|path| Some(path.file_stem()?.to_str()?.to_string())).collect()
    };
    let (backend, tests) = (stems("src/backend/cpu"), stems("tests/ops"));
    for stem in [
        "add",
        "augment",
        "batchnorm",
        "conv2d",
        "linear",
        "mask",
        "pool",
        "quantize",
        "relu",
        "select",
        "sgd",
        "softmax_xent",
    ] {
        assert!(stems("src/ops").iter().any(|s| s == stem), "src/ops/{stem}.rs");
        let in_backend = backend.iter().any(|s| s == stem)
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("src/backend/cpu").join(stem).is_dir();
        assert!(in_backend, "src/backend/cpu/{stem}.rs");
        assert!(tests.iter().any(|s| s == stem), "tests/ops/{stem}.rs");
    }
}
