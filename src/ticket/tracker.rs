//! Watches the masks of a network that somebody else trains: BN scales in, distances and tickets out.
//!
//! [`MaskTracker`] is [`draw`] and a [`Detector`] for each ratio, with the layers' names kept. It knows no graph, no session and no files; [`super::Run`] is the
//! whole method over this crate's own trainer.

use super::detector::{Detector, DetectorOptions};
use super::mask::{Cut, Mask, check_ratio, draw};
use crate::{Error, Result};

/// What one draw showed for one ratio.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// Share of channels to prune.
    pub ratio: f64,
    /// The mask and its threshold.
    pub cut: Cut,
    /// Distance to the mask one epoch earlier; `None` in the first epoch.
    pub distance: Option<f64>,
    /// The distances that were judged, newest first.
    pub judged: Vec<f64>,
    /// Whether the criterion holds at this draw.
    pub settled: bool,
    /// Whether it holds for the first time: this mask is the ticket.
    pub emerged: bool,
}

/// Watches one network for one or several ratios.
///
/// ```
/// use earlybird::ticket::{DetectorOptions, MaskTracker};
///
/// # fn main() -> earlybird::Result<()> {
/// let mut tracker = MaskTracker::new(&[0.5], DetectorOptions { queue: 2, ..Default::default() })?;
/// for epoch in 0..4 {
///     let bn1 = [0.9, 0.1 / (1.0 + epoch as f32), 0.8, 0.2];
///     let seen = tracker.observe([("bn1", &bn1[..])])?;
///     if seen[0].emerged {
///         assert_eq!(tracker.kept(&seen[0].cut.mask), [("bn1".to_string(), vec![0])]); // the threshold itself goes, too
///     }
/// }
/// assert_eq!(tracker.tickets(), [Some(2)]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct MaskTracker {
    ratios: Vec<f64>,
    detectors: Vec<Detector>,
    tickets: Vec<Option<usize>>,
    layers: Vec<(String, usize)>,
    draws: usize,
}

impl MaskTracker {
    /// A tracker that has seen nothing.
    ///
    /// # Errors
    /// [`Error::BadSetting`] for no ratios, a ratio outside (0, 1), or constants that [`DetectorOptions::check`] refuses.
    pub fn new(ratios: &[f64], options: DetectorOptions) -> Result<MaskTracker> {
        options.check()?;
        ratios.iter().try_for_each(|ratio| check_ratio(*ratio))?;
        if ratios.is_empty() {
            return Err(Error::bad_setting("--prune", "no ratio is given", "give shares to prune such as 0.3,0.5,0.7"));
        }
        Ok(MaskTracker {
            ratios: ratios.to_vec(),
            detectors: ratios.iter().map(|_| Detector::new(options)).collect(),
            tickets: vec![None; ratios.len()],
            layers: Vec::new(),
            draws: 0,
        })
    }

