//! Where cases run: a virtual GPU with a kernel's module as it is or as a mutant, and what each step of the case shall give.
//!
//! A case is a list of steps that do not depend on each other. The kernel as it is runs all of them once: what they give, what they cost and which of them launch the kernel is
//! the [`Plan`]. A mutant runs those that do, the cheapest first, and stops at the first byte that differs, or when a launch takes far longer than any did before.
//! Not here: what cases launch (`cases.rs`, `operators.rs`, `int8.rs`).

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use earlybird::backend::cuda::Cuda;
use earlybird::backend::cuda::launch::Kernels;
use earlybird::backend::{Backend, Memory};
use earlybird::driver::observe::Observed;
use earlybird::driver::vgpu::Vgpu;
use earlybird::driver::{self, DevPtr, Driver, DriverError, StreamId};
use earlybird::ops::Kernel;
use earlybird::vgpu::device::Options;

use crate::common::Swap;

/// Warp instructions after which a launch of a kernel as it is would be stopped.
const BUDGET: u64 = 50_000_000;
/// A mutant may take so many times what the longest launch of its case took, and so many warp instructions more: waits for other blocks that nobody ends are stopped there.
const PATIENCE: u64 = 8;
const SLACK: u64 = 50_000;

/// Why a case ended early.
#[derive(Debug)]
pub enum Stop {
    /// A byte differs from the plan's.
    Different,
    /// What the device said.
    Failed(String),
}

impl From<DriverError> for Stop {
    fn from(error: DriverError) -> Stop {
        Stop::Failed(error.to_string())
    }
}

impl From<earlybird::Error> for Stop {
    fn from(error: earlybird::Error) -> Stop {
        Stop::Failed(error.to_string())
    }
}

/// What a case comes to.
pub type Outcome<T = ()> = Result<T, Stop>;

/// Runs a kernel, and gives all results to [`Bench::give`], step by step ([`Bench::each`]).
pub type Case = fn(&Bench) -> Outcome;

/// One step, as it is.
#[derive(Default)]
struct Step {
    results: Vec<u8>,
    /// Warp instructions.
    cost: u64,
    /// Kernels launched.
    kernels: BTreeSet<String>,
}

/// A case as it is.
pub struct Plan {
    steps: Vec<Step>,
    /// Steps that launch the kernel, the cheapest first.
    order: Vec<usize>,
    /// Kernels that these launch.
    pub kernels: BTreeSet<String>,
    /// Warp instructions after which a launch of a mutant is stopped.
    budget: u64,
}

impl Plan {
    /// Runs the case of `kernel` with the modules as they are.
    pub fn of(kernel: &str, case: Case) -> Outcome<Plan> {
        let device = Vgpu::new(Options { budget: BUDGET, workers: 1, profile: true, ..Options::checked() });
        let bench = Bench::new(Arc::new(device), None, None)?;
        case(&bench)?;
        bench.close();
        let State { steps, longest, .. } = bench.state.into_inner();
        let mut order: Vec<usize> = (0..steps.len()).filter(|i| steps[*i].kernels.contains(kernel)).collect();
        order.sort_by_key(|i| steps[*i].cost);
        let kernels = order.iter().flat_map(|i| steps[*i].kernels.iter().cloned()).collect();
        Ok(Plan { order, kernels, budget: longest * PATIENCE + SLACK, steps })
    }

    /// Whether nothing would be compared.
    pub fn is_empty(&self) -> bool {
        self.order.iter().all(|i| self.steps[*i].results.is_empty())
    }

    /// Runs the case with other PTX in place of a module's.
    pub fn follow(&self, module: &'static str, ptx: String, case: Case) -> Outcome {
        let device = Vgpu::new(Options { budget: self.budget, workers: 1, ..Options::checked() });
        case(&Bench::new(Arc::new(device), Some(Swap { module, ptx }), Some(self))?)
    }
}

/// A device with its launchers and as a backend.
pub struct Bench<'p> {
    pub kernels: Kernels,
    pub cuda: Cuda,
    device: Arc<Vgpu>,
    plan: Option<&'p Plan>,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    /// Without a plan: the steps so far.
    steps: Vec<Step>,
    /// Warp instructions of the longest launch so far.
    longest: u64,
    /// With a plan: the step, and how many of its bytes were the same so far.
    step: usize,
    same: usize,
}

