//! The calls of [`Driver`], forwarded one to one. Each makes the context current first, so any thread may call.

use std::ffi::{CString, c_void};
use std::ptr;

use cudarc::driver::sys::{CUevent, CUfunction, CUfunction_attribute as FunctionAttribute, CUjit_option, CUstream};
use cudarc::driver::sys::{CUresult, CUstreamCaptureMode};

use super::library::{check, cu};
use super::{Nvidia, Raw, unknown};
use crate::driver::{
    DevPtr, DeviceProps, Dims, Driver, DriverError, EventId, Fill, GraphId, HostPtr, Image, KernelAttr, KernelId,
    ModuleId, Result, StreamId, codes,
};

/// Room for the JIT's log; ptxas names the first errors, the rest is cut.
const LOG_BYTES: usize = 16 << 10;
/// Markers of `cuLaunchKernel`'s `extra` list (cuda.h).
const PARAM_BUFFER_POINTER: *mut c_void = ptr::without_provenance_mut(1);
const PARAM_BUFFER_SIZE: *mut c_void = ptr::without_provenance_mut(2);
const PARAM_END: *mut c_void = ptr::null_mut();
/// `CU_STREAM_NON_BLOCKING`.
const NON_BLOCKING: u32 = 1;

impl Nvidia {
    fn stream(&self, call: &'static str, stream: StreamId) -> Result<CUstream> {
        self.bind()?;
        self.stream_as_raw(stream).map(|s| s.cast()).map_err(|_| unknown(call, "stream"))
    }

    fn event(&self, call: &'static str, event: EventId) -> Result<CUevent> {
        self.bind()?;
        self.tables().events.get(&event.0).map(|e| e.0.cast()).ok_or_else(|| unknown(call, "event"))
    }

    fn function(&self, call: &'static str, kernel: KernelId) -> Result<CUfunction> {
        self.bind()?;
        self.tables().kernels.get(&kernel.0).map(|k| k.0.0.cast()).ok_or_else(|| unknown(call, "kernel"))
    }
}

impl Driver for Nvidia {
    fn props(&self) -> &DeviceProps {
        &self.props
    }

    fn mem_info(&self) -> Result<(u64, u64)> {
        self.bind()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: both places are valid.
        unsafe { cu!(cuMemGetInfo_v2(&mut free, &mut total))? };
        Ok((free as u64, total as u64))
    }

