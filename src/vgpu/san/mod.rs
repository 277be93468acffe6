//! The sanitizer: told of every access to memory and of everything that orders accesses, it finds races, reads of bytes that nobody wrote, and uses of bytes
//! that are still in flight. Not here: bounds, alignment, freed memory, barriers that cannot complete and warp operations with wrong masks, which
//! [`super::exec`] checks in every mode.
//!
//! A launch under the sanitizer runs its blocks one after another on one thread. [`super::exec`] calls the hooks of [`San`]:
//! | when | hook |
//! |---|---|
//! | a block starts, ends | [`San::block_begin`], [`San::block_end`] |
//! | before data moves, for the lanes whose address is good | [`San::shared`], [`San::global`], [`San::local`] |
//! | `cp.async`: issue; then for each group when a wait completes it, before others run | [`San::async_issue`], [`San::async_complete`] |
//! | a warp only arrives at a barrier; a barrier completes | [`San::arrive`], [`San::barrier`] |
//! | `bar.warp.sync` completes | [`San::warp_sync`] |
//! | a fence | [`San::fence`] |
//! | lanes exit | [`San::exit`] |
//! | the launch ends | [`San::finish`] |

mod cells;
mod clocks;
mod flight;
mod global;
mod init;
mod local;
mod shared;
mod sync;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

pub use init::GlobalInit;

use self::cells::{ATOMIC, CTA, NC, Rec, STRONG};
use self::clocks::{Clocks, Race, Relation};
use super::ir::{Access, Kernel, NO_ROW, Op, Order, Scope};
use super::ptx::ast::Space;
use super::report::{Finding, Kind, Report, Who};

const LANES: usize = 32;

/// A finding that the caller accepts, with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allow {
    /// What.
    pub kind: Kind,
    /// In which kernel; empty for all.
    pub kernel: String,
    /// `file.cu:30` (the end of it is enough, `pool.cu:30`) or `ptx:1427`; empty for all lines.
    pub line: String,
    /// Why it is right.
    pub reason: String,
}

/// What is checked.
#[derive(Clone, Debug)]
pub struct CheckOptions {
    /// Races in shared and global memory.
    pub races: bool,
    /// Reads of bytes that nobody wrote.
    pub uninitialised: bool,
    /// Accesses by threads of one warp need `__syncwarp` between them, as independent thread scheduling asks for.
    pub strict_its: bool,
    /// Unordered writes of the same value are errors and not warnings.
    pub deny_same_value: bool,
    /// Findings that are accepted.
    pub allow: Vec<Allow>,
}

impl Default for CheckOptions {
    fn default() -> CheckOptions {
        CheckOptions { races: true, uninitialised: true, strict_its: true, deny_same_value: false, allow: Vec::new() }
    }
}

/// Who accesses: instruction, warp of the block, lanes.
#[derive(Clone, Copy, Debug)]
pub struct At {
    /// Index into [`Kernel::code`].
    pub pc: u32,
    /// Warp.
    pub warp: u32,
    /// Lanes.
    pub mask: u32,
}

/// How an instruction accesses memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessKind {
    /// A weak load; the reading side of `cp.async`.
    Load,
    /// `ld.global.nc`.
    LoadNc,
    /// A weak store.
    Store,
    /// `ld.volatile`, `.relaxed`, `.acquire`.
    StrongLoad(Order, Scope),
    /// `st.volatile`, `.relaxed`, `.release`.
    StrongStore(Order, Scope),
    /// `atom` or `red` on elements of so many bytes.
    Atomic(Order, Scope, u32),
    /// `ldmatrix`: the lanes are those that give row addresses; all lanes read.
    LoadMatrix,
    /// `stmatrix`; as [`AccessKind::LoadMatrix`].
    StoreMatrix,
}

