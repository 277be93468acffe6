//! The page as a whole: hostile names, long runs, verdicts, and colours that everyone can tell apart.

use super::heat::Matrix;
use super::*;
use crate::report::{Row, Summary};

/// A run of `epochs` epochs of which `search` are the search, with three watched ratios.
fn record(name: &str, epochs: usize, search: usize) -> RunRecord {
    let size = |scale: u64| serde_json::json!({"parameters": 1000 * scale, "bn_channels": 10 * scale, "flops": 100_000 * scale});
    let ticket = |ratio: f64| serde_json::json!({"ratio": ratio, "epoch": search as f64, "step": 1, "distances": [0.05, 0.08], "file": null});
    let summary: Summary = serde_json::from_value(serde_json::json!({
        "outcome": "trained", "task": "train", "model": name, "width": 0.25, "data": format!("/data/{name}"), "device": "cpu", "search_precision": "f32",
        "train_precision": "f32", "seed": 1, "epochs": epochs as f64, "steps": 10, "ticket_epoch": search as f64,
        "tickets": [ticket(0.5), ticket(0.3), ticket(0.7)], "test_loss": 0.5,
        "accuracy": {"dense_at_ticket": 0.7, "after_surgery": 0.5, "last": 0.8, "best": 0.8}, "before": size(4), "after": size(2),
        "layers": [{"layer": name, "before": 40, "kept": 20, "saved": true}], "images": {"train": 1000, "test": 200},
        "seconds": {"search": 1.0, "draw": 0.1, "surgery": 0.1, "train": 1.0, "evaluate": 0.5}, "version": "0"
    }))
    .unwrap();
    let row = |i: usize| Row {
        phase: if i < search { "search" } else { "train" },
        epoch: (i + 1) as f64,
        lr: 0.1,
        train_loss: 2.0 / (i + 1) as f64,
        train_accuracy: 0.8,
        test_loss: 2.1 / (i + 1) as f64,
        test_accuracy: 0.8 - 0.5 / (i + 1) as f64,
        train_seconds: 1.0,
        test_seconds: 0.1,
        images_per_second: 1000.0,
        test_top5: None,
        distances: vec![(i < search).then(|| 0.5 / (i + 1) as f64); 3],
        thresholds: vec![None; 3],
    };
    let drawn: Vec<usize> = heat::chosen(search + 1, &[search]);
    let distance = |i: usize, j: usize| (((i * 7919 + j * 104_729) % 997) as f64 / 997.0) * 0.4; // nothing that compresses
    let matrix = |label: &str| Matrix {
        label: label.into(),
        epochs: drawn.iter().map(|i| *i as f64).collect(),
        distances: drawn.iter().map(|i| drawn.iter().map(|j| distance(*i.min(j), *i.max(j))).collect()).collect(),
        ticket: Some(search as f64),
    };
    RunRecord {
        name: name.into(),
        summary,
        labels: vec!["p50".into(), "p30".into(), "p70".into()],
        rows: (0..epochs).map(row).collect(),
        matrices: ["p50", "p30", "p70"].map(matrix).into(),
        modelled: Vec::new(),
        measured: Vec::new(),
        settings: vec![
            ("eps".into(), "0.1".into()),
            ("epochs".into(), epochs.to_string()),
            ("out".into(), name.into()),
        ],
    }
}

const HOSTILE: &str = "</script></title><script>alert(1)</script><img src=x onerror='alert(2)'>\" onload=\"alert(3)";

#[test]
fn hostile_names_stay_text() {
    let runs = [record(HOSTILE, 3, 2), record(HOSTILE, 4, 2)];
    for page in [run_page(&runs[0], Some(&runs[1])), runs_page(&runs, &[None, None]), study_page(&study(HOSTILE))] {
        assert_eq!(page.matches("<script").count(), 1, "our own");
        assert_eq!(page.matches("</script").count(), 1);
        assert_eq!((page.matches("<img").count(), page.matches("</title").count()), (0, 1));
        // Inside tags the only quotes are our own: every attribute is a name, `=` and a value without quotes.
        for tag in page.split("<body>").nth(1).unwrap().split("<script").next().unwrap().split('<').skip(1) {
            let tag = tag.split('>').next().unwrap();
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            assert!(!tag.split('"').step_by(2).any(|outside| outside.contains(" on")), "{tag}");
        }
        assert!(page.contains("&lt;img src=x onerror="));
    }
}

