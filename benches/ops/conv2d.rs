//! conv2d: forward, data gradient, weight gradient.

use criterion::{Criterion, Throughput};
use earlybird::ops::conv2d::{Conv2d, Conv2dAttr};
use earlybird::ops::{Kernel, Shape};

use crate::{devices, group};

/// Image side, input and output channels, kernel, stride.
pub const SHAPES: [(usize, usize, usize, usize, usize); 8] = [
    (32, 3, 64, 3, 1),
    (32, 64, 64, 3, 1),
    (8, 256, 256, 3, 1),
    (2, 512, 512, 3, 1),
    (32, 16, 16, 3, 1),
    (4, 128, 128, 3, 1),
    (16, 37, 53, 3, 1),
    (16, 64, 128, 1, 2),
];

pub fn bench(c: &mut Criterion) {
    for device in devices() {
        for (side, channels, out, kernel, stride) in SHAPES {
            let attr = Conv2dAttr::square(out, kernel, stride, kernel / 2);
            let p = Conv2d::new(128, Shape::new(side, side, channels), &attr).unwrap();
            let (x, w, y) = (device.noise(p.x_len()), device.noise(p.w_len()), device.noise(p.y_len()));
            let shape = format!("{side}x{side}x{channels}-{out}-{kernel}x{kernel}s{stride}");
            let work = || Throughput::Elements(2 * p.macs());
            let backend = &device.backend;
            let ws = device.workspace(Kernel::Conv2dFwd(p));
            device.measure(&mut group(c, "conv2d_fwd_f32"), &shape, work(), || {
                backend.conv2d_fwd_f32(&p, x.all(), w.all(), None, y.all(), ws.all())
            });
            let ws = device.workspace(Kernel::Conv2dDgrad(p));
            device.measure(&mut group(c, "conv2d_dgrad_f32"), &shape, work(), || {
                backend.conv2d_dgrad_f32(&p, y.all(), w.all(), x.all(), ws.all())
            });
            let ws = device.workspace(Kernel::Conv2dWgrad(p));
            device.measure(&mut group(c, "conv2d_wgrad_f32"), &shape, work(), || {
                backend.conv2d_wgrad_f32(&p, x.all(), y.all(), w.all(), None, ws.all())
            });
        }
    }
}
