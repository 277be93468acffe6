//! What the virtual GPU found wrong with a launch: findings with their place in the source, as text and as JSON. Not here: how they are found
//! ([`super::san`] and [`super::exec`]).

mod text;

use serde::{Serialize, Serializer};

use super::ir::Kernel;
use super::ptx::ast::Space;

/// Distinct findings that a report keeps.
pub const MOST_FINDINGS: usize = 20;

/// What is wrong. The names in JSON (and from [`Kind::name`]) are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An access beyond either end of its buffer, of shared or local memory, or of the parameters.
    OutOfBounds,
    /// An address that is no multiple of the size accessed (of the whole vector).
    Misaligned,
    /// An access to memory that has been freed.
    UseAfterFree,
    /// An access to the null pointer, or close behind it.
    NullPointer,
    /// An address where nothing ever was: a wild or cut-off pointer.
    InvalidAddress,
    /// An address of one state space used in another.
    WrongSpace,
    /// A write to constant memory or parameters.
    WriteToReadOnly,
    /// A read of bytes that nobody has written.
    UninitialisedRead,
    /// Two accesses to shared memory by different warps without a barrier between them.
    SharedRace,
    /// Two accesses to shared memory by threads of a warp without `__syncwarp` between them, or lanes of one store that disagree.
    IntraWarpRace,
    /// Two accesses to global memory that nothing orders.
    GlobalRace,
    /// An access to bytes that a `cp.async` still writes.
    InFlightAccess,
    /// A `cp.async` onto bytes that others may still use, or that another copy still writes.
    InFlightOverlap,
    /// A block ended with copies that nobody waited for.
    OutstandingCopy,
    /// A location read with `ld.global.nc` is written in the same launch.
    ReadOnlyViolation,
    /// Threads of a warp at different barriers, or some of them at none.
    BarrierDivergence,
    /// Warps wait at barriers that can no longer complete.
    BarrierDeadlock,
    /// A wrong thread count, number or kind of arrivals at a barrier.
    BarrierMisuse,
    /// Threads have exited that others wait for at a barrier.
    ExitedAtBarrier,
    /// Threads of a warp wait for each other in `.sync` instructions.
    WarpDeadlock,
    /// A `.sync` mask without the executing thread, or a lane read that takes no part.
    SyncMask,
    /// A warp-wide (`.aligned`) instruction without all 32 threads.
    PartialWarp,
    /// All threads only spin.
    Livelock,
    /// The instruction budget is used up.
    Timeout,
    /// A launch argument of the wrong size, count or alignment, or a pointer to nothing.
    WrongArgument,
    /// More threads, shared memory, registers or parameters than the GPU or the kernel allows.
    LimitExceeded,
    /// `trap`, or an instruction whose operands make it undefined.
    Trap,
    /// A failed `assert`.
    Assert,
    /// An integer division by zero.
    DivisionByZero,
    /// A register that was never written reaches an address, a branch or a store.
    UndefinedRegister,
    /// Something that the machine does not do.
    Unsupported,
}

