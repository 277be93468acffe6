//! Energy per phase of a run: search, draw, surgery, train, evaluation.
//!
//! A phase is made of many pieces (evaluation follows every epoch). Its energy is known where its pieces are long enough, on average, for the counter. What was counted can be
//! stored and put back, so that a run in several processes has one account.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::meter::{Component, EnergyMeter, Reading};

/// What a run is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activity {
    /// Training steps of the dense network, until the ticket emerges.
    Search,
    /// Drawing masks.
    Draw,
    /// Cutting the network.
    Surgery,
    /// Training steps after the ticket, or of a network that is never cut.
    Train,
    /// Passes over the test set.
    Evaluation,
}

impl Activity {
    /// All of them, in the order of a run.
    pub const ALL: [Activity; 5] =
        [Activity::Search, Activity::Draw, Activity::Surgery, Activity::Train, Activity::Evaluation];

    /// As in files.
    pub fn name(self) -> &'static str {
        match self {
            Activity::Search => "search",
            Activity::Draw => "draw",
            Activity::Surgery => "surgery",
            Activity::Train => "train",
            Activity::Evaluation => "evaluation",
        }
    }
}

/// What one phase came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseEnergy {
    /// The phase.
    pub activity: Activity,
    /// Seconds, over all its pieces.
    pub seconds: f64,
    /// Energy of the processor packages.
    pub cpu: Reading,
    /// Energy of the GPU board.
    pub gpu: Reading,
    /// Energy of the memory.
    pub ram: Reading,
    /// Watts of all known components together when nothing ran.
    pub idle_watts: Option<f64>,
}

/// Pieces of one phase so far.
#[derive(Clone, Debug, Default)]
struct Account {
    seconds: f64,
    pieces: u64,
    totals: Vec<u128>,
}

/// Attributes a meter's energy to phases.
pub struct PhaseMeter {
    meter: EnergyMeter,
    now: Option<(Activity, Instant, Vec<u128>)>,
    accounts: BTreeMap<Activity, Account>,
    before: Vec<PhaseEnergy>,
}

impl PhaseMeter {
    /// With what earlier processes of the same run counted.
    pub fn new(meter: EnergyMeter, before: Vec<PhaseEnergy>) -> PhaseMeter {
        PhaseMeter { meter, now: None, accounts: BTreeMap::new(), before }
    }

    /// From here on the run does `activity`, or nothing that is counted.
    pub fn enter(&mut self, activity: Option<Activity>) {
        let (at, totals) = self.meter.totals();
        if let Some((activity, begun, before)) = self.now.take() {
            let account = self.accounts.entry(activity).or_default();
            account.seconds += (at - begun).as_secs_f64();
            account.pieces += 1;
            account.totals.resize(totals.len(), 0);
            for (sum, (now, before)) in account.totals.iter_mut().zip(totals.iter().zip(&before)) {
                *sum += now.saturating_sub(*before);
            }
        }
        self.now = activity.map(|activity| (activity, at, totals));
    }

    /// Every phase that occurred, in the order of a run.
    pub fn phases(&self) -> Vec<PhaseEnergy> {
        let idle_watts = self.meter.idle_watts();
        let mut all = Vec::new();
        for activity in Activity::ALL {
            let earlier = self.before.iter().find(|phase| phase.activity == activity);
            let now = self.accounts.get(&activity).map(|account| {
                let zero = vec![0; account.totals.len()];
                let reading =
                    |component| self.meter.between(component, &zero, &account.totals, account.seconds, account.pieces);
                let [cpu, gpu, ram] = Component::ALL.map(reading);
                PhaseEnergy { activity, seconds: account.seconds, cpu, gpu, ram, idle_watts }
            });
            all.extend(match (earlier, now) {
                (Some(a), Some(b)) => Some(PhaseEnergy {
                    activity,
                    seconds: a.seconds + b.seconds,
                    cpu: a.cpu.plus(&b.cpu),
                    gpu: a.gpu.plus(&b.gpu),
                    ram: a.ram.plus(&b.ram),
                    idle_watts: b.idle_watts.or(a.idle_watts),
                }),
                (Some(a), None) => Some(a.clone()),
                (None, now) => now,
            });
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::meter::tests::Script;
    use super::*;

    #[test]
    fn energy_goes_to_the_phase_that_ran_and_adds_up_over_processes() {
        // Read when the meter is made, then at each `enter`.
        let values = [0, 1, 3, 7, 15, 31].map(|joules| Ok(joules * 1_000_000)).to_vec();
        let script = Script(Component::Cpu, values, None, Duration::ZERO);
        let mut phases = PhaseMeter::new(EnergyMeter::new(vec![Box::new(script)], BTreeMap::new()), Vec::new());
        for activity in [Some(Activity::Search), Some(Activity::Evaluation), Some(Activity::Search), None, None] {
            phases.enter(activity);
        }
        let joules = |phases: &[PhaseEnergy]| phases.iter().map(|p| (p.activity, p.cpu.joules())).collect::<Vec<_>>();
        let expected = [(Activity::Search, Some(2.0 + 8.0)), (Activity::Evaluation, Some(4.0))];
        assert_eq!(joules(&phases.phases()), expected);
        let stored = serde_json::to_string(&phases.phases()).unwrap();
        let values = vec![Ok(0), Ok(0), Ok(5_000_000)];
        let script = Script(Component::Cpu, values, None, Duration::ZERO);
        let meter = EnergyMeter::new(vec![Box::new(script)], BTreeMap::new());
        let mut again = PhaseMeter::new(meter, serde_json::from_str(&stored).unwrap());
        again.enter(Some(Activity::Search));
        again.enter(None);
        assert_eq!(joules(&again.phases()), [(Activity::Search, Some(15.0)), (Activity::Evaluation, Some(4.0))]);
    }
}
