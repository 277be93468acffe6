//! The seam between the walk over a kernel (`lower`) and the table of instruction forms (`forms`): how a form asks for the rows of its operands.

use crate::vgpu::ir::{Options, PredId, RowId};
use crate::vgpu::ptx::ast::{Operand, Pos, Ty};

/// Why a kernel cannot be lowered. Names the line and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {}, column {}: {what}{}", pos.line, pos.col, if hint.is_empty() { String::new() } else { format!("; {hint}") })]
pub struct LowerError {
    /// Where in the PTX.
    pub pos: Pos,
    /// The PTX may be right, but this machine does not know the form (exit code 3); otherwise the PTX is wrong (exit code 2).
    pub unsupported: bool,
    /// What is wrong, with the instruction as written where there is one.
    pub what: String,
    /// What to do; may be empty.
    pub hint: String,
}

/// What lowering returns.
pub type Result<T> = std::result::Result<T, LowerError>;

/// Gives the rows of operands while an instruction is lowered. Errors carry the instruction's line.
pub trait Operands {
    /// A source of type `ty`: a register of that width (`.bN` goes with every type of its width), a special register, or a constant, which gets a row of
    /// its own (integers cut to the width, `0f` and `0d` constants converted to the float type). 8- and 16-bit sources are zero-extended rows.
    ///
    /// # Errors
    /// An unknown name, a wrong width, an operand that is no value.
    fn src(&mut self, operand: &Operand, ty: Ty) -> Result<RowId>;

    /// As [`Operands::src`] where the ISA allows a register wider than `ty` (`cvt`, stores): gives its first row and its own width in bytes (at least 4).
    ///
    /// # Errors
    /// As [`Operands::src`].
    fn src_wide(&mut self, operand: &Operand, ty: Ty) -> Result<(RowId, u32)>;

    /// A destination register of type `ty`; a scratch row for `_`.
    ///
    /// # Errors
    /// An unknown name, a wrong width, not a register.
    fn dst(&mut self, operand: &Operand, ty: Ty) -> Result<RowId>;

    /// As [`Operands::dst`] where the register may be wider than `ty`: its row and its own width in bytes (2 for a 16-bit register: a signed byte is
    /// extended to its 16 bits, not to the row's 32).
    ///
    /// # Errors
    /// As [`Operands::dst`].
    fn dst_wide(&mut self, operand: &Operand, ty: Ty) -> Result<(RowId, u32)>;

    /// A predicate source, and whether it is negated (`!p`). The constants 0 and 1 are predicates too.
    ///
    /// # Errors
    /// Not a predicate.
    fn pred(&mut self, operand: &Operand) -> Result<(PredId, bool)>;

    /// A predicate destination; [`crate::vgpu::ir::PSINK`] for `_`.
    ///
    /// # Errors
    /// Not a predicate register.
    fn pred_dst(&mut self, operand: &Operand) -> Result<PredId>;

    /// An integer constant operand.
    ///
    /// # Errors
    /// Not a constant.
    fn imm(&mut self, operand: &Operand) -> Result<i64>;

    /// A constant row holding `bits` in all lanes (two rows where `wide`).
    fn constant(&mut self, bits: u64, wide: bool) -> RowId;

    /// A fresh row (`rows` consecutive ones) that nothing else uses.
    fn scratch(&mut self, rows: u32) -> RowId;

    /// A fresh predicate.
    fn scratch_pred(&mut self) -> PredId;

    /// Appends to [`crate::vgpu::ir::Kernel::lists`]; the index of the first entry.
    fn list(&mut self, entries: &[u16]) -> u32;

    /// The options of this lowering.
    fn options(&self) -> &Options;

    /// Notes a hint about this instruction for the report.
    fn lint(&mut self, text: String);

    /// An error at this instruction: the PTX is wrong.
    fn wrong(&self, what: String) -> LowerError;

    /// An error at this instruction: the form is not supported.
    fn unsupported(&self, what: String) -> LowerError;
}
