//! Which of two accesses came first: happens-before by barriers, `__syncwarp`, fences and atomics, never by the order in which the machine happened to run.
//!
//! Time is cut into *segments*: `number << 5 | warp`, numbers ascending over the whole launch. A warp gets a new segment where something could order what
//! came before against what comes after: at barriers, at `__syncwarp`, at fences. Blocks run one after another, so the segments of a block are contiguous.
//! - all barriers of the whole block: everything older than [`Clocks::gen_first`] is ordered;
//! - named and partial barriers: a vector clock per warp (`vc`), the newest segment of each other warp that is ordered;
//! - inside a warp: `all` (full `__syncwarp`), and per pair of lanes (`sub`) for sub-masks;
//! - release and acquire through a location: see [`super::sync`].
//!
//! Where a question cannot be answered exactly from what a cell remembers, the answer is "ordered".

use super::cells::{Cell, MANY_BLOCKS, MANY_LANES, MANY_WARPS, NC, Rec, STRONG};
use super::sync::Sync;

const LANES: usize = 32;

/// How far two unordered threads are apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// Lanes of one warp.
    Lanes,
    /// Warps of one block.
    Warps,
    /// Blocks.
    Blocks,
}

impl Relation {
    fn flag(self) -> u32 {
        match self {
            Relation::Lanes => MANY_LANES,
            Relation::Warps => MANY_WARPS,
            Relation::Blocks => MANY_BLOCKS,
        }
    }
}

/// An access that conflicts with the present one.
#[derive(Clone, Copy, Debug)]
pub struct Race {
    /// The earlier access.
    pub other: Rec,
    /// Whether that was a write.
    pub wrote: bool,
    /// Between whom.
    pub relation: Relation,
    /// Atomics of different sizes.
    pub sizes: bool,
    /// A `.nc` load and a write: wrong whatever orders them.
    pub nc: bool,
}

/// Pairs of lanes of a warp: the newest segment of the second whose accesses the first is ordered after.
type Lanes = Box<[[u32; LANES]; LANES]>;

/// The clocks of the block that runs, and the history of the launch.
pub struct Clocks {
    /// The kernel has partial barriers, fences, or acquire and release: whole-block barriers alone do not tell.
    pub precise: bool,
    number: u32,
    /// First segment of this block.
    pub block_first: u32,
    /// First segment since the last barrier of the whole block.
    pub gen_first: u32,
    /// Segment of each warp.
    pub cur: [u32; LANES],
    /// Lanes that have not exited.
    pub live: [u32; LANES],
    /// Warps of the block.
    pub warps: usize,
    all: [u32; LANES],
    sub: Vec<Option<Lanes>>,
    pub(super) vc: Vec<[u32; LANES]>,
    pub(super) acquired: Vec<[u32; LANES]>,
    /// What was ordered before the `bar.arrive`s at each barrier that has not completed.
    arrivals: [[u32; LANES]; 16],
    blocks: Vec<(u32, u64)>,
    /// Release and acquire.
    pub sync: Sync,
}

impl Clocks {
    /// Clocks of a launch.
    pub fn new(precise: bool) -> Clocks {
        Clocks {
            precise,
            number: 0,
            block_first: 0,
            gen_first: 0,
            cur: [0; LANES],
            live: [0; LANES],
            warps: 0,
            all: [0; LANES],
            sub: Vec::new(),
            vc: Vec::new(),
            acquired: Vec::new(),
            arrivals: [[0; LANES]; 16],
            blocks: Vec::new(),
            sync: Sync::default(),
        }
    }

    /// A block starts. False where the numbers of segments are used up and nothing can be told any more.
    pub fn block_begin(&mut self, block: u64, warps: u32, threads: u32) -> bool {
        self.warps = (warps as usize).min(LANES);
        for (w, live) in self.live.iter_mut().enumerate() {
            let left = threads.saturating_sub(w as u32 * 32).min(32);
            *live = if left == 0 { 0 } else { u32::MAX >> (32 - left) };
        }
        self.sub = vec![None; self.warps];
        self.vc = vec![[0; LANES]; self.warps];
        self.acquired = vec![[0; LANES]; self.warps];
        self.arrivals = [[0; LANES]; 16];
        self.sync.block_begin(self.warps);
        self.generation();
        self.block_first = self.gen_first;
        self.blocks.push((self.block_first, block));
        self.number < u32::MAX >> 6
    }

