//! Instructions in which the lanes of a warp meet: shuffles, votes, matches, reductions, elections.

use super::context::Context;
use super::modifiers::{Mods, operand_count};
use super::operands::{Operands, Result};
use crate::vgpu::ir::{Ins, NO_ROW, Op, PSINK, Redux};
use crate::vgpu::prof::Class;
use crate::vgpu::ptx::ast::{Instr, Operand, Ty};

impl<'a> Context<'a> {
    /// Lowers warp instructions; false for others.
    pub fn warp(&mut self, instr: &'a Instr, base: &str) -> Result<bool> {
        if !matches!(base, "shfl" | "vote" | "match" | "redux" | "elect" | "activemask") {
            return Ok(false);
        }
        let mut mods = Mods::new(instr);
        match base {
            "shfl" => self.shuffle(instr, mods)?,
            "vote" => self.vote(instr, mods)?,
            "match" => self.matching(instr, mods)?,
            "redux" => self.reduce(instr, mods)?,
            "elect" => {
                mods.expect("sync")?;
                mods.finish()?;
                operand_count(instr, &[2])?;
                let Operand::Pair(leader, elected) = &instr.operands[0] else {
                    return Err(self.wrong_here("`elect` without `d|p`"));
                };
                let e = self.src(&instr.operands[1], Ty::B32)?;
                let d = if **leader == Operand::Sink { NO_ROW } else { self.dst(leader, Ty::B32)? };
                let q = self.pred_dst(elected)?;
                self.push(Ins { d, q, e, ..Ins::machine(Op::Elect, Class::Warp) });
            }
            "activemask" => {
                mods.expect("b32")?;
                mods.finish()?;
                operand_count(instr, &[1])?;
                let d = self.dst(&instr.operands[0], Ty::B32)?;
                self.note(
                    "which lanes are active together is not defined; use __ballot_sync or a mask that is known".into(),
                );
                self.push(Ins { d, ..Ins::machine(Op::Activemask, Class::Warp) });
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// `.sync` must be there: without it the instruction does not exist from sm_70 on.
    fn sync(&self, base: &str, mods: &mut Mods<'_>) -> Result<()> {
        if mods.flag("sync") {
            return Ok(());
        }
        let mut error = self.error(true, &format!("`{base}` without `.sync`, which sm_70 and later do not have,"));
        error.hint = format!("use `{base}.sync` with a mask of the lanes that take part");
        Err(error)
    }

    /// A destination that may be `d|p`.
    fn destination_pair<'o>(&self, operand: &'o Operand) -> (&'o Operand, Option<&'o Operand>) {
        match operand {
            Operand::Pair(d, p) => (d, Some(p)),
            d => (d, None),
        }
    }

    fn shuffle(&mut self, instr: &'a Instr, mut mods: Mods<'_>) -> Result<()> {
        self.sync("shfl", &mut mods)?;
        let x = mods.need(&[("up", 0), ("down", 1), ("bfly", 2), ("idx", 3)])?;
        mods.expect("b32")?;
        mods.finish()?;
        operand_count(instr, &[5])?;
        let (to, p) = self.destination_pair(&instr.operands[0]);
        let a = self.src(&instr.operands[1], Ty::B32)?;
        let b = self.src(&instr.operands[2], Ty::B32)?;
        let c = self.src(&instr.operands[3], Ty::B32)?;
        let e = self.src(&instr.operands[4], Ty::B32)?;
        let d = self.dst(to, Ty::B32)?;
        let q = p.map_or(Ok(PSINK), |p| self.pred_dst(p))?;
        self.push(Ins { x, d, q, a, b, c, e, ..Ins::machine(Op::Shfl, Class::Warp) });
        Ok(())
    }

    fn vote(&mut self, instr: &'a Instr, mut mods: Mods<'_>) -> Result<()> {
        self.sync("vote", &mut mods)?;
        let x = mods.need(&[("all", 0), ("any", 1), ("uni", 2), ("ballot", 3)])?;
        let ty = mods.ty()?;
        mods.finish()?;
        operand_count(instr, &[3])?;
        if ty != (if x == 3 { Ty::B32 } else { Ty::Pred }) {
            return Err(self.wrong_here("`vote.ballot` is on .b32, the others on .pred: wrong type"));
        }
        let (a, negated) = self.pred(&instr.operands[1])?;
        let e = self.src(&instr.operands[2], Ty::B32)?;
        let d = if x == 3 { self.dst(&instr.operands[0], Ty::B32)? } else { self.pred_dst(&instr.operands[0])? };
        self.push(Ins { x, d, a, b: u16::from(negated), e, ..Ins::machine(Op::Vote, Class::Warp) });
        Ok(())
    }

    fn matching(&mut self, instr: &'a Instr, mut mods: Mods<'_>) -> Result<()> {
        self.sync("match", &mut mods)?;
        let x = mods.need(&[("any", 0), ("all", 1)])?;
        let ty = mods.ty()?;
        mods.finish()?;
        operand_count(instr, &[3])?;
        if !matches!(ty, Ty::B32 | Ty::B64) {
            return Err(self.wrong_here("`match` on a type other than .b32 and .b64"));
        }
        let (to, p) = self.destination_pair(&instr.operands[0]);
        if p.is_some() && x == 0 {
            return Err(self.wrong_here("`match.any` has no predicate"));
        }
        let a = self.src(&instr.operands[1], ty)?;
        let e = self.src(&instr.operands[2], Ty::B32)?;
        let d = self.dst(to, Ty::B32)?;
        let q = p.map_or(Ok(PSINK), |p| self.pred_dst(p))?;
        let imm = i64::from(ty.bytes() * 8);
        self.push(Ins { x, imm, d, q, a, e, ..Ins::machine(Op::Match, Class::Warp) });
        Ok(())
    }

    fn reduce(&mut self, instr: &'a Instr, mut mods: Mods<'_>) -> Result<()> {
        self.sync("redux", &mut mods)?;
        let names = [("add", 0u8), ("min", 1), ("max", 2), ("and", 3), ("or", 4), ("xor", 5)];
        let operation = mods.need(&names)?;
        let ty = mods.ty()?;
        if ty == Ty::F32 {
            return Err(self.error(true, "`redux` on .f32"));
        }
        mods.finish()?;
        operand_count(instr, &[3])?;
        let redux = match (operation, ty) {
            (0, Ty::U32 | Ty::S32) => Redux::Add,
            (1, Ty::U32) => Redux::MinU,
            (2, Ty::U32) => Redux::MaxU,
            (1, Ty::S32) => Redux::MinS,
            (2, Ty::S32) => Redux::MaxS,
            (3, Ty::B32) => Redux::And,
            (4, Ty::B32) => Redux::Or,
            (5, Ty::B32) => Redux::Xor,
            _ => return Err(self.wrong_here("no such type for this `redux`")),
        };
        let a = self.src(&instr.operands[1], ty)?;
        let e = self.src(&instr.operands[2], Ty::B32)?;
        let d = self.dst(&instr.operands[0], ty)?;
        self.push(Ins { x: redux as u32, d, a, e, ..Ins::machine(Op::Redux, Class::Warp) });
        Ok(())
    }
}
