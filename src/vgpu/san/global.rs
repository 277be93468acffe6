//! Global memory: races between threads, warps and blocks of a launch, bytes nobody wrote, `.nc` loads of what is written.

use super::cells::{Cells, MANY_BLOCKS, MANY_LANES, NC, Rec, STRONG};
use super::clocks::{Race, each};
use super::{AccessKind, At, LANES, Place, San, Values};
use crate::vgpu::ptx::ast::Space;
use crate::vgpu::report::Kind;

/// Bytes of a page of cells.
const PAGE: u64 = 1 << 14;

/// Cells of the allocations that the launch touches.
#[derive(Default)]
pub(super) struct Global {
    /// Number of the page plus one, by slot and place; 0 for none.
    slots: Vec<Vec<u32>>,
    pages: Vec<Cells>,
}

impl Global {
    /// The index in `pages` of a page, made if need be, with cells small enough for accesses of `width` bytes.
    fn page(&mut self, slot: u32, page: u64, width: u32) -> usize {
        let (slot, page) = (slot as usize, page as usize);
        if self.slots.len() <= slot {
            self.slots.resize_with(slot + 1, Vec::new);
        }
        let places = &mut self.slots[slot];
        if places.len() <= page {
            places.resize(page + 1, 0);
        }
        if places[page] == 0 {
            self.pages.push(Cells::new(PAGE as usize, false));
            places[page] = self.pages.len() as u32;
        }
        let index = places[page] as usize - 1;
        self.pages[index].fit(width);
        index
    }
}

impl San<'_> {
    /// An access to global memory, before the data moves: `width` bytes (of the whole vector) at byte `offs` of the allocation `slots`, per lane.
    pub fn global(
        &mut self,
        at: &At,
        kind: AccessKind,
        slots: &[u32; LANES],
        offs: &[u64; LANES],
        width: u32,
        values: &dyn Values,
    ) {
        if self.options.uninitialised {
            self.global_init(at, kind, slots, offs, width);
        }
        if !self.options.races {
            return;
        }
        let mut again = 0;
        if kind.writes() && !matches!(kind, AccessKind::Atomic(..)) {
            again = self.store_conflicts(at, |lane| (slots[lane], offs[lane]), width, Space::Global, values);
        }
        let cur = self.clocks.cur[at.warp as usize & 31];
        let flags = kind.flags();
        let mut races: Vec<(usize, Race)> = Vec::new();
        let mut near = None;
        for lane in each(at.mask, LANES) {
            let (slot, off) = (slots[lane], offs[lane]);
            let new = Rec::new(cur, at.pc, lane as u32, flags);
            // Lanes of an access mostly lie in one page.
            let page = (slot, off / PAGE);
            let index = match near {
                Some((at, index)) if at == page => index,
                _ => self.global.page(slot, page.1, width),
            };
            near = Some((page, index));
            let (_, cells) = self.global.pages[index].span((off % PAGE) as u32, width);
            if again >> lane & 1 == 1 {
                cells.iter_mut().filter(|c| c.w.seg == cur).for_each(|c| c.w.set(MANY_LANES));
                continue;
            }
            let mut first = None;
            for cell in cells {
                let race = if kind.writes() {
                    if cell.w.is_none() && cell.r.is_none() {
                        cell.w = new;
                        continue;
                    }
                    self.clocks.write(cell, new, at.warp, lane as u32)
                } else {
                    if cell.w.is_none() {
                        if cell.r.is_none() {
                            cell.r = new;
                            continue;
                        }
                        // Read by several blocks and written by none: one reader more changes nothing.
                        if cell.r.has(MANY_BLOCKS) && !cell.r.has(STRONG) && (!new.has(NC) || cell.r.has(NC)) {
                            continue;
                        }
                    }
                    self.clocks.read(cell, new, at.warp, lane as u32)
                };
                first = first.or(race);
            }
            if let Some(race) = first {
                races.push((lane, race));
            }
        }
        for (lane, race) in races {
            let place = Place { space: Space::Global, slot: slots[lane], off: offs[lane], bytes: width };
            self.race(at, lane, kind, &race, place, values);
        }
        if self.clocks.precise {
            let key = |lane: usize| (slots[lane], offs[lane]);
            self.clocks.strong(at, kind, key);
        }
    }

    fn global_init(&mut self, at: &At, kind: AccessKind, slots: &[u32; LANES], offs: &[u64; LANES], width: u32) {
        let width = u64::from(width);
        // Lanes side by side are one range.
        let lanes = at.mask.count_ones() as u64;
        let (first, last) = (at.mask.trailing_zeros() as usize, 31 - at.mask.leading_zeros() as usize);
        let dense = at.mask != 0
            && last - first + 1 == lanes as usize
            && (first..last).all(|l| slots[l + 1] == slots[l] && offs[l + 1] == offs[l] + width);
        if dense && kind.reads() && self.init.first_undefined(slots[first], offs[first], lanes * width).is_none() {
            if kind.writes() {
                self.init.mark(slots[first], offs[first], lanes * width);
            }
            return;
        }
        if dense && !kind.reads() {
            return self.init.mark(slots[first], offs[first], lanes * width);
        }
        for lane in each(at.mask, LANES) {
            if kind.reads()
                && let Some(off) = self.init.first_undefined(slots[lane], offs[lane], width)
            {
                self.found(Kind::UninitialisedRead, at, lane, None, |san| {
                    let place = Place { space: Space::Global, slot: slots[lane], off, bytes: width as u32 };
                    let message = format!("global {} of {width} bytes that nobody has written", kind.name());
                    san.describe(Kind::UninitialisedRead, message, at, &place)
                        .with_hint("cudaMalloc does not clear memory: copy or fill it before")
                });
            }
            if kind.writes() {
                self.init.mark(slots[lane], offs[lane], width);
            }
        }
    }
}
