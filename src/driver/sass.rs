//! Machine code as nvdisasm prints it: instructions, the control flow between them, and the main loop. Not here: running nvdisasm
//! ([`super::ptxas`]), and what a kernel's code may be made of (`earlybird kernels budget`).

use std::collections::{BTreeMap, BTreeSet};

/// A line of machine code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sass {
    /// `.L_x_3:`
    Label(String),
    /// `@!P1 BRA (.L_x_3)`
    Instruction(String),
}

/// How often each opcode occurs.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct Mix(BTreeMap<String, usize>);

impl Sass {
    /// Opcode with its suffixes: `FFMA`, `LDG.E.128.CONSTANT`.
    pub fn opcode(&self) -> Option<&str> {
        self.parts().map(|(_, opcode, _)| opcode)
    }

    /// Whether it is predicated, its opcode, its operands.
    fn parts(&self) -> Option<(bool, &str, &str)> {
        let Sass::Instruction(text) = self else { return None };
        let text = text.trim_start_matches(['{', ' ']);
        let (predicated, text) = match text.starts_with('@') {
            true => (true, text.split_once(' ')?.1.trim_start()),
            false => (false, text),
        };
        let (opcode, operands) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        Some((predicated, opcode, operands.trim()))
    }
}

/// The label that operands name, without its quotes.
fn label(operands: &str) -> Option<&str> {
    let at = operands.find(".L_")?;
    operands[at..].split([')', ' ', ';', ',']).next()
}

impl Mix {
    fn of<'a>(opcodes: impl Iterator<Item = &'a str>) -> Mix {
        let mut mix = Mix::default();
        for opcode in opcodes {
            *mix.0.entry(opcode.to_string()).or_default() += 1;
        }
        mix
    }

    /// All instructions.
    pub fn total(&self) -> usize {
        self.0.values().sum()
    }

    /// Instructions that `pattern` means: `FFMA` any opcode of that name, `LDG.128` those that have all the suffixes named, wherever they stand.
    pub fn count(&self, pattern: &str) -> usize {
        let mut wanted = pattern.split('.');
        let base = wanted.next();
        let wanted: Vec<&str> = wanted.collect();
        let fits = |opcode: &str| {
            let mut parts = opcode.split('.');
            let same = parts.next() == base;
            let parts: Vec<&str> = parts.collect();
            same && wanted.iter().all(|w| parts.contains(w))
        };
        self.0.iter().filter(|(opcode, _)| fits(opcode)).map(|(_, n)| n).sum()
    }

    /// Opcodes with their counts, most frequent first.
    pub fn sorted(&self) -> Vec<(&str, usize)> {
        let mut list: Vec<(&str, usize)> = self.0.iter().map(|(opcode, n)| (opcode.as_str(), *n)).collect();
        list.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        list
    }
}

/// All instructions of a kernel.
pub fn all(code: &[Sass]) -> Mix {
    Mix::of(code.iter().filter_map(Sass::opcode).filter(|opcode| *opcode != "NOP"))
}

/// The code of every kernel in the text of `nvdisasm -c`.
pub(super) fn read(text: &str) -> BTreeMap<String, Vec<Sass>> {
    let mut found: BTreeMap<String, Vec<Sass>> = BTreeMap::new();
    let mut name = None;
    for line in text.lines().map(str::trim) {
        if let Some(label) = line.strip_suffix(':') {
            if let Some(kernel) = label.strip_prefix(".text.") {
                name = Some(kernel.to_string());
            } else if let (Some(name), true) = (&name, label.starts_with(".L_")) {
                found.entry(name.clone()).or_default().push(Sass::Label(label.into()));
            }
        } else if let (Some(name), Some((_, rest))) = (&name, line.strip_prefix("/*").and_then(|l| l.split_once("*/")))
        {
            let instruction = rest.trim().trim_end_matches(['}', ' ']).trim_end_matches(';').trim_end();
            // Encodings follow as comments without an instruction.
            if !instruction.is_empty() && !instruction.starts_with("/*") {
                found.entry(name.clone()).or_default().push(Sass::Instruction(instruction.into()));
            }
        }
    }
    found
}

