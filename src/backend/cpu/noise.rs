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
                    // SAFETY: every other level has AVX2.
                    return unsafe { x86::elements(key, group as u32, out) };
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
                // SAFETY: every other level has AVX2.
                return unsafe { x86::stored(key, block as u32, out) };
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

/// The same with AVX2: eight counters in a register, products of even and odd lanes apart.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{COLUMNS, GROUP, MULTIPLIERS, NOISE_ROUNDS, NoiseKey, ROWS, WEYL};

    /// Low and high words of the products of eight words and `by`.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn product(words: __m256i, by: __m256i) -> (__m256i, __m256i) {
        let even = _mm256_mul_epu32(words, by);
        let odd = _mm256_mul_epu32(_mm256_srli_epi64::<32>(words), by);
        let low = _mm256_blend_epi32::<0xaa>(even, _mm256_slli_epi64::<32>(odd));
        (low, _mm256_blend_epi32::<0xaa>(_mm256_srli_epi64::<32>(even), odd))
    }

    /// Philox4x32-7 of the counters (first + lane, step, tensor, 0); halfwords are the numbers.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn numbers(key: NoiseKey, first: u32) -> [__m256i; 4] {
        let all = |word: u32| _mm256_set1_epi32(word as i32);
        let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        let mut c = [_mm256_add_epi32(all(first), lanes), all(key.step), all(key.tensor), _mm256_setzero_si256()];
        let (m0, m1) = (all(MULTIPLIERS[0]), all(MULTIPLIERS[1]));
        let mut k = key.seed;
        for _ in 0..NOISE_ROUNDS {
            let ((a_low, a_high), (b_low, b_high)) = (product(c[0], m0), product(c[2], m1));
            let first = _mm256_xor_si256(_mm256_xor_si256(b_high, c[1]), all(k[0]));
            let third = _mm256_xor_si256(_mm256_xor_si256(a_high, c[3]), all(k[1]));
            c = [first, b_low, third, a_low];
            k = [k[0].wrapping_add(WEYL[0]), k[1].wrapping_add(WEYL[1])];
        }
        [
            _mm256_srli_epi16::<1>(c[0]),
            _mm256_srli_epi16::<1>(c[1]),
            _mm256_srli_epi16::<1>(c[2]),
            _mm256_srli_epi16::<1>(c[3]),
        ]
    }

    /// As [`super::elements`].
    #[target_feature(enable = "avx2")]
    pub(super) fn elements(key: NoiseKey, first: u32, out: &mut [u16]) {
        for (i, run) in out.chunks_mut(8 * GROUP).enumerate() {
            let [a, b, c, d] = numbers(key, first.wrapping_add((i * 8) as u32));
            // From words by counters to counters by words; each half of a register holds four counters.
            let (ab0, ab1) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
            let (cd0, cd1) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
            let groups = [
                _mm256_unpacklo_epi64(ab0, cd0),
                _mm256_unpackhi_epi64(ab0, cd0),
                _mm256_unpacklo_epi64(ab1, cd1),
                _mm256_unpackhi_epi64(ab1, cd1),
            ];
            let mut all = [[0u16; GROUP]; 8];
            for (lane, group) in groups.iter().enumerate() {
                // SAFETY: each writes the 16 bytes of one group.
                unsafe {
                    _mm_storeu_si128(all[lane].as_mut_ptr().cast(), _mm256_castsi256_si128(*group));
                    let upper = _mm256_extracti128_si256::<1>(*group);
                    _mm_storeu_si128(all[lane + 4].as_mut_ptr().cast(), upper);
                }
            }
            run.copy_from_slice(&all.as_flattened()[..run.len()]);
        }
    }

    /// As [`super::stored`].
    #[target_feature(enable = "avx2")]
    pub(super) fn stored(key: NoiseKey, block: u32, out: &mut [[u16; COLUMNS]; ROWS]) {
        for (half, rows) in out.chunks_exact_mut(32).enumerate() {
            for column in 0..4 {
                let base = block.wrapping_mul(8).wrapping_add((half * 4 + column) as u32).wrapping_mul(32);
                // Eight counters are two rows of four pairs of channels.
                for pair in 0..4 {
                    let words = numbers(key, base.wrapping_add(pair * 8));
                    for (w, word) in words.iter().enumerate() {
                        let first = w * 8 + pair as usize * 2;
                        // SAFETY: each writes the 16 bytes of eight channels of one row.
                        unsafe {
                            let to = rows[first][column * 8..column * 8 + 8].as_mut_ptr().cast();
                            _mm_storeu_si128(to, _mm256_castsi256_si128(*word));
                            let to = rows[first + 1][column * 8..column * 8 + 8].as_mut_ptr().cast();
                            _mm_storeu_si128(to, _mm256_extracti128_si256::<1>(*word));
                        }
                    }
                }
            }
        }
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
            for (group, length) in [(0, 8), (5, 400), (u32::MAX as usize - 3, 24)] {
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
