//! The 8-bit floats `e4m3` (no infinity, one NaN pattern) and `e5m2` (IEEE-like), as `cvt` and `mma` use them.
//!
//! Source: OCP 8-bit Floating Point Specification 1.0; PTX ISA `cvt` for `.satfinite`.

use super::soft::{self, E5M2, Format, Val};

/// The shared NaN of both formats as `cvt` returns it.
pub const NAN: u32 = 0x7f;
const E4M3: Format = Format { prec: 4, emin: -6, width: 8 };

/// Widens `e4m3` to f32, exactly.
#[inline(always)]
pub fn e4m3_wide(b: u32) -> f32 {
    let (s, m) = ((b & 0x80) << 24, b & 0x7f);
    let normal = f32::from_bits((m << 20) + (120 << 23));
    // Subnormals: multiples of 2^-9.
    let r = if m < 8 { m as f32 * f32::from_bits(118 << 23) } else { normal };
    if m == 0x7f { f32::from_bits(0x7fff_ffff) } else { f32::from_bits(r.to_bits() | s) }
}

/// Widens `e5m2` to f32, exactly: it is the upper byte of an f16.
#[inline(always)]
pub fn e5m2_wide(b: u32) -> f32 {
    use super::half::Kind;
    super::half::F16::wide((b & 0xff) << 8)
}

/// `cvt.rn.satfinite.e4m3`: nearest even, overflow and infinity to ±448, NaN to 0x7f.
#[inline(always)]
pub fn e4m3_narrow(x: f32) -> u32 {
    let b = x.to_bits();
    let (s, a) = ((b >> 24) & 0x80, b & 0x7fff_ffff);
    let normal = (a.wrapping_add(0x7_ffff).wrapping_add((a >> 20) & 1) >> 20).wrapping_sub(120 << 3);
    // Below 2^-6 the quantum is 2^-9, the ulp of 2^14: the addition rounds.
    let sub = (f32::from_bits(a) + 16384.0).to_bits().wrapping_sub(16384f32.to_bits());
    let r = if a < 0x3c80_0000 { sub } else { normal };
    // The whole range from 464 up would round past 448; so does everything that rounds to the NaN pattern.
    let r = if a >= 0x43e0_0000 || r > 0x7e { 0x7e } else { r };
    if a > 0x7f80_0000 { NAN } else { s | r }
}

/// `cvt.rn.satfinite.e5m2`: nearest even, overflow and infinity to ±57344, NaN to 0x7f.
#[inline(always)]
pub fn e5m2_narrow(x: f32) -> u32 {
    let b = x.to_bits();
    let (s, a) = ((b >> 24) & 0x80, b & 0x7fff_ffff);
    let normal = (a.wrapping_add(0xf_ffff).wrapping_add((a >> 21) & 1) >> 21).wrapping_sub(112 << 2);
    // Below 2^-14 the quantum is 2^-16, the ulp of 2^7.
    let sub = (f32::from_bits(a) + 128.0).to_bits().wrapping_sub(128f32.to_bits());
    let r = if a < 0x3880_0000 { sub } else { normal };
    let r = if a >= 0x4760_0000 || r > 0x7b { 0x7b } else { r };
    if a > 0x7f80_0000 { NAN } else { s | r }
}

/// Any value to `e4m3` (`E4`) or `e5m2` by one rounding to nearest, saturating: the slow twin of the functions above.
pub fn narrow_exact<const E4: bool>(v: Val) -> u32 {
    let (f, max) = if E4 { (E4M3, 0x7e) } else { (E5M2, 0x7b) };
    let s = if soft::sign(v) { 0x80 } else { 0 };
    match v {
        Val::Nan => NAN,
        Val::Inf(_) => s | max,
        Val::Zero(_) => s,
        Val::Fin(x) => s | (soft::round_magnitude::<{ super::RN }>(x, f).0.min(max as u64) as u32),
    }
}
