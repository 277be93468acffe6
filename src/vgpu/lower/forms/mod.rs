//! The table of arithmetic forms: what every arithmetic, logic, comparison, conversion and move instruction of PTX is called, which modifiers and operands
//! it takes, and which row function computes it.
//!
//! One [`Form`] is one line of the ISA's syntax boxes; [`Form::spellings`] lists every way to write it, which is what the tests run and what ptxas is asked
//! about. Not here: memory, control flow, warp and tensor instructions (siblings of this folder), and what a lane computes ([`crate::vgpu::num`]).
//!
//! | file | what |
//! |---|---|
//! | `int`, `carry` | integer arithmetic; the forms with carries |
//! | `bits`, `logic` | counts, fields, shifts, permutations; logic on bits and predicates |
//! | `float`, `half` | `f32` and `f64`; `f16` and `bf16` |
//! | `minmax`, `approx` | minima and maxima; approximate functions |
//! | `compare` | `setp set selp slct testp` |
//! | `convert` | `cvt` and `cvt.pack` |
//! | `moves` | `mov`, packing and unpacking |
//! | `video` | SIMD video instructions |

mod approx;
mod bits;
mod carry;
mod compare;
mod convert;
mod float;
mod half;
mod int;
mod logic;
mod minmax;
mod moves;
mod video;

use std::collections::HashMap;
use std::sync::LazyLock;

use super::operands::{Operands, Result};
use crate::vgpu::exec::lanes::RowFns;
use crate::vgpu::ir::Ins;
use crate::vgpu::num::Round;
use crate::vgpu::prof::Class;
use crate::vgpu::ptx::ast::{Instr, Operand, Ty};

/// What an operand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arg {
    /// Of the `n`-th type of the instruction.
    T(usize),
    /// Of twice the width of the first type.
    Wide,
    /// Of a type that the form fixes.
    Is(Ty),
    /// An integer constant, which goes to `imm`.
    Imm,
    /// A predicate destination.
    PredDst,
}

/// The first type of the instruction, by far the most frequent kind of operand.
pub const T: Arg = Arg::T(0);

