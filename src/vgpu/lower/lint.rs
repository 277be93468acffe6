//! Hints: what is legal PTX but slow, fragile, or left to `ptxas`. They never stop a kernel.

use std::collections::HashSet;

use super::context::Context;
use super::names::RegId;
use super::order::Blocks;
use crate::vgpu::ir::{NO_ROW, Op, RowId, Special};
use crate::vgpu::ptx::ast::{Instr, Operand, Space, Ty};

/// Hints of one kind after which it is not told again.
const MOST: usize = 8;

/// Blocks of a kernel in which barriers are looked at.
const MOST_BLOCKS: usize = 5000;

/// What the hints go by.
#[derive(Default)]
pub(super) struct Seen {
    /// Results of products without a rounding mode.
    products: HashSet<RegId>,
    contracted: usize,
    generic: usize,
    volatile: usize,
    wide: usize,
    approximate: usize,
    single: bool,
    /// Instructions that read a number of the thread itself: pcs.
    own: HashSet<u32>,
    /// First f64 arithmetic: pc.
    double: Option<u32>,
    /// f64 values in memory or parameters: then f64 is meant.
    double_data: bool,
}

const ROUNDING: [&str; 4] = ["rn", "rz", "rm", "rp"];

impl<'a> Context<'a> {
    /// Looks at an instruction before it is lowered.
    pub fn note_hints(&mut self, instr: &'a Instr, base: &str) {
        let ty = instr.op.iter().rev().find_map(|m| Ty::parse(m));
        let float = matches!(ty, Some(Ty::F32 | Ty::F64 | Ty::F16 | Ty::F16x2 | Ty::Bf16 | Ty::Bf16x2));
        match base {
            "mul" | "add" | "sub" if float => self.note_contraction(instr, base),
            "ld" if instr.op.iter().any(|m| m == "volatile") => {
                self.hints.volatile += 1;
                if self.hints.volatile <= MOST {
                    self.note(
                        "a volatile load orders nothing; between blocks use ld.relaxed or ld.acquire with a scope"
                            .into(),
                    );
                }
            }
            "mul" | "mad" if matches!(ty, Some(Ty::S64 | Ty::U64)) && instr.op.iter().any(|m| m == "lo") => {
                self.hints.wide += 1;
                if self.hints.wide == MOST {
                    self.note(format!(
                        "{MOST} 64-bit products so far; each is several instructions: are 32-bit indices enough?"
                    ));
                }
            }
            "div" | "rem" if matches!(ty, Some(Ty::S64 | Ty::U64)) => {
                self.note("64-bit integer division is about a hundred instructions".into());
            }
            "div" if instr.op.iter().any(|m| m == "approx" || m == "full") => {
                self.hints.approximate += 1;
                if self.hints.approximate == 1 {
                    self.note("an approximate division: is fast-math meant?".into());
                }
            }
            _ => {}
        }
        if !matches!(base, "ld" | "st" | "mov" | "atom" | "red" | "selp") {
            self.hints.single |= ty == Some(Ty::F32);
            if ty == Some(Ty::F64) {
                self.hints.double.get_or_insert(self.cur.start);
            }
        } else if ty == Some(Ty::F64) && base != "mov" && base != "selp" {
            self.hints.double_data = true;
        }
    }

    /// `mul` and `add` without a rounding mode may become one fused instruction, or not.
    fn note_contraction(&mut self, instr: &'a Instr, base: &str) {
        let annotated = instr.op.iter().any(|m| ROUNDING.contains(&m.as_str()));
        let mut regs: Vec<Option<RegId>> = Vec::with_capacity(3);
        for operand in &instr.operands {
            regs.push(match operand {
                Operand::Name(_) | Operand::Component(..) => {
                    self.register(operand).ok().and_then(std::result::Result::ok)
                }
                _ => None,
            });
        }
        let to = regs.first().copied().flatten();
        if base != "mul" && !annotated && regs.iter().skip(1).flatten().any(|r| self.hints.products.contains(r)) {
            self.hints.contracted += 1;
            if self.hints.contracted <= MOST {
                self.note(format!("a product without .rn goes into an `{base}` without .rn: ptxas may fuse them or not; write fma or .rn"));
            }
        }
        if let Some(to) = to {
            if base == "mul" && !annotated {
                self.hints.products.insert(to);
            } else {
                self.hints.products.remove(&to);
            }
        }
    }

