//! `cvt` between all scalar types, the packed conversions, and `cvt.pack`.
//!
//! Which modifiers go with which pair of types is the ISA's, as ptxas enforces it: `.sat` only where the result could be out of range, a rounding where
//! the result is not exact. Source registers may be wider than the source type (the low bits count), destination registers wider than the destination
//! (extended by its sign). Frequent pairs have row functions of their own; all others take the one exact path [`cvt`].

use super::{Arg, Form, Mods, by_flag, by_round, operand_count};
use crate::vgpu::exec::lanes::{RowFns, row, slow_row};
use crate::vgpu::ir::Ins;
use crate::vgpu::lower::operands::{Operands, Result};
use crate::vgpu::num::cvt::{self as n, Cvt, Ty, cvt};
use crate::vgpu::num::half::{Bf16, F16};
use crate::vgpu::num::int::sx;
use crate::vgpu::num::{Round, f32::ftz_if};
use crate::vgpu::prof::Class;
use crate::vgpu::ptx::ast::{Instr, Ty as Reg};

/// The types by their number in [`Ins::x`].
const TYPES: [Ty; 12] =
    [Ty::U8, Ty::U16, Ty::U32, Ty::U64, Ty::S8, Ty::S16, Ty::S32, Ty::S64, Ty::F16, Ty::Bf16, Ty::F32, Ty::F64];

/// The conversion that the modifiers name; `None` where there is no such one.
fn conversion(m: &Mods<'_>) -> Option<Cvt> {
    let mut types = m.parts.iter().filter_map(|p| Ty::parse(p));
    let (dst, src) = (types.next()?, types.next()?);
    let integral = ["rni", "rzi", "rmi", "rpi"].iter().any(|r| m.has(r));
    let rounded = ["rn", "rz", "rm", "rp"].iter().any(|r| m.has(r));
    let c = Cvt { round: m.round(), integral, ftz: m.has("ftz"), sat: m.has("sat"), ..Cvt::new(dst, src) };
    let (floats, brain) = ((dst.format().is_some(), src.format().is_some()), dst == Ty::Bf16 || src == Ty::Bf16);
    let single = dst == Ty::F32 || src == Ty::F32;
    let narrows = dst.format().zip(src.format()).is_some_and(|(d, s)| d.prec < s.prec);
    let exists = match floats {
        (false, false) => {
            let ((lo, hi), (low, high)) = (dst.range(), src.range());
            !integral && !rounded && !c.ftz && (!c.sat || low < lo || high > hi)
        }
        (false, true) => integral && !rounded && (!c.ftz || src == Ty::F32) && !(brain && (c.sat || dst.width() == 8)),
        (true, false) => rounded && !integral && (!c.ftz || dst == Ty::F32) && !(brain && (c.sat || src.width() == 8)),
        (true, true) if dst == src => !(rounded || c.ftz && dst != Ty::F32 || brain && c.sat),
        (true, true) if src == Ty::Bf16 || (dst, src) == (Ty::Bf16, Ty::F16) => {
            !integral && !c.sat && (!c.ftz || dst == Ty::F32)
        }
        (true, true) => !integral && rounded == narrows && (!c.ftz || single) && !(dst == Ty::Bf16 && c.sat),
    };
    exists.then_some(c)
}

