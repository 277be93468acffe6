//! Whether the driver library is there and complete. cudarc panics on a missing library or symbol, so both are settled here before its first call.

use std::ffi::{CStr, c_char};

use cudarc::driver::sys::{self, CUresult};

use crate::driver::{DriverError, Result, codes};

/// Every function that this module calls, as the library exports it.
const SYMBOLS: &[&str] = &[
    "cuCtxGetCurrent",
    "cuCtxGetDevice",
    "cuCtxSetCurrent",
    "cuCtxSynchronize",
    "cuDeviceGet",
    "cuDeviceGetAttribute",
    "cuDeviceGetCount",
    "cuDeviceGetName",
    "cuDevicePrimaryCtxRelease_v2",
    "cuDevicePrimaryCtxRetain",
    "cuDeviceTotalMem_v2",
    "cuEventCreate",
    "cuEventDestroy_v2",
    "cuEventElapsedTime",
    "cuEventQuery",
    "cuEventRecord",
    "cuEventSynchronize",
    "cuFuncGetAttribute",
    "cuFuncSetAttribute",
    "cuDriverGetVersion",
    "cuGetErrorString",
    "cuGraphDestroy",
    "cuGraphExecDestroy",
    "cuGraphInstantiateWithFlags",
    "cuGraphLaunch",
    "cuInit",
    "cuLaunchKernel",
    "cuMemAlloc_v2",
    "cuMemFreeHost",
    "cuMemFree_v2",
    "cuMemGetInfo_v2",
    "cuMemHostAlloc",
    "cuMemcpyDtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyHtoDAsync_v2",
    "cuMemsetD16Async",
    "cuMemsetD32Async",
    "cuMemsetD8Async",
    "cuModuleGetFunction",
    "cuModuleLoadDataEx",
    "cuModuleUnload",
    "cuOccupancyMaxActiveBlocksPerMultiprocessor",
    "cuStreamBeginCapture_v2",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamEndCapture",
    "cuStreamSynchronize",
    "cuStreamWaitEvent",
];

/// Loads the driver library and initialises it.
///
/// # Errors
/// [`codes::NO_LIBRARY`] where none loads, [`codes::SYMBOL_NOT_FOUND`] where it lacks a function we call (a driver before
/// CUDA 11.4, or something else under that name), and what `cuInit` says.
pub(super) fn init() -> Result<()> {
    // SAFETY: loading libcuda runs its initialisers, which is what the caller asks for.
    if !unsafe { sys::is_culib_present() } {
        let tried = cudarc::get_lib_name_candidates("cuda").join(", ");
        return Err(DriverError::new(
            "cuInit",
            codes::NO_LIBRARY,
            format!(
                "no NVIDIA driver library loads here (tried {tried}); install NVIDIA's driver, or use --device cpu or vgpu"
            ),
        ));
    }
    // SAFETY: the library is there, so this cannot panic.
    let library = unsafe { sys::culib() };
    for symbol in SYMBOLS {
        // SAFETY: only asked for its presence, never called through this type.
        if unsafe { library.get::<*const ()>(symbol.as_bytes()) }.is_err() {
            return Err(DriverError::new(
                "cuInit",
                codes::SYMBOL_NOT_FOUND,
                format!("the driver library has no {symbol}; a driver for CUDA 12 (525 or newer) is needed"),
            ));
        }
    }
    // SAFETY: no arguments to get wrong.
    check("cuInit", unsafe { sys::cuInit(0) })
}

/// A result code as our error. cudarc's own error type is never made: its `Debug` calls the driver.
pub(super) fn check(call: &'static str, result: CUresult) -> Result<()> {
    if result == CUresult::CUDA_SUCCESS {
        return Ok(());
    }
    let mut text: *const c_char = std::ptr::null();
    // SAFETY: `text` is written with a static string or left alone.
    let known = unsafe { sys::cuGetErrorString(result, &mut text) };
    let detail = if known == CUresult::CUDA_SUCCESS && !text.is_null() {
        // SAFETY: the driver's strings are static and zero-terminated.
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    } else {
        String::new()
    };
    let call = call.strip_suffix("_v2").unwrap_or(call);
    Err(DriverError::new(call, result as i32, detail))
}

/// Calls a driver function and turns its code into a [`Result`]. The unsafe block is the caller's.
macro_rules! cu {
    ($name:ident($($argument:expr),* $(,)?)) => {
        $crate::driver::nvidia::library::check(stringify!($name), cudarc::driver::sys::$name($($argument),*))
    };
}
pub(super) use cu;
