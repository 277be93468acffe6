//! `mov`: copies, and packing and unpacking of registers.
//!
//! Special registers and addresses of variables are sources like any other ([`Operands::src`]).

use super::{Form, Mods, operand_count};
use crate::vgpu::exec::lanes::{Lane, RowFns, row, row_fns};
use crate::vgpu::ir::{Ins, NO_ROW, RowId, WARP};
use crate::vgpu::lower::operands::{Operands, Result};
use crate::vgpu::prof::Class::Mov;
use crate::vgpu::ptx::ast::{Instr, Operand, Ty};

fn copy(ty: Ty) -> RowFns {
    match ty.bytes() {
        16 => row!(u128 <- a: u128 => a),
        8 => row!(u64 <- a: u64 => a),
        _ => row!(u32 <- a: u32 => a),
    }
}

fn mov(m: &Mods<'_>, form: &Form, instr: &Instr, ops: &mut dyn Operands) -> Result<Vec<Ins>> {
    operand_count(instr, 2, ops)?;
    let ty = m.ty(0);
    let bits = matches!(ty, Ty::B16 | Ty::B32 | Ty::B64 | Ty::B128);
    match (&instr.operands[0], &instr.operands[1]) {
        (Operand::Vector(_), Operand::Vector(_)) => {
            Err(ops.wrong(format!("mov between two vectors: `{}`", instr.text)))
        }
        (Operand::Vector(_), _) | (_, Operand::Vector(_)) if !bits => {
            Err(ops.wrong(format!("packing and unpacking is on .b16 to .b128: `{}`", instr.text)))
        }
        (d, Operand::Vector(parts)) if parts.len() > 1 => pack(ty, form, d, parts, instr, ops),
        (Operand::Vector(parts), a) if parts.len() > 1 => unpack(ty, form, parts, a, instr, ops),
        (Operand::Vector(one), other) | (other, Operand::Vector(one)) if one.len() != 1 => {
            Err(ops.wrong(format!("{other:?} and an empty vector: `{}`", instr.text)))
        }
        (d, a) => {
            let single = |o: &Operand| match o {
                Operand::Vector(one) => one[0].clone(),
                other => other.clone(),
            };
            let (a, d) = (ops.src(&single(a), ty)?, ops.dst(&single(d), ty)?);
            Ok(vec![Ins { d, a, ..Ins::row(copy(ty).pick(ops.options().isa), form.class) }])
        }
    }
}

/// The type of `n` parts of `ty`.
fn part(ty: Ty, n: usize, instr: &Instr, ops: &dyn Operands) -> Result<Ty> {
    Ok(match (ty.bytes() as usize, n) {
        (2, 2) | (4, 4) => Ty::B8,
        (4, 2) | (8, 4) => Ty::B16,
        (8, 2) | (16, 4) => Ty::B32,
        (16, 2) => Ty::B64,
        (bytes, _) => {
            return Err(ops.wrong(format!("{n} parts of a register of {} bits: `{}`", bytes * 8, instr.text)));
        }
    })
}

fn pack(
    ty: Ty,
    form: &Form,
    d: &Operand,
    parts: &[Operand],
    instr: &Instr,
    ops: &mut dyn Operands,
) -> Result<Vec<Ins>> {
    let each = part(ty, parts.len(), instr, ops)?;
    let mut rows: [RowId; 4] = [0; 4];
    for (row, operand) in rows.iter_mut().zip(parts) {
        *row = ops.src(operand, each)?;
    }
    let d = ops.dst(d, ty)?;
    let fns = match (ty.bytes(), parts.len()) {
        (2, _) => row!(u32 <- a: u32, b: u32 => (a & 0xff) | (b & 0xff) << 8),
        (4, 2) => row!(u32 <- a: u32, b: u32 => a | b << 16),
        (4, _) => row!(u32 <- a: u32, b: u32, c: u32, e: u32 => {
            (a & 0xff) | (b & 0xff) << 8 | (c & 0xff) << 16 | e << 24
        }),
        (8, 2) => row!(u64 <- a: u32, b: u32 => u64::from(a) | u64::from(b) << 32),
        (8, _) => row!(u64 <- a: u32, b: u32, c: u32, e: u32 => {
            u64::from(a | b << 16) | u64::from(c | e << 16) << 32
        }),
        (_, 2) => row!(u128 <- a: u64, b: u64 => u128::from(a) | u128::from(b) << 64),
        _ => row!(u128 <- a: u32, b: u32, c: u32, e: u32 => {
            u128::from(a) | u128::from(b) << 32 | u128::from(c) << 64 | u128::from(e) << 96
        }),
    };
    let [a, b, c, e] = rows;
    Ok(vec![Ins { d, a, b, c, e, ..Ins::row(fns.pick(ops.options().isa), form.class) }])
}

/// Parts of `$bits` bits of a register of type `$w`, each to a register of type `$each`; the list at `x` holds `imm` rows.
macro_rules! unpacked {
    ($w:ty, $each:ty, $bits:literal) => {
        row_fns!(|file, ins, mask| {
            let a = <$w as Lane>::get(file, ins.a);
            for part in 0..ins.imm as usize {
                let d = *file.lists.add(ins.x as usize + part);
                if d == NO_ROW {
                    continue;
                }
                let mut out = [0 as $each; WARP];
                for lane in 0..WARP {
                    let keep = (1 as $w).checked_shl($bits).map_or(<$w>::MAX, |top| top.wrapping_sub(1));
                    out[lane] = (a[lane] >> ($bits * part) & keep) as $each;
                }
                <$each as Lane>::put(file, d, mask, &out);
            }
        })
    };
}

fn unpack(
    ty: Ty,
    form: &Form,
    parts: &[Operand],
    a: &Operand,
    instr: &Instr,
    ops: &mut dyn Operands,
) -> Result<Vec<Ins>> {
    let each = part(ty, parts.len(), instr, ops)?;
    let a = ops.src(a, ty)?;
    let mut rows = Vec::new();
    for operand in parts {
        rows.push(if *operand == Operand::Sink { NO_ROW } else { ops.dst(operand, each)? });
    }
    let x = ops.list(&rows);
    let fns = match (ty.bytes(), parts.len()) {
        (2 | 4, _) if each == Ty::B8 => unpacked!(u32, u32, 8),
        (4, _) => unpacked!(u32, u32, 16),
        (8, 2) => unpacked!(u64, u32, 32),
        (8, _) => unpacked!(u64, u32, 16),
        (_, 2) => unpacked!(u128, u64, 64),
        _ => unpacked!(u128, u32, 32),
    };
    let imm = rows.len() as i64;
    Ok(vec![Ins { a, x, imm, ..Ins::row(fns.pick(ops.options().isa), form.class) }])
}

pub(super) static FORMS: &[Form] = &[
    Form::code("mov", "b16|b32|b64|u16|u32|u64|s16|s32|s64|f32|f64", Mov, |_| true, mov),
    Form::code("mov", "b128", Mov, |_| true, mov).since(83, 80),
];
