//! Block floating point with 8-bit mantissas, and with 16-bit ones for residual streams: the number formats of `int8` and `eb8`, bit by bit.
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
//! **16 bits**, [`round_16`]: the same blocks and the same exponent rule with mantissas in -32767..=32767 and numbers `m * 2^(e-14)`, to nearest, halves to even; the largest number of a
//! block has a mantissa of 16384 or more. Residual streams and their gradients are stored so: they are summed up over many layers, and 8 bits of them would drown what one layer adds.
//! Every number of a block of 8 bits is one of the 16-bit block of the same exponent, `256 m`, and a block stored in both widths from the same values has one exponent for both.
//! Not to be mixed up with [`round_wide`], whose 16 bits are two operands of 8 each.
//!
//! **Simulated** rounding, [`Grid`]: f32 in, numbers of the grid out, still f32. It is QPyTorch's own formula and therefore has f32's whole range of exponents, where the packed
//! format ends at [`MIN_EXPONENT`] and [`MAX_EXPONENT`]; between them, [`Grid::round`] is the [`value`] of [`round_stochastic`], bit for bit. `eb8` is made of it.
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
    (((m + 128) >> 8) as i8, m as i8)
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

/// 16-bit mantissas lie in `-MAX_16..=MAX_16`.
pub const MAX_16: i32 = 32_767;

/// 16-bit mantissa of `v` in a block of exponent `e`, to nearest, halves to even: `clamp(rne(v * 2^(14-e)), -32767, 32767)`.
#[inline(always)]
pub fn round_16(v: f32, e: i32) -> i16 {
    rne((v * power(14 - e)).clamp(-MAX_16 as f32, MAX_16 as f32)) as i16
}

/// The number that the 16-bit mantissa `m` stands for in a block of exponent `e`: exact, `m * 2^(e-14)`.
#[inline(always)]
pub fn value_16(m: i16, e: i32) -> f32 {
    f32::from(m) * power(e - 14)
}

/// The numbers that a block of f32 may become, as f32: QPyTorch's `BlockFloatingPoint(wl=8)`, formula by formula (early-bird.md 5.4).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    base: f32,
    limit: f32,
}

impl Grid {
    /// That of a block whose largest absolute value is `max`: step `2^(e-6)`, largest number `127 * 2^(e-6)`, `e` the exponent of `max`.
    ///
    /// Two ends are not QPyTorch's: a block below `2^-126` becomes zeros (there: rounding of the float's own bits), and one that reaches `2^125` or holds something that is no
    /// number becomes NaN (there: whatever an overflow leaves), so that a run which has lost its numbers says so.
    #[inline(always)]
    pub fn of(max: f32) -> Grid {
        let field = max.to_bits() & 0x7f80_0000;
        let s = f32::from_bits(field);
        // 6 makes zeros of everything below 2^-126.
        let base = if field == 0 { 6.0 } else { 6.0 * s };
        let base = if field > (251 << 23) { f32::NAN } else { base };
        Grid { base, limit: s * (MAX as f32 / 64.0) }
    }

