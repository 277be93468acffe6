//! The error of the driver layer: which call, the driver's own code, and what is known beyond it.

/// `CUresult` numbers (CUDA 12 headers) that this crate makes or tests for. Others pass through as they came.
pub mod codes {
    /// `CUDA_ERROR_INVALID_VALUE`.
    pub const INVALID_VALUE: i32 = 1;
    /// `CUDA_ERROR_OUT_OF_MEMORY`.
    pub const OUT_OF_MEMORY: i32 = 2;
    /// `CUDA_ERROR_NOT_INITIALIZED`.
    pub const NOT_INITIALIZED: i32 = 3;
    /// `CUDA_ERROR_NO_DEVICE`.
    pub const NO_DEVICE: i32 = 100;
    /// `CUDA_ERROR_INVALID_DEVICE`.
    pub const INVALID_DEVICE: i32 = 101;
    /// `CUDA_ERROR_INVALID_IMAGE`.
    pub const INVALID_IMAGE: i32 = 200;
    /// `CUDA_ERROR_NO_BINARY_FOR_GPU`.
    pub const NO_BINARY_FOR_GPU: i32 = 209;
    /// `CUDA_ERROR_INVALID_PTX`.
    pub const INVALID_PTX: i32 = 218;
    /// `CUDA_ERROR_UNSUPPORTED_PTX_VERSION`: the driver is older than the NVRTC that wrote the PTX.
    pub const UNSUPPORTED_PTX_VERSION: i32 = 222;
    /// `CUDA_ERROR_SHARED_OBJECT_SYMBOL_NOT_FOUND`: the library was found but lacks a function that is called.
    pub const SYMBOL_NOT_FOUND: i32 = 302;
    /// `CUDA_ERROR_SHARED_OBJECT_INIT_FAILED`: this crate's answer when the driver library does not load at all.
    pub const NO_LIBRARY: i32 = 303;
    /// `CUDA_ERROR_INVALID_HANDLE`.
    pub const INVALID_HANDLE: i32 = 400;
    /// `CUDA_ERROR_NOT_FOUND`: no kernel of that name.
    pub const NOT_FOUND: i32 = 500;
    /// `CUDA_ERROR_NOT_READY`: not an error for queries.
    pub const NOT_READY: i32 = 600;
    /// `CUDA_ERROR_ILLEGAL_ADDRESS`.
    pub const ILLEGAL_ADDRESS: i32 = 700;
    /// `CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES`.
    pub const LAUNCH_OUT_OF_RESOURCES: i32 = 701;
    /// `CUDA_ERROR_LAUNCH_TIMEOUT`.
    pub const LAUNCH_TIMEOUT: i32 = 702;
    /// `CUDA_ERROR_ILLEGAL_INSTRUCTION`.
    pub const ILLEGAL_INSTRUCTION: i32 = 715;
    /// `CUDA_ERROR_MISALIGNED_ADDRESS`.
    pub const MISALIGNED_ADDRESS: i32 = 716;
    /// `CUDA_ERROR_LAUNCH_FAILED`.
    pub const LAUNCH_FAILED: i32 = 719;
    /// `CUDA_ERROR_NOT_SUPPORTED`.
    pub const NOT_SUPPORTED: i32 = 801;
    /// `CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED`: the call is not allowed while a stream captures.
    pub const CAPTURE_UNSUPPORTED: i32 = 900;
    /// `CUDA_ERROR_ILLEGAL_STATE`.
    pub const ILLEGAL_STATE: i32 = 401;
    /// `CUDA_ERROR_UNKNOWN`.
    pub const UNKNOWN: i32 = 999;
}

/// A call to a GPU that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{call} failed with {} ({code}){}", name_of(*code), detail_text(detail))]
pub struct DriverError {
    /// The function of the driver API, such as `cuMemAlloc`.
    pub call: &'static str,
    /// The driver's result code; see [`codes`].
    pub code: i32,
    /// What is known beyond the code: the JIT log, the kernel and block of a fault, sizes. May be empty.
    pub detail: String,
}

impl DriverError {
    /// An error of `call`.
    pub fn new(call: &'static str, code: i32, detail: impl Into<String>) -> Self {
        DriverError { call, code, detail: detail.into() }
    }

    /// `CUDA_ERROR_ILLEGAL_ADDRESS` and the like.
    pub fn name(&self) -> &'static str {
        name_of(self.code)
    }
}

fn detail_text(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(": {detail}") }
}

fn name_of(code: i32) -> &'static str {
    use codes::*;
    match code {
        INVALID_VALUE => "CUDA_ERROR_INVALID_VALUE",
        OUT_OF_MEMORY => "CUDA_ERROR_OUT_OF_MEMORY",
        NOT_INITIALIZED => "CUDA_ERROR_NOT_INITIALIZED",
        NO_DEVICE => "CUDA_ERROR_NO_DEVICE",
        INVALID_DEVICE => "CUDA_ERROR_INVALID_DEVICE",
        INVALID_IMAGE => "CUDA_ERROR_INVALID_IMAGE",
        NO_BINARY_FOR_GPU => "CUDA_ERROR_NO_BINARY_FOR_GPU",
        INVALID_PTX => "CUDA_ERROR_INVALID_PTX",
        UNSUPPORTED_PTX_VERSION => "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
        SYMBOL_NOT_FOUND => "CUDA_ERROR_SHARED_OBJECT_SYMBOL_NOT_FOUND",
        NO_LIBRARY => "CUDA_ERROR_SHARED_OBJECT_INIT_FAILED",
        INVALID_HANDLE => "CUDA_ERROR_INVALID_HANDLE",
        NOT_FOUND => "CUDA_ERROR_NOT_FOUND",
        NOT_READY => "CUDA_ERROR_NOT_READY",
        ILLEGAL_ADDRESS => "CUDA_ERROR_ILLEGAL_ADDRESS",
        LAUNCH_OUT_OF_RESOURCES => "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES",
        LAUNCH_TIMEOUT => "CUDA_ERROR_LAUNCH_TIMEOUT",
        ILLEGAL_INSTRUCTION => "CUDA_ERROR_ILLEGAL_INSTRUCTION",
        MISALIGNED_ADDRESS => "CUDA_ERROR_MISALIGNED_ADDRESS",
        LAUNCH_FAILED => "CUDA_ERROR_LAUNCH_FAILED",
        NOT_SUPPORTED => "CUDA_ERROR_NOT_SUPPORTED",
        CAPTURE_UNSUPPORTED => "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
        ILLEGAL_STATE => "CUDA_ERROR_ILLEGAL_STATE",
        _ => "CUDA error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_call_code_and_detail() {
        let e = DriverError::new("cuMemAlloc", codes::OUT_OF_MEMORY, "12 GiB asked, 8 GiB free");
        assert_eq!(e.to_string(), "cuMemAlloc failed with CUDA_ERROR_OUT_OF_MEMORY (2): 12 GiB asked, 8 GiB free");
        assert_eq!(
            DriverError::new("cuFoo", 12345, "").to_string(),
            "cuFoo failed with CUDA error (12345)",
            "codes we do not know pass through"
        );
        assert_eq!(crate::Error::from(e).exit_code(), 2);
    }
}
