//! Accesses: what each form becomes.

use earlybird::vgpu::ir::{Atom, AtomTy, FALSE, NO_ROW, Op, Order, Scope};
use earlybird::vgpu::prof::Class;
use earlybird::vgpu::ptx::ast::Space;

use crate::{access, all, body, constant, good, lower, name};

#[test]
fn loads() {
    for (text, space, width, count, reg_bytes, signed) in [
        ("ld.global.f32 %f1, [%rd1+8];", Space::Global, 4, 1, 4, false),
        ("ld.u32 %r1, [%rd1];", Space::Generic, 4, 1, 4, false),
        ("ld.global.s8 %r1, [%rd1];", Space::Global, 1, 1, 4, true),
        ("ld.global.s8 %h1, [%rd1];", Space::Global, 1, 1, 2, true),
        ("ld.global.u8 %h1, [%rd1];", Space::Global, 1, 1, 4, false),
        ("ld.global.u8 %c1, [%rd1];", Space::Global, 1, 1, 4, false),
        ("ld.global.s32 %rd2, [%rd1];", Space::Global, 4, 1, 8, true),
        ("ld.shared.v4.f32 {%f1, %f2, _, %f4}, [%r1];", Space::Shared, 4, 4, 4, false),
        ("ld.shared::cta.v2.u64 {%rd2, %rd3}, [%rd1];", Space::Shared, 8, 2, 8, false),
        ("ld.shared.u32 %r1, [s+4];", Space::Shared, 4, 1, 4, false),
        ("ld.local.b64 %rd2, [l];", Space::Local, 8, 1, 8, false),
        ("ld.param.u32 %r1, [n];", Space::Param, 4, 1, 4, false),
        ("ld.param::entry.b16 %h1, [n+2];", Space::Param, 2, 1, 4, false),
        ("ld.global.b128 %q1, [%rd1];", Space::Global, 16, 1, 16, false),
        ("ld.const.b8 %r1, [%r2];", Space::Const, 1, 1, 4, false),
        ("ld.f32 %f1, [s];", Space::Shared, 4, 1, 4, false),
        ("ld.global.b8 %f1, [%rd1];", Space::Global, 1, 1, 4, false),
    ] {
        let a = access(&good(text), Op::Load);
        let found = (a.space, a.width, a.count, a.reg_bytes, a.signed);
        assert_eq!(found, (space, width, count, reg_bytes, signed), "{text}");
        assert_eq!(a.regs.len(), count as usize);
    }
    let k = good("ld.shared.v4.f32 {%f1, %f2, _, %f4}, [%r1];");
    assert_eq!(access(&k, Op::Load).regs[2], NO_ROW);
    assert!(!access(&k, Op::Load).wide);
    let k = good("ld.shared.u32 %r1, s[3];\nmov.u32 %r2, s[3];");
    assert_eq!(all(&k, Op::Load)[0].imm, 12, "elements of 4 bytes");
    let k = good("ld.param.u32 %r1, [n+0];");
    let load = all(&k, Op::Load)[0];
    assert_eq!((constant(&k, load.a), load.imm, load.class), (0, 8, Class::Const));
}

#[test]
fn orders_scopes_and_hints() {
    for (text, order, scope, nc) in [
        ("ld.weak.global.u32 %r1, [%rd1];", Order::Weak, Scope::Cta, false),
        ("ld.volatile.global.u32 %r1, [%rd1];", Order::Volatile, Scope::Cta, false),
        ("ld.relaxed.gpu.global.u32 %r1, [%rd1];", Order::Relaxed, Scope::Gpu, false),
        ("ld.acquire.sys.u32 %r1, [%rd1];", Order::Acquire, Scope::Sys, false),
        ("ld.mmio.relaxed.sys.global.u32 %r1, [%rd1];", Order::Relaxed, Scope::Sys, false),
        ("ld.global.nc.u32 %r1, [%rd1];", Order::Weak, Scope::Cta, true),
        ("ld.global.ca.nc.v2.u32 {%r1, %r2}, [%rd1];", Order::Weak, Scope::Cta, true),
        (
            "ld.global.nc.L1::no_allocate.L2::cache_hint.L2::128B.v2.u32 {%r1, %r2}, [%rd1], %rd2;",
            Order::Weak,
            Scope::Cta,
            true,
        ),
        ("ldu.global.u32 %r1, [%rd1];", Order::Weak, Scope::Cta, true),
    ] {
        let a = access(&good(text), Op::Load);
        assert_eq!((a.order, a.scope, a.nc), (order, scope, nc), "{text}");
    }
    let a = access(&good("st.release.cluster.global.u32 [%rd1], %r1;"), Op::Store);
    assert_eq!((a.order, a.scope), (Order::Release, Scope::Cluster));
}

