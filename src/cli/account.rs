//! What a run cost: seconds per phase as measured, operations and bytes per phase as counted, training FLOPs; for all of it or for its dense part up to an epoch.
//!
//! A search that watches several ratios serves several methods: each is charged its epochs up to its own ticket.

use std::collections::BTreeMap;
use std::path::Path;

use super::recorder::MODEL;
use super::train::{CONFIG, DATA_KEY, INIT, STATE};
use super::{Settings, energy};
use crate::data::DatasetInfo;
use crate::energy::cost::{self, Cost, Numerics};
use crate::energy::profile::PROFILES;
use crate::energy::{Activity, PhaseEnergy, flops};
use crate::graph::Graph;
use crate::report::study::{MODELLED, ModelledRow, of_a_run};
use crate::report::table::csv;
use crate::ticket::{EpochReport, LayerPlan, Phase, Snapshot};
use crate::train::checkpoint::Checkpoint;
use crate::{Error, Result, fsio};

/// Account of one run, or of its dense part up to an epoch.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Measured.
    pub seconds: BTreeMap<Activity, f64>,
    /// Counted, per way of executing it.
    pub costs: Vec<(Activity, Numerics, Cost)>,
    /// The same work as if it were executed in int8; empty where a part of it was not in f32.
    pub as_int8: Vec<(Activity, Cost)>,
    /// By the paper's rule.
    pub flops: f64,
    /// Measured energy.
    pub energy: Vec<PhaseEnergy>,
    /// Epochs trained in it.
    pub epochs: f64,
    /// Its epochs.
    pub history: Vec<EpochReport>,
    /// What surgery left, if there was one.
    pub layers: Option<Vec<LayerPlan>>,
    /// Parameters and forward operations of the network at its end.
    pub size: (usize, u64),
    /// Precision of the search and of training.
    pub precisions: [String; 2],
}

/// The checkpoint at `path` with the network that it must carry.
pub fn carried(path: &Path) -> Result<(Graph, Checkpoint)> {
    let file = Checkpoint::load(path)?;
    let missing = || Error::bad_file(path, None, "carries no network", "run the study again in another folder");
    Ok((file.graph(path)?.ok_or_else(missing)?, file))
}

/// The account of the finished run in `folder`; with `until`, of its search (or its training, where it is never cut) up to that epoch alone.
pub fn account(folder: &Path, until: Option<f64>) -> Result<Account> {
    let settings = Settings::load(&folder.join(CONFIG))?;
    let Snapshot { progress, .. } = Snapshot::load(&folder.join(STATE))?;
    let init_path = folder.join(INIT);
    let (dense, init) = carried(&init_path)?;
    let (now, _) = carried(&folder.join(MODEL))?;
    let images: DatasetInfo = init.get(DATA_KEY, &init_path)?;
    let never_cut = progress.layers.is_none();
    let inside = |row: &&EpochReport| {
        until.is_none_or(|until| (row.phase == Phase::Search || never_cut) && row.epoch <= until + 1e-9)
    };
    let history: Vec<EpochReport> = progress.history.iter().filter(inside).cloned().collect();
    // A run that began with a drawn ticket has trained from there on.
    let searched = history.iter().filter(|row| row.phase == Phase::Search).map(|row| row.epoch).fold(0.0, f64::max);
    let last = history.last().map_or(0.0, |row| row.epoch);
    let drawn = progress.watched.iter().find_map(|watched| watched.ticket.as_ref()).map_or(0.0, |ticket| ticket.epoch);
    let cut = until.is_none() && progress.layers.is_some();
    let from = if searched > 0.0 || !cut { searched } else { drawn };
    let trained = (last - from).max(0.0);

    let of = |phase: Phase| history.iter().filter(move |row| row.phase == phase);
    let mut seconds = BTreeMap::new();
    let share = if progress.draws > 1 {
        (searched * settings.draws_per_epoch as f64 + 1.0) / progress.draws as f64
    } else {
        1.0
    };
    let mut put = |activity, value: f64| {
        if value > 0.0 {
            seconds.insert(activity, value);
        }
    };
    put(Activity::Search, of(Phase::Search).map(|row| row.train_seconds).sum());
    put(Activity::Draw, progress.seconds.draw * share.min(1.0));
    put(Activity::Train, of(Phase::Train).map(|row| row.train_seconds).sum());
    put(Activity::Evaluation, history.iter().map(|row| row.test_seconds).sum());
    if cut {
        put(Activity::Surgery, progress.seconds.surgery);
    }

    let batch = settings.batch_size.min(images.train.max(1));
    let steps = images.train as f64 / batch as f64;
    let tests = images.test as f64 / batch as f64;
    let (mut costs, mut as_int8) = (Vec::new(), Vec::new());
    let mut count = |activity, precision: &str, cost: &dyn Fn(Numerics) -> Cost| {
        as_int8.push((activity, cost(Numerics::Int8)));
        costs.extend(Numerics::of_precision(precision).iter().map(|numerics| (activity, *numerics, cost(*numerics))));
    };
    let (search, train) = (settings.search_precision.as_str(), settings.train_precision.as_str());
    if searched > 0.0 {
        count(Activity::Search, search, &|n| cost::step(&dense, batch, n).times(steps * searched));
        let draws = searched * settings.draws_per_epoch as f64 + 1.0;
        count(Activity::Draw, "f32", &|_| cost::draw(&dense).times(draws));
    }
    if cut {
        count(Activity::Surgery, "f32", &|_| cost::surgery(&dense, &now));
    }
    if trained > 0.0 {
        count(Activity::Train, train, &|n| cost::step(&now, batch, n).times(steps * trained));
    }
    for (phase, graph, precision) in [(Phase::Search, &dense, search), (Phase::Train, &now, train)] {
        let passes = of(phase).count() as f64;
        if passes > 0.0 {
            count(Activity::Evaluation, precision, &|n| cost::evaluation(graph, batch, n).times(tests * passes));
        }
    }
    let flops = flops::training(dense.flops(), images.train as u64, searched)
        + flops::training(now.flops(), images.train as u64, trained);
    let energy = energy::of_run(folder)?;
    let size = (now.parameter_count(), now.flops());
    if costs.iter().any(|(_, numerics, _)| *numerics != Numerics::F32) {
        as_int8.clear();
    }
    Ok(Account {
        as_int8,
        energy: energy.into_iter().filter_map(|phase| scaled(phase, &seconds)).collect(),
        layers: progress.layers.filter(|_| cut),
        precisions: [settings.search_precision, settings.train_precision],
        epochs: searched + trained,
        seconds,
        costs,
        flops,
        history,
        size,
    })
}

