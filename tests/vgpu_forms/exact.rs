//! Binary formats and exact arithmetic: a number is an integer of units of 2^-2240 in 4608 bits, which holds every product of two f64 and every sum of
//! such products. One rounding at the end, by its definition.

/// A binary format: bits of the significand, exponent of the smallest normal number, bits in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    pub precision: i32,
    pub least: i32,
    pub width: u32,
}

pub const F16: Format = Format { precision: 11, least: -14, width: 16 };
pub const BF16: Format = Format { precision: 8, least: -126, width: 16 };
pub const F32: Format = Format { precision: 24, least: -126, width: 32 };
pub const F64: Format = Format { precision: 53, least: -1022, width: 64 };
/// f32 with 10 bits of fraction: rounded to them, stored as f32.
pub const TF32: Format = Format { precision: 11, least: -126, width: 32 };
pub const E5M2: Format = Format { precision: 3, least: -14, width: 8 };
/// Infinity is not a number here: the caller looks at the largest one first.
pub const E4M3: Format = Format { precision: 4, least: -6, width: 8 };

/// Rounding modes, as the modifiers spell them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Nearest,
    Zero,
    Down,
    Up,
    /// Nearest, ties away from zero.
    Away,
}

/// The mode that a spelling names.
pub fn mode(op: &[&str]) -> Mode {
    for m in op {
        match *m {
            "rn" | "rni" => return Mode::Nearest,
            "rz" | "rzi" => return Mode::Zero,
            "rm" | "rmi" => return Mode::Down,
            "rp" | "rpi" => return Mode::Up,
            "rna" => return Mode::Away,
            _ => {}
        }
    }
    Mode::Nearest
}

/// The format of a type name.
pub fn format(ty: &str) -> Option<Format> {
    Some(match ty {
        "f16" | "f16x2" => F16,
        "bf16" | "bf16x2" => BF16,
        "f32" => F32,
        "f64" => F64,
        _ => return None,
    })
}

impl Format {
    /// Bits of infinity.
    pub fn inf(self) -> u64 {
        let fraction = if self == TF32 { 23 } else { self.precision - 1 };
        let exponent = self.width as i32 - 1 - fraction;
        ((1 << exponent) - 1) << fraction
    }

    pub fn sign(self) -> u64 {
        1 << (self.width - 1)
    }

    /// The NaN that instructions return: all ones for 16 and 32 bits; for f64 the ISA does not say.
    pub fn nan(self) -> u64 {
        if self.width == 64 { 0x7ff8 << 48 } else { self.sign() - 1 }
    }

    pub fn is_nan(self, bits: u64) -> bool {
        bits & (self.sign() - 1) > self.inf()
    }

    pub fn is_subnormal(self, bits: u64) -> bool {
        let magnitude = bits & (self.sign() - 1);
        magnitude != 0 && magnitude < 1 << (self.precision - 1)
    }

    /// `.ftz`.
    pub fn flush(self, bits: u64) -> u64 {
        if self.is_subnormal(bits) { bits & self.sign() } else { bits }
    }
}

/// What bits stand for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Num {
    Nan,
    Inf(bool),
    Zero(bool),
    /// Sign, significand, exponent of its lowest bit.
    Some(bool, u128, i32),
}

pub fn decode(f: Format, bits: u64) -> Num {
    let negative = bits & f.sign() != 0;
    let magnitude = bits & (f.sign() - 1);
    let fraction_bits = f.precision - 1;
    if magnitude > f.inf() {
        Num::Nan
    } else if magnitude == f.inf() {
        Num::Inf(negative)
    } else if magnitude == 0 {
        Num::Zero(negative)
    } else {
        let exponent = (magnitude >> fraction_bits) as i32;
        let fraction = magnitude & ((1 << fraction_bits) - 1);
        let hidden = if exponent == 0 { 0 } else { 1 << fraction_bits };
        Num::Some(negative, u128::from(fraction | hidden), exponent.max(1) - 1 + f.least - fraction_bits)
    }
}

const WORDS: usize = 72;
const UNIT: i32 = -2240;

/// An exact number.
#[derive(Clone, PartialEq, Eq)]
pub struct Fix([u64; WORDS]);