impl Kind {
    /// Its stable name: `out-of-bounds`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::OutOfBounds => "out-of-bounds",
            Kind::Misaligned => "misaligned",
            Kind::UseAfterFree => "use-after-free",
            Kind::NullPointer => "null-pointer",
            Kind::InvalidAddress => "invalid-address",
            Kind::WrongSpace => "wrong-space",
            Kind::WriteToReadOnly => "write-to-read-only",
            Kind::UninitialisedRead => "uninitialised-read",
            Kind::SharedRace => "shared-race",
            Kind::IntraWarpRace => "intra-warp-race",
            Kind::GlobalRace => "global-race",
            Kind::InFlightAccess => "in-flight-access",
            Kind::InFlightOverlap => "in-flight-overlap",
            Kind::OutstandingCopy => "outstanding-copy",
            Kind::ReadOnlyViolation => "read-only-violation",
            Kind::BarrierDivergence => "barrier-divergence",
            Kind::BarrierDeadlock => "barrier-deadlock",
            Kind::BarrierMisuse => "barrier-misuse",
            Kind::ExitedAtBarrier => "exited-at-barrier",
            Kind::WarpDeadlock => "warp-deadlock",
            Kind::SyncMask => "sync-mask",
            Kind::PartialWarp => "partial-warp",
            Kind::Livelock => "livelock",
            Kind::Timeout => "timeout",
            Kind::WrongArgument => "wrong-argument",
            Kind::LimitExceeded => "limit-exceeded",
            Kind::Trap => "trap",
            Kind::Assert => "assert",
            Kind::DivisionByZero => "division-by-zero",
            Kind::UndefinedRegister => "undefined-register",
            Kind::Unsupported => "unsupported",
        }
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The launch fails.
    Error,
    /// It is only told.
    Warning,
}

/// A line of the source that the PTX was made from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Place {
    /// File as the compiler named it.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1; 0 where unknown.
    pub col: u32,
}

/// One thread of the launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Who {
    /// `blockIdx`.
    pub block: [u32; 3],
    /// `threadIdx`.
    pub thread: [u32; 3],
    /// Warp in its block.
    pub warp: u32,
    /// Lane in its warp.
    pub lane: u32,
}

impl Who {
    /// Lane `lane` of warp `warp` in block number `block` (x fastest) of a launch with this grid and block.
    pub fn new(block: u64, warp: u32, lane: u32, grid: [u32; 3], block_dims: [u32; 3]) -> Who {
        let split = |n: u64, dims: [u32; 3]| {
            let (x, y) = (u64::from(dims[0].max(1)), u64::from(dims[1].max(1)));
            [(n % x) as u32, (n / x % y) as u32, (n / x / y) as u32]
        };
        let thread = split(u64::from(warp) * 32 + u64::from(lane), block_dims);
        Who { block: split(block, grid), thread, warp, lane }
    }
}

/// An instruction of the kernel, and who executed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Site {
    /// Index of the instruction in [`Kernel::code`].
    pub pc: u32,
    /// Line in the PTX, from 1.
    pub ptx_line: u32,
    /// The instruction as written.
    pub text: String,
    /// Innermost line that is the user's own; `None` where the PTX carries no line information.
    pub place: Option<Place>,
    /// Where the function of that line was inlined, innermost call first.
    pub inlined_at: Vec<Place>,
    /// The thread.
    pub who: Option<Who>,
}

impl Site {
    /// The instruction at `pc`, looked up in the kernel.
    pub fn new(kernel: &Kernel, pc: u32, who: Option<Who>) -> Site {
        let source = kernel.source.get(pc as usize).cloned().unwrap_or_default();
        let mut chain: Vec<Place> = Vec::new();
        if let Some(loc) = source.loc.and_then(|i| kernel.locs.get(i as usize)) {
            let places = std::iter::once((loc.file, loc.line, loc.col)).chain(loc.inlined_at.iter().copied());
            chain = places
                .filter(|p| p.1 != 0)
                .map(|(file, line, col)| Place { file: name(kernel, file), line, col })
                .collect();
        }
        // Headers of the toolkit are not where the user can do something.
        let own = chain.iter().position(|p| !is_system(&p.file)).unwrap_or(0);
        let mut own = chain.into_iter().skip(own);
        let place = own.next();
        Site { pc, ptx_line: source.ptx_line, text: source.text, place, inlined_at: own.collect(), who }
    }

    /// `kernels/pool.cu:30`, or the line of the PTX where there is none.
    pub fn line(&self) -> String {
        match &self.place {
            Some(place) => format!("{}:{}", place.file, place.line),
            None => format!("ptx:{}", self.ptx_line),
        }
    }
}

