//! A run that is killed, wherever it happens, goes on to the same bits.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::{Place, computed, few_digits, small};

/// The uninterrupted run and its files.
fn reference(first: &str, extra: &[&str]) -> (Place, Vec<(String, Vec<u8>)>) {
    let place = Place::new();
    place.ok(&small(&[first], extra));
    let files = computed(&place.path("run"));
    (place, files)
}

fn assert_same(folder: &Path, expected: &[(String, Vec<u8>)], case: &str) {
    let files = computed(folder);
    let names = |files: &[(String, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&files), names(expected), "{case}");
    for ((name, bytes), (_, wanted)) in files.iter().zip(expected) {
        assert!(bytes == wanted, "{case}: {name} differs");
    }
}

/// Kills the run while it writes a file for the n-th time, then goes on; the result must be that of the run nobody killed.
fn killed_while_writing(first: &str, extra: &[&str], expected: &[(String, Vec<u8>)], faults: &[&str]) {
    for fault in faults {
        let place = Place::new();
        let killed = place.command(&small(&[first], extra)).env("EARLYBIRD_FAULT", format!("kill:{fault}")).output();
        assert_eq!(killed.unwrap().status.code(), None, "{fault}: died of a signal");
        assert!(!place.path("run/summary.json").exists() || fault.contains("svg"), "{fault}");
        let begun = place.path("run/config.toml").exists();
        let resume = ["train", "--resume", "run"];
        if !begun {
            place.refuses(&resume, &["run", "holds no run", "started again"]);
        }
        place.ok(&if begun { resume.to_vec() } else { small(&[first], extra) });
        assert_same(&place.path("run"), expected, fault);
        place.ok(&resume); // a finished run finds nothing to do
        assert_same(&place.path("run"), expected, &format!("{fault}, resumed when finished"));
    }
}

#[test]
fn killed_while_it_begins_or_searches() {
    let (_, expected) = reference("train", &[]);
    let faults = ["init", "config.toml", "masks.bin", "masks.bin:3", "clock", "state", "metrics.csv:2", "state:2"];
    killed_while_writing("train", &[], &expected, &faults);
}

#[test]
fn killed_at_the_ticket_at_surgery_or_at_the_end() {
    let (_, expected) = reference("train", &[]);
    // State 1 is the start, 2 and 3 end epochs of the search, 4 follows surgery, 5 ends the ticket's epoch.
    let faults = ["ticket-p50", "ticket-p30", "state:4", "events:5", "state:5", "model", "channels.svg"];
    killed_while_writing("train", &[], &expected, &faults);
}

#[test]
fn a_search_with_draws_between_epochs_goes_on_to_the_same_bits() {
    let extra = ["--draws-per-epoch", "3", "--criterion", "window"];
    let (place, expected) = reference("search", &extra);
    let epoch = place.json("run/summary.json")["ticket_epoch"].as_f64().unwrap();
    assert!(epoch > 0.0, "{epoch}");
    killed_while_writing("search", &extra, &expected, &["masks.bin:5", "ticket-p30", "model"]);
}

#[test]
fn a_rewound_ticket_and_the_dense_twin_go_on_to_the_same_bits() {
    let extra = ["--start", "rewind", "--round-to", "4", "--milestones", "4"];
    let (_, expected) = reference("train", &extra);
    killed_while_writing("train", &extra, &expected, &["state:5"]);
    let (_, expected) = reference("train", &["--dense"]);
    killed_while_writing("train", &["--dense"], &expected, &["state:3"]);
}

/// Averaged weights are kept with the state, and are a network like any other.
#[test]
fn an_average_of_weights_in_eight_bits_goes_on_to_the_same_bits() {
    let extra = ["--dense", "--swa-start", "1", "--train-precision", "eb8"];
    let (place, expected) = reference("train", &extra);
    assert!(expected.iter().any(|(name, _)| name == "averaged.safetensors"));
    let accuracy = &place.json("run/summary.json")["accuracy"];
    let eval = place.ok(&["eval", "run/averaged.safetensors", "--data", few_digits(), "--json"]);
    let eval: serde_json::Value = serde_json::from_str(&eval).unwrap();
    assert_eq!((&eval["accuracy"], accuracy["averaged"].is_f64()), (&accuracy["averaged"], true));
    place.ok(&["export", "--torch", "run/averaged.safetensors", "--out", "torch"]);
    // States 2 to 5 end the epochs, of which the last three are averaged; 6 has the average's statistics.
    killed_while_writing("train", &extra, &expected, &["state:4", "state:6", "averaged"]);
}

