//! Devices under test: a backend with typed host vectors in front of it, and how much work it may be given. `tests/autograd` and `tests/golden` use this file, too.

#![allow(dead_code)] // each of them uses its part

use std::sync::Arc;

use earlybird::backend::cpu::{Cpu, IntegerPath, Path};
use earlybird::backend::cuda::Cuda;
use earlybird::backend::{Backend, Memory};
use earlybird::driver::Clock;
use earlybird::driver::vgpu::Vgpu;
use earlybird::ops::Kernel;
use earlybird::vgpu::device::Options;
use earlybird::vgpu::limits::{A100, Limits};
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestRunner};

use crate::common::cases::cases;

/// Makes a module per device with one test per body: `for_each_device!(gathers, scatters)` gives `cpu::gathers`, `vgpu::gathers`, `cuda::gathers` and so on. A body is a
/// function of `&Device`. To add a device, add a line here and a function of its name below.
macro_rules! for_each_device {
    ($($body:ident),* $(,)?) => {
        for_each_device!(@stamp cpu: $($body)*);
        for_each_device!(@stamp vgpu: $($body)*);
        for_each_device!(@stamp cuda: $($body)*);
    };
    (@stamp $device:ident: $($body:ident)*) => {
        mod $device {
            $(#[test]
            fn $body() {
                crate::device::$device().iter().for_each(super::$body);
            })*
        }
    };
}

/// A backend and the limits of what is asked of it.
pub struct Device {
    pub backend: Arc<dyn Backend>,
    /// For messages.
    pub name: String,
    /// Random cases per test body.
    pub cases: u32,
    /// Multiply-adds (or elements) that one random case may have.
    pub budget: usize,
    /// Whether indices and labels are checked before they are used. A GPU would have to wait for itself to do so.
    pub checks_indices: bool,
}

/// The CPU, once for every instruction set that this machine has.
pub fn cpu() -> Vec<Device> {
    let paths = [Path::Portable, Path::Avx2, Path::Avx512].into_iter().filter(|path| path.available());
    paths
        .map(|path| Device {
            backend: Cpu::with_path(path).unwrap(),
            name: format!("cpu {path:?}"),
            cases: 16,
            budget: 1_500_000,
            checks_indices: true,
        })
        .collect()
}

/// The CPU, once for every way to compute 8-bit products that this machine has; the first is the reference.
pub fn integers() -> Vec<Device> {
    let paths = [
        (Path::Portable, IntegerPath::Plain),
        (Path::Portable, IntegerPath::EmulatedVnni),
        (Path::Portable, IntegerPath::EmulatedAmx),
        (Path::Avx2, IntegerPath::Avx2),
        (Path::Avx2, IntegerPath::AvxVnni),
        (Path::Avx512, IntegerPath::Avx512Vnni),
        (Path::Avx2, IntegerPath::Amx),
        (Path::Avx512, IntegerPath::Amx),
    ];
    let there = paths.into_iter().filter(|(path, products)| path.available() && products.available());
    there
        .map(|(path, products)| Device {
            backend: Cpu::with_integers(path, products).unwrap(),
            name: format!("cpu {path:?}, products {products:?}"),
            cases: 16,
            budget: 1_500_000,
            checks_indices: true,
        })
        .collect()
}

/// The project's kernels on virtual GPUs with every check on: a finding fails the launch. An A100, which gives these small shapes small tiles, and a GPU of one
/// multiprocessor, which large ones keep busy. None where this build has no kernels.
pub fn vgpu() -> Vec<Device> {
    if !crate::common::have_kernels("vgpu") {
        return Vec::new();
    }
    let open = |name: &str, sms: u32| {
        let options = Options { limits: Limits { sms, ..A100 }, ..Options::checked() };
        let backend = Arc::new(Cuda::new(Arc::new(Vgpu::new(options))).unwrap());
        Device { backend, name: name.into(), cases: 5, budget: 100_000, checks_indices: false }
    };
    vec![open("vgpu, 108 multiprocessors", 108), open("vgpu, 1 multiprocessor", 1)]
}

/// A virtual GPU without checks, for work that they have no time for.
pub fn unchecked_vgpu() -> Vec<Device> {
    if !crate::common::have_kernels("vgpu") {
        return Vec::new();
    }
    let backend = Arc::new(Cuda::new(Arc::new(Vgpu::new(Options::default()))).unwrap());
    vec![Device { backend, name: "vgpu, unchecked".into(), cases: 5, budget: 100_000, checks_indices: false }]
}

/// A real GPU; none where there is none, and the case is skipped aloud.
pub fn cuda() -> Vec<Device> {
    let Some(driver) = crate::common::gpu() else { return Vec::new() };
    let (name, real) = (driver.props().name.clone(), driver.props().clock == Clock::Wall);
    let (cases, budget) = if real { (16, 1_500_000) } else { (5, 100_000) };
    let backend = Arc::new(Cuda::new(driver).unwrap());
    vec![Device { backend, name, cases, budget, checks_indices: false }]
}

impl Device {
    /// Whether this is the reference itself.
    pub fn is_cpu(&self) -> bool {
        self.backend.name() == "cpu"
    }

    /// A block with these elements.
    pub fn put<T: bytemuck::Pod>(&self, data: &[T]) -> Memory {
        let memory = self.backend.alloc(size_of_val(data)).unwrap();
        self.backend.upload(bytemuck::cast_slice(data), memory.all()).unwrap();
        memory
    }

    /// A block for `len` f32, all NaN.
    pub fn out(&self, len: usize) -> Memory {
        self.put(&vec![f32::NAN; len])
    }

    /// Scratch memory for `kernel`, all NaN.
    pub fn workspace(&self, kernel: &Kernel) -> Memory {
        self.out(self.backend.workspace(kernel).div_ceil(4))
    }

    /// The elements of a block.
    pub fn get<T: bytemuck::Pod>(&self, memory: &Memory) -> Vec<T> {
        let mut data = vec![T::zeroed(); memory.bytes() / size_of::<T>()];
        self.backend.download(memory.all(), bytemuck::cast_slice_mut(&mut data)).unwrap();
        data
    }

    /// Runs `body` on random cases ([`cases`]) and shrinks the first that fails.
    pub fn check<S: Strategy>(&self, strategy: S, body: impl Fn(S::Value)) {
        let result = TestRunner::new(Config { max_shrink_iters: 200, ..cases(self.cases) }).run(&strategy, |case| {
            body(case);
            Ok(())
        });
        result.unwrap_or_else(|failure| panic!("{}: {failure}", self.name));
    }
}
