//! Which forms exist: what lowering takes is what ptxas assembles, the rest is refused with a reason.

use std::collections::BTreeSet;

use earlybird::driver::ptxas::Tool;
use earlybird::vgpu::exec::mma::{Acc, Elem, Form};
use earlybird::vgpu::ir::MmaMode;
use earlybird::vgpu::lower::tensor;

use super::common::have_ptxas;
use super::machine::{Machine, instr, isas, mma_text, names, opcode};
use super::{fragments, machine};

fn machine_for(form: &Form, counts: [usize; 4]) -> Machine {
    let mut machine = Machine::new(isas()[0], MmaMode::Fast);
    for (list, wide) in
        names(counts).iter().zip([form.d == Acc::F64, form.a == Elem::F64, form.b == Elem::F64, form.c == Acc::F64])
    {
        list.iter().for_each(|name| _ = machine.declare(name, if wide { 8 } else { 4 }));
    }
    machine
}

fn takes(form: &Form) -> bool {
    let counts = form.registers();
    machine_for(form, counts).lower(&mma_text(form, counts)).is_ok()
}

/// Every combination of what can be written in a form.
fn combinations() -> Vec<Form> {
    let elems = [
        Elem::S8,
        Elem::U8,
        Elem::S4,
        Elem::U4,
        Elem::B1,
        Elem::F16,
        Elem::Bf16,
        Elem::Tf32,
        Elem::E4m3,
        Elem::E5m2,
        Elem::F64,
    ];
    let sums = [Acc::S32, Acc::F16, Acc::F32, Acc::F64];
    let mut forms = Vec::new();
    for m in [8, 16] {
        for k in [4, 8, 16, 32, 64, 128, 256] {
            for a in elems {
                for b in elems {
                    for c in sums {
                        for d in sums {
                            for flags in 0..8 {
                                let bit = |i: usize| flags >> i & 1 == 1;
                                let (sat, a_col, b_row) = (bit(0), bit(1), bit(2));
                                forms.push(Form { m, k, a, b, c, d, sat, and: false, a_col, b_row });
                            }
                        }
                    }
                }
            }
        }
    }
    forms
}

#[test]
fn exactly_the_forms_of_the_isa_are_taken() {
    let listed: BTreeSet<String> = fragments::all().iter().map(opcode).collect();
    assert_eq!(listed.len(), fragments::all().len());
    let mut taken: BTreeSet<String> = combinations().iter().filter(|f| takes(f)).map(opcode).collect();
    taken.extend(fragments::all().iter().filter(|f| f.and && takes(f)).map(opcode));
    assert_eq!(taken, listed);
}

/// A module whose kernel has one `mma` to a line, and the lines of them.
fn module(forms: &[Form]) -> (String, Vec<usize>) {
    let mut text = ".version 8.4\n.target sm_90\n.address_size 64\n.visible .entry k()\n{\n".to_string();
    let mut lines = Vec::new();
    for form in forms {
        let counts = form.registers();
        text += "{\n";
        for (list, ty) in
            names(counts).iter().zip([sum_type(form.d), element_type(form.a), element_type(form.b), sum_type(form.c)])
        {
            text += &format!(".reg .{ty} {};\n", list.join(", "));
        }
        lines.push(text.lines().count() + 1);
        text += &format!("{};\n}}\n", mma_text(form, counts));
    }
    (text + "ret;\n}\n", lines)
}

fn element_type(e: Elem) -> &'static str {
    if e == Elem::F64 { "f64" } else { "b32" }
}

fn sum_type(acc: Acc) -> &'static str {
    ["b32", "b32", "f32", "f64"][acc as usize]
}

/// Forms of PTX 8.7, newer than the pinned ptxas: 8-bit floats with f16 sums or K = 16.
fn newer(form: &Form) -> bool {
    matches!(form.a, Elem::E4m3 | Elem::E5m2) && (form.d == Acc::F16 || form.k == 16)
}

