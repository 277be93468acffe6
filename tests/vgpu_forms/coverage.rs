//! The walk over the table: every spelling of every form is lowered, run and compared.

use earlybird::vgpu::ir::Isa;
use earlybird::vgpu::lower::forms::{Form, forms};

use crate::common;
use crate::machine::{Machine, instr};
use crate::values::{Rng, value};
use crate::{Case, Kind, Want, reference};

/// The instruction with registers `d0`, `s0` and so on.
pub fn text(spelling: &str, case: &Case) -> String {
    let mut operands = vec![match case.dst.len() {
        1 => "d0".to_string(),
        _ => "d0|d1".to_string(),
    }];
    let (preds, plain): (Vec<_>, Vec<_>) = (0..case.src.len()).partition(|&i| case.src[i] == Kind::Pred);
    // Constants stand between values and predicates (`lop3.and`).
    operands.extend(plain.iter().map(|i| format!("s{i}")));
    operands.extend(case.imm.iter().map(i64::to_string));
    operands.extend(preds.iter().map(|i| format!("s{i}")));
    if case.imm.is_empty() {
        operands.truncate(1);
        operands.extend((0..case.src.len()).map(|i| format!("s{i}")));
    }
    format!("{spelling} {}", operands.join(", "))
}

fn close(got: u64, want: Want) -> bool {
    match want {
        Want::Exact(bits) => got == bits,
        Want::Anything => true,
        Want::Near32(lo, hi) => {
            let v = f64::from(f32::from_bits(got as u32));
            lo <= v && v <= hi
        }
    }
}

fn bits(k: Kind) -> u32 {
    if let Kind::Bits(w) = k { w } else { 1 }
}

/// [`compare_on`] with corner and random operands.
fn check(spelling: &str, case: &Case, warps: usize) -> Result<(), String> {
    let mut rng = Rng(spelling.bytes().fold(7, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)));
    compare_on(spelling, case, warps, |kinds| kinds.iter().map(|k| value(&mut rng, bits(*k))).collect())
}

/// Runs a case on `warps` warps of `operands` (one lane a call) with both builds, whole and partly masked, and says where it first differs.
pub fn compare_on(
    spelling: &str,
    case: &Case,
    warps: usize,
    mut operands: impl FnMut(&[Kind]) -> Vec<u64>,
) -> Result<(), String> {
    let text = text(spelling, case);
    let parsed = instr(&text);
    let mut rng = Rng(spelling.len() as u64);
    let mut machines: Vec<_> = [Isa::Base, Isa::detect()]
        .into_iter()
        .map(|isa| {
            let mut m = Machine::new(isa);
            for (name, kinds) in [("d", &case.dst), ("s", &case.src)] {
                for (i, kind) in kinds.iter().enumerate() {
                    m.reg(&format!("{name}{i}"), *kind, &[0; 32]);
                }
            }
            let code = m.lower(&parsed).map_err(|e| format!("{text}: {e}"))?;
            Ok((isa, m, code))
        })
        .collect::<Result<_, String>>()?;
    for warp in 0..warps {
        let mask = if warp % 4 == 3 { rng.next() as u32 } else { u32::MAX };
        let lanes: Vec<Vec<u64>> = (0..32).map(|_| operands(&case.src)).collect();
        let sources: Vec<[u128; 32]> =
            (0..case.src.len()).map(|i| std::array::from_fn(|lane| u128::from(lanes[lane][i]))).collect();
        let (carry, old) = (rng.next() as u32, rng.next());
        let old: Vec<u128> = case.dst.iter().map(|k| u128::from(old) & ((1 << bits(*k)) - 1)).collect();
        for (isa, m, code) in &mut machines {
            for (i, values) in sources.iter().enumerate() {
                m.set(&format!("s{i}"), values);
            }
            for (i, old) in old.iter().enumerate() {
                m.set(&format!("d{i}"), &[*old; 32]);
            }
            m.set_carry(carry);
            m.run(code, mask);
            let results: Vec<[u128; 32]> = (0..case.dst.len()).map(|i| m.get(&format!("d{i}"))).collect();
            for lane in 0..32 {
                let mut operands: Vec<u64> = sources.iter().map(|s| s[lane] as u64).collect();
                if case.carry {
                    operands.push(u64::from(carry >> lane & 1));
                }
                let active = mask >> lane & 1 == 1;
                let wants = (case.eval)(&operands);
                for (i, result) in results.iter().enumerate() {
                    let want = if active { wants[i] } else { Want::Exact(old[i] as u64) };
                    if !close(result[lane] as u64, want) {
                        let shown: Vec<String> = operands.iter().map(|o| format!("{o:#x}")).collect();
                        return Err(format!(
                            "{text} ({isa:?}, active {active}) of {shown:?}: {:#x}, not {want:x?}",
                            result[lane]
                        ));
                    }
                }
                if case.carry {
                    let got = u64::from(m.carry() >> lane & 1);
                    let want = if active { wants[1] } else { Want::Exact(u64::from(carry >> lane & 1)) };
                    if !close(got, want) {
                        return Err(format!("{text} ({isa:?}) of {operands:x?}: carry {got}, not {want:?}"));
                    }
                }
            }
        }
    }
    Ok(())
}

