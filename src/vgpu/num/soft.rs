//! Exact values and the one rounding step that every binary format shares.
//!
//! A finite non-zero number is sign, integer significand and exponent ([`Exact`]) plus a sticky bit for what lies below; [`Format`]
//! says where to cut. Slow (a few ns) but exact by construction: the rare paths (directed f64, odd conversions) run on it, and the
//! fast lane functions of the sibling modules are tested against it.

use super::{RM, RN, RP};

/// A binary interchange format: sign, biased exponent, fraction; all-ones exponent is infinity or NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Significand bits including the hidden one.
    pub prec: u32,
    /// Exponent of the smallest normal number.
    pub emin: i32,
    /// Width of the whole format.
    pub width: u32,
}

/// IEEE binary16.
pub const F16: Format = Format { prec: 11, emin: -14, width: 16 };
/// bfloat16.
pub const BF16: Format = Format { prec: 8, emin: -126, width: 16 };
/// IEEE binary32.
pub const F32: Format = Format { prec: 24, emin: -126, width: 32 };
/// IEEE binary64.
pub const F64: Format = Format { prec: 53, emin: -1022, width: 64 };
/// OCP 8-bit E5M2, which has infinities and NaNs like IEEE.
pub const E5M2: Format = Format { prec: 3, emin: -14, width: 8 };

impl Format {
    /// Bits of +infinity.
    #[inline(always)]
    pub const fn inf(self) -> u64 {
        let exp_bits = self.width - self.prec;
        ((1u64 << exp_bits) - 1) << (self.prec - 1)
    }

    /// Sign bit.
    #[inline(always)]
    pub const fn sign(self) -> u64 {
        1u64 << (self.width - 1)
    }

    /// The NaN that the virtual GPU returns: all ones below the sign for 16- and 32-bit types, the quiet NaN for f64.
    #[inline(always)]
    pub const fn nan(self) -> u64 {
        if self.width == 64 { super::f64::NAN } else { self.sign() - 1 }
    }
}

/// What bits in some [`Format`] stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Val {
    /// Not a number.
    Nan,
    /// Infinity; `true` is negative.
    Inf(bool),
    /// Zero; `true` is negative.
    Zero(bool),
    /// Anything else.
    Fin(Exact),
}

/// `(-1)^neg * (mant + s) * 2^exp` where `s` is 0, or something strictly between 0 and 1 if `sticky`. `mant` is not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exact {
    /// Negative.
    pub neg: bool,
    /// Integer significand.
    pub mant: u128,
    /// Exponent of the significand's lowest bit.
    pub exp: i32,
    /// There is more below the lowest bit.
    pub sticky: bool,
}

/// Reads `bits` as a number in `f`.
#[inline(always)]
pub fn unpack(bits: u64, f: Format) -> Val {
    let neg = bits & f.sign() != 0;
    let mag = bits & (f.sign() - 1);
    if mag > f.inf() {
        Val::Nan
    } else if mag == f.inf() {
        Val::Inf(neg)
    } else if mag == 0 {
        Val::Zero(neg)
    } else {
        let frac = mag & ((1u64 << (f.prec - 1)) - 1);
        let e = (mag >> (f.prec - 1)) as i32;
        let (mant, e) = if e == 0 { (frac, 1) } else { (frac | 1u64 << (f.prec - 1), e) };
        Val::Fin(Exact { neg, mant: mant as u128, exp: e - 1 + f.emin - (f.prec as i32 - 1), sticky: false })
    }
}

