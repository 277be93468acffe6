//! One typed launcher per kernel, written by `build.rs` from the parameter lists: a wrong count, order of kinds or struct size does not compile.
//!
//! Launchers choose nothing: grids and buffers come from the operators' files beside this one, which also answer for the contract of
//! [`Driver::launch`]: every address handed over is live and large enough for what the kernel does with it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use crate::driver::{DevPtr, Dims, Driver, DriverError, Image, KernelId, ModuleId, Result, StreamId, codes, kernels};

/// The project's kernels on one device; modules are loaded when first used.
pub struct Kernels {
    driver: Arc<dyn Driver>,
    loaded: Mutex<Loaded>,
}

#[derive(Default)]
struct Loaded {
    modules: HashMap<&'static str, ModuleId>,
    kernels: HashMap<&'static str, KernelId>,
    /// Kernels with leave for more shared memory than 48 KiB.
    large: HashSet<&'static str>,
}

impl Kernels {
    /// For `driver`.
    ///
    /// # Errors
    /// [`crate::Error::DeviceUnavailable`] where the build found no NVRTC, with every place it looked.
    pub fn new(driver: Arc<dyn Driver>) -> crate::Result<Kernels> {
        kernels::available(&driver.props().device)?;
        Ok(Kernels { driver, loaded: Mutex::default() })
    }

    /// The device.
    pub fn driver(&self) -> &dyn Driver {
        &*self.driver
    }

    /// The handle of an entry, its module loaded if need be.
    ///
    /// # Errors
    /// What the driver says of the module, with the JIT log.
    pub fn kernel(&self, module: &'static str, name: &'static str) -> Result<KernelId> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kernel) = loaded.kernels.get(name) {
            return Ok(*kernel);
        }
        let handle = match loaded.modules.get(module) {
            Some(handle) => *handle,
            None => {
                let ptx = kernels::MODULES.iter().find(|m| m.name == module).map(|m| m.ptx);
                let ptx = ptx.ok_or_else(|| DriverError::new("cuModuleLoadDataEx", codes::NOT_FOUND, module))?;
                let handle = self.driver.module_load(&Image { name: module, ptx })?;
                loaded.modules.insert(module, handle);
                handle
            }
        };
        let kernel = self.driver.kernel_get(handle, name)?;
        loaded.kernels.insert(name, kernel);
        Ok(kernel)
    }

    /// Lets an entry have `bytes` of dynamic shared memory, where that needs leave. An entry always asks for the same.
    ///
    /// # Errors
    /// What the driver says; the device has less.
    pub fn allow_shared(&self, module: &'static str, name: &'static str, bytes: u32) -> Result<()> {
        let kernel = self.kernel(module, name)?;
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes > self.driver.props().shared_per_block && !loaded.large.contains(name) {
            self.driver.kernel_set_shared(kernel, bytes)?;
            loaded.large.insert(name);
        }
        Ok(())
    }

    /// The answer of every launcher in a build without NVRTC. [`Kernels::new`] fails first.
    #[allow(dead_code)] // used by the generated code of such a build
    fn missing(&self, name: &str) -> Result<()> {
        Err(DriverError::new("cuModuleGetFunction", codes::NOT_FOUND, format!("{name}: built without NVRTC")))
    }
}

include!(concat!(env!("OUT_DIR"), "/launchers.rs"));
