//! Loads and stores: from the addresses of 32 lanes to bytes. Bounds and alignment are exact and always checked, so that no kernel can touch host memory
//! that is not its own; the sanitizer and the profiler hook in where the addresses are known.

use super::Halt;
use super::block::Block;
use super::lanes::{each, get, get64};
use crate::vgpu::ir::{Access, File, Ins, NO_ROW, Op, window};
use crate::vgpu::mem::{self, GLOBAL, POISON, Window};
use crate::vgpu::ptx::ast::Space;

use crate::vgpu::san::{AccessKind, At, NoValues, Values};

/// Where the lanes of an access go.
pub(super) struct Lanes {
    /// Lanes that may access; the others failed or did not take part.
    pub mask: u32,
    /// The space that generic addresses turned out to be in.
    pub space: Space,
    /// Host address of each lane; of one of the lanes in `mask` where a lane is not in it.
    pub ptr: [*mut u8; 32],
    /// Bytes from the start of the allocation, shared memory or frame.
    pub off: [u64; 32],
    /// Allocation of each lane in global memory.
    pub slot: [u32; 32],
}

/// What is done to memory, for messages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Load,
    Store,
    Atomic,
}

impl Verb {
    pub fn text(self) -> &'static str {
        match self {
            Verb::Load => "load",
            Verb::Store => "store",
            Verb::Atomic => "atomic",
        }
    }
}

/// The addresses of lanes `m`; other lanes repeat the first one's.
///
/// # Safety
/// The rows must exist.
#[inline(always)]
pub(super) unsafe fn addresses(file: &File, row: u16, wide: bool, offset: i64, m: u32) -> [u64; 32] {
    // SAFETY: the caller's promise.
    let mut out = unsafe { if wide { get64(file, row) } else { get(file, row).map(u64::from) } };
    let first = out[m.trailing_zeros() as usize & 31];
    if m == u32::MAX {
        for a in &mut out {
            *a = a.wrapping_add(offset as u64);
        }
    } else {
        for (i, a) in out.iter_mut().enumerate() {
            let keep = u64::from(m >> i & 1).wrapping_neg();
            *a = ((*a & keep) | (first & !keep)).wrapping_add(offset as u64);
        }
    }
    if !wide {
        // 32-bit addresses wrap in 32 bits.
        for a in &mut out {
            *a &= 0xffff_ffff;
        }
    }
    out
}

