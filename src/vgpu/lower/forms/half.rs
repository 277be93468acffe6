//! Arithmetic on `f16` and `bf16`, one or two to a register.
//!
//! All round to nearest even. `.oob` (results of elements outside a tensor are 0) is refused: the ISA does not say which NaN marks them.

use super::{Arg, Form, Mods, T, by_flag};
use crate::vgpu::exec::lanes::{RowFns, row};
use crate::vgpu::num::half::{self as h, Bf16, F16, Kind, x2_1, x2_2, x2_3};
use crate::vgpu::prof::Class::Fp16;
use crate::vgpu::ptx::ast::Ty;

/// What follows the rounding, from [`Ins::x`](crate::vgpu::ir::Ins): 1 `.ftz`, 2 `.sat`, 4 `.relu`.
#[inline(always)]
fn finish<K: Kind>(x: u32, v: u32) -> u32 {
    let v = if x & 1 != 0 { h::ftz::<K>(v) } else { v };
    let v = if x & 2 != 0 { h::sat::<K>(v) } else { v };
    if x & 4 != 0 { h::relu::<K>(v) } else { v }
}

/// An operand: flushed where bit 1 of `x` says so.
#[inline(always)]
fn source<K: Kind>(x: u32, v: u32) -> u32 {
    if x & 1 != 0 { h::ftz::<K>(v) } else { v }
}

fn note(m: &mut Mods<'_>) {
    m.x = u32::from(m.has("ftz")) | u32::from(m.has("sat")) << 1 | u32::from(m.has("relu")) << 2;
}

/// `$f` of two operands, for each type; without modifiers it has a body of its own.
macro_rules! binary {
    ($m:expr, $f:ident) => {{
        note($m);
        Some(by_flag!($m.x != 0, M, {
            match $m.ty(0) {
                Ty::F16 => row!(u32 as ins <- a: u32, b: u32 => two::<F16, M>(ins.x, h::$f::<F16>, a, b)),
                Ty::F16x2 => row!(u32 as ins <- a: u32, b: u32 => {
                    x2_2(|a, b| two::<F16, M>(ins.x, h::$f::<F16>, a, b), a, b)
                }),
                Ty::Bf16 => row!(u32 as ins <- a: u32, b: u32 => two::<Bf16, M>(ins.x, h::$f::<Bf16>, a, b)),
                _ => row!(u32 as ins <- a: u32, b: u32 => {
                    x2_2(|a, b| two::<Bf16, M>(ins.x, h::$f::<Bf16>, a, b), a, b)
                }),
            }
        }))
    }};
}

#[inline(always)]
fn two<K: Kind, const M: bool>(x: u32, f: impl Fn(u32, u32) -> u32, a: u32, b: u32) -> u32 {
    if M { finish::<K>(x, f(source::<K>(x, a), source::<K>(x, b))) } else { f(a, b) }
}

#[inline(always)]
fn fused<K: Kind, const M: bool>(x: u32, a: u32, b: u32, c: u32) -> u32 {
    if M {
        finish::<K>(x, h::fma::<K>(source::<K>(x, a), source::<K>(x, b), source::<K>(x, c)))
    } else {
        h::fma::<K>(a, b, c)
    }
}

fn fma(m: &mut Mods<'_>) -> Option<RowFns> {
    if m.has("sat") && m.has("relu") {
        return None;
    }
    note(m);
    Some(by_flag!(m.x != 0, M, {
        match m.ty(0) {
            Ty::F16 => row!(u32 as ins <- a: u32, b: u32, c: u32 => fused::<F16, M>(ins.x, a, b, c)),
            Ty::F16x2 => row!(u32 as ins <- a: u32, b: u32, c: u32 => {
                x2_3(|a, b, c| fused::<F16, M>(ins.x, a, b, c), a, b, c)
            }),
            Ty::Bf16 => row!(u32 as ins <- a: u32, b: u32, c: u32 => fused::<Bf16, M>(ins.x, a, b, c)),
            _ => row!(u32 as ins <- a: u32, b: u32, c: u32 => {
                x2_3(|a, b, c| fused::<Bf16, M>(ins.x, a, b, c), a, b, c)
            }),
        }
    }))
}

/// The sign operations, which differ by format only under `.ftz`, which `bf16` does not have.
macro_rules! sign {
    ($m:expr, $f:ident) => {
        Some(match ($m.ty(0), $m.has("ftz")) {
            (Ty::F16 | Ty::Bf16, false) => row!(u32 <- a: u32 => h::$f(a)),
            (Ty::F16 | Ty::Bf16, true) => row!(u32 <- a: u32 => h::$f(h::ftz::<F16>(a))),
            (_, false) => row!(u32 <- a: u32 => x2_1(h::$f, a)),
            (_, true) => row!(u32 <- a: u32 => x2_1(|a| h::$f(h::ftz::<F16>(a)), a)),
        })
    };
}

const TT: &[Arg] = &[T, T];
const TTT: &[Arg] = &[T, T, T];
const TTTT: &[Arg] = &[T, T, T, T];

pub(super) static FORMS: &[Form] = &[
    Form::row("add", "?rn ?ftz ?sat f16|f16x2", TTT, Fp16, |m| binary!(m, add)),
    Form::row("add", "?rn bf16|bf16x2", TTT, Fp16, |m| binary!(m, add)).since(78, 90),
    Form::row("sub", "?rn ?ftz ?sat f16|f16x2", TTT, Fp16, |m| binary!(m, sub)),
    Form::row("sub", "?rn bf16|bf16x2", TTT, Fp16, |m| binary!(m, sub)).since(78, 90),
    Form::row("mul", "?rn ?ftz ?sat f16|f16x2", TTT, Fp16, |m| binary!(m, mul)),
    Form::row("mul", "?rn bf16|bf16x2", TTT, Fp16, |m| binary!(m, mul)).since(78, 90),
    Form::row("fma", "rn ?ftz ?sat ?relu f16|f16x2", TTTT, Fp16, fma),
    Form::row("fma", "rn ?relu bf16|bf16x2", TTTT, Fp16, fma),
    Form::row("neg", "?ftz f16|f16x2", TT, Fp16, |m| sign!(m, neg)),
    Form::row("neg", "bf16|bf16x2", TT, Fp16, |m| sign!(m, neg)),
    Form::row("abs", "?ftz f16|f16x2", TT, Fp16, |m| sign!(m, abs)),
    Form::row("abs", "bf16|bf16x2", TT, Fp16, |m| sign!(m, abs)),
];