/// A comparison of one method, with every kind of text a study holds, and with values that are no numbers.
fn study(name: &str) -> Study {
    use crate::report::study::*;
    let ratio = Some(0.5);
    Study {
        kind: "compare".into(),
        complete: true,
        data: name.into(),
        model: name.into(),
        seeds: vec![1],
        ratios: vec![0.5],
        settings: serde_json::json!({ "data": name, "momentum": 0.9f32 }),
        profile: name.into(),
        verdict: vec![name.into(), name.into()],
        checks: vec![Check {
            claim: name.into(),
            ratio,
            value: Some(f64::NAN),
            unit: name.into(),
            met: Some(false),
            ..Default::default()
        }],
        methods: vec![MethodInfo { name: "m".into(), title: name.into(), about: name.into() }],
        results: vec![StudyResult {
            method: "m".into(),
            ratio,
            seed: 1,
            status: "failed".into(),
            reason: Some(name.into()),
            ..Default::default()
        }],
        statistics: vec![Statistic {
            method: "m".into(),
            ratio,
            runs: 2,
            accuracy_mean: Some(0.9),
            accuracy_std: Some(f64::NAN),
            training_flops_mean: Some(f64::INFINITY),
            ..Default::default()
        }],
        energy_modelled: vec![ModelledRow {
            method: "m".into(),
            ratio,
            phase: "train".into(),
            profile: name.into(),
            joules: 2.0,
            ..Default::default()
        }],
        energy_measured: vec![MeasuredRow {
            method: Some("m".into()),
            ratio,
            unavailable: Some(name.into()),
            ..Default::default()
        }],
        ..Default::default()
    }
}

#[test]
fn a_study_says_what_does_not_reproduce_and_what_was_not_measured() {
    let page = study_page(&study("vgg16"));
    for words in [
        "Not every claim reproduces",
        "✕ does not",
        "Energy, modelled, 50% pruned",
        "Energy was not measured: vgg16",
        "vgg16: vgg16",
        ">0.9<",
    ] {
        assert!(page.contains(words), "{words}: {page}");
    }
    assert!(!page.contains("NaN") && !page.contains("inf ") && !page.contains("Energy, measured"));
    assert!(study_page(&Study::default()).contains("Not finished"));
}

#[test]
fn the_page_asks_for_nothing_and_holds_only_numbers() {
    let page = run_page(&record("vgg16", 24, 10), None);
    assert!(!page.contains("http:") && !page.contains("https:") && !page.contains("url(") && !page.contains("@import"));
    assert!(
        !page.contains("NaN") && !page.contains("inf\"") && !page.contains("inf,"),
        "no such number in a path or a table"
    );
    for words in [
        "role=\"img\"",
        "aria-label=\"Accuracy",
        "prefers-color-scheme",
        "Content-Security-Policy",
        "<details>",
        "@media print",
    ] {
        assert!(page.contains(words), "{words}");
    }
}

#[test]
fn a_thousand_epochs_fit_into_a_small_page() {
    let page = run_page(&record("vgg16", 1000, 600), Some(&record("vgg16", 1000, 0)));
    assert!(page.len() < 1_200_000, "{} bytes, of masks that no colour repeats in", page.len());
    let mut smooth = record("vgg16", 1000, 600);
    for matrix in &mut smooth.matrices {
        let far = |i: usize, j: usize| (0.5 * (i as f64 - j as f64).abs() / 600.0).min(0.4);
        let n = matrix.epochs.len();
        matrix.distances = (0..n).map(|i| (0..n).map(|j| far(i, j)).collect()).collect();
    }
    let page = run_page(&smooth, None);
    assert!(page.len() < 400_000, "{} bytes", page.len());
}

#[test]
fn runs_without_rows_or_files_have_a_page_too() {
    for (epochs, search) in [(0, 0), (1, 0), (1, 1)] {
        let mut run = record("vgg16", epochs, search);
        run.settings.clear();
        run.summary.images = None;
        run.summary.layers.clear();
        run.summary.accuracy.last = None;
        let page = run_page(&run, None);
        assert!(page.contains("</html>") && !page.contains("NaN"), "{page}");
    }
}

#[test]
fn verdicts_say_what_happened() {
    let judge = |change: &dyn Fn(&mut RunRecord), twin: Option<f64>| {
        let mut run = record("vgg16", 24, 10);
        change(&mut run);
        let twin = twin.map(|accuracy| {
            let mut twin = record("vgg16", 24, 0);
            twin.summary.accuracy.last = Some(accuracy);
            twin
        });
        verdict(&run, twin.as_ref())
    };
    let kept = judge(&|_| {}, Some(0.805));
    assert_eq!(kept.tone, Tone::Good);
    for words in [
        "after 10 of 24 epochs",
        "20 of 40 channels (50%)",
        "80.00% test accuracy, 0.50 points below its dense twin (80.50%)",
        "29% fewer training FLOPs (modelled)",
    ] {
        assert!(kept.sentence.contains(words), "{words}: {}", kept.sentence);
    }
    let lost = judge(&|_| {}, Some(0.85));
    assert!(
        lost.tone == Tone::Bad && lost.badge == "Accuracy lost" && lost.sentence.contains("5.00 points below"),
        "{lost:?}"
    );
    let above = judge(&|_| {}, Some(0.75));
    assert!(above.tone == Tone::Good && above.sentence.contains("5.00 points above"), "{above:?}");
    let alone = judge(&|_| {}, None);
    assert!(alone.tone == Tone::Open && alone.notes[0].contains("No dense twin"), "{alone:?}");
    let late = judge(&|run| run.rows.iter_mut().for_each(|row| row.phase = "search"), None);
    assert!(
        late.sentence.contains("more training FLOPs") && late.notes.iter().any(|n| n.contains("went on to epoch 24")),
        "{late:?}"
    );
    let none = judge(
        &|run| {
            run.summary.outcome = "no-ticket".into();
            run.summary.ticket_epoch = None;
            run.summary.tickets.iter_mut().for_each(|ticket| ticket.epoch = None);
        },
        None,
    );
    assert!(
        none.tone == Tone::Bad
            && none.sentence.contains("No Early-Bird ticket")
            && none.sentence.contains("50% (largest of the last distances 0.08)"),
        "{none:?}"
    );
    let running = judge(&|run| run.summary.outcome = "running".into(), None);
    assert!(running.tone == Tone::Open && running.sentence.contains("under way after 24 of 24 epochs"), "{running:?}");
}

