//! `f16` and `bf16` on register bits, one to a lane (low 16 bits) or two (`x2`).
//!
//! Sums and products are exact enough in f32 to round twice safely (24 >= 2*11+2 bits). `fma` is not: its exact value is rounded to
//! odd first (f32 for f16, whose products f32 holds exactly; f64 for bf16). A type parameter [`Kind`] picks the format. Approximate
//! functions (`ex2`, `tanh`) are in [`super::approx`]; conversions with other roundings in [`super::cvt`].

use super::f32::two_sum;
use super::{Cmp, sel};

/// The NaN of 16-bit floats.
pub const NAN: u32 = 0x7fff;

/// A 16-bit float format: how to widen it to f32 and to narrow an f32 to nearest even.
pub trait Kind {
    /// Bits of +infinity.
    const INF: u32;
    /// Bits of 1.0.
    const ONE: u32;
    /// Bits to f32, exactly (signalling NaNs become quiet).
    fn wide(h: u32) -> f32;
    /// Nearest even; NaN becomes [`NAN`].
    fn narrow(x: f32) -> u32;
    /// `a*b + c`, rounded once.
    fn fma(a: u32, b: u32, c: u32) -> u32;
}

/// IEEE binary16.
pub struct F16;
/// bfloat16.
pub struct Bf16;

impl Kind for F16 {
    const INF: u32 = 0x7c00;
    const ONE: u32 = 0x3c00;

    #[inline(always)]
    fn wide(h: u32) -> f32 {
        let (s, m) = ((h & 0x8000) << 16, h & 0x7fff);
        let normal = (m << 13) + (112 << 23);
        // A subnormal is its fraction on top of 2^-14, less 2^-14.
        let sub = (f32::from_bits((m << 13) + (113 << 23)) - f32::from_bits(113 << 23)).to_bits();
        let special = (m << 13) + (224 << 23);
        let r = sel(m < 0x400, sub, normal);
        f32::from_bits(s | sel(m >= 0x7c00, special, r))
    }

    #[inline(always)]
    fn narrow(x: f32) -> u32 {
        let b = x.to_bits();
        let (s, a) = ((b >> 16) & 0x8000, b & 0x7fff_ffff);
        let normal = (a.wrapping_add(0xfff).wrapping_add((a >> 13) & 1).wrapping_sub(112 << 23)) >> 13;
        // Below 2^-14 the quantum is 2^-24, which is the ulp of 0.5: the addition rounds.
        let sub = (f32::from_bits(a) + 0.5).to_bits().wrapping_sub(0x3f00_0000);
        let r = sel(a < 0x3880_0000, sub, normal);
        let r = sel(a >= 0x4780_0000, 0x7c00, r);
        sel(a > 0x7f80_0000, NAN, s | r)
    }

    #[inline(always)]
    fn fma(a: u32, b: u32, c: u32) -> u32 {
        // The product has 22 bits and f32's range holds it: TwoSum in f32, round to odd, narrow.
        let (p, c) = (Self::wide(a) * Self::wide(b), Self::wide(c));
        let s = p + c;
        let t = s - p;
        let e = (p - (s - t)) + (c - t);
        // Round to odd: an odd last bit stays, an even one moves to the error's side.
        let bits = s.to_bits();
        let back = (e < 0.0) != (s < 0.0);
        let step = sel(back, u32::MAX, 1) & (bits & 1).wrapping_sub(1);
        let inexact = u32::from((e != 0.0) & s.is_finite()).wrapping_neg();
        Self::narrow(f32::from_bits(bits.wrapping_add(step & inexact)))
    }
}

impl Kind for Bf16 {
    const INF: u32 = 0x7f80;
    const ONE: u32 = 0x3f80;

    #[inline(always)]
    fn wide(h: u32) -> f32 {
        f32::from_bits(h << 16)
    }

    #[inline(always)]
    fn narrow(x: f32) -> u32 {
        let b = x.to_bits();
        let r = b.wrapping_add(0x7fff).wrapping_add((b >> 16) & 1) >> 16;
        if b & 0x7fff_ffff > 0x7f80_0000 { NAN } else { r }
    }

    #[inline(always)]
    fn fma(a: u32, b: u32, c: u32) -> u32 {
        let p = Self::wide(a) as f64 * Self::wide(b) as f64;
        let (s, e) = two_sum(p, Self::wide(c) as f64);
        Self::narrow(odd32(super::f32::odd(s, e)))
    }
}