impl Fix {
    pub fn new(negative: bool, significand: u128, exponent: i32) -> Fix {
        let mut words = [0; WORDS];
        let shift = (exponent - UNIT) as usize;
        for (i, part) in [significand as u64, (significand >> 64) as u64].into_iter().enumerate() {
            let at = shift / 64 + i;
            words[at] |= part << (shift % 64);
            if !shift.is_multiple_of(64) {
                words[at + 1] |= part >> (64 - shift % 64);
            }
        }
        let fix = Fix(words);
        if negative { fix.negated() } else { fix }
    }

    fn negated(&self) -> Fix {
        let mut words = self.0.map(|w| !w);
        for word in &mut words {
            let (sum, carry) = word.overflowing_add(1);
            *word = sum;
            if !carry {
                break;
            }
        }
        Fix(words)
    }

    pub fn plus(&self, other: &Fix) -> Fix {
        let mut words = [0; WORDS];
        let mut carry = false;
        for (i, word) in words.iter_mut().enumerate() {
            let (s, c1) = self.0[i].overflowing_add(other.0[i]);
            let (s, c2) = s.overflowing_add(u64::from(carry));
            (*word, carry) = (s, c1 | c2);
        }
        Fix(words)
    }

    pub fn negative(&self) -> bool {
        self.0[WORDS - 1] >> 63 == 1
    }

    pub fn is_zero(&self) -> bool {
        self.0.iter().all(|w| *w == 0)
    }

    /// The 64 bits from `n` up.
    fn bits_from(&self, n: i32) -> u64 {
        let word = |w: i32| usize::try_from(w).ok().and_then(|w| self.0.get(w)).copied().unwrap_or(0);
        let (w, shift) = (n.div_euclid(64), n.rem_euclid(64));
        word(w) >> shift | word(w + 1).checked_shl(64 - shift as u32).unwrap_or(0)
    }

    /// Whether a bit below `n` is set.
    fn any_below(&self, n: i32) -> bool {
        (0..WORDS as i32).any(|w| match n - 64 * w {
            left if left <= 0 => false,
            left if left >= 64 => self.0[w as usize] != 0,
            left => self.0[w as usize] << (64 - left) != 0,
        })
    }

    /// Rounds the magnitude to a multiple of 2^`quantum`: how many of them.
    fn multiples(&self, quantum: i32, mode: Mode) -> (bool, u128) {
        let negative = self.negative();
        let m = if negative { self.negated() } else { self.clone() };
        let q = quantum - UNIT;
        let whole = u128::from(m.bits_from(q)) | u128::from(m.bits_from(q + 64) << 1 >> 1) << 64;
        let (half, rest) = (m.bits_from(q - 1) & 1 == 1, m.any_below(q - 1));
        let up = match mode {
            Mode::Nearest => half && (rest || whole & 1 == 1),
            Mode::Away => half,
            Mode::Zero => false,
            Mode::Down => negative && (half || rest),
            Mode::Up => !negative && (half || rest),
        };
        (negative, whole + u128::from(up))
    }

    /// Exponent of the highest bit of the magnitude.
    fn top(&self) -> i32 {
        let m = if self.negative() { self.negated() } else { self.clone() };
        let word = (0..WORDS).rev().find(|&w| m.0[w] != 0).unwrap_or(0);
        word as i32 * 64 + 63 - m.0[word].leading_zeros() as i32 + UNIT
    }

    /// The nearest integer in a mode.
    pub fn to_integer(&self, mode: Mode) -> i128 {
        let (negative, n) = if self.top() > 100 { (self.negative(), 1 << 100) } else { self.multiples(0, mode) };
        if negative { -(n as i128) } else { n as i128 }
    }

    /// Bits in a format; `zero` is the sign of an exact zero.
    pub fn round(&self, f: Format, mode: Mode, zero: bool) -> u64 {
        if self.is_zero() {
            return if zero { f.sign() } else { 0 };
        }
        let fraction = f.precision - 1;
        let exponent = self.top().max(f.least);
        let (negative, n) = self.multiples(exponent - fraction, mode);
        // `n` has at most one bit more than the significand, which the addition carries into the exponent.
        let mut bits = (((exponent - f.least) as u64) << fraction) + n as u64;
        if f == TF32 {
            bits <<= 13;
        }
        let sign = if negative { f.sign() } else { 0 };
        if bits >= f.inf() {
            let to_infinity = match mode {
                Mode::Nearest | Mode::Away => true,
                Mode::Zero => false,
                Mode::Down => negative,
                Mode::Up => !negative,
            };
            bits = if to_infinity { f.inf() } else { f.inf() - if f == TF32 { 1 << 13 } else { 1 } };
        }
        sign | bits
    }
}

