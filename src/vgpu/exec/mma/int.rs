//! `mma` on integers (s8, u8, s4, u4) and single bits: exact, in wrapping 32-bit sums, or clamped once at the end with `.satfinite`.

#[cfg(target_arch = "x86_64")]
use super::avx2;
use super::{Elem, Form, fragment};
use crate::vgpu::exec::lanes::{RowFns, row_fns};
use crate::vgpu::ir::{File, Ins};

/// A form on bytes; `m16n8k32`, `m16n8k16` and `m8n8k16` of every mix of signs have vector code of their own.
pub fn bytes(form: &Form) -> RowFns {
    macro_rules! hot {
        ($halves:literal, $segments:literal) => {
            match (form.a, form.b) {
                (Elem::S8, Elem::S8) => hot!($halves, $segments, true, true),
                (Elem::S8, _) => hot!($halves, $segments, true, false),
                (_, Elem::S8) => hot!($halves, $segments, false, true),
                _ => hot!($halves, $segments, false, false),
            }
        };
        ($halves:literal, $segments:literal, $a:literal, $b:literal) => {
            row_fns!(|file, ins, mask| dots(file, ins, mask, widen_bytes),
                fma: avx2::bytes::<$halves, $segments, $a, $b>(file, ins, mask))
        };
    }
    match (form.m, form.k) {
        (16, 32) => hot!(2, 2),
        (16, _) => hot!(2, 1),
        _ => hot!(1, 1),
    }
}

/// Any form on 4-bit integers.
pub fn nibbles() -> RowFns {
    row_fns!(|file, ins, mask| dots(file, ins, mask, widen_nibbles))
}

/// Any form on single bits.
pub fn bits() -> RowFns {
    row_fns!(|file, ins, mask| popcounts(file, ins, mask))
}

#[inline(always)]
fn widen_bytes(row: &[u8; 32], elem: Elem) -> [i16; 64] {
    let mut out = [0; 64];
    for (to, &from) in out.iter_mut().zip(row) {
        *to = if elem == Elem::S8 { i16::from(from as i8) } else { i16::from(from) };
    }
    out
}

#[inline(always)]
fn widen_nibbles(row: &[u8; 32], elem: Elem) -> [i16; 64] {
    let one = |nibble: u8| if elem == Elem::S4 { i16::from((nibble << 4) as i8 >> 4) } else { i16::from(nibble & 15) };
    let mut out = [0; 64];
    for (pair, &from) in out.chunks_exact_mut(2).zip(row) {
        pair[0] = one(from);
        pair[1] = one(from >> 4);
    }
    out
}

/// `c` plus the sum of products, wrapping or clamped. The sum alone has at most 23 bits.
#[inline(always)]
fn finish(c: u32, sum: i32, sat: bool) -> u32 {
    if sat { (c as i32).saturating_add(sum) as u32 } else { c.wrapping_add(sum as u32) }
}

/// # Safety
/// [`crate::vgpu::ir::RowFn`]'s.
#[inline(always)]
unsafe fn dots(file: &File, ins: &Ins, mask: u32, widen: fn(&[u8; 32], Elem) -> [i16; 64]) {
    let form = Form::unpack(ins.imm);
    // SAFETY: the caller's promise.
    let (a, b, mut d) =
        unsafe { (fragment::a(file, ins, &form), fragment::b(file, ins, &form), fragment::c32(file, ins, &form)) };
    let b = b.map(|column| widen(&column, form.b));
    for (row, out) in a.iter().zip(&mut d).take(form.m) {
        let row = widen(row, form.a);
        for (column, out) in b.iter().zip(out) {
            // Elements past K are zero.
            let sum = row.iter().zip(column).map(|(&x, &y)| i32::from(x) * i32::from(y)).sum();
            *out = finish(*out, sum, form.sat);
        }
    }
    // SAFETY: the caller's promise.
    unsafe { fragment::store(file, ins, &form, mask, &d) };
}

/// # Safety
/// [`crate::vgpu::ir::RowFn`]'s.
#[inline(always)]
unsafe fn popcounts(file: &File, ins: &Ins, mask: u32) {
    let form = Form::unpack(ins.imm);
    // SAFETY: the caller's promise.
    let (a, b, mut d) =
        unsafe { (fragment::a(file, ins, &form), fragment::b(file, ins, &form), fragment::c32(file, ins, &form)) };
    for (row, out) in a.iter().zip(&mut d).take(form.m) {
        for (column, out) in b.iter().zip(out) {
            let both = |(&x, &y): (&u8, &u8)| if form.and { x & y } else { x ^ y }.count_ones();
            *out = out.wrapping_add(row.iter().zip(column).map(both).sum());
        }
    }
    // SAFETY: the caller's promise.
    unsafe { fragment::store(file, ins, &form, mask, &d) };
}
