//! A hint about products that ptxas may fuse: `mul.f32` and `add.f32` without a rounding are one fused instruction on hardware where the sum uses the
//! product, and two roundings here. With `.rn` on either they stay apart.

use std::collections::HashSet;

use crate::vgpu::lower::operands::Operands;
use crate::vgpu::ptx::ast::{Instr, Operand};

/// The products seen so far in a kernel that may still be fused.
#[derive(Default)]
pub struct Products {
    names: HashSet<String>,
}

/// The register behind an operand.
fn name(operand: &Operand) -> Option<&str> {
    match operand {
        Operand::Name(name) => Some(name),
        _ => None,
    }
}

impl Products {
    /// Looks at the next instruction of the text, and notes a hint at a sum that uses an unrounded product.
    pub fn see(&mut self, instr: &Instr, ops: &mut dyn Operands) {
        let has = |m: &str| instr.op.iter().skip(1).any(|p| p == m);
        let float = has("f32") || has("f64") || has("f16") || has("f16x2") || has("bf16") || has("bf16x2");
        let rounded = ["rn", "rz", "rm", "rp"].iter().any(|r| has(r));
        let base = instr.op.first().map_or("", String::as_str);
        let fusable = float && !rounded && !has("sat");
        if fusable && matches!(base, "add" | "sub") {
            let product = instr.operands.iter().skip(1).filter_map(name).find(|n| self.names.contains(*n));
            if let Some(product) = product {
                ops.lint(format!(
                    "ptxas may fuse this sum with the product in {product}: the result depends on it; compile with --fmad=false and write fmaf() where \
                     fusion is wanted"
                ));
            }
        }
        if let Some(d) = instr.operands.first().and_then(name) {
            if fusable && base == "mul" {
                self.names.insert(d.to_string());
            } else {
                self.names.remove(d);
            }
        }
    }
}