/// Row functions of the frequent pairs whose registers have the width of the types (32 or 64 bits).
fn frequent(c: &Cvt, m: &Mods<'_>) -> Option<RowFns> {
    if c.sat && c.dst.format().is_some() {
        return None;
    }
    let round = m.round();
    let nearest = round == Round::Rn;
    Some(match (c.dst, c.src) {
        (Ty::F32, Ty::S32) if !c.ftz => by_round!(m, row!(u32 <- a: u32 => n::f32_from_s32::<R>(a))),
        (Ty::F32, Ty::U32) if !c.ftz => by_round!(m, row!(u32 <- a: u32 => n::f32_from_u32::<R>(a))),
        (Ty::F32, Ty::S8) => row!(u32 <- a: u32 => (sx::<8>(a) as f32).to_bits()),
        (Ty::F32, Ty::U8) => row!(u32 <- a: u32 => ((a & 0xff) as f32).to_bits()),
        (Ty::F32, Ty::S16) => row!(u32 <- a: u32 => (sx::<16>(a) as f32).to_bits()),
        (Ty::F32, Ty::U16) => row!(u32 <- a: u32 => ((a & 0xffff) as f32).to_bits()),
        (Ty::S32, Ty::F32) => {
            by_flag!(
                c.ftz,
                F,
                by_round!(
                    m,
                    row!(u32 <- a: u32 => n::s32_from_f32::<R>(ftz_if::<F>(a)), fma: n::s32_from_f32_hw::<R>(ftz_if::<F>(a)))
                )
            )
        }
        (Ty::U32, Ty::F32) => {
            by_flag!(
                c.ftz,
                F,
                by_round!(
                    m,
                    row!(u32 <- a: u32 => n::u32_from_f32::<R>(ftz_if::<F>(a)), fma: n::u32_from_f32_hw::<R>(ftz_if::<F>(a)))
                )
            )
        }
        (Ty::F32, Ty::F32) if c.integral && !c.ftz => {
            by_round!(m, row!(u32 <- a: u32 => n::f32_integral::<R>(a), fma: n::f32_integral_hw::<R>(a)))
        }
        (Ty::F16, Ty::F32) if !c.ftz && nearest => row!(u32 <- a: u32 => n::half_from_f32::<F16>(a)),
        (Ty::Bf16, Ty::F32) if !c.ftz && nearest => row!(u32 <- a: u32 => n::half_from_f32::<Bf16>(a)),
        (Ty::F16, Ty::F32) if !c.ftz && round == Round::Rz => row!(u32 <- a: u32 => n::half_from_f32_rz::<F16>(a)),
        (Ty::Bf16, Ty::F32) if !c.ftz && round == Round::Rz => row!(u32 <- a: u32 => n::half_from_f32_rz::<Bf16>(a)),
        (Ty::F32, Ty::F16) => row!(u32 <- a: u32 => n::f32_from_half::<F16>(a)),
        (Ty::F32, Ty::Bf16) if !c.ftz => row!(u32 <- a: u32 => n::f32_from_half::<Bf16>(a)),
        (Ty::F32, Ty::F64) if !c.ftz => by_round!(m, row!(u32 <- a: u64 => n::f32_from_f64::<R>(a))),
        (Ty::F64, Ty::F32) if !c.ftz => row!(u64 <- a: u32 => n::f64_from_f32(a)),
        (Ty::F64, Ty::S32) => row!(u64 <- a: u32 => n::f64_from_s32(a)),
        (Ty::F64, Ty::U32) => row!(u64 <- a: u32 => n::f64_from_u32(a)),
        (Ty::F32, Ty::U64) if !c.ftz && nearest => row!(u32 <- a: u64 => n::f32_from_u64(a)),
        (Ty::F32, Ty::S64) if !c.ftz && nearest => row!(u32 <- a: u64 => n::f32_from_s64(a)),
        _ => return None,
    })
}

/// f32 to an 8- or 16-bit integer in a register of `bytes` bytes: through `s32`, clamped (to the range in `imm`) and cut (to the bits of `x`).
fn narrow_from_f32(c: &Cvt, m: &Mods<'_>) -> RowFns {
    by_flag!(
        c.ftz,
        F,
        by_round!(
            m,
            row!(u32 as ins <- a: u32 => {
                (n::s32_from_f32::<R>(ftz_if::<F>(a)) as i32).clamp(ins.imm as i32, (ins.imm >> 32) as i32) as u32 & ins.x
            }, fma: {
                (n::s32_from_f32_hw::<R>(ftz_if::<F>(a)) as i32).clamp(ins.imm as i32, (ins.imm >> 32) as i32) as u32 & ins.x
            })
        )
    )
}

/// Integers: the source's low bits, by its sign, then the destination's.
#[inline(always)]
fn extend(x: u32, v: u64) -> u64 {
    let cut = |v: u64, width: u32, signed: bool| {
        let up = 64 - width;
        if signed { (((v << up) as i64) >> up) as u64 } else { (v << up) >> up }
    };
    let v = cut(v, 8 << (x & 3), x & 4 != 0);
    cut(v, 8 << (x >> 3 & 3), x & 32 != 0) & if x & 64 != 0 { 0xffff } else { u64::MAX }
}

