//! The page about a study: claims and whether they reproduce, methods side by side, existence, distances, overlaps, energy.

use super::dots::{self, Dot};
use super::energy::{self, Entry};
use super::figure::{Figure, Table};
use super::heat::{self, Matrix};
use super::lines::{Line, Lines, STYLES, Unit};
use super::run::{section, verdict_html};
use super::text::{duration, escape, percent, rough, scaled, significant};
use super::verdict::{Tone, Verdict};
use crate::energy::KWH;
use crate::report::plot::short;
use crate::report::study::{Statistic, Study, mean_and_spread};
use crate::ticket::ratio_label;

/// The body of the page.
pub fn sections(study: &Study) -> String {
    let mut out = verdict_html(&verdict(study));
    out += &checks(study);
    out += &methods(study);
    out += &section("Accuracy", "Mean over seeds; the bar is one standard deviation to each side.", &accuracy(study));
    let lead = "Test accuracy of tickets that were drawn after so many epochs and then trained on.";
    out += &section("When do tickets exist?", lead, &existence(study));
    out += &section("How the masks settled", "Share of channels on which two masks differ.", &distances(study));
    out += &overlaps(study);
    out += &section("What it cost", "Modelled and measured numbers stand in charts of their own.", &cost(study));
    out += &section("How it learned", "One seed; every run's own report is in its folder.", &curves(study));
    out + &settings(study)
}

/// The method's title for readers.
fn title<'a>(study: &'a Study, name: &'a str) -> &'a str {
    study.methods.iter().find(|method| method.name == name).map_or(name, |method| method.title.as_str())
}

fn verdict(study: &Study) -> Verdict {
    let failed = study.checks.iter().any(|check| check.met == Some(false));
    let tested = study.checks.iter().any(|check| check.met.is_some());
    let (tone, badge) = match (study.complete, failed, tested) {
        (false, ..) => (Tone::Open, "Not finished"),
        (true, true, _) => (Tone::Bad, "Not every claim reproduces"),
        (true, false, true) => (Tone::Good, "Claims reproduce"),
        (true, false, false) => (Tone::Open, "Nothing to judge by"),
    };
    let planned = study.results.len();
    let done = study.results.iter().filter(|row| row.status == "done").count();
    let first = study.verdict.first().cloned();
    let sentence =
        first.unwrap_or_else(|| format!("{done} of {planned} runs of this study are done; it has no verdict yet."));
    Verdict { tone, badge: badge.into(), sentence, notes: Vec::new() }
}

fn checks(study: &Study) -> String {
    if study.checks.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["claim", "ratio", "came out", "target", "result"]);
    for check in &study.checks {
        let number =
            |value: Option<f64>| value.map_or(String::new(), |v| format!("{} {}", significant(v, 3), check.unit));
        let result = match check.met {
            Some(true) => "✓ reproduces",
            Some(false) => "✕ does not",
            None => "○ not tested",
        };
        let ratio = check.ratio.map_or(String::new(), rough);
        let row = vec![check.claim.clone(), ratio, number(check.value), number(check.target), result.into()];
        if !table.rows.contains(&row) {
            table.rows.push(row); // variants that could not be tested are told apart in the sentences below
        }
    }
    let sentences: String = study.verdict.iter().skip(1).map(|text| format!("<li>{}</li>", escape(text))).collect();
    let sentences = match sentences.is_empty() {
        true => String::new(),
        false => format!("<details><summary>In sentences</summary><ul>{sentences}</ul></details>"),
    };
    format!(
        "<section><h2>Claims</h2>{}{sentences}</section>",
        table.html("Claims of the paper, and what came out here")
    )
}

/// `99.15% ± 0.49`.
fn mean(mean: Option<f64>, std: Option<f64>, show: &dyn Fn(f64) -> String) -> String {
    match (mean, std) {
        (Some(mean), Some(std)) if std > 0.0 => format!("{} ± {}", show(mean), show(std)),
        (Some(mean), _) => show(mean),
        (None, _) => String::new(),
    }
}

