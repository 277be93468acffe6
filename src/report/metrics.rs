//! `metrics.csv`: one row per epoch, measured numbers only; an unknown is empty, never 0.

use std::path::{Path, PathBuf};

use crate::{Result, fsio};

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
        let mut text = String::from(
            "phase,epoch,lr,train_loss,train_accuracy,test_loss,test_accuracy,train_seconds,test_seconds,images_per_second",
        );
        for label in &self.labels {
            text += &format!(",mask_distance_{label},threshold_{label}");
        }
        text.push('\n');
        for row in rows {
            text += &format!(
                "{},{},{},{},{},{},{},{:.3},{:.3},{:.1}",
                row.phase,
                row.epoch,
                row.lr,
                row.train_loss,
                row.train_accuracy,
                row.test_loss,
                row.test_accuracy,
                row.train_seconds,
                row.test_seconds,
                row.images_per_second
            );
            for i in 0..self.labels.len() {
                let cell = |value: Option<String>| value.unwrap_or_default();
                let distance = row.distances.get(i).copied().flatten().map(|d| d.to_string());
                let threshold = row.thresholds.get(i).copied().flatten().map(|t| t.to_string());
                text += &format!(",{},{}", cell(distance), cell(threshold));
            }
            text.push('\n');
        }
        fsio::write_atomic(&self.path, text.as_bytes())
    }
}
