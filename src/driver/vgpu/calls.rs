//! The calls of [`Driver`] on a virtual device.

use std::time::Instant;

use super::{Command, HostRange, State, Vgpu, event_of, invalid};
use crate::driver::{
    DevPtr, DeviceProps, Dims, Driver, DriverError, EventId, Fill, GraphId, HostPtr, Image, KernelAttr, KernelId,
    ModuleId, Result, StreamId, codes,
};
use crate::vgpu::device::LoadError;

fn load_error(call: &'static str, error: &LoadError) -> DriverError {
    let code = match error {
        LoadError::Memory { .. } => codes::OUT_OF_MEMORY,
        LoadError::NoKernel { .. } => codes::NOT_FOUND,
        _ if error.unsupported() => codes::NOT_SUPPORTED,
        _ => codes::INVALID_PTX,
    };
    DriverError::new(call, code, error.to_string())
}

impl State {
    fn kernel(&self, call: &'static str, kernel: KernelId) -> Result<crate::vgpu::device::KernelId> {
        self.kernels.get(&kernel.0).map(|k| k.0).ok_or_else(|| invalid(call))
    }
}

impl Driver for Vgpu {
    fn props(&self) -> &DeviceProps {
        &self.props
    }

    fn mem_info(&self) -> Result<(u64, u64)> {
        Ok(self.healthy("cuMemGetInfo")?.device.mem_info())
    }

    fn module_load(&self, image: &Image<'_>) -> Result<ModuleId> {
        const CALL: &str = "cuModuleLoadDataEx";
        let mut state = self.healthy(CALL)?;
        let module = state.device.load(image.name, image.ptx).map_err(|e| load_error(CALL, &e))?;
        // As a driver does, everything is compiled at once: a kernel that cannot run must not be found out later.
        for entry in state.device.entries(module) {
            if let Err(e) = state.device.kernel(module, &entry) {
                state.device.unload(module);
                return Err(load_error(CALL, &e));
            }
        }
        let id = state.id();
        state.modules.insert(id, module);
        Ok(ModuleId(id))
    }

    fn module_unload(&self, module: ModuleId) -> Result<()> {
        const CALL: &str = "cuModuleUnload";
        let mut state = self.healthy(CALL)?;
        let device_module = state.modules.remove(&module.0).ok_or_else(|| invalid(CALL))?;
        state.kernels.retain(|_, kernel| kernel.1 != module.0);
        state.device.unload(device_module);
        Ok(())
    }

    fn kernel_get(&self, module: ModuleId, name: &str) -> Result<KernelId> {
        const CALL: &str = "cuModuleGetFunction";
        let mut state = self.healthy(CALL)?;
        let device_module = *state.modules.get(&module.0).ok_or_else(|| invalid(CALL))?;
        let kernel = state.device.kernel(device_module, name).map_err(|e| load_error(CALL, &e))?;
        let id = state.id();
        state.kernels.insert(id, (kernel, module.0));
        Ok(KernelId(id))
    }

    fn kernel_attr(&self, kernel: KernelId) -> Result<KernelAttr> {
        const CALL: &str = "cuFuncGetAttribute";
        let state = self.healthy(CALL)?;
        let code = state.device.code(state.kernel(CALL, kernel)?);
        let most = code.reqntid.or(code.maxntid).map(|n| n.iter().map(|&v| v.max(1)).product());
        Ok(KernelAttr {
            regs: 0,
            local_bytes: code.local_bytes,
            shared_bytes: code.shared_bytes,
            max_threads: most.unwrap_or(self.props.max_threads_per_block).min(self.props.max_threads_per_block),
        })
    }

    fn kernel_set_shared(&self, kernel: KernelId, bytes: u32) -> Result<()> {
        const CALL: &str = "cuFuncSetAttribute";
        let mut state = self.healthy(CALL)?;
        let kernel = state.kernel(CALL, kernel)?;
        if state.device.set_shared(kernel, bytes) {
            return Ok(());
        }
        let most = self.props.shared_per_block_optin;
        let what = format!("{bytes} bytes beside the kernel's static shared memory, a block can have {most}");
        Err(DriverError::new(CALL, codes::INVALID_VALUE, what))
    }

    fn occupancy(&self, kernel: KernelId, block_threads: u32, dynamic_shared: u32) -> Result<u32> {
        const CALL: &str = "cuOccupancyMaxActiveBlocksPerMultiprocessor";
        let state = self.healthy(CALL)?;
        let code = state.device.code(state.kernel(CALL, kernel)?);
        let shared = code.shared_bytes.saturating_add(dynamic_shared);
        Ok(state.device.options().limits.occupancy(block_threads, 0, shared))
    }