    /// Takes the scales of all BN layers as they are now, layer by layer, and judges: one observation for each ratio. Call it after every epoch, or
    /// `draws_per_epoch` times in each; a call before the first step shows the untrained network, as the official code does.
    ///
    /// # Errors
    /// [`Error::BadSetting`] where a scale is NaN or infinite, or the layers are others than before; the draw is not counted then.
    pub fn observe<'a>(&mut self, scales: impl IntoIterator<Item = (&'a str, &'a [f32])>) -> Result<Vec<Observation>> {
        let (mut layers, mut all) = (Vec::new(), Vec::new());
        for (name, scales) in scales {
            if let Some(at) = scales.iter().position(|scale| !scale.is_finite()) {
                let what = format!("scale {at} of layer {name} is {}", scales[at]);
                return Err(Error::bad_setting("BN scales", what, "the network has diverged: lower its learning rate"));
            }
            layers.push((name.to_string(), scales.len()));
            all.extend_from_slice(scales);
        }
        if self.draws > 0 && layers != self.layers {
            let other = layers.iter().zip(&self.layers).find(|(now, before)| now != before);
            let what = match other {
                Some((now, before)) => {
                    format!("layer {} of {} channels stands where {} of {} was", now.0, now.1, before.0, before.1)
                }
                None => format!("{} layers are given, there were {}", layers.len(), self.layers.len()),
            };
            return Err(Error::bad_setting("BN scales", what, "give the same layers in the same order at every draw"));
        }
        let cuts = draw(&all, &self.ratios)?;
        let mut seen = Vec::with_capacity(cuts.len());
        for (i, cut) in cuts.into_iter().enumerate() {
            let verdict = self.detectors[i].update(&cut.mask)?;
            let emerged = verdict.settled && self.tickets[i].is_none();
            if emerged {
                self.tickets[i] = Some(self.draws);
            }
            seen.push(Observation {
                ratio: self.ratios[i],
                cut,
                distance: verdict.distance,
                judged: verdict.judged,
                settled: verdict.settled,
                emerged,
            });
        }
        self.layers = layers;
        self.draws += 1;
        Ok(seen)
    }

    /// Draws so far.
    pub fn draws(&self) -> usize {
        self.draws
    }

    /// Watched ratios.
    pub fn ratios(&self) -> &[f64] {
        &self.ratios
    }

    /// For each ratio the number of the draw (from 0) at which its ticket emerged.
    pub fn tickets(&self) -> &[Option<usize>] {
        &self.tickets
    }

    /// Whether every ratio has its ticket.
    pub fn all_emerged(&self) -> bool {
        self.tickets.iter().all(Option::is_some)
    }

    /// Name and channels of each layer; empty before the first draw.
    pub fn layers(&self) -> &[(String, usize)] {
        &self.layers
    }

    /// The channels that `mask` keeps, layer by layer.
    pub fn kept(&self, mask: &Mask) -> Vec<(String, Vec<u32>)> {
        let mut first = 0;
        let layer = |(name, channels): &(String, usize)| {
            let kept = (0..*channels).filter(|c| mask.kept(first + c)).map(|c| c as u32).collect();
            first += channels;
            (name.clone(), kept)
        };
        self.layers.iter().map(layer).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two layers whose order of scales turns around at `epoch` 3 and then stands still.
    fn scales(epoch: usize) -> (Vec<f32>, Vec<f32>) {
        let turn = |i: usize| if epoch < 3 { ((i + 7 * epoch) % 10) as f32 } else { i as f32 };
        ((0..4).map(turn).collect(), (4..10).map(|i| -turn(i)).collect())
    }

    #[test]
    fn it_decides_as_detector_and_draw_do() {
        let options = DetectorOptions { queue: 3, ..Default::default() };
        let mut tracker = MaskTracker::new(&[0.5, 0.2], options).unwrap();
        let mut detectors = [Detector::new(options), Detector::new(options)];
        for epoch in 0..9 {
            let (a, b) = scales(epoch);
            let seen = tracker.observe([("a", &a[..]), ("b", &b[..])]).unwrap();
            let cuts = draw(&[a, b].concat(), &[0.5, 0.2]).unwrap();
            for ((seen, cut), detector) in seen.iter().zip(cuts).zip(&mut detectors) {
                let verdict = detector.update(&cut.mask).unwrap();
                assert_eq!((&seen.cut, seen.distance, seen.settled), (&cut, verdict.distance, verdict.settled));
                assert_eq!(seen.emerged, epoch == 6, "masks 3 to 6 are equal: three distances of 0");
            }
        }
        assert_eq!((tracker.tickets(), tracker.all_emerged(), tracker.draws()), (&[Some(6), Some(6)][..], true, 9));
        let (a, b) = scales(8);
        let mask = tracker.observe([("a", &a[..]), ("b", &b[..])]).unwrap()[0].cut.mask.clone();
        assert_eq!(tracker.kept(&mask), [("a".to_string(), vec![]), ("b".to_string(), vec![2, 3, 4, 5])]);
    }

    #[test]
    fn other_layers_and_no_numbers_are_refused_and_not_counted() {
        assert!(MaskTracker::new(&[], DetectorOptions::default()).is_err());
        assert!(MaskTracker::new(&[1.5], DetectorOptions::default()).is_err());
        let mut tracker = MaskTracker::new(&[0.5], DetectorOptions::default()).unwrap();
        tracker.observe([("a", &[1.0, 2.0][..])]).unwrap();
        for (name, scales) in [("b", &[1.0, 2.0][..]), ("a", &[1.0][..]), ("a", &[1.0, f32::NAN][..])] {
            assert_eq!(tracker.observe([(name, scales)]).unwrap_err().exit_code(), 2);
        }
        assert!(tracker.observe([]).is_err() && tracker.draws() == 1);
    }
}