/// [`extend`] in 32 bits.
#[inline(always)]
fn extend32(x: u32, v: u32) -> u32 {
    let cut = |v: u32, width: u32, signed: bool| {
        let up = 32 - width;
        if signed { (((v << up) as i32) >> up) as u32 } else { (v << up) >> up }
    };
    let v = cut(v, 8 << (x & 3), x & 4 != 0);
    cut(v, 8 << (x >> 3 & 3), x & 32 != 0) & if x & 64 != 0 { 0xffff } else { u32::MAX }
}

/// Integers of at most 32 bits with `.sat`: the source is brought to `imm`'s range.
#[inline(always)]
fn saturate32(x: u32, range: i64, v: u32) -> u32 {
    let (lo, hi) = (range as u32, (range >> 32) as u32);
    let up = 32 - (8 << (x & 3));
    let v = if x & 4 != 0 {
        (((v << up) as i32) >> up).clamp(lo as i32, hi as i32) as u32
    } else {
        ((v << up) >> up).clamp(lo, hi)
    };
    v & if x & 64 != 0 { 0xffff } else { u32::MAX }
}

/// Any conversion, from [`Ins::x`].
#[inline(always)]
fn any(x: u32, v: u64) -> u64 {
    let bit = |n: u32| x >> n & 1 == 1;
    let round = match x >> 8 & 3 {
        0 => Round::Rn,
        1 => Round::Rz,
        2 => Round::Rm,
        _ => Round::Rp,
    };
    let (dst, src) = (TYPES[(x & 15) as usize % 12], TYPES[(x >> 4 & 15) as usize % 12]);
    let c = Cvt { dst, src, round, integral: bit(10), ftz: bit(11), sat: bit(12), relu: false, satfinite: false };
    cvt(&c, v) & if bit(13) { 0xffff } else { u64::MAX }
}

fn scalar(m: &Mods<'_>, form: &Form, instr: &Instr, ops: &mut dyn Operands) -> Result<Vec<Ins>> {
    operand_count(instr, 2, ops)?;
    let Some(c) = conversion(m) else {
        return Err(ops.unsupported(format!("`{}` is not supported", instr.op.join("."))));
    };
    let (a, from) = ops.src_wide(&instr.operands[1], m.ty(1))?;
    let (d, to) = ops.dst_wide(&instr.operands[0], m.ty(0))?;
    let (from64, to64) = (from > 4, to > 4);
    let number = |ty: Ty| TYPES.iter().position(|t| *t == ty).unwrap_or(0) as u32;
    let size = |ty: Ty| ty.width().trailing_zeros() - 3;
    let (integers, half) = (c.dst.format().is_none() && c.src.format().is_none(), u32::from(to < 4));
    let (mut x, mut imm) = (0, 0);
    let widths_fit = from64 == (c.src.width() == 64) && to64 == (c.dst.width() == 64);
    let fns = if integers {
        x = size(c.src)
            | u32::from(c.src.signed()) << 2
            | size(c.dst) << 3
            | u32::from(c.dst.signed()) << 5
            | half << 6;
        match (from64, to64) {
            (false, false) if c.sat && c.src.width() <= 32 => {
                let ((lo, hi), (low, high)) = (c.dst.range(), c.src.range());
                let (lo, hi) = (lo.max(low) as u32, hi.min(high) as u32);
                imm = i64::from(lo) | i64::from(hi) << 32;
                Some(row!(u32 as ins <- a: u32 => saturate32(ins.x, ins.imm, a)))
            }
            _ if c.sat => None,
            (false, false) => Some(row!(u32 as ins <- a: u32 => extend32(ins.x, a))),
            (false, true) => Some(row!(u64 as ins <- a: u32 => extend(ins.x, u64::from(a)))),
            (true, false) => Some(row!(u32 as ins <- a: u64 => extend(ins.x, a) as u32)),
            (true, true) => Some(row!(u64 as ins <- a: u64 => extend(ins.x, a))),
        }
    } else if widths_fit && c.src == Ty::F32 && c.dst.format().is_none() && c.dst.width() < 32 {
        let (lo, hi) = c.dst.range();
        imm = i64::from(lo as u32) | (hi as i64) << 32;
        x = if half == 1 { 0xffff } else { u32::MAX };
        Some(narrow_from_f32(&c, m))
    } else if widths_fit {
        frequent(&c, m)
    } else {
        None
    };
    let fns = fns.unwrap_or_else(|| {
        let flags = u32::from(c.integral) << 10 | u32::from(c.ftz) << 11 | u32::from(c.sat) << 12;
        x = number(c.dst) | number(c.src) << 4 | (c.round as u32) << 8 | flags | half << 13;
        match (from64, to64) {
            (false, false) => slow_row!(u32 as ins <- a: u32 => any(ins.x, u64::from(a)) as u32),
            (false, true) => slow_row!(u64 as ins <- a: u32 => any(ins.x, u64::from(a))),
            (true, false) => slow_row!(u32 as ins <- a: u64 => any(ins.x, a) as u32),
            (true, true) => slow_row!(u64 as ins <- a: u64 => any(ins.x, a)),
        }
    });
    Ok(vec![Ins { d, a, x, imm, ..Ins::row(fns.pick(ops.options().isa), form.class) }])
}

