//! Integer arithmetic: sums, products, quotients, absolute values, dot products. Carries are in `carry`, minima in `minmax`.

use super::{Arg, Form, Mods, T};
use crate::vgpu::exec::lanes::{RowFns, row, slow_row};
use crate::vgpu::num::int::{self as n, sx};
use crate::vgpu::prof::Class::{Int, Int64};
use crate::vgpu::ptx::ast::Ty::{self, *};

const TTT: &[Arg] = &[T, T, T];
const TTTT: &[Arg] = &[T, T, T, T];

/// One function of two operands for each width: 32 bits, 64 bits; 16 bits by cutting the 32-bit one.
macro_rules! wrapping {
    ($m:expr, $op:ident) => {
        Some(match $m.ty(0).bytes() {
            2 => row!(u32 <- a: u32, b: u32 => a.$op(b) & 0xffff),
            4 => row!(u32 <- a: u32, b: u32 => a.$op(b)),
            _ => row!(u64 <- a: u64, b: u64 => a.$op(b)),
        })
    };
}

/// Two halfwords at once.
macro_rules! x2 {
    ($op:ident) => {
        row!(u32 <- a: u32, b: u32 => (a.$op(b) & 0xffff) | ((a >> 16).$op(b >> 16) << 16))
    };
}

/// Which half of a product a multiplication keeps.
fn wide(m: &Mods<'_>) -> bool {
    m.has("wide")
}

fn mul(m: &mut Mods<'_>) -> Option<RowFns> {
    Some(match (m.ty(0), m.has("hi"), wide(m)) {
        (U16, false, false) | (S16, false, false) => row!(u32 <- a: u32, b: u32 => a.wrapping_mul(b) & 0xffff),
        (U16, true, _) => row!(u32 <- a: u32, b: u32 => n::mul_hi_u16(a, b)),
        (S16, true, _) => row!(u32 <- a: u32, b: u32 => n::mul_hi_s16(a, b)),
        (U16, _, true) => row!(u32 <- a: u32, b: u32 => n::mul_wide_u16(a, b)),
        (S16, _, true) => row!(u32 <- a: u32, b: u32 => n::mul_wide_s16(a, b)),
        (U32, false, false) | (S32, false, false) => row!(u32 <- a: u32, b: u32 => a.wrapping_mul(b)),
        (U32, true, _) => row!(u32 <- a: u32, b: u32 => n::mul_hi_u32(a, b)),
        (S32, true, _) => row!(u32 <- a: u32, b: u32 => n::mul_hi_s32(a, b)),
        (U32, _, true) => row!(u64 <- a: u32, b: u32 => n::mul_wide_u32(a, b)),
        (S32, _, true) => row!(u64 <- a: u32, b: u32 => n::mul_wide_s32(a, b)),
        (U64, false, false) | (S64, false, false) => row!(u64 <- a: u64, b: u64 => a.wrapping_mul(b)),
        (U64, true, _) => row!(u64 <- a: u64, b: u64 => n::mul_hi_u64(a, b)),
        (S64, true, _) => row!(u64 <- a: u64, b: u64 => n::mul_hi_s64(a, b)),
        _ => return None,
    })
}

