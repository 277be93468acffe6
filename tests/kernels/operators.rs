//! The backend's operators on virtual GPUs: the same bits in every order that hardware may take and with any number of workers, no bank conflicts, and no
//! traffic beyond what an operator must move. What they compute is `tests/ops`' business.

use std::sync::Arc;

use earlybird::backend::cuda::Cuda;
use earlybird::backend::{AugmentSource, Backend, Memory};
use earlybird::driver::vgpu::{Vgpu, parse};
use earlybird::ops::add::Add;
use earlybird::ops::advance::StepState;
use earlybird::ops::augment::Augment;
use earlybird::ops::batchnorm::BatchNorm;
use earlybird::ops::conv2d::{Conv2d, Conv2dAttr};
use earlybird::ops::linear::Linear;
use earlybird::ops::pool::Pool;
use earlybird::ops::relu::Relu;
use earlybird::ops::sgd::Sgd;
use earlybird::ops::softmax_xent::SoftmaxXent;
use earlybird::ops::{Kernel, Metrics, Shape};
use earlybird::vgpu::prof::{Class, Summary};

use crate::common::have_kernels;
use crate::device::noise;

/// A backend on a virtual GPU, and its driver.
struct Gpu {
    driver: Arc<Vgpu>,
    backend: Cuda,
}

impl Gpu {
    fn open(name: &str) -> Gpu {
        let driver = Arc::new(Vgpu::new(parse(name).unwrap()));
        Gpu { backend: Cuda::new(driver.clone()).unwrap(), driver }
    }

    fn put<T: bytemuck::Pod>(&self, data: &[T]) -> Memory {
        let memory = self.backend.alloc(size_of_val(data)).unwrap();
        self.backend.upload(bytemuck::cast_slice(data), memory.all()).unwrap();
        memory
    }

    fn random(&self, seed: u64, len: usize) -> Memory {
        self.put(&noise(seed, len).iter().map(|v| v - 0.5).collect::<Vec<f32>>())
    }

    fn out(&self, len: usize) -> Memory {
        self.put(&vec![f32::NAN; len])
    }

    fn workspace(&self, kernel: Kernel) -> Memory {
        self.out(self.backend.workspace(&kernel).div_ceil(4))
    }

    fn bytes(&self, memory: &Memory) -> Vec<u8> {
        let mut out = vec![0; memory.bytes()];
        self.backend.download(memory.all(), &mut out).unwrap();
        out
    }

    /// What one call counted, by kernel.
    fn profile(&self, call: impl FnOnce() -> earlybird::Result<()>) -> Vec<Summary> {
        self.driver.take_summaries();
        call().unwrap();
        self.driver.take_summaries()
    }
}

fn conv(n: usize, side: usize, c: usize, k: usize, kernel: usize, stride: usize) -> Conv2d {
    Conv2d::new(n, Shape::new(side, side, c), &Conv2dAttr::square(k, kernel, stride, kernel / 2)).unwrap()
}

