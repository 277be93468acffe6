//! Channel masks: drawn from BN scales, bit-packed, compared by Hamming distance.
//!
//! The rule of the official `EarlyBird` class (early-bird.md 1.5), exactly: with `v = |gamma|` over all BN layers, the threshold is `sorted(v)[trunc(N*p)]` and a
//! channel is kept iff `v > threshold`, strictly. Ties with the threshold go; where all scales are equal nothing is kept.

use crate::{Error, Result};

/// One bit per BN channel of the network; 1 = kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mask {
    words: Vec<u64>,
    len: usize,
}

impl Mask {
    /// From one `bool` per channel.
    pub fn from_bools(kept: impl IntoIterator<Item = bool>) -> Mask {
        let mut mask = Mask { words: Vec::new(), len: 0 };
        for kept in kept {
            if mask.len.is_multiple_of(64) {
                mask.words.push(0);
            }
            if let (true, Some(word)) = (kept, mask.words.last_mut()) {
                *word |= 1 << (mask.len % 64);
            }
            mask.len += 1;
        }
        mask
    }

    /// From packed words, channel 0 in the lowest bit of the first.
    ///
    /// # Errors
    /// Where the number of words does not fit `len` channels, or a bit behind the last channel is set.
    pub fn from_words(words: Vec<u64>, len: usize) -> Result<Mask> {
        let tail = words.last().filter(|_| !len.is_multiple_of(64)).is_some_and(|word| word >> (len % 64) != 0);
        if words.len() != len.div_ceil(64) || tail {
            let what = format!("{} words do not hold a mask of {len} channels", words.len());
            return Err(Error::bad_setting("mask", what, "the file it came from is damaged"));
        }
        Ok(Mask { words, len })
    }

    /// Packed bits, channel 0 in the lowest bit of the first word.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Channels, kept or not.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the mask covers no channel at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether channel `i` is kept; `false` behind the end.
    pub fn kept(&self, i: usize) -> bool {
        i < self.len && self.words[i / 64] >> (i % 64) & 1 == 1
    }

    /// Channels kept.
    pub fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Normalised Hamming distance, 0 to 1: `1 - equal/N` in f64, the very expression of the official code, so that thresholds decide alike.
    ///
    /// # Errors
    /// Where the masks are of different networks.
    pub fn distance(&self, other: &Mask) -> Result<f64> {
        if self.len != other.len || self.len == 0 {
            let what = format!("cannot compare masks of {} and {} channels", self.len, other.len);
            return Err(Error::bad_setting("mask", what, "compare masks of one network"));
        }
        Ok(self.share(self.words.iter().zip(&other.words).map(|(a, b)| (a ^ b).count_ones()).sum()))
    }

    /// The distance to a mask of the same network that differs in `differ` channels.
    pub(super) fn share(&self, differ: u32) -> f64 {
        1.0 - self.len.saturating_sub(differ as usize) as f64 / self.len as f64
    }
}

/// A mask with the threshold it was cut at.
#[derive(Clone, Debug, PartialEq)]
pub struct Cut {
    /// The mask.
    pub mask: Mask,
    /// `sorted|gamma|[trunc(N*p)]`.
    pub threshold: f32,
}

/// Checks a pruning ratio.
///
/// # Errors
/// [`Error::BadSetting`] unless `0 < ratio < 1`.
pub fn check_ratio(ratio: f64) -> Result<()> {
    if ratio > 0.0 && ratio < 1.0 {
        return Ok(());
    }
    let what = format!("{ratio} is not inside (0, 1)");
    Err(Error::bad_setting("--prune", what, "give the share of channels to prune, such as 0.5"))
}

