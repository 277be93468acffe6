//! A run: search dense, stop when the masks settle, cut, train on; interruptible between any two batches.
//!
//! [`Run`] is a state machine over a [`Trainer`]. It knows no files: an [`Observer`] is told of every epoch, draw and ticket, and of the points at which
//! [`Run::snapshot`] may be stored; [`Run::resume`] goes on from there to the same bits. Embedders implement [`Observer`] or use [`Quiet`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::detector::{Detector, DetectorOptions};
use super::file::{Ticket, TicketInfo, ratio_label};
use super::mask::{Cut, Mask, check_ratio};
use super::ring::Ring;
use super::snapshot::{Phase, Progress, Snapshot, Watched};
use super::surgery::{LayerPlan, SurgeryOptions};
use crate::autograd::{Hyper, Precision, Session, StateDict};
use crate::backend::Backend;
use crate::data::Dataset;
use crate::energy::Activity;
use crate::graph::Graph;
use crate::ops::Metrics;
use crate::train::{Average, BatchEvent, BatchOptions, Position, Schedule, Trainer};
use crate::{Error, Result, nn};

/// What the ticket starts to train from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// The weights, statistics and momenta at the draw (the paper's EB Train).
    Inherit,
    /// Fresh random weights in the ticket's shape.
    Reinit,
    /// The run's initial weights, cut to the ticket's shape (the lottery ticket's rewinding).
    Rewind,
}

impl std::str::FromStr for Start {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<Self, String> {
        match name {
            "inherit" => Ok(Start::Inherit),
            "reinit" => Ok(Start::Reinit),
            "rewind" => Ok(Start::Rewind),
            _ => Err(format!("there is no start `{name}`; choose inherit, reinit or rewind")),
        }
    }
}

/// What a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Search, cut, train on.
    Train,
    /// Search only.
    Search,
    /// Train the dense network, no masks: the twin to compare with.
    Dense,
}

/// Everything that decides what a run computes.
#[derive(Clone, Debug, PartialEq)]
pub struct RunOptions {
    /// What it does.
    pub task: Task,
    /// Ratios watched side by side; the first one's ticket is trained on.
    pub ratios: Vec<f64>,
    /// Detector constants.
    pub detector: DetectorOptions,
    /// The search gives up after this many epochs.
    pub search_epochs: usize,
    /// Epochs in all, search included.
    pub epochs: usize,
    /// Learning rate by absolute epoch.
    pub schedule: Schedule,
    /// Momentum, weight decay, L1.
    pub hyper: Hyper,
    /// How batches are made.
    pub batch: BatchOptions,
    /// What surgery leaves.
    pub surgery: SurgeryOptions,
    /// What the ticket starts from.
    pub start: Start,
    /// Stop after this many optimiser steps.
    pub steps: Option<u64>,
    /// Arithmetic of the search.
    pub search_precision: Precision,
    /// Arithmetic after the ticket, and of a dense run.
    pub train_precision: Precision,
    /// Average the weights after each epoch of training from this one on, counted from 0 over search and training.
    pub swa_start: Option<usize>,
}

impl RunOptions {
    /// Arithmetic of a phase.
    pub fn precision(&self, phase: Phase) -> Precision {
        match phase {
            Phase::Search => self.search_precision,
            Phase::Train => self.train_precision,
        }
    }

    /// A session for a phase of the run.
    fn session(&self, phase: Phase, graph: Arc<Graph>, backend: Arc<dyn Backend>) -> Result<Session> {
        Session::with_precision(graph, backend, self.hyper, self.precision(phase), self.batch.seed)
    }

