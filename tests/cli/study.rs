//! Studies: what they leave, that a killed one repeats no finished run and ends in the same bits, and what they refuse.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use super::{Place, computed, few_digits};

/// A study of four runs of a second or so.
const STUDY: [&str; 25] = [
    "study",
    "compare",
    "--model",
    "vgg11",
    "--width",
    "0.0625",
    "--batch-size",
    "64",
    "--epochs",
    "4",
    "--prune",
    "0.5",
    "--queue",
    "2",
    "--eps",
    "0.3",
    "--device",
    "cpu",
    "--seeds",
    "1",
    "--methods",
    "unpruned,lottery-ticket,eb-ff",
    "--quiet",
    "--out",
    "study",
];

/// The study's arguments, its data, and `extra`.
fn with<'a>(extra: &[&'a str]) -> Vec<&'a str> {
    STUDY.iter().chain(&["--data", few_digits()]).chain(extra).copied().collect()
}

fn runs(place: &Place) -> Vec<PathBuf> {
    let folders = std::fs::read_dir(place.path("study/runs")).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = folders.map(|entry| entry.path()).collect();
    folders.sort();
    folders
}

/// When each finished run's summary was written.
fn finished(place: &Place) -> BTreeMap<PathBuf, SystemTime> {
    let time = |run: &Path| {
        let summary = std::fs::read_to_string(run.join("summary.json")).ok()?;
        let done = ["trained", "found"].iter().any(|word| summary.contains(&format!("\"outcome\": \"{word}\"")));
        done.then(|| std::fs::metadata(run.join("summary.json")).unwrap().modified().unwrap())
    };
    runs(place).into_iter().filter_map(|run| Some((run.file_name().unwrap().into(), time(&run)?))).collect()
}

