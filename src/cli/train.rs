//! `earlybird train`, `search` and `retrain`: the main job.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::recorder::{Recorder, finish};
use super::{Overrides, Settings, device, eval};
use crate::autograd::StateDict;
use crate::data::{Dataset, DatasetInfo};
use crate::graph::Graph;
use crate::ops::Shape;
use crate::report::RunFolder;
use crate::ticket::{Run, RunOptions, Snapshot, Task, Ticket, ticket_path};
use crate::train::checkpoint::Checkpoint;
use crate::{Error, Result, nn};

/// Arguments of `train`.
#[derive(Args)]
pub struct TrainArgs {
    /// Settings file (TOML); flags win over it
    #[arg(long)]
    config: Option<PathBuf>,
    /// Go on with an interrupted run, to the same bits; only --steps, --threads and --device may be given beside it
    #[arg(long, value_name = "RUN")]
    resume: Option<PathBuf>,
    /// Train the dense network to the end: no masks, no surgery (the twin to compare with)
    #[arg(long)]
    dense: bool,
    /// Nothing but errors
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    settings: Overrides,
}

/// Arguments of `search`.
#[derive(Args)]
pub struct SearchArgs {
    /// Settings file (TOML); flags win over it
    #[arg(long)]
    config: Option<PathBuf>,
    /// Go on with an interrupted search
    #[arg(long, value_name = "RUN")]
    resume: Option<PathBuf>,
    /// Nothing but errors
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    settings: Overrides,
}

/// Arguments of `retrain`.
#[derive(Args)]
pub struct RetrainArgs {
    /// The ticket, such as runs/x/ticket-p50.safetensors
    ticket: PathBuf,
    /// Settings file (TOML); flags win over it
    #[arg(long)]
    config: Option<PathBuf>,
    /// Nothing but errors
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    settings: Overrides,
}

impl TrainArgs {
    /// Runs the command.
    pub fn run(self) -> Result<u8> {
        let task = if self.dense { Task::Dense } else { Task::Train };
        start_or_resume(task, self.config.as_deref(), self.resume, self.settings, self.quiet)
    }
}

impl SearchArgs {
    /// Runs the command.
    pub fn run(self) -> Result<u8> {
        start_or_resume(Task::Search, self.config.as_deref(), self.resume, self.settings, self.quiet)
    }
}

impl RetrainArgs {
    /// Runs the command.
    pub fn run(self) -> Result<u8> {
        let ticket = Ticket::load(&self.ticket)?;
        let mut settings = Settings::resolve(self.config.as_deref(), self.settings)?;
        settings.prune.0 = vec![ticket.info.ratio];
        settings.model = ticket.graph.name().into();
        start_ticket(ticket, settings, self.quiet)
    }
}

/// Begins a run with a drawn ticket and runs it to the end.
pub(super) fn start_ticket(ticket: Ticket, settings: Settings, quiet: bool) -> Result<u8> {
    let (options, data, backend) = prepare(&settings, Task::Train)?;
    let settings = settled(settings, &*backend);
    if options.start == crate::ticket::Start::Rewind {
        let what = "a ticket alone does not carry the initial weights";
        return Err(Error::bad_setting(
            "--start rewind",
            what,
            "use `earlybird train --start rewind`, or --start inherit",
        ));
    }
    let folder = RunFolder::create(&out(&settings))?;
    ticket.save(&ticket_path(folder.path(), ticket.info.ratio))?;
    let mut init = Checkpoint::new(&ticket.graph, ticket.state.clone())?;
    init.put(TASK_KEY, &Origin::Ticket)?;
    init.put(DATA_KEY, &data.info())?;
    init.save(&folder.path().join(INIT))?;
    settings.save(&folder.path().join(CONFIG))?;
    let dense = Arc::new(ticket.graph.clone());
    let mut recorder = Recorder::create(folder, settings, Task::Train, dense, quiet)?;
    let run = Run::from_ticket(options, ticket, backend, data, &mut recorder);
    carry_on(run, recorder)
}

