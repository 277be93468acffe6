//! Windows over energy counters: begin, end, and the energy between, per component, with an idle baseline.
//!
//! A counter that is missing, cannot be read, or is too coarse for a window gives a reason instead of a number. Counters wrap around (RAPL's after minutes under
//! load): a thread reads them twice a minute and adds up differences. Not here: where counters come from (`nvml.rs`, `rapl.rs`) and the phases of a run
//! ([`super::PhaseMeter`]).

use std::collections::BTreeMap;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{nvml, rapl};

/// What a counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    /// Processor packages.
    Cpu,
    /// The GPU board.
    Gpu,
    /// Memory.
    Ram,
}

impl Component {
    /// All of them.
    pub const ALL: [Component; 3] = [Component::Cpu, Component::Gpu, Component::Ram];

    /// `cpu`, `gpu`, `ram`, as in CodeCarbon's columns.
    pub fn name(self) -> &'static str {
        match self {
            Component::Cpu => "cpu",
            Component::Gpu => "gpu",
            Component::Ram => "ram",
        }
    }
}

/// A running counter of energy.
pub trait Counter: Send {
    /// What it is called, for messages.
    fn name(&self) -> String;
    /// What it counts.
    fn component(&self) -> Component;
    /// Its value in microjoules, or why it cannot be read.
    fn read(&mut self) -> Result<u64, String>;
    /// The value at which it starts from 0 again, if it does.
    fn range(&self) -> Option<u64>;
    /// How often it is brought up to date.
    fn resolution(&self) -> Duration;
}

/// Energy of a component, or why it is not known.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Reading {
    /// Joules.
    Joules(f64),
    /// Why there is no number.
    Unknown(String),
}

impl Reading {
    /// The number, if there is one.
    pub fn joules(&self) -> Option<f64> {
        match self {
            Reading::Joules(joules) => Some(*joules),
            Reading::Unknown(_) => None,
        }
    }

    /// The sum of two: unknown where one of them is.
    pub fn plus(&self, other: &Reading) -> Reading {
        match (self, other) {
            (Reading::Joules(a), Reading::Joules(b)) => Reading::Joules(a + b),
            (Reading::Unknown(why), _) | (_, Reading::Unknown(why)) => Reading::Unknown(why.clone()),
        }
    }
}

/// What happened between [`EnergyMeter::begin`] and [`EnergyMeter::end`].
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// As it was begun.
    pub name: String,
    /// Seconds.
    pub seconds: f64,
    /// Energy of the processor packages, idle power included.
    pub cpu: Reading,
    /// Energy of the GPU board, idle power included.
    pub gpu: Reading,
    /// Energy of the memory.
    pub ram: Reading,
    /// Watts of all known components together when nothing ran, if [`EnergyMeter::measure_idle`] was called.
    pub idle_watts: Option<f64>,
}

impl Window {
    /// One component's energy.
    pub fn of(&self, component: Component) -> &Reading {
        match component {
            Component::Cpu => &self.cpu,
            Component::Gpu => &self.gpu,
            Component::Ram => &self.ram,
        }
    }
}

/// A window is known where it is at least this many updates of its counter long: an error of one update is then a tenth at most.
const UPDATES: u32 = 10;
/// No single counter's component draws more than this: tells how long a counter may go unread before it could have wrapped twice.
const MOST_WATTS: f64 = 2000.0;
/// How often the thread reads.
const POLL: Duration = Duration::from_secs(30);

/// A counter and the energy counted so far.
struct Tally {
    counter: Box<dyn Counter>,
    last: Result<u64, String>,
    read: Instant,
    /// Microjoules since the meter was made.
    total: u128,
    /// Why the total is worthless, once it is.
    broken: Option<String>,
}

impl Tally {
    fn new(mut counter: Box<dyn Counter>) -> Tally {
        let last = counter.read();
        let broken = last.as_ref().err().map(|why| format!("{}: {why}", counter.name()));
        Tally { counter, last, read: Instant::now(), total: 0, broken }
    }

    fn poll(&mut self) {
        let (now, name) = (self.counter.read(), self.counter.name());
        let elapsed = std::mem::replace(&mut self.read, Instant::now()).elapsed();
        match (&self.last, &now, self.counter.range()) {
            (Ok(_), Ok(_), Some(range)) if elapsed.as_secs_f64() * MOST_WATTS * 1e6 > range as f64 => {
                let seconds = elapsed.as_secs();
                self.broken =
                    Some(format!("{name}: not read for {seconds} s, in which it may have wrapped around twice"));
            }
            (Ok(before), Ok(now), _) if now >= before => self.total += u128::from(now - before),
            (Ok(before), Ok(now), Some(range)) => self.total += u128::from(now + range.saturating_sub(*before)),
            (Ok(_), Ok(_), None) => self.broken = Some(format!("{name}: the counter was reset")),
            (_, Err(why), _) => self.broken = Some(format!("{name}: {why}")),
            (Err(_), Ok(_), _) => {} // its first reading failed: broken already
        }
        self.last = now;
    }
}

