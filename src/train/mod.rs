//! Optimiser, schedule, checkpoints and the training loop.

pub mod checkpoint;