impl<'p> Bench<'p> {
    fn new(device: Arc<Vgpu>, swap: Option<Swap>, plan: Option<&'p Plan>) -> Outcome<Bench<'p>> {
        let driver: Arc<dyn Driver> = match swap {
            Some(swap) => Arc::new(Observed::new(device.clone(), swap)),
            None => device.clone(),
        };
        let (kernels, cuda) = (Kernels::new(driver.clone())?, Cuda::new(driver)?);
        Ok(Bench { kernels, cuda, device, plan, state: RefCell::default() })
    }

    /// The steps of a case, one for each of `list`: all of them in order, or those of the plan. A case calls it once.
    pub fn each<T>(&self, list: impl IntoIterator<Item = T>) -> impl Iterator<Item = T> {
        let mut list: Vec<Option<T>> = list.into_iter().map(Some).collect();
        let order: Vec<usize> = self.plan.map_or_else(|| (0..list.len()).collect(), |plan| plan.order.clone());
        order.into_iter().map_while(move |i| {
            self.begin(i);
            list[i].take()
        })
    }

    fn begin(&self, step: usize) {
        self.close();
        let mut state = self.state.borrow_mut();
        (state.step, state.same) = (step, 0);
        if self.plan.is_none() {
            state.steps.push(Step::default());
        }
    }

    /// Notes what the step so far has cost.
    fn close(&self) {
        let mut guard = self.state.borrow_mut();
        let state = &mut *guard;
        for launch in self.device.take_summaries() {
            let cost = launch.classes.iter().map(|(_, issued)| issued.warps).sum();
            state.longest = state.longest.max(cost);
            if let Some(step) = state.steps.last_mut() {
                step.cost += cost;
                step.kernels.insert(launch.kernel);
            }
        }
    }

    /// What a step gives.
    pub fn give(&self, bytes: &[u8]) -> Outcome {
        let mut guard = self.state.borrow_mut();
        let state = &mut *guard;
        let Some(plan) = self.plan else {
            state.steps.last_mut().expect("a step has begun").results.extend(bytes);
            return Ok(());
        };
        let end = state.same + bytes.len();
        if plan.steps[state.step].results.get(state.same..end) != Some(bytes) {
            return Err(Stop::Different);
        }
        state.same = end;
        Ok(())
    }

    // ---- by address: for launchers

    /// A buffer with this content.
    pub fn put(&self, bytes: &[u8]) -> driver::Result<DevPtr> {
        let at = self.kernels.driver().mem_alloc(bytes.len())?;
        self.kernels.driver().copy_htod(at, bytes, StreamId::DEFAULT)?;
        Ok(at)
    }

    /// A buffer that nobody has written.
    pub fn raw(&self, bytes: usize) -> driver::Result<DevPtr> {
        self.kernels.driver().mem_alloc(bytes)
    }

    /// Gives what a buffer holds.
    pub fn get(&self, at: DevPtr, bytes: usize) -> Outcome {
        let mut out = vec![0; bytes];
        self.kernels.driver().copy_dtoh(&mut out, at, StreamId::DEFAULT)?;
        self.give(&out)
    }

    // ---- as memory: for operators

    /// Memory of floats of moderate size.
    pub fn floats(&self, n: usize) -> Outcome<Memory> {
        self.bytes(&floats(n))
    }

    /// Memory with this content.
    pub fn bytes(&self, content: &[u8]) -> Outcome<Memory> {
        let memory = self.cuda.alloc(content.len())?;
        self.cuda.upload(content, memory.all())?;
        Ok(memory)
    }

    pub fn words(&self, words: &[u32]) -> Outcome<Memory> {
        self.bytes(bytemuck::cast_slice(words))
    }

    /// Room for `n` floats, full of NaN.
    pub fn room(&self, n: usize) -> Outcome<Memory> {
        self.blank(n * 4)
    }

    /// Bytes that no kernel writes, where one shall write.
    pub fn blank(&self, bytes: usize) -> Outcome<Memory> {
        self.bytes(&vec![0xff; bytes])
    }

    pub fn scratch(&self, kernel: &Kernel) -> Outcome<Memory> {
        self.blank(self.cuda.workspace(kernel))
    }

    /// Gives what memory holds.
    pub fn take(&self, list: &[&Memory]) -> Outcome {
        for memory in list {
            let mut bytes = vec![0; memory.bytes()];
            self.cuda.download(memory.all(), &mut bytes)?;
            self.give(&bytes)?;
        }
        Ok(())
    }
}

/// Address of memory; null where it is empty.
pub fn at(memory: &Memory) -> DevPtr {
    if memory.bytes() == 0 { DevPtr::NULL } else { DevPtr(memory.all().address()) }
}

/// Bytes that look random and are the same every time.
pub fn noise(n: usize) -> Vec<u8> {
    let mut state = 1u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(n).collect()
}

/// Floats of moderate size.
pub fn floats(n: usize) -> Vec<u8> {
    noise(n).iter().flat_map(|b| ((f32::from(*b) - 127.0) / 16.0).to_le_bytes()).collect()
}
