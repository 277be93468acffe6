//! default < file < flag, and what is written to the run folder.

use super::{Place, small};

#[test]
fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
    let place = Place::new();
    std::fs::write(place.path("my.toml"), "lr = 0.05\nbatch-size = 32\nprune = 0.4\nseed = 9\n").unwrap();
    let flags = ["--config", "my.toml", "--model", "vgg11", "--width", "0.0625", "--seed", "3", "--out", "run"];
    place.ok(&[&["train", "--steps", "1"][..], &flags].concat());
    let config: toml::Table = place.text("run/config.toml").parse().unwrap();
    assert_eq!(config["lr"].as_float(), Some(0.05));
    assert_eq!(config["batch_size"].as_integer(), Some(32));
    assert_eq!(config["seed"].as_integer(), Some(3), "the flag");
    assert_eq!(config["momentum"].as_float().map(|m| m as f32), Some(0.9), "the default");
    assert_eq!(config["prune"].as_array().unwrap().len(), 1);
    // What was written is a settings file itself, and gives the same run.
    place.ok(&["train", "--config", "run/config.toml", "--out", "again"]);
    assert!(place.read("run/model.safetensors") == place.read("again/model.safetensors"));
}

#[test]
fn mistakes_in_the_file_are_named_with_their_line() {
    let place = Place::new();
    for (text, words) in [
        ("lr = 0.1\nlearning-rate = 1\n", ["bad.toml", "line 2", "learning-rate"]),
        ("epochs = \"many\"\n", ["bad.toml", "line 1", "epochs"]),
        ("lr = \n", ["bad.toml", "line 1", "lr"]),
        ("[table]\nlr = 1\n", ["bad.toml", "table", "unknown"]),
    ] {
        std::fs::write(place.path("bad.toml"), text).unwrap();
        place.refuses(&["train", "--config", "bad.toml", "--out", "run"], &words);
        place.refuses(&["search", "--config", "bad.toml", "--out", "run"], &words);
    }
    place.refuses(&["train", "--config", "none.toml"], &["none.toml", "settings file"]);
    assert!(!place.path("run").exists());
}

#[test]
fn values_that_make_no_sense_are_refused_before_anything_is_made() {
    let place = Place::new();
    for ratio in ["0", "1", "1.5", "-0.5", "nan", "0.5,1.0", "0.5,0.5", "0.5,0.50000001", "half", ""] {
        let prune = format!("--prune={ratio}");
        place.refuses(&["train", "--out", "run", &prune], &["prune"]);
    }
    for (flag, value) in [
        ("--lr", "0"),
        ("--lr", "nan"),
        ("--lr-factor", "0"),
        ("--momentum", "1"),
        ("--weight-decay", "inf"),
        ("--l1=-1", ""),
        ("--epochs", "0"),
        ("--search-epochs", "0"),
        ("--batch-size", "0"),
        ("--width", "0"),
        ("--width", "nan"),
        ("--model", "lenet"),
        ("--eps", "0"),
        ("--queue", "1"),
        ("--draws-per-epoch", "0"),
        ("--min-channels", "0"),
        ("--round-to", "0"),
        ("--threads", "0"),
        ("--seed", "18446744073709551615"),
        ("--min-channels", "18446744073709551616"),
        ("--criterion", "mood"),
        ("--start", "over"),
        ("--milestones", "3,x"),
    ] {
        let name = flag.split('=').next().unwrap().trim_start_matches("--");
        let extra = if value.is_empty() { vec![flag] } else { vec![flag, value] };
        place.refuses(&small(&["train"], &extra), &[name]);
    }
    assert!(!place.path("run").exists());
}

#[test]
fn order_and_augmentation_can_be_switched_off() {
    let place = Place::new();
    let weights = |extra: &[&str], out: &str| {
        let all = [extra, &["--steps", "3", "--dense", "--out", out]].concat();
        place.ok(&small(&["train"], &all));
        place.read(&format!("{out}/model.safetensors"))
    };
    let plain = weights(&["--no-shuffle", "--no-augment"], "a");
    assert!(plain != weights(&["--no-shuffle"], "b"));
    assert!(plain != weights(&["--no-augment"], "c"));
    // Without them the seed decides the initial weights only: with these given, nothing is random any more.
    let init = ["--no-shuffle", "--no-augment", "--init", "a/init.safetensors"];
    assert!(weights(&[&init[..], &["--seed", "5"]].concat(), "d") == plain);
}
