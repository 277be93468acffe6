//! A short training run of every f32 kernel on virtual GPUs with every check and the profiler on: no finding, no warning, no kernel left out.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use common::have_kernels;
use earlybird::autograd::{Hyper, Resident, Session, Take};
use earlybird::backend::cuda::Cuda;
use earlybird::data::noise;
use earlybird::driver::kernels::MODULES;
use earlybird::driver::vgpu::Vgpu;
use earlybird::graph::Graph;
use earlybird::nn::init;
use earlybird::ops::Shape;
use earlybird::ops::augment::Augment;
use earlybird::ops::conv2d::Conv2dAttr;
use earlybird::ops::pool::Window;
use earlybird::vgpu::device::Options;
use earlybird::vgpu::limits::{A100, Limits};

/// Every operator, with channels in fours and odd ones, wide layers and narrow ones, a stride, biases, and images enough for slices.
fn every_operator() -> earlybird::Result<Graph> {
    let mut g = Graph::new("every operator");
    let half = Window { kernel: 2, stride: 2, padding: 0 };
    let overlapping = Window { kernel: 3, stride: 1, padding: 1 };
    let x = g.input(Shape::new(12, 12, 3));
    let x = g.conv2d(x, "stem", Conv2dAttr { bias: true, ..Conv2dAttr::square(24, 3, 1, 1) })?;
    let x = g.batchnorm(x, "bn")?;
    let x = g.relu(x, "relu")?;
    let y = g.select(x, "select", (0..16).collect())?;
    let y = g.conv2d(y, "inner", Conv2dAttr::square(24, 3, 1, 1))?;
    let x = g.add(x, y, "add")?;
    let x = g.relu(x, "relu2")?;
    let x = g.maxpool(x, "max", half)?;
    let x = g.conv2d(x, "wide", Conv2dAttr::square(128, 1, 1, 0))?;
    let x = g.conv2d(x, "wider", Conv2dAttr::square(128, 1, 1, 0))?;
    let x = g.avgpool(x, "mean", overlapping)?;
    let x = g.conv2d(x, "odd", Conv2dAttr::square(37, 3, 1, 1))?;
    let x = g.batchnorm(x, "odd bn")?;
    let x = g.maxpool(x, "odd max", overlapping)?;
    let x = g.conv2d(x, "down", Conv2dAttr::square(21, 3, 2, 1))?;
    let x = g.avgpool(x, "odd mean", Window { kernel: 2, stride: 1, padding: 0 })?;
    let x = g.global_avgpool(x, "global")?;
    g.linear(x, "head", 5)?;
    Ok(g)
}

#[test]
fn every_f32_kernel_trains_without_a_finding() {
    if !have_kernels("checked run") {
        return;
    }
    let graph = Arc::new(every_operator().unwrap());
    let mut launched = BTreeSet::new();
    // An A100, which gives these layers small tiles, and a GPU of one multiprocessor, which large ones keep busy.
    for sms in [108, 1] {
        let options = Options { limits: Limits { sms, ..A100 }, profile: true, ..Options::checked() };
        let driver = Arc::new(Vgpu::new(options));
        let backend = Arc::new(Cuda::new(driver.clone()).unwrap());
        let mut session = Session::new(graph.clone(), backend, Hyper::default()).unwrap();
        session.load_state(&init(&graph, 1)).unwrap();
        let (images, labels) = (noise(5 * 12 * 12 * 3, 1), [0u32, 1, 2, 3, 4]);
        for _ in 0..2 {
            session.step(&images, &labels, 0.05).unwrap();
        }
        session.evaluate(&images, &labels).unwrap();
        let p = Augment { seed: [1, 2], n: 0, h: 12, w: 12, c: 3, count: 5, order: 0, pad: 2, crop: 1, flip: 1 };
        let bytes: Vec<u8> = images.iter().map(|v| v.to_bits() as u8).collect();
        let resident =
            Resident::new(&**session.backend(), p, &bytes, &labels, &[0.5, 0.4, 0.3], &[0.25, 0.2, 0.1]).unwrap();
        resident.set_order(&**session.backend(), &[4, 2, 0, 1, 3]).unwrap();
        let feed = session.attach(&resident).unwrap();
        for _ in 0..3 {
            session.step_from(feed, Take { epoch: 1, first: 0, images: 5 }, 0.01).unwrap();
        }
        assert!(session.take_metrics().unwrap().loss().is_finite());
        assert_eq!(driver.take_warnings(), []);
        launched.extend(driver.take_summaries().into_iter().map(|s| s.kernel));
    }
    let families =
        ["add", "augment", "batchnorm", "conv2d", "linear", "matmul", "pool", "relu", "select", "sgd", "softmax_xent"];
    let all = MODULES.iter().filter(|m| families.contains(&m.name)).flat_map(|m| m.entries).map(|e| e.name);
    let missing: Vec<&str> = all.filter(|name| name.contains("f32") && !launched.contains(*name)).collect();
    assert_eq!(missing, [""; 0], "kernels that the run never launched");
}