/// The reference of a form that has a spelling of its own or shares it with another number of operands.
fn case_of(form: &Form, spelling: &str) -> Option<Case> {
    if form.args.len() == 4 && matches!(form.base, "min" | "max") {
        return Some(crate::mistakes::three_operands(spelling));
    }
    reference(spelling)
}

/// All spellings of forms whose opcode `of` accepts; at least `least` of them.
fn walk(of: impl Fn(&str) -> bool, warps: usize, least: usize) {
    let (mut failures, mut missing, mut count) = (Vec::new(), Vec::new(), 0);
    for form in forms().filter(|f| of(f.base)) {
        for spelling in form.spellings() {
            if spelling == "mov.b128" || spelling == "mov.pred" {
                continue; // in `moves` and `mistakes`
            }
            count += 1;
            match case_of(form, &spelling) {
                None => missing.push(spelling),
                Some(case) => failures.extend(check(&spelling, &case, warps).err()),
            }
        }
    }
    assert!(
        missing.is_empty(),
        "{} spellings without a reference: {:?}",
        missing.len(),
        &missing[..missing.len().min(20)]
    );
    assert!(
        failures.is_empty(),
        "{} of {count} spellings differ:\n{}",
        failures.len(),
        failures[..failures.len().min(40)].join("\n")
    );
    assert!(count >= least, "only {count} spellings");
}

#[test]
fn every_comparison() {
    walk(|b| matches!(b, "setp" | "set" | "selp" | "slct" | "testp"), 8, 3000);
}

#[test]
fn every_conversion() {
    walk(|b| b == "cvt", 24, 700);
}

#[test]
fn every_other_form() {
    walk(|b| !matches!(b, "setp" | "set" | "selp" | "slct" | "testp" | "cvt"), 32, 500);
}

/// A kernel of every spelling that `fits`, registers by kind.
fn module(target: u32, fits: impl Fn(&Form) -> bool) -> (String, Vec<String>) {
    let mut lines = Vec::new();
    for form in forms().filter(|f| f.ptx <= 84 && f.sm <= target && fits(f)) {
        for spelling in form.spellings() {
            let Some(case) = case_of(form, &spelling) else { continue };
            let mut line = text(&spelling, &case);
            for (letter, kinds) in [("d", &case.dst), ("s", &case.src)] {
                for (i, kind) in kinds.iter().enumerate() {
                    let register = match kind {
                        Kind::Pred => "%p",
                        Kind::Bits(16) => "%h",
                        Kind::Bits(32) => "%r",
                        Kind::Bits(_) => "%l",
                    };
                    let number = if letter == "d" { 5 + i } else { i };
                    let (head, operands) = line.split_once(' ').unwrap();
                    let renamed = operands.replace(&format!("{letter}{i}"), &format!("{register}{number}"));
                    line = format!("{head} {renamed}");
                }
            }
            lines.push(format!("{line};"));
        }
    }
    let text = format!(
        ".version 8.4\n.target sm_{target}\n.address_size 64\n.visible .entry k() {{\n.reg .b16 %h<9>;\n.reg .b32 %r<9>;\n.reg .b64 %l<9>;\n\
         .reg .pred %p<9>;\n{}\nret;\n}}\n",
        lines.join("\n")
    );
    (text, lines)
}

/// The parser reads every spelling, and lowering finds registers of the same widths right.
#[test]
fn every_spelling_as_text() {
    let (text, lines) = module(90, |_| true);
    let parsed = earlybird::vgpu::ptx::parse(&text).unwrap();
    let options = earlybird::vgpu::ir::Options::default();
    let kernel = earlybird::vgpu::lower::lower(&parsed, "k", &|_| None, &options).unwrap();
    assert!(kernel.code.len() > lines.len() && lines.len() > 4000, "{} of {}", kernel.code.len(), lines.len());
}

/// ptxas takes every spelling, for the first target that has it.
#[test]
fn ptxas_takes_every_spelling() {
    if !common::have_ptxas("ptxas_takes_every_spelling") {
        return;
    }
    let tool = earlybird::driver::ptxas::Tool::ptxas().unwrap();
    let folder = tempfile::tempdir().unwrap();
    for target in [80, 86, 89, 90] {
        // The comparisons are thousands; one target is enough for them.
        let (text, _) = module(target, |f| target == 90 || !matches!(f.base, "set" | "setp"));
        tool.assemble("forms", &text, &format!("sm_{target}"), &folder.path().join("forms.cubin")).unwrap();
    }
}
