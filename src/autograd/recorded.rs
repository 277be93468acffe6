//! Recordings of a program: one per series of calls that is asked for again and again.
//!
//! A series runs call by call when it is first wanted (a device loads its kernels then, and a batch that comes only once is not worth a recording), is recorded when it is
//! wanted again, and replayed from then on.

use super::feed::Feed;
use crate::Result;
use crate::backend::{Backend, Memory, Replay};

/// What follows the program's own calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Nothing: gradients are left.
    Differentiate,
    /// Optimiser and log.
    Step,
    /// Nothing: running statistics are left.
    Estimate,
    /// Nothing.
    Evaluate,
}

enum Recording {
    /// Ran once.
    Seen,
    /// The device does not record.
    Refused,
    Made(Box<dyn Replay>),
}

/// What a recording is of: with batches that the device makes from these images, or from the host's.
type Series = (Work, Option<Feed>);

/// All recordings of a program.
#[derive(Default)]
pub(super) struct Recorded(Vec<(Series, Recording)>);

impl Recorded {
    /// Runs `calls`, which do `series`, or their recording.
    pub(super) fn run(
        &mut self,
        series: Series,
        backend: &dyn Backend,
        keep: &[&Memory],
        calls: &mut (dyn FnMut() -> Result<()> + Send),
    ) -> Result<()> {
        let Some(i) = self.0.iter().position(|(other, _)| *other == series) else {
            backend.together(calls)?;
            self.0.push((series, Recording::Seen));
            return Ok(());
        };
        let recording = &mut self.0[i].1;
        if matches!(recording, Recording::Seen) {
            *recording = backend.capture(keep, calls)?.map_or(Recording::Refused, Recording::Made);
        }
        match recording {
            Recording::Made(replay) => replay.run(),
            _ => backend.together(calls),
        }
    }
}
