//! Work that a backend has recorded and runs again: on a GPU a captured graph. Who records what, and when a recording is of no use any more, is the caller's
//! business ([`crate::autograd`]).

use crate::Result;

/// A recorded series of operator calls, with the memory that they use.
pub trait Replay: Send + Sync {
    /// Runs them all, in their order, after everything queued before.
    fn run(&self) -> Result<()>;
}