fn mad(m: &mut Mods<'_>) -> Option<RowFns> {
    if m.has("sat") {
        let hi = m.has("hi") && m.ty(0) == S32;
        return hi.then_some(row!(u32 <- a: u32, b: u32, c: u32 => n::mad_hi_sat_s32(a, b, c)));
    }
    Some(match (m.ty(0), m.has("hi"), wide(m)) {
        (U16, false, false) | (S16, false, false) => {
            row!(u32 <- a: u32, b: u32, c: u32 => a.wrapping_mul(b).wrapping_add(c) & 0xffff)
        }
        (U16, true, _) => row!(u32 <- a: u32, b: u32, c: u32 => n::mul_hi_u16(a, b).wrapping_add(c) & 0xffff),
        (S16, true, _) => row!(u32 <- a: u32, b: u32, c: u32 => n::mul_hi_s16(a, b).wrapping_add(c) & 0xffff),
        (U16, _, true) => row!(u32 <- a: u32, b: u32, c: u32 => n::mul_wide_u16(a, b).wrapping_add(c)),
        (S16, _, true) => row!(u32 <- a: u32, b: u32, c: u32 => n::mul_wide_s16(a, b).wrapping_add(c)),
        (U32, false, false) | (S32, false, false) => {
            row!(u32 <- a: u32, b: u32, c: u32 => a.wrapping_mul(b).wrapping_add(c))
        }
        (U32, true, _) => row!(u32 <- a: u32, b: u32, c: u32 => n::mul_hi_u32(a, b).wrapping_add(c)),
        (S32, true, _) => row!(u32 <- a: u32, b: u32, c: u32 => n::mul_hi_s32(a, b).wrapping_add(c)),
        (U32, _, true) => row!(u64 <- a: u32, b: u32, c: u64 => n::mul_wide_u32(a, b).wrapping_add(c)),
        (S32, _, true) => row!(u64 <- a: u32, b: u32, c: u64 => n::mul_wide_s32(a, b).wrapping_add(c)),
        (U64, false, false) | (S64, false, false) => {
            row!(u64 <- a: u64, b: u64, c: u64 => a.wrapping_mul(b).wrapping_add(c))
        }
        (U64, true, _) => row!(u64 <- a: u64, b: u64, c: u64 => n::mul_hi_u64(a, b).wrapping_add(c)),
        (S64, true, _) => row!(u64 <- a: u64, b: u64, c: u64 => n::mul_hi_s64(a, b).wrapping_add(c)),
        _ => return None,
    })
}

fn mul24(m: &mut Mods<'_>) -> Option<RowFns> {
    Some(match (m.has("hi"), m.ty(0).signed()) {
        (false, false) => row!(u32 <- a: u32, b: u32 => n::mul24_lo_u32(a, b)),
        (false, true) => row!(u32 <- a: u32, b: u32 => n::mul24_lo_s32(a, b)),
        (true, false) => row!(u32 <- a: u32, b: u32 => n::mul24_hi_u32(a, b)),
        (true, true) => row!(u32 <- a: u32, b: u32 => n::mul24_hi_s32(a, b)),
    })
}

fn mad24(m: &mut Mods<'_>) -> Option<RowFns> {
    Some(match (m.has("hi"), m.ty(0).signed(), m.has("sat")) {
        (true, true, true) => row!(u32 <- a: u32, b: u32, c: u32 => n::mad24_hi_sat_s32(a, b, c)),
        (_, _, true) => return None,
        (false, false, _) => row!(u32 <- a: u32, b: u32, c: u32 => n::mul24_lo_u32(a, b).wrapping_add(c)),
        (false, true, _) => row!(u32 <- a: u32, b: u32, c: u32 => n::mul24_lo_s32(a, b).wrapping_add(c)),
        (true, false, _) => row!(u32 <- a: u32, b: u32, c: u32 => n::mul24_hi_u32(a, b).wrapping_add(c)),
        (true, true, _) => row!(u32 <- a: u32, b: u32, c: u32 => n::mul24_hi_s32(a, b).wrapping_add(c)),
    })
}

fn sad(m: &mut Mods<'_>) -> Option<RowFns> {
    Some(match m.ty(0) {
        U16 => row!(u32 <- a: u32, b: u32, c: u32 => n::sad_u16(a, b, c)),
        S16 => row!(u32 <- a: u32, b: u32, c: u32 => n::sad_s16(a, b, c)),
        U32 => row!(u32 <- a: u32, b: u32, c: u32 => n::sad_u32(a, b, c)),
        S32 => row!(u32 <- a: u32, b: u32, c: u32 => n::sad_s32(a, b, c)),
        U64 => row!(u64 <- a: u64, b: u64, c: u64 => n::sad_u64(a, b, c)),
        _ => row!(u64 <- a: u64, b: u64, c: u64 => n::sad_s64(a, b, c)),
    })
}

