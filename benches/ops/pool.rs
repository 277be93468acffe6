//! Pools: 2x2 windows that tile the image, overlapping 3x3 ones, and the mean over the image.

use criterion::{Criterion, Throughput};
use earlybird::ops::pool::Pool;

use crate::{devices, group};

/// Image side, channels, kernel, stride, padding; the last one covers the image.
const SHAPES: [(u32, u32, u32, u32, u32); 5] =
    [(32, 64, 2, 2, 0), (32, 16, 2, 2, 0), (16, 37, 2, 2, 0), (32, 64, 3, 2, 1), (8, 256, 8, 1, 0)];

pub fn bench(c: &mut Criterion) {
    for device in devices() {
        for (side, channels, kernel, stride, padding) in SHAPES {
            let out = (side + 2 * padding - kernel) / stride + 1;
            let p = Pool {
                n: 128,
                h: side,
                w: side,
                c: channels,
                p: out,
                q: out,
                kernel_h: kernel,
                kernel_w: kernel,
                stride,
                padding,
            };
            let (x_len, y_len) = ((128 * side * side * channels) as usize, (128 * out * out * channels) as usize);
            let (x, y, index) = (device.noise(x_len), device.noise(y_len), device.put(&vec![0u8; y_len]));
            let shape = format!("128x{side}x{side}x{channels}-{kernel}x{kernel}s{stride}");
            let backend = &device.backend;
            let bytes = |per_output: usize| Throughput::Bytes((4 * x_len + per_output * y_len) as u64);
            if kernel == side {
                device.measure(&mut group(c, "global_avgpool_fwd_f32"), &shape, bytes(4), || {
                    backend.global_avgpool_fwd_f32(&p, x.all(), y.all())
                });
                device.measure(&mut group(c, "global_avgpool_bwd_f32"), &shape, bytes(4), || {
                    backend.global_avgpool_bwd_f32(&p, y.all(), x.all())
                });
                continue;
            }
            device.measure(&mut group(c, "maxpool_fwd_f32"), &shape, bytes(5), || {
                backend.maxpool_fwd_f32(&p, x.all(), y.all(), index.all())
            });
            device.measure(&mut group(c, "maxpool_bwd_f32"), &shape, bytes(5), || {
                backend.maxpool_bwd_f32(&p, index.all(), y.all(), x.all())
            });
            device.measure(&mut group(c, "avgpool_fwd_f32"), &shape, bytes(4), || {
                backend.avgpool_fwd_f32(&p, x.all(), y.all())
            });
            device.measure(&mut group(c, "avgpool_bwd_f32"), &shape, bytes(4), || {
                backend.avgpool_bwd_f32(&p, y.all(), x.all())
            });
        }
    }
}
