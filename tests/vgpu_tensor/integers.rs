//! `mma` on integers and bits: exact, wrapping or clamped once, in every shape and mix of signs, on every instruction set.

use earlybird::vgpu::exec::mma::{Elem, Form};
use earlybird::vgpu::ir::MmaMode;

use super::fragments;
use super::machine::isas;
use super::numbers::{Draw, Random};
use super::reference::{Operands, random, run};

fn value(e: Elem, bits: u64) -> i128 {
    match e {
        Elem::S8 => i128::from(bits as u8 as i8),
        Elem::S4 => {
            if bits >= 8 {
                bits as i128 - 16
            } else {
                bits as i128
            }
        }
        _ => bits as i128,
    }
}

fn expected(form: &Form, at: &Operands, r: usize, n: usize) -> u64 {
    let c = i128::from(at.c[r][n] as u32 as i32);
    let sum: i128 = (0..form.k)
        .map(|k| {
            let (x, y) = (value(form.a, at.a[r][k]), value(form.b, at.b[k][n]));
            match (form.a, form.and) {
                (Elem::B1, true) => x & y,
                (Elem::B1, false) => x ^ y,
                _ => x * y,
            }
        })
        .sum();
    let total = c + sum;
    let total = if form.sat { total.clamp(i32::MIN.into(), i32::MAX.into()) } else { total };
    u64::from(total as u32)
}

fn check(form: &Form, operands: &[Operands]) {
    for isa in isas() {
        for alias in [false, true] {
            let got = run(form, operands, isa, MmaMode::Fast, alias);
            for r in 0..form.m {
                for n in 0..8 {
                    let want = expected(form, &operands[0], r, n);
                    assert_eq!(got[0][r][n], want, "{} {isa:?} row {r} column {n}", form.name());
                }
            }
        }
    }
}

#[test]
fn every_shape_and_mix_of_signs() {
    let mut seed = Random(1);
    let forms = fragments::all().into_iter().filter(|f| f.a.integer());
    for form in forms {
        for how in [Draw::Any, Draw::Huge, Draw::Huge, Draw::Any] {
            check(&form, &random(&form, how, &mut seed));
        }
    }
}

/// One number in one place at a time: a mistake in a map cannot hide behind another.
#[test]
fn single_elements_reach_single_results() {
    for form in fragments::all().into_iter().filter(|f| f.a.integer() && !f.sat && !f.and && f.a == f.b) {
        let zero =
            Operands { a: vec![vec![0; form.k]; form.m], b: vec![vec![0; 8]; form.k], c: vec![vec![7; 8]; form.m] };
        for k in 0..form.k {
            let (r, n) = ((k * 5 + 3) % form.m, (k * 3 + 1) % 8);
            let mut one = zero.clone();
            one.a[r][k] = 1;
            one.b[k][n] = 1;
            check(&form, &[one]);
        }
    }
}

#[test]
fn the_largest_sums_and_the_clamp() {
    let full = |e: Elem, low: bool| match (e, low) {
        (Elem::S8, true) => 0x80,
        (Elem::S8, false) => 0x7f,
        (Elem::S4, true) => 8,
        (Elem::S4, false) => 7,
        (e, _) => (1 << e.bits()) - 1,
    };
    for form in fragments::all().into_iter().filter(|f| f.a.integer() && f.a != Elem::B1) {
        for (low_a, low_b) in [(false, false), (false, true), (true, false), (true, true)] {
            for c in [0, i32::MAX as u32, i32::MIN as u32, 0xffff_ffff, 0x7fff_0000] {
                check(
                    &form,
                    &[Operands {
                        a: vec![vec![full(form.a, low_a); form.k]; form.m],
                        b: vec![vec![full(form.b, low_b); 8]; form.k],
                        c: vec![vec![u64::from(c); 8]; form.m],
                    }],
                );
            }
        }
    }
}