/// The resolved settings in the run folder.
pub const CONFIG: &str = "config.toml";
/// The state to resume from.
pub const STATE: &str = "state.safetensors";
/// The initial weights.
pub const INIT: &str = "init.safetensors";
/// Metadata key of the [`DatasetInfo`] in files that depend on the data.
pub const DATA_KEY: &str = "earlybird.data";
/// Metadata key of the [`Origin`] in [`INIT`].
const TASK_KEY: &str = "earlybird.task";

/// How a run began: what it takes to begin it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Origin {
    /// From initial weights.
    Task(Task),
    /// From a drawn ticket, whose file lies in the run folder (`retrain`).
    Ticket,
}

impl Origin {
    fn task(self) -> Task {
        match self {
            Origin::Task(task) => task,
            Origin::Ticket => Task::Train,
        }
    }
}

/// What the run does whose initial weights are in `file`.
pub(super) fn task_of(file: &Checkpoint, path: &Path) -> Result<Task> {
    file.get::<Origin>(TASK_KEY, path).map(Origin::task)
}

fn start_or_resume(
    task: Task,
    config: Option<&Path>,
    resume: Option<PathBuf>,
    overrides: Overrides,
    quiet: bool,
) -> Result<u8> {
    match resume {
        None => start(task, Settings::resolve(config, overrides)?, quiet),
        Some(folder) if config.is_none() => go_on(&folder, overrides, quiet),
        Some(_) => {
            let what = "an interrupted run goes on with its own settings";
            Err(Error::bad_setting("--resume", what, "leave --config out"))
        }
    }
}

fn out(settings: &Settings) -> PathBuf {
    settings.out.clone().unwrap_or_else(|| RunFolder::default_path(&settings.model, settings.seed))
}

pub(super) fn prepare(
    settings: &Settings,
    task: Task,
) -> Result<(RunOptions, Arc<Dataset>, Arc<dyn crate::backend::Backend>)> {
    // Everything that can be wrong without reading a file comes first.
    settings.run_options(task, true)?;
    let backend = device::open(&settings.device, settings.threads)?;
    let data = Arc::new(settings.open_data()?);
    let options = settings.run_options(task, data.flip)?;
    Ok((options, data, backend))
}

/// The settings with the device that `auto` came to: a run that is resumed stays on it.
fn settled(settings: Settings, backend: &dyn crate::backend::Backend) -> Settings {
    match settings.device.as_str() {
        device::AUTO => Settings { device: backend.name().into(), ..settings },
        _ => settings,
    }
}

/// The model of the settings for the images and classes of `data`.
pub(super) fn model(settings: &Settings, data: &Dataset) -> Result<Graph> {
    let input = Shape::new(data.train.height, data.train.width, data.train.channels);
    nn::build(&settings.model, &nn::ModelOptions { classes: data.classes, input, width: settings.width })
}

pub(super) fn initial_state(settings: &Settings, graph: &Graph) -> Result<StateDict> {
    let Some(path) = &settings.init else { return Ok(nn::init(graph, settings.seed)) };
    eval::import(graph, Checkpoint::load(path)?, path)
}

pub(super) fn start(task: Task, settings: Settings, quiet: bool) -> Result<u8> {
    let (options, data, backend) = prepare(&settings, task)?;
    let settings = settled(settings, &*backend);
    let graph = model(&settings, &data)?;
    let state = initial_state(&settings, &graph)?;
    let graph = Arc::new(graph);
    let info = data.info();
    let run = Run::new(options, graph.clone(), &state, backend, data)?; // what it refuses must leave no folder
    let folder = RunFolder::create(&out(&settings))?;
    let mut init = Checkpoint::new(&graph, state)?;
    init.put(TASK_KEY, &Origin::Task(task))?;
    init.put(DATA_KEY, &info)?;
    init.save(&folder.path().join(INIT))?;
    settings.save(&folder.path().join(CONFIG))?; // from here on the run can be resumed
    let recorder = Recorder::create(folder, settings, task, graph, quiet)?;
    carry_on(Ok(run), recorder)
}