fn div(m: &mut Mods<'_>) -> Option<RowFns> {
    Some(match m.ty(0) {
        U16 => slow_row!(u32 <- a: u32, b: u32 => n::div_u32(a, b) & 0xffff),
        S16 => slow_row!(u32 <- a: u32, b: u32 => n::div_s32(sx::<16>(a) as u32, sx::<16>(b) as u32) & 0xffff),
        U32 => slow_row!(u32 <- a: u32, b: u32 => n::div_u32(a, b)),
        S32 => slow_row!(u32 <- a: u32, b: u32 => n::div_s32(a, b)),
        U64 => slow_row!(u64 <- a: u64, b: u64 => n::div_u64(a, b)),
        _ => slow_row!(u64 <- a: u64, b: u64 => n::div_s64(a, b)),
    })
}

fn rem(m: &mut Mods<'_>) -> Option<RowFns> {
    Some(match m.ty(0) {
        U16 => slow_row!(u32 <- a: u32, b: u32 => n::rem_u32(a, b) & 0xffff),
        S16 => slow_row!(u32 <- a: u32, b: u32 => n::rem_s32(sx::<16>(a) as u32, sx::<16>(b) as u32) & 0xffff),
        U32 => slow_row!(u32 <- a: u32, b: u32 => n::rem_u32(a, b)),
        S32 => slow_row!(u32 <- a: u32, b: u32 => n::rem_s32(a, b)),
        U64 => slow_row!(u64 <- a: u64, b: u64 => n::rem_u64(a, b)),
        _ => slow_row!(u64 <- a: u64, b: u64 => n::rem_s64(a, b)),
    })
}

fn abs(m: &mut Mods<'_>) -> Option<RowFns> {
    Some(match m.ty(0) {
        S16 => row!(u32 <- a: u32 => n::abs_s16(a)),
        S32 => row!(u32 <- a: u32 => n::abs_s32(a)),
        _ => row!(u64 <- a: u64 => n::abs_s64(a)),
    })
}

fn neg(m: &mut Mods<'_>) -> Option<RowFns> {
    Some(match m.ty(0) {
        S16 => row!(u32 <- a: u32 => a.wrapping_neg() & 0xffff),
        S32 => row!(u32 <- a: u32 => a.wrapping_neg()),
        _ => row!(u64 <- a: u64 => a.wrapping_neg()),
    })
}

/// Signedness of the two byte vectors of `dp4a` and `dp2a`.
fn signs(m: &Mods<'_>) -> (bool, bool) {
    (m.ty(0) == Ty::S32, m.ty(1) == Ty::S32)
}

fn dp4a(m: &mut Mods<'_>) -> Option<RowFns> {
    Some(match signs(m) {
        (false, false) => row!(u32 <- a: u32, b: u32, c: u32 => n::dp4a::<false, false>(a, b, c)),
        (false, true) => row!(u32 <- a: u32, b: u32, c: u32 => n::dp4a::<false, true>(a, b, c)),
        (true, false) => row!(u32 <- a: u32, b: u32, c: u32 => n::dp4a::<true, false>(a, b, c)),
        (true, true) => row!(u32 <- a: u32, b: u32, c: u32 => n::dp4a::<true, true>(a, b, c)),
    })
}

