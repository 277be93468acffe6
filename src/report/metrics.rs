//! `metrics.csv`: one row per epoch, measured numbers only; an unknown is empty, never 0.

use std::path::{Path, PathBuf};

use super::table::Table;
use crate::{Error, Result, fsio};

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// `search` or `train`.
    pub phase: &'static str,
    /// Epochs trained.
    pub epoch: f64,
    /// Learning rate.
    pub lr: f32,
    /// Mean training loss.
    pub train_loss: f64,
    /// Training accuracy, 0 to 1.
    pub train_accuracy: f64,
    /// Mean test loss.
    pub test_loss: f64,
    /// Test accuracy, 0 to 1.
    pub test_accuracy: f64,
    /// Test images whose label is among the five likeliest classes, 0 to 1; `None` where there are no more than five.
    pub test_top5: Option<f64>,
    /// Seconds of training.
    pub train_seconds: f64,
    /// Seconds of evaluation.
    pub test_seconds: f64,
    /// Training images per second.
    pub images_per_second: f64,
    /// Mask distance per watched ratio.
    pub distances: Vec<Option<f64>>,
    /// Threshold per watched ratio.
    pub thresholds: Vec<Option<f32>>,
}

/// Columns that every run has; two more follow for each watched ratio.
const COLUMNS: [&str; 11] = [
    "phase",
    "epoch",
    "lr",
    "train_loss",
    "train_accuracy",
    "test_loss",
    "test_accuracy",
    "train_seconds",
    "test_seconds",
    "images_per_second",
    "test_top5",
];

/// The file.
pub struct MetricsCsv {
    path: PathBuf,
    labels: Vec<String>,
}

impl MetricsCsv {
    /// `labels` name the watched ratios, such as `p50`.
    pub fn new(path: &Path, labels: Vec<String>) -> MetricsCsv {
        MetricsCsv { path: path.into(), labels }
    }

    /// Writes the whole history anew, atomically: a run has a few hundred rows, and a kill can never leave half a line.
    pub fn write(&self, rows: &[Row]) -> Result<()> {
        let watched = self.labels.iter().flat_map(|l| [format!("mask_distance_{l}"), format!("threshold_{l}")]);
        let watched: Vec<String> = watched.collect();
        let mut table = Table::new(COLUMNS.into_iter().chain(watched.iter().map(String::as_str)))?;
        for row in rows {
            let mut cells = vec![
                row.phase.to_string(),
                row.epoch.to_string(),
                row.lr.to_string(),
                row.train_loss.to_string(),
                row.train_accuracy.to_string(),
                row.test_loss.to_string(),
                row.test_accuracy.to_string(),
                format!("{:.3}", row.train_seconds),
                format!("{:.3}", row.test_seconds),
                format!("{:.1}", row.images_per_second),
                row.test_top5.map(|share| share.to_string()).unwrap_or_default(),
            ];
            for i in 0..self.labels.len() {
                cells.push(row.distances.get(i).copied().flatten().map(|d| d.to_string()).unwrap_or_default());
                cells.push(row.thresholds.get(i).copied().flatten().map(|t| t.to_string()).unwrap_or_default());
            }
            table.row(cells)?;
        }
        fsio::write_atomic(&self.path, table.text()?.as_bytes())
    }

    /// Reads a file: the labels of the watched ratios, and the rows.
    ///
    /// # Errors
    /// [`Error::BadFile`] naming the line and column that is not as written.
    pub fn read(path: &Path) -> Result<(Vec<String>, Vec<Row>)> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io("read the metrics", path, e))?;
        let hint = "the run's other files do not need it; `earlybird train --resume` writes it anew";
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text.as_bytes());
        let unreadable = |e: csv::Error| Error::bad_file(path, None, e.to_string(), hint);
        let head = reader.headers().map_err(unreadable)?.clone();
        let labels: Vec<String> =
            head.iter().filter_map(|name| name.strip_prefix("mask_distance_")).map(Into::into).collect();
        let row = |cells: csv::Result<csv::StringRecord>| {
            let cells = cells.map_err(unreadable)?;
            let number = cells.position().map_or(0, csv::Position::line);
            let bad = |what: String| Error::bad_file(path, None, format!("line {number}: {what}"), hint);
            let cell = |name: &str| {
                let at = head.iter().position(|head| head == name);
                at.and_then(|at| cells.get(at)).ok_or_else(|| bad(format!("has no {name}")))
            };
            let value = |name: &str| {
                let text = cell(name)?;
                text.parse::<f64>().map_err(|_| bad(format!("{name} is no number: {text}")))
            };
            let unknown = |name: String| match cell(&name)? {
                "" => Ok(None),
                _ => value(&name).map(Some),
            };
            let distances = labels.iter().map(|label| unknown(format!("mask_distance_{label}")));
            let thresholds = labels.iter().map(|label| Ok(unknown(format!("threshold_{label}"))?.map(|t| t as f32)));
            Ok(Row {
                phase: if cell("phase")? == "search" { "search" } else { "train" },
                epoch: value("epoch")?,
                lr: value("lr")? as f32,
                train_loss: value("train_loss")?,
                train_accuracy: value("train_accuracy")?,
                test_loss: value("test_loss")?,
                test_accuracy: value("test_accuracy")?,
                // Runs from before there was this column have none.
                test_top5: if head.iter().any(|name| name == "test_top5") {
                    unknown("test_top5".into())?
                } else {
                    None
                },
                train_seconds: value("train_seconds")?,
                test_seconds: value("test_seconds")?,
                images_per_second: value("images_per_second")?,
                distances: distances.collect::<Result<_>>()?,
                thresholds: thresholds.collect::<Result<_>>()?,
            })
        };
        let rows = reader.records().map(row).collect::<Result<Vec<Row>>>()?;
        Ok((labels, rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_read_back_and_damage_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        let row = Row {
            phase: "search",
            epoch: 1.25,
            lr: 0.1,
            train_loss: 2.5,
            train_accuracy: 0.25,
            test_loss: 2.25,
            test_accuracy: 0.5,
            test_top5: Some(0.75),
            train_seconds: 1.5,
            test_seconds: 0.25,
            images_per_second: 100.5,
            distances: vec![Some(0.125), None],
            thresholds: vec![None, Some(0.5)],
        };
        MetricsCsv::new(&path, vec!["p50".into(), "p30".into()]).write(std::slice::from_ref(&row)).unwrap();
        assert_eq!(MetricsCsv::read(&path).unwrap(), (vec!["p50".into(), "p30".into()], vec![row]));
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("2.5", "many")).unwrap();
        let error = MetricsCsv::read(&path).unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("train_loss"), "{error}");
        std::fs::write(&path, "").unwrap();
        assert_eq!(MetricsCsv::read(&path).unwrap(), (vec![], vec![]));
    }
}
