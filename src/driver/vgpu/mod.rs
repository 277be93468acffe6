//! The virtual GPU behind the driver seam: streams, events and graphs over [`crate::vgpu::device::Device`].
//!
//! Work runs when it is issued, in the order of issue, which is one of the orders that streams allow; captured work runs when its graph is launched. An
//! error of a kernel is sticky as on hardware. Findings of the sanitizer fail the call that launched the kernel, with the whole report as detail.

mod calls;
mod options;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::{Clock, DevPtr, DeviceProps, Dims, DriverError, EventId, Fill, Result, StreamId, codes};
use crate::vgpu::device::{Device, KernelId, ModuleId, Options};
use crate::vgpu::exec::Outcome;
use crate::vgpu::prof::Summary;
use crate::vgpu::report::{Finding, Kind, Report};

pub use options::{mma, parse, schedule};

/// A virtual GPU.
pub struct Vgpu {
    props: DeviceProps,
    state: Mutex<State>,
}

struct State {
    device: Device,
    next: u64,
    modules: HashMap<u64, ModuleId>,
    /// Kernel, and the module that it belongs to.
    kernels: HashMap<u64, (KernelId, u64)>,
    /// Streams, with what is recorded while one captures.
    streams: HashMap<u64, Option<Vec<Command>>>,
    /// Events, with the moment of the last record.
    events: HashMap<u64, Option<Instant>>,
    graphs: HashMap<u64, Vec<Command>>,
    pinned: HashMap<usize, Box<[u64]>>,
    /// The error that every call answers from now on.
    broken: Option<DriverError>,
    summaries: Vec<Summary>,
    warnings: Vec<Finding>,
    output: Vec<u8>,
}

/// Work of a stream.
#[derive(Clone)]
enum Command {
    ToDevice { to: DevPtr, from: HostRange },
    ToHost { to: HostRange, from: DevPtr },
    OnDevice { to: DevPtr, from: DevPtr, bytes: usize },
    Fill { to: DevPtr, pattern: Fill, count: usize },
    Launch { kernel: KernelId, dims: Dims, params: Vec<u8> },
    Record { event: u64 },
    Nothing,
}

/// Host memory that the caller of an asynchronous copy keeps alive.
#[derive(Clone, Copy)]
struct HostRange {
    ptr: *mut u8,
    bytes: usize,
}

// SAFETY: whoever issued the copy promised that the memory stays valid and untouched until the stream has passed it.
unsafe impl Send for HostRange {}

impl Vgpu {
    /// A device of its own, with nothing on it.
    pub fn new(options: Options) -> Vgpu {
        let limits = options.limits;
        let props = DeviceProps {
            name: format!("virtual {}", limits.name),
            device: format!("vgpu:{}", limits.name),
            driver: concat!("earlybird ", env!("CARGO_PKG_VERSION")).into(),
            cc: limits.cc,
            sm_count: limits.sms,
            warp_size: 32,
            max_threads_per_block: limits.block_threads,
            max_threads_per_sm: limits.sm_threads,
            shared_per_block: limits.shared,
            shared_per_block_optin: limits.shared_optin,
            shared_per_sm: limits.sm_shared,
            regs_per_sm: limits.sm_regs,
            l2_bytes: limits.l2_bytes,
            total_mem: limits.memory,
            clock_khz: limits.clock_khz,
            clock: Clock::Simulated,
            sampled: options.sample.is_some(),
        };
        let state = State {
            device: Device::new(options),
            next: 0,
            modules: HashMap::new(),
            kernels: HashMap::new(),
            streams: HashMap::new(),
            events: HashMap::new(),
            graphs: HashMap::new(),
            pinned: HashMap::new(),
            broken: None,
            summaries: Vec::new(),
            warnings: Vec::new(),
            output: Vec::new(),
        };
        Vgpu { props, state: Mutex::new(state) }
    }

    /// The profiler's summaries of all launches since the last call, in order; empty unless the device was opened with `profile`.
    pub fn take_summaries(&self) -> Vec<Summary> {
        std::mem::take(&mut self.lock().summaries)
    }

    /// Warnings of all launches since the last call.
    pub fn take_warnings(&self) -> Vec<Finding> {
        std::mem::take(&mut self.lock().warnings)
    }

    /// What kernels have printed since the last call.
    pub fn take_output(&self) -> Vec<u8> {
        std::mem::take(&mut self.lock().output)
    }

