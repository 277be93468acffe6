//! Random bits of the 8-bit operators, many at a time: the numbers of [`NoiseKey::element`] and [`NoiseKey::stored`] in memory order.
//!
//! Philox runs on 16 counters side by side. Not here: what they are for ([`crate::quant::layout`] is the specification).

use super::simd_int8::{Level, vectorised_i8};
use super::tile::{COLUMNS, ROWS};
use crate::ops::quantize::Noise;
use crate::quant::bfp::NOISE_BITS;
use crate::quant::layout::NoiseKey;
use crate::quant::philox::{MULTIPLIERS, NOISE_ROUNDS, WEYL};

/// What makes "stochastic" rounding round half up.
const HALF: u16 = 1 << (NOISE_BITS - 1);
/// Numbers of one Philox call.
pub(super) const GROUP: usize = 8;
/// Counters that run side by side.
const LANES: usize = 16;

/// Where the numbers of one tensor come from in this step; `None` rounds to nearest.
#[derive(Clone, Copy)]
pub(super) struct Source(Option<NoiseKey>);

impl Source {
    /// As an operator's parameters say, in step `step`.
    pub(super) fn new(noise: &Noise, step: u32) -> Source {
        Source((noise.stochastic != 0).then_some(NoiseKey { seed: noise.seed, step, tensor: noise.tensor }))
    }

    /// Those of an output gradient: for the data gradient, for the weight gradient.
    pub(super) fn both(noise: &Noise, dyd_tensor: u32, step: u32) -> (Source, Source) {
        (Source::new(&Noise { tensor: dyd_tensor, ..*noise }, step), Source::new(noise, step))
    }

    /// Always random.
    pub(super) fn random(seed: [u32; 2], step: u32, tensor: u32) -> Source {
        Source(Some(NoiseKey { seed, step, tensor }))
    }

    /// Whether rounding is random.
    pub(super) fn stochastic(self) -> bool {
        self.0.is_some()
    }

    /// The numbers of the elements from `8 * group` on; `out` is a multiple of 8 long. Halves where rounding is to nearest: round half up.
    pub(super) fn elements(self, level: Level, group: usize, out: &mut [u16]) {
        match self.0 {
            Some(key) => {
                #[cfg(target_arch = "x86_64")]
                if level != Level::Portable {
                    // SAFETY: a level is only made where the machine has it.
                    return unsafe { x86::elements(level, key, group as u32, out) };
                }
                elements(level, key, group as u32, out);
            }
            None => out.fill(HALF),
        }
    }

    /// The numbers of block number `block` of a stored tensor; nothing where rounding is to nearest.
    pub(super) fn tile(self, level: Level, block: usize, out: &mut [[u16; COLUMNS]; ROWS]) {
        if let Some(key) = self.0 {
            #[cfg(target_arch = "x86_64")]
            if level != Level::Portable {
                // SAFETY: a level is only made where the machine has it.
                return unsafe { x86::stored(level, key, block as u32, out) };
            }
            stored(level, key, block as u32, out);
        }
    }
}

/// Philox4x32-7 of 16 counters (group, step, tensor, 0), each word shifted for its upper 15 bits: low halfword, high halfword.
#[inline(always)]
fn philox(key: NoiseKey, groups: [u32; LANES]) -> [[u32; LANES]; 4] {
    let mut c = [groups, [key.step; LANES], [key.tensor; LANES], [0; LANES]];
    let mut k = key.seed;
    for _ in 0..NOISE_ROUNDS {
        let mut next = [[0; LANES]; 4];
        for i in 0..LANES {
            let a = u64::from(c[0][i]) * u64::from(MULTIPLIERS[0]);
            let b = u64::from(c[2][i]) * u64::from(MULTIPLIERS[1]);
            next[0][i] = (b >> 32) as u32 ^ c[1][i] ^ k[0];
            next[1][i] = b as u32;
            next[2][i] = (a >> 32) as u32 ^ c[3][i] ^ k[1];
            next[3][i] = a as u32;
        }
        c = next;
        k = [k[0].wrapping_add(WEYL[0]), k[1].wrapping_add(WEYL[1])];
    }
    c
}

/// The two numbers of a word.
#[inline(always)]
fn halves(word: u32) -> [u16; 2] {
    [(word as u16) >> 1, (word >> 17) as u16]
}