/// How a form becomes code.
#[derive(Clone, Copy)]
enum How {
    /// One row function; operands by `args`, the first one the destination, then `a b c e`. `None`: there is no such combination of modifiers.
    Row(fn(&mut Mods<'_>) -> Option<RowFns>),
    /// By a function of its own. The check says whether the combination of modifiers exists.
    Code(fn(&Mods<'_>) -> bool, Coder),
}

/// Lowers an instruction whose modifiers match.
type Coder = fn(&Mods<'_>, &Form, &Instr, &mut dyn Operands) -> Result<Vec<Ins>>;

/// One form.
pub struct Form {
    /// Opcode: `add`.
    pub base: &'static str,
    /// Modifiers in the ISA's order, blanks between: alternatives with `|`, optional ones with `?` in front.
    pub mods: &'static str,
    /// Operands, destination first. Empty where the form's own function looks at them.
    pub args: &'static [Arg],
    /// For the profiler.
    pub class: Class,
    /// The first PTX version that has it (80 is 8.0), where that is after 7.0.
    pub ptx: u32,
    /// The first target that has it, where that is after sm_80.
    pub sm: u32,
    how: How,
}

impl Form {
    const fn row(
        base: &'static str,
        mods: &'static str,
        args: &'static [Arg],
        class: Class,
        rows: fn(&mut Mods<'_>) -> Option<RowFns>,
    ) -> Form {
        Form { base, mods, args, class, ptx: 70, sm: 80, how: How::Row(rows) }
    }

    const fn code(
        base: &'static str,
        mods: &'static str,
        class: Class,
        exists: fn(&Mods<'_>) -> bool,
        code: Coder,
    ) -> Form {
        Form { base, mods, args: &[], class, ptx: 70, sm: 80, how: How::Code(exists, code) }
    }

    const fn since(self, ptx: u32, sm: u32) -> Form {
        Form { ptx, sm, ..self }
    }

    /// Every way to write the form, with modifiers in the ISA's order: `add.rn.ftz.f32`.
    pub fn spellings(&self) -> Vec<String> {
        let mut all = vec![vec![self.base]];
        for token in self.mods.split_whitespace() {
            let (optional, choices) = token.strip_prefix('?').map_or((false, token), |t| (true, t));
            let mut next = Vec::new();
            for head in &all {
                if optional {
                    next.push(head.clone());
                }
                for choice in choices.split('|') {
                    next.push(head.iter().copied().chain([choice]).collect());
                }
            }
            all = next;
        }
        all.retain(|op| self.matches(&op[1..]).is_some());
        all.into_iter().map(|op| op.join(".")).collect()
    }

    /// The modifiers, if they are this form's. Types keep their order, other modifiers need not.
    fn matches<'m>(&self, parts: &[&'m str]) -> Option<Mods<'m>> {
        let mut used = vec![false; parts.len()];
        for token in self.mods.split_whitespace() {
            let (optional, choices) = token.strip_prefix('?').map_or((false, token), |t| (true, t));
            let found = (0..parts.len()).find(|&i| !used[i] && choices.split('|').any(|c| c == parts[i]));
            match found {
                Some(i) => used[i] = true,
                None if optional => {}
                None => return None,
            }
        }
        // The types, in the order written, must be those that the form has in that order.
        if !used.iter().all(|&u| u) || !self.in_order(parts) {
            return None;
        }
        let types = parts.iter().filter_map(|p| Ty::parse(p)).collect();
        let mods = Mods { parts: parts.to_vec(), types, x: 0, imm: 0, jitter: false };
        let exists = match self.how {
            How::Row(rows) => rows(&mut mods.clone()).is_some(),
            How::Code(exists, _) => exists(&mods),
        };
        exists.then_some(mods)
    }

    /// Whether the types come in the form's order.
    fn in_order(&self, parts: &[&str]) -> bool {
        let mut types = parts.iter().filter(|p| is_type(p));
        self.mods.split_whitespace().all(|token| {
            let (optional, choices) = token.strip_prefix('?').map_or((false, token), |t| (true, t));
            if !choices.split('|').any(is_type) {
                return true;
            }
            let mut ahead = types.clone();
            match ahead.next() {
                Some(t) if choices.split('|').any(|c| c == *t) => {
                    types = ahead;
                    true
                }
                _ => optional,
            }
        })
    }

    fn lower(&self, mut mods: Mods<'_>, instr: &Instr, ops: &mut dyn Operands) -> Result<Vec<Ins>> {
        let rows = match self.how {
            How::Code(_, code) => return code(&mods, self, instr, ops),
            How::Row(rows) => {
                mods.jitter = ops.options().jitter != 0;
                rows(&mut mods)
            }
        };
        let Some(rows) = rows else {
            return Err(ops.unsupported(format!("`{}` is not supported", instr.op.join("."))));
        };
        operand_count(instr, self.args.len(), ops)?;
        let mut ins = Ins { x: mods.x, imm: mods.imm, ..Ins::row(rows.pick(ops.options().isa), self.class) };
        if mods.has("approx") || mods.has("full") {
            ins.imm = ops.options().jitter as i64;
        }
        let mut sources = 0;
        for (&arg, operand) in self.args.iter().zip(&instr.operands).skip(1) {
            if arg == Arg::Imm {
                ins.imm = ops.imm(operand)?;
                continue;
            }
            let row = ops.src(operand, mods.arg(arg))?;
            match sources {
                0 => ins.a = row,
                1 => ins.b = row,
                2 => ins.c = row,
                _ => ins.e = row,
            }
            sources += 1;
        }
        ins.d = match self.args[0] {
            Arg::PredDst => ops.pred_dst(&instr.operands[0])?,
            arg => ops.dst(&instr.operands[0], mods.arg(arg))?,
        };
        Ok(vec![ins])
    }
}

/// Type names, those too that registers do not have.
fn is_type(part: impl AsRef<str>) -> bool {
    Ty::parse(part.as_ref()).is_some() || matches!(part.as_ref(), "tf32" | "e4m3x2" | "e5m2x2" | "u16x2" | "s16x2")
}

/// The modifiers of an instruction that matches a form.
#[derive(Clone)]
pub struct Mods<'m> {
    parts: Vec<&'m str>,
    types: Vec<Ty>,
    /// Goes to [`Ins::x`].
    x: u32,
    /// Goes to [`Ins::imm`].
    imm: i64,
    /// Approximate functions are to be moved by an error.
    jitter: bool,
}

impl Mods<'_> {
    fn has(&self, name: &str) -> bool {
        self.parts.contains(&name)
    }

    /// The `n`-th type; `B32` for what registers do not have a type for.
    fn ty(&self, n: usize) -> Ty {
        self.types.get(n).copied().unwrap_or(Ty::B32)
    }

    /// The first modifier that `read` understands.
    fn find<X>(&self, read: impl Fn(&str) -> Option<X>) -> Option<X> {
        self.parts.iter().find_map(|p| read(p))
    }

    /// The rounding; to nearest where none is written.
    fn round(&self) -> Round {
        let read = |p: &str| match p {
            "rn" | "rni" => Some(Round::Rn),
            "rz" | "rzi" => Some(Round::Rz),
            "rm" | "rmi" => Some(Round::Rm),
            "rp" | "rpi" => Some(Round::Rp),
            _ => None,
        };
        self.find(read).unwrap_or(Round::Rn)
    }

    fn arg(&self, arg: Arg) -> Ty {
        match arg {
            Arg::T(n) => self.ty(n),
            Arg::Is(ty) => ty,
            Arg::Wide => match self.ty(0) {
                Ty::U16 => Ty::U32,
                Ty::S16 => Ty::S32,
                Ty::U32 => Ty::U64,
                _ => Ty::S64,
            },
            Arg::Imm | Arg::PredDst => Ty::B32,
        }
    }
}

/// The number of operands must be `n`.
fn operand_count(instr: &Instr, n: usize, ops: &dyn Operands) -> Result<()> {
    if instr.operands.len() == n {
        return Ok(());
    }
    let has = instr.operands.len();
    Err(ops.wrong(format!("`{}` takes {n} operands, not {has}: `{}`", instr.op.join("."), instr.text)))
}

/// Splits `d|p`; `None` for the second where there is only one.
fn pair(operand: &Operand) -> (&Operand, Option<&Operand>) {
    match operand {
        Operand::Pair(first, second) => (first, Some(second)),
        one => (one, None),
    }
}

/// Compiles an expression for each rounding, which is `R` in it.
macro_rules! by_round {
    ($mods:expr, $e:expr) => {
        match $mods.round() {
            $crate::vgpu::num::Round::Rn => {
                const R: u8 = $crate::vgpu::num::RN;
                $e
            }
            $crate::vgpu::num::Round::Rz => {
                const R: u8 = $crate::vgpu::num::RZ;
                $e
            }
            $crate::vgpu::num::Round::Rm => {
                const R: u8 = $crate::vgpu::num::RM;
                $e
            }
            $crate::vgpu::num::Round::Rp => {
                const R: u8 = $crate::vgpu::num::RP;
                $e
            }
        }
    };
}

/// [`by_round`] without the rounding to nearest, which has a body of its own.
macro_rules! by_directed {
    ($mods:expr, $e:expr) => {
        match $mods.round() {
            $crate::vgpu::num::Round::Rm => {
                const R: u8 = $crate::vgpu::num::RM;
                $e
            }
            $crate::vgpu::num::Round::Rp => {
                const R: u8 = $crate::vgpu::num::RP;
                $e
            }
            _ => {
                const R: u8 = $crate::vgpu::num::RZ;
                $e
            }
        }
    };
}

/// Compiles an expression with and without a flag, which is a constant in it: `by_flag!(mods.has("ftz"), FTZ, expression)`.
macro_rules! by_flag {
    ($test:expr, $name:ident, $e:expr) => {
        if $test {
            const $name: bool = true;
            $e
        } else {
            const $name: bool = false;
            $e
        }
    };
}

use {by_directed, by_flag, by_round};

/// All forms.
pub fn forms() -> impl Iterator<Item = &'static Form> {
    let all: [&'static [Form]; 12] = [
        int::FORMS,
        carry::FORMS,
        bits::FORMS,
        logic::FORMS,
        float::FORMS,
        half::FORMS,
        minmax::FORMS,
        approx::FORMS,
        compare::FORMS,
        convert::FORMS,
        moves::FORMS,
        video::FORMS,
    ];
    all.into_iter().flatten()
}

/// Forms by opcode.
static BY_BASE: LazyLock<HashMap<&'static str, Vec<&'static Form>>> = LazyLock::new(|| {
    let mut map: HashMap<_, Vec<_>> = HashMap::new();
    for form in forms() {
        map.entry(form.base).or_default().push(form);
    }
    map
});

/// Opcodes that are arithmetic but not in the table, and why.
fn refused(base: &str) -> Option<&'static str> {
    Some(match base {
        "vadd" | "vsub" | "vabsdiff" | "vmin" | "vmax" | "vshl" | "vshr" | "vmad" | "vset" => {
            "scalar video instructions are not supported; write the shifts and adds out"
        }
        _ => return None,
    })
}

