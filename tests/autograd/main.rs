//! Whole networks: gradients against finite differences, the memory plan, the same bits for any number of threads, and graphs that are refused.
//!
//! Not here: single operators (`tests/ops`), PyTorch (`tests/golden`).

#![allow(clippy::unwrap_used, clippy::expect_used)] // clippy.toml allows them in test functions only, not in their helpers

#[path = "../common/mod.rs"]
mod common;
#[macro_use]
#[path = "../ops/device.rs"]
mod device;

mod gradcheck;
mod plan;
mod random;
mod reference;
mod refused;
mod threads;
