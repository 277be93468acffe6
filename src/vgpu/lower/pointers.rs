//! Which parameters are pointers. An argument for one is checked before the launch, so a guess must be right: a 64-bit parameter counts only where its value
//! goes through `cvta`, or becomes an address by copies and by adding what cannot be a pointer itself (products, shifts, conversions, constants).

use std::collections::{HashMap, HashSet};

use super::context::{Context, Resolved};
use super::names::{Entry, RegId};
use crate::vgpu::ptx::ast::{Base, Instr, Operand, Space, Ty};

/// One way in which a register gets its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Param(usize),
    Copy(RegId),
    /// `cvta` of it: to a space or from one.
    Cvta(RegId, Space, bool),
    Sum(RegId, RegId),
    /// A product, a shift, something loaded: no pointer that comes from a parameter.
    Other,
}

/// Where 64-bit values come from and where they are used as global or generic addresses.
#[derive(Default)]
pub(super) struct Flows {
    origins: HashMap<RegId, Vec<Origin>>,
    pub addresses: Vec<RegId>,
}

impl Flows {
    fn add(&mut self, to: RegId, origin: Origin) {
        self.origins.entry(to).or_default().push(origin);
    }

    fn of(&self, reg: RegId) -> &[Origin] {
        self.origins.get(&reg).map_or(&[], Vec::as_slice)
    }

    /// A value that no parameter's address is part of.
    fn index(&self, reg: RegId) -> bool {
        let origins = self.of(reg);
        !origins.is_empty() && origins.iter().all(|o| *o == Origin::Other)
    }

    /// Marks the parameters that `reg` is a pointer from.
    fn trace(&self, reg: RegId, seen: &mut HashSet<RegId>, found: &mut HashSet<usize>) {
        let mut work = vec![reg];
        while let Some(reg) = work.pop() {
            if !seen.insert(reg) {
                continue;
            }
            for origin in self.of(reg) {
                match *origin {
                    Origin::Param(n) => {
                        found.insert(n);
                    }
                    Origin::Copy(from) | Origin::Cvta(from, ..) => work.push(from),
                    Origin::Sum(a, b) if self.index(b) => work.push(a),
                    Origin::Sum(a, b) if self.index(a) => work.push(b),
                    Origin::Sum(..) | Origin::Other => {}
                }
            }
        }
    }

    /// The space of a generic address, where it comes from one `cvta` from a space.
    fn space(&self, reg: RegId) -> Option<Space> {
        let mut reg = reg;
        for _ in 0..16 {
            match self.of(reg) {
                [Origin::Copy(from)] => reg = *from,
                [Origin::Sum(a, b)] if self.index(*b) => reg = *a,
                [Origin::Cvta(_, space, false)] => return Some(*space),
                _ => return None,
            }
        }
        None
    }
}

impl<'a> Context<'a> {
    fn wide_reg(&mut self, operand: &Operand) -> Option<RegId> {
        let reg = self.register(operand).ok()?.ok()?;
        (self.regs[reg as usize].ty.bytes() == 8 && self.regs[reg as usize].ty != Ty::F64).then_some(reg)
    }

    /// Notes where the result of an instruction comes from.
    pub fn note_flow(&mut self, instr: &'a Instr, base: &str) {
        let (Some(to), rest) = (instr.operands.first(), instr.operands.get(1..).unwrap_or_default()) else { return };
        if !matches!(to, Operand::Name(_) | Operand::Component(..)) || matches!(base, "st" | "red" | "bra" | "call") {
            return;
        }
        let Some(to) = self.wide_reg(to) else { return };
        let mut reg = |i: usize| rest.get(i).and_then(|o| self.wide_reg(o));
        let has = |m: &str| instr.op.iter().any(|o| o == m);
        let copy = |r: Option<RegId>| r.map_or(Origin::Other, Origin::Copy);
        let origins: Vec<Origin> = match base {
            "mov" => vec![copy(reg(0))],
            "add" => vec![match (reg(0), reg(1)) {
                (Some(a), Some(b)) => Origin::Sum(a, b),
                (a, b) => copy(a.or(b)),
            }],
            "sub" => vec![match (reg(0), reg(1)) {
                (Some(a), Some(b)) => Origin::Sum(a, b),
                (a, _) => copy(a),
            }],
            "mad" => vec![copy(reg(2))],
            "selp" => vec![copy(reg(0)), copy(reg(1))],
            "cvta" => {
                let spaces = [
                    ("global", Space::Global),
                    ("shared", Space::Shared),
                    ("local", Space::Local),
                    ("const", Space::Const),
                ];
                let space =
                    spaces.iter().find(|s| instr.op.iter().any(|o| o == s.0 || o.split("::").next() == Some(s.0)));
                let space = space.map_or(Space::Param, |s| s.1);
                match reg(0) {
                    Some(from) => vec![Origin::Cvta(from, space, has("to"))],
                    // Of a variable: the register itself stands for it.
                    None => vec![Origin::Cvta(to, space, has("to"))],
                }
            }
            "ld" if instr.op.iter().any(|o| o == "param" || o.starts_with("param::")) => vec![self.param_origin(rest)],
            _ => vec![Origin::Other],
        };
        for origin in origins {
            self.flows.add(to, origin);
        }
    }

    fn param_origin(&mut self, rest: &[Operand]) -> Origin {
        if let Some(Operand::Address { base: Base::Name(name), offset: 0 }) = rest.first()
            && let Resolved::Entry(Entry::Param(n)) = self.resolve(name)
            && self.params[n].bytes == 8
        {
            return Origin::Param(n);
        }
        Origin::Other
    }

    /// A value goes from a register to a `.param` variable of a call (`store`) or back.
    pub fn flow_copy(&mut self, operand: &Operand, cell: RegId, store: bool) {
        if let Some(reg) = self.wide_reg(operand) {
            let (to, from) = if store { (cell, reg) } else { (reg, cell) };
            self.flows.add(to, Origin::Copy(from));
        }
    }

    /// Marks the parameters that are pointers; after the pass.
    pub fn mark_pointers(&mut self) {
        let mut seen = HashSet::new();
        let mut found = HashSet::new();
        for reg in &self.flows.addresses {
            self.flows.trace(*reg, &mut seen, &mut found);
        }
        for origins in self.flows.origins.values() {
            for origin in origins {
                if let Origin::Cvta(from, Space::Global, true) = origin {
                    self.flows.trace(*from, &mut seen, &mut found);
                }
            }
        }
        for n in found {
            self.params[n].pointer = true;
        }
    }

    /// The space of a generic address that is known here already.
    pub fn known_space(&self, reg: RegId) -> Option<Space> {
        self.flows.space(reg)
    }
}