fn dp2a(m: &mut Mods<'_>) -> Option<RowFns> {
    Some(match (signs(m), m.has("hi")) {
        ((false, false), false) => row!(u32 <- a: u32, b: u32, c: u32 => n::dp2a::<false, false, false>(a, b, c)),
        ((false, true), false) => row!(u32 <- a: u32, b: u32, c: u32 => n::dp2a::<false, true, false>(a, b, c)),
        ((true, false), false) => row!(u32 <- a: u32, b: u32, c: u32 => n::dp2a::<true, false, false>(a, b, c)),
        ((true, true), false) => row!(u32 <- a: u32, b: u32, c: u32 => n::dp2a::<true, true, false>(a, b, c)),
        ((false, false), true) => row!(u32 <- a: u32, b: u32, c: u32 => n::dp2a::<false, false, true>(a, b, c)),
        ((false, true), true) => row!(u32 <- a: u32, b: u32, c: u32 => n::dp2a::<false, true, true>(a, b, c)),
        ((true, false), true) => row!(u32 <- a: u32, b: u32, c: u32 => n::dp2a::<true, false, true>(a, b, c)),
        ((true, true), true) => row!(u32 <- a: u32, b: u32, c: u32 => n::dp2a::<true, true, true>(a, b, c)),
    })
}

/// Operands of the dot products: two packed words and a sum.
const DOT: &[Arg] = &[Arg::Is(B32), Arg::Is(B32), Arg::Is(B32), Arg::Is(B32)];
/// Operands of `mul.wide` and `mad.wide`.
const MUL_WIDE: &[Arg] = &[Arg::Wide, T, T];
const MAD_WIDE: &[Arg] = &[Arg::Wide, T, T, Arg::Wide];

pub(super) static FORMS: &[Form] = &[
    Form::row("add", "u16|u32|s16|s32", TTT, Int, |m| wrapping!(m, wrapping_add)),
    Form::row("add", "u64|s64", TTT, Int64, |m| wrapping!(m, wrapping_add)),
    Form::row("add", "sat s32", TTT, Int, |_| Some(row!(u32 <- a: u32, b: u32 => n::add_sat_s32(a, b)))),
    Form::row("add", "u16x2|s16x2", TTT, Int, |_| Some(x2!(wrapping_add))).since(80, 90),
    Form::row("sub", "u16|u32|s16|s32", TTT, Int, |m| wrapping!(m, wrapping_sub)),
    Form::row("sub", "u64|s64", TTT, Int64, |m| wrapping!(m, wrapping_sub)),
    Form::row("sub", "sat s32", TTT, Int, |_| Some(row!(u32 <- a: u32, b: u32 => n::sub_sat_s32(a, b)))),
    Form::row("mul", "lo|hi u16|u32|s16|s32", TTT, Int, mul),
    Form::row("mul", "lo|hi u64|s64", TTT, Int64, mul),
    Form::row("mul", "wide u16|u32|s16|s32", MUL_WIDE, Int, mul),
    Form::row("mad", "lo|hi ?sat u16|u32|s16|s32", TTTT, Int, mad),
    Form::row("mad", "lo|hi u64|s64", TTTT, Int64, mad),
    Form::row("mad", "wide u16|u32|s16|s32", MAD_WIDE, Int, mad),
    Form::row("mul24", "lo|hi u32|s32", TTT, Int, mul24),
    Form::row("mad24", "lo|hi ?sat u32|s32", TTTT, Int, mad24),
    Form::row("sad", "u16|u32|s16|s32", TTTT, Int, sad),
    Form::row("sad", "u64|s64", TTTT, Int64, sad),
    Form::row("div", "u16|u32|s16|s32", TTT, Int, div),
    Form::row("div", "u64|s64", TTT, Int64, div),
    Form::row("rem", "u16|u32|s16|s32", TTT, Int, rem),
    Form::row("rem", "u64|s64", TTT, Int64, rem),
    Form::row("abs", "s16|s32", &[T, T], Int, abs),
    Form::row("abs", "s64", &[T, T], Int64, abs),
    Form::row("neg", "s16|s32", &[T, T], Int, neg),
    Form::row("neg", "s64", &[T, T], Int64, neg),
    Form::row("dp4a", "u32|s32 u32|s32", DOT, Int, dp4a),
    Form::row("dp2a", "lo|hi u32|s32 u32|s32", DOT, Int, dp2a),
];
