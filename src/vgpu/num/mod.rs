//! Numerics of the virtual GPU: what one lane of a PTX instruction computes, bit for bit.
//!
//! Every function takes and returns register bits (`u32` for 8- to 32-bit types, `u64` for 64-bit ones), never traps, keeps no
//! state and is `#[inline(always)]`, so that a loop over the 32 lanes of a row vectorises inside the interpreter's
//! `#[target_feature]` body. Modifiers are separate and compose: the rounding is a const parameter ([`RN`] [`RZ`] [`RM`]
//! [`RP`]), `.ftz` and `.sat` are functions of their own ([`f32::ftz`], [`f32::sat`]).
//!
//! Not here: rows, masks and memory ([`crate::vgpu`]'s `exec`), tensor-core instructions (`exec/mma.rs`).
//!
//! | module | what |
//! |---|---|
//! | [`mod@f32`], [`mod@f64`] | arithmetic in four roundings, min/max, comparisons |
//! | [`half`] | `f16` and `bf16`, one or two to a register |
//! | [`fp8`] | `e4m3`, `e5m2` |
//! | [`cvt`] | every conversion pair, and the run-time dispatcher [`cvt::cvt`] |
//! | [`approx`] | `ex2 lg2 rcp rsqrt sqrt div sin cos tanh` with the ISA's bounds |
//! | [`int`], [`bits`] | integer arithmetic and carries; shifts, fields, permutations |
//! | [`soft`] | exact values and one rounding for every binary format |

pub mod approx;
pub mod bits;
pub mod cvt;
pub mod f32;
pub mod f64;
pub mod fp8;
pub mod half;
pub mod int;
pub mod soft;

/// Round to nearest, ties to even (`.rn`, `.rni`).
pub const RN: u8 = 0;
/// Round toward zero (`.rz`, `.rzi`).
pub const RZ: u8 = 1;
/// Round toward minus infinity (`.rm`, `.rmi`).
pub const RM: u8 = 2;
/// Round toward plus infinity (`.rp`, `.rpi`).
pub const RP: u8 = 3;

/// `a` if `test`, else `b`, without a branch: a chain of these vectorises where `if` may not.
#[inline(always)]
pub(crate) fn sel(test: bool, a: u32, b: u32) -> u32 {
    b ^ ((a ^ b) & u32::from(test).wrapping_neg())
}

/// [`sel`] on 64 bits.
#[inline(always)]
pub(crate) fn sel64(test: bool, a: u64, b: u64) -> u64 {
    b ^ ((a ^ b) & u64::from(test).wrapping_neg())
}

/// A rounding mode as a run-time value; `as u8` gives the const parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Round {
    /// Nearest, ties to even.
    Rn = RN,
    /// Toward zero.
    Rz = RZ,
    /// Toward minus infinity.
    Rm = RM,
    /// Toward plus infinity.
    Rp = RP,
}

/// Comparison operators of `setp` and `set`. The `u` forms are true when an operand is NaN; the plain ones are false, `Ne` too.
/// Integers use `Eq..=Ge` (`lo ls hi hs` are `Lt Le Gt Ge` on unsigned types).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Cmp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Equ,
    Neu,
    Ltu,
    Leu,
    Gtu,
    Geu,
    Num,
    Nan,
}

impl Cmp {
    /// Reads the modifier of `setp`/`set` (`lt`, `geu`, `lo`, ...).
    pub fn parse(s: &str) -> Option<Cmp> {
        Some(match s {
            "eq" => Cmp::Eq,
            "ne" => Cmp::Ne,
            "lt" | "lo" => Cmp::Lt,
            "le" | "ls" => Cmp::Le,
            "gt" | "hi" => Cmp::Gt,
            "ge" | "hs" => Cmp::Ge,
            "equ" => Cmp::Equ,
            "neu" => Cmp::Neu,
            "ltu" => Cmp::Ltu,
            "leu" => Cmp::Leu,
            "gtu" => Cmp::Gtu,
            "geu" => Cmp::Geu,
            "num" => Cmp::Num,
            "nan" => Cmp::Nan,
            _ => return None,
        })
    }

    /// Applies the operator to an ordering; `None` means that an operand is NaN.
    #[inline(always)]
    pub fn holds(self, ord: Option<core::cmp::Ordering>) -> bool {
        use core::cmp::Ordering::*;
        match ord {
            None => matches!(self, Cmp::Equ | Cmp::Neu | Cmp::Ltu | Cmp::Leu | Cmp::Gtu | Cmp::Geu | Cmp::Nan),
            Some(o) => match self {
                Cmp::Eq | Cmp::Equ => o == Equal,
                Cmp::Ne | Cmp::Neu => o != Equal,
                Cmp::Lt | Cmp::Ltu => o == Less,
                Cmp::Le | Cmp::Leu => o != Greater,
                Cmp::Gt | Cmp::Gtu => o == Greater,
                Cmp::Ge | Cmp::Geu => o != Less,
                Cmp::Num => true,
                Cmp::Nan => false,
            },
        }
    }
}

/// Classes of `testp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Class {
    Finite,
    Infinite,
    Number,
    NotANumber,
    /// Zero counts as normal (PTX ISA, `testp`).
    Normal,
    Subnormal,
}
