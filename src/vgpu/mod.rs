//! The virtual GPU: a PTX machine that runs, checks and counts kernels without a GPU.

pub mod num;
pub mod prof;
