//! What scripts rely on: flags, exit codes, files, last lines.

use super::{Place, small};

#[test]
fn info_prints_the_official_counts() {
    let place = Place::new();
    for (model, classes, parameters, channels, flops) in [
        ("vgg16", "10", 14_724_042u64, 4224u64, Some(627_355_658u64)),
        ("vgg16", "100", 14_770_212, 4224, Some(627_447_908)),
        ("vgg11", "10", 9_228_362, 2752, None),
        ("vgg13", "10", 9_413_066, 2944, None),
        ("vgg19", "10", 20_035_018, 5504, None),
    ] {
        let out = place.ok(&["info", "--model", model, "--classes", classes, "--json"]);
        let json: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(json["parameters"], parameters, "{model}");
        assert_eq!(json["bn_channels"], channels, "{model}");
        assert!(flops.is_none_or(|flops| json["flops"] == flops), "{model}: {json}");
    }
    let narrow: serde_json::Value =
        serde_json::from_str(&place.ok(&["info", "--model", "vgg16", "--width", "0.25", "--json"])).unwrap();
    assert_eq!(narrow["bn_channels"], 4224 / 4);
}

#[test]
fn bench_step_ends_with_one_json_line() {
    let place = Place::new();
    let out = place.ok(&[
        "bench",
        "step",
        "--model",
        "vgg11",
        "--width",
        "0.0625",
        "--batch-size",
        "8",
        "--device",
        "cpu",
        "--precision",
        "f32",
        "--steps",
        "2",
        "--json",
    ]);
    let json: serde_json::Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    let (rate, seconds) = (json["images_per_second"].as_f64().unwrap(), json["seconds_per_step"].as_f64().unwrap());
    assert!(rate > 0.0 && (rate * seconds - 8.0).abs() < 1e-6, "{json}");
    assert!(json["peak_bytes"].as_u64().unwrap() > 1 << 20);
}

#[test]
fn a_training_run_leaves_weights_state_and_summary() {
    let place = Place::new();
    place.ok(&small(
        &["train"],
        &[
            "--data",
            "digits",
            "--lr",
            "0.1",
            "--momentum",
            "0.9",
            "--weight-decay",
            "1e-4",
            "--l1",
            "1e-4",
            "--milestones",
            "3,4",
            "--draws-per-epoch",
            "1",
            "--criterion",
            "consecutive",
            "--search-precision",
            "f32",
            "--train-precision",
            "f32",
        ],
    ));
    let model = earlybird::train::checkpoint::Checkpoint::load(&place.path("run/model.safetensors")).unwrap();
    for name in ["feature.0.weight", "feature.1.running_var", "classifier.weight", "classifier.bias"] {
        assert!(model.tensors.contains_key(name), "{name}");
    }
    assert_eq!(model.tensors["feature.0.weight"].dims[1..], [1, 3, 3], "OIHW of grey images");
    assert!(place.path("run/state.safetensors").exists());
    let summary = place.json("run/summary.json");
    assert_eq!((&summary["outcome"], &summary["device"]), (&"trained".into(), &"cpu".into()));
    assert_eq!((&summary["search_precision"], &summary["seed"]), (&"f32".into(), &1.into()));
    assert_eq!(summary["tickets"].as_array().unwrap().len(), 2);
    assert!(summary["tickets"].as_array().unwrap().iter().all(|ticket| ticket["epoch"].as_f64() > Some(0.0)));
    let kept: usize = ["feature.1", "feature.5", "feature.9", "feature.12", "feature.16", "feature.19"]
        .iter()
        .map(|layer| model.tensors[&format!("{layer}.weight")].data.len())
        .sum();
    assert!(kept < 108, "the model is the pruned one: {kept} channels");
    for (part, smaller) in [("parameters", true), ("flops", true), ("bn_channels", true)] {
        let (before, after) = (&summary["before"][part], &summary["after"][part]);
        assert_eq!(after.as_u64() < before.as_u64(), smaller, "{part}");
    }
    assert!(summary["seconds"]["search"].as_f64().unwrap() > 0.0);
    let eval = place.ok(&["eval", "run/model.safetensors", "--json"]);
    let eval: serde_json::Value = serde_json::from_str(&eval).unwrap();
    assert_eq!(eval["accuracy"], summary["accuracy"]["last"], "what eval says of the file is what the run said");
    let info = place.ok(&["info", "--file", "run/model.safetensors", "--json"]);
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    assert_eq!(info["flops"], summary["after"]["flops"]);
}

#[test]
fn results_do_not_depend_on_threads() {
    let runs: Vec<Vec<u8>> = ["1", "3"]
        .iter()
        .map(|threads| {
            let place = Place::new();
            place.ok(&small(&["train"], &["--steps", "30", "--threads", threads]));
            place.read("run/model.safetensors")
        })
        .collect();
    assert!(runs[0] == runs[1]);
}

#[test]
fn exit_codes_of_things_that_cannot_be_done() {
    let place = Place::new();
    let (code, _, err) = place.run(&small(&["train"], &["--search-precision", "int4"]));
    assert!(code == 2 && err.contains("int4") && err.contains("int8"), "{code}: {err}");
    place.refuses(&small(&["train"], &["--device", "tpu"]), &["--device", "tpu", "cuda"]);
    let (code, _, err) = place.run(&["train", "--no-such-flag"]);
    assert!(code == 2 && err.contains("--no-such-flag"), "{code}: {err}");
    let (code, out, _) = place.run(&["--help"]);
    assert!(code == 0 && out.contains("search"), "{code}: {out}");
    if !std::path::Path::new("/dev/nvidiactl").exists() {
        place.refuses(&small(&["train"], &["--device", "cuda:0"]), &["cuda:0", "not available"]);
    }
    assert!(!place.path("run").exists(), "nothing was begun");
}

#[test]
fn no_ticket_is_an_outcome_of_its_own() {
    let place = Place::new();
    for (first, out) in [("train", "a"), ("search", "b")] {
        let arguments = small(&[first], &["--eps", "0.001", "--epochs", "4", "--out", out]);
        let (code, _, err) = place.run(&arguments);
        assert_eq!(code, 4, "{err}");
        assert!(err.contains("no ticket for p50") && err.contains("last distances") && err.contains("0.001"), "{err}");
        assert!(!err.contains("error:") && !err.contains("panicked"), "{err}");
        let summary = place.json(&format!("{out}/summary.json"));
        assert_eq!((&summary["outcome"], &summary["ticket_epoch"]), (&"no-ticket".into(), &serde_json::Value::Null));
        assert_eq!(summary["tickets"][0]["distances"].as_array().unwrap().len(), 2);
        let dense = place.ok(&["info", "--file", &format!("{out}/model.safetensors"), "--json"]);
        assert!(dense.contains("\"bn_channels\":172"), "the dense model is saved: {dense}");
        let (code, ..) = place.run(&["train", "--resume", out]);
        assert_eq!(code, 4, "resuming it says so again");
    }
}
