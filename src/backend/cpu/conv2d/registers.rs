//! A register of sixteen 16-bit or eight 32-bit integers, for the transforms of Winograd's algorithm: plain, and with AVX2. All arithmetic wraps.
//!
//! Not here: products of registers ([`super::lanes`]).

/// A register.
///
/// # Safety
/// Methods must be called on a machine that has the instructions; pointers must be valid for what is read and written.
pub(super) unsafe trait Register: Copy {
    /// All zero.
    unsafe fn zero() -> Self;
    /// Sixteen bytes, widened to 16 bits.
    unsafe fn widen(at: *const i8) -> Self;
    /// Sum of 16 bits each.
    unsafe fn add16(self, b: Self) -> Self;
    /// Difference of 16 bits each.
    unsafe fn sub16(self, b: Self) -> Self;
    /// Sixteen numbers to memory.
    unsafe fn store16(self, at: *mut i16);
    /// Words of `self` (low half) and `b`: the first eight, the last eight.
    unsafe fn pair(self, b: Self) -> [Self; 2];
    /// Eight numbers of 32 bits.
    unsafe fn load32(at: *const i32) -> Self;
    /// Sum of 32 bits each.
    unsafe fn add32(self, b: Self) -> Self;
    /// Difference of 32 bits each.
    unsafe fn sub32(self, b: Self) -> Self;
    /// A quarter of 32 bits each: a shift with sign.
    unsafe fn quarter32(self) -> Self;
    /// Eight numbers of 32 bits to memory.
    unsafe fn store32(self, at: *mut i32);
}

/// By loops.
#[derive(Clone, Copy)]
pub(super) struct Plain([i16; 16]);

impl Plain {
    #[inline(always)]
    fn zip16(self, b: Self, f: impl Fn(i16, i16) -> i16) -> Self {
        Plain(std::array::from_fn(|i| f(self.0[i], b.0[i])))
    }

    #[inline(always)]
    fn words(self) -> [i32; 8] {
        std::array::from_fn(|i| i32::from(self.0[2 * i]) & 0xffff | i32::from(self.0[2 * i + 1]) << 16)
    }

    #[inline(always)]
    fn of_words(words: [i32; 8]) -> Self {
        Plain(std::array::from_fn(|i| (words[i / 2] >> (16 * (i % 2))) as i16))
    }

    #[inline(always)]
    fn zip32(self, b: Self, f: impl Fn(i32, i32) -> i32) -> Self {
        let (a, b) = (self.words(), b.words());
        Plain::of_words(std::array::from_fn(|i| f(a[i], b[i])))
    }
}

