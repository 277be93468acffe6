//! `mma` on floats: as a chain of fused multiply-adds in the order of k (`Fast`), or as exact products summed in f64 and rounded once (`Ref`); f64 products.
//!
//! Tensor cores do neither; see [`super::block`] for what they do.

#[cfg(target_arch = "x86_64")]
use super::avx2;
use super::{Acc, Elem, Form, fragment};
use crate::vgpu::exec::lanes::{RowFns, get64, put64, row_fns};
use crate::vgpu::ir::{File, Ins, WARP};
use crate::vgpu::num::half::{self, Bf16, Kind};
use crate::vgpu::num::{self, fp8, soft};

/// One product, elements widened to f32: `a` by rows, `b` by columns.
pub(super) struct Tile {
    pub a: [[f32; 32]; 16],
    pub b: [[f32; 32]; 8],
    pub c: [[f32; 8]; 16],
}

/// `Fast`, any form but the quarter-warp one.
pub fn fast() -> RowFns {
    row_fns!(|file, ins, mask| fast_any(file, ins, mask, fma_soft), fma: fast_avx2(file, ins, mask))
}

/// `Fast`, `m8n8k4` of f16.
pub fn fast_quads() -> RowFns {
    row_fns!(|file, ins, mask| quads(file, ins, mask, |form, tile, d| chain(form, tile, d, fma_soft)),
        fma: quads(file, ins, mask, |form, tile, d| chain(form, tile, d, f32::mul_add)))
}

/// `Ref`.
pub fn exact() -> RowFns {
    row_fns!(|file, ins, mask| any(file, ins, mask, exact_sum))
}

/// f64, every mode: a chain of fused multiply-adds in the order of k.
pub fn f64() -> RowFns {
    row_fns!(|file, ins, mask| f64_chain(file, ins, mask))
}

/// Bits of element `e` to f32, exactly; tf32 loses the low 13 bits, which tensor cores do not read.
#[inline(always)]
pub(super) fn widen(e: Elem, bits: u32) -> f32 {
    match e {
        Elem::F16 => half::F16::wide(bits),
        Elem::Bf16 => Bf16::wide(bits),
        Elem::Tf32 => f32::from_bits(bits & 0xffff_e000),
        Elem::E4m3 => fp8::e4m3_wide(bits),
        Elem::E5m2 => fp8::e5m2_wide(bits),
        _ => 0.0, // no other form comes here
    }
}

#[inline(always)]
fn widen_row(e: Elem, row: &[u8; 32]) -> [f32; 32] {
    let mut out = [0.0; 32];
    match e.bits() {
        8 => out.iter_mut().zip(row).for_each(|(to, &x)| *to = widen(e, u32::from(x))),
        16 => {
            let halves = row.chunks_exact(2).map(|x| u32::from(u16::from_le_bytes([x[0], x[1]])));
            out.iter_mut().zip(halves).for_each(|(to, x)| *to = widen(e, x));
        }
        _ => {
            let words = row.chunks_exact(4).map(|x| u32::from_le_bytes([x[0], x[1], x[2], x[3]]));
            out.iter_mut().zip(words).for_each(|(to, x)| *to = widen(e, x));
        }
    }
    out
}

/// The bits of a sum as the form's D.
#[inline(always)]
pub(super) fn narrow(form: &Form, x: f32) -> u32 {
    if form.d == Acc::F16 { half::F16::narrow(x) } else { num::f32::canon(x) }
}

/// Loads the operands, lets `sum` make D row by row, stores it.
///
/// # Safety
/// [`crate::vgpu::ir::RowFn`]'s.
#[inline(always)]
pub(super) unsafe fn any(file: &File, ins: &Ins, mask: u32, sum: impl Fn(&Form, &Tile, &mut [[u32; 8]])) {
    let form = Form::unpack(ins.imm);
    if form.quads() {
        // SAFETY: the caller's promise.
        return unsafe { quads(file, ins, mask, sum) };
    }
    // SAFETY: the caller's promise.
    let (a, b, c) =
        unsafe { (fragment::a(file, ins, &form), fragment::b(file, ins, &form), fragment::c_float(file, ins, &form)) };
    let tile = Tile { a: a.map(|row| widen_row(form.a, &row)), b: b.map(|column| widen_row(form.b, &column)), c };
    let mut d = [[0; 8]; 16];
    sum(&form, &tile, &mut d[..form.m]);
    // SAFETY: the caller's promise.
    unsafe { fragment::store(file, ins, &form, mask, &d) };
}

/// As [`any`] for the four products of `m8n8k4`.
///
/// # Safety
/// [`crate::vgpu::ir::RowFn`]'s.
pub(super) unsafe fn quads(file: &File, ins: &Ins, mask: u32, sum: impl Fn(&Form, &Tile, &mut [[u32; 8]])) {
    let form = Form::unpack(ins.imm);
    // SAFETY: the caller's promise.
    let products = unsafe { fragment::quads(file, ins, &form) };
    let values = products.map(|quad| {
        let mut tile = Tile { a: [[0.0; 32]; 16], b: [[0.0; 32]; 8], c: [[0.0; 8]; 16] };
        for i in 0..8 {
            for k in 0..4 {
                tile.a[i][k] = widen(form.a, quad.a[i][k]);
                tile.b[i][k] = widen(form.b, quad.b[i][k]);
            }
            tile.c[i] = quad.c[i];
        }
        let mut d = [[0; 8]; 16];
        sum(&form, &tile, &mut d[..8]);
        [d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]]
    });
    // SAFETY: the caller's promise.
    unsafe { fragment::store_quads(file, ins, &form, mask, &values) };
}

