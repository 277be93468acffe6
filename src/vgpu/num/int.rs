//! Integer arithmetic: products, sums of differences, dot products, carries, saturation.
//!
//! 8- and 16-bit values live in the low bits of a `u32`; functions that care take them sign- or zero-extended and return the low
//! bits. Bit fields, shifts and permutations are in [`super::bits`].

/// Sign-extends the low `B` bits.
#[inline(always)]
pub fn sx<const B: u32>(a: u32) -> i32 {
    ((a << (32 - B)) as i32) >> (32 - B)
}

/// Zero-extends the low `B` bits.
#[inline(always)]
pub fn zx<const B: u32>(a: u32) -> u32 {
    (a << (32 - B)) >> (32 - B)
}

/// `mul.hi.u16`.
#[inline(always)]
pub fn mul_hi_u16(a: u32, b: u32) -> u32 {
    (zx::<16>(a) * zx::<16>(b)) >> 16
}

/// `mul.hi.s16`, low 16 bits.
#[inline(always)]
pub fn mul_hi_s16(a: u32, b: u32) -> u32 {
    ((sx::<16>(a) * sx::<16>(b)) >> 16) as u32 & 0xffff
}

/// `mul.wide.u16`.
#[inline(always)]
pub fn mul_wide_u16(a: u32, b: u32) -> u32 {
    zx::<16>(a) * zx::<16>(b)
}

/// `mul.wide.s16`.
#[inline(always)]
pub fn mul_wide_s16(a: u32, b: u32) -> u32 {
    (sx::<16>(a) * sx::<16>(b)) as u32
}

/// `mul.hi.u32`.
#[inline(always)]
pub fn mul_hi_u32(a: u32, b: u32) -> u32 {
    ((a as u64 * b as u64) >> 32) as u32
}

/// `mul.hi.s32`.
#[inline(always)]
pub fn mul_hi_s32(a: u32, b: u32) -> u32 {
    ((a as i32 as i64 * b as i32 as i64) >> 32) as u32
}

/// `mul.wide.u32`.
#[inline(always)]
pub fn mul_wide_u32(a: u32, b: u32) -> u64 {
    a as u64 * b as u64
}

/// `mul.wide.s32`.
#[inline(always)]
pub fn mul_wide_s32(a: u32, b: u32) -> u64 {
    (a as i32 as i64 * b as i32 as i64) as u64
}

/// `mul.hi.u64`.
#[inline(always)]
pub fn mul_hi_u64(a: u64, b: u64) -> u64 {
    ((a as u128 * b as u128) >> 64) as u64
}

/// `mul.hi.s64`.
#[inline(always)]
pub fn mul_hi_s64(a: u64, b: u64) -> u64 {
    ((a as i64 as i128 * b as i64 as i128) >> 64) as u64
}

/// `mad.hi.sat.s32`: the high half plus `c`, clamped.
#[inline(always)]
pub fn mad_hi_sat_s32(a: u32, b: u32, c: u32) -> u32 {
    (mul_hi_s32(a, b) as i32).saturating_add(c as i32) as u32
}

/// `mul24.lo.u32`: low 32 bits of the 48-bit product of the low 24 bits.
#[inline(always)]
pub fn mul24_lo_u32(a: u32, b: u32) -> u32 {
    zx::<24>(a).wrapping_mul(zx::<24>(b))
}

/// `mul24.lo.s32`.
#[inline(always)]
pub fn mul24_lo_s32(a: u32, b: u32) -> u32 {
    sx::<24>(a).wrapping_mul(sx::<24>(b)) as u32
}

/// `mul24.hi.u32`: bits 47..16 of the product.
#[inline(always)]
pub fn mul24_hi_u32(a: u32, b: u32) -> u32 {
    ((zx::<24>(a) as u64 * zx::<24>(b) as u64) >> 16) as u32
}

/// `mul24.hi.s32`: bits 47..16 of the product.
#[inline(always)]
pub fn mul24_hi_s32(a: u32, b: u32) -> u32 {
    ((sx::<24>(a) as i64 * sx::<24>(b) as i64) >> 16) as u32
}

/// `mad24.hi.sat.s32`.
#[inline(always)]
pub fn mad24_hi_sat_s32(a: u32, b: u32, c: u32) -> u32 {
    (mul24_hi_s32(a, b) as i32).saturating_add(c as i32) as u32
}

/// `sad.u32`: `c + |a - b|`.
#[inline(always)]
pub fn sad_u32(a: u32, b: u32, c: u32) -> u32 {
    c.wrapping_add(a.abs_diff(b))
}

/// `sad.s32`.
#[inline(always)]
pub fn sad_s32(a: u32, b: u32, c: u32) -> u32 {
    c.wrapping_add((a as i32).abs_diff(b as i32))
}

/// `sad.u64`.
#[inline(always)]
pub fn sad_u64(a: u64, b: u64, c: u64) -> u64 {
    c.wrapping_add(a.abs_diff(b))
}

/// `sad.s64`.
#[inline(always)]
pub fn sad_s64(a: u64, b: u64, c: u64) -> u64 {
    c.wrapping_add((a as i64).abs_diff(b as i64))
}

/// `sad.u16`, low 16 bits.
#[inline(always)]
pub fn sad_u16(a: u32, b: u32, c: u32) -> u32 {
    zx::<16>(c.wrapping_add(zx::<16>(a).abs_diff(zx::<16>(b))))
}

/// `sad.s16`, low 16 bits.
#[inline(always)]
pub fn sad_s16(a: u32, b: u32, c: u32) -> u32 {
    zx::<16>(c.wrapping_add(sx::<16>(a).abs_diff(sx::<16>(b))))
}

