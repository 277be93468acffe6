//! The training loop: a session fed by a loader, at a known place in the run.
//!
//! A [`Trainer`] advances batch by batch through epochs and can stop and go on anywhere: everything random is a function of (seed, epoch, index), so a place is two
//! numbers. Not here: when to draw masks or stop ([`crate::ticket::Run`]).

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Schedule;
use crate::autograd::Session;
use crate::data::{Augment, Dataset, Loader, LoaderOptions};
use crate::ops::Metrics;
use crate::{Error, Result};

/// How batches are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchOptions {
    /// Images per batch; the last of an epoch may be smaller.
    pub size: usize,
    /// A new order every epoch, or the order of the file.
    pub shuffle: bool,
    /// Random crops and flips.
    pub augment: Augment,
    /// Seed of order and augmentation.
    pub seed: u64,
}

impl BatchOptions {
    /// Checks the size.
    ///
    /// # Errors
    /// [`Error::BadSetting`] for 0 or more than 65536 images.
    pub fn check(&self) -> Result<()> {
        if self.size == 0 || self.size > 1 << 16 {
            let what = format!("{} images per batch are too few or too many", self.size);
            return Err(Error::bad_setting("--batch-size", what, "give 1 to 65536"));
        }
        Ok(())
    }
}

/// A place in a run: everything before it has been trained on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// Whole epochs done.
    pub epoch: usize,
    /// Batches of the next epoch done.
    pub batch: usize,
}

/// What is told after each batch.
#[derive(Clone, Copy, Debug)]
pub struct BatchEvent {
    /// Place behind this batch.
    pub position: Position,
    /// Batches in an epoch.
    pub batches: usize,
    /// Images in this batch.
    pub images: usize,
    /// Sums over the epoch so far.
    pub metrics: Metrics,
}

/// A session on its way through the data.
pub struct Trainer {
    session: Session,
    train: Loader,
    test: Loader,
    schedule: Schedule,
    position: Position,
    metrics: Metrics,
    limit: Option<u64>,
}

impl Trainer {
    /// At the start of a run.
    ///
    /// # Errors
    /// Where the data's images or classes do not fit the network, or the batch is empty.
    pub fn new(session: Session, data: &Arc<Dataset>, batch: BatchOptions, schedule: Schedule) -> Result<Trainer> {
        schedule.check()?;
        let (shape, set) = (session.graph().input_shape(), &data.train);
        if (shape.h, shape.w, shape.c) != (set.height, set.width, set.channels) {
            let what =
                format!("its images are {}x{}x{}, the network takes {shape}", set.height, set.width, set.channels);
            return Err(Error::bad_setting("--data", what, "use a model made for these images"));
        }
        if session.graph().classes() != data.classes {
            let what = format!("it has {} classes, the network {}", data.classes, session.graph().classes());
            return Err(Error::bad_setting("--data", what, "use the data set the model was made for"));
        }
        batch.check()?;
        let options = LoaderOptions {
            batch_size: batch.size,
            shuffle: batch.shuffle,
            augment: batch.augment,
            seed: batch.seed,
            ..LoaderOptions::default()
        };
        let test = LoaderOptions { shuffle: false, augment: Augment::none(), ..options };
        Ok(Trainer {
            train: Loader::train(data, options)?,
            test: Loader::test(data, test)?,
            session,
            schedule,
            position: Position::default(),
            metrics: Metrics::default(),
            limit: None,
        })
    }

    /// Continues at `position`, where `metrics` are the sums of the epoch so far.
    pub fn seek(&mut self, position: Position, metrics: Metrics) {
        self.position = position;
        self.metrics = metrics;
    }

    /// Never takes more than `steps` optimiser steps in all.
    pub fn limit_steps(&mut self, steps: Option<u64>) {
        self.limit = steps;
    }

    /// Whether the step limit is reached.
    pub fn exhausted(&self) -> bool {
        self.limit.is_some_and(|limit| self.session.steps() >= limit)
    }

    /// Where it stands.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Sums over the epoch so far.
    pub fn metrics(&self) -> Metrics {
        self.metrics
    }

    /// Batches in an epoch.
    pub fn batches(&self) -> usize {
        self.train.batches()
    }

    /// Learning rate of the epoch it is in.
    pub fn lr(&self) -> f32 {
        self.schedule.lr_at(self.position.epoch)
    }

    /// The session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The session, to change.
    pub fn session_mut(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Gives the session back.
    pub fn into_session(self) -> Session {
        self.session
    }

    /// Trains up to batch `until` of the current epoch (all of it at most), or to the step limit. Returns the time it took.
    ///
    /// # Errors
    /// [`Error::NotFinite`] at the first step whose loss is not finite.
    pub fn advance(&mut self, until: usize, each: &mut dyn FnMut(&BatchEvent) -> Result<()>) -> Result<Duration> {
        let start = Instant::now();
        let (lr, batches) = (self.lr(), self.batches());
        let left = self.limit.map_or(u64::MAX, |limit| limit.saturating_sub(self.session.steps()));
        let first = self.position.batch;
        let end = until.min(batches).min(first.saturating_add(usize::try_from(left).unwrap_or(usize::MAX)));
        for batch in self.train.epoch(self.position.epoch, first..end) {
            let batch = batch?;
            self.session.step(&batch.images, &batch.labels, lr)?;
            let sums = self.session.take_metrics()?;
            if !sums.loss_sum.is_finite() {
                return Err(self.not_finite("the loss"));
            }
            self.metrics.merge(&sums);
            self.position.batch += 1;
            let (position, metrics) = (self.position, self.metrics);
            each(&BatchEvent { position, batches, images: batch.labels.len(), metrics })?;
        }
        Ok(start.elapsed())
    }

    /// The error for a value that stopped being finite at the last step.
    pub fn not_finite(&self, what: &'static str) -> Error {
        let hint = "lower --lr, or start from other weights; the last good checkpoint is kept";
        let step = self.session.steps();
        Error::NotFinite { what, step, epoch: step.div_ceil(self.batches() as u64) as usize, hint: hint.into() }
    }

    /// Whether all batches of the epoch are done.
    pub fn epoch_done(&self) -> bool {
        self.position.batch >= self.batches()
    }

    /// Moves on to the next epoch and returns the sums of this one.
    pub fn next_epoch(&mut self) -> Metrics {
        self.position = Position { epoch: self.position.epoch + 1, batch: 0 };
        std::mem::take(&mut self.metrics)
    }

    /// Sums over the test set, with running statistics.
    pub fn evaluate(&mut self) -> Result<Metrics> {
        self.session.take_metrics()?;
        for batch in self.test.epoch(0, 0..self.test.batches()) {
            let batch = batch?;
            self.session.evaluate(&batch.images, &batch.labels)?;
        }
        self.session.take_metrics()
    }
}
