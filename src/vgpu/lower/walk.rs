//! The walk over a body: declarations, scopes, source places, labels, and which file lowers which instruction.

use std::collections::HashSet;

use super::context::{Context, Current, MOST_CODE, Store};
use super::modifiers::error;
use super::names::{Entry, MOST_SCOPES};
use super::operands::{Operands, Result};
use super::{FORMS, image};
use crate::vgpu::ir::{Ins, Op, TRUE};
use crate::vgpu::prof::Class;
use crate::vgpu::ptx::ast::{Func, Imm, Instr, Loc, Operand, Pos, Space, Stmt, Ty, Var};

impl<'a> Context<'a> {
    /// Lowers the statements of a scope that is open already.
    pub fn statements(&mut self, body: &'a [Stmt]) -> Result<()> {
        let first = self.next_label;
        if let Some(Stmt::Label { pos, name }) = self.names.declare_labels(body, &mut self.next_label) {
            return Err(image::wrong(*pos, false, format!("label `{name}` is there twice"), ""));
        }
        self.labels.resize(self.next_label as usize, None);
        let mut label = first;
        let func = self.calls.last().copied().unwrap_or(self.entry);
        let tail = self.calls.last().and_then(|f| f.body.as_deref()).is_some_and(|b| std::ptr::eq(b, body));
        for (i, stmt) in body.iter().enumerate() {
            match stmt {
                Stmt::Reg { pos, ty, vec, names } => self.declare_registers(*pos, *ty, *vec, names)?,
                Stmt::Var(var) => self.declare_variable(var)?,
                Stmt::Label { pos, name } => {
                    self.labels[label as usize] = Some(self.pc());
                    label += 1;
                    // Others only mark places for debuggers.
                    if self.branched.get(&std::ptr::from_ref(func)).is_some_and(|b| b.contains(name.as_str())) {
                        self.join(pos.line, name);
                    }
                    self.check_size(*pos)?;
                }
                Stmt::Block(inner) => {
                    let pos = self.cur.instr.map_or(self.entry.pos, |i| i.pos);
                    if !self.names.open() {
                        return Err(too_deep(pos));
                    }
                    self.statements(inner)?;
                    self.names.close();
                }
                Stmt::Loc(loc) => self.cur.loc = Some(self.loc(loc)),
                Stmt::BranchTargets { pos, name, targets } => self.declare(*pos, name, Entry::Targets(targets))?,
                Stmt::CallInfo { pos, name, .. } => self.declare(*pos, name, Entry::CallInfo)?,
                Stmt::Pragma(_) => {}
                Stmt::Instr(instr) => {
                    // Falling off the end of an inlined function is as good as returning from it.
                    let last = tail && i + 1 == body.len() && instr.guard.is_none();
                    if !(last && instr.op.first().is_some_and(|op| op == "ret")) {
                        self.instruction(instr)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The body of a function in a scope that is open already.
    pub fn body(&mut self, func: &'a Func) -> Result<()> {
        let body = func.body.as_deref().unwrap_or_default();
        self.branched.entry(std::ptr::from_ref(func)).or_insert_with(|| {
            let mut names = HashSet::new();
            branched(body, &mut names);
            names
        });
        self.statements(body)
    }

    fn check_size(&self, pos: Pos) -> Result<()> {
        if self.code.len() > MOST_CODE {
            let what = format!("`{}` has more than {MOST_CODE} instructions after inlining", self.entry.name);
            return Err(image::wrong(pos, true, what, ""));
        }
        Ok(())
    }

    fn declare(&mut self, pos: Pos, name: &str, entry: Entry<'a>) -> Result<()> {
        if self.names.declare(name, entry) {
            return Ok(());
        }
        Err(image::wrong(pos, false, format!("`{name}` is declared twice"), ""))
    }

    fn declare_registers(&mut self, pos: Pos, ty: Ty, vec: u32, names: &'a [(String, Option<u32>)]) -> Result<()> {
        for (name, count) in names {
            if !self.names.declare_regs(name, *count, ty, vec) {
                return Err(image::wrong(pos, false, format!("register `{name}` is declared twice"), ""));
            }
        }
        if !matches!(vec, 1 | 2 | 4) || (vec > 1 && ty == Ty::Pred) {
            return Err(image::wrong(pos, false, format!("a register vector of {vec}"), ""));
        }
        Ok(())
    }

    fn declare_variable(&mut self, var: &'a Var) -> Result<()> {
        match var.space {
            Some(Space::Param) => self.declare_store(var),
            Some(space) => self.declare(var.pos, &var.name, Entry::Var(var, space)),
            None => Err(image::wrong(var.pos, false, format!("`{}` has no space", var.name), "")),
        }
    }

    /// A `.param` variable of a body.
    pub fn declare_store(&mut self, var: &'a Var) -> Result<()> {
        let store = self.new_store(&var.name, image::size(var)?, image::alignment(var)?);
        self.declare(var.pos, &var.name, Entry::Store(store))
    }

    pub fn new_store(&mut self, name: &str, bytes: u64, align: u32) -> u32 {
        self.stores.push(Store { name: name.to_string(), bytes, align, place: None, cells: Vec::new() });
        self.stores.len() as u32 - 1
    }

    /// The number of a source place; inside an inlined function the place of the call is added.
    fn loc(&mut self, loc: &'a Loc) -> u32 {
        let caller = self.call_locs.last().copied().flatten();
        let key = (std::ptr::from_ref(loc), caller);
        if let Some(&id) = self.loc_ids.get(&key) {
            return id;
        }
        let mut full = loc.clone();
        if let Some(caller) = caller.and_then(|id| self.locs.get(id as usize)) {
            full.inlined_at.push((caller.file, caller.line, caller.col));
            full.inlined_at.extend_from_slice(&caller.inlined_at);
        }
        let id = self.locs.len() as u32;
        self.locs.push(full);
        self.loc_ids.insert(key, id);
        id
    }

    fn instruction(&mut self, instr: &'a Instr) -> Result<()> {
        self.check_size(instr.pos)?;
        self.free_scratch();
        self.cur = Current { instr: Some(instr), guard: TRUE, flip: 0, start: self.pc(), ..self.cur };
        if let Some((name, negated)) = &instr.guard {
            let (guard, _) = self.pred(&Operand::Name(name.clone()))?;
            (self.cur.guard, self.cur.flip) = (guard, if *negated { u32::MAX } else { 0 });
        }
        let base = instr.op.first().map_or("", String::as_str);
        self.observe(instr, base);
        if self.flow(instr, base)?
            || self.memory(instr, base)?
            || self.warp(instr, base)?
            || self.control(instr, base)?
        {
            return Ok(());
        }
        self.forms(instr, base)
    }

    /// What hints and pointers of parameters are found from.
    fn observe(&mut self, instr: &'a Instr, base: &str) {
        self.note_flow(instr, base);
        self.note_hints(instr, base);
    }

    /// Arithmetic and matrix products, from the tables.
    fn forms(&mut self, instr: &'a Instr, base: &str) -> Result<()> {
        if base == "mov"
            && let [to, from @ (Operand::Name(_) | Operand::Component(..))] = instr.operands.as_slice()
            && self.move_special(instr, to, from)?
        {
            return Ok(());
        }
        let events = self.events.len();
        for form in FORMS {
            if let Some(code) = form(instr, self)? {
                if code.len() > 1 && self.cur.guard != TRUE {
                    self.keep_guard(events);
                }
                let renames = renames(instr);
                for ins in code {
                    self.push(Ins { class: if renames { Class::Mov } else { ins.class }, ..ins });
                }
                return Ok(());
            }
        }
        Err(error(instr, true, &format!("instruction `{}` is not supported", instr.op.join("."))))
    }

    /// `mov` from a special register: straight into the destination.
    fn move_special(&mut self, instr: &'a Instr, to: &Operand, from: &Operand) -> Result<bool> {
        let Some((register, has)) = self.special_operand(from) else { return Ok(false) };
        let Some(ty) = instr.op.get(1).and_then(|t| Ty::parse(t)) else { return Ok(false) };
        if instr.op.len() != 2 || has == Ty::Pred || !super::types::agrees(ty, has) {
            return Ok(false);
        }
        let d = self.dst(to, ty)?;
        self.special_into(register, has, d);
        Ok(true)
    }

    /// Several machine instructions for one that is guarded by a predicate that it writes itself: the guard is taken from a copy.
    fn keep_guard(&mut self, events: usize) {
        let guard = self.cur.guard;
        let own = self.events[events..].iter().any(|e| {
            let reg = &self.regs[e.reg as usize];
            e.write && reg.ty == Ty::Pred && reg.row == guard
        });
        if own {
            let copy = self.scratch_predicate();
            let move_guard = Ins { d: copy, a: guard, ..Ins::row(super::moves::copy_pred, Class::Pred) };
            self.push_unguarded(move_guard);
            self.cur.guard = copy;
        }
    }

    /// An instruction of the machine without operands.
    pub fn plain(&mut self, op: Op, class: Class) {
        self.push(Ins::machine(op, class));
    }
}

/// Collects the names that branches go to.
fn branched<'a>(body: &'a [Stmt], names: &mut HashSet<&'a str>) {
    for stmt in body {
        match stmt {
            Stmt::Instr(instr) if instr.op.first().is_some_and(|op| op == "bra") => {
                if let Some(Operand::Name(name)) = instr.operands.first() {
                    names.insert(name);
                }
            }
            Stmt::BranchTargets { targets, .. } => names.extend(targets.iter().map(String::as_str)),
            Stmt::Block(inner) => branched(inner, names),
            _ => {}
        }
    }
}

pub(super) fn too_deep(pos: Pos) -> super::operands::LowerError {
    image::wrong(pos, true, format!("scopes and calls nested more than {MOST_SCOPES} deep"), "")
}

/// Whether an instruction comes to nothing on a GPU but another name: a half of a 64-bit register for the whole of it, or the other way round. For the time model.
fn renames(instr: &Instr) -> bool {
    let (word, wide) = (|ty: &str| matches!(ty, "u32" | "s32"), |ty: &str| matches!(ty, "u64" | "s64"));
    let parts: Vec<&str> = instr.op.iter().map(String::as_str).collect();
    match parts[..] {
        ["cvt", to, from] => (word(to) && (word(from) || wide(from))) || (wide(to) && (from == "u32" || wide(from))),
        ["shr", "u64" | "b64"] => matches!(instr.operands.get(2), Some(Operand::Imm(Imm::Int(32)))),
        _ => false,
    }
}