/// `div.u32`; all ones for a zero divisor (unspecified by the ISA; the sanitizer reports it).
#[inline(always)]
pub fn div_u32(a: u32, b: u32) -> u32 {
    a.checked_div(b).unwrap_or(u32::MAX)
}

/// `div.s32`; all ones for a zero divisor, `MIN / -1` wraps.
#[inline(always)]
pub fn div_s32(a: u32, b: u32) -> u32 {
    if b == 0 { u32::MAX } else { (a as i32).wrapping_div(b as i32) as u32 }
}

/// `rem.u32`; all ones for a zero divisor.
#[inline(always)]
pub fn rem_u32(a: u32, b: u32) -> u32 {
    if b == 0 { u32::MAX } else { a % b }
}

/// `rem.s32`; all ones for a zero divisor, the sign of the dividend otherwise.
#[inline(always)]
pub fn rem_s32(a: u32, b: u32) -> u32 {
    if b == 0 { u32::MAX } else { (a as i32).wrapping_rem(b as i32) as u32 }
}

/// `div.u64`; see [`div_u32`].
#[inline(always)]
pub fn div_u64(a: u64, b: u64) -> u64 {
    a.checked_div(b).unwrap_or(u64::MAX)
}

/// `div.s64`; see [`div_s32`].
#[inline(always)]
pub fn div_s64(a: u64, b: u64) -> u64 {
    if b == 0 { u64::MAX } else { (a as i64).wrapping_div(b as i64) as u64 }
}

/// `rem.u64`; see [`rem_u32`].
#[inline(always)]
pub fn rem_u64(a: u64, b: u64) -> u64 {
    if b == 0 { u64::MAX } else { a % b }
}

/// `rem.s64`; see [`rem_s32`].
#[inline(always)]
pub fn rem_s64(a: u64, b: u64) -> u64 {
    if b == 0 { u64::MAX } else { (a as i64).wrapping_rem(b as i64) as u64 }
}

/// `add.sat.s32`.
#[inline(always)]
pub fn add_sat_s32(a: u32, b: u32) -> u32 {
    (a as i32).saturating_add(b as i32) as u32
}

/// `sub.sat.s32`.
#[inline(always)]
pub fn sub_sat_s32(a: u32, b: u32) -> u32 {
    (a as i32).saturating_sub(b as i32) as u32
}

/// `abs.s32`; the smallest number stays.
#[inline(always)]
pub fn abs_s32(a: u32) -> u32 {
    (a as i32).wrapping_abs() as u32
}

/// `abs.s16`, low 16 bits.
#[inline(always)]
pub fn abs_s16(a: u32) -> u32 {
    sx::<16>(a).wrapping_abs() as u32 & 0xffff
}

/// `abs.s64`.
#[inline(always)]
pub fn abs_s64(a: u64) -> u64 {
    (a as i64).wrapping_abs() as u64
}

/// `add{c}{.cc}` on 32 bits: sum and carry out.
#[inline(always)]
pub fn addc_u32(a: u32, b: u32, carry: bool) -> (u32, bool) {
    let s = a as u64 + b as u64 + carry as u64;
    (s as u32, s >> 32 != 0)
}

/// `sub{c}{.cc}` on 32 bits: difference and borrow out, both flags 1 for a borrow (`a - (b + CC.CF)`).
#[inline(always)]
pub fn subc_u32(a: u32, b: u32, borrow: bool) -> (u32, bool) {
    let d = (a as u64).wrapping_sub(b as u64).wrapping_sub(borrow as u64);
    (d as u32, d >> 63 != 0)
}

/// `add{c}{.cc}` on 64 bits.
#[inline(always)]
pub fn addc_u64(a: u64, b: u64, carry: bool) -> (u64, bool) {
    let s = a as u128 + b as u128 + carry as u128;
    (s as u64, s >> 64 != 0)
}

/// `sub{c}{.cc}` on 64 bits.
#[inline(always)]
pub fn subc_u64(a: u64, b: u64, borrow: bool) -> (u64, bool) {
    let d = (a as u128).wrapping_sub(b as u128).wrapping_sub(borrow as u128);
    (d as u64, d >> 127 != 0)
}

/// `dp4a` with signed (`SA`, `SB`) or unsigned bytes; wraps.
#[inline(always)]
pub fn dp4a<const SA: bool, const SB: bool>(a: u32, b: u32, c: u32) -> u32 {
    let byte = |v: u32, i: u32, s: bool| if s { sx::<8>(v >> (8 * i)) } else { (v >> (8 * i) & 0xff) as i32 };
    let mut acc = c as i32;
    for i in 0..4 {
        acc = acc.wrapping_add(byte(a, i, SA) * byte(b, i, SB));
    }
    acc as u32
}

/// `dp2a.lo`/`.hi` (`HI`): two halfwords of `a` with two bytes of `b`; wraps.
#[inline(always)]
pub fn dp2a<const SA: bool, const SB: bool, const HI: bool>(a: u32, b: u32, c: u32) -> u32 {
    let b = if HI { b >> 16 } else { b };
    let mut acc = c as i32;
    for i in 0..2 {
        let x = if SA { sx::<16>(a >> (16 * i)) } else { (a >> (16 * i) & 0xffff) as i32 };
        let y = if SB { sx::<8>(b >> (8 * i)) } else { (b >> (8 * i) & 0xff) as i32 };
        acc = acc.wrapping_add(x * y);
    }
    acc as u32
}

/// `min`/`max{.relu}.s32` (`MAX`, `RELU`).
#[inline(always)]
pub fn pick_s32<const MAX: bool, const RELU: bool>(a: u32, b: u32) -> u32 {
    let (a, b) = (a as i32, b as i32);
    let r = if MAX { a.max(b) } else { a.min(b) };
    (if RELU { r.max(0) } else { r }) as u32
}