fn methods(study: &Study) -> String {
    let mut table = Table::new(&[
        "method",
        "ratio",
        "drawn at",
        "runs",
        "test accuracy",
        "ticket epoch",
        "training FLOPs, modelled",
        "joules, modelled",
        "seconds, measured",
    ]);
    for row in study.statistics.iter().filter(|row| row.runs > 0) {
        table.rows.push(vec![
            title(study, &row.method).into(),
            row.ratio.map_or(String::new(), rough),
            row.drawn_epoch.map_or(String::new(), short),
            row.runs.to_string(),
            mean(row.accuracy_mean, row.accuracy_std, &percent),
            mean(row.ticket_epoch_mean, row.ticket_epoch_std, &|v| significant(v, 3)),
            mean(row.training_flops_mean, row.training_flops_std, &scaled),
            mean(row.joules_modelled_mean, row.joules_modelled_std, &|v| significant(v, 3)),
            mean(row.seconds_mean, row.seconds_std, &|v| significant(v, 3)),
        ]);
    }
    if table.rows.is_empty() {
        return String::new();
    }
    let note = format!("Mean ± one standard deviation over seeds. Modelled joules: profile {}.", study.profile);
    table.note = Some(note);
    let about = study.methods.iter().map(|m| format!("<dt>{}</dt><dd>{}</dd>", escape(&m.title), escape(&m.about)));
    let about: String = about.collect();
    let mut missing: Vec<String> = Vec::new();
    for row in study.results.iter().filter(|row| row.status != "done") {
        let line = format!("{}: {}", title(study, &row.method), row.reason.as_deref().unwrap_or(&row.status));
        if !missing.contains(&line) {
            missing.push(line);
        }
    }
    let missing: String = missing.iter().map(|line| format!("<p class=\"note\">{}</p>", escape(line))).collect();
    format!(
        "<section><h2>Methods</h2>{}{missing}<details><summary>What each method does</summary><dl class=\"about\">{about}</dl></details></section>",
        table.html("Methods side by side")
    )
}

/// Statistics of one ratio, those of methods without a ratio first.
fn of_ratio(study: &Study, ratio: f64) -> impl Iterator<Item = &Statistic> {
    study.statistics.iter().filter(move |row| row.ratio.is_none_or(|r| r == ratio))
}

fn accuracy(study: &Study) -> Vec<Figure> {
    let mut all = Vec::new();
    for ratio in study.ratios.iter().filter(|_| matches!(study.kind.as_str(), "compare")) {
        let dot = |row: &Statistic| {
            Some(Dot {
                label: title(study, &row.method).into(),
                mean: row.accuracy_mean?,
                spread: row.accuracy_std,
                runs: row.runs,
            })
        };
        let dots: Vec<Dot> = of_ratio(study, *ratio).filter_map(dot).collect();
        if !dots.is_empty() {
            let title = format!("Test accuracy, {} of the channels pruned", rough(*ratio));
            all.push(dots::figure(&title, "The axis does not begin at 0.", &dots));
        }
    }
    all
}