/// All that one small network would call, and every byte that came of it.
fn everything(gpu: &Gpu) -> Vec<Vec<u8>> {
    let b = &gpu.backend;
    let mut results = Vec::new();
    for p in [conv(2, 12, 3, 8, 3, 1), conv(1, 9, 8, 37, 3, 2), conv(2, 33, 4, 12, 1, 1)] {
        let (x, w, dy) = (gpu.random(1, p.x_len()), gpu.random(2, p.w_len()), gpu.random(3, p.y_len()));
        let bias = gpu.random(4, p.k as usize);
        let (y, dx, dw, dbias) = (gpu.out(p.y_len()), gpu.out(p.x_len()), gpu.out(p.w_len()), gpu.out(p.k as usize));
        let ws = gpu.workspace(Kernel::Conv2dWgrad(p));
        b.conv2d_fwd_f32(&p, x.all(), w.all(), Some(bias.all()), y.all(), ws.all()).unwrap();
        b.conv2d_dgrad_f32(&p, dy.all(), w.all(), dx.all(), ws.all()).unwrap();
        b.conv2d_wgrad_f32(&p, x.all(), dy.all(), dw.all(), Some(dbias.all()), ws.all()).unwrap();
        results.extend([&y, &dx, &dw, &dbias].map(|m| gpu.bytes(m)));
    }
    for (rows, c) in [(700, 16), (130, 37)] {
        let p = BatchNorm { rows, c, eps: 1e-5, momentum: 0.1, relu: 1 };
        let (all, one) = ((rows * c) as usize, c as usize);
        let (x, dy, gamma, beta) = (gpu.random(5, all), gpu.random(6, all), gpu.random(7, one), gpu.random(8, one));
        let (rm, rv, mean, invstd) = (gpu.random(9, one), gpu.random(10, one), gpu.out(one), gpu.out(one));
        let (y, dgamma, dbeta, ws) = (gpu.out(all), gpu.out(one), gpu.out(one), gpu.workspace(Kernel::BatchNormFwd(p)));
        let [xs, ys, ms, is] = [&x, &y, &mean, &invstd].map(Memory::all);
        b.batchnorm_fwd_f32(&p, xs, gamma.all(), beta.all(), rm.all(), rv.all(), ys, ms, is, ws.all()).unwrap();
        let (dg, db) = (dgamma.all(), dbeta.all());
        b.batchnorm_bwd_f32(&p, xs, ys, gamma.all(), ms, is, dy.all(), dy.all(), dg, db, ws.all()).unwrap();
        results.extend([&y, &mean, &invstd, &rm, &rv, &dy, &dgamma, &dbeta].map(|m| gpu.bytes(m)));
    }
    let p = Linear { n: 70, c: 33, k: 10 };
    let (x, w, bias, y) = (gpu.random(11, 70 * 33), gpu.random(12, 330), gpu.random(13, 10), gpu.out(700));
    let (dw, dbias) = (gpu.out(330), gpu.out(10));
    b.linear_fwd_f32(&p, x.all(), w.all(), Some(bias.all()), y.all()).unwrap();
    let loss = SoftmaxXent { n: 70, classes: 10 };
    let (labels, probs) = (gpu.put(&(0..70).map(|i| i * 7 % 10).collect::<Vec<u32>>()), gpu.out(700));
    let (metrics, dlogits) = (gpu.put(&[Metrics::default()]), gpu.out(700));
    b.softmax_xent_fwd_f32(&loss, y.all(), labels.all(), probs.all(), metrics.all()).unwrap();
    b.softmax_xent_bwd_f32(&loss, probs.all(), labels.all(), dlogits.all()).unwrap();
    b.linear_wgrad_f32(&p, x.all(), dlogits.all(), dw.all(), Some(dbias.all())).unwrap();
    results.extend([&y, &probs, &metrics, &dlogits, &dw, &dbias].map(|m| gpu.bytes(m)));
    let p = Augment { seed: [1, 2], n: 9, h: 41, w: 35, c: 3, count: 5, order: 9, pad: 4, crop: 1, flip: 1 };
    let data = gpu.put(&(0..5 * p.elements()).map(|i| (i * i / 7) as u8).collect::<Vec<u8>>());
    let (order, state) = (gpu.put(&[4u32, 0, 1, 9, 3, 2, 2, 0, 1]), gpu.put(&[StepState::default()]));
    let (known, mean) = (gpu.put(&[1u32, 2, 3, 4, 5]), gpu.put(&[0.5f32, 0.25, 0.125]));
    let from = AugmentSource {
        images: data.all(),
        labels: known.all(),
        order: order.all(),
        state: state.all(),
        mean: mean.all(),
        std: mean.all(),
    };
    let (images, labels) = (gpu.out(9 * p.elements()), gpu.out(9));
    b.augment_fwd_f32(&p, from, images.all(), labels.all()).unwrap();
    results.extend([&images, &labels].map(|m| gpu.bytes(m)));
    results
}

#[test]
fn the_same_bits_in_every_order_and_with_any_number_of_workers() {
    if !have_kernels("operators: order") {
        return;
    }
    let first = everything(&Gpu::open("vgpu,workers=1"));
    for name in
        ["vgpu,workers=2", "vgpu,schedule=reverse", "vgpu,schedule=random:1", "vgpu:h100,workers=2", "vgpu:rtx4090"]
    {
        assert_eq!(everything(&Gpu::open(name)), first, "{name}");
    }
}

fn no_conflicts(counted: &[Summary]) {
    for s in counted {
        assert_eq!(s.shared.wavefronts, s.shared.ideal, "{}: bank conflicts", s.kernel);
    }
}

#[test]
fn convolutions_have_no_bank_conflicts_and_mostly_multiply() {
    if !have_kernels("operators: conv2d") {
        return;
    }
    let gpu = Gpu::open("vgpu,profile");
    // Large tiles want most multiprocessors busy; small ones take the rest.
    for (p, large) in [(conv(2, 80, 16, 128, 1, 1), true), (conv(2, 16, 16, 32, 3, 1), false)] {
        let (x, w, dy) = (gpu.random(1, p.x_len()), gpu.random(2, p.w_len()), gpu.random(3, p.y_len()));
        let (y, dx, dw) = (gpu.out(p.y_len()), gpu.out(p.x_len()), gpu.out(p.w_len()));
        let ws = gpu.workspace(Kernel::Conv2dWgrad(p));
        let fwd = gpu.profile(|| gpu.backend.conv2d_fwd_f32(&p, x.all(), w.all(), None, y.all(), ws.all()));
        let dgrad = gpu.profile(|| gpu.backend.conv2d_dgrad_f32(&p, dy.all(), w.all(), dx.all(), ws.all()));
        let wgrad = gpu.profile(|| gpu.backend.conv2d_wgrad_f32(&p, x.all(), dy.all(), dw.all(), None, ws.all()));
        assert_eq!(fwd[0].kernel == "conv2d_fwd_f32", large, "{}", fwd[0].kernel);
        for counted in [&fwd, &dgrad, &wgrad] {
            no_conflicts(counted);
            let lanes = counted[0].class(Class::Fma).lanes;
            assert!(lanes >= p.macs(), "{}: {lanes} multiply-adds of {}", counted[0].kernel, p.macs());
        }
    }
}

