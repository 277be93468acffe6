//! Release and acquire through a location of memory: `fence; atomic` on one side, `atomic; fence` (or a barrier of the block) on the other, and the forms with
//! `.release` and `.acquire`. This is what makes "the last block finishes the reduction" and spin locks right.
//!
//! Every location that somebody released through has a log: who released, and what was ordered before that. Who reads the location with a strong access and
//! then fences knows a prefix of the log, and so all that its entries knew. Two liberties, both towards silence: a plain or strong store does not cut the
//! log, and what one lane acquires its whole warp does.

use std::collections::HashMap;
use std::rc::Rc;

use super::cells::Rec;
use super::clocks::{Clocks, each};
use super::{AccessKind, At};
use crate::vgpu::ir::{Order, Scope};

const LANES: usize = 32;

/// A location: slot of global memory (or [`SHARED`]) and byte offset.
pub type Key = (u32, u64);

/// The slot that stands for shared memory in a [`Key`].
pub const SHARED: u32 = u32::MAX;

/// A prefix of a log that a warp knows: for its own block, and (through fences wide enough) for other blocks.
#[derive(Clone, Copy, Debug)]
struct Known {
    log: u32,
    len: u32,
    len_gpu: u32,
}

/// What is ordered before a release.
#[derive(Debug)]
struct Snap {
    /// Newest segment of each warp of the releasing block.
    vc: [u32; LANES],
    known: Vec<Known>,
}

#[derive(Debug)]
struct Entry {
    snap: Rc<Snap>,
    /// When, ascending in the log.
    time: u32,
    warp: usize,
    lanes: u32,
    gpu: bool,
}

#[derive(Debug, Default)]
struct Log {
    entries: Vec<Entry>,
    /// Prefixes of other logs that entries bring along: from which entry on.
    inherits: Vec<(u32, Known)>,
}

/// A log prefix that lanes have read but not fenced yet.
#[derive(Clone, Copy, Debug)]
struct Pending {
    log: u32,
    len: u32,
    lanes: u32,
}

/// The last fence of a lane, by scope.
#[derive(Clone, Debug, Default)]
struct Fenced {
    cta: Option<Rc<Snap>>,
    gpu: Option<Rc<Snap>>,
}

/// Logs of the launch, and what the warps of the present block know.
#[derive(Default)]
pub struct Sync {
    logs: Vec<Log>,
    by_key: HashMap<Key, u32>,
    known: Vec<Vec<Known>>,
    pending: Vec<Vec<Pending>>,
    fenced: Vec<Vec<Fenced>>,
    /// Fences since the last barrier.
    fences: bool,
}

impl Sync {
    pub(super) fn block_begin(&mut self, warps: usize) {
        self.known = vec![Vec::new(); warps];
        self.pending = vec![Vec::new(); warps];
        self.fenced = vec![vec![Fenced::default(); LANES]; warps];
        self.fences = false;
        self.by_key.retain(|(slot, _), _| *slot != SHARED);
    }

    /// Fences hold beyond a barrier for all who met there: the idiom is `fence` by every thread, barrier, atomic by one.
    pub(super) fn before_barrier(&mut self, warps: u32) {
        if !std::mem::take(&mut self.fences) {
            return;
        }
        let mut join = Snap { vc: [0; LANES], known: Vec::new() };
        let mut last: Option<Rc<Snap>> = None;
        for w in each(warps, self.fenced.len()) {
            for snap in self.fenced[w].iter().filter_map(|f| f.gpu.as_ref()) {
                if last.as_ref().is_some_and(|l| Rc::ptr_eq(l, snap)) {
                    continue;
                }
                super::clocks::join(&mut join.vc, &snap.vc);
                snap.known.iter().for_each(|k| learn(&mut join.known, *k));
                last = Some(snap.clone());
            }
        }
        if last.is_some() {
            let join = Rc::new(join);
            for w in each(warps, self.fenced.len()) {
                self.fenced[w].fill(Fenced { cta: Some(join.clone()), gpu: Some(join.clone()) });
            }
        }
    }

