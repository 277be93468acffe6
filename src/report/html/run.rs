//! The sections about one run: key figures, curves, masks, channels, cost, settings.

use super::bars::{Bar, Bars, Part};
use super::cost::cost;
use super::figure::{Figure, Table};
use super::lines::{Line, Lines, Unit};
use super::record::RunRecord;
use super::text::{count, duration, escape, percent, plural, rough, scaled};
use super::verdict::{Tone, Verdict, verdict};
use crate::report::Row;
use crate::report::plot::short;

/// Everything about `run`; `twin` is the same network trained dense. `level` is that of the heading.
pub fn sections(run: &RunRecord, twin: Option<&RunRecord>) -> String {
    let mut out = verdict_html(&verdict(run, twin));
    out += &key_figures(run, twin);
    let mut figures = curves(run, twin);
    out += &section("How it learned", "", &std::mem::take(&mut figures));
    out += &section(
        "How the masks settled",
        "After every epoch a mask is drawn over all batchnorm scales. The ticket has emerged when masks one epoch apart stay closer than the threshold.",
        &masks(run),
    );
    out += &section("What was cut", "", &channels(run).into_iter().collect::<Vec<_>>());
    out += &section("What it cost", "Modelled and measured numbers stand in charts of their own.", &cost(run, twin));
    out + &settings(run)
}

/// A section with figures; nothing where there are none.
pub fn section(title: &str, lead: &str, figures: &[Figure]) -> String {
    if figures.is_empty() {
        return String::new();
    }
    let lead = if lead.is_empty() { String::new() } else { format!("<p class=\"lead\">{}</p>", escape(lead)) };
    let figures: String = figures.iter().map(Figure::html).collect();
    format!("<section><h2>{}</h2>{lead}<div class=\"figures\">{figures}</div></section>", escape(title))
}

/// Badge, sentence and notes.
pub fn verdict_html(verdict: &Verdict) -> String {
    let (class, sign) = match verdict.tone {
        Tone::Good => ("good", "✓"),
        Tone::Open => ("open", "○"),
        Tone::Bad => ("bad", "✕"),
    };
    let mut out = format!(
        "<section class=\"verdict {class}\"><p class=\"badge\"><span aria-hidden=\"true\">{sign}</span> {}</p><p class=\"sentence\">{}</p>",
        escape(&verdict.badge),
        escape(&verdict.sentence)
    );
    verdict.notes.iter().for_each(|note| out += &format!("<p class=\"note\">{}</p>", escape(note)));
    out + "</section>"
}

fn key_figures(run: &RunRecord, twin: Option<&RunRecord>) -> String {
    let summary = &run.summary;
    let mut cards: Vec<[String; 3]> = Vec::new();
    let mut card = |value: String, label: &str, below: String| cards.push([value, label.into(), below]);
    if let Some(last) = summary.accuracy.last {
        let below = match (twin.and_then(|t| t.summary.accuracy.last), summary.accuracy.best) {
            (Some(dense), _) => format!("dense twin {}", percent(dense)),
            (None, Some(best)) => format!("best epoch {}", percent(best)),
            _ => String::new(),
        };
        card(percent(last), "test accuracy", below);
    }
    if let Some(averaged) = summary.accuracy.averaged {
        let from = format!("from epoch {}", run.setting("swa_start").unwrap_or("?"));
        card(percent(averaged), "test accuracy, averaged weights", from);
    }
    if let Some(epoch) = summary.ticket_epoch {
        card(short(epoch), "epochs to the ticket", format!("of {}", run.setting("epochs").unwrap_or("?")));
    }
    if let Some(after) = summary.after {
        let before = summary.before;
        let part = |after: f64, before: f64| rough(after / before.max(1.0));
        card(
            count(after.bn_channels as u64),
            "channels",
            format!(
                "{} of {}",
                part(after.bn_channels as f64, before.bn_channels as f64),
                count(before.bn_channels as u64)
            ),
        );
        card(
            scaled(after.parameters as f64),
            "parameters",
            format!(
                "{} of {}",
                part(after.parameters as f64, before.parameters as f64),
                scaled(before.parameters as f64)
            ),
        );
        card(
            scaled(after.flops as f64),
            "FLOPs per image",
            format!("{} of {}", part(after.flops as f64, before.flops as f64), scaled(before.flops as f64)),
        );
    } else {
        card(
            scaled(summary.before.parameters as f64),
            "parameters",
            plural(summary.before.bn_channels, "channel", "channels"),
        );
        card(scaled(summary.before.flops as f64), "FLOPs per image", "forward, counted".into());
    }
    let seconds = summary.seconds.total();
    if seconds > 0.0 {
        card(duration(seconds), "wall-clock time", format!("measured on {}", summary.device));
    }
    let html = |[value, label, below]: &[String; 3]| {
        format!("<div><dt>{}</dt><dd>{}</dd><dd>{}</dd></div>", escape(label), escape(value), escape(below))
    };
    format!("<dl class=\"cards\">{}</dl>", cards.iter().map(html).collect::<String>())
}

