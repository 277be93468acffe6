//! Reference of the SIMD video instructions, after the loop in the ISA.

use crate::Case;
use crate::integers::{cut, int};

pub fn case(op: &[&str]) -> Option<Case> {
    let name = op[0].strip_prefix('v')?;
    let (base, w) = match (name.strip_suffix('4'), name.strip_suffix('2')) {
        (Some(base), _) => (base.to_string(), 8u32),
        (_, Some(base)) => (base.to_string(), 16),
        _ => return None,
    };
    let signs: Vec<char> =
        op.iter().filter(|p| matches!(**p, "u32" | "s32")).map(|p| p.chars().next().unwrap()).collect();
    let set = base == "set";
    let (d, a, b) = if set { ('u', signs[0], signs[1]) } else { (signs[0], signs[1], signs[2]) };
    let (sat, add) = (op.contains(&"sat"), op.contains(&"add"));
    let cmp = op.iter().find(|p| matches!(**p, "eq" | "ne" | "lt" | "le" | "gt" | "ge")).map(|s| s.to_string());
    Some(Case::new(&[32], &[32, 32, 32], move |v| {
        let parts = (0..32 / w).map(|i| {
            let (x, y) = (int(&format!("{a}{w}"), v[0] >> (w * i)), int(&format!("{b}{w}"), v[1] >> (w * i)));
            let t = match (base.as_str(), cmp.as_deref()) {
                ("add", _) => x + y,
                ("sub", _) => x - y,
                ("avrg", _) if x + y >= 0 => (x + y + 1) >> 1,
                ("avrg", _) => (x + y) >> 1,
                ("absdiff", _) => (x - y).abs(),
                ("min", _) => x.min(y),
                ("max", _) => x.max(y),
                (_, Some("eq")) => i128::from(x == y),
                (_, Some("ne")) => i128::from(x != y),
                (_, Some("lt")) => i128::from(x < y),
                (_, Some("le")) => i128::from(x <= y),
                (_, Some("gt")) => i128::from(x > y),
                _ => i128::from(x >= y),
            };
            if !sat {
                t
            } else if d == 's' {
                t.clamp(-(1 << (w - 1)), (1 << (w - 1)) - 1)
            } else {
                t.clamp(0, (1 << w) - 1)
            }
        });
        if add {
            cut(32, i128::from(v[2]) + parts.sum::<i128>())
        } else {
            parts.enumerate().fold(0, |r, (i, t)| r | cut(w, t) << (w as usize * i))
        }
    }))
}