#[test]
fn a_retrained_ticket_goes_on_to_the_same_bits() {
    let (place, _) = reference("search", &[]);
    let ticket = place.path("run/ticket-p30.safetensors");
    let arguments = small(&["retrain", ticket.to_str().unwrap()], &[]);
    let whole = Place::new();
    whole.ok(&arguments);
    let expected = computed(&whole.path("run"));
    for fault in ["config", "masks.bin", "state:1", "state:2", "model"] {
        let place = Place::new();
        let killed = place.command(&arguments).env("EARLYBIRD_FAULT", format!("kill:{fault}")).output().unwrap();
        assert_eq!(killed.status.code(), None, "{fault}");
        let begun = place.path("run/config.toml").exists();
        place.ok(if begun { &["train", "--resume", "run"] } else { &arguments });
        assert_same(&place.path("run"), &expected, fault);
    }
}

/// `kill -9` from outside, again and again: 60 ms after the last resume, then 80 and so on, wherever the run is then.
#[test]
fn killed_again_and_again_in_mid_epoch() {
    let extra = ["--draws-per-epoch", "2", "--batch-size", "32"];
    let (_, expected) = reference("train", &extra);
    let place = Place::new();
    let (mut wait, mut kills) = (Duration::from_millis(60), 0);
    loop {
        let begun = place.path("run/config.toml").exists();
        let arguments = if begun { vec!["train", "--resume", "run"] } else { small(&["train"], &extra) };
        let mut child = place.command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let end = Instant::now() + wait;
        let done = loop {
            match child.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if Instant::now() >= end => break None,
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        };
        if let Some(status) = done {
            assert!(status.success(), "after {kills} kills: {status}");
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        (wait, kills) = (wait + wait / 4, kills + 1);
    }
    assert!(kills > 1);
    assert_same(&place.path("run"), &expected, "killed again and again");
}

#[test]
fn a_step_limit_stops_anywhere_and_the_run_goes_on_from_there() {
    let (whole, expected) = reference("train", &[]);
    let place = Place::new();
    place.ok(&small(&["train"], &["--steps", "2"]));
    assert_eq!(place.json("run/summary.json")["steps"], 2);
    assert_eq!(place.json("run/summary.json")["outcome"], "stopped");
    for steps in ["2", "10", "15", "16", "20"] {
        place.ok(&["train", "--resume", "run", "--steps", steps, "--threads", "1"]);
        assert_eq!(place.json("run/summary.json")["steps"].to_string(), steps);
    }
    place.ok(&["train", "--resume", "run"]);
    let settings = place.path("run/config.toml");
    std::fs::copy(whole.path("run/config.toml"), settings).unwrap(); // the first piece's names its step limit
    assert_same(&place.path("run"), &expected, "in six pieces");
}

#[test]
fn only_what_cannot_change_the_result_may_be_given_beside_resume() {
    let place = Place::new();
    place.ok(&small(&["train"], &["--steps", "1"]));
    place.refuses(&["train", "--resume", "run", "--lr", "1"], &["--resume", "own settings"]);
    place.refuses(&["train", "--resume", "run", "--config", "run/config.toml"], &["--resume", "--config"]);
    place.refuses(&["train", "--resume", "nowhere"], &["nowhere"]);
}

#[test]
fn a_run_records_the_device_that_auto_came_to() {
    let place = Place::new();
    let run = |arguments: &[&str]| {
        let mut command = place.command(arguments);
        // A cache of its own: what other builds know of this machine's GPU is no matter here.
        super::common::outcome(command.env("XDG_CACHE_HOME", place.path("cache")).output().unwrap())
    };
    let (code, out, err) = run(&small(&["train"], &["--device", "auto", "--steps", "2"]));
    assert_eq!(code, 0, "{out}{err}");
    let recorded =
        || place.text("run/config.toml").parse::<toml::Table>().unwrap()["device"].as_str().unwrap().to_string();
    let device = recorded();
    assert!(["cpu", "cuda:0"].contains(&device.as_str()), "{device}");
    assert_eq!(place.json("run/summary.json")["device"].as_str(), Some(&*device));
    let (code, out, err) = run(&["train", "--resume", "run", "--steps", "3"]);
    assert_eq!((code, recorded()), (0, device.clone()), "{out}{err}");
    assert_eq!(place.json("run/summary.json")["device"].as_str(), Some(&*device));
}
