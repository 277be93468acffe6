//! Instruction sets of the 8-bit kernels, a step finer than [`Path`]: AVX-512 counts where it has bytes and VNNI. Integers and single f32 operations are the same on all
//! of them, so every level computes the same bits. Not here: the kernels.

use super::simd::Path;

/// Instruction set of an 8-bit kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// Any machine: the reference.
    Portable,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, BW, DQ, VL and VNNI.
    Vnni,
}

impl Level {
    /// What a path means for the 8-bit kernels on this machine.
    pub(super) fn of(path: Path) -> Level {
        match path {
            Path::Portable => Level::Portable,
            Path::Avx2 => Level::Avx2,
            Path::Avx512 if vnni() => Level::Vnni,
            Path::Avx512 => Level::Avx2,
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn vnni() -> bool {
    use std::arch::is_x86_feature_detected as has;
    has!("avx512bw") && has!("avx512dq") && has!("avx512vl") && has!("avx512vnni")
}

#[cfg(not(target_arch = "x86_64"))]
fn vnni() -> bool {
    false
}

/// As [`super::simd::vectorised`], by [`Level`].
macro_rules! vectorised_i8 {
    ($($function:tt)*) => {
        $crate::backend::cpu::simd::vectorised_for! {
            $crate::backend::cpu::simd_int8::Level, Vnni, "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma"; $($function)*
        }
    };
}
pub(super) use vectorised_i8;
