//! Reference of `f16` and `bf16` arithmetic: exact, then one rounding to nearest even.

use crate::Case;
use crate::exact::{Format, Mode, decode, fma, format, multiply, round, sum};
use crate::floats::{extreme, saturate};

/// `.relu`: negative to +0, NaN to the canonical one.
pub fn relu(f: Format, bits: u64) -> u64 {
    if f.is_nan(bits) {
        f.nan()
    } else if bits & f.sign() != 0 {
        0
    } else {
        bits
    }
}

/// One element to each half, or to the whole.
pub fn per_half(two: bool, v: &[u64], f: impl Fn(&[u64]) -> u64) -> u64 {
    if !two {
        return f(v);
    }
    let part = |i: u32| f(&v.iter().map(|x| x >> (16 * i) & 0xffff).collect::<Vec<_>>()) << (16 * i);
    part(0) | part(1)
}

/// One element.
type Lane = Box<dyn Fn(&[u64]) -> u64>;

pub fn case(op: &[&str]) -> Option<Case> {
    let ty = *op.last()?;
    let f = match ty {
        "f16" | "bf16" | "f16x2" | "bf16x2" => format(ty)?,
        _ => return None,
    };
    if op.contains(&"approx") || matches!(op[0], "cvt" | "set" | "setp") {
        return None;
    }
    let two = ty.ends_with("x2");
    let w = if two { 32 } else { 16 };
    let has = |m: &str| op.contains(&m);
    let (ftz, sat, re, nan, xor) = (has("ftz"), has("sat"), has("relu"), has("NaN"), has("xorsign"));
    let flush = move |b: u64| if ftz { f.flush(b) } else { b };
    let finish = move |b: u64| {
        let b = flush(b);
        let b = if sat { saturate(f, b) } else { b };
        if re { relu(f, b) } else { b }
    };
    let read = move |b: u64| decode(f, flush(b));
    let n = Mode::Nearest;
    let max = op[0] == "max";
    let lane: (usize, Lane) = match op[0] {
        "add" => (2, Box::new(move |v| finish(sum(f, n, read(v[0]), read(v[1]))))),
        "sub" => (2, Box::new(move |v| finish(sum(f, n, read(v[0]), read(v[1] ^ f.sign()))))),
        "mul" => (2, Box::new(move |v| finish(round(f, n, multiply(read(v[0]), read(v[1])))))),
        "fma" => (3, Box::new(move |v| finish(fma(f, n, flush(v[0]), flush(v[1]), flush(v[2]))))),
        "neg" => (1, Box::new(move |v| flush(v[0]) ^ f.sign())),
        "abs" => (1, Box::new(move |v| flush(v[0]) & !f.sign())),
        "min" | "max" => (2, Box::new(move |v| flush(extreme(f, max, nan, xor, flush(v[0]), flush(v[1]))))),
        _ => return None,
    };
    let sources = vec![w; lane.0];
    Some(Case::new(&[w], &sources, move |v| per_half(two, v, &lane.1)))
}
