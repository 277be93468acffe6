//! `earlybird study`: the paper's experiments over several seeds. A study is a folder of ordinary runs and of what follows from them; started again, it goes on where it was
//! stopped, and no finished run is repeated.
//!
//! Here: arguments, and which study runs. [`lab`] runs and records, one file per study says what to run, [`verdict`] judges, [`output`] writes.

mod compare;
mod existence;
mod figures;
mod lab;
mod output;
mod paper;
mod searches;
mod tickets;
mod verdict;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

use super::{DONE, Overrides, Settings, say};
use crate::energy::Profile;
use crate::energy::profile::PROFILES;
use crate::report::RunFolder;
use crate::{Error, Result, fsio};
use lab::Lab;

/// The studies.
#[derive(Subcommand)]
pub enum StudyCommand {
    /// Do tickets exist early? Tickets drawn at chosen epochs, each trained on, beside dense and random ones
    Existence(ExistenceArgs),
    /// Do masks settle? Pairwise mask distances over a whole dense training, with the epoch at which the ticket emerges
    Distance(CommonArgs),
    /// Does it take a large learning rate? The same search with several initial rates
    LearningRate(RatesArgs),
    /// Can the search run in 8 bits? The same search in several precisions, and how much their tickets overlap
    Precision(PrecisionArgs),
    /// Early-Bird training beside the lottery ticket, network slimming, SNIP, random tickets and re-initialisation
    Compare(CompareArgs),
    /// Go on with a study
    Resume(ResumeArgs),
}

/// What all studies take.
#[derive(Args)]
pub struct CommonArgs {
    /// Settings file (TOML) of the runs; flags win over it
    #[arg(long)]
    config: Option<PathBuf>,
    /// Seeds, comma-separated: each repeats the study with other weights and another order of the data
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 3])]
    seeds: Vec<u64>,
    /// Energy profile of summaries; all profiles are in energy-modelled.csv
    #[arg(long, default_value = PROFILES[0].name)]
    profile: String,
    /// Nothing but errors and the verdict
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    settings: Overrides,
}

/// Arguments of `existence`.
#[derive(Args)]
pub struct ExistenceArgs {
    /// Epochs at which tickets are drawn, comma-separated [default: seven from 1 to --epochs]
    #[arg(long, value_delimiter = ',')]
    draw_at: Vec<usize>,
    #[command(flatten)]
    common: CommonArgs,
}

/// Arguments of `learning-rate`.
#[derive(Args)]
pub struct RatesArgs {
    /// Initial learning rates of the search, comma-separated
    #[arg(long, value_delimiter = ',', default_values_t = [0.1, 0.01])]
    rates: Vec<f64>,
    #[command(flatten)]
    common: CommonArgs,
}

/// Arguments of `precision`.
#[derive(Args)]
pub struct PrecisionArgs {
    /// Precisions of the search, comma-separated
    #[arg(long, value_delimiter = ',', default_values_t = ["f32", "eb8", "int8"].map(String::from))]
    precisions: Vec<String>,
    #[command(flatten)]
    common: CommonArgs,
}

/// Arguments of `compare`.
#[derive(Args)]
pub struct CompareArgs {
    /// Precisions of the searches of EB LF and LL (and of LL's training), comma-separated
    #[arg(long, value_delimiter = ',', default_values_t = ["eb8", "int8"].map(String::from))]
    low_precision: Vec<String>,
    /// Batches from which SNIP takes its sensitivities
    #[arg(long, default_value_t = 4)]
    snip_batches: usize,
    /// The methods to run, comma-separated [default: all]
    #[arg(long, value_delimiter = ',')]
    methods: Vec<String>,
    /// Total training FLOPs of the paper's own settings instead of a study; with --dry-run only
    #[arg(long, requires = "dry_run")]
    paper_settings: bool,
    /// Say what would run, and run nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    common: CommonArgs,
}

/// Arguments of `resume`.
#[derive(Args)]
pub struct ResumeArgs {
    /// The study folder
    study: PathBuf,
    /// CPU threads; results do not depend on it
    #[arg(long)]
    threads: Option<usize>,
    /// Nothing but errors and the verdict
    #[arg(long)]
    quiet: bool,
}

/// Which study.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// [`StudyCommand::Existence`]
    Existence,
    /// [`StudyCommand::Distance`]
    Distance,
    /// [`StudyCommand::LearningRate`]
    LearningRate,
    /// [`StudyCommand::Precision`]
    Precision,
    /// [`StudyCommand::Compare`]
    Compare,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Existence => "existence",
            Kind::Distance => "distance",
            Kind::LearningRate => "learning-rate",
            Kind::Precision => "precision",
            Kind::Compare => "compare",
        }
    }
}

/// Everything that decides what a study computes: `study.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    kind: Kind,
    seeds: Vec<u64>,
    profile: String,
    #[serde(default)]
    draw_at: Vec<usize>,
    #[serde(default)]
    rates: Vec<f64>,
    #[serde(default)]
    precisions: Vec<String>,
    #[serde(default)]
    low_precision: Vec<String>,
    #[serde(default)]
    methods: Vec<String>,
    #[serde(default)]
    snip_batches: usize,
    settings: Settings,
}

/// Its file in the study folder.
const SPEC: &str = "study.toml";
/// Ratios where none are given.
const RATIOS: [f64; 2] = [0.5, 0.7];

