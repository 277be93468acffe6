//! `cvt`: every pair of integer and float types, with roundings, `.ftz`, `.sat`, `.relu` and `.satfinite`.
//!
//! [`cvt`] is the one exact path for all pairs; the frequent pairs have lane functions of their own that vectorise, tested equal to
//! it. Packed forms (`f16x2`, `e4m3x2`, `cvt.pack`) are at the end. NaN to integer follows the ISA: 0, but `1 << (width-1)` when the
//! source is f64 or the destination has 64 bits.

use super::half::{F16, Kind};
use super::soft::{self, BF16 as SBF16, Exact, F16 as SF16, F32, F64, Format, Val, unpack};
use super::{RM, RN, RP, RZ, Round, f32 as n32, f64 as n64, fp8, half};

/// Scalar types of `cvt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Ty {
    U8,
    U16,
    U32,
    U64,
    S8,
    S16,
    S32,
    S64,
    F16,
    Bf16,
    F32,
    F64,
}

impl Ty {
    /// Reads a type modifier without its dot.
    pub fn parse(s: &str) -> Option<Ty> {
        Some(match s {
            "u8" => Ty::U8,
            "u16" => Ty::U16,
            "u32" => Ty::U32,
            "u64" => Ty::U64,
            "s8" => Ty::S8,
            "s16" => Ty::S16,
            "s32" => Ty::S32,
            "s64" => Ty::S64,
            "f16" => Ty::F16,
            "bf16" => Ty::Bf16,
            "f32" => Ty::F32,
            "f64" => Ty::F64,
            _ => return None,
        })
    }

    /// Width in bits.
    #[inline(always)]
    pub const fn width(self) -> u32 {
        match self {
            Ty::U8 | Ty::S8 => 8,
            Ty::U16 | Ty::S16 | Ty::F16 | Ty::Bf16 => 16,
            Ty::U32 | Ty::S32 | Ty::F32 => 32,
            Ty::U64 | Ty::S64 | Ty::F64 => 64,
        }
    }

    /// Signed integer.
    #[inline(always)]
    pub const fn signed(self) -> bool {
        matches!(self, Ty::S8 | Ty::S16 | Ty::S32 | Ty::S64)
    }

    /// The float format, or `None` for integers.
    #[inline(always)]
    pub const fn format(self) -> Option<Format> {
        match self {
            Ty::F16 => Some(SF16),
            Ty::Bf16 => Some(SBF16),
            Ty::F32 => Some(F32),
            Ty::F64 => Some(F64),
            _ => None,
        }
    }

    /// Smallest and largest integer; (0, 0) for floats.
    #[inline(always)]
    pub const fn range(self) -> (i128, i128) {
        let w = self.width();
        if self.format().is_some() {
            (0, 0)
        } else if self.signed() {
            (-(1i128 << (w - 1)), (1i128 << (w - 1)) - 1)
        } else {
            (0, (1i128 << w) - 1)
        }
    }
}

/// One `cvt` between scalar types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cvt {
    /// Destination type.
    pub dst: Ty,
    /// Source type.
    pub src: Ty,
    /// Rounding; `Rn` where the form has none.
    pub round: Round,
    /// `.rni .rzi .rmi .rpi` between floats: round to an integral value. Implied for float to integer.
    pub integral: bool,
    /// `.ftz`: f32 subnormals become zeros on the way in and out.
    pub ftz: bool,
    /// `.sat`.
    pub sat: bool,
    /// `.relu`.
    pub relu: bool,
    /// `.satfinite`.
    pub satfinite: bool,
}

impl Cvt {
    /// A conversion without modifiers, nearest even.
    pub const fn new(dst: Ty, src: Ty) -> Cvt {
        let (integral, ftz, sat, relu, satfinite) = (false, false, false, false, false);
        Cvt { dst, src, round: Round::Rn, integral, ftz, sat, relu, satfinite }
    }
}

/// Converts register bits `a` (higher bits than the source type's are ignored). Signed integer results come sign-extended to 64 bits,
/// all others zero-extended: the caller cuts them to its register.
#[inline]
pub fn cvt(c: &Cvt, a: u64) -> u64 {
    match c.round {
        Round::Rn => cvt_r::<RN>(c, a),
        Round::Rz => cvt_r::<RZ>(c, a),
        Round::Rm => cvt_r::<RM>(c, a),
        Round::Rp => cvt_r::<RP>(c, a),
    }
}

