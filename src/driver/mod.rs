//! The seam to a GPU: `trait Driver`, about thirty calls named after the CUDA driver API, so that NVIDIA's manual documents them.
//!
//! Everything above this module sees `dyn Driver` and the handles here; nothing above it names cudarc or the virtual
//! GPU. Not here: which kernel to launch with which grid (`backend/cuda`), and the kernels (`kernels/*.cu`).
//!
//! Two implementations exist, [`nvidia`] and [`vgpu`], the virtual GPU, and two decorators that wrap either: [`trace`] counts, [`fault`] fails
//! a chosen call. All of them may be used side by side in one process.

pub mod fault;
pub mod kernels;
pub mod nvidia;
pub mod observe;
pub mod ptxas;
pub mod sass;
pub mod trace;
pub mod vgpu;

mod error;
mod open;
mod types;

pub use error::{DriverError, codes};
pub use open::{first_gpu, open};
pub use types::{
    Clock, DevPtr, DeviceProps, Dims, EventId, Fill, GraphId, HostPtr, Image, KernelAttr, KernelId, ModuleId, StreamId,
};

/// What every call of [`Driver`] returns. Converts into [`crate::Error::Driver`] with `?`.
pub type Result<T> = std::result::Result<T, DriverError>;

/// One GPU: a context on a device, real or virtual.
///
/// Work on one stream runs in the order it was issued; work on different streams is ordered only by events. Like the real
/// thing, an error raised by a kernel is *sticky*: after an illegal address every later call on the device answers that error.
///
/// Handles belong to the driver that made them; a foreign or destroyed handle answers
/// [`codes::INVALID_HANDLE`], never undefined behaviour.
pub trait Driver: Send + Sync {
    /// What the device is and what its limits are. Fixed for the life of the driver.
    fn props(&self) -> &DeviceProps;

    /// Free and total device memory in bytes (`cuMemGetInfo`).
    fn mem_info(&self) -> Result<(u64, u64)>;

    // ---- modules and kernels ------------------------------------------------------------------------------------------

