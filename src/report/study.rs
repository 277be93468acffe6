//! A study's results as plain data, and their form as CSV and JSON. Unknown is empty, or null; measured and modelled numbers are in different rows and files.
//!
//! Not here: how results come about ([`crate::cli`]'s studies).

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::table::csv;
use super::{LayerSize, html};
use crate::{Error, Result, fsio};

/// Columns of `results.csv`.
pub const RESULTS: [&str; 22] = [
    "method",
    "ratio",
    "seed",
    "status",
    "reason",
    "accuracy",
    "best_accuracy",
    "ticket_epoch",
    "drawn_epoch",
    "epochs",
    "parameters",
    "flops_per_image",
    "training_flops",
    "seconds_search",
    "seconds_draw",
    "seconds_surgery",
    "seconds_train",
    "seconds_evaluate",
    "seconds",
    "search_precision",
    "train_precision",
    "run",
];
/// Columns of `statistics.csv`.
pub const STATISTICS: [&str; 16] = [
    "method",
    "ratio",
    "drawn_epoch",
    "runs",
    "accuracy_mean",
    "accuracy_std",
    "accuracy_min",
    "accuracy_max",
    "training_flops_mean",
    "training_flops_std",
    "joules_modelled_mean",
    "joules_modelled_std",
    "seconds_mean",
    "seconds_std",
    "ticket_epoch_mean",
    "ticket_epoch_std",
];
/// Columns of `energy-modelled.csv`.
pub const MODELLED: [&str; 15] = [
    "method",
    "ratio",
    "drawn_epoch",
    "seed",
    "phase",
    "precision",
    "profile",
    "macs",
    "elementwise_ops",
    "dram_bytes",
    "sram_bytes",
    "joules_arithmetic",
    "joules_dram",
    "joules_sram",
    "joules",
];
/// Columns of `energy.csv`: CodeCarbon's names and units (W, kWh, s), then ours.
pub const MEASURED: [&str; 20] = [
    "timestamp",
    "project_name",
    "run_id",
    "duration",
    "emissions",
    "emissions_rate",
    "cpu_power",
    "gpu_power",
    "ram_power",
    "cpu_energy",
    "gpu_energy",
    "ram_energy",
    "energy_consumed",
    "idle_power",
    "method",
    "ratio",
    "drawn_epoch",
    "seed",
    "phase",
    "unavailable",
];

/// One method, ratio and seed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // the columns above; accuracies 0 to 1, seconds measured
pub struct StudyResult {
    pub method: String,
    pub ratio: Option<f64>,
    pub seed: u64,
    /// `done`, `unavailable`, `no-ticket` or `failed`; `reason` says why.
    pub status: String,
    pub reason: Option<String>,
    pub accuracy: Option<f64>,
    pub best_accuracy: Option<f64>,
    /// Epochs trained when the ticket emerged by itself.
    pub ticket_epoch: Option<f64>,
    /// Epochs trained when a ticket was drawn on demand.
    pub drawn_epoch: Option<f64>,
    /// Epochs trained in all, over everything the method needs.
    pub epochs: Option<f64>,
    pub parameters: Option<usize>,
    pub flops_per_image: Option<u64>,
    pub training_flops: Option<f64>,
    pub seconds_search: Option<f64>,
    pub seconds_draw: Option<f64>,
    pub seconds_surgery: Option<f64>,
    pub seconds_train: Option<f64>,
    pub seconds_evaluate: Option<f64>,
    pub seconds: Option<f64>,
    pub search_precision: Option<String>,
    pub train_precision: Option<String>,
    pub run: Option<String>,
}