impl<const CHECK: bool, const COUNT: bool> Block<'_, CHECK, COUNT> {
    /// Splits a generic access by the windows that its lanes fall into, and calls `part` for every part with its space and addresses in it.
    pub fn by_space(
        &mut self,
        space: Space,
        addr: &[u64; 32],
        m: u32,
        mut part: impl FnMut(&mut Self, Space, &[u64; 32], u32) -> Result<(), Halt>,
    ) -> Result<(), Halt> {
        if space != Space::Generic {
            return part(self, space, addr, m);
        }
        let mut rest = m;
        while rest != 0 {
            let first = rest.trailing_zeros() as usize;
            let (space, base) = classify(addr[first]);
            let same = each(rest).filter(|&l| classify(addr[l]).0 == space).fold(0, |s, l| s | 1 << l);
            rest &= !same;
            let mut inside = [addr[first].wrapping_sub(base); 32];
            for (lane, a) in inside.iter_mut().enumerate() {
                if same >> lane & 1 == 1 {
                    *a = addr[lane].wrapping_sub(base);
                }
            }
            part(self, space, &inside, same)?;
        }
        Ok(())
    }

    /// Turns addresses in `space` (not generic) into host addresses of `bytes` bytes each, all checked.
    #[allow(clippy::too_many_arguments)]
    pub fn translate(
        &mut self,
        w: usize,
        pc: u32,
        verb: Verb,
        space: Space,
        addr: &[u64; 32],
        bytes: u32,
        m: u32,
    ) -> Result<Lanes, Halt> {
        let mut lanes = Lanes { mask: m, space, ptr: [std::ptr::null_mut(); 32], off: [0; 32], slot: [0; 32] };
        let align = addr.iter().fold(0, |all, a| all | a) & u64::from(bytes.next_power_of_two() - 1);
        let mut good = align == 0;
        match space {
            Space::Global => {
                let slot = (addr[0].wrapping_sub(GLOBAL)) >> 32;
                let same = addr.iter().fold(0, |all, a| all | (a ^ addr[0])) >> 32 == 0;
                let none = Window { ptr: std::ptr::null_mut(), bytes: 0, bias: 0, id: 0 };
                let window = self.task.memory.windows().get(slot as usize).copied().unwrap_or(none);
                let mut over = 0u64;
                for (off, a) in lanes.off.iter_mut().zip(addr) {
                    *off = ((*a & 0xffff_ffff) as i64 + window.bias) as u64;
                    // Negative offsets are huge as unsigned numbers.
                    over |= u64::from(*off > window.bytes.wrapping_sub(u64::from(bytes)));
                }
                good &= same && over == 0 && window.bytes >= u64::from(bytes);
                if good {
                    for (ptr, off) in lanes.ptr.iter_mut().zip(&lanes.off) {
                        *ptr = window.ptr.wrapping_add(*off as usize);
                    }
                    lanes.slot = [window.id; 32];
                }
            }
            Space::Shared | Space::Local | Space::Const | Space::Param | Space::Generic => {
                let (base, start, size, stride) = self.region(space, w);
                let mut over = 0u64;
                for (off, a) in lanes.off.iter_mut().zip(addr) {
                    *off = a.wrapping_sub(start);
                    over |= u64::from(*off > size.wrapping_sub(u64::from(bytes)));
                }
                good &= over == 0 && size >= u64::from(bytes);
                if good {
                    for (lane, (ptr, off)) in lanes.ptr.iter_mut().zip(&lanes.off).enumerate() {
                        *ptr = base.wrapping_add(*off as usize + lane * stride);
                    }
                }
            }
        }
        if space == Space::Const || space == Space::Param {
            good &= verb == Verb::Load;
        }
        if !good {
            self.translate_slowly(w, pc, verb, addr, bytes, &mut lanes)?;
        }
        Ok(lanes)
    }

    /// Host base, first address, bytes, and bytes from lane to lane of a space other than global.
    pub fn region(&mut self, space: Space, w: usize) -> (*mut u8, u64, u64, usize) {
        let task = self.task;
        match space {
            Space::Shared => (self.shared_ptr(), u64::from(window::SHARED_BASE), u64::from(self.task.shared_bytes), 0),
            Space::Local => {
                let stride = self.local_stride as usize;
                let base = self.local_ptr().wrapping_add(w * 32 * stride);
                (base, u64::from(window::LOCAL_BASE), u64::from(self.kernel.local_bytes), stride)
            }
            Space::Const => (task.consts.ptr().cast_mut(), u64::from(window::CONST_BASE), task.consts.bytes as u64, 0),
            _ => (task.params.ptr().cast_mut(), 0, task.params.bytes as u64, 0),
        }
    }

    /// Tells the sanitizer and the profiler of an access.
    #[allow(clippy::too_many_arguments)]
    pub fn observe(
        &mut self,
        w: usize,
        pc: u32,
        kind: AccessKind,
        verb: Verb,
        lanes: &Lanes,
        bytes: u32,
        values: &dyn Values,
    ) {
        if COUNT && lanes.mask != 0 {
            self.counts.memory(lanes.space, verb != Verb::Load, lanes, bytes);
        }
        if CHECK
            && lanes.mask != 0
            && let Some(san) = &mut self.san
        {
            let at = At { pc, warp: w as u32, mask: lanes.mask };
            match lanes.space {
                Space::Global => san.global(&at, kind, &lanes.slot, &lanes.off, bytes, values),
                Space::Shared => san.shared(&at, kind, &lanes.off.map(|o| o as u32), bytes, values),
                Space::Local => san.local(&at, kind, &lanes.off.map(|o| o as u32), bytes),
                _ => {}
            }
        }
    }

    /// `ld`.
    #[inline]
    pub fn load(&mut self, w: usize, pc: u32, file: &File, ins: &Ins, access: &Access, m: u32) -> Result<(), Halt> {
        // SAFETY: lowering gave the instruction rows that exist.
        let addr = unsafe { addresses(file, ins.a, access.wide, ins.imm, m) };
        let bytes = access.width * access.count;
        self.by_space(access.space, &addr, m, |block, space, addr, m| {
            let lanes = block.translate(w, pc, Verb::Load, space, addr, bytes, m)?;
            block.observe(w, pc, AccessKind::of(Op::Load, access), Verb::Load, &lanes, bytes, &NoValues);
            // SAFETY: lanes of the mask are checked host addresses of `bytes` bytes; rows exist.
            unsafe {
                if lanes.mask != 0 {
                    fetch(file, access, &lanes);
                }
                if lanes.mask != m {
                    poison(file, access, m & !lanes.mask);
                }
            }
            Ok(())
        })
    }

    /// `st`.
    #[inline]
    pub fn store(&mut self, w: usize, pc: u32, file: &File, ins: &Ins, access: &Access, m: u32) -> Result<(), Halt> {
        // SAFETY: lowering gave the instruction rows that exist.
        let addr = unsafe { addresses(file, ins.a, access.wide, ins.imm, m) };
        let bytes = access.width * access.count;
        self.effects += 1;
        self.by_space(access.space, &addr, m, |block, space, addr, m| {
            let lanes = block.translate(w, pc, Verb::Store, space, addr, bytes, m)?;
            let values = Stored { file, access, lanes: &lanes };
            block.observe(w, pc, AccessKind::of(Op::Store, access), Verb::Store, &lanes, bytes, &values);
            // SAFETY: as for loads.
            unsafe { deliver(file, access, &lanes) };
            Ok(())
        })
    }
}

