//! Counts, bit fields, shifts and permutations of bytes.

use super::{Arg, Form, Mods, T, by_flag};
use crate::vgpu::exec::lanes::{RowFns, row};
use crate::vgpu::num::bits as n;
use crate::vgpu::prof::Class::Logic;
use crate::vgpu::ptx::ast::Ty::*;

const N: Arg = Arg::Is(U32);
const W: Arg = Arg::Is(B32);

fn bfind(m: &mut Mods<'_>) -> Option<RowFns> {
    Some(by_flag!(m.has("shiftamt"), SHIFT, {
        match m.ty(0) {
            U32 => row!(u32 <- a: u32 => n::bfind_u32::<SHIFT>(a)),
            S32 => row!(u32 <- a: u32 => n::bfind_s32::<SHIFT>(a)),
            U64 => row!(u32 <- a: u64 => n::bfind_u64::<SHIFT>(a)),
            _ => row!(u32 <- a: u64 => n::bfind_s64::<SHIFT>(a)),
        }
    }))
}

fn count(m: &mut Mods<'_>) -> Option<RowFns> {
    Some(match m.ty(0).bytes() {
        4 => row!(u32 <- a: u32 => a.leading_zeros()),
        _ => row!(u32 <- a: u64 => a.leading_zeros()),
    })
}

fn popc(m: &mut Mods<'_>) -> Option<RowFns> {
    Some(match m.ty(0).bytes() {
        4 => row!(u32 <- a: u32 => a.count_ones()),
        _ => row!(u32 <- a: u64 => a.count_ones()),
    })
}

fn brev(m: &mut Mods<'_>) -> Option<RowFns> {
    Some(match m.ty(0).bytes() {
        4 => row!(u32 <- a: u32 => a.reverse_bits()),
        _ => row!(u64 <- a: u64 => a.reverse_bits()),
    })
}

fn bfe(m: &mut Mods<'_>) -> Option<RowFns> {
    Some(match m.ty(0) {
        U32 => row!(u32 <- a: u32, b: u32, c: u32 => n::bfe_u32(a, b, c)),
        S32 => row!(u32 <- a: u32, b: u32, c: u32 => n::bfe_s32(a, b, c)),
        U64 => row!(u64 <- a: u64, b: u32, c: u32 => n::bfe_u64(a, b, c)),
        _ => row!(u64 <- a: u64, b: u32, c: u32 => n::bfe_s64(a, b, c)),
    })
}

fn bfi(m: &mut Mods<'_>) -> Option<RowFns> {
    Some(match m.ty(0).bytes() {
        4 => row!(u32 <- a: u32, b: u32, c: u32, e: u32 => n::bfi_b32(a, b, c, e)),
        _ => row!(u64 <- a: u64, b: u64, c: u32, e: u32 => n::bfi_b64(a, b, c, e)),
    })
}

fn bmsk(m: &mut Mods<'_>) -> Option<RowFns> {
    Some(by_flag!(m.has("wrap"), WRAP, row!(u32 <- a: u32, b: u32 => n::bmsk::<WRAP>(a, b))))
}

fn szext(m: &mut Mods<'_>) -> Option<RowFns> {
    Some(by_flag!(
        m.has("wrap"),
        WRAP,
        by_flag!(m.ty(0).signed(), SIGNED, row!(u32 <- a: u32, b: u32 => n::szext::<WRAP, SIGNED>(a, b)))
    ))
}

fn shl(m: &mut Mods<'_>) -> Option<RowFns> {
    Some(match m.ty(0).bytes() {
        2 => row!(u32 <- a: u32, b: u32 => n::shl_b16(a, b)),
        4 => row!(u32 <- a: u32, b: u32 => n::shl_b32(a, b)),
        _ => row!(u64 <- a: u64, b: u32 => n::shl_b64(a, b)),
    })
}

fn shr(m: &mut Mods<'_>) -> Option<RowFns> {
    Some(match m.ty(0) {
        S16 => row!(u32 <- a: u32, b: u32 => n::shr_s16(a, b)),
        B16 | U16 => row!(u32 <- a: u32, b: u32 => n::shr_u16(a, b)),
        S32 => row!(u32 <- a: u32, b: u32 => n::shr_s32(a, b)),
        B32 | U32 => row!(u32 <- a: u32, b: u32 => n::shr_u32(a, b)),
        S64 => row!(u64 <- a: u64, b: u32 => n::shr_s64(a, b)),
        _ => row!(u64 <- a: u64, b: u32 => n::shr_u64(a, b)),
    })
}

fn shf(m: &mut Mods<'_>) -> Option<RowFns> {
    Some(by_flag!(m.has("wrap"), WRAP, {
        if m.has("l") {
            row!(u32 <- a: u32, b: u32, c: u32 => n::shf_l::<WRAP>(a, b, c))
        } else {
            row!(u32 <- a: u32, b: u32, c: u32 => n::shf_r::<WRAP>(a, b, c))
        }
    }))
}

fn prmt(m: &mut Mods<'_>) -> Option<RowFns> {
    let mode = m.find(n::Prmt::parse);
    m.x = mode.map_or(0, |mode| mode as u32);
    Some(match mode {
        None => row!(u32 <- a: u32, b: u32, c: u32 => n::prmt(a, b, c)),
        Some(_) => row!(u32 as ins <- a: u32, b: u32, c: u32 => {
            n::prmt(a, b, MODES[(ins.x & 7) as usize].selector(c))
        }),
    })
}

/// The modes of `prmt` by their number.
const MODES: [n::Prmt; 8] = {
    use n::Prmt::*;
    [Index, F4e, B4e, Rc8, Ecl, Ecr, Rc16, Index]
};

pub(super) static FORMS: &[Form] = &[
    Form::row("popc", "b32|b64", &[N, T], Logic, popc),
    Form::row("clz", "b32|b64", &[N, T], Logic, count),
    Form::row("bfind", "?shiftamt u32|u64|s32|s64", &[N, T], Logic, bfind),
    Form::row("fns", "b32", &[W, W, W, W], Logic, |_| Some(row!(u32 <- a: u32, b: u32, c: u32 => n::fns(a, b, c)))),
    Form::row("brev", "b32|b64", &[T, T], Logic, brev),
    Form::row("bfe", "u32|u64|s32|s64", &[T, T, N, N], Logic, bfe),
    Form::row("bfi", "b32|b64", &[T, T, T, N, N], Logic, bfi),
    Form::row("bmsk", "clamp|wrap b32", &[W, W, W], Logic, bmsk).since(76, 70),
    Form::row("szext", "clamp|wrap u32|s32", &[T, T, N], Logic, szext).since(76, 70),
    Form::row("shl", "b16|b32|b64", &[T, T, N], Logic, shl),
    Form::row("shr", "b16|b32|b64|u16|u32|u64|s16|s32|s64", &[T, T, N], Logic, shr),
    Form::row("shf", "l|r clamp|wrap b32", &[W, W, W, N], Logic, shf),
    Form::row("prmt", "b32 ?f4e|b4e|rc8|ecl|ecr|rc16", &[W, W, W, W], Logic, prmt),
];
