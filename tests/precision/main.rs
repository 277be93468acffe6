//! Whole training steps in `int8` and `eb8`: that networks learn, that every device, instruction set and number of threads leaves the same bits, and that a run goes on from
//! a file as if it had never stopped. Single operators: `tests/ops/int8`, `tests/kernels/int8.rs`.

#![allow(clippy::unwrap_used)] // clippy.toml allows it in test functions only, not in their helpers

use std::sync::Arc;

#[path = "../common/mod.rs"]
mod common;
mod devices;
mod ends;
mod surgery;

use earlybird::autograd::{Hyper, Int8Options, Part, Precision, Products, Session, StateDict};
use earlybird::backend::Backend;
use earlybird::backend::cpu::{Cpu, IntegerPath, Path};
use earlybird::graph::Graph;
use earlybird::nn::{ModelOptions, build, init};
use earlybird::ops::batchnorm::BatchNormI8;
use earlybird::ops::batchnorm_add::{BatchNormAddGradI8, BatchNormAddI8};
use earlybird::ops::quantize::Form;
use earlybird::ops::{Kernel, Shape};

/// No options: `Default` is no constant.
const OPTIONS: Int8Options = Int8Options {
    f32_products: Products { forward: false, dgrad: false, wgrad: false },
    master_f32: false,
    wgrad16: false,
    scales_int8: false,
};

const INT8: Precision = Precision::Int8(OPTIONS);
/// The same with weight gradients from 16 bits.
const WGRAD16: Precision = Precision::Int8(Int8Options { wgrad16: true, ..OPTIONS });
/// With BN scales, shifts and biases of 8 bits.
const SCALES: Precision = Precision::Int8(Int8Options { scales_int8: true, ..OPTIONS });

fn small(model: &str, width: f64) -> Arc<Graph> {
    let options = ModelOptions { width, input: Shape::new(32, 32, 3), classes: 5 };
    Arc::new(build(model, &options).unwrap())
}

fn session(graph: &Arc<Graph>, backend: Arc<dyn Backend>, precision: Precision) -> Session {
    let mut session = Session::with_precision(graph.clone(), backend, Hyper::default(), precision, 7).unwrap();
    session.load_state(&init(graph, 3)).unwrap();
    session
}

/// Images whose class can be seen, and their labels.
fn batch(graph: &Graph, n: usize, number: u64) -> (Vec<f32>, Vec<u32>) {
    let (shape, classes) = (graph.input_shape(), graph.classes());
    let mut images = earlybird::data::noise(n * shape.elements(), 100 + number);
    let labels: Vec<u32> = (0..n).map(|i| ((i as u64 * 7 + number) % classes as u64) as u32).collect();
    for (image, label) in images.chunks_exact_mut(shape.elements()).zip(&labels) {
        for (i, pixel) in image.chunks_exact_mut(shape.c).enumerate() {
            let (row, column) = (i / shape.w, i % shape.w);
            let bright = (row * (1 + *label as usize) / shape.h + column * classes / shape.w).is_multiple_of(2);
            pixel.iter_mut().for_each(|p| *p = 0.3 * *p + if bright { 0.8 } else { -0.8 });
        }
    }
    (images, labels)
}

fn train(session: &mut Session, n: usize, steps: std::ops::Range<u64>) -> Vec<f64> {
    let graph = session.graph().clone();
    steps
        .map(|number| {
            let (images, labels) = batch(&graph, n, number);
            session.step(&images, &labels, 0.05).unwrap();
            session.take_metrics().unwrap().loss()
        })
        .collect()
}

/// Weights, running statistics and momenta as bits.
fn bits(session: &Session) -> Vec<(String, Vec<u32>)> {
    let flat = |state: StateDict| -> Vec<(String, Vec<u32>)> {
        state.into_iter().map(|(name, tensor)| (name, tensor.data.iter().map(|v| v.to_bits()).collect())).collect()
    };
    let mut all = flat(session.state_dict().unwrap());
    all.extend(flat(session.momenta().unwrap()));
    all
}

fn differing(a: &[(String, Vec<u32>)], b: &[(String, Vec<u32>)]) -> Vec<String> {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).filter(|(a, b)| a != b).map(|(a, _)| a.0.clone()).collect()
}

