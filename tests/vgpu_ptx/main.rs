//! The PTX parser: every statement form that compilers write, the traps they set, and text that no compiler wrote.
#![allow(clippy::unwrap_used, clippy::expect_used)] // clippy.toml allows them in test functions only, not in their helpers

#[path = "../common/mod.rs"]
mod common;
mod constants;
mod corpus;
mod debug;
mod errors;
mod hostile;
mod round_trip;
mod traps;