impl AccessKind {
    /// The kind of an instruction's access ([`Op::Load`], [`Op::Store`], [`Op::Atom`], [`Op::CpAsync`] for its source, [`Op::Ldmatrix`], [`Op::Stmatrix`]).
    pub fn of(op: Op, access: &Access) -> AccessKind {
        // Volatile is relaxed at the widest scope (PTX ISA, "ld.volatile").
        let scope = if access.order == Order::Volatile { Scope::Sys } else { access.scope };
        match (op, access.order) {
            (Op::Atom, order) => AccessKind::Atomic(order, access.scope, access.width),
            (Op::Ldmatrix, _) => AccessKind::LoadMatrix,
            (Op::Stmatrix, _) => AccessKind::StoreMatrix,
            (Op::Store, Order::Weak) => AccessKind::Store,
            (Op::Store, order) => AccessKind::StrongStore(order, scope),
            (Op::Load, Order::Weak) if access.nc => AccessKind::LoadNc,
            (Op::Load, order) if order != Order::Weak => AccessKind::StrongLoad(order, scope),
            _ => AccessKind::Load,
        }
    }

    /// Whether it reads.
    pub fn reads(self) -> bool {
        !matches!(self, AccessKind::Store | AccessKind::StrongStore(..) | AccessKind::StoreMatrix)
    }

    /// Whether it writes.
    pub fn writes(self) -> bool {
        matches!(
            self,
            AccessKind::Store | AccessKind::StrongStore(..) | AccessKind::StoreMatrix | AccessKind::Atomic(..)
        )
    }

    fn flags(self) -> u32 {
        let cta = |scope: Scope| if scope < Scope::Gpu { CTA } else { 0 };
        match self {
            AccessKind::Load | AccessKind::Store | AccessKind::LoadMatrix | AccessKind::StoreMatrix => 0,
            AccessKind::LoadNc => NC,
            AccessKind::StrongLoad(_, scope) | AccessKind::StrongStore(_, scope) => STRONG | cta(scope),
            AccessKind::Atomic(_, scope, bytes) => Rec::atomic(bytes) | cta(scope),
        }
    }

    /// What it is called: `store`.
    pub fn name(self) -> &'static str {
        match self {
            AccessKind::Load | AccessKind::LoadNc | AccessKind::StrongLoad(..) | AccessKind::LoadMatrix => "load",
            AccessKind::Store | AccessKind::StrongStore(..) | AccessKind::StoreMatrix => "store",
            AccessKind::Atomic(..) => "atomic",
        }
    }

    fn order(self) -> Option<(Order, Scope)> {
        match self {
            AccessKind::StrongLoad(order, scope)
            | AccessKind::StrongStore(order, scope)
            | AccessKind::Atomic(order, scope, _) => Some((order, scope)),
            _ => None,
        }
    }
}

/// What the sanitizer asks about the values of a store; only where stores meet.
pub trait Values {
    /// Whether the store of this lane leaves memory as it is.
    fn unchanged(&self, lane: usize) -> bool;
    /// Whether two lanes store the same bits.
    fn equal(&self, a: usize, b: usize) -> bool;
}

/// For accesses that store nothing, or whose values are not at hand: all differ.
pub struct NoValues;

impl Values for NoValues {
    fn unchanged(&self, _: usize) -> bool {
        false
    }

    fn equal(&self, _: usize, _: usize) -> bool {
        false
    }
}

/// What is described in a finding besides the instructions.
struct Place {
    space: Space,
    slot: u32,
    off: u64,
    bytes: u32,
}

/// The sanitizer of one launch.
pub struct San<'a> {
    kernel: &'a Kernel,
    init: &'a mut GlobalInit,
    grid: [u32; 3],
    dims: [u32; 3],
    options: CheckOptions,
    clocks: Clocks,
    shared: shared::Shared,
    global: global::Global,
    local: local::Local,
    report: Report,
    /// (kind, pc, other pc) that the caller allows.
    allowed: HashSet<(Kind, u32, Option<u32>)>,
    block: u64,
    block_dims: [u32; 3],
    /// The device address of byte `off` of allocation `slot`, for messages.
    pub address: fn(slot: u32, off: u64) -> u64,
}

/// Addresses as the design lays them out; [`San::address`] overrides it.
fn address(slot: u32, off: u64) -> u64 {
    0x7f00_0000_0000 + (u64::from(slot) << 32) + 0x1_0000 + off
}

