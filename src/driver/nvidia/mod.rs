//! A real GPU through NVIDIA's driver library, loaded at run time by cudarc's `sys` layer.
//!
//! The crate builds and starts without the library; [`Nvidia::open`] then answers an error. Not here: NVRTC (`build.rs` compiled
//! the kernels), NVML. Embedders exchange raw handles: [`Nvidia::from_raw`], [`Nvidia::as_raw`], [`Nvidia::stream_from_raw`],
//! [`Nvidia::stream_as_raw`]; conversions to `cust` are in the `interop` file behind the feature of that name.

mod calls;
#[cfg(feature = "cust")]
mod interop;
mod library;

use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cudarc::driver::sys::{CUdevice, CUdevice_attribute as Attribute};

use super::{Clock, DeviceProps, DriverError, Result, StreamId, codes};
use library::cu;

/// A context on an NVIDIA GPU.
pub struct Nvidia {
    context: Raw,
    /// The device whose primary context we hold a reference to; `None` for a borrowed context.
    retained: Option<CUdevice>,
    props: DeviceProps,
    tables: Mutex<Tables>,
}

/// A driver handle. The driver's handles may be used from any thread.
#[derive(Clone, Copy)]
struct Raw(*mut c_void);
// SAFETY: see above; the driver locks inside.
unsafe impl Send for Raw {}
// SAFETY: as above.
unsafe impl Sync for Raw {}

/// Our handles, so that a foreign or destroyed one is an error instead of a wild pointer.
#[derive(Default)]
struct Tables {
    next: u64,
    modules: HashMap<u64, Raw>,
    /// Kernel and the module it belongs to.
    kernels: HashMap<u64, (Raw, u64)>,
    /// Stream and whether it is ours to destroy.
    streams: HashMap<u64, (Raw, bool)>,
    events: HashMap<u64, Raw>,
    graphs: HashMap<u64, Raw>,
}

impl Tables {
    fn id(&mut self) -> u64 {
        self.next += 1; // 0 is the default stream
        self.next
    }
}

/// How many devices the driver sees.
///
/// # Errors
/// As [`Nvidia::open`].
pub fn device_count() -> Result<usize> {
    library::init()?;
    let mut count = 0;
    // SAFETY: `count` is a valid place for the answer.
    unsafe { cu!(cuDeviceGetCount(&mut count))? };
    Ok(count.max(0) as usize)
}

impl Nvidia {
    /// Opens device `ordinal` with its primary context, the one that CUDA's runtime and PyTorch use.
    ///
    /// # Errors
    /// [`codes::NO_LIBRARY`] without a driver, [`codes::NO_DEVICE`] without a GPU, [`codes::INVALID_DEVICE`] beyond the last.
    pub fn open(ordinal: usize) -> Result<Nvidia> {
        let count = device_count()?;
        if ordinal >= count {
            let what = format!("cuda:{ordinal} was asked for, the driver sees {count} device(s)");
            let code = if count == 0 { codes::NO_DEVICE } else { codes::INVALID_DEVICE };
            return Err(DriverError::new("cuDeviceGet", code, what));
        }
        let (mut device, mut context) = (0, ptr::null_mut());
        // SAFETY: the place for the answer is valid; the ordinal was checked.
        unsafe { cu!(cuDeviceGet(&mut device, ordinal as i32))? };
        let props = props(device, ordinal)?;
        // SAFETY: the place for the answer is valid; what is retained here is released when `gpu` drops.
        unsafe { cu!(cuDevicePrimaryCtxRetain(&mut context, device))? };
        let gpu = Nvidia { context: Raw(context.cast()), retained: Some(device), props, tables: Mutex::default() };
        gpu.bind()?;
        Ok(gpu)
    }

    /// Works in a context that the embedding program made: `context` is a `CUcontext`. It is not destroyed with this driver.
    ///
    /// # Safety
    /// `context` must be a live `CUcontext` and outlive this driver.
    ///
    /// # Errors
    /// Those of [`Nvidia::open`], and [`codes::INVALID_VALUE`] for a null context.
    pub unsafe fn from_raw(context: *mut c_void) -> Result<Nvidia> {
        library::init()?;
        if context.is_null() {
            return Err(DriverError::new("cuCtxSetCurrent", codes::INVALID_VALUE, "a null context"));
        }
        let mut device = 0;
        // SAFETY: the caller's context; the place for the answer is valid.
        unsafe {
            cu!(cuCtxSetCurrent(context.cast()))?;
            cu!(cuCtxGetDevice(&mut device))?;
        }
        // A CUdevice is the ordinal in every driver so far; it only labels messages.
        let props = props(device, device.max(0) as usize)?;
        Ok(Nvidia { context: Raw(context), retained: None, props, tables: Mutex::default() })
    }

