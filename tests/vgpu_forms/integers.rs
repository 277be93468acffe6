//! Reference of integer arithmetic, bits and logic, in `i128` and bit by bit.

use crate::{Case, Kind, Want, width};

/// The number that `bits` of an integer type stand for.
pub fn int(ty: &str, bits: u64) -> i128 {
    let w = width(ty);
    let v = i128::from(bits) & ((1 << w) - 1);
    if ty.starts_with('s') && v >> (w - 1) & 1 == 1 { v - (1 << w) } else { v }
}

/// The low bits.
pub fn cut(w: u32, v: i128) -> u64 {
    if w == 64 { v as u64 } else { v as u64 & ((1 << w) - 1) }
}

/// Clamped to the type, then its bits.
pub fn clamp(ty: &str, v: i128) -> u64 {
    let w = width(ty);
    let (lo, hi) = if ty.starts_with('s') { (-(1 << (w - 1)), (1 << (w - 1)) - 1) } else { (0, (1 << w) - 1) };
    cut(w, v.clamp(lo, hi))
}

pub fn case(op: &[&str]) -> Option<Case> {
    let ty = op.last()?.to_string();
    if ty.ends_with("x2") && ty.len() == 5 && ty.starts_with(['u', 's']) {
        return halfwords(op, &ty);
    }
    let integer = ty.len() > 1 && ty.starts_with(['u', 's', 'b']) && ty[1..].parse::<u32>().is_ok();
    match op[0] {
        "dp4a" | "dp2a" => return Some(dots(op)),
        "prmt" => return Some(prmt(op)),
        "and" | "or" | "xor" | "not" if ty == "pred" => return Some(predicates(op[0])),
        _ if !integer => return None,
        "popc" | "clz" | "bfind" | "fns" | "brev" | "bfe" | "bfi" | "bmsk" | "szext" | "shl" | "shr" | "shf" => {
            return Some(bits(op, &ty));
        }
        "lop3" => return Some(lop3(op)),
        _ => {}
    }
    if op.contains(&"cc") || matches!(op[0], "addc" | "subc" | "madc") {
        return Some(carries(op, &ty));
    }
    arithmetic(op, &ty)
}

