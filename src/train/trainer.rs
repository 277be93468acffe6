//! The training loop: a session fed with batches, at a known place in the run.
//!
//! A [`Trainer`] advances batch by batch through epochs and can stop and go on anywhere: everything random is a function of (seed, epoch, index), so a place is two
//! numbers. The device may be some steps ahead of what has been told: sums of steps are read a few at a time, in order. Not here: who makes batches ([`Feed`]), when to draw
//! masks or stop ([`crate::ticket::Run`]).

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Schedule;
use super::feed::{Feed, Source};
use crate::autograd::{Mode, Session};
use crate::data::{Augment, Dataset, Loader, LoaderOptions};
use crate::ops::Metrics;
use crate::{Error, Result};

/// Steps between two looks at their sums, where looking means to wait for the device: seldom enough that it always has work ahead, often enough that a loss which is no number
/// stops a run at once and progress is seen. Well below [`Session::LOG`].
const EVERY: usize = 8;

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
    pub(super) session: Session,
    train: Source,
    test: Source,
    /// Steps between two looks at their sums.
    every: usize,
    schedule: Schedule,
    pub(super) position: Position,
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
            train: Source::new(Loader::train(data, options)?),
            test: Source::new(Loader::test(data, test)?),
            // Reading waits for the device; where it works in the host's memory there is nothing to wait for.
            every: if session.backend().room()?.is_some() { EVERY } else { 1 },
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
        self.train.loader().batches()
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

    /// Has batches made by `feed`; the device where it has room, if nothing is said. Results do not depend on it.
    pub fn set_feed(&mut self, feed: Feed) {
        self.train.set_feed(feed);
        self.test.set_feed(feed);
    }

    /// Goes on with another session on the same device, for a network that takes the same images and has as many classes, from the start of the run; images that are on the
    /// device stay there.
    ///
    /// # Errors
    /// Where the network is another; the trainer keeps the session that it has.
    pub fn set_session(&mut self, mut session: Session) -> Result<()> {
        let (old, new) = (self.session.graph(), session.graph());
        if (old.input_shape(), old.classes()) != (new.input_shape(), new.classes()) {
            let what = format!("it takes {} and has {} classes", new.input_shape(), new.classes());
            return Err(Error::bad_setting("network", what, "go on with a network for the same data"));
        }
        self.train.follow(&mut session)?;
        self.test.follow(&mut session)?;
        self.session = session;
        self.seek(Position::default(), Metrics::default());
        Ok(())
    }

    /// Gives the session back.
    pub fn into_session(self) -> Session {
        self.session
    }

    /// Trains up to batch `until` of the current epoch (all of it at most), or to the step limit. Returns the time it took.
    ///
    /// `each` is told of every batch, in order. Where it says an error, what the device has done by then is counted but not told, so that the place is still that of the
    /// weights.
    ///
    /// # Errors
    /// [`Error::NotFinite`] at the first step whose loss is not finite; the first error of `each`.
    pub fn advance(&mut self, until: usize, each: &mut dyn FnMut(&BatchEvent) -> Result<()>) -> Result<Duration> {
        let start = Instant::now();
        let left = self.limit.map_or(u64::MAX, |limit| limit.saturating_sub(self.session.steps()));
        let first = self.position.batch;
        let end = until.min(self.batches()).min(first.saturating_add(usize::try_from(left).unwrap_or(usize::MAX)));
        if first < end {
            // Steps that somebody took past this trainer are none of this epoch's.
            if self.session.unread() > 0 {
                self.session.take_log()?;
            }
            let done = self.steps(first..end, each);
            // Steps before one that failed are told, too.
            let told = self.read(each);
            done.and(told)?;
        }
        Ok(start.elapsed())
    }

    /// Takes the steps of batches `numbers`.
    fn steps(&mut self, numbers: Range<usize>, each: &mut dyn FnMut(&BatchEvent) -> Result<()>) -> Result<()> {
        let (lr, epoch) = (self.lr(), self.position.epoch);
        let Some(feed) = self.train.on_device(&mut self.session, Mode::Train, epoch)? else {
            for batch in self.train.loader().epoch(epoch, numbers) {
                let batch = batch?;
                self.session.step(&batch.images, &batch.labels, lr)?;
                self.look(each)?;
            }
            return Ok(());
        };
        for number in numbers {
            self.session.step_from(feed, self.train.take(epoch, number), lr)?;
            self.look(each)?;
        }
        Ok(())
    }

    /// Reads the sums of steps if it is time to.
    fn look(&mut self, each: &mut dyn FnMut(&BatchEvent) -> Result<()>) -> Result<()> {
        if self.session.unread() < self.every { Ok(()) } else { self.read(each) }
    }

    /// Reads the sums of all steps since the last time, counts them and tells of them.
    fn read(&mut self, each: &mut dyn FnMut(&BatchEvent) -> Result<()>) -> Result<()> {
        let log = self.session.take_log()?;
        let before = self.session.steps() - log.len() as u64;
        let mut told = Ok(());
        for (sums, step) in log.iter().zip(before + 1..) {
            if !sums.loss_sum.is_finite() {
                told?;
                return Err(self.not_finite_at("the loss", step));
            }
            let images = self.train.loader().images(self.position.batch);
            self.metrics.merge(sums);
            self.position.batch += 1;
            if told.is_ok() {
                let (position, batches, metrics) = (self.position, self.batches(), self.metrics);
                told = each(&BatchEvent { position, batches, images, metrics });
            }
        }
        told
    }

    /// The error for a value that stopped being finite at the last step.
    pub fn not_finite(&self, what: &'static str) -> Error {
        self.not_finite_at(what, self.session.steps())
    }

    fn not_finite_at(&self, what: &'static str, step: u64) -> Error {
        let hint = "lower --lr, or start from other weights; the last good checkpoint is kept";
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

    /// What makes the batches of training and test set.
    pub(super) fn loaders(&self) -> (&Loader, &Loader) {
        (self.train.loader(), self.test.loader())
    }

    /// Sums over the test set, with running statistics.
    pub fn evaluate(&mut self) -> Result<Metrics> {
        let Some(feed) = self.test.on_device(&mut self.session, Mode::Evaluate, 0)? else {
            return evaluation(self.test.loader(), &mut self.session);
        };
        self.session.take_metrics()?;
        for number in 0..self.test.loader().batches() {
            self.session.evaluate_from(feed, self.test.take(0, number))?;
        }
        self.session.take_metrics()
    }
}

/// Sums of `session` over a test set, in batches of the host's.
pub(super) fn evaluation(test: &Loader, session: &mut Session) -> Result<Metrics> {
    session.take_metrics()?;
    for batch in test.epoch(0, 0..test.batches()) {
        let batch = batch?;
        session.evaluate(&batch.images, &batch.labels)?;
    }
    session.take_metrics()
}
