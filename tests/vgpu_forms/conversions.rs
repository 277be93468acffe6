//! Reference of `cvt`: the exact value, rounded once, then the modifiers.

use crate::exact::{E4M3, E5M2, F16, F32, Fix, Format, Mode, Num, TF32, decode, format, mode, round};
use crate::floats::saturate;
use crate::halves::relu;
use crate::integers::{clamp, cut, int};
use crate::{Case, width};

pub fn case(op: &[&str]) -> Option<Case> {
    if op[0] != "cvt" {
        return None;
    }
    if op[1] == "pack" {
        return Some(pack(op[3]));
    }
    let (dst, src) = (op[op.len() - 2].to_string(), op[op.len() - 1].to_string());
    let m = mode(op);
    let has = |x: &str| op.contains(&x);
    let (ftz, sat, re, satfinite) = (has("ftz"), has("sat"), has("relu"), has("satfinite"));
    let integral = op.iter().any(|p| matches!(*p, "rni" | "rzi" | "rmi" | "rpi"));
    if dst == "tf32" {
        return Some(Case::new(&[32], &[32], move |v| tf32(v[0], m, re, satfinite)));
    }
    if let Some(f) = fp8(&dst) {
        let one = move |x: u64, of: Format| narrow8(f, decode(of, x), re);
        return Some(if src == "f32" {
            Case::new(&[16], &[32, 32], move |v| one(v[0], F32) << 8 | one(v[1], F32))
        } else {
            Case::new(&[16], &[32], move |v| one(v[0] >> 16, F16) << 8 | one(v[0] & 0xffff, F16))
        });
    }
    if let Some(f) = fp8(&src) {
        return Some(Case::new(&[32], &[16], move |v| {
            let one = |b: u64| {
                let r = round(F16, Mode::Nearest, decode8(f, b & 0xff));
                if re { relu(F16, r) } else { r }
            };
            one(v[0] >> 8) << 16 | one(v[0])
        }));
    }
    if dst.ends_with("x2") {
        let f = format(&dst)?;
        return Some(Case::new(&[32], &[32, 32], move |v| {
            let one = |x: u64| {
                let r = finite(f, round(f, m, decode(F32, x)), satfinite);
                if re { relu(f, r) } else { r }
            };
            one(v[0]) << 16 | one(v[1])
        }));
    }
    // Bytes are in 16-bit registers here.
    let register = |ty: &str| width(ty).max(16);
    let (wd, ws) = (register(&dst), register(&src));
    Some(Case::new(&[wd], &[ws], move |v| {
        let bits = v[0] & (u64::MAX >> (64 - width(&src)));
        let from = format(&src);
        let bits = if ftz && src == "f32" { F32.flush(bits) } else { bits };
        let number = match from {
            Some(f) => decode(f, bits),
            None => match int(&src, bits) {
                0 => Num::Zero(false),
                n => Num::Some(n < 0, n.unsigned_abs(), 0),
            },
        };
        let Some(f) = format(&dst) else {
            let w = width(&dst);
            let extend = |b: u64| cut(wd, int(&dst, b));
            return match (from, number) {
                (None, _) if sat => extend(clamp(&dst, int(&src, bits))),
                (None, _) => extend(cut(w, int(&src, bits))),
                // NaN: 0, but the highest bit for 64-bit results and from f64.
                (_, Num::Nan) => extend(if w == 64 || src == "f64" { 1 << (w - 1) } else { 0 }),
                (_, Num::Inf(s)) => extend(clamp(&dst, if s { -(1 << 100) } else { 1 << 100 })),
                (_, Num::Zero(_)) => 0,
                (_, Num::Some(s, n, e)) => extend(clamp(&dst, Fix::new(s, n, e).to_integer(m))),
            };
        };
        let number = match number {
            Num::Some(s, n, e) if integral => match Fix::new(s, n, e).to_integer(m) {
                0 => Num::Zero(s),
                _ if e >= 0 => number,
                i => Num::Some(s, i.unsigned_abs(), 0),
            },
            other => other,
        };
        let r = finite(f, round(f, m, number), satfinite);
        let r = if ftz && dst == "f32" { F32.flush(r) } else { r };
        let r = if sat { saturate(f, r) } else { r };
        if re { relu(f, r) } else { r }
    }))
}

