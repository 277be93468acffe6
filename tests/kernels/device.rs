//! Devices with kernels, and buffers on them: virtual ones with all checks on, and the real one.

use std::sync::Arc;

use bytemuck::Pod;
use earlybird::backend::cuda::launch::Kernels;
use earlybird::driver::{self, DevPtr, Driver, StreamId};

use crate::common::{gpu, have_kernels};

/// The stream that everything runs on.
pub const STREAM: StreamId = StreamId::DEFAULT;

/// All that hardware may do in another order.
pub const SCHEDULES: [&str; 4] = ["converge", "reverse", "random:1", "random:2"];

/// Opens the device under test with a schedule, which is for virtual GPUs only.
pub type Open = Box<dyn Fn(&str) -> Gpu>;

/// Virtual GPUs with every check on; none where this build has no kernels.
pub fn vgpu() -> Option<Open> {
    have_kernels("vgpu").then(|| -> Open { Box::new(Gpu::checked) })
}

/// The real GPU; none where there is none.
pub fn cuda() -> Option<Open> {
    gpu().map(|driver| -> Open { Box::new(move |_| Gpu::of(driver.clone())) })
}

/// A device with its kernels.
pub struct Gpu {
    pub driver: Arc<dyn Driver>,
    pub kernels: Kernels,
}

impl Gpu {
    /// With every check on.
    pub fn checked(schedule: &str) -> Gpu {
        Gpu::open(&format!("vgpu,check,profile,schedule={schedule}"))
    }

    pub fn open(name: &str) -> Gpu {
        Gpu::of(driver::open(name).unwrap())
    }

    fn of(driver: Arc<dyn Driver>) -> Gpu {
        let kernels = Kernels::new(driver.clone()).unwrap();
        Gpu { driver, kernels }
    }

    pub fn upload<T: Pod>(&self, values: &[T]) -> DevPtr {
        let ptr = self.alloc::<T>(values.len());
        self.driver.copy_htod(ptr, bytemuck::cast_slice(values), STREAM).unwrap();
        ptr
    }

    pub fn alloc<T>(&self, count: usize) -> DevPtr {
        self.driver.mem_alloc((count * size_of::<T>()).max(1)).unwrap()
    }

    pub fn download<T: Pod>(&self, ptr: DevPtr, count: usize) -> Vec<T> {
        let mut out = vec![T::zeroed(); count];
        self.driver.copy_dtoh(bytemuck::cast_slice_mut(&mut out), ptr, STREAM).unwrap();
        out
    }
}

/// Repeatable numbers in 0..1.
pub fn noise(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..count).map(|_| next()).collect()
}