fn arithmetic(op: &[&str], ty: &str) -> Option<Case> {
    let (hi, wide, sat, relu) = (op.contains(&"hi"), op.contains(&"wide"), op.contains(&"sat"), op.contains(&"relu"));
    let w = width(ty);
    let t = ty.to_string();
    let two = |f: fn(i128, i128) -> i128| {
        let t = t.clone();
        Case::new(&[w], &[w, w], move |v| {
            let r = f(int(&t, v[0]), int(&t, v[1]));
            if sat {
                clamp(&t, r)
            } else if relu {
                cut(w, r.max(0))
            } else {
                cut(w, r)
            }
        })
    };
    let one = |f: fn(i128) -> i128| {
        let t = t.clone();
        Case::new(&[w], &[w], move |v| cut(w, f(int(&t, v[0]))))
    };
    let product = move |t: &str, a, b| {
        // Products of 64-bit unsigned numbers need all 128 bits.
        let p = if t == "u64" { u128::from(a) * u128::from(b) } else { (int(t, a) * int(t, b)) as u128 };
        if hi && t == "u64" {
            (p >> 64) as i128
        } else if hi {
            p as i128 >> w
        } else {
            i128::from(p as u64)
        }
    };
    let t2 = t.clone();
    Some(match op[0] {
        "add" => two(|a, b| a + b),
        "sub" => two(|a, b| a - b),
        "min" => two(i128::min),
        "max" => two(i128::max),
        "abs" => one(i128::abs),
        "neg" => one(|a| -a),
        "and" => two(|a, b| a & b),
        "or" => two(|a, b| a | b),
        "xor" => two(|a, b| a ^ b),
        "not" => one(|a| !a),
        "cnot" => one(|a| i128::from(a == 0)),
        "div" | "rem" => {
            let rem = op[0] == "rem";
            Case::many(&[w], &[w, w], move |v| {
                let (a, b) = (int(&t2, v[0]), int(&t2, v[1]));
                // The ISA leaves division by zero open; here it must not trap, and gives all ones.
                vec![Want::Exact(if b == 0 { cut(w, -1) } else { cut(w, if rem { a % b } else { a / b }) })]
            })
        }
        "mul" if wide => Case::new(&[2 * w], &[w, w], move |v| cut(2 * w, product(&t2, v[0], v[1]))),
        "mul" => Case::new(&[w], &[w, w], move |v| cut(w, product(&t2, v[0], v[1]))),
        "mad" if wide => {
            Case::new(&[2 * w], &[w, w, 2 * w], move |v| cut(2 * w, product(&t2, v[0], v[1]) + i128::from(v[2])))
        }
        "mad" if sat => Case::new(&[w], &[w, w, w], move |v| clamp(&t2, product(&t2, v[0], v[1]) + int(&t2, v[2]))),
        "mad" => Case::new(&[w], &[w, w, w], move |v| cut(w, product(&t2, v[0], v[1]) + i128::from(v[2]))),
        "mul24" | "mad24" => {
            let with_sum = op[0] == "mad24";
            let operands: &[u32] = if with_sum { &[32, 32, 32] } else { &[32, 32] };
            Case::new(&[32], operands, move |v| {
                let part = |x: u64| int(if t2 == "s32" { "s24" } else { "u24" }, x & 0xff_ffff);
                let p = part(v[0]) * part(v[1]);
                let p = if hi { p >> 16 } else { p };
                // The product's chosen 32 bits are a number of the type before anything is added.
                let p = int(&t2, cut(32, p));
                let c = if with_sum { int(&t2, v[2]) } else { 0 };
                if sat { clamp(&t2, p + c) } else { cut(32, p + c) }
            })
        }
        "sad" => {
            Case::new(&[w], &[w, w, w], move |v| cut(w, i128::from(v[2]) + (int(&t2, v[0]) - int(&t2, v[1])).abs()))
        }
        _ => return None,
    })
}

/// Two halfwords in a word.
fn halfwords(op: &[&str], ty: &str) -> Option<Case> {
    let relu = op.contains(&"relu");
    let half = if ty.starts_with('s') { "s16" } else { "u16" };
    let f: fn(i128, i128) -> i128 = match op[0] {
        "add" => |a, b| a + b,
        "min" => i128::min,
        "max" => i128::max,
        _ => return None,
    };
    Some(Case::new(&[32], &[32, 32], move |v| {
        let part = |i: u32| {
            let r = f(int(half, v[0] >> (16 * i)), int(half, v[1] >> (16 * i)));
            cut(16, if relu { r.max(0) } else { r }) << (16 * i)
        };
        part(0) | part(1)
    }))
}

fn carries(op: &[&str], ty: &str) -> Case {
    let w = width(ty);
    let reads = matches!(op[0], "addc" | "subc" | "madc");
    let (writes, hi, t) = (op.contains(&"cc"), op.contains(&"hi"), ty.to_string());
    let base = op[0].to_string();
    let sources: &[u32] = if base.starts_with("mad") { &[w, w, w] } else { &[w, w] };
    let one = 1i128 << w;
    let eval = move |v: &[u64]| {
        let before = *v.last().unwrap();
        let flag = if reads { i128::from(before) } else { 0 };
        let unsigned = |x: u64| i128::from(x);
        let total = match &base[..3] {
            "add" => unsigned(v[0]) + unsigned(v[1]) + flag,
            "sub" => unsigned(v[0]) - unsigned(v[1]) - flag,
            _ => {
                let low = (unsigned(v[0]) as u128).wrapping_mul(unsigned(v[1]) as u128) as i128;
                let high = if w == 64 && t == "u64" {
                    ((u128::from(v[0]) * u128::from(v[1])) >> 64) as i128
                } else {
                    (int(&t, v[0]) * int(&t, v[1])) >> w
                };
                i128::from(cut(w, if hi { high } else { low })) + unsigned(v[2]) + flag
            }
        };
        let out = u64::from(total < 0 || total >= one);
        vec![Want::Exact(cut(w, total)), Want::Exact(if writes { out } else { before })]
    };
    Case { carry: true, ..Case::many(&[w], sources, eval) }
}

