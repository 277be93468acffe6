//! Residual networks after surgery that leaves the stream its width: gathers between the stream and batchnorms are part of their blocks, and the stream keeps its 16 bits.

use std::sync::Arc;

use earlybird::autograd::Precision;
use earlybird::backend::cpu::{Cpu, Path};
use earlybird::graph::{Graph, Op};
use earlybird::ops::conv2d::Conv2dAttr;
use earlybird::ops::quantize::Form;
use earlybird::ops::{Kernel, Shape};
use earlybird::quant::philox::{Stream, stream_of};
use earlybird::ticket::{Mask, Policy, SurgeryOptions, plan_surgery};

use crate::{INT8, bits, count, differing, kernels, session, small, train};

/// A PreResNet-20 of a quarter's width of which each channel is kept with this probability.
pub fn pruned(share: f64) -> Arc<Graph> {
    let graph = small("preresnet20", 0.25);
    let channels = graph.bn_channels();
    let mut random = Stream::new(3, stream_of("mask"));
    let mask = Mask::from_bools((0..channels).map(|_| random.unit() < share));
    let options = SurgeryOptions { policy: Policy::Select, ..Default::default() };
    Arc::new(plan_surgery(&graph, &mask, &vec![0.5; channels], options).unwrap().graph)
}

fn gathers(graph: &Graph) -> usize {
    graph.nodes().iter().filter(|node| matches!(node.op, Op::Select(_))).count()
}

/// Every gather is where its batchnorm's input is stored and where its gradient meets others; nothing on the stream is f32 but what the head reads.
#[test]
fn a_pruned_preresnet_has_streams_of_16_bits() {
    let graph = pruned(0.5);
    let gathers = gathers(&graph);
    assert_eq!(gathers, 7, "six blocks and the last batchnorm");
    let all = kernels(&mut session(&graph, Cpu::new(), INT8), 4);
    let bfp16 = Form::Bfp16 as u32;
    let f32_passes =
        |k: &Kernel| matches!(k, Kernel::SelectFwd(_) | Kernel::SelectBwd(_) | Kernel::AddFwd(_) | Kernel::Copy);
    assert_eq!(count(&all, f32_passes), 0);
    assert_eq!(count(&all, |k| matches!(k, Kernel::DequantizeFwdI8(_))), 1);
    let stored = |k: &Kernel| matches!(k, Kernel::QuantizeStoreI8(p) if (p.form, p.select) == (bfp16, 1));
    assert_eq!((count(&all, stored), count(&all, |k| matches!(k, Kernel::QuantizeStoreI8(_)))), (gathers, gathers));
    let scattered = |k: &Kernel| matches!(k, Kernel::BatchNormBwdStreamI8(p) if (p.form, p.select) == (bfp16, 1));
    let gradients = count(&all, |k| matches!(k, Kernel::BatchNormBwdStreamI8(_)));
    assert_eq!((count(&all, scattered), gradients), (gathers, gathers));
    let streams = |k: &Kernel| matches!(k, Kernel::Conv2dStreamI8(p) if p.form == bfp16);
    assert_eq!((count(&all, streams), count(&all, |k| matches!(k, Kernel::Conv2dStreamI8(_)))), (10, 10));
    assert_eq!(count(&all, |k| matches!(k, Kernel::QuantizeFwdI8(p) if p.form == bfp16)), 3);
    assert_eq!(count(&all, |k| matches!(k, Kernel::QuantizeBwdI8(p) if p.form == bfp16)), 10);
}