/// The space that a generic address is in, and what its addresses there are less by.
pub(super) fn classify(addr: u64) -> (Space, u64) {
    match addr {
        a if a >= GLOBAL => (Space::Global, 0),
        a if a >= window::PARAM => (Space::Param, window::PARAM),
        a if a >= window::CONST => (Space::Const, window::CONST),
        a if a >= window::LOCAL => (Space::Local, window::LOCAL),
        a if a >= window::SHARED => (Space::Shared, window::SHARED),
        // Null and cut-off pointers: reported as global ones.
        _ => (Space::Global, 0),
    }
}

/// Reads every element of every lane of the mask into its register.
///
/// # Safety
/// The lanes' addresses must be readable for all elements and aligned to the whole; rows must exist.
unsafe fn fetch(file: &File, access: &Access, lanes: &Lanes) {
    // SAFETY: the caller's promise.
    unsafe {
        match (access.width, access.reg_bytes, access.signed) {
            (4, 4, _) => fetch_as::<4, u32>(file, access, lanes, u32::from_le_bytes),
            (8, 8, _) => fetch_as::<8, u64>(file, access, lanes, u64::from_le_bytes),
            (1, 4, false) => fetch_as::<1, u32>(file, access, lanes, |b| u32::from(b[0])),
            (2, 4, false) => fetch_as::<2, u32>(file, access, lanes, |b| u32::from(u16::from_le_bytes(b))),
            (1, 4, true) => fetch_as::<1, u32>(file, access, lanes, |b| b[0] as i8 as i32 as u32),
            (2, 4, true) => fetch_as::<2, u32>(file, access, lanes, |b| i16::from_le_bytes(b) as i32 as u32),
            (1, 2, true) => fetch_as::<1, u32>(file, access, lanes, |b| u32::from(b[0] as i8 as i16 as u16)),
            (1, 8, false) => fetch_as::<1, u64>(file, access, lanes, |b| u64::from(b[0])),
            (2, 8, false) => fetch_as::<2, u64>(file, access, lanes, |b| u64::from(u16::from_le_bytes(b))),
            (4, 8, false) => fetch_as::<4, u64>(file, access, lanes, |b| u64::from(u32::from_le_bytes(b))),
            (1, 8, true) => fetch_as::<1, u64>(file, access, lanes, |b| b[0] as i8 as i64 as u64),
            (2, 8, true) => fetch_as::<2, u64>(file, access, lanes, |b| i16::from_le_bytes(b) as i64 as u64),
            (4, 8, true) => fetch_as::<4, u64>(file, access, lanes, |b| i32::from_le_bytes(b) as i64 as u64),
            _ => fetch_as::<16, u128>(file, access, lanes, u128::from_le_bytes),
        }
    }
}

