//! Conformance of the arithmetic of the virtual GPU: every spelling of every form of the table, on corner and random values, against a reference written
//! from the PTX ISA with integers and exact fixed-point numbers. Nothing here calls `vgpu::num`.
//!
//! | file | what |
//! |---|---|
//! | `machine` | lowers and runs one instruction on rows, with either build of the row functions |
//! | `exact` | binary formats, exact sums and products, one rounding |
//! | `values` | corner and random operands |
//! | `integers`, `floats`, `halves`, `conversions`, `comparisons`, `video` | the reference, by family |
//! | `coverage` | the walk over the table, and ptxas's opinion of every spelling |
//! | `exhaustive`, `hard` | all inputs where there are few; hard cases of rounding |
//! | `mistakes` | what other emulators got wrong, one test each |

#![allow(clippy::unwrap_used)] // clippy.toml allows it in test functions only, not in their helpers

mod approximations;
#[path = "../common/mod.rs"]
mod common;
mod comparisons;
mod conversions;
mod coverage;
mod exact;
mod exhaustive;
mod floats;
mod halves;
mod hard;
mod integers;
mod machine;
mod mistakes;
mod moves;
mod values;
mod video;

/// What a register holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A predicate.
    Pred,
    /// A register of so many bits.
    Bits(u32),
}

/// What a result must be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Want {
    /// These bits.
    Exact(u64),
    /// An f32 in this interval (approximate functions).
    Near32(f64, f64),
    /// The ISA leaves it open.
    Anything,
}

/// Values of one lane to what must come out.
pub type Eval = Box<dyn Fn(&[u64]) -> Vec<Want>>;

/// One spelling: registers in the order of the text, and the reference. With `carry` the flag is one more source (last) and one more result (last).
pub struct Case {
    /// Results.
    pub dst: Vec<Kind>,
    /// Sources.
    pub src: Vec<Kind>,
    /// Constant operands that follow the sources.
    pub imm: Vec<i64>,
    /// Whether the instruction knows the carry flag.
    pub carry: bool,
    /// The reference.
    pub eval: Eval,
}

impl Case {
    /// One result, exactly.
    pub fn new(dst: &[u32], src: &[u32], eval: impl Fn(&[u64]) -> u64 + 'static) -> Case {
        let bits = |widths: &[u32]| widths.iter().map(|&w| if w == 1 { Kind::Pred } else { Kind::Bits(w) }).collect();
        let eval = Box::new(move |v: &[u64]| vec![Want::Exact(eval(v))]);
        Case { dst: bits(dst), src: bits(src), imm: Vec::new(), carry: false, eval }
    }

    /// Any results.
    pub fn many(dst: &[u32], src: &[u32], eval: impl Fn(&[u64]) -> Vec<Want> + 'static) -> Case {
        Case { eval: Box::new(eval), ..Case::new(dst, src, |_| 0) }
    }
}

/// The reference of a spelling; `None` where nobody has written one.
pub fn reference(spelling: &str) -> Option<Case> {
    let op: Vec<&str> = spelling.split('.').collect();
    integers::case(&op)
        .or_else(|| floats::case(&op))
        .or_else(|| halves::case(&op))
        .or_else(|| approximations::case(&op))
        .or_else(|| conversions::case(&op))
        .or_else(|| comparisons::case(&op))
        .or_else(|| moves::case(&op))
        .or_else(|| video::case(&op))
}

/// Bits of a type name.
pub fn width(ty: &str) -> u32 {
    match ty {
        "f16" | "bf16" | "e4m3x2" | "e5m2x2" => 16,
        "f16x2" | "bf16x2" | "u16x2" | "s16x2" | "tf32" => 32,
        "pred" => 1,
        _ => ty[1..].parse().unwrap(),
    }
}