/// Gathers of all kinds: `first` and `second` are of one stream, which two batchnorms read so; `whole` is of an f32 stream (a ReLU reads it, too); a convolution reads `bare`, and both a
/// batchnorm and a convolution read `shared`, so that these two are f32 operators and so is the stream that they read.
pub fn gathers_in_small() -> Arc<Graph> {
    let mut g = Graph::new("gathers in small");
    let conv = |g: &mut Graph, x, name: &str, out, kernel| {
        g.conv2d(x, name, Conv2dAttr::square(out, kernel, 1, kernel / 2)).unwrap()
    };
    let block = |g: &mut Graph, x, name: &str, out| {
        let n = g.batchnorm(x, &format!("{name} bn")).unwrap();
        let n = g.relu(n, &format!("{name} relu")).unwrap();
        conv(g, n, &format!("{name} conv"), out, 3)
    };
    let x = g.input(Shape::new(9, 9, 3));
    let stem = conv(&mut g, x, "stem", 40, 3);
    let a = g.select(stem, "first", vec![0, 3, 4, 5, 30, 31, 32, 33, 39]).unwrap();
    let a = block(&mut g, a, "a", 40);
    let s = g.add(a, stem, "s").unwrap();
    let b = g.select(s, "second", (1..38).collect()).unwrap();
    let b = block(&mut g, b, "b", 40);
    let c = g.select(s, "third", vec![17]).unwrap();
    let c = block(&mut g, c, "c", 40);
    let t = g.add(b, s, "t").unwrap();
    let t = g.add(c, t, "t again").unwrap();
    let d = g.select(t, "whole", (0..20).map(|i| 2 * i).collect()).unwrap();
    let d = block(&mut g, d, "d", 24);
    let relu = g.relu(t, "relu").unwrap();
    let e = conv(&mut g, relu, "e", 24, 1);
    let u = g.add(e, d, "u").unwrap();
    let bare = g.select(u, "bare", vec![1, 2, 3, 20]).unwrap();
    let bare = conv(&mut g, bare, "bare conv", 24, 1);
    let shared = g.select(u, "shared", vec![0, 2, 9, 23]).unwrap();
    let f = block(&mut g, shared, "f", 24);
    let h = conv(&mut g, shared, "h", 24, 1);
    let v = g.add(f, h, "v").unwrap();
    let v = g.add(bare, v, "v again").unwrap();
    let v = block(&mut g, v, "v", 12);
    let v = g.global_avgpool(v, "mean").unwrap();
    g.linear(v, "head", 5).unwrap();
    Arc::new(g)
}

#[test]
fn gathers_are_part_of_blocks_where_a_batchnorm_alone_reads_them() {
    let all = kernels(&mut session(&gathers_in_small(), Cpu::new(), INT8), 2);
    let (f32, bfp16) = (Form::F32 as u32, Form::Bfp16 as u32);
    let stored = |form| count(&all, |k| matches!(k, Kernel::QuantizeStoreI8(p) if (p.form, p.select) == (form, 1)));
    let given = |form| count(&all, |k| matches!(k, Kernel::BatchNormBwdStreamI8(p) if (p.form, p.select) == (form, 1)));
    assert_eq!([stored(bfp16), stored(f32)], [3, 1]);
    assert_eq!([given(bfp16), given(f32)], [3, 1]);
    assert_eq!(count(&all, |k| matches!(k, Kernel::SelectFwd(_))), 2);
    assert_eq!(count(&all, |k| matches!(k, Kernel::SelectBwd(_))), 2);
}

/// Whole steps leave the same bits with one and two threads and on every instruction set.
#[test]
fn pruned_networks_leave_the_same_bits() {
    for (graph, steps) in [(pruned(0.5), 4), (pruned(0.97), 2), (gathers_in_small(), 4)] {
        let run = |path: Path, threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut session = session(&graph, Cpu::with_path(path).unwrap(), INT8);
                let losses = train(&mut session, 6, 0..steps);
                assert!(losses.iter().all(|loss| loss.is_finite()), "{losses:?}");
                bits(&session)
            })
        };
        let reference = run(Path::Portable, 1);
        for path in [Path::Portable, Path::Avx2, Path::Avx512].into_iter().filter(|path| path.available()) {
            assert_eq!(differing(&reference, &run(path, 2)), Vec::<String>::new(), "{path:?}");
        }
    }
}

/// From the same weights on the same batches as in f32, where gathers are operators of their own.
#[test]
fn a_pruned_network_learns_as_in_f32() {
    let graph = pruned(0.7);
    let [f32, int8] = [Precision::F32, INT8].map(|p| train(&mut session(&graph, Cpu::new(), p), 32, 0..30));
    let end = |losses: &[f64]| losses[25..].iter().sum::<f64>() / 5.0;
    assert!(end(&f32) < 0.95 * f32[0], "{f32:?}");
    assert!((f32[0] - int8[0]).abs() < 0.02 * f32[0], "{f32:?} {int8:?}");
    assert!((end(&f32) - end(&int8)).abs() < 0.03 * end(&f32), "{f32:?} {int8:?}");
}
