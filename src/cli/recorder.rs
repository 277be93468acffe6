//! The observer that writes a run folder and shows progress.
//!
//! Order of writes at the end of an epoch: mask draws and tickets first, `state.safetensors` last: it is the point from which a resumed run goes on, and everything else is brought
//! back to it (draws are cut off, rows and plots are written anew).

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::energy::RunMeter;
use super::summary::{RUNNING, Stand, word};
use super::train::{DATA_KEY, STATE};
use super::{DONE, NO_TICKET, Settings, account, masks, prune, report, say};
use crate::autograd::StateDict;
use crate::energy::Activity;
use crate::graph::Graph;
use crate::ops::Metrics;
use crate::report::plot::{self, Bar, Bars, Curve, Curves};
use crate::report::{Accuracy, DrawRecord, EventFile, Images, MaskLog, MetricsCsv, Row, RunFolder, Summary, html};
use crate::ticket::{
    DrawReport, EpochReport, LayerPlan, Observer, Outcome, Phase, Progress, Run, Task, Ticket, ratio_label, ticket_path,
};
use crate::train::BatchEvent;
use crate::train::checkpoint::Checkpoint;
use crate::{Result, fsio};

/// The final weights.
pub const MODEL: &str = "model.safetensors";
/// The network of the averaged weights, in a run folder of a run that averages.
pub const AVERAGED: &str = "averaged.safetensors";

/// Writes a run folder.
pub struct Recorder {
    folder: RunFolder,
    settings: Settings,
    task: Task,
    dense: Arc<Graph>,
    masks: Option<MaskLog>,
    history: Vec<EpochReport>,
    tickets: Vec<(f64, f64)>,
    quiet: bool,
    bar: Option<ProgressBar>,
    meter: RunMeter,
    /// The dense twin, once it is found: it is finished and does not change.
    twin: Option<html::RunRecord>,
}

impl Recorder {
    /// For a new run.
    pub fn create(
        folder: RunFolder,
        settings: Settings,
        task: Task,
        dense: Arc<Graph>,
        quiet: bool,
    ) -> Result<Recorder> {
        let masks = match task {
            Task::Dense => None,
            _ => Some(MaskLog::create(&folder.file(masks::MASKS), dense.bn_channels(), &settings.prune.0)?),
        };
        Recorder::new(folder, settings, task, dense, masks, quiet, false)
    }

    fn new(
        folder: RunFolder,
        settings: Settings,
        task: Task,
        dense: Arc<Graph>,
        masks: Option<MaskLog>,
        quiet: bool,
        resumed: bool,
    ) -> Result<Recorder> {
        let (history, tickets) = (Vec::new(), Vec::new());
        let meter = RunMeter::new(folder.path(), &settings.device, settings.seed, resumed)?;
        Ok(Recorder { folder, settings, task, dense, masks, history, tickets, quiet, bar: None, meter, twin: None })
    }

    /// For a run that goes on from `progress`, or from its start.
    pub fn resume(
        folder: RunFolder,
        settings: Settings,
        task: Task,
        dense: Arc<Graph>,
        progress: Option<&Progress>,
        quiet: bool,
    ) -> Result<Recorder> {
        let Some(progress) = progress else { return Recorder::create(folder, settings, task, dense, quiet) };
        let masks = match task {
            Task::Dense => None,
            _ => Some(MaskLog::resume(
                &folder.file(masks::MASKS),
                dense.bn_channels(),
                &settings.prune.0,
                progress.draws,
            )?),
        };
        let mut recorder = Recorder::new(folder, settings, task, dense, masks, quiet, true)?;
        recorder.history = progress.history.clone();
        let drawn = progress.watched.iter().filter_map(|w| Some((w.ratio, w.ticket.as_ref()?.epoch)));
        recorder.tickets = drawn.collect();
        recorder.tickets.sort_by(|a, b| a.0.total_cmp(&b.0));
        Ok(recorder)
    }

