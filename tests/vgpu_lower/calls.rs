//! Functions are inlined.

use earlybird::vgpu::ir::{Kernel, Op, Syscall};
use earlybird::vgpu::ptx::ast::Space;

use crate::{all, constant, kernel, lower, name};

fn with(functions: &str, body: &str) -> Kernel {
    // Functions first, on one line, so that lines of the body stay known.
    let text = format!("{}\n{}", functions.replace('\n', " "), kernel(body));
    lower(&text, "k").unwrap_or_else(|e| panic!("{e}\n{text}"))
}

const TWICE: &str = ".func (.param .b32 out) twice(.param .b32 in) { .reg .b32 %r<3>; ld.param.b32 %r1, [in]; add.u32 %r2, %r1, %r1; \
                     st.param.b32 [out], %r2; ret; }";

fn call(result: &str, argument: &str) -> String {
    format!(
        "{{ .param .b32 a; .param .b32 b; st.param.b32 [a+0], {argument}; call.uni (b), twice, (a); ld.param.b32 {result}, [b]; }}"
    )
}

#[test]
fn arguments_pass_through_registers() {
    let k = with(TWICE, &format!("mov.u32 %r1, 3;\n{}\n{}", call("%r2", "%r1"), call("%r3", "%r2")));
    assert_eq!(k.local_bytes, 0);
    assert!(all(&k, Op::Load).is_empty() && all(&k, Op::Store).is_empty(), "nothing but copies");
    let adds: Vec<u16> =
        k.code.iter().zip(&k.source).filter(|(_, s)| s.text.starts_with("add.u32")).map(|(i, _)| i.a).collect();
    assert_eq!(adds.len(), 2);
    assert_ne!(adds[0], adds[1], "every call has its own registers");
    assert!(k.undefined.is_empty(), "{:?}", k.undefined);
}

#[test]
fn arguments_that_are_addressed_are_memory() {
    let sum = ".func (.param .b32 out) sum(.param .align 4 .b8 in[16]) { .reg .b32 %r<5>; .reg .b64 %rd<3>; mov.b64 %rd1, in; \
               ld.param.b32 %r1, [in+12]; ld.param.v2.b32 {%r2, %r3}, [in]; ld.local.b32 %r4, [%rd1+8]; st.param.b32 [out], %r1; ret; }";
    let k = with(
        sum,
        "{ .param .align 4 .b8 a[16]; .param .b32 b; st.param.v4.b32 [a], {1, 2, 3, 4}; call (b), sum, (a); ld.param.b32 %r1, [b]; }",
    );
    assert_eq!(k.local_bytes, 16);
    let store = crate::access(&k, Op::Store);
    assert_eq!((store.space, store.count), (Space::Local, 4));
    let loads = all(&k, Op::Load);
    assert_eq!(loads.len(), 3, "the scalar result stays in a register");
    let place = constant(&k, all(&k, Op::Store)[0].a) as u32;
    assert!(loads[..2].iter().all(|l| constant(&k, l.a) as u32 == place), "the callee reads where the caller wrote");
}

#[test]
fn narrow_and_mixed_widths_are_memory_too() {
    let f = ".func f(.param .b32 in) { .reg .b16 %h; ld.param.s8 %h, [in+1]; ret; }";
    let k = with(f, "{ .param .b32 a; st.param.b32 [a], 513; call f, (a); }");
    assert_eq!((all(&k, Op::Load).len(), all(&k, Op::Store).len(), k.local_bytes), (1, 1, 4));
}

#[test]
fn register_parameters_early_returns_and_guards() {
    let f = ".func (.reg .f32 y) f(.reg .f32 x, .reg .b32 c) { .reg .pred p; setp.eq.u32 p, c, 0; mov.f32 y, x; @p ret; add.f32 y, x, x; }";
    let k = with(
        f,
        "setp.eq.u32 %p1, %r1, 0;\nmov.f32 %f2, 0f00000000;\n@!%p1 call (%f2), f, (%f1, 7);\nmov.f32 %f3, %f2;",
    );
    let branches = all(&k, Op::Bra);
    assert_eq!(branches.len(), 2, "round the call, and out of it");
    assert_eq!(branches[0].flip, 0, "round the call where the guard does not hold");
    assert!(branches.iter().all(|b| k.code[b.x as usize].op == Op::Join));
    assert!(branches[1].x < branches[0].x);
    assert!(all(&k, Op::Exit).len() == 2, "`ret` of a function does not end the kernel");
}

