//! Texts made to hurt: an error or an answer in short time and little memory, never a crash.

use crate::{lower, lower_file};

fn entry(body: &str) -> String {
    format!(
        ".visible .entry k(.param .u64 p) {{ .reg .pred %p<2>; .reg .b32 %r<80000>; .reg .b64 %rd<80000>;\n{body}\nret; }}"
    )
}

#[test]
fn counts_that_nobody_uses_cost_nothing() {
    let k = lower(
        ".visible .entry k() { .reg .b32 %r<4000000000>; .reg .v4 .b64 %v<4000000000>; mov.u32 %r3999999999, 1; ret; }",
        "k",
    );
    assert!(k.unwrap().rows < 10);
}

#[test]
fn sizes_beyond_all_memory() {
    for (text, needle) in [
        (
            ".visible .entry k() { .shared .b8 x[1099511627776]; .reg .b32 %r; mov.u32 %r, x; ret; }",
            "shared variables take more",
        ),
        (
            ".visible .entry k() { .local .b8 x[1099511627776]; .reg .b32 %r; mov.u32 %r, x; ret; }",
            "local memory takes more",
        ),
        (
            ".visible .entry k() { .local .b64 x[1099511627776][1099511627776]; .reg .b32 %r; mov.u32 %r, x; ret; }",
            "larger than any memory",
        ),
        (".visible .entry k(.param .b8 a[4294967295]) { ret; }", "more than 32764 bytes"),
        (
            ".visible .entry k() { .param .b8 a[1099511627776]; .reg .b64 %r; mov.u64 %r, a; ret; }",
            "local memory takes more",
        ),
    ] {
        let e = lower(text, "k").err().unwrap_or_else(|| panic!("accepted: {text}"));
        assert!(e.to_string().contains(needle), "{text}: {e}");
    }
}

#[test]
fn calls_that_multiply() {
    let mut text = ".func f0() { .reg .b32 q; add.u32 q, q, 1; ret; }\n".to_string();
    for i in 1..40 {
        text += &format!(".func f{i}() {{ call f{0}; call f{0}; ret; }}\n", i - 1);
    }
    let e = lower(&format!("{text}.visible .entry k() {{ call f39; ret; }}"), "k").err().unwrap();
    assert!(e.unsupported && e.to_string().contains("instructions after inlining"), "{e}");
    let mut text = ".func f0() { ret; }\n".to_string();
    for i in 1..2000 {
        text += &format!(".func f{i}() {{ call f{}; ret; }}\n", i - 1);
    }
    let e = lower(&format!("{text}.visible .entry k() {{ call f1999; ret; }}"), "k").err().unwrap();
    assert!(e.unsupported && e.to_string().contains("nested more than 96 deep"), "{e}");
}

#[test]
fn more_registers_than_rows() {
    // 20000 registers of 64 bits, few at a time: they share rows.
    let few: String =
        (0..20_000).map(|i| format!("ld.global.u64 %rd{},[%rd0];\nadd.u64 %rd1,%rd1,%rd{};\n", i + 2, i + 2)).collect();
    let k = lower(&entry(&format!("ld.param.u64 %rd0,[p];\nmov.u64 %rd1,0;\n{few}\nst.global.u64 [%rd0],%rd1;")), "k")
        .unwrap();
    assert!(k.rows < 40, "{}", k.rows);
    assert!(k.undefined.is_empty());
    // 33000 of them all alive at the end: more rows than there are.
    let loads: String = (2..33_000).map(|i| format!("ld.global.u64 %rd{i},[%rd0+{}];\n", 8 * i)).collect();
    let adds: String = (2..33_000).map(|i| format!("add.u64 %rd1,%rd1,%rd{i};\n")).collect();
    let e = lower(&entry(&format!("ld.param.u64 %rd0,[p];\nmov.u64 %rd1,0;\n{loads}{adds}")), "k").err().unwrap();
    assert!(e.unsupported && e.to_string().contains("registers at once"), "{e}");
}

#[test]
fn shared_rows_keep_values_apart() {
    // A value from before a loop is read after it; inside, thousands of registers come and go.
    let inner: String =
        (0..6000).map(|i| format!("add.u32 %r{}, %r2, {i};\nxor.b32 %r2, %r2, %r{};\n", i + 10, i + 10)).collect();
    let text = entry(&format!(
        "mov.u32 %r1, 77;\nmov.u32 %r2, 0;\nmov.u32 %r3, 0;\nL:\n{inner}add.u32 %r3, %r3, 1;\nsetp.lt.u32 %p1, %r3, 4;\n@%p1 bra L;\nadd.u32 %r4, %r1, %r2;"
    ));
    let k = lower(&text, "k").unwrap();
    assert!(k.rows < 6100);
    let row = |text: &str| k.code.iter().zip(&k.source).find(|(_, s)| s.text == text).map(|(i, _)| i.d).unwrap();
    let (first, second, third) = (row("mov.u32 %r1, 77"), row("mov.u32 %r2, 0"), row("mov.u32 %r3, 0"));
    let inside =
        k.code.iter().zip(&k.source).filter(|(_, s)| s.text.starts_with("add.u32 %r") && s.text.contains("%r2,"));
    for (i, s) in inside.filter(|(_, s)| !s.text.starts_with("add.u32 %r4,")) {
        assert!(![first, second, third].contains(&i.d), "{}", s.text);
    }
}

#[test]
fn many_labels_and_scopes() {
    let labels: String = (0..30_000).map(|i| format!("L{i}:\n@%p1 bra L{};\n", i * 7919 % 30_000)).collect();
    let k = lower(&entry(&format!("setp.eq.u32 %p1, 0, 0;\n{labels}")), "k").unwrap();
    assert_eq!(k.rpo.len(), k.code.len());
    let heads: String =
        (0..10_000).map(|i| format!("L{i}:\n")).chain((0..10_000).rev().map(|i| format!("@%p1 bra L{i};\n"))).collect();
    assert!(
        lower(&entry(&format!("setp.eq.u32 %p1, 0, 0;\n{heads}")), "k").is_ok(),
        "a loop in a loop, ten thousand times"
    );
    let variables: String =
        (0..20_000).map(|i| format!(".shared .b8 s{i}[1];\n.local .b8 l{i}[1];\n.param .b32 t{i};\n")).collect();
    assert!(lower(&entry(&variables), "k").is_ok());
}

#[test]
fn nonsense_headers() {
    for text in [
        ".visible .entry k(.param .pred a) { ret; }",
        ".visible .entry k(.param .b32 a, .param .b32 a) { ret; }",
        ".visible .entry k(.reg .b32 a) { ret; }",
        ".func f() { ret; } .func f() { ret; } .visible .entry k() { ret; }",
    ] {
        let text = format!(".version 8.4\n.target sm_80\n.address_size 64\n{text}");
        if let Ok(module) = earlybird::vgpu::ptx::parse(&text) {
            assert!(module.funcs.is_empty() || lower_file(&text, "k").is_err(), "{text}");
        }
    }
}
