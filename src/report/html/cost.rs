//! What a run cost: operations (modelled), and seconds and speed (measured), each in a chart of its own.

use std::collections::BTreeMap;

use super::bars::{Bar, Bars, Part};
use super::energy::{self, Entry};
use super::figure::{Figure, Table};
use super::lines::{Lines, Unit};
use super::record::RunRecord;
use super::run::line;
use super::text::{duration, scaled};
use crate::energy::KWH;
use crate::energy::profile::PROFILES;

/// Profile of the energy model that is drawn.
const PROFILE: &str = PROFILES[0].name;

/// FLOPs by phase (modelled) and seconds by phase (measured).
pub fn cost(run: &RunRecord, twin: Option<&RunRecord>) -> Vec<Figure> {
    let mut all = Vec::new();
    if let Some(flops) = run.flops().filter(|flops| flops.dense > 0.0) {
        let part = |class: &str, value: f64, what: &str| Part {
            class: class.into(),
            value,
            tip: format!("{what}: {}FLOPs", unit(value)),
        };
        let own = Bar {
            label: "this run".into(),
            parts: vec![
                part("s0", flops.search, "search, dense"),
                part("s1", flops.train, if run.summary.task == "dense" { "dense training" } else { "ticket" }),
            ],
            word: format!("{}FLOPs", unit(flops.search + flops.train)),
            spread: None,
        };
        let dense = Bar {
            label: "dense".into(),
            parts: vec![part("s2", flops.dense, "dense training for as many epochs")],
            word: format!("{}FLOPs", unit(flops.dense)),
            spread: None,
        };
        let mut table = Table::new(&["", "search", "after the cut", "total FLOPs, modelled"]);
        table.rows.push(vec![
            "this run".into(),
            unit(flops.search),
            unit(flops.train),
            unit(flops.search + flops.train),
        ]);
        let alone = run.summary.task == "dense";
        if !alone {
            table.rows.push(vec!["dense, as many epochs".into(), "0".into(), unit(flops.dense), unit(flops.dense)]);
        }
        all.push(
            Bars {
                title: "Training FLOPs, modelled".into(),
                note: "3 x forward operations x images x epochs (a multiply-add is two); evaluation and mask draws are not counted.".into(),
                legend: if alone { vec![] } else { vec![("s0".into(), "search".into()), ("s1".into(), "ticket".into()), ("s2".into(), "dense training".into())] },
                bars: if alone { vec![own] } else { vec![own, dense] },
                table,
            }
            .figure(),
        );
    }
    let phases = |run: &RunRecord| {
        let s = run.summary.seconds;
        [
            ("search", "s0", s.search),
            ("ticket", "s1", s.train),
            ("mask draws", "s3", s.draw),
            ("surgery", "s4", s.surgery),
            ("evaluation", "s5", s.evaluate),
        ]
    };
    let bar = |label: &str, run: &RunRecord| {
        let dense = run.summary.task == "dense";
        let part = |(what, class, value): &(&str, &str, f64)| {
            let (what, class) = if dense && *what == "ticket" { ("dense training", "s2") } else { (*what, *class) };
            Part { class: class.into(), value: *value, tip: format!("{what}: {}", duration(*value)) }
        };
        let parts: Vec<Part> = phases(run).iter().map(part).collect();
        Bar { label: label.into(), word: duration(parts.iter().map(|p| p.value).sum()), parts, spread: None }
    };
    if phases(run).iter().any(|phase| phase.2 > 0.0) {
        let mut table =
            Table::new(&["seconds, measured", "search", "training on", "mask draws", "surgery", "evaluation"]);
        let row = |label: &str, run: &RunRecord| {
            std::iter::once(label.to_string())
                .chain(phases(run).iter().map(|phase| format!("{:.3}", phase.2)))
                .collect::<Vec<_>>()
        };
        table.rows.push(row("this run", run));
        let mut bars = vec![bar("this run", run)];
        if let Some(twin) = twin {
            table.rows.push(row("dense twin", twin));
            bars.push(bar("dense twin", twin));
        }
        let used: Vec<&str> =
            bars.iter().flat_map(|b| &b.parts).filter(|p| p.value > 0.0).map(|p| p.class.as_str()).collect();
        let names = [
            ("s0", "search"),
            ("s1", "ticket"),
            ("s2", "dense training"),
            ("s3", "mask draws"),
            ("s4", "surgery"),
            ("s5", "evaluation"),
        ];
        let legend =
            names.iter().filter(|(class, _)| used.contains(class)).map(|(c, w)| (c.to_string(), w.to_string()));
        let devices = match twin.map(|twin| &twin.summary.device) {
            Some(other) if *other != run.summary.device => format!("{} (dense twin: {other})", run.summary.device),
            _ => run.summary.device.clone(),
        };
        all.push(
            Bars {
                title: "Seconds by phase, measured".into(),
                note: format!("Wall-clock time on {devices}; other work on the machine is in it."),
                legend: legend.collect(),
                bars,
                table,
            }
            .figure(),
        );
    }
    all.extend(joules(run, twin));
    let speed = Lines {
        title: "Training speed, measured".into(),
        note: "Images per second of wall-clock time, evaluation left out.".into(),
        x: "epochs trained".into(),
        y: "images per second".into(),
        unit: Unit::Plain,
        lines: [
            twin.and_then(|twin| line(twin, "train", "dense twin", 2, &|row| row.images_per_second)),
            line(run, "search", "search (dense)", 0, &|row| row.images_per_second),
            line(run, "train", if run.summary.task == "dense" { "dense" } else { "ticket" }, 1, &|row| {
                row.images_per_second
            }),
        ]
        .into_iter()
        .flatten()
        .collect(),
        marks: Vec::new(),
        levels: Vec::new(),
        from_zero: true,
    };
    if !speed.is_empty() {
        all.push(speed.figure());
    }
    all
}