    /// All who waited know what all who came knew.
    pub(super) fn after_barrier(&mut self, synced: u32, all: u32) {
        if self.known.iter().all(Vec::is_empty) {
            return;
        }
        let mut join = Vec::new();
        for w in each(all, self.known.len()) {
            self.known[w].iter().for_each(|k| learn(&mut join, *k));
        }
        for w in each(synced, self.known.len()) {
            self.known[w].clone_from(&join);
        }
    }

    /// Whether `warp` has acquired through this location: it then comes after the atomics there too.
    pub fn acquired_through(&self, warp: u32, key: Key) -> bool {
        let Some(log) = self.by_key.get(&key) else { return false };
        self.known.get(warp as usize).is_some_and(|known| known.iter().any(|k| k.log == *log))
    }
}

fn learn(list: &mut Vec<Known>, new: Known) {
    match list.iter_mut().find(|k| k.log == new.log) {
        Some(k) => (k.len, k.len_gpu) = (k.len.max(new.len), k.len_gpu.max(new.len_gpu)),
        None => list.push(new),
    }
}

impl Clocks {
    fn snap(&self, warp: usize) -> Rc<Snap> {
        let mut vc = self.vc[warp];
        vc[warp] = self.cur[warp];
        Rc::new(Snap { vc, known: self.sync.known[warp].clone() })
    }

    /// A fence by lanes of a warp.
    pub fn fence(&mut self, warp: u32, mask: u32, scope: Scope) {
        let w = warp as usize;
        if w >= self.warps {
            return;
        }
        let gpu = scope >= Scope::Gpu;
        self.acquire_pending(w, mask, gpu);
        let snap = self.snap(w);
        for lane in each(mask, LANES) {
            let fenced = &mut self.sync.fenced[w][lane];
            fenced.cta = Some(snap.clone());
            if gpu {
                fenced.gpu = Some(snap.clone());
            }
        }
        self.sync.fences = true;
        self.advance(w);
    }

    /// What lanes read before becomes known to their warp.
    pub(super) fn acquire_pending(&mut self, warp: usize, lanes: u32, gpu: bool) {
        if self.sync.pending[warp].is_empty() {
            return;
        }
        for pending in std::mem::take(&mut self.sync.pending[warp]) {
            if pending.lanes & lanes == 0 {
                self.sync.pending[warp].push(pending);
            } else {
                self.acquire(warp, pending.log, pending.len, gpu);
            }
        }
    }

    fn acquire(&mut self, warp: usize, log: u32, len: u32, gpu: bool) {
        let before = self.sync.known[warp].iter().find(|k| k.log == log).map_or(0, |k| k.len);
        learn(&mut self.sync.known[warp], Known { log, len, len_gpu: if gpu { len } else { 0 } });
        let entries = &self.sync.logs[log as usize].entries;
        let own = entries.partition_point(|e| e.time < self.block_first).max(before as usize);
        for entry in entries.get(own..(len as usize).max(own)).unwrap_or_default() {
            super::clocks::join(&mut self.vc[warp], &entry.snap.vc);
            if entry.warp == warp {
                for lane in each(entry.lanes, LANES) {
                    let at = &mut self.acquired[warp][lane];
                    *at = (*at).max(entry.snap.vc[warp]);
                }
            }
        }
    }