    /// A new segment for every warp; all that is older is ordered.
    fn generation(&mut self) {
        self.number += 1;
        self.gen_first = self.number << 5;
        for (w, cur) in self.cur.iter_mut().enumerate() {
            *cur = self.gen_first | w as u32;
        }
        self.all = [self.gen_first - 1; LANES];
        self.sub.fill(None);
        self.vc.fill([self.gen_first - 1; LANES]);
    }

    /// A new segment for `warp`.
    pub(super) fn advance(&mut self, warp: usize) {
        self.number += 1;
        self.cur[warp] = self.number << 5 | warp as u32;
    }

    /// The block of a segment.
    pub fn block_of(&self, seg: u32) -> u64 {
        let after = self.blocks.partition_point(|(first, _)| *first <= seg);
        self.blocks.get(after.wrapping_sub(1)).map_or(0, |(_, block)| *block)
    }

    /// The first segment of the block after that of `seg`.
    pub(super) fn next_block(&self, seg: u32) -> u32 {
        let after = self.blocks.partition_point(|(first, _)| *first <= seg);
        self.blocks.get(after).map_or(u32::MAX, |(first, _)| *first)
    }

    /// The present time, in the order of segments.
    pub(super) fn time(&self) -> u32 {
        self.number << 5
    }

    /// Lanes exit.
    pub fn exit(&mut self, warp: u32, mask: u32) {
        self.live[warp as usize & 31] &= !mask;
    }

    /// A warp arrives at barrier `id` without waiting: only what it did before is ordered by it.
    pub fn arrive(&mut self, id: u32, warp: u32) {
        let w = warp as usize;
        if w >= self.warps {
            return;
        }
        self.sync.before_barrier(1 << warp);
        self.vc[w][w] = self.cur[w];
        join(&mut self.arrivals[id as usize & 15], &self.vc[w]);
        self.advance(w);
    }

    /// A barrier has completed: `synced` warps go on, `arrived` ones did not wait; `all`: it was for all threads of the block that have not exited. True
    /// where it orders everything before against everything after.
    pub fn barrier(&mut self, id: u32, synced: u32, arrived: u32, all: bool) -> bool {
        self.sync.before_barrier(synced | arrived);
        for w in each(synced, self.warps) {
            self.acquire_pending(w, u32::MAX, true);
        }
        let whole = arrived == 0 && (all || synced.count_ones() as usize == self.warps);
        if whole {
            self.generation();
        } else {
            let mut known = std::mem::take(&mut self.arrivals[id as usize & 15]);
            for w in each(synced, self.warps) {
                self.vc[w][w] = self.cur[w];
                join(&mut known, &self.vc[w]);
            }
            for w in each(synced, self.warps) {
                self.vc[w] = known;
                self.all[w] = self.cur[w];
                self.sub[w] = None;
                self.advance(w);
            }
        }
        self.sync.after_barrier(synced, synced | arrived);
        whole
    }

    /// `__syncwarp` over `mask`.
    pub fn warp_sync(&mut self, warp: u32, mask: u32) {
        let w = warp as usize;
        if w >= self.warps {
            return;
        }
        let cur = self.cur[w];
        if mask & self.live[w] == self.live[w] {
            self.all[w] = cur;
            self.sub[w] = None;
        } else {
            let all = self.all[w];
            let table = self.sub[w].get_or_insert_with(|| Box::new([[all; LANES]; LANES]));
            let mut known = [0; LANES];
            for a in each(mask, LANES) {
                table[a][a] = cur;
                join(&mut known, &table[a]);
            }
            for a in each(mask, LANES) {
                table[a] = known;
            }
        }
        self.advance(w);
    }

    /// Whether an access by `lane` (32: by all) of `warp` now is unordered with `rec`, and how far they are apart. `rec` is an access of this launch.
    pub fn unordered(&self, rec: Rec, warp: u32, lane: u32) -> Option<Relation> {
        if rec.is_none() {
            return None;
        }
        let (w, v) = (warp as usize, rec.warp() as usize);
        if rec.seg < self.block_first {
            return (!self.knows(w, rec)).then_some(Relation::Blocks);
        }
        if rec.seg < self.gen_first {
            return None;
        }
        if v != w {
            let ordered = self.precise && self.vc.get(w).is_some_and(|row| rec.seg <= row[v]);
            return (!ordered).then_some(Relation::Warps);
        }
        if rec.has(MANY_WARPS) {
            // Which others is not known: once this warp has learnt of any other since the barrier, they may be ordered.
            let learnt = self.precise && self.vc[w].iter().enumerate().any(|(o, seg)| o != w && *seg >= self.gen_first);
            return (!learnt).then_some(Relation::Warps);
        }
        if rec.seg <= self.all[w] {
            return None;
        }
        let (many, other) = (rec.has(MANY_LANES), rec.lane() as usize);
        if !many && rec.lane() == lane {
            return None;
        }
        if !many && rec.seg <= self.acquired[w][other] {
            return None;
        }
        if let Some(table) = &self.sub[w] {
            let row = |l: usize| match many {
                true => table[l].iter().enumerate().any(|(o, seg)| o != l && rec.seg <= *seg),
                false => rec.seg <= table[l][other],
            };
            let ordered = match lane < 32 {
                true => row(lane as usize),
                false => each(self.live[w], LANES).all(|l| l == other || row(l)),
            };
            if ordered {
                return None;
            }
        }
        Some(Relation::Lanes)
    }