    /// Checks everything that can be wrong without looking at data or network.
    pub fn check(&self) -> Result<()> {
        self.detector.check()?;
        self.schedule.check()?;
        self.batch.check()?;
        self.ratios.iter().try_for_each(|ratio| check_ratio(*ratio))?;
        // Files and columns are named by labels, of four decimals of a percent.
        let labels: std::collections::BTreeSet<String> = self.ratios.iter().map(|ratio| ratio_label(*ratio)).collect();
        let distinct = labels.len() == self.ratios.len();
        if self.task != Task::Dense && (self.ratios.is_empty() || self.ratios.len() > 64 || !distinct) {
            let what = format!("{:?} are not 1 to 64 different ratios", self.ratios);
            return Err(Error::bad_setting("--prune", what, "give shares to prune such as 0.3,0.5,0.7"));
        }
        for (name, epochs) in [("--epochs", self.epochs), ("--search-epochs", self.search_epochs)] {
            if epochs == 0 {
                return Err(Error::bad_setting(name, "0 epochs train nothing", "give at least 1"));
            }
        }
        self.surgery.check()?;
        if let Some(start) = self.swa_start {
            Run::check_average(start, self.epochs, self.task == Task::Search)?;
        }
        let usable = |v: f32| v.is_finite() && v >= 0.0;
        if !(usable(self.hyper.momentum)
            && self.hyper.momentum < 1.0
            && usable(self.hyper.weight_decay)
            && usable(self.hyper.l1))
        {
            let what = format!("{:?} has a negative or infinite constant, or a momentum of 1 or more", self.hyper);
            return Err(Error::bad_setting(
                "--momentum, --weight-decay, --l1",
                what,
                "the paper uses 0.9, 1e-4 and 1e-4",
            ));
        }
        Ok(())
    }
}

/// One row of the run's history.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct EpochReport {
    /// `search` or `train`.
    pub phase: Phase,
    /// Epochs trained when the row was made; fractional where a ticket emerged between epochs.
    pub epoch: f64,
    /// Learning rate of the epoch.
    pub lr: f32,
    /// Sums over the epoch's training batches.
    pub train: Metrics,
    /// Sums over the test set.
    pub test: Metrics,
    /// Seconds of training.
    pub train_seconds: f64,
    /// Seconds of evaluation.
    pub test_seconds: f64,
    /// When the row was made, in seconds since 1970.
    pub finished: f64,
    /// Distance to the mask one epoch earlier, per watched ratio; unknown in the first epoch and outside the search.
    pub distances: Vec<Option<f64>>,
    /// Threshold per watched ratio.
    pub thresholds: Vec<Option<f32>>,
}

/// One draw of masks.
#[derive(Clone, Debug)]
pub struct DrawReport<'a> {
    /// Draws before this one in the run.
    pub number: usize,
    /// Epochs trained.
    pub epoch: f64,
    /// Optimiser steps taken.
    pub step: u64,
    /// The cuts, one per watched ratio.
    pub cuts: &'a [Cut],
}

/// Is told what happens; every method but the first may stop the run by an error.
pub trait Observer {
    /// From here on the run does `activity`, or nothing that belongs to a phase.
    fn enter(&mut self, _activity: Option<Activity>) {}
    /// A batch was trained on.
    fn batch(&mut self, _phase: Phase, _event: &BatchEvent) -> Result<()> {
        Ok(())
    }
    /// Masks were drawn.
    fn draw(&mut self, _report: &DrawReport) -> Result<()> {
        Ok(())
    }
    /// A ticket emerged.
    fn ticket(&mut self, _ticket: &Ticket) -> Result<()> {
        Ok(())
    }
    /// The network is about to be cut so.
    fn plan(&mut self, _plan: &[LayerPlan], _before: &Graph, _after: &Graph) -> Result<()> {
        Ok(())
    }
    /// The network was cut; `before` and `after` are the networks, `accuracy` the test metrics right after.
    fn surgery(&mut self, _plan: &[LayerPlan], _before: &Graph, _after: &Graph, _test: &Metrics) -> Result<()> {
        Ok(())
    }
    /// An epoch ended.
    fn epoch(&mut self, _report: &EpochReport) -> Result<()> {
        Ok(())
    }
    /// A good moment to store `run.snapshot()`: the start, the end of an epoch or of a phase, or the step limit.
    fn checkpoint(&mut self, _run: &Run) -> Result<()> {
        Ok(())
    }
}