fn name(kernel: &Kernel, file: u32) -> String {
    kernel.files.iter().find(|(n, _)| *n == file).map_or_else(|| format!("file {file}"), |(_, name)| name.clone())
}

fn is_system(file: &str) -> bool {
    let stem = file.rsplit(['/', '\\']).next().unwrap_or(file);
    file.contains("/include/")
        || ["cuda_", "sm_", "device_", "math_functions", "crt", "vector_", "builtin_"]
            .iter()
            .any(|p| stem.starts_with(p))
            && (stem.ends_with(".h") || stem.ends_with(".hpp"))
}

/// The memory that an address belongs to, or is closest to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Buffer {
    /// Its name.
    pub name: String,
    /// Bytes from its start; negative in front of it.
    pub offset: i64,
    /// Its size in bytes.
    pub size: u64,
}

/// One thing that is wrong. Equal ones (same kind, same instructions) are counted, not repeated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What.
    pub kind: Kind,
    /// How bad.
    pub severity: Severity,
    /// One line: `out-of-bounds global load, 4 bytes`.
    pub message: String,
    /// Name of the kernel.
    pub kernel: String,
    /// The instruction and thread; `None` for the launch as a whole.
    pub at: Option<Site>,
    /// The other instruction and thread of a race and the like.
    pub other: Option<Site>,
    /// The address as the kernel formed it (in a space: the offset in that space).
    pub address: Option<u64>,
    /// State space of the access.
    #[serde(serialize_with = "space_name")]
    pub space: Option<Space>,
    /// Bytes accessed by one thread.
    pub bytes: Option<u32>,
    /// What lies there.
    pub buffer: Option<Buffer>,
    /// How often it happened, this time included.
    pub count: u64,
    /// In how many blocks (counted one block after another).
    pub blocks: u64,
    /// Further lines: register values, what each warp waits for.
    pub details: Vec<String>,
    /// What to do; may be empty.
    pub hint: String,
    /// The block of the last repetition.
    #[serde(skip)]
    last_block: Option<[u32; 3]>,
}

fn space_name<S: Serializer>(space: &Option<Space>, to: S) -> Result<S::Ok, S::Error> {
    space.map(Space::name).serialize(to)
}

impl Finding {
    /// An error at instruction `pc` by thread `who`.
    pub fn at(kind: Kind, message: String, kernel: &Kernel, pc: u32, who: Option<Who>) -> Finding {
        Finding { at: Some(Site::new(kernel, pc, who)), ..Finding::launch(kind, message, &kernel.name) }
    }

    /// An error of the launch as a whole: arguments, limits.
    pub fn launch(kind: Kind, message: String, kernel: &str) -> Finding {
        Finding {
            kind,
            severity: Severity::Error,
            message,
            kernel: kernel.into(),
            at: None,
            other: None,
            address: None,
            space: None,
            bytes: None,
            buffer: None,
            count: 1,
            blocks: 1,
            details: Vec::new(),
            hint: String::new(),
            last_block: None,
        }
    }

    /// The same as a warning.
    pub fn warning(self) -> Finding {
        Finding { severity: Severity::Warning, ..self }
    }

    /// With the other instruction and thread.
    pub fn with_other(self, kernel: &Kernel, pc: u32, who: Option<Who>) -> Finding {
        Finding { other: Some(Site::new(kernel, pc, who)), ..self }
    }

    /// With the address, its space and the bytes accessed.
    pub fn with_address(self, space: Space, address: u64, bytes: u32) -> Finding {
        Finding { space: Some(space), address: Some(address), bytes: Some(bytes), ..self }
    }

    /// With the buffer that is meant.
    pub fn with_buffer(self, name: &str, offset: i64, size: u64) -> Finding {
        Finding { buffer: Some(Buffer { name: name.into(), offset, size }), ..self }
    }

    /// With one more line.
    pub fn with_detail(mut self, line: String) -> Finding {
        self.details.push(line);
        self
    }

