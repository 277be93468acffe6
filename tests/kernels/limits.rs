//! Shapes that the kernels' 32-bit indices cannot reach are refused before anything is launched, by every operator, with or without memory for them.

use std::sync::Arc;

use earlybird::autograd::execute;
use earlybird::backend::cuda::Cuda;
use earlybird::backend::{AugmentSource, Backend, Memory};
use earlybird::driver::vgpu::Vgpu;
use earlybird::measure::operands::operands;
use earlybird::ops::add::Add;
use earlybird::ops::augment::Augment;
use earlybird::ops::batchnorm::{BatchNorm, BatchNormBwdStreamI8, BatchNormI8};
use earlybird::ops::batchnorm_add::{BatchNormAddGradI8, BatchNormAddI8};
use earlybird::ops::classifier::Classifier;
use earlybird::ops::conv2d::{Conv2d, Conv2dAttr, Conv2dI8, Conv2dStreamI8};
use earlybird::ops::linear::Linear;
use earlybird::ops::pool::Pool;
use earlybird::ops::quantize::{Dequantize, Noise, Quantize, QuantizeGradient, Round, Store};
use earlybird::ops::relu::Relu;
use earlybird::ops::select::Select;
use earlybird::ops::sgd::Sgd;
use earlybird::ops::softmax_xent::SoftmaxXent;
use earlybird::ops::{Call, Kernel, Shape, Value};
use earlybird::vgpu::device::Options;

use crate::common::have_kernels;

const NOISE: Noise = Noise { seed: [1, 2], tensor: 3, stochastic: 1 };

fn conv(n: u32, channels: [usize; 2], stride: usize) -> Conv2d {
    Conv2d::new(n as usize, Shape::new(32, 32, channels[0]), &Conv2dAttr::square(channels[1], 3, stride, 1)).unwrap()
}

fn pool(n: u32, kernel: u32) -> Pool {
    let out = if kernel == 0 { 32 } else { 16 };
    Pool { n, h: 32, w: 32, c: 64, p: out, q: out, kernel_h: kernel, kernel_w: kernel, stride: 2, padding: 0 }
}

/// f32 operators on tensors of `n` images of 32x32x64.
fn floats(n: u32) -> Vec<Kernel> {
    let (rows, count) = (n * 1024, n.saturating_mul(65536));
    let norm = BatchNorm { rows, c: 64, eps: 1e-5, momentum: 0.1, relu: 1 };
    let (select, linear) = (Select { rows, c: 64, k: 64 }, Linear { n: rows / 8, c: 512, k: 10 });
    let mut all: Vec<Kernel> = [conv(n, [64, 16], 1), conv(n, [16, 64], 1), conv(n, [37, 64], 1), conv(n, [64, 64], 2)]
        .into_iter()
        .flat_map(|p| [Kernel::Conv2dFwd(p), Kernel::Conv2dDgrad(p), Kernel::Conv2dWgrad(p)])
        .collect();
    all.extend([
        Kernel::AddFwd(Add { n: count }),
        Kernel::ReluFwd(Relu { n: count }),
        Kernel::ReluBwd(Relu { n: count }),
    ]);
    all.extend([Kernel::BatchNormFwd(norm), Kernel::BatchNormEval(norm), Kernel::BatchNormBwd(norm)]);
    all.extend([Kernel::MaxPoolFwd(pool(n, 2)), Kernel::MaxPoolBwd(pool(n, 2))]);
    all.extend([Kernel::AvgPoolFwd(pool(n, 2)), Kernel::AvgPoolBwd(pool(n, 2))]);
    all.extend([Kernel::LinearFwd(linear), Kernel::LinearDgrad(linear), Kernel::LinearWgrad(linear)]);
    all.extend([Kernel::SelectFwd(select), Kernel::SelectBwd(select)]);
    let p = SoftmaxXent { n: count / 8, classes: 8 };
    all.extend([Kernel::SoftmaxXentFwd(p), Kernel::SoftmaxXentBwd(p)]);
    let p = Classifier { n: rows / 8, c: 512, k: 10, bias: 1 };
    all.extend([Kernel::ClassifierFwd(p), Kernel::ClassifierBwd(p)]);
    all.push(Kernel::QuantizeRound(Round { groups: n, length: 65536, noise: NOISE }));
    all.push(Kernel::SgdStep(Sgd { count, scales: 0, momentum: 0.9, weight_decay: 0.0, l1: 0.0 }));
    all
}

