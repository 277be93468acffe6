//! `summary.json`: what a run came to, for scripts. Unknown is null.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::ticket::LayerPlan;
use crate::{Error, Result, fsio};

/// One watched ratio.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TicketSummary {
    /// Share of channels to prune.
    pub ratio: f64,
    /// Epochs trained when the ticket emerged; null if it did not.
    pub epoch: Option<f64>,
    /// Optimiser steps then.
    pub step: Option<u64>,
    /// Distances judged last, newest first.
    pub distances: Vec<f64>,
    /// Its file in the run folder.
    pub file: Option<String>,
}

/// Size of a network.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Size {
    /// Trained parameters.
    pub parameters: usize,
    /// BN channels.
    pub bn_channels: usize,
    /// Forward operations per image.
    pub flops: u64,
}

/// Test accuracies, 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// At the end of the search, dense.
    pub dense_at_ticket: Option<f64>,
    /// Right after surgery, before training on.
    pub after_surgery: Option<f64>,
    /// At the end.
    pub last: Option<f64>,
    /// The best epoch's.
    pub best: Option<f64>,
    /// Of the averaged weights, in runs that average.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub averaged: Option<f64>,
}

/// Channels of one BN layer, before and after surgery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerSize {
    /// Name of the layer.
    pub layer: String,
    /// Channels of the dense network.
    pub before: usize,
    /// Channels that stay.
    pub kept: usize,
    /// Whether the mask alone would have kept too few.
    pub saved: bool,
}

impl From<&LayerPlan> for LayerSize {
    fn from(plan: &LayerPlan) -> LayerSize {
        LayerSize { layer: plan.layer.clone(), before: plan.before, kept: plan.kept.len(), saved: plan.saved }
    }
}

/// Images of the data set.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Images {
    /// For training.
    pub train: usize,
    /// For testing.
    pub test: usize,
}

/// Seconds per phase, measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // the phases of a run
pub struct PhaseSeconds {
    pub search: f64,
    pub draw: f64,
    pub surgery: f64,
    pub train: f64,
    pub evaluate: f64,
}

impl PhaseSeconds {
    /// All phases together.
    pub fn total(&self) -> f64 {
        self.search + self.draw + self.surgery + self.train + self.evaluate
    }
}

/// The whole summary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// `trained`, `found`, `stopped` or `no-ticket`.
    pub outcome: String,
    /// `train`, `search` or `dense`.
    pub task: String,
    /// Model and its width.
    pub model: String,
    /// Width multiplier.
    pub width: f64,
    /// Data set.
    pub data: String,
    /// Device.
    pub device: String,
    /// Precision of the search.
    pub search_precision: String,
    /// Precision after the ticket.
    pub train_precision: String,
    /// Seed.
    pub seed: u64,
    /// Epochs trained in all.
    pub epochs: f64,
    /// Optimiser steps taken.
    pub steps: u64,
    /// Epoch of the ticket that was trained on; null if none emerged.
    pub ticket_epoch: Option<f64>,
    /// All watched ratios.
    pub tickets: Vec<TicketSummary>,
    /// Test accuracies.
    pub accuracy: Accuracy,
    /// Test loss at the end.
    pub test_loss: Option<f64>,
    /// The dense network.
    pub before: Size,
    /// The network that was trained on; null before surgery.
    pub after: Option<Size>,
    /// What surgery keeps of each BN layer; of a search, what the first ticket would keep. Empty without a ticket.
    #[serde(default)]
    pub layers: Vec<LayerSize>,
    /// Size of the data set; unknown in old files.
    #[serde(default)]
    pub images: Option<Images>,
    /// Seconds per phase.
    pub seconds: PhaseSeconds,
    /// Version of this program.
    pub version: String,
}

impl Summary {
    /// Writes the file atomically.
    pub fn save(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self)
            .map_err(|e| Error::bad_file(path, None, e.to_string(), "this is a defect, please report it"))?;
        fsio::write_atomic(path, json.as_bytes())
    }

    /// Reads the file.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be read, [`Error::BadFile`] where it is none.
    pub fn load(path: &Path) -> Result<Summary> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io("read the summary", path, e))?;
        let hint = "give a run folder that earlybird wrote";
        serde_json::from_str(&text).map_err(|e| Error::bad_file(path, None, e.to_string(), hint))
    }
}
