//! The command line as users and scripts meet it: contract, run folders, resume, bad input. Small networks on a part of the embedded digits.

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
use std::sync::OnceLock;

/// A small run that finds its tickets after three epochs of four; 5 steps an epoch.
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

/// `first`, the small run's flags, `--data` with [`few_digits`], `--out run`, and `extra`, whose flags stand instead of those.
fn small<'a>(first: &[&'a str], extra: &[&'a str]) -> Vec<&'a str> {
    let given = |flag: &str| extra.contains(&flag);
    let places = [("--data", few_digits()), ("--out", "run")];
    let all = SMALL.iter().chain(&places).filter(|(flag, _)| !given(flag));
    let flags = all.flat_map(|(flag, value)| [*flag, *value]);
    first.iter().copied().chain(flags).chain(extra.iter().copied()).collect()
}

/// A folder with the first 320 training and 64 test images of the embedded digits, cut to 28x28, in MNIST's form: what runs cost is mostly images.
fn few_digits() -> &'static str {
    static FOLDER: OnceLock<String> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("few-digits");
        std::fs::create_dir_all(&folder).unwrap();
        let all = earlybird::data::open("digits").unwrap();
        for (name, set, count) in [("train", &all.train, 320u32), ("t10k", &all.test, 64)] {
            let mut images = [2051, count, 28, 28].map(u32::to_be_bytes).concat();
            for image in set.images.chunks_exact(32 * 32).take(count as usize) {
                image.chunks_exact(32).skip(2).take(28).for_each(|row| images.extend(&row[2..30]));
            }
            let mut labels = [2049, count].map(u32::to_be_bytes).concat();
            labels.extend(set.labels.iter().take(count as usize).map(|label| *label as u8));
            std::fs::write(folder.join(format!("{name}-images-idx3-ubyte")), images).unwrap();
            std::fs::write(folder.join(format!("{name}-labels-idx1-ubyte")), labels).unwrap();
        }
        folder.to_str().unwrap().to_string()
    })
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