    /// Compiles and loads PTX (`cuModuleLoadDataEx`). On failure the detail of the error holds the JIT log.
    fn module_load(&self, image: &Image<'_>) -> Result<ModuleId>;

    /// Unloads a module; its kernels' handles die with it (`cuModuleUnload`).
    fn module_unload(&self, module: ModuleId) -> Result<()>;

    /// Looks an entry up by its name in the PTX (`cuModuleGetFunction`).
    fn kernel_get(&self, module: ModuleId, name: &str) -> Result<KernelId>;

    /// Registers, static shared memory and limits of a kernel (`cuFuncGetAttribute`).
    fn kernel_attr(&self, kernel: KernelId) -> Result<KernelAttr>;

    /// Allows `bytes` of dynamic shared memory per block, needed above 48 KiB
    /// (`cuFuncSetAttribute(MAX_DYNAMIC_SHARED_SIZE_BYTES)`).
    fn kernel_set_shared(&self, kernel: KernelId, bytes: u32) -> Result<()>;

    /// Blocks of this kernel that fit on one multiprocessor at a time (`cuOccupancyMaxActiveBlocksPerMultiprocessor`).
    fn occupancy(&self, kernel: KernelId, block_threads: u32, dynamic_shared: u32) -> Result<u32>;

    // ---- memory -------------------------------------------------------------------------------------------------------

    /// Allocates device memory, aligned to 256 bytes, content undefined (`cuMemAlloc`). Zero bytes is an error, as there.
    fn mem_alloc(&self, bytes: usize) -> Result<DevPtr>;

    /// Frees what [`Driver::mem_alloc`] gave; the pointer must be the start of the allocation (`cuMemFree`).
    fn mem_free(&self, ptr: DevPtr) -> Result<()>;

    /// Page-locked host memory, the only kind that copies really asynchronously (`cuMemHostAlloc`).
    fn host_alloc(&self, bytes: usize) -> Result<HostPtr>;

    /// Frees what [`Driver::host_alloc`] gave (`cuMemFreeHost`).
    fn host_free(&self, ptr: HostPtr) -> Result<()>;

    /// Copies host to device in stream order; `src` may be reused as soon as this returns. Not allowed while capturing.
    fn copy_htod(&self, dst: DevPtr, src: &[u8], stream: StreamId) -> Result<()>;

    /// Copies device to host in stream order and waits for it: `dst` holds the data when this returns. Not allowed while
    /// capturing.
    fn copy_dtoh(&self, dst: &mut [u8], src: DevPtr, stream: StreamId) -> Result<()>;

    /// Copies on the device (`cuMemcpyDtoDAsync`); the ranges must not overlap.
    fn copy_dtod(&self, dst: DevPtr, src: DevPtr, bytes: usize, stream: StreamId) -> Result<()>;

    /// Copies host to device without waiting (`cuMemcpyHtoDAsync`).
    ///
    /// # Safety
    /// `src` must be readable for `bytes` until the stream has passed this copy (for a captured copy: until the graph is
    /// destroyed).
    unsafe fn copy_htod_async(&self, dst: DevPtr, src: *const u8, bytes: usize, stream: StreamId) -> Result<()>;

    /// Copies device to host without waiting (`cuMemcpyDtoHAsync`).
    ///
    /// # Safety
    /// `dst` must be writable for `bytes`, and touched by nobody else, until the stream has passed this copy (for a captured
    /// copy: until the graph is destroyed).
    unsafe fn copy_dtoh_async(&self, dst: *mut u8, src: DevPtr, bytes: usize, stream: StreamId) -> Result<()>;

    /// Sets `count` elements of the pattern's width (`cuMemsetD8Async`, `D16`, `D32`).
    fn fill(&self, dst: DevPtr, pattern: Fill, count: usize, stream: StreamId) -> Result<()>;

    // ---- launch -------------------------------------------------------------------------------------------------------

    /// Launches a kernel (`cuLaunchKernel`). `params` is the parameter space of the kernel, laid out as its `.param` list
    /// declares, padding included; the generated launchers (`crate::driver::kernels`) make it.
    ///
    /// # Safety
    /// `params` must match the kernel's parameter list, and every pointer in it must be to device memory that is live and
    /// large enough for what the kernel does with it until the stream has passed the launch.
    unsafe fn launch(&self, kernel: KernelId, dims: Dims, stream: StreamId, params: &[u8]) -> Result<()>;

    // ---- streams and events -------------------------------------------------------------------------------------------

    /// Makes a stream that does not wait for the default stream (`cuStreamCreate(NON_BLOCKING)`).
    fn stream_create(&self) -> Result<StreamId>;

    /// Destroys a stream; queued work still runs to its end (`cuStreamDestroy`).
    fn stream_destroy(&self, stream: StreamId) -> Result<()>;

    /// Waits until everything issued to the stream has run (`cuStreamSynchronize`). Errors of kernels surface here at last.
    fn stream_sync(&self, stream: StreamId) -> Result<()>;

    /// Lets later work on `stream` wait for `event` (`cuStreamWaitEvent`).
    fn stream_wait(&self, stream: StreamId, event: EventId) -> Result<()>;

    /// Waits for the whole device (`cuCtxSynchronize`).
    fn device_sync(&self) -> Result<()>;

    /// Makes an event that keeps time (`cuEventCreate(DEFAULT)`).
    fn event_create(&self) -> Result<EventId>;

    /// Destroys an event (`cuEventDestroy`).
    fn event_destroy(&self, event: EventId) -> Result<()>;

    /// Marks this point of the stream (`cuEventRecord`).
    fn event_record(&self, event: EventId, stream: StreamId) -> Result<()>;

    /// Whether everything before the event has run (`cuEventQuery`).
    fn event_query(&self, event: EventId) -> Result<bool>;

    /// Waits for the event (`cuEventSynchronize`).
    fn event_sync(&self, event: EventId) -> Result<()>;

    /// Milliseconds from `start` to `end` (`cuEventElapsedTime`). Where [`DeviceProps::clock`] is [`Clock::Simulated`] this is
    /// the host's time to interpret the work and says nothing about a GPU.
    fn event_elapsed(&self, start: EventId, end: EventId) -> Result<f32>;

    // ---- graphs -------------------------------------------------------------------------------------------------------

    /// Records what is issued to `stream` instead of running it (`cuStreamBeginCapture`). Not on the default stream, and
    /// nothing that allocates or waits may happen on the stream until [`Driver::capture_end`].
    fn capture_begin(&self, stream: StreamId) -> Result<()>;

    /// Ends the recording and makes it launchable (`cuStreamEndCapture`, `cuGraphInstantiate`).
    fn capture_end(&self, stream: StreamId) -> Result<GraphId>;

    /// Runs a recorded graph in stream order (`cuGraphLaunch`).
    ///
    /// The launches inside it must still be sound: every allocation that the graph names must live.
    fn graph_launch(&self, graph: GraphId, stream: StreamId) -> Result<()>;

    /// Destroys a graph (`cuGraphExecDestroy`).
    fn graph_destroy(&self, graph: GraphId) -> Result<()>;
}
