//! `atom` and `red`: lanes in ascending order, each a real atomic of the host, so that blocks on other workers see whole operations. What the operations
//! compute on floats is [`crate::vgpu::num`]'s; `add.f32` on global memory flushes subnormal inputs and results (ISA, `atom`).

use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};

use super::Halt;
use super::access::{Lanes, Verb, addresses};
use super::block::Block;
use super::lanes::each;
use crate::vgpu::ir::{Access, Atom, AtomTy, File, Ins, NO_ROW, Op};
use crate::vgpu::num::{RN, f32 as n32, f64 as n64, half};
use crate::vgpu::ptx::ast::Space;
use crate::vgpu::san::{AccessKind, NoValues};

/// Atomics of 16 bytes: no host instruction does them.
static WIDE: Mutex<()> = Mutex::new(());

impl<const CHECK: bool, const COUNT: bool> Block<'_, CHECK, COUNT> {
    /// Executes `atom` or `red`.
    pub fn atom(&mut self, w: usize, pc: u32, file: &File, ins: &Ins, m: u32) -> Result<(), Halt> {
        let access = &self.kernel.accesses[ins.x as usize];
        let Some((op, ty)) = access.atom else { return Ok(()) };
        // SAFETY: lowering gave the instruction rows that exist.
        let addr = unsafe { addresses(file, ins.a, access.wide, ins.imm, m) };
        let bytes = access.width * access.count;
        self.by_space(access.space, &addr, m, |block, space, addr, m| {
            let lanes = block.translate(w, pc, Verb::Atomic, space, addr, bytes, m)?;
            block.observe(w, pc, AccessKind::of(Op::Atom, access), Verb::Atomic, &lanes, bytes, &NoValues);
            let mut changed = 0;
            for lane in each(lanes.mask) {
                // SAFETY: a checked, aligned address; rows exist.
                changed |= unsafe { one(file, ins, access, op, ty, &lanes, lane) };
            }
            block.effects += changed;
            Ok(())
        })
    }
}

/// One lane's atomic; 1 where memory changed.
///
/// # Safety
/// The lane's address must be good for the access; rows must exist.
unsafe fn one(file: &File, ins: &Ins, access: &Access, op: Atom, ty: AtomTy, lanes: &Lanes, lane: usize) -> u64 {
    let width = access.width as usize;
    let flush = lanes.space == Space::Global;
    let mut changed = 0;
    for k in 0..access.count as usize {
        // SAFETY: the caller's promise.
        unsafe {
            let value = |at: usize| access.regs.get(at).map_or(0, |&r| read_reg(file, r, access.reg_bytes, lane));
            // Plain: b, then c of cas. Vectors: all of b.
            let (b, c) = (value(k), if op == Atom::Cas { value(1) } else { 0 });
            let ptr = lanes.ptr[lane].add(k * width);
            let apply = |old: u128| compute(op, ty, width, flush, old, b, c);
            let old = match width {
                2 => u128::from(rmw(&*ptr.cast::<AtomicU16>(), apply)),
                4 => u128::from(rmw(&*ptr.cast::<AtomicU32>(), apply)),
                8 => u128::from(rmw(&*ptr.cast::<AtomicU64>(), apply)),
                _ => {
                    let _guard = WIDE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    let old = u128::from_le_bytes(crate::vgpu::mem::read::<16>(ptr));
                    crate::vgpu::mem::write::<16>(ptr, apply(old).to_le_bytes());
                    old
                }
            };
            changed |= u64::from(apply(old) != old);
            let result = if access.results.is_empty() { ins.d } else { access.results[k] };
            if result != NO_ROW {
                write_reg(file, result, access.reg_bytes, lane, old);
            }
        }
    }
    changed
}

/// A host atomic of one width.
trait Word {
    type Value: Copy + PartialEq;
    fn read(&self) -> Self::Value;
    fn swap(&self, old: Self::Value, new: u128) -> Result<Self::Value, Self::Value>;
    fn widen(v: Self::Value) -> u128;
}

macro_rules! word {
    ($atomic:ty, $value:ty) => {
        impl Word for $atomic {
            type Value = $value;
            #[inline(always)]
            fn read(&self) -> $value {
                self.load(Relaxed)
            }
            #[inline(always)]
            fn swap(&self, old: $value, new: u128) -> Result<$value, $value> {
                self.compare_exchange_weak(old, new as $value, Relaxed, Relaxed)
            }
            #[inline(always)]
            fn widen(v: $value) -> u128 {
                u128::from(v)
            }
        }
    };
}
word!(AtomicU16, u16);
word!(AtomicU32, u32);
word!(AtomicU64, u64);

/// Read, compute, write as one; the old value.
#[inline(always)]
fn rmw<W: Word>(cell: &W, apply: impl Fn(u128) -> u128) -> W::Value {
    let mut old = cell.read();
    loop {
        match cell.swap(old, apply(W::widen(old))) {
            Ok(_) => return old,
            Err(now) => old = now,
        }
    }
}