#[test]
fn places_of_inlined_code_name_the_call() {
    let f = ".func f() { .loc 1 7 3 add.u32 q, q, 1; ret; }".replace("{ ", "{ .reg .b32 q; ");
    let k = with(&f, ".loc 1 20 5\ncall f;\nmov.u32 %r1, 1;");
    let at = k.source.iter().position(|s| s.text.starts_with("add.u32")).unwrap();
    let loc = &k.locs[k.source[at].loc.unwrap() as usize];
    assert_eq!((loc.line, loc.inlined_at.as_slice()), (7, &[(1, 20, 5)][..]));
    let after = k.source.iter().position(|s| s.text.starts_with("mov.u32")).unwrap();
    assert_eq!(k.locs[k.source[after].loc.unwrap() as usize].line, 20);
}

#[test]
fn shared_variables_of_a_function_are_one_local_ones_are_many() {
    let f = ".func f() { .shared .b32 x; .local .b32 y; .reg .b64 %a<3>; mov.u64 %a1, x; mov.u64 %a2, y; ret; }";
    let k = with(f, "call f;\ncall f;");
    assert_eq!((k.shared_bytes, k.local_bytes), (4, 4), "one call after the other uses the same frame");
}

#[test]
fn what_the_machine_provides() {
    let k = with(
        ".extern .func (.param .b32 r) vprintf(.param .b64 f, .param .b64 a);\
         .extern .func __assertfail(.param .b64 m, .param .b64 f, .param .b32 l, .param .b64 n, .param .b64 s) .noreturn;",
        "{ .param .b64 f; .param .b64 a; .param .b32 r; st.param.b64 [f], %rd1; st.param.b64 [a], %rd2; call.uni (r), vprintf, (f, a);\
         ld.param.b32 %r1, [r]; }\n{ .param .b64 m; .param .b64 f; .param .b32 l; .param .b64 n; .param .b64 s; st.param.b64 [m], %rd1;\
         st.param.b64 [f], %rd2; st.param.b32 [l], 12; st.param.b64 [n], %rd3; st.param.b64 [s], 1; call.uni __assertfail, (m, f, l, n, s); }",
    );
    assert_eq!(all(&k, Op::Syscall).len(), 2);
    let Syscall::Vprintf { format, result, .. } = &k.syscalls[0] else { panic!() };
    assert_eq!(name(&k, *format), "f+0");
    assert_ne!(*result, u16::MAX);
    assert!(matches!(&k.syscalls[1], Syscall::Assertfail { line, .. } if name(&k, *line) == "l+0"));
}

#[test]
fn what_cannot_be_called() {
    let refused = |functions: &str, body: &str| {
        let e = lower(&format!("{functions}\n{}", kernel(body)), "k").err().unwrap();
        (e.unsupported, e.to_string())
    };
    let (unsupported, text) = refused(".func f() { call f; ret; }", "call f;");
    assert!(unsupported && text.contains("recursion") && text.contains("`f`") && text.starts_with("line 4"), "{text}");
    let (unsupported, text) = refused("", "proto: .callprototype _ ();\ncall %rd1, proto;");
    assert!(unsupported && text.contains("indirect call"), "{text}");
    let (unsupported, text) = refused(".func f() { ret; }", "mov.u64 %rd1, f;");
    assert!(unsupported && text.contains("address of function `f`"), "{text}");
    let (unsupported, text) = refused(".extern .func helper();", "call helper;");
    assert!(!unsupported && text.contains("`helper` has no body"), "{text}");
    let (unsupported, text) = refused(
        ".extern .func (.param .b64 r) malloc(.param .b64 n);",
        "{ .param .b64 n; .param .b64 r; call (r), malloc, (n); }",
    );
    assert!(unsupported && text.contains("malloc"), "{text}");
    let (unsupported, text) = refused(".func f(.param .b32 a) { ret; }", "call f;");
    assert!(!unsupported && text.contains("0 arguments"), "{text}");
    let (unsupported, text) = refused(".func f(.param .b32 a) { ret; }", "{ .param .b64 b; call f, (b); }");
    assert!(!unsupported && text.contains("8 bytes"), "{text}");
}
