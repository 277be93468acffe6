//! When a run averages its weights: after each epoch from [`RunOptions::swa_start`](super::RunOptions) on that trains the ticket or the dense twin, and once more at the end, where
//! the averaged network gets its running statistics and is evaluated. The mean itself: [`Average`].

use std::time::Instant;

use super::run::{Observer, Run};
use crate::energy::Activity;
use crate::train::Average;
use crate::{Error, Result};

impl Run {
    /// The averaged weights, with running statistics once the run has come to its end.
    pub fn average(&self) -> Option<&Average> {
        self.average.as_ref()
    }

    /// Takes in the weights after the epoch that the trainer has just done, if it is one of those averaged.
    pub(super) fn average_epoch(&mut self) -> Result<()> {
        if self.options.swa_start.is_some_and(|start| self.trainer.position().epoch >= start) {
            let session = self.trainer.session();
            self.average.get_or_insert_default().add(session.graph(), session.state_dict()?);
        }
        Ok(())
    }

    /// At the end of the run: statistics and evaluation of the averaged network, and the state with them.
    pub(super) fn settle_average(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let Some(average) = &mut self.average else { return Ok(()) };
        if self.progress.averaged.is_some() {
            return Ok(()); // a finished run that was resumed
        }
        observer.enter(Some(Activity::Evaluation));
        let start = Instant::now();
        let test = self.trainer.settle(average)?;
        self.progress.seconds.evaluate += start.elapsed().as_secs_f64();
        observer.enter(None);
        if !test.loss_sum.is_finite() {
            return Err(self.trainer.not_finite("the averaged network's test loss"));
        }
        self.progress.averaged = Some(test);
        observer.checkpoint(self)
    }

    /// Checks the epoch from which weights are averaged.
    pub(super) fn check_average(start: usize, epochs: usize, searches: bool) -> Result<()> {
        if searches {
            let what = "a search trains nothing after its ticket";
            return Err(Error::bad_setting("--swa-start", what, "give it to train or retrain"));
        }
        if start >= epochs {
            let what = format!("epoch {start} is behind the last of {epochs} epochs, which is {}", epochs - 1);
            return Err(Error::bad_setting("--swa-start", what, "give an earlier epoch, counted from 0"));
        }
        Ok(())
    }
}