/// Mean and spread (sample standard deviation) over seeds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // the columns above
pub struct Statistic {
    pub method: String,
    pub ratio: Option<f64>,
    pub drawn_epoch: Option<f64>,
    pub runs: usize,
    pub accuracy_mean: Option<f64>,
    pub accuracy_std: Option<f64>,
    pub accuracy_min: Option<f64>,
    pub accuracy_max: Option<f64>,
    pub training_flops_mean: Option<f64>,
    pub training_flops_std: Option<f64>,
    pub joules_modelled_mean: Option<f64>,
    pub joules_modelled_std: Option<f64>,
    pub seconds_mean: Option<f64>,
    pub seconds_std: Option<f64>,
    pub ticket_epoch_mean: Option<f64>,
    pub ticket_epoch_std: Option<f64>,
}

/// Modelled energy of one phase.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // the columns above
pub struct ModelledRow {
    pub method: String,
    pub ratio: Option<f64>,
    pub drawn_epoch: Option<f64>,
    pub seed: u64,
    pub phase: String,
    pub precision: String,
    pub profile: String,
    pub macs: u64,
    pub elementwise_ops: u64,
    pub dram_bytes: u64,
    pub sram_bytes: u64,
    pub joules_arithmetic: f64,
    pub joules_dram: f64,
    pub joules_sram: f64,
    pub joules: f64,
}

/// Measured energy of one phase; powers in W, energies in kWh.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // the columns above
pub struct MeasuredRow {
    pub timestamp: String,
    pub project_name: String,
    pub run_id: String,
    pub duration: f64,
    pub emissions: Option<f64>,
    pub emissions_rate: Option<f64>,
    pub cpu_power: Option<f64>,
    pub gpu_power: Option<f64>,
    pub ram_power: Option<f64>,
    pub cpu_energy: Option<f64>,
    pub gpu_energy: Option<f64>,
    pub ram_energy: Option<f64>,
    pub energy_consumed: Option<f64>,
    pub idle_power: Option<f64>,
    pub method: Option<String>,
    pub ratio: Option<f64>,
    pub drawn_epoch: Option<f64>,
    pub seed: u64,
    pub phase: String,
    pub unavailable: Option<String>,
}

/// A claim and what the numbers say to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// In words joined by dashes.
    pub name: String,
    /// Of which ratio.
    pub ratio: Option<f64>,
    /// The claim.
    pub claim: String,
    /// What came out; null where it could not be found out.
    pub value: Option<f64>,
    /// Of `value` and `target`.
    pub unit: String,
    /// `value` must reach it.
    pub target: Option<f64>,
    /// Whether it does; null where the seeds do not tell, or it was not tested.
    pub met: Option<bool>,
    /// Why it was not tested.
    pub reason: Option<String>,
    /// The whole in a sentence.
    pub text: String,
}

/// A method for readers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct MethodInfo {
    pub name: String,
    pub title: String,
    pub about: String,
}

/// One epoch of a curve.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // as in metrics.csv
pub struct CurvePoint {
    pub epoch: f64,
    pub phase: String,
    pub test_accuracy: f64,
    pub train_loss: f64,
    /// By ratio label, where known.
    pub distances: BTreeMap<String, f64>,
}

/// A run's course.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct StudyCurve {
    pub method: String,
    pub ratio: Option<f64>,
    pub seed: u64,
    pub run: String,
    pub points: Vec<CurvePoint>,
}

/// What surgery left.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct StudyChannels {
    pub method: String,
    pub ratio: Option<f64>,
    pub seed: u64,
    pub layers: Vec<LayerSize>,
}

/// Pairwise mask distances of one search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Matrix {
    pub ratio: f64,
    pub seed: u64,
    pub epochs: Vec<f64>,
    pub distances: Vec<Vec<f64>>,
    /// Epoch at which the detector's rule holds for the first time.
    pub emerged: Option<f64>,
}

/// Two tickets beside each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Overlap {
    pub ratio: f64,
    pub a: String,
    pub b: String,
    /// Share of channels on which they differ.
    pub distance: f64,
    /// Channels that both keep, of those that either keeps.
    pub jaccard: f64,
}

/// A constant of the energy model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct SourceRow {
    pub profile: String,
    pub constant: String,
    pub value: f64,
    pub unit: String,
    pub source: String,
}

