//! The energy model's counts against calculations that share nothing with them: by hand for two layers, the lowered program's own values, and what the virtual GPU counts
//! while it runs the f32 kernels.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::Arc;

use earlybird::autograd::{Hyper, Int8Options, Layout, Mode, Packing, Precision, Session, lower};
use earlybird::backend::cuda::Cuda;
use earlybird::driver::vgpu::{Vgpu, parse};
use earlybird::energy::cost::{self, Cost};
use earlybird::energy::{Numerics, Profile};
use earlybird::graph::Graph;
use earlybird::nn;
use earlybird::ops::conv2d::Conv2dAttr;
use earlybird::ops::pool::Window;
use earlybird::ops::quantize::Form;
use earlybird::ops::{Kernel, Shape};
use earlybird::ticket::{Mask, SurgeryOptions, plan_surgery};
use earlybird::vgpu::prof::{Class, Summary};

fn layer(graph: &Graph, batch: usize, numerics: Numerics, name: &str) -> cost::LayerCost {
    cost::layers(graph, batch, numerics).into_iter().find(|layer| layer.name == name).unwrap()
}

/// Two convolutions of VGG16 on CIFAR at batch 256, calculated with pencil and paper: rows of the table in kernels.md section 2.
#[test]
fn two_layers_by_hand() {
    let vgg = nn::build("vgg16", &nn::ModelOptions::default()).unwrap();
    // feature.3: 32x32, 64 -> 64, 3x3. 256 * 1024 * 64 outputs of 576 products each = 9.66 G; 16,777,216 elements in and out, 36,864 weights.
    let second = layer(&vgg, 256, Numerics::F32, "feature.3");
    let (macs, activations, weights) = (9_663_676_416, 16_777_216, 36_864);
    assert_eq!(second.forward.macs_f32, macs);
    assert_eq!(second.forward.dram_bytes, 4 * (2 * activations + weights), "134 MB");
    assert_eq!(second.backward.macs_f32, 2 * macs);
    assert_eq!(second.backward.dram_bytes, 2 * 4 * (2 * activations + weights));
    // In int8 a byte each; 13 bytes per output element over conv (2), dgrad (3), wgrad (2), batchnorm forward (2) and backward (4), and a quarter of a byte for sums in conv,
    // dgrad and batchnorm forward, twice in backward.
    let eight = layer(&vgg, 256, Numerics::Int8, "feature.3");
    assert_eq!((eight.forward.macs_i8, eight.forward.macs_f32), (macs, 0));
    let sums = activations / 4;
    assert_eq!(eight.forward.dram_bytes, 2 * activations + sums + weights, "37.8 MB");
    assert_eq!(eight.backward.dram_bytes, 5 * activations + sums + weights + 4 * weights);
    assert_eq!(eight.evaluation, second.evaluation, "evaluation is in f32");
    let half = layer(&vgg, 256, Numerics::F16, "feature.3");
    assert_eq!((half.forward.macs_f16, half.forward.dram_bytes), (macs, 2 * (2 * activations + weights)), "67.2 MB");
    let bn = layer(&vgg, 256, Numerics::Int8, "feature.1");
    assert_eq!((bn.forward.dram_bytes, bn.backward.dram_bytes), (2 * activations + sums, 4 * activations + 2 * sums));
    // feature.0: 3 -> 64, no gradient of the images. 256 * 1024 * 64 * 27 = 0.453 G products, 786,432 inputs, 1728 weights.
    let first = layer(&vgg, 256, Numerics::F32, "feature.0");
    assert_eq!((first.forward.macs_f32, first.backward.macs_f32), (452_984_832, 452_984_832));
    assert_eq!(first.forward.dram_bytes, 4 * (786_432 + activations + 1728), "70.3 MB");
    // Joules of its forward products on the 45 nm table: 4.6 pJ each.
    let joules = Profile::find("45nm-ddr3").unwrap().joules(&first.forward);
    assert!((joules.arithmetic - 452_984_832.0 * 4.6e-12).abs() < 1e-9, "{joules:?}");
}

