//! Parameters of a kernel: where each lies in the parameter space.

use super::image::{alignment, size, wrong};
use super::operands::Result;
use crate::vgpu::ir::ParamInfo;
use crate::vgpu::ptx::ast::{Func, Space, Ty};

/// Bytes of parameters that a kernel may have (PTX 8.1 and later).
const MOST: u64 = 32_764;

/// The parameters of an entry, and the bytes that they take together.
///
/// # Errors
/// A parameter of no size, too many bytes, a space that an entry's parameter cannot have.
pub(super) fn layout(func: &Func) -> Result<(Vec<ParamInfo>, u32)> {
    let mut infos = Vec::with_capacity(func.params.len());
    let mut end = 0u64;
    for var in &func.params {
        if var.space != Some(Space::Param) {
            return Err(wrong(var.pos, false, format!("parameter `{}` of an entry must be .param", var.name), ""));
        }
        if var.ty == Ty::Pred {
            return Err(wrong(var.pos, false, format!("parameter `{}` cannot be a predicate", var.name), ""));
        }
        let (bytes, align) = (size(var)?, alignment(var)?);
        let offset = end.next_multiple_of(u64::from(align));
        end = offset.saturating_add(bytes);
        if end > MOST {
            let what = format!("the parameters of `{}` take more than {MOST} bytes", func.name);
            return Err(wrong(var.pos, false, what, "pass a pointer"));
        }
        let ptr_align = var.ptr.map_or(1, |p| p.align.max(1));
        infos.push(ParamInfo {
            name: var.name.clone(),
            offset: offset as u32,
            bytes: bytes as u32,
            align,
            // A pointer to shared memory is no device address, and nothing to check.
            pointer: var.ptr.is_some_and(|p| matches!(p.space, Space::Global | Space::Generic)),
            ptr_align,
        });
    }
    Ok((infos, end as u32))
}