/// Everything of a study.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // named as in `study.json`
pub struct Study {
    pub version: u32,
    pub kind: String,
    /// Whether all its runs are done.
    pub complete: bool,
    pub program: String,
    pub device: String,
    pub data: String,
    pub model: String,
    pub width: f64,
    pub epochs: usize,
    pub seeds: Vec<u64>,
    pub ratios: Vec<f64>,
    pub settings: serde_json::Value,
    /// Profile of the energies in `statistics`.
    pub profile: String,
    pub verdict: Vec<String>,
    pub checks: Vec<Check>,
    pub methods: Vec<MethodInfo>,
    pub results: Vec<StudyResult>,
    pub statistics: Vec<Statistic>,
    pub energy_modelled: Vec<ModelledRow>,
    pub energy_measured: Vec<MeasuredRow>,
    pub curves: Vec<StudyCurve>,
    pub channels: Vec<StudyChannels>,
    pub matrices: Vec<Matrix>,
    pub overlaps: Vec<Overlap>,
    pub sources: Vec<SourceRow>,
}

impl Study {
    /// Writes `study.json`, the CSV files and `report.html` into `folder`, each atomically.
    pub fn save(&self, folder: &Path) -> Result<()> {
        fsio::write_atomic(&folder.join("results.csv"), csv(&RESULTS, &self.results)?.as_bytes())?;
        fsio::write_atomic(&folder.join("statistics.csv"), csv(&STATISTICS, &self.statistics)?.as_bytes())?;
        fsio::write_atomic(&folder.join("energy-modelled.csv"), csv(&MODELLED, &self.energy_modelled)?.as_bytes())?;
        fsio::write_atomic(&folder.join("energy.csv"), csv(&MEASURED, &self.energy_measured)?.as_bytes())?;
        let path = folder.join("study.json");
        let json = serde_json::to_string_pretty(self)
            .map_err(|e| Error::bad_file(&path, None, e.to_string(), "this is a defect, please report it"))?;
        fsio::write_atomic(&path, json.as_bytes())?;
        fsio::write_atomic(&folder.join(html::REPORT), html::study_page(self).as_bytes())
    }

    /// Reads `study.json`.
    pub fn load(folder: &Path) -> Result<Study> {
        let path = folder.join("study.json");
        let text = std::fs::read_to_string(&path).map_err(|e| Error::io("read the study", &path, e))?;
        let hint = "run the study again: finished runs are not repeated";
        serde_json::from_str(&text).map_err(|e| Error::bad_file(&path, None, e.to_string(), hint))
    }
}

/// Of a study's columns those that a run alone has, too.
pub fn of_a_run(columns: &[&'static str]) -> Vec<&'static str> {
    columns.iter().copied().filter(|column| !["method", "ratio", "drawn_epoch"].contains(column)).collect()
}

/// Mean and sample standard deviation; the latter of two values and more.
pub fn mean_and_spread(values: &[f64]) -> (Option<f64>, Option<f64>) {
    let n = values.len() as f64;
    if values.is_empty() {
        return (None, None);
    }
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (Some(mean), (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_is_a_field() {
        let has = |columns: &[&str], row: serde_json::Value| columns.iter().all(|c| row.get(c).is_some());
        assert!(has(&RESULTS, serde_json::to_value(StudyResult::default()).unwrap()));
        assert!(has(&STATISTICS, serde_json::to_value(Statistic::default()).unwrap()));
        assert!(has(&MODELLED, serde_json::to_value(ModelledRow::default()).unwrap()));
        assert!(has(&MEASURED, serde_json::to_value(MeasuredRow::default()).unwrap()));
    }

    #[test]
    fn the_spread_is_the_sample_standard_deviation() {
        assert_eq!(mean_and_spread(&[]), (None, None));
        assert_eq!(mean_and_spread(&[2.0]), (Some(2.0), None));
        assert_eq!(mean_and_spread(&[1.0, 2.0, 3.0]), (Some(2.0), Some(1.0)));
    }
}