    /// Works with the device itself: options, labels of allocations, machine code of kernels.
    pub fn with_device<T>(&self, work: impl FnOnce(&mut Device) -> T) -> T {
        work(&mut self.lock().device)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, unless an earlier kernel broke the device.
    fn healthy(&self, call: &'static str) -> Result<MutexGuard<'_, State>> {
        let state = self.lock();
        match &state.broken {
            Some(error) => Err(DriverError { call, ..error.clone() }),
            None => Ok(state),
        }
    }
}

impl State {
    fn id(&mut self) -> u64 {
        self.next += 1; // 0 is the default stream
        self.next
    }

    /// Issues work to a stream: records it, or runs it now.
    fn issue(&mut self, call: &'static str, stream: StreamId, command: Command) -> Result<()> {
        if stream != StreamId::DEFAULT {
            let stream = self.streams.get_mut(&stream.0).ok_or_else(|| invalid(call))?;
            if let Some(recording) = stream {
                recording.push(command);
                return Ok(());
            }
        }
        self.run(call, &command)
    }

    /// Checks that a stream exists and does not capture: for calls that wait.
    fn may_wait(&self, call: &'static str, stream: StreamId) -> Result<()> {
        if stream == StreamId::DEFAULT {
            return Ok(());
        }
        match self.streams.get(&stream.0) {
            None => Err(invalid(call)),
            Some(Some(_)) => {
                Err(DriverError::new(call, codes::CAPTURE_UNSUPPORTED, "the stream is capturing; this call waits"))
            }
            Some(None) => Ok(()),
        }
    }

    fn run(&mut self, call: &'static str, command: &Command) -> Result<()> {
        let bad = |e: crate::vgpu::device::BadRange| DriverError::new(call, codes::INVALID_VALUE, e.to_string());
        match command {
            Command::ToDevice { to, from } => {
                // SAFETY: the issuer promised that the memory is readable until now.
                let bytes = unsafe { std::slice::from_raw_parts(from.ptr, from.bytes) };
                self.device.write(to.0, bytes).map_err(bad)
            }
            Command::ToHost { to, from } => {
                // SAFETY: the issuer promised that the memory is writable until now.
                let bytes = unsafe { std::slice::from_raw_parts_mut(to.ptr, to.bytes) };
                self.device.read(from.0, bytes).map_err(bad)
            }
            Command::OnDevice { to, from, bytes } => self.device.copy(to.0, from.0, *bytes as u64).map_err(bad),
            Command::Fill { to, pattern, count } => {
                let filled = match pattern {
                    Fill::U8(v) => self.device.fill(to.0, &[*v], *count as u64),
                    Fill::U16(v) => self.device.fill(to.0, &v.to_le_bytes(), *count as u64),
                    Fill::U32(v) => self.device.fill(to.0, &v.to_le_bytes(), *count as u64),
                };
                filled.map_err(bad)
            }
            Command::Launch { kernel, dims, params } => {
                let outcome = self.device.launch(*kernel, dims.grid, dims.block, dims.shared, params);
                self.judge(call, outcome)
            }
            Command::Record { event } => {
                if let Some(event) = self.events.get_mut(event) {
                    *event = Some(Instant::now());
                }
                Ok(())
            }
            Command::Nothing => Ok(()),
        }
    }

    fn judge(&mut self, call: &'static str, outcome: Outcome) -> Result<()> {
        self.summaries.extend(outcome.summary);
        self.output.extend(outcome.output);
        let Report { warnings, .. } = &outcome.report;
        self.warnings.extend(warnings.iter().cloned());
        self.warnings.truncate(1000);
        let Some(first) = outcome.report.findings.first() else { return Ok(()) };
        let (code, sticky) = code_of(first.kind);
        let error = DriverError::new(call, code, outcome.report.to_text());
        if sticky {
            self.broken = Some(error.clone());
        }
        Err(error)
    }
}

/// The driver's code for what was found first, and whether the device is lost after it.
fn code_of(kind: Kind) -> (i32, bool) {
    match kind {
        Kind::OutOfBounds
        | Kind::UseAfterFree
        | Kind::NullPointer
        | Kind::InvalidAddress
        | Kind::WrongSpace
        | Kind::WriteToReadOnly => (codes::ILLEGAL_ADDRESS, true),
        Kind::Misaligned => (codes::MISALIGNED_ADDRESS, true),
        Kind::Trap => (codes::ILLEGAL_INSTRUCTION, true),
        Kind::Timeout | Kind::Livelock => (codes::LAUNCH_TIMEOUT, true),
        Kind::WrongArgument => (codes::INVALID_VALUE, false),
        Kind::LimitExceeded => (codes::LAUNCH_OUT_OF_RESOURCES, false),
        Kind::Unsupported => (codes::NOT_SUPPORTED, false),
        _ => (codes::LAUNCH_FAILED, true),
    }
}

fn invalid(call: &'static str) -> DriverError {
    DriverError::new(call, codes::INVALID_HANDLE, "no such handle on this device")
}

fn event_of(events: &HashMap<u64, Option<Instant>>, call: &'static str, event: EventId) -> Result<Option<Instant>> {
    events.get(&event.0).copied().ok_or_else(|| invalid(call))
}
