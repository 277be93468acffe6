//! The end of a classifier in one operator: linear layer, softmax, cross-entropy and all their gradients, every sum in f64 and in a fixed order.
//!
//! Training in 8 bits uses it in place of `linear` and `softmax_xent`, so that a whole step gives the same bits on every device. Products of two f32 are exact in f64, so it makes no
//! difference whether a device fuses them with the sum; [`exp`] and [`ln`] are series of single operations.
//!
//! With `lanes(n, term)` the sum over lanes l = 0..32 of terms l, l + 32, .. in order, lanes then added pairwise at distances 16, 8, 4, 2, 1:
//!
//! * `logit[n,k] = f32(lanes(C, x[n,c]*w[k,c]) + bias[k])`;
//! * `power[k] = exp(logit[k] - max)` with the difference in f32, `sum = lanes(K, power)`, `dlogit[n,k] = f32((power[k]/sum - onehot) / N)`,
//!   `loss[n] = ln(sum) - (logit[label] - max)`;
//! * `dx[n,c] = f32(sum_k dlogit[n,k]*w[k,c])`, `dw[k,c] = f32(sum_n dlogit[n,k]*x[n,c])`, `dbias[k] = f32(sum_n dlogit[n,k])`, each in ascending order;
//! * the batch's loss is `lanes(N, loss)`.

use bytemuck::{Pod, Zeroable};

/// What kernels receive.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Classifier {
    /// Batch N.
    pub n: u32,
    /// Input features C.
    pub c: u32,
    /// Classes K.
    pub k: u32,
    /// 1: there is a bias.
    pub bias: u32,
}

/// The label's logit is the largest; of equal ones the first counts.
pub const TOP1: u32 = 1;
/// The label's logit is among the five largest.
pub const TOP5: u32 = 2;

const LOG2_E: f64 = std::f64::consts::LOG2_E;
/// The upper 32 bits of ln 2: products with an exponent are exact.
const LN2_HIGH: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
/// What is missing to ln 2.
const LN2_LOW: f64 = f64::from_bits(0x3dea_39ef_3579_3c76);
/// 1.5 * 2^52: adding it rounds to an integer in the low bits.
const MAGIC: f64 = 6_755_399_441_055_744.0;
/// `1/13!`, .., `1/0!`.
const EXP: [f64; 14] = {
    let (mut all, mut factorial, mut i) = ([1.0; 14], 1.0, 1);
    while i < 14 {
        factorial *= i as f64;
        all[13 - i] = 1.0 / factorial;
        i += 1;
    }
    all
};

/// `e^v` for `v <= 0`; 0 below -700; NaN stays NaN. `v = k ln 2 + r`, a polynomial in r, scaled by `2^k`; within 2^-50 of the truth.
pub fn exp(v: f64) -> f64 {
    if v < -700.0 {
        return 0.0;
    }
    let t = v * LOG2_E + MAGIC;
    let (k, exponent) = (t - MAGIC, t.to_bits() as i32);
    let r = (v - k * LN2_HIGH) - k * LN2_LOW;
    let p = EXP[1..].iter().fold(EXP[0], |p, term| p * r + term);
    p * f64::from_bits(((exponent + 1023) as u64) << 52)
}

/// `ln(s)` for `s >= 1`; infinity and NaN stay. `s = 2^e m`, `ln m = 2 artanh((m-1)/(m+1))`; within 2^-50 of the truth.
pub fn ln(s: f64) -> f64 {
    if !s.is_finite() {
        return s;
    }
    let (mut e, mut m) =
        (((s.to_bits() >> 52) as i32 - 1023) as f64, f64::from_bits(s.to_bits() & ((1 << 52) - 1) | 1023 << 52));
    if m > std::f64::consts::SQRT_2 {
        (m, e) = (m * 0.5, e + 1.0);
    }
    let f = (m - 1.0) / (m + 1.0);
    let square = f * f;
    let p = (0..10).rev().fold(1.0 / 21.0, |p, i| p * square + 1.0 / f64::from(2 * i + 1));
    e * LN2_HIGH + ((2.0 * f) * p + e * LN2_LOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_and_ln_are_within_a_few_units_of_the_last_place() {
        assert_eq!((exp(0.0), ln(1.0)), (1.0, 0.0));
        assert!(exp(f64::NAN).is_nan() && ln(f64::NAN).is_nan() && ln(f64::INFINITY) == f64::INFINITY);
        assert_eq!(exp(-701.0), 0.0);
        for i in 0..200_000 {
            let v = -f64::from(i) * 0.0034;
            let (ours, std) = (exp(v), v.exp());
            assert!((ours - std).abs() <= std * f64::EPSILON * 4.0, "exp({v}): {ours} {std}");
            let s = 1.0 + f64::from(i) * 0.37;
            let (ours, std) = (ln(s), s.ln());
            assert!((ours - std).abs() <= std * f64::EPSILON * 4.0 + 1e-300, "ln({s}): {ours} {std}");
        }
    }
}
