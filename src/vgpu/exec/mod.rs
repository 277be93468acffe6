//! Runs lowered kernels: warps of 32 lanes, one instruction on a whole row at a time.

pub mod lanes;