    fn mem_alloc(&self, bytes: usize) -> Result<DevPtr> {
        const CALL: &str = "cuMemAlloc";
        let mut state = self.healthy(CALL)?;
        if bytes == 0 {
            return Err(DriverError::new(CALL, codes::INVALID_VALUE, "0 bytes"));
        }
        let free = state.device.mem_info().0;
        let address = state.device.alloc(bytes as u64, None);
        let what = || format!("{bytes} bytes asked, {free} free");
        address.map(DevPtr).ok_or_else(|| DriverError::new(CALL, codes::OUT_OF_MEMORY, what()))
    }

    fn mem_free(&self, ptr: DevPtr) -> Result<()> {
        const CALL: &str = "cuMemFree";
        let mut state = self.healthy(CALL)?;
        if state.device.free(ptr.0) {
            return Ok(());
        }
        let what = match state.device.place(ptr.0) {
            Some(place) if !place.live => format!("{:#x}: {} was freed before", ptr.0, place.label),
            Some(place) => format!("{:#x} is byte {} of {}, not its start", ptr.0, place.offset, place.label),
            None => format!("{:#x} is no device address", ptr.0),
        };
        Err(DriverError::new(CALL, codes::INVALID_VALUE, what))
    }

    fn host_alloc(&self, bytes: usize) -> Result<HostPtr> {
        const CALL: &str = "cuMemHostAlloc";
        let mut state = self.healthy(CALL)?;
        if bytes == 0 {
            return Err(DriverError::new(CALL, codes::INVALID_VALUE, "0 bytes"));
        }
        let mut block = vec![0u64; bytes.div_ceil(8)].into_boxed_slice();
        let ptr = block.as_mut_ptr().cast::<u8>();
        state.pinned.insert(ptr as usize, block);
        Ok(HostPtr { ptr, bytes })
    }

    fn host_free(&self, ptr: HostPtr) -> Result<()> {
        const CALL: &str = "cuMemFreeHost";
        let mut state = self.healthy(CALL)?;
        state.pinned.remove(&(ptr.ptr as usize)).map(drop).ok_or_else(|| invalid(CALL))
    }

    fn copy_htod(&self, dst: DevPtr, src: &[u8], stream: StreamId) -> Result<()> {
        const CALL: &str = "cuMemcpyHtoD";
        let mut state = self.healthy(CALL)?;
        state.may_wait(CALL, stream)?;
        let from = HostRange { ptr: src.as_ptr().cast_mut(), bytes: src.len() };
        state.run(CALL, &Command::ToDevice { to: dst, from })
    }

    fn copy_dtoh(&self, dst: &mut [u8], src: DevPtr, stream: StreamId) -> Result<()> {
        const CALL: &str = "cuMemcpyDtoH";
        let mut state = self.healthy(CALL)?;
        state.may_wait(CALL, stream)?;
        let to = HostRange { ptr: dst.as_mut_ptr(), bytes: dst.len() };
        state.run(CALL, &Command::ToHost { to, from: src })
    }

    fn copy_dtod(&self, dst: DevPtr, src: DevPtr, bytes: usize, stream: StreamId) -> Result<()> {
        const CALL: &str = "cuMemcpyDtoDAsync";
        let mut state = self.healthy(CALL)?;
        state.issue(CALL, stream, Command::OnDevice { to: dst, from: src, bytes })
    }

    unsafe fn copy_htod_async(&self, dst: DevPtr, src: *const u8, bytes: usize, stream: StreamId) -> Result<()> {
        const CALL: &str = "cuMemcpyHtoDAsync";
        let mut state = self.healthy(CALL)?;
        let from = HostRange { ptr: src.cast_mut(), bytes };
        state.issue(CALL, stream, Command::ToDevice { to: dst, from })
    }

    unsafe fn copy_dtoh_async(&self, dst: *mut u8, src: DevPtr, bytes: usize, stream: StreamId) -> Result<()> {
        const CALL: &str = "cuMemcpyDtoHAsync";
        let mut state = self.healthy(CALL)?;
        state.issue(CALL, stream, Command::ToHost { to: HostRange { ptr: dst, bytes }, from: src })
    }

    fn fill(&self, dst: DevPtr, pattern: Fill, count: usize, stream: StreamId) -> Result<()> {
        const CALL: &str = "cuMemsetD";
        let mut state = self.healthy(CALL)?;
        if !dst.0.is_multiple_of(pattern.width() as u64) {
            let what = format!("{:#x} is not aligned to {} bytes", dst.0, pattern.width());
            return Err(DriverError::new(CALL, codes::INVALID_VALUE, what));
        }
        state.issue(CALL, stream, Command::Fill { to: dst, pattern, count })
    }

    unsafe fn launch(&self, kernel: KernelId, dims: Dims, stream: StreamId, params: &[u8]) -> Result<()> {
        const CALL: &str = "cuLaunchKernel";
        let mut state = self.healthy(CALL)?;
        let kernel = state.kernel(CALL, kernel)?;
        state.issue(CALL, stream, Command::Launch { kernel, dims, params: params.to_vec() })
    }

