//! `min` and `max` on every type.
//!
//! Floats: the number wins over NaN, unless `.NaN` asks for it; -0 is less than +0; `.xorsign.abs` compares magnitudes and gives the result the product of
//! the signs.

use super::{Arg, Form, Mods, T, by_flag};
use crate::vgpu::exec::lanes::{RowFns, row};
use crate::vgpu::num::f32::ftz_if;
use crate::vgpu::num::half::{self as h, x2_2};
use crate::vgpu::num::int::{pick_s32, sx};
use crate::vgpu::num::{f32 as n32, f64 as n64};
use crate::vgpu::prof::Class::{Fp16, Fp32, Fp64, Int, Int64};
use crate::vgpu::ptx::ast::Ty::*;

/// The integer minimum or maximum (`$op`) of two operands.
macro_rules! integers {
    ($m:expr, $op:ident) => {
        Some(match $m.ty(0) {
            U16 | U32 => row!(u32 <- a: u32, b: u32 => a.$op(b)),
            S16 => row!(u32 <- a: u32, b: u32 => sx::<16>(a).$op(sx::<16>(b)) as u32 & 0xffff),
            S32 => row!(u32 <- a: u32, b: u32 => (a as i32).$op(b as i32) as u32),
            U64 => row!(u64 <- a: u64, b: u64 => a.$op(b)),
            _ => row!(u64 <- a: u64, b: u64 => (a as i64).$op(b as i64) as u64),
        })
    };
}

/// Two halfwords at once: `x` bit 0 takes the larger, bit 1 clamps at 0.
fn halfwords(m: &mut Mods<'_>, max: bool) -> Option<RowFns> {
    m.x = u32::from(max) | u32::from(m.has("relu")) << 1;
    Some(if m.has("s16x2") {
        row!(u32 as ins <- a: u32, b: u32 => {
            x2_2(|a, b| {
                let (a, b) = (sx::<16>(a), sx::<16>(b));
                let r = if ins.x & 1 == 1 { a.max(b) } else { a.min(b) };
                (if ins.x & 2 == 2 { r.max(0) } else { r }) as u32
            }, a, b)
        })
    } else if m.x & 2 == 2 {
        return None;
    } else {
        row!(u32 as ins <- a: u32, b: u32 => {
            x2_2(|a, b| if ins.x & 1 == 1 { a.max(b) } else { a.min(b) }, a, b)
        })
    })
}

#[inline(always)]
fn flush(x: u32, v: u32) -> u32 {
    if x & 1 == 1 { h::ftz::<h::F16>(v) } else { v }
}

/// The functions of one direction; a generic function's constants cannot be used in the row functions inside it.
macro_rules! direction {
    ($name:ident, $three:ident, $half:ident, $max:literal) => {
        fn $name(m: &mut Mods<'_>) -> Option<RowFns> {
            Some(by_flag!(m.has("ftz"), F, by_flag!(m.has("NaN"), N, by_flag!(m.has("xorsign"), X, {
                if $max {
                    row!(u32 <- a: u32, b: u32 => ftz_if::<F>(n32::max::<N, X>(ftz_if::<F>(a), ftz_if::<F>(b))))
                } else {
                    row!(u32 <- a: u32, b: u32 => ftz_if::<F>(n32::min::<N, X>(ftz_if::<F>(a), ftz_if::<F>(b))))
                }
            }))))
        }

        fn $three(m: &mut Mods<'_>) -> Option<RowFns> {
            m.x = u32::from(m.has("abs"));
            Some(by_flag!(m.has("ftz"), F, by_flag!(m.has("NaN"), N, {
                row!(u32 as ins <- a: u32, b: u32, c: u32 => {
                    let keep = if ins.x == 1 { 0x7fff_ffff } else { u32::MAX };
                    let (a, b, c) = (ftz_if::<F>(a & keep), ftz_if::<F>(b & keep), ftz_if::<F>(c & keep));
                    n32::pick3::<N, false, $max>(a, b, c)
                })
            })))
        }

        fn $half(m: &mut Mods<'_>) -> Option<RowFns> {
            m.x = u32::from(m.has("ftz"));
            Some(by_flag!(m.has("NaN"), N, by_flag!(m.has("xorsign"), X, {
                match m.ty(0) {
                    F16 => row!(u32 as ins <- a: u32, b: u32 => {
                        h::pick::<h::F16, N, X, $max>(flush(ins.x, a), flush(ins.x, b))
                    }),
                    Bf16 => row!(u32 <- a: u32, b: u32 => h::pick::<h::Bf16, N, X, $max>(a, b)),
                    F16x2 => row!(u32 as ins <- a: u32, b: u32 => {
                        x2_2(|a, b| h::pick::<h::F16, N, X, $max>(flush(ins.x, a), flush(ins.x, b)), a, b)
                    }),
                    _ => row!(u32 <- a: u32, b: u32 => x2_2(|a, b| h::pick::<h::Bf16, N, X, $max>(a, b), a, b)),
                }
            })))
        }
    };
}

