//! `f64` arithmetic on register bits. Nearest modes are the host's; directed modes go through [`super::soft`], exactly.
//!
//! The NaN payload of f64 instructions is not specified by the ISA; results here are 0x7ff8000000000000.

use super::soft::{self, F64, unpack};
use super::{Class, Cmp, RN};

/// The NaN that f64 instructions return here.
pub const NAN: u64 = 0x7ff8_0000_0000_0000;

#[inline(always)]
fn f(x: u64) -> f64 {
    f64::from_bits(x)
}

/// NaN results become [`NAN`].
#[inline(always)]
pub fn canon(x: f64) -> u64 {
    if x.is_nan() { NAN } else { x.to_bits() }
}

/// `add.R.f64`.
#[inline(always)]
pub fn add<const R: u8>(a: u64, b: u64) -> u64 {
    if R == RN {
        return canon(f(a) + f(b));
    }
    soft::pack::<R>(soft::add::<R>(unpack(a, F64), unpack(b, F64)), F64)
}

/// `sub.R.f64`.
#[inline(always)]
pub fn sub<const R: u8>(a: u64, b: u64) -> u64 {
    if R == RN { canon(f(a) - f(b)) } else { add::<R>(a, b ^ (1 << 63)) }
}

/// `mul.R.f64`.
#[inline(always)]
pub fn mul<const R: u8>(a: u64, b: u64) -> u64 {
    if R == RN {
        return canon(f(a) * f(b));
    }
    soft::pack::<R>(soft::mul(unpack(a, F64), unpack(b, F64)), F64)
}

/// `fma.R.f64`. Where the surrounding function lacks the host's FMA feature, `.rn` is a library call.
#[inline(always)]
pub fn fma<const R: u8>(a: u64, b: u64, c: u64) -> u64 {
    if R == RN {
        return canon(f(a).mul_add(f(b), f(c)));
    }
    soft::pack::<R>(soft::add::<R>(soft::mul(unpack(a, F64), unpack(b, F64)), unpack(c, F64)), F64)
}

/// `div.R.f64`.
#[inline(always)]
pub fn div<const R: u8>(a: u64, b: u64) -> u64 {
    if R == RN {
        return canon(f(a) / f(b));
    }
    soft::pack::<R>(soft::div(unpack(a, F64), unpack(b, F64)), F64)
}

/// `rcp.R.f64`.
#[inline(always)]
pub fn rcp<const R: u8>(a: u64) -> u64 {
    div::<R>(1f64.to_bits(), a)
}

/// `sqrt.R.f64`.
#[inline(always)]
pub fn sqrt<const R: u8>(a: u64) -> u64 {
    if R == RN {
        return canon(f(a).sqrt());
    }
    soft::pack::<R>(soft::sqrt(unpack(a, F64)), F64)
}

#[inline(always)]
fn key(x: u64) -> i64 {
    (x ^ (((x as i64) >> 63) as u64 >> 1)) as i64
}

#[inline(always)]
fn is_nan(x: u64) -> bool {
    x & (u64::MAX >> 1) > 0x7ff0_0000_0000_0000
}

#[inline(always)]
fn pick<const MAX: bool>(a: u64, b: u64) -> u64 {
    let first = if MAX { key(a) >= key(b) } else { key(a) <= key(b) };
    let r = if first { a } else { b };
    match (is_nan(a), is_nan(b)) {
        (true, true) => NAN,
        (true, false) => b,
        (false, true) => a,
        _ => r,
    }
}

/// `min.f64`: the number wins over NaN, -0 is less than +0.
#[inline(always)]
pub fn min(a: u64, b: u64) -> u64 {
    pick::<false>(a, b)
}

/// `max.f64`: the number wins over NaN, -0 is less than +0.
#[inline(always)]
pub fn max(a: u64, b: u64) -> u64 {
    pick::<true>(a, b)
}

/// `setp`/`set` comparison.
#[inline(always)]
pub fn cmp(op: Cmp, a: u64, b: u64) -> bool {
    op.holds(f(a).partial_cmp(&f(b)))
}

/// `testp`.
#[inline(always)]
pub fn testp(c: Class, a: u64) -> bool {
    let m = a & (u64::MAX >> 1);
    const INF: u64 = 0x7ff0_0000_0000_0000;
    match c {
        Class::Finite => m < INF,
        Class::Infinite => m == INF,
        Class::Number => m <= INF,
        Class::NotANumber => m > INF,
        Class::Normal => m == 0 || (1 << 52..INF).contains(&m),
        Class::Subnormal => m != 0 && m < 1 << 52,
    }
}

/// `copysign d, a, b`: the magnitude of `b` with the sign of `a`.
#[inline(always)]
pub fn copysign(a: u64, b: u64) -> u64 {
    (a & (1 << 63)) | (b & (u64::MAX >> 1))
}

/// `abs.f64`.
#[inline(always)]
pub fn abs(a: u64) -> u64 {
    a & (u64::MAX >> 1)
}

/// `neg.f64`.
#[inline(always)]
pub fn neg(a: u64) -> u64 {
    a ^ (1 << 63)
}
