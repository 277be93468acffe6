//! Every operator, forward and all gradients, against oracles in f64 that are written here from the definitions, on every device.
//!
//! One file per operator holds its oracle and its test bodies; `for_each_device!` stamps each body for each device of [`device`]. Shapes are random and
//! odd on purpose. Outputs and scratch memory are full of NaN before each run, so that an element that is not written, or read too early, is found out.
//! Tolerances are rounding bounds of the operator's own sums, see [`oracle`]. Not here: PyTorch (`tests/golden`), whole networks (`tests/autograd`).

#![allow(clippy::unwrap_used, clippy::expect_used)] // clippy.toml allows them in test functions only, not in their helpers

#[path = "../common/mod.rs"]
mod common;
#[macro_use]
mod device;

mod add;
mod augment;
mod batchnorm;
mod conv2d;
mod int8;
mod linear;
mod mask;
mod misuse;
mod oracle;
mod pool;
mod relu;
mod select;
mod sgd;
mod softmax_xent;