    /// The `CUcontext`, for other libraries. Valid while this driver lives.
    pub fn as_raw(&self) -> *mut c_void {
        self.context.0
    }

    /// Takes a `CUstream` of this context into use; it is not destroyed with this driver.
    ///
    /// # Safety
    /// `stream` must be a live `CUstream` of this context while the handle is used.
    pub unsafe fn stream_from_raw(&self, stream: *mut c_void) -> StreamId {
        let mut tables = self.tables();
        let id = tables.id();
        tables.streams.insert(id, (Raw(stream), false));
        StreamId(id)
    }

    /// The `CUstream` behind a handle, for other libraries.
    ///
    /// # Errors
    /// [`codes::INVALID_HANDLE`].
    pub fn stream_as_raw(&self, stream: StreamId) -> Result<*mut c_void> {
        if stream == StreamId::DEFAULT {
            return Ok(ptr::null_mut());
        }
        self.tables().streams.get(&stream.0).map(|s| s.0.0).ok_or_else(|| unknown("cuStreamQuery", "stream"))
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the context current on this thread, as every call does; for other libraries that work in the current context.
    ///
    /// # Errors
    /// What `cuCtxSetCurrent` says.
    pub fn make_current(&self) -> Result<()> {
        self.bind()
    }

    fn bind(&self) -> Result<()> {
        // SAFETY: the context lives as long as we do.
        unsafe { cu!(cuCtxSetCurrent(self.context.0.cast())) }
    }
}

impl Drop for Nvidia {
    fn drop(&mut self) {
        if self.bind().is_err() {
            return; // the process or the context is going down; nothing is left to release
        }
        let tables = self.tables.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Failures have nowhere to go: a sticky error of a kernel comes up again here.
        // SAFETY: every handle in the tables is live and ours; each is released once.
        unsafe {
            for graph in tables.graphs.values() {
                let _ = cu!(cuGraphExecDestroy(graph.0.cast()));
            }
            for event in tables.events.values() {
                let _ = cu!(cuEventDestroy_v2(event.0.cast()));
            }
            for (stream, _) in tables.streams.values().filter(|s| s.1) {
                let _ = cu!(cuStreamDestroy_v2(stream.0.cast()));
            }
            for module in tables.modules.values() {
                let _ = cu!(cuModuleUnload(module.0.cast()));
            }
            if let Some(device) = self.retained {
                let _ = cu!(cuDevicePrimaryCtxRelease_v2(device));
            }
        }
    }
}

/// An error for a handle that this driver does not know.
fn unknown(call: &'static str, what: &str) -> DriverError {
    DriverError::new(call, codes::INVALID_HANDLE, format!("this driver has no such {what}"))
}

/// `CUDA 12.4, NVRM version: ..`: the newest CUDA that the library knows, and the kernel module's own words where the system shows them.
fn version() -> Result<String> {
    let mut number = 0;
    // SAFETY: the place for the answer is valid.
    unsafe { cu!(cuDriverGetVersion(&mut number))? };
    let cuda = format!("CUDA {}.{}", number / 1000, number % 1000 / 10);
    let module = std::fs::read_to_string("/proc/driver/nvidia/version").unwrap_or_default();
    let words: Vec<&str> = module.lines().next().unwrap_or_default().split_whitespace().collect();
    Ok(if words.is_empty() { cuda } else { format!("{cuda}, {}", words.join(" ")) })
}

fn props(device: CUdevice, ordinal: usize) -> Result<DeviceProps> {
    let attribute = |which: Attribute| -> Result<u32> {
        let mut value = 0;
        // SAFETY: the place for the answer is valid, the device came from the driver.
        unsafe { cu!(cuDeviceGetAttribute(&mut value, which, device))? };
        Ok(value.max(0) as u32)
    };
    let mut name = [0u8; 128];
    let mut total = 0;
    // SAFETY: the buffer has the length given; the other place is valid.
    unsafe {
        cu!(cuDeviceGetName(name.as_mut_ptr().cast(), name.len() as i32, device))?;
        cu!(cuDeviceTotalMem_v2(&mut total, device))?;
    }
    let name =
        std::ffi::CStr::from_bytes_until_nul(&name).map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(DeviceProps {
        name,
        device: format!("cuda:{ordinal}"),
        driver: version()?,
        cc: (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        sm_count: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        warp_size: attribute(Attribute::CU_DEVICE_ATTRIBUTE_WARP_SIZE)?,
        max_threads_per_block: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK)?,
        max_threads_per_sm: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR)?,
        shared_per_block: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK)?,
        shared_per_block_optin: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
        shared_per_sm: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR)?,
        regs_per_sm: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR)?,
        l2_bytes: u64::from(attribute(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)?),
        total_mem: total as u64,
        clock_khz: attribute(Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE)?,
        clock: Clock::Wall,
        sampled: false,
    })
}
