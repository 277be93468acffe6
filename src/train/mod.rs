//! Training: schedule, checkpoints and the loop.

pub mod checkpoint;
mod feed;
mod schedule;
mod trainer;

pub use feed::Feed;
pub use schedule::Schedule;
pub use trainer::{BatchEvent, BatchOptions, Position, Trainer};
