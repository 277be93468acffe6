//! `mma` on floats in all modes: `Fast` and `Ref` against their definitions, the block model against i128 arithmetic, all of them within the bounds that any
//! sum of so many terms keeps, infinities and NaNs by IEEE rules, and the same bits on every instruction set.

use earlybird::vgpu::exec::mma::{Acc, Elem, Form};
use earlybird::vgpu::ir::MmaMode;

use super::fragments;
use super::machine::isas;
use super::numbers::{Draw, Num, Random, element, f64_of, sum};
use super::reference::{Operands, f16_of, random, run, special_bits, special_of, unit, unit_dot};

const MODES: [MmaMode; 4] = [MmaMode::Fast, MmaMode::Ref, MmaMode::Sm80, MmaMode::Sm90];
const DRAWS: [Draw; 5] = [Draw::Near, Draw::Finite, Draw::Any, Draw::Tiny, Draw::Huge];

fn forms() -> impl Iterator<Item = Form> {
    fragments::all().into_iter().filter(|f| !f.a.integer() && f.a != Elem::F64)
}

fn column(at: &Operands, n: usize) -> Vec<u64> {
    at.b.iter().map(|row| row[n]).collect()
}

/// A f32 or f64 as bits of D, rounded once to the nearest even.
fn round(acc: Acc, x: f64) -> u64 {
    if x.is_nan() {
        return special_bits(acc, Num::Nan);
    }
    if acc == Acc::F16 { f16_of(x) } else { u64::from((x as f32).to_bits()) }
}

/// 8-bit floats on sm_90, as ptxas translates them: f16 products of the low and of the high byte pairs of each register, added, then c.
fn by_halves(form: &Form, at: &Operands, r: usize, n: usize) -> u64 {
    let f16_bits = |e: Elem, x: u64| f16_of(f64_of(element(e, x)));
    // Element a_i of a lane is byte i % 4 of its register, so what pair it is in follows from the ISA's map.
    let mut parts = [(Vec::new(), Vec::new()), (Vec::new(), Vec::new())];
    for i in 0..form.m * form.k / 32 {
        for thread in 0..4 {
            let (row, k) = fragments::a(form, thread, i);
            if row == 0 {
                let part = &mut parts[i % 4 / 2];
                part.0.push(f16_bits(form.a, at.a[r][k]));
                part.1.push(f16_bits(form.b, at.b[k][n]));
            }
        }
    }
    let half_sum = |(a, b): &(Vec<u64>, Vec<u64>)| {
        let unit = unit(MmaMode::Sm90, Elem::F16);
        f32::from_bits(unit_dot(unit, (Elem::F16, a), (Elem::F16, b), (Acc::F32, 0), Acc::F32) as u32)
    };
    let total = f64_of(sum(form.c, at.c[r][n])) as f32 + (half_sum(&parts[0]) + half_sum(&parts[1]));
    round(form.d, f64::from(total))
}

fn expected(form: &Form, mode: MmaMode, at: &Operands, r: usize, n: usize) -> u64 {
    if let Some(bits) = special_of(form, at, r, n) {
        return bits;
    }
    let b = column(at, n);
    let pairs = || (0..form.k).map(|k| (f64_of(element(form.a, at.a[r][k])), f64_of(element(form.b, b[k]))));
    let c = f64_of(sum(form.c, at.c[r][n]));
    match mode {
        // Exact or not, f32::mul_add is the fused operation.
        MmaMode::Fast => round(form.d, pairs().fold(c as f32, |s, (x, y)| (x as f32).mul_add(y as f32, s)).into()),
        MmaMode::Ref => round(form.d, pairs().fold(c, |s, (x, y)| s + x * y)),
        MmaMode::Sm90 if form.a.bits() == 8 => by_halves(form, at, r, n),
        _ => unit_dot(unit(mode, form.a), (form.a, &at.a[r]), (form.b, &b), (form.c, at.c[r][n]), form.d),
    }
}

/// Zeros of both signs are the same here: which one an underflow gives is not known.
fn same(acc: Acc, x: u64, y: u64) -> bool {
    x == y || matches!((sum(acc, x), sum(acc, y)), (Num::Fin(0, _), Num::Fin(0, _)))
}

