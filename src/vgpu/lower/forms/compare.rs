//! Comparisons and selections: `setp set selp slct testp`.

use super::{Arg, Form, Mods, T, operand_count, pair};
use crate::vgpu::exec::lanes::{Lane, RowFns, pred, put, put_pred, put64, row, row_fns};
use crate::vgpu::ir::{File, Ins, PSINK, WARP};
use crate::vgpu::lower::operands::{Operands, Result};
use crate::vgpu::num::half::{self as h, Bf16, F16};
use crate::vgpu::num::int::sx;
use crate::vgpu::num::{Class as Kind, Cmp, f32 as n32, f64 as n64};
use crate::vgpu::prof::Class::Pred;
use crate::vgpu::ptx::ast::{Instr, Ty};

// What a comparison does with its outcome, in `Ins::x`. Bits 0 and 1: 1 `.and`, 2 `.or`, 3 `.xor` with predicate `c`.
const NEGATED: u32 = 4;
const SET: u32 = 8;
const FTZ: u32 = 16;

/// Writes the outcome `t` (or for two halves `t` and `u`) of a comparison: predicates `d` and `q`, or under [`SET`] the value `imm` to row `d`.
///
/// # Safety
/// As [`crate::vgpu::ir::RowFn`].
#[inline(always)]
unsafe fn settle(file: &File, ins: &Ins, mask: u32, t: u32, u: Option<u32>) {
    let (mut p, mut q) = (t, u.unwrap_or(!t));
    if ins.x & 3 != 0 {
        // SAFETY: the caller's promise.
        let c = unsafe { pred(file, ins.c) } ^ if ins.x & NEGATED != 0 { u32::MAX } else { 0 };
        (p, q) = match ins.x & 3 {
            1 => (p & c, q & c),
            2 => (p | c, q | c),
            _ => (p ^ c, q ^ c),
        };
    }
    // SAFETY: the caller's promise.
    unsafe {
        if ins.x & SET != 0 {
            let mut out = [0; WARP];
            for (lane, word) in out.iter_mut().enumerate() {
                *word = (p >> lane & 1).wrapping_neg() & ins.imm as u32;
                if u.is_some() {
                    *word |= (q >> lane & 1).wrapping_neg() & (ins.imm as u32) << 16;
                }
            }
            put(file, ins.d, mask, &out);
        } else {
            put_pred(file, ins.d, mask, p);
            if ins.q != PSINK {
                put_pred(file, ins.q, mask, q);
            }
        }
    }
}

/// A comparison of two registers of width `$w`.
macro_rules! compared {
    ($w:ty, |$a:ident, $b:ident, $x:ident| $test:expr) => {
        row_fns!(|file, ins, mask| {
            let ($a, $b) = (<$w as Lane>::get(file, ins.a), <$w as Lane>::get(file, ins.b));
            let $x = ins.x;
            let mut found = [0u32; WARP];
            for lane in 0..WARP {
                let ($a, $b) = ($a[lane], $b[lane]);
                found[lane] = u32::from($test).wrapping_neg() & 1 << lane;
            }
            settle(file, ins, mask, found.iter().fold(0, |all, word| all | word), None);
        })
    };
}

/// The same on two halves of a word.
macro_rules! compared_x2 {
    (|$a:ident, $b:ident, $x:ident| $test:expr) => {{
        unsafe fn base(file: &File, ins: &Ins, mask: u32) {
            // SAFETY: the caller's promise (`RowFn`).
            let (first, second) = unsafe { (<u32 as Lane>::get(file, ins.a), <u32 as Lane>::get(file, ins.b)) };
            let $x = ins.x;
            let (mut low, mut high) = (0, 0);
            for lane in 0..WARP {
                let ($a, $b) = (first[lane] & 0xffff, second[lane] & 0xffff);
                low |= u32::from($test) << lane;
                let ($a, $b) = (first[lane] >> 16, second[lane] >> 16);
                high |= u32::from($test) << lane;
            }
            // SAFETY: the caller's promise (`RowFn`).
            unsafe { settle(file, ins, mask, low, Some(high)) };
        }
        RowFns { base, avx2: base }
    }};
}

/// Compiles an expression for each operator that integers have, which is `OP` in it.
macro_rules! by_int_cmp {
    ($cmp:expr, $e:expr) => {
        by_int_cmp!(@each $cmp, $e, Eq Ne Lt Le Gt, Ge)
    };
    (@each $cmp:expr, $e:expr, $($name:ident)+, $last:ident) => {
        match $cmp {
            $(Cmp::$name => {
                const OP: Cmp = Cmp::$name;
                $e
            })+
            _ => {
                const OP: Cmp = Cmp::$last;
                $e
            }
        }
    };
}