impl<'a> San<'a> {
    /// The sanitizer of a launch with this grid and block, and `shared_bytes` of shared memory per block, static and dynamic together.
    pub fn new(
        kernel: &'a Kernel,
        init: &'a mut GlobalInit,
        grid: [u32; 3],
        block: [u32; 3],
        shared_bytes: u32,
        options: &CheckOptions,
    ) -> San<'a> {
        let precise = kernel.code.iter().any(|ins| match ins.op {
            Op::BarArrive | Op::Fence => true,
            Op::BarSync | Op::BarRed => ins.b != NO_ROW,
            _ => false,
        });
        let ordering = |order: Order| matches!(order, Order::Acquire | Order::Release | Order::AcqRel);
        let precise = precise || kernel.accesses.iter().any(|access| ordering(access.order));
        San {
            kernel,
            init,
            grid,
            dims: block,
            options: options.clone(),
            clocks: Clocks::new(precise),
            shared: shared::Shared::new(shared_bytes, kernel.narrow_shared),
            global: global::Global::default(),
            local: local::Local::new(kernel.local_bytes),
            report: Report::new(&kernel.name),
            allowed: HashSet::new(),
            block: 0,
            block_dims: [0; 3],
            address,
        }
    }

    /// Block number `linear_block` (x fastest) starts with so many warps and threads.
    pub fn block_begin(&mut self, linear_block: u64, warps: u32, threads: u32) {
        self.block = linear_block;
        self.block_dims = Who::new(linear_block, 0, 0, self.grid, self.dims).block;
        if !self.clocks.block_begin(linear_block, warps, threads) && self.options.races {
            self.options.races = false;
            let message = "races are no longer looked for: the launch has too many barriers".into();
            self.report.add(Finding::launch(Kind::Unsupported, message, &self.kernel.name).warning());
        }
        self.shared.block_begin(self.clocks.precise, self.clocks.warps);
        self.local.block_begin(warps);
    }

    /// The block has ended.
    pub fn block_end(&mut self) {
        self.shared_interval_end();
        self.shared_block_end();
    }

    /// A warp executes `bar.arrive` on barrier `id`.
    pub fn arrive(&mut self, id: u32, warp: u32) {
        self.clocks.arrive(id, warp);
    }

    /// Barrier `id` has completed: the warps of `synced` waited for it, those of `arrived_only` only arrived ([`San::arrive`] at the time).
    /// `all`: it asked for no number of threads, so it was for all that have not exited.
    pub fn barrier(&mut self, id: u32, synced: u32, arrived_only: u32, all: bool) {
        if self.clocks.barrier(id, synced, arrived_only & !synced, all) {
            self.shared_interval_end();
        }
    }

    /// `bar.warp.sync` over `mask` has completed.
    pub fn warp_sync(&mut self, warp: u32, mask: u32) {
        self.clocks.warp_sync(warp, mask);
    }

    /// A fence.
    pub fn fence(&mut self, at: &At, scope: Scope) {
        self.clocks.fence(at.warp, at.mask, scope);
    }

    /// Lanes exit.
    pub fn exit(&mut self, at: &At) {
        self.clocks.exit(at.warp, at.mask);
    }

    /// What was found; the launch has ended.
    pub fn finish(mut self) -> Report {
        self.report.sort();
        self.report
    }

    /// For findings of the machine itself, so that all of a launch are in one report.
    pub fn report(&mut self, finding: Finding) {
        match self.is_allowed(&finding) {
            true => self.report.allowed += 1,
            false => drop(self.report.add(finding)),
        }
    }

    fn is_allowed(&self, finding: &Finding) -> bool {
        let line = finding.at.as_ref().map(|site| site.line()).unwrap_or_default();
        self.options.allow.iter().any(|allow| {
            allow.kind == finding.kind
                && (allow.kernel.is_empty() || allow.kernel == finding.kernel)
                && (allow.line.is_empty() || line.ends_with(&allow.line))
        })
    }

    fn who(&self, seg: u32, lane: u32) -> Who {
        Who::new(self.clocks.block_of(seg), seg & 31, lane, self.grid, self.dims)
    }

    /// Counts a finding that is there already; otherwise describes it.
    fn found(&mut self, kind: Kind, at: &At, lane: usize, other: Option<Rec>, describe: impl FnOnce(&San) -> Finding) {
        let other_pc = other.map(Rec::pc);
        if self.report.repeat(kind, at.pc, other_pc, Some(self.block_dims)) {
            return;
        }
        if !self.allowed.is_empty() && self.allowed.contains(&(kind, at.pc, other_pc)) {
            self.report.allowed += 1;
            return;
        }
        let mut finding = describe(self);
        if let (Some(site), who) = (&mut finding.at, Who::new(self.block, at.warp, lane as u32, self.grid, self.dims)) {
            site.who = Some(who);
        }
        if let Some(rec) = other {
            finding = finding.with_other(self.kernel, rec.pc(), Some(self.who(rec.seg, rec.lane())));
        }
        if self.is_allowed(&finding) {
            self.allowed.insert((kind, at.pc, other_pc));
            self.report.allowed += 1;
        } else {
            self.report.add(finding);
        }
    }

    /// A finding with its address and buffer.
    fn describe(&self, kind: Kind, message: String, at: &At, place: &Place) -> Finding {
        let finding = Finding::at(kind, message, self.kernel, at.pc, None);
        match place.space {
            Space::Shared => {
                let (name, start, size) = shared_buffer(self.kernel, place.off, self.shared.bytes());
                finding.with_address(Space::Shared, place.off, place.bytes).with_buffer(
                    &name,
                    place.off as i64 - start as i64,
                    size,
                )
            }
            Space::Local => finding.with_address(Space::Local, place.off, place.bytes).with_buffer(
                "local memory",
                place.off as i64,
                u64::from(self.kernel.local_bytes),
            ),
            space => {
                let finding = finding.with_address(space, (self.address)(place.slot, place.off), place.bytes);
                match self.init.buffer(place.slot) {
                    Some((name, size)) => finding.with_buffer(name, place.off as i64, size),
                    None => finding,
                }
            }
        }
    }

    /// Reports a race of the access at `place`.
    fn race(&mut self, at: &At, lane: usize, kind: AccessKind, race: &Race, place: Place, values: &dyn Values) {
        if race.relation == Relation::Lanes && !self.options.strict_its && !race.nc {
            return;
        }
        let key = match place.space {
            Space::Shared => (sync::SHARED, place.off),
            _ => (place.slot, place.off),
        };
        if race.other.has(STRONG) && !race.sizes && self.clocks.sync.acquired_through(at.warp, key) {
            return;
        }
        let space = place.space.name();
        let other_name = match (race.wrote, race.other.has(ATOMIC)) {
            (_, true) => "an atomic",
            (true, _) if race.other.has(NC) => "a cp.async",
            (true, _) => "a store",
            (false, _) => "a load",
        };
        let (is, name) = (kind.name(), if kind.writes() { "write" } else { "read" });
        let plain_writes = race.wrote && kind == AccessKind::Store && !race.other.has(STRONG | NC);
        let same = plain_writes && !self.options.deny_same_value && values.unchanged(lane);
        let (finding, message, hint) = if race.nc {
            let what = if race.wrote {
                "ld.global.nc of bytes that this launch writes"
            } else {
                "write of bytes that this launch reads with ld.global.nc"
            };
            (
                Kind::ReadOnlyViolation,
                what.to_string(),
                "the pointer is const __restrict__ or read with __ldg, but somebody writes through another one",
            )
        } else if race.sizes {
            let kind = if place.space == Space::Shared { Kind::SharedRace } else { Kind::GlobalRace };
            (
                kind,
                format!("atomics of different sizes on the same {space} bytes"),
                "use one size for all atomics on a location",
            )
        } else {
            let who = match race.relation {
                Relation::Lanes => "another thread of the warp",
                Relation::Warps => "another warp of the block",
                Relation::Blocks => "another block",
            };
            let (kind, hint) = match (race.relation, place.space) {
                (Relation::Lanes, _) => (Kind::IntraWarpRace, "__syncwarp() between the two orders them"),
                (Relation::Warps, Space::Shared) => {
                    (Kind::SharedRace, "a barrier (__syncthreads) between the two orders them")
                }
                (Relation::Warps, _) => (Kind::GlobalRace, "a barrier (__syncthreads) between the two orders them"),
                (Relation::Blocks, _) => (
                    Kind::GlobalRace,
                    "only atomics with fences, or another launch, order accesses of different blocks",
                ),
            };
            let same = if same { " of the same value" } else { "" };
            (kind, format!("{space} {is} races with {other_name} by {who}: nothing orders this {name}{same}"), hint)
        };
        let other = race.other;
        self.found(finding, at, lane, Some(other), |san| {
            let described = san.describe(finding, message, at, &place).with_hint(hint);
            if same { described.warning() } else { described }
        });
    }

    /// Reports lanes of one store that disagree about the same bytes: which one wins is undefined. Gives the lanes that store to the same place as a lower one.
    fn store_conflicts(
        &mut self,
        at: &At,
        places: impl Fn(usize) -> (u32, u64),
        width: u32,
        space: Space,
        values: &dyn Values,
    ) -> u32 {
        let (again, clash) = overlapping(at.mask, &places, width, values);
        if let Some((a, b)) = clash {
            let (slot, off) = places(b);
            let space_name = space.name();
            let message =
                format!("lanes {a} and {b} of one {space_name} store write different values to the same bytes");
            let hint = "which value stays is undefined: let one lane store, or use an atomic";
            self.found(Kind::IntraWarpRace, at, b, None, |san| {
                let place = Place { space, slot, off, bytes: width };
                san.describe(Kind::IntraWarpRace, message, at, &place).with_hint(hint)
            });
        }
        again
    }
}