    /// `v` rounded: stochastic with `r` in `0..2^15`, half-up with `r = 2^14`. `|v|` is at most the block's largest value. A zero is `+0`.
    #[inline(always)]
    pub fn round(self, v: f32, r: u32) -> f32 {
        let bits = (v + self.base).to_bits().wrapping_add(r) & !((1 << NOISE_BITS) - 1);
        let y = f32::from_bits(bits) - self.base;
        let y = if y > self.limit { self.limit } else { y };
        if y < -self.limit { -self.limit } else { y }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::layout::NoiseKey;
    use crate::quant::philox::Stream;

    const ONE: i64 = 1 << NOISE_BITS;
    const HALF: u32 = 1 << (NOISE_BITS - 1);

    /// The rounding of the module's comment on whole numbers: `t` is in units of `2^(e-21)`.
    fn rounded(t: i64, r: u32) -> i64 {
        (t + i64::from(r)).div_euclid(ONE).clamp(-i64::from(MAX), i64::from(MAX))
    }

    /// What [`Grid::round`] must give, in f64, where nothing below is rounded but by the formula.
    fn simulated(v: f32, e: i32, r: u32) -> f64 {
        let t = (f64::from(v) * 2f64.powi(21 - e)).round_ties_even() as i64;
        rounded(t, r) as f64 * 2f64.powi(e - 6)
    }

    #[test]
    fn exponents_of_all_binades_at_both_ends() {
        for field in 0..=254u32 {
            for fraction in [0, 1, 1 << 22, (1 << 23) - 1] {
                let max = f32::from_bits(field << 23 | fraction);
                let floor = (-48..=47).rev().find(|e| 2f64.powi(*e) <= f64::from(max)).unwrap_or(-48);
                assert_eq!(exponent(max), floor, "{max:e}");
            }
        }
        assert_eq!(exponent(f32::INFINITY), MAX_EXPONENT);
    }

    /// All exponents and mantissas, at fractions around 0, one half and 1, with noise at both ends and in the middle. Every value here is a float.
    #[test]
    fn every_mantissa_of_every_exponent_is_rounded_as_the_formula_says() {
        let edges = [0, 1, HALF - 1, HALF, HALF + 1, ONE as u32 - 1];
        for e in MIN_EXPONENT..=MAX_EXPONENT {
            for k in -i64::from(MAX) - 1..=i64::from(MAX) {
                for fraction in edges {
                    let t = k * ONE + i64::from(fraction);
                    let v = (t as f64 * 2f64.powi(e - 21)) as f32;
                    for r in edges {
                        let m = round_stochastic(v, e, r);
                        assert_eq!(i64::from(m), rounded(t, r), "{v:e} at {e} with {r}");
                    }
                    let even = (t as f64 / ONE as f64).round_ties_even().clamp(-127.0, 127.0);
                    assert_eq!(f64::from(round_nearest(v, e)), even, "{v:e} at {e}");
                }
            }
        }
    }

    #[test]
    fn a_number_of_the_grid_stays_whatever_the_noise() {
        for e in MIN_EXPONENT..=MAX_EXPONENT {
            for m in -127..=127i8 {
                let v = value(m, e);
                assert_eq!(f64::from(v), f64::from(m) * 2f64.powi(e - 6));
                for r in [0, 1, HALF, ONE as u32 - 1] {
                    assert_eq!(round_stochastic(v, e, r), m);
                    assert_eq!(Grid::of(power(e)).round(v, r).to_bits(), v.to_bits());
                }
                assert_eq!(round_nearest(v, e), m);
            }
        }
    }

    /// Every 16-bit mantissa: what it stands for stays, what lies between two goes to the nearer, halves to the even one, and nothing leaves the range.
    #[test]
    fn sixteen_bits_are_rounded_to_the_nearest_mantissa() {
        for e in [MIN_EXPONENT, -47, -3, 0, 12, MAX_EXPONENT] {
            for m in -MAX_16..=MAX_16 {
                let v = value_16(m as i16, e);
                assert_eq!(f64::from(v), f64::from(m) * 2f64.powi(e - 14));
                assert_eq!(i32::from(round_16(v, e)), m);
                for quarters in 1..4 {
                    let between = ((f64::from(m) + f64::from(quarters) / 4.0) * 2f64.powi(e - 14)) as f32;
                    let want = (f64::from(m) + f64::from(quarters) / 4.0).round_ties_even();
                    assert_eq!(f64::from(round_16(between, e)), want.min(f64::from(MAX_16)), "{between:e} at {e}");
                }
            }
        }
    }

    /// Blocks by their largest number: at both ends of each binade, subnormal, zero and beyond the range of exponents.
    #[test]
    fn blocks_of_16_bits_use_their_range_and_saturate_where_8_bits_do() {
        for field in 0..=255u32 {
            for fraction in [0, 1, 1 << 22, (1 << 23) - 1] {
                let max = f32::from_bits(if field == 255 { field << 23 } else { field << 23 | fraction });
                let e = exponent(max);
                let (up, down) = (i32::from(round_16(max, e)), i32::from(round_16(-max, e)));
                assert_eq!(up, -down, "{max:e}");
                let floor = field as i32 - 127;
                match floor {
                    ..MIN_EXPONENT => assert!(up <= 16_384, "{max:e}: {up}"),
                    MIN_EXPONENT..=MAX_EXPONENT => {
                        assert!((16_384..=MAX_16).contains(&up), "{max:e}: {up}");
                        let off = f64::from(value_16(up as i16, e)) - f64::from(max);
                        // Half a step, a whole one at the clip.
                        let step = if up == MAX_16 { 1.0 } else { 0.5 };
                        assert!(off.abs() <= step * 2f64.powi(e - 14), "{max:e} is off by {off:e}");
                    }
                    _ => assert_eq!(up, MAX_16, "{max:e}"),
                }
                assert_eq!(round_16(0.0, e), 0);
            }
        }
        for v in [0.0, -0.0, f32::from_bits(1), -f32::MIN_POSITIVE] {
            assert_eq!((exponent(v.abs()), round_16(v, exponent(v.abs()))), (MIN_EXPONENT, 0));
        }
    }

    #[test]
    fn numbers_of_8_bits_are_numbers_of_16_bits() {
        for e in MIN_EXPONENT..=MAX_EXPONENT {
            for m in -127..=127i8 {
                assert_eq!(round_16(value(m, e), e), i16::from(m) * 256);
                assert_eq!(value_16(i16::from(m) * 256, e).to_bits(), value(m, e).to_bits());
            }
        }
    }

    /// Over all its noise a fraction is rounded up exactly as often as it says: the sum is exact, so the mean has no bias at all.
    #[test]
    fn stochastic_rounding_is_unbiased_over_all_noise() {
        for (k, e) in [(0i64, 0), (-1, 7), (93, -20), (-127, 47), (126, -48)] {
            for fraction in (0..ONE).step_by(331).chain([1, ONE - 1]) {
                let v = ((k * ONE + fraction) as f64 * 2f64.powi(e - 21)) as f32;
                let grid = Grid::of(power(e));
                let sum: i64 = (0..ONE as u32).map(|r| i64::from(round_stochastic(v, e, r))).sum();
                assert_eq!(sum, k * ONE + fraction, "{k} + {fraction}/2^15 at {e}");
                let ups = (0..ONE as u32).filter(|r| grid.round(v, *r) > value(k as i8, e)).count();
                assert_eq!(ups as i64, fraction);
            }
        }
    }

    /// A million values with the noise that training uses. The error of one is below a step and has a variance of at most 1/4; of the mean of n, 1/(4n): it must lie within six
    /// standard deviations of 0, and so must its correlation with the value and with the neighbour's error.
    #[test]
    fn noise_of_philox_leaves_no_bias_in_a_million_roundings() {
        const N: usize = 1 << 20;
        let mut stream = Stream::new(8, 1);
        let key = NoiseKey { seed: [3, 5], step: 17, tensor: 165 };
        let (mut bias, mut slope, mut neighbours, mut last) = (0.0, 0.0, 0.0, 0.0);
        for group in 0..N / 8 {
            for r in key.group(group as u32) {
                let v = ((stream.unit() * 2.0 - 1.0) * 126.0) as f32;
                let error = f64::from(round_stochastic(v, 6, r)) - f64::from(v);
                assert!(error.abs() < 1.0, "{v} is off by {error}");
                bias += error;
                slope += error * f64::from(v) / 126.0;
                neighbours += error * last * 2.0; // of variance 1/4 again
                last = error;
            }
        }
        let allowed = 6.0 * (0.25 / N as f64).sqrt();
        for mean in [bias, slope, neighbours].map(|sum| sum / N as f64) {
            assert!(mean.abs() < allowed, "{mean:e}, allowed {allowed:e}");
        }
    }

    /// Every exponent field of f32, block maxima at both ends of the binade, values at the edges of cells.
    #[test]
    fn grids_span_the_range_of_f32() {
        let noise = [0, 1, HALF, ONE as u32 - 1];
        for field in 1..=251u32 {
            let e = field as i32 - 127;
            for fraction in [0, 1, 1 << 22, (1 << 23) - 1] {
                let max = f32::from_bits(field << 23 | fraction);
                let grid = Grid::of(max);
                let inside =
                    [1.0, 0.999_999_94, 0.75, 0.5, 1.0 / 128.0, 1.0 / 300.0, 2f32.powi(-15), 2f32.powi(-24), 0.0];
                for v in inside.into_iter().flat_map(|part| [max * part, -max * part]) {
                    for r in noise {
                        let got = grid.round(v, r);
                        assert_eq!(f64::from(got), simulated(v, e, r), "{v:e} of {max:e} with {r}");
                        assert!(got != 0.0 || got.is_sign_positive(), "{v:e} became -0");
                        if (MIN_EXPONENT..=MAX_EXPONENT).contains(&e) {
                            let packed = value(round_stochastic(v, e, r), e);
                            assert_eq!(got.to_bits(), packed.to_bits(), "{v:e} of {max:e}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn blocks_of_nothing_become_zeros_and_blocks_beyond_the_range_no_numbers() {
        let tiny = f32::from_bits(0x007f_ffff);
        for max in [0.0, f32::from_bits(1), tiny] {
            for v in [0.0, -0.0, max, -max] {
                for r in [0, HALF, ONE as u32 - 1] {
                    assert_eq!(Grid::of(max).round(v, r).to_bits(), 0, "{v:e} of {max:e}");
                    assert_eq!(round_stochastic(v, exponent(max), r), 0);
                }
            }
        }
        for max in [2f32.powi(125), f32::MAX, f32::INFINITY, f32::NAN] {
            assert!(Grid::of(max).round(1.0, 0).is_nan(), "{max}");
        }
        assert!(Grid::of(2f32.powi(125).next_down()).round(1.0, 0) == 0.0);
    }
}