#[test]
fn a_study_killed_again_and_again_repeats_no_finished_run_and_ends_in_the_same_bits() {
    let whole = Place::new();
    whole.ok(&with(&[]));
    let place = Place::new();
    let (mut wait, mut kills) = (Duration::from_millis(250), 0);
    loop {
        let before = finished(&place);
        let mut child = place.command(&with(&[])).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let end = Instant::now() + wait;
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if Instant::now() >= end => break None,
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        child.kill().unwrap();
        child.wait().unwrap();
        let after = finished(&place);
        for (run, written) in &before {
            assert_eq!(after.get(run), Some(written), "{} was run again", run.display());
        }
        if let Some(status) = status {
            assert!(status.success(), "after {kills} kills: {status}");
            break;
        }
        (wait, kills) = (wait + wait / 4, kills + 1);
    }
    assert!(kills > 2, "{kills}");
    let names = ["s1-dense", "s1-p50-eb-ff", "s1-p50-lottery-ticket", "s1-search-f32"];
    assert_eq!(runs(&place).iter().map(|run| run.file_name().unwrap().to_str().unwrap()).collect::<Vec<_>>(), names);
    for (run, expected) in runs(&place).iter().zip(runs(&whole)) {
        // The one file that says how it was started names a folder; both are called `study`.
        for ((name, bytes), (wanted_name, wanted)) in computed(run).iter().zip(computed(&expected)) {
            assert_eq!(*name, wanted_name, "{}", run.display());
            assert!(*bytes == wanted, "{}: {name} differs", run.display());
        }
    }
    let results = |place: &Place| {
        let study = place.json("study/study.json");
        assert_eq!(study["complete"], true);
        let rows = study["results"].as_array().unwrap().clone();
        rows.iter()
            .map(|r| (r["method"].clone(), r["accuracy"].clone(), r["training_flops"].clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(results(&place), results(&whole));
    // Once more finds nothing to do, by either way.
    let before = finished(&place);
    place.ok(&with(&[]));
    place.ok(&["study", "resume", "study", "--quiet"]);
    assert_eq!(finished(&place), before);
}

#[test]
fn every_method_is_charged_all_that_it_needs() {
    let place = Place::new();
    place.ok(&with(&[]));
    let study = place.json("study/study.json");
    let row =
        |method: &str| study["results"].as_array().unwrap().iter().find(|r| r["method"] == method).unwrap().clone();
    let (dense, lottery, ticket) = (row("unpruned"), row("lottery-ticket"), row("eb-ff"));
    let info = place.json("study/runs/s1-dense/summary.json");
    let number = |key: &str, part: &str| info[key][part].as_f64().unwrap();
    let (forward, images) = (number("before", "flops"), number("images", "train"));
    let close = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 1e-9, "{a} {b}");
    close(dense["training_flops"].as_f64().unwrap(), 3.0 * forward * images * 4.0);
    let pruned = |r: &serde_json::Value| 3.0 * r["flops_per_image"].as_f64().unwrap() * images;
    close(lottery["training_flops"].as_f64().unwrap(), 3.0 * forward * images * 4.0 + pruned(&lottery) * 4.0);
    assert_eq!((lottery["epochs"].as_f64(), ticket["epochs"].as_f64()), (Some(8.0), Some(4.0)));
    let epoch = ticket["ticket_epoch"].as_f64().unwrap();
    let searched = 3.0 * forward * images * epoch;
    close(ticket["training_flops"].as_f64().unwrap(), searched + pruned(&ticket) * (4.0 - epoch));
    // Modelled and measured energy are in files of their own, and what is not known has no number.
    let modelled = place.text("study/energy-modelled.csv");
    for phase in ["search", "draw", "surgery", "train", "evaluation"] {
        assert!(modelled.contains(&format!("eb-ff,0.5,,1,{phase},f32,7nm-hbm2,")), "{phase}\n{modelled}");
    }
    assert!(modelled.contains("eb-ff,0.5,,1,search,as-int8,7nm-hbm2,"), "{modelled}");
    let measured = place.text("study/energy.csv");
    let head = "timestamp,project_name,run_id,duration,emissions,emissions_rate,cpu_power,gpu_power,ram_power,cpu_energy,gpu_energy,";
    assert!(measured.starts_with(head), "{measured}");
    assert!(measured.contains("gpu: no GPU was used"), "{measured}");
    assert!(!measured.contains(",0,0,0,"), "an unknown is never 0\n{measured}");
    let table = place.text("study/runs/s1-p50-eb-ff/energy.csv");
    assert!(table.lines().any(|line| line.contains(",train,")), "{table}");
}

#[test]
fn eight_bit_methods_run_in_eight_bits_or_say_why_not() {
    let place = Place::new();
    let mut arguments = with(&[]);
    arguments[21] = "eb-ll,eb-ll-int8";
    place.ok(&arguments);
    let study = place.json("study/study.json");
    for row in study["results"].as_array().unwrap() {
        let precision = if row["method"] == "eb-ll" { "eb8" } else { "int8" };
        assert_eq!((&row["search_precision"], &row["train_precision"]), (&precision.into(), &precision.into()));
        match row["status"].as_str().unwrap() {
            "unavailable" => {
                assert!(row["reason"].as_str().unwrap().contains("not available in this build"), "{row}");
                assert!(row["accuracy"].is_null() && row["training_flops"].is_null(), "{row}");
            }
            "done" => {
                let run = place.json(&format!("study/{}/summary.json", row["run"].as_str().unwrap()));
                assert_eq!(run["train_precision"], precision);
            }
            "no-ticket" => assert!(row["accuracy"].is_null()),
            other => panic!("{other}: {row}"),
        }
    }
}

#[test]
fn every_kind_of_study_runs_and_judges() {
    let small = [&["--data", few_digits()], &STUDY[2..20]].concat();
    for (kind, extra, method) in [
        ("existence", vec!["--draw-at", "1,3,4"], "drawn"),
        ("distance", vec![], "search"),
        ("learning-rate", vec!["--rates", "0.1,0.01"], "lr-0.1"),
        ("precision", vec!["--precisions", "f32"], "f32"),
    ] {
        let place = Place::new();
        let arguments: Vec<&str> = ["study", kind].iter().chain(&small).chain(&extra).copied().collect();
        let out = place.ok(&[&arguments[..], &["--out", "study"]].concat());
        assert!(out.contains("claims reproduce"), "{kind}: {out}");
        let study = place.json("study/study.json");
        assert_eq!((&study["kind"], &study["complete"]), (&kind.into(), &true.into()));
        let done = |r: &&serde_json::Value| r["method"] == method && r["status"] == "done" && r["accuracy"].is_f64();
        let rows = study["results"].as_array().unwrap().iter().filter(done).count();
        assert_eq!(rows, if kind == "existence" { 3 } else { 1 }, "{kind}: {}", study["results"]);
        if kind == "existence" {
            // A drawn ticket is charged the dense training up to its draw.
            let info = place.json("study/runs/s1-dense/summary.json");
            let dense = info["before"]["flops"].as_f64().unwrap() * info["images"]["train"].as_f64().unwrap() * 3.0;
            for row in study["results"].as_array().unwrap().iter().filter(|r| r["method"] == "drawn") {
                let pruned = row["flops_per_image"].as_f64().unwrap() * info["images"]["train"].as_f64().unwrap() * 3.0;
                let expected = dense * row["drawn_epoch"].as_f64().unwrap() + pruned * 4.0;
                assert!((row["training_flops"].as_f64().unwrap() / expected - 1.0).abs() < 1e-9, "{row}");
            }
        }
        if kind == "distance" {
            let matrix = &study["matrices"][0];
            assert_eq!(matrix["epochs"].as_array().unwrap().len(), 5, "before the first epoch and after each of four");
            assert_eq!(matrix["distances"][2][2], 0.0);
            // The same search with the detector stops at the epoch that is marked here.
            let found = place.path("found");
            let arguments: Vec<&str> = ["search", "--seed", "1"].iter().chain(&small[..18]).copied().collect();
            place.ok(&[&arguments[..], &["--out", found.to_str().unwrap()]].concat());
            assert_eq!(place.json("found/summary.json")["ticket_epoch"], matrix["emerged"]);
        }
    }
}

#[test]
fn the_papers_training_flops_come_out() {
    let out = Place::new().ok(&["study", "compare", "--paper-settings", "--dry-run"]);
    for total in ["302.40 x 0.05 P", "1259.13 P", "2839.96 P"] {
        assert!(out.contains(total), "{total} in: {out}");
    }
    assert!(!out.contains("DIFFERENT"), "{out}");
}

#[test]
fn bad_studies_are_refused_before_anything_is_made() {
    let place = Place::new();
    place.refuses(&with(&["--steps", "3"]), &["--steps", "study"]);
    place.refuses(&with(&["--seed", "3"]), &["--seeds"]);
    place.refuses(&with(&["--profile", "3nm"]), &["3nm", "7nm-hbm2"]);
    place.refuses(&with(&["--low-precision", "f16"]), &["f16", "eb8"]);
    place.refuses(&["study", "existence", "--epochs", "4", "--draw-at", "0,2"], &["--draw-at"]);
    place.refuses(&["study", "compare", "--methods", "magic"], &["magic", "lottery-ticket"]);
    place.refuses(&["study", "resume", "nowhere"], &["nowhere"]);
    assert!(!place.path("study").exists());
    place.ok(&with(&[]));
    let mut other = with(&[]);
    other[9] = "5"; // epochs
    place.refuses(&other, &["other settings", "resume"]);
}
