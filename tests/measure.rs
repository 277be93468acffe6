//! Counters and the models made of them: a sample of blocks against whole launches, compulsory bytes against what is touched, budgets, and the timer.

#![allow(clippy::unwrap_used)] // clippy.toml allows it in test functions only, not in their helpers

mod common;

use std::sync::Arc;

use common::have_kernels;
use earlybird::autograd::Precision;
use earlybird::driver::kernels::MODULES;
use earlybird::driver::trace::trace;
use earlybird::driver::vgpu::{Vgpu, parse};
use earlybird::driver::{Driver, StreamId};
use earlybird::graph::Graph;
use earlybird::measure::probe::{Rig, probe};
use earlybird::measure::step::{Row, model};
use earlybird::measure::timer::Timer;
use earlybird::ops::conv2d::{Conv2d, Conv2dAttr};
use earlybird::ops::pool::{Pool, Window};
use earlybird::ops::{Kernel, Shape};
use earlybird::vgpu::device::Options;
use earlybird::vgpu::prof::arch::A100;

/// The budgets themselves are judged by the command's test, `tests/cli_kernels.rs`.
#[test]
fn every_f32_kernel_of_an_operator_is_counted() {
    if !have_kernels("probes") {
        return;
    }
    let counted = probe().unwrap();
    let families = ["add", "batchnorm", "conv2d", "linear", "matmul", "pool", "relu", "select", "sgd", "softmax_xent"];
    for entry in MODULES.iter().filter(|m| families.contains(&m.name)).flat_map(|m| m.entries) {
        let there = counted.iter().any(|c| c.summary.kernel == entry.name);
        assert!(there || !entry.name.contains("f32"), "{} is not probed", entry.name);
    }
}

/// Footprints of whole launches are the compulsory bytes: sectors that an operator touches, each once.
#[test]
fn compulsory_bytes_are_what_a_whole_launch_touches() {
    if !have_kernels("compulsory bytes") {
        return;
    }
    let mut seen = 0;
    for counted in probe().unwrap() {
        let Some((read, written)) = counted.compulsory else { continue };
        let s = &counted.summary;
        // The mask kernel reads what it wrote, a weight gradient most of the sums that its slices wrote; metrics and the learning rate fill part of a sector.
        // What a crop leaves out of an image is not read.
        if ["mask", "conv2d_wgrad_i8", "augment"].iter().any(|stem| s.kernel.starts_with(stem)) {
            continue;
        }
        // An 8-bit pass need not look at every operand (sums of blocks that padding fills): it touches no more than they have.
        let exact = !s.kernel.contains("_i8");
        let near = |sectors: u64, bytes: usize| {
            let (more, slack) = (32 * sectors as i64 - bytes as i64, 64 * 6 + bytes as i64 / 100);
            more <= slack && (!exact || more >= -slack)
        };
        assert!(
            near(s.global_read.footprint_sectors, read),
            "{}: reads {} of {read}",
            s.kernel,
            32 * s.global_read.footprint_sectors
        );
        assert!(
            near(s.global_write.footprint_sectors, written),
            "{}: writes {} of {written}",
            s.kernel,
            32 * s.global_write.footprint_sectors
        );
        seen += 1;
    }
    assert!(seen > 40, "{seen}");
}

/// Eight blocks, and some more where they differ, come to the whole launch.
#[test]
fn a_sample_of_blocks_stands_for_the_launch() {
    if !have_kernels("sampled blocks") {
        return;
    }
    let conv = |n, side, c, k| Conv2d::new(n, Shape::new(side, side, c), &Conv2dAttr::square(k, 3, 1, 1)).unwrap();
    let pool = Pool { n: 8, h: 32, w: 32, c: 64, p: 16, q: 16, kernel_h: 2, kernel_w: 2, stride: 2, padding: 0 };
    let (large, small) = (conv(6, 16, 16, 128), conv(4, 16, 16, 32));
    let kernels = [
        Kernel::Conv2dFwd(large),
        Kernel::Conv2dDgrad(small),
        Kernel::Conv2dWgrad(small),
        Kernel::MaxPoolFwd(pool),
        Kernel::AvgPoolBwd(pool),
    ];
    let (whole, part) = (Rig::new(4, None).unwrap(), Rig::new(4, Some(8)).unwrap());
    for kernel in kernels {
        for (all, some) in whole.operator(&kernel).unwrap().iter().zip(part.operator(&kernel).unwrap()) {
            let (all, some) = (&all.summary, &some.summary);
            assert!(
                all.counted_blocks == all.blocks() && some.counted_blocks <= all.blocks().min(42),
                "{}",
                all.kernel
            );
            // Image borders, where taps fall outside, are not spread quite like the sample.
            let near = |percent: u64, a: u64, b: u64| a.abs_diff(b) * 100 <= percent * a.max(100);
            let name = &all.kernel;
            assert!(
                near(2, all.issued().lanes, some.issued().lanes),
                "{name}: {} lanes, {}",
                all.issued().lanes,
                some.issued().lanes
            );
            let sectors = |s: &earlybird::vgpu::prof::Summary| s.global_read.sectors + s.global_write.sectors;
            assert!(near(8, sectors(all), sectors(some)), "{name}: {} sectors, {}", sectors(all), sectors(some));
            assert!(near(2, all.shared.wavefronts, some.shared.wavefronts), "{name}");
        }
    }
}

