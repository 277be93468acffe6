//! The approximate functions: correctly rounded from an f64 computation, with the ISA's special cases, or moved by a repeatable error
//! within the ISA's bound (*jitter*), since hardware may return anything in that interval.
//!
//! The f64 kernels are polynomials of our own, so results do not depend on the host's math library. Bounds (PTX ISA 9.1):
//! `rcp` 1 ulp, `sqrt` 2^-23, `rsqrt` 2^-22.9, `ex2` 2 ulp, `lg2` 2^-22 (absolute in (0.5, 2), else relative), `sin`/`cos` 2^-20.5 absolute in
//! [-2π, 2π] and 2^-14.7 in [-100π, 100π], `tanh` 2^-11, `div.approx` and `div.full` 2 ulp; f16/bf16 `tanh` 2^-10.987 / 2^-8 absolute,
//! `ex2` 2^-9.9 / 2^-7 relative. `.ftz` is composed by the caller: `ftz(f(ftz(a)))`.

use super::half::{self, Kind};
use super::{f32 as n32, f64 as n64, sel, sel64};

/// Jitter: 0 is off (the correctly rounded value); anything else seeds the error that is added.
pub type Seed = u64;

/// A repeatable number in [-1, 1] from the seed, the operation and the operand bits.
#[inline(always)]
fn unit(seed: Seed, op: u64, bits: u64) -> f64 {
    let mut z = seed ^ bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ op.wrapping_mul(0xd1b5_4a32_d192_ed03);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    (z >> 11) as f64 * (2.0 / (1u64 << 53) as f64) - 1.0
}

/// `v` moved by at most `rel` of itself plus `abs`.
#[inline(always)]
fn shake(v: f64, seed: Seed, op: u64, bits: u64, rel: f64, abs: f64) -> f64 {
    if seed == 0 { v } else { v + unit(seed, op, bits) * (rel * v.abs() + abs) }
}

const U24: f64 = 1.0 / 16_777_216.0;

#[inline(always)]
fn f(a: u32) -> f64 {
    f32::from_bits(a) as f64
}

#[inline(always)]
fn out(v: f64) -> u32 {
    n32::canon(v as f32)
}

/// 2^x in f64; relative error about 2^-52. Saturates far outside the range of f64.
#[inline(always)]
pub(crate) fn exp2_f64(x: f64) -> f64 {
    let x = x.clamp(-1100.0, 1100.0);
    // Round to an integer by adding 1.5 * 2^52.
    let n = (x + 6_755_399_441_055_744.0) - 6_755_399_441_055_744.0;
    let t = (x - n) * core::f64::consts::LN_2;
    let mut p = 1.0 / 6_227_020_800.0;
    for c in [479_001_600.0, 39_916_800.0, 3_628_800.0, 362_880.0, 40_320.0, 5_040.0, 720.0, 120.0, 24.0, 6.0, 2.0] {
        p = p * t + 1.0 / c;
    }
    let p = (p * t + 1.0) * t + 1.0;
    // Two factors, so that subnormal results are reached in range.
    let half = (n * 0.5 + 6_755_399_441_055_744.0) - 6_755_399_441_055_744.0;
    // Adding 1.5 * 2^52 puts the integer into the low bits, where its biased form becomes an exponent.
    let pow = |k: f64| f64::from_bits((k + (6_755_399_441_055_744.0 + 1023.0)).to_bits() << 52);
    p * pow(half) * pow(n - half)
}

/// log2 of a positive finite f64 that came from f32.
#[inline(always)]
fn log2_f64(x: f64) -> f64 {
    let b = x.to_bits();
    // Split so that the significand lies in [sqrt(1/2), sqrt(2)).
    let biased = b.wrapping_add(0x3ff0_0000_0000_0000 - 0x3fe6_a09e_667f_3bcd) >> 52;
    let k = f64::from_bits(0x4330_0000_0000_0000 | biased) - (4_503_599_627_370_496.0 + 1023.0);
    let m = f64::from_bits(b.wrapping_sub(biased.wrapping_sub(1023) << 52));
    let t = (m - 1.0) / (m + 1.0);
    let z = t * t;
    let mut p = 1.0 / 25.0;
    for c in [23.0, 21.0, 19.0, 17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0] {
        p = p * z + 1.0 / c;
    }
    let ln = 2.0 * t * (p * z + 1.0);
    k + ln * core::f64::consts::LOG2_E
}

