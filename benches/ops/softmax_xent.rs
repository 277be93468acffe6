//! softmax_xent: loss, hits and gradient of a batch.

use criterion::{Criterion, Throughput};
use earlybird::ops::Metrics;
use earlybird::ops::softmax_xent::SoftmaxXent;

use crate::{devices, group};

pub fn bench(c: &mut Criterion) {
    for device in devices() {
        for (n, classes) in [(128usize, 10usize), (256, 1000)] {
            let p = SoftmaxXent { n: n as u32, classes: classes as u32 };
            let (logits, probs) = (device.noise(n * classes), device.noise(n * classes));
            let labels = device.put(&(0..n).map(|i| (i % classes) as u32).collect::<Vec<u32>>());
            let metrics = device.put(&[Metrics::default()]);
            let shape = format!("{n}x{classes}");
            let bytes = || Throughput::Bytes((8 * n * classes) as u64);
            let backend = &device.backend;
            device.measure(&mut group(c, "softmax_xent_fwd_f32"), &shape, bytes(), || {
                backend.softmax_xent_fwd_f32(&p, logits.all(), labels.all(), probs.all(), metrics.all())
            });
            device.measure(&mut group(c, "softmax_xent_bwd_f32"), &shape, bytes(), || {
                backend.softmax_xent_bwd_f32(&p, probs.all(), labels.all(), logits.all())
            });
        }
    }
}