/// Convolutions, batchnorms, pools and a classifier; small enough to interpret whole.
fn small() -> Graph {
    let mut g = Graph::new("small");
    let half = Window { kernel: 2, stride: 2, padding: 0 };
    let mut x = g.input(Shape::new(16, 16, 3));
    for (i, width) in [16, 40].into_iter().enumerate() {
        x = g.conv2d(x, &format!("conv{i}"), Conv2dAttr::square(width, 3, 1, 1)).unwrap();
        x = g.batchnorm(x, &format!("bn{i}")).unwrap();
        x = g.relu(x, &format!("relu{i}")).unwrap();
        x = g.maxpool(x, &format!("pool{i}"), half).unwrap();
    }
    let x = g.avgpool(x, "mean", half).unwrap();
    g.linear(x, "head", 10).unwrap();
    g
}

fn step(graph: &Graph, batch: usize, sample: Option<u64>) -> Vec<Row> {
    model(graph, batch, Precision::F32, Options { sample, ..Options::default() }, &A100).unwrap()
}

/// Counters are functions of the shape: bytes and multiply-adds grow with the batch by the same amount each time, kernel by kernel.
#[test]
fn a_modelled_step_is_linear_in_the_batch_and_its_sample_is_near_the_whole() {
    if !have_kernels("modelled step") {
        return;
    }
    let graph = small();
    let straight = |batch| -> Vec<Row> {
        // Slices of a weight gradient are added where there are several.
        step(&graph, batch, Some(4)).into_iter().filter(|row| !row.symbol.contains("wgrad_sum")).collect()
    };
    let [two, four, six] = [2, 4, 6].map(straight);
    for ((a, b), c) in two.iter().zip(&four).zip(&six) {
        assert_eq!((&a.layer, &a.macs), (&c.layer, &(2 * b.macs - c.macs)));
        // Slices and slabs follow the shape in steps; the rest is straight.
        if !["wgrad", "stats", "sums", "coef"].iter().any(|word| a.symbol.contains(word)) && a.symbol == c.symbol {
            assert_eq!(b.bytes - a.bytes, c.bytes - b.bytes, "{} {}", a.layer, a.symbol);
        }
    }
    let whole = step(&graph, 2, None);
    for (all, some) in whole.iter().zip(&step(&graph, 2, Some(4))) {
        assert_eq!((&all.layer, &all.symbol, all.blocks), (&some.layer, &some.symbol, some.blocks));
        assert!(
            (all.modelled - some.modelled).abs() <= 0.05 * all.modelled,
            "{} {}: {} and {}",
            all.layer,
            all.symbol,
            all.modelled,
            some.modelled
        );
        assert!(
            all.roofline <= all.modelled && (all.roofline + all.work + all.tail + all.launch) >= 0.999 * all.modelled
        );
    }
}

/// On a real device these calls are the measurement; a virtual one has no clock and says so.
#[test]
fn the_timer_flushes_records_runs_records_and_waits() {
    let driver: Arc<dyn Driver> = Arc::new(Vgpu::new(parse("vgpu").unwrap()));
    let traced = Arc::new(trace(driver));
    let timer = Timer::new(traced.clone(), StreamId::DEFAULT).unwrap();
    let mut runs = 0;
    traced.observer().reset();
    for _ in 0..3 {
        timer
            .run(&mut || {
                runs += 1;
                Ok(())
            })
            .unwrap();
    }
    let counts = traced.observer().counts();
    let of = |api: &str| counts.of(api);
    assert_eq!((runs, of("cuMemsetD"), of("cuEventRecord"), of("cuEventSynchronize")), (3, 3, 6, 3));
    assert!(counts.bytes["cuMemsetD"] / 3 >= 2 * traced.props().l2_bytes, "less than L2 is flushed");
    let error = timer.seconds().unwrap_err().to_string();
    assert!(error.contains("virtual GPU counts"), "{error}");
    drop(timer);
    assert_eq!(traced.observer().counts().live_bytes, 0);
}
