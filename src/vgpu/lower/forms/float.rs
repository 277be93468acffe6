//! Arithmetic on `f32` and `f64` in four roundings: sums, products, fused products, quotients, reciprocals and roots that are rounded, signs.
//!
//! `.ftz` flushes the operands before and the result after; `.sat` comes last.

use super::{Arg, Form, Mods, T, by_directed, by_flag};
use crate::vgpu::exec::lanes::{RowFns, row, slow_row};
use crate::vgpu::num::f32::{ftz, ftz_if, sat};
use crate::vgpu::num::{RN, Round, f32 as n32, f64 as n64};
use crate::vgpu::prof::Class::{Fma, Fp32, Fp64, Sfu};
use crate::vgpu::ptx::ast::Ty;

/// [`sat`] if `S`.
#[inline(always)]
fn sat_if<const S: bool>(x: u32) -> u32 {
    if S { sat(x) } else { x }
}

/// The modifiers of the directed roundings in [`Ins::x`](crate::vgpu::ir::Ins): 1 `.ftz`, 2 `.sat`.
fn note(m: &mut Mods<'_>) {
    m.x = u32::from(m.has("ftz")) | u32::from(m.has("sat")) << 1;
}

#[inline(always)]
fn before(x: u32, v: u32) -> u32 {
    if x & 1 != 0 { ftz(v) } else { v }
}

#[inline(always)]
fn after(x: u32, v: u32) -> u32 {
    let v = if x & 1 != 0 { ftz(v) } else { v };
    if x & 2 != 0 { sat(v) } else { v }
}

/// `$f` of two operands: to nearest with a function for each set of modifiers, directed with one for each rounding.
macro_rules! binary32 {
    ($m:expr, $f:ident) => {{
        note($m);
        Some(if $m.round() == Round::Rn {
            by_flag!(
                $m.has("ftz"),
                F,
                by_flag!(
                    $m.has("sat"),
                    S,
                    row!(u32 <- a: u32, b: u32 => sat_if::<S>(ftz_if::<F>(n32::$f::<RN>(ftz_if::<F>(a), ftz_if::<F>(b)))))
                )
            )
        } else {
            by_directed!(
                $m,
                row!(u32 as ins <- a: u32, b: u32 => after(ins.x, n32::$f::<R>(before(ins.x, a), before(ins.x, b))))
            )
        })
    }};
}

/// `$f` of two f64: the directed roundings are exact and slow.
macro_rules! binary64 {
    ($m:expr, $f:ident) => {
        Some(if $m.round() == Round::Rn {
            row!(u64 <- a: u64, b: u64 => n64::$f::<RN>(a, b))
        } else {
            by_directed!($m, slow_row!(u64 <- a: u64, b: u64 => n64::$f::<R>(a, b)))
        })
    };
}

/// `$f` of one operand, all roundings.
macro_rules! unary {
    ($m:expr, $f:ident) => {{
        note($m);
        let wide = $m.ty(0) == Ty::F64;
        Some(match (wide, $m.round() == Round::Rn) {
            (true, true) => row!(u64 <- a: u64 => n64::$f::<RN>(a)),
            (true, false) => by_directed!($m, slow_row!(u64 <- a: u64 => n64::$f::<R>(a))),
            (false, true) => row!(u32 as ins <- a: u32 => after(ins.x, n32::$f::<RN>(before(ins.x, a)))),
            (false, false) => {
                by_directed!($m, slow_row!(u32 as ins <- a: u32 => after(ins.x, n32::$f::<R>(before(ins.x, a)))))
            }
        })
    }};
}

fn fma(m: &mut Mods<'_>) -> Option<RowFns> {
    note(m);
    Some(match (m.ty(0) == Ty::F64, m.round() == Round::Rn) {
        (true, true) => row!(u64 <- a: u64, b: u64, c: u64 => n64::fma::<RN>(a, b, c)),
        (true, false) => by_directed!(m, slow_row!(u64 <- a: u64, b: u64, c: u64 => n64::fma::<R>(a, b, c))),
        (false, true) => by_flag!(
            m.has("ftz"),
            F,
            by_flag!(
                m.has("sat"),
                S,
                row!(u32 <- a: u32, b: u32, c: u32 =>
                    sat_if::<S>(ftz_if::<F>(n32::fma::<RN>(ftz_if::<F>(a), ftz_if::<F>(b), ftz_if::<F>(c)))),
                    fma: sat_if::<S>(ftz_if::<F>(n32::fma_hw(ftz_if::<F>(a), ftz_if::<F>(b), ftz_if::<F>(c)))))
            )
        ),
        (false, false) => by_directed!(
            m,
            row!(u32 as ins <- a: u32, b: u32, c: u32 => {
                after(ins.x, n32::fma::<R>(before(ins.x, a), before(ins.x, b), before(ins.x, c)))
            })
        ),
    })
}

