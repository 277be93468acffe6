//! NVML's counter of a GPU board's energy: millijoules since the driver was loaded, Volta and later, moved about every 100 ms.
//!
//! The library comes with the driver and is loaded at run time; a machine without it gets a reason.

use std::time::Duration;

use nvml_wrapper::Nvml;

use super::meter::{Component, Counter};

/// The counter of one GPU.
pub struct Board {
    nvml: Nvml,
    index: u32,
    name: String,
}

/// The counter of GPU `index` in NVML's order, or why there is none.
pub fn open(index: u32) -> Result<Board, String> {
    let nvml = Nvml::init().map_err(|e| format!("no NVML: {e}"))?;
    let name = {
        let device = nvml.device_by_index(index).map_err(|e| format!("NVML: GPU {index}: {e}"))?;
        let name = device.name().unwrap_or_else(|_| format!("GPU {index}"));
        device.total_energy_consumption().map_err(|e| format!("NVML: {name} has no energy counter: {e}"))?;
        name
    };
    Ok(Board { nvml, index, name })
}

impl Counter for Board {
    fn name(&self) -> String {
        format!("NVML {}", self.name)
    }

    fn component(&self) -> Component {
        Component::Gpu
    }

    fn read(&mut self) -> Result<u64, String> {
        let device = self.nvml.device_by_index(self.index).map_err(|e| e.to_string())?;
        let millijoules = device.total_energy_consumption().map_err(|e| e.to_string())?;
        Ok(millijoules.saturating_mul(1000))
    }

    fn range(&self) -> Option<u64> {
        None // 64 bits of millijoules outlast any machine
    }

    fn resolution(&self) -> Duration {
        Duration::from_millis(100)
    }
}