fn cvt_r<const R: u8>(c: &Cvt, a: u64) -> u64 {
    let Some(sf) = c.src.format() else {
        let w = 64 - c.src.width();
        let v = if c.src.signed() { (((a << w) as i64) >> w) as i128 } else { ((a << w) >> w) as i128 };
        return match c.dst.format() {
            None => int_out(c.dst, if c.sat { clamp(c.dst, v) } else { v }),
            Some(df) => float_out(c, df, soft::pack::<R>(soft::from_int(v), df)),
        };
    };
    let mut bits = if c.src.width() == 64 { a } else { a & ((1 << c.src.width()) - 1) };
    if c.ftz && c.src == Ty::F32 {
        bits = n32::ftz(bits as u32) as u64;
    }
    let v = unpack(bits, sf);
    match c.dst.format() {
        None => {
            let (lo, hi) = c.dst.range();
            let r = match v {
                Val::Nan if c.src == Ty::F64 || c.dst.width() == 64 => 1i128 << (c.dst.width() - 1),
                Val::Nan | Val::Zero(_) => 0,
                Val::Inf(true) => lo,
                Val::Inf(false) => hi,
                Val::Fin(x) => clamp(c.dst, soft::to_int::<R>(x)),
            };
            int_out(c.dst, r)
        }
        Some(df) => {
            let v = if c.integral { integral::<R>(v, sf) } else { v };
            float_out(c, df, soft::pack::<R>(v, df))
        }
    }
}

/// Rounds to an integral value in the same format; a zero result keeps the sign.
fn integral<const R: u8>(v: Val, f: Format) -> Val {
    let Val::Fin(x) = v else { return v };
    if x.exp >= 0 || x.exp + 127 - (x.mant.leading_zeros() as i32) >= f.prec as i32 {
        return v;
    }
    match soft::to_int::<R>(x) {
        0 => Val::Zero(x.neg),
        i => Val::Fin(Exact { neg: x.neg, mant: i.unsigned_abs(), exp: 0, sticky: false }),
    }
}

#[inline(always)]
fn clamp(t: Ty, v: i128) -> i128 {
    let (lo, hi) = t.range();
    v.clamp(lo, hi)
}

#[inline(always)]
fn int_out(t: Ty, v: i128) -> u64 {
    let w = 64 - t.width();
    let v = (v as u64) << w;
    if t.signed() { ((v as i64) >> w) as u64 } else { v >> w }
}

/// The modifiers after the rounding.
fn float_out(c: &Cvt, f: Format, mut b: u64) -> u64 {
    let (sign, mag) = (b & f.sign(), b & (f.sign() - 1));
    let nan = mag > f.inf();
    if c.satfinite && mag == f.inf() {
        b = sign | (f.inf() - 1);
    }
    if c.ftz && c.dst == Ty::F32 {
        b = n32::ftz(b as u32) as u64;
    }
    if c.sat {
        let one = ((1 - f.emin) as u64) << (f.prec - 1);
        return if nan || sign != 0 { 0 } else { b.min(one) };
    }
    if c.relu && sign != 0 && !nan { 0 } else { b }
}

// ---- lane functions for the frequent pairs ------------------------------------------------------------------------------------

/// `cvt.R.f32.s32`.
#[inline(always)]
pub fn f32_from_s32<const R: u8>(a: u32) -> u32 {
    n32::narrow::<R>(a as i32 as f64, 0.0)
}

/// `cvt.R.f32.u32`.
#[inline(always)]
pub fn f32_from_u32<const R: u8>(a: u32) -> u32 {
    n32::narrow::<R>(a as f64, 0.0)
}

/// `cvt.rn.f32.u64`, rounded once.
#[inline(always)]
pub fn f32_from_u64(a: u64) -> u32 {
    (a as f32).to_bits()
}

/// `cvt.rn.f32.s64`, rounded once.
#[inline(always)]
pub fn f32_from_s64(a: u64) -> u32 {
    (a as i64 as f32).to_bits()
}

