//! A backend with typed host vectors in front of it, for tests that call operators directly.

use std::sync::Arc;

use earlybird::backend::cpu::{Cpu, Path};
use earlybird::backend::cuda::Cuda;
use earlybird::backend::{Backend, Memory, Span};
use earlybird::driver::vgpu::Vgpu;
use earlybird::ops::Kernel;
use earlybird::vgpu::device::Options;

/// Devices under test: the CPU with every instruction set that this machine has. Every golden test runs on each.
pub fn devices() -> Vec<Device> {
    [Path::Portable, Path::Avx2, Path::Avx512]
        .into_iter()
        .filter(|path| path.available())
        .map(|path| Device { backend: Cpu::with_path(path).unwrap() })
        .collect()
}

/// A virtual GPU with every check on, where this build has kernels.
pub fn vgpu(case: &str) -> Option<Arc<dyn Backend>> {
    let there = crate::common::have_kernels(case);
    there.then(|| Arc::new(Cuda::new(Arc::new(Vgpu::new(Options::checked()))).unwrap()) as Arc<dyn Backend>)
}

pub struct Device {
    pub backend: Arc<dyn Backend>,
}

impl Device {
    /// A block with these elements.
    pub fn put<T: bytemuck::Pod>(&self, data: &[T]) -> Memory {
        let memory = self.backend.alloc(size_of_val(data).max(4)).unwrap();
        self.backend.upload(bytemuck::cast_slice(data), memory.span(0, size_of_val(data)).unwrap()).unwrap();
        memory
    }

    /// A block for `len` f32 that no test expects: an operator that skips an element is found out.
    pub fn out(&self, len: usize) -> Memory {
        self.put(&vec![f32::NAN; len])
    }

    pub fn get(&self, memory: &Memory) -> Vec<f32> {
        let mut data = vec![0.0f32; memory.bytes() / 4];
        self.backend.download(all(memory), bytemuck::cast_slice_mut(&mut data)).unwrap();
        data
    }

    /// Scratch memory for `kernel`, filled with NaN: what is in it must not matter.
    pub fn workspace(&self, kernel: &Kernel) -> Memory {
        self.out(self.backend.workspace(kernel).div_ceil(4).max(1))
    }
}

/// The whole block.
pub fn all(memory: &Memory) -> Span<'_> {
    memory.all()
}
