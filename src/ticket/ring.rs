//! Masks drawn where the scales are: a ring of masks in the device's memory, one launch per draw; only bits, thresholds and distances come back.
//!
//! Decides nothing ([`super::Detector`] does). The kernel compares with at most [`DEPTH`] earlier masks and draws at most [`RATIOS`] at once; whoever wants more takes
//! [`super::draw`] on the host, with the same results bit for bit.

use super::detector::{Detector, DetectorOptions};
use super::mask::{Cut, Mask};
use super::run::Run;
use crate::autograd::Session;
use crate::backend::{MaskSpans, Memory, Span};
use crate::ops::mask::{self, DEPTH, MaskLengths, NO_MASK, RATIOS};
use crate::{Error, Result};

/// A mask with its threshold; and, where the device compared it, the number of channels in which it differs from each mask before, newest first (`None` where there was none).
pub(super) type Drawn = (Cut, Option<Vec<Option<u32>>>);

/// The ring of all watched ratios.
pub(super) struct Ring {
    p: mask::Mask,
    lengths: MaskLengths,
    ring: Memory,
    /// Thresholds, distances, kept channels.
    results: Memory,
}

impl Ring {
    /// For the network of `session`, with the masks that the detectors (one per ratio) remember. `None` where the kernel cannot do it.
    pub(super) fn open(
        session: &Session,
        options: &DetectorOptions,
        ratios: &[f64],
        detectors: &[Detector],
    ) -> Result<Option<Ring>> {
        let (scales, depth) = (session.scales()?.bytes() / 4, options.compared());
        if ratios.is_empty() || ratios.len() > RATIOS || depth > DEPTH || scales == 0 {
            return Ok(None);
        }
        let (mut p, backend) = (mask::Mask::new(scales, ratios, depth)?, session.backend());
        let lengths = p.lengths()?;
        let ring = backend.alloc(lengths.ring)?;
        let results = backend.alloc(lengths.thresholds + lengths.distances + lengths.kept)?;
        let seen: Vec<Vec<&Mask>> = detectors.iter().map(|detector| detector.masks().collect()).collect();
        let known = seen.iter().map(Vec::len).min().unwrap_or(0).min(depth);
        for i in 0..known {
            for (ratio, masks) in seen.iter().enumerate() {
                let words = halves(masks[masks.len() - known + i], scales)?;
                backend.upload(bytemuck::cast_slice(&words), head(&ring, &p, ratio)?)?;
            }
            p = p.next();
        }
        Ok(Some(Ring { p, lengths, ring, results }))
    }

    /// Draws a mask for each ratio; `None` where a scale is not finite, which leaves everything as it was.
    pub(super) fn draw(&mut self, session: &Session) -> Result<Option<Vec<Drawn>>> {
        let (backend, p, lengths) = (session.backend(), &self.p, &self.lengths);
        let distances_at = lengths.thresholds;
        let kept_at = distances_at + lengths.distances;
        let spans = MaskSpans {
            scales: session.scales()?,
            ring: self.ring.all(),
            thresholds: self.results.span(0, lengths.thresholds)?,
            distances: self.results.span(distances_at, lengths.distances)?,
            kept: self.results.span(kept_at, lengths.kept)?,
        };
        backend.mask_step_f32(p, spans)?;
        let mut results = vec![0u32; self.results.bytes() / 4];
        backend.download(self.results.all(), bytemuck::cast_slice_mut(&mut results))?;
        let (ratios, depth) = (p.ratios as usize, p.depth as usize);
        if results[kept_at / 4 + ratios] != 0 {
            return Ok(None);
        }
        let mut all = Vec::with_capacity(ratios);
        for ratio in 0..ratios {
            let mut words = vec![0u32; p.words as usize];
            backend.download(head(&self.ring, p, ratio)?, bytemuck::cast_slice_mut(&mut words))?;
            let pairs = words.chunks(2).map(|pair| u64::from(pair[0]) | u64::from(*pair.get(1).unwrap_or(&0)) << 32);
            let mask = Mask::from_words(pairs.collect(), p.scales as usize)?;
            let distances = results[distances_at / 4 + ratio * depth..][..depth].iter();
            let distances = distances.map(|differ| (*differ != NO_MASK).then_some(*differ)).collect();
            all.push((Cut { mask, threshold: f32::from_bits(results[ratio]) }, Some(distances)));
        }
        self.p = self.p.next();
        Ok(Some(all))
    }
}

impl Run {
    /// Masks of the network as it is, drawn by the device where it can; `None` where a scale is not finite.
    pub(super) fn draw_masks(&mut self) -> Result<Option<Vec<Drawn>>> {
        let (session, ratios) = (self.trainer.session(), &self.options.ratios);
        if self.ring.is_none() {
            self.ring = Some(Ring::open(session, &self.options.detector, ratios, &self.detectors)?);
        }
        if let Some(Some(ring)) = &mut self.ring {
            return ring.draw(session);
        }
        let scales = session.bn_scales()?;
        if !scales.iter().all(|scale| scale.is_finite()) {
            return Ok(None);
        }
        Ok(Some(super::draw(&scales, ratios)?.into_iter().map(|cut| (cut, None)).collect()))
    }
}

/// Where the mask of `ratio` goes that is drawn next.
fn head<'m>(ring: &'m Memory, p: &mask::Mask, ratio: usize) -> Result<Span<'m>> {
    ring.span(p.head_word(ratio) * 4, p.words as usize * 4)
}

/// A mask's bits in words of 32.
fn halves(mask: &Mask, scales: usize) -> Result<Vec<u32>> {
    if mask.len() != scales {
        let what = format!("a mask of {} channels for a network of {scales}", mask.len());
        return Err(Error::bad_setting("mask", what, "resume with the network of the run"));
    }
    let words = mask.words().iter().flat_map(|word| [*word as u32, (word >> 32) as u32]);
    Ok(words.take(scales.div_ceil(32)).collect())
}
