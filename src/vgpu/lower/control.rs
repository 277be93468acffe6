//! Barriers, and instructions that only steer the hardware.

use super::context::Context;
use super::modifiers::{Mods, operand_count};
use super::operands::{Operands, Result};
use crate::vgpu::ir::{Ins, NO_ROW, Op, RowId};
use crate::vgpu::prof::Class;
use crate::vgpu::ptx::ast::{Imm, Instr, Operand, Ty};

impl<'a> Context<'a> {
    /// Lowers barriers and the like; false for others.
    pub fn control(&mut self, instr: &'a Instr, base: &str) -> Result<bool> {
        if !matches!(base, "bar" | "barrier" | "nanosleep" | "griddepcontrol" | "setmaxnreg" | "pmevent") {
            return self.refused(instr, base);
        }
        let mut mods = Mods::new(instr);
        match base {
            "bar" | "barrier" => self.barrier(instr, base, mods)?,
            "nanosleep" => {
                mods.expect("u32")?;
                mods.finish()?;
                operand_count(instr, &[1])?;
                self.src(&instr.operands[0], Ty::U32)?;
                self.plain(Op::Yield, Class::Other);
            }
            "griddepcontrol" => {
                mods.need(&[("launch_dependents", ()), ("wait", ())])?;
                mods.finish()?;
                operand_count(instr, &[0])?;
                self.plain(Op::Nop, Class::Other);
            }
            "setmaxnreg" => {
                mods.need(&[("inc", ()), ("dec", ())])?;
                mods.expect("sync")?;
                mods.expect("aligned")?;
                mods.expect("u32")?;
                mods.finish()?;
                operand_count(instr, &[1])?;
                self.imm(&instr.operands[0])?;
                self.plain(Op::Nop, Class::Other);
            }
            "pmevent" => {
                mods.flag("mask");
                mods.finish()?;
                operand_count(instr, &[1])?;
                self.imm(&instr.operands[0])?;
                self.plain(Op::Nop, Class::Other);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What only newer GPUs have; false for what others may know.
    fn refused(&self, instr: &Instr, base: &str) -> Result<bool> {
        let hint = match base {
            "alloca" | "stacksave" | "stackrestore" => "use arrays of a fixed size",
            "mbarrier" | "wgmma" | "tcgen05" | "tensormap" | "clusterlaunchcontrol" => {
                "compile for sm_80: the virtual GPU has mma.sync and cp.async"
            }
            _ => return Ok(false),
        };
        let mut error = self.error(true, &format!("`{}` is not supported", instr.op.join(".")));
        error.hint = hint.into();
        Err(error)
    }

    fn barrier(&mut self, instr: &'a Instr, base: &str, mut mods: Mods<'_>) -> Result<()> {
        if mods.flag("warp") {
            mods.expect("sync")?;
            mods.finish()?;
            operand_count(instr, &[1])?;
            let e = self.src(&instr.operands[0], Ty::B32)?;
            self.push(Ins { e, ..Ins::machine(Op::WarpBar, Class::Barrier) });
            return Ok(());
        }
        if mods.flag("cluster") {
            return Err(self.error(true, "barriers of clusters"));
        }
        mods.flag("cta");
        let op = mods.need(&[("sync", Op::BarSync), ("arrive", Op::BarArrive), ("red", Op::BarRed)])?;
        // `bar` is short for `barrier` with `.aligned`.
        let aligned = mods.flag("aligned") || base == "bar";
        let mut ins = Ins { x: u32::from(aligned), b: NO_ROW, ..Ins::machine(op, Class::Barrier) };
        if op != Op::BarRed {
            mods.finish()?;
            operand_count(instr, if op == Op::BarArrive { &[2] } else { &[1, 2] })?;
            ins.a = self.barrier_id(&instr.operands[0])?;
            if let Some(count) = instr.operands.get(1) {
                ins.b = self.thread_count(count, op)?;
            }
            self.push(ins);
            return Ok(());
        }
        ins.imm = mods.need(&[("popc", 0i64), ("and", 1), ("or", 2)])?;
        let ty = mods.ty()?;
        mods.finish()?;
        operand_count(instr, &[3, 4])?;
        if ty != (if ins.imm == 0 { Ty::U32 } else { Ty::Pred }) {
            return Err(self.wrong_here("`.popc` is on .u32, `.and` and `.or` on .pred: wrong type"));
        }
        ins.a = self.barrier_id(&instr.operands[1])?;
        if instr.operands.len() == 4 {
            ins.b = self.thread_count(&instr.operands[2], op)?;
        }
        let last = &instr.operands[instr.operands.len() - 1];
        let (c, negated) = self.pred(last)?;
        (ins.c, ins.e) = (c, u16::from(negated));
        ins.d = if ins.imm == 0 { self.dst(&instr.operands[0], Ty::U32)? } else { self.pred_dst(&instr.operands[0])? };
        self.push(ins);
        Ok(())
    }

    fn barrier_id(&mut self, operand: &Operand) -> Result<RowId> {
        if let Operand::Imm(Imm::Int(id)) = operand
            && !(0..16).contains(id)
        {
            return Err(self.wrong_here(&format!("barrier {id}: a block has barriers 0 to 15")));
        }
        self.src(operand, Ty::U32)
    }

    fn thread_count(&mut self, operand: &Operand, op: Op) -> Result<RowId> {
        match operand {
            // As if it were not there: all threads of the block.
            Operand::Imm(Imm::Int(0)) if op != Op::BarArrive => return Ok(NO_ROW),
            Operand::Imm(Imm::Int(n)) if *n <= 0 || n % 32 != 0 => {
                return Err(self.wrong_here(&format!("{n} threads at a barrier: no positive multiple of 32")));
            }
            _ => {}
        }
        self.src(operand, Ty::U32)
    }
}