/// With a stride, pixels of the input have the taps that reach them and no others: where tiles are full, no multiply-add more than the forward pass has.
#[test]
fn the_input_gradient_visits_only_taps_that_contribute() {
    if !have_kernels("operators: conv2d with strides") {
        return;
    }
    let gpu = Gpu::open("vgpu,profile");
    let p = conv(4, 32, 32, 16, 3, 2);
    let (w, dy, dx) = (gpu.random(2, p.w_len()), gpu.random(3, p.y_len()), gpu.out(p.x_len()));
    let ws = gpu.workspace(Kernel::Conv2dWgrad(p));
    let dgrad = gpu.profile(|| gpu.backend.conv2d_dgrad_f32(&p, dy.all(), w.all(), dx.all(), ws.all()));
    no_conflicts(&dgrad);
    assert_eq!(dgrad[0].class(Class::Fma).lanes, p.macs(), "{}", dgrad[0].kernel);
}

/// Bytes that a call reads and writes by 32-byte sectors, against what it must move.
fn traffic(counted: &[Summary], read: usize, written: usize) {
    let sum = |of: &dyn Fn(&Summary) -> u64| 32 * counted.iter().map(of).sum::<u64>() as usize;
    let (r, w) = (sum(&|s| s.global_read.sectors), sum(&|s| s.global_write.sectors));
    let near = |got: usize, must: usize| got >= must && got * 20 <= must * 21 + 20 * 4096;
    let name = &counted[0].kernel;
    assert!(near(r, read) && near(w, written), "{name}: reads {r} of {read}, writes {w} of {written}");
}

#[test]
fn elementwise_operators_move_no_byte_twice() {
    if !have_kernels("operators: traffic") {
        return;
    }
    let gpu = Gpu::open("vgpu,profile");
    let b = &gpu.backend;
    let n = 1 << 17;
    let bytes = 4 * n;
    let (x, y, z) = (gpu.random(1, n), gpu.random(2, n), gpu.out(n));
    let (add, relu) = (Add { n: n as u32 }, Relu { n: n as u32 });
    traffic(&gpu.profile(|| b.add_fwd_f32(&add, x.all(), y.all(), z.all())), 2 * bytes, bytes);
    traffic(&gpu.profile(|| b.relu_fwd_f32(&relu, x.all(), z.all())), bytes, bytes);
    traffic(&gpu.profile(|| b.relu_bwd_f32(&relu, x.all(), y.all(), z.all())), 2 * bytes, bytes);
    let lr = gpu.put(&[0.1f32]);
    let sgd = Sgd { count: n as u32, scales: 64, momentum: 0.9, weight_decay: 1e-4, l1: 1e-4 };
    let step = gpu.profile(|| b.sgd_step_f32(&sgd, lr.all(), x.all(), y.all(), z.all()));
    let rate = step[0].blocks() as usize * 8 * 32; // every warp reads the learning rate
    traffic(&step, 3 * bytes + rate, 2 * bytes);
    let side = 32;
    let pool = Pool {
        n: 2,
        h: side,
        w: side,
        c: 64,
        p: side / 2,
        q: side / 2,
        kernel_h: 2,
        kernel_w: 2,
        stride: 2,
        padding: 0,
    };
    let index = gpu.put(&vec![0u8; n / 4]);
    let out = gpu.out(n / 4);
    traffic(&gpu.profile(|| b.maxpool_fwd_f32(&pool, x.all(), out.all(), index.all())), bytes, bytes / 4 + n / 4);
    traffic(&gpu.profile(|| b.avgpool_fwd_f32(&pool, x.all(), out.all())), bytes, bytes / 4);
    let p = BatchNorm { rows: (n / 64) as u32, c: 64, eps: 1e-5, momentum: 0.1, relu: 1 };
    let c = || gpu.random(3, 64);
    let (gamma, beta, mean, var) = (c(), c(), c(), gpu.put(&[1.0f32; 64]));
    let eval =
        gpu.profile(|| b.batchnorm_eval_f32(&p, x.all(), gamma.all(), beta.all(), mean.all(), var.all(), z.all()));
    // Channels are read by every block, from the cache: what counts is what comes from memory.
    let footprint = 32 * eval[0].global_read.footprint_sectors as usize;
    assert!(footprint <= bytes + 4096, "batchnorm_eval: {footprint} of {bytes}");
    assert_eq!(32 * eval[0].global_write.sectors as usize, bytes);
    no_conflicts(&eval);
}