/// The same for floats.
macro_rules! by_cmp {
    ($cmp:expr, $e:expr) => {
        by_int_cmp!(@each $cmp, $e, Eq Ne Lt Le Gt Ge Equ Neu Ltu Leu Gtu Geu Num, Nan)
    };
}

/// A comparison of integers whose operator is known.
#[inline(always)]
fn holds<N: Ord>(op: Cmp, a: N, b: N) -> bool {
    match op {
        Cmp::Eq => a == b,
        Cmp::Ne => a != b,
        Cmp::Lt => a < b,
        Cmp::Le => a <= b,
        Cmp::Gt => a > b,
        _ => a >= b,
    }
}

#[inline(always)]
fn flush(x: u32, v: u32) -> u32 {
    if x & FTZ != 0 { n32::ftz(v) } else { v }
}

#[inline(always)]
fn flush16(x: u32, v: u32) -> u32 {
    if x & FTZ != 0 { h::ftz::<F16>(v) } else { v }
}

fn comparison(ty: Ty, cmp: Cmp) -> RowFns {
    match ty {
        Ty::S16 => by_int_cmp!(cmp, compared!(u32, |a, b, x| holds(OP, sx::<16>(a), sx::<16>(b)))),
        Ty::S32 => by_int_cmp!(cmp, compared!(u32, |a, b, x| holds(OP, a as i32, b as i32))),
        Ty::S64 => by_int_cmp!(cmp, compared!(u64, |a, b, x| holds(OP, a as i64, b as i64))),
        Ty::U64 | Ty::B64 => by_int_cmp!(cmp, compared!(u64, |a, b, x| holds(OP, a, b))),
        Ty::F32 => by_cmp!(cmp, compared!(u32, |a, b, x| n32::cmp(OP, flush(x, a), flush(x, b)))),
        Ty::F64 => by_cmp!(cmp, compared!(u64, |a, b, x| n64::cmp(OP, a, b))),
        Ty::F16 => by_cmp!(cmp, compared!(u32, |a, b, x| h::cmp::<F16>(OP, flush16(x, a), flush16(x, b)))),
        Ty::Bf16 => by_cmp!(cmp, compared!(u32, |a, b, x| h::cmp::<Bf16>(OP, a, b))),
        Ty::F16x2 => by_cmp!(cmp, compared_x2!(|a, b, x| h::cmp::<F16>(OP, flush16(x, a), flush16(x, b)))),
        Ty::Bf16x2 => by_cmp!(cmp, compared_x2!(|a, b, _x| h::cmp::<Bf16>(OP, a, b))),
        _ => by_int_cmp!(cmp, compared!(u32, |a, b, x| holds(OP, a, b))),
    }
}

/// The modifiers of a comparison as bits of `x`.
fn flags(m: &Mods<'_>) -> u32 {
    let logic = if m.has("and") {
        1
    } else if m.has("or") {
        2
    } else if m.has("xor") {
        3
    } else {
        0
    };
    logic | if m.has("ftz") { FTZ } else { 0 }
}

/// `setp` and `set`.
fn compare(m: &Mods<'_>, form: &Form, instr: &Instr, ops: &mut dyn Operands) -> Result<Vec<Ins>> {
    let set = form.base == "set";
    let ty = m.ty(usize::from(set));
    let mut x = flags(m);
    operand_count(instr, if x & 3 != 0 { 4 } else { 3 }, ops)?;
    let cmp = m.find(Cmp::parse).unwrap_or(Cmp::Eq);
    let mut ins = Ins::row(comparison(ty, cmp).pick(ops.options().isa), form.class);
    ins.a = ops.src(&instr.operands[1], ty)?;
    ins.b = ops.src(&instr.operands[2], ty)?;
    if x & 3 != 0 {
        let (c, negated) = ops.pred(&instr.operands[3])?;
        ins.c = c;
        x |= if negated { NEGATED } else { 0 };
    }
    let (first, second) = pair(&instr.operands[0]);
    let halves = matches!(ty, Ty::F16x2 | Ty::Bf16x2);
    if set {
        x |= SET;
        ins.imm = match m.ty(0) {
            Ty::F32 => 0x3f80_0000,
            Ty::F16 | Ty::F16x2 => 0x3c00,
            Ty::Bf16 | Ty::Bf16x2 => 0x3f80,
            _ if halves => 0xffff,
            Ty::U16 | Ty::S16 => 0xffff,
            _ => 0xffff_ffff,
        };
        if second.is_some() {
            return Err(ops.wrong(format!("set has one result: `{}`", instr.text)));
        }
        ins.d = ops.dst(first, m.ty(0))?;
    } else {
        ins.d = ops.pred_dst(first)?;
        if let Some(second) = second {
            if matches!(ty, Ty::F16 | Ty::Bf16) {
                return Err(ops.wrong(format!("{} on 16-bit floats has one result: `{}`", form.base, instr.text)));
            }
            ins.q = ops.pred_dst(second)?;
        }
    }
    ins.x = x;
    Ok(vec![ins])
}