    /// With a hint.
    pub fn with_hint(self, hint: &str) -> Finding {
        Finding { hint: hint.into(), ..self }
    }

    fn key(&self) -> (Severity, Option<u32>, Kind, Option<u32>) {
        (self.severity, self.at.as_ref().map(|s| s.pc), self.kind, self.other.as_ref().map(|s| s.pc))
    }
}

/// All findings of a launch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Name of the kernel.
    pub kernel: String,
    /// Errors, at most [`MOST_FINDINGS`] distinct ones.
    pub findings: Vec<Finding>,
    /// Warnings, at most [`MOST_FINDINGS`] distinct ones.
    pub warnings: Vec<Finding>,
    /// Errors all together, repetitions and those that had no place in the list included.
    pub errors: u64,
    /// Occurrences of further distinct errors and warnings that had no place in the lists.
    pub omitted: u64,
    /// Findings that the caller allowed: occurrences.
    pub allowed: u64,
}

impl Report {
    /// Nothing found yet.
    pub fn new(kernel: &str) -> Report {
        Report { kernel: kernel.into(), ..Report::default() }
    }

    /// Whether there is no error; warnings do not count.
    pub fn is_clean(&self) -> bool {
        self.errors == 0
    }

    /// Counts another occurrence of a finding that is already there; false where there is none yet and it must be [`Report::add`]ed. Spares the work of
    /// describing it again.
    pub fn repeat(&mut self, kind: Kind, pc: u32, other: Option<u32>, block: Option<[u32; 3]>) -> bool {
        let lists = self.findings.iter_mut().chain(self.warnings.iter_mut());
        let same = |f: &&mut Finding| {
            let pcs = (f.at.as_ref().map(|s| s.pc), f.other.as_ref().map(|s| s.pc));
            f.kind == kind && pcs == (Some(pc), other)
        };
        let Some(found) = lists.into_iter().find(same) else { return false };
        found.count += 1;
        if found.severity == Severity::Error {
            self.errors += 1;
        }
        // Blocks run one after another: a new one shows as a change. `who` stays that of the first occurrence.
        let first = found.at.as_ref().and_then(|s| s.who).map(|w| w.block);
        if block.is_some() && block != first && block != found.last_block {
            found.blocks += 1;
            found.last_block = block;
        }
        true
    }

    /// Adds a finding, or counts it where it is there already. True where it was new and kept.
    pub fn add(&mut self, finding: Finding) -> bool {
        let list = match finding.severity {
            Severity::Error => &mut self.findings,
            Severity::Warning => &mut self.warnings,
        };
        if finding.severity == Severity::Error {
            self.errors += finding.count;
        }
        if let Some(same) =
            list.iter_mut().find(|f| f.key() == finding.key() && (f.at.is_some() || f.message == finding.message))
        {
            same.count += finding.count;
            let block = |f: &Finding| f.at.as_ref().and_then(|s| s.who).map(|w| w.block);
            if block(same) != block(&finding) && same.last_block != block(&finding) {
                same.blocks += 1;
                same.last_block = block(&finding);
            }
            return false;
        }
        if list.len() == MOST_FINDINGS {
            self.omitted += finding.count;
            return false;
        }
        list.push(finding);
        true
    }

    /// Adds all of another report.
    pub fn merge(&mut self, other: Report) {
        let errors = self.errors + other.errors;
        for finding in other.findings.into_iter().chain(other.warnings) {
            self.add(finding);
        }
        self.errors = errors; // those that the other report had no place for included
        self.omitted += other.omitted;
        self.allowed += other.allowed;
    }

    /// Puts the findings into the order of the instructions, so that reports do not depend on the order in which they were found.
    pub fn sort(&mut self) {
        self.findings.sort_by_key(Finding::key);
        self.warnings.sort_by_key(Finding::key);
    }

    /// The report as JSON: the fields of this type.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!(self)
    }
}