/// 8-bit operators on tensors of `n` images of 32x32, one of them padded to 64 channels.
fn mantissas(n: u32) -> Vec<Kernel> {
    let mut all = Vec::new();
    // The large tensor: input, output, output of a stride; padding counts.
    for (channels, stride) in [([64, 16], 1), ([16, 64], 1), ([50, 16], 1), ([64, 64], 2)] {
        let p = Conv2dI8 { conv: conv(n, channels, stride), noise: NOISE, wide: 0 };
        let wide = Conv2dI8 { wide: 1, ..p };
        all.extend([Kernel::Conv2dFwdI8(p), Kernel::Conv2dDgradI8(p), Kernel::Conv2dWgradI8(p)]);
        all.push(Kernel::Conv2dWgradI8(wide));
        for form in [0, 2] {
            let stream = Conv2dStreamI8 { product: p, add: 1, other: form, form, store: 1 };
            all.push(Kernel::Conv2dStreamI8(stream));
        }
    }
    for (kernel, gradient) in [(0, 0), (0, 1), (2, 0), (2, 1)] {
        let p = BatchNormI8 {
            pool: Pool { stride: kernel.max(1), ..pool(n, kernel) },
            eps: 1e-5,
            momentum: 0.1,
            relu: 1,
            gradient,
            add: gradient,
            more: 2 * gradient,
            dgrad: 1,
            noise: NOISE,
            dyd_tensor: 4,
            wide: gradient,
        };
        all.extend([Kernel::BatchNormFwdI8(p), Kernel::BatchNormGradI8(p), Kernel::BatchNormBwdI8(p)]);
    }
    let (pixels, c, noise) = (1024, 50, NOISE);
    for (both, form) in [(0, 0), (1, 2)] {
        let (eps, momentum, operand) = ([1e-5; 2], [0.1; 2], both);
        let p = BatchNormAddI8 { n, pixels, c, eps, momentum, relu: 1, both, other: 2, form, operand, noise };
        all.push(Kernel::BatchNormAddFwdI8(p));
        let rows = n * pixels;
        let p = BatchNormAddGradI8 { rows, c, relu: 1, both, up: form, add: 1, more: 1, stream: 1 - both, noise };
        all.push(Kernel::BatchNormAddGradI8(p));
    }
    for form in [0, 2] {
        let p = BatchNormBwdStreamI8 { rows: n * pixels, c, add: 1, other: form, form, select: 0, wide: c };
        all.push(Kernel::BatchNormBwdStreamI8(p));
        // The stream is the large tensor.
        all.push(Kernel::BatchNormBwdStreamI8(BatchNormBwdStreamI8 { c: 10, select: 1, ..p }));
        all.push(Kernel::QuantizeStoreI8(Store { rows: n * pixels, c: 10, form, select: 1, from: c, noise }));
        all.push(Kernel::QuantizeFwdI8(Quantize { n, pixels, c, form, noise }));
    }
    all.push(Kernel::QuantizeStoreI8(Store::all((n * pixels) as usize, c as usize, noise)));
    all.push(Kernel::DequantizeFwdI8(Dequantize { n, pixels, c, stored: 1 }));
    for (wide, form) in [(0, 0), (1, 2)] {
        let p = QuantizeGradient { n, pixels, k: c, dgrad: 1, form, noise, dyd_tensor: 4, wide };
        all.push(Kernel::QuantizeBwdI8(p));
    }
    all
}

/// What `kernel` says on memory of four bytes.
fn refusal(backend: &Cuda, memory: &Memory, kernel: &Kernel) -> String {
    let all = operands(kernel).unwrap();
    let call = Call {
        kernel: *kernel,
        inputs: vec![Value(0); all.inputs.len()],
        outputs: vec![Value(0); all.outputs.len()],
        workspace: None,
    };
    execute(backend, &call, &|_| Ok(memory.all())).unwrap_err().to_string()
}

#[test]
fn what_32_bits_cannot_index_is_refused_by_every_operator() {
    if !have_kernels("limits of indices") {
        return;
    }
    let backend = Cuda::new(Arc::new(Vgpu::new(Options::default()))).unwrap();
    let memory = backend.alloc(4).unwrap();
    // 32768 images of 32x32x64 are 2^31 elements; with one less there is only no memory for them.
    for operators in [floats, mantissas] {
        let large = operators(32768);
        assert!(large.len() > 20);
        for kernel in large {
            let said = refusal(&backend, &memory, &kernel);
            assert!(said.contains("can be indexed: use a smaller batch"), "{kernel:?}: {said}");
        }
        for kernel in operators(32767) {
            let said = refusal(&backend, &memory, &kernel);
            assert!(said.contains("are needed"), "{kernel:?}: {said}");
        }
    }
    // Images on the device are indexed in 64 bits, the batch made of them is not.
    let p = Augment { seed: [1, 2], n: 1 << 20, h: 32, w: 32, c: 3, count: 1, order: 1, pad: 4, crop: 1, flip: 1 };
    let one = memory.all();
    let from = AugmentSource { images: one, labels: one, order: one, state: one, mean: one, std: one };
    let said = backend.augment_fwd_f32(&p, from, one, one).unwrap_err().to_string();
    assert!(said.contains("use a smaller batch"), "{said}");
}

#[test]
fn sides_that_a_word_of_two_coordinates_cannot_hold_are_refused() {
    if !have_kernels("limits of coordinates") {
        return;
    }
    let backend = Cuda::new(Arc::new(Vgpu::new(Options::default()))).unwrap();
    let memory = backend.alloc(4).unwrap();
    let conv = Conv2d::new(1, Shape::new(1, 16_001, 1), &Conv2dAttr::square(1, 1, 1, 0)).unwrap();
    let said = refusal(&backend, &memory, &Kernel::Conv2dWgradI8(Conv2dI8 { conv, noise: NOISE, wide: 0 }));
    assert!(said.contains("16001 pixels a side"), "{said}");
}