/// An observer that does nothing.
pub struct Quiet;
impl Observer for Quiet {}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// All epochs are done.
    Trained,
    /// All watched tickets have emerged (task [`Task::Search`]).
    Found,
    /// The step limit was reached.
    Stopped,
    /// The search reached its limit without the ticket(s) it was for: the ratios that did not settle, each with its last distances.
    NoTicket(Vec<(f64, Vec<f64>)>),
}

/// A run under way.
pub struct Run {
    pub(super) options: RunOptions,
    pub(super) data: Arc<Dataset>,
    pub(super) trainer: Trainer,
    pub(super) progress: Progress,
    pub(super) detectors: Vec<Detector>,
    /// Masks on the device: opened at the first draw, `Some(None)` where the host draws.
    pub(super) ring: Option<Option<Ring>>,
    pub(super) tickets: BTreeMap<usize, Ticket>,
    pub(super) initial: Option<StateDict>,
    pub(super) average: Option<Average>,
}

impl Run {
    /// A run from `state` (see [`nn::init`]) on.
    pub fn new(
        options: RunOptions,
        graph: Arc<Graph>,
        state: &StateDict,
        backend: Arc<dyn Backend>,
        data: Arc<Dataset>,
    ) -> Result<Run> {
        options.check()?;
        let phase = if options.task == Task::Dense { Phase::Train } else { Phase::Search };
        let mut session = options.session(phase, graph, backend)?;
        session.load_state(state)?;
        let mut trainer = Trainer::new(session, &data, options.batch, options.schedule.clone())?;
        trainer.limit_steps(options.steps);
        let watched = options.ratios.iter().map(|ratio| Watched { ratio: *ratio, ticket: None, last: Vec::new() });
        Ok(Run {
            progress: Progress::new(phase, watched.collect()),
            detectors: options.ratios.iter().map(|_| Detector::new(options.detector)).collect(),
            ring: None,
            tickets: BTreeMap::new(),
            initial: (options.start == Start::Rewind).then(|| state.clone()),
            average: None,
            data,
            trainer,
            options,
        })
    }

    /// A run that begins with a drawn ticket: it is cut at once, and [`Run::run`] trains on.
    pub fn from_ticket(
        options: RunOptions,
        ticket: Ticket,
        backend: Arc<dyn Backend>,
        data: Arc<Dataset>,
        observer: &mut dyn Observer,
    ) -> Result<Run> {
        let options = RunOptions { ratios: vec![ticket.info.ratio], task: Task::Train, ..options };
        let mut run = Run::new(options, Arc::new(ticket.graph.clone()), &ticket.state, backend, data)?;
        run.initial = None; // what the run started from is the ticket, not initial weights
        run.progress.watched[0].ticket = Some(ticket.info.clone());
        run.progress.watched[0].last = ticket.info.distances.clone();
        run.tickets.insert(0, ticket);
        run.cut(observer)?;
        observer.checkpoint(&run)?;
        Ok(run)
    }