impl CommonArgs {
    fn spec(self, kind: Kind) -> Result<(Spec, bool)> {
        let CommonArgs { config, seeds, profile, quiet, settings: mut given } = self;
        let refused = [
            ("--seed", given.seed.is_some(), "a study runs several seeds", "use --seeds"),
            ("--steps", given.steps.is_some(), "it stops a single run", "make the study smaller by --epochs"),
            ("--start", given.start.is_some(), "the study decides what tickets start from", "leave it out"),
            ("--search-precision", given.search_precision.is_some(), "the study decides precisions", "leave it out"),
            ("--train-precision", given.train_precision.is_some(), "the study decides precisions", "leave it out"),
        ];
        if let Some((name, _, what, hint)) = refused.into_iter().find(|r| r.1) {
            return Err(Error::bad_setting(name, what, hint));
        }
        if given.prune.is_none() && config.is_none() {
            given.prune = Some(super::settings::Ratios(RATIOS.to_vec()));
        }
        let settings = Settings::resolve(config.as_deref(), given)?;
        let mut distinct = seeds.clone();
        distinct.sort_unstable();
        distinct.dedup();
        if seeds.is_empty() || distinct.len() != seeds.len() {
            return Err(Error::bad_setting("--seeds", "they must be different, and one at least", "give 1,2,3"));
        }
        if Profile::find(&profile).is_none() {
            let names = PROFILES.map(|profile| profile.name).join(", ");
            let what = format!("there is no energy profile `{profile}`");
            return Err(Error::bad_setting("--profile", what, format!("choose one of {names}")));
        }
        let spec = Spec {
            kind,
            seeds,
            profile,
            settings,
            draw_at: Vec::new(),
            rates: Vec::new(),
            precisions: Vec::new(),
            low_precision: Vec::new(),
            methods: Vec::new(),
            snip_batches: 0,
        };
        Ok((spec, quiet))
    }
}

impl StudyCommand {
    /// Runs the command.
    pub fn run(self) -> Result<u8> {
        let (spec, quiet) = match self {
            StudyCommand::Resume(args) => return args.run(),
            StudyCommand::Compare(args) if args.paper_settings => return paper::run(),
            StudyCommand::Distance(args) => args.spec(Kind::Distance)?,
            StudyCommand::Existence(args) => {
                let (mut spec, quiet) = args.common.spec(Kind::Existence)?;
                spec.draw_at = existence::epochs(args.draw_at, spec.settings.epochs)?;
                (spec, quiet)
            }
            StudyCommand::LearningRate(args) => {
                let (mut spec, quiet) = args.common.spec(Kind::LearningRate)?;
                spec.rates = args.rates;
                (spec, quiet)
            }
            StudyCommand::Precision(args) => {
                let (mut spec, quiet) = args.common.spec(Kind::Precision)?;
                spec.precisions = args.precisions;
                (spec, quiet)
            }
            StudyCommand::Compare(args) => {
                let (mut spec, quiet) = args.common.spec(Kind::Compare)?;
                spec.low_precision = args.low_precision;
                spec.snip_batches = args.snip_batches.max(1);
                spec.methods = compare::check(args.methods, &spec.low_precision)?;
                if args.dry_run {
                    return compare::dry_run(&spec);
                }
                (spec, quiet)
            }
        };
        let path = spec.settings.out.clone();
        let path =
            path.unwrap_or_else(|| RunFolder::default_path(&format!("study-{}", spec.kind.name()), spec.seeds[0]));
        carry_out(spec, &path, quiet)
    }
}

impl ResumeArgs {
    fn run(self) -> Result<u8> {
        let mut spec = load(&self.study)?;
        spec.settings.threads = self.threads.or(spec.settings.threads);
        carry_out(spec, &self.study, self.quiet)
    }
}

fn load(folder: &Path) -> Result<Spec> {
    let path = folder.join(SPEC);
    let text = std::fs::read_to_string(&path).map_err(|e| Error::io("read the study's settings", &path, e))?;
    let hint = "give the folder of a study; a new one is begun by `earlybird study KIND --out FOLDER`";
    toml::from_str(&text).map_err(|e| Error::bad_file(&path, None, e.to_string().trim_end(), hint))
}

/// The folder, made or gone on with.
fn open(spec: &Spec, path: &Path) -> Result<RunFolder> {
    let file = path.join(SPEC);
    if !file.exists() {
        let folder = RunFolder::create(path)?;
        let text = toml::to_string(spec)
            .map_err(|e| Error::bad_file(&file, None, e.to_string(), "this is a defect, please report it"))?;
        fsio::write_atomic(&file, text.as_bytes())?;
        return Ok(folder);
    }
    let folder = RunFolder::open(path)?;
    // What cannot change a result may differ.
    let plain = |spec: &Spec| {
        let mut spec = spec.clone();
        (spec.settings.threads, spec.settings.out) = (None, None);
        spec
    };
    if plain(&load(path)?) != plain(spec) {
        let what = format!("{} holds a study with other settings", path.display());
        let hint = "choose another --out, or go on with it by `earlybird study resume`";
        return Err(Error::bad_setting("--out", what, hint));
    }
    Ok(folder)
}

fn carry_out(spec: Spec, path: &Path, quiet: bool) -> Result<u8> {
    spec.settings.run_options(crate::ticket::Task::Train, true)?; // what is wrong must leave no folder
    let folder = open(&spec, path)?;
    let mut lab = Lab::new(&spec, &folder, quiet)?;
    match spec.kind {
        Kind::Compare => compare::run(&mut lab)?,
        Kind::Existence => existence::run(&mut lab)?,
        Kind::Distance => searches::distance(&mut lab)?,
        Kind::LearningRate => searches::learning_rate(&mut lab)?,
        Kind::Precision => searches::precision(&mut lab)?,
    }
    let study = lab.finish()?;
    if !quiet {
        output::print(&study);
    }
    study.verdict.iter().for_each(say);
    say(format_args!(
        "study folder {}: study.json, results.csv, statistics.csv, energy-modelled.csv, energy.csv",
        path.display()
    ));
    Ok(DONE)
}