/// f64 to f32, rounded to odd: toward zero, and the last bit set when something was cut.
#[inline(always)]
fn odd32(s: f64) -> f32 {
    let r = s as f32;
    let d = r as f64;
    let b = r.to_bits();
    let down = b.wrapping_sub(u32::from(d.abs() > s.abs()));
    f32::from_bits(sel((d != s) & !s.is_nan(), down | 1, b))
}

#[inline(always)]
fn is_nan<K: Kind>(x: u32) -> bool {
    x & 0x7fff > K::INF
}

/// `add`.
#[inline(always)]
pub fn add<K: Kind>(a: u32, b: u32) -> u32 {
    K::narrow(K::wide(a) + K::wide(b))
}

/// `sub`.
#[inline(always)]
pub fn sub<K: Kind>(a: u32, b: u32) -> u32 {
    K::narrow(K::wide(a) - K::wide(b))
}

/// `mul`.
#[inline(always)]
pub fn mul<K: Kind>(a: u32, b: u32) -> u32 {
    K::narrow(K::wide(a) * K::wide(b))
}

/// `fma.rn`.
#[inline(always)]
pub fn fma<K: Kind>(a: u32, b: u32, c: u32) -> u32 {
    K::fma(a, b, c)
}

/// `neg`; the sign bit alone.
#[inline(always)]
pub fn neg(a: u32) -> u32 {
    (a ^ 0x8000) & 0xffff
}

/// `abs`; the sign bit alone.
#[inline(always)]
pub fn abs(a: u32) -> u32 {
    a & 0x7fff
}

/// `.ftz`: subnormal to zero of the same sign.
#[inline(always)]
pub fn ftz<K: Kind>(a: u32) -> u32 {
    if a & K::INF == 0 { a & 0x8000 } else { a & 0xffff }
}

/// `.sat`: clamp to [0, 1]; NaN becomes +0.
#[inline(always)]
pub fn sat<K: Kind>(a: u32) -> u32 {
    let a = a & 0xffff;
    if a & 0x8000 != 0 || a > K::INF {
        0
    } else if a > K::ONE {
        K::ONE
    } else {
        a
    }
}

/// `.relu`: negative to +0 (also -0); NaN becomes the canonical NaN.
#[inline(always)]
pub fn relu<K: Kind>(a: u32) -> u32 {
    if is_nan::<K>(a) {
        NAN
    } else if a & 0x8000 != 0 {
        0
    } else {
        a & 0xffff
    }
}

/// `min`/`max` (`MAX`) with `.NaN` (`N`) and `.xorsign.abs` (`X`); -0 is less than +0.
#[inline(always)]
pub fn pick<K: Kind, const N: bool, const X: bool, const MAX: bool>(a: u32, b: u32) -> u32 {
    let (a, b) = (a & 0xffff, b & 0xffff);
    let sign = (a ^ b) & 0x8000;
    let (x, y) = if X { (a & 0x7fff, b & 0x7fff) } else { (a, b) };
    let key = |v: u32| if v & 0x8000 != 0 { !(v as i32) | !0xffff } else { v as i32 | 0x1_0000 };
    let first = if MAX { key(x) >= key(y) } else { key(x) <= key(y) };
    let mut r = if first { x } else { y };
    let (nx, ny) = (is_nan::<K>(x), is_nan::<K>(y));
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

/// `setp`/`set` comparison.
#[inline(always)]
pub fn cmp<K: Kind>(op: Cmp, a: u32, b: u32) -> bool {
    super::f32::cmp(op, K::wide(a).to_bits(), K::wide(b).to_bits())
}

/// Applies a one-operand function to both halves.
#[inline(always)]
pub fn x2_1(f: impl Fn(u32) -> u32, a: u32) -> u32 {
    (f(a & 0xffff) & 0xffff) | (f(a >> 16) << 16)
}

/// Applies a two-operand function to both halves.
#[inline(always)]
pub fn x2_2(f: impl Fn(u32, u32) -> u32, a: u32, b: u32) -> u32 {
    (f(a & 0xffff, b & 0xffff) & 0xffff) | (f(a >> 16, b >> 16) << 16)
}

/// Applies a three-operand function to both halves.
#[inline(always)]
pub fn x2_3(f: impl Fn(u32, u32, u32) -> u32, a: u32, b: u32, c: u32) -> u32 {
    (f(a & 0xffff, b & 0xffff, c & 0xffff) & 0xffff) | (f(a >> 16, b >> 16, c >> 16) << 16)
}
