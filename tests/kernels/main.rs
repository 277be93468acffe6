//! The project's kernels on the virtual GPU, every check on, against the definition computed here. One file per kernel; each case runs under all schedules.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;

mod cast;
mod copy;
mod device;
mod driver;
mod int8;
mod mask;
mod matmul;
mod operators;