#[derive(Clone)]
struct Mark {
    at: Instant,
    totals: Vec<u128>,
}

/// Reads energy counters around a user's own code.
///
/// Windows may overlap and nest. Counters count everything that runs on the component, not only this process: measure on a quiet machine, and see
/// [`EnergyMeter::measure_idle`].
pub struct EnergyMeter {
    tallies: Arc<Mutex<Vec<Tally>>>,
    absent: BTreeMap<Component, String>,
    open: BTreeMap<String, Mark>,
    idle: BTreeMap<Component, f64>,
    /// Dropped with the meter, which ends the thread.
    _stop: Option<Sender<()>>,
}

impl EnergyMeter {
    /// Counters of this machine: RAPL, and NVML's of GPU number `gpu` (NVML's order, that of the PCI bus) where one is named.
    pub fn open(gpu: Option<u32>) -> EnergyMeter {
        let (mut counters, mut absent) = rapl::open(std::path::Path::new(rapl::POWERCAP));
        match gpu.map(nvml::open) {
            Some(Ok(counter)) => counters.push(Box::new(counter)),
            Some(Err(why)) => drop(absent.insert(Component::Gpu, why)),
            None => drop(absent.insert(Component::Gpu, "no GPU was used".into())),
        }
        EnergyMeter::new(counters, absent)
    }

    /// Over these counters; `absent` says why a component has none.
    pub fn new(counters: Vec<Box<dyn Counter>>, absent: BTreeMap<Component, String>) -> EnergyMeter {
        let wraps = counters.iter().any(|counter| counter.range().is_some());
        let tallies = Arc::new(Mutex::new(counters.into_iter().map(Tally::new).collect::<Vec<_>>()));
        let stop = wraps.then(|| {
            let (stop, stopped) = channel::<()>();
            let tallies = tallies.clone();
            std::thread::spawn(move || {
                while stopped.recv_timeout(POLL) == Err(RecvTimeoutError::Timeout) {
                    let mut tallies = tallies.lock().unwrap_or_else(PoisonError::into_inner);
                    tallies.iter_mut().for_each(Tally::poll);
                }
            });
            stop
        });
        EnergyMeter { tallies, absent, open: BTreeMap::new(), idle: BTreeMap::new(), _stop: stop }
    }

    /// Whether there is any counter at all.
    pub fn measures(&self) -> bool {
        let tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        tallies.iter().any(|tally| tally.broken.is_none())
    }

    /// Why a component has no counter.
    pub fn absent(&self, component: Component) -> Option<&str> {
        self.absent.get(&component).map(String::as_str)
    }

    /// Begins the window `name`; one of that name that was begun before is begun anew. Work on a device should be finished before (synchronise).
    pub fn begin(&mut self, name: &str) {
        let mark = self.mark();
        self.open.insert(name.into(), mark);
    }

    /// Ends the window `name`; `None` where it was not begun.
    pub fn end(&mut self, name: &str) -> Option<Window> {
        let begun = self.open.remove(name)?;
        let now = self.mark();
        let seconds = (now.at - begun.at).as_secs_f64();
        let reading = |component| self.between(component, &begun.totals, &now.totals, seconds, 1);
        let [cpu, gpu, ram] = Component::ALL.map(reading);
        Some(Window { name: name.into(), seconds, cpu, gpu, ram, idle_watts: self.idle_watts() })
    }

    /// Sleeps for `time` and takes what is used meanwhile for the idle baseline. Give a second or more: a GPU's counter moves ten times a second.
    pub fn measure_idle(&mut self, time: Duration) {
        self.begin("idle baseline");
        std::thread::sleep(time);
        if let Some(window) = self.end("idle baseline") {
            for component in Component::ALL {
                if let Some(joules) = window.of(component).joules() {
                    self.idle.insert(component, joules / window.seconds);
                }
            }
        }
    }

    /// Watts of all components with a baseline together.
    pub fn idle_watts(&self) -> Option<f64> {
        (!self.idle.is_empty()).then(|| self.idle.values().sum())
    }

    fn mark(&self) -> Mark {
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        tallies.iter_mut().for_each(Tally::poll);
        Mark { at: Instant::now(), totals: tallies.iter().map(|tally| tally.total).collect() }
    }

    /// Time and microjoules of every counter since the meter was made.
    pub(super) fn totals(&self) -> (Instant, Vec<u128>) {
        let mark = self.mark();
        (mark.at, mark.totals)
    }

