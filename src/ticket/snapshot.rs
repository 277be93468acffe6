//! A run's state between two batches, and its form as a checkpoint file.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::file::TicketInfo;
use super::mask::Mask;
use super::run::{EpochReport, Run};
use super::surgery::LayerPlan;
use crate::autograd::StateDict;
use crate::graph::Graph;
use crate::ops::Metrics;
use crate::train::Position;
use crate::train::checkpoint::{Checkpoint, join, split};
use crate::{Error, Result};

/// Which part of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Dense, until the ticket emerges.
    Search,
    /// The ticket (or the dense twin), to the end.
    Train,
}

impl Phase {
    /// As in files: `search`, `train`.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Search => "search",
            Phase::Train => "train",
        }
    }
}

/// One watched ratio.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Watched {
    /// Share of channels to prune.
    pub ratio: f64,
    /// Its ticket, once it has emerged.
    pub ticket: Option<TicketInfo>,
    /// The distances judged at the last draw, newest first.
    pub last: Vec<f64>,
}

/// Seconds measured per phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seconds {
    /// Training steps of the search.
    pub search: f64,
    /// Mask draws.
    pub draw: f64,
    /// Surgery.
    pub surgery: f64,
    /// Training steps after the ticket.
    pub train: f64,
    /// Evaluations.
    pub evaluate: f64,
}

/// How far a run is, apart from tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Current phase.
    pub phase: Phase,
    /// Watched ratios.
    pub watched: Vec<Watched>,
    /// Mask draws so far.
    pub draws: usize,
    /// Distances of the last draw.
    pub distances: Vec<Option<f64>>,
    /// Thresholds of the last draw.
    pub thresholds: Vec<Option<f32>>,
    /// Rows so far.
    pub history: Vec<EpochReport>,
    /// What surgery did, once it has.
    pub layers: Option<Vec<LayerPlan>>,
    /// Test metrics right after surgery.
    pub after_surgery: Option<Metrics>,
    /// Seconds so far.
    pub seconds: Seconds,
    /// Seconds of training in the current epoch.
    pub epoch_seconds: f64,
}

impl Progress {
    pub(super) fn new(phase: Phase, watched: Vec<Watched>) -> Progress {
        Progress {
            phase,
            distances: vec![None; watched.len()],
            thresholds: vec![None; watched.len()],
            watched,
            draws: 0,
            history: Vec::new(),
            layers: None,
            after_surgery: None,
            seconds: Seconds::default(),
            epoch_seconds: 0.0,
        }
    }
}

/// Everything needed to go on.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The network as it is now, dense or pruned.
    pub graph: Graph,
    /// Parameters and running statistics.
    pub state: StateDict,
    /// Momenta.
    pub momenta: StateDict,
    /// How far it is.
    pub progress: Progress,
    /// Place in the run.
    pub position: Position,
    /// Sums over the epoch so far.
    pub metrics: Metrics,
    /// Optimiser steps taken.
    pub step: u64,
    /// Masks that each detector remembers, oldest first.
    pub masks: Vec<Vec<Mask>>,
}

/// The part of a snapshot that is text.
#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    progress: Progress,
    position: Position,
    metrics: Metrics,
    step: u64,
    masks: Vec<Vec<String>>,
    channels: usize,
}

const RUN_KEY: &str = "earlybird.run";
const VERSION: u32 = 1;

impl Run {
    /// Everything needed to go on from here.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let session = self.trainer.session();
        Ok(Snapshot {
            graph: (**session.graph()).clone(),
            state: session.state_dict()?,
            momenta: session.momenta()?,
            progress: self.progress.clone(),
            position: self.trainer.position(),
            metrics: self.trainer.metrics(),
            step: session.steps(),
            masks: self.detectors.iter().map(|detector| detector.masks().cloned().collect()).collect(),
        })
    }
}

impl Snapshot {
    /// Writes `state.safetensors` atomically.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut file = Checkpoint::new(&self.graph, join(self.state.clone(), self.momenta.clone()))?;
        let hex = |mask: &Mask| mask.words().iter().map(|word| format!("{word:016x}")).collect::<String>();
        let header = Header {
            version: VERSION,
            progress: self.progress.clone(),
            position: self.position,
            metrics: self.metrics,
            step: self.step,
            masks: self.masks.iter().map(|masks| masks.iter().map(hex).collect()).collect(),
            channels: self.masks.iter().flatten().next().map_or(0, Mask::len),
        };
        file.put(RUN_KEY, &header)?;
        file.save(path)
    }

    /// Reads `state.safetensors`.
    ///
    /// # Errors
    /// [`Error::BadFile`] where it is no such file, of another version, or damaged.
    pub fn load(path: &Path) -> Result<Snapshot> {
        let file = Checkpoint::load(path)?;
        let bad = |what: &str| Error::bad_file(path, None, what, "start the run again in another folder");
        let header: Header = file.get(RUN_KEY, path)?;
        if header.version != VERSION {
            return Err(bad(&format!("is of version {}, this program reads {VERSION}", header.version)));
        }
        let graph = file.graph(path)?.ok_or_else(|| bad("carries no network"))?;
        let mask = |hex: &String| -> Result<Mask> {
            let words = hex.as_bytes().chunks(16).map(|chunk| std::str::from_utf8(chunk).ok());
            let words = words.map(|text| text.and_then(|text| u64::from_str_radix(text, 16).ok()));
            let words = words.collect::<Option<Vec<u64>>>().ok_or_else(|| bad("holds an unreadable mask"))?;
            Mask::from_words(words, header.channels)
        };
        let masks: Vec<Vec<Mask>> =
            header.masks.iter().map(|masks| masks.iter().map(mask).collect()).collect::<Result<_>>()?;
        let ratios = header.progress.watched.len();
        if masks.len() != ratios
            || header.progress.distances.len() != ratios
            || header.progress.thresholds.len() != ratios
        {
            return Err(bad("disagrees with itself about the number of ratios"));
        }
        let (state, momenta) = split(file.tensors);
        Ok(Snapshot {
            graph,
            state,
            momenta,
            progress: header.progress,
            position: header.position,
            metrics: header.metrics,
            step: header.step,
            masks,
        })
    }
}
