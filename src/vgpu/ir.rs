//! The machine code of the virtual GPU: what [`super::lower`] makes of a kernel and [`super::exec`] runs.
//!
//! A register is a *row*: its values in the 32 lanes of a warp side by side. `.b32` and narrower types take one row (8- and 16-bit values zero-extended;
//! the bits above are zero), `.b64` two consecutive rows seen as `[u64; 32]`, `.b128` four seen as `[u128; 32]`. Predicates are one bit a lane in a word of
//! their own. Constants are rows filled once per launch and never written, so an operand is always a row index.

use super::prof::Class;
use super::ptx::ast::{Loc, Space};

/// Lanes of a warp.
pub const WARP: usize = 32;

/// Where the state spaces lie in generic addresses; global memory is at [`super::mem::GLOBAL`]. No space starts at 0, so that a null pointer is wrong in
/// every space.
pub mod window {
    /// Address of the first byte of a block's shared memory in `.shared` addresses.
    pub const SHARED_BASE: u32 = 1024;
    /// Added to a `.shared` address, gives the generic one.
    pub const SHARED: u64 = 0x0100_0000_0000;
    /// Address of the first byte of a thread's frame in `.local` addresses.
    pub const LOCAL_BASE: u32 = 1024;
    /// Added to a `.local` address.
    pub const LOCAL: u64 = 0x0200_0000_0000;
    /// Address of the first byte of the module's constants in `.const` addresses.
    pub const CONST_BASE: u32 = 1024;
    /// Added to a `.const` address.
    pub const CONST: u64 = 0x0300_0000_0000;
    /// Added to a `.param` address (which starts at 0: parameters have names, not pointers).
    pub const PARAM: u64 = 0x0310_0000_0000;
}

/// One 32-bit register in all lanes.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Row(pub [u32; WARP]);

/// Index of a row (of the first of two or four for wider registers).
pub type RowId = u16;
/// Index of a predicate.
pub type PredId = u16;

/// The predicate that is true in every lane: the guard of an instruction without one.
pub const TRUE: PredId = 0;
/// The predicate that is false in every lane.
pub const FALSE: PredId = 1;
/// The carry flags of `add.cc` and the like.
pub const CARRY: PredId = 2;
/// Where predicate results go that nobody wants (`_`).
pub const PSINK: PredId = 3;
/// The first predicate that a kernel may use.
pub const FIRST_PRED: PredId = 4;

/// The register file of one warp, as row functions see it.
#[derive(Clone, Copy)]
pub struct File {
    /// Rows.
    pub rows: *mut Row,
    /// Predicates, a bit a lane.
    pub preds: *mut u32,
    /// The kernel's [`Kernel::lists`].
    pub lists: *const u16,
}

/// Executes an instruction on the lanes of `mask`; reads all sources before it writes, writes no other lane.
///
/// # Safety
/// The rows, predicates and list entries that the instruction names must exist in the file.
pub type RowFn = unsafe fn(file: &File, ins: &Ins, mask: u32);

/// One instruction. What the fields mean depends on `op`; for [`Op::Row`] it is the row function's own business, by convention destination `d` (and
/// predicate or second destination `q`), sources `a b c e`, and `x`, `imm` for what is known before the run.
#[derive(Clone, Copy)]
pub struct Ins {
    /// The row function of [`Op::Row`] and [`Op::WholeWarp`].
    pub row: RowFn,
    /// Immediate: address offset, seed, constant.
    pub imm: i64,
    /// Small immediate, packed modifiers, or an index into a side table.
    pub x: u32,
    /// All ones where the guard is negated (`@!p`), else 0.
    pub flip: u32,
    /// Guard predicate; [`TRUE`] where there is none.
    pub guard: PredId,
    /// Destination row or predicate.
    pub d: u16,
    /// Second destination.
    pub q: u16,
    /// First source.
    pub a: u16,
    /// Second source.
    pub b: u16,
    /// Third source.
    pub c: u16,
    /// Fourth source.
    pub e: u16,
    /// What the machine does with it.
    pub op: Op,
    /// For the profiler.
    pub class: Class,
}

