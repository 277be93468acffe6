//! Vectors of f32 for the register-tiled kernels, and the choice of instruction set at run time.
//!
//! A kernel is written once over [`Vector`] with `#[inline(always)]` and instantiated inside a `#[target_feature]` function per [`Path`].

/// Instruction set that the CPU kernels use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Any machine.
    Portable,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512F.
    Avx512,
}

impl Path {
    /// The best this machine has.
    pub fn best() -> Path {
        [Path::Avx512, Path::Avx2].into_iter().find(|path| path.available()).unwrap_or(Path::Portable)
    }

    /// Whether this machine has it.
    pub fn available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma");
            match self {
                Path::Portable => true,
                Path::Avx2 => avx2,
                Path::Avx512 => avx2 && std::arch::is_x86_feature_detected!("avx512f"),
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Path::Portable
        }
    }
}

/// `LANES` f32 in a register.
///
/// # Safety
/// Methods must be called on a machine that has the instruction set; pointers must be valid for the lanes touched.
pub unsafe trait Vector: Copy {
    /// Lanes.
    const LANES: usize;
    /// All zero.
    unsafe fn zero() -> Self;
    /// All `value`.
    unsafe fn splat(value: f32) -> Self;
    /// `LANES` elements from `at` on.
    unsafe fn load(at: *const f32) -> Self;
    /// The first `n` (at most `LANES`) elements from `at` on, zeros behind.
    unsafe fn load_first(at: *const f32, n: usize) -> Self;
    /// Writes the first `n` (at most `LANES`) lanes to `at`.
    unsafe fn store_first(self, at: *mut f32, n: usize);
    /// `self * b + c`, fused where the machine can.
    unsafe fn mul_add(self, b: Self, c: Self) -> Self;
    /// `self + b`.
    unsafe fn add(self, b: Self) -> Self;
    /// `self - b`.
    unsafe fn sub(self, b: Self) -> Self;
    /// `self * b`.
    unsafe fn mul(self, b: Self) -> Self;
    /// 0 where negative; NaN stays.
    unsafe fn rectify(self) -> Self;
    /// `self` where `gate > 0`, else 0.
    unsafe fn where_positive(self, gate: Self) -> Self;
}

/// Eight lanes without intrinsics.
#[derive(Clone, Copy)]
pub struct Plain([f32; 8]);

// SAFETY: plain Rust; pointers are the caller's promise.
unsafe impl Vector for Plain {
    const LANES: usize = 8;
    #[inline(always)]
    unsafe fn zero() -> Self {
        Plain([0.0; 8])
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Plain([value; 8])
    }
    #[inline(always)]
    unsafe fn load(at: *const f32) -> Self {
        // SAFETY: valid for eight elements, says the caller.
        Plain(unsafe { at.cast::<[f32; 8]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn load_first(at: *const f32, n: usize) -> Self {
        let mut lanes = [0.0; 8];
        for (i, lane) in lanes.iter_mut().enumerate().take(n) {
            // SAFETY: valid for `n` elements, says the caller.
            *lane = unsafe { at.add(i).read() };
        }
        Plain(lanes)
    }
    #[inline(always)]
    unsafe fn store_first(self, at: *mut f32, n: usize) {
        for (i, lane) in self.0.iter().enumerate().take(n) {
            // SAFETY: valid for `n` elements, says the caller.
            unsafe { at.add(i).write(*lane) };
        }
    }
    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        Plain(std::array::from_fn(|i| self.0[i] * b.0[i] + c.0[i]))
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        Plain(std::array::from_fn(|i| self.0[i] + b.0[i]))
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        Plain(std::array::from_fn(|i| self.0[i] - b.0[i]))
    }
    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        Plain(std::array::from_fn(|i| self.0[i] * b.0[i]))
    }
    #[inline(always)]
    unsafe fn rectify(self) -> Self {
        Plain(self.0.map(|v| if v < 0.0 { 0.0 } else { v }))
    }
    #[inline(always)]
    unsafe fn where_positive(self, gate: Self) -> Self {
        Plain(std::array::from_fn(|i| if gate.0[i] > 0.0 { self.0[i] } else { 0.0 }))
    }
}

#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Vector;
    use std::arch::x86_64::*;

