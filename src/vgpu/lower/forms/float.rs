//! Arithmetic on `f32` and `f64` in four roundings: sums, products, fused products, quotients, reciprocals and roots that are rounded, signs.
//!
//! `.ftz` flushes the operands before and the result after; `.sat` comes last.

use super::{Arg, Form, Mods, T, by_flag, by_round};
use crate::vgpu::exec::lanes::{RowFns, row};
use crate::vgpu::num::f32::{ftz, ftz_if, sat};
use crate::vgpu::num::{RN, f32 as n32, f64 as n64};
use crate::vgpu::prof::Class::{Fma, Fp32, Fp64, Sfu};
use crate::vgpu::ptx::ast::Ty;

/// [`sat`] if `S`.
#[inline(always)]
fn sat_if<const S: bool>(x: u32) -> u32 {
    if S { sat(x) } else { x }
}

/// `fma` with the host's unit where the rounding is its own.
#[inline(always)]
fn fma_fast<const R: u8>(a: u32, b: u32, c: u32) -> u32 {
    if R == RN { n32::fma_hw(a, b, c) } else { n32::fma::<R>(a, b, c) }
}

/// `$f` of two operands with every rounding, `.ftz` and `.sat`.
macro_rules! binary {
    ($m:expr, $f:ident) => {{
        let wide = $m.ty(0) == Ty::F64;
        Some(by_round!(
            $m,
            if wide {
                row!(u64 <- a: u64, b: u64 => n64::$f::<R>(a, b))
            } else {
                by_flag!(
                    $m.has("ftz"),
                    F,
                    by_flag!(
                        $m.has("sat"),
                        S,
                        row!(u32 <- a: u32, b: u32 => sat_if::<S>(ftz_if::<F>(n32::$f::<R>(ftz_if::<F>(a), ftz_if::<F>(b)))))
                    )
                )
            }
        ))
    }};
}

/// `$f` of one operand with every rounding and `.ftz`.
macro_rules! unary {
    ($m:expr, $f:ident) => {{
        let wide = $m.ty(0) == Ty::F64;
        Some(by_round!(
            $m,
            if wide {
                row!(u64 <- a: u64 => n64::$f::<R>(a))
            } else {
                by_flag!($m.has("ftz"), F, row!(u32 <- a: u32 => ftz_if::<F>(n32::$f::<R>(ftz_if::<F>(a)))))
            }
        ))
    }};
}

fn fma(m: &mut Mods<'_>) -> Option<RowFns> {
    let wide = m.ty(0) == Ty::F64;
    Some(by_round!(
        m,
        if wide {
            row!(u64 <- a: u64, b: u64, c: u64 => n64::fma::<R>(a, b, c))
        } else {
            by_flag!(
                m.has("ftz"),
                F,
                by_flag!(
                    m.has("sat"),
                    S,
                    row!(u32 <- a: u32, b: u32, c: u32 =>
                        sat_if::<S>(ftz_if::<F>(n32::fma::<R>(ftz_if::<F>(a), ftz_if::<F>(b), ftz_if::<F>(c)))),
                        fma: sat_if::<S>(ftz_if::<F>(fma_fast::<R>(ftz_if::<F>(a), ftz_if::<F>(b), ftz_if::<F>(c)))))
                )
            )
        }
    ))
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
    Form::row("add", "?rn|rz|rm|rp ?ftz ?sat f32", TTT, Fp32, |m| binary!(m, add)),
    Form::row("add", "?rn|rz|rm|rp f64", TTT, Fp64, |m| binary!(m, add)),
    Form::row("sub", "?rn|rz|rm|rp ?ftz ?sat f32", TTT, Fp32, |m| binary!(m, sub)),
    Form::row("sub", "?rn|rz|rm|rp f64", TTT, Fp64, |m| binary!(m, sub)),
    Form::row("mul", "?rn|rz|rm|rp ?ftz ?sat f32", TTT, Fp32, |m| binary!(m, mul)),
    Form::row("mul", "?rn|rz|rm|rp f64", TTT, Fp64, |m| binary!(m, mul)),
    Form::row("fma", "rn|rz|rm|rp ?ftz ?sat f32", TTTT, Fma, fma),
    Form::row("fma", "rn|rz|rm|rp f64", TTTT, Fp64, fma),
    Form::row("mad", "rn|rz|rm|rp ?ftz ?sat f32", TTTT, Fma, fma),
    Form::row("mad", "rn|rz|rm|rp f64", TTTT, Fp64, fma),
    Form::row("div", "rn|rz|rm|rp ?ftz f32", TTT, Fp32, |m| {
        Some(by_round!(
            m,
            by_flag!(
                m.has("ftz"),
                F,
                row!(u32 <- a: u32, b: u32 => ftz_if::<F>(n32::div::<R>(ftz_if::<F>(a), ftz_if::<F>(b))))
            )
        ))
    }),
    Form::row("div", "rn|rz|rm|rp f64", TTT, Fp64, |m| {
        Some(by_round!(m, row!(u64 <- a: u64, b: u64 => n64::div::<R>(a, b))))
    }),
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