/// The first PTX version (80 is 8.0) and target (90 is sm_90) that have the instruction, or `None` where it is not in the table.
pub fn requires(instr: &Instr) -> Option<(u32, u32)> {
    find(instr).map(|(form, _)| (form.ptx, form.sm))
}

fn find(instr: &Instr) -> Option<(&'static Form, Mods<'_>)> {
    let base = instr.op.first()?;
    let parts: Vec<&str> = instr.op.iter().skip(1).map(String::as_str).collect();
    let named = BY_BASE.get(base.as_str())?;
    let mut fits: Vec<_> = named.iter().filter_map(|f| Some((*f, f.matches(&parts)?))).collect();
    // Forms that differ only in the number of operands.
    let exact = fits.iter().position(|(f, _)| f.args.len() == instr.operands.len());
    match exact {
        Some(i) => Some(fits.swap_remove(i)),
        None => fits.into_iter().next(),
    }
}

/// Lowers an instruction of the table; `None` where the opcode is not one of its own.
///
/// # Errors
/// A form that does not exist or is not supported, operands that do not fit.
pub fn lower(instr: &Instr, ops: &mut dyn Operands) -> Result<Option<Vec<Ins>>> {
    let Some(base) = instr.op.first() else { return Ok(None) };
    if let Some(why) = refused(base) {
        return Err(ops.unsupported(format!("`{}`: {why}", instr.op.join("."))));
    }
    let Some(named) = BY_BASE.get(base.as_str()) else { return Ok(None) };
    match find(instr) {
        Some((form, mods)) => form.lower(mods, instr, ops).map(Some),
        None => {
            let forms: Vec<String> = named
                .iter()
                .map(|f| f.mods.split_whitespace().fold(format!("`{base}"), |s, m| s + " ." + m) + "`")
                .collect();
            let forms = if forms.len() > 6 { String::new() } else { format!("; known forms: {}", forms.join(", ")) };
            Err(ops.unsupported(format!("`{}` is not a supported form of {base}{forms}", instr.op.join("."))))
        }
    }
}
