//! Bad files and run folders: one clear message with what, where and what to do, exit code 2.

use super::{Place, few_digits, small};

#[test]
fn a_loss_that_is_no_number_stops_with_the_step_and_keeps_the_last_good_checkpoint() {
    let place = Place::new();
    // From the third epoch on the rate is absurd.
    let diverging = ["--milestones", "2", "--lr-factor", "1e18", "--dense"];
    let (code, out, err) = place.run(&small(&["train"], &diverging));
    assert_eq!(code, 2, "{out}{err}");
    assert!(err.contains("is not finite at step 1") && err.contains("epoch 3") && err.contains("--lr"), "{err}");
    assert!(err.contains("last good checkpoint is kept: run/state.safetensors"), "{err}");
    let state = place.ok(&["eval", "run/state.safetensors", "--data", few_digits(), "--json"]);
    let state: serde_json::Value = serde_json::from_str(&state).unwrap();
    assert!(state["loss"].as_f64().unwrap() < 5.0, "the state of epoch 2: {state}");
    // At once: the state is the start.
    let (code, _, err) = place.run(&small(&["train"], &["--lr", "1e30", "--out", "b"]));
    assert!(code == 2 && err.contains("is not finite at step") && err.contains("epoch 1"), "{code}: {err}");
    place.ok(&["eval", "b/state.safetensors"]);
}

#[test]
fn a_last_step_that_spoils_the_weights_does_not_replace_the_good_checkpoint() {
    let place = Place::new();
    // One step an epoch: the loss is looked at before the update, so only the weights show it.
    let flags = ["--batch-size", "2000", "--lr", "3e38", "--momentum", "0", "--weight-decay", "3e38", "--dense"];
    let (code, out, err) = place.run(&small(&["train"], &flags));
    assert!(code == 2 && err.contains("is not finite at step 1"), "{code}: {out}{err}");
    place.ok(&["eval", "run/state.safetensors"]);
}

#[test]
fn weights_that_are_never_averaged_are_refused() {
    let place = Place::new();
    place.refuses(&small(&["train"], &["--swa-start", "4"]), &["--swa-start", "epoch 4", "which is 3", "earlier"]);
    place.refuses(&small(&["search"], &["--swa-start", "1"]), &["--swa-start", "search", "train or retrain"]);
    assert!(!place.path("run").exists());
}

#[test]
fn a_checkpoint_for_another_model_is_refused() {
    let place = Place::new();
    place.ok(&small(&["train"], &["--steps", "1", "--dense"]));
    let init = ["--init", "run/model.safetensors", "--out", "b"];
    for (flag, value) in [("--model", "vgg13"), ("--width", "0.125")] {
        let words = ["run/model.safetensors", "tensor feature.", "this very model"];
        place.refuses(&small(&["train"], &[&init[..], &[flag, value]].concat()), &words);
    }
    place.refuses(&["train", "--resume", "run", "--model", "vgg13"], &["--resume"]);
    // A run folder whose parts are of different runs.
    place.ok(&small(&["train"], &["--steps", "1", "--width", "0.125", "--out", "wide"]));
    place.ok(&small(&["train"], &["--steps", "30", "--out", "narrow"]));
    std::fs::copy(place.path("wide/state.safetensors"), place.path("narrow/state.safetensors")).unwrap();
    place.refuses(&["train", "--resume", "narrow"], &["narrow/state.safetensors", "another network"]);
}

/// Flips, cuts and swaps bytes of every file of a run that is read again.
#[test]
fn corrupted_checkpoints_are_refused_and_never_a_panic() {
    let place = Place::new();
    place.ok(&small(&["train"], &["--epochs", "3"]));
    let files: [(&str, &[&str]); 4] = [
        ("run/state.safetensors", &["train", "--resume", "run"]),
        ("run/init.safetensors", &["train", "--resume", "run"]),
        ("run/model.safetensors", &["eval", "run/model.safetensors"]),
        ("run/ticket-p50.safetensors", &["prune", "run/ticket-p50.safetensors", "--out", "x"]),
    ];
    for (name, command) in files {
        let good = place.read(name);
        let mut bad_ones: Vec<Vec<u8>> =
            [0, 1, 7, 8, 100, good.len() / 2, good.len() - 1].map(|n| good[..n].to_vec()).into();
        for at in [0, 3, 8, 9, 40, good.len() / 3, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            bad_ones.push(bad);
        }
        bad_ones.push([&good[..], b"x"].concat());
        bad_ones.push(b"not a checkpoint at all".to_vec());
        for bad in bad_ones {
            std::fs::write(place.path(name), &bad).unwrap();
            place.refuses(command, &[name.rsplit('/').next().unwrap()]);
        }
        std::fs::write(place.path(name), &good).unwrap();
        place.ok(command);
    }
}

