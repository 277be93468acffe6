//! Shared memory: races between warps and lanes, bytes nobody wrote in this block, bytes that `cp.async` still writes.

use std::collections::{HashMap, HashSet};

use super::cells::{ATOMIC, Cell, Cells, MANY_LANES, MANY_WARPS, Rec, STRONG};
use super::clocks::{Race, each};
use super::sync::SHARED;
use super::{AccessKind, At, LANES, Place, San, Values};
use crate::vgpu::ptx::ast::Space;

/// Reads of undefined bytes that one instruction may have waiting for the end of the interval.
pub(super) const MOST_PENDING: usize = 1024;

/// Shadow of the shared memory of the block that runs.
pub(super) struct Shared {
    bytes: u32,
    pub(super) cells: Cells,
    /// Kernels whose barriers are not all of the whole block: the last read of every cell by every warp.
    reads: Vec<Rec>,
    warps: usize,
    /// Issuing access of each word that is in flight.
    pub(super) flight: Vec<Rec>,
    pub(super) flying: u32,
    /// Reads of bytes that nobody had written, until the interval ends: a write by somebody else makes a race of them.
    pub(super) pending: Vec<(At, usize, u32, u32, AccessKind)>,
    pub(super) pending_of: HashMap<u32, usize>,
    pub(super) raced: HashSet<u32>,
}

impl Shared {
    pub(super) fn new(bytes: u32, narrow: bool) -> Shared {
        Shared {
            bytes,
            cells: Cells::new(bytes as usize, narrow),
            reads: Vec::new(),
            warps: 0,
            flight: vec![Rec::default(); bytes.div_ceil(4) as usize],
            flying: 0,
            pending: Vec::new(),
            pending_of: HashMap::new(),
            raced: HashSet::new(),
        }
    }

    pub(super) fn bytes(&self) -> u32 {
        self.bytes
    }

    pub(super) fn block_begin(&mut self, precise: bool, warps: usize) {
        self.warps = warps;
        if precise {
            // Stale records of earlier blocks are told by their segments.
            self.reads.resize((self.bytes as usize >> self.cells.shift()) * warps + warps, Rec::default());
        }
        if self.flying != 0 {
            self.flight.fill(Rec::default());
            self.flying = 0;
        }
    }

    /// Splits words into bytes where an access needs it.
    pub(super) fn fit(&mut self, width: u32) {
        if self.cells.fit(width) && !self.reads.is_empty() {
            let warps = self.warps.max(1);
            self.reads = self.reads.chunks(warps).flat_map(|word| [word; 4].concat()).collect();
        }
    }

    /// Lanes side by side, `N` words each: true where that is so and all of them are right at a glance. Those that are have been remembered.
    fn touch_row<const N: usize>(&mut self, now: Now, first: Rec, offs: &[u32; LANES]) -> bool {
        let start = offs[0];
        let row = offs.iter().zip(0..).fold(0, |off, (at, lane)| off | (at ^ (start + lane * 4 * N as u32)));
        if row != 0 || self.cells.shift() != 2 {
            return false;
        }
        let cells = self.cells.span(start, (LANES * N * 4) as u32).1;
        let mut all = cells.len() == LANES * N;
        for (lane, cells) in cells.chunks_exact_mut(N).enumerate() {
            let new = first.of_lane(lane as u32);
            for cell in cells {
                all &= now.touch(cell, new);
            }
        }
        all
    }

    /// The last reads of cell `cell` by each warp.
    pub(super) fn reads_of(&self, cell: usize) -> &[Rec] {
        self.reads.get(cell * self.warps..(cell + 1) * self.warps).unwrap_or_default()
    }

    pub(super) fn words(&mut self, off: u32, width: u32) -> &mut [Rec] {
        self.flight.get_mut((off / 4) as usize..((off + width).div_ceil(4)) as usize).unwrap_or_default()
    }
}

