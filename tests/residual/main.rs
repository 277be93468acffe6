//! Surgery of networks with residual streams and branches, under both policies: what is removed, that nothing else changes, and that training goes on as before.
//!
//! Not here: sequential networks (`tests/surgery.rs`), numbers from PyTorch (`tests/golden`).

#![allow(clippy::unwrap_used, clippy::expect_used)] // clippy.toml allows them in test functions only, not in their helpers

mod equal;
mod shapes;
mod support;
mod training;