/// Draws a mask for each ratio from the scales of all BN layers; the scales are sorted once.
///
/// # Errors
/// Where there are no scales, one is NaN, or a ratio is outside (0, 1).
pub fn draw(scales: &[f32], ratios: &[f64]) -> Result<Vec<Cut>> {
    let magnitudes: Vec<f32> = scales.iter().map(|gamma| gamma.abs()).collect();
    if magnitudes.is_empty() || magnitudes.iter().any(|v| v.is_nan()) {
        let what = if magnitudes.is_empty() { "the network has no BN scales" } else { "a BN scale is NaN" };
        return Err(Error::bad_setting("mask", what, "masks are drawn from the scales of batchnorm layers"));
    }
    let mut sorted = magnitudes.clone();
    sorted.sort_unstable_by(f32::total_cmp);
    let cut = |ratio: &f64| {
        check_ratio(*ratio)?;
        let rank = (sorted.len() as f64 * ratio) as usize;
        let threshold = sorted[rank.min(sorted.len() - 1)];
        Ok(Cut { mask: Mask::from_bools(magnitudes.iter().map(|v| *v > threshold)), threshold })
    };
    ratios.iter().map(cut).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    #[test]
    fn equal_scales_keep_nothing() {
        assert_eq!(draw(&[0.5; 4224], &[0.3, 0.5, 0.7]).unwrap().map_counts(), [0, 0, 0]);
    }

    #[test]
    fn without_ties_one_more_than_the_rank_is_pruned() {
        // early-bird.md 1.5: VGG16 N = 4224 prunes 423/1268/2113/2957 at p = .1/.3/.5/.7.
        let scales: Vec<f32> = (0..4224).map(|i| ((i * 1009) % 4224) as f32 + 0.5).collect();
        let scales: Vec<f32> = scales.iter().map(|v| if (*v as u32).is_multiple_of(3) { -v } else { *v }).collect();
        let pruned: Vec<usize> =
            draw(&scales, &[0.1, 0.3, 0.5, 0.7]).unwrap().iter().map(|c| 4224 - c.mask.count()).collect();
        assert_eq!(pruned, [423, 1268, 2113, 2957]);
    }

    #[test]
    fn bad_scales_and_ratios_are_refused() {
        assert!(draw(&[], &[0.5]).is_err());
        assert!(draw(&[1.0, f32::NAN], &[0.5]).is_err());
        for ratio in [0.0, 1.0, -0.1, 1.5, f64::NAN] {
            assert!(draw(&[1.0, 2.0], &[ratio]).is_err(), "{ratio}");
        }
        assert!(Mask::from_words(vec![8], 3).is_err() && Mask::from_words(vec![7], 3).is_ok());
    }

    trait Counts {
        fn map_counts(&self) -> Vec<usize>;
    }
    impl Counts for Vec<Cut> {
        fn map_counts(&self) -> Vec<usize> {
            self.iter().map(|cut| cut.mask.count()).collect()
        }
    }

    proptest! {
        // The same cases each time: what passed passes again.
        #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_mask_is_the_definition_bit_by_bit(scales in proptest::collection::vec(-8i8..8, 1..300), ratio in 0.01f64..0.99) {
            let scales: Vec<f32> = scales.iter().map(|v| f32::from(*v) / 8.0).collect(); // full of ties
            let cut = &draw(&scales, &[ratio]).unwrap()[0];
            let mut sorted: Vec<f32> = scales.iter().map(|v| v.abs()).collect();
            sorted.sort_by(|a, b| a.partial_cmp(b).unwrap());
            let threshold = sorted[(scales.len() as f64 * ratio).trunc() as usize];
            prop_assert_eq!(cut.threshold, threshold);
            for (i, v) in scales.iter().enumerate() {
                prop_assert_eq!(cut.mask.kept(i), v.abs() > threshold);
            }
            prop_assert_eq!(Mask::from_words(cut.mask.words().to_vec(), scales.len()).unwrap(), cut.mask.clone());
        }

        #[test]
        fn distance_counts_differing_bits(pairs in proptest::collection::vec((any::<bool>(), any::<bool>()), 1..300)) {
            let (a, b): (Vec<bool>, Vec<bool>) = pairs.iter().copied().unzip();
            let equal = pairs.iter().filter(|(a, b)| a == b).count();
            let distance = Mask::from_bools(a).distance(&Mask::from_bools(b)).unwrap();
            prop_assert_eq!(distance, 1.0 - equal as f64 / pairs.len() as f64);
        }
    }
}