fn compute(op: Atom, ty: AtomTy, width: usize, flush: bool, old: u128, b: u128, c: u128) -> u128 {
    let mask = if width == 16 { u128::MAX } else { (1 << (8 * width)) - 1 };
    let b = b & mask;
    let signed = |v: u128| (v << (128 - 8 * width)) as i128 >> (128 - 8 * width);
    let first = |take: bool| if take { old } else { b };
    let (o32, b32) = (old as u32, b as u32);
    let new = match (op, ty) {
        (Atom::Exch, _) => b,
        (Atom::Cas, _) => {
            if old == b {
                c
            } else {
                old
            }
        }
        (Atom::And, _) => old & b,
        (Atom::Or, _) => old | b,
        (Atom::Xor, _) => old ^ b,
        (Atom::Inc, _) => {
            if old >= b {
                0
            } else {
                old + 1
            }
        }
        (Atom::Dec, _) => {
            if old == 0 || old > b {
                b
            } else {
                old - 1
            }
        }
        (Atom::Add, AtomTy::F32) => {
            let f = |v: u32| if flush { n32::ftz(v) } else { v };
            u128::from(f(n32::add::<RN>(f(o32), f(b32))))
        }
        (Atom::Add, AtomTy::F64) => u128::from(n64::add::<RN>(old as u64, b as u64)),
        (op, AtomTy::F16) => u128::from(one_half::<half::F16>(op, o32, b32)),
        (op, AtomTy::Bf16) => u128::from(one_half::<half::Bf16>(op, o32, b32)),
        (op, AtomTy::F16x2) => u128::from(half::x2_2(|x, y| one_half::<half::F16>(op, x, y), o32, b32)),
        (op, AtomTy::Bf16x2) => u128::from(half::x2_2(|x, y| one_half::<half::Bf16>(op, x, y), o32, b32)),
        (Atom::Add, _) => old.wrapping_add(b),
        (Atom::Min, AtomTy::S) => first(signed(old) <= signed(b)),
        (Atom::Max, AtomTy::S) => first(signed(old) >= signed(b)),
        (Atom::Min, AtomTy::F32) => u128::from(n32::min::<false, false>(o32, b32)),
        (Atom::Max, AtomTy::F32) => u128::from(n32::max::<false, false>(o32, b32)),
        (Atom::Min, _) => first(old <= b),
        (Atom::Max, _) => first(old >= b),
    };
    new & mask
}

fn one_half<K: half::Kind>(op: Atom, a: u32, b: u32) -> u32 {
    match op {
        Atom::Min => half::pick::<K, false, false, false>(a, b),
        Atom::Max => half::pick::<K, false, false, true>(a, b),
        _ => half::add::<K>(a, b),
    }
}

/// # Safety
/// The register must exist.
unsafe fn read_reg(file: &File, reg: u16, bytes: u32, lane: usize) -> u128 {
    // SAFETY: the caller's promise.
    unsafe {
        let row = file.rows.add(reg as usize);
        match bytes {
            4 => u128::from(*row.cast::<u32>().add(lane)),
            8 => u128::from(*row.cast::<u64>().add(lane)),
            _ => *row.cast::<u128>().add(lane),
        }
    }
}

/// # Safety
/// The register must exist.
unsafe fn write_reg(file: &File, reg: u16, bytes: u32, lane: usize, value: u128) {
    // SAFETY: the caller's promise.
    unsafe {
        let row = file.rows.add(reg as usize);
        match bytes {
            4 => *row.cast::<u32>().add(lane) = value as u32,
            8 => *row.cast::<u64>().add(lane) = value as u64,
            _ => *row.cast::<u128>().add(lane) = value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_follow_the_isa() {
        let u = |op, old: u32, b: u32| compute(op, AtomTy::U, 4, true, old.into(), b.into(), 0) as u32;
        assert_eq!((u(Atom::Inc, 3, 3), u(Atom::Inc, 2, 3), u(Atom::Inc, 9, 3)), (0, 3, 0));
        assert_eq!((u(Atom::Dec, 0, 3), u(Atom::Dec, 2, 3), u(Atom::Dec, 9, 3)), (3, 1, 3));
        assert_eq!(u(Atom::Add, u32::MAX, 2), 1);
        let s = |op, old: i32, b: i32| compute(op, AtomTy::S, 4, true, old as u32 as u128, b as u32 as u128, 0) as i32;
        assert_eq!((s(Atom::Min, -1, 3), s(Atom::Max, -1, 3)), (-1, 3));
        assert_eq!(u(Atom::Min, u32::MAX, 3), 3);
        assert_eq!(compute(Atom::Cas, AtomTy::B, 8, true, 5, 5, 9), 9);
        assert_eq!(compute(Atom::Cas, AtomTy::B, 8, true, 4, 5, 9), 4);
    }

    #[test]
    fn float_addition_flushes_on_global_memory_only() {
        let tiny = u128::from(1u32);
        assert_eq!(compute(Atom::Add, AtomTy::F32, 4, true, tiny, 0, 0), 0);
        assert_eq!(compute(Atom::Add, AtomTy::F32, 4, false, tiny, 0, 0), tiny);
        let one = u128::from(1f32.to_bits());
        assert_eq!(compute(Atom::Add, AtomTy::F32, 4, true, one, one, 0), u128::from(2f32.to_bits()));
    }
}
