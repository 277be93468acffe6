//! Training: schedule, checkpoints, averaged weights and the loop.

mod average;
pub mod checkpoint;
mod feed;
mod schedule;
mod trainer;

pub use average::Average;
pub use feed::Feed;
pub use schedule::Schedule;
pub use trainer::{BatchEvent, BatchOptions, Position, Trainer};
