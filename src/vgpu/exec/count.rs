//! Counters of a launch. All are sums over instructions and addresses, so that they do not depend on the order of execution or the host.

use std::collections::HashMap;

use super::Launch;
use super::access::Lanes;
use super::lanes::each;
use crate::vgpu::ir::{Kernel, Op};
use crate::vgpu::prof::{Class, Global, Issued, SharedAccess, Summary};
use crate::vgpu::ptx::ast::Space;

/// Bytes of a sector, the unit of traffic between L2 and DRAM.
const SECTOR: u64 = 32;

/// What is counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    /// By pc: warps and lanes.
    issued: Vec<Issued>,
    read: Global,
    write: Global,
    shared: SharedAccess,
    /// Touched sectors of each window: a bit each, reads and writes.
    touched_read: HashMap<u32, Vec<u64>>,
    touched_write: HashMap<u32, Vec<u64>>,
    pub barriers: u64,
    pub divergent: u64,
    /// Warp instructions of the block that executed most.
    pub heaviest: u64,
}

impl Counts {
    pub fn new(kernel: &Kernel, on: bool) -> Counts {
        Counts { issued: vec![Issued::default(); if on { kernel.code.len() } else { 0 }], ..Counts::default() }
    }

    /// An instruction was issued to the lanes of `m`.
    #[inline(always)]
    pub fn issue(&mut self, pc: u32, m: u32) {
        let at = &mut self.issued[pc as usize];
        at.warps += 1;
        at.lanes += u64::from(m.count_ones());
    }

    /// An access of `bytes` bytes by each lane.
    pub fn memory(&mut self, space: Space, write: bool, lanes: &Lanes, bytes: u32) {
        match space {
            Space::Global => self.global(write, lanes, bytes),
            Space::Shared => self.shared(lanes, bytes),
            _ => {}
        }
    }

    fn global(&mut self, write: bool, lanes: &Lanes, bytes: u32) {
        let (sums, touched) = match write {
            true => (&mut self.write, &mut self.touched_write),
            false => (&mut self.read, &mut self.touched_read),
        };
        sums.requests += 1;
        sums.bytes += u64::from(lanes.mask.count_ones() * bytes);
        // Aligned accesses of up to 32 bytes stay in one sector.
        let mut sectors = [(0u32, 0u64); 32];
        let mut n = 0;
        for lane in each(lanes.mask) {
            let sector = (lanes.slot[lane], lanes.off[lane] / SECTOR);
            if n == 0 || sectors[n - 1] != sector {
                sectors[n] = sector;
                n += 1;
            }
        }
        let sectors = &mut sectors[..n];
        if !sectors.is_sorted() {
            sectors.sort_unstable();
        }
        let mut last = None;
        for &(slot, sector) in sectors.iter() {
            if last == Some((slot, sector)) {
                continue;
            }
            last = Some((slot, sector));
            sums.sectors += 1;
            let map = touched.entry(slot).or_default();
            let word = (sector / 64) as usize;
            if map.len() <= word {
                map.resize((word + 1).next_power_of_two(), 0);
            }
            map[word] |= 1 << (sector % 64);
        }
    }

    fn shared(&mut self, lanes: &Lanes, bytes: u32) {
        // A pass serves 128 bytes: 32 lanes of 4, 16 of 8, 8 of 16.
        let lanes_per_pass = (128 / bytes.clamp(4, 128)) as usize;
        for first in (0..32).step_by(lanes_per_pass) {
            let group = (first..first + lanes_per_pass).filter(|l| lanes.mask >> l & 1 == 1);
            // One word of each bank a pass; a word that several lanes want is read once.
            let mut bank = [u64::MAX; 32];
            let mut more: Vec<(usize, u64)> = Vec::new();
            let mut any = false;
            for lane in group {
                any = true;
                let (from, to) = (lanes.off[lane] / 4, (lanes.off[lane] + u64::from(bytes) - 1) / 4);
                for word in from..=to {
                    let b = (word % 32) as usize;
                    if bank[b] == u64::MAX {
                        bank[b] = word;
                    } else if bank[b] != word && !more.contains(&(b, word)) {
                        more.push((b, word));
                    }
                }
            }
            if any {
                let worst = (0..32).map(|b| more.iter().filter(|m| m.0 == b).count()).max().unwrap_or(0);
                self.shared.ideal += 1;
                self.shared.wavefronts += 1 + if more.is_empty() { 0 } else { worst as u64 };
            }
        }
    }