fn existence(study: &Study) -> Vec<Figure> {
    let mut lines: Vec<Line> = Vec::new();
    let mut levels = Vec::new();
    for row in &study.statistics {
        let Some(accuracy) = row.accuracy_mean else { continue };
        let label = match row.ratio {
            Some(ratio) => format!("{}, {}", title(study, &row.method), rough(ratio)),
            None => title(study, &row.method).to_string(),
        };
        match row.drawn_epoch {
            Some(epoch) => {
                let at = lines.iter().position(|line| line.label == label).unwrap_or_else(|| {
                    lines.push(Line { label, style: lines.len() % STYLES, ..Line::default() });
                    lines.len() - 1
                });
                lines[at].points.push((epoch, accuracy));
                lines[at].spread.push(row.accuracy_std.unwrap_or(0.0));
            }
            None if study.kind == "existence" => levels.push((accuracy, format!("{label}: {}", percent(accuracy)))),
            None => {}
        }
    }
    if lines.is_empty() {
        return Vec::new();
    }
    for line in &mut lines {
        let mut both: Vec<_> = line.points.iter().copied().zip(line.spread.iter().copied()).collect();
        both.sort_by(|a, b| a.0.0.total_cmp(&b.0.0));
        (line.points, line.spread) = both.into_iter().unzip();
    }
    let chart = Lines {
        title: "Accuracy against the drawing epoch".into(),
        note: "Whiskers: one standard deviation over seeds. Dashed levels: what needs no drawing epoch.".into(),
        x: "epoch at which the ticket was drawn".into(),
        y: "test accuracy after training on".into(),
        unit: Unit::Percent,
        lines,
        marks: Vec::new(),
        levels: Vec::new(),
        from_zero: false,
    };
    // Levels that lie close together would cover each other's words: they are lines of their own.
    let reach = chart
        .lines
        .iter()
        .flat_map(|line| line.points.iter().map(|p| p.0))
        .fold((f64::INFINITY, 0.0f64), |r, x| (r.0.min(x), r.1.max(x)));
    let mut chart = chart;
    for (value, word) in levels {
        let style = chart.lines.len() % STYLES;
        chart.lines.push(Line {
            label: word,
            points: vec![(reach.0, value), (reach.1, value)],
            spread: Vec::new(),
            style,
        });
    }
    vec![chart.figure()]
}

fn distances(study: &Study) -> Vec<Figure> {
    let mut all = Vec::new();
    if matches!(study.kind.as_str(), "distance" | "learning-rate" | "precision") {
        for ratio in &study.ratios {
            let label = ratio_label(*ratio);
            let mut lines: Vec<Line> = Vec::new();
            for curve in &study.curves {
                let points: Vec<(f64, f64)> =
                    curve.points.iter().filter_map(|p| Some((p.epoch, *p.distances.get(&label)?))).collect();
                if !points.is_empty() && lines.len() < STYLES {
                    let name = format!("{}, seed {}", title(study, &curve.method), curve.seed);
                    lines.push(Line { label: name, points, spread: Vec::new(), style: lines.len() });
                }
            }
            let eps = study.settings.get("eps").and_then(|eps| eps.as_f64());
            let chart = Lines {
                title: format!("Distance to the mask one epoch earlier, {label}"),
                note: String::new(),
                x: "epochs trained".into(),
                y: "mask distance".into(),
                unit: Unit::Plain,
                lines,
                marks: Vec::new(),
                levels: eps.map(|eps| (eps, format!("threshold {}", significant(eps, 3)))).into_iter().collect(),
                from_zero: true,
            };
            if !chart.is_empty() {
                all.push(chart.figure());
            }
        }
    }
    for matrix in &study.matrices {
        let wanted: Vec<usize> =
            matrix.epochs.iter().position(|epoch| Some(*epoch) == matrix.emerged).into_iter().collect();
        let shown = heat::chosen(matrix.epochs.len().min(matrix.distances.len()), &wanted);
        let cell = |i: usize, j: usize| matrix.distances.get(i).and_then(|row| row.get(j)).copied().unwrap_or(f64::NAN);
        let chart = Matrix {
            label: format!("{}-s{}", ratio_label(matrix.ratio), matrix.seed),
            epochs: shown.iter().map(|i| matrix.epochs[*i]).collect(),
            distances: shown.iter().map(|i| shown.iter().map(|j| cell(*i, *j)).collect()).collect(),
            ticket: matrix.emerged,
        };
        if chart.epochs.len() > 1 {
            all.push(chart.figure());
        }
    }
    all
}