fn div(m: &mut Mods<'_>) -> Option<RowFns> {
    note(m);
    Some(match (m.ty(0) == Ty::F64, m.round() == Round::Rn) {
        (true, true) => row!(u64 <- a: u64, b: u64 => n64::div::<RN>(a, b)),
        (true, false) => by_directed!(m, slow_row!(u64 <- a: u64, b: u64 => n64::div::<R>(a, b))),
        (false, true) => {
            row!(u32 as ins <- a: u32, b: u32 => after(ins.x, n32::div::<RN>(before(ins.x, a), before(ins.x, b))))
        }
        (false, false) => by_directed!(
            m,
            slow_row!(u32 as ins <- a: u32, b: u32 => after(ins.x, n32::div::<R>(before(ins.x, a), before(ins.x, b))))
        ),
    })
}

fn neg(m: &mut Mods<'_>) -> Option<RowFns> {
    Some(match (m.ty(0), m.has("ftz")) {
        (Ty::F64, _) => row!(u64 <- a: u64 => n64::neg(a)),
        (_, false) => row!(u32 <- a: u32 => n32::neg(a)),
        (_, true) => row!(u32 <- a: u32 => n32::neg(ftz(a))),
    })
}

fn abs(m: &mut Mods<'_>) -> Option<RowFns> {
    Some(match (m.ty(0), m.has("ftz")) {
        (Ty::F64, _) => row!(u64 <- a: u64 => n64::abs(a)),
        (_, false) => row!(u32 <- a: u32 => n32::abs(a)),
        (_, true) => row!(u32 <- a: u32 => n32::abs(ftz(a))),
    })
}

fn copysign(m: &mut Mods<'_>) -> Option<RowFns> {
    Some(match m.ty(0) {
        Ty::F64 => row!(u64 <- a: u64, b: u64 => n64::copysign(a, b)),
        _ => row!(u32 <- a: u32, b: u32 => n32::copysign(a, b)),
    })
}

const TT: &[Arg] = &[T, T];
const TTT: &[Arg] = &[T, T, T];
const TTTT: &[Arg] = &[T, T, T, T];

pub(super) static FORMS: &[Form] = &[
    Form::row("add", "?rn|rz|rm|rp ?ftz ?sat f32", TTT, Fp32, |m| binary32!(m, add)),
    Form::row("add", "?rn|rz|rm|rp f64", TTT, Fp64, |m| binary64!(m, add)),
    Form::row("sub", "?rn|rz|rm|rp ?ftz ?sat f32", TTT, Fp32, |m| binary32!(m, sub)),
    Form::row("sub", "?rn|rz|rm|rp f64", TTT, Fp64, |m| binary64!(m, sub)),
    Form::row("mul", "?rn|rz|rm|rp ?ftz ?sat f32", TTT, Fp32, |m| binary32!(m, mul)),
    Form::row("mul", "?rn|rz|rm|rp f64", TTT, Fp64, |m| binary64!(m, mul)),
    Form::row("fma", "rn|rz|rm|rp ?ftz ?sat f32", TTTT, Fma, fma),
    Form::row("fma", "rn|rz|rm|rp f64", TTTT, Fp64, fma),
    Form::row("mad", "rn|rz|rm|rp ?ftz ?sat f32", TTTT, Fma, fma),
    Form::row("mad", "rn|rz|rm|rp f64", TTTT, Fp64, fma),
    Form::row("div", "rn|rz|rm|rp ?ftz f32", TTT, Fp32, div),
    Form::row("div", "rn|rz|rm|rp f64", TTT, Fp64, div),
    Form::row("rcp", "rn|rz|rm|rp ?ftz f32", TT, Sfu, |m| unary!(m, rcp)),
    Form::row("rcp", "rn|rz|rm|rp f64", TT, Fp64, |m| unary!(m, rcp)),
    Form::row("sqrt", "rn|rz|rm|rp ?ftz f32", TT, Sfu, |m| unary!(m, sqrt)),
    Form::row("sqrt", "rn|rz|rm|rp f64", TT, Fp64, |m| unary!(m, sqrt)),
    Form::row("neg", "?ftz f32", TT, Fp32, neg),
    Form::row("neg", "f64", TT, Fp64, neg),
    Form::row("abs", "?ftz f32", TT, Fp32, abs),
    Form::row("abs", "f64", TT, Fp64, abs),
    Form::row("copysign", "f32", TTT, Fp32, copysign),
    Form::row("copysign", "f64", TTT, Fp64, copysign),
];