    /// A read of a cell: what it races with; the cell remembers it.
    pub fn read(&self, cell: &mut Cell, new: Rec, warp: u32, lane: u32) -> Option<Race> {
        let race = self.against_write(cell.w, new, warp, lane, new.has(NC));
        let old = cell.r;
        let sticky = if old.has(NC) { NC } else { 0 };
        if old.is_none() {
            cell.r = new;
        } else if old.has(MANY_BLOCKS) && !old.has(STRONG) {
            cell.r.set(if new.has(NC) { NC } else { 0 });
        } else {
            match self.unordered(old, warp, lane) {
                // In one segment the first instruction stays, so that repeated reads cost little.
                None if old.seg == new.seg && !old.weakened_by(new) => {
                    cell.r.set(if new.has(NC) { NC } else { 0 });
                }
                None => {
                    cell.r = new;
                    cell.r.set(sticky);
                }
                Some(relation) => {
                    if old.weakened_by(new) {
                        cell.r = new;
                        cell.r.set(sticky);
                    }
                    cell.r.set(relation.flag() | if new.has(NC) { NC } else { 0 });
                }
            }
        }
        race
    }

    /// A write of a cell: what it races with; the cell remembers it.
    pub fn write(&self, cell: &mut Cell, new: Rec, warp: u32, lane: u32) -> Option<Race> {
        let write = self.against_write(cell.w, new, warp, lane, false);
        let race = write.or_else(|| self.against_read(cell.r, new, warp, lane));
        let old = cell.w;
        cell.w = new;
        if old.has(STRONG) && new.has(STRONG) {
            // Of several atomics that nothing orders the first one stays, for it is the one that somebody else may have missed.
            if let Some(relation) = self.unordered(old, warp, lane) {
                cell.w = old;
                cell.w.set(relation.flag());
            }
        }
        race
    }

    /// What an access races with in the write that `old` stands for; `nc`: it is a `.nc` load.
    pub fn against_write(&self, old: Rec, new: Rec, warp: u32, lane: u32, nc: bool) -> Option<Race> {
        if old.is_none() {
            return None;
        }
        let relation = self.unordered(old, warp, lane);
        if nc {
            let relation = relation.unwrap_or(Relation::Warps);
            return Some(Race { other: old, wrote: true, relation, sizes: false, nc: true });
        }
        let relation = relation?;
        let sizes = old.sizes_differ(new);
        (sizes || !old.agrees(new, relation == Relation::Blocks)).then_some(Race {
            other: old,
            wrote: true,
            relation,
            sizes,
            nc: false,
        })
    }

    /// What a write races with among the reads that `old` stands for.
    pub fn against_read(&self, old: Rec, new: Rec, warp: u32, lane: u32) -> Option<Race> {
        if old.is_none() {
            return None;
        }
        let relation = self.unordered(old, warp, lane);
        if old.has(NC) {
            let relation = relation.unwrap_or(Relation::Warps);
            return Some(Race { other: old, wrote: false, relation, sizes: false, nc: true });
        }
        let relation = relation?;
        (!old.agrees(new, relation == Relation::Blocks)).then_some(Race {
            other: old,
            wrote: false,
            relation,
            sizes: false,
            nc: false,
        })
    }
}

/// The later of two times, for each of 32.
pub fn join(into: &mut [u32; LANES], other: &[u32; LANES]) {
    into.iter_mut().zip(other).for_each(|(a, b)| *a = (*a).max(*b));
}

/// The set bits of `mask` below `end`.
pub fn each(mask: u32, end: usize) -> impl Iterator<Item = usize> + Clone {
    (0..end).filter(move |&i| mask >> i & 1 == 1)
}
