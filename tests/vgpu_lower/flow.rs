//! Branches, scopes, order of blocks.

use earlybird::vgpu::ir::{Kernel, Op};

use crate::{all, body, constant, good, lower, name};

/// Order numbers of the joins, by label.
fn rank(kernel: &Kernel, label: &str) -> u32 {
    let at = kernel.source.iter().position(|s| s.text == format!("{label}:"));
    kernel.rpo[at.unwrap_or_else(|| panic!("no {label}"))]
}

#[test]
fn only_labels_that_branches_go_to_are_joins() {
    let k = good("mark1: mov.u32 %r1, 0;\nbra end;\nmark2:\nend:");
    assert_eq!(all(&k, Op::Join).len(), 1);
    assert_eq!(k.code[all(&k, Op::Bra)[0].x as usize].op, Op::Join);
    assert_eq!(k.code.last().map(|i| i.op), Some(Op::Exit), "the end of the text ends the kernel");
}

#[test]
fn nested_loops_run_to_their_end_before_what_follows() {
    let k = good(
        "mov.u32 %r1, 0;\nouter: mov.u32 %r2, 0;\ninner: add.u32 %r2, %r2, 1;\nsetp.lt.u32 %p1, %r2, 4;\n@%p1 bra inner;\n\
         after: add.u32 %r1, %r1, 1;\nsetp.lt.u32 %p1, %r1, 4;\n@%p1 bra outer;\nbra done;\ncold: trap;\ndone: setp.eq.u32 %p2, %r1, 9;\n@%p2 bra cold;",
    );
    assert!(rank(&k, "outer") < rank(&k, "inner"));
    assert!(rank(&k, "inner") < rank(&k, "done"));
    assert!(rank(&k, "done") < rank(&k, "cold"), "text order does not count");
    // A loop that leaves in the middle of the text: its exit stands above its body.
    let k = good(
        "mov.u32 %r1, 0;\nbra body;\nleave: bra end;\nbody: add.u32 %r1, %r1, 1;\nsetp.gt.u32 %p1, %r1, 4;\n@%p1 bra leave;\nbra body;\nend:",
    );
    assert!(rank(&k, "body") < rank(&k, "leave"));
}

#[test]
fn labels_and_registers_are_local_to_their_scope() {
    let k = good(
        "mov.u32 %r1, 1;\n{ .reg .b32 %r1; .reg .b16 low; mov.u32 %r1, 2; bra L; L: mov.b16 low, 5; }\n\
         { .reg .b64 low; mov.b64 low, 6; bra L; L: }\nbra L;\nL: mov.u32 %r2, %r1;",
    );
    let joins: Vec<usize> = (0..k.code.len()).filter(|pc| k.code[*pc].op == Op::Join).collect();
    let targets: Vec<usize> = all(&k, Op::Bra).iter().map(|b| b.x as usize).collect();
    assert_eq!(targets, joins, "each branch goes to the label of its own scope");
    let rows: Vec<&String> = k.row_names.iter().filter(|n| *n == "%r1").collect();
    assert_eq!(rows.len(), 2, "the inner %r1 is another register");
    assert_eq!(k.row_names.iter().filter(|n| *n == "low").count(), 3, "one row, and two");
}

#[test]
fn indexed_branches() {
    let k = good(
        "ts: .branchtargets A, B, A;\nld.param.u32 %r1, [n];\nbrx.idx %r1, ts;\nA: bra C;\nB: mov.u32 %r2, 1;\nC:",
    );
    let brx = all(&k, Op::Brx)[0];
    assert_eq!((name(&k, brx.a), brx.b), ("%r1", 3));
    let to = &k.targets[brx.x as usize..][..3];
    assert_eq!(to[0], to[2]);
    assert!(to.iter().all(|pc| k.code[*pc as usize].op == Op::Join));
    assert!(body("brx.idx %r1, nothing;").is_err());
}

#[test]
fn guards() {
    let k = good("setp.eq.u32 %p1, %r1, 0;\n@!%p1 bra E;\n@%p1 mov.u32 %r2, 5;\nE:");
    let bra = all(&k, Op::Bra)[0];
    assert_eq!(bra.flip, u32::MAX);
    let moved = k.code[bra.x as usize - 1];
    assert_eq!((moved.guard, moved.flip), (bra.guard, 0));
    assert_eq!(constant(&k, moved.a) as u32, 5);
}

#[test]
fn a_guard_that_its_own_instruction_writes_is_kept() {
    // One instruction that becomes several: all of them go by the guard as it was.
    let k = good("setp.eq.u32 %p1, %r1, 0;\n@%p1 setp.lt.and.u32 %p1|%p2, %r1, %r2, %p3;");
    let guards: std::collections::HashSet<u16> = k
        .code
        .iter()
        .zip(&k.source)
        .filter(|(i, s)| s.text.starts_with("@%p1") && i.guard != 0)
        .map(|(i, _)| i.guard)
        .collect();
    assert_eq!(guards.len(), 1);
}

