//! Counts what a driver is asked to do: launches, bytes, allocations. For tests ("an operator never allocates") and for reports.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use super::observe::{Call, Observed, Observer};
use super::{DevPtr, Driver, Result};

/// What was counted so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls by driver function.
    pub calls: BTreeMap<&'static str, u64>,
    /// Bytes by driver function: copied, filled, allocated; for launches the parameter bytes.
    pub bytes: BTreeMap<&'static str, u64>,
    /// Device memory allocated and not yet freed, in bytes.
    pub live_bytes: u64,
    /// The most that was ever live, in bytes.
    pub peak_bytes: u64,
}

impl Counts {
    /// Calls of one driver function, such as `cuLaunchKernel`.
    pub fn of(&self, api: &str) -> u64 {
        self.calls.get(api).copied().unwrap_or(0)
    }

    /// Kernel launches, those recorded into graphs included; a replay of a graph counts as one `cuGraphLaunch` instead.
    pub fn launches(&self) -> u64 {
        self.of("cuLaunchKernel")
    }

    /// Allocations of device memory.
    pub fn allocations(&self) -> u64 {
        self.of("cuMemAlloc")
    }
}

/// The observer that counts.
#[derive(Default)]
pub struct Trace {
    state: Mutex<(Counts, HashMap<DevPtr, u64>)>,
}

/// `inner`, counting. [`Observed::observer`] gives the counts.
pub fn trace(inner: Arc<dyn Driver>) -> Observed<Trace> {
    Observed::new(inner, Trace::default())
}

impl Trace {
    /// What was counted since the last [`Trace::reset`].
    pub fn counts(&self) -> Counts {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// Starts the calls and bytes anew; live memory stays, and is the new peak.
    pub fn reset(&self) {
        let counts = &mut self.state.lock().unwrap_or_else(PoisonError::into_inner).0;
        *counts = Counts { live_bytes: counts.live_bytes, peak_bytes: counts.live_bytes, ..Counts::default() };
    }
}

impl Observer for Trace {
    fn before(&self, call: Call) -> Result<()> {
        let counts = &mut self.state.lock().unwrap_or_else(PoisonError::into_inner).0;
        *counts.calls.entry(call.api).or_default() += 1;
        *counts.bytes.entry(call.api).or_default() += call.bytes;
        Ok(())
    }

    fn allocated(&self, ptr: DevPtr, bytes: usize) {
        let (counts, live) = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        live.insert(ptr, bytes as u64);
        counts.live_bytes += bytes as u64;
        counts.peak_bytes = counts.peak_bytes.max(counts.live_bytes);
    }

    fn freed(&self, ptr: DevPtr) {
        let (counts, live) = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        counts.live_bytes -= live.remove(&ptr).unwrap_or(0);
    }
}
