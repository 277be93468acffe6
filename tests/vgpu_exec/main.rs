//! The machine of the virtual GPU: control flow, warp operations, barriers, atomics; the same bits under every schedule, for one worker and two, and with
//! and without vector units. Kernels are PTX text here, results are computed beside them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod control;
mod determinism;
mod machine;
mod memory;
mod warps;
