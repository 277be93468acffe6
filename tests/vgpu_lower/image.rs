//! What a module brings to the device.

use earlybird::vgpu::ir::window;
use earlybird::vgpu::lower::{LowerError, ModuleImage, image};
use earlybird::vgpu::ptx;

use crate::lower;

fn module(text: &str) -> Result<ModuleImage, LowerError> {
    image(
        &ptx::parse(&format!(".version 8.4\n.target sm_80\n.address_size 64\n{text}"))
            .unwrap_or_else(|e| panic!("{e}")),
    )
}

#[test]
fn variables_and_their_initialisers() {
    let m = module(
        ".global .align 4 .b32 a[4] = {1, -1};\n.global .f64 b = 1.5;\n.visible .global .b8 text[6] = {104, 105};\n\
         .const .b16 c = 7;\n.const .align 8 .b64 d[2] = {a, generic(d)+8};\n.global .u64 e[2] = {a+4, d};\n\
         .visible .entry k(.param .u32 x) { .global .b32 inside; { .global .b32 inside; } ret; }\n.extern .global .b32 elsewhere;",
    )
    .unwrap();
    let names: Vec<&str> = m.globals.iter().map(|g| g.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "text", "e", "k::inside", "k::inside#1"]);
    assert_eq!(m.globals[0].bytes, 16);
    assert_eq!(m.globals[0].init, [1, 0, 0, 0, 255, 255, 255, 255], "the rest is 0");
    assert_eq!(m.globals[1].init, 1.5f64.to_le_bytes());
    assert_eq!((m.globals[2].bytes, m.globals[2].init.as_slice()), (6, &b"hi"[..]));
    assert_eq!(m.const_symbols, [("c".to_string(), 0, 2), ("d".to_string(), 8, 16)]);
    assert_eq!((m.consts.len(), m.consts[0]), (24, 7));
    assert_eq!((m.entries.len(), m.entries[0].name.as_str(), m.entries[0].params[0].bytes), (1, "k", 4));
    let known = |name: &str| (name == "a").then_some(0x7f00_0001_0000);
    let mut consts = m.consts.clone();
    m.relocate(&mut consts, &m.const_relocations, &known).unwrap();
    assert_eq!(consts[8..16], 0x7f00_0001_0000u64.to_le_bytes());
    let d = u64::from(window::CONST_BASE) + 8;
    assert_eq!(consts[16..24], (window::CONST + d + 8).to_le_bytes());
    let mut e = m.globals[3].init.clone();
    m.relocate(&mut e, &m.globals[3].relocations, &known).unwrap();
    assert_eq!(
        (e[..8].to_vec(), e[8..].to_vec()),
        (0x7f00_0001_0004u64.to_le_bytes().to_vec(), d.to_le_bytes().to_vec())
    );
}

#[test]
fn addresses_that_nobody_has() {
    let m = module(".shared .b32 s;\n.global .u64 a = s;").unwrap();
    let e = m.relocate(&mut [0; 8], &m.globals[0].relocations, &|_| None).unwrap_err();
    assert!(e.unsupported && e.to_string().contains("`s`") && e.pos.line == 5, "{e}");
    // Tables of functions do not keep a module from loading.
    let m = module(".func f() { ret; }\n.global .u64 table[2] = {f, f};").unwrap();
    assert!(m.globals[0].relocations.is_empty() && m.globals[0].init == [0; 16]);
}

#[test]
fn wrong_variables() {
    for (text, needle) in [
        (".global .b32 a[2] = {1, 2, 3};", "longer than its 8 bytes"),
        (".global .b32 a; .global .b32 a;", "declared twice"),
        (".const .b8 a[70000];", "does not fit"),
        (".global .b8 a[9000000000];", "4 GiB"),
        (".global .b32 a[];", "no size"),
        (".global .b32 a = 1.5;", "does not fit .b32"),
    ] {
        let e = module(text).unwrap_err();
        assert!(e.to_string().contains(needle) && e.pos.line == 4, "{text}: {e}");
    }
}

#[test]
fn addresses_of_variables() {
    let text = ".extern .shared .align 128 .b8 dyn[];\n.extern .shared .b32 dyn2[];\n.shared .b8 one[5];\n.const .b32 c[4];\n.global .b32 g;\n\
        .visible .entry k(.param .b32 a, .param .b64 q) { .reg .b64 %rd<9>; .reg .b32 %r<9>; .local .b32 l[2];\n\
        mov.u64 %rd1, one; mov.u64 %rd2, dyn; mov.u64 %rd3, dyn2+4; mov.u64 %rd4, c; mov.u64 %rd5, g; mov.u32 %r1, one+1; mov.u64 %rd6, q;\n\
        mov.u64 %rd7, l; ld.shared.u32 %r2, [dyn+8]; ret; }\n.visible .entry other() { ret; }";
    let k = lower(text, "k").unwrap();
    let value = |register: &str| {
        let at = k.code.iter().find(|i| k.row_names.get(i.d as usize).is_some_and(|n| n == register)).unwrap();
        crate::constant(&k, at.a)
    };
    let shared = u64::from(window::SHARED_BASE);
    assert_eq!(k.shared_bytes, 128, "rounded up to the alignment of what follows");
    assert_eq!((value("%rd1"), value("%rd2"), value("%rd3")), (shared, shared + 128, shared + 132));
    assert_eq!((value("%rd4"), value("%rd5")), (u64::from(window::CONST_BASE), 0x7f00_0001_0000));
    assert_eq!(value("%r1") as u32, window::SHARED_BASE + 1);
    assert_eq!((value("%rd6"), value("%rd7")), (8, u64::from(window::LOCAL_BASE)));
    let names: Vec<&str> = k.symbols.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["one", "c", "g", "l"]);
    assert_eq!(lower(text, "other").unwrap().shared_bytes, 0, "another kernel's variables do not count");
    let e = lower(text, "missing").err().unwrap();
    assert!(e.to_string().contains("no kernel `missing`") && e.to_string().contains("k, other"), "{e}");
}
