//! Measured energy of a run: follows its phases, keeps `energy.json` to go on from and writes `energy.csv` with CodeCarbon's column names.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::energy::{Activity, Component, EnergyMeter, KWH, PhaseEnergy, PhaseMeter, Reading};
use crate::report::study::{MEASURED, MeasuredRow, of_a_run};
use crate::report::table::csv;
use crate::{Error, Result, fsio};

/// What was counted so far, for a run that goes on in another process.
const ACCOUNT: &str = "energy.json";
/// For spreadsheets.
const TABLE: &str = "energy.csv";
/// Long enough for a GPU's counter, which moves ten times a second.
const IDLE: Duration = Duration::from_millis(1200);

/// Follows one run.
pub struct RunMeter {
    folder: PathBuf,
    seed: u64,
    phases: PhaseMeter,
}

impl RunMeter {
    /// For the run in `folder` on `device` (as given to `--device`). What an earlier process counted is gone on from if `resumed`.
    pub fn new(folder: &Path, device: &str, seed: u64, resumed: bool) -> Result<RunMeter> {
        let gpu = device.strip_prefix("cuda").map(|number| number.trim_start_matches(':').parse().unwrap_or(0));
        let mut meter = EnergyMeter::open(gpu);
        if meter.measures() {
            meter.measure_idle(IDLE);
        }
        let before = if resumed { of_run(folder)? } else { Vec::new() };
        Ok(RunMeter { folder: folder.into(), seed, phases: PhaseMeter::new(meter, before) })
    }

    /// From here on the run does `activity`.
    pub fn enter(&mut self, activity: Option<Activity>) {
        self.phases.enter(activity);
    }

    /// Writes both files.
    pub fn save(&self) -> Result<()> {
        let phases = self.phases.phases();
        let path = self.folder.join(ACCOUNT);
        let json = serde_json::to_string(&phases)
            .map_err(|e| Error::bad_file(&path, None, e.to_string(), "this is a defect, please report it"))?;
        fsio::write_atomic(&path, json.as_bytes())?;
        let name = self.folder.file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned());
        let rows: Vec<MeasuredRow> = phases.iter().map(|phase| measured(phase, &name, self.seed)).collect();
        fsio::write_atomic(&self.folder.join(TABLE), csv(&of_a_run(&MEASURED), &rows)?.as_bytes())
    }
}

/// Energy per phase of the run in `folder`; none where it has no account.
pub fn of_run(folder: &Path) -> Result<Vec<PhaseEnergy>> {
    let path = folder.join(ACCOUNT);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io("read the measured energy", &path, e)),
    };
    let hint = "remove it: the energy of earlier processes is then left out";
    serde_json::from_str(&text).map_err(|e| Error::bad_file(&path, None, e.to_string(), hint))
}

/// One phase as a row; carbon emissions are unknown here, for nobody told the grid's intensity.
pub fn measured(phase: &PhaseEnergy, run: &str, seed: u64) -> MeasuredRow {
    let of = |component| match component {
        Component::Cpu => &phase.cpu,
        Component::Gpu => &phase.gpu,
        Component::Ram => &phase.ram,
    };
    let energy = |component| of(component).joules().map(|joules| joules / KWH);
    let power = |component| of(component).joules().map(|joules| joules / phase.seconds.max(1e-9));
    let known: Vec<f64> = Component::ALL.into_iter().filter_map(energy).collect();
    let why: Vec<String> = Component::ALL
        .into_iter()
        .filter_map(|component| match of(component) {
            Reading::Unknown(why) => Some(format!("{}: {why}", component.name())),
            Reading::Joules(_) => None,
        })
        .collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    MeasuredRow {
        timestamp: crate::report::iso_time(now),
        project_name: "earlybird".into(),
        run_id: run.into(),
        duration: phase.seconds,
        cpu_power: power(Component::Cpu),
        gpu_power: power(Component::Gpu),
        ram_power: power(Component::Ram),
        cpu_energy: energy(Component::Cpu),
        gpu_energy: energy(Component::Gpu),
        ram_energy: energy(Component::Ram),
        energy_consumed: (!known.is_empty()).then(|| known.iter().sum()),
        idle_power: phase.idle_watts,
        seed,
        phase: phase.activity.name().into(),
        unavailable: (!why.is_empty()).then(|| why.join("; ")),
        ..Default::default()
    }
}
