//! `cp.async`: bytes of shared memory that a copy still writes, and reads of undefined bytes that wait for the end of the barrier interval.

use super::cells::{NC, Rec};
use super::clocks::each;
use super::shared::MOST_PENDING;
use super::sync::SHARED;
use super::{AccessKind, At, LANES, Place, San};
use crate::vgpu::ptx::ast::Space;
use crate::vgpu::report::Kind;

impl San<'_> {
    /// `cp.async` is issued: its `width` destination bytes at `dst_offs` (from the start of the block's shared memory) are in flight from now on.
    /// The source is a [`San::global`] load of its own.
    pub fn async_issue(&mut self, at: &At, dst_offs: &[u32; LANES], width: u32) {
        let cur = self.clocks.cur[at.warp as usize & 31];
        let (block_first, gen_first) = (self.clocks.block_first, self.clocks.gen_first);
        self.shared.fit(width);
        let mut found = Vec::new();
        for lane in each(at.mask, LANES) {
            let new = Rec::new(cur, at.pc, lane as u32, NC);
            let mut overlap = None;
            let mut fresh = 0;
            for word in self.shared.words(dst_offs[lane], width) {
                if word.is_none() {
                    fresh += 1;
                } else {
                    overlap = overlap.or(Some(*word));
                }
                *word = new;
            }
            self.shared.flying += fresh;
            let clocks = &self.clocks;
            let (first, cells) = self.shared.cells.peek(dst_offs[lane], width);
            let mut race = None;
            for (i, cell) in cells.iter().enumerate() {
                if cell.w.seg >= gen_first {
                    race = race.or(clocks.against_write(cell.w, new, at.warp, lane as u32, false));
                }
                if cell.r.seg >= gen_first {
                    race = race.or(clocks.against_read(cell.r, new, at.warp, lane as u32));
                }
                if clocks.precise {
                    let reads = self.shared.reads_of(first as usize + i).iter().filter(|r| r.seg >= block_first);
                    race = race.or(reads.clone().find_map(|r| clocks.against_read(*r, new, at.warp, lane as u32)));
                }
            }
            if race.as_ref().is_some_and(|race| !race.wrote) {
                let unit = self.shared.cells.shift();
                let units = (first..).take(cells.len()).map(|cell| cell << unit);
                self.shared.raced.extend(units);
            }
            match overlap {
                Some(other) => found.push((lane, other, None)),
                None => found.extend(race.map(|race| (lane, race.other, Some(race.wrote)))),
            }
        }
        if !self.options.races {
            return;
        }
        for (lane, other, wrote) in found {
            let (message, hint) = match wrote {
                None => (
                    "cp.async onto bytes that another cp.async still writes",
                    "wait for the earlier copy, or use another stage",
                ),
                Some(true) => ("cp.async onto bytes that another thread wrote in this barrier interval", BARRIER),
                Some(false) => ("cp.async onto bytes that another thread may still read", BARRIER),
            };
            self.found(Kind::InFlightOverlap, at, lane, Some(other), |san| {
                let place = Place { space: Space::Shared, slot: SHARED, off: u64::from(dst_offs[lane]), bytes: width };
                san.describe(Kind::InFlightOverlap, message.into(), at, &place).with_hint(hint)
            });
        }
    }

    /// A wait has completed copies: call it once per copy instruction, with the lanes and destinations of its issue. The bytes are now written by those
    /// threads, in the present barrier interval. `at` is the wait.
    pub fn async_complete(&mut self, at: &At, dst_offs: &[u32; LANES], width: u32) {
        let cur = self.clocks.cur[at.warp as usize & 31];
        for lane in each(at.mask, LANES) {
            let mut issue = at.pc;
            let mut landed = 0;
            for word in self.shared.words(dst_offs[lane], width) {
                if !word.is_none() {
                    issue = word.pc();
                    landed += 1;
                }
                *word = Rec::default();
            }
            self.shared.flying = self.shared.flying.saturating_sub(landed);
            let new = Rec::new(cur, issue, lane as u32, NC);
            for cell in self.shared.cells.span(dst_offs[lane], width).1 {
                cell.w = new;
            }
        }
    }

    /// Reports accesses to bytes in flight; gives their lanes, about which nothing else is worth saying.
    pub(super) fn in_flight(&mut self, at: &At, kind: AccessKind, offs: &[u32; LANES], width: u32) -> u32 {
        let mut hit = 0u32;
        for lane in each(at.mask, LANES) {
            let Some(issue) = self.shared.words(offs[lane], width).iter().find(|word| !word.is_none()).copied() else {
                continue;
            };
            hit |= 1 << lane;
            self.found(Kind::InFlightAccess, at, lane, Some(issue), |san| {
                let place = Place { space: Space::Shared, slot: SHARED, off: u64::from(offs[lane]), bytes: width };
                let message = format!("shared {} of bytes that a cp.async still writes", kind.name());
                let hint = "cp.async.wait_group (and a barrier, for copies of other threads) must come before";
                san.describe(Kind::InFlightAccess, message, at, &place).with_hint(hint)
            });
        }
        hit
    }

    /// Remembers reads of undefined bytes until the interval ends: if another thread writes them in it, a barrier is missing, and the race says so.
    pub(super) fn defer_undefined(&mut self, at: &At, kind: AccessKind, offs: &[u32; LANES], width: u32, lanes: u32) {
        for lane in each(lanes, LANES) {
            let waiting = self.shared.pending_of.entry(at.pc).or_insert(0);
            if *waiting < MOST_PENDING {
                *waiting += 1;
                self.shared.pending.push((At { mask: 1 << lane, ..*at }, lane, offs[lane], width, kind));
            }
        }
    }

    /// The barrier interval ends: what still is undefined was read for nothing.
    pub(super) fn shared_interval_end(&mut self) {
        if self.shared.pending.is_empty() {
            return;
        }
        self.shared.pending_of.clear();
        let raced = std::mem::take(&mut self.shared.raced);
        for (at, lane, off, width, kind) in std::mem::take(&mut self.shared.pending) {
            if (off..off + width).any(|byte| raced.contains(&byte)) {
                continue;
            }
            self.found(Kind::UninitialisedRead, &at, lane, None, |san| {
                let place = Place { space: Space::Shared, slot: SHARED, off: u64::from(off), bytes: width };
                let message = format!("shared {} of {width} bytes that nobody in this block has written", kind.name());
                san.describe(Kind::UninitialisedRead, message, &at, &place)
            });
        }
    }

    /// The block ends: copies that nobody waited for are told.
    pub(super) fn shared_block_end(&mut self) {
        if self.shared.flying == 0 {
            return;
        }
        let Some((word, issue)) = self.shared.flight.iter().copied().enumerate().find(|(_, w)| !w.is_none()) else {
            return;
        };
        let at = At { pc: issue.pc(), warp: issue.warp(), mask: 1 << issue.lane() };
        self.found(Kind::OutstandingCopy, &at, issue.lane() as usize, None, |san| {
            let place = Place { space: Space::Shared, slot: SHARED, off: word as u64 * 4, bytes: 4 };
            san.describe(
                Kind::OutstandingCopy,
                "the block ends with a cp.async that nobody waited for".into(),
                &at,
                &place,
            )
            .warning()
        });
    }
}

const BARRIER: &str = "a barrier must come between the last use of a stage and the copy that fills it again";
