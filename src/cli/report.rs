//! `earlybird report`: one HTML page about one run or several, also about one that was killed.

use std::path::{Path, PathBuf};

use clap::Args;

use super::recorder::MODEL;
use super::summary::{RUNNING, Stand};
use super::train::{CONFIG, DATA_KEY, INIT, STATE, task_of};
use super::{DONE, Settings, prune, say};
use crate::data::DatasetInfo;
use crate::graph::Graph;
use crate::report::html::{self, RunRecord};
use crate::report::study::Study;
use crate::report::{Images, LayerSize, Summary};
use crate::ticket::{LayerPlan, Snapshot};
use crate::train::checkpoint::Checkpoint;
use crate::{Error, Result, fsio};

/// Arguments of `report`.
#[derive(Args)]
pub struct ReportArgs {
    /// Run folders, or one study folder; a dense run (`train --dense`) is shown as the twin of one with the same settings
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The page to write [default: report.html in the first run's folder]
    #[arg(long)]
    out: Option<PathBuf>,
}

impl ReportArgs {
    /// Runs the command.
    pub fn run(self) -> Result<u8> {
        let is_study = |folder: &PathBuf| folder.join(STUDY).exists();
        if let [folder] = &self.runs[..]
            && is_study(folder)
        {
            return write(
                &html::study_page(&Study::load(folder)?),
                self.out.unwrap_or_else(|| folder.join(html::REPORT)),
            );
        }
        if let Some(folder) = self.runs.iter().find(|folder| is_study(folder)) {
            let what = format!("{} is a study and cannot stand in a page with others", folder.display());
            return Err(Error::bad_setting("RUN", what, "give the study alone, or folders of runs"));
        }
        let mut records = Vec::new();
        let mut settings = Vec::new();
        for folder in &self.runs {
            let (own, summary) = open(folder)?;
            records.push(RunRecord::read(folder, summary)?);
            settings.push(own);
        }
        let page = match &records[..] {
            [only] => html::run_page(only, find_twin(&self.runs[0], &settings[0], &only.summary).as_ref()),
            several => {
                let twin = |i: usize| {
                    (0..several.len())
                        .find(|j| is_twin(&settings[i], &several[i].summary, &settings[*j], &several[*j].summary))
                };
                html::runs_page(several, &(0..several.len()).map(twin).collect::<Vec<_>>())
            }
        };
        write(&page, self.out.unwrap_or_else(|| self.runs[0].join(html::REPORT)))
    }
}

/// The file that makes a folder that of a study.
const STUDY: &str = "study.json";

fn write(page: &str, out: PathBuf) -> Result<u8> {
    if let Some(folder) = out.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|e| Error::io("create the folder", folder, e))?;
    }
    fsio::write_atomic(&out, page.as_bytes())?;
    say(format_args!("report: {}", out.display()));
    Ok(DONE)
}

/// Settings and summary of the run in `folder`; of one that has no summary, from its last state.
fn open(folder: &Path) -> Result<(Settings, Summary)> {
    let config = folder.join(CONFIG);
    if !config.exists() {
        let what = format!("{} holds no run: it has no {CONFIG}", folder.display());
        return Err(Error::bad_setting("RUN", what, "give a folder that `train`, `search` or `retrain` wrote"));
    }
    let settings = Settings::load(&config)?;
    let path = folder.join("summary.json");
    let mut summary = if path.exists() { Summary::load(&path)? } else { of_state(folder, &settings)? };
    if summary.layers.is_empty() && summary.after.is_some() {
        summary.layers = layers(&folder.join(MODEL)).unwrap_or_default(); // of a version that did not write them down
    }
    Ok((settings, summary))
}

fn layers(model: &Path) -> Result<Vec<LayerSize>> {
    let plan: Vec<LayerPlan> = Checkpoint::load(model)?.get(prune::KEPT_KEY, model)?;
    Ok(plan.iter().map(Into::into).collect())
}

