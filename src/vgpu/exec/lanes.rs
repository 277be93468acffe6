//! How row functions are written: a body over fixed arrays of 32 lanes, compiled once for any host and once with AVX2 and FMA, chosen when a kernel is
//! lowered. LLVM turns the lane loops into vector code, so there are no intrinsics here. Not here: the functions themselves (`rows`).

use crate::vgpu::ir::{File, Isa, Row, RowFn, RowId, WARP};

/// One row function, compiled for each [`Isa`].
#[derive(Clone, Copy)]
pub struct RowFns {
    /// For every host.
    pub base: RowFn,
    /// For hosts with AVX2 and FMA; the same as `base` elsewhere.
    pub avx2: RowFn,
}

impl RowFns {
    /// The one for `isa`.
    pub fn pick(self, isa: Isa) -> RowFn {
        match isa {
            Isa::Base => self.base,
            Isa::Avx2 => self.avx2,
        }
    }
}

/// Makes [`RowFns`] of a body: `row_fns!(|file, ins, mask| body)`. The body is compiled for every [`Isa`]; `row_fns!(|file, ins, mask| body, fma: other)`
/// gives the AVX2 build another body, for hardware fused multiply-add.
macro_rules! row_fns {
    (|$file:ident, $ins:ident, $mask:ident| $body:expr) => {
        $crate::vgpu::exec::lanes::row_fns!(|$file, $ins, $mask| $body, fma: $body)
    };
    (|$file:ident, $ins:ident, $mask:ident| $body:expr, fma: $fast:expr) => {{
        #[allow(unused_variables)]
        unsafe fn base($file: &$crate::vgpu::ir::File, $ins: &$crate::vgpu::ir::Ins, $mask: u32) {
            // SAFETY: the caller's promise (`RowFn`).
            unsafe { $body }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,f16c,bmi1,bmi2,lzcnt,popcnt")]
        #[allow(unused_variables)]
        unsafe fn avx2($file: &$crate::vgpu::ir::File, $ins: &$crate::vgpu::ir::Ins, $mask: u32) {
            // SAFETY: the caller's promise (`RowFn`); chosen only where the host has the features.
            unsafe { $fast }
        }
        #[cfg(not(target_arch = "x86_64"))]
        use base as avx2;
        $crate::vgpu::exec::lanes::RowFns { base, avx2 }
    }};
}

/// A row function that makes `d` of up to four sources lane by lane: `row!(u32 <- a: u32, b: u64 => expression of a and b)`. The names are the fields of
/// [`crate::vgpu::ir::Ins`], the types say how wide their registers are. `u32 as ins <- ..` gives the expression the instruction too (for `x` and `imm`);
/// `, fma: other` gives the AVX2 build another expression.
macro_rules! row {
    ($d:ident as $i:ident <- $($s:ident: $t:ident),+ => $e:expr, fma: $fast:expr) => {
        $crate::vgpu::exec::lanes::row_fns!(
            |file, $i, mask| $crate::vgpu::exec::lanes::row!(@body file, $i, mask, $d <- $($s: $t),+ => $e),
            fma: $crate::vgpu::exec::lanes::row!(@body file, $i, mask, $d <- $($s: $t),+ => $fast)
        )
    };
    (@body $file:ident, $i:ident, $mask:ident, $d:ident <- $($s:ident: $t:ident),+ => $e:expr) => {{
        $(let $s = <$t as $crate::vgpu::exec::lanes::Lane>::get($file, $i.$s);)+
        let mut out = [0 as $d; $crate::vgpu::ir::WARP];
        #[allow(clippy::needless_range_loop)] // several arrays at once, and LLVM vectorises this form best
        for lane in 0..$crate::vgpu::ir::WARP {
            $(let $s = $s[lane];)+
            out[lane] = $e;
        }
        <$d as $crate::vgpu::exec::lanes::Lane>::put($file, $i.d, $mask, &out);
    }};
    ($d:ident as $i:ident <- $($s:ident: $t:ident),+ => $e:expr) => {
        $crate::vgpu::exec::lanes::row_fns!(
            |file, $i, mask| $crate::vgpu::exec::lanes::row!(@body file, $i, mask, $d <- $($s: $t),+ => $e)
        )
    };
    ($d:ident <- $($s:ident: $t:ident),+ => $e:expr, fma: $fast:expr) => {
        $crate::vgpu::exec::lanes::row!($d as ins <- $($s: $t),+ => $e, fma: $fast)
    };
    ($d:ident <- $($s:ident: $t:ident),+ => $e:expr) => {
        $crate::vgpu::exec::lanes::row!($d as ins <- $($s: $t),+ => $e)
    };
}

/// As [`row`], compiled once for all hosts: for rare functions and those that do not vectorise, which would only make the program larger.
macro_rules! slow_row {
    ($d:ident <- $($s:ident: $t:ident),+ => $e:expr) => {
        $crate::vgpu::exec::lanes::slow_row!($d as ins <- $($s: $t),+ => $e)
    };
    ($d:ident as $i:ident <- $($s:ident: $t:ident),+ => $e:expr) => {{
        #[allow(unused_variables)]
        unsafe fn base(file: &$crate::vgpu::ir::File, $i: &$crate::vgpu::ir::Ins, mask: u32) {
            // SAFETY: the caller's promise (`RowFn`).
            unsafe { $crate::vgpu::exec::lanes::row!(@body file, $i, mask, $d <- $($s: $t),+ => $e) }
        }
        $crate::vgpu::exec::lanes::RowFns { base, avx2: base }
    }};
}

pub(crate) use {row, row_fns, slow_row};

/// A register width that the macro `row` knows.
pub trait Lane: Copy {
    /// All lanes of the register whose first row is `r`.
    ///
    /// # Safety
    /// Its rows must exist.
    unsafe fn get(file: &File, r: RowId) -> [Self; WARP];

    /// Writes the lanes of `mask`.
    ///
    /// # Safety
    /// Its rows must exist.
    unsafe fn put(file: &File, r: RowId, mask: u32, values: &[Self; WARP]);
}

impl Lane for u32 {
    #[inline(always)]
    unsafe fn get(file: &File, r: RowId) -> [u32; WARP] {
        // SAFETY: the caller's promise.
        unsafe { get(file, r) }
    }

    #[inline(always)]
    unsafe fn put(file: &File, r: RowId, mask: u32, values: &[u32; WARP]) {
        // SAFETY: the caller's promise.
        unsafe { put(file, r, mask, values) }
    }
}

impl Lane for u64 {
    #[inline(always)]
    unsafe fn get(file: &File, r: RowId) -> [u64; WARP] {
        // SAFETY: the caller's promise.
        unsafe { get64(file, r) }
    }

    #[inline(always)]
    unsafe fn put(file: &File, r: RowId, mask: u32, values: &[u64; WARP]) {
        // SAFETY: the caller's promise.
        unsafe { put64(file, r, mask, values) }
    }
}

impl Lane for u128 {
    #[inline(always)]
    unsafe fn get(file: &File, r: RowId) -> [u128; WARP] {
        // SAFETY: four consecutive rows are 512 bytes, aligned to 64.
        unsafe { *file.rows.add(r as usize).cast::<[u128; WARP]>() }
    }

    #[inline(always)]
    unsafe fn put(file: &File, r: RowId, mask: u32, values: &[u128; WARP]) {
        // SAFETY: as in `get`.
        let row = unsafe { &mut *file.rows.add(r as usize).cast::<[u128; WARP]>() };
        for (i, (old, new)) in row.iter_mut().zip(values).enumerate() {
            *old = if mask >> i & 1 == 1 { *new } else { *old };
        }
    }
}

/// Values of a 32-bit register.
///
/// # Safety
/// The row must exist.
#[inline(always)]
pub unsafe fn get(file: &File, r: RowId) -> [u32; WARP] {
    // SAFETY: the caller's promise.
    unsafe { (*file.rows.add(r as usize)).0 }
}

/// Values of a 64-bit register: row `r` and the next one.
///
/// # Safety
/// Both rows must exist.
#[inline(always)]
pub unsafe fn get64(file: &File, r: RowId) -> [u64; WARP] {
    // SAFETY: two consecutive rows are 256 bytes, aligned to 64.
    unsafe { *file.rows.add(r as usize).cast::<[u64; WARP]>() }
}

/// Writes a 32-bit register in the lanes of `mask`.
///
/// # Safety
/// The row must exist.
#[inline(always)]
pub unsafe fn put(file: &File, r: RowId, mask: u32, values: &[u32; WARP]) {
    // SAFETY: the caller's promise.
    let row = unsafe { &mut *file.rows.add(r as usize) };
    if mask == u32::MAX {
        *row = Row(*values);
    } else {
        for (i, (old, new)) in row.0.iter_mut().zip(values).enumerate() {
            let keep = (mask >> i & 1).wrapping_neg();
            *old = (new & keep) | (*old & !keep);
        }
    }
}

/// Writes a 64-bit register in the lanes of `mask`.
///
/// # Safety
/// Both rows must exist.
#[inline(always)]
pub unsafe fn put64(file: &File, r: RowId, mask: u32, values: &[u64; WARP]) {
    // SAFETY: the caller's promise.
    let row = unsafe { &mut *file.rows.add(r as usize).cast::<[u64; WARP]>() };
    if mask == u32::MAX {
        *row = *values;
    } else {
        for (i, (old, new)) in row.iter_mut().zip(values).enumerate() {
            let keep = u64::from(mask >> i & 1).wrapping_neg();
            *old = (new & keep) | (*old & !keep);
        }
    }
}

/// A predicate, a bit a lane.
///
/// # Safety
/// The predicate must exist.
#[inline(always)]
pub unsafe fn pred(file: &File, p: u16) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { *file.preds.add(p as usize) }
}

/// Writes a predicate in the lanes of `mask`.
///
/// # Safety
/// The predicate must exist.
#[inline(always)]
pub unsafe fn put_pred(file: &File, p: u16, mask: u32, bits: u32) {
    // SAFETY: the caller's promise.
    let word = unsafe { &mut *file.preds.add(p as usize) };
    *word = (*word & !mask) | (bits & mask);
}

/// The lanes of a mask, lowest first.
#[inline(always)]
pub fn each(mask: u32) -> impl Iterator<Item = usize> {
    let mut rest = mask;
    std::iter::from_fn(move || {
        let lane = rest.trailing_zeros();
        rest &= rest.wrapping_sub(1);
        (lane < 32).then_some(lane as usize)
    })
}

/// One bit a lane from a test of its number; vectorises.
#[inline(always)]
pub fn bits(mut test: impl FnMut(usize) -> bool) -> u32 {
    let mut found = [0u32; WARP];
    for (i, word) in found.iter_mut().enumerate() {
        *word = u32::from(test(i)).wrapping_neg() & 1 << i;
    }
    found.iter().fold(0, |all, word| all | word)
}