/// `selp d, a, b, p`.
fn selp(m: &Mods<'_>, form: &Form, instr: &Instr, ops: &mut dyn Operands) -> Result<Vec<Ins>> {
    operand_count(instr, 4, ops)?;
    let ty = m.ty(0);
    let (a, b) = (ops.src(&instr.operands[1], ty)?, ops.src(&instr.operands[2], ty)?);
    let (c, negated) = ops.pred(&instr.operands[3])?;
    let d = ops.dst(&instr.operands[0], ty)?;
    let fns = match ty.bytes() {
        8 => row_fns!(|file, ins, mask| {
            let (a, b) = (<u64 as Lane>::get(file, ins.a), <u64 as Lane>::get(file, ins.b));
            let p = pred(file, ins.c) ^ ins.x;
            let mut out = [0; WARP];
            for lane in 0..WARP {
                let keep = u64::from(p >> lane & 1).wrapping_neg();
                out[lane] = (a[lane] & keep) | (b[lane] & !keep);
            }
            put64(file, ins.d, mask, &out);
        }),
        _ => row_fns!(|file, ins, mask| {
            let (a, b) = (<u32 as Lane>::get(file, ins.a), <u32 as Lane>::get(file, ins.b));
            let p = pred(file, ins.c) ^ ins.x;
            let mut out = [0; WARP];
            for lane in 0..WARP {
                let keep = (p >> lane & 1).wrapping_neg();
                out[lane] = (a[lane] & keep) | (b[lane] & !keep);
            }
            put(file, ins.d, mask, &out);
        }),
    };
    let x = if negated { u32::MAX } else { 0 };
    Ok(vec![Ins { d, a, b, c, x, ..Ins::row(fns.pick(ops.options().isa), form.class) }])
}

/// `slct d, a, b, c`: `a` where `c >= 0`, which NaN is not and -0 is.
fn slct(m: &mut Mods<'_>) -> Option<RowFns> {
    let float = m.ty(1) == Ty::F32;
    m.x = if m.has("ftz") { FTZ } else { 0 };
    if m.has("ftz") && !float {
        return None;
    }
    Some(match (m.ty(0).bytes(), float) {
        (8, false) => row!(u64 <- a: u64, b: u64, c: u32 => if c as i32 >= 0 { a } else { b }),
        (8, true) => row!(u64 as ins <- a: u64, b: u64, c: u32 => {
            if n32::cmp(Cmp::Ge, flush(ins.x, c), 0) { a } else { b }
        }),
        (_, false) => row!(u32 <- a: u32, b: u32, c: u32 => if c as i32 >= 0 { a } else { b }),
        (_, true) => row!(u32 as ins <- a: u32, b: u32, c: u32 => {
            if n32::cmp(Cmp::Ge, flush(ins.x, c), 0) { a } else { b }
        }),
    })
}

/// The classes of `testp`, by their number in `x`.
const KINDS: [(&str, Kind); 6] = [
    ("finite", Kind::Finite),
    ("infinite", Kind::Infinite),
    ("number", Kind::Number),
    ("notanumber", Kind::NotANumber),
    ("normal", Kind::Normal),
    ("subnormal", Kind::Subnormal),
];

fn testp(m: &mut Mods<'_>) -> Option<RowFns> {
    m.x = KINDS.iter().position(|(name, _)| m.has(name))? as u32;
    Some(match m.ty(0) {
        Ty::F64 => row_fns!(|file, ins, mask| {
            let a = <u64 as Lane>::get(file, ins.a);
            let kind = KINDS[ins.x as usize % 6].1;
            let t = (0..WARP).fold(0, |all, lane| all | u32::from(n64::testp(kind, a[lane])) << lane);
            put_pred(file, ins.d, mask, t);
        }),
        _ => row_fns!(|file, ins, mask| {
            let a = <u32 as Lane>::get(file, ins.a);
            let kind = KINDS[ins.x as usize % 6].1;
            let t = (0..WARP).fold(0, |all, lane| all | u32::from(n32::testp(kind, a[lane])) << lane);
            put_pred(file, ins.d, mask, t);
        }),
    })
}