/// Magnitude of `x` rounded to a multiple of the format's quantum, encoded as if the exponent range had no top: the caller compares
/// with its own largest value. Second result: the result is not exact.
#[inline(always)]
pub fn round_magnitude<const R: u8>(x: Exact, f: Format) -> (u64, bool) {
    let msb = 127 - x.mant.leading_zeros() as i32;
    let e = x.exp + msb;
    let base = if e > f.emin { e } else { f.emin };
    let shift = base - (f.prec as i32 - 1) - x.exp;
    let (mut m, cmp_half, inexact) = if shift <= 0 {
        ((x.mant << (-shift)) as u64, -1i32, x.sticky)
    } else if shift > 128 {
        (0, -1, true)
    } else {
        let (m, rem) = if shift == 128 { (0, x.mant) } else { (x.mant >> shift, x.mant & ((1u128 << shift) - 1)) };
        let half = 1u128 << (shift - 1);
        let c = if rem > half || (rem == half && x.sticky) {
            1
        } else if rem == half {
            0
        } else {
            -1
        };
        (m as u64, c, rem != 0 || x.sticky)
    };
    let up = match R {
        RN => cmp_half > 0 || (cmp_half == 0 && m & 1 == 1),
        RM => inexact && x.neg,
        RP => inexact && !x.neg,
        _ => false,
    };
    m += up as u64;
    ((((base - f.emin) as u64) << (f.prec - 1)) + m, inexact)
}

/// Rounds `x` once to `f`. Overflow gives infinity or the largest finite number, as IEEE 754 orders for the mode.
#[inline(always)]
pub fn round<const R: u8>(x: Exact, f: Format) -> u64 {
    let (mag, _) = round_magnitude::<R>(x, f);
    let mag = if mag >= f.inf() {
        let away = match R {
            RN => true,
            RM => x.neg,
            RP => !x.neg,
            _ => false,
        };
        f.inf() - !away as u64
    } else {
        mag
    };
    mag | if x.neg { f.sign() } else { 0 }
}

/// Rounds any value to `f`; NaN becomes the canonical one.
#[inline(always)]
pub fn pack<const R: u8>(v: Val, f: Format) -> u64 {
    let s = |neg: bool| if neg { f.sign() } else { 0 };
    match v {
        Val::Nan => f.nan(),
        Val::Inf(n) => f.inf() | s(n),
        Val::Zero(n) => s(n),
        Val::Fin(x) => round::<R>(x, f),
    }
}

/// The sign of an exact zero that two unlike terms leave: minus only when rounding down (IEEE 754, 6.3).
#[inline(always)]
fn cancelled<const R: u8>() -> Val {
    Val::Zero(R == RM)
}

/// `x + y`, exact but for the sticky bit. Each significand may have up to 106 bits.
pub fn add<const R: u8>(x: Val, y: Val) -> Val {
    let (x, y) = match (x, y) {
        (Val::Nan, _) | (_, Val::Nan) => return Val::Nan,
        (Val::Inf(a), Val::Inf(b)) => return if a == b { x } else { Val::Nan },
        (Val::Inf(_), _) => return x,
        (_, Val::Inf(_)) => return y,
        (Val::Zero(a), Val::Zero(b)) => return if a == b { x } else { cancelled::<R>() },
        (Val::Zero(_), _) => return y,
        (_, Val::Zero(_)) => return x,
        (Val::Fin(x), Val::Fin(y)) => (x, y),
    };
    let lead = |v: &Exact| v.exp + 127 - v.mant.leading_zeros() as i32;
    let (l, s) = if lead(&x) >= lead(&y) { (x, y) } else { (y, x) };
    // The larger goes to the top (one bit of room for a carry); what the smaller loses below goes into the sticky bit. Bits are lost
    // only when the leads are 19 or more apart, so no cancellation can then reach them.
    let up = l.mant.leading_zeros() as i32 - 2;
    let (lm, exp) = if up >= 0 { (l.mant << up, l.exp - up) } else { (l.mant, l.exp) };
    let d = exp - s.exp;
    let (sm, lost) = if d <= 0 {
        (s.mant << (-d), false)
    } else if d >= 128 {
        (0, true)
    } else {
        (s.mant >> d, s.mant & ((1u128 << d) - 1) != 0)
    };
    if l.neg == s.neg {
        return Val::Fin(Exact { neg: l.neg, mant: lm + sm, exp, sticky: lost });
    }
    if !lost && lm == sm {
        return cancelled::<R>();
    }
    if lm >= sm {
        Val::Fin(Exact { neg: l.neg, mant: lm - sm - lost as u128, exp, sticky: lost })
    } else {
        Val::Fin(Exact { neg: s.neg, mant: sm - lm, exp, sticky: false })
    }
}

