//! Reference of the approximate functions: the host's functions in f64, the bounds of the ISA around them, special values exactly.

use crate::exact::{BF16, F16, F32, Format, Mode, decode, format, round};
use crate::halves::per_half;
use crate::machine::{Machine, instr};
use crate::values::{Rng, value};
use crate::{Case, Kind, Want};
use earlybird::vgpu::ir::Isa;

/// Value of a 16- or 32-bit float.
fn real(f: Format, bits: u64) -> f64 {
    f64::from_bits(round(crate::exact::F64, Mode::Nearest, decode(f, bits)))
}

pub fn case(op: &[&str]) -> Option<Case> {
    if !(op.contains(&"approx") || op.contains(&"full")) {
        return None;
    }
    let ty = *op.last()?;
    let ftz = op.contains(&"ftz");
    let base = op[0].to_string();
    match ty {
        "f32" if base == "div" => {
            let full = op.contains(&"full");
            Some(Case::many(&[32], &[32, 32], move |v| vec![quotient(full, ftz, v[0], v[1])]))
        }
        "f32" => Some(Case::many(&[32], &[32], move |v| vec![unary(&base, ftz, v[0])])),
        "f64" => Some(Case::new(&[64], &[64], move |v| double(&base, ftz, v[0]))),
        _ => {
            let f = format(ty)?;
            let two = ty.ends_with("x2");
            let w = if two { 32 } else { 16 };
            Some(Case::new(&[w], &[w], move |v| per_half(two, v, |v| half(&base, f, ftz, v[0]))))
        }
    }
}

fn interval(v: f64, relative: f64, absolute: f64, ftz: bool) -> Want {
    if v.is_nan() {
        return Want::Exact(0x7fff_ffff);
    }
    if v.is_infinite() || (v == 0.0 && absolute == 0.0) {
        return Want::Exact(u64::from((v as f32).to_bits()));
    }
    // Half a unit for the final rounding, the smallest subnormal for tiny results, all subnormals under `.ftz`.
    let tiny = if ftz { f64::from(f32::MIN_POSITIVE) } else { 1.5e-45 };
    let slack = v.abs() * relative + absolute + tiny;
    let (lo, hi) = (v - slack, v + slack);
    let open = |x: f64| if x.abs() >= 3.402_823_4e38 { x.signum() * f64::INFINITY } else { x };
    Want::Near32(open(lo), open(hi))
}

fn unary(base: &str, ftz: bool, a: u64) -> Want {
    let a = if ftz { F32.flush(a) } else { a };
    let x = real(F32, a);
    let zero = x == 0.0;
    let (v, relative, absolute) = match base {
        "rcp" => (1.0 / x, 2f64.powi(-23), 0.0),
        "sqrt" => (x.sqrt(), 2f64.powi(-23), 0.0),
        "rsqrt" => (1.0 / x.sqrt(), 2f64.powf(-22.9), 0.0),
        "ex2" => (x.exp2(), 2f64.powi(-22), 0.0),
        "lg2" if zero => return Want::Exact(0xff80_0000),
        "lg2" if x > 0.5 && x < 2.0 => (x.log2(), 0.0, 2f64.powi(-22)),
        "lg2" => (x.log2(), 2f64.powi(-22), 0.0),
        "sin" if zero => return Want::Exact(a),
        "sin" | "cos" if x.abs() > 314.0 && x.is_finite() => return Want::Near32(-1.0, 1.0),
        "sin" => (x.sin(), 0.0, if x.abs() < std::f64::consts::TAU { 2f64.powf(-20.5) } else { 2f64.powf(-14.7) }),
        "cos" => (x.cos(), 0.0, if x.abs() < std::f64::consts::TAU { 2f64.powf(-20.5) } else { 2f64.powf(-14.7) }),
        _ if zero => return Want::Exact(a),
        _ => (x.tanh(), 2f64.powi(-11), 0.0),
    };
    interval(v, relative, absolute, ftz)
}

fn quotient(full: bool, ftz: bool, a: u64, b: u64) -> Want {
    let flush = |v: u64| if ftz { F32.flush(v) } else { v };
    let (a, b) = (flush(a), flush(b));
    let (x, y) = (real(F32, a), real(F32, b));
    // The ISA: beyond 2^126 the result of `.approx` is 0, or NaN for an infinite dividend.
    if !full && y.abs() > 2f64.powi(126) && y.is_finite() && !x.is_nan() {
        return if x.is_infinite() { Want::Exact(0x7fff_ffff) } else { Want::Exact((a ^ b) & 0x8000_0000) };
    }
    interval(x / y, 2f64.powi(-22), 0.0, ftz)
}

