//! A full disk: a clear message, the last good files stay, and the run goes on when there is room again.

use super::{Place, computed, small};

#[test]
fn a_disk_that_fills_up_stops_the_run_and_it_goes_on_later() {
    let whole = Place::new();
    whole.ok(&small(&["train"], &[]));
    let expected = computed(&whole.path("run"));
    for fault in ["state:3", "masks.bin:3", "ticket-p50", "metrics.csv:4", "model", "summary", "loss.svg"] {
        let place = Place::new();
        let mut command = place.command(&small(&["train"], &[]));
        let (code, _, err) =
            super::common::outcome(command.env("EARLYBIRD_FAULT", format!("full:{fault}")).output().unwrap());
        let name = fault.split(':').next().unwrap();
        assert!(code == 2 && err.contains(name) && err.contains("run/"), "{fault}: {code} {err}");
        assert!(err.contains("no storage space") && !err.contains("panicked"), "{fault}: {err}");
        let temporary = std::fs::read_dir(place.path("run")).unwrap().flatten();
        assert!(temporary.into_iter().all(|e| !e.file_name().to_string_lossy().ends_with(".tmp")), "{fault}");
        place.ok(&["train", "--resume", "run"]);
        assert!(computed(&place.path("run")) == expected, "{fault}");
    }
}

/// A real limit, by the system: files may not grow past 64 KiB.
#[cfg(target_os = "linux")]
#[test]
fn a_file_size_limit_is_met_like_a_full_disk() {
    let place = Place::new();
    let exe = super::common::executable();
    let line = format!("trap '' XFSZ; ulimit -f 64; exec {} {}", exe.display(), small(&["train"], &[]).join(" "));
    let output = std::process::Command::new("bash").args(["-c", &line]).current_dir(place.path("")).output().unwrap();
    let (code, _, err) = super::common::outcome(output);
    assert!(code == 2 && err.contains("cannot write") && err.contains("run/"), "{code}: {err}");
    assert!(!place.path("run/init.safetensors").exists(), "no half file");
    place.ok(&small(&["train"], &[])); // there is room again
}
