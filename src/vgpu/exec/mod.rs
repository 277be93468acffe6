//! Runs lowered kernels: warps of 32 lanes, one instruction on a whole row at a time.
//!
//! A block is a set of warps, a warp a set of *splits* (lanes at one pc); nothing here needs a host thread per GPU thread. Blocks are independent jobs:
//! several workers take them in order, results do not depend on how many there are. With checks on, or where atomics make the order of blocks visible,
//! one worker runs them one after another.
//!
//! | module | what |
//! |---|---|
//! | `block` | a block: its warps, who runs next, deadlock |
//! | `warp` | splits and the instruction loop |
//! | `barrier`, `sync` | barriers of the block; `.sync` instructions of a warp |
//! | `access`, `atomic`, `copy`, `matrix` | memory: plain, atomic, `cp.async`, `ldmatrix`; `explain` says what is wrong with an address |
//! | `special` | special registers, generic addresses, `printf` and `assert` |
//! | `count`, `sample` | the profiler's counters, and those of a launch of which some blocks run |
//! | [`mma`] | tensor-core products |
//! | [`lanes`] | how row functions are written |
//!
//! Not here: what the sanitizer makes of it ([`super::san`]), memory and modules of a device ([`super::device`]).

mod access;
mod atomic;
mod barrier;
mod block;
mod copy;
mod count;
mod explain;
pub mod lanes;
mod matrix;
pub mod mma;
mod sample;
mod special;
mod sync;
mod warp;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};

use super::ir::{Kernel, Row};
use super::mem::Memory;
use super::prof::Summary;
use super::report::Report;
use super::san::{CheckOptions, GlobalInit, San};
use block::Block;
use count::Counts;

/// In which order the machine runs what hardware runs in no fixed order. A right program gives the same result under all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Schedule {
    /// Lanes of a warp meet again as soon as they can; warps and blocks in order.
    #[default]
    Converge,
    /// Any split of any warp, for 1 to 64 instructions at a time.
    Random(u64),
    /// The last warp of the last block first.
    Reverse,
}

/// A launch, checked against the limits already.
pub struct Launch<'a> {
    /// What runs.
    pub kernel: &'a Kernel,
    /// Blocks in x, y, z.
    pub grid: [u32; 3],
    /// Threads per block in x, y, z.
    pub block: [u32; 3],
    /// Dynamic shared memory in bytes.
    pub dynamic_shared: u32,
    /// The parameter space.
    pub params: &'a [u8],
    /// Constant memory of the module.
    pub consts: &'a [u8],
    /// Number of the launch on its device.
    pub id: u64,
    /// Multiprocessors that the device claims to have.
    pub sms: u32,
    /// Order of execution.
    pub schedule: Schedule,
    /// Warp instructions after which the launch is stopped.
    pub budget: u64,
    /// About how many blocks to run (`sample`), without checks; all without.
    pub sample: Option<u64>,
    /// Worker threads; 1 runs on the caller's.
    pub workers: usize,
    /// Count for the profiler.
    pub profile: bool,
    /// Sanitizer.
    pub check: Option<&'a CheckOptions>,
}

/// What came of a launch.
pub struct Outcome {
    /// Findings.
    pub report: Report,
    /// Counters, where asked for.
    pub summary: Option<Summary>,
    /// What `printf` printed, by block and thread.
    pub output: Vec<u8>,
    /// Warp instructions executed.
    pub instructions: u64,
}

/// A launch is over before its end; the report says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Halt;

/// What all workers of a launch share.
struct Task<'a> {
    launch: &'a Launch<'a>,
    memory: &'a Memory,
    shared_bytes: u32,
    threads: u32,
    warps: u32,
    blocks: u64,
    workers: u64,
    params: Aligned,
    consts: Aligned,
    next: AtomicU64,
    budget: AtomicI64,
    stop: AtomicBool,
}

/// Bytes that kernels read, aligned as device memory is.
struct Aligned {
    rows: Vec<Row>,
    bytes: usize,
}

