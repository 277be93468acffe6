//! Ends of residual blocks as no model of the list has them, and gradients in 8 bits beside those in f32.

use std::sync::Arc;

use earlybird::autograd::Precision;
use earlybird::backend::cpu::Cpu;
use earlybird::graph::{Graph, NodeId};
use earlybird::ops::conv2d::Conv2dAttr;
use earlybird::ops::pool::Window;
use earlybird::ops::{Kernel, Shape};

use crate::{INT8, count, devices, kernels, session, small, train};

/// Additions of batchnorms: on top of an operand, of a convolution without one and without a ReLU behind, of an f32 tensor, of each other; a sum that a batchnorm, a convolution, a pool and an addition
/// read; a batchnorm that is added to itself.
pub fn ends_in_small() -> Arc<Graph> {
    let mut g = Graph::new("ends in small");
    let conv = |g: &mut Graph, x: NodeId, name: &str, kernel| {
        g.conv2d(x, name, Conv2dAttr::square(20, kernel, 1, kernel / 2)).unwrap()
    };
    let norm = |g: &mut Graph, x: NodeId, name: &str| {
        let y = conv(g, x, &format!("{name}.conv"), 3);
        g.batchnorm(y, &format!("{name}.bn")).unwrap()
    };
    let x = g.input(Shape::new(9, 7, 3));
    let stem = norm(&mut g, x, "stem");
    let stem = g.relu(stem, "stem.relu").unwrap();
    let a = norm(&mut g, stem, "a");
    let a = g.add(a, stem, "a.add").unwrap();
    let a = g.relu(a, "a.relu").unwrap();
    let plain = conv(&mut g, a, "b.plain", 1);
    let b = norm(&mut g, a, "b");
    let b = g.add(plain, b, "b.add").unwrap();
    let c = g.batchnorm(b, "c.bn1").unwrap();
    let c = g.relu(c, "c.relu1").unwrap();
    let c = norm(&mut g, c, "c");
    let short = norm(&mut g, b, "short");
    let c = g.add(c, short, "c.add").unwrap();
    let c = g.relu(c, "c.relu2").unwrap();
    let window = Window { kernel: 3, stride: 1, padding: 1 };
    let pooled = g.avgpool(b, "pool", window).unwrap();
    let d = norm(&mut g, c, "d");
    let d = g.add(pooled, d, "d.add").unwrap();
    let d = g.relu(d, "d.relu").unwrap();
    let e = norm(&mut g, d, "e");
    let e = g.add(e, b, "e.add").unwrap();
    let e = g.relu(e, "e.relu").unwrap();
    let f = norm(&mut g, e, "f");
    let f = g.add(f, f, "f.add").unwrap();
    let f = g.global_avgpool(f, "mean").unwrap();
    g.linear(f, "head", 5).unwrap();
    Arc::new(g)
}

#[test]
fn sums_of_batchnorms_of_all_kinds_are_one_pass_each() {
    let all = kernels(&mut session(&ends_in_small(), Cpu::new(), INT8), 2);
    let sums: Vec<_> = all
        .iter()
        .filter_map(|k| match k {
            Kernel::BatchNormAddFwdI8(p) => Some((p.both, p.other, p.form, p.relu, p.operand)),
            _ => None,
        })
        .collect();
    // On the stem's operand in f32; on a convolution's 16 bits; both; on the pool's f32; on 16 bits. The sum with itself stays f32.
    assert_eq!(sums, [(0, 0, 2, 1, 1), (0, 2, 2, 0, 1), (1, 1, 2, 1, 1), (0, 0, 2, 1, 1), (0, 2, 2, 1, 1)]);
    assert_eq!(count(&all, |k| matches!(k, Kernel::BatchNormAddGradI8(_))), 5);
}

/// Momenta after one step from the same weights, which are its gradients: each tensor, and all together, point where those of f32 point, as far as 8 bits show it, which is less the more layers
/// lie behind and the fewer pixels an image has left there (ResNet-18: one).
#[test]
fn gradients_point_where_those_of_f32_do() {
    for (graph, n, [least, least_of_all]) in [
        (ends_in_small(), 32, [0.9, 0.98]),
        (devices::streams_in_small(), 32, [0.9, 0.98]),
        (small("resnet18", 0.25), 64, [0.0, 0.4]),
        (small("preresnet20", 0.5), 32, [0.3, 0.9]),
    ] {
        let [f32, int8] = [Precision::F32, INT8].map(|precision| {
            let mut session = session(&graph, Cpu::new(), precision);
            train(&mut session, n, 0..1);
            session.momenta().unwrap()
        });
        let (mut dot, mut sizes) = (0.0, [0.0, 0.0]);
        for (name, want) in &f32 {
            let pairs = want.data.iter().zip(&int8[name].data).map(|(a, b)| (f64::from(*a), f64::from(*b)));
            let of = pairs.fold([0.0; 3], |[ab, aa, bb], (a, b)| [ab + a * b, aa + a * a, bb + b * b]);
            let cosine = of[0] / (of[1] * of[2]).sqrt().max(1e-30);
            assert!(cosine > least, "{} {name}: {cosine}", graph.name());
            dot += of[0];
            sizes = [sizes[0] + of[1], sizes[1] + of[2]];
        }
        let (cosine, size) = (dot / (sizes[0] * sizes[1]).sqrt(), (sizes[1] / sizes[0]).sqrt());
        println!("{}: {cosine:.3}, size {size:.3}", graph.name());
        assert!(cosine > least_of_all && (0.8..1.25).contains(&size), "{}: {cosine}, size {size}", graph.name());
    }
}
