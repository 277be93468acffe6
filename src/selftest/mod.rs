//! Whether a device computes what it should, kernel by kernel: a quick subset of the test suite that every build carries, for machines on which the suite cannot run.
//!
//! Each case runs an operator on the CPU and on the device with the same operands and compares what it wrote: 8-bit operators byte for byte, f32 within the rounding of
//! their own sums. Kernels that are no operator's are compared with plain Rust. Which kernels a case launched is watched at the driver, so that a verdict is one about
//! kernels; every kernel of the build has one. A device is seen twice: as it is, and as if it had one multiprocessor, so that small shapes take the large tiles, too.
//!
//! Not here: all shapes and corners (`tests/`), what to do about a verdict (`crate::cli`), and who remembers it ([`trust`]).

mod eight_bit;
mod f32;
mod raw;
mod side;
pub mod trust;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde::Serialize;

use crate::backend::Backend;
use crate::backend::cpu::Cpu;
use crate::backend::cuda::Cuda;
use crate::driver::kernels::MODULES;
use crate::driver::observe::{Call, Observed, Observer};
use crate::driver::{self, DeviceProps, Dims, Driver, KernelId};
use crate::{Error, Result};
use side::Side;

/// What came of a kernel.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase", tag = "verdict")]
pub enum Outcome {
    /// All cases that launched it agree.
    Passed {
        /// The largest deviation as a share of what is allowed; 0 where all bytes agree.
        share: f64,
    },
    /// A case that launched it does not.
    Failed {
        /// Which.
        case: String,
        /// Where and by how much, or what the device said.
        what: String,
    },
    /// No case launched it: nothing is known.
    #[serde(rename = "not reached")]
    NotReached,
}

/// A kernel with its verdict.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// Its symbol.
    pub kernel: &'static str,
    /// Cases that launched it.
    pub cases: usize,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What a self-test found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// As on the command line: `cuda:0`.
    pub device: String,
    /// `NVIDIA A100-SXM4-80GB`.
    pub name: String,
    /// Version of the driver.
    pub driver: String,
    /// Every kernel of the build, in its order.
    pub kernels: Vec<Verdict>,
    /// Cases that failed before they launched a kernel: the device was lost, or has no memory.
    pub errors: Vec<String>,
    /// Cases, each counted once for each way in which the device was seen.
    pub cases: usize,
    /// How long it took.
    pub seconds: f64,
}

impl Report {
    /// Whether every kernel passed.
    pub fn passed(&self) -> bool {
        let all = self.kernels.iter().all(|k| matches!(k.outcome, Outcome::Passed { .. }));
        all && self.errors.is_empty() && !self.kernels.is_empty()
    }

    /// Kernels that passed, failed, and were not reached.
    pub fn counts(&self) -> [usize; 3] {
        let count = |is: fn(&Outcome) -> bool| self.kernels.iter().filter(|k| is(&k.outcome)).count();
        [
            count(|o| matches!(o, Outcome::Passed { .. })),
            count(|o| matches!(o, Outcome::Failed { .. })),
            count(|o| matches!(o, Outcome::NotReached)),
        ]
    }