/// One value of the rows of one phase.
pub(super) fn line(
    run: &RunRecord,
    phase: &str,
    label: &str,
    style: usize,
    value: &dyn Fn(&Row) -> f64,
) -> Option<Line> {
    let rows = run.rows.iter().filter(|row| row.phase == phase);
    let points: Vec<(f64, f64)> = rows.map(|row| (row.epoch, value(row))).collect();
    (!points.is_empty()).then(|| Line { label: label.into(), points, spread: Vec::new(), style })
}

fn curves(run: &RunRecord, twin: Option<&RunRecord>) -> Vec<Figure> {
    let after = if run.summary.task == "dense" { "dense" } else { "ticket" };
    let mut marks: Vec<(f64, String)> = Vec::new();
    if let (Some(epoch), Some(_)) = (run.summary.ticket_epoch, run.summary.after) {
        marks.push((epoch, format!("cut, epoch {}", short(epoch))));
    }
    let chart = |title: &str, y: &str, unit, from_zero, lines: Vec<Option<Line>>| Lines {
        title: title.into(),
        note: String::new(),
        x: "epochs trained".into(),
        y: y.into(),
        unit,
        lines: lines.into_iter().flatten().collect(),
        marks: marks.clone(),
        levels: Vec::new(),
        from_zero,
    };
    let twin_line =
        |value: &dyn Fn(&Row) -> f64| twin.and_then(|twin| line(twin, "train", "test, dense twin", 2, value));
    let accuracy = chart(
        "Accuracy",
        "accuracy",
        Unit::Percent,
        false,
        vec![
            line(run, "search", "training", 6, &|row| row.train_accuracy),
            line(run, "train", "training", 6, &|row| row.train_accuracy),
            twin_line(&|row| row.test_accuracy),
            line(run, "search", "test, search (dense)", 0, &|row| row.test_accuracy),
            line(run, "train", &format!("test, {after}"), 1, &|row| row.test_accuracy),
        ],
    );
    let loss = chart(
        "Loss",
        "mean cross-entropy, nats",
        Unit::Plain,
        true,
        vec![
            line(run, "search", "training", 6, &|row| row.train_loss),
            line(run, "train", "training", 6, &|row| row.train_loss),
            twin_line(&|row| row.test_loss),
            line(run, "search", "test, search (dense)", 0, &|row| row.test_loss),
            line(run, "train", &format!("test, {after}"), 1, &|row| row.test_loss),
        ],
    );
    // The end of the curves decides, and is flat in the whole picture.
    let middle = run.rows.iter().map(|row| row.epoch).fold(0.0, f64::max) / 2.0;
    let mut end = accuracy.clone();
    end.title = "Test accuracy, second half".into();
    end.lines.retain(|line| line.label != "training");
    end.marks.retain(|mark| mark.0 > middle);
    end.lines.iter_mut().for_each(|line| line.points.retain(|point| point.0 > middle));
    end.lines.retain(|line| !line.points.is_empty());
    let mut all = vec![accuracy];
    if end.lines.iter().map(|line| line.points.len()).max().unwrap_or(0) >= 4 {
        all.push(end);
    }
    all.push(loss);
    all.into_iter().filter(|chart| !chart.is_empty()).map(|chart| chart.figure()).collect()
}