    /// A file of the run folder.
    pub fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.file(name)
    }

    fn tell(&self, line: impl std::fmt::Display) {
        match &self.bar {
            _ if self.quiet => {}
            Some(bar) => bar.suspend(|| say(line)),
            None => say(line),
        }
    }

    fn labels(&self) -> Vec<String> {
        match self.task {
            Task::Dense => Vec::new(),
            _ => self.settings.prune.0.iter().map(|ratio| ratio_label(*ratio)).collect(),
        }
    }

    fn write_tables(&self) -> Result<()> {
        let rows: Vec<Row> = self.history.iter().map(|report| row(report, self.dense.classes())).collect();
        MetricsCsv::new(&self.folder.file("metrics.csv"), self.labels()).write(&rows)?;
        let labels = self.labels();
        let tags: Vec<String> = labels.iter().map(|label| format!("mask_distance/{label}")).collect();
        let mut scalars = Vec::new();
        for (i, (report, row)) in self.history.iter().zip(&rows).enumerate() {
            let (wall, step) = (report.finished, i as i64 + 1);
            let mut push = |tag, value: f64| scalars.push((wall, step, tag, value as f32));
            push("train/loss", row.train_loss);
            push("train/accuracy", row.train_accuracy);
            push("test/loss", row.test_loss);
            push("test/accuracy", row.test_accuracy);
            if let Some(top5) = row.test_top5 {
                push("test/top5", top5);
            }
            push("lr", f64::from(row.lr));
            push("epoch", row.epoch);
            push("images_per_second", row.images_per_second);
            for (tag, distance) in tags.iter().zip(&report.distances) {
                if let Some(distance) = distance {
                    push(tag, *distance);
                }
            }
        }
        EventFile::new(self.folder.path(), "earlybird").write(&scalars)
    }

    /// Plots of what the history and the mask draws hold.
    fn write_plots(&self, layers: Option<&[LayerPlan]>) -> Result<Vec<String>> {
        let mut written = Vec::new();
        let data = Path::new(&self.settings.data).file_name().map_or("data".into(), |name| name.to_string_lossy());
        let model = format!("{} x{} on {data}", self.settings.model, self.settings.width);
        let series = |label: &str, value: &dyn Fn(&EpochReport) -> f64| Curve {
            label: label.into(),
            points: self.history.iter().map(|report| (report.epoch, value(report))).collect(),
        };
        let cut = self.history.iter().rposition(|r| r.phase == Phase::Search).filter(|i| i + 1 < self.history.len());
        let marks: Vec<(f64, String)> = cut.map(|i| (self.history[i].epoch, "cut".to_string())).into_iter().collect();
        let mut save = |name: &str, plot: Curves| -> Result<()> {
            plot.save(&self.folder.file(name))?;
            written.push(name.to_string());
            Ok(())
        };
        if !self.history.is_empty() {
            let common = |title: &str, y: &str, curves, top| Curves {
                title: format!("{title}: {model}"),
                x: "epochs trained".into(),
                y: y.into(),
                curves,
                marks: marks.clone(),
                threshold: None,
                top,
            };
            let loss = vec![series("training", &|r| r.train.loss()), series("test", &|r| r.test.loss())];
            save("loss.svg", common("Loss", "mean cross-entropy, nats", loss, None))?;
            let percent = |m: &Metrics| 100.0 * m.accuracy();
            let accuracy = vec![series("training", &|r| percent(&r.train)), series("test", &|r| percent(&r.test))];
            save("accuracy.svg", common("Accuracy", "accuracy, %", accuracy, Some(100.0)))?;
        }
        let labels = self.labels();
        let distance = |i: usize| -> Vec<(f64, f64)> {
            self.history.iter().filter_map(|r| Some((r.epoch, (*r.distances.get(i)?)?))).collect()
        };
        let curves: Vec<Curve> =
            labels.iter().enumerate().map(|(i, label)| Curve { label: label.clone(), points: distance(i) }).collect();
        if curves.iter().any(|curve| !curve.points.is_empty()) {
            let tickets = self.tickets.iter().map(|(ratio, epoch)| {
                (*epoch, format!("ticket {}: epoch {}", ratio_label(*ratio), plot::short(*epoch)))
            });
            save(
                "mask-distance.svg",
                Curves {
                    title: format!("Mask distance across one epoch: {model}"),
                    x: "epochs trained".into(),
                    y: "share of channels that changed".into(),
                    curves,
                    marks: tickets.collect(),
                    threshold: Some((self.settings.eps, format!("eps {}", self.settings.eps))),
                    top: None,
                },
            )?;
        }
        if self.masks.is_some() {
            written.extend(masks::write(self.folder.path(), &self.tickets)?);
        }
        if let Some(layers) = layers {
            let bar =
                |l: &LayerPlan| Bar { label: l.layer.clone(), kept: l.kept.len(), total: l.before, flagged: l.saved };
            let bars = Bars { title: format!("Channels kept: {model}"), bars: layers.iter().map(bar).collect() };
            bars.save(&self.folder.file("channels.svg"))?;
            written.push("channels.svg".into());
        }
        Ok(written)
    }

    /// What the run came to, or stands at; `plan` is what surgery did, or would do.
    fn summary(&self, run: &Run, outcome: &str, plan: Option<&[LayerPlan]>) -> Summary {
        let session = run.trainer().session();
        let info = run.data().info();
        Stand {
            settings: &self.settings,
            task: self.task,
            outcome,
            device: session.backend().name(),
            progress: run.progress(),
            epochs: run.epochs_trained(),
            steps: session.steps(),
            dense: &self.dense,
            now: session.graph(),
            images: Images { train: info.train, test: info.test },
            plan,
        }
        .summary()
    }

    /// Writes `report.html` from the files of the folder.
    fn write_report(&mut self, summary: Summary) -> Result<()> {
        let folder = self.folder.path();
        if self.twin.is_none() {
            self.twin = report::find_twin(folder, &self.settings, &summary);
        }
        let record = html::RunRecord::read(folder, summary)?;
        fsio::write_atomic(&self.folder.file(html::REPORT), html::run_page(&record, self.twin.as_ref()).as_bytes())
    }
}