/// An f32 rounded to an integral value (`cvt.rXi.f32.f32`); a zero keeps its sign, NaN is canonical.
#[inline(always)]
pub fn f32_integral<const R: u8>(a: u32) -> u32 {
    let x = f32::from_bits(a);
    let m = a & 0x7fff_ffff;
    // Adding and taking away 2^23 rounds to nearest even below 2^23; above, everything is integral.
    let big = f32::from_bits(0x4b00_0000);
    let t = (f32::from_bits(m) + big) - big;
    let n = f32::from_bits(t.to_bits() | (a & 0x8000_0000));
    let step = match R {
        RZ if n.abs() > x.abs() => {
            if a >> 31 == 0 {
                -1.0
            } else {
                1.0
            }
        }
        RM if n > x => -1.0,
        RP if n < x => 1.0,
        _ => 0.0,
    };
    let r = if step == 0.0 { n.to_bits() } else { ((n + step).to_bits() & 0x7fff_ffff) | (a & 0x8000_0000) };
    if m > 0x7f80_0000 {
        n32::NAN
    } else if m >= 0x4b00_0000 {
        a
    } else {
        r
    }
}

/// `cvt.rXi.s32.f32`: saturates, NaN gives 0.
#[inline(always)]
pub fn s32_from_f32<const R: u8>(a: u32) -> u32 {
    f32::from_bits(f32_integral::<R>(a)) as i32 as u32
}

/// `cvt.rXi.u32.f32`: saturates, NaN gives 0.
#[inline(always)]
pub fn u32_from_f32<const R: u8>(a: u32) -> u32 {
    f32::from_bits(f32_integral::<R>(a)) as u32
}

/// [`f32_integral`] where the surrounding function has the host's rounding instructions (elsewhere these are library calls).
#[inline(always)]
pub fn f32_integral_hw<const R: u8>(a: u32) -> u32 {
    let x = f32::from_bits(a);
    n32::canon(match R {
        RZ => x.trunc(),
        RM => x.floor(),
        RP => x.ceil(),
        _ => x.round_ties_even(),
    })
}

/// [`s32_from_f32`] with [`f32_integral_hw`].
#[inline(always)]
pub fn s32_from_f32_hw<const R: u8>(a: u32) -> u32 {
    f32::from_bits(f32_integral_hw::<R>(a)) as i32 as u32
}

/// [`u32_from_f32`] with [`f32_integral_hw`].
#[inline(always)]
pub fn u32_from_f32_hw<const R: u8>(a: u32) -> u32 {
    f32::from_bits(f32_integral_hw::<R>(a)) as u32
}

/// `cvt.R.f32.f64`.
#[inline(always)]
pub fn f32_from_f64<const R: u8>(a: u64) -> u32 {
    n32::narrow::<R>(f64::from_bits(a), 0.0)
}

/// `cvt.f64.f32`.
#[inline(always)]
pub fn f64_from_f32(a: u32) -> u64 {
    n64::canon(f32::from_bits(a) as f64)
}

/// `cvt.rn.f64.s32`.
#[inline(always)]
pub fn f64_from_s32(a: u32) -> u64 {
    (a as i32 as f64).to_bits()
}

/// `cvt.rn.f64.u32`.
#[inline(always)]
pub fn f64_from_u32(a: u32) -> u64 {
    (a as f64).to_bits()
}

/// `cvt.rn.f16.f32` ([`F16`]) and `cvt.rn.bf16.f32` ([`half::Bf16`]).
#[inline(always)]
pub fn half_from_f32<K: Kind>(a: u32) -> u32 {
    K::narrow(f32::from_bits(a))
}

/// `cvt.rz.f16.f32`, `cvt.rz.bf16.f32`: toward zero, so a finite value never becomes infinite.
#[inline(always)]
pub fn half_from_f32_rz<K: Kind>(a: u32) -> u32 {
    let n = K::narrow(f32::from_bits(a));
    let back = K::wide(n).to_bits() & 0x7fff_ffff;
    if n & 0x7fff <= K::INF && back > a & 0x7fff_ffff { n - 1 } else { n }
}

/// `cvt.f32.f16`, `cvt.f32.bf16`: exact; NaN is canonical.
#[inline(always)]
pub fn f32_from_half<K: Kind>(a: u32) -> u32 {
    n32::canon(K::wide(a & 0xffff))
}

/// `cvt.rna.tf32.f32`: nearest, ties away from zero, as the instruction sequence of ptxas does it (`vgpu.md` 9.4): NaN payloads are
/// cut like any other low bits. The result is an f32 whose low 13 bits are zero.
#[inline(always)]
pub fn tf32_rna(a: u32) -> u32 {
    let r = if a & 0x7fff_ffff < 0x7f80_0000 { a.wrapping_add(0x1000) } else { a };
    r & 0xffff_e000
}

