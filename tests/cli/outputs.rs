//! Files of a run folder as other programs read them: CSV, TensorBoard events, SVG.

use super::{Place, small};

fn finished() -> Place {
    let place = Place::new();
    place.ok(&small(&["train"], &[]));
    place
}

#[test]
fn metrics_csv_has_one_row_per_epoch_and_leaves_unknowns_empty() {
    let place = finished();
    let csv = place.text("run/metrics.csv");
    let rows: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    let column = |name: &str| rows[0].iter().position(|head| *head == name).unwrap_or_else(|| panic!("{name}: {csv}"));
    assert_eq!(rows.len(), 5, "{csv}");
    let phases: Vec<&str> = rows[1..].iter().map(|row| row[column("phase")]).collect();
    assert_eq!(phases, ["search", "search", "search", "train"]);
    assert!(rows.iter().all(|row| row.len() == rows[0].len()));
    for (i, row) in rows[1..].iter().enumerate() {
        assert_eq!(row[column("epoch")], (i + 1).to_string());
        let distance = row[column("mask_distance_p50")];
        assert_eq!(distance.is_empty(), i >= 3, "after the search there are no distances: {row:?}");
        assert_eq!(row[column("lr")], ["0.1", "0.1", "0.01", "0.001"][i]);
        let accuracy: f64 = row[column("test_accuracy")].parse().unwrap();
        assert!((0.0..=1.0).contains(&accuracy));
    }
    let last: f64 = rows[4][column("test_accuracy")].parse().unwrap();
    assert_eq!(place.json("run/summary.json")["accuracy"]["last"].as_f64(), Some(last));
}

/// Reads the TFRecord framing as TensorBoard does, with both checksums, and counts events.
#[test]
fn the_event_file_is_whole_and_holds_a_scalar_per_epoch_and_tag() {
    let place = finished();
    let bytes = place.read("run/events.out.tfevents.0.earlybird");
    let masked = |bytes: &[u8]| crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes();
    let (mut at, mut payloads) = (0, Vec::new());
    while at < bytes.len() {
        let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
        assert_eq!(bytes[at + 8..at + 12], masked(&bytes[at..at + 8]));
        let payload = &bytes[at + 12..at + 12 + length];
        assert_eq!(bytes[at + 12 + length..at + 16 + length], masked(payload));
        payloads.push(payload);
        at += 16 + length;
    }
    assert!(payloads[0].ends_with(b"brain.Event:2"));
    let count = |tag: &str| payloads.iter().filter(|p| p.windows(tag.len()).any(|w| w == tag.as_bytes())).count();
    assert_eq!(["train/loss", "test/accuracy", "lr"].map(count), [4; 3]);
    assert_eq!(["mask_distance/p50", "mask_distance/p30"].map(count), [3; 2], "three draws with an older mask");
    let wall = f64::from_le_bytes(payloads[1][1..9].try_into().unwrap());
    assert!(wall > 1.6e9, "seconds since 1970: {wall}");
}

#[test]
fn plots_are_svg_and_say_what_they_show() {
    let place = finished();
    let out: Vec<String> = std::fs::read_dir(place.path("run"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".svg"))
        .collect();
    assert_eq!(out.len(), 6, "{out:?}");
    for name in &out {
        let svg = place.text(&format!("run/{name}"));
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{name}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{name}");
        assert!(svg.contains("digits") || name.starts_with("mask-distance-"), "{name} names the data");
    }
    let svg = place.text("run/mask-distance.svg");
    for word in ["ticket p50", "ticket p30", "eps 0.3", "epochs trained"] {
        assert!(svg.contains(word), "{word}");
    }
}

#[test]
fn plain_lines_where_there_is_no_terminal_and_silence_on_request() {
    let place = Place::new();
    let (code, out, err) = place.run(&small(&["train"], &[]));
    assert_eq!((code, err.as_str()), (0, ""), "no progress bar in a pipe");
    assert!(!out.contains('\u{1b}') && !out.contains('\r'), "{out}");
    assert_eq!(out.lines().filter(|line| line.contains("epoch") && line.contains("images/s")).count(), 4);
    assert!(out.contains("ticket p50 emerged after 3.00 epochs") && out.contains("plots"), "{out}");
    let (code, out, err) = place.run(&small(&["train"], &["--quiet", "--out", "quiet"]));
    assert_eq!((code, out.as_str(), err.as_str()), (0, "", ""));
}