#[test]
fn every_form_in_every_mode() {
    let mut seed = Random(2);
    for form in forms() {
        for how in DRAWS {
            for round in 0..3 {
                let mut operands = random(&form, how, &mut seed);
                if round == 2 {
                    operands.iter_mut().flat_map(|o| &mut o.c).for_each(|row| row.fill(0));
                }
                for mode in MODES {
                    let results: Vec<_> =
                        isas().into_iter().map(|isa| run(&form, &operands, isa, mode, false)).collect();
                    assert!(results.iter().all(|x| *x == results[0]), "{} {mode:?}: by instruction set", form.name());
                    for (q, at) in operands.iter().enumerate() {
                        for r in 0..form.m {
                            for n in 0..8 {
                                let (got, want) = (results[0][q][r][n], expected(&form, mode, at, r, n));
                                let place = format!("{} {mode:?} {how:?} product {q} row {r} column {n}", form.name());
                                assert!(same(form.d, got, want), "{place}: {got:#x}, expected {want:#x}");
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn results_may_overwrite_c() {
    let mut seed = Random(3);
    for form in forms().filter(|f| f.c == f.d) {
        let operands = random(&form, Draw::Near, &mut seed);
        for (isa, mode) in isas().into_iter().flat_map(|isa| MODES.map(|mode| (isa, mode))) {
            let apart = run(&form, &operands, isa, mode, false);
            assert_eq!(run(&form, &operands, isa, mode, true), apart, "{}", form.name());
        }
    }
}

/// The design's bound for normal inputs: `ceil(K/n) * ((n + 1) * 2^-FR + 2^-FO) * S` with S the sum of all magnitudes.
#[test]
fn all_modes_keep_the_bound() {
    let mut seed = Random(4);
    for form in forms().filter(|f| f.d == Acc::F32) {
        for _ in 0..20 {
            let operands = random(&form, Draw::Near, &mut seed);
            for mode in MODES {
                let (n, fraction, out) = match mode {
                    MmaMode::Fast | MmaMode::Ref => (1, 24, 24),
                    MmaMode::Sm90 if form.a.bits() == 8 => (16, 25, 22),
                    _ => {
                        let (n, fraction, _, out) = unit(mode, form.a);
                        (n, fraction, out)
                    }
                };
                let blocks = form.k.div_ceil(n) as f64;
                let share = blocks * ((n as f64 + 1.0) * 2f64.powi(-fraction) + 2f64.powi(-out));
                let got = run(&form, &operands, isas()[0], mode, false);
                for (q, at) in operands.iter().enumerate() {
                    for (r, col) in (0..form.m).flat_map(|r| (0..8).map(move |n| (r, n))) {
                        let b = column(at, col);
                        let product = |k: usize| f64_of(element(form.a, at.a[r][k])) * f64_of(element(form.b, b[k]));
                        let c = f64_of(sum(form.c, at.c[r][col]));
                        let exact = (0..form.k).map(product).sum::<f64>() + c;
                        let size = (0..form.k).map(|k| product(k).abs()).sum::<f64>() + c.abs();
                        let error = (f64_of(sum(form.d, got[q][r][col])) - exact).abs();
                        assert!(error <= share * size, "{} {mode:?}: {error:e} of {size:e}", form.name());
                    }
                }
            }
        }
    }
}

#[test]
fn modes_differ_where_hardware_does() {
    // 1 + 2^-24 + 2^-24: a chain loses both small terms, an exact sum keeps them; 24 fraction bits keep them, and the cut to f32 too.
    let form = forms().find(|f| f.a == Elem::F16 && f.k == 16 && f.d == Acc::F32).unwrap();
    let (one, small) = (0x3c00, 0x0c00); // 2^-12
    let mut at = Operands { a: vec![vec![0; 16]; 16], b: vec![vec![0; 8]; 16], c: vec![vec![0x3f80_0000; 8]; 16] };
    at.a[0][..2].copy_from_slice(&[small, small]);
    at.b[..2].iter_mut().for_each(|row| row[0] = small);
    let first = |mode| run(&form, std::slice::from_ref(&at), isas()[0], mode, false)[0][0][0];
    assert_eq!(MODES.map(first), [0x3f80_0000, 0x3f80_0001, 0x3f80_0001, 0x3f80_0001]);
    // 2 products of nearly 4 above c: what is cut is counted from the factors' exponents, not from the product's own.
    let mut at = Operands { a: vec![vec![0; 16]; 16], b: vec![vec![0; 8]; 16], c: vec![vec![0; 8]; 16] };
    at.a[0][..9].copy_from_slice(&[one, 0, 0, 0, 0, 0, 0, 0, small]);
    at.b[..9].iter_mut().for_each(|row| row[0] = one);
    at.b[8][0] = small;
    let first = |mode| run(&form, std::slice::from_ref(&at), isas()[0], mode, false)[0][0][0];
    // One block of 16 holds 2^-24 beside 1 but cuts it for f32; so do two blocks of 8.
    assert_eq!(MODES.map(first), [0x3f80_0000; 4]);
}

#[test]
fn doubles_are_chains_of_fused_multiply_adds() {
    let mut seed = Random(5);
    for form in fragments::all().into_iter().filter(|f| f.a == Elem::F64) {
        for how in [Draw::Near, Draw::Any] {
            let operands = random(&form, how, &mut seed);
            let at = &operands[0];
            for isa in isas() {
                for mode in MODES {
                    let got = run(&form, &operands, isa, mode, false);
                    for (r, n) in (0..form.m).flat_map(|r| (0..8).map(move |n| (r, n))) {
                        let chain =
                            |s: f64, k: usize| f64::from_bits(at.a[r][k]).mul_add(f64::from_bits(at.b[k][n]), s);
                        let want = (0..form.k).fold(f64::from_bits(at.c[r][n]), chain);
                        let got = f64::from_bits(got[0][r][n]);
                        assert!(got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan(), "{}", form.name());
                    }
                }
            }
        }
    }
}
