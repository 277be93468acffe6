//! Which register goes with which instruction type (PTX ISA, "Operand Type Checking", tables of relaxed rules).

use crate::vgpu::ptx::ast::Ty;

/// Bits without a type.
pub(super) fn bits(ty: Ty) -> bool {
    matches!(ty, Ty::B8 | Ty::B16 | Ty::B32 | Ty::B64 | Ty::B128)
}

/// Floats, packed ones too.
pub(super) fn float(ty: Ty) -> bool {
    matches!(ty, Ty::F16 | Ty::F16x2 | Ty::Bf16 | Ty::Bf16x2 | Ty::F32 | Ty::F64)
}

/// An operand of the instruction's own width: bits go with all, signed with unsigned, floats with themselves.
pub(super) fn agrees(instr: Ty, reg: Ty) -> bool {
    if instr == Ty::Pred || reg == Ty::Pred {
        return instr == reg;
    }
    instr.bytes() == reg.bytes() && (bits(instr) || bits(reg) || instr == reg || (!float(instr) && !float(reg)))
}

/// An operand of `ld`, `st` or `cvt`, whose register may be wider: then floats go with bits only.
pub(super) fn agrees_wide(instr: Ty, reg: Ty) -> bool {
    if agrees(instr, reg) {
        return true;
    }
    if instr == Ty::Pred || reg == Ty::Pred || reg.bytes() < instr.bytes() {
        return false;
    }
    if float(instr) { bits(reg) } else { bits(instr) || !float(reg) }
}

/// Rows of a register.
pub(super) fn rows(ty: Ty) -> u32 {
    ty.bytes().div_ceil(4)
}

/// Its name in PTX, with the dot.
pub(super) fn name(ty: Ty) -> String {
    format!(".{}", format!("{ty:?}").to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_tables_say() {
        for (instr, reg, exact, wide) in [
            (Ty::B32, Ty::F32, true, true),
            (Ty::F32, Ty::B32, true, true),
            (Ty::U32, Ty::F32, false, false),
            (Ty::F32, Ty::U32, false, false),
            (Ty::U32, Ty::S32, true, true),
            (Ty::S16, Ty::B64, false, true),
            (Ty::B8, Ty::F32, false, true),
            (Ty::U8, Ty::F32, false, false),
            (Ty::F16, Ty::B32, false, true),
            (Ty::F16, Ty::F32, false, false),
            (Ty::F16, Ty::U32, false, false),
            (Ty::U64, Ty::U32, false, false),
            (Ty::F16x2, Ty::B32, true, true),
            (Ty::F16x2, Ty::F32, false, false),
            (Ty::Pred, Ty::B32, false, false),
        ] {
            assert_eq!((agrees(instr, reg), agrees_wide(instr, reg)), (exact, wide), "{instr:?} {reg:?}");
        }
    }
}
