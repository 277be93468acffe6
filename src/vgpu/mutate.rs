//! Mutants of a kernel: its PTX with one barrier, one wait for `cp.async`, or one bounds guard taken out. A sanitizer and a test case that are worth their
//! salt object to nearly all of them; `tests/vgpu_mutation.rs` measures how many. Not here: running them.
//!
//! A *bounds guard* is a condition that compares integers by order (`setp.lt`, `.ge`, ..; combined by logic as may be) and either jumps forward over code or
//! predicates an access to memory. Its mutant runs the code, or makes the access, in every thread. Conditions on equality (`if (threadIdx.x == 0)`) choose
//! roles, not bounds, and are left alone.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::ptx::ast::{Func, Instr, Loc, Module, Operand, Stmt};

/// What was taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cut {
    /// `bar.sync`, `bar.arrive`, `barrier..`.
    Barrier,
    /// `bar.warp.sync`.
    WarpBarrier,
    /// `cp.async.wait_group`, `cp.async.wait_all`.
    CopyWait,
    /// A branch over code, or the predicate of an access to memory.
    Guard,
}

impl Cut {
    /// Its name: `barrier`.
    pub fn name(self) -> &'static str {
        match self {
            Cut::Barrier => "barrier",
            Cut::WarpBarrier => "warp barrier",
            Cut::CopyWait => "copy wait",
            Cut::Guard => "bounds guard",
        }
    }
}

/// A mutant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutant {
    /// What was taken out.
    pub cut: Cut,
    /// The instruction, as written.
    pub text: String,
    /// Its line in the PTX; lines stay as they are.
    pub ptx_line: u32,
    /// Line of the source (`.loc`, innermost function first): file name and line.
    pub source: Vec<(String, u32)>,
    /// Bytes of the text that go.
    pub range: Range<usize>,
}

impl Mutant {
    /// The module without it: `text` is what it was made from. Blanks stand in its place.
    pub fn ptx(&self, text: &str) -> String {
        let mut ptx = String::with_capacity(text.len());
        ptx.push_str(&text[..self.range.start]);
        ptx.extend(text[self.range.clone()].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        ptx.push_str(&text[self.range.end..]);
        ptx
    }
}

/// All mutants of the entry `kernel` of a module, given as tree and as the text that it was parsed from. Empty where there is no such entry.
///
/// Functions that the entry calls are not changed. `bar.red` has a result and stays.
pub fn mutants(module: &Module, text: &str, kernel: &str) -> Vec<Mutant> {
    let Some(func) = module.funcs.iter().find(|f| f.entry && f.name == kernel) else { return Vec::new() };
    let flat = Flat::new(func);
    let starts: Vec<usize> = std::iter::once(0).chain(text.match_indices('\n').map(|(i, _)| i + 1)).collect();
    let mut list = Vec::new();
    for (i, (instr, loc)) in flat.instrs.iter().enumerate() {
        let Some((cut, predicate_only)) = flat.cut(i, instr) else { continue };
        let Some(start) = starts.get(instr.pos.line as usize - 1).map(|s| s + instr.pos.col as usize - 1) else {
            continue;
        };
        let Some(range) = statement(text, start, predicate_only) else { continue };
        let name = |file: u32| module.files.iter().find(|f| f.0 == file).map_or(String::new(), |f| f.1.clone());
        let source = loc.iter().flat_map(|loc| {
            let own = std::iter::once((loc.file, loc.line));
            own.chain(loc.inlined_at.iter().map(|at| (at.0, at.1))).map(|(file, line)| (name(file), line))
        });
        list.push(Mutant { cut, text: instr.text.clone(), ptx_line: instr.pos.line, source: source.collect(), range });
    }
    list
}

/// Bytes of the statement at `start`, or of its guard alone.
fn statement(text: &str, start: usize, predicate_only: bool) -> Option<Range<usize>> {
    let statement = text.get(start..)?;
    let end = match predicate_only {
        true => statement.find(char::is_whitespace)?,
        false => statement.find(';')? + 1,
    };
    Some(start..start + end)
}

/// A body without its scopes.
struct Flat<'a> {
    instrs: Vec<(&'a Instr, Option<&'a Loc>)>,
    /// Number of the first instruction behind each label.
    labels: HashMap<&'a str, usize>,
    /// Instructions that write each register.
    writers: HashMap<&'a str, Vec<usize>>,
}

