//! What the report knows of one run: its summary, and the small files of its folder.
//!
//! Read from the files also while the run is under way, so that a report made later from the folder is the same. Not here: weights.

use std::collections::BTreeMap;
use std::path::Path;

use super::heat::{Matrix, chosen};
use crate::energy::flops;
use crate::report::table::maps;
use crate::report::{MaskLog, MetricsCsv, Row, Summary};
use crate::ticket::{Mask, ratio_label};
use crate::{Error, Result};

/// One run.
#[derive(Clone, Debug)]
pub struct RunRecord {
    /// The folder, as a person gave it.
    pub name: String,
    /// What it came to, or stands at.
    pub summary: Summary,
    /// Labels of the watched ratios.
    pub labels: Vec<String>,
    /// Rows of `metrics.csv`.
    pub rows: Vec<Row>,
    /// Distances between all drawn masks, by ratio.
    pub matrices: Vec<Matrix>,
    /// `config.toml`, key by key.
    pub settings: Vec<(String, String)>,
    /// Rows of `energy-modelled.csv`, by column; empty where there is none.
    pub modelled: Vec<BTreeMap<String, String>>,
    /// Rows of `energy.csv`, by column; empty where there is none.
    pub measured: Vec<BTreeMap<String, String>>,
}

/// Training operations, modelled: three times the forward operations (forward, and backward to activations and to weights), times images, times epochs
/// (early-bird.md 6.3). Evaluation and mask draws are left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainingFlops {
    /// Of the dense network, until the ticket was cut.
    pub search: f64,
    /// Of the network that was trained on.
    pub train: f64,
    /// Of the dense network, had it been trained for as many epochs as the run.
    pub dense: f64,
}

impl TrainingFlops {
    /// The share of the dense training that was saved; negative where it cost more.
    pub fn saved(&self) -> Option<f64> {
        (self.dense > 0.0).then(|| 1.0 - (self.search + self.train) / self.dense)
    }
}

impl RunRecord {
    /// Reads the files of the run in `folder`; `summary` is given because a run under way has not written it yet.
    ///
    /// # Errors
    /// [`Error::BadFile`] where a file is damaged. What is missing is left out of the report.
    pub fn read(folder: &Path, summary: Summary) -> Result<RunRecord> {
        let metrics = folder.join("metrics.csv");
        let (labels, rows) = if metrics.exists() { MetricsCsv::read(&metrics)? } else { (Vec::new(), Vec::new()) };
        let masks = folder.join("masks.bin");
        let matrices = if masks.exists() { matrices(&masks, &summary)? } else { Vec::new() };
        let config = folder.join("config.toml");
        let settings = if config.exists() { settings(&config)? } else { Vec::new() };
        // Written at the end of a run, and not by every version: what is not there is not shown.
        let energy =
            |name: &str| std::fs::read_to_string(folder.join(name)).map_or_else(|_| Vec::new(), |text| maps(&text));
        let (modelled, measured) = (energy("energy-modelled.csv"), energy("energy.csv"));
        Ok(RunRecord {
            name: folder.display().to_string(),
            summary,
            labels,
            rows,
            matrices,
            settings,
            modelled,
            measured,
        })
    }

    /// A setting by its key.
    pub fn setting(&self, key: &str) -> Option<&str> {
        self.settings.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// A setting that is a number.
    pub fn number(&self, key: &str) -> Option<f64> {
        self.setting(key)?.parse().ok()
    }

    /// Epochs that the dense network was trained for: more than the ticket's epoch where other ratios were waited for.
    pub fn search_epochs(&self) -> f64 {
        let rows = self.rows.iter().filter(|row| row.phase == "search").map(|row| row.epoch);
        rows.chain(self.summary.ticket_epoch).fold(0.0, f64::max)
    }

    /// Training operations, where the number of images is known.
    pub fn flops(&self) -> Option<TrainingFlops> {
        let summary = &self.summary;
        let images = summary.images?.train as u64;
        let cost = |flops: u64, epochs: f64| flops::training(flops, images, epochs.max(0.0));
        let dense = cost(summary.before.flops, summary.epochs);
        Some(match (summary.task.as_str(), summary.after, summary.ticket_epoch) {
            ("dense", ..) => TrainingFlops { search: 0.0, train: dense, dense },
            (_, Some(after), Some(ticket)) => TrainingFlops {
                search: cost(summary.before.flops, self.search_epochs()),
                train: cost(after.flops, summary.epochs - ticket),
                dense,
            },
            _ => TrainingFlops { search: dense, train: 0.0, dense },
        })
    }

    /// `vgg16 x0.25`.
    pub fn model(&self) -> String {
        let width = self.summary.width;
        if width == 1.0 { self.summary.model.clone() } else { format!("{} x{width}", self.summary.model) }
    }

    /// The last part of the data's path.
    pub fn data(&self) -> String {
        let name = Path::new(&self.summary.data).file_name();
        name.map_or_else(|| self.summary.data.clone(), |name| name.to_string_lossy().into_owned())
    }
}

fn settings(path: &Path) -> Result<Vec<(String, String)>> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io("read the settings", path, e))?;
    let table: toml::Table = toml::from_str(&text).map_err(|e| {
        Error::bad_file(path, None, e.to_string().trim_end().to_string(), "put the run's own file back")
    })?;
    let show = |value: toml::Value| match value {
        toml::Value::String(text) => text,
        other => other.to_string(),
    };
    Ok(table.into_iter().map(|(key, value)| (key, show(value))).collect())
}

fn matrices(path: &Path, summary: &Summary) -> Result<Vec<Matrix>> {
    let (log, records) = MaskLog::read(path)?;
    let mut all = Vec::new();
    for (number, ratio) in log.ratios().iter().enumerate() {
        let draws: Vec<_> = records.iter().filter(|record| record.ratio as usize == number).collect();
        let ticket = summary.tickets.iter().find(|t| t.ratio == *ratio).and_then(|t| t.epoch);
        let wanted: Vec<usize> = draws.iter().position(|draw| Some(draw.epoch) == ticket).into_iter().collect();
        let mut masks = Vec::new();
        for i in chosen(draws.len(), &wanted) {
            masks.push((draws[i].epoch, Mask::from_words(draws[i].words.clone(), log.channels())?));
        }
        let row = |mask: &Mask| masks.iter().map(|(_, other)| mask.distance(other)).collect::<Result<Vec<f64>>>();
        all.push(Matrix {
            label: ratio_label(*ratio),
            epochs: masks.iter().map(|(epoch, _)| *epoch).collect(),
            distances: masks.iter().map(|(_, mask)| row(mask)).collect::<Result<_>>()?,
            ticket,
        });
    }
    Ok(all)
}
