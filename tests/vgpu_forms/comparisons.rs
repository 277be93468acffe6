//! Reference of comparisons and selections.

use std::cmp::Ordering;

use crate::exact::{F32, F64, Format, format};
use crate::integers::int;
use crate::{Case, Want, width};

const OPERATORS: [&str; 18] = [
    "eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan",
];

/// The order of two values of a type; `None` with a NaN.
fn order(ty: &str, a: u64, b: u64) -> Option<Ordering> {
    let Some(f) = format(ty) else { return Some(int(ty, a).cmp(&int(ty, b))) };
    if f.is_nan(a) || f.is_nan(b) {
        return None;
    }
    let number = |v: u64| {
        let magnitude = (v & !f.sign()) as i128;
        if v & f.sign() != 0 { -magnitude } else { magnitude }
    };
    Some(number(a).cmp(&number(b)))
}

fn holds(operator: &str, o: Option<Ordering>) -> bool {
    let Some(o) = o else { return matches!(operator, "equ" | "neu" | "ltu" | "leu" | "gtu" | "geu" | "nan") };
    match operator.trim_end_matches('u') {
        "eq" => o.is_eq(),
        "ne" => o.is_ne(),
        "lt" | "lo" => o.is_lt(),
        "le" | "ls" => o.is_le(),
        "gt" | "hi" => o.is_gt(),
        "ge" | "hs" => o.is_ge(),
        "n" | "num" => true,
        _ => false,
    }
}

pub fn case(op: &[&str]) -> Option<Case> {
    let ty = *op.last()?;
    match op[0] {
        "setp" | "set" => {}
        "selp" => {
            let w = width(ty);
            return Some(Case::new(&[w], &[w, w, 1], |v| if v[2] == 1 { v[0] } else { v[1] }));
        }
        "slct" => {
            let (w, ftz) = (width(op[op.len() - 2]), op.contains(&"ftz"));
            let float = ty == "f32";
            return Some(Case::new(&[w], &[w, w, 32], move |v| {
                let c = if ftz { F32.flush(v[2]) } else { v[2] };
                // NaN is not >= 0, -0 is.
                let positive = if float { !F32.is_nan(c) && (c >> 31 == 0 || c << 33 == 0) } else { c >> 31 == 0 };
                if positive { v[0] } else { v[1] }
            }));
        }
        "testp" => return Some(testp(op[1], if ty == "f64" { F64 } else { F32 })),
        _ => return None,
    }
    let set = op[0] == "set";
    let operator = op.iter().find(|p| OPERATORS.contains(p))?.to_string();
    let logic = op.iter().find(|p| matches!(**p, "and" | "or" | "xor")).map(|s| s.to_string());
    let (ftz, t) = (op.contains(&"ftz"), ty.to_string());
    let to = if set { op[op.len() - 2].to_string() } else { "pred".into() };
    let two = ty.ends_with("x2");
    let w = width(ty);
    let with_logic = logic.is_some();
    let eval = move |v: &[u64]| {
        let test = |a: u64, b: u64| {
            let flush = |x: u64| match format(&t) {
                Some(f) if ftz => f.flush(x),
                _ => x,
            };
            holds(&operator, order(&t, flush(a), flush(b)))
        };
        let with = |p: bool| match logic.as_deref() {
            Some("and") => p & (v[2] == 1),
            Some("or") => p | (v[2] == 1),
            Some(_) => p ^ (v[2] == 1),
            None => p,
        };
        let (p, q) = if two {
            (test(v[0] & 0xffff, v[1] & 0xffff), test(v[0] >> 16, v[1] >> 16))
        } else {
            let p = test(v[0], v[1]);
            (p, !p)
        };
        let (p, q) = (with(p), with(q));
        if !set {
            return vec![Want::Exact(u64::from(p)), Want::Exact(u64::from(q))];
        }
        let on = match to.as_str() {
            "f32" => 0x3f80_0000,
            "f16" | "f16x2" => 0x3c00,
            "bf16" | "bf16x2" => 0x3f80,
            "u16" | "s16" => 0xffff,
            _ if two => 0xffff,
            _ => 0xffff_ffff,
        };
        let high = if two && q { on << 16 } else { 0 };
        vec![Want::Exact(if p { on } else { 0 } | high)]
    };
    let mut sources = vec![w, w];
    if with_logic {
        sources.push(1);
    }
    let results: Vec<u32> = match (set, w, ty) {
        (true, ..) => vec![width(op[op.len() - 2])],
        (_, 16, "f16" | "bf16") => vec![1],
        _ => vec![1, 1],
    };
    Some(Case::many(&results, &sources, eval))
}

fn testp(class: &str, f: Format) -> Case {
    let class = class.to_string();
    Case::new(&[1], &[f.width], move |v| {
        let magnitude = v[0] & !f.sign();
        u64::from(match class.as_str() {
            "finite" => magnitude < f.inf(),
            "infinite" => magnitude == f.inf(),
            "number" => !f.is_nan(v[0]),
            "notanumber" => f.is_nan(v[0]),
            "normal" => magnitude < f.inf() && !f.is_subnormal(v[0]),
            _ => f.is_subnormal(v[0]),
        })
    })
}
