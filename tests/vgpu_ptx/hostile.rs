//! Text that no compiler wrote: cut off, changed, nested, huge. Nothing panics, nothing takes longer than its length explains.

use std::time::{Duration, Instant};

use earlybird::vgpu::ptx::parse;
use proptest::prelude::*;

use super::common::cases::cases;
use super::corpus;

const HEAD: &str = ".version 8.4\n.target sm_80\n";

#[test]
fn cut_off_at_every_byte() {
    let files = corpus::files();
    let name = |n: &str| files.iter().find(|(f, _)| f == n).unwrap_or_else(|| panic!("{n}"));
    for (name, text) in [name("nvrtc/debug_13.ptx"), name("triton/half_ops.ptx"), name("nvvm/stats.ptx")] {
        let last = text.rfind('}').unwrap();
        for end in (0..text.len()).filter(|i| text.is_char_boundary(*i)) {
            // Up to the first function's end there is no whole module.
            if let Ok(module) = parse(&text[..end]) {
                assert!(end > 20 && !module.target.is_empty(), "{name}: {end}");
            }
        }
        assert!(parse(&text[..last]).is_err(), "{name}");
    }
}

#[test]
fn nesting_is_limited() {
    for (open, close) in [
        ("{", "}"),
        ("mov.b32 a, (", ");"),
        ("mov.b32 {", "};"),
        ("mov.b32 -", "1;"),
        ("mov.b32 [a, ", "];"),
        ("call (", ");"),
    ] {
        for depth in [10, 100_000] {
            let inner = open.chars().last().map(String::from).unwrap_or_default();
            let inner = if open.contains('[') { "[a, ".to_string() } else { inner };
            let text = format!("{HEAD}.entry k() {{ {open}{}1{} }}", inner.repeat(depth), close.repeat(depth));
            let started = Instant::now();
            let result = parse(&text);
            assert!(started.elapsed() < Duration::from_secs(5), "{open}");
            assert!(depth == 10 || result.is_err(), "{open}");
            if depth > 10 && open != "{" {
                assert!(result.unwrap_err().what.contains("nested deeper"), "{open}");
            }
        }
    }
    let ternary = format!("{HEAD}.global .b32 x = {}1;", "1 ? 1 : ".repeat(50_000));
    assert!(parse(&ternary).unwrap_err().what.contains("nested deeper"));
    let braces = format!("{HEAD}.global .b32 x[1] = {}1;", "{".repeat(50_000));
    assert!(parse(&braces).unwrap_err().what.contains("nested deeper"));
}

#[test]
fn a_short_text_asks_for_little() {
    for text in [
        ".global .b32 x<4294967295>;",
        ".global .b32 a<1000000>; .global .b32 b<1000000>;",
        ".global .b32 x[2][1000000000] = {{1}, {2}};",
        ".global .b32 x[1][4294967295][4294967295][4294967295] = {{{{1}}}};",
        ".global .b32 x[18446744073709551615];",
    ] {
        assert!(parse(&format!("{HEAD}{text}")).is_err(), "{text}");
    }
    let registers = format!("{HEAD}.entry k() {{ .reg .b32 %r<4294967295>; ret; }}");
    assert!(parse(&registers).is_ok(), "counts are not expanded here");
}

/// 100,000 repeats take milliseconds, and would take minutes if time grew with their square.
#[test]
fn time_grows_with_the_text() {
    let pieces: [(&str, &str, &str); 9] = [
        ("", "mov.u32 %r1, %r2;\n", ""),
        ("", "$L: ", ""),
        ("add.u32 a", ", b", ";"),
        ("mov.b32 {a", ", b", "}, c;"),
        ("mov.b32 a, 1", "+1", ";"),
        (".reg .b32 a", ", b<3>", ";"),
        ("", ".loc 1 2 3, function_name a, inlined_at 1 2 3\n", ""),
        ("", "/* x */ \n", ""),
        ("", "          \n", "# 1 \"x\"\n"),
    ];
    for (start, repeat, end) in pieces {
        let text = format!("{HEAD}.entry k() {{ {start}{}{end} ret; }}", repeat.repeat(100_000));
        let started = Instant::now();
        parse(&text).unwrap_or_else(|e| panic!("{repeat}: {e}"));
        assert!(started.elapsed() < Duration::from_secs(8), "{repeat}: {:?}", started.elapsed());
    }
}

