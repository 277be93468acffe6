//! `cp.async`: copies from global to shared memory that end some time between issue and wait.
//!
//! With checks on they end as late as they may: the bytes move at the wait, and until then the sanitizer knows them as in flight. Without, they move at
//! once; a right program cannot tell. Groups belong to threads: every copy keeps the lanes that have not waited for it yet.

use super::Halt;
use super::access::{Lanes, Verb, addresses};
use super::block::Block;
use super::lanes::{each, get, pred};
use crate::vgpu::ir::{File, Ins, NO_ROW};
use crate::vgpu::mem;
use crate::vgpu::ptx::ast::Space;
use crate::vgpu::san::{AccessKind, At, NoValues};

/// A group number that no wait reaches: not committed yet.
const OPEN: u32 = u32::MAX;

/// One instruction's copies that have not ended.
struct Pending {
    pc: u32,
    mask: u32,
    /// Number of the group, by lane; [`OPEN`] before the commit.
    group: [u32; 32],
    bytes: u32,
    target: [*mut u8; 32],
    target_off: [u32; 32],
    source: [*const u8; 32],
    source_off: [u64; 32],
    slot: [u32; 32],
    /// Bytes to copy; the rest is filled with zeros.
    size: [u32; 32],
}

/// The copies of a warp.
#[derive(Default)]
pub(super) struct Copies {
    pending: Vec<Pending>,
    /// Groups that each lane has committed.
    committed: [u32; 32],
}

impl Copies {
    pub fn clear(&mut self) {
        self.pending.clear();
        self.committed = [0; 32];
    }
}

