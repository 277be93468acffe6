//! A driver that reports every call to an observer before it is forwarded, and lets the observer refuse it. [`super::trace`] and
//! [`super::fault`] are observers; nothing here knows what they do.

use std::sync::Arc;

use super::{
    DevPtr, DeviceProps, Dims, Driver, EventId, Fill, GraphId, HostPtr, Image, KernelAttr, KernelId, ModuleId, Result,
    StreamId,
};

/// A call that is about to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// The function of the driver API: `cuMemAlloc`.
    pub api: &'static str,
    /// Bytes that it moves, allocates or hands over; 0 where that means nothing.
    pub bytes: u64,
}

/// Looks at the calls of a driver.
pub trait Observer: Send + Sync {
    /// Before a call. An error is returned in its place, and the call does not happen.
    ///
    /// # Errors
    /// Whatever the observer wants the caller to see.
    fn before(&self, call: Call) -> Result<()>;

    /// PTX to load in place of a module's own.
    fn replacement(&self, _image: &Image<'_>) -> Option<String> {
        None
    }

    /// What the caller shall see in place of the device's properties.
    fn props(&self, props: DeviceProps) -> DeviceProps {
        props
    }

    /// After a kernel was looked up by its name.
    fn named(&self, _kernel: KernelId, _name: &str) {}

    /// Before a kernel is launched, or recorded while its stream captures. An error as in [`Observer::before`].
    ///
    /// # Errors
    /// As [`Observer::before`].
    fn launching(&self, _kernel: KernelId, _dims: Dims) -> Result<()> {
        Ok(())
    }

    /// After device memory was allocated.
    fn allocated(&self, _ptr: DevPtr, _bytes: usize) {}

    /// After device memory was freed.
    fn freed(&self, _ptr: DevPtr) {}
}

/// `inner` under observation.
pub struct Observed<O> {
    inner: Arc<dyn Driver>,
    props: DeviceProps,
    observer: O,
}

impl<O: Observer> Observed<O> {
    /// Puts `observer` in front of `inner`.
    pub fn new(inner: Arc<dyn Driver>, observer: O) -> Observed<O> {
        let props = observer.props(inner.props().clone());
        Observed { inner, props, observer }
    }

    /// The observer.
    pub fn observer(&self) -> &O {
        &self.observer
    }

    fn before(&self, api: &'static str, bytes: usize) -> Result<()> {
        self.observer.before(Call { api, bytes: bytes as u64 })
    }
}

impl<O: Observer> Driver for Observed<O> {
    fn props(&self) -> &DeviceProps {
        &self.props
    }

    fn mem_info(&self) -> Result<(u64, u64)> {
        self.before("cuMemGetInfo", 0)?;
        self.inner.mem_info()
    }

    fn module_load(&self, image: &Image<'_>) -> Result<ModuleId> {
        self.before("cuModuleLoadDataEx", image.ptx.len())?;
        let other = self.observer.replacement(image);
        self.inner.module_load(&Image { ptx: other.as_deref().unwrap_or(image.ptx), ..*image })
    }

    fn module_unload(&self, module: ModuleId) -> Result<()> {
        self.before("cuModuleUnload", 0)?;
        self.inner.module_unload(module)
    }

    fn kernel_get(&self, module: ModuleId, name: &str) -> Result<KernelId> {
        self.before("cuModuleGetFunction", 0)?;
        let kernel = self.inner.kernel_get(module, name)?;
        self.observer.named(kernel, name);
        Ok(kernel)
    }

    fn kernel_attr(&self, kernel: KernelId) -> Result<KernelAttr> {
        self.before("cuFuncGetAttribute", 0)?;
        self.inner.kernel_attr(kernel)
    }

    fn kernel_set_shared(&self, kernel: KernelId, bytes: u32) -> Result<()> {
        self.before("cuFuncSetAttribute", 0)?;
        self.inner.kernel_set_shared(kernel, bytes)
    }

    fn occupancy(&self, kernel: KernelId, block_threads: u32, dynamic_shared: u32) -> Result<u32> {
        self.before("cuOccupancyMaxActiveBlocksPerMultiprocessor", 0)?;
        self.inner.occupancy(kernel, block_threads, dynamic_shared)
    }

    fn mem_alloc(&self, bytes: usize) -> Result<DevPtr> {
        self.before("cuMemAlloc", bytes)?;
        let ptr = self.inner.mem_alloc(bytes)?;
        self.observer.allocated(ptr, bytes);
        Ok(ptr)
    }

    fn mem_free(&self, ptr: DevPtr) -> Result<()> {
        self.before("cuMemFree", 0)?;
        self.inner.mem_free(ptr)?;
        self.observer.freed(ptr);
        Ok(())
    }

    fn host_alloc(&self, bytes: usize) -> Result<HostPtr> {
        self.before("cuMemHostAlloc", bytes)?;
        self.inner.host_alloc(bytes)
    }