#[test]
fn stores() {
    let k = good("st.global.v4.f32 [%rd1+-16], {%f1, 1.0, %f2, 0f00000000};");
    let a = access(&k, Op::Store);
    assert_eq!((a.count, a.width, all(&k, Op::Store)[0].imm), (4, 4, -16));
    assert_eq!(constant(&k, a.regs[1]) as u32, 1f32.to_bits());
    // A constant beside registers that are wider than what is stored.
    let k = good("st.global.v2.u8 [%rd1], {%rd2, 5};");
    let a = access(&k, Op::Store);
    assert_eq!((a.width, a.reg_bytes, constant(&k, a.regs[1])), (1, 8, 5));
    let a = access(&good("st.shared.u16 [s+2], %r1;"), Op::Store);
    assert_eq!((a.space, a.width, a.reg_bytes), (Space::Shared, 2, 4));
}

#[test]
fn atomics() {
    for (text, atom, ty, width, order, scope) in [
        ("atom.global.add.u32 %r1, [%rd1], %r2;", Atom::Add, AtomTy::U, 4, Order::Relaxed, Scope::Gpu),
        ("atom.add.s32 %r1, [%rd1], 1;", Atom::Add, AtomTy::S, 4, Order::Relaxed, Scope::Gpu),
        (
            "atom.acq_rel.sys.global.cas.b64 %rd2, [%rd1], %rd3, %rd4;",
            Atom::Cas,
            AtomTy::B,
            8,
            Order::AcqRel,
            Scope::Sys,
        ),
        ("atom.shared.cta.exch.b32 %r1, [s], %r2;", Atom::Exch, AtomTy::B, 4, Order::Relaxed, Scope::Cta),
        ("atom.global.cas.b16 %h1, [%rd1], %h2, %h3;", Atom::Cas, AtomTy::B, 2, Order::Relaxed, Scope::Gpu),
        ("atom.global.cas.b128 %q1, [%rd1], %q2, %q0;", Atom::Cas, AtomTy::B, 16, Order::Relaxed, Scope::Gpu),
        ("atom.global.inc.u32 %r1, [%rd1], %r2;", Atom::Inc, AtomTy::U, 4, Order::Relaxed, Scope::Gpu),
        ("atom.global.min.s64 %rd2, [%rd1], %rd3;", Atom::Min, AtomTy::S, 8, Order::Relaxed, Scope::Gpu),
        ("atom.global.add.noftz.f16x2 %r1, [%rd1], %r2;", Atom::Add, AtomTy::F16x2, 4, Order::Relaxed, Scope::Gpu),
        ("atom.global.add.noftz.bf16 %h1, [%rd1], %h2;", Atom::Add, AtomTy::Bf16, 2, Order::Relaxed, Scope::Gpu),
        ("atom.global.add.f64 %fd1, [%rd1], %fd2;", Atom::Add, AtomTy::F64, 8, Order::Relaxed, Scope::Gpu),
        ("red.release.gpu.global.add.f32 [%rd1], %f1;", Atom::Add, AtomTy::F32, 4, Order::Release, Scope::Gpu),
        ("red.shared.or.b32 [%r1], 3;", Atom::Or, AtomTy::B, 4, Order::Relaxed, Scope::Gpu),
    ] {
        let k = good(text);
        let a = access(&k, Op::Atom);
        assert_eq!((a.atom, a.width, a.order, a.scope), (Some((atom, ty)), width, order, scope), "{text}");
        assert_eq!(all(&k, Op::Atom)[0].d == NO_ROW, text.starts_with("red"), "{text}");
        assert_eq!(a.regs.len(), if atom == Atom::Cas { 2 } else { 1 });
    }
    let k = good("atom.global.gpu.add.v4.f32 {%f1, %f2, %f3, %f4}, [%rd1], {%f1, %f2, %f3, %f4};");
    let a = access(&k, Op::Atom);
    assert_eq!((a.count, a.regs.len(), a.results.len()), (4, 4, 4));
}

