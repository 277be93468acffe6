//! How fast each operator is, by its symbol: `cargo bench --bench ops -- conv2d_wgrad_f32`. One file per operator family; ids are `symbol/device/shape`.
//!
//! Shapes are those of VGG16 on CIFAR at batch 128, full and quarter width, and one with the odd channel counts that pruning leaves. Conv and linear report
//! operations (a multiply-add is 2), everything else bytes of its tensors, each counted once per read and write. Measured on a machine at rest only; a whole
//! step is measured by `earlybird bench step`, and beside PyTorch by `benches/vs_pytorch.py`.
//!
//! `EARLYBIRD_BENCH="cpu;cuda:0"` names the devices (the CPU alone by default). On a GPU times are those between device events, L2 flushed before each run. A
//! virtual GPU (`vgpu:a100`) has no time: its counters are printed, with a bound that is called modelled, and criterion is told nothing.

#![allow(clippy::unwrap_used)] // a bench that cannot run should say where

mod batchnorm;
mod conv2d;
mod elementwise;
mod int8;
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
use earlybird::backend::cuda::Cuda;
use earlybird::backend::{Backend, Memory};
use earlybird::data::noise;
use earlybird::driver::vgpu::{Vgpu, parse};
use earlybird::measure::timer::Timer;
use earlybird::ops::Kernel;
use earlybird::vgpu::device::Options;
use earlybird::vgpu::prof::arch;

/// A device under measurement.
pub struct Device {
    /// What runs the operators.
    pub backend: Arc<dyn Backend>,
    /// Its name in ids.
    pub name: String,
    clock: Clock,
}

/// How work is timed.
enum Clock {
    /// The host's clock around a call that waits.
    Host,
    /// Events of the device.
    Events(Timer),
    /// Not at all: it is counted.
    Counters(Arc<Vgpu>),
}

/// Blocks of a launch that are counted on a virtual GPU.
const SAMPLE: u64 = 8;

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
        let id = BenchmarkId::new(&self.name, shape);
        match &self.clock {
            Clock::Host => {
                group.bench_function(id, |b| {
                    b.iter(|| {
                        call().unwrap();
                        self.backend.synchronize().unwrap();
                    });
                });
            }
            Clock::Events(timer) => {
                group.bench_function(id, |b| {
                    b.iter_custom(|runs| {
                        let seconds = (0..runs).map(|_| {
                            timer.run(&mut call).unwrap();
                            timer.seconds().unwrap()
                        });
                        Duration::from_secs_f64(seconds.sum())
                    });
                });
            }
            Clock::Counters(driver) => {
                driver.take_summaries();
                call().unwrap();
                for all in driver.take_summaries() {
                    let (read, written) = (all.global_read.sectors, all.global_write.sectors);
                    let name = self.name.split([':', ',']).nth(1).unwrap_or("a100");
                    let rates = arch::ALL.iter().find(|a| a.name == name).unwrap_or(&&arch::A100);
                    // What comes from memory is unknown where blocks are a sample: the bound is that of the multiprocessors.
                    let bound = all.bound(rates);
                    println!(
                        "counted  {}/{}/{shape}: {} warp instructions, {} B read and {} B written in sectors, {} bank conflicts; modelled >= {:.1} us ({}) \
                         from {} of {} blocks",
                        all.kernel,
                        self.name,
                        all.issued().warps,
                        32 * read,
                        32 * written,
                        all.shared.wavefronts.saturating_sub(all.shared.ideal),
                        bound.seconds * 1e6,
                        bound.limit,
                        all.counted_blocks,
                        all.blocks(),
                    );
                }
            }
        }
    }
}

/// The devices that were asked for.
pub fn devices() -> Vec<Device> {
    let names = std::env::var("EARLYBIRD_BENCH").unwrap_or_else(|_| "cpu".into());
    names.split(';').map(device).collect()
}

fn device(name: &str) -> Device {
    let (backend, clock): (Arc<dyn Backend>, Clock) = match name.split([':', ',']).next().unwrap() {
        "cpu" => (Cpu::new(), Clock::Host),
        "vgpu" => {
            let options = Options { profile: true, sample: Some(SAMPLE), ..parse(name).unwrap() };
            let driver = Arc::new(Vgpu::new(options));
            (Arc::new(Cuda::new(driver.clone()).unwrap()), Clock::Counters(driver))
        }
        _ => {
            let driver = earlybird::driver::open(name).unwrap();
            let cuda = Cuda::new(driver.clone()).unwrap();
            let timer = Timer::new(driver, cuda.stream()).unwrap();
            (Arc::new(cuda), Clock::Events(timer))
        }
    };
    Device { backend, name: name.into(), clock }
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
    targets = conv2d::bench, batchnorm::bench, pool::bench, elementwise::bench, linear::bench, softmax_xent::bench, sgd::bench, mask::bench, int8::bench
}
criterion_main!(all);
