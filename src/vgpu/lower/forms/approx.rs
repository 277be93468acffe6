//! The approximate functions. `.ftz` is composed here; the seed of the jitter goes to `imm`.

use super::{Arg, Form, Mods, T};
use crate::vgpu::exec::lanes::{RowFns, row, slow_row};
use crate::vgpu::num::approx as n;
use crate::vgpu::num::f32::ftz;
use crate::vgpu::num::half::{Bf16, F16, x2_1};
use crate::vgpu::prof::Class::{Fp64, Sfu};
use crate::vgpu::ptx::ast::Ty;

/// [`ftz`] where `x` says so.
#[inline(always)]
fn flush(x: u32, v: u32) -> u32 {
    if x != 0 { ftz(v) } else { v }
}

/// One operand, f32: with jitter (seed in `imm`), or without, which vectorises.
macro_rules! unary {
    ($m:expr, $f:ident) => {{
        $m.x = u32::from($m.has("ftz"));
        Some(if $m.jitter {
            slow_row!(u32 as ins <- a: u32 => flush(ins.x, n::$f(flush(ins.x, a), ins.imm as u64)))
        } else {
            row!(u32 as ins <- a: u32 => flush(ins.x, n::$f(flush(ins.x, a), 0)))
        })
    }};
}

/// Two operands, f32.
macro_rules! quotient {
    ($m:expr, $f:ident) => {{
        $m.x = u32::from($m.has("ftz"));
        Some(if $m.jitter {
            slow_row!(u32 as ins <- a: u32, b: u32 => {
                flush(ins.x, n::$f(flush(ins.x, a), flush(ins.x, b), ins.imm as u64))
            })
        } else {
            row!(u32 as ins <- a: u32, b: u32 => flush(ins.x, n::$f(flush(ins.x, a), flush(ins.x, b), 0)))
        })
    }};
}

/// One operand, a 16-bit float or two.
macro_rules! halves {
    ($m:expr, $f:ident) => {
        Some(match $m.ty(0) {
            Ty::F16 => slow_row!(u32 as ins <- a: u32 => n::$f::<F16>(a, ins.imm as u64)),
            Ty::F16x2 => slow_row!(u32 as ins <- a: u32 => x2_1(|a| n::$f::<F16>(a, ins.imm as u64), a)),
            Ty::Bf16 => slow_row!(u32 as ins <- a: u32 => n::$f::<Bf16>(a, ins.imm as u64)),
            _ => slow_row!(u32 as ins <- a: u32 => x2_1(|a| n::$f::<Bf16>(a, ins.imm as u64), a)),
        })
    };
}

/// `ex2.approx.ftz.bf16`: subnormal operands and results are flushed.
fn ex2_bf16(m: &mut Mods<'_>) -> Option<RowFns> {
    use crate::vgpu::num::half::ftz;
    Some(match m.ty(0) {
        Ty::Bf16 => slow_row!(u32 as ins <- a: u32 => ftz::<Bf16>(n::ex2_half::<Bf16>(ftz::<Bf16>(a), ins.imm as u64))),
        _ => slow_row!(u32 as ins <- a: u32 => {
            x2_1(|a| ftz::<Bf16>(n::ex2_half::<Bf16>(ftz::<Bf16>(a), ins.imm as u64)), a)
        }),
    })
}

const TT: &[Arg] = &[T, T];
const TTT: &[Arg] = &[T, T, T];

pub(super) static FORMS: &[Form] = &[
    Form::row("rcp", "approx ?ftz f32", TT, Sfu, |m| unary!(m, rcp)),
    Form::row("sqrt", "approx ?ftz f32", TT, Sfu, |m| unary!(m, sqrt)),
    Form::row("rsqrt", "approx ?ftz f32", TT, Sfu, |m| unary!(m, rsqrt)),
    Form::row("sin", "approx ?ftz f32", TT, Sfu, |m| unary!(m, sin)),
    Form::row("cos", "approx ?ftz f32", TT, Sfu, |m| unary!(m, cos)),
    Form::row("lg2", "approx ?ftz f32", TT, Sfu, |m| unary!(m, lg2)),
    Form::row("ex2", "approx ?ftz f32", TT, Sfu, |m| unary!(m, ex2)),
    Form::row("tanh", "approx f32", TT, Sfu, |m| unary!(m, tanh)),
    Form::row("div", "approx ?ftz f32", TTT, Sfu, |m| quotient!(m, div_approx)),
    Form::row("div", "full ?ftz f32", TTT, Sfu, |m| quotient!(m, div_full)),
    Form::row("ex2", "approx f16|f16x2", TT, Sfu, |m| halves!(m, ex2_half)),
    Form::row("ex2", "approx ftz bf16|bf16x2", TT, Sfu, ex2_bf16).since(78, 90),
    Form::row("tanh", "approx f16|f16x2", TT, Sfu, |m| halves!(m, tanh_half)),
    Form::row("tanh", "approx bf16|bf16x2", TT, Sfu, |m| halves!(m, tanh_half)).since(78, 90),
    Form::row("rcp", "approx ftz f64", TT, Fp64, |_| Some(slow_row!(u64 <- a: u64 => n::rcp_f64(a)))),
    Form::row("rsqrt", "approx ftz f64", TT, Fp64, |_| Some(slow_row!(u64 <- a: u64 => n::rsqrt_ftz_f64(a)))),
    Form::row("rsqrt", "approx f64", TT, Fp64, |_| Some(slow_row!(u64 <- a: u64 => n::rsqrt_f64(a)))),
];
