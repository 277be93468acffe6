//! Messages: the line, the column, what was expected.

use earlybird::vgpu::ptx::parse;

fn error(text: &str) -> String {
    parse(text).expect_err(text).to_string()
}

fn in_body(text: &str) -> String {
    error(&format!(".version 8.4\n.target sm_80\n.entry k()\n{{\n{text}\n}}\n"))
}

#[test]
fn each_names_its_place() {
    for (text, want) in [
        ("mov.u32 %r1, 5\nret;", "line 6, column 1: expected `,` or `;` after `mov.u32 %r1, 5`, found `ret`"),
        ("  ld.u32 %r1, [%rd1;", "line 5, column 20: expected `]` after an address, found `;`"),
        (
            "ld.u32 %r1, [%rd1+%rd2];",
            "line 5, column 18: an address is a register or a variable and a constant; add the two",
        ),
        ("mov.u32 %r1, 0f12;", "line 5, column 14: a 0f constant has 8 hexadecimal digits"),
        ("mov.u32 %r1, \u{e9};", "line 5, column 14: PTX has no use for the character 'é'"),
        (".reg .b32 a[4];", "line 5, column 12: an array of registers; write `name<4>`"),
        (".reg .b32 ;", "line 5, column 11: expected a register name, found `;`"),
        (".foo 3;", "line 5, column 1: no directive `.foo` inside a function"),
        (";", "line 5, column 1: expected an instruction, a label, a declaration or `}`, found `;`"),
        ("@p1: ret;", "expected an instruction, found `:`"),
        ("mov.u32 %r1, \"text\";", "expected an operand, found `\"text\"`"),
        (".branchtargets a;", "has no label"),
        ("/* open", "line 5, column 1: this comment has no end; close it with */"),
        (".pragma \"open;", "line 5, column 9: this string has no end on its line"),
        (".shared .b32 .b64 x;", "line 5, column 14: a second type `.b64`"),
        (".shared .align 3 .b32 x;", "alignment 3 is no power of two"),
        (".loc 1 x 3", "expected a line number, found `x`"),
        (".loc 1 2 3, inlined 4", "expected `function_name` or `inlined_at`"),
    ] {
        let got = in_body(text);
        assert!(got.contains(want), "{text}\n  {got}\n  {want}");
    }
}

#[test]
fn at_module_level() {
    for (text, want) in [
        ("", "line 1, column 1: PTX starts with `.version`, this text with ``; is this PTX text?"),
        ("int main() {}", "PTX starts with `.version`, this text with `int`"),
        ("\u{7f}ELF", "line 1, column 1: PTX has no use for the character '\\u{7f}'; is this PTX text?"),
        (".version 8.4", "the module has no `.target`; add `.target sm_80`"),
        (".version x", "expected a version such as 8.4, found `x`"),
        (".version 8.4 .target sm_80 .version 8.4", "a second `.version`"),
        (".version 8.4 .target sm_80 .address_size 16", "`.address_size` is 32 or 64"),
        (".version 8.4 .target sm_80 .entry k() {", "the `{` of line 1 has no `}`; is the text cut off?"),
        (".version 8.4 .target sm_80 .entry k(", "expected a parameter or `)`, found the end of the text"),
        (".version 8.4 .target sm_80 .entry k() ret;", "expected `{` or `;` after a function's header, found `ret`"),
        (".version 8.4 .target sm_80 .reg .b32 x;", "`.reg` outside a function"),
        (".version 8.4 .target sm_80 .frob x;", "no directive `.frob` at module level"),
        (".version 8.4 .target sm_80 mov", "expected a directive, a variable or a function, found `mov`"),
        (".version 8.4 .target sm_80 .const[2] .b32 x;", "a constant bank number"),
        (".version 8.4 .target sm_80 .global .b32 x[-1];", "an array of -1 elements"),
        (".version 8.4 .target sm_80 .global .b32 x[2][2] = {{1,2,3}};", "3 values where the array has 2"),
        (".version 8.4\n#include \"a.h\"\n", "line 2, column 1: a preprocessor directive; run a C preprocessor"),
    ] {
        let got = error(text);
        assert!(got.contains(want), "{text}\n  {got}\n  {want}");
    }
}