fn dots(op: &[&str]) -> Case {
    let hi = op.contains(&"hi");
    let types: Vec<String> = op.iter().filter(|p| p.ends_with("32")).map(|p| p[..1].to_string()).collect();
    let four = op[0] == "dp4a";
    Case::new(&[32], &[32, 32, 32], move |v| {
        let (wa, n) = if four { (8, 4) } else { (16, 2) };
        let b = if !four && hi { v[1] >> 16 } else { v[1] };
        let terms = (0..n).map(|i| {
            int(&format!("{}{wa}", types[0]), v[0] >> (wa * i)) * int(&format!("{}8", types[1]), b >> (8 * i))
        });
        cut(32, i128::from(v[2]) + terms.sum::<i128>())
    })
}

fn predicates(op: &str) -> Case {
    match op {
        "not" => Case::new(&[1], &[1], |v| 1 - v[0]),
        "and" => Case::new(&[1], &[1, 1], |v| v[0] & v[1]),
        "or" => Case::new(&[1], &[1, 1], |v| v[0] | v[1]),
        _ => Case::new(&[1], &[1, 1], |v| v[0] ^ v[1]),
    }
}

fn bits(op: &[&str], ty: &str) -> Case {
    let w = width(ty);
    let (t, signed) = (ty.to_string(), ty.starts_with('s'));
    let wrap = op.contains(&"wrap");
    let bit = |v: u64, i: u32| v >> i & 1;
    match op[0] {
        "popc" => Case::new(&[32], &[w], move |v| (0..w).map(|i| bit(v[0], i)).sum()),
        "clz" => Case::new(&[32], &[w], move |v| (0..w).rev().take_while(|&i| bit(v[0], i) == 0).count() as u64),
        "brev" => Case::new(&[w], &[w], move |v| (0..w).fold(0, |r, i| r | bit(v[0], i) << (w - 1 - i))),
        "bfind" => {
            let amount = op.contains(&"shiftamt");
            Case::new(&[32], &[w], move |v| {
                let other = if signed { bit(v[0], w - 1) } else { 0 };
                match (0..w).rev().find(|&i| bit(v[0], i) != other) {
                    None => 0xffff_ffff,
                    Some(i) => u64::from(if amount { w - 1 - i } else { i }),
                }
            })
        }
        "fns" => Case::new(&[32], &[32, 32, 32], |v| {
            let (mask, base, offset) = (v[0], v[1], int("s32", v[2]));
            let set = |i: i128| (0..32).contains(&i) && mask >> i & 1 == 1;
            let base = i128::from(base);
            if base > 31 {
                return 0xffff_ffff;
            }
            let walk: Vec<i128> = if offset >= 0 { (base..32).collect() } else { (0..=base).rev().collect() };
            let found: Vec<i128> = walk.into_iter().filter(|&i| set(i)).collect();
            match offset {
                0 if set(base) => base as u64,
                0 => 0xffff_ffff,
                _ => found.get(offset.unsigned_abs() as usize - 1).map_or(0xffff_ffff, |&i| i as u64),
            }
        }),
        "bfe" => Case::new(&[w], &[w, 32, 32], move |v| {
            // The loop of the ISA.
            let (pos, len, msb) = ((v[1] & 0xff) as u32, (v[2] & 0xff) as u32, w - 1);
            let sign = if !signed || len == 0 { 0 } else { bit(v[0], (pos + len - 1).min(msb)) };
            (0..=msb).fold(0, |d, i| d | (if i < len && pos + i <= msb { bit(v[0], pos + i) } else { sign }) << i)
        }),
        "bfi" => Case::new(&[w], &[w, w, 32, 32], move |v| {
            let (pos, len) = ((v[2] & 0xff) as u32, (v[3] & 0xff) as u32);
            (0..len)
                .filter(|i| pos + i < w)
                .fold(v[1], |f, i| f & !(1 << (pos + i)) | (if i < w { bit(v[0], i) } else { 0 }) << (pos + i))
        }),
        "bmsk" => Case::new(&[32], &[32, 32], move |v| {
            let (pos, len) = if wrap { (v[0] & 31, v[1] & 31) } else { (v[0], v[1]) };
            (0..32)
                .filter(|&i| i >= pos && u128::from(i) < u128::from(pos) + u128::from(len))
                .fold(0, |r, i| r | 1 << i)
        }),
        "szext" => Case::new(&[32], &[32, 32], move |v| {
            let n = if wrap { v[1] & 31 } else { v[1] };
            match n {
                0 => 0,
                32.. => v[0],
                _ => cut(32, int(&format!("{}{n}", &t[..1]), v[0] & ((1 << n) - 1))),
            }
        }),
        "shl" => {
            Case::new(&[w], &[w, 32], move |v| if v[1] >= u64::from(w) { 0 } else { cut(w, i128::from(v[0]) << v[1]) })
        }
        "shr" => Case::new(&[w], &[w, 32], move |v| cut(w, int(&t, v[0]) >> v[1].min(u64::from(w)))),
        _ => {
            let left = op.contains(&"l");
            Case::new(&[32], &[32, 32, 32], move |v| {
                let n = if wrap { v[2] & 31 } else { v[2].min(32) };
                let both = u128::from(v[1]) << 32 | u128::from(v[0]);
                if left { (both << n >> 32) as u64 & 0xffff_ffff } else { (both >> n) as u64 & 0xffff_ffff }
            })
        }
    }
}