vectorised_i8! {
    /// Groups from `first` on.
    fn elements(key: NoiseKey, first: u32, out: &mut [u16]) {
        for (i, run) in out.chunks_mut(LANES * GROUP).enumerate() {
            let base = first.wrapping_add((i * LANES) as u32);
            let words = philox(key, std::array::from_fn(|lane| base.wrapping_add(lane as u32)));
            for (lane, group) in run.chunks_exact_mut(GROUP).enumerate() {
                for (pair, word) in group.chunks_exact_mut(2).zip(&words) {
                    pair.copy_from_slice(&halves(word[lane]));
                }
            }
        }
    }
}

vectorised_i8! {
    /// A block of 64 rows x 32 channels: lanes are 4 rows x 4 pairs of channels, words are rows 8 apart.
    fn stored(key: NoiseKey, block: u32, out: &mut [[u16; COLUMNS]; ROWS]) {
        for (half, rows) in out.chunks_exact_mut(32).enumerate() {
            for column in 0..4 {
                for upper in 0..2 {
                    let base = block.wrapping_mul(8).wrapping_add((half * 4 + column) as u32).wrapping_mul(32);
                    let base = base.wrapping_add(upper * LANES as u32);
                    let words = philox(key, std::array::from_fn(|lane| base.wrapping_add(lane as u32)));
                    for (w, word) in words.iter().enumerate() {
                        for (four, word) in word.chunks_exact(4).enumerate() {
                            let row = &mut rows[w * 8 + upper as usize * 4 + four][column * 8..column * 8 + 8];
                            for (pair, word) in row.chunks_exact_mut(2).zip(word) {
                                pair.copy_from_slice(&halves(*word));
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The same with registers of 8 counters (AVX2) or 16 (AVX-512), two of them side by side: rounds hang on each other, and one alone would wait for its multiplications.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::super::simd_int8::Level;
    use super::{COLUMNS, GROUP, MULTIPLIERS, NOISE_ROUNDS, NoiseKey, ROWS, WEYL};

    /// High and low word of a product.
    fn multiply(a: u32, b: u32) -> [u32; 2] {
        let product = u64::from(a) * u64::from(b);
        [(product >> 32) as u32, product as u32]
    }

    /// What both widths do. `$product`: low and high words of products of 32 bits; `$split`: a register by 16 bytes.
    macro_rules! lanes {
        (
            $name:ident, $feature:literal, $vector:ty, $quarters:literal, $all:ident, $add:ident, $xor:ident, $shift:ident, $low32:ident, $high32:ident, $low64:ident,
            $high64:ident, $store:ident, $product:ident, $split:ident
        ) => {
            pub(super) mod $name {
                use super::*;

                /// Bytes of a register.
                const BYTES: usize = size_of::<$vector>();
                /// Counters of a register.
                const COUNTERS: usize = BYTES / 4;

                #[inline]
                #[target_feature(enable = $feature)]
                fn all(word: u32) -> $vector {
                    $all(word as i32)
                }

                /// Philox4x32-7 of the counters (lane, step, tensor, 0); halfwords are the numbers.
                #[inline]
                #[target_feature(enable = $feature)]
                fn numbers(key: NoiseKey, counters: [$vector; 2]) -> [[$vector; 4]; 2] {
                    let mut keys = [key.seed; NOISE_ROUNDS];
                    for i in 1..NOISE_ROUNDS {
                        keys[i] = [0, 1].map(|j| keys[i - 1][j].wrapping_add(WEYL[j]));
                    }
                    let (m0, m1) = (all(MULTIPLIERS[0]), all(MULTIPLIERS[1]));
                    // Three words of a counter are the same everywhere: half of the first round's products and, behind it, of the second's are one number.
                    let [high, low] = multiply(key.tensor, MULTIPLIERS[1]);
                    let (first, second) = (high ^ key.step ^ keys[0][0], low);
                    let [high, low] = multiply(first, MULTIPLIERS[0]);
                    let (constant, last) = (all(second ^ keys[1][0]), all(low));
                    let mut c = [[last; 4]; 2];
                    for (c, counters) in c.iter_mut().zip(counters) {
                        let (a_low, a_high) = $product(counters, m0);
                        let (b_low, b_high) = $product($xor(a_high, all(keys[0][1])), m1);
                        *c = [$xor(b_high, constant), b_low, $xor(a_low, all(high ^ keys[1][1])), last];
                    }
                    for key in &keys[2..] {
                        let (k0, k1) = (all(key[0]), all(key[1]));
                        for c in &mut c {
                            let ((a_low, a_high), (b_low, b_high)) = ($product(c[0], m0), $product(c[2], m1));
                            *c = [$xor($xor(b_high, c[1]), k0), b_low, $xor($xor(a_high, c[3]), k1), a_low];
                        }
                    }
                    for word in c.as_flattened_mut() {
                        *word = $shift::<1>(*word);
                    }
                    c
                }

                /// As [`super::super::elements`].
                #[target_feature(enable = $feature)]
                pub fn elements(key: NoiseKey, first: u32, out: &mut [u16]) {
                    // In this order the transposition below, which stays within 16 bytes, leaves the groups one behind the other.
                    let order: [u32; COUNTERS] = std::array::from_fn(|lane| (lane % 4 * $quarters + lane / 4) as u32);
                    // SAFETY: as long as a register.
                    let order: $vector = unsafe { std::mem::transmute(order) };
                    let (mut at, next) = ([$add(order, all(first)); 2], all(2 * COUNTERS as u32));
                    at[1] = $add(at[1], all(COUNTERS as u32));
                    let mut last = [[0; COUNTERS * GROUP]; 2];
                    for run in out.chunks_mut(2 * COUNTERS * GROUP) {
                        let whole = run.len() == 2 * COUNTERS * GROUP;
                        let to = if whole { run.as_mut_ptr() } else { last.as_mut_ptr().cast() };
                        for (half, [a, b, c, d]) in numbers(key, at).into_iter().enumerate() {
                            let ((ab0, ab1), (cd0, cd1)) =
                                (($low32(a, b), $high32(a, b)), ($low32(c, d), $high32(c, d)));
                            let groups = [$low64(ab0, cd0), $high64(ab0, cd0), $low64(ab1, cd1), $high64(ab1, cd1)];
                            for (i, group) in groups.into_iter().enumerate() {
                                // SAFETY: both are two halves of four registers.
                                unsafe { $store(to.add((half * 4 + i) * (BYTES / 2)).cast(), group) };
                            }
                        }
                        if !whole {
                            run.copy_from_slice(&last.as_flattened()[..run.len()]);
                        }
                        for at in &mut at {
                            *at = $add(*at, next);
                        }
                    }
                }

                /// As [`super::super::stored`].
                #[target_feature(enable = $feature)]
                pub fn stored(key: NoiseKey, block: u32, out: &mut [[u16; COLUMNS]; ROWS]) {
                    let lanes: [u32; COUNTERS] = std::array::from_fn(|lane| lane as u32);
                    // SAFETY: as long as a register.
                    let lanes: $vector = unsafe { std::mem::transmute(lanes) };
                    for (half, rows) in out.chunks_exact_mut(32).enumerate() {
                        for column in 0..4 {
                            let base = block.wrapping_mul(8).wrapping_add((half * 4 + column) as u32).wrapping_mul(32);
                            // Four counters are the pairs of channels of a row, 32 are the rows of a word.
                            for pair in 0..32 / COUNTERS / 2 {
                                let first = $add(lanes, all(base.wrapping_add((2 * pair * COUNTERS) as u32)));
                                let at = [first, $add(first, all(COUNTERS as u32))];
                                for (part, words) in numbers(key, at).into_iter().enumerate() {
                                    for (w, word) in words.into_iter().enumerate() {
                                        let rows = &mut rows[w * 8 + (2 * pair + part) * $quarters..][..$quarters];
                                        for (row, bytes) in rows.iter_mut().zip($split(word)) {
                                            // SAFETY: writes the 16 bytes of eight channels.
                                            unsafe {
                                                _mm_storeu_si128(
                                                    row[column * GROUP..][..GROUP].as_mut_ptr().cast(),
                                                    bytes,
                                                )
                                            };
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        };
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn product8(words: __m256i, by: __m256i) -> (__m256i, __m256i) {
        let even = _mm256_mul_epu32(words, by);
        let odd = _mm256_mul_epu32(_mm256_srli_epi64::<32>(words), by);
        let low = _mm256_blend_epi32::<0xaa>(even, _mm256_slli_epi64::<32>(odd));
        (low, _mm256_blend_epi32::<0xaa>(_mm256_srli_epi64::<32>(even), odd))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn product16(words: __m512i, by: __m512i) -> (__m512i, __m512i) {
        const UP: i32 = 0b10_10_00_00;
        const DOWN: i32 = 0b11_11_01_01;
        let even = _mm512_mul_epu32(words, by);
        let odd = _mm512_mul_epu32(_mm512_shuffle_epi32::<DOWN>(words), by);
        let low = _mm512_mask_shuffle_epi32::<UP>(even, 0xaaaa, odd);
        (low, _mm512_mask_shuffle_epi32::<DOWN>(odd, 0x5555, even))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn split8(word: __m256i) -> [__m128i; 2] {
        [_mm256_castsi256_si128(word), _mm256_extracti128_si256::<1>(word)]
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn split16(word: __m512i) -> [__m128i; 4] {
        [
            _mm512_castsi512_si128(word),
            _mm512_extracti32x4_epi32::<1>(word),
            _mm512_extracti32x4_epi32::<2>(word),
            _mm512_extracti32x4_epi32::<3>(word),
        ]
    }

    lanes!(
        eight,
        "avx2",
        __m256i,
        2,
        _mm256_set1_epi32,
        _mm256_add_epi32,
        _mm256_xor_si256,
        _mm256_srli_epi16,
        _mm256_unpacklo_epi32,
        _mm256_unpackhi_epi32,
        _mm256_unpacklo_epi64,
        _mm256_unpackhi_epi64,
        _mm256_storeu_si256,
        product8,
        split8
    );
    lanes!(
        sixteen,
        "avx512f,avx512bw",
        __m512i,
        4,
        _mm512_set1_epi32,
        _mm512_add_epi32,
        _mm512_xor_si512,
        _mm512_srli_epi16,
        _mm512_unpacklo_epi32,
        _mm512_unpackhi_epi32,
        _mm512_unpacklo_epi64,
        _mm512_unpackhi_epi64,
        _mm512_storeu_si512,
        product16,
        split16
    );

    /// # Safety
    /// The machine has the instructions of `level`, which is not `Portable`.
    pub(super) unsafe fn elements(level: Level, key: NoiseKey, first: u32, out: &mut [u16]) {
        // SAFETY: the caller's promise.
        unsafe {
            if level == Level::Vnni { sixteen::elements(key, first, out) } else { eight::elements(key, first, out) }
        }
    }

    /// # Safety
    /// As [`elements`].
    pub(super) unsafe fn stored(level: Level, key: NoiseKey, block: u32, out: &mut [[u16; COLUMNS]; ROWS]) {
        // SAFETY: the caller's promise.
        unsafe { if level == Level::Vnni { sixteen::stored(key, block, out) } else { eight::stored(key, block, out) } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::Path;

    #[test]
    fn every_level_gives_the_numbers_of_the_specification() {
        let key = NoiseKey { seed: [7, 0xffff_fff0], step: 3, tensor: 0x8000_0001 };
        for path in [Path::Portable, Path::Avx2, Path::Avx512].into_iter().filter(|path| path.available()) {
            let level = Level::of(path);
            for (group, length) in
                [(0, 8), (5, 400), (3, 1024), (u32::MAX as usize - 3, 24), (u32::MAX as usize - 20, 520)]
            {
                let mut out = vec![0; length];
                Source(Some(key)).elements(level, group, &mut out);
                for (i, got) in out.iter().enumerate() {
                    let want = key.group((group as u32).wrapping_add((i / 8) as u32))[i % 8];
                    assert_eq!(u32::from(*got), want, "{level:?} {i}");
                }
            }
            let mut out = [[0; COLUMNS]; ROWS];
            Source(Some(key)).tile(level, 12_345, &mut out);
            for (i, row) in out.iter().enumerate() {
                for (j, got) in row.iter().enumerate() {
                    assert_eq!(u32::from(*got), key.stored(12_345, i, j), "{level:?} {i} {j}");
                }
            }
        }
    }
}