/// What a run stands at that is under way or was killed.
fn of_state(folder: &Path, settings: &Settings) -> Result<Summary> {
    let init = folder.join(INIT);
    let file = Checkpoint::load(&init)?;
    let info: DatasetInfo = file.get(DATA_KEY, &init)?;
    let dense: Graph = file
        .graph(&init)?
        .ok_or_else(|| Error::bad_file(&init, None, "carries no network", "put the run's own file back"))?;
    let snapshot = Snapshot::load(&folder.join(STATE))?;
    let batches = info.train.div_ceil(settings.batch_size.max(1)).max(1);
    let stand = Stand {
        settings,
        task: task_of(&file, &init)?,
        outcome: RUNNING,
        device: &settings.device,
        progress: &snapshot.progress,
        epochs: snapshot.position.epoch as f64 + snapshot.position.batch as f64 / batches as f64,
        steps: snapshot.step,
        dense: &dense,
        now: &snapshot.graph,
        images: Images { train: info.train, test: info.test },
        plan: snapshot.progress.layers.as_deref(),
    };
    Ok(stand.summary())
}

/// Whether the second run is the first one's dense twin: all that decides its training is the same.
fn is_twin(settings: &Settings, summary: &Summary, other: &Settings, twin: &Summary) -> bool {
    let core = |settings: &Settings| Settings {
        out: None,
        device: String::new(),
        threads: None,
        // What only the search, the masks and the cut depend on.
        prune: Settings::default().prune,
        search_epochs: None,
        draws_per_epoch: 1,
        criterion: Settings::default().criterion,
        eps: 0.0,
        queue: 0,
        min_channels: 0,
        round_to: 0,
        surgery: Settings::default().surgery,
        start: Settings::default().start,
        ..settings.clone()
    };
    let dense = twin.task == "dense" && twin.outcome == "trained" && summary.task != "dense";
    dense && core(settings) == core(other) && twin.before == summary.before
}

/// Looks for the dense twin of the run in `folder` in the folders beside it. One that cannot be read is none.
pub fn find_twin(folder: &Path, settings: &Settings, summary: &Summary) -> Option<RunRecord> {
    if summary.task == "dense" {
        return None;
    }
    let parent = folder.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent })?;
    let mut beside: Vec<PathBuf> = std::fs::read_dir(parent).ok()?.flatten().map(|entry| entry.path()).collect();
    beside.sort();
    let twin = |path: PathBuf| {
        let other = Summary::load(&path.join("summary.json")).ok().filter(|other| other.task == "dense")?;
        let theirs = Settings::load(&path.join(CONFIG)).ok()?;
        is_twin(settings, summary, &theirs, &other).then(|| RunRecord::read(&path, other).ok())?
    };
    beside.into_iter().find_map(twin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_twin_differs_in_nothing_that_training_depends_on() {
        let summary = |task: &str| -> Summary {
            let size = serde_json::json!({"parameters": 1, "bn_channels": 1, "flops": 1});
            serde_json::from_value(serde_json::json!({
                "outcome": "trained", "task": task, "model": "vgg16", "width": 1.0, "data": "digits", "device": "cpu", "search_precision": "f32",
                "train_precision": "f32", "seed": 1, "epochs": 2.0, "steps": 2, "ticket_epoch": null, "tickets": [], "test_loss": null,
                "accuracy": {"dense_at_ticket": null, "after_surgery": null, "last": null, "best": null}, "before": size, "after": null,
                "seconds": {"search": 0.0, "draw": 0.0, "surgery": 0.0, "train": 0.0, "evaluate": 0.0}, "version": "0"
            }))
            .unwrap()
        };
        let (own, dense) = (summary("train"), summary("dense"));
        let settings = Settings::default();
        assert!(is_twin(&settings, &own, &Settings { eps: 0.3, out: Some("x".into()), ..settings.clone() }, &dense));
        let grouped = Settings { surgery: crate::ticket::Policy::Group, ..settings.clone() };
        assert!(is_twin(&grouped, &own, &settings, &dense));
        for other in [
            Settings { seed: 2, ..settings.clone() },
            Settings { epochs: 3, ..settings.clone() },
            Settings { lr: 0.2, ..settings.clone() },
            Settings { l1: 0.0, ..settings.clone() },
        ] {
            assert!(!is_twin(&settings, &own, &other, &dense));
        }
        assert!(!is_twin(&settings, &own, &settings, &own) && !is_twin(&settings, &dense, &settings, &dense));
    }
}
