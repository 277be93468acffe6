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
            Some(key) => elements(level, key, group as u32, out),
            None => out.fill(HALF),
        }
    }

    /// The numbers of block number `block` of a stored tensor; nothing where rounding is to nearest.
    pub(super) fn tile(self, level: Level, block: usize, out: &mut [[u16; COLUMNS]; ROWS]) {
        if let Some(key) = self.0 {
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