#[test]
fn damaged_text_files_of_a_run_are_refused() {
    let place = Place::new();
    place.ok(&small(&["search"], &["--steps", "30"]));
    for name in ["config.toml", "clock.json", "masks.bin"] {
        let path = format!("run/{name}");
        let good = place.read(&path);
        for bad in [&b"\xff\xfe nonsense ="[..], b"{\"rows\": 3}", &good[..good.len() / 3]] {
            std::fs::write(place.path(&path), bad).unwrap();
            let (code, out, err) = place.run(&["search", "--resume", "run"]);
            // A third of a settings file may still be one: another run then, whose ratios or network do not fit, or the same.
            assert!(code == 2 || (name == "config.toml" && !err.contains("panicked")), "{name}: {code} {out}{err}");
            assert!(code != 2 || err.contains(name) || name == "config.toml", "{name}: {err}");
        }
        std::fs::write(place.path(&path), &good).unwrap();
    }
    std::fs::remove_file(place.path("run/masks.bin")).unwrap();
    place.refuses(&["search", "--resume", "run"], &["masks.bin"]);
}

#[test]
fn a_run_folder_that_exists_is_a_file_or_cannot_be_written_is_refused() {
    let place = Place::new();
    place.ok(&small(&["train"], &["--steps", "1"]));
    let before = place.read("run/model.safetensors");
    place.refuses(&small(&["train"], &["--steps", "1"]), &["--out", "run", "not empty", "--resume"]);
    assert!(place.read("run/model.safetensors") == before);
    std::fs::write(place.path("file"), "mine").unwrap();
    place.refuses(&small(&["train"], &["--out", "file"]), &["file"]);
    place.refuses(&small(&["train"], &["--out", "file/run"]), &["file/run", "create the run folder"]);
    assert_eq!(place.text("file"), "mine");
    // Nobody, not even root, makes folders here.
    place.refuses(&small(&["train"], &["--out", "/proc/earlybird"]), &["/proc/earlybird", "create the run folder"]);
    let mine = place.path("mine");
    std::fs::create_dir(&mine).unwrap();
    std::fs::write(mine.join("ticket-p50.safetensors"), "kept by hand").unwrap();
    place.refuses(&small(&["train"], &["--out", "mine"]), &["not empty"]);
}

#[test]
fn commands_say_what_is_wrong_with_their_files() {
    let place = Place::new();
    std::fs::write(place.path("text"), "no tensors").unwrap();
    for command in ["eval", "prune", "export"] {
        let rest: &[&str] = match command {
            "eval" => &[],
            "prune" => &["--out", "x"],
            _ => &["--torch", "--out", "x"],
        };
        for (file, word) in [("none", "cannot read"), ("text", "safetensors")] {
            place.refuses(&[&[command, file][..], rest].concat(), &[file, word]);
        }
    }
    place.refuses(&["info", "--file", "text"], &["text"]);
    place.refuses(&["info", "--model", "vgg7"], &["vgg7", "vgg16"]);
    place.refuses(&["info", "--input", "32"], &["--input"]);
    place.refuses(&["info", "--classes", "1"], &["classes"]);
    place.refuses(&["bench", "step", "--batch-size", "0"], &["--batch-size"]);
    place.refuses(&["bench", "step", "--input", "224"], &["--input", "`224`", "HxWxC"]);
    place.refuses(
        &["bench", "step", "--model", "x.safetensors", "--classes", "5"],
        &["--input, --classes", "x.safetensors"],
    );
    // A virtual GPU has no speed to measure, and only a virtual GPU's step can be modelled.
    place.refuses(&["bench", "step", "--device", "vgpu"], &["--modelled"]);
    place.refuses(&["bench", "step", "--modelled", "--device", "cpu"], &["--device", "vgpu:a100"]);
    place.refuses(&small(&["train"], &["--data", "nowhere"]), &["nowhere"]);
    place.refuses(&small(&["train"], &["--init", "none.safetensors"]), &["none.safetensors"]);
}