    /// Goes on from a snapshot, with the options, data and device of the interrupted run. `tickets` are those it had drawn, `initial` its initial state (wanted
    /// for [`Start::Rewind`] only).
    pub fn resume(
        options: RunOptions,
        snapshot: Snapshot,
        tickets: Vec<Ticket>,
        initial: Option<StateDict>,
        backend: Arc<dyn Backend>,
        data: Arc<Dataset>,
    ) -> Result<Run> {
        options.check()?;
        let Snapshot { graph, state, momenta, average, progress, position, metrics, step, masks } = snapshot;
        if progress.watched.iter().map(|w| w.ratio).ne(options.ratios.iter().copied()) {
            let what = "the interrupted run watched other ratios";
            return Err(Error::bad_setting("--resume", what, "resume with the settings of the run folder"));
        }
        let mut session = options.session(progress.phase, Arc::new(graph), backend)?;
        session.load_state(&state)?;
        session.load_momenta(&momenta)?;
        session.set_steps(step);
        let mut trainer = Trainer::new(session, &data, options.batch, options.schedule.clone())?;
        if position.batch > trainer.batches() {
            let (done, all) = (position.batch, trainer.batches());
            let what = format!("the interrupted run had done {done} batches of an epoch that now has {all}");
            return Err(Error::bad_setting("--resume", what, "resume with the data and the batch size of the run"));
        }
        trainer.limit_steps(options.steps);
        trainer.seek(position, metrics);
        let index = |ticket: &Ticket| options.ratios.iter().position(|ratio| *ratio == ticket.info.ratio);
        Ok(Run {
            detectors: masks.into_iter().map(|masks| Detector::resume(options.detector, masks)).collect(),
            ring: None,
            tickets: tickets.into_iter().filter_map(|ticket| Some((index(&ticket)?, ticket))).collect(),
            progress,
            initial,
            average,
            data,
            trainer,
            options,
        })
    }

    /// What it was started with.
    pub fn options(&self) -> &RunOptions {
        &self.options
    }

    /// What it trains on.
    pub fn data(&self) -> &Arc<Dataset> {
        &self.data
    }

    /// The trainer, with the session and the place in the run.
    pub fn trainer(&self) -> &Trainer {
        &self.trainer
    }

    /// How far it is: phase, tickets, history, seconds.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Tickets drawn so far, by the number of their ratio.
    pub fn tickets(&self) -> &BTreeMap<usize, Ticket> {
        &self.tickets
    }

    /// Runs to the end, or to the step limit.
    pub fn run(&mut self, observer: &mut dyn Observer) -> Result<Outcome> {
        if self.trainer.session().steps() == 0 && self.progress.draws == 0 {
            observer.checkpoint(self)?; // a first epoch that fails leaves something to start from, too
        }
        loop {
            let outcome = match self.progress.phase {
                Phase::Search => self.search_epoch(observer)?,
                Phase::Train => self.train_epoch(observer)?,
            };
            if let Some(outcome) = outcome {
                return Ok(outcome);
            }
        }
    }

    /// Epochs trained so far; fractional between epochs.
    pub fn epochs_trained(&self) -> f64 {
        let Position { epoch, batch } = self.trainer.position();
        epoch as f64 + batch as f64 / self.trainer.batches() as f64
    }

    // ---- search ---------------------------------------------------------------------------------------------------

    fn search_epoch(&mut self, observer: &mut dyn Observer) -> Result<Option<Outcome>> {
        if self.progress.draws == 0 {
            self.draw(observer)?; // the untrained network: all scales equal, nothing kept (early-bird.md 0.3)
        }
        // Nothing left to look for happens where a finished search is resumed.
        if self.all_drawn() || self.trainer.position().epoch >= self.options.search_epochs.min(self.options.epochs) {
            return self.end_search(observer);
        }
        let per_epoch = self.options.detector.draws_per_epoch;
        while !self.trainer.epoch_done() {
            let drawn = (self.progress.draws - 1) % per_epoch;
            let until = (self.trainer.batches() * (drawn + 1)).div_ceil(per_epoch);
            observer.enter(Some(Activity::Search));
            let time = self.trainer.advance(until, &mut |event| observer.batch(Phase::Search, event))?;
            self.progress.seconds.search += time.as_secs_f64();
            self.progress.epoch_seconds += time.as_secs_f64();
            if self.trainer.position().batch < until {
                return self.stop(observer);
            }
            self.draw(observer)?;
            if self.all_drawn() && !self.trainer.epoch_done() {
                self.report_epoch(observer)?; // between epochs: the row covers the part of the epoch that was trained
                return self.end_search(observer);
            }
        }
        self.report_epoch(observer)?;
        if self.all_drawn() {
            return self.end_search(observer);
        }
        observer.checkpoint(self)?;
        Ok(self.trainer.exhausted().then_some(Outcome::Stopped))
    }

