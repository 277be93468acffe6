//! The language of the self-test kernels: launches in `// case:` lines, expected findings in marks at the ends of lines.
//!
//! `// case: grid=2,2 block=64 shared=128 budget=1000 args=.. expect=KIND out=1,2` stands above an entry; everything is optional. Arguments, joined by commas:
//! | word | argument |
//! |---|---|
//! | `raw:BYTES` | a buffer whose content is undefined |
//! | `zeros:BYTES` | a buffer of zeros |
//! | `bytes:BYTES` | a buffer of bytes 0, 1, 2, .. |
//! | `ramp:N`, `ramp+4:N` | a buffer of N words 0, 1, 2, ..; the pointer moved on by so many bytes |
//! | `freed:BYTES` | a buffer that is freed before the launch |
//! | `boxed-freed:BYTES` | a buffer that holds a pointer to one that was freed |
//! | `null` | a null pointer |
//! | `u32:N` | a number |
//!
//! Marks: `BAD kind` a finding on this line, `WARN kind` a warning, `OTHER` the other access of some finding or warning. `expect=KIND`: the launch as a whole is
//! refused. `out=`: the first words of the first buffer afterwards.

use std::collections::BTreeSet;

/// An argument.
#[derive(Clone, Debug, PartialEq)]
pub enum Arg {
    Raw(usize),
    Zeros(usize),
    Bytes(usize),
    Ramp(usize, usize),
    Freed(usize),
    BoxedFreed(usize),
    Null,
    U32(u32),
}

/// One kernel with its launch and what must be found.
#[derive(Clone, Debug, Default)]
pub struct Case {
    pub name: String,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared: u32,
    pub budget: Option<u64>,
    pub args: Vec<Arg>,
    pub expect: Option<String>,
    pub out: Vec<u32>,
    /// (kind, line) of errors and of warnings.
    pub bad: BTreeSet<(String, u32)>,
    pub warn: BTreeSet<(String, u32)>,
    /// Lines of other accesses.
    pub other: BTreeSet<u32>,
}

/// All cases of a file, `.cu` or `.ptx`.
pub fn cases(text: &str) -> Vec<Case> {
    let mut list: Vec<Case> = Vec::new();
    let mut header: Option<&str> = None;
    for (line, number) in text.lines().zip(1..) {
        if let Some(rest) = line.trim().strip_prefix("// case:") {
            header = Some(rest);
            continue;
        }
        if let Some(name) = entry(line) {
            let header = header.take().unwrap_or_else(|| panic!("line {number}: {name} has no case"));
            list.push(case(name, header));
        }
        let Some((_, marks)) = line.split_once("// ").filter(|_| !line.trim().starts_with("//")) else { continue };
        let Some(case) = list.last_mut() else { continue };
        let mut words = marks.split_whitespace();
        while let Some(word) = words.next() {
            let mut kind = || words.next().unwrap_or_else(|| panic!("line {number}: no kind")).to_string();
            match word {
                "BAD" => drop(case.bad.insert((kind(), number))),
                "WARN" => drop(case.warn.insert((kind(), number))),
                "OTHER" => drop(case.other.insert(number)),
                _ => {} // a comment
            }
        }
    }
    assert!(header.is_none(), "a case without an entry");
    list
}

/// The name of the entry that begins on this line.
fn entry(line: &str) -> Option<&str> {
    let rest = match line.split_once("__global__") {
        Some((_, rest)) => rest.split_once("void").map(|(_, rest)| rest)?,
        None => line.split_once(".entry ")?.1,
    };
    let rest = match rest.split_once("__launch_bounds__(") {
        Some((_, rest)) => rest.split_once(')')?.1,
        None => rest,
    };
    rest.trim().split('(').next()
}

fn case(name: &str, header: &str) -> Case {
    let mut case = Case { name: name.into(), grid: [1; 3], block: [1; 3], ..Case::default() };
    for word in header.split_whitespace() {
        let (key, value) = word.split_once('=').unwrap_or_else(|| panic!("{name}: {word}"));
        let number = |v: &str| v.parse::<u64>().unwrap_or_else(|_| panic!("{name}: {word}"));
        let dims = |v: &str| {
            let mut dims = [1; 3];
            v.split(',').zip(&mut dims).for_each(|(v, dim)| *dim = number(v) as u32);
            dims
        };
        match key {
            "grid" => case.grid = dims(value),
            "block" => case.block = dims(value),
            "shared" => case.shared = number(value) as u32,
            "budget" => case.budget = Some(number(value)),
            "expect" => case.expect = Some(value.into()),
            "out" => case.out = value.split(',').map(|v| number(v) as u32).collect(),
            "args" => case.args = value.split(',').map(arg).collect(),
            _ => panic!("{name}: {word}"),
        }
    }
    case
}

fn arg(word: &str) -> Arg {
    let (kind, value) = word.split_once(':').unwrap_or((word, "0"));
    let n: usize = value.parse().unwrap_or_else(|_| panic!("argument {word}"));
    match kind.split_once('+').unwrap_or((kind, "0")) {
        ("raw", _) => Arg::Raw(n),
        ("zeros", _) => Arg::Zeros(n),
        ("bytes", _) => Arg::Bytes(n),
        ("ramp", offset) => Arg::Ramp(n, offset.parse().unwrap_or_else(|_| panic!("argument {word}"))),
        ("freed", _) => Arg::Freed(n),
        ("boxed-freed", _) => Arg::BoxedFreed(n),
        ("null", _) => Arg::Null,
        ("u32", _) => Arg::U32(n as u32),
        _ => panic!("argument {word}"),
    }
}

impl Arg {
    /// What a buffer holds at first; `None` for undefined content and for what is no buffer.
    pub fn content(&self) -> Option<Vec<u8>> {
        match self {
            Arg::Zeros(bytes) => Some(vec![0; *bytes]),
            Arg::Bytes(bytes) => Some((0..*bytes).map(|i| i as u8).collect()),
            Arg::Ramp(n, _) => Some((0..*n as u32).flat_map(u32::to_le_bytes).collect()),
            _ => None,
        }
    }

    /// Size of the buffer in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Arg::Raw(bytes) | Arg::Zeros(bytes) | Arg::Bytes(bytes) | Arg::Freed(bytes) => *bytes,
            Arg::Ramp(n, _) => n * 4,
            Arg::BoxedFreed(_) => 8,
            Arg::Null | Arg::U32(_) => 0,
        }
    }
}