    /// One line: how many kernels did what, and the first that did not pass.
    pub fn summary(&self) -> String {
        let [passed, failed, missed] = self.counts();
        let mut text = format!("{passed} of {} kernels passed", self.kernels.len());
        if failed + missed > 0 {
            text += &format!(", {failed} failed, {missed} not reached");
        }
        let first = self.kernels.iter().find_map(|k| match &k.outcome {
            Outcome::Failed { case, what } => Some(format!("; {}: {case}: {}", k.kernel, first_line(what))),
            _ => None,
        });
        text + &first.or_else(|| self.errors.first().map(|e| format!("; {}", first_line(e)))).unwrap_or_default()
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// Runs operators on one side.
type Operators = Box<dyn Fn(&mut Side) -> Result<()>>;
/// Launches kernels on a GPU.
type Direct = Box<dyn Fn(&Cuda, &mut Side) -> Result<()>>;

/// What runs a case on one side.
enum Body {
    /// Operators of [`Backend`]: run on the CPU as well, whose results are the expected ones.
    Operator(Operators),
    /// Launches below [`Backend`], which bring their expected results along.
    Raw(Direct),
}

/// One comparison.
struct Case {
    name: String,
    body: Body,
}

impl Case {
    fn operator(name: String, body: impl Fn(&mut Side) -> Result<()> + 'static) -> Case {
        Case { name, body: Body::Operator(Box::new(body)) }
    }

    fn raw(name: String, body: impl Fn(&Cuda, &mut Side) -> Result<()> + 'static) -> Case {
        Case { name, body: Body::Raw(Box::new(body)) }
    }
}

/// Runs the self-test on a device.
///
/// # Errors
/// [`Error::DeviceUnavailable`] where this build has no kernels; what the driver says when it makes a stream. What goes wrong in a case is a verdict.
pub fn run(driver: Arc<dyn Driver>) -> Result<Report> {
    run_cases(driver, "")
}

/// Runs those cases whose names contain `part`; the other kernels are not reached.
///
/// # Errors
/// As [`run`].
pub fn run_cases(driver: Arc<dyn Driver>, part: &str) -> Result<Report> {
    let start = Instant::now();
    let cpu = Cpu::new();
    let props = driver.props().clone();
    let views = [None, Some(1)].map(|sms| View::open(&driver, sms));
    let views: Vec<View> = views.into_iter().collect::<Result<_>>()?;
    let mut tally = Tally::default();
    for case in f32::cases().into_iter().chain(raw::cases()).chain(eight_bit::cases()) {
        if !case.name.contains(part) {
            continue;
        }
        let expected = match &case.body {
            Body::Operator(body) => Some(expect(&*cpu, body).map_err(|e| defect(&case.name, &e))?),
            Body::Raw(_) => None,
        };
        for view in &views {
            let result = view.run(&case, expected.as_deref());
            tally.add(&case.name, view.launches.take(), result);
        }
    }
    let verdict = |kernel: &'static str| match tally.kernels.remove(kernel) {
        Some((cases, outcome)) => Verdict { kernel, cases, outcome },
        None => Verdict { kernel, cases: 0, outcome: Outcome::NotReached },
    };
    let kernels = MODULES.iter().flat_map(|module| module.entries).map(|entry| entry.name).map(verdict).collect();
    Ok(Report {
        device: props.device,
        name: props.name,
        driver: props.driver,
        kernels,
        errors: tally.errors,
        cases: tally.cases,
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// A case that the reference cannot run is a mistake in the case.
fn defect(case: &str, error: &Error) -> Error {
    Error::Graph { node: case.into(), op: "self-test", what: format!("the CPU says: {error}") }
}

/// Results of the CPU.
fn expect(cpu: &dyn Backend, body: &dyn Fn(&mut Side) -> Result<()>) -> Result<Vec<Vec<u8>>> {
    let mut side = Side::new(cpu);
    body(&mut side)?;
    side.results()
}

#[derive(Default)]
struct Tally {
    /// Cases and outcome so far.
    kernels: BTreeMap<String, (usize, Outcome)>,
    errors: Vec<String>,
    cases: usize,
}

impl Tally {
    fn add(&mut self, case: &str, launched: BTreeSet<String>, result: std::result::Result<f64, String>) {
        self.cases += 1;
        if launched.is_empty() {
            self.errors.push(match result {
                Ok(_) => format!("{case}: launched no kernel"),
                Err(what) => format!("{case}: {what}"),
            });
            return;
        }
        for kernel in launched {
            let (cases, outcome) = self.kernels.entry(kernel).or_insert((0, Outcome::Passed { share: 0.0 }));
            *cases += 1;
            match (outcome, &result) {
                (Outcome::Passed { share }, Ok(now)) => *share = share.max(*now),
                (outcome @ Outcome::Passed { .. }, Err(what)) => {
                    *outcome = Outcome::Failed { case: case.into(), what: what.clone() };
                }
                _ => {} // the first failure stays
            }
        }
    }
}

/// A device as a backend under observation.
struct View {
    cuda: Cuda,
    launches: Arc<Launches>,
}

impl View {
    fn open(driver: &Arc<dyn Driver>, sms: Option<u32>) -> Result<View> {
        let launches = Arc::new(Launches { sms, ..Launches::default() });
        let observed = Observed::new(Arc::clone(driver), Shared(Arc::clone(&launches)));
        Ok(View { cuda: Cuda::new(Arc::new(observed))?, launches })
    }

    /// The largest share of the tolerance, or what is wrong.
    fn run(&self, case: &Case, expected: Option<&[Vec<u8>]>) -> std::result::Result<f64, String> {
        let mut side = Side::new(&self.cuda);
        match &case.body {
            Body::Operator(body) => body(&mut side),
            Body::Raw(body) => body(&self.cuda, &mut side),
        }
        .map_err(|e| e.to_string())?;
        side.compare(expected)
    }
}

/// Which kernels were launched.
#[derive(Default)]
struct Launches {
    /// Multiprocessors to show in place of the device's own.
    sms: Option<u32>,
    state: Mutex<(HashMap<KernelId, String>, BTreeSet<String>)>,
}

impl Launches {
    /// Names of kernels launched since the last call.
    fn take(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner).1)
    }
}

/// [`Launches`] behind an observed driver, and still at hand.
struct Shared(Arc<Launches>);

impl Observer for Shared {
    fn before(&self, _: Call) -> driver::Result<()> {
        Ok(())
    }

    fn props(&self, props: DeviceProps) -> DeviceProps {
        DeviceProps { sm_count: self.0.sms.unwrap_or(props.sm_count), ..props }
    }

    fn named(&self, kernel: KernelId, name: &str) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).0.insert(kernel, name.into());
    }

    fn launching(&self, kernel: KernelId, _: Dims) -> driver::Result<()> {
        let (names, launched) = &mut *self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        launched.extend(names.get(&kernel).cloned());
        Ok(())
    }
}
