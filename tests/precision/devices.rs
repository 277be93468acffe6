//! The same runs on a GPU as on the CPU: every bit in `int8`, a rounding here and there in `eb8`. On virtual GPUs, and on a real one where there is one.

use std::ops::Range;
use std::sync::Arc;

use earlybird::autograd::Precision;
use earlybird::backend::Backend;
use earlybird::backend::cpu::{Cpu, Path};
use earlybird::backend::cuda::Cuda;
use earlybird::driver::vgpu::Vgpu;
use earlybird::graph::Graph;
use earlybird::nn::{ModelOptions, build};
use earlybird::ops::Shape;
use earlybird::ops::conv2d::Conv2dAttr;
use earlybird::ops::pool::Window;
use earlybird::ticket::{Mask, draw};
use earlybird::vgpu::device::Options;
use earlybird::vgpu::limits::{A100, Limits};

use crate::common::{self, have_kernels};
use crate::{INT8, SCALES, WGRAD16, bits, differing, session, surgery, train};

/// Two workers, unchecked.
const FAST: fn() -> Options = || Options { workers: 2, ..Options::default() };

fn virtual_gpu(options: Options) -> Arc<dyn Backend> {
    Arc::new(Cuda::new(Arc::new(Vgpu::new(options))).unwrap())
}

fn real_gpu() -> Option<Arc<dyn Backend>> {
    common::gpu().map(|driver| Arc::new(Cuda::new(driver).unwrap()) as Arc<dyn Backend>)
}

mod vgpu {
    use super::*;

    /// With one and two workers, and on a GPU whose one multiprocessor gets other tiles. The first steps run with every check on.
    #[test]
    fn twenty_steps_leave_the_bits_of_the_cpu() {
        if have_kernels("twenty_steps_leave_the_bits_of_the_cpu") {
            let one = Options { limits: Limits { sms: 1, ..A100 }, ..Options::default() };
            let gpus =
                [("two workers", FAST(), 20), ("checked", Options::checked(), 2), ("one multiprocessor", one, 2)];
            twenty_steps(&gpus.map(|(name, options, steps)| (name, virtual_gpu(options), steps)));
        }
    }

    #[test]
    fn residual_networks_leave_the_bits_of_the_cpu() {
        if have_kernels("residual_networks_leave_the_bits_of_the_cpu") {
            residual_networks([virtual_gpu(Options::checked()), virtual_gpu(FAST())]);
        }
    }

    #[test]
    fn options_leave_the_bits_of_the_cpu() {
        if have_kernels("options_leave_the_bits_of_the_cpu") {
            let one = Options { limits: Limits { sms: 1, ..A100 }, ..FAST() };
            options([virtual_gpu(Options::checked()), virtual_gpu(one)]);
        }
    }

    #[test]
    fn eb8_steps_as_on_the_cpu() {
        if have_kernels("eb8_steps_as_on_the_cpu") {
            eb8_steps(virtual_gpu(Options::checked()));
        }
    }
}

mod cuda {
    use super::*;

    #[test]
    fn twenty_steps_leave_the_bits_of_the_cpu() {
        if let Some(gpu) = real_gpu() {
            twenty_steps(&[("the GPU", gpu, 20)]);
        }
    }

    #[test]
    fn residual_networks_leave_the_bits_of_the_cpu() {
        if let Some(gpu) = real_gpu() {
            residual_networks([gpu.clone(), gpu]);
        }
    }

    #[test]
    fn options_leave_the_bits_of_the_cpu() {
        if let Some(gpu) = real_gpu() {
            options([gpu.clone(), gpu]);
        }
    }

    #[test]
    fn eb8_steps_as_on_the_cpu() {
        if let Some(gpu) = real_gpu() {
            eb8_steps(gpu);
        }
    }
}

/// What a run leaves: parameters, momenta and statistics, losses, masks at 30 and 70%.
type Left = (Vec<(String, Vec<u32>)>, Vec<u64>, Vec<Mask>);

