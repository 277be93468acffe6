//! Runs a study's runs, each at most once, and records what they came to.
//!
//! A run is finished when its `summary.json` says so, unfinished when it has settings; it then goes on to the same bits as if nobody had stopped it. Not here: which runs a
//! study has.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::account::{Account, account, modelled};
use super::super::train::{self, CONFIG};
use super::super::{Overrides, Settings, energy, say};

use super::{Spec, figures, output, verdict};
use crate::energy::Activity;
use crate::energy::profile::PROFILES;
use crate::report::study::{
    CurvePoint, MeasuredRow, MethodInfo, ModelledRow, SourceRow, Study, StudyChannels, StudyCurve, StudyResult,
};
use crate::report::{RunFolder, Summary};
use crate::ticket::{Task, Ticket, ratio_label};
use crate::{Error, Result};

/// How a run, or what a method needs of several, ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ran {
    /// To its end.
    Done,
    /// No ticket emerged.
    NoTicket(String),
    /// This build cannot do it.
    Unavailable(String),
    /// It broke off; the reason.
    Failed(String),
}

impl Ran {
    /// This one if it is no success, else the other.
    pub fn then(self, next: impl FnOnce() -> Result<Ran>) -> Result<Ran> {
        if self == Ran::Done { next() } else { Ok(self) }
    }
}

/// A run that a method needs, or the part of it up to an epoch.
#[derive(Clone, Debug)]
pub struct Part {
    /// Name of the run.
    pub run: String,
    /// Only its dense training, up to this epoch.
    pub until: Option<f64>,
}

impl Part {
    /// The whole run.
    pub fn whole(run: &str) -> Part {
        Part { run: run.into(), until: None }
    }

    /// Its search, or its dense training, up to `epoch`.
    pub fn until(run: &str, epoch: f64) -> Part {
        Part { run: run.into(), until: Some(epoch) }
    }
}

/// A study under way.
pub struct Lab<'s> {
    /// What it is.
    pub spec: &'s Spec,
    folder: &'s RunFolder,
    quiet: bool,
    /// What is known so far.
    pub study: Study,
    accounts: BTreeMap<(String, Option<u64>), Account>,
}