impl<const CHECK: bool, const COUNT: bool> Block<'_, CHECK, COUNT> {
    /// `cp.async.{ca,cg}.shared.global`.
    pub fn copy_async(&mut self, w: usize, pc: u32, file: &File, ins: &Ins, m: u32) -> Result<(), Halt> {
        let access = &self.kernel.accesses[ins.x as usize];
        let bytes = access.width;
        // SAFETY: lowering gave the instruction rows that exist.
        let (target, source, sizes, ignored) = unsafe {
            let target = addresses(file, ins.a, access.wide, ins.imm, m);
            let source = addresses(file, ins.b, true, access.offset2, m);
            let sizes = if ins.c == NO_ROW { [bytes; 32] } else { get(file, ins.c) };
            (target, source, sizes, pred(file, ins.q))
        };
        let size: [u32; 32] =
            std::array::from_fn(|lane| if ignored >> lane & 1 == 1 { 0 } else { sizes[lane].min(bytes) });
        let to = self.translate(w, pc, Verb::Store, Space::Shared, &target, bytes, m)?;
        let mut mask = to.mask;
        // The source is accessed for its size only, but must be aligned to the whole.
        let mut from =
            Lanes { mask: 0, space: Space::Global, ptr: [std::ptr::null_mut(); 32], off: [0; 32], slot: [0; 32] };
        let whole = each(mask).filter(|&l| size[l] == bytes).fold(0, |s, l| s | 1u32 << l);
        if whole != 0 {
            from = self.source_lanes(w, pc, &pick(&source, whole), bytes, whole)?;
            mask &= !(whole & !from.mask);
        }
        let partial = mask & !whole;
        for lane in each(partial).filter(|&l| size[l] != 0) {
            let lanes = 1 << lane;
            let found = self.source_lanes(w, pc, &pick(&source, lanes), size[lane], lanes)?;
            mask &= !(lanes & !found.mask);
            merge(&mut from, &found);
        }
        if mask != 0 {
            self.effects += 1;
            let (written, read) = (Lanes { mask, ..to }, Lanes { mask: mask & from.mask, ..from });
            if COUNT {
                self.counts.memory(Space::Shared, true, &written, bytes);
                if read.mask != 0 {
                    self.counts.memory(Space::Global, false, &read, bytes);
                }
            }
            self.begin(w, pc, bytes, &written, &read, size);
        }
        Ok(())
    }

    /// Source addresses of `bytes` bytes. Sizes below the copy's own are no powers of two: they are checked byte by byte, without alignment.
    fn source_lanes(&mut self, w: usize, pc: u32, source: &[u64; 32], bytes: u32, lanes: u32) -> Result<Lanes, Halt> {
        if bytes.is_power_of_two() {
            return self.translate(w, pc, Verb::Load, Space::Global, source, bytes, lanes);
        }
        let last = source.map(|a| a.wrapping_add(u64::from(bytes) - 1));
        let end = self.translate(w, pc, Verb::Load, Space::Global, &last, 1, lanes)?;
        self.translate(w, pc, Verb::Load, Space::Global, source, 1, end.mask)
    }

    fn begin(&mut self, w: usize, pc: u32, bytes: u32, to: &Lanes, from: &Lanes, size: [u32; 32]) {
        let mask = to.mask;
        let target_off = to.off.map(|o| o as u32);
        let pending = Pending {
            pc,
            mask,
            group: [OPEN; 32],
            bytes,
            target: to.ptr,
            target_off,
            source: from.ptr.map(<*mut u8>::cast_const),
            source_off: from.off,
            slot: from.slot,
            size,
        };
        if !CHECK {
            // SAFETY: checked addresses.
            unsafe { move_bytes(&pending, mask) };
            return;
        }
        if let Some(san) = &mut self.san {
            san.async_issue(&At { pc, warp: w as u32, mask }, &target_off, bytes);
        }
        self.warps[w].copies.pending.push(pending);
    }

    /// `cp.async.commit_group`.
    pub fn copy_commit(&mut self, w: usize, m: u32) {
        if !CHECK {
            return;
        }
        let Copies { pending, committed } = &mut self.warps[w].copies;
        for copy in pending.iter_mut() {
            for lane in each(copy.mask & m) {
                if copy.group[lane] == OPEN {
                    copy.group[lane] = committed[lane];
                }
            }
        }
        for lane in each(m) {
            committed[lane] += 1;
        }
    }

    /// `cp.async.wait_group` and `wait_all`: all but the newest `keep` groups of each lane are complete, open copies too where `all`.
    pub fn copy_wait(&mut self, w: usize, pc: u32, m: u32, keep: u32, all: bool) -> Result<(), Halt> {
        if !CHECK || self.warps[w].copies.pending.is_empty() {
            return Ok(());
        }
        let mut pending = std::mem::take(&mut self.warps[w].copies.pending);
        let committed = self.warps[w].copies.committed;
        for copy in &mut pending {
            let mut done = 0u32;
            for lane in each(copy.mask & m) {
                let bit = 1u32 << lane;
                let over = match copy.group[lane] {
                    OPEN => all,
                    group => all || group + keep < committed[lane],
                };
                if over {
                    done |= bit;
                }
            }
            if done == 0 {
                continue;
            }
            copy.mask &= !done;
            if let Some(san) = &mut self.san {
                // The source is read now, by the copy's own instruction.
                let read = each(done).filter(|&l| copy.size[l] == copy.bytes).fold(0, |s, l| s | 1u32 << l);
                if read != 0 {
                    let at = At { pc: copy.pc, warp: w as u32, mask: read };
                    san.global(&at, AccessKind::Load, &copy.slot, &copy.source_off, copy.bytes, &NoValues);
                }
                for lane in each(done & !read).filter(|&l| copy.size[l] != 0) {
                    let at = At { pc: copy.pc, warp: w as u32, mask: 1 << lane };
                    san.global(&at, AccessKind::Load, &copy.slot, &copy.source_off, copy.size[lane], &NoValues);
                }
                san.async_complete(&At { pc, warp: w as u32, mask: done }, &copy.target_off, copy.bytes);
            }
            // SAFETY: checked at issue; shared memory and allocations outlive the launch.
            unsafe { move_bytes(copy, done) };
        }
        pending.retain(|copy| copy.mask != 0);
        self.warps[w].copies.pending = pending;
        Ok(())
    }
}

fn pick(addr: &[u64; 32], lanes: u32) -> [u64; 32] {
    let first = addr[lanes.trailing_zeros() as usize & 31];
    std::array::from_fn(|l| if lanes >> l & 1 == 1 { addr[l] } else { first })
}

fn merge(into: &mut Lanes, found: &Lanes) {
    for lane in each(found.mask) {
        into.ptr[lane] = found.ptr[lane];
        into.off[lane] = found.off[lane];
        into.slot[lane] = found.slot[lane];
    }
    into.mask |= found.mask;
}

/// # Safety
/// Targets must be writable for `bytes`, sources readable for their size.
unsafe fn move_bytes(copy: &Pending, lanes: u32) {
    for lane in each(lanes) {
        let (bytes, size) = (copy.bytes as usize, copy.size[lane] as usize);
        // SAFETY: the caller's promise; source words are read as atomics.
        unsafe {
            let (to, from) = (copy.target[lane], copy.source[lane]);
            match (bytes, size) {
                (16, 16) => mem::write::<16>(to, mem::read::<16>(from)),
                (8, 8) => mem::write::<8>(to, mem::read::<8>(from)),
                (4, 4) => mem::write::<4>(to, mem::read::<4>(from)),
                _ => {
                    for i in 0..bytes {
                        let byte = if i < size { mem::read::<1>(from.add(i)) } else { [0] };
                        mem::write::<1>(to.add(i), byte);
                    }
                }
            }
        }
    }
}