#[test]
fn registers_read_before_they_are_written() {
    let names = |text: &str| -> Vec<String> {
        let mut names: Vec<String> = good(text).undefined.into_iter().map(|u| u.1).collect();
        names.dedup();
        names
    };
    assert_eq!(names("add.u32 %r1, %r2, 1;"), ["%r2"]);
    assert_eq!(
        names("setp.eq.u32 %p1, 1, 0;\n@%p1 mov.u32 %r2, 1;\nadd.u32 %r1, %r2, 1;"),
        ["%r2"],
        "written under a guard only"
    );
    assert_eq!(
        names("mov.u32 %r2, 1;\nL: add.u32 %r2, %r2, 1;\nsetp.lt.u32 %p1, %r2, 9;\n@%p1 bra L;"),
        [""; 0],
        "round a loop"
    );
    assert_eq!(
        names(
            "setp.eq.u32 %p1, 1, 0;\n@%p1 bra B;\nmov.u64 %rd1, 1;\nbra C;\nB: mov.u32 %r1, 1;\nC: add.u64 %rd2, %rd1, 1;"
        ),
        ["%rd1"]
    );
    assert_eq!(names("bra C;\nadd.u32 %r1, %r2, 1;\nC:"), [""; 0], "not in code that nobody reaches");
}

#[test]
fn constants_are_shared() {
    let k = good("add.u32 %r1, 7, 7;\nadd.u64 %rd1, 7, -2;\nmul.f32 %f1, 0f3fc00000, 1.5;\nadd.u16 %h1, 7, 0x1ffff;");
    let count = |v: u64| k.constants.iter().filter(|c| u64::from(c.1[1]) << 32 | u64::from(c.1[0]) == v).count();
    assert_eq!(count(7 << 32 | 7), 1, "one row for all 32-bit sevens");
    assert_eq!(count(7), 2, "two rows for the 64-bit one");
    assert_eq!(count(-2i64 as u64), 2);
    assert_eq!(count(0x3fc0_0000_3fc0_0000), 1, "a decimal constant is the same as its bits");
    assert_eq!(count(0xffff_0000_ffff), 1, "cut to 16 bits");
}

#[test]
fn headers() {
    let k = lower(".visible .entry k()\n.maxntid 128, 2\n.reqntid 64\n.minnctapersm 2\n{ ret; }", "k").unwrap();
    assert_eq!((k.maxntid, k.reqntid), (Some([128, 2, 1]), Some([64, 1, 1])));
    let k = lower(".visible .entry k(.param .u8 a, .param .u64 b, .param .align 16 .b8 c[20], .param .u16 d, .param .u64 .ptr .global .align 8 e, .param .u64 .ptr .shared .align 4 f)\n{ ret; }", "k").unwrap();
    let at: Vec<(u32, u32, bool)> = k.params.iter().map(|p| (p.offset, p.bytes, p.pointer)).collect();
    assert_eq!(at, [(0, 1, false), (8, 8, false), (16, 20, false), (36, 2, false), (40, 8, true), (48, 8, false)]);
    assert_eq!((k.param_bytes, k.params[4].ptr_align), (56, 8));
}

#[test]
fn special_registers() {
    let k = good(
        "mov.u32 %r1, %tid.x;\nadd.u32 %r2, %ctaid.y, WARP_SZ;\nmov.u64 %rd1, %clock64;\nmov.u16 %h1, %ntid.x;\nmov.u32 %r3, %envreg7;\nmov.b32 %f1, %laneid;",
    );
    let found = all(&k, Op::Special);
    assert_eq!(found.len(), 6);
    assert_eq!(name(&k, found[0].d), "%r1", "straight into the register");
    assert_eq!(found[2].imm, 64);
    for wrong in ["mov.u64 %rd1, %tid.x;", "mov.u32 %r1, %clock64;", "mov.u32 %r1, %nothing;", "mov.u32 %tid.x, 1;"] {
        assert!(body(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn vector_registers() {
    let k = good("mov.u32 v.x, 1;\nmov.u32 v.w, 2;\nadd.u32 %r1, v.x, v.w;\nld.global.v4.u32 v, [%rd1];");
    let load = crate::access(&k, Op::Load);
    let names: Vec<&str> = load.regs.iter().map(|r| name(&k, *r)).collect();
    assert_eq!(names, ["v.x", "v.y", "v.z", "v.w"]);
    assert!(body("add.u32 %r1, v, 1;").is_err());
}