    fn stream_create(&self) -> Result<StreamId> {
        let mut state = self.healthy("cuStreamCreate")?;
        let id = state.id();
        state.streams.insert(id, None);
        Ok(StreamId(id))
    }

    fn stream_destroy(&self, stream: StreamId) -> Result<()> {
        const CALL: &str = "cuStreamDestroy";
        self.healthy(CALL)?.streams.remove(&stream.0).map(drop).ok_or_else(|| invalid(CALL))
    }

    fn stream_sync(&self, stream: StreamId) -> Result<()> {
        const CALL: &str = "cuStreamSynchronize";
        self.healthy(CALL)?.may_wait(CALL, stream)
    }

    fn stream_wait(&self, stream: StreamId, event: EventId) -> Result<()> {
        const CALL: &str = "cuStreamWaitEvent";
        let mut state = self.healthy(CALL)?;
        event_of(&state.events, CALL, event)?;
        state.issue(CALL, stream, Command::Nothing)
    }

    fn device_sync(&self) -> Result<()> {
        const CALL: &str = "cuCtxSynchronize";
        let state = self.healthy(CALL)?;
        match state.streams.values().any(Option::is_some) {
            true => Err(DriverError::new(CALL, codes::CAPTURE_UNSUPPORTED, "a stream is capturing; this call waits")),
            false => Ok(()),
        }
    }

    fn event_create(&self) -> Result<EventId> {
        let mut state = self.healthy("cuEventCreate")?;
        let id = state.id();
        state.events.insert(id, None);
        Ok(EventId(id))
    }

    fn event_destroy(&self, event: EventId) -> Result<()> {
        const CALL: &str = "cuEventDestroy";
        self.healthy(CALL)?.events.remove(&event.0).map(drop).ok_or_else(|| invalid(CALL))
    }

    fn event_record(&self, event: EventId, stream: StreamId) -> Result<()> {
        const CALL: &str = "cuEventRecord";
        let mut state = self.healthy(CALL)?;
        event_of(&state.events, CALL, event)?;
        state.issue(CALL, stream, Command::Record { event: event.0 })
    }

    fn event_query(&self, event: EventId) -> Result<bool> {
        const CALL: &str = "cuEventQuery";
        // Everything issued has run; an event that was never recorded counts as complete, as with the real driver.
        event_of(&self.healthy(CALL)?.events, CALL, event).map(|_| true)
    }

    fn event_sync(&self, event: EventId) -> Result<()> {
        const CALL: &str = "cuEventSynchronize";
        event_of(&self.healthy(CALL)?.events, CALL, event).map(drop)
    }

    fn event_elapsed(&self, start: EventId, end: EventId) -> Result<f32> {
        const CALL: &str = "cuEventElapsedTime";
        let state = self.healthy(CALL)?;
        let at = |event| -> Result<Instant> {
            event_of(&state.events, CALL, event)?
                .ok_or_else(|| DriverError::new(CALL, codes::INVALID_HANDLE, "the event was never recorded"))
        };
        let (start, end) = (at(start)?, at(end)?);
        Ok(end.saturating_duration_since(start).as_secs_f32() * 1e3)
    }

    fn capture_begin(&self, stream: StreamId) -> Result<()> {
        const CALL: &str = "cuStreamBeginCapture";
        let mut state = self.healthy(CALL)?;
        if stream == StreamId::DEFAULT {
            let what = "the default stream cannot be captured";
            return Err(DriverError::new(CALL, codes::CAPTURE_UNSUPPORTED, what));
        }
        let recording = state.streams.get_mut(&stream.0).ok_or_else(|| invalid(CALL))?;
        if recording.is_some() {
            return Err(DriverError::new(CALL, codes::ILLEGAL_STATE, "the stream is capturing already"));
        }
        *recording = Some(Vec::new());
        Ok(())
    }

    fn capture_end(&self, stream: StreamId) -> Result<GraphId> {
        const CALL: &str = "cuStreamEndCapture";
        let mut state = self.healthy(CALL)?;
        let recording = state.streams.get_mut(&stream.0).ok_or_else(|| invalid(CALL))?;
        let commands = recording.take();
        let commands =
            commands.ok_or_else(|| DriverError::new(CALL, codes::ILLEGAL_STATE, "the stream is not capturing"))?;
        let id = state.id();
        state.graphs.insert(id, commands);
        Ok(GraphId(id))
    }

    fn graph_launch(&self, graph: GraphId, stream: StreamId) -> Result<()> {
        const CALL: &str = "cuGraphLaunch";
        let mut state = self.healthy(CALL)?;
        let commands = state.graphs.get(&graph.0).cloned().ok_or_else(|| invalid(CALL))?;
        commands.into_iter().try_for_each(|command| state.issue(CALL, stream, command))
    }

    fn graph_destroy(&self, graph: GraphId) -> Result<()> {
        const CALL: &str = "cuGraphExecDestroy";
        self.healthy(CALL)?.graphs.remove(&graph.0).map(drop).ok_or_else(|| invalid(CALL))
    }
}