#[test]
fn ptxas_assembles_what_lowering_takes() {
    if !have_ptxas("mma forms") {
        return;
    }
    let forms: Vec<Form> = fragments::all().into_iter().filter(|f| !newer(f)).collect();
    let (text, _) = module(&forms);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("forms.ptx");
    std::fs::write(&path, text).unwrap();
    let out = run_ptxas(&path);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

fn run_ptxas(path: &std::path::Path) -> std::process::Output {
    let tool = Tool::ptxas().unwrap();
    std::process::Command::new(tool.path()).args(["-arch=sm_90", "-o", "/dev/null"]).arg(path).output().unwrap()
}

#[test]
fn ptxas_refuses_what_lowering_refuses() {
    if !have_ptxas("mma forms") {
        return;
    }
    // A sample: ptxas is asked once for each, since it stops at the first wrong layout.
    let refused: Vec<Form> = combinations().into_iter().filter(|f| !takes(f) && !newer(f)).collect();
    let folder = tempfile::tempdir().unwrap();
    for form in refused.iter().step_by(refused.len() / 40) {
        let (text, _) = module(std::slice::from_ref(form));
        let path = folder.path().join("form.ptx");
        std::fs::write(&path, text).unwrap();
        assert!(!run_ptxas(&path).status.success(), "ptxas takes {}", opcode(form));
    }
}

#[test]
fn refusals_name_what_is_wrong() {
    let refusal = |text: &str| {
        let form = fragments::all().into_iter().find(|f| opcode(f).contains("m16n8k16.row.col.f32.f16")).unwrap();
        let error = machine_for(&form, form.registers()).lower(text).err().unwrap();
        (error.unsupported, error.what)
    };
    let registers = "{%d0, %d1, %d2, %d3}, {%a0, %a1, %a2, %a3}, {%b0, %b1}, {%c0, %c1, %c2, %c3}";
    let of = |op: &str| refusal(&format!("{op} {registers}"));
    for (op, unsupported, word) in [
        ("mma.sp.sync.aligned.m16n8k32.row.col.f32.f16.f16.f32", true, "sparse"),
        ("mma.sp::ordered_metadata.sync.aligned.m16n8k32.row.col.f32.f16.f16.f32", true, "sparse"),
        ("wmma.mma.sync.aligned.row.col.m16n16k16.f32.f32", true, "wmma"),
        ("wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16", true, "warp groups"),
        ("mma.sync.aligned.m16n8k32.row.col.kind::f8f6f4.f32.e4m3.e4m3.f32", true, "kind::f8f6f4"),
        ("mma.sync.aligned.m16n8k32.row.col.f32.e3m2.e3m2.f32", true, "e3m2"),
        ("mma.sync.aligned.m32n8k16.row.col.f32.f16.f16.f32", true, "m32n8k16"),
        ("mma.sync.aligned.m16n8k16.col.row.f32.f16.f16.f32", false, "A is .row"),
        ("mma.sync.aligned.m16n8k16.row.col.f32.f16.bf16.f32", false, "no form"),
        ("mma.sync.aligned.m16n8k16.row.col.satfinite.f32.f16.f16.f32", false, "satfinite"),
        ("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16", false, "four types"),
        ("mma.sync.m16n8k16.row.col.f32.f16.f16.f32", false, "mma.sync.aligned"),
        ("movmatrix.sync.aligned.m8n8.b16", true, "movmatrix"),
    ] {
        let (got, what) = of(op);
        assert!(got == unsupported && what.contains(word), "{op}: {what}");
    }
    let op = "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32";
    let short = "{%d0, %d1, %d2, %d3}, {%a0, %a1, %a2}, {%b0, %b1}, {%c0, %c1, %c2, %c3}";
    let (_, what) = refusal(&format!("{op} {short}"));
    assert!(what.contains("operand a has 3 registers; this form has 4"), "{what}");
    let (_, what) = refusal(&format!("{op} {{%d0, %d1, %d2, %d3}}, {{%a0, %a1, %a2, %a3}}, {{%b0, %b1}}"));
    assert!(what.contains("operands d, a, b, c, not 3"), "{what}");
}

#[test]
fn other_opcodes_are_left_to_others() {
    let mut machine = Machine::new(isas()[0], MmaMode::Fast);
    assert!(tensor::lower(&instr("add.s32 %r0, %r1, %r2"), &mut machine).unwrap().is_none());
}

#[test]
fn one_register_needs_no_braces_and_c_may_be_constants() {
    let form = fragments::all()
        .into_iter()
        .find(|f| f.m == 8 && f.k == 16 && f.a == Elem::S8 && f.b == Elem::S8 && !f.sat)
        .unwrap();
    let mut machine = machine_for(&form, form.registers());
    let op = machine::opcode(&form);
    let code = machine.lower(&format!("{op} {{%d0, %d1}}, %a0, %b0, {{0, 5}}")).unwrap();
    machine.set("%a0", &[0; 32]);
    machine.run(&code[0]);
    assert_eq!((machine.get("%d0"), machine.get("%d1")), ([0; 32], [5; 32]));
}
