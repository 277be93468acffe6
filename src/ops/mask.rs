//! Mask: what the device kernel of `kernels/mask.cu` receives, and how a ratio becomes a rank. The method itself (distance, detector) is
//! `crate::ticket`.

use bytemuck::{Pod, Zeroable};

use crate::{Error, Result};

/// Most ratios of one launch.
pub const RATIOS: usize = 8;
/// Most earlier masks that the kernel compares with.
pub const DEPTH: usize = 31;
/// Distance to a mask that was not drawn.
pub const NO_MASK: u32 = u32::MAX;

/// All BN scales of a net are ranked, and one mask per ratio is drawn and compared with the masks before.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Mask {
    /// BN scales in the net.
    pub scales: u32,
    /// Ratios in use, 1 to 8.
    pub ratios: u32,
    /// 32-bit words of one mask.
    pub words: u32,
    /// Earlier masks kept per ratio; the ring has one slot more.
    pub depth: u32,
    /// Slot that this draw writes.
    pub head: u32,
    /// Earlier masks in the ring so far.
    pub filled: u32,
    /// For each ratio the place of its threshold among the sorted magnitudes, from 0.
    pub rank: [u32; RATIOS],
}

impl Mask {
    /// A first draw over `scales` scales with these pruning ratios (each in 0..1) and a ring of `depth` earlier masks.
    ///
    /// The rank is `trunc(scales * ratio)` in f64, as the official code has it (`int(total * args.percent)`, early-bird.md section 1.5).
    ///
    /// # Errors
    /// Ratios outside 0..1, more than [`RATIOS`] or none, a depth above [`DEPTH`], no scales.
    pub fn new(scales: usize, ratios: &[f64], depth: usize) -> Result<Mask> {
        let bad = |name: &str, what: String, hint: &str| Err(Error::bad_setting(name, what, hint));
        if scales == 0 || scales > u32::MAX as usize / 2 {
            return bad("mask", format!("{scales} BN scales"), "the net needs at least one batch normalisation");
        }
        if ratios.is_empty() || ratios.len() > RATIOS {
            return bad("pruning ratios", format!("{} given", ratios.len()), "one launch draws 1 to 8 masks");
        }
        if depth > DEPTH {
            return bad("mask depth", format!("{depth} earlier masks"), "the kernel compares with at most 31");
        }
        let mut rank = [0; RATIOS];
        for (to, &ratio) in rank.iter_mut().zip(ratios) {
            if !(0.0..1.0).contains(&ratio) {
                return bad("pruning ratio", format!("{ratio}"), "a ratio is at least 0 and below 1");
            }
            *to = ((scales as f64 * ratio) as u32).min(scales as u32 - 1);
        }
        Ok(Mask {
            scales: scales as u32,
            ratios: ratios.len() as u32,
            words: scales.div_ceil(32) as u32,
            depth: depth as u32,
            head: 0,
            filled: 0,
            rank,
        })
    }

    /// The next draw on the same ring.
    pub fn next(self) -> Mask {
        Mask { head: (self.head + 1) % (self.depth + 1), filled: (self.filled + 1).min(self.depth), ..self }
    }

    /// Words of the ring of masks, `[ratio][depth + 1][words]`.
    pub fn ring_words(&self) -> usize {
        self.ratios as usize * (self.depth as usize + 1) * self.words as usize
    }

    /// Bytes of everything that a draw reads and writes.
    ///
    /// # Errors
    /// Where the numbers are none that [`Mask::new`] and [`Mask::next`] make.
    pub fn lengths(&self) -> Result<MaskLengths> {
        let (ratios, depth) = (self.ratios as usize, self.depth as usize);
        let ranks = self.rank.iter().take(ratios).all(|rank| *rank < self.scales);
        if !(1..=RATIOS).contains(&ratios)
            || depth > DEPTH
            || self.head > self.depth
            || self.words != self.scales.div_ceil(32)
            || !ranks
        {
            let hint = "make it by Mask::new";
            return Err(Error::bad_setting("mask", format!("{self:?} is no draw"), hint));
        }
        Ok(MaskLengths {
            scales: self.scales as usize * 4,
            ring: self.ring_words() * 4,
            thresholds: ratios * 4,
            distances: ratios * depth * 4,
            kept: (ratios + 1) * 4,
        })
    }

    /// First word in the ring of the mask that this draw writes for `ratio`.
    pub fn head_word(&self, ratio: usize) -> usize {
        (ratio * (self.depth as usize + 1) + self.head as usize) * self.words as usize
    }
}

/// Bytes of a draw's operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaskLengths {
    /// f32: all BN scales.
    pub scales: usize,
    /// u32 `[ratio][depth + 1][words]`: this mask and earlier ones.
    pub ring: usize,
    /// f32 per ratio.
    pub thresholds: usize,
    /// u32 `[ratio][depth]`: channels in which the mask differs from the one so many draws before; [`NO_MASK`] where there is none.
    pub distances: usize,
    /// u32 per ratio: channels kept; behind them the number of scales that are infinite or no number.
    pub kept: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_truncated_in_f64_as_python_does() {
        // int(4224 * 0.7) = 2956 (2956.7999..), int(26560 * 0.3) = 7968 exactly.
        let m = Mask::new(4224, &[0.3, 0.5, 0.7], 4).map(|m| m.rank[..3].to_vec());
        assert_eq!(m.ok(), Some(vec![1267, 2112, 2956]));
        assert_eq!(Mask::new(26560, &[0.3], 4).map(|m| m.rank[0]).ok(), Some(7968));
        assert!(Mask::new(10, &[1.0], 4).is_err());
        assert!(Mask::new(10, &[0.1; 9], 4).is_err());
    }

    #[test]
    fn the_ring_goes_round() {
        let mut m = Mask::new(40, &[0.5], 2).unwrap_or_else(|e| panic!("{e}"));
        let seen: Vec<(u32, u32)> = (0..5)
            .map(|_| {
                let now = (m.head, m.filled);
                m = m.next();
                now
            })
            .collect();
        assert_eq!(seen, [(0, 0), (1, 1), (2, 2), (0, 2), (1, 2)]);
    }
}