// SAFETY: plain Rust; pointers are the caller's promise.
unsafe impl Register for Plain {
    #[inline(always)]
    unsafe fn zero() -> Self {
        Plain([0; 16])
    }
    #[inline(always)]
    unsafe fn widen(at: *const i8) -> Self {
        // SAFETY: valid for sixteen bytes, says the caller.
        Plain(unsafe { at.cast::<[i8; 16]>().read_unaligned() }.map(i16::from))
    }
    #[inline(always)]
    unsafe fn add16(self, b: Self) -> Self {
        self.zip16(b, i16::wrapping_add)
    }
    #[inline(always)]
    unsafe fn sub16(self, b: Self) -> Self {
        self.zip16(b, i16::wrapping_sub)
    }
    #[inline(always)]
    unsafe fn store16(self, at: *mut i16) {
        // SAFETY: valid for sixteen numbers, says the caller.
        unsafe { at.cast::<[i16; 16]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn pair(self, b: Self) -> [Self; 2] {
        let half = |first: usize| {
            Plain(std::array::from_fn(|i| if i % 2 == 0 { self.0[first + i / 2] } else { b.0[first + i / 2] }))
        };
        [half(0), half(8)]
    }
    #[inline(always)]
    unsafe fn load32(at: *const i32) -> Self {
        // SAFETY: valid for eight numbers, says the caller.
        Plain::of_words(unsafe { at.cast::<[i32; 8]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn add32(self, b: Self) -> Self {
        self.zip32(b, i32::wrapping_add)
    }
    #[inline(always)]
    unsafe fn sub32(self, b: Self) -> Self {
        self.zip32(b, i32::wrapping_sub)
    }
    #[inline(always)]
    unsafe fn quarter32(self) -> Self {
        Plain::of_words(self.words().map(|word| word >> 2))
    }
    #[inline(always)]
    unsafe fn store32(self, at: *mut i32) {
        // SAFETY: valid for eight numbers, says the caller.
        unsafe { at.cast::<[i32; 8]>().write_unaligned(self.words()) }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::Avx2;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Register;
    use std::arch::x86_64::*;

    /// 256 bits of AVX2.
    #[derive(Clone, Copy)]
    pub struct Avx2(__m256i);

    // SAFETY: the caller promises AVX2 and valid pointers.
    unsafe impl Register for Avx2 {
        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: see the impl.
            Avx2(unsafe { _mm256_setzero_si256() })
        }
        #[inline(always)]
        unsafe fn widen(at: *const i8) -> Self {
            // SAFETY: see the impl.
            Avx2(unsafe { _mm256_cvtepi8_epi16(_mm_loadu_si128(at.cast())) })
        }
        #[inline(always)]
        unsafe fn add16(self, b: Self) -> Self {
            // SAFETY: see the impl.
            Avx2(unsafe { _mm256_add_epi16(self.0, b.0) })
        }
        #[inline(always)]
        unsafe fn sub16(self, b: Self) -> Self {
            // SAFETY: see the impl.
            Avx2(unsafe { _mm256_sub_epi16(self.0, b.0) })
        }
        #[inline(always)]
        unsafe fn store16(self, at: *mut i16) {
            // SAFETY: see the impl.
            unsafe { _mm256_storeu_si256(at.cast(), self.0) }
        }
        #[inline(always)]
        unsafe fn pair(self, b: Self) -> [Self; 2] {
            // SAFETY: see the impl. The unpacking stays within halves of 128 bits.
            unsafe {
                let (low, high) = (_mm256_unpacklo_epi16(self.0, b.0), _mm256_unpackhi_epi16(self.0, b.0));
                let first = _mm256_permute2x128_si256::<0x20>(low, high);
                [Avx2(first), Avx2(_mm256_permute2x128_si256::<0x31>(low, high))]
            }
        }
        #[inline(always)]
        unsafe fn load32(at: *const i32) -> Self {
            // SAFETY: see the impl.
            Avx2(unsafe { _mm256_loadu_si256(at.cast()) })
        }
        #[inline(always)]
        unsafe fn add32(self, b: Self) -> Self {
            // SAFETY: see the impl.
            Avx2(unsafe { _mm256_add_epi32(self.0, b.0) })
        }
        #[inline(always)]
        unsafe fn sub32(self, b: Self) -> Self {
            // SAFETY: see the impl.
            Avx2(unsafe { _mm256_sub_epi32(self.0, b.0) })
        }
        #[inline(always)]
        unsafe fn quarter32(self) -> Self {
            // SAFETY: see the impl.
            Avx2(unsafe { _mm256_srai_epi32::<2>(self.0) })
        }
        #[inline(always)]
        unsafe fn store32(self, at: *mut i32) {
            // SAFETY: see the impl.
            unsafe { _mm256_storeu_si256(at.cast(), self.0) }
        }
    }
}

/// Defines a function from `body::<R>`, which is generic over the [`Register`] and `#[inline(always)]`: with AVX2 where the first argument says so. What the body demands of
/// its other arguments, the result demands as well.
macro_rules! with_registers {
    ($(#[$meta:meta])* fn $name:ident = $body:ident($($arg:ident: $type:ty),* $(,)?)) => {
        $(#[$meta])*
        pub(super) unsafe fn $name(avx2: bool, $($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            if avx2 {
                #[target_feature(enable = "avx2")]
                unsafe fn run($($arg: $type),*) {
                    // SAFETY: the caller's promises are the same.
                    unsafe { $body::<$crate::backend::cpu::conv2d::registers::Avx2>($($arg),*) }
                }
                // SAFETY: the caller says that the machine has AVX2; the rest is its promise.
                return unsafe { run($($arg),*) };
            }
            let _ = avx2;
            // SAFETY: needs nothing of the machine; the rest is the caller's promise.
            unsafe { $body::<$crate::backend::cpu::conv2d::registers::Plain>($($arg),*) }
        }
    };
}
pub(super) use with_registers;