fn row(report: &EpochReport, classes: usize) -> Row {
    Row {
        phase: report.phase.name(),
        epoch: report.epoch,
        lr: report.lr,
        train_loss: report.train.loss(),
        train_accuracy: report.train.accuracy(),
        test_loss: report.test.loss(),
        test_accuracy: report.test.accuracy(),
        test_top5: (classes > 5).then(|| report.test.top5_accuracy()),
        train_seconds: report.train_seconds,
        test_seconds: report.test_seconds,
        images_per_second: report.train.count as f64 / report.train_seconds,
        distances: report.distances.clone(),
        thresholds: report.thresholds.clone(),
    }
}

impl Observer for Recorder {
    fn enter(&mut self, activity: Option<Activity>) {
        self.meter.enter(activity);
    }

    fn batch(&mut self, phase: Phase, event: &BatchEvent) -> Result<()> {
        if self.quiet || !std::io::stderr().is_terminal() {
            return Ok(());
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new(event.batches as u64);
            let style = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} {msg} eta {eta}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        });
        bar.set_prefix(format!("{} epoch {}", phase.name(), event.position.epoch + 1));
        bar.set_position(event.position.batch as u64);
        bar.set_message(format!("loss {:.3} accuracy {:.1}%", event.metrics.loss(), 100.0 * event.metrics.accuracy()));
        Ok(())
    }

    fn draw(&mut self, report: &DrawReport) -> Result<()> {
        let Some(log) = &self.masks else { return Ok(()) };
        let record = |(i, cut): (usize, &crate::ticket::Cut)| DrawRecord {
            step: report.step,
            epoch: report.epoch,
            ratio: i as u32,
            threshold: cut.threshold,
            words: cut.mask.words().to_vec(),
        };
        log.append(&report.cuts.iter().enumerate().map(record).collect::<Vec<_>>())
    }

    fn ticket(&mut self, ticket: &Ticket) -> Result<()> {
        let path = ticket_path(self.folder.path(), ticket.info.ratio);
        ticket.save(&path)?;
        self.tickets.push((ticket.info.ratio, ticket.info.epoch));
        self.tickets.sort_by(|a, b| a.0.total_cmp(&b.0)); // a resumed run lists them alike
        let (label, epoch) = (ratio_label(ticket.info.ratio), ticket.info.epoch);
        let worst = ticket.info.distances.iter().copied().fold(0.0, f64::max);
        self.tell(format_args!(
            "ticket {label} emerged after {epoch:.2} epochs (largest distance {worst:.4}): {}",
            path.display()
        ));
        Ok(())
    }

    fn plan(&mut self, plan: &[LayerPlan], before: &Graph, after: &Graph) -> Result<()> {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        if !self.quiet {
            prune::print_plan(before, after, plan);
        }
        Ok(())
    }

    fn surgery(&mut self, _plan: &[LayerPlan], _before: &Graph, _after: &Graph, test: &Metrics) -> Result<()> {
        self.tell(format_args!("accuracy right after the cut {:.2}%", 100.0 * test.accuracy()));
        Ok(())
    }

    fn epoch(&mut self, report: &EpochReport) -> Result<()> {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.history.push(report.clone());
        let distances = self.labels().into_iter().zip(&report.distances).filter_map(|(l, d)| Some((l, (*d)?)));
        let distances: String = distances.map(|(label, d)| format!("  {label} {d:.3}")).collect();
        let row = row(report, self.dense.classes());
        self.tell(format_args!(
            "{:6} epoch {:6.2}  lr {:<8.2e} loss {:.4}  train {:5.2}%  test {:5.2}%{}  {:6.0} images/s{}{distances}",
            row.phase,
            row.epoch,
            row.lr,
            row.train_loss,
            100.0 * row.train_accuracy,
            100.0 * row.test_accuracy,
            row.test_top5.map_or_else(String::new, |top5| format!(" (top-5 {:5.2}%)", 100.0 * top5)),
            row.images_per_second,
            if distances.is_empty() { "" } else { "  distance" },
        ));
        Ok(())
    }

    fn checkpoint(&mut self, run: &Run) -> Result<()> {
        let snapshot = run.snapshot()?;
        self.write_tables()?;
        self.meter.save()?;
        snapshot.save(&self.folder.file(STATE))?;
        // Behind the state: a report that cannot be written loses nothing that was computed.
        self.write_report(self.summary(run, RUNNING, run.progress().layers.as_deref()))
    }
}