/// Sine and cosine in f64 of an f32 argument; the reduction is good to |x| of about 2^30, beyond which the ISA promises nothing.
#[inline(always)]
fn sin_cos(x: f64) -> (f64, f64) {
    let magic = 6_755_399_441_055_744.0;
    let n = (x * core::f64::consts::FRAC_2_PI + magic) - magic;
    // pi/2 in a head of 33 bits (its products with n are exact) and tails.
    let r = ((x - n * 1.570_796_326_734_125_6) - n * 6.077_100_506_303_966e-11) - n * 2.022_266_248_795_950_6e-21;
    // Beyond that the value does not matter, but it must be one of a sine.
    let r = if n.abs() < 2_147_483_648.0 { r } else { 0.0 };
    let z = r * r;
    let mut s = 1.0 / 355_687_428_096_000.0;
    for c in [-1_307_674_368_000.0, 6_227_020_800.0, -39_916_800.0, 362_880.0, -5_040.0, 120.0, -6.0] {
        s = s * z + 1.0 / c;
    }
    let s = r + r * (s * z);
    let mut c = 1.0 / 20_922_789_888_000.0;
    for d in [-87_178_291_200.0, 479_001_600.0, -3_628_800.0, 40_320.0, -720.0, 24.0, -2.0] {
        c = c * z + 1.0 / d;
    }
    let c = 1.0 + c * z;
    // The low bits of n plus 1.5 * 2^52 are those of n.
    let q = (n + magic).to_bits();
    let (swap, neg_s, neg_c) = (q & 1 == 1, (q & 2) << 62, ((q + 1) & 2) << 62);
    let (sin, cos) = (sel64(swap, c.to_bits(), s.to_bits()), sel64(swap, s.to_bits(), c.to_bits()));
    (f64::from_bits(sin ^ neg_s), f64::from_bits(cos ^ neg_c))
}

/// tanh in f64.
#[inline(always)]
fn tanh_f64(x: f64) -> f64 {
    let a = x.abs().min(30.0);
    let z = a * a;
    let small = a * (1.0 - z * (1.0 / 3.0 - z * (2.0 / 15.0 - z * (17.0 / 315.0))));
    let e = exp2_f64(a * (2.0 * core::f64::consts::LOG2_E));
    let r = if a < 0.01 { small } else { (e - 1.0) / (e + 1.0) };
    if x.is_nan() { x } else { r.copysign(x) }
}

/// `ex2.approx.f32`: 2^-inf is +0, 2^(±subnormal) is 1.
#[inline(always)]
pub fn ex2(a: u32, seed: Seed) -> u32 {
    let x = f(a);
    if seed == 0 {
        // The special cases come out right by themselves; without branches it vectorises.
        return out(exp2_f64(x));
    }
    if x.is_nan() {
        return n32::NAN;
    }
    let v = exp2_f64(x);
    if x.is_infinite() || a & 0x7f80_0000 == 0 {
        return if x > 1.0 {
            0x7f80_0000
        } else if x < -1.0 {
            0
        } else {
            1f32.to_bits()
        };
    }
    out(shake(v, seed, 1, a as u64, 1.5 * U24, 0.0))
}

/// `lg2.approx.f32`: ±0 gives -inf, negative NaN.
#[inline(always)]
pub fn lg2(a: u32, seed: Seed) -> u32 {
    let x = f(a);
    if seed == 0 {
        let r = sel(x == f64::INFINITY, 0x7f80_0000, out(log2_f64(x)));
        return sel(x >= 0.0, sel(x == 0.0, 0xff80_0000, r), n32::NAN);
    }
    if x == 0.0 {
        return 0xff80_0000;
    }
    if x.is_nan() || x < 0.0 {
        return n32::NAN;
    }
    if x.is_infinite() {
        return 0x7f80_0000;
    }
    let v = log2_f64(x);
    let e = 3.0 * U24;
    let near = x > 0.5 && x < 2.0;
    out(shake(v, seed, 2, a as u64, if near { 0.0 } else { e }, if near { e } else { 0.0 }))
}

/// `rcp.approx.f32`: 1/±0 is ±inf.
#[inline(always)]
pub fn rcp(a: u32, seed: Seed) -> u32 {
    let v = 1.0 / f(a);
    out(if v.is_finite() { shake(v, seed, 3, a as u64, 0.5 * U24, 0.0) } else { v })
}

/// `sqrt.approx.f32`: -0 stays, negative NaN.
#[inline(always)]
pub fn sqrt(a: u32, seed: Seed) -> u32 {
    let v = f(a).sqrt();
    out(if v.is_finite() { shake(v, seed, 4, a as u64, U24, 0.0) } else { v })
}

/// `rsqrt.approx.f32`: ±0 gives ±inf, negative NaN.
#[inline(always)]
pub fn rsqrt(a: u32, seed: Seed) -> u32 {
    let v = 1.0 / f(a).sqrt();
    out(if v.is_finite() { shake(v, seed, 5, a as u64, 1.1 * U24, 0.0) } else { v })
}

/// `div.approx.f32`: a divisor beyond 2^126 gives 0, or NaN when `a` is infinite; else 2 ulp.
#[inline(always)]
pub fn div_approx(a: u32, b: u32, seed: Seed) -> u32 {
    let (x, y) = (f(a), f(b));
    let huge = b & 0x7fff_ffff > 0x7e80_0000 && b & 0x7fff_ffff < 0x7f80_0000;
    if huge && !x.is_nan() {
        return if x.is_infinite() { n32::NAN } else { (a ^ b) & 0x8000_0000 };
    }
    quotient(x, y, seed, a, b)
}

