//! Whole training steps on GPUs: recorded steps against steps call by call, bit for bit, and what the driver is asked to do for each.
//!
//! Not here: whether a step is right at all (`tests/golden`, `tests/autograd`).

#![allow(clippy::unwrap_used, clippy::expect_used)] // clippy.toml allows them in test functions only, not in their helpers

#[path = "../common/mod.rs"]
mod common;
mod device;
mod feed;
mod nodes;
mod replay;