fn exists(m: &Mods<'_>) -> bool {
    conversion(m).is_some()
}

/// Modifiers of the packed forms in `x`: 1 `.rz`, 2 `.relu`, 4 `.satfinite`.
fn packed_flags(m: &mut Mods<'_>) {
    m.x = u32::from(m.has("rz")) | u32::from(m.has("relu")) << 1 | u32::from(m.has("satfinite")) << 2;
}

/// `cvt.{rn,rz}{.relu}{.satfinite}` to one 16-bit float; without the two it is a scalar form.
fn half_from_f32(m: &mut Mods<'_>) -> Option<RowFns> {
    packed_flags(m);
    if m.x & 6 == 0 {
        return None;
    }
    Some(if m.ty(0) == Reg::F16 {
        row!(u32 as ins <- a: u32 => n::half_from_f32_mod::<F16>(a, ins.x & 1 != 0, ins.x & 2 != 0, ins.x & 4 != 0))
    } else {
        row!(u32 as ins <- a: u32 => n::half_from_f32_mod::<Bf16>(a, ins.x & 1 != 0, ins.x & 2 != 0, ins.x & 4 != 0))
    })
}

fn halves_from_f32(m: &mut Mods<'_>) -> Option<RowFns> {
    packed_flags(m);
    Some(if m.ty(0) == Reg::F16x2 {
        row!(u32 as ins <- a: u32, b: u32 => {
            n::halfx2_from_f32::<F16>(a, b, ins.x & 1 != 0, ins.x & 2 != 0, ins.x & 4 != 0)
        })
    } else {
        row!(u32 as ins <- a: u32, b: u32 => {
            n::halfx2_from_f32::<Bf16>(a, b, ins.x & 1 != 0, ins.x & 2 != 0, ins.x & 4 != 0)
        })
    })
}

fn tf32(m: &mut Mods<'_>) -> Option<RowFns> {
    Some(match (m.has("rna"), m.has("satfinite"), m.has("relu")) {
        (true, false, false) => row!(u32 <- a: u32 => n::tf32_rna(a)),
        (true, true, false) => row!(u32 <- a: u32 => n::tf32_satfinite(n::tf32_rna(a))),
        (false, false, false) => by_flag!(m.has("rz"), Z, row!(u32 <- a: u32 => n::tf32_rn::<Z>(a))),
        (false, false, true) => by_flag!(m.has("rz"), Z, row!(u32 <- a: u32 => n::relu_f32(n::tf32_rn::<Z>(a)))),
        _ => return None,
    })
}

fn fp8(m: &mut Mods<'_>) -> Option<RowFns> {
    m.x = u32::from(m.has("relu"));
    let e4 = m.has("e4m3x2");
    let at = |name| m.parts.iter().position(|p| *p == name);
    let widening = at("f16x2") < at("e4m3x2").or(at("e5m2x2")) && at("f16x2").is_some();
    Some(by_flag!(e4, E4, {
        if widening {
            row!(u32 as ins <- a: u32 => n::f16x2_from_fp8x2::<E4>(a, ins.x == 1))
        } else if m.has("f32") {
            row!(u32 as ins <- a: u32, b: u32 => n::fp8x2_from_f32::<E4>(a, b, ins.x == 1))
        } else {
            row!(u32 as ins <- a: u32 => n::fp8x2_from_f16x2::<E4>(a, ins.x == 1))
        }
    }))
}