/// `x * y`, exact.
#[inline(always)]
pub fn mul(x: Val, y: Val) -> Val {
    let neg = sign(x) != sign(y);
    match (x, y) {
        (Val::Nan, _) | (_, Val::Nan) => Val::Nan,
        (Val::Inf(_), Val::Zero(_)) | (Val::Zero(_), Val::Inf(_)) => Val::Nan,
        (Val::Inf(_), _) | (_, Val::Inf(_)) => Val::Inf(neg),
        (Val::Zero(_), _) | (_, Val::Zero(_)) => Val::Zero(neg),
        (Val::Fin(a), Val::Fin(b)) => Val::Fin(Exact { neg, mant: a.mant * b.mant, exp: a.exp + b.exp, sticky: false }),
    }
}

/// `x / y` to at least 73 significant bits and a sticky bit. Significands of at most 53 bits.
pub fn div(x: Val, y: Val) -> Val {
    let neg = sign(x) != sign(y);
    match (x, y) {
        (Val::Nan, _) | (_, Val::Nan) => Val::Nan,
        (Val::Inf(_), Val::Inf(_)) | (Val::Zero(_), Val::Zero(_)) => Val::Nan,
        (Val::Inf(_), _) | (_, Val::Zero(_)) => Val::Inf(neg),
        (Val::Zero(_), _) | (_, Val::Inf(_)) => Val::Zero(neg),
        (Val::Fin(a), Val::Fin(b)) => {
            let up = a.mant.leading_zeros() as i32 - 1;
            let n = a.mant << up;
            let (q, r) = (n / b.mant, n % b.mant);
            Val::Fin(Exact { neg, mant: q, exp: a.exp - up - b.exp, sticky: r != 0 })
        }
    }
}

/// Square root to 63 significant bits and a sticky bit.
pub fn sqrt(x: Val) -> Val {
    match x {
        Val::Nan | Val::Inf(true) => Val::Nan,
        Val::Inf(false) | Val::Zero(_) => x,
        Val::Fin(a) if a.neg => Val::Nan,
        Val::Fin(a) => {
            let mut up = a.mant.leading_zeros() as i32 - 1;
            if (a.exp - up) % 2 != 0 {
                up -= 1;
            }
            let n = a.mant << up;
            let r = n.isqrt();
            Val::Fin(Exact { neg: false, mant: r, exp: (a.exp - up) / 2, sticky: r * r != n })
        }
    }
}

/// Sign of a value; NaN counts as positive.
#[inline(always)]
pub fn sign(v: Val) -> bool {
    match v {
        Val::Nan => false,
        Val::Inf(n) | Val::Zero(n) => n,
        Val::Fin(x) => x.neg,
    }
}

/// An integer as an exact value.
#[inline(always)]
pub fn from_int(v: i128) -> Val {
    if v == 0 {
        Val::Zero(false)
    } else {
        Val::Fin(Exact { neg: v < 0, mant: v.unsigned_abs(), exp: 0, sticky: false })
    }
}

/// Rounds a finite value to an integer, clamped to ±2^100 (no destination type is that large).
pub fn to_int<const R: u8>(x: Exact) -> i128 {
    let msb = 127 - x.mant.leading_zeros() as i32;
    let mag: u128 = if x.exp + msb >= 100 {
        1u128 << 100
    } else if x.exp >= 0 {
        x.mant << x.exp
    } else {
        let d = -x.exp;
        let (m, rem, half) = if d >= 128 {
            (0, if d == 128 { x.mant } else { 1 }, if d == 128 { 1u128 << 127 } else { u128::MAX })
        } else {
            (x.mant >> d, x.mant & ((1u128 << d) - 1), 1u128 << (d - 1))
        };
        let inexact = rem != 0 || x.sticky;
        let up = match R {
            RN => rem > half || (rem == half && (x.sticky || m & 1 == 1)),
            RM => inexact && x.neg,
            RP => inexact && !x.neg,
            _ => false,
        };
        m + up as u128
    };
    if x.neg { -(mag as i128) } else { mag as i128 }
}
