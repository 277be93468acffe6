//! The detector: says when the masks of one ratio have settled, that is, when the Early-Bird ticket has emerged.
//!
//! Two criteria (early-bird.md 1.5, 1.6). `consecutive` is the paper's: the last `queue` distances between masks one epoch apart are all below eps. `window` is the
//! official code's: the newest mask is within eps (at most) of each of the `queue - 1` masks before it. Both judge masks whole epochs apart; with several draws per epoch the
//! chain is formed anew at each draw, so that a ticket can emerge between epochs.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::mask::Mask;
use crate::{Error, Result};

/// When a ticket counts as emerged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Criterion {
    /// The paper: the last `queue` distances, each between masks one epoch apart, are all `< eps`. Needs `queue + 1` masks.
    Consecutive,
    /// The official code: the newest mask against each of the `queue - 1` older ones, all `<= eps`. Needs `queue` masks.
    Window,
}

impl std::str::FromStr for Criterion {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<Self, String> {
        match name {
            "consecutive" => Ok(Criterion::Consecutive),
            "window" => Ok(Criterion::Window),
            _ => Err(format!("there is no criterion `{name}`; choose consecutive or window")),
        }
    }
}

/// Constants of the detector.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DetectorOptions {
    /// Which distances count.
    pub criterion: Criterion,
    /// Largest distance that counts as settled (0.1).
    pub eps: f64,
    /// Length of the queue (5).
    pub queue: usize,
    /// Mask draws per epoch (1).
    pub draws_per_epoch: usize,
}

impl Default for DetectorOptions {
    fn default() -> Self {
        DetectorOptions { criterion: Criterion::Consecutive, eps: 0.1, queue: 5, draws_per_epoch: 1 }
    }
}

impl DetectorOptions {
    /// Checks the constants.
    ///
    /// # Errors
    /// [`Error::BadSetting`] for an eps outside (0, 1], a queue shorter than 2 or longer than 1000, or no draws.
    pub fn check(&self) -> Result<()> {
        if !(self.eps > 0.0 && self.eps <= 1.0) {
            return Err(Error::bad_setting(
                "--eps",
                format!("{} is not inside (0, 1]", self.eps),
                "the paper uses 0.1",
            ));
        }
        if !(2..=1000).contains(&self.queue) {
            let what = format!("a queue of {} is too short or too long", self.queue);
            return Err(Error::bad_setting("--queue", what, "the paper uses 5"));
        }
        if !(1..=1000).contains(&self.draws_per_epoch) {
            let what = format!("{} draws per epoch are too few or too many", self.draws_per_epoch);
            return Err(Error::bad_setting("--draws-per-epoch", what, "give 1 to 1000"));
        }
        Ok(())
    }

    /// Masks before the newest that it is compared with.
    pub(super) fn compared(&self) -> usize {
        match self.criterion {
            Criterion::Consecutive => self.draws_per_epoch, // older pairs were compared when they were new
            Criterion::Window => (self.queue - 1) * self.draws_per_epoch,
        }
    }

    /// Masks that must be remembered to judge the next one.
    fn memory(&self) -> usize {
        let older = match self.criterion {
            Criterion::Consecutive => self.queue,
            Criterion::Window => self.queue - 1,
        };
        older * self.draws_per_epoch
    }
}

/// What one draw showed.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Distance to the mask one epoch earlier; `None` in the first epoch.
    pub distance: Option<f64>,
    /// The distances the criterion judged, newest first; fewer than it needs while the queue fills.
    pub judged: Vec<f64>,
    /// Whether the criterion holds at this draw. It may hold again later; the first time counts.
    pub settled: bool,
}

/// Watches the masks of one ratio.
#[derive(Clone, Debug)]
pub struct Detector {
    options: DetectorOptions,
    masks: VecDeque<Mask>,
}

impl Detector {
    /// A detector that has seen nothing.
    pub fn new(options: DetectorOptions) -> Detector {
        Detector { options, masks: VecDeque::new() }
    }

    /// A detector that remembers the masks that an earlier one had seen, oldest first.
    pub fn resume(options: DetectorOptions, masks: impl IntoIterator<Item = Mask>) -> Detector {
        let mut detector = Detector::new(options);
        for mask in masks {
            detector.remember(mask);
        }
        detector
    }

    /// The masks it remembers, oldest first.
    pub fn masks(&self) -> impl Iterator<Item = &Mask> {
        self.masks.iter()
    }

    fn remember(&mut self, mask: Mask) {
        self.masks.push_back(mask);
        while self.masks.len() > self.options.memory() {
            self.masks.pop_front();
        }
    }

    /// Takes the next mask and judges.
    ///
    /// # Errors
    /// Where the mask is of another network than those before.
    pub fn update(&mut self, mask: &Mask) -> Result<Verdict> {
        self.judge(mask, &|older, _| mask.distance(older))
    }

    /// [`Detector::update`] with a mask that has been compared already: `differ` are the channels in which it differs from those before it, newest first, as many as
    /// [`DetectorOptions::compared`] says.
    pub(super) fn update_compared(&mut self, mask: &Mask, differ: &[Option<u32>]) -> Result<Verdict> {
        self.judge(mask, &|_, draws| match differ.get(draws - 1) {
            Some(Some(differ)) => Ok(mask.share(*differ)),
            _ => {
                let what = format!("no distance to the mask {draws} draws ago");
                Err(Error::bad_setting("mask", what, "this is a defect, please report it"))
            }
        })
    }