impl<'a> Flat<'a> {
    fn new(func: &'a Func) -> Flat<'a> {
        let mut flat = Flat { instrs: Vec::new(), labels: HashMap::new(), writers: HashMap::new() };
        let mut loc = None;
        flat.add(func.body.as_deref().unwrap_or_default(), &mut loc);
        for (i, (instr, _)) in flat.instrs.iter().enumerate() {
            let mut written = Vec::new();
            match instr.operands.first() {
                Some(Operand::Name(name)) => written.push(name.as_str()),
                Some(Operand::Pair(a, b)) => {
                    written.extend([a, b].into_iter().filter_map(|o| match &**o {
                        Operand::Name(name) => Some(name.as_str()),
                        _ => None,
                    }));
                }
                _ => {}
            }
            for name in written {
                flat.writers.entry(name).or_default().push(i);
            }
        }
        flat
    }

    fn add(&mut self, body: &'a [Stmt], loc: &mut Option<&'a Loc>) {
        for stmt in body {
            match stmt {
                Stmt::Instr(instr) => self.instrs.push((instr, *loc)),
                Stmt::Label { name, .. } => drop(self.labels.insert(name, self.instrs.len())),
                Stmt::Loc(l) => *loc = Some(l),
                Stmt::Block(inner) => self.add(inner, loc),
                _ => {}
            }
        }
    }

    /// What taking out instruction `i` would be; true where only its predicate goes.
    fn cut(&self, i: usize, instr: &Instr) -> Option<(Cut, bool)> {
        let op: Vec<&str> = instr.op.iter().map(String::as_str).collect();
        let has = |word: &str| op.contains(&word);
        match op[..] {
            ["bar", "warp", ..] => return Some((Cut::WarpBarrier, false)),
            ["bar" | "barrier", ..] if !has("red") => return Some((Cut::Barrier, false)),
            ["cp", "async", ..] if has("wait_group") || has("wait_all") => return Some((Cut::CopyWait, false)),
            _ => {}
        }
        let (predicate, _) = instr.guard.as_ref()?;
        let guards = match op[..] {
            ["bra", ..] => match instr.operands.first() {
                Some(Operand::Name(label)) => self.labels.get(label.as_str()).is_some_and(|target| *target > i),
                _ => false,
            },
            ["ld" | "st" | "atom" | "red", ..] => true,
            ["cp", "async", ..] => !has("commit_group"),
            _ => false,
        };
        (guards && self.orders(predicate, &mut HashSet::new())).then_some((Cut::Guard, op[0] != "bra"))
    }

    /// Whether a predicate comes from a comparison of integers by order.
    fn orders(&self, predicate: &'a str, seen: &mut HashSet<&'a str>) -> bool {
        if !seen.insert(predicate) {
            return false;
        }
        self.writers.get(predicate).into_iter().flatten().any(|&i| {
            let instr = self.instrs[i].0;
            let op: Vec<&str> = instr.op.iter().map(String::as_str).collect();
            match op[..] {
                ["setp", cmp, ..] => {
                    let integer = op.last().is_some_and(|ty| ty.starts_with(['u', 's']));
                    integer && ["lt", "le", "gt", "ge", "lo", "ls", "hi", "hs"].contains(&cmp)
                }
                ["and" | "or" | "xor" | "not" | "selp" | "mov", .., "pred"] => {
                    instr.operands[1..].iter().any(|operand| match operand {
                        Operand::Name(name) | Operand::Not(name) => self.orders(name, seen),
                        _ => false,
                    })
                }
                _ => false,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vgpu::ptx::parse;

    const TEXT: &str = "
.version 7.8
.target sm_80
.address_size 64
.visible .entry k(.param .u32 n)
{
    .reg .pred %p<9>;
    .reg .b32 %r<9>;
    .reg .b64 %rd<9>;
    .shared .align 4 .b8 s[128];
    ld.param.u32 %r1, [n];
    mov.u32 %r2, %tid.x;
    setp.ge.u32 %p1, %r2, %r1;
    @%p1 bra OUT;
    setp.eq.s32 %p2, %r2, 0;
    @%p2 bra OUT;
LOOP:
    add.s32 %r2, %r2, 1;
    setp.lt.u32 %p3, %r2, %r1;
    @%p3 bra LOOP;
    and.pred %p4, %p2, %p3;
    @%p4 st.shared.u32 [s], %r1;
    @%p2 st.shared.u32 [s], %r1;
    bar.sync 0; bar.warp.sync -1;
    bar.red.popc.u32 %r3, 0, %p1;
    cp.async.commit_group;
    { cp.async.wait_group 0; }
OUT:
    ret;
}
";

    #[test]
    fn every_barrier_wait_and_bounds_guard_goes_once() {
        let module = parse(TEXT).unwrap();
        let list = mutants(&module, TEXT, "k");
        let cuts: Vec<_> = list.iter().map(|m| (m.cut, m.ptx_line)).collect();
        let expected =
            [(Cut::Guard, 14), (Cut::Guard, 22), (Cut::Barrier, 24), (Cut::WarpBarrier, 24), (Cut::CopyWait, 27)];
        assert_eq!(cuts, expected);
        let lines = |text: &str, n: usize| text.lines().nth(n - 1).unwrap().trim().to_string();
        assert_eq!(lines(&list[0].ptx(TEXT), 14), "");
        assert_eq!(lines(&list[1].ptx(TEXT), 22), "st.shared.u32 [s], %r1;");
        assert_eq!(lines(&list[2].ptx(TEXT), 24), "bar.warp.sync -1;");
        assert_eq!(lines(&list[3].ptx(TEXT), 24), "bar.sync 0;");
        for mutant in &list {
            let ptx = mutant.ptx(TEXT);
            assert_eq!(ptx.len(), TEXT.len());
            assert!(parse(&ptx).is_ok());
        }
        assert!(mutants(&module, TEXT, "other").is_empty());
    }
}
