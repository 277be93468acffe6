//! Row functions that lowering itself needs: copies between registers that are no instruction of the text (arguments of inlined functions).

use crate::vgpu::exec::lanes::{get, get64, pred, put, put_pred, put64};
use crate::vgpu::ir::{File, Ins, RowFn};

/// The function that copies a register of `rows` rows from `a` to `d`.
pub(super) fn copy(rows: u32) -> RowFn {
    match rows {
        1 => copy32,
        2 => copy64,
        _ => copy128,
    }
}

/// # Safety
/// As [`RowFn`].
unsafe fn copy32(file: &File, ins: &Ins, mask: u32) {
    // SAFETY: the caller's promise.
    unsafe { put(file, ins.d, mask, &get(file, ins.a)) }
}

/// # Safety
/// As [`RowFn`].
unsafe fn copy64(file: &File, ins: &Ins, mask: u32) {
    // SAFETY: the caller's promise.
    unsafe { put64(file, ins.d, mask, &get64(file, ins.a)) }
}

/// # Safety
/// As [`RowFn`].
unsafe fn copy128(file: &File, ins: &Ins, mask: u32) {
    for lane in (0..32usize).filter(|l| mask >> l & 1 == 1) {
        // SAFETY: four consecutive rows are 32 values of 16 bytes, aligned to 64.
        unsafe {
            let from = file.rows.add(ins.a as usize).cast::<u128>().add(lane);
            *file.rows.add(ins.d as usize).cast::<u128>().add(lane) = *from;
        }
    }
}

/// The low 16 bits of `a`.
///
/// # Safety
/// As [`RowFn`].
pub(super) unsafe fn cut16(file: &File, ins: &Ins, mask: u32) {
    // SAFETY: the caller's promise.
    unsafe { put(file, ins.d, mask, &get(file, ins.a).map(|v| v & 0xffff)) }
}

/// Predicate `a` to predicate `d`.
///
/// # Safety
/// As [`RowFn`].
pub(super) unsafe fn copy_pred(file: &File, ins: &Ins, mask: u32) {
    // SAFETY: the caller's promise.
    unsafe { put_pred(file, ins.d, mask, pred(file, ins.a)) }
}