/// The sign of an exact zero sum of two terms: theirs where they agree, else + (- downwards).
pub fn zero_sign(a: bool, b: bool, mode: Mode) -> bool {
    if a == b { a } else { mode == Mode::Down }
}

/// `a * b + c`, rounded once.
pub fn fma(f: Format, mode: Mode, a: u64, b: u64, c: u64) -> u64 {
    let product = multiply(decode(f, a), decode(f, b));
    sum(f, mode, product, decode(f, c))
}

/// An exact product.
pub fn multiply(a: Num, b: Num) -> Num {
    let negative = |n| match n {
        Num::Nan => false,
        Num::Inf(s) | Num::Zero(s) | Num::Some(s, ..) => s,
    };
    let sign = negative(a) != negative(b);
    match (a, b) {
        (Num::Nan, _) | (_, Num::Nan) | (Num::Inf(_), Num::Zero(_)) | (Num::Zero(_), Num::Inf(_)) => Num::Nan,
        (Num::Inf(_), _) | (_, Num::Inf(_)) => Num::Inf(sign),
        (Num::Zero(_), _) | (_, Num::Zero(_)) => Num::Zero(sign),
        (Num::Some(_, m, e), Num::Some(_, n, g)) => Num::Some(sign, m * n, e + g),
    }
}

/// A sum, rounded.
pub fn sum(f: Format, mode: Mode, a: Num, b: Num) -> u64 {
    let fix = |n| match n {
        Num::Some(s, m, e) => Fix::new(s, m, e),
        _ => Fix::new(false, 0, 0),
    };
    let sign = |n| match n {
        Num::Zero(s) | Num::Some(s, ..) => s,
        _ => false,
    };
    match (a, b) {
        (Num::Nan, _) | (_, Num::Nan) => f.nan(),
        (Num::Inf(s), Num::Inf(t)) if s != t => f.nan(),
        (Num::Inf(s), _) | (_, Num::Inf(s)) => f.inf() | if s { f.sign() } else { 0 },
        _ => fix(a).plus(&fix(b)).round(f, mode, zero_sign(sign(a), sign(b), mode)),
    }
}

/// A number rounded to another format.
pub fn round(f: Format, mode: Mode, n: Num) -> u64 {
    let sign = |s| if s { f.sign() } else { 0 };
    match n {
        Num::Nan => f.nan(),
        Num::Inf(s) => sign(s) | f.inf(),
        Num::Zero(s) => sign(s),
        Num::Some(s, m, e) => Fix::new(s, m, e).round(f, mode, s),
    }
}

/// `a / b`: enough bits of the quotient, and one below them that says whether there is more.
pub fn divide(a: Num, b: Num) -> Num {
    let negative = |n| match n {
        Num::Nan => false,
        Num::Inf(s) | Num::Zero(s) | Num::Some(s, ..) => s,
    };
    let sign = negative(a) != negative(b);
    match (a, b) {
        (Num::Nan, _) | (_, Num::Nan) | (Num::Inf(_), Num::Inf(_)) | (Num::Zero(_), Num::Zero(_)) => Num::Nan,
        (Num::Inf(_), _) | (_, Num::Zero(_)) => Num::Inf(sign),
        (Num::Zero(_), _) | (_, Num::Inf(_)) => Num::Zero(sign),
        (Num::Some(_, m, e), Num::Some(_, n, g)) => {
            let up = m.leading_zeros() as i32 - 2;
            let (q, r) = ((m << up) / n, (m << up) % n);
            Num::Some(sign, q << 1 | u128::from(r != 0), e - up - g - 1)
        }
    }
}

/// Square root, as [`divide`].
pub fn root(a: Num) -> Num {
    match a {
        Num::Nan | Num::Inf(true) | Num::Some(true, ..) => Num::Nan,
        Num::Inf(false) | Num::Zero(_) => a,
        Num::Some(_, m, e) => {
            let mut up = m.leading_zeros() as i32 - 3;
            up -= (e - up) & 1;
            let n = m << up;
            // Bit by bit: the largest r with r * r <= n.
            let mut r = 0u128;
            for i in (0..63).rev() {
                let t = r | 1 << i;
                if t * t <= n {
                    r = t;
                }
            }
            Num::Some(false, r << 1 | u128::from(r * r != n), (e - up) / 2 - 1)
        }
    }
}
