//! `mma` on floats as tensor cores sum: the block model, which measurements of real GPUs established.
//!
//! Products of a block and c are aligned to the largest exponent among them, each is cut to a few fraction bits below it, the cut terms are added exactly,
//! and the sum is cut to the precision of D (rounded to nearest even where D is f16). The result is the next block's c. Exponents are those of the factors,
//! added: products are not normalised first, subnormal factors have the exponent of the smallest normal number, and zeros take no part.
//!
//! Sources: M. Fasi, N. Higham, M. Mikaitis, S. Pranesh, "Numerical behavior of NVIDIA tensor cores", PeerJ CS 7:e330 (2021); F. Khattak, M. Mikaitis,
//! "Accurate models of NVIDIA tensor cores", arXiv 2512.07004, with the parameters of its A100, Ada and H100 models. 8-bit floats on sm_90 have no unit of
//! their own in `mma.sync`: ptxas makes two f16 products with c = 0 of the low and the high pairs of bytes and adds both results, then c, in f32.
//! Not modelled: what D of f16 does to the order of those additions.

use super::float::{self, Tile, narrow};
use super::{Acc, Elem, Form};
use crate::vgpu::exec::lanes::{RowFns, row_fns};
use crate::vgpu::num::{self, soft};

/// How one unit sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Products of a block.
    pub block: usize,
    /// Fraction bits that terms keep below the largest exponent.
    pub fraction: i32,
    /// Least exponent that terms are aligned to.
    pub least: i32,
    /// Fraction bits of an f32 result.
    pub out: i32,
}

/// The unit of compute capability 8.x for elements of type `e`.
pub fn unit80(e: Elem) -> Unit {
    match e {
        Elem::Tf32 => Unit { block: 4, fraction: 24, least: -132, out: 23 },
        Elem::E4m3 | Elem::E5m2 => Unit { block: 16, fraction: 13, least: -132, out: 13 },
        _ => Unit { block: 8, fraction: 24, least: -132, out: 23 },
    }
}

/// The unit of compute capability 9.0; 8-bit floats go through that of f16.
pub fn unit90(e: Elem) -> Unit {
    let block = if e == Elem::Tf32 { 8 } else { 16 };
    Unit { block, fraction: 25, least: -133, out: 23 }
}

/// Sums as on compute capability 8.x.
pub fn sm80() -> RowFns {
    row_fns!(|file, ins, mask| float::any(file, ins, mask, |form, tile, d| {
        let factors = Factors::new(tile, form.a, form.b, form.k, d.len());
        for (r, out) in d.iter_mut().enumerate() {
            let sums = row(&factors, tile, r, 0..form.k, tile.c[r], unit80(form.a), form.d);
            *out = sums.map(|x| narrow(form, x));
        }
    }))
}

/// Sums as on compute capability 9.0.
pub fn sm90() -> RowFns {
    row_fns!(|file, ins, mask| float::any(file, ins, mask, |form, tile, d| {
        if matches!(form.a, Elem::E4m3 | Elem::E5m2) {
            return fp8_by_halves(form, tile, d);
        }
        let factors = Factors::new(tile, form.a, form.b, form.k, d.len());
        for (r, out) in d.iter_mut().enumerate() {
            let sums = row(&factors, tile, r, 0..form.k, tile.c[r], unit90(form.a), form.d);
            *out = sums.map(|x| narrow(form, x));
        }
    }))
}

/// 8-bit floats on sm_90: of every four bytes the lower two go into one f16 product, the upper two into another.
#[inline(always)]
fn fp8_by_halves(form: &Form, tile: &Tile, d: &mut [[u32; 8]]) {
    let order = |row: &[f32; 32]| -> [f32; 32] {
        let half = form.k / 2;
        let place = |i: usize| if i < half { 4 * (i / 2) + i % 2 } else { 4 * ((i - half) / 2) + 2 + i % 2 };
        std::array::from_fn(|i| if i < form.k { row[place(i)] } else { 0.0 })
    };
    let sorted = Tile { a: tile.a.map(|r| order(&r)), b: tile.b.map(|c| order(&c)), c: tile.c };
    let factors = Factors::new(&sorted, Elem::F16, Elem::F16, form.k, d.len());
    for (r, out) in d.iter_mut().enumerate() {
        let unit = unit90(Elem::F16);
        let low = row(&factors, &sorted, r, 0..form.k / 2, [0.0; 8], unit, Acc::F32);
        let high = row(&factors, &sorted, r, form.k / 2..form.k, [0.0; 8], unit, Acc::F32);
        *out = std::array::from_fn(|n| narrow(form, tile.c[r][n] + (low[n] + high[n])));
    }
}

/// Fraction bits and exponent of the smallest normal number of a format.
fn format(e: Elem) -> (i32, i32) {
    match e {
        Elem::Bf16 => (7, -126),
        Elem::Tf32 => (10, -126),
        Elem::E4m3 => (3, -6),
        Elem::E5m2 => (2, -14),
        _ => (10, -14), // f16
    }
}

/// Exponent of zeros: loses against every other, and two of them can be added.
const NO_EXPONENT: i32 = -10_000;

/// Significand (an integer, `fraction` bits below the point) and exponent of a finite value of a format.
#[inline(always)]
fn split(x: f32, fraction: i32, emin: i32) -> (i32, i32) {
    let bits = x.to_bits();
    let (e, f) = ((bits >> 23 & 0xff) as i32, (bits & 0x7f_ffff) as i32);
    let (m, e) = (if e == 0 { f } else { f | 1 << 23 }, e.max(1) - 127);
    let m = m >> (23 - fraction + (emin - e).max(0)).min(31); // nothing but zeros is cut: x is a value of the format
    let m = if x.is_sign_negative() { -m } else { m };
    (m, if m == 0 { NO_EXPONENT } else { e.max(emin) })
}

