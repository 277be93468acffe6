//! Block floating point with 8-bit mantissas: the number format of `int8` and `eb8`, bit by bit.
//!
//! A block of numbers shares one exponent `e`; each number is `m * 2^(e-6)` with an integer mantissa `m` in -127..=127. `e = floor(log2(max |v|))`, so
//! the largest number of a block has a mantissa of 64 or more. It is the grid of QPyTorch's `BlockFloatingPoint(wl=8)`, which the official code trains on
//! (early-bird.md 5.4): step `2^(e-6)`, symmetric clip at 127.
//!
//! **Rounding**, one formula: `t = rne(v * 2^(21-e))`, then `m = clamp((t + r) >> 15, -127, 127)` with `r` uniform in `0..2^15`. The shift is arithmetic, so it
//! rounds towards minus infinity and the sum is unbiased: `P(up)` is the fraction of `v * 2^(6-e)` in units of `2^-15`. `r = 2^14` gives round-half-up, QPyTorch's
//! "nearest". QPyTorch adds `6 * 2^e` to the float and the noise to its bits; both give the same mantissas for the same `r`, because that sum lies in
//! `[4 * 2^e, 8 * 2^e)`, where a float's last bit is `2^(e-21)`. Tensors that are only stored use [`round_nearest`] instead: half to even, one instruction.
//!
//! Not here: which tensors are blocked how and where their random bits come from ([`super::layout`]).

/// Mantissas lie in `-MAX..=MAX`.
pub const MAX: i32 = 127;
/// Smallest exponent; the one of a block of zeros, too.
pub const MIN_EXPONENT: i32 = -48;
/// Largest exponent.
pub const MAX_EXPONENT: i32 = 47;
/// Random bits per rounding.
pub const NOISE_BITS: u32 = 15;

/// Exponent of a block whose largest absolute value is `max` (not negative, not NaN): the float's exponent field, clamped. Subnormal and zero maxima give
/// [`MIN_EXPONENT`].
#[inline(always)]
pub fn exponent(max: f32) -> i32 {
    ((max.to_bits() >> 23) as i32 - 127).clamp(MIN_EXPONENT, MAX_EXPONENT)
}

/// `2^e` for `-126 <= e <= 127`, exactly.
#[inline(always)]
pub fn power(e: i32) -> f32 {
    f32::from_bits(((e + 127) as u32) << 23)
}

/// Nearest integer, halves to even, of a value whose absolute value is below `2^22`: an addition whose rounding does the work.
#[inline(always)]
fn rne(v: f32) -> i32 {
    const MAGIC: f32 = 12_582_912.0; // 1.5 * 2^23
    (v + MAGIC).to_bits() as i32 - MAGIC.to_bits() as i32
}

/// Mantissa of a value that was multiplied by `2^(21-e)`: stochastic with `r` in `0..2^15`, round-half-up with `r = 2^14`.
#[inline(always)]
pub fn round_scaled(scaled: f32, r: u32) -> i8 {
    const LIMIT: f32 = (MAX << NOISE_BITS) as f32;
    let t = rne(scaled.clamp(-LIMIT, LIMIT));
    ((t + r as i32) >> NOISE_BITS).clamp(-MAX, MAX) as i8
}

/// Largest absolute value of a 16-bit mantissa: `127 * 256 + 127`, so that both bytes of it are mantissas of 8 bits.
pub const WIDE_MAX: i32 = MAX * 256 + MAX;

/// 16-bit mantissa of a value that was multiplied by `2^(21-e)`, as (high, low) with `high * 256 + low`: for weight gradients that want more bits than the format has. One
/// unit is `2^(e-14)`; the noise is the upper 7 bits of `r`, so `r = 2^14` rounds half up, too.
#[inline(always)]
pub fn round_wide(scaled: f32, r: u32) -> (i8, i8) {
    const LIMIT: f32 = (WIDE_MAX << 7) as f32;
    let m = (rne(scaled.clamp(-LIMIT, LIMIT)) + (r >> 8) as i32) >> 7;
    ((m + 128 >> 8) as i8, m as i8)
}

/// Mantissa of `v` in a block of exponent `e`, stochastic with `r` in `0..2^15`.
#[inline(always)]
pub fn round_stochastic(v: f32, e: i32, r: u32) -> i8 {
    round_scaled(v * power(21 - e), r)
}

/// Mantissa of `v` in a block of exponent `e`, to nearest, halves to even.
#[inline(always)]
pub fn round_nearest(v: f32, e: i32) -> i8 {
    rne((v * power(6 - e)).clamp(-MAX as f32, MAX as f32)) as i8
}

/// The number that mantissa `m` stands for in a block of exponent `e`: exact.
#[inline(always)]
pub fn value(m: i8, e: i32) -> f32 {
    f32::from(m) * power(e - 6)
}