impl<'s> Lab<'s> {
    /// In `folder`, which this process holds.
    pub fn new(spec: &'s Spec, folder: &'s RunFolder, quiet: bool) -> Result<Lab<'s>> {
        let settings = &spec.settings;
        let (_, data, backend) = train::prepare(settings, Task::Train)?;
        let json = |e: serde_json::Error| Error::bad_setting("study", e.to_string(), "a defect, please report it");
        let study = Study {
            version: 1,
            kind: spec.kind.name().into(),
            complete: false,
            program: env!("CARGO_PKG_VERSION").into(),
            device: backend.name().into(),
            data: data.info().name,
            model: settings.model.clone(),
            width: settings.width,
            epochs: settings.epochs,
            seeds: spec.seeds.clone(),
            ratios: settings.prune.0.clone(),
            settings: serde_json::to_value(settings).map_err(json)?,
            profile: spec.profile.clone(),
            sources: sources(),
            ..Study::default()
        };
        Ok(Lab { spec, folder, quiet, study, accounts: BTreeMap::new() })
    }

    /// Settings of a run called `run`.
    pub fn settings(&self, run: &str, seed: u64) -> Settings {
        Settings { seed, out: Some(self.path(run)), steps: None, ..self.spec.settings.clone() }
    }

    /// Folder of the run called `run`.
    pub fn path(&self, run: &str) -> PathBuf {
        self.folder.path().join("runs").join(run)
    }

    /// A folder of the study's own for files beside the runs.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.file(name)
    }

    fn tell(&self, line: impl std::fmt::Display) {
        if !self.quiet {
            say(line);
        }
    }

    // ---- running --------------------------------------------------------------------------------------------------

    /// A dense training or a search of this name, to its end.
    pub fn train(&self, task: Task, settings: Settings) -> Result<Ran> {
        self.ensure(settings, |settings| train::start(task, settings, true))
    }

    /// A training from the ticket that `make` makes, to its end. `make` is called only where the run has not begun yet.
    pub fn train_ticket(&self, settings: Settings, make: impl FnOnce() -> Result<Ticket>) -> Result<Ran> {
        self.ensure(settings, |mut settings| {
            let ticket = make()?;
            settings.prune.0 = vec![ticket.info.ratio];
            train::start_ticket(ticket, settings, true)
        })
    }

    /// A dense training that is stopped at `epochs`; `stopped` is called at each, again where a kill may have come between.
    pub fn train_with_stops(
        &self,
        settings: Settings,
        epochs: &[usize],
        stopped: impl Fn(&Path, usize) -> Result<()>,
    ) -> Result<Ran> {
        let path = settings.out.clone().unwrap_or_default();
        let (_, data, _) = train::prepare(&settings, Task::Dense)?;
        let batches = data.train.len().div_ceil(settings.batch_size) as u64;
        for epoch in epochs.iter().filter(|epoch| **epoch < settings.epochs) {
            let limit = batches * *epoch as u64;
            let steps = self.summary(&path).map_or(0, |summary| summary.steps);
            if steps < limit {
                let ran = self.attempt(&path, || {
                    if path.join(CONFIG).exists() {
                        let on = Overrides { steps: Some(limit), threads: settings.threads, ..Default::default() };
                        train::go_on(&path, on, true)
                    } else {
                        train::start(Task::Dense, Settings { steps: Some(limit), ..settings.clone() }, true)
                    }
                })?;
                if ran != Ran::Done {
                    return Ok(ran);
                }
            }
            if steps <= limit {
                stopped(&path, *epoch)?;
            }
        }
        let ran = self.ensure(settings.clone(), |settings| train::start(Task::Dense, settings, true))?;
        if ran == Ran::Done && epochs.contains(&settings.epochs) {
            stopped(&path, settings.epochs)?;
        }
        Ok(ran)
    }

    /// `summary.json` of a run, if there is one.
    pub fn summary(&self, run: &Path) -> Option<Summary> {
        Summary::load(&run.join("summary.json")).ok()
    }

    fn ensure(&self, settings: Settings, start: impl FnOnce(Settings) -> Result<u8>) -> Result<Ran> {
        let path = settings.out.clone().unwrap_or_default();
        let finished = |summary: &Summary| ["trained", "found", "no-ticket"].contains(&summary.outcome.as_str());
        if !self.summary(&path).is_some_and(|summary| finished(&summary)) {
            let begun = path.join(CONFIG).exists();
            self.tell(format_args!("{} {}", if begun { "going on with" } else { "running" }, name(&path)));
            let ran = self.attempt(&path, || {
                if begun {
                    let on = Overrides { threads: settings.threads, ..Default::default() };
                    train::go_on(&path, on, true)
                } else {
                    start(settings)
                }
            })?;
            if ran != Ran::Done {
                return Ok(ran);
            }
        }
        match self.summary(&path) {
            Some(summary) if summary.outcome == "no-ticket" => {
                Ok(Ran::NoTicket(format!("no ticket emerged within {} epochs", summary.epochs)))
            }
            Some(_) => Ok(Ran::Done),
            None => Ok(Ran::Failed(format!("{} has no readable summary.json", path.display()))),
        }
    }

    /// What a user must put right ends the study; what belongs to this one run is recorded.
    fn attempt(&self, path: &Path, run: impl FnOnce() -> Result<u8>) -> Result<Ran> {
        match run() {
            Ok(_) => Ok(Ran::Done),
            Err(error @ Error::Unsupported { .. }) => {
                Ok(Ran::Unavailable(format!("not available in this build: {error}")))
            }
            Err(error @ Error::NotFinite { .. }) => {
                self.tell(format_args!("{}: {error}", name(path)));
                Ok(Ran::Failed(error.to_string()))
            }
            Err(error) => Err(error),
        }
    }

    // ---- recording ------------------------------------------------------------------------------------------------

    /// Names a method for readers; methods are shown in the order in which they are named.
    pub fn method(&mut self, name: &str, title: &str, about: &str) {
        if !self.study.methods.iter().any(|method| method.name == name) {
            self.study.methods.push(MethodInfo { name: name.into(), title: title.into(), about: about.into() });
        }
    }

    fn account(&mut self, part: &Part) -> Result<Account> {
        let key = (part.run.clone(), part.until.map(f64::to_bits));
        if let Some(known) = self.accounts.get(&key) {
            return Ok(known.clone());
        }
        let new = account(&self.path(&part.run), part.until)?;
        self.accounts.insert(key, new.clone());
        Ok(new)
    }

    /// Records what `method` came to; `parts` are all runs it needs, the last one is its own.
    pub fn record(&mut self, result: StudyResult, ran: Ran, parts: &[Part]) -> Result<()> {
        let mut result = result;
        let (status, reason) = match &ran {
            Ran::Done => ("done", None),
            Ran::NoTicket(why) => ("no-ticket", Some(why.clone())),
            Ran::Unavailable(why) => ("unavailable", Some(why.clone())),
            Ran::Failed(why) => ("failed", Some(why.clone())),
        };
        (result.status, result.reason) = (status.into(), reason);
        if ran == Ran::Done {
            self.fill(&mut result, parts)?;
        }
        let same = |other: &StudyResult| {
            (&other.method, other.ratio, other.seed, other.drawn_epoch)
                == (&result.method, result.ratio, result.seed, result.drawn_epoch)
        };
        self.study.results.retain(|other| !same(other));
        self.study.results.push(result);
        output::statistics(&mut self.study);
        verdict::judge(&mut self.study);
        self.study.save(self.folder.path())
    }

    fn fill(&mut self, result: &mut StudyResult, parts: &[Part]) -> Result<()> {
        let accounts = parts.iter().map(|part| self.account(part)).collect::<Result<Vec<_>>>()?;
        let (Some(own), Some(last)) = (accounts.last(), parts.last()) else { return Ok(()) };
        let of = |activity: Activity| {
            let all: Vec<f64> = accounts.iter().filter_map(|a| a.seconds.get(&activity).copied()).collect();
            (!all.is_empty()).then(|| all.iter().sum::<f64>())
        };
        result.accuracy = own.history.last().map(|row| row.test.accuracy());
        result.best_accuracy = own.history.iter().map(|row| row.test.accuracy()).reduce(f64::max);
        result.epochs = Some(accounts.iter().map(|a| a.epochs).sum());
        (result.parameters, result.flops_per_image) = (Some(own.size.0), Some(own.size.1));
        result.training_flops = Some(accounts.iter().map(|a| a.flops).sum());
        result.seconds_search = of(Activity::Search);
        result.seconds_draw = of(Activity::Draw);
        result.seconds_surgery = of(Activity::Surgery);
        result.seconds_train = of(Activity::Train);
        result.seconds_evaluate = of(Activity::Evaluation);
        result.seconds = Some(accounts.iter().flat_map(|a| a.seconds.values()).sum());
        result.search_precision.get_or_insert_with(|| accounts[0].precisions[0].clone());
        result.train_precision.get_or_insert_with(|| own.precisions[1].clone());
        result.run = Some(format!("runs/{}", last.run));
        let (method, ratio, seed, drawn_epoch) = (&result.method, result.ratio, result.seed, result.drawn_epoch);
        for row in modelled(&accounts) {
            self.study.energy_modelled.push(ModelledRow { method: method.clone(), ratio, drawn_epoch, seed, ..row });
        }
        for (account, part) in accounts.iter().zip(parts) {
            for phase in &account.energy {
                let row = energy::measured(phase, &part.run, seed);
                self.study.energy_measured.push(MeasuredRow {
                    method: Some(method.clone()),
                    ratio,
                    drawn_epoch,
                    ..row
                });
            }
        }
        let points = accounts.iter().zip(parts).filter(|(_, part)| part.until.is_some() || part.run == last.run);
        let points = points.flat_map(|(account, _)| account.history.iter().map(|row| self.point(row))).collect();
        let run = format!("runs/{}", last.run);
        self.study.curves.push(StudyCurve { method: method.clone(), ratio, seed, run, points });
        if let Some(layers) = &own.layers {
            let layers = layers.iter().map(Into::into).collect();
            self.study.channels.push(StudyChannels { method: method.clone(), ratio, seed, layers });
        }
        Ok(())
    }

    fn point(&self, row: &crate::ticket::EpochReport) -> CurvePoint {
        let labels = self.spec.settings.prune.0.iter().map(|ratio| ratio_label(*ratio));
        CurvePoint {
            epoch: row.epoch,
            phase: row.phase.name().into(),
            test_accuracy: row.test.accuracy(),
            train_loss: row.train.loss(),
            distances: labels.zip(&row.distances).filter_map(|(l, d)| Some((l, (*d)?))).collect(),
        }
    }

    /// Writes everything for good.
    pub fn finish(mut self) -> Result<Study> {
        self.study.complete = true;
        output::statistics(&mut self.study);
        verdict::judge(&mut self.study);
        self.study.save(self.folder.path())?;
        figures::save(&self.study, self.folder.path())?;
        Ok(self.study)
    }
}

fn name(path: &Path) -> String {
    path.file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned())
}

fn sources() -> Vec<SourceRow> {
    let rows = PROFILES.iter().flat_map(|profile| {
        profile.constants().map(|constant| SourceRow {
            profile: profile.name.into(),
            constant: constant.what.into(),
            value: constant.picojoules,
            unit: format!("pJ per {}", constant.per),
            source: constant.source.into(),
        })
    });
    rows.collect()
}