    fn module_load(&self, image: &Image<'_>) -> Result<ModuleId> {
        self.bind()?;
        let text = CString::new(image.ptx)
            .map_err(|_| DriverError::new("cuModuleLoadDataEx", codes::INVALID_IMAGE, "a zero byte in the PTX"))?;
        let mut log = vec![0u8; LOG_BYTES];
        let mut options = [CUjit_option::CU_JIT_ERROR_LOG_BUFFER, CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
        // The size goes by value in a pointer's place; the driver writes the bytes used back into it.
        let mut values = [log.as_mut_ptr().cast::<c_void>(), ptr::without_provenance_mut(LOG_BYTES)];
        let mut module = ptr::null_mut();
        // SAFETY: the image is zero-terminated text; options and values have two entries each, the log buffer its stated size.
        let result = unsafe {
            cu!(cuModuleLoadDataEx(&mut module, text.as_ptr().cast(), 2, options.as_mut_ptr(), values.as_mut_ptr()))
        };
        if let Err(mut error) = result {
            let used = log.iter().position(|&b| b == 0).unwrap_or(log.len());
            let log = String::from_utf8_lossy(&log[..used]);
            error.detail = format!("module {}: {}\n{}", image.name, error.detail, log.trim());
            return Err(error);
        }
        let mut tables = self.tables();
        let id = tables.id();
        tables.modules.insert(id, Raw(module.cast()));
        Ok(ModuleId(id))
    }

    fn module_unload(&self, module: ModuleId) -> Result<()> {
        self.bind()?;
        let mut tables = self.tables();
        let raw = tables.modules.remove(&module.0).ok_or_else(|| unknown("cuModuleUnload", "module"))?;
        tables.kernels.retain(|_, k| k.1 != module.0);
        // SAFETY: the module was live and is forgotten with its kernels.
        unsafe { cu!(cuModuleUnload(raw.0.cast())) }
    }

    fn kernel_get(&self, module: ModuleId, name: &str) -> Result<KernelId> {
        self.bind()?;
        let mut tables = self.tables();
        let raw = *tables.modules.get(&module.0).ok_or_else(|| unknown("cuModuleGetFunction", "module"))?;
        let symbol = CString::new(name).map_err(|_| DriverError::new("cuModuleGetFunction", codes::NOT_FOUND, name))?;
        let mut function = ptr::null_mut();
        // SAFETY: the module is live, the name zero-terminated.
        unsafe { cu!(cuModuleGetFunction(&mut function, raw.0.cast(), symbol.as_ptr())) }.map_err(|mut e| {
            e.detail = format!("kernel {name}: {}", e.detail);
            e
        })?;
        let id = tables.id();
        tables.kernels.insert(id, (Raw(function.cast()), module.0));
        Ok(KernelId(id))
    }

    fn kernel_attr(&self, kernel: KernelId) -> Result<KernelAttr> {
        let function = self.function("cuFuncGetAttribute", kernel)?;
        let attribute = |which: FunctionAttribute| -> Result<u32> {
            let mut value = 0;
            // SAFETY: the place is valid, the function live.
            unsafe { cu!(cuFuncGetAttribute(&mut value, which, function))? };
            Ok(value.max(0) as u32)
        };
        Ok(KernelAttr {
            regs: attribute(FunctionAttribute::CU_FUNC_ATTRIBUTE_NUM_REGS)?,
            local_bytes: attribute(FunctionAttribute::CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES)?,
            shared_bytes: attribute(FunctionAttribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)?,
            max_threads: attribute(FunctionAttribute::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK)?,
        })
    }

    fn kernel_set_shared(&self, kernel: KernelId, bytes: u32) -> Result<()> {
        let function = self.function("cuFuncSetAttribute", kernel)?;
        let which = FunctionAttribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: the function is live.
        unsafe { cu!(cuFuncSetAttribute(function, which, bytes.min(i32::MAX as u32) as i32)) }
    }

    fn occupancy(&self, kernel: KernelId, block_threads: u32, dynamic_shared: u32) -> Result<u32> {
        let function = self.function("cuOccupancyMaxActiveBlocksPerMultiprocessor", kernel)?;
        let mut blocks = 0;
        let threads = block_threads.min(i32::MAX as u32) as i32;
        // SAFETY: the place is valid, the function live.
        unsafe {
            cu!(cuOccupancyMaxActiveBlocksPerMultiprocessor(&mut blocks, function, threads, dynamic_shared as usize))?
        };
        Ok(blocks.max(0) as u32)
    }

    fn mem_alloc(&self, bytes: usize) -> Result<DevPtr> {
        self.bind()?;
        let mut address = 0;
        // SAFETY: the place is valid.
        unsafe { cu!(cuMemAlloc_v2(&mut address, bytes)) }.map_err(|mut e| {
            e.detail = format!("{bytes} bytes: {}", e.detail);
            e
        })?;
        Ok(DevPtr(address))
    }

    fn mem_free(&self, ptr: DevPtr) -> Result<()> {
        self.bind()?;
        // SAFETY: the driver checks that it made this address.
        unsafe { cu!(cuMemFree_v2(ptr.0)) }
    }

    fn host_alloc(&self, bytes: usize) -> Result<HostPtr> {
        self.bind()?;
        let mut address = ptr::null_mut();
        // SAFETY: the place is valid; flags 0 is plain cached memory, good to read back from.
        unsafe { cu!(cuMemHostAlloc(&mut address, bytes, 0))? };
        Ok(HostPtr { ptr: address.cast(), bytes })
    }

    fn host_free(&self, ptr: HostPtr) -> Result<()> {
        self.bind()?;
        // SAFETY: the driver checks that it made this address.
        unsafe { cu!(cuMemFreeHost(ptr.ptr.cast())) }
    }

    fn copy_htod(&self, dst: DevPtr, src: &[u8], stream: StreamId) -> Result<()> {
        // SAFETY: `src` outlives the copy, which is waited for: page-locked memory would otherwise still be read.
        unsafe { self.copy_htod_async(dst, src.as_ptr(), src.len(), stream)? };
        self.stream_sync(stream)
    }

    fn copy_dtoh(&self, dst: &mut [u8], src: DevPtr, stream: StreamId) -> Result<()> {
        // SAFETY: `dst` is borrowed until the copy has been waited for.
        unsafe { self.copy_dtoh_async(dst.as_mut_ptr(), src, dst.len(), stream)? };
        self.stream_sync(stream)
    }

    fn copy_dtod(&self, dst: DevPtr, src: DevPtr, bytes: usize, stream: StreamId) -> Result<()> {
        let stream = self.stream("cuMemcpyDtoDAsync", stream)?;
        // SAFETY: device addresses, checked by the driver.
        unsafe { cu!(cuMemcpyDtoDAsync_v2(dst.0, src.0, bytes, stream)) }
    }

    unsafe fn copy_htod_async(&self, dst: DevPtr, src: *const u8, bytes: usize, stream: StreamId) -> Result<()> {
        let stream = self.stream("cuMemcpyHtoDAsync", stream)?;
        // SAFETY: the caller keeps `src` readable.
        unsafe { cu!(cuMemcpyHtoDAsync_v2(dst.0, src.cast(), bytes, stream)) }
    }

    unsafe fn copy_dtoh_async(&self, dst: *mut u8, src: DevPtr, bytes: usize, stream: StreamId) -> Result<()> {
        let stream = self.stream("cuMemcpyDtoHAsync", stream)?;
        // SAFETY: the caller keeps `dst` writable.
        unsafe { cu!(cuMemcpyDtoHAsync_v2(dst.cast(), src.0, bytes, stream)) }
    }

    fn fill(&self, dst: DevPtr, pattern: Fill, count: usize, stream: StreamId) -> Result<()> {
        let stream = self.stream("cuMemsetD8Async", stream)?;
        // SAFETY: a device address, checked by the driver.
        unsafe {
            match pattern {
                Fill::U8(value) => cu!(cuMemsetD8Async(dst.0, value, count, stream)),
                Fill::U16(value) => cu!(cuMemsetD16Async(dst.0, value, count, stream)),
                Fill::U32(value) => cu!(cuMemsetD32Async(dst.0, value, count, stream)),
            }
        }
    }

    unsafe fn launch(&self, kernel: KernelId, dims: Dims, stream: StreamId, params: &[u8]) -> Result<()> {
        let function = self.function("cuLaunchKernel", kernel)?;
        let stream = self.stream("cuLaunchKernel", stream)?;
        let mut size = params.len();
        let mut extra = [
            PARAM_BUFFER_POINTER,
            params.as_ptr().cast_mut().cast::<c_void>(),
            PARAM_BUFFER_SIZE,
            (&raw mut size).cast::<c_void>(),
            PARAM_END,
        ];
        let ([gx, gy, gz], [bx, by, bz]) = (dims.grid, dims.block);
        // SAFETY: the driver copies the parameters before it returns; that they fit the kernel is the caller's promise.
        unsafe {
            cu!(cuLaunchKernel(
                function,
                gx,
                gy,
                gz,
                bx,
                by,
                bz,
                dims.shared,
                stream,
                ptr::null_mut(),
                extra.as_mut_ptr()
            ))
        }
    }

    fn stream_create(&self) -> Result<StreamId> {
        self.bind()?;
        let mut stream = ptr::null_mut();
        // SAFETY: the place is valid.
        unsafe { cu!(cuStreamCreate(&mut stream, NON_BLOCKING))? };
        let mut tables = self.tables();
        let id = tables.id();
        tables.streams.insert(id, (Raw(stream.cast()), true));
        Ok(StreamId(id))
    }

    fn stream_destroy(&self, stream: StreamId) -> Result<()> {
        self.bind()?;
        let (raw, ours) =
            self.tables().streams.remove(&stream.0).ok_or_else(|| unknown("cuStreamDestroy", "stream"))?;
        if !ours {
            return Ok(()); // borrowed from the embedding program: only forgotten
        }
        // SAFETY: the stream was live and is forgotten.
        unsafe { cu!(cuStreamDestroy_v2(raw.0.cast())) }
    }

    fn stream_sync(&self, stream: StreamId) -> Result<()> {
        let stream = self.stream("cuStreamSynchronize", stream)?;
        // SAFETY: the stream is live.
        unsafe { cu!(cuStreamSynchronize(stream)) }
    }

    fn stream_wait(&self, stream: StreamId, event: EventId) -> Result<()> {
        let (stream, event) = (self.stream("cuStreamWaitEvent", stream)?, self.event("cuStreamWaitEvent", event)?);
        // SAFETY: both are live.
        unsafe { cu!(cuStreamWaitEvent(stream, event, 0)) }
    }

    fn device_sync(&self) -> Result<()> {
        self.bind()?;
        // SAFETY: no arguments.
        unsafe { cu!(cuCtxSynchronize()) }
    }

    fn event_create(&self) -> Result<EventId> {
        self.bind()?;
        let mut event = ptr::null_mut();
        // SAFETY: the place is valid.
        unsafe { cu!(cuEventCreate(&mut event, 0))? };
        let mut tables = self.tables();
        let id = tables.id();
        tables.events.insert(id, Raw(event.cast()));
        Ok(EventId(id))
    }

    fn event_destroy(&self, event: EventId) -> Result<()> {
        self.bind()?;
        let raw = self.tables().events.remove(&event.0).ok_or_else(|| unknown("cuEventDestroy", "event"))?;
        // SAFETY: the event was live and is forgotten.
        unsafe { cu!(cuEventDestroy_v2(raw.0.cast())) }
    }

    fn event_record(&self, event: EventId, stream: StreamId) -> Result<()> {
        let (event, stream) = (self.event("cuEventRecord", event)?, self.stream("cuEventRecord", stream)?);
        // SAFETY: both are live.
        unsafe { cu!(cuEventRecord(event, stream)) }
    }

    fn event_query(&self, event: EventId) -> Result<bool> {
        let event = self.event("cuEventQuery", event)?;
        // SAFETY: the event is live.
        match unsafe { cudarc::driver::sys::cuEventQuery(event) } {
            CUresult::CUDA_ERROR_NOT_READY => Ok(false),
            other => check("cuEventQuery", other).map(|()| true),
        }
    }

    fn event_sync(&self, event: EventId) -> Result<()> {
        let event = self.event("cuEventSynchronize", event)?;
        // SAFETY: the event is live.
        unsafe { cu!(cuEventSynchronize(event)) }
    }

    fn event_elapsed(&self, start: EventId, end: EventId) -> Result<f32> {
        let (start, end) = (self.event("cuEventElapsedTime", start)?, self.event("cuEventElapsedTime", end)?);
        let mut milliseconds = 0.0;
        // SAFETY: both are live, the place is valid.
        unsafe { cu!(cuEventElapsedTime(&mut milliseconds, start, end))? };
        Ok(milliseconds)
    }

    fn capture_begin(&self, stream: StreamId) -> Result<()> {
        let stream = self.stream("cuStreamBeginCapture", stream)?;
        // Thread-local: another thread may allocate meanwhile, this one is refused what cannot be captured.
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is live.
        unsafe { cu!(cuStreamBeginCapture_v2(stream, mode)) }
    }

    fn capture_end(&self, stream: StreamId) -> Result<GraphId> {
        let stream = self.stream("cuStreamEndCapture", stream)?;
        let (mut graph, mut exec) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: the stream is live; the graph is destroyed once, after it was made executable or that failed.
        unsafe {
            cu!(cuStreamEndCapture(stream, &mut graph))?;
            if graph.is_null() {
                return Err(DriverError::new(
                    "cuStreamEndCapture",
                    codes::CAPTURE_UNSUPPORTED,
                    "the capture was invalidated",
                ));
            }
            let made = cu!(cuGraphInstantiateWithFlags(&mut exec, graph, 0));
            let freed = cu!(cuGraphDestroy(graph));
            made.and(freed)?;
        }
        let mut tables = self.tables();
        let id = tables.id();
        tables.graphs.insert(id, Raw(exec.cast()));
        Ok(GraphId(id))
    }

    fn graph_launch(&self, graph: GraphId, stream: StreamId) -> Result<()> {
        let stream = self.stream("cuGraphLaunch", stream)?;
        let raw = self.tables().graphs.get(&graph.0).copied().ok_or_else(|| unknown("cuGraphLaunch", "graph"))?;
        // SAFETY: both are live; that what was captured still is, is the caller's contract for captured launches.
        unsafe { cu!(cuGraphLaunch(raw.0.cast(), stream)) }
    }

    fn graph_destroy(&self, graph: GraphId) -> Result<()> {
        self.bind()?;
        let raw = self.tables().graphs.remove(&graph.0).ok_or_else(|| unknown("cuGraphExecDestroy", "graph"))?;
        // SAFETY: the graph was live and is forgotten.
        unsafe { cu!(cuGraphExecDestroy(raw.0.cast())) }
    }
}
