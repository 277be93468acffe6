//! linear: the classifiers of a VGG and of a ResNet-50.

use criterion::{Criterion, Throughput};
use earlybird::ops::linear::Linear;

use crate::{devices, group};

pub fn bench(c: &mut Criterion) {
    for device in devices() {
        for (n, features, out) in [(128usize, 512usize, 10usize), (128, 2048, 1000)] {
            let p = Linear { n: n as u32, c: features as u32, k: out as u32 };
            let (x, w, b, y) =
                (device.noise(n * features), device.noise(out * features), device.noise(out), device.noise(n * out));
            let shape = format!("{n}x{features}-{out}");
            let work = || Throughput::Elements((2 * n * features * out) as u64);
            let backend = &device.backend;
            device.measure(&mut group(c, "linear_fwd_f32"), &shape, work(), || {
                backend.linear_fwd_f32(&p, x.all(), w.all(), Some(b.all()), y.all())
            });
            device.measure(&mut group(c, "linear_dgrad_f32"), &shape, work(), || {
                backend.linear_dgrad_f32(&p, y.all(), w.all(), x.all())
            });
            device.measure(&mut group(c, "linear_wgrad_f32"), &shape, work(), || {
                backend.linear_wgrad_f32(&p, x.all(), y.all(), w.all(), Some(b.all()))
            });
        }
    }
}
