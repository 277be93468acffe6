//! `summary.json` from a run's progress: of a run in memory and of one that was killed alike. Not here: the form of the file ([`crate::report::Summary`]).

use std::path::Path;

use super::Settings;
use crate::graph::Graph;
use crate::report::{Accuracy, Images, PhaseSeconds, Size, Summary, TicketSummary};
use crate::ticket::{LayerPlan, Outcome, Phase, Progress, Task, ticket_path};

/// The outcome of a run that has none yet. It is in reports only: `summary.json` is written at the end.
pub const RUNNING: &str = "running";

/// The outcome's word in files.
pub fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Trained => "trained",
        Outcome::Found => "found",
        Outcome::Stopped => "stopped",
        Outcome::NoTicket(_) => "no-ticket",
    }
}

/// Where a run stands.
pub struct Stand<'a> {
    pub settings: &'a Settings,
    pub task: Task,
    pub outcome: &'a str,
    pub device: &'a str,
    pub progress: &'a Progress,
    /// Epochs trained, and optimiser steps.
    pub epochs: f64,
    pub steps: u64,
    /// The network before surgery, and as it is now.
    pub dense: &'a Graph,
    pub now: &'a Graph,
    pub images: Images,
    /// What surgery did or would do.
    pub plan: Option<&'a [LayerPlan]>,
}

impl Stand<'_> {
    /// The summary.
    pub fn summary(&self) -> Summary {
        let Stand { settings, progress, .. } = *self;
        let tickets = progress.watched.iter().filter(|_| self.task != Task::Dense).map(|watched| TicketSummary {
            ratio: watched.ratio,
            epoch: watched.ticket.as_ref().map(|t| t.epoch),
            step: watched.ticket.as_ref().map(|t| t.step),
            distances: watched.ticket.as_ref().map_or_else(|| watched.last.clone(), |t| t.distances.clone()),
            file: watched.ticket.as_ref().and_then(|_| {
                Some(ticket_path(Path::new(""), watched.ratio).file_name()?.to_string_lossy().into_owned())
            }),
        });
        let tickets: Vec<TicketSummary> = tickets.collect();
        let accuracies = |phase: Option<Phase>| {
            let rows = progress.history.iter().filter(move |r| phase.is_none_or(|phase| r.phase == phase));
            rows.map(|r| r.test.accuracy()).collect::<Vec<f64>>()
        };
        let mut all = accuracies(None);
        if progress.phase == Phase::Train && accuracies(Some(Phase::Train)).is_empty() {
            all.extend(progress.after_surgery.map(|m| m.accuracy())); // cut, but not trained on for a whole epoch yet
        }
        let seconds = progress.seconds;
        Summary {
            outcome: self.outcome.into(),
            task: match self.task {
                Task::Train => "train",
                Task::Search => "search",
                Task::Dense => "dense",
            }
            .into(),
            model: settings.model.clone(),
            width: settings.width,
            data: settings.data.clone(),
            device: self.device.into(),
            search_precision: settings.search_precision.clone(),
            train_precision: settings.train_precision.clone(),
            seed: settings.seed,
            epochs: self.epochs,
            steps: self.steps,
            ticket_epoch: tickets.first().and_then(|t| t.epoch),
            tickets,
            accuracy: Accuracy {
                dense_at_ticket: accuracies(Some(Phase::Search)).last().copied(),
                after_surgery: progress.after_surgery.map(|m| m.accuracy()),
                last: all.last().copied(),
                best: all.iter().copied().reduce(f64::max),
                averaged: progress.averaged.map(|m| m.accuracy()),
            },
            test_loss: progress.history.last().map(|r| r.test.loss()),
            before: size(self.dense),
            after: progress.layers.as_ref().map(|_| size(self.now)),
            layers: self.plan.map_or_else(Vec::new, |plan| plan.iter().map(Into::into).collect()),
            images: Some(self.images),
            seconds: PhaseSeconds {
                search: seconds.search,
                draw: seconds.draw,
                surgery: seconds.surgery,
                train: seconds.train,
                evaluate: seconds.evaluate,
            },
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }
}

fn size(graph: &Graph) -> Size {
    Size { parameters: graph.parameter_count(), bn_channels: graph.bn_channels(), flops: graph.flops() }
}