/// What the machine does with an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Calls `row` on the lanes of the split that the guard lets through: all arithmetic, moves, comparisons, selections.
    Row,
    /// The same for `.aligned` warp instructions without memory (`mma`, `movmatrix`): all 32 lanes must be there.
    WholeWarp,
    /// A block starts here; several splits may meet. Not an instruction of the PTX, never counted.
    Join,
    /// Branch to pc `x`.
    Bra,
    /// `brx.idx`: branch to `lists[x + index]`-th entry of [`Kernel::targets`], index in row `a`, `b` entries.
    Brx,
    /// `ret` of the kernel and `exit`.
    Exit,
    /// `trap` and `brkpt`: an error.
    Trap,
    /// Load; [`Kernel::accesses`]`[x]`, address in row `a` (64-bit, or 32-bit for shared, local, const and param), offset `imm`.
    Load,
    /// Store; as [`Op::Load`].
    Store,
    /// Atomic or reduction: `accesses[x]`, address `a` + `imm`, operands in the access's `regs` (b, then c of `cas`), result row `d`
    /// (none for `red`).
    Atom,
    /// `cp.async`: `accesses[x]` (bytes in `width`), destination (shared) address in row `a` + `imm`, source (global) address in row `b` + the
    /// access's `offset2`, source size in row `c` or [`NO_ROW`]; `q` is an `ignore-src` predicate or [`FALSE`].
    CpAsync,
    /// `cp.async.commit_group`.
    CpCommit,
    /// `cp.async.wait_group x`; all of them with `x = 0` too, uncommitted copies included where `d = 1` (`wait_all`).
    CpWait,
    /// `ldmatrix`: `accesses[x]` (`count` matrices), address row `a` + `imm`; transposed where `d = 1`.
    Ldmatrix,
    /// `stmatrix`; as [`Op::Ldmatrix`].
    Stmatrix,
    /// `shfl.sync`: mode in `x` (0 up, 1 down, 2 bfly, 3 idx), result `d`, predicate `q` (or [`PSINK`]), sources `a` value, `b` lane, `c` clamp, `e` mask.
    Shfl,
    /// `vote.sync`: mode in `x` (0 all, 1 any, 2 uni, 3 ballot), result predicate or row `d`, source predicate `a` (negated where `b = 1`), mask row `e`.
    Vote,
    /// `match.sync`: `x` 0 any, 1 all; `imm` 32 or 64 bits; result row `d`, predicate `q`, source `a`, mask row `e`.
    Match,
    /// `redux.sync`: [`Redux`] in `x`, result `d`, source `a`, mask row `e`.
    Redux,
    /// `elect.sync`: leader lane in row `d` (or [`NO_ROW`]), predicate `q`, mask row `e`.
    Elect,
    /// `activemask`: result `d`.
    Activemask,
    /// `bar.warp.sync`: mask row `e`.
    WarpBar,
    /// `bar.sync`/`barrier.sync`: id row `a`, thread count row `b` or [`NO_ROW`]; `x` 1 where `.aligned`.
    BarSync,
    /// `bar.arrive`; as [`Op::BarSync`].
    BarArrive,
    /// `bar.red`: as [`Op::BarSync`]; `imm` 0 popc, 1 and, 2 or; source predicate `c` (negated where `e = 1`), result row or predicate `d`.
    BarRed,
    /// `membar`/`fence`: [`Scope`] in `x`; `d = 1` where `.sc` or `.acq_rel` orders (always).
    Fence,
    /// Special register [`Special`] in `x`, result row `d`, 64 bits wide where `imm = 64`.
    Special,
    /// `cvta` from space to generic ([`Space`] as `x`), 64-bit source `a`, result `d`; to the space where `imm = 1`.
    Cvta,
    /// `isspacep`: space `x`, source `a`, predicate `d`.
    Isspacep,
    /// `nanosleep`: lets other splits and warps go on.
    Yield,
    /// Nothing: `prefetch`, `griddepcontrol`, `pragma`s.
    Nop,
    /// A call of something that the machine itself provides: `x` indexes [`Kernel::syscalls`].
    Syscall,
}

impl Ins {
    /// An instruction that calls a row function; registers are filled in by the caller.
    pub fn row(row: RowFn, class: Class) -> Ins {
        Ins { row, ..Ins::machine(Op::Row, class) }
    }

    /// An instruction that the machine itself executes.
    pub fn machine(op: Op, class: Class) -> Ins {
        let (d, q, a, b, c, e) = (0, PSINK, 0, 0, 0, 0);
        Ins { row: no_row_fn, imm: 0, x: 0, flip: 0, guard: TRUE, d, q, a, b, c, e, op, class }
    }
}

/// The row function of instructions that have none.
fn no_row_fn(_: &File, _: &Ins, _: u32) {}

/// No row: an optional operand that is not there.
pub const NO_ROW: u16 = u16::MAX;

/// Operators of `redux.sync`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[allow(missing_docs)]
pub enum Redux {
    Add,
    MinU,
    MaxU,
    MinS,
    MaxS,
    And,
    Or,
    Xor,
}