fn double(base: &str, ftz: bool, a: u64) -> u64 {
    let root = base == "rsqrt";
    let f = |x: f64| if root { 1.0 / x.sqrt() } else { 1.0 / x };
    let x = f64::from_bits(a);
    let canonical = |v: f64| if v.is_nan() { 0x7ff8 << 48 } else { v.to_bits() };
    if !ftz || x.is_nan() {
        return canonical(f(x));
    }
    // Only the upper word counts, subnormals are zeros.
    let subnormal = a & 0x7ff0_0000_0000_0000 == 0;
    let x = f64::from_bits(if subnormal { a & 1 << 63 } else { a & 0xffff_ffff_0000_0000 });
    let v = canonical(f(x));
    if v & 0x7ff0_0000_0000_0000 == 0x7ff0_0000_0000_0000 {
        return v;
    }
    let r = v.wrapping_add(0x8000_0000) & 0xffff_ffff_0000_0000;
    if r & 0x7ff0_0000_0000_0000 == 0 { r & 1 << 63 } else { r }
}

/// Correctly rounded where the jitter is off, so far as f64 tells.
fn half(base: &str, f: Format, ftz: bool, a: u64) -> u64 {
    let a = if ftz { f.flush(a) } else { a };
    let x = real(f, a);
    if x.is_nan() {
        return f.nan();
    }
    let v = if base == "ex2" { x.exp2() } else { x.tanh() };
    let r = round(f, Mode::Nearest, decode(crate::exact::F64, v.to_bits()));
    if ftz { f.flush(r) } else { r }
}

/// With jitter the results move, but stay in the ISA's bounds, and are the same on every run.
#[test]
fn jitter_stays_in_the_bounds() {
    let mut rng = Rng(11);
    for (name, bound) in [
        ("ex2.approx.f32", 2f64.powi(-22)),
        ("rcp.approx.f32", 2f64.powi(-23)),
        ("sqrt.approx.f32", 2f64.powi(-22)),
        ("rsqrt.approx.f32", 2f64.powf(-22.0)),
        ("tanh.approx.f32", 2f64.powf(-10.9)),
    ] {
        let mut moved = 0;
        let run = |seed: u64, values: &[u128; 32]| {
            let mut m = Machine::new(Isa::detect());
            m.options.jitter = seed;
            m.reg("a", Kind::Bits(32), values);
            m.reg("d", Kind::Bits(32), &[0; 32]);
            let code = m.lower(&instr(&format!("{name} d, a"))).unwrap();
            m.run(&code, u32::MAX);
            m.get("d")
        };
        for _ in 0..64 {
            let values = std::array::from_fn(|_| u128::from(value(&mut rng, 32) & 0x7fff_ffff));
            let (plain, one, again, other) = (run(0, &values), run(1, &values), run(1, &values), run(2, &values));
            assert_eq!(one, again, "{name}");
            for lane in 0..32 {
                let number = |bits: u128| f64::from(f32::from_bits(bits as u32));
                let (v, w) = (number(plain[lane]), number(one[lane]));
                moved += u32::from(one[lane] != plain[lane] || other[lane] != plain[lane]);
                if v.is_finite() && w.is_finite() {
                    assert!((v - w).abs() <= v.abs() * bound + 3e-45, "{name} of {:#x}: {v} and {w}", values[lane]);
                }
            }
        }
        assert!(moved > 100, "{name} never moved");
    }
}

/// `ex2` and `tanh` on all 16-bit floats, beside the walk over the table.
#[test]
fn sixteen_bit_functions_on_all_inputs() {
    for (name, f) in
        [("ex2.approx.f16", F16), ("tanh.approx.f16", F16), ("ex2.approx.ftz.bf16", BF16), ("tanh.approx.bf16", BF16)]
    {
        let op: Vec<&str> = name.split('.').collect();
        let mut m = Machine::new(Isa::detect());
        m.reg("a", Kind::Bits(16), &[0; 32]);
        m.reg("d", Kind::Bits(16), &[0; 32]);
        let code = m.lower(&instr(&format!("{name} d, a"))).unwrap();
        for first in (0..0x1_0000u128).step_by(32) {
            m.set("a", &std::array::from_fn(|l| first + l as u128));
            m.run(&code, u32::MAX);
            for (lane, got) in m.get("d").into_iter().enumerate() {
                let want = half(op[0], f, name.contains("ftz"), (first as usize + lane) as u64);
                assert_eq!(got as u64, want, "{name} of {:#x}", first as usize + lane);
            }
        }
    }
}