fn masks(run: &RunRecord) -> Vec<Figure> {
    let points = |i: usize| -> Vec<(f64, f64)> {
        let rows = run.rows.iter().filter(|row| row.phase == "search");
        rows.filter_map(|row| Some((row.epoch, (*row.distances.get(i)?)?))).collect()
    };
    let line =
        |(i, label): (usize, &String)| Line { label: label.clone(), points: points(i), spread: Vec::new(), style: i };
    let mut lines: Vec<Line> = run.labels.iter().enumerate().map(line).collect();
    lines.retain(|line| !line.points.is_empty());
    // Tickets of one epoch share a line and its word.
    let mut tickets: Vec<(f64, String)> = Vec::new();
    for ticket in &run.summary.tickets {
        let (Some(epoch), label) = (ticket.epoch, crate::ticket::ratio_label(ticket.ratio)) else { continue };
        match tickets.iter_mut().find(|(other, _)| *other == epoch) {
            Some((_, word)) => *word = format!("{word}, {label}"),
            None => tickets.push((epoch, format!("ticket {label}"))),
        }
    }
    let tickets = tickets.into_iter().map(|(epoch, word)| (epoch, format!("{word}: epoch {}", short(epoch))));
    let chart = Lines {
        title: "Distance to the mask one epoch earlier".into(),
        note: "Share of channels whose fate changed within an epoch.".into(),
        x: "epochs trained".into(),
        y: "mask distance".into(),
        unit: Unit::Plain,
        lines,
        marks: tickets.collect(),
        levels: run.number("eps").map(|eps| (eps, format!("threshold {eps}"))).into_iter().collect(),
        from_zero: true,
    };
    let mut all: Vec<Figure> = if chart.is_empty() { Vec::new() } else { vec![chart.figure()] };
    all.extend(run.matrices.iter().filter(|matrix| matrix.epochs.len() > 1).map(|matrix| matrix.figure()));
    all
}

fn channels(run: &RunRecord) -> Option<Figure> {
    let layers = &run.summary.layers;
    if layers.is_empty() {
        return None;
    }
    let saved = layers.iter().any(|layer| layer.saved);
    let bar = |layer: &crate::report::LayerSize| Bar {
        label: layer.layer.clone(),
        parts: vec![
            Part {
                class: if layer.saved { "s1" } else { "s0" }.into(),
                value: layer.kept as f64,
                tip: format!("{}: {} of {} channels kept", layer.layer, layer.kept, layer.before),
            },
            Part {
                class: "rest".into(),
                value: layer.before.saturating_sub(layer.kept) as f64,
                tip: format!(
                    "{}: {} of {} channels removed",
                    layer.layer,
                    layer.before.saturating_sub(layer.kept),
                    layer.before
                ),
            },
        ],
        word: format!("{} of {}", layer.kept, layer.before),
        spread: None,
    };
    let mut table = Table::new(&["layer", "channels before", "kept", "share kept"]);
    let row = |layer: &crate::report::LayerSize| {
        let share = rough(layer.kept as f64 / layer.before.max(1) as f64);
        vec![layer.layer.clone(), layer.before.to_string(), layer.kept.to_string(), share]
    };
    table.rows = layers.iter().map(row).collect();
    let mut legend = vec![("s0".to_string(), "kept".to_string()), ("rest".into(), "removed".into())];
    if saved {
        legend.insert(1, ("s1".into(), "kept only to leave the layer some channel".into()));
    }
    let title = if run.summary.after.is_some() {
        "Channels kept per layer"
    } else {
        "Channels that the first ticket would keep"
    };
    let bars = Bars {
        title: title.into(),
        note: "From the network's input (top) to its output.".into(),
        legend,
        bars: layers.iter().map(bar).collect(),
        table,
    };
    Some(bars.figure())
}

fn settings(run: &RunRecord) -> String {
    let summary = &run.summary;
    let mut what = Table::new(&["", ""]);
    let mut add = |name: &str, value: String| what.rows.push(vec![name.into(), value]);
    add("run", run.name.clone());
    add("task", summary.task.clone());
    add("outcome", summary.outcome.clone());
    add("model", run.model());
    let images = summary.images.map_or(String::new(), |i| {
        format!(" ({} training, {} test images)", count(i.train as u64), count(i.test as u64))
    });
    add("data", format!("{}{images}", summary.data));
    add("device", summary.device.clone());
    add("precision, search and after", format!("{}, {}", summary.search_precision, summary.train_precision));
    add("seed", summary.seed.to_string());
    add("epochs, optimiser steps", format!("{}, {}", short(summary.epochs), count(summary.steps)));
    add("earlybird", summary.version.clone());
    let mut given = Table::new(&["setting", "value"]);
    given.rows = run.settings.iter().map(|(key, value)| vec![key.clone(), value.clone()]).collect();
    let mut out = format!(
        "<section><h2>Settings and versions</h2><div class=\"figures\"><div class=\"boxed\">{}</div>",
        what.html("What ran")
    );
    if !given.rows.is_empty() {
        let hint = "earlybird train --config config.toml, with this run's file, repeats the run.";
        out += &format!(
            "<div class=\"boxed\"><details open><summary>All settings</summary>{}<p class=\"note\">{hint}</p></details></div>",
            given.html("All settings")
        );
    }
    out + "</div></section>"
}
