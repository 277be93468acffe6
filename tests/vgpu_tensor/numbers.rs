//! Numbers as the references read and write them, by the formats' definitions, and inputs that reach their corners.

use earlybird::vgpu::exec::mma::{Acc, Elem};

/// A value: not a number, infinite, or `significand * 2^exponent`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Num {
    Nan,
    Inf(bool),
    Fin(i128, i32),
}

/// Exponent bits, fraction bits; whether the top exponent holds infinities and NaNs.
fn layout(e: Elem) -> (u32, u32, bool) {
    match e {
        Elem::F16 => (5, 10, true),
        Elem::Bf16 => (8, 7, true),
        Elem::Tf32 => (8, 10, true),
        Elem::E4m3 => (4, 3, false),
        Elem::E5m2 => (5, 2, true),
        other => panic!("{other:?} is no float of this kind"),
    }
}

fn read(bits: u64, exponent_bits: u32, fraction_bits: u32, ieee: bool) -> Num {
    let fraction = bits & ((1 << fraction_bits) - 1);
    let exponent = bits >> fraction_bits & ((1 << exponent_bits) - 1);
    let neg = bits >> (fraction_bits + exponent_bits) & 1 == 1;
    let (top, bias) = ((1u64 << exponent_bits) - 1, (1i32 << (exponent_bits - 1)) - 1);
    if ieee && exponent == top {
        return if fraction == 0 { Num::Inf(neg) } else { Num::Nan };
    }
    if !ieee && exponent == top && fraction == (1 << fraction_bits) - 1 {
        return Num::Nan; // e4m3 has this one NaN
    }
    let significand = if exponent == 0 { fraction } else { fraction | 1 << fraction_bits };
    let significand = if neg { -(significand as i128) } else { significand as i128 };
    Num::Fin(significand, exponent.max(1) as i32 - bias - fraction_bits as i32)
}

/// An element of A or B. Tensor cores read 19 bits of tf32.
pub fn element(e: Elem, bits: u64) -> Num {
    let (exponent, fraction, ieee) = layout(e);
    read(if e == Elem::Tf32 { bits >> 13 } else { bits }, exponent, fraction, ieee)
}

/// An element of C or D.
pub fn sum(acc: Acc, bits: u64) -> Num {
    if acc == Acc::F16 { read(bits, 5, 10, true) } else { read(bits, 8, 23, true) }
}

/// The exponent of an element as a tensor core sees it: that of its leading bit, or of the smallest normal number.
pub fn exponent(e: Elem, bits: u64) -> i32 {
    let Num::Fin(m, at) = element(e, bits) else { panic!("not finite") };
    let (exponent_bits, ..) = layout(e);
    let least = 2 - (1 << (exponent_bits - 1));
    (at + 127 - m.unsigned_abs().leading_zeros() as i32).max(least)
}

/// Near enough for bounds: any value as f64.
pub fn f64_of(n: Num) -> f64 {
    match n {
        Num::Nan => f64::NAN,
        Num::Inf(neg) => {
            if neg {
                f64::NEG_INFINITY
            } else {
                f64::INFINITY
            }
        }
        Num::Fin(m, e) => m as f64 * 2f64.powi(e),
    }
}

/// A generator that is good enough and the same everywhere (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// What kind of inputs to draw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Draw {
    /// Any bits: infinities and NaNs among them.
    Any,
    /// Finite, of any size.
    Finite,
    /// About 1, all exponents close together.
    Near,
    /// Zeros, subnormals and the smallest normal numbers.
    Tiny,
    /// The largest finite ones.
    Huge,
}

/// Bits of one element of A or B.
pub fn draw(e: Elem, how: Draw, random: &mut Random) -> u64 {
    let bits = e.bits();
    let all = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
    if e == Elem::F64 {
        let x = random.next();
        return match how {
            Draw::Any => x,
            _ => (x & (1 << 63 | (1 << 52) - 1)) | (1023 - 3 + random.below(7)) << 52,
        };
    }
    if e.integer() {
        let extreme = [0, 1, all, all >> 1, (all >> 1) + 1][random.below(5) as usize];
        return if matches!(how, Draw::Huge | Draw::Tiny) { extreme } else { random.next() & all };
    }
    let (exponent_bits, fraction_bits, _) = layout(e);
    let unread = if e == Elem::Tf32 { 13 } else { 0 }; // drawn too: they must not matter
    let top = (1u64 << exponent_bits) - 1;
    let bias = top >> 1;
    loop {
        let fraction = random.next() & ((1 << fraction_bits) - 1);
        let exponent = match how {
            Draw::Any => random.below(top + 1),
            Draw::Finite => random.below(top + 1),
            Draw::Near => bias - 2 + random.below(5),
            Draw::Tiny => random.below(2),
            Draw::Huge => top - random.below(2),
        };
        let sign = random.below(2);
        let x = (sign << exponent_bits | exponent) << fraction_bits | fraction;
        let x = x << unread | random.next() & ((1 << unread) - 1);
        if how == Draw::Any || matches!(element(e, x), Num::Fin(..)) {
            return x;
        }
    }
}

/// Bits of one element of C.
pub fn draw_sum(acc: Acc, how: Draw, random: &mut Random) -> u64 {
    match acc {
        Acc::F64 => draw(Elem::F64, how, random),
        Acc::F16 => draw(Elem::F16, how, random),
        Acc::S32 => match how {
            Draw::Huge => [i32::MAX as u32, i32::MIN as u32, 0x7fff_0000, 0x8000_ffff][random.below(4) as usize].into(),
            _ => random.next() & 0xffff_ffff,
        },
        Acc::F32 => loop {
            let x = random.next() & 0xffff_ffff;
            let exponent = match how {
                Draw::Any | Draw::Finite => random.below(256),
                Draw::Near => 125 + random.below(5),
                Draw::Tiny => random.below(3),
                Draw::Huge => 255 - random.below(3),
            };
            let x = x & 0x807f_ffff | exponent << 23;
            if how == Draw::Any || matches!(sum(acc, x), Num::Fin(..)) {
                return x;
            }
        },
    }
}
