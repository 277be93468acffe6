//! Handle exchange with `cust` (feature `cust`): contexts and streams into ours, device pointers both ways. Nothing else of cust is used.
//!
//! `cust` cannot build without a CUDA installation, so the feature is off by default; `CUDA_LIBRARY_PATH` naming a folder with an
//! empty `lib64` is enough to compile (CI does), a real `libcuda.so` there to link. cust makes no context or stream from a raw
//! handle: to use cust in our context, call [`Nvidia::make_current`], which is all that its memory and launch functions ask for.

use cust::context::Context;
use cust::memory::{DeviceCopy, DevicePointer};
use cust::stream::Stream;

use super::Nvidia;
use crate::driver::{DevPtr, Result, StreamId};

impl Nvidia {
    /// Works in a context of cust's.
    ///
    /// # Safety
    /// As [`Nvidia::from_raw`]: `context` must outlive this driver.
    ///
    /// # Errors
    /// As [`Nvidia::from_raw`].
    pub unsafe fn from_cust(context: &Context) -> Result<Nvidia> {
        // SAFETY: a live context by its type; that it outlives us is the caller's promise.
        unsafe { Nvidia::from_raw(context.as_raw().cast()) }
    }

    /// Takes a stream of cust's into use.
    ///
    /// # Safety
    /// As [`Nvidia::stream_from_raw`]: `stream` must belong to this context and outlive the handle.
    pub unsafe fn stream_from_cust(&self, stream: &Stream) -> StreamId {
        // SAFETY: a live stream by its type; the rest is the caller's promise.
        unsafe { self.stream_from_raw(stream.as_inner().cast()) }
    }
}

impl<T: DeviceCopy> From<DevicePointer<T>> for DevPtr {
    fn from(pointer: DevicePointer<T>) -> DevPtr {
        DevPtr(pointer.as_raw())
    }
}

impl<T: DeviceCopy> From<DevPtr> for DevicePointer<T> {
    fn from(pointer: DevPtr) -> DevicePointer<T> {
        DevicePointer::from_raw(pointer.0)
    }
}