    /// Judges `mask`; `distance` gives its distance to an older one, so many draws ago.
    fn judge(&mut self, mask: &Mask, distance: &dyn Fn(&Mask, usize) -> Result<f64>) -> Result<Verdict> {
        let DetectorOptions { criterion, eps, queue, draws_per_epoch } = self.options;
        // Masks whole epochs ago, newest first; the new one is number 0.
        let ago = |epochs: usize| match epochs {
            0 => Some(mask),
            _ => self.masks.len().checked_sub(epochs * draws_per_epoch).and_then(|i| self.masks.get(i)),
        };
        let to = |epochs: usize| ago(epochs).map(|older| distance(older, epochs * draws_per_epoch)).transpose();
        let newest = to(1)?;
        let mut judged = Vec::new();
        let needed = match criterion {
            Criterion::Consecutive => {
                for back in 0..queue {
                    let (Some(newer), Some(older)) = (ago(back), ago(back + 1)) else { break };
                    judged.push(if back == 0 { distance(older, draws_per_epoch)? } else { newer.distance(older)? });
                }
                queue
            }
            Criterion::Window => {
                for back in 1..queue {
                    let Some(distance) = to(back)? else { break };
                    judged.push(distance);
                }
                queue - 1
            }
        };
        // In f64 `1 - equal/N` makes 0.09999999999999998 of exactly one tenth, which is not below 0.1: the share of differing channels is
        // taken anew as one quotient. The official rule keeps its own expression.
        let channels = mask.len() as f64;
        let within = |d: &f64| match criterion {
            Criterion::Consecutive => (d * channels).round() / channels < eps,
            Criterion::Window => *d <= eps,
        };
        let settled = judged.len() == needed && judged.iter().all(within);
        self.remember(mask.clone());
        Ok(Verdict { distance: newest, judged, settled })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 100 channels of which the first `pruned` are 0.
    fn mask(pruned: usize) -> Mask {
        Mask::from_bools((0..100).map(|i| i >= pruned))
    }

    fn first_settled(options: DetectorOptions, pruned: &[usize]) -> Option<usize> {
        let mut detector = Detector::new(options);
        pruned.iter().position(|p| detector.update(&mask(*p)).unwrap().settled)
    }

    #[test]
    fn consecutive_needs_five_distances_below_eps() {
        let options = DetectorOptions::default();
        assert_eq!(first_settled(options, &[0, 9, 18, 27, 36, 45]), Some(5));
        assert_eq!(first_settled(options, &[0, 11, 20, 29, 38, 47]), None, "the first distance is 0.11");
        assert_eq!(first_settled(options, &[0, 11, 20, 29, 38, 47, 50]), Some(6));
        assert_eq!(first_settled(options, &[0; 5]), None, "four distances only");
    }

    #[test]
    fn window_compares_the_newest_with_each_older_one() {
        let options = DetectorOptions { criterion: Criterion::Window, ..Default::default() };
        assert_eq!(first_settled(options, &[0, 9, 18, 27, 36, 45]), None, "it drifts: 0.27 over three epochs");
        assert_eq!(first_settled(options, &[0, 2, 4, 6, 8]), Some(4));
        assert_eq!(first_settled(options, &[0; 4]), None);
    }

    #[test]
    fn a_distance_equal_to_eps_passes_the_window_but_not_the_consecutive_rule() {
        // 1 - 90/100 in f64 is 0.09999999999999998: the official code's rounding, so take one that is exact.
        let options = |criterion| DetectorOptions { criterion, eps: 0.25, ..Default::default() };
        let jumps = [0, 25, 0, 25, 0, 25, 0];
        assert_eq!(first_settled(options(Criterion::Window), &jumps), Some(4));
        assert_eq!(first_settled(options(Criterion::Consecutive), &jumps), None);
    }

    #[test]
    fn exactly_one_tenth_is_not_below_a_tenth() {
        let jumps = [0, 10, 0, 10, 0, 10, 0];
        let options = |criterion| DetectorOptions { criterion, ..Default::default() };
        assert_eq!(first_settled(options(Criterion::Window), &jumps), Some(4));
        assert_eq!(first_settled(options(Criterion::Consecutive), &jumps), None);
    }

    #[test]
    fn several_draws_per_epoch_judge_whole_epochs_and_may_settle_between_them() {
        let options = DetectorOptions { draws_per_epoch: 4, ..Default::default() };
        // 0.03 per draw is 0.12 per epoch: never settles although neighbouring draws are close.
        let drift: Vec<usize> = (0..33).map(|i| i * 3).collect();
        assert_eq!(first_settled(options, &drift), None);
        // From draw 3 on nothing moves: draws 3, 7, .. 23 are whole epochs apart.
        let mut still = vec![50, 50, 50];
        still.extend([0; 40]);
        assert_eq!(first_settled(options, &still), Some(23));
    }

    #[test]
    fn a_resumed_detector_decides_as_the_uninterrupted_one() {
        for criterion in [Criterion::Consecutive, Criterion::Window] {
            let options = DetectorOptions { criterion, draws_per_epoch: 2, ..Default::default() };
            let pruned: Vec<usize> = (0..30usize).map(|i| 90usize.saturating_sub(i * i / 4)).collect();
            let mut whole = Detector::new(options);
            let all: Vec<Verdict> = pruned.iter().map(|p| whole.update(&mask(*p)).unwrap()).collect();
            for at in 0..30 {
                let mut first = Detector::new(options);
                for p in &pruned[..at] {
                    first.update(&mask(*p)).unwrap();
                }
                let mut second = Detector::resume(options, first.masks().cloned().collect::<Vec<_>>());
                let rest: Vec<Verdict> = pruned[at..].iter().map(|p| second.update(&mask(*p)).unwrap()).collect();
                assert_eq!(rest, all[at..]);
            }
        }
    }
}