/// Writes what a finished (or stopped) run leaves and says how it ended. Returns the exit code.
pub fn finish(mut recorder: Recorder, run: &Run, outcome: &Outcome) -> Result<u8> {
    let session = run.trainer().session();
    let save = |state: StateDict, file: &str| {
        let mut model = Checkpoint::new(session.graph(), state)?;
        if let Some(layers) = &run.progress().layers {
            model.put(prune::KEPT_KEY, layers)?;
            model.put(prune::SURGERY_KEY, &run.options().surgery)?;
        }
        model.put(DATA_KEY, &run.data().info())?;
        model.save(&recorder.folder.file(file))
    };
    save(session.state_dict()?, MODEL)?;
    if let (Some(average), Some(_)) = (run.average(), run.progress().averaged) {
        save(average.state.clone(), AVERAGED)?;
    }
    recorder.write_tables()?;
    // A search shows what its first ticket would keep.
    let plan = match (&run.progress().layers, run.tickets().values().next()) {
        (Some(layers), _) => Some(layers.clone()),
        (None, Some(ticket)) => Some(ticket.surgery(run.options().surgery)?.layers),
        (None, None) => None,
    };
    let summary = recorder.summary(run, word(outcome), plan.as_deref());
    account::save_modelled(recorder.folder.path(), recorder.settings.seed)?;
    summary.save(&recorder.folder.file("summary.json"))?;
    let plots = recorder.write_plots(plan.as_deref())?;
    recorder.write_report(summary.clone())?;
    let at = recorder.folder.path().display();
    if let Outcome::NoTicket(missing) = outcome {
        let epochs = summary.epochs;
        for (ratio, distances) in missing {
            let list = distances.iter().map(|d| format!("{d:.3}")).collect::<Vec<_>>().join(", ");
            let list = if list.is_empty() { "none yet".into() } else { list };
            super::warn(format_args!(
                "no ticket for {}: within {epochs} epochs the masks did not settle; last distances (newest first): {list}; eps is {}",
                ratio_label(*ratio),
                recorder.settings.eps
            ));
        }
        super::warn(format_args!(
            "the dense model is in {at}; search longer (--search-epochs, --epochs) or with a larger --eps"
        ));
    }
    if !recorder.quiet {
        let percent = |a: Option<f64>| a.map_or("unknown".into(), |a| format!("{:.2}%", 100.0 * a));
        let Accuracy { last, best, averaged, .. } = summary.accuracy;
        say(format_args!(
            "{}: test accuracy {} (best epoch {}), {} parameters",
            summary.outcome,
            percent(last),
            percent(best),
            session.graph().parameter_count()
        ));
        if averaged.is_some() {
            let epochs = run.average().map_or(0, |average| average.epochs);
            say(format_args!(
                "weights averaged over {epochs} epochs: test accuracy {}, in {AVERAGED}",
                percent(averaged)
            ));
        }
        say(format_args!("run folder {at}: {MODEL}, summary.json, metrics.csv, plots {}", plots.join(" ")));
        say(format_args!("report: {}", recorder.folder.file(html::REPORT).display()));
    }
    Ok(if matches!(outcome, Outcome::NoTicket(_)) { NO_TICKET } else { DONE })
}