    /// An instruction reads a special register.
    pub fn note_special(&mut self, register: Special) {
        use Special::{Laneid, LanemaskEq, LanemaskGe, LanemaskGt, LanemaskLe, LanemaskLt, TidX, TidY, TidZ};
        if matches!(
            register,
            TidX | TidY | TidZ | Laneid | LanemaskEq | LanemaskLe | LanemaskLt | LanemaskGe | LanemaskGt
        ) {
            self.hints.own.insert(self.cur.start);
        }
    }

    /// A generic access whose space is known.
    pub fn lint_generic(&mut self, space: Space, reg: RegId) {
        if space == Space::Generic
            && let Some(known) = self.known_space(reg)
        {
            self.hints.generic += 1;
            if self.hints.generic <= MOST {
                self.note(format!("a generic access to an address in .{}: name the space", known.name()));
            }
        }
    }

    /// Hints that need the whole kernel.
    pub fn final_hints(&mut self, blocks: &Blocks, undefined: &[(RowId, String)]) {
        let first_read = |context: &Self, name: &str| {
            let at = |e: &&super::context::Event| !e.write && context.regs[e.reg as usize].name == name;
            context.events.iter().find(at).map_or(0, |e| e.pc)
        };
        let mut named: Vec<&str> = undefined.iter().map(|u| u.1.as_str()).collect();
        named.dedup();
        let count = named.len();
        for name in named.into_iter().take(MOST) {
            let pc = first_read(self, name);
            self.lints.push((pc, format!("register `{name}` is read before it is written on some path")));
        }
        if count > MOST {
            self.lints.push((0, format!("{count} registers are read before they are written on some path")));
        }
        if self.local_bytes() > 0 {
            self.lints.push((0, format!("{} bytes of local memory per thread", self.local_bytes())));
        }
        if let (Some(pc), true, false) = (self.hints.double, self.hints.single, self.hints.double_data) {
            self.lints.push((
                pc,
                "f64 arithmetic in a kernel whose data is f32: is a constant without `f` the reason?".into(),
            ));
        }
        for pc in self.suspect_barriers(blocks) {
            self.lints.push(pc);
        }
        self.lints.sort_by_key(|l| l.0);
    }

    /// Barriers that cannot be reached, and those under a branch that lanes may take differently.
    fn suspect_barriers(&self, blocks: &Blocks) -> Vec<(u32, String)> {
        let whole = |pc: usize| {
            let ins = &self.code[pc];
            matches!(ins.op, Op::BarSync | Op::BarRed) && ins.b == NO_ROW
        };
        let barriers: Vec<u32> = (0..self.code.len()).filter(|pc| whole(*pc)).map(|pc| pc as u32).collect();
        let mut found = Vec::new();
        if barriers.is_empty() || blocks.len() > MOST_BLOCKS {
            return found;
        }
        let dependent = blocks.dependent_on(&self.divergent_branches(blocks));
        for pc in barriers {
            let block = blocks.of(pc);
            if !blocks.is_reachable(block) {
                found.push((pc, "a barrier that no path reaches".into()));
            } else if dependent[block as usize] {
                found.push((pc, "a barrier under a branch that threads of a block may take differently".into()));
            }
        }
        found
    }

    /// Blocks that end in a branch on which the lanes of a warp may disagree: its guard depends on the thread's own number.
    fn divergent_branches(&self, blocks: &Blocks) -> Vec<u32> {
        let mut varying: HashSet<RegId> = HashSet::new();
        // Instructions in order, until nothing changes; kernels have few back edges.
        for _ in 0..8 {
            let before = varying.len();
            for group in self.events.chunk_by(|a, b| a.pc == b.pc) {
                let pc = group[0].pc;
                let from = group.iter().any(|e| !e.write && varying.contains(&e.reg)) || self.hints.own.contains(&pc);
                let uniform = matches!(self.code[pc as usize].op, Op::Vote | Op::Redux | Op::BarRed);
                if from && !uniform {
                    varying.extend(group.iter().filter(|e| e.write).map(|e| e.reg));
                }
            }
            if varying.len() == before {
                break;
            }
        }
        let guards: HashSet<u16> =
            varying.iter().map(|r| &self.regs[*r as usize]).filter(|r| r.ty == Ty::Pred).map(|r| r.row).collect();
        (0..blocks.len() as u32)
            .filter(|b| {
                let last = &self.code[blocks.starts[*b as usize + 1] as usize - 1];
                matches!(last.op, Op::Bra | Op::Exit) && guards.contains(&last.guard)
            })
            .collect()
    }
}
