//! The crate against PyTorch: every golden file here is read and recomputed.
//!
//! `make_golden.py` made the files and says what is in them; `official.py` is the reference. Tolerances follow from the number of terms in each sum and are
//! stated where they are used. What touches a device is stamped for each ([`device`]). Not here: the full-size comparison, which wants Python (`parity.py`).

#![allow(clippy::unwrap_used, clippy::expect_used)] // clippy.toml allows them in test functions only, not in their helpers

#[path = "../common/mod.rs"]
mod common;
#[macro_use]
#[path = "../ops/device.rs"]
mod device;

mod batchnorm;
mod conv2d;
mod counts;
mod detector;
mod eb8;
mod import;
mod optimiser;
mod pools;
mod store;
mod surgery;
mod training;
