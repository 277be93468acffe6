//! Logic on bits and on predicates.

use super::{Form, Mods, T, operand_count, pair};
use crate::vgpu::exec::lanes::{RowFns, get, pred, put, put_pred, row, row_fns};
use crate::vgpu::ir::{Ins, WARP};
use crate::vgpu::lower::operands::{Operands, Result};
use crate::vgpu::num::bits;
use crate::vgpu::prof::Class::{Logic, Pred};
use crate::vgpu::ptx::ast::{Instr, Ty};

/// `and or xor` on a register of each width.
macro_rules! binary {
    ($m:expr, $op:tt) => {
        Some(match $m.ty(0).bytes() {
            8 => row!(u64 <- a: u64, b: u64 => a $op b),
            _ => row!(u32 <- a: u32, b: u32 => a $op b),
        })
    };
}

fn not(m: &mut Mods<'_>) -> Option<RowFns> {
    Some(match m.ty(0).bytes() {
        2 => row!(u32 <- a: u32 => !a & 0xffff),
        4 => row!(u32 <- a: u32 => !a),
        _ => row!(u64 <- a: u64 => !a),
    })
}

fn cnot(m: &mut Mods<'_>) -> Option<RowFns> {
    Some(match m.ty(0).bytes() {
        8 => row!(u64 <- a: u64 => u64::from(a == 0)),
        _ => row!(u32 <- a: u32 => u32::from(a == 0)),
    })
}

/// Logic on predicates: `x` bits 0 and 1 negate the sources.
macro_rules! predicates {
    ($a:ident, $b:ident, $e:expr) => {
        row_fns!(|file, ins, mask| {
            let $a = pred(file, ins.a) ^ (ins.x & 1).wrapping_neg();
            let $b = pred(file, ins.b) ^ (ins.x >> 1 & 1).wrapping_neg();
            put_pred(file, ins.d, mask, $e);
        })
    };
}

fn on_predicates(_: &Mods<'_>, form: &Form, instr: &Instr, ops: &mut dyn Operands) -> Result<Vec<Ins>> {
    let fns = match form.base {
        "and" => predicates!(a, b, a & b),
        "or" => predicates!(a, b, a | b),
        "xor" => predicates!(a, b, a ^ b),
        "not" => predicates!(a, b, !a),
        _ => predicates!(a, b, a),
    };
    let unary = matches!(form.base, "not" | "mov");
    operand_count(instr, if unary { 2 } else { 3 }, ops)?;
    let (a, not_a) = ops.pred(&instr.operands[1])?;
    let (b, not_b) = if unary { (a, false) } else { ops.pred(&instr.operands[2])? };
    let d = ops.pred_dst(&instr.operands[0])?;
    let x = u32::from(not_a) | u32::from(not_b) << 1;
    Ok(vec![Ins { d, a, b, x, ..Ins::row(fns.pick(ops.options().isa), form.class) }])
}

/// `lop3` with any table; the frequent ones have functions of their own.
fn lop3_rows(lut: u8) -> RowFns {
    match lut {
        0x80 => row!(u32 <- a: u32, b: u32, c: u32 => a & b & c),
        0xfe => row!(u32 <- a: u32, b: u32, c: u32 => a | b | c),
        0x96 => row!(u32 <- a: u32, b: u32, c: u32 => a ^ b ^ c),
        0xf8 => row!(u32 <- a: u32, b: u32, c: u32 => a | (b & c)),
        0xea => row!(u32 <- a: u32, b: u32, c: u32 => (a & b) | c),
        0xca => row!(u32 <- a: u32, b: u32, c: u32 => (a & b) | (!a & c)),
        0xe8 => row!(u32 <- a: u32, b: u32, c: u32 => (a & b) | (a & c) | (b & c)),
        _ => row!(u32 as ins <- a: u32, b: u32, c: u32 => bits::lop3(a, b, c, ins.imm as u8)),
    }
}

fn lop3(m: &Mods<'_>, form: &Form, instr: &Instr, ops: &mut dyn Operands) -> Result<Vec<Ins>> {
    let boolean = m.has("and") || m.has("or");
    operand_count(instr, if boolean { 6 } else { 5 }, ops)?;
    let lut = ops.imm(&instr.operands[4])?;
    if !(0..=255).contains(&lut) {
        return Err(ops.wrong(format!("the table of lop3 is {lut}; it must be 0 to 255: `{}`", instr.text)));
    }
    let (first, second) = pair(&instr.operands[0]);
    let [a, b, c] = [1, 2, 3].map(|i| ops.src(&instr.operands[i], Ty::B32));
    let (a, b, c) = (a?, b?, c?);
    if !boolean {
        if second.is_some() {
            return Err(ops.wrong(format!("lop3 has one result without .and or .or: `{}`", instr.text)));
        }
        let d = ops.dst(first, Ty::B32)?;
        let row = lop3_rows(lut as u8).pick(ops.options().isa);
        return Ok(vec![Ins { d, a, b, c, imm: lut, ..Ins::row(row, form.class) }]);
    }
    let Some(second) = second else {
        return Err(ops.wrong(format!("lop3 with .and or .or has two results d|p: `{}`", instr.text)));
    };
    let (e, negated) = ops.pred(&instr.operands[5])?;
    let (d, q) = (ops.dst(first, Ty::B32)?, ops.pred_dst(second)?);
    let fns = row_fns!(|file, ins, mask| {
        let (a, b, c) = (get(file, ins.a), get(file, ins.b), get(file, ins.c));
        let (mut out, mut set) = ([0; WARP], 0u32);
        for lane in 0..WARP {
            out[lane] = bits::lop3(a[lane], b[lane], c[lane], ins.imm as u8);
            set |= u32::from(out[lane] != 0) << lane;
        }
        let third = pred(file, ins.e) ^ (ins.x & 1).wrapping_neg();
        put(file, ins.d, mask, &out);
        put_pred(file, ins.q, mask, if ins.x & 2 == 2 { set & third } else { set | third });
    });
    let x = u32::from(negated) | u32::from(m.has("and")) << 1;
    Ok(vec![Ins { d, q, a, b, c, e, x, imm: lut, ..Ins::row(fns.pick(ops.options().isa), form.class) }])
}

pub(super) static FORMS: &[Form] = &[
    Form::row("and", "b16|b32|b64", &[T, T, T], Logic, |m| binary!(m, &)),
    Form::row("or", "b16|b32|b64", &[T, T, T], Logic, |m| binary!(m, |)),
    Form::row("xor", "b16|b32|b64", &[T, T, T], Logic, |m| binary!(m, ^)),
    Form::row("not", "b16|b32|b64", &[T, T], Logic, not),
    Form::row("cnot", "b16|b32|b64", &[T, T], Logic, cnot),
    Form::code("and", "pred", Pred, |_| true, on_predicates),
    Form::code("or", "pred", Pred, |_| true, on_predicates),
    Form::code("xor", "pred", Pred, |_| true, on_predicates),
    Form::code("not", "pred", Pred, |_| true, on_predicates),
    Form::code("mov", "pred", Pred, |_| true, on_predicates),
    Form::code("lop3", "b32", Logic, |_| true, lop3),
    Form::code("lop3", "and|or b32", Logic, |_| true, lop3).since(82, 70),
];
