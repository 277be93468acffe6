//! Host memory behind spans, and the one door to it: every operator names the spans it reads and writes here and gets slices, or a clear error.
//!
//! All `unsafe` of the plain operators is in this file. What makes it sound: the backend runs one operator at a time (the lock), spans of other backends are refused,
//! lengths and alignment are checked, and a written span overlaps no other span of the call.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::backend::{Block, Span};
use crate::{Error, Result};

const ALIGN: usize = 256;

/// Identity and locks of one CPU backend.
pub(super) struct Owner {
    id: u64,
    /// Held by the thread outside the pool that uses the backend now. Taken there, so that no thread of the pool ever waits for work that waits for the pool.
    turn: Mutex<()>,
    /// Held during an operator.
    lock: Mutex<()>,
}

impl Owner {
    pub(super) fn new() -> Owner {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Owner { id: NEXT.fetch_add(1, Ordering::Relaxed), turn: Mutex::new(()), lock: Mutex::new(()) }
    }

    /// Waits until no other thread outside the pool uses the backend; nothing to wait for inside the pool.
    pub(super) fn turn(&self) -> Option<MutexGuard<'_, ()>> {
        let outside = rayon::current_thread_index().is_none();
        outside.then(|| self.turn.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Allocates a zeroed block.
    pub(super) fn alloc(&self, bytes: usize) -> Result<HostBlock> {
        let layout = Layout::from_size_align(bytes.max(1), ALIGN).map_err(|_| {
            Error::bad_setting("memory", format!("{bytes} bytes are more than can be addressed"), "use a smaller batch")
        })?;
        // SAFETY: the layout has a size of at least 1.
        let pointer = unsafe { alloc_zeroed(layout) };
        if pointer.is_null() {
            handle_alloc_error(layout);
        }
        Ok(HostBlock { address: pointer as u64, layout, bytes, owner: self.id })
    }

    /// Slices for the spans of one operator call. Each comes with the bytes the operator needs; longer spans are cut.
    pub(super) fn open<'a, const R: usize, const W: usize>(
        &'a self,
        op: &'static str,
        reads: [(Span<'a>, usize); R],
        writes: [(Span<'a>, usize); W],
    ) -> Result<Opened<'a, R, W>> {
        let fail = |what: String| Error::Graph { node: op.into(), op: "cpu", what };
        for (i, (span, bytes)) in reads.iter().chain(&writes).enumerate() {
            if span.owner() != self.id {
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
            let others = reads.iter().chain(&writes[..i]);
            for (other, length) in others {
                if *bytes > 0 && *length > 0 && span.overlaps(&other.part(0, *length)?) {
                    return Err(fail(format!("output {i} overlaps another argument")));
                }
            }
        }
        let turn = self.turn();
        let guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the spans borrow live blocks of this owner (a `Span` cannot outlive its `Memory`) and lie inside them; the lock is held for as long as
        // `Opened` lives, so no other operator or copy of this backend touches them; written parts are disjoint from all other parts.
        let read = reads.map(|(span, bytes)| unsafe { std::slice::from_raw_parts(span.address() as *const u8, bytes) });
        // SAFETY: as above.
        let write =
            writes.map(|(span, bytes)| unsafe { std::slice::from_raw_parts_mut(span.address() as *mut u8, bytes) });
        Ok(Opened { read, write, _guard: guard, _turn: turn })
    }
}

/// The spans of one call as bytes, while no other call runs.
pub(super) struct Opened<'a, const R: usize, const W: usize> {
    pub(super) read: [&'a [u8]; R],
    pub(super) write: [&'a mut [u8]; W],
    _guard: MutexGuard<'a, ()>,
    _turn: Option<MutexGuard<'a, ()>>,
}

/// Bytes as f32; length and address are multiples of 4, see [`Owner::open`].
pub(super) fn f32s(bytes: &[u8]) -> &[f32] {
    bytemuck::cast_slice(bytes)
}

/// Bytes as f32, to write.
pub(super) fn f32s_mut(bytes: &mut [u8]) -> &mut [f32] {
    bytemuck::cast_slice_mut(bytes)
}

/// A block of host memory.
pub(super) struct HostBlock {
    address: u64,
    layout: Layout,
    bytes: usize,
    owner: u64,
}

impl Block for HostBlock {
    fn address(&self) -> u64 {
        self.address
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn owner(&self) -> u64 {
        self.owner
    }
}

impl Drop for HostBlock {
    fn drop(&mut self) {
        // SAFETY: allocated in `Owner::alloc` with this very layout, freed once.
        unsafe { dealloc(self.address as *mut u8, self.layout) }
    }
}

/// Bytes as mantissas or exponents.
pub(super) fn i8s(bytes: &[u8]) -> &[i8] {
    bytemuck::cast_slice(bytes)
}

/// Bytes as mantissas or exponents, to write.
pub(super) fn i8s_mut(bytes: &mut [u8]) -> &mut [i8] {
    bytemuck::cast_slice_mut(bytes)
}

/// The u32 in a span of at least 4 bytes: step counters.
pub(super) fn u32_of(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

/// A slice cut into parts of equal size (the last may be shorter) that tasks of one operator write, each its own.
pub(super) struct Parts<'a, T> {
    start: *mut T,
    length: usize,
    size: usize,
    owner: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: parts are slices of `T` that go to one task each, says the caller of `part`.
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    pub(super) fn new(slice: &'a mut [T], size: usize) -> Parts<'a, T> {
        Parts { start: slice.as_mut_ptr(), length: slice.len(), size, owner: std::marker::PhantomData }
    }

    /// Part `i`; empty behind the end.
    ///
    /// # Safety
    /// While it lives, nobody else has part `i`.
    #[allow(clippy::mut_from_ref)] // that is what the caller answers for
    pub(super) unsafe fn part(&self, i: usize) -> &'a mut [T] {
        let first = (i * self.size).min(self.length);
        let length = self.size.min(self.length - first);
        // SAFETY: inside the slice that was borrowed; disjoint by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(first), length) }
    }
}

/// A pointer that tasks of one operator share; each writes its own part.
#[derive(Clone, Copy)]
pub(super) struct Shared(*mut f32);

// SAFETY: a plain address; whoever dereferences it answers for disjointness.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    pub(super) fn new(slice: &mut [f32]) -> Shared {
        Shared(slice.as_mut_ptr())
    }

    /// The address of element `i`.
    pub(super) fn at(self, i: usize) -> *mut f32 {
        self.0.wrapping_add(i)
    }
}