/// # Safety
/// As [`fetch`]; `T` is the register's width.
#[inline(always)]
unsafe fn fetch_as<const N: usize, T: Copy>(file: &File, access: &Access, lanes: &Lanes, extend: fn([u8; N]) -> T) {
    for (k, &reg) in access.regs.iter().enumerate() {
        if reg == NO_ROW {
            continue;
        }
        // SAFETY: a register of `T`'s width is 32 of them side by side; addresses are readable.
        unsafe {
            let row = file.rows.add(reg as usize).cast::<T>();
            for lane in 0..32 {
                // Lanes outside the mask point where one inside does; what they read is dropped.
                let v = extend(mem::read::<N>(lanes.ptr[lane].add(k * N)));
                if lanes.mask >> lane & 1 == 1 {
                    *row.add(lane) = v;
                }
            }
        }
    }
}

/// Writes every element of every lane of the mask to memory, lowest lane first.
///
/// # Safety
/// As [`fetch`], writable.
unsafe fn deliver(file: &File, access: &Access, lanes: &Lanes) {
    // SAFETY: the caller's promise.
    unsafe {
        match (access.width, access.reg_bytes) {
            (4, 4) => deliver_as::<4, u32>(file, access, lanes, u32::to_le_bytes),
            (8, 8) => deliver_as::<8, u64>(file, access, lanes, u64::to_le_bytes),
            (1, 4) => deliver_as::<1, u32>(file, access, lanes, |v| [v as u8]),
            (2, 4) => deliver_as::<2, u32>(file, access, lanes, |v| (v as u16).to_le_bytes()),
            (1, 8) => deliver_as::<1, u64>(file, access, lanes, |v| [v as u8]),
            (2, 8) => deliver_as::<2, u64>(file, access, lanes, |v| (v as u16).to_le_bytes()),
            (4, 8) => deliver_as::<4, u64>(file, access, lanes, |v| (v as u32).to_le_bytes()),
            _ => deliver_as::<16, u128>(file, access, lanes, u128::to_le_bytes),
        }
    }
}

/// # Safety
/// As [`deliver`]; `T` is the register's width.
#[inline(always)]
unsafe fn deliver_as<const N: usize, T: Copy>(file: &File, access: &Access, lanes: &Lanes, cut: fn(T) -> [u8; N]) {
    for lane in each(lanes.mask) {
        for (k, &reg) in access.regs.iter().enumerate() {
            // SAFETY: as in `fetch_as`; `_` does not occur in stores.
            unsafe {
                let v = *file.rows.add(reg as usize).cast::<T>().add(lane);
                mem::write::<N>(lanes.ptr[lane].add(k * N), cut(v));
            }
        }
    }
}

/// What the lanes of a store write.
struct Stored<'a> {
    file: &'a File,
    access: &'a Access,
    lanes: &'a Lanes,
}

impl Stored<'_> {
    /// Element `k` of `lane`.
    fn element(&self, lane: usize, k: usize) -> u128 {
        let Access { regs, reg_bytes, width, .. } = self.access;
        // SAFETY: registers of the access are rows of their width.
        let v = unsafe {
            let row = self.file.rows.add(regs[k] as usize);
            match reg_bytes {
                8 => u128::from(*row.cast::<u64>().add(lane)),
                16 => *row.cast::<u128>().add(lane),
                _ => u128::from(*row.cast::<u32>().add(lane)),
            }
        };
        if *width == 16 { v } else { v & ((1 << (8 * width)) - 1) }
    }
}

impl Values for Stored<'_> {
    fn unchanged(&self, lane: usize) -> bool {
        let width = self.access.width as usize;
        (0..self.access.regs.len()).all(|k| {
            let new = self.element(lane, k).to_le_bytes();
            // SAFETY: a checked address of all elements.
            let old = |i: usize| unsafe { mem::read::<1>(self.lanes.ptr[lane].add(k * width + i)) }[0];
            (0..width).all(|i| old(i) == new[i])
        })
    }

    fn equal(&self, a: usize, b: usize) -> bool {
        (0..self.access.regs.len()).all(|k| self.element(a, k) == self.element(b, k))
    }
}

/// Fills the registers of a load that failed in lanes `m`.
///
/// # Safety
/// Rows must exist.
unsafe fn poison(file: &File, access: &Access, m: u32) {
    for &reg in access.regs.iter().filter(|&&r| r != NO_ROW) {
        let width = access.reg_bytes.max(4) as usize;
        for lane in each(m) {
            // SAFETY: registers are rows of their width.
            unsafe { file.rows.add(reg as usize).cast::<u8>().add(lane * width).write_bytes(POISON, width) };
        }
    }
}
