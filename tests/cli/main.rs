//! The command line as users and scripts meet it: contract, run folders, resume, bad input. Small networks on the embedded digits.

#![allow(clippy::unwrap_used)] // clippy.toml allows it in test functions only, not in their helpers

mod bad_input;
mod contract;
mod disk;
mod outputs;
mod report;
mod resume;
mod settings;
mod study;
mod tickets;
mod watch;

#[path = "../common/mod.rs"]
mod common;

use std::path::{Path, PathBuf};

/// A small run that finds its tickets after three epochs of four; 23 steps an epoch.
const SMALL: [(&str, &str); 9] = [
    ("--model", "vgg11"),
    ("--width", "0.0625"),
    ("--batch-size", "64"),
    ("--epochs", "4"),
    ("--prune", "0.5,0.3"),
    ("--queue", "2"),
    ("--eps", "0.3"),
    ("--device", "cpu"),
    ("--seed", "1"),
];

/// A folder of a test's own.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs the command in this folder: exit code (-1 for a signal), standard output, standard error.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        common::outcome(self.command(arguments).output().unwrap())
    }

    fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = common::earlybird(arguments);
        command.current_dir(self.0.path());
        command
    }

    /// Runs it and expects success; returns standard output.
    fn ok(&self, arguments: &[&str]) -> String {
        let (code, out, err) = self.run(arguments);
        assert_eq!(code, 0, "{arguments:?}\n{out}{err}");
        out
    }

    /// Runs it and expects exit code 2 and one message with all `words`, and no panic.
    fn refuses(&self, arguments: &[&str], words: &[&str]) {
        let (code, out, err) = self.run(arguments);
        assert_eq!(code, 2, "{arguments:?}\n{out}{err}");
        assert!(words.iter().all(|word| err.contains(word)), "{words:?} in: {err}");
        assert!(!err.contains("panicked"), "{err}");
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    fn text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).unwrap()
    }

    fn json(&self, name: &str) -> serde_json::Value {
        serde_json::from_str(&self.text(name)).unwrap()
    }
}

/// `first`, the small run's flags, `--out run`, and `extra`, whose flags stand instead of those.
fn small<'a>(first: &[&'a str], extra: &[&'a str]) -> Vec<&'a str> {
    let given = |flag: &str| extra.contains(&flag);
    let all = SMALL.iter().chain(&[("--out", "run")]).filter(|(flag, _)| !given(flag));
    let flags = all.flat_map(|(flag, value)| [*flag, *value]);
    first.iter().copied().chain(flags).chain(extra.iter().copied()).collect()
}

/// Files of a run that hold what was computed, not when: they are equal, byte for byte, in equal runs.
fn computed(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        let timed = ["metrics.csv", "clock.json", "energy.json", "energy.csv", "summary.json", "report.html", ".lock"]
            .contains(&name.as_str());
        if !timed && !name.starts_with("events.") {
            files.push((name, std::fs::read(path).unwrap()));
        }
    }
    files.sort();
    files
}
