//! Fails a chosen call of a driver, to prove that the error paths above it are right.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::observe::{Call, Observed, Observer};
use super::{Driver, DriverError, Result};

/// The observer that fails.
pub struct Fault {
    api: Option<&'static str>,
    nth: u64,
    code: i32,
    sticky: bool,
    seen: AtomicU64,
}

/// `inner`, failing the `nth` call (from 1) with `code`: of all calls, or of those of the driver function `api` alone. A sticky
/// fault fails every call after it, too, as a real device does after an illegal address.
pub fn fault(inner: Arc<dyn Driver>, api: Option<&'static str>, nth: u64, code: i32, sticky: bool) -> Observed<Fault> {
    Observed::new(inner, Fault { api, nth, code, sticky, seen: AtomicU64::new(0) })
}

impl Fault {
    /// Calls seen so far that could have been the one.
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }
}

impl Observer for Fault {
    fn before(&self, call: Call) -> Result<()> {
        let broken = self.sticky && self.seen() >= self.nth;
        if !broken && self.api.is_some_and(|api| api != call.api) {
            return Ok(());
        }
        let seen = self.seen.fetch_add(1, Ordering::Relaxed) + 1;
        if seen == self.nth || broken {
            return Err(DriverError::new(call.api, self.code, format!("injected fault, call {seen}")));
        }
        Ok(())
    }
}