/// `cvt.rn.tf32.f32` and (`TZ`) `cvt.rz.tf32.f32`.
#[inline(always)]
pub fn tf32_rn<const TZ: bool>(a: u32) -> u32 {
    let r = if TZ { a } else { a.wrapping_add(0xfff).wrapping_add((a >> 13) & 1) } & 0xffff_e000;
    if n32::is_nan(a) { n32::NAN } else { r }
}

/// `.satfinite` on the result of [`tf32_rna`]: infinity to the largest finite number. ptxas takes a unit of the fraction from NaN too, and so does this.
#[inline(always)]
pub fn tf32_satfinite(r: u32) -> u32 {
    if r & 0x7fff_ffff >= 0x7f80_0000 { r - 0x2000 } else { r }
}

/// `.relu` on an f32 or tf32 result: negative to +0, NaN to canonical NaN.
#[inline(always)]
pub fn relu_f32(r: u32) -> u32 {
    if n32::is_nan(r) {
        n32::NAN
    } else if r >> 31 != 0 {
        0
    } else {
        r
    }
}

/// `.satfinite` on a 16-bit result: infinity to the largest finite number of its sign.
#[inline(always)]
pub fn half_satfinite<K: Kind>(r: u32) -> u32 {
    if r & 0x7fff == K::INF { r - 1 } else { r }
}

// ---- packed forms -------------------------------------------------------------------------------------------------------------

/// `cvt.{rn,rz}{.relu}{.satfinite}.{f16x2,bf16x2}.f32 d, a, b`: `a` to the upper half.
#[inline(always)]
pub fn halfx2_from_f32<K: Kind>(a: u32, b: u32, rz: bool, relu: bool, satfinite: bool) -> u32 {
    let one = |x: u32| half_from_f32_mod::<K>(x, rz, relu, satfinite);
    one(a) << 16 | one(b)
}

/// One element of [`halfx2_from_f32`]; also `cvt.{rn,rz}{.relu}{.satfinite}.f16.f32`.
#[inline(always)]
pub fn half_from_f32_mod<K: Kind>(x: u32, rz: bool, relu: bool, satfinite: bool) -> u32 {
    let r = if rz { half_from_f32_rz::<K>(x) } else { half_from_f32::<K>(x) };
    let r = if satfinite { half_satfinite::<K>(r) } else { r };
    if relu { half::relu::<K>(r) } else { r }
}

/// `cvt.rn.satfinite{.relu}.{e4m3x2,e5m2x2}.f32 d, a, b` (`E4`): `a` to the upper byte.
#[inline(always)]
pub fn fp8x2_from_f32<const E4: bool>(a: u32, b: u32, relu: bool) -> u32 {
    let one = |x: u32| {
        let x = f32::from_bits(if relu { relu_f32(x) } else { x });
        if E4 { fp8::e4m3_narrow(x) } else { fp8::e5m2_narrow(x) }
    };
    one(a) << 8 | one(b)
}

/// `cvt.rn.satfinite{.relu}.{e4m3x2,e5m2x2}.f16x2 d, a`.
#[inline(always)]
pub fn fp8x2_from_f16x2<const E4: bool>(a: u32, relu: bool) -> u32 {
    fp8x2_from_f32::<E4>(F16::wide(a >> 16).to_bits(), F16::wide(a & 0xffff).to_bits(), relu)
}

/// `cvt.rn{.relu}.f16x2.{e4m3x2,e5m2x2} d, a`: exact.
#[inline(always)]
pub fn f16x2_from_fp8x2<const E4: bool>(a: u32, relu: bool) -> u32 {
    let one = |b: u32| {
        let r = F16::narrow(if E4 { fp8::e4m3_wide(b) } else { fp8::e5m2_wide(b) });
        if relu { half::relu::<F16>(r) } else { r }
    };
    one(a >> 8 & 0xff) << 16 | one(a & 0xff)
}

/// `cvt.pack.sat.{s,u}W.s32{.b32} d, a, b, c`: both saturated to `W` bits, `a` above `b`, and above them the low bits of `c` (none
/// for `W` = 16).
#[inline(always)]
pub fn pack_sat(signed: bool, w: u32, a: u32, b: u32, c: u32) -> u32 {
    let (lo, hi) = if signed { (-(1i32 << (w - 1)), (1i32 << (w - 1)) - 1) } else { (0, (1i32 << w) - 1) };
    let one = |v: u32| (v as i32).clamp(lo, hi) as u32 & ((1 << w) - 1);
    let rest = if 2 * w < 32 { c << (2 * w) } else { 0 };
    rest | one(a) << w | one(b)
}