    fn all_drawn(&self) -> bool {
        self.progress.watched.iter().all(|watched| watched.ticket.is_some())
    }

    fn draw(&mut self, observer: &mut dyn Observer) -> Result<()> {
        observer.enter(Some(Activity::Draw));
        let start = Instant::now();
        let Some(drawn) = self.draw_masks()? else { return Err(self.trainer.not_finite("a BN scale")) };
        let (epoch, step) = (self.epochs_trained(), self.trainer.session().steps());
        let mut emerged = Vec::new();
        for (i, ((cut, compared), detector)) in drawn.iter().zip(&mut self.detectors).enumerate() {
            let verdict = match compared {
                Some(differ) => detector.update_compared(&cut.mask, differ)?,
                None => detector.update(&cut.mask)?,
            };
            let watched = &mut self.progress.watched[i];
            watched.last = verdict.judged.clone();
            self.progress.distances[i] = verdict.distance;
            self.progress.thresholds[i] = Some(cut.threshold);
            if verdict.settled && watched.ticket.is_none() {
                let info = TicketInfo {
                    ratio: watched.ratio,
                    epoch,
                    position: self.trainer.position(),
                    step,
                    threshold: cut.threshold,
                    distances: verdict.judged,
                };
                watched.ticket = Some(info.clone());
                emerged.push((i, info, cut.mask.clone()));
            }
        }
        let cuts: Vec<Cut> = drawn.into_iter().map(|(cut, _)| cut).collect();
        self.progress.seconds.draw += start.elapsed().as_secs_f64();
        observer.enter(None);
        observer.draw(&DrawReport { number: self.progress.draws, epoch, step, cuts: &cuts })?;
        self.progress.draws += 1;
        for (i, info, mask) in emerged {
            let ticket = self.take_ticket(info, mask)?;
            observer.ticket(&ticket)?;
            self.tickets.insert(i, ticket);
        }
        Ok(())
    }

    fn take_ticket(&self, info: TicketInfo, mask: Mask) -> Result<Ticket> {
        let session = self.trainer.session();
        let graph = (**session.graph()).clone();
        Ok(Ticket { info, mask, graph, state: session.state_dict()?, momenta: session.momenta()? })
    }

    /// The search is over: cut and train on, or say what it found.
    fn end_search(&mut self, observer: &mut dyn Observer) -> Result<Option<Outcome>> {
        let missing: Vec<_> = self.progress.watched.iter().filter(|w| w.ticket.is_none()).collect();
        let no_ticket = Outcome::NoTicket(missing.iter().map(|w| (w.ratio, w.last.clone())).collect());
        match self.options.task {
            Task::Search => {
                let outcome = if missing.is_empty() { Outcome::Found } else { no_ticket };
                observer.checkpoint(self)?;
                Ok(Some(outcome))
            }
            _ if !self.tickets.contains_key(&0) => {
                observer.checkpoint(self)?;
                Ok(Some(no_ticket))
            }
            _ => {
                self.cut(observer)?;
                observer.checkpoint(self)?;
                Ok(None)
            }
        }
    }

