//! From `--device` to a backend.

use std::sync::Arc;

use crate::backend::Backend;
use crate::backend::cpu::Cpu;
use crate::backend::cuda::Cuda;
use crate::{Error, Result};

/// Opens the device called `name`. `threads` sizes the CPU's thread pool, once per process.
///
/// # Errors
/// [`Error::BadSetting`] for an unknown name, [`Error::DeviceUnavailable`] for a device that is not here or a build without kernels.
pub fn open(name: &str, threads: Option<usize>) -> Result<Arc<dyn Backend>> {
    if let Some(threads) = threads {
        if !(1..=4096).contains(&threads) {
            let what = format!("{threads} threads are too few or too many");
            return Err(Error::bad_setting("--threads", what, "give 1 to 4096, or leave it out to use all cores"));
        }
        // A pool that exists already (an embedder's) is left as it is.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    }
    match name.split([':', ',']).next() {
        Some("cpu" | "auto") if !name.contains([':', ',']) => Ok(Cpu::new()),
        Some("vgpu" | "cuda") => Ok(Arc::new(Cuda::new(crate::driver::open(name)?)?)),
        _ => Err(Error::bad_setting(
            "--device",
            format!("there is no device `{name}`"),
            "choose auto, cpu, vgpu, vgpu:a100, vgpu:h100, vgpu:rtx4090, cuda or cuda:N",
        )),
    }
}
