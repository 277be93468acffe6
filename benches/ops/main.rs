//! How fast each operator is, by its symbol: `cargo bench --bench ops -- conv2d_wgrad_f32`. One file per operator family; ids are `symbol/device/shape`.
//!
//! Shapes are those of VGG16 on CIFAR at batch 128, full and quarter width, and one with the odd channel counts that pruning leaves. Conv and linear report
//! operations (a multiply-add is 2), everything else bytes of its tensors, each counted once per read and write. Measured on a machine at rest only; a whole
//! step is measured by `earlybird bench step`, and beside PyTorch by `benches/vs_pytorch.py`.

#![allow(clippy::unwrap_used)] // a bench that cannot run should say where

mod batchnorm;
mod conv2d;
mod elementwise;
mod linear;
mod mask;
mod pool;
mod sgd;
mod softmax_xent;

use std::sync::Arc;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use earlybird::backend::cpu::Cpu;
use earlybird::backend::{Backend, Memory};
use earlybird::data::noise;
use earlybird::ops::Kernel;

/// A device under measurement.
pub struct Device {
    /// What runs the operators.
    pub backend: Arc<dyn Backend>,
    /// Its name in ids.
    pub name: &'static str,
}

impl Device {
    /// `len` random f32 on the device.
    pub fn noise(&self, len: usize) -> Memory {
        self.put(&noise(len, len as u64))
    }

    /// These elements on the device.
    pub fn put<T: bytemuck::Pod>(&self, data: &[T]) -> Memory {
        let memory = self.backend.alloc(size_of_val(data)).unwrap();
        self.backend.upload(bytemuck::cast_slice(data), memory.all()).unwrap();
        memory
    }

    /// Scratch memory for `kernel`.
    pub fn workspace(&self, kernel: Kernel) -> Memory {
        self.backend.alloc(self.backend.workspace(&kernel)).unwrap()
    }

    /// Measures `call` as `symbol/device/shape`.
    pub fn measure(
        &self,
        group: &mut BenchmarkGroup<WallTime>,
        shape: &str,
        throughput: Throughput,
        mut call: impl FnMut() -> earlybird::Result<()>,
    ) {
        group.throughput(throughput);
        group.bench_function(BenchmarkId::new(self.name, shape), |b| {
            b.iter(|| {
                call().unwrap();
                self.backend.synchronize().unwrap();
            });
        });
    }
}

/// The devices that are there.
pub fn devices() -> Vec<Device> {
    vec![Device { backend: Cpu::new(), name: "cpu" }]
}

/// A group called by a kernel's symbol.
pub fn group<'c>(c: &'c mut Criterion, symbol: &str) -> BenchmarkGroup<'c, WallTime> {
    c.benchmark_group(symbol)
}

/// Rows (N*H*W) and channels of activations: first, middle and last stage of VGG16, a quarter of the first, and pruned odd ones.
pub const ACTIVATIONS: [(usize, usize, usize); 5] =
    [(128, 32, 64), (128, 8, 256), (128, 2, 512), (128, 32, 16), (128, 16, 37)];

criterion_group! {
    name = all;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = conv2d::bench, batchnorm::bench, pool::bench, elementwise::bench, linear::bench, softmax_xent::bench, sgd::bench, mask::bench
}
criterion_main!(all);