/// Joules by phase, read off a run; unknown where nothing was counted.
type Rows<'a> = &'a dyn Fn(&RunRecord) -> Vec<(String, Option<f64>)>;

/// Energy by phase: modelled in one chart, measured in another.
fn joules(run: &RunRecord, twin: Option<&RunRecord>) -> Vec<Figure> {
    let runs = [("this run", Some(run)), ("dense twin", twin)];
    let bars: Vec<String> = runs.iter().filter(|(_, run)| run.is_some()).map(|(name, _)| name.to_string()).collect();
    let entries = |rows: Rows| -> Vec<Entry> {
        let of = runs.iter().filter_map(|(name, run)| Some((name, (*run)?)));
        of.flat_map(|(name, run)| rows(run).into_iter().map(|(phase, value)| (name.to_string(), phase, value)))
            .collect()
    };
    let cell = |row: &BTreeMap<String, String>, name: &str| row.get(name).cloned().unwrap_or_default();
    let modelled = entries(&|run| {
        let rows = run.modelled.iter().filter(|row| cell(row, "profile") == PROFILE && cell(row, "precision") != "eb8");
        rows.map(|row| (cell(row, "phase"), cell(row, "joules").parse().ok())).collect()
    });
    let measured = entries(&|run| {
        let joules =
            |row: &BTreeMap<String, String>| cell(row, "energy_consumed").parse::<f64>().ok().map(|kwh| kwh * KWH);
        run.measured.iter().map(|row| (cell(row, "phase"), joules(row))).collect()
    });
    let note = format!(
        "Counted operations and bytes times published energies, profile {PROFILE}; the other profiles are in energy-modelled.csv."
    );
    let mut all: Vec<Figure> = energy::by_phase("Energy, modelled", &note, "J", &bars, &modelled).into_iter().collect();
    match energy::by_phase("Energy, measured", "Counters of the hardware.", "J", &bars, &measured) {
        Some(figure) => all.push(figure),
        None => {
            let reasons = run.measured.iter().map(|row| row.get("unavailable").map(String::as_str));
            energy::unmeasured(&mut all, reasons);
        }
    }
    all
}

/// A number of operations with its prefix, and a space where there is none.
fn unit(value: f64) -> String {
    let text = scaled(value);
    if text.contains(' ') { text } else { text + " " }
}
