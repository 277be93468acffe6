//! A training step allocates nothing: neither device memory nor, on the CPU, anything on the heap. Everything is planned when a batch size is first seen.
//!
//! A test binary of its own, because it replaces the allocator by one that counts.

#![allow(clippy::unwrap_used)] // clippy.toml allows it in test functions only, not in their helpers

use std::sync::Arc;

use earlybird::autograd::{Hyper, Int8Options, Precision, Resident, Session, Take};
use earlybird::backend::Backend;
use earlybird::backend::cpu::{Cpu, Path};
use earlybird::data::noise;
use earlybird::graph::Graph;
use earlybird::nn::init;
use earlybird::ops::Shape;
use earlybird::ops::augment::Augment;
use earlybird::ops::conv2d::Conv2dAttr;
use earlybird::ops::pool::Window;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Every operator, with biases, few and many channels, a stride, a residual add and a select; blocks of `int8` with a pool and without.
fn every_operator() -> earlybird::Result<Graph> {
    let mut g = Graph::new("every operator");
    let x = g.input(Shape::new(20, 20, 3));
    let x = g.conv2d(x, "stem", Conv2dAttr { bias: true, ..Conv2dAttr::square(24, 3, 1, 1) })?;
    let x = g.batchnorm(x, "bn")?;
    let x = g.relu(x, "relu")?;
    let y = g.select(x, "select", (0..16).collect())?;
    let y = g.conv2d(y, "inner", Conv2dAttr { bias: true, ..Conv2dAttr::square(24, 3, 1, 1) })?;
    let x = g.add(x, y, "add")?;
    let mut x = g.relu(x, "relu2")?;
    for (i, width) in [40, 20].into_iter().enumerate() {
        x = g.conv2d(x, &format!("conv{i}"), Conv2dAttr::square(width, 3, 1, 1))?;
        x = g.batchnorm(x, &format!("bn{i}"))?;
        x = g.relu(x, &format!("relu of bn{i}"))?;
    }
    let x = g.maxpool(x, "pool", Window { kernel: 2, stride: 2, padding: 0 })?;
    let x = g.conv2d(x, "down", Conv2dAttr::square(37, 3, 2, 1))?;
    let x = g.maxpool(x, "max", Window { kernel: 2, stride: 2, padding: 0 })?;
    let x = g.avgpool(x, "mean", Window { kernel: 3, stride: 1, padding: 1 })?;
    let x = g.global_avgpool(x, "global")?;
    g.linear(x, "head", 5)?;
    Ok(g)
}

/// Heap blocks and bytes of `count` steps and evaluations, on a pool of `threads`, after as many that warm up.
fn steps(cpu: &Arc<dyn Backend>, precision: Precision, threads: usize, count: usize) -> (u64, u64) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let g = Arc::new(every_operator().unwrap());
        let mut session = Session::with_precision(g.clone(), cpu.clone(), Hyper::default(), precision, 7).unwrap();
        session.load_state(&init(&g, 1)).unwrap();
        let (images, labels) = (noise(8 * g.input_shape().elements(), 1), [0, 1, 2, 3, 4, 0, 1, 2]);
        let p = Augment { seed: [1, 2], n: 0, h: 20, w: 20, c: 3, count: 8, order: 0, pad: 2, crop: 1, flip: 1 };
        let bytes: Vec<u8> = images.iter().map(|v| v.to_bits() as u8).collect();
        let resident = Resident::new(&**session.backend(), p, &bytes, &labels, &[0.5; 3], &[0.25; 3]).unwrap();
        resident.set_order(&**session.backend(), &[7, 6, 5, 4, 3, 2, 1, 0]).unwrap();
        let (feed, take) = (session.attach(&resident).unwrap(), Take { epoch: 1, first: 0, images: 8 });
        let all = |session: &mut Session| {
            session.step(&images, &labels, 0.01).unwrap();
            session.evaluate(&images, &labels).unwrap();
            session.step_from(feed, take, 0.01).unwrap();
            session.evaluate_from(feed, take).unwrap();
        };
        (0..count).for_each(|_| all(&mut session));
        let (before, device) = (dhat::HeapStats::get(), session.device_bytes());
        (0..count).for_each(|_| all(&mut session));
        let after = dhat::HeapStats::get();
        assert_eq!(session.device_bytes(), device);
        (after.total_blocks - before.total_blocks, after.total_bytes - before.total_bytes)
    })
}

#[test]
fn a_step_allocates_nothing() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let int8 = Precision::Int8(Int8Options::default());
    let options = Precision::Int8(Int8Options { wgrad16: true, scales_int8: true, ..Default::default() });
    let cpu = Cpu::new();
    for precision in [Precision::F32, Precision::Eb8, int8, options] {
        assert_eq!(steps(&cpu, precision, 1, 3), (0, 0), "{precision:?}");
    }
    let plain = Cpu::with_path(Path::Portable).unwrap();
    assert_eq!(steps(&plain, int8, 1, 2), (0, 0), "the plain 8-bit operators");
    // With more threads, rayon's queues may grow by a block now and then, and a thread may see its first task late, whose scratch memory is up to 90 kB: below one tensor, which is 300 kB.
    for (precision, count) in [(Precision::F32, 20), (int8, 6)] {
        let (blocks, bytes) = steps(&cpu, precision, 3, count);
        assert!(blocks < 60 && bytes < 250_000, "{precision:?}: {blocks} blocks, {bytes} bytes in {count} steps");
    }
}