#[test]
fn whether_the_order_of_blocks_shows() {
    let ordered = |text: &str| good(text).ordered_atomics;
    assert!(!ordered("red.global.add.u32 [%rd1], 1;"));
    assert!(!ordered("atom.global.add.u32 %r1, [%rd1], 1;"), "the old value is not used");
    assert!(ordered("atom.global.add.u32 %r1, [%rd1], 1;\nst.global.u32 [%rd2], %r1;"));
    assert!(ordered("red.global.add.f32 [%rd1], %f1;"), "sums of floats depend on their order");
    assert!(ordered("atom.global.exch.b32 _, [%rd1], %r1;"));
    assert!(
        !ordered("atom.shared.add.u32 %r1, [s], 1;\nst.global.u32 [%rd2], %r1;"),
        "blocks do not share this memory"
    );
}

#[test]
fn asynchronous_copies() {
    let k = good("cp.async.ca.shared.global [%r1+4], [%rd1+8], 4;");
    let (ins, a) = (all(&k, Op::CpAsync)[0], access(&k, Op::CpAsync));
    assert_eq!((ins.imm, a.offset2, a.width, a.wide, ins.c, ins.q), (4, 8, 4, false, NO_ROW, FALSE));
    let k = good("cp.async.cg.shared::cta.global.L2::128B [%rd2], [%rd1], 16, %r3;");
    assert_eq!(name(&k, all(&k, Op::CpAsync)[0].c), "%r3");
    let k = good("cp.async.ca.shared.global.L2::cache_hint [s], [%rd1], 8, %p1, %rd3;");
    assert_ne!(all(&k, Op::CpAsync)[0].q, FALSE);
    let k = good(
        "cp.async.ca.shared.global [s], [%rd1], 8, 0;\ncp.async.commit_group;\ncp.async.wait_group 2;\ncp.async.wait_all;",
    );
    assert_eq!(constant(&k, all(&k, Op::CpAsync)[0].c) as u32, 0);
    let waits = all(&k, Op::CpWait);
    assert_eq!((waits[0].x, waits[0].d, waits[1].d, all(&k, Op::CpCommit).len()), (2, 0, 1, 1));
    for (text, needle) in [
        ("cp.async.cg.shared.global [s], [%rd1], 8;", "16 bytes"),
        ("cp.async.ca.shared.global [s], [%rd1], 12;", "4, 8 or 16"),
        ("cp.async.ca.shared.global [s], [s], 4;", ".shared"),
        ("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%rd1], %r2, [%r3];", "bulk"),
        ("cp.async.mbarrier.arrive.shared.b64 [%r1];", "mbarrier"),
    ] {
        let e = body(text).err().unwrap();
        assert!(e.to_string().contains(needle) && e.pos.line == 6, "{text}: {e}");
    }
}