/// Scopes of fences and atomics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
#[allow(missing_docs)]
pub enum Scope {
    Cta,
    Cluster,
    Gpu,
    Sys,
}

/// Orderings of memory operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Order {
    Weak,
    Volatile,
    Relaxed,
    Acquire,
    Release,
    AcqRel,
}

/// Operations of `atom` and `red`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Atom {
    Add,
    Min,
    Max,
    Inc,
    Dec,
    And,
    Or,
    Xor,
    Exch,
    Cas,
}

/// Types on which `atom` and `red` compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum AtomTy {
    /// Bits: `.b16 .b32 .b64 .b128` by the access's width.
    B,
    U,
    S,
    F32,
    F64,
    F16,
    F16x2,
    Bf16,
    Bf16x2,
}

/// An access to memory: what a load, store, atomic or matrix access needs beyond [`Ins`].
#[derive(Clone, Debug, PartialEq)]
pub struct Access {
    /// Space.
    pub space: Space,
    /// Bytes of one element in memory.
    pub width: u32,
    /// Elements of the vector: 1, 2, 4, 8; matrices of `ldmatrix`.
    pub count: u32,
    /// A signed element: loads fill the register with its sign.
    pub signed: bool,
    /// Bytes of the registers: 4 (all narrower ones too), 8 or 16. Loads extend to it, stores cut to `width`. Only a signed byte loaded into a 16-bit
    /// register has 2 here: it is extended to 16 bits, the upper half of the row is 0.
    pub reg_bytes: u32,
    /// Register of each element; [`NO_ROW`] for `_`. For `atom`: b, then c; with vectors all of b.
    pub regs: Vec<RowId>,
    /// Result registers of a vector `atom`; empty otherwise.
    pub results: Vec<RowId>,
    /// Ordering.
    pub order: Order,
    /// Scope, where the ordering has one.
    pub scope: Scope,
    /// `.nc`: the program promises that nobody writes here during the launch.
    pub nc: bool,
    /// Operation of an atomic.
    pub atom: Option<(Atom, AtomTy)>,
    /// Whether the address register has 64 bits; addresses in shared, local, const and parameter space may be 32-bit. (The source of `cp.async` is always
    /// 64-bit.)
    pub wide: bool,
    /// Offset of the second address: the source of `cp.async`.
    pub offset2: i64,
}

/// Special registers that the machine knows. Those of the grid are known before a block runs; clocks are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[allow(missing_docs)]
pub enum Special {
    TidX,
    TidY,
    TidZ,
    NtidX,
    NtidY,
    NtidZ,
    CtaidX,
    CtaidY,
    CtaidZ,
    NctaidX,
    NctaidY,
    NctaidZ,
    Laneid,
    Warpid,
    Nwarpid,
    Smid,
    Nsmid,
    Gridid,
    LanemaskEq,
    LanemaskLe,
    LanemaskLt,
    LanemaskGe,
    LanemaskGt,
    Clock,
    ClockHi,
    Clock64,
    Globaltimer,
    GlobaltimerLo,
    GlobaltimerHi,
    DynamicSmemSize,
    TotalSmemSize,
    AggrSmemSize,
    /// `%envreg0..31`, cluster registers of a launch without clusters, and others that read 0.
    Zero,
    /// `%cluster_nctaid` and the like: 1.
    One,
}

/// Something that the machine provides in place of a function.
#[derive(Clone, Debug, PartialEq)]
pub enum Syscall {
    /// `vprintf(format, arguments)`: rows of the two 64-bit pointers, result row.
    Vprintf {
        /// Format string, generic address.
        format: RowId,
        /// Argument block, generic address (0 for none).
        args: RowId,
        /// Result, or [`NO_ROW`].
        result: RowId,
    },
    /// `__assertfail(message, file, line, function, size)`.
    Assertfail {
        /// Message, generic address.
        message: RowId,
        /// File, generic address.
        file: RowId,
        /// Line (32-bit).
        line: RowId,
        /// Function, generic address.
        function: RowId,
    },
}

/// Where an instruction comes from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Source {
    /// Line in the PTX, from 1.
    pub ptx_line: u32,
    /// The instruction as written.
    pub text: String,
    /// Index into [`Kernel::locs`].
    pub loc: Option<u32>,
}

/// A parameter of the kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct ParamInfo {
    /// Name.
    pub name: String,
    /// Bytes from the start of the parameter space.
    pub offset: u32,
    /// Bytes.
    pub bytes: u32,
    /// Alignment in bytes.
    pub align: u32,
    /// A 64-bit integer parameter that the kernel uses as an address, or one that is marked `.ptr`.
    pub pointer: bool,
    /// Alignment that `.ptr .align` promises; 1 where none.
    pub ptr_align: u32,
}