#[inline(always)]
fn fma_soft(a: f32, b: f32, c: f32) -> f32 {
    f32::from_bits(num::f32::fma::<{ num::RN }>(a.to_bits(), b.to_bits(), c.to_bits()))
}

#[inline(always)]
fn chain(form: &Form, tile: &Tile, d: &mut [[u32; 8]], fma: impl Fn(f32, f32, f32) -> f32) {
    let mut columns = [[0.0; 8]; 32];
    for (k, column) in columns.iter_mut().enumerate().take(form.k) {
        *column = std::array::from_fn(|n| tile.b[n][k]);
    }
    for ((out, row), c) in d.iter_mut().zip(&tile.a).zip(&tile.c) {
        let mut sum = *c;
        for (&x, column) in row.iter().zip(&columns).take(form.k) {
            for (sum, &y) in sum.iter_mut().zip(column) {
                *sum = fma(x, y, *sum);
            }
        }
        *out = sum.map(|x| narrow(form, x));
    }
}

/// # Safety
/// [`crate::vgpu::ir::RowFn`]'s.
#[inline(always)]
unsafe fn fast_any(file: &File, ins: &Ins, mask: u32, fma: impl Fn(f32, f32, f32) -> f32 + Copy) {
    // SAFETY: the caller's promise.
    unsafe { any(file, ins, mask, |form, tile, d| chain(form, tile, d, fma)) };
}

/// # Safety
/// [`crate::vgpu::ir::RowFn`]'s, and the host has AVX2, FMA and F16C.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn fast_avx2(file: &File, ins: &Ins, mask: u32) {
    let form = Form::unpack(ins.imm);
    let f32s = form.segments() == 2 && form.m == 16 && form.c == Acc::F32 && form.d == Acc::F32;
    // SAFETY: the caller's promise.
    unsafe {
        match form.a {
            Elem::F16 if f32s => avx2::chain(file, ins, &form, avx2::Wide::F16),
            Elem::Bf16 if f32s => avx2::chain(file, ins, &form, avx2::Wide::Bf16),
            Elem::Tf32 if f32s => avx2::chain(file, ins, &form, avx2::Wide::Tf32),
            _ => fast_any(file, ins, mask, f32::mul_add),
        }
    }
}

/// Rounds an f64 once to the form's D.
#[inline(always)]
fn narrow64(form: &Form, x: f64) -> u32 {
    if form.d == Acc::F16 {
        soft::pack::<{ num::RN }>(soft::unpack(x.to_bits(), soft::F64), soft::F16) as u32
    } else {
        num::f32::canon(x as f32)
    }
}

#[inline(always)]
fn exact_sum(form: &Form, tile: &Tile, d: &mut [[u32; 8]]) {
    for ((out, row), c) in d.iter_mut().zip(&tile.a).zip(&tile.c) {
        for ((out, column), &c) in out.iter_mut().zip(&tile.b).zip(c) {
            // A product of two elements has at most 22 bits: exact.
            let products = row.iter().zip(column).take(form.k);
            let sum = products.fold(f64::from(c), |sum, (&x, &y)| sum + f64::from(x) * f64::from(y));
            *out = narrow64(form, sum);
        }
    }
}

/// # Safety
/// [`crate::vgpu::ir::RowFn`]'s.
unsafe fn f64_chain(file: &File, ins: &Ins, mask: u32) {
    let form = Form::unpack(ins.imm);
    let (halves, segments) = (form.m / 8, form.segments());
    let [nd, na, nb, _] = form.registers();
    // SAFETY: the caller's promise.
    let row = |i: usize| unsafe { get64(file, fragment::reg(file, ins, i)).map(f64::from_bits) };
    let mut d = [[0; WARP]; 4];
    let b: [[f64; WARP]; 4] = std::array::from_fn(|s| if s < segments { row(nd + na + s) } else { [0.0; WARP] });
    for h in 0..halves {
        let a: [[f64; WARP]; 4] =
            std::array::from_fn(|s| if s < segments { row(nd + s * halves + h) } else { [0.0; WARP] });
        for i in 0..2 {
            let c = row(nd + na + nb + 2 * h + i);
            for l in 0..WARP {
                let (g, n) = (l / 4, 2 * (l % 4) + i);
                let mut sum = c[l];
                for (a, b) in a.iter().zip(&b).take(segments) {
                    for t in 0..4 {
                        sum = a[4 * g + t].mul_add(b[4 * n + t], sum);
                    }
                }
                d[2 * h + i][l] = num::f64::canon(sum);
            }
        }
    }
    for (i, values) in d.iter().enumerate().take(nd) {
        // SAFETY: the caller's promise.
        unsafe { put64(file, fragment::reg(file, ins, i), mask, values) };
    }
}
