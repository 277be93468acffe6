//! Tensor-core products: `mma.sync` on whole warps. Here: what a form is, how an instruction carries it, and which row function runs it.
//!
//! | module | what |
//! |---|---|
//! | [`fragment`] | which lane holds which element |
//! | [`int`] | integers and single bits, exact |
//! | [`float`] | f16, bf16, tf32, 8-bit floats as FMA chains or exact sums; f64 |
//! | [`block`] | the same as tensor cores sum them |
//! | [`matrix`] | 8x8 matrices of `ldmatrix`, `stmatrix`, `movmatrix` |
//! | `avx2` | the hot forms with vector instructions |
//!
//! Not here: the text of instructions ([`crate::vgpu::lower::tensor`]); sparse, block-scaled and warp-group products, which are not supported.

#[cfg(target_arch = "x86_64")]
mod avx2;
pub mod block;
pub mod float;
pub mod fragment;
pub mod int;
pub mod matrix;

use crate::vgpu::exec::lanes::RowFns;
use crate::vgpu::ir::{Ins, MmaMode, Op};
use crate::vgpu::prof::{Class, Mma, Rate};

/// Types of the elements of A and B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Elem {
    S8,
    U8,
    S4,
    U4,
    B1,
    F16,
    Bf16,
    Tf32,
    E4m3,
    E5m2,
    F64,
}

/// All of them, by their number.
const ELEMS: [Elem; 11] = [
    Elem::S8,
    Elem::U8,
    Elem::S4,
    Elem::U4,
    Elem::B1,
    Elem::F16,
    Elem::Bf16,
    Elem::Tf32,
    Elem::E4m3,
    Elem::E5m2,
    Elem::F64,
];

impl Elem {
    /// Reads a type modifier without its dot.
    pub fn parse(s: &str) -> Option<Elem> {
        ELEMS.into_iter().find(|e| e.name() == s)
    }

    /// `s8` ..
    pub fn name(self) -> &'static str {
        ["s8", "u8", "s4", "u4", "b1", "f16", "bf16", "tf32", "e4m3", "e5m2", "f64"][self as usize]
    }

    /// Bits of one element as it lies in registers.
    pub fn bits(self) -> usize {
        [8, 8, 4, 4, 1, 16, 16, 32, 8, 8, 64][self as usize]
    }

    /// Whether sums of its products are integers.
    pub fn integer(self) -> bool {
        (self as u8) <= Elem::B1 as u8
    }
}

/// Types of C and D.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Acc {
    S32,
    F16,
    F32,
    F64,
}

const ACCS: [Acc; 4] = [Acc::S32, Acc::F16, Acc::F32, Acc::F64];

impl Acc {
    /// Reads a type modifier without its dot.
    pub fn parse(s: &str) -> Option<Acc> {
        ACCS.into_iter().find(|a| a.name() == s)
    }

    /// `s32` ..
    pub fn name(self) -> &'static str {
        ["s32", "f16", "f32", "f64"][self as usize]
    }
}

/// One form of `mma.sync`. N is always 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Rows of A: 8 or 16.
    pub m: usize,
    /// Columns of A.
    pub k: usize,
    /// Elements of A.
    pub a: Elem,
    /// Elements of B.
    pub b: Elem,
    /// Elements of C.
    pub c: Acc,
    /// Elements of D.
    pub d: Acc,
    /// `.satfinite` of integers.
    pub sat: bool,
    /// `.and.popc` instead of `.xor.popc`.
    pub and: bool,
    /// A is given by columns (`m8n8k4` of f16 only).
    pub a_col: bool,
    /// B is given by rows (`m8n8k4` of f16 only).
    pub b_row: bool,
}

impl Form {
    /// The four independent 8x8x4 products of quarter warps: `m8n8k4` of f16.
    pub fn quads(&self) -> bool {
        self.a == Elem::F16 && self.k == 4
    }

    /// Pieces of 16 bytes (32 of f64) in a row of A.
    pub fn segments(&self) -> usize {
        let register = if self.a == Elem::F64 { 64 } else { 32 };
        (self.k * self.a.bits() / (4 * register)).max(1)
    }