/// The kernels of a step.
fn kernels(session: &mut Session, n: usize) -> Vec<Kernel> {
    let mut all = Vec::new();
    session
        .walk(n, None, &mut |_, part, _| {
            if let Part::Operator(kernel) = part {
                all.push(*kernel);
            }
            Ok(())
        })
        .unwrap();
    all
}

fn count(kernels: &[Kernel], which: impl Fn(&Kernel) -> bool) -> usize {
    kernels.iter().filter(|kernel| which(kernel)).count()
}

#[test]
fn a_vgg_is_blocks_from_the_images_to_the_head() {
    let graph = small("vgg16", 0.125);
    let all = kernels(&mut session(&graph, Cpu::new(), INT8), 4);
    assert_eq!(count(&all, |k| matches!(k, Kernel::Conv2dFwdI8(_))), 13);
    assert_eq!(count(&all, |k| matches!(k, Kernel::BatchNormFwdI8(_))), 13);
    assert_eq!(count(&all, |k| matches!(k, Kernel::Conv2dWgradI8(_))), 13);
    assert_eq!(count(&all, |k| matches!(k, Kernel::BatchNormBwdI8(_))), 13);
    assert_eq!(count(&all, |k| matches!(k, Kernel::Conv2dDgradI8(_))), 12);
    // The images go in once, what the head reads comes out once; a gradient that went through a pool, or came from the head, has a pass of its own.
    assert_eq!(count(&all, |k| matches!(k, Kernel::QuantizeFwdI8(_))), 1);
    assert_eq!(count(&all, |k| matches!(k, Kernel::DequantizeFwdI8(_))), 1);
    assert_eq!(count(&all, |k| matches!(k, Kernel::BatchNormGradI8(_))), 5);
    let f32_passes = |k: &Kernel| {
        matches!(
            k,
            Kernel::Conv2dFwd(_)
                | Kernel::Conv2dDgrad(_)
                | Kernel::Conv2dWgrad(_)
                | Kernel::BatchNormFwd(_)
                | Kernel::ReluFwd(_)
        )
    };
    assert_eq!(count(&all, f32_passes), 0);
    assert_eq!(count(&all, |k| matches!(k, Kernel::ClassifierFwd(_) | Kernel::ClassifierBwd(_))), 2);
}

/// Streams of a PreResNet have 16 bits in both directions, what conv1 and the blocks write as well as what batchnorms and convolutions read; only what the head reads is f32.
#[test]
fn a_preresnet_has_streams_of_16_bits() {
    let all = kernels(&mut session(&small("preresnet20", 0.25), Cpu::new(), INT8), 4);
    let (f32, bfp16, stored) = (Form::F32 as u32, Form::Bfp16 as u32, Form::Stored as u32);
    let streams = |add, other| {
        count(&all, |k| matches!(k, Kernel::Conv2dStreamI8(p) if (p.add, p.other, p.form) == (add, other, bfp16)))
    };
    // conv1 and the third convolutions of three first blocks, each below a down-sample convolution; the other blocks.
    assert_eq!((streams(0, f32), streams(1, bfp16)), (4, 6));
    assert_eq!(count(&all, |k| matches!(k, Kernel::Conv2dStreamI8(_))), 10);
    let gradients = |add, other| {
        count(&all, |k| matches!(k, Kernel::BatchNormBwdStreamI8(p) if (p.add, p.other, p.form) == (add, other, bfp16)))
    };
    // The last batchnorm begins; the first one of a stage adds to a data gradient of 8 bits.
    assert_eq!((gradients(0, f32), gradients(1, stored), gradients(1, bfp16)), (1, 3, 3));
    assert_eq!(count(&all, |k| matches!(k, Kernel::QuantizeBwdI8(p) if p.form == bfp16)), 10);
    assert_eq!(count(&all, |k| matches!(k, Kernel::QuantizeFwdI8(p) if p.form == bfp16)), 3);
    assert_eq!(count(&all, |k| matches!(k, Kernel::DequantizeFwdI8(_))), 1);
    assert_eq!(count(&all, |k| matches!(k, Kernel::AddFwd(_) | Kernel::QuantizeStoreI8(_))), 0);
}

