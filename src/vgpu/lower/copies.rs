//! `cp.async`, `ldmatrix`, `stmatrix`.

use super::context::Context;
use super::memory::access;
use super::modifiers::{Mods, operand_count};
use super::operands::{Operands, Result};
use crate::vgpu::ir::{Access, FALSE, Ins, NO_ROW, Op};
use crate::vgpu::prof::Class;
use crate::vgpu::ptx::ast::{Instr, Operand, Space, Ty};

impl<'a> Context<'a> {
    /// Lowers everything that begins with `cp`.
    pub fn copy_async(&mut self, instr: &'a Instr) -> Result<()> {
        let mut mods = Mods::new(instr);
        let asynchronous = mods.flag("async");
        if !asynchronous || instr.op.iter().any(|m| m == "bulk" || m == "mbarrier" || m == "reduce") {
            return Err(
                self.error(true, &format!("`{}`: bulk copies and mbarriers are not supported", instr.op.join(".")))
            );
        }
        if mods.flag("commit_group") {
            mods.finish()?;
            operand_count(instr, &[0])?;
            self.plain(Op::CpCommit, Class::AsyncCopy);
            return Ok(());
        }
        if mods.flag("wait_all") {
            mods.finish()?;
            operand_count(instr, &[0])?;
            self.push(Ins { d: 1, ..Ins::machine(Op::CpWait, Class::AsyncCopy) });
            return Ok(());
        }
        if mods.flag("wait_group") {
            mods.finish()?;
            operand_count(instr, &[1])?;
            let n = self.imm(&instr.operands[0])?;
            let Ok(x) = u32::try_from(n) else {
                return Err(self.wrong_here(&format!("wait for all but {n} groups")));
            };
            self.push(Ins { x, ..Ins::machine(Op::CpWait, Class::AsyncCopy) });
            return Ok(());
        }
        self.copy_bytes(instr, mods)
    }

    fn copy_bytes(&mut self, instr: &'a Instr, mut mods: Mods<'_>) -> Result<()> {
        let cg = mods.need(&[("ca", false), ("cg", true)])?;
        mods.need(&[("shared", ()), ("shared::cta", ())])?;
        mods.expect("global")?;
        let policy = mods.flag("L2::cache_hint");
        mods.one_of(&[("L2::64B", ()), ("L2::128B", ()), ("L2::256B", ())])?;
        mods.finish()?;
        operand_count(instr, if policy { &[4, 5] } else { &[3, 4] })?;
        let last = instr.operands.len() - usize::from(policy);
        if policy {
            self.cache_policy(&instr.operands[last])?;
        }
        let to = self.address(&instr.operands[0], Space::Shared)?;
        let from = self.address(&instr.operands[1], Space::Global)?;
        if !from.wide {
            return Err(self.wrong_here("a 32-bit address in global memory"));
        }
        let size = self.imm(&instr.operands[2])?;
        let width = match (cg, size) {
            (true, 16) | (false, 4 | 8 | 16) => size as u32,
            (true, _) => return Err(self.wrong_here(&format!("`.cg` copies 16 bytes, not {size}"))),
            (false, _) => return Err(self.wrong_here(&format!("`.ca` copies 4, 8 or 16 bytes, not {size}"))),
        };
        let (mut c, mut q) = (NO_ROW, FALSE);
        if last == 4 {
            let extra = &instr.operands[3];
            if matches!(extra, Operand::Not(_)) || self.type_of(extra) == Some(Ty::Pred) {
                let (pred, negated) = self.pred(extra)?;
                if negated {
                    return Err(self.error(true, "a negated ignore-src predicate"));
                }
                q = pred;
            } else {
                c = self.src(extra, Ty::U32)?;
            }
        }
        let access = Access { offset2: from.offset, ..access(Space::Shared, width, 1, 4, Vec::new(), &to) };
        let x = self.access(access);
        self.push(Ins {
            a: to.row,
            imm: to.offset,
            b: from.row,
            c,
            q,
            x,
            ..Ins::machine(Op::CpAsync, Class::AsyncCopy)
        });
        Ok(())
    }

    /// Lowers `ldmatrix` and `stmatrix`.
    pub fn matrix(&mut self, instr: &'a Instr, base: &str) -> Result<()> {
        let mut mods = Mods::new(instr);
        mods.expect("sync")?;
        mods.expect("aligned")?;
        if mods.one_of(&[("m16n16", ()), ("m8n16", ()), ("m16n8", ())])?.is_some() {
            return Err(self.error(true, "matrices other than 8x8"));
        }
        mods.expect("m8n8")?;
        let count = mods.need(&[("x1", 1u32), ("x2", 2), ("x4", 4)])?;
        let transposed = mods.flag("trans");
        let space = self.space(&mut mods)?;
        if !matches!(space, Space::Shared | Space::Generic) {
            return Err(self.wrong_here(&format!("`{base}` outside shared memory")));
        }
        let ty = mods.ty()?;
        mods.finish()?;
        if ty != Ty::B16 {
            return Err(self.error(ty.bytes() == 1, "matrices of elements other than .b16"));
        }
        operand_count(instr, &[2])?;
        let load = base == "ldmatrix";
        let (registers, place) = if load { (0, 1) } else { (1, 0) };
        let Operand::Vector(elements) = &instr.operands[registers] else {
            return Err(self.wrong_here(&format!("no vector of {count} registers")));
        };
        if elements.len() != count as usize {
            return Err(self.wrong_here(&format!("{} registers for {count} matrices", elements.len())));
        }
        let address = self.address(&instr.operands[place], space)?;
        let mut regs = Vec::with_capacity(elements.len());
        for element in elements {
            regs.push(if load { self.dst(element, Ty::B32)? } else { self.src(element, Ty::B32)? });
        }
        let space = address.space.unwrap_or(space);
        let x = self.access(access(space, 16, count, 4, regs, &address));
        let op = if load { Op::Ldmatrix } else { Op::Stmatrix };
        let d = u16::from(transposed);
        self.push(Ins { a: address.row, imm: address.offset, x, d, ..Ins::machine(op, Class::Shared) });
        Ok(())
    }
}
