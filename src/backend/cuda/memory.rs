//! Device memory behind spans, and the one door to it: every operator names the spans it reads and writes here and gets addresses, or a clear error.
//!
//! What this door checks is what the launchers rely on: memory of this very device, long enough, aligned, outputs apart from everything else unless they *are* an
//! input, and sizes that the kernels' 32-bit indices reach.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::backend::{Block, Span};
use crate::driver::{DevPtr, Driver, Fill, StreamId};
use crate::{Error, Result};

/// Largest tensor that the kernels index: 2^31 - 1 elements of 4 bytes.
pub const MOST_BYTES: usize = (i32::MAX as usize) * 4;

/// Whether an output may be one of the inputs, exactly.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum InPlace {
    No,
    Allowed,
}

/// An identity for a backend. The CPU's count from 1; these have the top bit set.
pub(super) fn identity() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1 << 63);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Addresses of the spans of one operator call. Each comes with the bytes that the operator needs; longer spans are fine.
pub(super) fn open<const R: usize, const W: usize>(
    owner: u64,
    op: &'static str,
    reads: [(Span, usize); R],
    writes: [(Span, usize); W],
    in_place: InPlace,
) -> Result<([DevPtr; R], [DevPtr; W])> {
    let fail = |what: String| Error::Graph { node: op.into(), op: "cuda", what };
    // First, so that a shape that no kernel can index is told as such, whether there is memory for it or not.
    if let Some((i, (_, bytes))) = reads.iter().chain(&writes).enumerate().find(|(_, (_, bytes))| *bytes > MOST_BYTES) {
        let what = format!("argument {i} has {bytes} bytes; at most {MOST_BYTES} can be indexed: use a smaller batch");
        return Err(fail(what));
    }
    for (i, (span, bytes)) in reads.iter().chain(&writes).enumerate() {
        if span.owner() != owner {
            return Err(fail(format!("argument {i} is memory of another device")));
        }
        if span.bytes() < *bytes {
            return Err(fail(format!("argument {i} has {} bytes, {bytes} are needed", span.bytes())));
        }
        if span.address() % 4 != 0 && *bytes > 0 {
            return Err(fail(format!("argument {i} is not aligned to 4 bytes")));
        }
    }
    for (i, (span, bytes)) in writes.iter().enumerate() {
        let span = span.part(0, *bytes)?;
        for (n, (other, length)) in reads.iter().chain(&writes[..i]).enumerate() {
            let same = in_place == InPlace::Allowed && n < R && other.address() == span.address();
            if *bytes > 0 && *length > 0 && !same && span.overlaps(&other.part(0, *length)?) {
                return Err(fail(format!("output {i} overlaps another argument")));
            }
        }
    }
    Ok((reads.map(|(span, _)| DevPtr(span.address())), writes.map(|(span, _)| DevPtr(span.address()))))
}

/// An allocation on a device; dropping it frees it.
pub(super) struct DeviceBlock {
    driver: Arc<dyn Driver>,
    ptr: DevPtr,
    bytes: usize,
    owner: u64,
}

impl DeviceBlock {
    /// Zeroed memory. An empty block still has an address of its own.
    pub(super) fn zeroed(driver: &Arc<dyn Driver>, stream: StreamId, owner: u64, bytes: usize) -> Result<DeviceBlock> {
        let room = bytes.max(1);
        let ptr = driver.mem_alloc(room)?;
        let block = DeviceBlock { driver: Arc::clone(driver), ptr, bytes, owner };
        driver.fill(ptr, Fill::U8(0), room, stream)?;
        Ok(block)
    }
}

impl Block for DeviceBlock {
    fn address(&self) -> u64 {
        self.ptr.0
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn owner(&self) -> u64 {
        self.owner
    }
}

impl Drop for DeviceBlock {
    fn drop(&mut self) {
        // A failure here is a sticky error of an earlier kernel, which the next call reports, or a context that is gone, memory and all.
        let _ = self.driver.mem_free(self.ptr);
    }
}