/// Residual blocks that end in a batchnorm end in one pass, on top of a stream of 16 bits or of the shortcut's own batchnorm; nothing between the stem's pool and what the head reads is f32.
#[test]
fn a_resnet_ends_its_blocks_in_one_pass() {
    let (f32, stored, bfp16) = (Form::F32 as u32, Form::Stored as u32, Form::Bfp16 as u32);
    // Blocks, of which so many have a down-sample convolution; ResNet-18's first block adds the stem's output, which is an operand.
    for (model, blocks, down, from_stem) in [("resnet18", 8, 3, 1), ("resnet50", 16, 4, 0)] {
        let all = kernels(&mut session(&small(model, 0.1), Cpu::new(), INT8), 2);
        let sums = |both, other, form, operand| {
            let is = |p: &BatchNormAddI8| (p.both, p.form, p.operand, p.relu) == (both, form, operand, 1);
            count(&all, |k| matches!(k, Kernel::BatchNormAddFwdI8(p) if is(p) && p.other == other))
        };
        // The last sum is the head's alone.
        let last = sums(0, bfp16, f32, 0);
        assert_eq!((last, sums(1, stored, bfp16, 1), sums(0, f32, bfp16, 1)), (1, down, from_stem), "{model}");
        assert_eq!(sums(0, bfp16, bfp16, 1), blocks - down - from_stem - 1, "{model}");
        let gradients = |both, up, more| {
            let is = |p: &BatchNormAddGradI8| (p.both, p.stream, p.up) == (both, 1 - both, up);
            count(&all, |k| matches!(k, Kernel::BatchNormAddGradI8(p) if is(p) && (p.add, p.more) == more))
        };
        // From the head; from a block that adds the stream, and the data gradient of its first convolution; from both convolutions of a block with a down-sample one.
        let between: usize = [0, 1].map(|both| gradients(both, bfp16, (1, stored))).iter().sum();
        let before_down: usize = [0, 1].map(|both| gradients(both, stored, (1, stored))).iter().sum();
        assert_eq!(gradients(0, f32, (0, f32)), 1, "{model}");
        assert_eq!(
            (between, before_down),
            (blocks - down - from_stem, down - usize::from(model == "resnet50")),
            "{model}"
        );
        // The stem's pool takes both gradients as they are.
        let of_stem = if from_stem == 1 { (bfp16, 1, stored) } else { (stored, 1, stored) };
        let of_pool = |p: &BatchNormI8| p.pool.kernel_h != 0 && (p.gradient, p.add, p.more) == of_stem;
        assert_eq!(count(&all, |k| matches!(k, Kernel::BatchNormGradI8(p) if of_pool(p))), 1, "{model}");
        let conversions = |k: &Kernel| matches!(k, Kernel::DequantizeFwdI8(_) | Kernel::QuantizeFwdI8(_));
        assert_eq!(count(&all, conversions), 1 + from_stem, "{model}");
        let f32_passes = |k: &Kernel| matches!(k, Kernel::AddFwd(_) | Kernel::ReluFwd(_) | Kernel::ReluBwd(_));
        assert_eq!(count(&all, f32_passes), 0, "{model}");
        assert_eq!(count(&all, |k| matches!(k, Kernel::BatchNormGradI8(_))), 1, "{model}");
    }
}

/// Where f32 operators read a stream it is f32, and where gradients of several forms meet they meet in f32.
#[test]
fn streams_of_several_forms_meet() {
    let all = kernels(&mut session(&devices::streams_in_small(), Cpu::new(), INT8), 2);
    let streams: Vec<_> = all
        .iter()
        .filter_map(|k| match k {
            Kernel::Conv2dStreamI8(p) => Some((p.add, p.other, p.form, p.store)),
            _ => None,
        })
        .collect();
    // a, then a + b, c on top of that, and d on top of it.
    assert_eq!(streams, [(0, 0, 0, 0), (1, 0, 2, 1), (1, 2, 2, 0), (1, 2, 2, 1)]);
    let gradients: Vec<_> = all
        .iter()
        .filter_map(|k| match k {
            Kernel::BatchNormBwdStreamI8(p) => Some((p.add, p.other, p.form)),
            Kernel::QuantizeBwdI8(p) => Some((9, 9, p.form)),
            _ => None,
        })
        .collect();
    // bn2; d and c from it; bn1 on top of what came from d and t; b from that, and a from that and the ReLU.
    assert_eq!(gradients, [(0, 0, 2), (9, 9, 2), (9, 9, 2), (1, 0, 2), (9, 9, 2), (9, 9, 0)]);
}

