//! Optimiser, schedule, checkpoints and the training loop.

pub mod checkpoint;
mod schedule;

pub use schedule::Schedule;