direction!(min32, min3, min16, false);
direction!(max32, max3, max16, true);

/// `.xorsign` and `.abs` come together.
fn paired(m: &mut Mods<'_>, rows: fn(&mut Mods<'_>) -> Option<RowFns>) -> Option<RowFns> {
    if m.has("xorsign") == m.has("abs") { rows(m) } else { None }
}

const TTT: &[Arg] = &[T, T, T];
const TTTT: &[Arg] = &[T, T, T, T];
const WORDS: &[Arg] = &[Arg::Is(B32), Arg::Is(B32), Arg::Is(B32)];

pub(super) static FORMS: &[Form] = &[
    Form::row("min", "u16|u32|s16|s32", TTT, Int, |m| integers!(m, min)),
    Form::row("min", "u64|s64", TTT, Int64, |m| integers!(m, min)),
    Form::row("min", "relu s32", TTT, Int, |_| Some(row!(u32 <- a: u32, b: u32 => pick_s32::<false, true>(a, b))))
        .since(80, 90),
    Form::row("min", "?relu u16x2|s16x2", WORDS, Int, |m| halfwords(m, false)).since(80, 90),
    Form::row("max", "u16|u32|s16|s32", TTT, Int, |m| integers!(m, max)),
    Form::row("max", "u64|s64", TTT, Int64, |m| integers!(m, max)),
    Form::row("max", "relu s32", TTT, Int, |_| Some(row!(u32 <- a: u32, b: u32 => pick_s32::<true, true>(a, b))))
        .since(80, 90),
    Form::row("max", "?relu u16x2|s16x2", WORDS, Int, |m| halfwords(m, true)).since(80, 90),
    Form::row("min", "?ftz ?NaN ?xorsign ?abs f32", TTT, Fp32, |m| paired(m, min32)).since(72, 86),
    Form::row("min", "?ftz ?NaN ?abs f32", TTTT, Fp32, min3).since(88, 100),
    Form::row("min", "f64", TTT, Fp64, |_| Some(row!(u64 <- a: u64, b: u64 => n64::min(a, b)))),
    Form::row("max", "?ftz ?NaN ?xorsign ?abs f32", TTT, Fp32, |m| paired(m, max32)).since(72, 86),
    Form::row("max", "?ftz ?NaN ?abs f32", TTTT, Fp32, max3).since(88, 100),
    Form::row("max", "f64", TTT, Fp64, |_| Some(row!(u64 <- a: u64, b: u64 => n64::max(a, b)))),
    Form::row("min", "?ftz ?NaN ?xorsign ?abs f16|f16x2", TTT, Fp16, |m| paired(m, min16)).since(72, 86),
    Form::row("min", "?NaN ?xorsign ?abs bf16|bf16x2", TTT, Fp16, |m| paired(m, min16)).since(72, 86),
    Form::row("max", "?ftz ?NaN ?xorsign ?abs f16|f16x2", TTT, Fp16, |m| paired(m, max16)).since(72, 86),
    Form::row("max", "?NaN ?xorsign ?abs bf16|bf16x2", TTT, Fp16, |m| paired(m, max16)).since(72, 86),
];