/// In `eb8` every convolution is f32 and its output and gradient are rounded; the classifier's are not.
#[test]
fn eb8_is_the_f32_step_with_quantisers_at_the_convolutions() {
    let graph = small("vgg16", 0.125);
    let [f32, eb8] = [Precision::F32, Precision::Eb8].map(|p| kernels(&mut session(&graph, Cpu::new(), p), 4));
    let rounds = |k: &Kernel| matches!(k, Kernel::QuantizeRound(_));
    assert_eq!(count(&eb8, rounds), 2 * 13);
    let same = |k: &&Kernel| !rounds(k) && !matches!(k, Kernel::SgdStep(_) | Kernel::SgdStepI8(_));
    assert!(eb8.iter().filter(same).eq(f32.iter().filter(same)));
    for (i, kernel) in eb8.iter().enumerate() {
        match kernel {
            // Right behind the forward product, and before both backward ones.
            Kernel::Conv2dFwd(p) => match eb8[i + 1] {
                Kernel::QuantizeRound(q) => assert_eq!((q.groups, q.length), (p.n, p.p * p.q * p.k)),
                other => panic!("{other:?} behind a convolution"),
            },
            Kernel::Conv2dWgrad(_) => assert!(rounds(&eb8[i - 1])),
            _ => {}
        }
    }
}

/// f32 and 8 bits from the same weights on the same batches: all learn, and the first loss is nearly the same.
#[test]
fn eight_bits_learn_as_f32_does() {
    for (model, width, n) in [("vgg11", 0.25, 32), ("preresnet20", 0.5, 32)] {
        let graph = small(model, width);
        let [f32, int8, eb8] =
            [Precision::F32, INT8, Precision::Eb8].map(|p| train(&mut session(&graph, Cpu::new(), p), n, 0..30));
        let end = |losses: &[f64]| losses[25..].iter().sum::<f64>() / 5.0;
        assert!(end(&f32) < 0.75 * f32[0], "{model}: {f32:?}");
        for low in [int8, eb8] {
            assert!((f32[0] - low[0]).abs() < 0.1 * f32[0], "{model}: {f32:?} {low:?}");
            assert!((end(&low) - end(&f32)).abs() < 0.1 * f32[0], "{model}: {f32:?} {low:?}");
        }
    }
}

/// Each product in f32, and f32 master weights: the same network learns, by other kernels.
#[test]
fn products_in_f32_and_master_weights_learn_too() {
    let graph = small("vgg11", 0.125);
    let mut seen = Vec::new();
    for (number, products) in ["none", "forward", "dgrad", "wgrad", "forward,dgrad,wgrad"].into_iter().enumerate() {
        for master_f32 in [false, true] {
            let options = Int8Options { f32_products: products.parse().unwrap(), master_f32, ..Default::default() };
            let fresh = || session(&graph, Cpu::new(), Precision::Int8(options));
            let all = kernels(&mut fresh(), 16);
            let int8 = [
                count(&all, |k| matches!(k, Kernel::Conv2dFwdI8(_))) > 0,
                count(&all, |k| matches!(k, Kernel::Conv2dDgradI8(_))) > 0,
                count(&all, |k| matches!(k, Kernel::Conv2dWgradI8(_))) > 0,
            ];
            let p = options.f32_products;
            assert_eq!(int8, [!p.forward, !p.dgrad, !p.wgrad]);
            let mut session = fresh();
            let losses = train(&mut session, 16, 0..25);
            assert!(losses[20..].iter().sum::<f64>() / 5.0 < 0.6 * losses[0], "{products}, {master_f32}: {losses:?}");
            seen.push((number, bits(&session)));
        }
    }
    assert!(seen.iter().all(|(i, bits)| seen.iter().filter(|(_, other)| other == bits).count() == 1 && *i < 5));
}

