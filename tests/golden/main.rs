//! The crate against PyTorch: every golden file here is read and recomputed.
//!
//! `make_golden.py` made the files and says what is in them; `official.py` is the reference. Tolerances follow from the number of terms in each sum and are
//! stated where they are used. Not here: the full-size comparison, which wants Python (`parity.py`).

#![allow(clippy::unwrap_used, clippy::expect_used)] // clippy.toml allows them in test functions only, not in their helpers

mod batchnorm;
#[path = "../common/mod.rs"]
mod common;
mod conv2d;
mod counts;
mod detector;
mod device;
mod import;
mod optimiser;
mod pools;
mod store;
mod surgery;
mod training;