fn run(graph: &Arc<Graph>, backend: Arc<dyn Backend>, n: usize, steps: Range<u64>) -> Left {
    run_in(INT8, graph, backend, n, steps)
}

fn run_in(precision: Precision, graph: &Arc<Graph>, backend: Arc<dyn Backend>, n: usize, steps: Range<u64>) -> Left {
    let mut session = session(graph, backend, precision);
    let losses = train(&mut session, n, steps);
    assert!(losses.iter().all(|loss| loss.is_finite()));
    let cuts = draw(&session.bn_scales().unwrap(), &[0.3, 0.7]).unwrap();
    let masks = cuts.into_iter().map(|cut| cut.mask).collect();
    (bits(&session), losses.iter().map(|loss| loss.to_bits()).collect(), masks)
}

fn same(name: &str, want: &Left, got: &Left) {
    assert_eq!(differing(&want.0, &got.0), Vec::<String>::new(), "{name}");
    assert!(want == got, "{name}: losses or masks");
}

fn plain() -> Arc<dyn Backend> {
    Cpu::with_path(Path::Portable).unwrap()
}

/// Blocks with and without a pool, channels of any number.
fn vgg_in_small() -> Arc<Graph> {
    let mut g = Graph::new("vgg in small");
    let mut x = g.input(Shape::new(12, 12, 3));
    for (number, (width, pool)) in [(20, false), (37, true), (16, false), (48, true)].into_iter().enumerate() {
        x = g.conv2d(x, &format!("conv{number}"), Conv2dAttr::square(width, 3, 1, 1)).unwrap();
        x = g.batchnorm(x, &format!("bn{number}")).unwrap();
        x = g.relu(x, &format!("relu{number}")).unwrap();
        if pool {
            x = g.maxpool(x, &format!("pool{number}"), Window { kernel: 2, stride: 2, padding: 0 }).unwrap();
        }
    }
    x = g.avgpool(x, "mean", Window { kernel: 3, stride: 3, padding: 0 }).unwrap();
    g.linear(x, "head", 5).unwrap();
    Arc::new(g)
}

/// Streams where 16 bits, f32 and 8 bits meet in both directions: `a` has a reader in f32, so that it is added to a stream of 16 bits in f32; `s` has three readers, whose gradients are of
/// 8 and 16 bits; `t` is read by an addition alone.
pub fn streams_in_small() -> Arc<Graph> {
    let mut g = Graph::new("streams in small");
    let x = g.input(Shape::new(9, 9, 3));
    let conv = |g: &mut Graph, x, name: &str, kernel| {
        g.conv2d(x, name, Conv2dAttr::square(20, kernel, 1, kernel / 2)).unwrap()
    };
    let a = conv(&mut g, x, "a", 3);
    let relu = g.relu(a, "relu").unwrap();
    let b = conv(&mut g, relu, "b", 1);
    let s = g.add(b, a, "s").unwrap();
    let n = g.batchnorm(s, "bn1").unwrap();
    let n = g.relu(n, "relu1").unwrap();
    let c = conv(&mut g, n, "c", 3);
    let t = g.add(c, s, "t").unwrap();
    let d = conv(&mut g, s, "d", 1);
    let u = g.add(d, t, "u").unwrap();
    let n = g.batchnorm(u, "bn2").unwrap();
    let n = g.relu(n, "relu2").unwrap();
    let n = g.global_avgpool(n, "mean").unwrap();
    g.linear(n, "head", 5).unwrap();
    Arc::new(g)
}

/// A VGG with odd widths: each GPU leaves the weights, momenta, statistics and masks that the plain CPU leaves after as many steps, byte for byte.
fn twenty_steps(gpus: &[(&str, Arc<dyn Backend>, u64)]) {
    let graph = vgg_in_small();
    for (name, gpu, steps) in gpus {
        same(name, &run(&graph, plain(), 6, 0..*steps), &run(&graph, gpu.clone(), 6, 0..*steps));
    }
}