    fn cut(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let Some(ticket) = self.tickets.get(&0) else { return Ok(()) };
        observer.enter(Some(Activity::Surgery));
        let start = Instant::now();
        let surgery = ticket.surgery(self.options.surgery)?;
        observer.plan(&surgery.layers, &ticket.graph, &surgery.graph)?;
        let momenta = surgery.cut(&ticket.momenta)?;
        let (state, momenta) = match (self.options.start, &self.initial) {
            (Start::Inherit, _) => (surgery.cut(&ticket.state)?, Some(momenta)),
            (Start::Reinit, _) => (nn::init_like(&surgery.graph, self.options.batch.seed), None),
            (Start::Rewind, Some(initial)) => (surgery.cut(initial)?, None),
            (Start::Rewind, None) => {
                let what = "the run's initial weights are not at hand";
                return Err(Error::bad_setting("--start rewind", what, "start the run again, or use --start inherit"));
            }
        };
        let (position, step) = (ticket.info.position, ticket.info.step);
        let (dense, backend) = (ticket.graph.clone(), self.trainer.session().backend().clone());
        let mut session = self.options.session(Phase::Train, Arc::new(surgery.graph.clone()), backend)?;
        session.load_state(&state)?;
        if let Some(momenta) = momenta {
            session.load_momenta(&momenta)?;
        }
        session.set_steps(step);
        self.ring = None; // of the dense network
        self.trainer.set_session(session)?;
        self.trainer.seek(position, Metrics::default());
        if self.trainer.epoch_done() {
            self.trainer.next_epoch(); // a draw at the end of an epoch is taken before the epoch is counted
        }
        self.progress.phase = Phase::Train;
        self.progress.layers = Some(surgery.layers.clone());
        self.progress.distances.fill(None);
        self.progress.thresholds.fill(None);
        self.progress.epoch_seconds = 0.0;
        self.progress.seconds.surgery += start.elapsed().as_secs_f64();
        observer.enter(Some(Activity::Evaluation));
        let start = Instant::now();
        let test = self.trainer.evaluate()?;
        self.progress.seconds.evaluate += start.elapsed().as_secs_f64();
        observer.enter(None);
        self.progress.after_surgery = Some(test);
        observer.surgery(&surgery.layers, &dense, &surgery.graph, &test)
    }

    // ---- training -------------------------------------------------------------------------------------------------

    fn train_epoch(&mut self, observer: &mut dyn Observer) -> Result<Option<Outcome>> {
        if self.trainer.position().epoch >= self.options.epochs {
            self.settle_average(observer)?;
            return Ok(Some(Outcome::Trained));
        }
        observer.enter(Some(Activity::Train));
        let time = self.trainer.advance(usize::MAX, &mut |event| observer.batch(Phase::Train, event))?;
        self.progress.seconds.train += time.as_secs_f64();
        self.progress.epoch_seconds += time.as_secs_f64();
        if !self.trainer.epoch_done() {
            return self.stop(observer);
        }
        self.average_epoch()?;
        self.report_epoch(observer)?;
        observer.checkpoint(self)?;
        let done = self.trainer.position().epoch >= self.options.epochs;
        Ok((self.trainer.exhausted() && !done).then_some(Outcome::Stopped))
    }

    fn stop(&mut self, observer: &mut dyn Observer) -> Result<Option<Outcome>> {
        observer.checkpoint(self)?;
        Ok(Some(Outcome::Stopped))
    }

    /// Evaluates and writes the history's next row; moves on to the next epoch where this one is done.
    fn report_epoch(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let (epoch, lr) = (self.epochs_trained(), self.trainer.lr());
        observer.enter(Some(Activity::Evaluation));
        let start = Instant::now();
        let test = self.trainer.evaluate()?;
        let test_seconds = start.elapsed().as_secs_f64();
        observer.enter(None);
        self.progress.seconds.evaluate += test_seconds;
        if !test.loss_sum.is_finite() {
            return Err(self.trainer.not_finite("the test loss"));
        }
        let train = if self.trainer.epoch_done() { self.trainer.next_epoch() } else { self.trainer.metrics() };
        let report = EpochReport {
            phase: self.progress.phase,
            epoch,
            lr,
            train,
            test,
            train_seconds: std::mem::take(&mut self.progress.epoch_seconds),
            test_seconds,
            finished: std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(0.0, |d| d.as_secs_f64()),
            distances: self.progress.distances.clone(),
            thresholds: self.progress.thresholds.clone(),
        };
        self.progress.history.push(report.clone());
        observer.epoch(&report)
    }
}