fn pack(m: &mut Mods<'_>) -> Option<RowFns> {
    let to = m.parts.iter().find(|p| !matches!(**p, "pack" | "sat" | "s32" | "b32"))?;
    let width: u32 = to[1..].parse().ok()?;
    m.x = width | u32::from(to.starts_with('s')) << 8;
    Some(if width == 16 {
        row!(u32 as ins <- a: u32, b: u32 => n::pack_sat(ins.x >> 8 == 1, 16, a, b, 0))
    } else {
        row!(u32 as ins <- a: u32, b: u32, c: u32 => n::pack_sat(ins.x >> 8 == 1, ins.x & 31, a, b, c))
    })
}

const F: Arg = Arg::Is(Reg::F32);
const W: Arg = Arg::Is(Reg::B32);
const H: Arg = Arg::Is(Reg::B16);

pub(super) static FORMS: &[Form] = &[
    Form::code("cvt", "?sat u8|u16|u32|u64|s8|s16|s32|s64 u8|u16|u32|u64|s8|s16|s32|s64", Class::Cvt, exists, scalar),
    Form::code(
        "cvt",
        "rni|rzi|rmi|rpi ?ftz ?sat u8|u16|u32|u64|s8|s16|s32|s64 f16|f32|f64",
        Class::Cvt,
        exists,
        scalar,
    ),
    Form::code("cvt", "rn|rz|rm|rp ?ftz ?sat f16|f32|f64 u8|u16|u32|u64|s8|s16|s32|s64", Class::Cvt, exists, scalar),
    Form::code("cvt", "?rn|rz|rm|rp|rni|rzi|rmi|rpi ?ftz ?sat f16|f32|f64 f16|f32|f64", Class::Cvt, exists, scalar),
    Form::code("cvt", "rn|rz bf16 f32", Class::Cvt, exists, scalar),
    Form::code("cvt", "f32 bf16", Class::Cvt, exists, scalar),
    Form::code("cvt", "rn|rz|rm|rp ?ftz bf16 f32", Class::Cvt, exists, scalar).since(78, 90),
    Form::code("cvt", "?rn|rz|rm|rp ?ftz f32 bf16", Class::Cvt, exists, scalar).since(78, 90),
    Form::code(
        "cvt",
        "?rn|rz|rm|rp|rni|rzi|rmi|rpi f16|f64|bf16|u16|u32|u64|s16|s32|s64 bf16",
        Class::Cvt,
        exists,
        scalar,
    )
    .since(78, 90),
    Form::code("cvt", "?rn|rz|rm|rp bf16 f16|f64|u16|u32|u64|s16|s32|s64", Class::Cvt, exists, scalar).since(78, 90),
    Form::row("cvt", "rn|rz ?relu ?satfinite f16|bf16 f32", &[Arg::T(0), F], Class::Cvt, half_from_f32).since(81, 80),
    Form::row("cvt", "rn|rz ?relu ?satfinite f16x2|bf16x2 f32", &[W, F, F], Class::Cvt, halves_from_f32).since(81, 80),
    Form::row("cvt", "rna ?satfinite tf32 f32", &[W, F], Class::Cvt, tf32).since(81, 80),
    Form::row("cvt", "rn|rz ?relu tf32 f32", &[W, F], Class::Cvt, tf32).since(78, 90),
    Form::row("cvt", "rn satfinite ?relu e4m3x2|e5m2x2 f32", &[H, F, F], Class::Cvt, fp8).since(81, 89),
    Form::row("cvt", "rn satfinite ?relu e4m3x2|e5m2x2 f16x2", &[H, W], Class::Cvt, fp8).since(81, 89),
    Form::row("cvt", "rn ?relu f16x2 e4m3x2|e5m2x2", &[W, H], Class::Cvt, fp8).since(81, 89),
    Form::row("cvt", "pack sat u16|s16 s32", &[W, W, W], Class::Cvt, pack),
    Form::row("cvt", "pack sat u2|s2|u4|s4|u8|s8 s32 b32", &[W, W, W, W], Class::Cvt, pack),
];
