//! Several runs side by side: a table, and their test accuracy in one chart.

use super::figure::Table;
use super::lines::{Line, Lines, STYLES, Unit};
use super::record::RunRecord;
use super::run::section;
use super::text::{count, duration, percent, rough, scaled};
use crate::report::plot::short;

/// The table of all runs, and one chart of their test accuracy.
pub fn sections(runs: &[RunRecord]) -> String {
    let mut table = Table::new(&[
        "run",
        "task",
        "seed",
        "outcome",
        "ticket epoch",
        "test accuracy",
        "channels",
        "FLOPs per image",
        "training FLOPs, modelled",
        "seconds, measured",
    ]);
    let row = |run: &RunRecord| {
        let summary = &run.summary;
        let unknown = || "".to_string();
        let after = summary.after.unwrap_or(summary.before);
        vec![
            run.name.clone(),
            summary.task.clone(),
            summary.seed.to_string(),
            summary.outcome.clone(),
            summary.ticket_epoch.map_or_else(unknown, short),
            summary.accuracy.last.map_or_else(unknown, percent),
            format!(
                "{} ({})",
                count(after.bn_channels as u64),
                rough(after.bn_channels as f64 / summary.before.bn_channels.max(1) as f64)
            ),
            scaled(after.flops as f64),
            run.flops().map_or_else(unknown, |flops| scaled(flops.search + flops.train)),
            duration(summary.seconds.total()),
        ]
    };
    table.rows = runs.iter().map(row).collect();
    let line = |(i, run): (usize, &RunRecord)| {
        let mut points: Vec<(f64, f64)> = run.rows.iter().map(|row| (row.epoch, row.test_accuracy)).collect();
        // Where the search went on for other ratios, the rows of the ticket begin before its end.
        let cut = run.summary.ticket_epoch.filter(|_| run.summary.after.is_some());
        let search = run.rows.iter().filter(|row| row.phase == "search").count();
        let mut number = 0;
        points.retain(|point| {
            number += 1;
            number > search || cut.is_none_or(|cut| point.0 <= cut)
        });
        Line { label: run.name.clone(), points, spread: Vec::new(), style: i % STYLES }
    };
    let chart = Lines {
        title: "Test accuracy".into(),
        note: "Search and training on, in one line for each run.".into(),
        x: "epochs trained".into(),
        y: "accuracy".into(),
        unit: Unit::Percent,
        lines: runs.iter().enumerate().map(line).collect(),
        marks: Vec::new(),
        levels: Vec::new(),
        from_zero: false,
    };
    let mut figure = chart.figure();
    figure.wide = true;
    let figures = if chart.is_empty() { Vec::new() } else { vec![figure] };
    format!(
        "<section><h2>Comparison</h2>{}</section>{}",
        table.html("All runs"),
        section("Accuracy of all runs", "", &figures)
    )
}
