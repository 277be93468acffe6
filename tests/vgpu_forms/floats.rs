//! Reference of `f32` and `f64` arithmetic: exact, then one rounding.

use crate::exact::{F32, F64, Format, decode, divide, fma, format, mode, multiply, root, round, sum};
use crate::{Case, Want};

/// `.sat`: to [0, 1], NaN and negative to +0.
pub fn saturate(f: Format, bits: u64) -> u64 {
    let one = if f.width == 16 && f.precision == 11 {
        0x3c00
    } else if f.width == 16 {
        0x3f80
    } else if f.width == 32 {
        0x3f80_0000
    } else {
        0x3ff0 << 48
    };
    if f.is_nan(bits) || bits & f.sign() != 0 { 0 } else { bits.min(one) }
}

pub fn case(op: &[&str]) -> Option<Case> {
    let f = match *op.last()? {
        "f32" => F32,
        "f64" => F64,
        _ => return None,
    };
    if op.contains(&"approx")
        || op.contains(&"full")
        || matches!(op[0], "cvt" | "set" | "setp" | "mov" | "selp" | "slct" | "testp")
    {
        return None;
    }
    let (m, ftz, sat) = (mode(op), op.contains(&"ftz"), op.contains(&"sat"));
    let w = f.width;
    let flush = move |b: u64| if ftz { f.flush(b) } else { b };
    let finish = move |b: u64| {
        let b = flush(b);
        if sat { saturate(f, b) } else { b }
    };
    // Any NaN will do for f64, where the ISA names none.
    let any_nan = move |b: u64| vec![if w == 64 && f.is_nan(b) { Want::Exact(f.nan()) } else { Want::Exact(b) }];
    let read = move |b: u64| decode(f, flush(b));
    Some(match op[0] {
        "add" => Case::many(&[w], &[w, w], move |v| any_nan(finish(sum(f, m, read(v[0]), read(v[1]))))),
        "sub" => Case::many(&[w], &[w, w], move |v| any_nan(finish(sum(f, m, read(v[0]), read(v[1] ^ f.sign()))))),
        "mul" => Case::many(&[w], &[w, w], move |v| any_nan(finish(round(f, m, multiply(read(v[0]), read(v[1])))))),
        "fma" | "mad" => Case::new(&[w], &[w, w, w], move |v| finish(fma(f, m, flush(v[0]), flush(v[1]), flush(v[2])))),
        "div" => Case::new(&[w], &[w, w], move |v| finish(round(f, m, divide(read(v[0]), read(v[1]))))),
        "rcp" => {
            let one = format(op.last()?).map(|f| round(f, m, crate::exact::Num::Some(false, 1, 0)))?;
            Case::new(&[w], &[w], move |v| finish(round(f, m, divide(decode(f, one), read(v[0])))))
        }
        "sqrt" => Case::new(&[w], &[w], move |v| finish(round(f, m, root(read(v[0]))))),
        "neg" => Case::new(&[w], &[w], move |v| flush(v[0]) ^ f.sign()),
        "abs" => Case::new(&[w], &[w], move |v| flush(v[0]) & !f.sign()),
        "copysign" => Case::new(&[w], &[w, w], move |v| v[0] & f.sign() | v[1] & !f.sign()),
        "min" | "max" => {
            let n = op.iter().filter(|p| **p == "abs").count();
            let three = n == 1 && !op.contains(&"xorsign");
            let _ = three;
            let (max, nan, xor) = (op[0] == "max", op.contains(&"NaN"), op.contains(&"xorsign"));
            Case::new(&[w], &[w, w], move |v| flush(extreme(f, max, nan, xor, flush(v[0]), flush(v[1]))))
        }
        _ => return None,
    })
}

/// `min`/`max` of two: the number wins unless `.NaN`; -0 is less than +0; `.xorsign.abs` compares magnitudes under the product of the signs.
pub fn extreme(f: Format, max: bool, nan: bool, xor: bool, a: u64, b: u64) -> u64 {
    let (x, y) = if xor { (a & !f.sign(), b & !f.sign()) } else { (a, b) };
    let order = |v: u64| if v & f.sign() != 0 { -1 - ((v & !f.sign()) as i128) } else { i128::from(v) };
    let r = match (f.is_nan(x), f.is_nan(y)) {
        (true, true) => return f.nan(),
        (true, false) | (false, true) if nan => return f.nan(),
        (true, false) => y,
        (false, true) => x,
        _ if (order(x) > order(y)) == max => x,
        _ => y,
    };
    if xor { r | (a ^ b) & f.sign() } else { r }
}