/// VGG16's int8 step moves what kernels.md says it does, 0.99 GB at batch 256, and up to a quarter more: sums between passes, passes behind pools, images that are quantised.
#[test]
fn the_int8_step_moves_as_many_bytes_as_its_design_says() {
    let vgg = nn::build("vgg16", &nn::ModelOptions::default()).unwrap();
    let bytes = cost::step(&vgg, 256, Numerics::Int8).dram_bytes as f64
        - cost::optimiser(&vgg, Numerics::Int8).dram_bytes as f64;
    assert!((1.0..1.25).contains(&(bytes / 0.99e9)), "{bytes}");
    let simulated = cost::step(&vgg, 256, Numerics::Eb8);
    let f32 = cost::step(&vgg, 256, Numerics::F32);
    assert_eq!(simulated.macs_f32, f32.macs_f32, "the simulation computes in f32");
    assert!(simulated.dram_bytes > f32.dram_bytes && simulated.ops_f32 > f32.ops_f32);
    assert!(cost::step(&vgg, 256, Numerics::Eb8AsI8).dram_bytes < f32.dram_bytes / 3);
}

/// A network whose layers fill the kernels' tiles, with a layer of every kind.
fn network() -> Graph {
    let mut g = Graph::new("counted");
    let x = g.input(Shape::new(8, 8, 64));
    let mut x = g.conv2d(x, "c1", Conv2dAttr::square(64, 3, 1, 1)).unwrap();
    x = g.batchnorm(x, "b1").unwrap();
    x = g.relu(x, "r1").unwrap();
    let stream = x;
    x = g.conv2d(x, "c2", Conv2dAttr::square(64, 1, 1, 0)).unwrap();
    x = g.batchnorm(x, "b2").unwrap();
    x = g.add(x, stream, "sum").unwrap();
    x = g.relu(x, "r2").unwrap();
    x = g.maxpool(x, "pool", Window { kernel: 2, stride: 2, padding: 0 }).unwrap();
    x = g.conv2d(x, "c3", Conv2dAttr::square(64, 3, 1, 1)).unwrap();
    x = g.batchnorm(x, "b3").unwrap();
    x = g.relu(x, "r3").unwrap();
    x = g.global_avgpool(x, "mean").unwrap();
    g.linear(x, "fc", 10).unwrap();
    g
}

/// Convolutions with batchnorm and ReLU, one with a pool: what `int8` fuses.
fn straight() -> Graph {
    let mut g = Graph::new("straight");
    let mut x = g.input(Shape::new(8, 8, 64));
    for (i, c) in [64, 128, 128].into_iter().enumerate() {
        x = g.conv2d(x, &format!("c{i}"), Conv2dAttr::square(c, 3, 1, 1)).unwrap();
        x = g.batchnorm(x, &format!("b{i}")).unwrap();
        x = g.relu(x, &format!("r{i}")).unwrap();
        if i == 1 {
            x = g.maxpool(x, "pool", Window { kernel: 2, stride: 2, padding: 0 }).unwrap();
        }
    }
    x = g.global_avgpool(x, "mean").unwrap();
    g.linear(x, "fc", 10).unwrap();
    g
}

