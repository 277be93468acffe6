//! A run's state between two batches, and its form as a checkpoint file.
//!
//! What was computed goes into the checkpoint, what was measured (seconds) into `clock.json` beside it: equal runs leave equal checkpoints, byte for byte.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::file::TicketInfo;
use super::mask::Mask;
use super::run::{EpochReport, Run};
use super::surgery::LayerPlan;
use crate::autograd::StateDict;
use crate::graph::Graph;
use crate::ops::Metrics;
use crate::train::checkpoint::{AVERAGE, Checkpoint, join, split, take, under};
use crate::train::{Average, Position};
use crate::{Error, Result, fsio};

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
    /// Test metrics of the averaged weights, at the end of a run that averages.
    #[serde(default)]
    pub averaged: Option<Metrics>,
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
            averaged: None,
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
    /// Averaged weights so far.
    pub average: Option<Average>,
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
    /// Epochs in the averaged weights.
    #[serde(default)]
    averaged: usize,
}

const RUN_KEY: &str = "earlybird.run";
const VERSION: u32 = 1;
/// Name of the file of measured times, beside the checkpoint.
const CLOCK: &str = "clock.json";

/// The part of [`Progress`] that is measured.
#[derive(Default, Serialize, Deserialize)]
struct Clock {
    seconds: Seconds,
    epoch_seconds: f64,
    /// Per row of the history: seconds of training and of evaluation, and when it was made.
    rows: Vec<[f64; 3]>,
}

impl Clock {
    /// Takes the times out of `progress`.
    fn take(progress: &mut Progress) -> Clock {
        let take = |row: &mut EpochReport| {
            [&mut row.train_seconds, &mut row.test_seconds, &mut row.finished].map(std::mem::take)
        };
        Clock {
            seconds: std::mem::take(&mut progress.seconds),
            epoch_seconds: std::mem::take(&mut progress.epoch_seconds),
            rows: progress.history.iter_mut().map(take).collect(),
        }
    }

    /// Puts them back. A kill between the two writes leaves a clock that is one epoch ahead: its extra row is dropped.
    ///
    /// # Errors
    /// Says what is wrong where rows are missing.
    fn put(self, progress: &mut Progress) -> std::result::Result<(), String> {
        if self.rows.len() < progress.history.len() {
            return Err(format!("has {} rows, the run has {}", self.rows.len(), progress.history.len()));
        }
        for (row, [train, test, finished]) in progress.history.iter_mut().zip(self.rows) {
            (row.train_seconds, row.test_seconds, row.finished) = (train, test, finished);
        }
        (progress.seconds, progress.epoch_seconds) = (self.seconds, self.epoch_seconds);
        Ok(())
    }
}

impl Run {
    /// Everything needed to go on from here.
    ///
    /// # Errors
    /// [`Error::NotFinite`] where a weight or momentum is no number any more: what was stored before is the last good state.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let session = self.trainer.session();
        let (state, momenta) = (session.state_dict()?, session.momenta()?);
        if !state.values().chain(momenta.values()).all(|tensor| tensor.data.iter().all(|v| v.is_finite())) {
            return Err(self.trainer.not_finite("a weight"));
        }
        Ok(Snapshot {
            graph: (**session.graph()).clone(),
            state,
            momenta,
            average: self.average.clone(),
            progress: self.progress.clone(),
            position: self.trainer.position(),
            metrics: self.trainer.metrics(),
            step: session.steps(),
            masks: self.detectors.iter().map(|detector| detector.masks().cloned().collect()).collect(),
        })
    }
}

impl Snapshot {
    /// Writes `state.safetensors` atomically, after `clock.json` beside it.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut progress = self.progress.clone();
        let clock = Clock::take(&mut progress);
        let json = serde_json::to_string(&clock)
            .map_err(|e| Error::bad_file(path, None, e.to_string(), "this is a defect, please report it"))?;
        fsio::write_atomic(&path.with_file_name(CLOCK), json.as_bytes())?;
        let mut tensors = join(self.state.clone(), self.momenta.clone());
        tensors.extend(self.average.iter().flat_map(|average| under(AVERAGE, average.state.clone())));
        let mut file = Checkpoint::new(&self.graph, tensors)?;
        let hex = |mask: &Mask| mask.words().iter().map(|word| format!("{word:016x}")).collect::<String>();
        let header = Header {
            version: VERSION,
            progress,
            position: self.position,
            metrics: self.metrics,
            step: self.step,
            masks: self.masks.iter().map(|masks| masks.iter().map(hex).collect()).collect(),
            channels: self.masks.iter().flatten().next().map_or(0, Mask::len),
            averaged: self.average.as_ref().map_or(0, |average| average.epochs),
        };
        file.put(RUN_KEY, &header)?;
        file.save(path)
    }

    /// Reads `state.safetensors` and the `clock.json` beside it.
    ///
    /// # Errors
    /// [`Error::BadFile`] where one of them is no such file, of another version, or damaged.
    pub fn load(path: &Path) -> Result<Snapshot> {
        let file = Checkpoint::load(path)?;
        let bad = |what: &str| Error::bad_file(path, None, what, "start the run again in another folder");
        let mut header: Header = file.get(RUN_KEY, path)?;
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
        let clock_path = path.with_file_name(CLOCK);
        let text = std::fs::read_to_string(&clock_path).map_err(|e| Error::io("read", &clock_path, e))?;
        let clock: std::result::Result<Clock, String> = serde_json::from_str(&text).map_err(|e| e.to_string());
        clock.and_then(|clock| clock.put(&mut header.progress)).map_err(|what| {
            Error::bad_file(&clock_path, None, what, "take an intact copy, or start the run again in another folder")
        })?;
        let (average, tensors) = take(AVERAGE, file.tensors);
        let (state, momenta) = split(tensors);
        Ok(Snapshot {
            graph,
            state,
            momenta,
            average: (header.averaged > 0).then_some(Average { epochs: header.averaged, state: average }),
            progress: header.progress,
            position: header.position,
            metrics: header.metrics,
            step: header.step,
            masks,
        })
    }
}