/// Control flow: for each line those that may follow it; none for lines that nothing reaches. A call comes back to the next line.
fn flow(code: &[Sass]) -> Vec<Vec<usize>> {
    let labels: BTreeMap<&str, usize> = code
        .iter()
        .enumerate()
        .filter_map(|(i, line)| if let Sass::Label(label) = line { Some((label.as_str(), i)) } else { None })
        .collect();
    let mut next: Vec<Vec<usize>> = vec![Vec::new(); code.len()];
    let mut seen = vec![false; code.len()];
    // BSSY names the place where BSYNC of the same register goes on, so the walk carries what each register holds.
    let mut open: Vec<(usize, BTreeMap<&str, usize>)> = vec![(0, BTreeMap::new())];
    while let Some((at, mut held)) = open.pop() {
        if at >= code.len() || std::mem::replace(&mut seen[at], true) {
            continue;
        }
        let mut to = Vec::new();
        if let Some((predicated, opcode, operands)) = code[at].parts() {
            let target = label(operands).and_then(|l| labels.get(l).copied());
            let register = operands.split([',', ' ']).next().unwrap_or_default();
            let goes_on = match opcode.split('.').next().unwrap_or_default() {
                "BRA" | "JMP" => {
                    to.extend(target);
                    // `BRA.DIV UR4, (.L_x_1)` and `BRA P0, (.L_x_1)` have a condition among their operands.
                    predicated || operands.contains(',')
                }
                "EXIT" | "RET" | "BRX" | "KILL" => predicated,
                "BSSY" => {
                    held.extend(target.map(|t| (register, t)));
                    true
                }
                "BSYNC" => match held.get(register) {
                    Some(&place) => {
                        to.push(place);
                        predicated
                    }
                    None => true,
                },
                _ => true,
            };
            if goes_on {
                to.push(at + 1);
            }
        } else {
            to.push(at + 1);
        }
        to.retain(|&t| t < code.len());
        open.extend(to.iter().map(|&t| (t, held.clone())));
        next[at] = to;
    }
    next
}

/// The immediate dominator of each line that the first line reaches (of the first: itself), by Cooper, Harvey and Kennedy, "A Simple, Fast
/// Dominance Algorithm".
fn dominators(next: &[Vec<usize>]) -> Vec<Option<usize>> {
    let n = next.len();
    let mut order = Vec::new(); // postorder
    let mut seen = vec![false; n];
    let mut open = vec![(0usize, 0usize)];
    while let Some((at, child)) = open.pop() {
        seen[at] = true;
        match next[at].get(child) {
            Some(&to) => {
                open.push((at, child + 1));
                if !seen[to] {
                    open.push((to, 0));
                }
            }
            None => order.push(at),
        }
    }
    let mut rank = vec![usize::MAX; n];
    for (i, &at) in order.iter().enumerate() {
        rank[at] = i;
    }
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); n];
    for (at, to) in next.iter().enumerate().filter(|(at, _)| rank[*at] != usize::MAX) {
        to.iter().for_each(|&t| before[t].push(at));
    }
    let mut idom: Vec<Option<usize>> = vec![None; n];
    idom[0] = Some(0);
    let mut changed = true;
    while changed {
        changed = false;
        for &at in order.iter().rev().filter(|&&at| at != 0) {
            let mut new: Option<usize> = None;
            for &p in before[at].iter().filter(|&&p| idom[p].is_some()) {
                new = Some(new.map_or(p, |mut a| {
                    let mut b = p;
                    while a != b {
                        while rank[a] < rank[b] {
                            a = idom[a].unwrap_or(0);
                        }
                        while rank[b] < rank[a] {
                            b = idom[b].unwrap_or(0);
                        }
                    }
                    a
                }));
            }
            if idom[at] != new {
                idom[at] = new;
                changed = true;
            }
        }
    }
    idom
}

/// Opcodes of the main loop (its largest innermost loop); `None` without a loop.
///
/// Loops are natural loops of the control-flow graph: an edge goes back where its end dominates its start, and the loop is all that reaches the edge without
/// passing that end. Blocks that ptxas moved out of line count, wherever they stand in the text; branches to and from them are no loops of their own.
pub fn main_loop(code: &[Sass]) -> Option<Mix> {
    if code.is_empty() {
        return None;
    }
    let next = flow(code);
    let idom = dominators(&next);
    let dominates = |a: usize, mut b: usize| loop {
        match idom[b] {
            _ if a == b => return true,
            Some(up) if up != b => b = up,
            _ => return false,
        }
    };
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); code.len()];
    let mut latches: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (at, to) in next.iter().enumerate().filter(|(at, _)| idom[*at].is_some()) {
        for &t in to {
            before[t].push(at);
            if dominates(t, at) {
                latches.entry(t).or_default().push(at);
            }
        }
    }
    let loops: Vec<BTreeSet<usize>> = latches
        .into_iter()
        .map(|(header, mut open)| {
            let mut body = BTreeSet::from([header]);
            while let Some(at) = open.pop() {
                if body.insert(at) {
                    open.extend(&before[at]);
                }
            }
            body
        })
        .collect();
    let innermost = loops.iter().filter(|l| !loops.iter().any(|other| other.len() < l.len() && other.is_subset(l)));
    let main = innermost.max_by_key(|l| l.iter().filter(|&&i| code[i].opcode().is_some()).count())?;
    Some(Mix::of(main.iter().filter_map(|&i| code[i].opcode())))
}

