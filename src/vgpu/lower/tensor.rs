//! Lowering of tensor-core instructions: `mma.sync` and `movmatrix`. Sparse, warp-group and `wmma` products are refused by name.
//!
//! Which combinations exist is the table "mma" of the PTX ISA for sm_80 to sm_90, checked against ptxas by the tests.

use super::operands::{LowerError, Operands, Result};
use crate::vgpu::exec::mma::matrix::movmatrix as move_matrix;
use crate::vgpu::exec::mma::{Acc, Elem, Form};
use crate::vgpu::ir::{Ins, Op};
use crate::vgpu::prof::Class;
use crate::vgpu::ptx::ast::{Instr, Operand, Ty};

/// Lowers a tensor-core instruction; `None` where the opcode is none.
///
/// # Errors
/// A form that does not exist or is not supported, a wrong number or width of registers.
pub fn lower(instr: &Instr, ops: &mut dyn Operands) -> Result<Option<Vec<Ins>>> {
    let op: Vec<&str> = instr.op.iter().map(String::as_str).collect();
    match op.first().copied() {
        Some("mma") => mma(instr, &op[1..], ops).map(|ins| Some(vec![ins])),
        Some("movmatrix") => movmatrix(instr, &op[1..], ops).map(|ins| Some(vec![ins])),
        Some("wmma") => Err(ops.unsupported(format!(
            "{}: the fragment layout of wmma is not defined by the ISA; use mma.sync with ldmatrix",
            instr.text
        ))),
        Some("wgmma" | "tcgen05") => {
            Err(ops.unsupported(format!("{}: products of warp groups are not supported; use mma.sync", instr.text)))
        }
        _ => Ok(None),
    }
}

fn movmatrix(instr: &Instr, op: &[&str], ops: &mut dyn Operands) -> Result<Ins> {
    if op != ["sync", "aligned", "m8n8", "trans", "b16"] {
        return Err(ops.unsupported(format!("{}: only movmatrix.sync.aligned.m8n8.trans.b16 exists", instr.text)));
    }
    let [d, a] = instr.operands.as_slice() else {
        return Err(ops.wrong(format!("{}: takes a destination and a source", instr.text)));
    };
    let (d, a) = (ops.dst(d, Ty::B32)?, ops.src(a, Ty::B32)?);
    Ok(Ins { op: Op::WholeWarp, d, a, ..Ins::row(move_matrix().pick(ops.options().isa), Class::Warp) })
}

fn mma(instr: &Instr, op: &[&str], ops: &mut dyn Operands) -> Result<Ins> {
    let form = match form(op) {
        Ok(form) => form,
        Err(Refused::Unsupported(what)) => return Err(ops.unsupported(format!("{}: {what}", instr.text))),
        Err(Refused::Wrong(what)) => return Err(ops.wrong(format!("{}: {what}", instr.text))),
    };
    let [d, a, b, c] = instr.operands.as_slice() else {
        let n = instr.operands.len();
        return Err(ops.wrong(format!("{}: takes the operands d, a, b, c, not {n}", instr.text)));
    };
    let wide = form.a == Elem::F64;
    let element = if wide { Ty::F64 } else { Ty::B32 };
    let sum = |acc| match acc {
        Acc::F64 => Ty::F64,
        Acc::F32 => Ty::F32,
        Acc::S32 | Acc::F16 => Ty::B32,
    };
    let [nd, na, nb, nc] = form.registers();
    let mut list = Vec::with_capacity(nd + na + nb + nc);
    for register in fragment(instr, ops, "d", d, nd)? {
        list.push(ops.dst(register, sum(form.d))?);
    }
    for (name, operand, count, ty) in [("a", a, na, element), ("b", b, nb, element), ("c", c, nc, sum(form.c))] {
        for register in fragment(instr, ops, name, operand, count)? {
            list.push(ops.src(register, ty)?);
        }
    }
    let options = *ops.options();
    let row = form.row_fns(options.mma).pick(options.isa);
    let x = ops.list(&list);
    Ok(Ins { op: Op::WholeWarp, x, imm: form.pack(), ..Ins::row(row, Class::Mma) })
}

/// The registers of one operand: `{..}`, or one without braces.
fn fragment<'a>(
    instr: &Instr,
    ops: &dyn Operands,
    name: &str,
    operand: &'a Operand,
    count: usize,
) -> std::result::Result<&'a [Operand], LowerError> {
    let registers = match operand {
        Operand::Vector(list) => list.as_slice(),
        one => std::slice::from_ref(one),
    };
    if registers.len() != count {
        let n = registers.len();
        return Err(ops.wrong(format!("{}: operand {name} has {n} registers; this form has {count}", instr.text)));
    }
    Ok(registers)
}

/// Why modifiers make no form.
enum Refused {
    Unsupported(String),
    Wrong(String),
}