/// `div.full.f32`: 2 ulp over the whole range.
#[inline(always)]
pub fn div_full(a: u32, b: u32, seed: Seed) -> u32 {
    quotient(f(a), f(b), seed, a, b)
}

#[inline(always)]
fn quotient(x: f64, y: f64, seed: Seed, a: u32, b: u32) -> u32 {
    let v = x / y;
    let bits = (a as u64) << 32 | b as u64;
    out(if v.is_finite() { shake(v, seed, 6, bits, 1.5 * U24, 0.0) } else { v })
}

#[inline(always)]
fn angle_error(x: f64) -> f64 {
    let bits = if x.abs() <= 6.283_185_4 { 6.743_495_761_743_104e-7 } else { 3.757_e-5 };
    bits - 1.2 * U24
}

/// `sin.approx.f32`: ±0 stays, ±inf gives NaN.
#[inline(always)]
pub fn sin(a: u32, seed: Seed) -> u32 {
    let x = f(a);
    if a & 0x7fff_ffff == 0 {
        return a;
    }
    if !x.is_finite() {
        return n32::NAN;
    }
    out(shake(sin_cos(x).0, seed, 7, a as u64, 0.0, angle_error(x)))
}

/// `cos.approx.f32`: ±inf gives NaN.
#[inline(always)]
pub fn cos(a: u32, seed: Seed) -> u32 {
    let x = f(a);
    if !x.is_finite() {
        return n32::NAN;
    }
    out(shake(sin_cos(x).1, seed, 8, a as u64, 0.0, angle_error(x)))
}

/// `tanh.approx.f32`; subnormals are kept.
#[inline(always)]
pub fn tanh(a: u32, seed: Seed) -> u32 {
    let x = f(a);
    let v = tanh_f64(x);
    if x.is_infinite() || x == 0.0 {
        return out(v);
    }
    out(shake(v, seed, 9, a as u64, 4.87e-4, 0.0).clamp(-1.0, 1.0))
}

/// Rounds an f64 result to a 16-bit float; through f32 rounded to odd, so once in effect.
#[inline(always)]
fn half_out<K: Kind>(v: f64) -> u32 {
    let r = v as f32;
    let d = r as f64;
    let b = r.to_bits();
    let cut = if d.abs() > v.abs() { b.wrapping_sub(1) } else { b };
    K::narrow(f32::from_bits(if d != v && !v.is_nan() { cut | 1 } else { b }))
}

/// `ex2.approx.f16` and `.bf16`.
#[inline(always)]
pub fn ex2_half<K: Kind>(a: u32, seed: Seed) -> u32 {
    let x = K::wide(a & 0xffff) as f64;
    if x.is_nan() {
        return half::NAN;
    }
    let rel = if K::INF == 0x7c00 { 5.5e-4 } else { 3.8e-3 };
    half_out::<K>(shake(exp2_f64(x), if x.is_infinite() { 0 } else { seed }, 10, a as u64, rel, 0.0))
}

/// `tanh.approx.f16` and `.bf16`.
#[inline(always)]
pub fn tanh_half<K: Kind>(a: u32, seed: Seed) -> u32 {
    let x = K::wide(a & 0xffff) as f64;
    let abs = if K::INF == 0x7c00 { 2.4e-4 } else { 1.9e-3 };
    let v = tanh_f64(x);
    half_out::<K>(if x.is_infinite() || x == 0.0 { v } else { shake(v, seed, 11, a as u64, 0.0, abs) }.clamp(-1.0, 1.0))
}

/// Keeps the upper 32 bits of an f64, rounded to nearest; subnormals flushed.
#[inline(always)]
fn upper(v: f64) -> u64 {
    let b = n64::canon(v);
    if v.is_nan() || v.is_infinite() {
        return b;
    }
    let r = b.wrapping_add(0x8000_0000) & 0xffff_ffff_0000_0000;
    if r & 0x7ff0_0000_0000_0000 == 0 { r & (1 << 63) } else { r }
}

#[inline(always)]
fn ftz64(a: u64) -> f64 {
    f64::from_bits(if a & 0x7ff0_0000_0000_0000 == 0 { a & (1 << 63) } else { a & 0xffff_ffff_0000_0000 })
}

/// `rcp.approx.ftz.f64`: only the upper word of operand and result counts (20 fraction bits).
#[inline(always)]
pub fn rcp_f64(a: u64) -> u64 {
    if f64::from_bits(a).is_nan() { n64::NAN } else { upper(1.0 / ftz64(a)) }
}

/// `rsqrt.approx.ftz.f64`; see [`rcp_f64`].
#[inline(always)]
pub fn rsqrt_ftz_f64(a: u64) -> u64 {
    if f64::from_bits(a).is_nan() { n64::NAN } else { upper(1.0 / ftz64(a).sqrt()) }
}

/// `rsqrt.approx.f64`.
#[inline(always)]
pub fn rsqrt_f64(a: u64) -> u64 {
    n64::canon(1.0 / f64::from_bits(a).sqrt())
}
