//! `f32` arithmetic on register bits: four roundings, `.ftz`, `.sat`, min/max and comparisons.
//!
//! Directed roundings go through f64: a product of two f32 is exact there, a sum has an exact error term (TwoSum), so the f32 nearest to
//! it is at most one step off and the sign of the remaining error says which way (`vgpu.md` 9.1). No host rounding mode is touched.
//! NaN results are 0x7fffffff. Approximate functions are in [`super::approx`].

use super::{Class, Cmp, RM, RN, RP, RZ, sel, sel64};

/// The NaN that f32 instructions return.
pub const NAN: u32 = 0x7fff_ffff;

#[inline(always)]
fn f(x: u32) -> f32 {
    f32::from_bits(x)
}

/// NaN results become [`NAN`].
#[inline(always)]
pub fn canon(x: f32) -> u32 {
    if x.is_nan() { NAN } else { x.to_bits() }
}

/// `.ftz`: subnormal to zero of the same sign.
#[inline(always)]
pub fn ftz(x: u32) -> u32 {
    if x & 0x7f80_0000 == 0 { x & 0x8000_0000 } else { x }
}

/// [`ftz`] if `F`.
#[inline(always)]
pub fn ftz_if<const F: bool>(x: u32) -> u32 {
    if F { ftz(x) } else { x }
}

/// `.sat`: clamp to [0, 1]; NaN and -0 become +0.
#[inline(always)]
pub fn sat(x: u32) -> u32 {
    let v = f(x);
    if v > 0.0 { if v < 1.0 { x } else { 1f32.to_bits() } } else { 0 }
}

/// Error term of `s = a + b`: `a + b == s + e` exactly (Knuth's TwoSum).
#[inline(always)]
pub(crate) fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let s = a + b;
    let t = s - a;
    (s, (a - (s - t)) + (b - t))
}

/// Moves the nearest result `r` by a step if it lies on the wrong side; `above`/`below`: `r` is greater/less than the exact value.
#[inline(always)]
fn direct<const R: u8>(r: u32, above: bool, below: bool) -> u32 {
    let neg = r >> 31 != 0;
    match R {
        RZ => r.wrapping_sub(u32::from((above & !neg) | (below & neg))),
        RM => {
            // From +0 downwards is the smallest negative number.
            let down = sel(r == 0, 0x8000_0001, sel(neg, r.wrapping_add(1), r.wrapping_sub(1)));
            sel(above, down, r)
        }
        RP => {
            let up = sel(r == 0x8000_0000, 1, sel(neg, r.wrapping_sub(1), r.wrapping_add(1)));
            sel(below, up, r)
        }
        _ => r,
    }
}

/// The exact value `s + e` (`|e|` at most half an ulp of `s`) as f32 in mode `R`; NaN canonical.
#[inline(always)]
pub fn narrow<const R: u8>(s: f64, e: f64) -> u32 {
    if R == RN {
        return canon(odd(s, e) as f32);
    }
    let r = s as f32;
    let d = r as f64;
    let above = (d > s) | ((d == s) & (e < 0.0));
    let below = (d < s) | ((d == s) & (e > 0.0));
    sel(r.is_nan(), NAN, direct::<R>(r.to_bits(), above, below))
}

/// Round to odd: when `s` is not the exact value, the neighbour with an odd last bit on the exact value's side, so that a second
/// rounding to fewer bits is right.
#[inline(always)]
pub(crate) fn odd(s: f64, e: f64) -> f64 {
    let b = s.to_bits();
    let inexact = (e != 0.0) & s.is_finite();
    // Toward zero when the error points against the sign of s; an odd last bit stays.
    let back = (e < 0.0) != (s < 0.0);
    let step = sel64(back, u64::MAX, 1) & (b & 1).wrapping_sub(1);
    f64::from_bits(b.wrapping_add(step & u64::from(inexact).wrapping_neg()))
}

/// Under `.rm` an exact zero sum is -0 unless both terms are +0.
#[inline(always)]
fn zero_sum<const R: u8>(r: u32, s: f64, p: f64, c: f64) -> u32 {
    if R == RM { sel((s == 0.0) & (p.to_bits() | c.to_bits() != 0), 0x8000_0000, r) } else { r }
}

/// `add.R.f32`.
#[inline(always)]
pub fn add<const R: u8>(a: u32, b: u32) -> u32 {
    if R == RN {
        return canon(f(a) + f(b));
    }
    let (x, y) = (f(a) as f64, f(b) as f64);
    let (s, e) = two_sum(x, y);
    zero_sum::<R>(narrow::<R>(s, e), s, x, y)
}

/// `sub.R.f32`.
#[inline(always)]
pub fn sub<const R: u8>(a: u32, b: u32) -> u32 {
    if R == RN { canon(f(a) - f(b)) } else { add::<R>(a, b ^ 0x8000_0000) }
}

/// `mul.R.f32`.
#[inline(always)]
pub fn mul<const R: u8>(a: u32, b: u32) -> u32 {
    if R == RN {
        return canon(f(a) * f(b));
    }
    narrow::<R>(f(a) as f64 * f(b) as f64, 0.0)
}

/// `fma.R.f32` on any host, without an FMA unit.
#[inline(always)]
pub fn fma<const R: u8>(a: u32, b: u32, c: u32) -> u32 {
    let p = f(a) as f64 * f(b) as f64;
    let c = f(c) as f64;
    let (s, e) = two_sum(p, c);
    zero_sum::<R>(narrow::<R>(s, e), s, p, c)
}