/// Weights and momenta are numbers of the 8-bit grid after every step, row by row.
#[test]
fn weights_and_momenta_are_on_the_grid() {
    let graph = small("vgg11", 0.125);
    let mut session = session(&graph, Cpu::new(), INT8);
    train(&mut session, 8, 0..3);
    let mut rows = 0;
    for state in [session.state_dict().unwrap(), session.momenta().unwrap()] {
        for (name, tensor) in state.iter().filter(|(_, tensor)| tensor.dims.len() > 1) {
            for row in tensor.data.chunks_exact(tensor.data.len() / tensor.dims[0]) {
                let e = earlybird::quant::bfp::exponent(row.iter().fold(0.0f32, |m, v| m.max(v.abs())));
                let unit = earlybird::quant::bfp::power(e - 6);
                assert!(row.iter().all(|v| (v / unit).fract() == 0.0 && (v / unit).abs() <= 127.0), "{name}");
                rows += 1;
            }
        }
    }
    assert!(rows > 300);
}

/// In `eb8` all parameters are rounded, those of one dimension each for itself: 7 significant bits. In `int8`, too, where that was asked for.
#[test]
fn scales_shifts_and_biases_of_eb8_have_seven_bits_each() {
    let graph = small("vgg11", 0.125);
    rounded(session(&graph, Cpu::new(), Precision::Eb8), false);
    rounded(session(&graph, Cpu::new(), SCALES), true);
}

/// Trains and looks at every parameter and momentum.
fn rounded(mut session: Session, when_loaded: bool) {
    let graph = session.graph().clone();
    let start = session.state_dict().unwrap();
    let (images, labels) = batch(&graph, 4, 9);
    session.differentiate(&images, &labels).unwrap();
    let name = |p: &String| !p.contains("running");
    let weights = |state: &StateDict| state.clone().into_iter().filter(|(p, _)| name(p)).collect::<StateDict>();
    let stay = weights(&session.state_dict().unwrap()) == weights(&start);
    assert_eq!(stay, !when_loaded, "what is loaded is rounded in int8 and left as it is in eb8");
    train(&mut session, 8, 0..3);
    let mut elements = 0;
    for state in [weights(&session.state_dict().unwrap()), session.momenta().unwrap()] {
        for (name, tensor) in &state {
            if tensor.dims.len() == 1 {
                assert!(tensor.data.iter().all(|v| v.to_bits() & 0x1ffff == 0), "{name}");
                elements += tensor.data.iter().filter(|v| **v != 0.0).count();
                continue;
            }
            for row in tensor.data.chunks_exact(tensor.data.len() / tensor.dims[0]) {
                let e = earlybird::quant::bfp::exponent(row.iter().fold(0.0f32, |m, v| m.max(v.abs())));
                let unit = earlybird::quant::bfp::power(e - 6);
                assert!(row.iter().all(|v| (v / unit).fract() == 0.0 && (v / unit).abs() <= 127.0), "{name}");
            }
        }
    }
    assert!(elements > 500);
}

/// The same bits with any number of threads, per instruction set: those of f32 convolutions differ in their last bits, so from one to another, and to a GPU, only nearly the same.
#[test]
fn eb8_leaves_the_same_bits_with_any_number_of_threads() {
    let graph = small("vgg11", 0.17);
    let run = |path: Path, threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut session = session(&graph, Cpu::with_path(path).unwrap(), Precision::Eb8);
            train(&mut session, 6, 0..20);
            bits(&session)
        })
    };
    for path in [Path::Portable, Path::Avx2, Path::Avx512].into_iter().filter(|path| path.available()) {
        let reference = run(path, 1);
        assert_eq!(differing(&reference, &run(path, 2)), Vec::<String>::new(), "{path:?}");
    }
}

