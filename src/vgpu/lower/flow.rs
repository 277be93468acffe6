//! Branches, exits, calls. Functions are inlined: every call makes its own copy of the body, with its own registers.

use super::context::{Context, Current};
use super::image;
use super::modifiers::{Mods, operand_count};
use super::names::{Entry, LabelId, RegId};
use super::operands::{Operands, Result};
use super::resolve::describe;
use super::types;
use crate::vgpu::ir::{Ins, NO_ROW, Op, Order, RowId, Scope, Syscall, TRUE};
use crate::vgpu::prof::Class;
use crate::vgpu::ptx::ast::{Func, Instr, Operand, Space, Ty, Var};

/// A parameter or argument of a call.
#[derive(Clone, Copy)]
enum Passed {
    /// A `.param` variable.
    Store(u32),
    /// A register.
    Reg(RegId),
}

impl<'a> Context<'a> {
    /// Lowers branches, exits and calls; false for other instructions.
    pub fn flow(&mut self, instr: &'a Instr, base: &str) -> Result<bool> {
        match base {
            "bra" => self.branch(instr)?,
            "brx" => self.branch_indexed(instr)?,
            "ret" | "exit" => {
                let mut mods = Mods::new(instr);
                mods.flag("uni");
                mods.finish()?;
                operand_count(instr, &[0])?;
                match (base, self.returns.last().copied()) {
                    ("ret", Some(label)) => self.branch_to(label),
                    _ => self.plain(Op::Exit, Class::Branch),
                }
            }
            "trap" | "brkpt" => {
                Mods::new(instr).finish()?;
                operand_count(instr, &[0])?;
                self.plain(Op::Trap, Class::Branch);
            }
            "call" => self.call(instr)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn branch_to(&mut self, label: LabelId) {
        let pc = self.pc();
        self.fixups.push((pc, label));
        self.plain(Op::Bra, Class::Branch);
    }

    fn label_of(&self, name: &str) -> Result<LabelId> {
        self.names.label(name).ok_or_else(|| self.wrong_here(&format!("no label `{name}` in this function")))
    }

    fn branch(&mut self, instr: &'a Instr) -> Result<()> {
        let mut mods = Mods::new(instr);
        mods.flag("uni");
        mods.finish()?;
        operand_count(instr, &[1])?;
        let Operand::Name(name) = &instr.operands[0] else {
            return Err(self.wrong_here(&format!("{} where a label should be", describe(&instr.operands[0]))));
        };
        let label = self.label_of(name)?;
        self.branch_to(label);
        Ok(())
    }

    fn branch_indexed(&mut self, instr: &'a Instr) -> Result<()> {
        let mut mods = Mods::new(instr);
        mods.expect("idx")?;
        mods.flag("uni");
        mods.finish()?;
        operand_count(instr, &[2])?;
        let a = self.src(&instr.operands[0], Ty::U32)?;
        let targets = match &instr.operands[1] {
            Operand::Name(name) => match self.resolve(name) {
                super::context::Resolved::Entry(Entry::Targets(targets)) => targets,
                _ => return Err(self.wrong_here(&format!("`{name}` is no list of .branchtargets"))),
            },
            other => return Err(self.wrong_here(&format!("{} where a list of targets should be", describe(other)))),
        };
        let Ok(b) = u16::try_from(targets.len()) else {
            return Err(self.error(true, &format!("{} branch targets", targets.len())));
        };
        let x = self.targets.len() as u32;
        for name in targets {
            let label = self.label_of(name)?;
            self.target_fixups.push((self.targets.len() as u32, label));
            self.targets.push(0);
        }
        self.push(Ins { a, b, x, ..Ins::machine(Op::Brx, Class::Branch) });
        Ok(())
    }

    // ---- calls

    fn call(&mut self, instr: &'a Instr) -> Result<()> {
        let mut mods = Mods::new(instr);
        mods.flag("uni");
        mods.finish()?;
        let none = &[][..];
        let (rets, name, args, rest) = match instr.operands.as_slice() {
            [Operand::Tuple(rets), Operand::Name(name), Operand::Tuple(args), rest @ ..] => {
                (&rets[..], name, &args[..], rest)
            }
            [Operand::Tuple(rets), Operand::Name(name), rest @ ..] => (&rets[..], name, none, rest),
            [Operand::Name(name), Operand::Tuple(args), rest @ ..] => (none, name, &args[..], rest),
            [Operand::Name(name), rest @ ..] => (none, name, none, rest),
            _ => return Err(self.wrong_here("a call of nothing that can be called")),
        };
        let func = match self.resolve(name) {
            super::context::Resolved::Entry(Entry::Func(func)) => func,
            super::context::Resolved::Entry(Entry::Reg(_)) => return Err(self.error(true, "an indirect call")),
            _ => return Err(self.wrong_here(&format!("unknown function `{name}`"))),
        };
        if !rest.is_empty() {
            return Err(self.wrong_here("too many operands"));
        }
        if func.entry {
            return Err(self.error(true, &format!("a call of the kernel `{name}`")));
        }
        if args.len() != func.params.len() || rets.len() != func.rets.len() {
            let (want, out) = (func.params.len(), func.rets.len());
            return Err(self.wrong_here(&format!(
                "call of `{name}` with {} arguments and {} results instead of {want} and {out}",
                args.len(),
                rets.len()
            )));
        }
        match &func.body {
            Some(_) => self.inline(instr, func, rets, args),
            None => self.provided(func, rets, args),
        }
    }

    fn inline(&mut self, instr: &'a Instr, func: &'a Func, rets: &'a [Operand], args: &'a [Operand]) -> Result<()> {
        if self.calls.iter().any(|f| std::ptr::eq(*f, func)) {
            return Err(self.error(true, &format!("recursion: `{}` calls itself", func.name)));
        }
        // Arguments are read in the caller's scope.
        let mut passed = Vec::with_capacity(args.len());
        for (arg, param) in args.iter().zip(&func.params) {
            passed.push(self.argument(arg, param)?);
        }
        let mut results = Vec::with_capacity(rets.len());
        for (ret, param) in rets.iter().zip(&func.rets) {
            results.push(self.result(ret, param)?);
        }
        // A guarded call branches around the body.
        let guard = (self.cur.guard, self.cur.flip);
        let around = (guard.0 != TRUE).then(|| {
            let label = self.new_label();
            let pc = self.pc();
            self.fixups.push((pc, label));
            self.push_unguarded(Ins { guard: guard.0, flip: !guard.1, ..Ins::machine(Op::Bra, Class::Branch) });
            label
        });
        let saved = self.cur;
        let (room, floor) = self.names.enter();
        if !room {
            return Err(super::walk::too_deep(instr.pos));
        }
        let mark = self.push_frame();
        let end = self.new_label();
        self.calls.push(func);
        self.call_locs.push(saved.loc);
        self.returns.push(end);
        for (param, passed) in
            func.params.iter().chain(&func.rets).zip(passed.iter().chain(results.iter().map(|r| &r.0)))
        {
            let entry = match *passed {
                Passed::Store(store) => Entry::Store(store),
                Passed::Reg(reg) => Entry::Reg(reg),
            };
            if !self.names.declare(&param.name, entry) {
                return Err(image::wrong(param.pos, false, format!("parameter `{}` is there twice", param.name), ""));
            }
        }
        self.cur = Current { guard: TRUE, flip: 0, ..saved };
        self.body(func)?;
        self.returns.pop();
        self.call_locs.pop();
        self.calls.pop();
        self.pop_frame(mark);
        self.names.leave(floor);
        self.cur = Current { guard: TRUE, flip: 0, start: self.pc(), ..saved };
        self.labels[end as usize] = Some(self.pc());
        self.join(instr.pos.line, &format!("end of {}", func.name));
        self.cur.start = self.pc();
        for (ret, (from, ty)) in rets.iter().zip(&results) {
            self.take_result(ret, *from, *ty)?;
        }
        if let Some(label) = around {
            self.labels[label as usize] = Some(self.pc());
            self.join(instr.pos.line, &format!("after {}", func.name));
        }
        Ok(())
    }

    pub fn new_label(&mut self) -> LabelId {
        let label = self.next_label;
        self.next_label += 1;
        self.labels.resize(self.next_label as usize, None);
        label
    }

    /// What a parameter of the callee is: the caller's `.param` variable itself, or a new register with the argument's value.
    fn argument(&mut self, arg: &Operand, param: &'a Var) -> Result<Passed> {
        let bytes = image::size(param)?;
        let store = self.store_operand(arg);
        if param.space == Some(Space::Param) {
            if let Some(store) = store {
                return self.same_size(store, param, bytes);
            }
            // A register or constant for a scalar `.param`: put there.
            let value = self.src(arg, param.ty)?;
            let store = self.new_store(&param.name, bytes, image::alignment(param)?);
            self.store_put(store, value, param.ty)?;
            return Ok(Passed::Store(store));
        }
        let value = match store {
            Some(store) => self.store_get(store, param.ty)?,
            None if param.ty == Ty::Pred => return Err(self.error(true, "a predicate as an argument")),
            None => self.src(arg, param.ty)?,
        };
        let reg = self.new_reg(param.name.clone(), param.ty);
        let d = self.write(reg);
        self.copy(d, value, types::rows(param.ty));
        Ok(Passed::Reg(reg))
    }

    fn same_size(&mut self, store: u32, param: &Var, bytes: u64) -> Result<Passed> {
        let has = self.stores[store as usize].bytes;
        if has != bytes {
            let what =
                format!("`{}` of {has} bytes passed for `{}` of {bytes}", self.stores[store as usize].name, param.name);
            return Err(self.wrong_here(&what));
        }
        let align = image::alignment(param)?;
        let store_align = &mut self.stores[store as usize].align;
        *store_align = (*store_align).max(align);
        Ok(Passed::Store(store))
    }

    /// Where the callee puts a result, and its type.
    fn result(&mut self, ret: &Operand, param: &'a Var) -> Result<(Passed, Ty)> {
        let bytes = image::size(param)?;
        let place = match (param.space, self.store_operand(ret)) {
            (Some(Space::Param), Some(store)) => self.same_size(store, param, bytes)?,
            (Some(Space::Param), None) => Passed::Store(self.new_store(&param.name, bytes, image::alignment(param)?)),
            _ => Passed::Reg(self.new_reg(param.name.clone(), param.ty)),
        };
        Ok((place, param.ty))
    }

    /// After the body: results into the caller's registers.
    fn take_result(&mut self, ret: &Operand, from: Passed, ty: Ty) -> Result<()> {
        match (from, self.store_operand(ret)) {
            (Passed::Store(_), Some(_)) => Ok(()),
            (Passed::Store(store), None) => {
                let value = self.store_get(store, ty)?;
                let d = self.dst(ret, ty)?;
                self.copy(d, value, types::rows(ty));
                Ok(())
            }
            (Passed::Reg(reg), store) => {
                let value = self.read(reg);
                match store {
                    Some(store) => self.store_put(store, value, ty),
                    None => {
                        let d = self.dst(ret, ty)?;
                        self.copy(d, value, types::rows(ty));
                        Ok(())
                    }
                }
            }
        }
    }

    fn store_operand(&mut self, operand: &Operand) -> Option<u32> {
        let Operand::Name(name) = operand else { return None };
        match self.resolve(name) {
            super::context::Resolved::Entry(Entry::Store(store)) => Some(store),
            _ => None,
        }
    }

    /// The first bytes of a `.param` variable as a value of type `ty`.
    fn store_get(&mut self, store: u32, ty: Ty) -> Result<RowId> {
        if let Some(reg) = self.cell(store, 0, ty.bytes()) {
            return Ok(self.read(reg));
        }
        let d = self.scratch_rows(types::rows(ty));
        self.store_access(Op::Load, store, d, ty)?;
        Ok(d)
    }

    fn store_put(&mut self, store: u32, value: RowId, ty: Ty) -> Result<()> {
        if let Some(reg) = self.cell(store, 0, ty.bytes()) {
            let d = self.write(reg);
            self.copy(d, value, types::rows(ty));
            return Ok(());
        }
        self.store_access(Op::Store, store, value, ty)
    }

    fn store_access(&mut self, op: Op, store: u32, row: RowId, ty: Ty) -> Result<()> {
        let start = self.store_place(store)?;
        let a = self.constant_row(start, false);
        let access = crate::vgpu::ir::Access {
            space: Space::Local,
            width: ty.bytes(),
            count: 1,
            signed: false,
            reg_bytes: types::rows(ty) * 4,
            regs: vec![row],
            results: Vec::new(),
            order: Order::Weak,
            scope: Scope::Cta,
            nc: false,
            atom: None,
            wide: false,
            offset2: 0,
        };
        let x = self.access(access);
        self.push(Ins { a, x, ..Ins::machine(op, Class::Local) });
        Ok(())
    }

    /// Functions that the machine provides.
    fn provided(&mut self, func: &'a Func, rets: &'a [Operand], args: &'a [Operand]) -> Result<()> {
        let types: &[Ty] = match func.name.as_str() {
            "vprintf" => &[Ty::B64, Ty::B64],
            "__assertfail" => &[Ty::B64, Ty::B64, Ty::B32, Ty::B64, Ty::B64],
            "malloc" | "free" | "__nv_malloc" | "__nv_free" => {
                return Err(self.error(true, &format!("device memory by `{}`", func.name)));
            }
            name => {
                let mut error = self.error(false, &format!("function `{name}` has no body"));
                error.hint =
                    "link it into the module; of the CUDA runtime only vprintf and __assertfail are known".into();
                return Err(error);
            }
        };
        if args.len() != types.len() {
            return Err(self.wrong_here(&format!("`{}` takes {} arguments", func.name, types.len())));
        }
        let mut rows = Vec::with_capacity(args.len());
        for (arg, ty) in args.iter().zip(types) {
            rows.push(match self.store_operand(arg) {
                Some(store) => self.store_get(store, *ty)?,
                None => self.src(arg, *ty)?,
            });
        }
        let syscall = if func.name == "vprintf" {
            let result = if rets.is_empty() { NO_ROW } else { self.scratch_rows(1) };
            Syscall::Vprintf { format: rows[0], args: rows[1], result }
        } else {
            Syscall::Assertfail { message: rows[0], file: rows[1], line: rows[2], function: rows[3] }
        };
        let result = match &syscall {
            Syscall::Vprintf { result, .. } => *result,
            Syscall::Assertfail { .. } => NO_ROW,
        };
        self.syscalls.push(syscall);
        let x = self.syscalls.len() as u32 - 1;
        self.push(Ins { x, ..Ins::machine(Op::Syscall, Class::Other) });
        if let (Some(ret), true) = (rets.first(), result != NO_ROW) {
            match self.store_operand(ret) {
                Some(store) => self.store_put(store, result, Ty::B32)?,
                None => {
                    let d = self.dst(ret, Ty::B32)?;
                    self.copy(d, result, 1);
                }
            }
        }
        Ok(())
    }
}

impl Context<'_> {
    /// Writes the pcs of labels into the branches, after the pass.
    pub fn patch(&mut self) -> Result<()> {
        for (pc, label) in std::mem::take(&mut self.fixups) {
            self.code[pc as usize].x = self.pc_of(label)?;
        }
        for (slot, label) in std::mem::take(&mut self.target_fixups) {
            self.targets[slot as usize] = self.pc_of(label)?;
        }
        Ok(())
    }

    fn pc_of(&self, label: LabelId) -> Result<u32> {
        match self.labels.get(label as usize) {
            Some(Some(pc)) => Ok(*pc),
            _ => Err(self.wrong_here("a branch to a label without a place")),
        }
    }
}
