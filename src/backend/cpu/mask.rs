//! mask on the CPU: the same digits of the same radix select as `kernels/mask.cu`, ratio by ratio.

use super::Cpu;
use super::elementwise::magnitude;
use super::memory::{f32s, f32s_mut};
use crate::Result;
use crate::backend::MaskSpans;
use crate::ops::mask::{Mask, NO_MASK};

/// Bits of infinity: larger magnitudes are no numbers.
const INFINITE: u32 = 0x7f80_0000;

impl Cpu {
    pub(super) fn mask_step(&self, p: &Mask, spans: MaskSpans) -> Result<()> {
        let lengths = p.lengths()?;
        let writes = [
            (spans.ring, lengths.ring),
            (spans.thresholds, lengths.thresholds),
            (spans.distances, lengths.distances),
            (spans.kept, lengths.kept),
        ];
        let io = self.memory.open("mask_step_f32", [(spans.scales, lengths.scales)], writes)?;
        let ([scales], [ring, thresholds, distances, kept]) = (io.read.map(f32s), io.write);
        let (ring, thresholds) = (bytemuck::cast_slice_mut::<u8, u32>(ring), f32s_mut(thresholds));
        let (distances, kept) =
            (bytemuck::cast_slice_mut::<u8, u32>(distances), bytemuck::cast_slice_mut::<u8, u32>(kept));
        let (slots, words, depth) = (p.depth as usize + 1, p.words as usize, p.depth as usize);
        let earlier = p.filled.min(p.depth) as usize;
        for (ratio, threshold) in thresholds.iter_mut().enumerate() {
            let least = ranked(scales, p.rank[ratio]);
            *threshold = f32::from_bits(least);
            let masks = &mut ring[ratio * slots * words..][..slots * words];
            let head = p.head as usize;
            for (word, scales) in masks[head * words..][..words].iter_mut().zip(scales.chunks(32)) {
                let keeps = |scale: &f32| (least + 1..=INFINITE).contains(&magnitude(*scale));
                *word = scales.iter().enumerate().fold(0, |bits, (i, scale)| bits | u32::from(keeps(scale)) << i);
            }
            let mask = |slot: usize| masks[slot * words..][..words].iter();
            kept[ratio] = mask(head).map(|word| word.count_ones()).sum();
            for back in 1..=depth {
                let differ = mask(head).zip(mask((head + slots - back) % slots)).map(|(a, b)| (a ^ b).count_ones());
                distances[ratio * depth + back - 1] = if back <= earlier { differ.sum() } else { NO_MASK };
            }
        }
        kept[p.ratios as usize] = scales.iter().filter(|scale| !scale.is_finite()).count() as u32;
        Ok(())
    }
}

/// The magnitude at `rank` among all, from 0: digit by digit, most significant first.
fn ranked(scales: &[f32], mut rank: u32) -> u32 {
    let mut found = 0u32;
    for (shift, digits) in [(20, 2048), (10, 1024), (0, 1024u32)] {
        let mut bins = [0u32; 2048];
        let known = |key: u32| u64::from(key) / (u64::from(digits) << shift);
        for key in scales.iter().map(|scale| magnitude(*scale)).filter(|key| known(*key) == known(found)) {
            bins[(key >> shift & (digits - 1)) as usize] += 1;
        }
        for (digit, count) in (0u32..).zip(bins) {
            if rank < count {
                found |= digit << shift;
                break;
            }
            rank -= count;
        }
    }
    found
}