    /// Energy of `component` between two readings that cover `pieces` separate pieces of `seconds` in all.
    pub(super) fn between(
        &self,
        component: Component,
        begun: &[u128],
        now: &[u128],
        seconds: f64,
        pieces: u64,
    ) -> Reading {
        let tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sum = None;
        for (i, tally) in tallies.iter().enumerate().filter(|(_, tally)| tally.counter.component() == component) {
            if let Some(why) = &tally.broken {
                return Reading::Unknown(why.clone());
            }
            let (update, piece) = (tally.counter.resolution(), seconds / pieces.max(1) as f64);
            if piece < (update * UPDATES).as_secs_f64() {
                let what = if pieces > 1 { "pieces of" } else { "" };
                let why = format!(
                    "{what} {piece:.3} s are too short for {}, which is updated every {} ms",
                    tally.counter.name(),
                    update.as_millis()
                );
                return Reading::Unknown(why.trim_start().into());
            }
            let joules = now[i].saturating_sub(begun[i]) as f64 * 1e-6;
            sum = Some(sum.unwrap_or(0.0) + joules);
        }
        let none = || self.absent.get(&component).cloned().unwrap_or_else(|| "no counter".into());
        sum.map_or_else(|| Reading::Unknown(none()), Reading::Joules)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A counter that gives the values of a list, one after the other, then its last for ever.
    pub struct Script(pub Component, pub Vec<Result<u64, String>>, pub Option<u64>, pub Duration);

    impl Counter for Script {
        fn name(&self) -> String {
            "script".into()
        }
        fn component(&self) -> Component {
            self.0
        }
        fn read(&mut self) -> Result<u64, String> {
            if self.1.len() > 1 { self.1.remove(0) } else { self.1[0].clone() }
        }
        fn range(&self) -> Option<u64> {
            self.2
        }
        fn resolution(&self) -> Duration {
            self.3
        }
    }

    fn meter(values: &[u64], range: Option<u64>, resolution: Duration) -> EnergyMeter {
        let values = values.iter().map(|v| Ok(*v)).collect();
        EnergyMeter::new(vec![Box::new(Script(Component::Cpu, values, range, resolution))], BTreeMap::new())
    }

    #[test]
    fn windows_nest_and_overlap() {
        let mut m = meter(&[0, 1_000_000, 3_000_000, 6_000_000, 10_000_000], None, Duration::ZERO);
        m.begin("a"); // 1 J
        m.begin("b"); // 3 J
        assert_eq!(m.end("a").unwrap().cpu, Reading::Joules(5.0));
        let b = m.end("b").unwrap();
        assert_eq!((b.cpu, b.gpu), (Reading::Joules(7.0), Reading::Unknown("no counter".into())));
        assert!(m.end("b").is_none());
    }

    #[test]
    fn a_counter_that_wraps_is_added_up_and_one_that_falls_otherwise_is_not_believed() {
        let range = 262_143_328_850; // of an Intel package, 262 kJ
        let mut m = meter(&[0, range - 1_000_000, 500_000], Some(range), Duration::ZERO);
        m.begin("a");
        assert_eq!(m.end("a").unwrap().cpu, Reading::Joules(1.5));
        let mut m = meter(&[0, 1_000_000, 500_000], None, Duration::ZERO);
        m.begin("a");
        assert!(matches!(m.end("a").unwrap().cpu, Reading::Unknown(why) if why.contains("reset")));
    }

    #[test]
    fn windows_too_short_for_the_counter_are_unknown_not_zero() {
        let mut m = meter(&[0, 0, 0], None, Duration::from_millis(100));
        m.begin("a");
        let Reading::Unknown(why) = m.end("a").unwrap().cpu else { panic!("known") };
        assert!(why.contains("too short") && why.contains("100 ms"), "{why}");
    }

    #[test]
    fn a_counter_that_fails_and_one_unread_for_too_long_say_so() {
        let script = Script(Component::Gpu, vec![Ok(1), Ok(2), Err("gone".into())], None, Duration::ZERO);
        let mut m = EnergyMeter::new(vec![Box::new(script)], BTreeMap::from([(Component::Cpu, "none here".into())]));
        m.begin("a");
        let window = m.end("a").unwrap();
        assert_eq!(window.gpu, Reading::Unknown("script: gone".into()));
        assert_eq!(window.cpu, Reading::Unknown("none here".into()));
        let mut m = meter(&[0, 1, 2], Some(1000), Duration::ZERO); // wraps within a microsecond
        m.begin("a");
        std::thread::sleep(Duration::from_millis(2));
        assert!(matches!(m.end("a").unwrap().cpu, Reading::Unknown(why) if why.contains("wrapped")));
    }

    #[test]
    fn the_idle_baseline_is_a_power() {
        let mut m = meter(&[0, 1_000_000, 2_000_000], None, Duration::from_millis(1));
        assert_eq!(m.idle_watts(), None);
        m.measure_idle(Duration::from_millis(20));
        let watts = m.idle_watts().unwrap();
        assert!(watts > 5.0 && watts <= 50.0, "{watts}"); // 1 J in 20 ms or a little more
    }
}