    fn host_free(&self, ptr: HostPtr) -> Result<()> {
        self.before("cuMemFreeHost", 0)?;
        self.inner.host_free(ptr)
    }

    fn copy_htod(&self, dst: DevPtr, src: &[u8], stream: StreamId) -> Result<()> {
        self.before("cuMemcpyHtoD", src.len())?;
        self.inner.copy_htod(dst, src, stream)
    }

    fn copy_dtoh(&self, dst: &mut [u8], src: DevPtr, stream: StreamId) -> Result<()> {
        self.before("cuMemcpyDtoH", dst.len())?;
        self.inner.copy_dtoh(dst, src, stream)
    }

    fn copy_dtod(&self, dst: DevPtr, src: DevPtr, bytes: usize, stream: StreamId) -> Result<()> {
        self.before("cuMemcpyDtoDAsync", bytes)?;
        self.inner.copy_dtod(dst, src, bytes, stream)
    }

    unsafe fn copy_htod_async(&self, dst: DevPtr, src: *const u8, bytes: usize, stream: StreamId) -> Result<()> {
        self.before("cuMemcpyHtoDAsync", bytes)?;
        // SAFETY: the caller's promise, passed on.
        unsafe { self.inner.copy_htod_async(dst, src, bytes, stream) }
    }

    unsafe fn copy_dtoh_async(&self, dst: *mut u8, src: DevPtr, bytes: usize, stream: StreamId) -> Result<()> {
        self.before("cuMemcpyDtoHAsync", bytes)?;
        // SAFETY: the caller's promise, passed on.
        unsafe { self.inner.copy_dtoh_async(dst, src, bytes, stream) }
    }

    fn fill(&self, dst: DevPtr, pattern: Fill, count: usize, stream: StreamId) -> Result<()> {
        self.before("cuMemsetD", count * pattern.width())?;
        self.inner.fill(dst, pattern, count, stream)
    }

    unsafe fn launch(&self, kernel: KernelId, dims: Dims, stream: StreamId, params: &[u8]) -> Result<()> {
        self.before("cuLaunchKernel", params.len())?;
        self.observer.launching(kernel, dims)?;
        // SAFETY: the caller's promise, passed on.
        unsafe { self.inner.launch(kernel, dims, stream, params) }
    }

    fn stream_create(&self) -> Result<StreamId> {
        self.before("cuStreamCreate", 0)?;
        self.inner.stream_create()
    }

    fn stream_destroy(&self, stream: StreamId) -> Result<()> {
        self.before("cuStreamDestroy", 0)?;
        self.inner.stream_destroy(stream)
    }

    fn stream_sync(&self, stream: StreamId) -> Result<()> {
        self.before("cuStreamSynchronize", 0)?;
        self.inner.stream_sync(stream)
    }

    fn stream_wait(&self, stream: StreamId, event: EventId) -> Result<()> {
        self.before("cuStreamWaitEvent", 0)?;
        self.inner.stream_wait(stream, event)
    }

    fn device_sync(&self) -> Result<()> {
        self.before("cuCtxSynchronize", 0)?;
        self.inner.device_sync()
    }

    fn event_create(&self) -> Result<EventId> {
        self.before("cuEventCreate", 0)?;
        self.inner.event_create()
    }

    fn event_destroy(&self, event: EventId) -> Result<()> {
        self.before("cuEventDestroy", 0)?;
        self.inner.event_destroy(event)
    }

    fn event_record(&self, event: EventId, stream: StreamId) -> Result<()> {
        self.before("cuEventRecord", 0)?;
        self.inner.event_record(event, stream)
    }

    fn event_query(&self, event: EventId) -> Result<bool> {
        self.before("cuEventQuery", 0)?;
        self.inner.event_query(event)
    }

    fn event_sync(&self, event: EventId) -> Result<()> {
        self.before("cuEventSynchronize", 0)?;
        self.inner.event_sync(event)
    }

    fn event_elapsed(&self, start: EventId, end: EventId) -> Result<f32> {
        self.before("cuEventElapsedTime", 0)?;
        self.inner.event_elapsed(start, end)
    }

    fn capture_begin(&self, stream: StreamId) -> Result<()> {
        self.before("cuStreamBeginCapture", 0)?;
        self.inner.capture_begin(stream)
    }

    fn capture_end(&self, stream: StreamId) -> Result<GraphId> {
        self.before("cuStreamEndCapture", 0)?;
        self.inner.capture_end(stream)
    }

    fn graph_launch(&self, graph: GraphId, stream: StreamId) -> Result<()> {
        self.before("cuGraphLaunch", 0)?;
        self.inner.graph_launch(graph, stream)
    }

    fn graph_destroy(&self, graph: GraphId) -> Result<()> {
        self.before("cuGraphExecDestroy", 0)?;
        self.inner.graph_destroy(graph)
    }
}