/// The same for residual networks: a bottleneck PreResNet, a ResNet-18 with its strides, 1x1 convolutions and 7x7 stem, streams of all forms, a pruned PreResNet and gathers of all kinds.
fn residual_networks(gpus: [Arc<dyn Backend>; 2]) {
    for ((model, width, side), gpu) in [("preresnet20", 0.25, 16), ("resnet18", 0.0625, 32)].into_iter().zip(&gpus) {
        let options = ModelOptions { width, input: Shape::new(side, side, 3), classes: 5 };
        let graph = Arc::new(build(model, &options).unwrap());
        same(model, &run(&graph, plain(), 2, 0..2), &run(&graph, gpu.clone(), 2, 0..2));
        let graph = streams_in_small();
        same(graph.name(), &run(&graph, plain(), 3, 0..3), &run(&graph, gpu.clone(), 3, 0..3));
        let graph = crate::ends::ends_in_small();
        same(graph.name(), &run(&graph, plain(), 3, 0..3), &run(&graph, gpu.clone(), 3, 0..3));
    }
    for (graph, gpu) in [surgery::gathers_in_small(), surgery::pruned(0.5)].into_iter().zip(gpus) {
        same(graph.name(), &run(&graph, plain(), 2, 0..2), &run(&graph, gpu, 2, 0..2));
    }
}

/// Weight gradients from 16 bits, and scales of 8 bits: in a small VGG; the former in a residual network, too.
fn options(gpus: [Arc<dyn Backend>; 2]) {
    let graph = vgg_in_small();
    for precision in [WGRAD16, SCALES] {
        let cpu = run_in(precision, &graph, plain(), 6, 0..3);
        assert!(cpu != run(&graph, plain(), 6, 0..3), "{precision:?} does something");
        for gpu in &gpus {
            same(&format!("{precision:?}"), &cpu, &run_in(precision, &graph, gpu.clone(), 6, 0..3));
        }
    }
    let options = ModelOptions { width: 0.0625, input: Shape::new(32, 32, 3), classes: 5 };
    let (graph, [_, gpu]) = (Arc::new(build("resnet18", &options).unwrap()), gpus);
    same("resnet18", &run_in(WGRAD16, &graph, plain(), 2, 0..2), &run_in(WGRAD16, &graph, gpu, 2, 0..2));
}

/// After a step from the same weights the f32 sums differ in their last bits, and with them a rounding here and there: less than one number in a hundred, and each by a step of
/// its grid.
fn eb8_steps(gpu: Arc<dyn Backend>) {
    let mut g = Graph::new("small");
    let mut x = g.input(Shape::new(8, 8, 3));
    for (i, width) in [8, 13].into_iter().enumerate() {
        x = g.conv2d(x, &format!("conv{i}"), Conv2dAttr::square(width, 3, 1, 1)).unwrap();
        x = g.batchnorm(x, &format!("bn{i}")).unwrap();
        x = g.relu(x, &format!("relu{i}")).unwrap();
    }
    x = g.global_avgpool(x, "pool").unwrap();
    g.linear(x, "head", 5).unwrap();
    let graph = Arc::new(g);
    let [cpu, gpu] = [Cpu::new(), gpu].map(|backend| {
        let mut session = session(&graph, backend, Precision::Eb8);
        let losses = train(&mut session, 4, 0..3);
        (losses, bits(&session))
    });
    for (a, b) in cpu.0.iter().zip(&gpu.0) {
        assert!((a - b).abs() < 1e-3 * a, "{:?} {:?}", cpu.0, gpu.0);
    }
    let (mut all, mut off) = (0, 0);
    for ((name, a), (_, b)) in cpu.1.iter().zip(&gpu.1).filter(|((name, _), _)| !name.contains("running")) {
        for (a, b) in a.iter().zip(b) {
            (all, off) = (all + 1, off + usize::from(a != b));
            let (a, b) = (f32::from_bits(*a), f32::from_bits(*b));
            assert!((a - b).abs() <= 0.05 * a.abs().max(0.1), "{name}: {a} {b}");
        }
    }
    println!("{off} of {all} weights and momenta differ");
    assert!(all > 2000 && off * 100 <= all, "{off} of {all} differ");
}