    /// Eight lanes of AVX2 with FMA.
    #[derive(Clone, Copy)]
    pub struct Avx2(__m256);

    #[inline(always)]
    fn mask8(n: usize) -> __m256i {
        const ONES: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
        // SAFETY: 8 - n is 0..=8, so eight elements follow.
        unsafe { ONES.as_ptr().add(8 - n.min(8)).cast::<__m256i>().read_unaligned() }
    }

    // SAFETY: the caller promises AVX2, FMA and valid pointers.
    unsafe impl Vector for Avx2 {
        const LANES: usize = 8;
        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: see the impl.
            Avx2(unsafe { _mm256_setzero_ps() })
        }
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: see the impl.
            Avx2(unsafe { _mm256_set1_ps(value) })
        }
        #[inline(always)]
        unsafe fn load(at: *const f32) -> Self {
            // SAFETY: see the impl.
            Avx2(unsafe { _mm256_loadu_ps(at) })
        }
        #[inline(always)]
        unsafe fn load_first(at: *const f32, n: usize) -> Self {
            // SAFETY: masked lanes are not touched.
            Avx2(unsafe { _mm256_maskload_ps(at, mask8(n)) })
        }
        #[inline(always)]
        unsafe fn store_first(self, at: *mut f32, n: usize) {
            // SAFETY: masked lanes are not touched.
            unsafe { if n >= 8 { _mm256_storeu_ps(at, self.0) } else { _mm256_maskstore_ps(at, mask8(n), self.0) } }
        }
        #[inline(always)]
        unsafe fn mul_add(self, b: Self, c: Self) -> Self {
            // SAFETY: see the impl.
            Avx2(unsafe { _mm256_fmadd_ps(self.0, b.0, c.0) })
        }
        #[inline(always)]
        unsafe fn add(self, b: Self) -> Self {
            // SAFETY: see the impl.
            Avx2(unsafe { _mm256_add_ps(self.0, b.0) })
        }
        #[inline(always)]
        unsafe fn sub(self, b: Self) -> Self {
            // SAFETY: see the impl.
            Avx2(unsafe { _mm256_sub_ps(self.0, b.0) })
        }
        #[inline(always)]
        unsafe fn mul(self, b: Self) -> Self {
            // SAFETY: see the impl.
            Avx2(unsafe { _mm256_mul_ps(self.0, b.0) })
        }
        #[inline(always)]
        unsafe fn rectify(self) -> Self {
            // SAFETY: see the impl. Of two that do not compare, the instruction takes the second.
            Avx2(unsafe { _mm256_max_ps(_mm256_setzero_ps(), self.0) })
        }
        #[inline(always)]
        unsafe fn where_positive(self, gate: Self) -> Self {
            // SAFETY: see the impl.
            Avx2(unsafe { _mm256_and_ps(_mm256_cmp_ps(gate.0, _mm256_setzero_ps(), _CMP_GT_OQ), self.0) })
        }
    }

    /// Sixteen lanes of AVX-512F.
    #[derive(Clone, Copy)]
    pub struct Avx512(__m512);

    #[inline(always)]
    fn mask16(n: usize) -> __mmask16 {
        if n >= 16 { 0xffff } else { (1u16 << n) - 1 }
    }

    // SAFETY: the caller promises AVX-512F and valid pointers.
    unsafe impl Vector for Avx512 {
        const LANES: usize = 16;
        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: see the impl.
            Avx512(unsafe { _mm512_setzero_ps() })
        }
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: see the impl.
            Avx512(unsafe { _mm512_set1_ps(value) })
        }
        #[inline(always)]
        unsafe fn load(at: *const f32) -> Self {
            // SAFETY: see the impl.
            Avx512(unsafe { _mm512_loadu_ps(at) })
        }
        #[inline(always)]
        unsafe fn load_first(at: *const f32, n: usize) -> Self {
            // SAFETY: masked lanes are not touched.
            Avx512(unsafe { _mm512_maskz_loadu_ps(mask16(n), at) })
        }
        #[inline(always)]
        unsafe fn store_first(self, at: *mut f32, n: usize) {
            // SAFETY: masked lanes are not touched.
            unsafe { _mm512_mask_storeu_ps(at, mask16(n), self.0) }
        }
        #[inline(always)]
        unsafe fn mul_add(self, b: Self, c: Self) -> Self {
            // SAFETY: see the impl.
            Avx512(unsafe { _mm512_fmadd_ps(self.0, b.0, c.0) })
        }
        #[inline(always)]
        unsafe fn add(self, b: Self) -> Self {
            // SAFETY: see the impl.
            Avx512(unsafe { _mm512_add_ps(self.0, b.0) })
        }
        #[inline(always)]
        unsafe fn sub(self, b: Self) -> Self {
            // SAFETY: see the impl.
            Avx512(unsafe { _mm512_sub_ps(self.0, b.0) })
        }
        #[inline(always)]
        unsafe fn mul(self, b: Self) -> Self {
            // SAFETY: see the impl.
            Avx512(unsafe { _mm512_mul_ps(self.0, b.0) })
        }
        #[inline(always)]
        unsafe fn rectify(self) -> Self {
            // SAFETY: see the impl. Of two that do not compare, the instruction takes the second.
            Avx512(unsafe { _mm512_max_ps(_mm512_setzero_ps(), self.0) })
        }
        #[inline(always)]
        unsafe fn where_positive(self, gate: Self) -> Self {
            // SAFETY: see the impl.
            Avx512(unsafe { _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(gate.0, _mm512_setzero_ps(), _CMP_GT_OQ), self.0) })
        }
    }
}