/// Bytes that the lowered program's calls read and write, each value once per call.
#[test]
fn bytes_agree_with_the_lowered_program() {
    for (graph, batch) in [(network(), 8), (nn::build("vgg16", &nn::ModelOptions::default()).unwrap(), 4)] {
        let layout = Layout::new(&graph);
        let program = lower(&graph, &layout, &Packing::default(), batch, Mode::Train, &|_| 0).unwrap();
        let (mut bytes, mut macs) = (0u64, 0u64);
        for call in &program.calls {
            let of = |values: &[earlybird::ops::Value]| -> u64 {
                values.iter().map(|v| program.values[v.0 as usize].bytes as u64).sum()
            };
            bytes += of(&call.inputs) + of(&call.outputs);
            match call.kernel {
                // Sums first, then the pass: the rows are read twice. Without a ReLU nobody reads the output on the way back.
                Kernel::BatchNormFwd(p) => bytes += 4 * u64::from(p.rows * p.c),
                Kernel::BatchNormBwd(p) => {
                    let rows = 4 * u64::from(p.rows * p.c);
                    bytes = if p.relu == 1 { bytes + 3 * rows } else { bytes + rows };
                }
                Kernel::Conv2dFwd(p) | Kernel::Conv2dDgrad(p) | Kernel::Conv2dWgrad(p) => macs += p.macs(),
                Kernel::LinearFwd(p) | Kernel::LinearDgrad(p) | Kernel::LinearWgrad(p) => {
                    macs += u64::from(p.n) * u64::from(p.c) * u64::from(p.k);
                }
                _ => {}
            }
        }
        let step = cost::step(&graph, batch, Numerics::F32);
        let counted = step.dram_bytes - cost::optimiser(&graph, Numerics::F32).dram_bytes;
        assert_eq!(step.macs_f32, macs, "{}", graph.name());
        let ratio = counted as f64 / bytes as f64;
        assert!((ratio - 1.0).abs() < 0.01, "{}: {counted} for {bytes}", graph.name());
    }
}

/// The same for `int8`, where blocks have exponents and sums beside their mantissas: 10% are asked.
#[test]
fn bytes_agree_with_the_lowered_program_in_int8() {
    let vgg = nn::build("vgg16", &nn::ModelOptions::default()).unwrap();
    let residual = nn::build("preresnet20", &nn::ModelOptions::default()).unwrap();
    let small = nn::ModelOptions { input: Shape::new(64, 64, 3), ..Default::default() };
    let [basic, bottleneck] = ["resnet18", "resnet50"].map(|model| nn::build(model, &small).unwrap());
    // Gathers between the stream and the blocks.
    let channels = residual.bn_channels();
    let mask = Mask::from_bools((0..channels).map(|i| i % 5 != 0 && i % 2 == 0));
    let surgery = plan_surgery(&residual, &mask, &vec![0.5; channels], SurgeryOptions::default()).unwrap();
    for (graph, batch) in [(straight(), 8), (vgg, 32), (residual, 8), (basic, 8), (bottleneck, 8), (surgery.graph, 8)] {
        let (layout, precision) = (Layout::new(&graph), Precision::Int8(Int8Options::default()));
        let packing = Packing::new(&graph, &layout, precision, 1).unwrap();
        let program = lower(&graph, &layout, &packing, batch, Mode::Train, &|_| 0).unwrap();
        let (mut bytes, mut macs) = (0u64, 0u64);
        for call in &program.calls {
            let values = call.inputs.iter().chain(&call.outputs);
            bytes += values.map(|v| program.values[v.0 as usize].bytes as u64).sum::<u64>();
            match call.kernel {
                Kernel::Conv2dFwdI8(p) | Kernel::Conv2dDgradI8(p) | Kernel::Conv2dWgradI8(p) => macs += p.conv.macs(),
                Kernel::Conv2dStreamI8(p) => macs += p.product.conv.macs(),
                // Once for the exponents, once to round.
                Kernel::QuantizeBwdI8(p) => {
                    bytes += Form::of(p.form).bytes((p.n * p.pixels) as usize, p.k as usize)[0] as u64;
                }
                // What is rounded to an operand is read again.
                Kernel::BatchNormAddFwdI8(p) if p.operand != 0 => {
                    bytes += Form::Bfp16.bytes((p.n * p.pixels) as usize, p.c as usize)[0] as u64;
                }
                _ => {}
            }
        }
        let step = cost::step(&graph, batch, Numerics::Int8);
        let counted = step.dram_bytes - cost::optimiser(&graph, Numerics::Int8).dram_bytes;
        assert_eq!(step.macs_i8, macs, "{}", graph.name());
        let ratio = counted as f64 / bytes as f64;
        println!("{}: {counted} modelled, {bytes} in the program, ratio {ratio:.3}", graph.name());
        assert!((ratio - 1.0).abs() < 0.1, "{}: {counted} for {bytes}", graph.name());
    }
}