/// The colours of a theme, by name, in linear light.
fn colours(theme: &str) -> std::collections::BTreeMap<String, [f64; 3]> {
    let block = STYLE.split(theme).nth(1).unwrap().split('}').next().unwrap();
    let entry = |part: &str| {
        let (name, value) = part.trim().trim_start_matches('{').trim().strip_prefix("--")?.split_once(": #")?;
        let full: String = if value.len() == 3 { value.chars().flat_map(|c| [c, c]).collect() } else { value.into() };
        let channel = |i: usize| {
            let v = f64::from(u8::from_str_radix(&full[2 * i..2 * i + 2], 16).unwrap()) / 255.0;
            if v <= 0.04045 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }
        };
        Some((name.to_string(), [0, 1, 2].map(channel)))
    };
    block.split(';').filter_map(entry).collect()
}

fn luminance([r, g, b]: [f64; 3]) -> f64 {
    0.2126 * r + 0.7152 * g + 0.0722 * b
}

/// WCAG 2.2, 1.4.3 and 1.4.11.
fn contrast(a: [f64; 3], b: [f64; 3]) -> f64 {
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

#[test]
fn words_and_lines_stand_out_from_their_ground() {
    for theme in [
        ":root {",
        ":root[data-theme=\"dark\"] {",
        ":root:not([data-theme=\"light\"]) {",
        ":root:not([data-theme=\"light\"]) {\n    color-scheme: light",
    ] {
        let all = colours(theme);
        let colour = |name: &str| *all.get(name).unwrap_or_else(|| panic!("{theme}: {name}"));
        for ground in ["paper", "card"] {
            for word in ["ink", "quiet", "good", "open", "bad"] {
                let ratio = contrast(colour(word), colour(ground));
                assert!(ratio >= 4.5, "{theme} {word} on {ground}: {ratio:.2}");
            }
        }
        for i in 0..8 {
            let ratio = contrast(colour(&format!("s{i}")), colour("card"));
            assert!(ratio >= 3.0, "{theme} s{i}: {ratio:.2}");
        }
        // A tip is written in the colour of the paper on that of the ink.
        assert!(contrast(colour("paper"), colour("ink")) >= 4.5);
    }
}

#[test]
fn the_first_lines_differ_without_colour_vision() {
    // Machado, Oliveira, Fernandes 2009, severity 1: protanopia, deuteranopia; on linear light.
    let kinds = [
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    ];
    // OKLab distance (Ottosson 2020): 0.02 is just noticeable side by side.
    let lab = |[r, g, b]: [f64; 3]| {
        let l = (0.412_221_470_8 * r + 0.536_332_536_3 * g + 0.051_445_992_9 * b).cbrt();
        let m = (0.211_903_498_2 * r + 0.680_699_545_1 * g + 0.107_396_956_6 * b).cbrt();
        let s = (0.088_302_461_9 * r + 0.281_718_837_6 * g + 0.629_978_700_5 * b).cbrt();
        [
            0.210_454_255_3 * l + 0.793_617_785_0 * m - 0.004_072_046_8 * s,
            1.977_998_495_1 * l - 2.428_592_205_0 * m + 0.450_593_709_9 * s,
            0.025_904_037_1 * l + 0.782_771_766_2 * m - 0.808_675_766_0 * s,
        ]
    };
    for theme in [":root {", ":root[data-theme=\"dark\"] {"] {
        let all = colours(theme);
        for (kind, matrix) in kinds.iter().enumerate() {
            let seen = |name: &str| {
                lab(matrix.map(|row| row.iter().zip(all[name]).map(|(m, v)| m * v).sum::<f64>().clamp(0.0, 1.0)))
            };
            for (a, b) in
                [("s0", "s1"), ("s0", "s2"), ("s1", "s2"), ("s0", "s3"), ("s1", "s3"), ("s0", "rest"), ("s1", "rest")]
            {
                let distance = seen(a).iter().zip(seen(b)).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
                assert!(distance > 0.1, "{theme} {a} and {b}, kind {kind}: {distance:.3}");
            }
        }
    }
}