impl Aligned {
    fn new(bytes: &[u8]) -> Aligned {
        let mut rows = vec![Row([0; 32]); bytes.len().div_ceil(128)];
        for (row, chunk) in rows.iter_mut().zip(bytes.chunks(128)) {
            for (word, four) in row.0.iter_mut().zip(chunk.chunks(4)) {
                let mut padded = [0; 4];
                padded[..four.len()].copy_from_slice(four);
                *word = u32::from_le_bytes(padded);
            }
        }
        Aligned { rows, bytes: bytes.len() }
    }

    fn ptr(&self) -> *const u8 {
        self.rows.as_ptr().cast()
    }
}

/// What one worker brings home.
#[derive(Default)]
struct Harvest {
    report: Report,
    counts: Option<Counts>,
    output: Vec<(u64, u32, Vec<u8>)>,
    instructions: u64,
}

/// Runs a launch to its end or its first fatal finding.
pub fn run(launch: &Launch<'_>, memory: &Memory, init: &mut GlobalInit) -> Outcome {
    let kernel = launch.kernel;
    let threads: u32 = launch.block.iter().product();
    let shared_bytes = kernel.shared_bytes + launch.dynamic_shared;
    let blocks = launch.grid.iter().map(|&g| u64::from(g)).product();
    let task = Task {
        launch,
        memory,
        shared_bytes,
        threads,
        warps: threads.div_ceil(32),
        blocks,
        workers: match launch.check {
            None if !kernel.ordered_atomics => (launch.workers as u64).min(blocks),
            _ => 1,
        },
        params: Aligned::new(launch.params),
        consts: Aligned::new(launch.consts),
        next: AtomicU64::new(0),
        budget: AtomicI64::new(i64::try_from(launch.budget).unwrap_or(i64::MAX)),
        stop: AtomicBool::new(false),
    };
    let mut counted = blocks;
    let harvests = match (launch.sample, launch.check) {
        (Some(most), _) => {
            let (harvest, ran) = sample::run(&task, most);
            counted = ran;
            vec![harvest]
        }
        (None, Some(options)) => {
            let san = San::new(kernel, init, launch.grid, launch.block, shared_bytes, options);
            vec![if launch.profile {
                Block::<true, true>::new(&task, Some(san)).work()
            } else {
                Block::<true, false>::new(&task, Some(san)).work()
            }]
        }
        (None, None) => spread(&task),
    };
    gather(&task, harvests, counted)
}

fn spread(task: &Task<'_>) -> Vec<Harvest> {
    let one = |task: &Task<'_>| {
        if task.launch.profile {
            Block::<false, true>::new(task, None).work()
        } else {
            Block::<false, false>::new(task, None).work()
        }
    };
    if task.workers <= 1 {
        return vec![one(task)];
    }
    let harvests = Mutex::new(Vec::new());
    rayon::scope(|scope| {
        for _ in 0..task.workers {
            scope.spawn(|_| {
                let harvest = one(task);
                harvests.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(harvest);
            });
        }
    });
    harvests.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn gather(task: &Task<'_>, harvests: Vec<Harvest>, counted: u64) -> Outcome {
    let mut report = Report::new(&task.launch.kernel.name);
    let mut counts: Option<Counts> = None;
    let mut output = Vec::new();
    let mut instructions = 0;
    for harvest in harvests {
        report.merge(harvest.report);
        output.extend(harvest.output);
        instructions += harvest.instructions;
        counts = match (counts, harvest.counts) {
            (Some(mut all), Some(more)) => {
                all.merge(&more, 1);
                Some(all)
            }
            (one, other) => one.or(other),
        };
    }
    report.sort();
    output.sort_by_key(|(block, thread, _)| (*block, *thread));
    let summary = counts.map(|c| c.summary(task.launch, task.shared_bytes, counted));
    Outcome { report, summary, output: output.into_iter().flat_map(|(_, _, text)| text).collect(), instructions }
}

impl Task<'_> {
    /// The next block, by its linear number.
    fn take(&self) -> Option<u64> {
        if self.stop.load(Relaxed) {
            return None;
        }
        let n = self.next.fetch_add(1, Relaxed);
        let n = (n < self.blocks).then_some(n)?;
        Some(match self.launch.schedule {
            Schedule::Reverse => self.blocks - 1 - n,
            _ => n,
        })
    }
}