/// The sum over all kernels of a training step on the virtual GPU is within 10% of the model.
#[test]
fn counts_agree_with_the_virtual_gpus_profiler() {
    if !common::have_kernels("energy: profiler") {
        return;
    }
    let summaries = summaries(network(), 32, Precision::F32);
    let step = cost::step(&network(), 32, Numerics::F32);
    let (mut bytes, mut products) = (0, 0);
    for summary in summaries {
        let moved = 32 * (summary.global_read.footprint_sectors + summary.global_write.footprint_sectors);
        println!("{:32} {:>10} bytes {:>12} fma", summary.kernel, moved, summary.class(Class::Fma).lanes);
        bytes += moved;
        if ["conv2d", "linear", "matmul"].iter().any(|op| summary.kernel.starts_with(op)) {
            products += summary.class(Class::Fma).lanes;
        }
    }
    compare("products", products, step.macs_f32);
    compare("bytes", bytes, step.dram_bytes);
}

/// And in `int8`: products of the tensor cores, bytes of all kernels. A batch so small that no weight gradient is cut into slices: their partial sums are not the model's.
#[test]
fn counts_of_int8_agree_with_the_virtual_gpus_profiler() {
    if !common::have_kernels("energy: profiler, int8") {
        return;
    }
    let step = cost::step(&straight(), 16, Numerics::Int8);
    let (mut bytes, mut products) = (0, 0);
    for summary in summaries(straight(), 16, Precision::Int8(Int8Options::default())) {
        let moved = 32 * (summary.global_read.footprint_sectors + summary.global_write.footprint_sectors);
        let macs: u64 = summary.mma.iter().map(|mma| mma.count * mma.macs).sum();
        println!("{:32} {:>10} bytes {:>12} products", summary.kernel, moved, macs);
        bytes += moved;
        products += macs;
    }
    compare("products", products, step.macs_i8);
    compare("bytes", bytes, step.dram_bytes);
}

/// What the profiler counts in one training step of `graph`.
fn summaries(graph: Graph, batch: usize, precision: Precision) -> Vec<Summary> {
    let graph = Arc::new(graph);
    let driver = Arc::new(Vgpu::new(parse("vgpu,profile").unwrap()));
    let backend = Arc::new(Cuda::new(driver.clone()).unwrap());
    let mut session = Session::with_precision(graph.clone(), backend, Hyper::default(), precision, 1).unwrap();
    session.load_state(&nn::init(&graph, 1)).unwrap();
    let images: Vec<f32> = (0..batch * 8 * 8 * 64).map(|i| (i % 17) as f32 / 17.0 - 0.5).collect();
    let labels: Vec<u32> = (0..batch as u32).map(|i| i % 10).collect();
    // The first step packs 8-bit weights.
    session.step(&images, &labels, 0.1).unwrap();
    driver.take_summaries();
    session.step(&images, &labels, 0.1).unwrap();
    driver.take_summaries()
}

fn compare(what: &str, counted: u64, modelled: u64) {
    let ratio = counted as f64 / modelled as f64;
    println!("{what}: {counted} counted, {modelled} modelled, ratio {ratio:.3}");
    assert!((ratio - 1.0).abs() < 0.1, "{what}: {counted} counted, {modelled} modelled");
}

#[test]
fn a_pruned_network_costs_less_and_draws_cost_next_to_nothing() {
    let dense = nn::build("vgg16", &nn::ModelOptions::default()).unwrap();
    let narrow = nn::build("vgg16", &nn::ModelOptions { width: 0.5, ..Default::default() }).unwrap();
    for numerics in [Numerics::F32, Numerics::F16, Numerics::Eb8, Numerics::Eb8AsI8, Numerics::Int8] {
        let profile = &earlybird::energy::profile::PROFILES[0];
        let joules = |cost: Cost| profile.joules(&cost).total();
        assert!(joules(cost::step(&narrow, 128, numerics)) < joules(cost::step(&dense, 128, numerics)) / 2.0);
        assert!(joules(cost::draw(&dense)) < 1e-3 * joules(cost::step(&dense, 128, numerics)));
    }
}