/// `fma.rn.f32` where the surrounding function has the host's FMA feature (elsewhere this is a library call, correct but slow).
#[inline(always)]
pub fn fma_hw(a: u32, b: u32, c: u32) -> u32 {
    canon(f(a).mul_add(f(b), f(c)))
}

/// `div.R.f32`: the remainder's sign decides directed modes; `r * b` is exact in f64.
#[inline(always)]
pub fn div<const R: u8>(a: u32, b: u32) -> u32 {
    let r = f(a) / f(b);
    if R == RN || r.is_nan() {
        return canon(r);
    }
    let (x, y, p) = (f(a) as f64, f(b) as f64, r as f64 * f(b) as f64);
    let (over, under) = (p > x, p < x);
    let (above, below) = if y < 0.0 { (under, over) } else { (over, under) };
    direct::<R>(r.to_bits(), above, below)
}

/// `rcp.R.f32`.
#[inline(always)]
pub fn rcp<const R: u8>(a: u32) -> u32 {
    div::<R>(1f32.to_bits(), a)
}

/// `sqrt.R.f32`.
#[inline(always)]
pub fn sqrt<const R: u8>(a: u32) -> u32 {
    let r = f(a).sqrt();
    if R == RN || r.is_nan() {
        return canon(r);
    }
    let (x, p) = (f(a) as f64, r as f64 * r as f64);
    direct::<R>(r.to_bits(), p > x, p < x)
}

/// Orders numbers by value with -0 below +0.
#[inline(always)]
fn key(x: u32) -> i32 {
    (x ^ (((x as i32) >> 31) as u32 >> 1)) as i32
}

#[inline(always)]
pub(crate) fn is_nan(x: u32) -> bool {
    x & 0x7fff_ffff > 0x7f80_0000
}

/// `min{.NaN}{.xorsign.abs}.f32` with `N`: a NaN operand gives NaN; otherwise the number wins. -0 is less than +0.
#[inline(always)]
pub fn min<const N: bool, const X: bool>(a: u32, b: u32) -> u32 {
    pick::<N, X, false>(a, b)
}

/// `max{.NaN}{.xorsign.abs}.f32`; see [`min`].
#[inline(always)]
pub fn max<const N: bool, const X: bool>(a: u32, b: u32) -> u32 {
    pick::<N, X, true>(a, b)
}

#[inline(always)]
fn pick<const N: bool, const X: bool, const MAX: bool>(a: u32, b: u32) -> u32 {
    let sign = (a ^ b) & 0x8000_0000;
    let (x, y) = if X { (a & 0x7fff_ffff, b & 0x7fff_ffff) } else { (a, b) };
    let first = if MAX { key(x) >= key(y) } else { key(x) <= key(y) };
    let mut r = if first { x } else { y };
    let (nx, ny) = (is_nan(x), is_nan(y));
    r = if nx { y } else { r };
    r = if ny { x } else { r };
    let nan = if N { nx | ny } else { nx & ny };
    if nan {
        NAN
    } else if X {
        r | sign
    } else {
        r
    }
}

/// Three-operand `min`/`max` (`MAX`): the two-operand rule applied twice.
#[inline(always)]
pub fn pick3<const N: bool, const X: bool, const MAX: bool>(a: u32, b: u32, c: u32) -> u32 {
    pick::<N, X, MAX>(pick::<N, X, MAX>(a, b), c)
}

/// `setp`/`set` comparison.
#[inline(always)]
pub fn cmp(op: Cmp, a: u32, b: u32) -> bool {
    let (a, b) = (f(a), f(b));
    let un = a.is_nan() | b.is_nan();
    match op {
        Cmp::Eq => a == b,
        Cmp::Ne => !un & (a != b),
        Cmp::Lt => a < b,
        Cmp::Le => a <= b,
        Cmp::Gt => a > b,
        Cmp::Ge => a >= b,
        Cmp::Equ => un | (a == b),
        Cmp::Neu => a != b,
        Cmp::Ltu => un | (a < b),
        Cmp::Leu => un | (a <= b),
        Cmp::Gtu => un | (a > b),
        Cmp::Geu => un | (a >= b),
        Cmp::Num => !un,
        Cmp::Nan => un,
    }
}

/// `testp`.
#[inline(always)]
pub fn testp(c: Class, a: u32) -> bool {
    let m = a & 0x7fff_ffff;
    match c {
        Class::Finite => m < 0x7f80_0000,
        Class::Infinite => m == 0x7f80_0000,
        Class::Number => m <= 0x7f80_0000,
        Class::NotANumber => m > 0x7f80_0000,
        Class::Normal => m == 0 || (0x0080_0000..0x7f80_0000).contains(&m),
        Class::Subnormal => m != 0 && m < 0x0080_0000,
    }
}

/// `copysign d, a, b`: the magnitude of `b` with the sign of `a`.
#[inline(always)]
pub fn copysign(a: u32, b: u32) -> u32 {
    (a & 0x8000_0000) | (b & 0x7fff_ffff)
}

/// `abs.f32`; NaN keeps its payload.
#[inline(always)]
pub fn abs(a: u32) -> u32 {
    a & 0x7fff_ffff
}

/// `neg.f32`; NaN keeps its payload.
#[inline(always)]
pub fn neg(a: u32) -> u32 {
    a ^ 0x8000_0000
}
