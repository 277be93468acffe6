//! advance on the CPU: the step's sums go to the log, the state moves on.

use super::Cpu;
use crate::backend::Span;
use crate::ops::Metrics;
use crate::ops::advance::{Advance, StepState};
use crate::{Error, Result};

impl Cpu {
    pub(super) fn advance_step(&self, p: &Advance, state: Span, metrics: Span, log: Span) -> Result<()> {
        let sums = size_of::<Metrics>();
        let writes = [(state, size_of::<StepState>()), (metrics, sums), (log, p.slots as usize * sums)];
        let [state, metrics, log] = self.memory.open("advance_step_u64", [], writes)?.write;
        let parts = (
            bytemuck::try_from_bytes_mut::<StepState>(state),
            bytemuck::try_from_bytes_mut::<Metrics>(metrics),
            bytemuck::try_cast_slice_mut::<u8, Metrics>(log),
        );
        let (Ok(state), Ok(metrics), Ok(log)) = parts else {
            let what = "state, metrics and log must be aligned to 8 bytes".into();
            return Err(Error::Graph { node: "step".into(), op: "advance", what });
        };
        if p.slots != 0 {
            let sums = std::mem::take(metrics);
            if let Some(place) = log.get_mut(state.slot as usize) {
                *place = sums;
            }
        }
        *state = p.next(*state);
        Ok(())
    }
}
