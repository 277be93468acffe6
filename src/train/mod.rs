//! Training: schedule, checkpoints and the loop.

pub mod checkpoint;
mod schedule;
mod trainer;

pub use schedule::Schedule;
pub use trainer::{BatchEvent, BatchOptions, Position, Trainer};