    /// A strong access of a lane to a location: reading acquires (at once, or at the next fence), writing releases what was fenced before.
    pub fn strong(&mut self, at: &At, kind: AccessKind, keys: impl Fn(usize) -> Key) {
        let (w, mask) = (at.warp as usize, at.mask);
        let Some((order, scope)) = kind.order().filter(|_| w < self.warps) else { return };
        let gpu = scope >= Scope::Gpu;
        if kind.reads() {
            for lane in each(mask, LANES) {
                let Some(&log) = self.sync.by_key.get(&keys(lane)) else { continue };
                let len = self.sync.logs[log as usize].entries.len() as u32;
                if matches!(order, Order::Acquire | Order::AcqRel) {
                    self.acquire(w, log, len, gpu);
                    continue;
                }
                match self.sync.pending[w].iter_mut().find(|p| p.log == log) {
                    Some(p) => (p.len, p.lanes) = (len, p.lanes | 1 << lane),
                    None => self.sync.pending[w].push(Pending { log, len, lanes: 1 << lane }),
                }
            }
        }
        if kind.writes() {
            let release = matches!(order, Order::Release | Order::AcqRel);
            let now = release.then(|| self.snap(w));
            for lane in each(mask, LANES) {
                let fenced = self.sync.fenced[w][lane].clone();
                let (wide, near) = match &now {
                    Some(snap) if gpu => (Some(snap.clone()), None),
                    Some(snap) => (None, Some(snap.clone())),
                    None if gpu => (fenced.gpu, fenced.cta),
                    None => (None, fenced.cta),
                };
                let same = matches!((&wide, &near), (Some(a), Some(b)) if Rc::ptr_eq(a, b));
                let key = keys(lane);
                if let Some(snap) = wide {
                    self.release(w, lane, key, snap, true);
                }
                if let Some(snap) = near.filter(|_| !same) {
                    self.release(w, lane, key, snap, false);
                }
            }
            if release {
                self.advance(w);
            }
        }
    }

    fn release(&mut self, warp: usize, lane: usize, key: Key, snap: Rc<Snap>, gpu: bool) {
        let id = *self.sync.by_key.entry(key).or_insert_with(|| {
            self.sync.logs.push(Log::default());
            self.sync.logs.len() as u32 - 1
        });
        let time = self.time();
        let log = &mut self.sync.logs[id as usize];
        if let Some(last) =
            log.entries.last_mut().filter(|e| e.gpu == gpu && e.warp == warp && Rc::ptr_eq(&e.snap, &snap))
        {
            last.lanes |= 1 << lane;
            return;
        }
        let at = log.entries.len() as u32;
        for known in snap.known.iter().filter(|k| k.log != id) {
            let news = log.inherits.iter().rev().find(|(_, k)| k.log == known.log);
            if news.is_none_or(|(_, k)| k.len_gpu < known.len_gpu) {
                log.inherits.push((at, *known));
            }
        }
        log.entries.push(Entry { snap, time, warp, lanes: 1 << lane, gpu });
    }

    /// Whether `warp` is ordered after an access by another block.
    pub(super) fn knows(&self, warp: usize, rec: Rec) -> bool {
        let Some(known) = self.sync.known.get(warp).filter(|k| !k.is_empty()) else { return false };
        let mut todo: Vec<(u32, u32)> = known.iter().map(|k| (k.log, k.len_gpu)).collect();
        let mut seen: HashMap<u32, u32> = HashMap::new();
        while let Some((id, len)) = todo.pop() {
            let visited = seen.entry(id).or_insert(0);
            if *visited >= len {
                continue;
            }
            *visited = len;
            let log = &self.sync.logs[id as usize];
            let entries = log.entries.get(..len as usize).unwrap_or_default();
            // Only releases by that block after the access can cover it; the next block's first segment bounds them.
            let from = entries.partition_point(|e| e.time < rec.seg & !31);
            let end = self.next_block(rec.seg);
            let covers = |e: &Entry| e.gpu && rec.seg <= e.snap.vc[rec.warp() as usize];
            if entries[from..].iter().take_while(|e| e.time < end).any(covers) {
                return true;
            }
            todo.extend(log.inherits.iter().take_while(|(at, _)| *at < len).map(|(_, k)| (k.log, k.len_gpu)));
        }
        false
    }
}