    /// Registers of D, A, B and C (64-bit ones for f64).
    pub fn registers(&self) -> [usize; 4] {
        let halves = self.m / 8;
        if self.quads() {
            let of = |acc| if acc == Acc::F16 { 4 } else { 8 };
            return [of(self.d), 2, 2, of(self.c)];
        }
        let of = |acc| if acc == Acc::F16 { halves } else { 2 * halves };
        [of(self.d), halves * self.segments(), self.segments(), of(self.c)]
    }

    /// The form in a word, for [`Ins::imm`]; positive.
    pub fn pack(&self) -> i64 {
        let flags = [self.sat, self.and, self.a_col, self.b_row];
        let flags = flags.iter().enumerate().fold(0, |all, (i, &f)| all | i64::from(f) << i);
        1 << 40
            | (self.k as i64) << 24
            | (self.m as i64) << 16
            | (self.a as i64) << 12
            | (self.b as i64) << 8
            | (self.c as i64) << 6
            | (self.d as i64) << 4
            | flags
    }

    /// The inverse of [`Form::pack`].
    #[inline(always)]
    pub fn unpack(word: i64) -> Form {
        let field = |at: u32, bits: u32| (word >> at & ((1 << bits) - 1)) as usize;
        Form {
            m: field(16, 8),
            k: field(24, 16),
            a: ELEMS[field(12, 4).min(ELEMS.len() - 1)],
            b: ELEMS[field(8, 4).min(ELEMS.len() - 1)],
            c: ACCS[field(6, 2)],
            d: ACCS[field(4, 2)],
            sat: field(0, 1) == 1,
            and: field(1, 1) == 1,
            a_col: field(2, 1) == 1,
            b_row: field(3, 1) == 1,
        }
    }

    /// `m16n8k32.s32.s8.s8.s32`, with `.satfinite`, `.xor.popc` and the layouts where they are a choice.
    pub fn name(&self) -> String {
        let Form { m, k, a, b, c, d, .. } = self;
        let mut name = format!("m{m}n8k{k}");
        if self.quads() {
            name += if self.a_col { ".col" } else { ".row" };
            name += if self.b_row { ".row" } else { ".col" };
        }
        if self.sat {
            name += ".satfinite";
        }
        name += &format!(".{}.{}.{}.{}", d.name(), a.name(), b.name(), c.name());
        if *a == Elem::B1 {
            name += if self.and { ".and.popc" } else { ".xor.popc" };
        }
        name
    }

    /// Multiply-adds of one instruction.
    pub fn macs(&self) -> u64 {
        let products = if self.quads() { 4 } else { 1 };
        (products * self.m * 8 * self.k) as u64
    }

    /// Which of the tensor rates holds.
    pub fn rate(&self) -> Rate {
        match self.a {
            Elem::S8 | Elem::U8 => Rate::I8,
            Elem::S4 | Elem::U4 => Rate::I4,
            Elem::B1 => Rate::B1,
            Elem::F16 | Elem::Bf16 => Rate::F16,
            Elem::Tf32 => Rate::Tf32,
            Elem::E4m3 | Elem::E5m2 => Rate::Fp8,
            Elem::F64 => Rate::F64,
        }
    }

    /// The row function that runs it. It wants the registers of D, A, B, C, in this order, in the list at [`Ins::x`], and the form in [`Ins::imm`].
    pub fn row_fns(&self, mode: MmaMode) -> RowFns {
        match (self.a, mode) {
            (Elem::S8 | Elem::U8, _) => int::bytes(self),
            (Elem::S4 | Elem::U4, _) => int::nibbles(),
            (Elem::B1, _) => int::bits(),
            (Elem::F64, _) => float::f64(),
            (_, MmaMode::Fast) if self.quads() => float::fast_quads(),
            (_, MmaMode::Fast) => float::fast(),
            (_, MmaMode::Ref) => float::exact(),
            (_, MmaMode::Sm80) => block::sm80(),
            (_, MmaMode::Sm90) => block::sm90(),
        }
    }
}

/// The tensor-core product that an instruction does, with a count of 1; `None` where it does none.
pub fn describe(ins: &Ins) -> Option<Mma> {
    (ins.op == Op::WholeWarp && ins.class == Class::Mma).then(|| {
        let form = Form::unpack(ins.imm);
        Mma { form: form.name(), count: 1, macs: form.macs(), rate: form.rate() }
    })
}