/// Runs to the end and writes what is left.
fn carry_on(run: Result<Run>, mut recorder: Recorder) -> Result<u8> {
    let state = recorder.file(STATE);
    let outcome = run.and_then(|mut run| run.run(&mut recorder).map(|outcome| (run, outcome)));
    let (run, outcome) = outcome.map_err(|error| match error {
        Error::NotFinite { what, step, epoch, hint } => {
            Error::NotFinite { what, step, epoch, hint: format!("{hint}: {}", state.display()) }
        }
        other => other,
    })?;
    finish(recorder, &run, &outcome)
}

pub(super) fn go_on(path: &Path, overrides: Overrides, quiet: bool) -> Result<u8> {
    let Overrides { steps, threads, device, .. } = overrides.clone();
    if (Overrides { steps, threads, device: device.clone(), ..Default::default() }) != overrides {
        let what = "an interrupted run goes on with its own settings";
        return Err(Error::bad_setting("--resume", what, "give no flags but --steps, --threads, --device beside it"));
    }
    let folder = RunFolder::open(path)?;
    let config = path.join(CONFIG);
    if !config.exists() {
        let what = format!("{} holds no run: it has no {CONFIG}", path.display());
        let hint = "give the folder of a run; one that was killed before it began is started again with the same --out";
        return Err(Error::bad_setting("--resume", what, hint));
    }
    let mut settings = Settings::load(&config)?;
    settings.steps = steps;
    settings.threads = threads.or(settings.threads);
    settings.device = device.unwrap_or(settings.device);
    let init_path = path.join(INIT);
    let init = Checkpoint::load(&init_path)?;
    let origin: Origin = init.get(TASK_KEY, &init_path)?;
    let task = origin.task();
    let (options, data, backend) = prepare(&settings, task)?;
    let settings = settled(settings, &*backend);
    let (began, now): (DatasetInfo, _) = (init.get(DATA_KEY, &init_path)?, data.info());
    if began.checksum != now.checksum {
        let what = format!("{} has other images than the run began with: {now}; then: {began}", settings.data);
        return Err(Error::bad_setting("--resume", what, "put the data set back as it was, or start a new run"));
    }
    let dense = Arc::new(init.graph(&init_path)?.map_or_else(|| model(&settings, &data), Ok)?);
    let state = path.join(STATE);
    if !state.exists() {
        // Killed before the first state was written: the same run from the start.
        let mut recorder = Recorder::resume(folder, settings, task, dense.clone(), None, quiet)?;
        let run = match origin {
            Origin::Task(_) => Run::new(options, dense, &init.tensors, backend, data),
            Origin::Ticket => {
                let ticket = Ticket::load(&ticket_path(path, options.ratios[0]))?;
                Run::from_ticket(options, ticket, backend, data, &mut recorder)
            }
        };
        return carry_on(run, recorder);
    }
    let snapshot = Snapshot::load(&state)?;
    let layers = |graph: &Graph| graph.bn_layers().into_iter().map(|l| (l.name, l.channels)).collect::<Vec<_>>();
    let fits = match &snapshot.progress.layers {
        None => snapshot.graph == *dense,
        Some(plan) => plan.iter().map(|l| (l.layer.clone(), l.before)).eq(layers(&dense)),
    };
    if !fits {
        let what = format!("is of another network than {}", init_path.display());
        return Err(Error::bad_file(&state, None, what, "put the run's own files back, or start it again"));
    }
    let drawn = snapshot.progress.watched.iter().filter(|watched| watched.ticket.is_some());
    let tickets = drawn.map(|watched| Ticket::load(&ticket_path(path, watched.ratio))).collect::<Result<Vec<_>>>()?;
    let recorder = Recorder::resume(folder, settings, task, dense, Some(&snapshot.progress), quiet)?;
    carry_on(Run::resume(options, snapshot, tickets, Some(init.tensors), backend, data), recorder)
}
