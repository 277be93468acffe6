//! Trains conv nets by Early-Bird tickets (arXiv 1909.11957) on hand-written CUDA kernels.
//!
//! The layers, one way down: [`cli`] and [`report`] → [`ticket`] → [`nn`], [`train`], [`data`] → [`graph`], [`autograd`] →
//! [`ops`] → [`backend`] → [`driver`] (and [`vgpu`] behind it). `ARCHITECTURE.md` says what may know what.

pub mod autograd;
pub mod backend;
pub mod cli;
pub mod data;
pub mod driver;
pub mod energy;
pub mod error;
pub mod fsio;
pub mod graph;
pub mod measure;
pub mod nn;
pub mod ops;
pub mod quant;
pub mod report;
pub mod selftest;
pub mod ticket;
pub mod train;
pub mod vgpu;

pub use error::{Error, Result};
