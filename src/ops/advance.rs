//! Advance: the last operator of a step. It keeps the [`StepState`], from which the other operators of a step learn what changes from one step to the next, and puts
//! the step's loss into a log.
//!
//! A step that is recorded once and run again and again cannot be told anything by its arguments; what changes lies in device memory and moves by itself. Not a node
//! of the network: [`crate::autograd::Session`] puts it behind the optimiser.

use bytemuck::{Pod, Zeroable};

/// Where a pass through the data stands: one of these lies in device memory, and kernels get its address (`kernels/state.cuh`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct StepState {
    /// Optimiser steps taken before this one. Keys whatever is random in a step.
    pub step: u64,
    /// Epoch, from 0: keys the augmentation.
    pub epoch: u32,
    /// First image of the batch in the epoch's order.
    pub cursor: u32,
    /// Learning rate.
    pub lr: f32,
    /// Place in the log that this step's sums go to.
    pub slot: u32,
}

impl StepState {
    /// Byte of the learning rate, for kernels that want nothing else.
    pub const LR: usize = std::mem::offset_of!(StepState, lr);
}

/// What kernels receive.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Advance {
    /// Images that the cursor moves on by; 0 where the batch came from the host.
    pub images: u32,
    /// Optimiser steps taken: 1, or 0 in an evaluation.
    pub steps: u32,
    /// Places of the log; 0 leaves the running sums where they are.
    pub slots: u32,
}

impl Advance {
    /// The state behind this step.
    pub fn next(&self, state: StepState) -> StepState {
        StepState {
            step: state.step + u64::from(self.steps),
            cursor: state.cursor.wrapping_add(self.images),
            slot: if self.slots == 0 { state.slot } else { (state.slot + 1) % self.slots },
            ..state
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_goes_round_and_an_evaluation_leaves_it() {
        let mut state = StepState { step: u64::from(u32::MAX), lr: 0.1, epoch: 3, ..Default::default() };
        let step = Advance { images: 5, steps: 1, slots: 3 };
        (0..4).for_each(|_| state = step.next(state));
        assert_eq!(state, StepState { step: u64::from(u32::MAX) + 4, epoch: 3, cursor: 20, lr: 0.1, slot: 1 });
        assert_eq!(Advance { images: 2, steps: 0, slots: 0 }.next(state), StepState { cursor: 22, ..state });
        assert_eq!((size_of::<StepState>(), StepState::LR), (24, 16));
    }
}
