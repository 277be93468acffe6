//! The traps of real compilers' output, each with the exact tree it must give. Every snippet that ptxas 12.4 takes is assembled where ptxas is installed.

use earlybird::vgpu::ptx::ast::{Base, Func, Imm, Init, Instr, Linkage, Module, Opaque, Operand, Space, Stmt, Ty};
use earlybird::vgpu::ptx::parse;

use super::common;
use super::round_trip::check;

const HEAD: &str = ".version 8.4\n.target sm_80\n.address_size 64\n";

/// Registers that the bodies below use.
const REGISTERS: &str =
    ".reg .b32 %r<10>; .reg .b64 %rd<10>; .reg .b16 %h<5>; .reg .f32 %f<10>; .reg .pred %p<5>; .reg .v2 .b32 %v;\n";

/// A body in a kernel, read, printed and read again; assembled when `real`.
fn body(name: &str, text: &str, real: bool) -> Vec<Stmt> {
    let text = format!("{HEAD}.visible .entry k(.param .u64 p)\n{{\n{REGISTERS}{text}\nret;\n}}\n");
    let module = check(name, &text);
    if real {
        assemble(name, &text);
    }
    module.funcs[0].body.clone().unwrap().split_off(6)
}

fn assemble(name: &str, text: &str) {
    if let Ok(tool) = earlybird::driver::ptxas::Tool::ptxas() {
        let folder = tempfile::tempdir().unwrap();
        tool.assemble(name, text, "sm_80", &folder.path().join("x.cubin")).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

fn instr(name: &str, text: &str) -> Instr {
    one(body(name, text, true))
}

/// A form that ptxas 12.4 for sm_80 does not take (another architecture, another module), or that needs more around it.
fn instr_only_parsed(name: &str, text: &str) -> Instr {
    one(body(name, text, false))
}

fn one(body: Vec<Stmt>) -> Instr {
    match body.into_iter().find(|s| matches!(s, Stmt::Instr(_))) {
        Some(Stmt::Instr(instr)) => instr,
        other => panic!("{other:?}"),
    }
}

fn name(text: &str) -> Operand {
    Operand::Name(text.into())
}

fn int(v: i64) -> Operand {
    Operand::Imm(Imm::Int(v))
}

fn at(base: &str, offset: i64) -> Operand {
    Operand::Address { base: Base::Name(base.into()), offset }
}

#[test]
fn ptxas_is_there_or_said_to_be_missing() {
    common::have_ptxas("traps are assembled too");
}

#[test]
fn nested_scopes_with_names_used_again() {
    let scope = "{ .reg .b16 low,high;\n mov.b32 {low,high}, %r1;\n mov.b32 %r2, {high,low};}\n";
    let body = body("scopes", &format!("{scope}{scope}"), true);
    let Stmt::Block(inner) = &body[0] else { panic!("{body:?}") };
    assert!(matches!(&inner[0], Stmt::Reg { ty: Ty::B16, vec: 1, names, .. }
        if *names == [("low".to_string(), None), ("high".to_string(), None)]));
    assert_eq!(body[0..2].iter().filter(|s| matches!(s, Stmt::Block(b) if b.len() == 3)).count(), 2);
}

#[test]
fn an_opcode_glued_to_the_brace() {
    let body = body("glued", "{fma.rn.f16 %h1,%h2,%h3,%h4;\n}", true);
    let Stmt::Block(inner) = &body[0] else { panic!("{body:?}") };
    let fma = one(inner.clone());
    assert_eq!(fma.op, ["fma", "rn", "f16"]);
    assert_eq!(fma.operands.len(), 4);
    assert_eq!(fma.text, "fma.rn.f16 %h1,%h2,%h3,%h4");
}

#[test]
fn guards() {
    assert_eq!(instr("guard", "@%p1 mov.u32 %r1, 1;").guard, Some(("%p1".into(), false)));
    assert_eq!(instr("guard", "@!%p1 mov.u32 %r1, 1;").guard, Some(("%p1".into(), true)));
    assert_eq!(instr("guard", "@ ! %p1\tbra\tL;\nL:").guard, Some(("%p1".into(), true)));
}

#[test]
fn addresses() {
    for (text, want) in [
        ("[%rd1]", at("%rd1", 0)),
        ("[ %rd1 + 0 ]", at("%rd1", 0)),
        ("[%rd45+-8]", at("%rd45", -8)),
        ("[%rd1+0x10]", at("%rd1", 16)),
        ("[%rd1 + (2*WARP_SZ)]", at("%rd1", 64)),
        ("[%rd1+4294967296]", at("%rd1", 1 << 32)),
    ] {
        let text = text.replace("45", "5");
        let want = if let Operand::Address { base: Base::Name(b), offset } = &want {
            at(&b.replace("45", "5"), *offset)
        } else {
            want
        };
        assert_eq!(instr("address", &format!("ld.global.u32 %r1, {text};")).operands, [name("%r1"), want], "{text}");
    }
    let local = instr("local", ".local .b32 here[4]; ld.local.u32 %r1, [16];");
    assert_eq!(local.operands[1], Operand::Address { base: Base::Absolute, offset: 16 });
    assert_eq!(instr_only_parsed("minus", "ld.global.u32 %r1, [%rd1-4];").operands[1], at("%rd1", -4));
    assert_eq!(
        instr("symbol", ".shared .b32 s[4]; mov.u64 %rd1, s+4;").operands[1],
        Operand::NameOffset("s".into(), 4)
    );
    assert_eq!(
        instr("index", ".shared .b32 s[4]; mov.u64 %rd1, s[1];").operands[1],
        Operand::Index("s".into(), None, 1)
    );
    let index = instr_only_parsed("index", "ld.shared.u32 %r1, s[%r2+1];");
    assert_eq!(index.operands[1], Operand::Index("s".into(), Some("%r2".into()), 1));
}

#[test]
fn vectors_of_every_length() {
    assert_eq!(instr("one", "ld.global.u32 { %r1 }, [%rd1];").operands[0], Operand::Vector(vec![name("%r1")]));
    let two = instr("two", "ld.global.v2.u32 {%r1,%r2}, [%rd1];");
    assert_eq!(two.op, ["ld", "global", "v2", "u32"]);
    assert_eq!(two.operands[0], Operand::Vector(vec![name("%r1"), name("%r2")]));
    assert_eq!(instr("sink", "mov.b64 {%r1, _}, %rd1;").operands[0], Operand::Vector(vec![name("%r1"), Operand::Sink]));
    assert_eq!(
        instr("mixed", "st.global.v4.f32 [%rd1], {%f1, 0f3f800000, 1.5, 0d4000000000000000};").operands[1],
        Operand::Vector(vec![
            name("%f1"),
            Operand::Imm(Imm::F32(0x3f80_0000)),
            Operand::Imm(Imm::F64(1.5f64.to_bits())),
            Operand::Imm(Imm::F64(2f64.to_bits())),
        ])
    );
    let v = instr("component", "add.u32 %r1, %v.x, %v.y;");
    assert_eq!(v.operands[1..], [Operand::Component("%v".into(), 0), Operand::Component("%v".into(), 1)]);
    assert_eq!(instr("colour", "mov.u32 %r1, %v.g;").operands[1], Operand::Component("%v".into(), 1));
}

#[test]
fn special_registers_and_predicates() {
    assert_eq!(instr("tid", "mov.u32 %r1, %tid.x;").operands[1], Operand::Component("%tid".into(), 0));
    assert_eq!(instr("tid", "mov.u32 %r1, %nctaid .z;").operands[1], Operand::Component("%nctaid".into(), 2));
    assert_eq!(instr("lane", "mov.u32 %r1, %laneid;").operands[1], name("%laneid"));
    assert_eq!(instr("pred", "mov.pred %p2, 0;").operands, [name("%p2"), int(0)]);
    let pair = instr("pair", "setp.eq.and.u32 %p1|%p2, %r1, 2, !%p3;");
    assert_eq!(pair.operands[0], Operand::Pair(Box::new(name("%p1")), Box::new(name("%p2"))));
    assert_eq!(pair.operands[3], Operand::Not("%p3".into()));
    let sink = instr("sink", "setp.eq.u32 %p1|_, %r1, 2;");
    assert_eq!(sink.operands[0], Operand::Pair(Box::new(name("%p1")), Box::new(Operand::Sink)));
    let shfl = instr("shfl", "shfl.sync.down.b32 %r1|%p1, %r2, 16, 31, -1;");
    assert_eq!(shfl.operands[2..], [int(16), int(31), int(-1)]);
    assert_eq!(shfl.text, "shfl.sync.down.b32 %r1|%p1, %r2, 16, 31, -1");
}

#[test]
fn modifiers_of_every_kind() {
    for (text, op) in [
        (
            "ld.global.nc.L1::no_allocate.L2::128B.u32 %r1, [%rd1];",
            vec!["ld", "global", "nc", "L1::no_allocate", "L2::128B", "u32"],
        ),
        ("st.shared::cta.u32 [%rd1], %r1;", vec!["st", "shared::cta", "u32"]),
        ("ld .global .u32 %r1, [%rd1];", vec!["ld", "global", "u32"]),
        ("atom.global.gpu.acq_rel.add.u32 %r1, [%rd1], 1;", vec!["atom", "global", "gpu", "acq_rel", "add", "u32"]),
    ] {
        let text =
            if op[0] == "atom" { text.replace("global.gpu.acq_rel", "acq_rel.gpu.global") } else { text.to_string() };
        let op: Vec<&str> = if op[0] == "atom" { vec!["atom", "acq_rel", "gpu", "global", "add", "u32"] } else { op };
        assert_eq!(instr("modifiers", &text).op, op);
    }
    let tcgen = instr_only_parsed("new", "tcgen05.ld.sync.aligned.16x256b.x1.pack::16b.b32 {%r1, %r2}, [%r3];");
    assert_eq!(tcgen.op[4..], ["16x256b", "x1", "pack::16b", "b32"]);
    let tma = instr_only_parsed(
        "tma",
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%rd1], [%rd2, {%r1, %r2}], [%rd3];",
    );
    assert_eq!(
        tma.op[6..],
        ["shared::cluster", "global", "mbarrier::complete_tx::bytes"][..]
            .iter()
            .map(|s| s.to_string())
            .collect::<Vec<_>>()[1..]
    );
    assert_eq!(tma.operands[1], Operand::Bracket(vec![name("%rd2"), Operand::Vector(vec![name("%r1"), name("%r2")])]));
    let unknown = instr_only_parsed("unknown", "frobnicate.weird::x::1d.32x %r1, [%rd1], {1, 2}, 3|4;");
    assert_eq!(unknown.op, ["frobnicate", "weird::x::1d", "32x"]);
    assert_eq!(unknown.operands[3], int(7), "a constant expression");
}

#[test]
fn video_selectors() {
    let vadd = instr("vadd", "vadd.u32.u32.u32 %r1.b0, %r2.b1, %r3.h0, %r4;");
    assert_eq!(vadd.operands[1], Operand::Selector("%r2".into(), "b1".into()));
    let vmad = instr("vmad", "vmad.s32.s32.s32 %r1, -%r2, %r3.h1, %r4;");
    assert_eq!(vmad.operands[1], Operand::Neg(Box::new(name("%r2"))));
}

#[test]
fn textures_and_surfaces_parse() {
    let tex = instr_only_parsed("tex", "tex.2d.v4.f32.f32 {%f1, %f2, %f3, %f4}|%p1, [tex_a, smp, {%f5, %f6}], %r1;");
    assert!(matches!(&tex.operands[0], Operand::Pair(v, _) if matches!(**v, Operand::Vector(_))));
    assert!(matches!(&tex.operands[1], Operand::Bracket(parts) if parts.len() == 3));
    let module = check(
        "texrefs",
        &format!(
            "{HEAD}.global .texref tex_a;\n.global .samplerref smp = {{ addr_mode_0 = wrap, filter_mode = nearest }};\n.tex .u32 old;\n.entry k(.param \
             .surfref s) {{ ret; }}"
        ),
    );
    assert_eq!(module.vars[0].opaque, Some(Opaque::Texref));
    assert_eq!(module.vars[1].opaque, Some(Opaque::Samplerref));
    assert_eq!(module.vars[2].opaque, Some(Opaque::Texref));
    assert_eq!(module.funcs[0].params[0].opaque, Some(Opaque::Surfref));
}

#[test]
fn calls() {
    let text = format!(
        "{HEAD}.extern .func (.param .b32 r) vprintf (.param .b64 a, .param .b64 b);\n.func (.param .b32 r) f (.param .b32 a, .param .align 8 .b8 s[16]) \
         .noreturn\n{{ ret; }}\n.func g\n{{ ret; }}\n.visible .entry k()\n{{ {REGISTERS}\n{{ .param .b32 a; .param .align 8 .b8 s[16]; .param .b32 r; \
         st.param.b32 [a+0], %r1; st.param.v2.b64 [s+0], {{%rd1, %rd2}}; call.uni (r), f, (a, s); ld.param.b32 %r2, [r+0]; }}\ncall g;\n{{ .param .b32 a; \
         .param .b32 r; proto: .callprototype (.param .b32 _) _ (.param .b32 _) .noreturn;\nst.param.b32 [a], 1; call (r), %rd1, (a), proto; }}\ntab: \
         .calltargets f, g;\nret; }}\n.visible .entry m() .maxntid 128, 1, 1 .minnctapersm 2 .maxnreg 64 .pragma \"nounroll\"; {{ ret; }}\n.entry n() \
         .reqntid 32 .reqnctapercluster 2,1,1 .explicitcluster .maxclusterrank 8 .blocksareclusters;\n"
    );
    let module = check("calls", &text);
    assert!(module.funcs[0].body.is_none() && module.funcs[0].linkage == Linkage::Extern);
    assert_eq!(module.funcs[1].directives, [("noreturn".to_string(), vec![])]);
    assert_eq!(module.funcs[1].params[1].dims, [Some(16)]);
    assert_eq!(module.funcs[1].params[1].align, Some(8));
    let kernel = module.funcs[3].body.as_ref().unwrap();
    let Stmt::Block(scope) = &kernel[6] else { panic!("{:?}", kernel[6]) };
    let call = scope.iter().rev().nth(1).unwrap();
    let Stmt::Instr(call) = call else { panic!("{call:?}") };
    assert_eq!(call.op, ["call", "uni"]);
    assert_eq!(call.operands, [Operand::Tuple(vec![name("r")]), name("f"), Operand::Tuple(vec![name("a"), name("s")])]);
    let Stmt::Block(scope) = &kernel[8] else { panic!("{:?}", kernel[8]) };
    let Stmt::CallInfo { name: proto, prototype: Some(f), .. } = &scope[2] else { panic!("{:?}", scope[2]) };
    assert_eq!((proto.as_str(), f.rets.len(), f.params.len(), f.directives.len()), ("proto", 1, 1, 1));
    assert!(matches!(&kernel[9], Stmt::CallInfo { targets, .. } if *targets == ["f", "g"]));
    assert_eq!(module.funcs[4].directives[0], ("maxntid".to_string(), vec![128, 1, 1]));
    assert_eq!(module.funcs[4].pragmas, ["nounroll"]);
    assert_eq!(module.funcs[5].directives.len(), 5);
    let empty = instr_only_parsed("empty", "call.uni foo, ( );");
    assert_eq!(empty.operands[1], Operand::Tuple(vec![]));
    let numbers = instr_only_parsed("numbers", "call (%r1), foo, (1, %r2, 2.5);");
    assert!(matches!(&numbers.operands[2], Operand::Tuple(args) if args[0] == int(1)));
}

#[test]
fn branches_and_labels() {
    let body = body(
        "brx",
        "bra.uni $L__BB0_1;\n$L__BB0_1: L2: and.b32 %r1, %r1, 1;\nts: .branchtargets $L__BB0_3, $a;\nbrx.idx %r1, ts;\n$L__BB0_3:\n$a:\n",
        true,
    );
    assert!(matches!(&body[1], Stmt::Label { name, .. } if name == "$L__BB0_1"));
    assert!(matches!(&body[2], Stmt::Label { name, .. } if name == "L2"));
    assert!(matches!(&body[4], Stmt::BranchTargets { name, targets, .. } if name == "ts" && targets.len() == 2));
}

/// Type, what `.ptr` says, alignment, dimensions.
type Parameter = (Ty, Option<(Space, u32)>, Option<u32>, Vec<Option<u64>>);

fn parameters(func: &Func) -> Vec<Parameter> {
    func.params.iter().map(|p| (p.ty, p.ptr.map(|p| (p.space, p.align)), p.align, p.dims.clone())).collect()
}

#[test]
fn parameters_of_all_kinds() {
    let text = format!(
        "{HEAD}.visible .entry k(\n\t.param .u64 .ptr .global .align 16 a,\n .param .u64 .ptr .align 1 b, .param .u64 .ptr.shared c,\n .param .align 8 .b8 \
         s[24], .param .f32 x, .param .b16 h, .param .u64 .ptr .const .align 8 d)\n{{ ret; }}\n.entry bare\n{{ ret; }}\n.entry none()\n{{ ret; }}\n"
    );
    let module = check("parameters", &text);
    assemble("parameters", &text);
    assert_eq!(
        parameters(&module.funcs[0]),
        [
            (Ty::U64, Some((Space::Global, 16)), None, vec![]),
            (Ty::U64, Some((Space::Generic, 1)), None, vec![]),
            (Ty::U64, Some((Space::Shared, 4)), None, vec![]),
            (Ty::B8, None, Some(8), vec![Some(24)]),
            (Ty::F32, None, None, vec![]),
            (Ty::B16, None, None, vec![]),
            (Ty::U64, Some((Space::Const, 8)), None, vec![]),
        ]
    );
}

fn module(name: &str, text: &str) -> Module {
    let text = format!("{HEAD}{text}");
    let module = check(name, &text);
    assemble(name, &text);
    module
}

#[test]
fn variables_and_initialisers() {
    let m = module(
        "variables",
        ".extern .shared .align 16 .b8 dyn[];\n.visible .global .align 4 .u32 counter = 5;\n.global .align 1 .b8 name[24] = {104, 0x69, 0};\n.const .align 4 \
         .f32 table[2][2] = {{1.0, 2.0}, {0f40400000}};\n.global .u64 to[2] = {generic(table)+4, counter};\n.global .attribute(.managed) .u32 m;\n.weak \
         .global .b32 w;\n.common .global .u64 c;\n.global .u32 p, q[2];\n.global .v4 .f32 v = {1.0, 2.0, 3.0, 4.0};\n.global .u32 r<3>;\n.global .s32 \
         e = -(1 + 2) * WARP_SZ;\n",
    );
    let var = |n: &str| m.vars.iter().find(|v| v.name == n).unwrap_or_else(|| panic!("no {n}"));
    assert_eq!(
        (var("dyn").space, &var("dyn").dims[..], var("dyn").align),
        (Some(Space::Shared), &[None][..], Some(16))
    );
    assert_eq!(var("counter").init, Some(vec![Init::Imm(Imm::Int(5))]));
    assert_eq!(var("name").init.as_ref().map(Vec::len), Some(3), "shorter than the array");
    let numbers: Vec<Init> = [Imm::F64(1f64.to_bits()), Imm::F64(2f64.to_bits()), Imm::F32(0x4040_0000), Imm::Int(0)]
        .map(Init::Imm)
        .to_vec();
    assert_eq!(var("table").init, Some(numbers), "an inner row is filled up");
    let symbol = |name: &str, offset, generic| Init::Symbol { name: name.into(), offset, generic, mask: None };
    assert_eq!(var("to").init, Some(vec![symbol("table", 4, true), symbol("counter", 0, false)]));
    assert_eq!(var("m").attributes, ["managed"]);
    assert_eq!((var("w").linkage, var("c").linkage), (Linkage::Weak, Linkage::Common));
    assert_eq!((var("q").dims.clone(), var("p").dims.clone()), (vec![Some(2)], vec![]));
    assert_eq!((var("v").vec, var("v").init.as_ref().map(Vec::len)), (4, Some(4)));
    assert!(["r0", "r1", "r2"].iter().all(|n| var(n).ty == Ty::U32));
    assert_eq!(var("e").init, Some(vec![Init::Imm(Imm::Int(-96))]));
    let masked = check("mask", &format!("{HEAD}.global .u8 a[3] = {{0xff(x), 0xff00(x+4), 0xff0000(generic(x)) }};"));
    let Some(Init::Symbol { name, offset: 4, mask: Some(0xff00), .. }) =
        masked.vars[0].init.as_ref().map(|i| i[1].clone())
    else {
        panic!("{masked:?}")
    };
    assert_eq!(name, "x");
}

#[test]
fn module_directives() {
    let m = check(
        "directives",
        ".version 7.10 .target sm_90a, debug, texmode_independent\n.address_size 64\n.pragma \"nounroll\";\n.weak .func (.reg .u32 r) f (.reg .u32 a) .noreturn \
         .abi_preserve 4;\n.alias g, f;\n.visible .func .attribute(.unified(0x1234, 7)) u() { ret; }\n",
    );
    assert_eq!(m.version, (7, 10));
    assert_eq!(m.target, ["sm_90a", "debug", "texmode_independent"]);
    assert_eq!((m.aliases[0].name.as_str(), m.aliases[0].target.as_str()), ("g", "f"));
    assert_eq!(m.funcs[0].params[0].space, None, "a parameter in a register");
    assert_eq!(m.funcs[1].attributes, ["unified(0x1234, 7)"]);
}

#[test]
fn white_space_and_comments() {
    let crlf = "\u{feff}// head\r\n\t/* more\r\n */.version 8.4\r\n# 1 \"a.cu\"\r\n.target sm_80\r\n.entry k()\r\n{\r\n// only\r\nmov.u32 %r1, /* why */ 5;// \
                end\r\nret;\r\n}\r\n// last";
    let module = check("crlf", crlf);
    let body = module.funcs[0].body.as_ref().unwrap();
    let Stmt::Instr(mov) = &body[0] else { panic!("{body:?}") };
    assert_eq!((mov.pos.line, mov.pos.col), (9, 1));
    assert_eq!(mov.text, "mov.u32 %r1, 5");
    assert_eq!(parse(&format!("{crlf}\0\0")).unwrap().funcs.len(), 1, "NVRTC's closing zero");
    let old =
        parse(".version 1.4\n.target sm_20\n@@DWARF .byte 0x10, 0x20\n.entry k { exit; }\n@@DWARF .4byte x\n").unwrap();
    assert_eq!(old.funcs.len(), 1);
    let lines = "mul.lo.u32\t%r1,\n\t\t%r2, // two\n\t\t%r3\n\t;";
    assert_eq!(instr("lines", lines).text, "mul.lo.u32 %r1, %r2, %r3");
}