/// The form that the modifiers after `mma` name.
fn form(op: &[&str]) -> std::result::Result<Form, Refused> {
    let wrong = |what: &str| Err(Refused::Wrong(what.to_string()));
    let unsupported = |what: &str| Err(Refused::Unsupported(what.to_string()));
    if op.first().is_some_and(|s| s.starts_with("sp")) {
        return unsupported("products of sparse matrices (mma.sp) are not supported");
    }
    if let Some(kind) = op.iter().find(|s| s.starts_with("kind::") || s.starts_with("block_scale")) {
        return Err(Refused::Unsupported(format!(".{kind} (sm_120) is not supported")));
    }
    let ["sync", "aligned", shape, a_layout, b_layout, rest @ ..] = op else {
        return wrong("expected mma.sync.aligned.shape.alayout.blayout.dtype.atype.btype.ctype");
    };
    let Some((m, k)) = self::shape(shape) else {
        return Err(Refused::Unsupported(format!("shape .{shape} is not supported")));
    };
    let layout = |s: &str| matches!(s, "row" | "col");
    if !layout(a_layout) || !layout(b_layout) {
        return wrong("expected .row or .col for A and for B after the shape");
    }
    let mut rest = rest.to_vec();
    let mut take = |name: &str| {
        let before = rest.len();
        rest.retain(|s| *s != name);
        rest.len() < before
    };
    let (sat, popc, and, xor) = (take("satfinite"), take("popc"), take("and"), take("xor"));
    let [d, a, b, c] = rest.as_slice() else {
        return wrong("expected the four types of D, A, B and C");
    };
    let (Some(a), Some(b)) = (Elem::parse(a), Elem::parse(b)) else {
        return Err(Refused::Unsupported(format!("elements .{a} and .{b} are not supported")));
    };
    let (Some(c), Some(d)) = (Acc::parse(c), Acc::parse(d)) else {
        return Err(Refused::Unsupported(format!("sums .{c} and .{d} are not supported")));
    };
    let (a_col, b_row) = (*a_layout == "col", *b_layout == "row");
    let form = Form { m, k, a, b, c, d, sat, and, a_col, b_row };
    if (a_col || b_row) && !form.quads() {
        return wrong("A is .row and B is .col in every form but m8n8k4 of .f16");
    }
    if sat && !(a.integer() && a != Elem::B1) {
        return wrong(".satfinite goes with integers only");
    }
    if (a == Elem::B1) != popc || popc != (and != xor) {
        return wrong("bits take .xor.popc or .and.popc, other elements neither");
    }
    if !exists(&form) {
        let name = form.name();
        return Err(Refused::Wrong(format!("there is no form {name} for sm_80 to sm_90")));
    }
    Ok(form)
}

/// M and K of `m16n8k32`.
fn shape(s: &str) -> Option<(usize, usize)> {
    let (m, k) = s.strip_prefix('m')?.split_once("n8k")?;
    let (m, k): (usize, usize) = (m.parse().ok()?, k.parse().ok()?);
    (matches!(m, 8 | 16) && matches!(k, 4 | 8 | 16 | 32 | 64 | 128 | 256)).then_some((m, k))
}

/// Whether the ISA has this combination of shape and types.
fn exists(form: &Form) -> bool {
    let Form { m, k, a, b, c, d, .. } = *form;
    let floats = c == d && matches!(c, Acc::F16 | Acc::F32);
    match a {
        Elem::S8 | Elem::U8 => {
            let b = matches!(b, Elem::S8 | Elem::U8);
            b && (c, d) == (Acc::S32, Acc::S32) && matches!((m, k), (8, 16) | (16, 16) | (16, 32))
        }
        Elem::S4 | Elem::U4 => {
            let b = matches!(b, Elem::S4 | Elem::U4);
            b && (c, d) == (Acc::S32, Acc::S32) && matches!((m, k), (8, 32) | (16, 32) | (16, 64))
        }
        Elem::B1 => b == a && (c, d) == (Acc::S32, Acc::S32) && matches!((m, k), (8, 128) | (16, 128) | (16, 256)),
        Elem::F16 if k == 4 => {
            let sums = matches!((d, c), (Acc::F16, Acc::F16) | (Acc::F32, Acc::F16 | Acc::F32));
            b == a && m == 8 && sums
        }
        Elem::F16 => b == a && floats && matches!((m, k), (16, 8 | 16)),
        Elem::Bf16 => b == a && (c, d) == (Acc::F32, Acc::F32) && matches!((m, k), (16, 8 | 16)),
        Elem::Tf32 => b == a && (c, d) == (Acc::F32, Acc::F32) && matches!((m, k), (16, 4 | 8)),
        Elem::E4m3 | Elem::E5m2 => matches!(b, Elem::E4m3 | Elem::E5m2) && floats && matches!((m, k), (16, 16 | 32)),
        Elem::F64 => b == a && (c, d) == (Acc::F64, Acc::F64) && matches!((m, k), (8, 4) | (16, 4 | 8 | 16)),
    }
}