/// Words that PTX is made of, to be put together at random.
const WORDS: &[&str] = &[
    ".version",
    "8.4",
    ".target",
    "sm_80",
    ".entry",
    ".func",
    "k",
    "(",
    ")",
    "{",
    "}",
    "[",
    "]",
    "<",
    ">",
    ",",
    ";",
    ":",
    "@",
    "!",
    "|",
    "-",
    "+",
    "*",
    "/",
    "%",
    "~",
    "?",
    "=",
    "==",
    "<<",
    ">>",
    "&&",
    "||",
    ".reg",
    ".b32",
    ".v4",
    ".param",
    ".shared",
    ".align",
    "16",
    "0x10",
    "0f3f800000",
    "0d3ff0000000000000",
    "1.5",
    "0",
    "WARP_SZ",
    "%r1",
    "%p1",
    "%tid.x",
    "_",
    "$L",
    "mov.u32",
    "call.uni",
    "ld.global.v2.u32",
    "bra",
    ".loc",
    ".file",
    "\"a\"",
    ".section",
    ".debug_str",
    ".b8",
    ".pragma",
    ".branchtargets",
    ".callprototype",
    ".attribute",
    ".managed",
    ".ptr",
    ".texref",
    "generic",
    "(.s64)",
    "// c\n",
    "/*",
    "*/",
    "\n",
    "function_name",
    "inlined_at",
    ".extern",
    ".alias",
    ".L2::128B",
    "@@DWARF",
    "#",
    "\"",
    "\\",
    ".",
    "::",
    "\u{e9}",
    "\0",
];

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn words_at_random(picks in prop::collection::vec(0..WORDS.len(), 0..200), glue in 0..3usize) {
        let text = picks.iter().map(|i| WORDS[*i]).collect::<Vec<_>>().join([" ", "", "\n"][glue]);
        let _ = parse(&text);
        let _ = parse(&format!("{HEAD}{text}"));
        let _ = parse(&format!("{HEAD}.entry k() {{ {text} }}"));
        let _ = parse(&format!("{HEAD}.entry k() {{ mov.b32 %r1, {text}; }}"));
    }

    #[test]
    fn any_text(text in ".{0,300}") {
        let _ = parse(&text);
        let _ = parse(&format!("{HEAD}{text}"));
    }

    /// A real file with bytes changed, pieces taken out and pieces put twice: where it still parses, its tree prints and parses again.
    #[test]
    fn changed_files(pick in any::<prop::sample::Index>(), changes in prop::collection::vec((any::<prop::sample::Index>(), 0..5u8, any::<u8>(), 1..40usize), 1..6)) {
        let small: Vec<(String, String)> = corpus::files().into_iter().filter(|f| f.1.len() < 7000).collect();
        let mut bytes = pick.get(&small).1.clone().into_bytes();
        for (at, what, byte, len) in changes {
            // Nothing is left to change where one byte was left and was taken out.
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            let end = (at + len).min(bytes.len());
            match what {
                0 => bytes[at] = byte,
                1 => drop(bytes.drain(at..end)),
                2 => { let piece = bytes[at..end].to_vec(); bytes.splice(at..at, piece); }
                3 => bytes.insert(at, b"{}()[]<>;,.:\"/*"[usize::from(byte) % 15]),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        if let Ok(module) = parse(&text) {
            let printed = module.to_string();
            let again = parse(&printed);
            prop_assert!(again.is_ok(), "{:?}", again.err());
            prop_assert_eq!(again.map(|m| m.to_string()).unwrap_or_default(), printed);
        }
    }
}
