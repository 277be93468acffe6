//! Line tables and debug sections.

use earlybird::vgpu::ptx::ast::{Loc, Module, SectionItem, Stmt};
use earlybird::vgpu::ptx::parse;

use super::round_trip::check;

fn locs(module: &Module) -> Vec<Loc> {
    fn walk(body: &[Stmt], out: &mut Vec<Loc>) {
        for stmt in body {
            match stmt {
                Stmt::Loc(loc) => out.push(loc.clone()),
                Stmt::Block(body) => walk(body, out),
                _ => {}
            }
        }
    }
    let mut out = Vec::new();
    module.funcs.iter().filter_map(|f| f.body.as_deref()).for_each(|body| walk(body, &mut out));
    out
}

#[test]
fn inlined_places_chain_to_the_kernel() {
    let text = "\
.version 8.4
.target sm_80
.file 1 \"C:\\\\kernels\\\\a \\\"b\\\".cu\", 1700000000, 512
.file\t2 \"lib.cuh\"
.entry k()
{
.loc 1 40 3
mov.u32 %r1, 1;
.loc 2 7 9, function_name $L__info_string1, inlined_at 1 40 3
mov.u32 %r1, 2;
.loc 2 3 1, function_name $L__info_string0+0, inlined_at 2 7 9
mov.u32 %r1, 3;
.loc 1 41 0
ret;
}
.section .debug_str
{
$L__info_string0:
.b8 105,110,110,101,114,0
$L__info_string1:
.b8 111
.b8 117
.b8 116
.b8 101
.b8 114
.b8 0
}
";
    let module = check("inlined", text);
    assert_eq!(module.files[0], (1, "C:\\kernels\\a \"b\".cu".to_string()));
    let locs = locs(&module);
    assert_eq!(locs[1].inlined_at, [(1, 40, 3)]);
    assert_eq!(locs[2].inlined_at, [(2, 7, 9), (1, 40, 3)], "the call of the call");
    assert!(locs[3].inlined_at.is_empty());
    let name = |loc: &Loc| loc.function.as_ref().and_then(|(label, offset)| module.debug_string(label, *offset));
    assert_eq!(name(&locs[2]).as_deref(), Some("inner"));
    assert_eq!(name(&locs[1]).as_deref(), Some("outer"));
    assert_eq!(module.debug_string("$L__info_string1", 2).as_deref(), Some("ter"));
    assert_eq!(module.debug_string("$L__info_string1", 99), None);
    assert_eq!(module.debug_string("nowhere", 0), None);
}

#[test]
fn places_that_call_each_other_end() {
    let mut text = String::from(".version 8.4\n.target sm_80\n.entry k()\n{\n");
    for i in 0..2000 {
        text += &format!(".loc 1 {} 0, function_name $f, inlined_at 1 {} 0\n", i % 2 + 1, (i + 1) % 2 + 1);
    }
    text += "ret;\n}\n";
    let deepest = locs(&parse(&text).unwrap()).iter().map(|l| l.inlined_at.len()).max();
    assert_eq!(deepest, Some(64));
}

#[test]
fn sections_hold_numbers_labels_and_differences() {
    let module = check(
        "sections",
        ".version 7.0\n.target sm_80\n.section .debug_info {\n.b32 LEND-LBEGIN, 0x10\n.b8 -1, 2\nLBEGIN: .b16 300\n.b64 .debug_abbrev\n.b64 \
         func_begin+16\n.b32 .debug_line+4\nLEND:\n}\n.section .debug_empty { }\n",
    );
    let items = &module.sections[0].items;
    let reference = |bytes, name: &str, offset, minus: Option<&str>| SectionItem::Ref {
        bytes,
        name: name.into(),
        offset,
        minus: minus.map(str::to_string),
    };
    assert_eq!(items[0], reference(4, "LEND", 0, Some("LBEGIN")));
    assert_eq!(items[1], SectionItem::Bytes(vec![16, 0, 0, 0, 255, 2]));
    assert_eq!(items[2], SectionItem::Label("LBEGIN".into()));
    assert_eq!(items[3], SectionItem::Bytes(vec![44, 1]));
    assert_eq!(items[4], reference(8, ".debug_abbrev", 0, None));
    assert_eq!(items[5], reference(8, "func_begin", 16, None));
    assert_eq!(items[6], reference(4, ".debug_line", 4, None));
    assert!(module.sections[1].items.is_empty());
}
