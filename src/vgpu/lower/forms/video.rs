//! SIMD video instructions: four bytes or two halfwords at once, merged (`d` takes all parts) or added up (`.add`).
//!
//! NVRTC emits `vabsdiff4` for `__vabsdiff4` and `__vsad4`; the others are for hand-written PTX. Byte selectors and masks (`a.b3012`) are no operands that
//! the parser knows.

use super::{Arg, Form, Mods};
use crate::vgpu::exec::lanes::{RowFns, slow_row};
use crate::vgpu::num::Cmp;
use crate::vgpu::prof::Class::Int;
use crate::vgpu::ptx::ast::Ty::*;

/// What is done with the parts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Do {
    Add,
    Sub,
    Average,
    Difference,
    Min,
    Max,
    Set,
}

const ALL: [Do; 8] = [Do::Add, Do::Sub, Do::Average, Do::Difference, Do::Min, Do::Max, Do::Set, Do::Set];
const COMPARISONS: [Cmp; 8] = [Cmp::Eq, Cmp::Ne, Cmp::Lt, Cmp::Le, Cmp::Gt, Cmp::Ge, Cmp::Eq, Cmp::Eq];

// Bits of `x` above the operation (0 to 2) and the comparison (3 to 5).
const SIGNED_A: u32 = 1 << 6;
const SIGNED_B: u32 = 1 << 7;
const SIGNED_D: u32 = 1 << 8;
const SATURATE: u32 = 1 << 9;
const SUM: u32 = 1 << 10;
const HALVES: u32 = 1 << 11;

/// One instruction in one lane, as the ISA's loop does it.
fn simd(x: u32, a: u32, b: u32, c: u32) -> u32 {
    let width = if x & HALVES != 0 { 16 } else { 8 };
    let part = |v: u32, i: u32, signed: bool| {
        let top = v >> (width * i) << (32 - width);
        if signed { top as i32 >> (32 - width) } else { (top >> (32 - width)) as i32 }
    };
    let (lo, hi) =
        if x & SIGNED_D != 0 { (-(1 << (width - 1)), (1 << (width - 1)) - 1) } else { (0, (1 << width) - 1) };
    let mut sum = c;
    let mut merged = 0;
    for i in 0..32 / width {
        let (p, q) = (part(a, i, x & SIGNED_A != 0), part(b, i, x & SIGNED_B != 0));
        let t = match ALL[(x & 7) as usize] {
            Do::Add => p + q,
            Do::Sub => p - q,
            Do::Average => (p + q + i32::from(p + q >= 0)) >> 1,
            Do::Difference => (p - q).abs(),
            Do::Min => p.min(q),
            Do::Max => p.max(q),
            Do::Set => i32::from(COMPARISONS[(x >> 3 & 7) as usize].holds(Some(p.cmp(&q)))),
        };
        let t = if x & SATURATE != 0 { t.clamp(lo, hi) } else { t };
        sum = sum.wrapping_add(t as u32);
        merged |= (t as u32 & (u32::MAX >> (32 - width))) << (width * i);
    }
    if x & SUM != 0 { sum } else { merged }
}

fn rows(m: &mut Mods<'_>, what: Do, halves: bool) -> Option<RowFns> {
    let set = what == Do::Set;
    // `vset` has no destination type: its results are 0 and 1.
    let (a, b) = if set { (0, 1) } else { (1, 2) };
    let flag = |on: bool, bit: u32| if on { bit } else { 0 };
    let cmp = m.find(Cmp::parse).and_then(|c| COMPARISONS.iter().position(|k| *k == c)).unwrap_or(0);
    m.x = ALL.iter().position(|d| *d == what)? as u32
        | (cmp as u32) << 3
        | flag(m.ty(a).signed(), SIGNED_A)
        | flag(m.ty(b).signed(), SIGNED_B)
        | flag(!set && m.ty(0).signed(), SIGNED_D)
        | flag(m.has("sat"), SATURATE)
        | flag(m.has("add"), SUM)
        | flag(halves, HALVES);
    Some(slow_row!(u32 as ins <- a: u32, b: u32, c: u32 => simd(ins.x, a, b, c)))
}

const WORDS: &[Arg] = &[Arg::Is(B32), Arg::Is(B32), Arg::Is(B32), Arg::Is(B32)];
const TYPES: &str = "u32|s32 u32|s32 u32|s32 ?sat|add";
const SET: &str = "u32|s32 u32|s32 eq|ne|lt|le|gt|ge ?add";

pub(super) static FORMS: &[Form] = &[
    Form::row("vadd4", TYPES, WORDS, Int, |m| rows(m, Do::Add, false)),
    Form::row("vsub4", TYPES, WORDS, Int, |m| rows(m, Do::Sub, false)),
    Form::row("vavrg4", TYPES, WORDS, Int, |m| rows(m, Do::Average, false)),
    Form::row("vabsdiff4", TYPES, WORDS, Int, |m| rows(m, Do::Difference, false)),
    Form::row("vmin4", TYPES, WORDS, Int, |m| rows(m, Do::Min, false)),
    Form::row("vmax4", TYPES, WORDS, Int, |m| rows(m, Do::Max, false)),
    Form::row("vset4", SET, WORDS, Int, |m| rows(m, Do::Set, false)),
    Form::row("vadd2", TYPES, WORDS, Int, |m| rows(m, Do::Add, true)),
    Form::row("vsub2", TYPES, WORDS, Int, |m| rows(m, Do::Sub, true)),
    Form::row("vavrg2", TYPES, WORDS, Int, |m| rows(m, Do::Average, true)),
    Form::row("vabsdiff2", TYPES, WORDS, Int, |m| rows(m, Do::Difference, true)),
    Form::row("vmin2", TYPES, WORDS, Int, |m| rows(m, Do::Min, true)),
    Form::row("vmax2", TYPES, WORDS, Int, |m| rows(m, Do::Max, true)),
    Form::row("vset2", SET, WORDS, Int, |m| rows(m, Do::Set, true)),
];
