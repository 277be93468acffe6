//! batchnorm with its ReLU: training forward, inference, gradients in place.

use criterion::{Criterion, Throughput};
use earlybird::ops::Kernel;
use earlybird::ops::batchnorm::BatchNorm;

use crate::{ACTIVATIONS, devices, group};

pub fn bench(c: &mut Criterion) {
    for device in devices() {
        for (n, side, channels) in ACTIVATIONS {
            let rows = n * side * side;
            let p = BatchNorm { rows: rows as u32, c: channels as u32, eps: 1e-5, momentum: 0.1, relu: 1 };
            let [x, y, dy] = [(); 3].map(|()| device.noise(rows * channels));
            let [gamma, beta, mean, invstd, running_mean, running_var] =
                [(); 6].map(|()| device.put(&vec![1.0f32; channels]));
            let shape = format!("{n}x{side}x{side}x{channels}");
            let tensors = |count: usize| Throughput::Bytes((4 * count * rows * channels) as u64);
            let backend = &device.backend;
            let (rm, rv) = (running_mean.all(), running_var.all());
            let ws = device.workspace(Kernel::BatchNormFwd(p));
            device.measure(&mut group(c, "batchnorm_fwd_f32"), &shape, tensors(3), || {
                let (mean, invstd, ws) = (mean.all(), invstd.all(), ws.all());
                backend.batchnorm_fwd_f32(&p, x.all(), gamma.all(), beta.all(), rm, rv, y.all(), mean, invstd, ws)
            });
            device.measure(&mut group(c, "batchnorm_eval_f32"), &shape, tensors(2), || {
                backend.batchnorm_eval_f32(&p, x.all(), gamma.all(), beta.all(), rm, rv, y.all())
            });
            let ws = device.workspace(Kernel::BatchNormBwd(p));
            let (dgamma, dbeta) = (device.noise(channels), device.noise(channels));
            device.measure(&mut group(c, "batchnorm_bwd_f32"), &shape, tensors(7), || {
                let (mean, invstd, dgamma, dbeta) = (mean.all(), invstd.all(), dgamma.all(), dbeta.all());
                let dy = dy.all();
                backend.batchnorm_bwd_f32(
                    &p,
                    x.all(),
                    y.all(),
                    gamma.all(),
                    mean,
                    invstd,
                    dy,
                    dy,
                    dgamma,
                    dbeta,
                    ws.all(),
                )
            });
        }
    }
}
