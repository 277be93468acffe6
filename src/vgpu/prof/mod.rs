//! The profiler's report: what a launch did, counted exactly, and the least time it could take on three GPUs.
//!
//! Counts are made by the machine (`exec`) and are the same on every host; [`Summary`] holds them by class. [`model`] turns them into a lower bound
//! that is always labelled *modelled*: nothing here is a measurement, and no test may depend on host time.

pub mod arch;
pub mod model;
mod report;

use serde::Serialize;

/// Classes of instructions, by the unit that executes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// f32 fused multiply-add.
    Fma,
    /// Other f32 arithmetic.
    Fp32,
    /// f64 arithmetic.
    Fp64,
    /// f16 and bf16 arithmetic.
    Fp16,
    /// 32-bit integer arithmetic.
    Int,
    /// 64-bit integer arithmetic: mostly addresses.
    Int64,
    /// Logic, shifts, bit fields, permutes.
    Logic,
    /// Conversions.
    Cvt,
    /// Reciprocal, roots, exponential, sine.
    Sfu,
    /// Moves, special registers, and halves of 64-bit registers taken for the whole of them.
    Mov,
    /// Comparisons and selections.
    Pred,
    /// Branches and exits.
    Branch,
    /// Global and generic loads.
    LoadGlobal,
    /// Global and generic stores.
    StoreGlobal,
    /// Atomics on global memory.
    AtomGlobal,
    /// `cp.async` and its waits.
    AsyncCopy,
    /// Shared loads, stores and atomics, `ldmatrix`, `stmatrix`.
    Shared,
    /// Local memory: spills and arrays indexed at run time.
    Local,
    /// Parameters and constants.
    Const,
    /// Shuffles, votes, matches, reductions over a warp.
    Warp,
    /// Barriers and fences.
    Barrier,
    /// Tensor-core products.
    Mma,
    /// Anything else.
    Other,
}

/// Instructions of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Issued {
    /// Issued by warps.
    pub warps: u64,
    /// Executed by lanes.
    pub lanes: u64,
}

/// Accesses to global memory in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Global {
    /// Warp requests.
    pub requests: u64,
    /// Bytes asked for by lanes.
    pub bytes: u64,
    /// 32-byte sectors over all requests.
    pub sectors: u64,
    /// Distinct 32-byte sectors in the whole launch.
    pub footprint_sectors: u64,
}

/// Accesses to shared memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SharedAccess {
    /// Passes through the banks.
    pub wavefronts: u64,
    /// The passes that are left where no two lanes want different words of one bank.
    pub ideal: u64,
}

/// Tensor-core products of one form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mma {
    /// `m16n8k32.s32.s8.s8.s32`.
    pub form: String,
    /// Warp instructions.
    pub count: u64,
    /// Multiply-adds of one instruction.
    pub macs: u64,
    /// Which of the tensor rates holds.
    pub rate: Rate,
}

/// Types of tensor-core inputs that have a rate of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Rate {
    /// 8-bit integers.
    I8,
    /// f16 and bf16.
    F16,
    /// tf32.
    Tf32,
    /// 8-bit floats.
    Fp8,
    /// 4-bit integers.
    I4,
    /// Single bits.
    B1,
    /// f64.
    F64,
}

/// What a launch did. Where the device runs samples only ([`Options::sample`](super::device::Options::sample)), sums are estimates of the whole launch's, and footprints those of the blocks
/// that ran.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Kernel.
    pub kernel: String,
    /// Blocks in x, y, z.
    pub grid: [u32; 3],
    /// Threads per block in x, y, z.
    pub block: [u32; 3],
    /// Shared memory per block in bytes, static and dynamic.
    pub shared_bytes: u32,
    /// Blocks that ran: all, unless the device samples.
    pub counted_blocks: u64,
    /// Instructions by class; classes that did not occur are left out.
    pub classes: Vec<(Class, Issued)>,
    /// Global reads, `cp.async` included.
    pub global_read: Global,
    /// Global writes and atomics.
    pub global_write: Global,
    /// Shared memory.
    pub shared: SharedAccess,
    /// Tensor-core products by form.
    pub mma: Vec<Mma>,
    /// Barrier arrivals of warps.
    pub barriers: u64,
    /// Branches at which lanes of a warp went different ways.
    pub divergent_branches: u64,
    /// Warp instructions of the block that executed most.
    pub heaviest: u64,
}

impl Summary {
    /// Blocks of the launch.
    pub fn blocks(&self) -> u64 {
        self.grid.iter().map(|&g| u64::from(g)).product()
    }

    /// Threads per block.
    pub fn threads(&self) -> u64 {
        self.block.iter().map(|&b| u64::from(b)).product()
    }

    /// All instructions together.
    pub fn issued(&self) -> Issued {
        self.classes
            .iter()
            .fold(Issued::default(), |a, (_, b)| Issued { warps: a.warps + b.warps, lanes: a.lanes + b.lanes })
    }

    /// Lanes at work of those that could be, 0 to 1; 1 where nothing ran.
    pub fn simt_efficiency(&self) -> f64 {
        let all = self.issued();
        if all.warps == 0 { 1.0 } else { all.lanes as f64 / (32 * all.warps) as f64 }
    }

    /// Instructions of one class.
    pub fn class(&self, class: Class) -> Issued {
        self.classes.iter().find(|(c, _)| *c == class).map(|(_, n)| *n).unwrap_or_default()
    }
}
