//! What touches each element once: add, relu, select.

use criterion::{Criterion, Throughput};
use earlybird::ops::add::Add;
use earlybird::ops::relu::Relu;
use earlybird::ops::select::Select;

use crate::{ACTIVATIONS, devices, group};

pub fn bench(c: &mut Criterion) {
    for device in devices() {
        for (n, side, channels) in ACTIVATIONS {
            let rows = n * side * side;
            let len = rows * channels;
            let [a, b, y] = [(); 3].map(|()| device.noise(len));
            let shape = format!("{n}x{side}x{side}x{channels}");
            let bytes = |elements: usize| Throughput::Bytes(4 * elements as u64);
            let backend = &device.backend;
            let p = Add { n: len as u32 };
            device.measure(&mut group(c, "add_fwd_f32"), &shape, bytes(3 * len), || {
                backend.add_fwd_f32(&p, a.all(), b.all(), a.all())
            });
            let p = Relu { n: len as u32 };
            device.measure(&mut group(c, "relu_fwd_f32"), &shape, bytes(2 * len), || {
                backend.relu_fwd_f32(&p, b.all(), y.all())
            });
            device.measure(&mut group(c, "relu_bwd_f32"), &shape, bytes(3 * len), || {
                backend.relu_bwd_f32(&p, y.all(), b.all(), b.all())
            });
            let kept: Vec<u32> = (0..channels as u32).filter(|i| i % 2 == 0).collect();
            let p = Select { rows: rows as u32, c: channels as u32, k: kept.len() as u32 };
            let (index, half) = (device.put(&kept), device.noise(rows * kept.len()));
            device.measure(&mut group(c, "select_fwd_f32"), &shape, bytes(len + rows * kept.len()), || {
                backend.select_fwd_f32(&p, y.all(), index.all(), half.all())
            });
            device.measure(&mut group(c, "select_bwd_f32"), &shape, bytes(len + rows * kept.len()), || {
                backend.select_bwd_f32(&p, half.all(), index.all(), y.all())
            });
        }
    }
}