/// A and B taken apart: by rows, and by k for all eight columns.
struct Factors {
    a: [[(i32, i32); 32]; 16],
    b_significand: [[i32; 8]; 32],
    b_exponent: [[i32; 8]; 32],
    /// Fraction bits of a product.
    fraction: i32,
    a_finite: [bool; 16],
    b_finite: [bool; 8],
}

impl Factors {
    #[inline(always)]
    fn new(tile: &Tile, a: Elem, b: Elem, k: usize, m: usize) -> Factors {
        let ((fa, ea), (fb, eb)) = (format(a), format(b));
        let mut out = Factors {
            a: [[(0, NO_EXPONENT); 32]; 16],
            b_significand: [[0; 8]; 32],
            b_exponent: [[NO_EXPONENT; 8]; 32],
            fraction: fa + fb,
            a_finite: [true; 16],
            b_finite: [true; 8],
        };
        for r in 0..m {
            out.a_finite[r] = tile.a[r][..k].iter().all(|x| x.is_finite());
            for i in 0..k {
                out.a[r][i] = split(tile.a[r][i], fa, ea);
            }
        }
        for n in 0..8 {
            out.b_finite[n] = tile.b[n][..k].iter().all(|x| x.is_finite());
            for i in 0..k {
                (out.b_significand[i][n], out.b_exponent[i][n]) = split(tile.b[n][i], fb, eb);
            }
        }
        out
    }
}

/// Row `r` of D over `range` of k, starting from `c`.
#[inline(always)]
fn row(
    factors: &Factors,
    tile: &Tile,
    r: usize,
    range: std::ops::Range<usize>,
    c: [f32; 8],
    unit: Unit,
    d: Acc,
) -> [f32; 8] {
    let mut sum = c;
    let mut start = range.start;
    while start < range.end {
        let end = (start + unit.block).min(range.end);
        sum = block(factors, r, start..end, sum, unit, d);
        start = end;
    }
    for n in 0..8 {
        // Infinities and NaNs: what IEEE arithmetic gives. Sums of finite products cannot overflow f64.
        if !(factors.a_finite[r] && factors.b_finite[n] && c[n].is_finite()) {
            let products = range.clone().map(|k| f64::from(tile.a[r][k]) * f64::from(tile.b[n][k]));
            let value = products.fold(f64::from(c[n]), |sum, x| sum + x);
            if !value.is_finite() {
                sum[n] = value as f32; // else what is not finite lies outside the range
            }
        }
    }
    sum
}

#[inline(always)]
fn block(factors: &Factors, r: usize, range: std::ops::Range<usize>, c: [f32; 8], unit: Unit, d: Acc) -> [f32; 8] {
    let mut top = [unit.least; 8];
    let c_split = c.map(|x| if x.is_finite() { split(x, 23, -126) } else { (0, NO_EXPONENT) });
    for k in range.clone() {
        let e = factors.a[r][k].1;
        for (top, &other) in top.iter_mut().zip(&factors.b_exponent[k]) {
            *top = (*top).max(e + other);
        }
    }
    for (top, c) in top.iter_mut().zip(&c_split) {
        *top = (*top).max(c.1);
    }
    // Terms in units of 2^(top - fraction), cut toward zero.
    let mut total = [0i64; 8];
    let up = unit.fraction - factors.fraction; // never negative
    for k in range {
        let (m, e) = factors.a[r][k];
        for n in 0..8 {
            let product = m * factors.b_significand[k][n];
            let down = (top[n] - (e + factors.b_exponent[k][n])).clamp(0, 31);
            let term = (product.abs() << up) >> down;
            total[n] += i64::from(if product < 0 { -term } else { term });
        }
    }
    std::array::from_fn(|n| {
        if !c[n].is_finite() {
            return c[n];
        }
        let (m, e) = c_split[n];
        let shift = unit.fraction - 23 - (top[n] - e);
        let term = if shift >= 0 { i64::from(m.abs()) << shift } else { i64::from(m.abs()) >> (-shift).min(63) };
        let total = total[n] + if m < 0 { -term } else { term };
        finish(total, top[n] - unit.fraction, unit.out, d)
    })
}

/// `total * 2^exponent` as the unit hands it on: cut to `out` fraction bits as f32, or rounded to nearest even as f16. What is too large becomes infinite, zero
/// is positive.
#[inline(always)]
fn finish(total: i64, exponent: i32, out: i32, d: Acc) -> f32 {
    if total == 0 {
        return 0.0;
    }
    let (neg, mant) = (total < 0, total.unsigned_abs());
    if d == Acc::F16 {
        let exact = soft::Exact { neg, mant: u128::from(mant), exp: exponent, sticky: false };
        let bits = soft::round::<{ num::RN }>(exact, soft::F16);
        return if bits & 0x7fff == 0 { 0.0 } else { float::widen(Elem::F16, bits as u32) };
    }
    let e = exponent + 63 - mant.leading_zeros() as i32;
    let last = e.max(-126) - out; // exponent of the last bit that stays
    let cut = last - exponent;
    let (kept, at) = if cut > 0 { (mant.checked_shr(cut as u32).unwrap_or(0), last) } else { (mant, exponent) };
    if kept == 0 {
        return 0.0;
    }
    // At most 24 bits: exact in f64, and in f32 unless it is too large.
    let value = kept as f64 * f64::from_bits(((at + 1023) as u64) << 52);
    (if neg { -value } else { value }) as f32
}