#[test]
fn instruction_sets_and_threads_leave_the_same_bits() {
    let graph = small("vgg11", 0.17);
    for (precision, steps) in [(INT8, 20), (WGRAD16, 5), (SCALES, 5)] {
        let run = |backend: Arc<dyn Backend>, threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut session = session(&graph, backend, precision);
                train(&mut session, 6, 0..steps);
                bits(&session)
            })
        };
        let reference = run(Cpu::with_path(Path::Avx2).unwrap(), 1);
        for path in [Path::Portable, Path::Avx2, Path::Avx512].into_iter().filter(|path| path.available()) {
            for threads in [1, 2, 3] {
                let differing = differing(&reference, &run(Cpu::with_path(path).unwrap(), threads));
                assert!(differing.is_empty(), "{precision:?}, {path:?}, {threads} threads: {differing:?}");
            }
        }
        // Tiles, emulated where there are none.
        let tiles = [IntegerPath::EmulatedAmx, IntegerPath::Amx];
        for products in tiles.into_iter().filter(|products| products.available()) {
            for threads in [1, 3] {
                let backend = Cpu::with_integers(Path::best(), products).unwrap();
                let differing = differing(&reference, &run(backend, threads));
                assert!(differing.is_empty(), "{precision:?}, {products:?}, {threads} threads: {differing:?}");
            }
        }
    }
}

/// By layer, how far the weight gradients of the same batch and weights are from f32's: the norm of the difference over that of f32's. Only convolutions.
fn deviation(graph: &Arc<Graph>, options: Int8Options) -> Vec<(String, f64)> {
    let (images, labels) = batch(graph, 16, 5);
    let mut low = session(graph, Cpu::new(), Precision::Int8(options));
    low.differentiate(&images, &labels).unwrap();
    // The weights as they were rounded when they were loaded.
    let mut f32 = Session::new(graph.clone(), Cpu::new(), Hyper::default()).unwrap();
    f32.load_state(&low.state_dict().unwrap()).unwrap();
    f32.differentiate(&images, &labels).unwrap();
    let norm = |values: &[f32]| values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    let (got, want) = (low.gradients().unwrap(), f32.gradients().unwrap());
    want.iter()
        .filter(|(_, want)| want.dims.len() == 4)
        .map(|(name, want)| {
            let off: Vec<f32> = want.data.iter().zip(&got[name].data).map(|(a, b)| a - b).collect();
            (name.clone(), norm(&off) / norm(&want.data))
        })
        .collect()
}

/// With the other two products in f32, all that is off in a weight gradient are its operands' roundings; that of the output gradient is the larger one, and goes with 16 bits.
#[test]
fn weight_gradients_from_sixteen_bits_are_nearer_to_those_of_f32() {
    let graph = small("vgg11", 0.25);
    let of = |wgrad16| {
        let f32_products = Products { forward: true, dgrad: true, wgrad: false };
        deviation(&graph, Int8Options { f32_products, wgrad16, ..Default::default() })
    };
    let (eight, sixteen) = (of(false), of(true));
    println!("8 bits {eight:?}, 16 bits {sixteen:?}");
    assert_eq!(eight.len(), 8);
    for ((name, eight), (_, sixteen)) in eight.iter().zip(&sixteen) {
        assert!(*sixteen > 0.0 && *sixteen < 0.9 * eight, "{name}: {sixteen} against {eight}");
    }
    let sum = |all: &[(String, f64)]| all.iter().map(|(_, off)| off).sum::<f64>();
    assert!(sum(&sixteen) < 0.5 * sum(&eight), "{sixteen:?} against {eight:?}");
}

/// A session that gets state, momenta and step counter from another goes on to the same bits, with weights on the grid and with f32 master weights.
#[test]
fn a_run_goes_on_from_its_files() {
    let graph = small("vgg11", 0.125);
    let int8 = |master_f32| Precision::Int8(Int8Options { master_f32, ..Default::default() });
    for precision in [int8(false), int8(true), SCALES, Precision::Eb8] {
        let mut whole = session(&graph, Cpu::new(), precision);
        train(&mut whole, 8, 0..3);
        let mut resumed = Session::with_precision(graph.clone(), Cpu::new(), Hyper::default(), precision, 7).unwrap();
        resumed.load_state(&whole.state_dict().unwrap()).unwrap();
        resumed.load_momenta(&whole.momenta().unwrap()).unwrap();
        resumed.set_steps(whole.steps());
        // Looking at the network in between changes nothing.
        let (images, labels) = batch(&graph, 5, 77);
        resumed.evaluate(&images, &labels).unwrap();
        resumed.take_metrics().unwrap();
        for session in [&mut whole, &mut resumed] {
            train(session, 8, 3..6);
        }
        assert_eq!(differing(&bits(&whole), &bits(&resumed)), Vec::<String>::new());
    }
}