/// Whether the operator exists for the type that is compared.
fn exists(m: &Mods<'_>) -> bool {
    m.find(Cmp::parse).is_some()
}

pub(super) static FORMS: &[Form] = &[
    Form::code("setp", "eq|ne ?and|or|xor b16|b32|b64", Pred, exists, compare),
    Form::code("setp", "eq|ne|lt|le|gt|ge ?and|or|xor s16|s32|s64", Pred, exists, compare),
    Form::code("setp", "eq|ne|lt|le|gt|ge|lo|ls|hi|hs ?and|or|xor u16|u32|u64", Pred, exists, compare),
    Form::code("setp", "eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan ?and|or|xor ?ftz f32", Pred, exists, compare),
    Form::code("setp", "eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan ?and|or|xor f64", Pred, exists, compare),
    Form::code(
        "setp",
        "eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan ?and|or|xor ?ftz f16|f16x2",
        Pred,
        exists,
        compare,
    ),
    Form::code(
        "setp",
        "eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan ?and|or|xor bf16|bf16x2",
        Pred,
        exists,
        compare,
    )
    .since(78, 90),
    Form::code("set", "eq|ne ?and|or|xor u32|s32|f32 b16|b32|b64", Pred, exists, compare),
    Form::code("set", "eq|ne|lt|le|gt|ge ?and|or|xor u32|s32|f32 s16|s32|s64", Pred, exists, compare),
    Form::code("set", "eq|ne|lt|le|gt|ge|lo|ls|hi|hs ?and|or|xor u32|s32|f32 u16|u32|u64", Pred, exists, compare),
    Form::code(
        "set",
        "eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan ?and|or|xor ?ftz u32|s32|f32 f32",
        Pred,
        exists,
        compare,
    ),
    Form::code(
        "set",
        "eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan ?and|or|xor u32|s32|f32 f64",
        Pred,
        exists,
        compare,
    ),
    Form::code("set", "eq|ne ?and|or|xor f16 b16|b32|b64", Pred, exists, compare),
    Form::code("set", "eq|ne|lt|le|gt|ge ?and|or|xor f16 s16|s32|s64", Pred, exists, compare),
    Form::code("set", "eq|ne|lt|le|gt|ge|lo|ls|hi|hs ?and|or|xor f16 u16|u32|u64", Pred, exists, compare),
    Form::code(
        "set",
        "eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan ?and|or|xor ?ftz f16|u16|s16|u32|s32 f16",
        Pred,
        exists,
        compare,
    ),
    Form::code(
        "set",
        "eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan ?and|or|xor ?ftz f16 f32",
        Pred,
        exists,
        compare,
    ),
    Form::code("set", "eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan ?and|or|xor f16 f64", Pred, exists, compare),
    Form::code(
        "set",
        "eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan ?and|or|xor ?ftz f16x2|u32|s32 f16x2",
        Pred,
        exists,
        compare,
    ),
    Form::code("set", "eq|ne ?and|or|xor bf16 b16|b32|b64", Pred, exists, compare).since(78, 90),
    Form::code("set", "eq|ne|lt|le|gt|ge ?and|or|xor bf16 s16|s32|s64", Pred, exists, compare).since(78, 90),
    Form::code("set", "eq|ne|lt|le|gt|ge|lo|ls|hi|hs ?and|or|xor bf16 u16|u32|u64", Pred, exists, compare)
        .since(78, 90),
    Form::code(
        "set",
        "eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan ?and|or|xor bf16|u16|s16|u32|s32 bf16",
        Pred,
        exists,
        compare,
    )
    .since(78, 90),
    Form::code(
        "set",
        "eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan ?and|or|xor bf16 f16|f32|f64",
        Pred,
        exists,
        compare,
    )
    .since(78, 90),
    Form::code(
        "set",
        "eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan ?and|or|xor bf16x2|u32|s32 bf16x2",
        Pred,
        exists,
        compare,
    )
    .since(78, 90),
    Form::code("selp", "b16|b32|b64|u16|u32|u64|s16|s32|s64|f32|f64", Pred, |_| true, selp),
    Form::row("slct", "?ftz b16|b32|b64|u16|u32|u64|s16|s32|s64|f32|f64 s32|f32", &[T, T, T, Arg::T(1)], Pred, slct),
    Form::row("testp", "finite|infinite|number|notanumber|normal|subnormal f32|f64", &[Arg::PredDst, T], Pred, testp),
];