fn overlaps(study: &Study) -> String {
    if study.overlaps.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["ticket", "and ticket", "ratio", "distance", "overlap of kept channels (Jaccard)"]);
    for pair in &study.overlaps {
        let numbers = [pair.distance, pair.jaccard].map(|v| significant(v, 3));
        let [distance, jaccard] = numbers;
        table.rows.push(vec![pair.a.clone(), pair.b.clone(), rough(pair.ratio), distance, jaccard]);
    }
    format!("<section><h2>How much tickets overlap</h2>{}</section>", table.html("Tickets in pairs"))
}

fn cost(study: &Study) -> Vec<Figure> {
    let seeds = study.seeds.len().max(1) as f64;
    let mut all = Vec::new();
    for ratio in &study.ratios {
        let here = |r: Option<f64>| r.is_none_or(|r| r == *ratio);
        let drawn: Vec<&Statistic> =
            of_ratio(study, *ratio).filter(|row| row.drawn_epoch.is_none() && row.runs > 0).collect();
        let mut bars: Vec<String> = Vec::new();
        for row in &drawn {
            bars.push(title(study, &row.method).to_string());
        }
        let runs = |method: &str| drawn.iter().find(|row| row.method == method).map_or(seeds, |row| row.runs as f64);
        let pruned = format!("{} pruned", rough(*ratio));
        let flops: Vec<Entry> = drawn
            .iter()
            .map(|row| (title(study, &row.method).into(), "train".into(), row.training_flops_mean))
            .collect();
        if let Some(mut figure) = energy::by_phase(
            &format!("Training FLOPs, modelled, {pruned}"),
            "Mean over seeds: 3 x forward operations x images x epochs, over everything the method needs.",
            "TFLOPs",
            &bars,
            &flops.into_iter().map(|(b, p, v)| (b, p, v.map(|v| v / 1e12))).collect::<Vec<_>>(),
        ) {
            figure.legend.clear();
            all.push(figure);
        }
        let modelled = study.energy_modelled.iter().filter(|row| here(row.ratio) && row.profile == study.profile);
        let joules: Vec<Entry> = modelled
            .filter(|row| row.precision != "eb8")
            .map(|row| (title(study, &row.method).into(), row.phase.clone(), Some(row.joules / runs(&row.method))))
            .collect();
        let note = format!("Mean over seeds; profile {}; eb8 as if an 8-bit device executed it.", study.profile);
        all.extend(energy::by_phase(&format!("Energy, modelled, {pruned}"), &note, "J", &bars, &joules));
        let measured = study.energy_measured.iter().filter(|row| here(row.ratio)).filter_map(|row| {
            let method = row.method.as_deref()?;
            let value = row.energy_consumed.map(|kwh| kwh * KWH / runs(method));
            Some((title(study, method).to_string(), row.phase.clone(), value))
        });
        let measured: Vec<Entry> = measured.collect();
        all.extend(energy::by_phase(&format!("Energy, measured, {pruned}"), "Mean over seeds.", "J", &bars, &measured));
        let mut seconds: Vec<Entry> = Vec::new();
        for row in &drawn {
            let of = study.results.iter().filter(|r| r.method == row.method && here(r.ratio) && r.status == "done");
            let of: Vec<_> = of.collect();
            for (phase, value) in [
                ("search", of.iter().filter_map(|r| r.seconds_search).collect::<Vec<_>>()),
                ("draw", of.iter().filter_map(|r| r.seconds_draw).collect()),
                ("surgery", of.iter().filter_map(|r| r.seconds_surgery).collect()),
                ("train", of.iter().filter_map(|r| r.seconds_train).collect()),
                ("evaluation", of.iter().filter_map(|r| r.seconds_evaluate).collect()),
            ] {
                seconds.push((title(study, &row.method).into(), phase.into(), mean_and_spread(&value).0));
            }
        }
        let note = format!("Mean over seeds, wall-clock time on {}.", study.device);
        all.extend(energy::by_phase(&format!("Seconds, measured, {pruned}"), &note, "s", &bars, &seconds));
    }
    if study.energy_measured.iter().all(|row| row.energy_consumed.is_none()) {
        energy::unmeasured(&mut all, study.energy_measured.iter().map(|row| row.unavailable.as_deref()));
    }
    all
}