/// The text is for one table; `mistakes` goes through all 256.
fn lop3(op: &[&str]) -> Case {
    let table = 0xd8i64;
    let logic = op.iter().find(|p| matches!(**p, "and" | "or")).map(|s| s.to_string());
    let value = move |v: &[u64]| {
        (0..32).fold(0, |d, i| {
            let at = (v[0] >> i & 1) << 2 | (v[1] >> i & 1) << 1 | (v[2] >> i & 1);
            d | (table as u64 >> at & 1) << i
        })
    };
    let Some(logic) = logic else {
        return Case { imm: vec![table], ..Case::new(&[32], &[32, 32, 32], value) };
    };
    let eval = move |v: &[u64]| {
        let d = value(v);
        let p = u64::from(d != 0);
        vec![Want::Exact(d), Want::Exact(if logic == "and" { p & v[3] } else { p | v[3] })]
    };
    let case = Case::many(&[32, 1], &[32, 32, 32], eval);
    Case { imm: vec![table], src: [case.src.as_slice(), &[Kind::Pred]].concat(), ..case }
}

fn prmt(op: &[&str]) -> Case {
    let mode = op.get(2).map(|s| s.to_string());
    Case::new(&[32], &[32, 32, 32], move |v| {
        let byte = |n: u64| (v[1] << 32 | v[0]) >> (8 * (n & 7)) & 0xff;
        let n = v[2] & 3;
        let put = |picks: [u64; 4]| picks.iter().rev().fold(0, |d, &p| d << 8 | byte(p));
        match mode.as_deref() {
            None => (0..4).fold(0, |d, i| {
                let pick = v[2] >> (4 * i);
                let b = byte(pick);
                d | (if pick & 8 == 0 {
                    b
                } else if b >= 128 {
                    0xff
                } else {
                    0
                }) << (8 * i)
            }),
            Some("f4e") => put([n, n + 1, n + 2, n + 3]),
            Some("b4e") => put([n, n + 7, n + 6, n + 5]),
            Some("rc8") => put([n; 4]),
            Some("ecl") => put([0, 1, 2, 3].map(|i: u64| i.max(n))),
            Some("ecr") => put([0, 1, 2, 3].map(|i: u64| i.min(n))),
            _ => put([0, 1, 0, 1].map(|i| i + 2 * (n & 1))),
        }
    })
}