/// Lanes whose bytes are those of a lower lane, and the first two that store different values there. Ascending places, the usual case, are seen at once.
fn overlapping(
    mask: u32,
    places: &impl Fn(usize) -> (u32, u64),
    width: u32,
    values: &dyn Values,
) -> (u32, Option<(usize, usize)>) {
    // Two quick looks, either of which settles nearly all stores: places ascend, or no two share a slot of a small table.
    let (mut ascending, mut end) = (true, (0u32, 0u64));
    let (mut seen, mut twice) = ([0u64; 4], false);
    for lane in clocks::each(mask, LANES) {
        let (slot, off) = places(lane);
        ascending &= end <= (slot, off);
        end = (slot, off + u64::from(width));
        let hash = (off >> width.trailing_zeros()) as usize & 255;
        twice |= seen[hash / 64] >> (hash % 64) & 1 == 1;
        seen[hash / 64] |= 1 << (hash % 64);
    }
    if ascending || !twice {
        return (0, None);
    }
    let mut lanes: Vec<(u32, u64, usize)> = clocks::each(mask, LANES)
        .map(|lane| {
            let (slot, off) = places(lane);
            (slot, off, lane)
        })
        .collect();
    lanes.sort_unstable();
    let (mut again, mut clash) = (0, None);
    // Aligned accesses of one width overlap only where they are equal.
    for pair in lanes.windows(2).filter(|p| (p[0].0, p[0].1) == (p[1].0, p[1].1)) {
        again |= 1 << pair[1].2;
        if clash.is_none() && !values.equal(pair[0].2, pair[1].2) {
            clash = Some((pair[0].2, pair[1].2));
        }
    }
    (again, clash)
}

/// The shared variable at `off` bytes from the start of shared memory: name, start and size. Past the static ones that is the dynamic memory.
pub fn shared_buffer(kernel: &Kernel, off: u64, total: u32) -> (String, u64, u64) {
    let inside = |s: &&super::ir::Symbol| s.space == Space::Shared && s.offset <= off && off < s.offset + s.bytes;
    match kernel.symbols.iter().find(inside) {
        Some(symbol) => (symbol.name.clone(), symbol.offset, symbol.bytes),
        None if off < u64::from(kernel.shared_bytes) => ("shared memory".into(), 0, u64::from(kernel.shared_bytes)),
        None => {
            let dynamic = kernel.symbols.iter().find(|s| s.space == Space::Shared && s.bytes == 0);
            let (name, start) = dynamic
                .map_or(("dynamic shared memory", u64::from(kernel.shared_bytes)), |s| (s.name.as_str(), s.offset));
            (name.into(), start, u64::from(total).saturating_sub(start))
        }
    }
}