/// A phase's measured energy, in proportion to the seconds that are charged.
fn scaled(mut phase: PhaseEnergy, seconds: &BTreeMap<Activity, f64>) -> Option<PhaseEnergy> {
    let share = (*seconds.get(&phase.activity)? / phase.seconds.max(1e-9)).min(1.0);
    phase.seconds *= share;
    for reading in [&mut phase.cpu, &mut phase.gpu, &mut phase.ram] {
        if let crate::energy::Reading::Joules(joules) = reading {
            *joules *= share;
        }
    }
    Some(phase)
}

/// Precision of rows that model f32 work as if it were executed in int8: what that would save, whatever became of accuracy.
pub const AS_INT8: &str = "as-int8";

/// Modelled energy of all phases over these accounts, for every profile; where all was in f32, also as if in int8.
pub fn modelled(accounts: &[Account]) -> Vec<ModelledRow> {
    let mut sums: BTreeMap<(Activity, &'static str), Cost> = BTreeMap::new();
    for (activity, numerics, cost) in accounts.iter().flat_map(|account| &account.costs) {
        let sum = sums.entry((*activity, numerics.name())).or_default();
        *sum = *sum + *cost;
    }
    if accounts.iter().all(|account| !account.as_int8.is_empty()) {
        for (activity, cost) in accounts.iter().flat_map(|account| &account.as_int8) {
            let sum = sums.entry((*activity, AS_INT8)).or_default();
            *sum = *sum + *cost;
        }
    }
    let mut rows = Vec::new();
    for profile in &PROFILES {
        for ((activity, precision), cost) in &sums {
            let joules = profile.joules(cost);
            rows.push(ModelledRow {
                phase: activity.name().into(),
                precision: (*precision).into(),
                profile: profile.name.into(),
                macs: cost.macs(),
                elementwise_ops: cost.ops_f32,
                dram_bytes: cost.dram_bytes,
                sram_bytes: cost.sram_bytes,
                joules_arithmetic: joules.arithmetic,
                joules_dram: joules.dram,
                joules_sram: joules.sram,
                joules: joules.total(),
                ..Default::default()
            });
        }
    }
    rows
}

/// Writes `energy-modelled.csv` of the run in `folder`.
pub fn save_modelled(folder: &Path, seed: u64) -> Result<()> {
    let rows = modelled(&[account(folder, None)?]);
    let rows: Vec<ModelledRow> = rows.into_iter().map(|row| ModelledRow { seed, ..row }).collect();
    fsio::write_atomic(&folder.join("energy-modelled.csv"), csv(&of_a_run(&MODELLED), &rows)?.as_bytes())
}
