//! Grid of `kernels/advance.cu`: one thread.

use super::device::Cuda;
use crate::backend::Span;
use crate::driver::Dims;
use crate::ops::Metrics;
use crate::ops::advance::{Advance, StepState};
use crate::{Error, Result};

/// Puts the step's sums into the log and moves the state on.
pub(super) fn step(cuda: &Cuda, p: &Advance, state: Span, metrics: Span, log: Span) -> Result<()> {
    let sums = size_of::<Metrics>();
    let writes = [(state, size_of::<StepState>()), (metrics, sums), (log, p.slots as usize * sums)];
    let ([], [state, metrics, log]) = cuda.open("advance_step_u64", [], writes)?;
    if [state, metrics, log].iter().any(|address| address.0 % 8 != 0) {
        let what = "state, metrics and log must be aligned to 8 bytes".into();
        return Err(Error::Graph { node: "step".into(), op: "advance", what });
    }
    Ok(cuda.kernels().advance_step_u64(Dims::linear(1, 32), cuda.stream(), p, state, metrics, log)?)
}
