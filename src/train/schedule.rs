//! Learning rate by absolute epoch: a factor at each milestone passed, however the epoch was reached.
//!
//! The official retraining multiplies only when the epoch counter *hits* a milestone and misses those before its start (early-bird.md section 4); here a milestone
//! counts from its epoch on ("catch-up").

use crate::{Error, Result};

/// A step schedule.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// Rate before the first milestone.
    pub lr: f64,
    /// Epochs (counted from 0) from which the rate is multiplied once more.
    pub milestones: Vec<usize>,
    /// The factor (0.1).
    pub gamma: f64,
}

impl Schedule {
    /// Checks rate and factor.
    ///
    /// # Errors
    /// [`Error::BadSetting`] where a rate is not positive or does not fit f32, or the factor is not positive.
    pub fn check(&self) -> Result<()> {
        let usable = |value: f64| value > 0.0 && (value as f32).is_finite();
        if !usable(self.lr) {
            let what = format!("{} is no learning rate", self.lr);
            return Err(Error::bad_setting("--lr", what, "give a positive number such as 0.1"));
        }
        if !usable(self.gamma) || !self.lr_at(usize::MAX).is_finite() {
            let what = format!("{} is no factor for the learning rate", self.gamma);
            return Err(Error::bad_setting("--lr-factor", what, "give a positive number such as 0.1"));
        }
        Ok(())
    }

    /// Rate of epoch `epoch`, counted from 0 over search and training.
    pub fn lr_at(&self, epoch: usize) -> f32 {
        let passed = self.milestones.iter().filter(|milestone| **milestone <= epoch).count();
        (self.lr * self.gamma.powi(passed as i32)) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_factors_that_cannot_be_used_are_named() {
        let schedule = |lr, gamma| Schedule { lr, gamma, milestones: vec![1, 2] };
        for lr in [0.0, -0.1, f64::NAN, f64::INFINITY, 1e39] {
            assert!(schedule(lr, 0.1).check().unwrap_err().to_string().starts_with("--lr:"), "{lr}");
        }
        for gamma in [0.0, -1.0, f64::NAN, 1e30] {
            assert!(schedule(0.1, gamma).check().unwrap_err().to_string().starts_with("--lr-factor:"), "{gamma}");
        }
        schedule(0.1, 0.1).check().unwrap();
    }

    #[test]
    fn milestones_count_from_their_epoch_on_whatever_the_start() {
        let schedule = Schedule { lr: 0.1, milestones: vec![120, 80], gamma: 0.1 };
        let rates: Vec<f32> = [0, 79, 80, 100, 119, 120, 159].iter().map(|e| schedule.lr_at(*e)).collect();
        assert_eq!(rates, [0.1, 0.1, 0.01, 0.01, 0.01, 0.001, 0.001]);
    }
}
