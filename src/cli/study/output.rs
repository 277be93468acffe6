//! Statistics over seeds, and the table that a study prints.

use std::collections::BTreeMap;

use super::super::account::AS_INT8;
use super::super::say;
use crate::energy::Numerics;
use crate::report::study::{Statistic, Study, StudyResult, mean_and_spread};
use crate::ticket::ratio_label;

/// Modelled joules of one method, ratio and seed in the study's profile: eb8 as if an 8-bit device executed it; with `as_int8`, f32 work as if it were executed in int8.
/// `None` where nothing was counted.
pub fn joules(study: &Study, result: &StudyResult, as_int8: bool) -> Option<f64> {
    let rows = study.energy_modelled.iter().filter(|row| {
        (&row.method, row.ratio, row.seed, row.drawn_epoch)
            == (&result.method, result.ratio, result.seed, result.drawn_epoch)
            && row.profile == study.profile
            && if as_int8 {
                row.precision == AS_INT8
            } else {
                ![AS_INT8, Numerics::Eb8.name()].contains(&row.precision.as_str())
            }
    });
    let all: Vec<f64> = rows.map(|row| row.joules).collect();
    (!all.is_empty()).then(|| all.iter().sum())
}

/// Order of a row in tables: the method's, then the ratio's, then the drawing epoch's.
fn place(study: &Study, row: &StudyResult) -> (usize, u64, u64) {
    let method = study.methods.iter().position(|method| method.name == row.method).unwrap_or(usize::MAX);
    let bits = |value: Option<f64>| value.map_or(0, f64::to_bits); // positive floats are ordered like their bits
    (method, bits(row.ratio), bits(row.drawn_epoch))
}

/// Recomputes `statistics` from `results`, and puts both in order.
pub fn statistics(study: &mut Study) {
    let mut results = std::mem::take(&mut study.results);
    results.sort_by_key(|row| (place(study, row), row.seed));
    let mut groups: BTreeMap<(usize, u64, u64), Vec<&StudyResult>> = BTreeMap::new();
    for row in &results {
        groups.entry(place(study, row)).or_default().push(row);
    }
    let mut statistics = Vec::new();
    for rows in groups.values() {
        let done: Vec<&&StudyResult> = rows.iter().filter(|row| row.status == "done").collect();
        let over = |value: &dyn Fn(&StudyResult) -> Option<f64>| {
            mean_and_spread(&done.iter().filter_map(|row| value(row)).collect::<Vec<_>>())
        };
        let accuracies: Vec<f64> = done.iter().filter_map(|row| row.accuracy).collect();
        let (accuracy_mean, accuracy_std) = mean_and_spread(&accuracies);
        let (training_flops_mean, training_flops_std) = over(&|row| row.training_flops);
        let (joules_modelled_mean, joules_modelled_std) = over(&|row| joules(study, row, false));
        let (seconds_mean, seconds_std) = over(&|row| row.seconds);
        let (ticket_epoch_mean, ticket_epoch_std) = over(&|row| row.ticket_epoch);
        statistics.push(Statistic {
            method: rows[0].method.clone(),
            ratio: rows[0].ratio,
            drawn_epoch: rows[0].drawn_epoch,
            runs: done.len(),
            accuracy_mean,
            accuracy_std,
            accuracy_min: accuracies.iter().copied().reduce(f64::min),
            accuracy_max: accuracies.iter().copied().reduce(f64::max),
            training_flops_mean,
            training_flops_std,
            joules_modelled_mean,
            joules_modelled_std,
            seconds_mean,
            seconds_std,
            ticket_epoch_mean,
            ticket_epoch_std,
        });
    }
    drop(groups);
    (study.results, study.statistics) = (results, statistics);
}

/// Prints the statistics.
pub fn print(study: &Study) {
    say(format_args!(
        "{:20} {:>6} {:>6} {:>5} {:>16} {:>12} {:>14} {:>12} {:>10}",
        "method", "ratio", "drawn", "runs", "accuracy %", "FLOPs", "modelled J", "measured s", "ticket at"
    ));
    for row in &study.statistics {
        let spread = |mean: Option<f64>, std: Option<f64>, digits: usize| match (mean, std) {
            (None, _) => "-".into(),
            (Some(mean), None) => format!("{mean:.digits$}"),
            (Some(mean), Some(std)) => format!("{mean:.digits$} +- {std:.digits$}"),
        };
        let percent = |value: Option<f64>| value.map(|value| 100.0 * value);
        say(format_args!(
            "{:20} {:>6} {:>6} {:>5} {:>16} {:>12} {:>14} {:>12} {:>10}",
            row.method,
            row.ratio.map_or("-".into(), ratio_label),
            row.drawn_epoch.map_or("-".into(), |epoch| epoch.to_string()),
            row.runs,
            spread(percent(row.accuracy_mean), percent(row.accuracy_std), 2),
            row.training_flops_mean.map_or("-".into(), |flops| format!("{flops:.3e}")),
            row.joules_modelled_mean.map_or("-".into(), |joules| format!("{joules:.4}")),
            row.seconds_mean.map_or("-".into(), |seconds| format!("{seconds:.1}")),
            row.ticket_epoch_mean.map_or("-".into(), |epoch| format!("{epoch:.1}")),
        ));
    }
    let mut told = Vec::new();
    for row in study.results.iter().filter(|row| row.status != "done") {
        let line = format!("{}: {}", row.method, row.reason.as_deref().unwrap_or(&row.status));
        if !told.contains(&line) {
            say(&line);
            told.push(line);
        }
    }
}
