//! Every form of data that is read, built in a temporary folder, whole and damaged.
//!
//! `make_fixtures.py` made `fixtures/`: batches as Python itself pickles them. Not here: the loader's order and augmentation (unit tests in `src/data`).

#![allow(clippy::unwrap_used, clippy::expect_used)] // clippy.toml allows them in test functions only, not in their helpers

mod binary;
mod command;
#[path = "../common/mod.rs"]
mod common;
mod fuzz;
mod idx;
mod images;
mod photos;
mod pickles;
mod python;
mod recognition;
mod support;