impl San<'_> {
    /// An access to shared memory, before the data moves: `width` bytes (of the whole vector) at `offs` bytes from the start of the block's shared
    /// memory, per lane.
    pub fn shared(&mut self, at: &At, kind: AccessKind, offs: &[u32; LANES], width: u32, values: &dyn Values) {
        let mut at = *at;
        if self.shared.flying != 0 {
            at.mask &= !self.in_flight(&at, kind, offs, width);
        }
        if !self.options.races && !self.options.uninitialised {
            return;
        }
        self.shared.fit(width);
        let mut again = 0;
        if kind.writes() && !matches!(kind, AccessKind::Atomic(..)) {
            let places = |lane: usize| (SHARED, u64::from(offs[lane]));
            again = self.store_conflicts(&at, places, width, Space::Shared, values);
        }
        let matrix = matches!(kind, AccessKind::LoadMatrix | AccessKind::StoreMatrix);
        let mut found = Vec::new();
        match kind.writes() {
            false => self.shared_read(&at, kind, matrix, offs, width, &mut found),
            true => self.shared_write(&at, kind, again, offs, width, &mut found),
        }
        if self.options.races {
            for (lane, race) in found {
                let place = Place { space: Space::Shared, slot: SHARED, off: u64::from(offs[lane]), bytes: width };
                self.race(&at, lane, kind, &race, place, values);
            }
        }
        if self.clocks.precise {
            let key = |lane: usize| (SHARED, u64::from(offs[lane]));
            self.clocks.strong(&at, kind, key);
        }
    }

    fn shared_read(
        &mut self,
        at: &At,
        kind: AccessKind,
        matrix: bool,
        offs: &[u32; LANES],
        width: u32,
        found: &mut Vec<(usize, Race)>,
    ) {
        let cur = self.clocks.cur[at.warp as usize & 31];
        let now = Now { cur, block_first: self.clocks.block_first, gen_first: self.clocks.gen_first };
        let flags = kind.flags();
        let mut undefined = 0u32;
        if at.mask == u32::MAX && !self.clocks.precise && !matrix {
            let first = Rec::new(cur, at.pc, 0, flags);
            let all = match width {
                4 => self.shared.touch_row::<1>(now, first, offs),
                8 => self.shared.touch_row::<2>(now, first, offs),
                16 => self.shared.touch_row::<4>(now, first, offs),
                _ => false,
            };
            if all {
                return;
            }
        }
        // Lanes that read the same place, one after another, are one reader.
        let starts = if self.clocks.precise { at.mask } else { run_starts(at.mask, offs) };
        let mut left = starts;
        while left != 0 {
            let lane = left.trailing_zeros() as usize;
            left &= left - 1;
            let end = if left == 0 { LANES } else { left.trailing_zeros() as usize };
            let run = at.mask & (u32::MAX << lane) & (u32::MAX >> (LANES - end));
            let id = if matrix || run & (run - 1) != 0 { 32 } else { lane as u32 };
            let new = Rec::new(cur, at.pc, id, flags);
            let (_, cells) = self.shared.cells.span(offs[lane], width);
            if !self.clocks.precise && cells.iter_mut().fold(true, |all, cell| all & now.touch(cell, new)) {
                continue;
            }
            for lane in each(run, LANES) {
                let id = if matrix { 32 } else { lane as u32 };
                let new = Rec::new(cur, at.pc, id, flags);
                let (lost, race) = self.shared_read_slowly(at.warp, new, id, offs[lane], width);
                undefined |= u32::from(lost) << lane;
                found.extend(race.map(|race| (lane, race)));
            }
        }
        if undefined != 0 && self.options.uninitialised {
            self.defer_undefined(at, kind, offs, width, undefined);
        }
    }

    /// One lane's read, all rules applied: whether nobody wrote a byte of it, and what it races with.
    fn shared_read_slowly(&mut self, warp: u32, new: Rec, id: u32, off: u32, width: u32) -> (bool, Option<Race>) {
        let clocks = &self.clocks;
        let now = Now { cur: new.seg, block_first: clocks.block_first, gen_first: clocks.gen_first };
        let (first, cells) = self.shared.cells.span(off, width);
        let (mut undefined, mut race) = (false, None);
        for (i, cell) in cells.iter_mut().enumerate() {
            if clocks.precise {
                let slot = (first as usize + i) * self.shared.warps + warp as usize;
                if let Some(read) = self.shared.reads.get_mut(slot) {
                    match read.seg == new.seg && !read.weakened_by(new) {
                        true if read.lane() != id => read.set(MANY_LANES),
                        true => {}
                        false => *read = new,
                    }
                }
            }
            if now.touch(cell, new) {
                continue;
            }
            if cell.w.seg < now.block_first {
                cell.w = Rec::default();
                undefined = true;
            }
            if cell.r.seg < now.block_first {
                cell.r = Rec::default();
            }
            race = race.or(clocks.read(cell, new, warp, id));
        }
        (undefined, race)
    }

    fn shared_write(
        &mut self,
        at: &At,
        kind: AccessKind,
        again: u32,
        offs: &[u32; LANES],
        width: u32,
        found: &mut Vec<(usize, Race)>,
    ) {
        let clocks = &self.clocks;
        let cur = clocks.cur[at.warp as usize & 31];
        let (block_first, gen_first, precise) = (clocks.block_first, clocks.gen_first, clocks.precise);
        let (flags, shift) = (kind.flags(), self.shared.cells.shift());
        let mut undefined = 0u32;
        for lane in each(at.mask, LANES) {
            let id = if kind == AccessKind::StoreMatrix { 32 } else { lane as u32 };
            let new = Rec::new(cur, at.pc, id, flags);
            let (first, cells) = self.shared.cells.span(offs[lane], width);
            if again >> lane & 1 == 1 {
                cells.iter_mut().filter(|c| c.w.seg == cur).for_each(|c| c.w.set(MANY_LANES));
                continue;
            }
            let mut race = None;
            for (i, cell) in cells.iter_mut().enumerate() {
                if cell.w.seg < block_first {
                    if kind.reads() {
                        undefined |= 1 << lane;
                    }
                    cell.w = Rec::default();
                }
                if cell.w.seg < gen_first && cell.r.seg < gen_first {
                    cell.w = new;
                    continue;
                }
                if cell.r.seg < block_first {
                    cell.r = Rec::default();
                }
                let mut hit = clocks.write(cell, new, at.warp, id);
                if precise && hit.is_none() {
                    let row = (first as usize + i) * self.shared.warps;
                    let reads = self.shared.reads.get(row..row + self.shared.warps).unwrap_or_default();
                    let mut reads = reads.iter().filter(|r| r.seg >= block_first);
                    hit = reads.find_map(|r| clocks.against_read(*r, new, at.warp, id));
                }
                if let Some(hit) = hit.filter(|hit| !hit.wrote || hit.other.has(ATOMIC)) {
                    let unit = (first + i as u32) << shift;
                    if hit.other.seg >= block_first && !self.shared.pending.is_empty() {
                        self.shared.raced.insert(unit);
                    }
                }
                race = race.or(hit);
            }
            if let Some(race) = race {
                found.push((lane, race));
            }
        }
        if undefined != 0 && self.options.uninitialised {
            self.defer_undefined(at, kind, offs, width, undefined);
        }
    }
}