/// Defines a function over slices whose body LLVM vectorises: for any machine, for AVX2 with FMA, and for AVX-512. The first argument of the result is the
/// [`Path`]. LLVM reorders no f32 arithmetic, so all three compute the same bits.
macro_rules! vectorised {
    ($($function:tt)*) => {
        $crate::backend::cpu::simd::vectorised_for! { $crate::backend::cpu::simd::Path, Avx512, "avx512f,avx2,fma"; $($function)* }
    };
}
pub(super) use vectorised;

/// As [`vectorised`], for an enumeration of instruction sets with the variants `Portable`, `Avx2` and a widest one, which has the named features.
macro_rules! vectorised_for {
    ($set:path, $widest:ident, $features:literal; $(#[$meta:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        pub(super) fn $name(set: $set, $($arg: $type),*) {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn body($($arg: $type),*) $body
            #[cfg(target_arch = "x86_64")]
            {
                use $set as Set;
                #[target_feature(enable = $features)]
                #[allow(clippy::too_many_arguments)]
                fn widest($($arg: $type),*) { body($($arg),*) }
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx2($($arg: $type),*) { body($($arg),*) }
                match set {
                    // SAFETY: who chose the set has made sure that the machine has the instructions.
                    Set::$widest => return unsafe { widest($($arg),*) },
                    // SAFETY: as above.
                    Set::Avx2 => return unsafe { avx2($($arg),*) },
                    Set::Portable => {}
                }
            }
            let _ = set;
            body($($arg),*)
        }
    };
}
pub(super) use vectorised_for;

/// Defines a function for every [`Path`] from `body::<V>`, which is generic over the [`Vector`] and `#[inline(always)]`. The first argument of the result is the
/// [`Path`]; what the body demands of its arguments, the result demands as well.
macro_rules! for_every_path {
    ($(#[$meta:meta])* fn $name:ident = $body:ident($($arg:ident: $type:ty),* $(,)?)) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        pub(super) unsafe fn $name(path: $crate::backend::cpu::simd::Path, $($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                unsafe fn avx512($($arg: $type),*) {
                    // SAFETY: the caller's promises are the same.
                    unsafe { $body::<$crate::backend::cpu::simd::Avx512>($($arg),*) }
                }
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                unsafe fn avx2($($arg: $type),*) {
                    // SAFETY: the caller's promises are the same.
                    unsafe { $body::<$crate::backend::cpu::simd::Avx2>($($arg),*) }
                }
                match path {
                    // SAFETY: the path says that the machine has the instructions; the rest is the caller's promise.
                    $crate::backend::cpu::simd::Path::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::backend::cpu::simd::Path::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::backend::cpu::simd::Path::Portable => {}
                }
            }
            let _ = path;
            // SAFETY: needs nothing of the machine; the rest is the caller's promise.
            unsafe { $body::<$crate::backend::cpu::simd::Plain>($($arg),*) }
        }
    };
}
pub(super) use for_every_path;