    /// None yet, of the same kernel.
    pub fn like(other: &Counts) -> Counts {
        Counts { issued: vec![Issued::default(); other.issued.len()], ..Counts::default() }
    }

    /// Adds those of other blocks, `times` over; what memory they touched counts once.
    pub fn merge(&mut self, other: &Counts, times: u64) {
        for (a, b) in self.issued.iter_mut().zip(&other.issued) {
            a.warps += b.warps * times;
            a.lanes += b.lanes * times;
        }
        for (a, b) in [(&mut self.read, &other.read), (&mut self.write, &other.write)] {
            a.requests += b.requests * times;
            a.bytes += b.bytes * times;
            a.sectors += b.sectors * times;
        }
        self.shared.wavefronts += other.shared.wavefronts * times;
        self.shared.ideal += other.shared.ideal * times;
        self.barriers += other.barriers * times;
        self.divergent += other.divergent * times;
        self.heaviest = self.heaviest.max(other.heaviest);
        let maps = [(&mut self.touched_read, &other.touched_read), (&mut self.touched_write, &other.touched_write)];
        for (mine, theirs) in maps {
            for (slot, words) in theirs {
                let map = mine.entry(*slot).or_default();
                if map.len() < words.len() {
                    map.resize(words.len(), 0);
                }
                map.iter_mut().zip(words).for_each(|(a, b)| *a |= b);
            }
        }
    }

    /// The profiler's summary of a launch of which `counted_blocks` ran.
    pub fn summary(&self, launch: &Launch<'_>, shared_bytes: u32, counted_blocks: u64) -> Summary {
        let kernel = launch.kernel;
        let mut classes: Vec<(Class, Issued)> = Vec::new();
        let mut mma: Vec<crate::vgpu::prof::Mma> = Vec::new();
        for (pc, (ins, n)) in kernel.code.iter().zip(&self.issued).enumerate() {
            if ins.op == Op::Join || n.warps == 0 {
                continue;
            }
            match classes.iter_mut().find(|(c, _)| *c == ins.class) {
                Some((_, sum)) => {
                    sum.warps += n.warps;
                    sum.lanes += n.lanes;
                }
                None => classes.push((ins.class, *n)),
            }
            if ins.class == Class::Mma
                && let Some(form) = mma_form(kernel, pc)
            {
                match mma.iter_mut().find(|m| m.form == form.form) {
                    Some(same) => same.count += n.warps,
                    None => mma.push(crate::vgpu::prof::Mma { count: n.warps, ..form }),
                }
            }
        }
        classes.sort_by_key(|(c, _)| *c);
        mma.sort_by(|a, b| a.form.cmp(&b.form));
        let footprint = |maps: &HashMap<u32, Vec<u64>>| {
            maps.values().flatten().map(|word| u64::from(word.count_ones())).sum::<u64>()
        };
        Summary {
            kernel: kernel.name.clone(),
            grid: launch.grid,
            block: launch.block,
            shared_bytes,
            counted_blocks,
            classes,
            global_read: Global { footprint_sectors: footprint(&self.touched_read), ..self.read },
            global_write: Global { footprint_sectors: footprint(&self.touched_write), ..self.write },
            shared: self.shared,
            mma,
            barriers: self.barriers,
            divergent_branches: self.divergent,
            heaviest: self.heaviest,
        }
    }
}

/// Form and work of the tensor-core product at `pc`.
fn mma_form(kernel: &Kernel, pc: usize) -> Option<crate::vgpu::prof::Mma> {
    kernel.code.get(pc).and_then(super::mma::describe)
}