/// What tells at a glance that a read is right.
#[derive(Clone, Copy)]
struct Now {
    cur: u32,
    block_first: u32,
    gen_first: u32,
}

impl Now {
    /// Where the cell was written in this block before the last barrier of all, only the reader must be remembered. False where more is to be thought of.
    #[inline(always)]
    fn touch(self, cell: &mut Cell, new: Rec) -> bool {
        if cell.w.seg.wrapping_sub(self.block_first) >= self.gen_first - self.block_first {
            return false;
        }
        let r = &mut cell.r;
        if r.seg < self.gen_first {
            *r = new;
            return true;
        }
        if r.has(STRONG) {
            return false;
        }
        if r.seg == self.cur {
            if r.lane() != new.lane() || new.has(MANY_LANES) {
                r.set(MANY_LANES);
            }
            return true;
        }
        let other_warp = r.warp() != new.warp();
        if other_warp {
            r.set(MANY_WARPS);
        }
        other_warp
    }
}

/// The lanes of `mask` whose place is not that of the lane before them. Only told for whole warps; otherwise every lane starts anew.
fn run_starts(mask: u32, offs: &[u32; LANES]) -> u32 {
    if mask != u32::MAX {
        return mask;
    }
    let mut starts = [0u32; LANES];
    starts[0] = 1;
    for lane in 1..LANES {
        starts[lane] = u32::from(offs[lane] != offs[lane - 1]) << lane;
    }
    starts.iter().fold(0, |all, bit| all | bit)
}