#[test]
fn matrices() {
    let k = good("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%r1, %r2, %r3, %r4}, [%r5+16];");
    let (ins, a) = (all(&k, Op::Ldmatrix)[0], access(&k, Op::Ldmatrix));
    assert_eq!((ins.d, ins.imm, a.count, a.regs.len(), a.space), (1, 16, 4, 4, Space::Shared));
    let k = good(
        "ldmatrix.sync.aligned.x1.m8n8.shared::cta.b16 {%f1}, [%rd5];\nstmatrix.sync.aligned.m8n8.x2.shared.b16 [s], {%r1, %r2};",
    );
    assert_eq!((all(&k, Op::Ldmatrix)[0].d, access(&k, Op::Stmatrix).count), (0, 2));
    assert!(body("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%r1}, [%r2];").is_err());
    assert!(body("ldmatrix.sync.aligned.m16n16.x1.trans.shared.b8 {%r1, %r2}, [%r2];").err().unwrap().unsupported);
}

#[test]
fn addresses_between_spaces() {
    let k = good(
        "cvta.shared.u64 %rd1, s;\ncvta.to.global.u64 %rd2, %rd3;\ncvta.param.u64 %rd4, p;\nisspacep.shared::cta %p1, %rd1;",
    );
    let cvta = all(&k, Op::Cvta);
    let spaces: Vec<(u32, i64)> = cvta.iter().map(|c| (c.x, c.imm)).collect();
    assert_eq!(spaces, [(Space::Shared as u32, 0), (Space::Global as u32, 1), (Space::Param as u32, 0)]);
    assert_eq!(all(&k, Op::Isspacep)[0].x, Space::Shared as u32);
    for wrong in [
        "cvta.global.u64 %rd1, s;",
        "cvta.u64 %rd1, %rd2;",
        "ld.global.u32 %r1, [s];",
        "st.param.u32 [n], 1;",
        "st.const.u32 [%rd1], 1;",
    ] {
        assert!(body(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn shared_memory_in_small_units() {
    assert!(good("st.shared.u8 [s], %r1;").narrow_shared);
    assert!(!good("st.shared.u32 [s], %r1;").narrow_shared);
    assert!(!good("st.global.u8 [%rd1], %r1;").narrow_shared);
    assert!(
        !lower(".visible .entry k() { .reg .b64 a; mov.u64 a, 0; st.u8 [a], 1; ret; }", "k").unwrap().narrow_shared
    );
}

#[test]
fn pointers_among_the_parameters() {
    let pointers = |text: &str| -> Vec<bool> {
        let text = format!(
            ".visible .entry k(.param .u64 a, .param .u64 b, .param .u32 c) {{ .reg .b64 %rd<9>; .reg .b32 %r<9>;\nld.param.u64 %rd1, [a]; ld.param.u64 %rd2, [b]; ld.param.u32 %r1, [c];\n{text}\nret; }}"
        );
        lower(&text, "k").unwrap_or_else(|e| panic!("{e}")).params.iter().map(|p| p.pointer).collect()
    };
    assert_eq!(pointers("ld.global.u32 %r2, [%rd1];"), [true, false, false]);
    assert_eq!(
        pointers(
            "cvta.to.global.u64 %rd3, %rd2; mul.wide.s32 %rd4, %r1, 4; add.s64 %rd5, %rd3, %rd4; st.global.u32 [%rd5], 1;"
        ),
        [false, true, false]
    );
    assert_eq!(pointers("mad.wide.s32 %rd3, %r1, 4, %rd1; st.global.u32 [%rd3], 1;"), [true, false, false]);
    assert_eq!(
        pointers("mul.lo.s64 %rd3, %rd2, 4; add.s64 %rd4, %rd1, %rd3; st.global.u32 [%rd4], 1;"),
        [true, false, false],
        "b is a stride"
    );
    assert_eq!(pointers("add.s64 %rd4, %rd1, %rd2; st.global.u32 [%rd4], 1;"), [false; 3], "either may be the pointer");
    assert_eq!(
        pointers("L: add.s64 %rd1, %rd1, %rd2; st.global.u32 [%rd1], 1; bra L;"),
        [true, false, false],
        "a step is none"
    );
    assert_eq!(pointers("st.shared.u32 [%rd1], 1;"), [false; 3]);
}