/// A variable in shared, local or constant memory, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// Name.
    pub name: String,
    /// Space.
    pub space: Space,
    /// Offset in its space, without the base of its window ([`window`]).
    pub offset: u64,
    /// Bytes; 0 for `extern .shared x[]`.
    pub bytes: u64,
}

/// A kernel, ready to run.
#[derive(Clone)]
pub struct Kernel {
    /// Name of the entry.
    pub name: String,
    /// Instructions; the last one is an [`Op::Exit`].
    pub code: Vec<Ins>,
    /// Source of each instruction.
    pub source: Vec<Source>,
    /// Places in the source that the PTX was made from.
    pub locs: Vec<Loc>,
    /// Names of the `.file`s by number.
    pub files: Vec<(u32, String)>,
    /// Reverse post-order number of the block of each instruction: of several splits the one with the lowest runs first.
    pub rpo: Vec<u32>,
    /// Rows of the register file, constants included.
    pub rows: u32,
    /// Predicates, the fixed ones included.
    pub preds: u32,
    /// Constant rows: index, and the pattern of two words that fills the row 16 times over: the same word twice for a 32-bit constant, low and high word
    /// for a row of a 64-bit one. Filled once per launch.
    pub constants: Vec<(RowId, [u32; 2])>,
    /// Registers that some path reads before it writes them, with names: filled with poison at the start of every warp.
    pub undefined: Vec<(RowId, String)>,
    /// Name of each row for messages: `%rd5`; several rows of a wide register carry the same.
    pub row_names: Vec<String>,
    /// Row and register lists that instructions index with `x`.
    pub lists: Vec<u16>,
    /// Targets of `brx.idx`: pcs.
    pub targets: Vec<u32>,
    /// Memory accesses that instructions index with `x`.
    pub accesses: Vec<Access>,
    /// System calls that instructions index with `x`.
    pub syscalls: Vec<Syscall>,
    /// Parameters.
    pub params: Vec<ParamInfo>,
    /// Bytes of the parameter space.
    pub param_bytes: u32,
    /// Static shared memory in bytes; dynamic shared memory follows it, aligned to 16 (or more where a variable asks for it).
    pub shared_bytes: u32,
    /// Local memory per thread in bytes.
    pub local_bytes: u32,
    /// Variables, for messages.
    pub symbols: Vec<Symbol>,
    /// `.maxntid`, as threads per axis.
    pub maxntid: Option<[u32; 3]>,
    /// `.reqntid`.
    pub reqntid: Option<[u32; 3]>,
    /// Whether the result may depend on the order of blocks: atomics whose value is used, or on floats. Blocks then run in order.
    pub ordered_atomics: bool,
    /// Whether shared memory is accessed in units below 4 bytes.
    pub narrow_shared: bool,
    /// Hints that lowering found: pc and text.
    pub lints: Vec<(u32, String)>,
}

/// Vector units of the host that row functions are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// What every host of the target has.
    Base,
    /// x86-64 with AVX2, FMA, F16C, BMI.
    Avx2,
}

impl Isa {
    /// The best one that this host has; `EARLYBIRD_VGPU_ISA=base` asks for the plain one.
    pub fn detect() -> Isa {
        #[cfg(target_arch = "x86_64")]
        if std::env::var_os("EARLYBIRD_VGPU_ISA").is_none_or(|v| v != "base")
            && std::arch::is_x86_feature_detected!("avx2")
            && std::arch::is_x86_feature_detected!("fma")
            && std::arch::is_x86_feature_detected!("f16c")
            && std::arch::is_x86_feature_detected!("bmi1")
            && std::arch::is_x86_feature_detected!("bmi2")
            && std::arch::is_x86_feature_detected!("lzcnt")
            && std::arch::is_x86_feature_detected!("popcnt")
        {
            return Isa::Avx2;
        }
        Isa::Base
    }
}

/// How sums in `mma` on floats are made (design: hardware's are not IEEE and differ by architecture).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MmaMode {
    /// Chain of f32 fused multiply-adds in the order of k.
    #[default]
    Fast,
    /// Exact products, f64 sum, one rounding.
    Ref,
    /// The published block model of compute capability 8.x.
    Sm80,
    /// The published block model of compute capability 9.0.
    Sm90,
}

/// What lowering must know beside the text.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Vector units.
    pub isa: Isa,
    /// Sums of float `mma`.
    pub mma: MmaMode,
    /// Seed of the error added to approximate functions; 0 adds none.
    pub jitter: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { isa: Isa::detect(), mma: MmaMode::Fast, jitter: 0 }
    }
}