/// `.satfinite`: infinity to the largest number.
fn finite(f: Format, bits: u64, on: bool) -> u64 {
    if on && bits & !f.sign() == f.inf() { bits - 1 } else { bits }
}

/// `.rna` as ptxas makes it (its code for sm_80 and sm_90): half a unit of the 10-bit fraction is added and the rest cut, NaN only cut; `.satfinite`
/// takes a unit from whatever is then not below infinity.
fn tf32(a: u64, m: Mode, re: bool, satfinite: bool) -> u64 {
    let nan = m == Mode::Away && F32.is_nan(a);
    let r = if nan { a & 0xffff_e000 } else { round(TF32, m, decode(F32, a)) };
    let r = if satfinite && r & 0x7fff_ffff >= 0x7f80_0000 { r - 0x2000 } else { r };
    if !re {
        r
    } else if F32.is_nan(r) {
        0x7fff_ffff
    } else if r >> 31 == 1 {
        0
    } else {
        r
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Fp8 {
    E4m3,
    E5m2,
}

fn fp8(ty: &str) -> Option<Fp8> {
    match ty {
        "e4m3x2" => Some(Fp8::E4m3),
        "e5m2x2" => Some(Fp8::E5m2),
        _ => None,
    }
}

/// OCP 8-bit floats: e4m3 has no infinity and one NaN (all ones), e5m2 is like IEEE.
fn decode8(f: Fp8, b: u64) -> Num {
    match f {
        Fp8::E5m2 => decode(E5M2, b),
        Fp8::E4m3 if b & 0x7f == 0x7f => Num::Nan,
        Fp8::E4m3 => {
            let (s, e, m) = (b >> 7 == 1, (b >> 3 & 15) as i32, b & 7);
            match (e, m) {
                (0, 0) => Num::Zero(s),
                (0, m) => Num::Some(s, u128::from(m), -9),
                (e, m) => Num::Some(s, u128::from(8 + m), e - 10),
            }
        }
    }
}

/// To nearest, beyond the largest number to it.
fn narrow8(f: Fp8, n: Num, re: bool) -> u64 {
    let largest = if f == Fp8::E4m3 { 0x7e } else { 0x7b };
    let r = match n {
        Num::Nan => return 0x7f,
        Num::Zero(s) => u64::from(s) << 7,
        Num::Inf(s) => u64::from(s) << 7 | largest,
        Num::Some(s, m, e) => {
            // As a format whose exponents go on, so that only `largest` limits it.
            let wide = Format { width: 16, ..if f == Fp8::E4m3 { E4M3 } else { E5M2 } };
            let r = Fix::new(s, m, e).round(wide, Mode::Nearest, s);
            u64::from(s) << 7 | (r & 0x7fff).min(largest)
        }
    };
    if re && r >> 7 == 1 { 0 } else { r }
}

fn pack(to: &str) -> Case {
    let (to, w) = (to.to_string(), to[1..].parse::<u32>().unwrap());
    let both = move |v: &[u64]| {
        let part = |x: u64| {
            let v = int("s32", x);
            let (lo, hi) = if to.starts_with('s') { (-(1 << (w - 1)), (1 << (w - 1)) - 1) } else { (0, (1 << w) - 1) };
            cut(w, v.clamp(lo, hi))
        };
        part(v[0]) << w | part(v[1])
    };
    if w == 16 {
        Case::new(&[32], &[32, 32], both)
    } else {
        Case::new(&[32], &[32, 32, 32], move |v| both(v) | v[2] << (2 * w) & 0xffff_ffff)
    }
}
