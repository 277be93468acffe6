//! A study's plots as SVG.

use std::path::Path;

use crate::Result;
use crate::report::plot::{Curve, Curves};
use crate::report::study::Study;
use crate::ticket::ratio_label;

/// Writes `accuracy-pXX.svg` for every ratio: test accuracy over epochs by method (mean over seeds), or over the drawing epoch in `existence`.
pub fn save(study: &Study, folder: &Path) -> Result<()> {
    for ratio in &study.ratios {
        let label = ratio_label(*ratio);
        let existence = study.kind == super::Kind::Existence.name();
        let curves = if existence { drawn(study, *ratio) } else { courses(study, *ratio) };
        if curves.iter().all(|curve| curve.points.is_empty()) {
            continue;
        }
        Curves {
            title: format!("Test accuracy, {label}: {} x{} on {}", study.model, study.width, study.data),
            x: if existence { "epochs before the draw".into() } else { "epochs trained".into() },
            y: "accuracy, %, mean over seeds".into(),
            curves,
            marks: Vec::new(),
            threshold: None,
            top: Some(100.0),
        }
        .save(&folder.join(format!("accuracy-{label}.svg")))?;
    }
    Ok(())
}

/// Accuracy against the drawing epoch; dense and random are lines across.
fn drawn(study: &Study, ratio: f64) -> Vec<Curve> {
    let percent = |mean: Option<f64>| mean.map(|mean| 100.0 * mean);
    let of = |method: &'static str| study.statistics.iter().filter(move |row| row.method == method);
    let mut curves = Vec::new();
    let points = of("drawn").filter(|row| row.ratio == Some(ratio));
    let points = points.filter_map(|row| Some((row.drawn_epoch?, percent(row.accuracy_mean)?))).collect();
    curves.push(Curve { label: "drawn".into(), points });
    for method in ["dense", "random"] {
        let row = of(method).find(|row| row.ratio.is_none_or(|r| r == ratio));
        if let Some(mean) = row.and_then(|row| percent(row.accuracy_mean)) {
            curves.push(Curve { label: method.into(), points: vec![(0.0, mean), (study.epochs as f64, mean)] });
        }
    }
    curves
}

/// Every method's course, mean over seeds at each epoch.
fn courses(study: &Study, ratio: f64) -> Vec<Curve> {
    let mut curves = Vec::new();
    for method in &study.methods {
        let runs: Vec<_> = study
            .curves
            .iter()
            .filter(|curve| curve.method == method.name && curve.ratio.is_none_or(|r| r == ratio))
            .collect();
        let mut sums: Vec<(f64, f64, usize)> = Vec::new();
        // A method that trains twice shows its last training.
        for run in &runs {
            let start = run.points.windows(2).rposition(|pair| pair[1].epoch < pair[0].epoch).map_or(0, |i| i + 1);
            for point in &run.points[start..] {
                match sums.iter_mut().find(|sum| sum.0 == point.epoch) {
                    Some(sum) => (sum.1, sum.2) = (sum.1 + point.test_accuracy, sum.2 + 1),
                    None => sums.push((point.epoch, point.test_accuracy, 1)),
                }
            }
        }
        sums.retain(|sum| sum.2 == runs.len());
        sums.sort_by(|a, b| a.0.total_cmp(&b.0));
        let points = sums.iter().map(|(epoch, sum, n)| (*epoch, 100.0 * sum / *n as f64)).collect::<Vec<_>>();
        if !points.is_empty() {
            curves.push(Curve { label: method.name.clone(), points });
        }
    }
    curves
}