/// Code for tests: labels and instructions, a line each.
#[cfg(test)]
pub(crate) fn sample(text: &str) -> Vec<Sass> {
    let line = |l: &str| if l.ends_with(':') { format!("{l}\n") } else { format!(" /*0000*/ {l} ;\n") };
    let lines: String = text.lines().map(|l| line(l.trim())).collect();
    read(&format!(".text.k:\n{lines}")).remove("k").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_moved_out_of_line_belongs_to_the_loop() {
        let code = sample(
            "MOV R1, c[0x0][0x28]\n.L_x_0:\n@!P0 BRA `(.L_x_2)\n.L_x_1:\nFFMA R1, R2, R3, R1\n@P1 BRA `(.L_x_0)\nEXIT\n.L_x_2:\n\
             LDG.E.128 R4, [R2]\nBRA `(.L_x_1)",
        );
        assert_eq!(main_loop(&code).unwrap().sorted(), [("BRA", 3), ("FFMA", 1), ("LDG.E.128", 1)]);
        assert_eq!(main_loop(&code[..1]), None);
        assert_eq!(main_loop(&[]), None);
    }

    /// The branch from the block back to the middle of the code goes up in the text and is no loop.
    #[test]
    fn a_branch_back_from_an_out_of_line_block_is_no_loop() {
        let code =
            sample("@!P0 BRA `(.L_x_2)\n.L_x_1:\nSTG.E [R2], R4\nEXIT\n.L_x_2:\nIMAD R4, R4, R5, R6\nBRA `(.L_x_1)");
        assert_eq!(main_loop(&code), None);
    }

    /// The whole loop lies behind EXIT, its header last: the edge back goes down in the text.
    #[test]
    fn a_loop_whose_header_comes_last_in_the_text_is_found() {
        let code = sample(
            "BRA `(.L_x_3)\n.L_x_2:\nFFMA R1, R2, R3, R1\nFFMA R1, R2, R3, R1\nBRA `(.L_x_3)\n.L_x_4:\nEXIT\n.L_x_3:\nLDS R2, [R3]\n\
             @P0 BRA `(.L_x_2)\nBRA `(.L_x_4)",
        );
        assert_eq!(main_loop(&code).unwrap().sorted(), [("BRA", 2), ("FFMA", 2), ("LDS", 1)]);
    }

    #[test]
    fn bsync_goes_on_where_bssy_said_and_conditions_among_operands_fall_through() {
        let code = sample(
            ".L_x_0:\nBSSY B0, `(.L_x_1)\n@P0 BRA `(.L_x_5)\nFADD R1, R1, R2\n.L_x_2:\nBSYNC B0\n.L_x_5:\nFMUL R1, R1, R2\nBRA `(.L_x_2)\n.L_x_1:\n\
             BRA.DIV ~URZ, `(.L_x_7)\n@P1 BRA `(.L_x_0)\nEXIT\n.L_x_7:\nCALL.REL.NOINC `($f)\nEXIT",
        );
        let main = main_loop(&code).unwrap();
        assert_eq!((main.count("FMUL"), main.count("FADD"), main.count("BRA"), main.count("CALL")), (1, 1, 4, 0));
    }

    #[test]
    fn of_two_loops_the_inner_one_counts_and_of_siblings_the_larger() {
        let code = sample(
            ".L_x_0:\nIADD3 R1, R1, R2, R3\n.L_x_1:\nFFMA R1, R2, R3, R1\nFFMA R1, R2, R3, R1\n@P0 BRA `(.L_x_1)\n.L_x_2:\nLDG.E R1, [R2]\n\
             @P1 BRA `(.L_x_2)\n@P2 BRA `(.L_x_0)\nEXIT",
        );
        assert_eq!(main_loop(&code).unwrap().sorted(), [("FFMA", 2), ("BRA", 1)]);
    }

    #[test]
    fn patterns_name_an_opcode_and_suffixes() {
        let code = sample(
            "LDG.E.128.CONSTANT R4, [R2]\nLDG.E R4, [R2]\nLDGSTS.E.BYPASS.LTC128B.128 [R1], [R2]\n@P0 IMAD.WIDE.U32 R1, R2, R3, R4\nNOP",
        );
        let mix = all(&code);
        let of = |p: &str| mix.count(p);
        assert_eq!((of("LDG"), of("LDG.128"), of("LDGSTS.128"), of("IMAD.WIDE"), of("LD")), (2, 1, 1, 1, 0));
        assert_eq!(mix.total(), 4);
    }
}
