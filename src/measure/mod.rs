//! What kernels cost, without a clock: the bytes that each must move, what the virtual GPU counts, and the step of a whole network modelled from it.
//!
//! Everything here is counted or modelled and named so; nothing is measured except by [`timer`], which refuses devices that have no clock of their own. Printing and
//! verdicts are `earlybird kernels budget` and `earlybird bench`.

pub mod budget;
pub mod operands;
mod operands_i8;
pub mod probe;
mod probe_i8;
pub mod step;
pub mod timer;
