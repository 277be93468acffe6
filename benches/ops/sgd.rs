//! sgd: one step of all parameters of VGG16 and of its quarter.

use criterion::{Criterion, Throughput};
use earlybird::ops::sgd::Sgd;

use crate::{devices, group};

pub fn bench(c: &mut Criterion) {
    for device in devices() {
        for (count, scales) in [(14_724_042usize, 4224), (924_330, 1056)] {
            let p = Sgd { count: count as u32, scales, momentum: 0.9, weight_decay: 1e-4, l1: 1e-4 };
            let [g, w] = [(); 2].map(|()| device.noise(count));
            let (v, lr) = (device.put(&vec![0.0f32; count]), device.put(&[1e-6f32]));
            let bytes = Throughput::Bytes(20 * count as u64);
            device.measure(&mut group(c, "sgd_step_f32"), &count.to_string(), bytes, || {
                device.backend.sgd_step_f32(&p, lr.all(), g.all(), v.all(), w.all())
            });
        }
    }
}