fn curves(study: &Study) -> Vec<Figure> {
    if study.kind == "existence" {
        return Vec::new();
    }
    let Some(seed) = study.seeds.first() else { return Vec::new() };
    let mut all = Vec::new();
    for ratio in &study.ratios {
        let mut lines: Vec<Line> = Vec::new();
        for curve in study.curves.iter().filter(|c| c.seed == *seed && c.ratio.is_none_or(|r| r == *ratio)) {
            let style = lines.len() % STYLES;
            let mut part = |phase: &str| {
                let points = curve.points.iter().filter(|p| p.phase == phase).map(|p| (p.epoch, p.test_accuracy));
                let points: Vec<(f64, f64)> = points.collect();
                if !points.is_empty() {
                    lines.push(Line { label: title(study, &curve.method).into(), points, spread: Vec::new(), style });
                }
            };
            part("search");
            part("train");
        }
        let chart = Lines {
            title: format!("Test accuracy, {} pruned, seed {seed}", rough(*ratio)),
            note: String::new(),
            x: "epochs trained".into(),
            y: "accuracy".into(),
            unit: Unit::Percent,
            lines,
            marks: Vec::new(),
            levels: Vec::new(),
            from_zero: false,
        };
        if !chart.is_empty() {
            all.push(chart.figure());
        }
    }
    all
}

fn settings(study: &Study) -> String {
    let mut what = Table::new(&["", ""]);
    let list = |values: Vec<String>| values.join(", ");
    let seconds: f64 = study.results.iter().filter_map(|row| row.seconds).sum();
    for (name, value) in [
        ("study", study.kind.clone()),
        ("model", format!("{} x{}", study.model, study.width)),
        ("data", study.data.clone()),
        ("device", study.device.clone()),
        ("epochs", study.epochs.to_string()),
        ("seeds", list(study.seeds.iter().map(u64::to_string).collect())),
        ("ratios", list(study.ratios.iter().map(|r| rough(*r)).collect())),
        ("time of all methods, shared runs counted in each", duration(seconds)),
        ("earlybird", study.program.clone()),
    ] {
        what.rows.push(vec![name.into(), value]);
    }
    let mut given = Table::new(&["setting", "value"]);
    for (key, value) in study.settings.as_object().into_iter().flatten() {
        let value = match (value.as_str(), value.as_f64()) {
            (Some(text), _) => text.to_string(),
            // A setting that is an f32 in the program reads as what was given, not as its nearest f64.
            (None, Some(number)) if f64::from(number as f32) == number => (number as f32).to_string(),
            _ => value.to_string(),
        };
        given.rows.push(vec![key.clone(), value]);
    }
    let mut sources = Table::new(&["constant", "profile", "value", "source"]);
    for row in &study.sources {
        let value = format!("{} {}", significant(row.value, 4), row.unit);
        sources.rows.push(vec![row.constant.clone(), row.profile.clone(), value, row.source.clone()]);
    }
    let mut out = format!(
        "<section><h2>Settings and versions</h2><div class=\"figures\"><div class=\"boxed\">{}</div>",
        what.html("What ran")
    );
    if !given.rows.is_empty() {
        out += &format!(
            "<div class=\"boxed\"><details open><summary>All settings</summary>{}</details></div>",
            given.html("All settings")
        );
    }
    out += "</div>";
    if !sources.rows.is_empty() {
        out += &format!(
            "<details><summary>Constants of the energy model and their sources</summary>{}</details>",
            sources.html("Constants of the energy model")
        );
    }
    out + "</section>"
}
