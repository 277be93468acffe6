//! Sums, differences and products with the carry flag, for arithmetic on long integers.
//!
//! The flag of a lane is its bit in [`CARRY`]; only forms with `.cc` write it. After a subtraction it says *borrow* (`subc`: `a - (b + CC.CF)`).

use super::{Arg, Form, Mods, T};
use crate::vgpu::exec::lanes::{Lane, RowFns, pred, put_pred, row_fns};
use crate::vgpu::ir::{CARRY, WARP};
use crate::vgpu::num::int as n;
use crate::vgpu::prof::Class::{Int, Int64};

/// A row function of [`Ins::x`](crate::vgpu::ir::Ins): bit 0 reads the flag, bit 1 writes it. `$e` makes value and flag of the operands and `carry`.
macro_rules! carried {
    ($w:ty, |$($s:ident),+; $carry:ident| $e:expr) => {
        row_fns!(|file, ins, mask| {
            $(let $s = <$w as Lane>::get(file, ins.$s);)+
            let flags = if ins.x & 1 == 1 { pred(file, CARRY) } else { 0 };
            let (mut out, mut set) = ([0 as $w; WARP], 0u32);
            for lane in 0..WARP {
                $(let $s = $s[lane];)+
                let $carry = flags >> lane & 1 == 1;
                let (value, flag) = $e;
                out[lane] = value;
                set |= u32::from(flag) << lane;
            }
            <$w as Lane>::put(file, ins.d, mask, &out);
            if ins.x & 2 == 2 {
                put_pred(file, CARRY, mask, set);
            }
        })
    };
}

fn flags(m: &mut Mods<'_>, reads: bool) -> Option<()> {
    m.x = u32::from(reads) | u32::from(m.has("cc")) << 1;
    (m.x != 0).then_some(())
}

fn add(m: &mut Mods<'_>, reads: bool) -> Option<RowFns> {
    flags(m, reads)?;
    Some(if m.ty(0).bytes() == 4 {
        carried!(u32, |a, b; c| n::addc_u32(a, b, c))
    } else {
        carried!(u64, |a, b; c| n::addc_u64(a, b, c))
    })
}

fn sub(m: &mut Mods<'_>, reads: bool) -> Option<RowFns> {
    flags(m, reads)?;
    Some(if m.ty(0).bytes() == 4 {
        carried!(u32, |a, b; c| n::subc_u32(a, b, c))
    } else {
        carried!(u64, |a, b; c| n::subc_u64(a, b, c))
    })
}

fn mad(m: &mut Mods<'_>, reads: bool) -> Option<RowFns> {
    flags(m, reads)?;
    Some(match (m.ty(0).bytes(), m.has("hi"), m.ty(0).signed()) {
        (4, false, _) => carried!(u32, |a, b, c; f| n::addc_u32(a.wrapping_mul(b), c, f)),
        (4, true, false) => carried!(u32, |a, b, c; f| n::addc_u32(n::mul_hi_u32(a, b), c, f)),
        (4, true, true) => carried!(u32, |a, b, c; f| n::addc_u32(n::mul_hi_s32(a, b), c, f)),
        (_, false, _) => carried!(u64, |a, b, c; f| n::addc_u64(a.wrapping_mul(b), c, f)),
        (_, true, false) => carried!(u64, |a, b, c; f| n::addc_u64(n::mul_hi_u64(a, b), c, f)),
        (_, true, true) => carried!(u64, |a, b, c; f| n::addc_u64(n::mul_hi_s64(a, b), c, f)),
    })
}

const TTT: &[Arg] = &[T, T, T];
const TTTT: &[Arg] = &[T, T, T, T];

pub(super) static FORMS: &[Form] = &[
    Form::row("add", "cc u32|s32", TTT, Int, |m| add(m, false)),
    Form::row("add", "cc u64|s64", TTT, Int64, |m| add(m, false)),
    Form::row("addc", "?cc u32|s32", TTT, Int, |m| add(m, true)),
    Form::row("addc", "?cc u64|s64", TTT, Int64, |m| add(m, true)),
    Form::row("sub", "cc u32|s32", TTT, Int, |m| sub(m, false)),
    Form::row("sub", "cc u64|s64", TTT, Int64, |m| sub(m, false)),
    Form::row("subc", "?cc u32|s32", TTT, Int, |m| sub(m, true)),
    Form::row("subc", "?cc u64|s64", TTT, Int64, |m| sub(m, true)),
    Form::row("mad", "lo|hi cc u32|s32", TTTT, Int, |m| mad(m, false)),
    Form::row("mad", "lo|hi cc u64|s64", TTTT, Int64, |m| mad(m, false)),
    Form::row("madc", "lo|hi ?cc u32|s32", TTTT, Int, |m| mad(m, true)),
    Form::row("madc", "lo|hi ?cc u64|s64", TTTT, Int64, |m| mad(m, true)),
];
