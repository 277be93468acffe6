//! `earlybird watch`: masks of a network that another program trains.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use super::Place;

/// A line with two layers of four channels; the scales stand still from epoch 2 on.
fn line(epoch: usize) -> String {
    let moving = if epoch < 2 { 0.1 + 0.8 * epoch as f64 } else { 0.5 };
    format!("{{\"epoch\": {epoch}, \"scales\": {{\"z\": [{moving}, 0.9, 0.8, 0.05], \"a\": [0.6, 0.01, 0.02, -0.7]}}}}")
}

#[test]
fn each_line_is_answered_at_once_and_the_ticket_names_its_channels() {
    let place = Place::new();
    let mut command = place.command(&["watch", "-", "--queue", "2", "--prune", "0.5", "--out", "watched"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut input, mut output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    let mut answers = Vec::new();
    for epoch in 0..5 {
        writeln!(input, "{}", line(epoch)).unwrap();
        let mut answer = String::new();
        output.read_line(&mut answer).unwrap();
        answers.push(serde_json::from_str::<serde_json::Value>(&answer).unwrap());
    }
    drop(input);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mask = |epoch: usize| &answers[epoch]["masks"][0];
    assert_eq!((&mask(0)["distance"], mask(3)["distance"].as_f64()), (&serde_json::Value::Null, Some(0.0)));
    let tickets: Vec<bool> = (0..5).map(|epoch| !mask(epoch)["ticket"].is_null()).collect();
    assert_eq!(tickets, [false, false, false, false, true], "masks 2, 3 and 4 are equal");
    // |scales| in order: .01 .02 .05 .5 .6 .7 .8 .9; the fifth is the threshold and goes, too.
    assert_eq!(mask(4)["ticket"], serde_json::json!({"z": [1, 2], "a": [3]}));
    assert_eq!((mask(4)["kept"].as_u64(), mask(4)["channels"].as_u64()), (Some(3), Some(8)));
    assert!(place.path("watched/masks.bin").exists());
    assert_eq!(place.text("watched/mask-distance-p50.csv").lines().count(), 6);
}

#[test]
fn without_a_ticket_the_exit_code_says_so() {
    let place = Place::new();
    std::fs::write(place.path("scales.jsonl"), (0..3).map(|epoch| line(epoch) + "\n").collect::<String>()).unwrap();
    let (code, out, err) = place.run(&["watch", "scales.jsonl"]);
    assert_eq!((code, out.lines().count()), (4, 3), "{err}");
    assert!(err.contains("no ticket for p50"), "{err}");
}

#[test]
fn bad_lines_are_named() {
    let place = Place::new();
    for (second, words) in [
        ("{", &["line 2"][..]),
        ("{\"epoch\": 1}", &["line 2", "scales"]),
        ("{\"epoch\": 1, \"scales\": {\"z\": [NaN]}}", &["line 2", "NaN"]),
        (
            "{\"epoch\": 1, \"scales\": {\"z\": [1e39, 0.9, 0.8, 0.05], \"a\": [0.6, 0.01, 0.02, -0.7]}}",
            &["line 2", "out of range"],
        ),
        (
            "{\"epoch\": 1, \"scales\": {\"z\": [1], \"a\": [2]}}",
            &["line 2", "layer z of 1 channels stands where z of 4 was"],
        ),
    ] {
        std::fs::write(place.path("scales.jsonl"), format!("{}\n{second}\n", line(0))).unwrap();
        place.refuses(&["watch", "scales.jsonl"], words);
    }
    place.refuses(&["watch", "missing.jsonl"], &["missing.jsonl"]);
    place.refuses(&["watch", "scales.jsonl", "--prune", "1.5"], &["--prune"]);
    std::fs::create_dir(place.path("full")).unwrap();
    std::fs::write(place.path("full/masks.bin"), "precious").unwrap();
    place.refuses(&["watch", "scales.jsonl", "--out", "full"], &["--out", "not empty"]);
    assert_eq!(place.text("full/masks.bin"), "precious");
}
