//! From a device's name on the command line to a driver.

use std::sync::Arc;

use super::nvidia::Nvidia;
use super::vgpu::{self, Vgpu};
use super::{Driver, DriverError, codes, kernels};
use crate::{Error, Result};

/// Opens `cuda[:N]` or `vgpu[:GPU][,OPTION]..` ([`super::vgpu::parse`]). (`cpu` and `auto` are no matter of this layer.)
///
/// # Errors
/// [`Error::DeviceUnavailable`] where there is no such device or the build carries no kernels, [`Error::BadSetting`] for other
/// names.
pub fn open(device: &str) -> Result<Arc<dyn Driver>> {
    if device.split([':', ',']).next() == Some("vgpu") {
        let options = vgpu::parse(device)?;
        kernels::available(device)?;
        return Ok(Arc::new(Vgpu::new(options)));
    }
    let (kind, which) = device.split_once(':').unwrap_or((device, ""));
    match kind {
        "cuda" => {
            let ordinal = if which.is_empty() { Ok(0) } else { which.parse() };
            let ordinal = ordinal.map_err(|_| {
                Error::bad_setting(
                    "device",
                    format!("{device:?} has no device number"),
                    "write cuda or cuda:N, such as cuda:0",
                )
            })?;
            kernels::available(device)?;
            Ok(Arc::new(Nvidia::open(ordinal).map_err(|e| unavailable(device, e))?))
        }
        _ => Err(Error::bad_setting(
            "device",
            format!("no device {device:?}"),
            "there are cpu, vgpu[:GPU], cuda[:N] and auto",
        )),
    }
}

/// The first GPU that a program may take without being asked for one: `None` without a driver, a GPU, or kernels in this build.
///
/// # Errors
/// [`Error::DeviceUnavailable`] for a GPU that is there and does not open.
pub fn first_gpu() -> Result<Option<Arc<dyn Driver>>> {
    if kernels::available("cuda:0").is_err() {
        return Ok(None);
    }
    match Nvidia::open(0) {
        Ok(gpu) => Ok(Some(Arc::new(gpu))),
        Err(e) if [codes::NO_LIBRARY, codes::NO_DEVICE].contains(&e.code) => Ok(None),
        Err(e) => Err(unavailable("cuda:0", e)),
    }
}

fn unavailable(device: &str, error: DriverError) -> Error {
    let hint = match error.code {
        codes::NO_LIBRARY | codes::SYMBOL_NOT_FOUND => "install NVIDIA's driver, or use --device cpu or vgpu",
        _ => "`nvidia-smi` lists the devices; --device cpu and vgpu need none",
    };
    Error::DeviceUnavailable { device: device.into(), why: error.to_string(), hint: hint.into() }
}
