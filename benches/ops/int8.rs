//! The 8-bit operators, at the shapes of their f32 twins: convolutions (weight gradients from 8 and from 16 bits), blocks of a batchnorm, quantisers, the optimiser, the classifier.
//! Not here: how far convolutions are from the machine's peak (`cargo bench --bench int8_layers`).

use criterion::{Criterion, Throughput};
use earlybird::autograd::execute;
use earlybird::backend::Memory;
use earlybird::measure::operands::{Content, operands};
use earlybird::ops::batchnorm::{BatchNormBwdStreamI8, BatchNormI8};
use earlybird::ops::batchnorm_add::{BatchNormAddGradI8, BatchNormAddI8};
use earlybird::ops::classifier::Classifier;
use earlybird::ops::conv2d::{Conv2d, Conv2dAttr, Conv2dI8, Conv2dStreamI8};
use earlybird::ops::pool::Pool;
use earlybird::ops::quantize::{Dequantize, Form, Noise, Quantize, QuantizeGradient, Round, Store};
use earlybird::ops::sgd::{Segment, Sgd, SgdI8};
use earlybird::ops::{Call, Kernel, Shape, Value};

use crate::{ACTIVATIONS, Device, conv2d, devices, group};

const NOISE: Noise = Noise { seed: [1, 2], tensor: 3, stochastic: 1 };
/// Streams as PreResNets have them.
const STREAM: u32 = Form::Bfp16 as u32;

pub fn bench(c: &mut Criterion) {
    for device in devices() {
        for (side, channels, out, kernel, stride) in conv2d::SHAPES {
            let attr = Conv2dAttr::square(out, kernel, stride, kernel / 2);
            let conv = Conv2d::new(128, Shape::new(side, side, channels), &attr).unwrap();
            let p = Conv2dI8 { conv, noise: NOISE, wide: 0 };
            let shape = format!("{side}x{side}x{channels}-{out}-{kernel}x{kernel}s{stride}");
            for (symbol, kernel) in [
                ("conv2d_fwd_i8", Kernel::Conv2dFwdI8(p)),
                (
                    "conv2d_fwd_i8_stream",
                    Kernel::Conv2dStreamI8(Conv2dStreamI8 {
                        product: p,
                        add: 1,
                        other: STREAM,
                        form: STREAM,
                        store: 1,
                    }),
                ),
                ("conv2d_dgrad_i8_masked", Kernel::Conv2dDgradI8(p)),
                ("conv2d_wgrad_i8", Kernel::Conv2dWgradI8(p)),
                ("conv2d_wgrad_i8, 16 bits", Kernel::Conv2dWgradI8(Conv2dI8 { wide: 1, ..p })),
            ] {
                operator(c, &device, symbol, &shape, Throughput::Elements(2 * conv.macs()), &kernel);
            }
        }
        for (n, side, channels) in ACTIVATIONS {
            let shape = format!("{n}x{side}x{side}x{channels}");
            let [n, side, channels] = [n, side, channels].map(|v| v as u32);
            let (rows, pixels, noise) = (n * side * side, side * side, NOISE);
            let stored = Store::all(rows as usize, channels as usize, noise);
            for (symbol, kernel) in [
                ("quantize_round_i8", Kernel::QuantizeRound(Round { groups: n, length: pixels * channels, noise })),
                (
                    "quantize_fwd_i8",
                    Kernel::QuantizeFwdI8(Quantize { n, pixels, c: channels, form: Form::F32 as u32, noise }),
                ),
                ("quantize_store_i8", Kernel::QuantizeStoreI8(stored)),
                (
                    "quantize_store_i8, half of a stream",
                    Kernel::QuantizeStoreI8(Store { c: channels / 2, form: STREAM, select: 1, ..stored }),
                ),
                ("dequantize_fwd_i8", Kernel::DequantizeFwdI8(Dequantize { n, pixels, c: channels, stored: 1 })),
                (
                    "quantize_bwd_i8",
                    Kernel::QuantizeBwdI8(QuantizeGradient {
                        n,
                        pixels,
                        k: channels,
                        dgrad: 1,
                        form: STREAM,
                        noise,
                        dyd_tensor: 4,
                        wide: 0,
                    }),
                ),
            ] {
                moving(c, &device, symbol, &shape, &kernel);
            }
            let p = BatchNormBwdStreamI8 {
                rows,
                c: channels,
                add: 1,
                other: STREAM,
                form: STREAM,
                select: 0,
                wide: channels,
            };
            moving(c, &device, "batchnorm_bwd_i8_stream", &shape, &Kernel::BatchNormBwdStreamI8(p));
            let p = BatchNormBwdStreamI8 { c: channels / 2, select: 1, ..p };
            moving(c, &device, "batchnorm_bwd_i8_stream_select", &shape, &Kernel::BatchNormBwdStreamI8(p));
            for both in [0, 1] {
                let (eps, momentum, stored) = ([1e-5; 2], [0.1; 2], Form::Stored as u32);
                let (c_, relu, other, form, operand) = (channels, 1, STREAM, STREAM, 1);
                let p = BatchNormAddI8 { n, pixels, c: c_, eps, momentum, relu, both, other, form, operand, noise };
                let shape = format!("{shape}{}", if both == 1 { ", two batchnorms" } else { "" });
                moving(c, &device, "batchnorm_add_fwd_i8", &shape, &Kernel::BatchNormAddFwdI8(p));
                let up = if both == 1 { stored } else { STREAM };
                let stream = 1 - both;
                let p = BatchNormAddGradI8 { rows, c: c_, relu: 1, both, up, add: 1, more: stored, stream, noise };
                moving(c, &device, "batchnorm_add_grad_i8", &shape, &Kernel::BatchNormAddGradI8(p));
            }
            for pooled in [false, true] {
                let (kernel, stride, out) = if pooled { (2, 2, side / 2) } else { (0, 1, side) };
                let pool = Pool {
                    n,
                    h: side,
                    w: side,
                    c: channels,
                    p: out,
                    q: out,
                    kernel_h: kernel,
                    kernel_w: kernel,
                    stride,
                    padding: 0,
                };
                let p = BatchNormI8 {
                    pool,
                    eps: 1e-5,
                    momentum: 0.1,
                    relu: 1,
                    gradient: Form::Stored as u32,
                    add: 0,
                    more: 0,
                    dgrad: 1,
                    noise,
                    dyd_tensor: 4,
                    wide: 0,
                };
                let shape = format!("{shape}{}", if pooled { ", pool" } else { "" });
                moving(c, &device, "batchnorm_fwd_i8", &shape, &Kernel::BatchNormFwdI8(p));
                moving(c, &device, "batchnorm_grad_i8", &shape, &Kernel::BatchNormGradI8(p));
                if !pooled {
                    moving(c, &device, "batchnorm_bwd_i8", &shape, &Kernel::BatchNormBwdI8(p));
                }
            }
        }
        let p = Classifier { n: 128, c: 512, k: 10, bias: 1 };
        moving(c, &device, "classifier_fwd_f32", "128x512-10", &Kernel::ClassifierFwd(p));
        moving(c, &device, "classifier_bwd_f32", "128x512-10", &Kernel::ClassifierBwd(p));
        optimiser(c, &device);
    }
}

/// An operator that is bound by what it moves.
fn moving(c: &mut Criterion, device: &Device, symbol: &str, shape: &str, kernel: &Kernel) {
    let all = operands(kernel).unwrap();
    let bytes = all.inputs.iter().map(|input| input.0).sum::<usize>() + all.outputs.iter().sum::<usize>();
    operator(c, device, symbol, shape, Throughput::Bytes(bytes as u64), kernel);
}

/// Any operator on made-up operands.
fn operator(c: &mut Criterion, device: &Device, symbol: &str, shape: &str, work: Throughput, kernel: &Kernel) {
    let all = operands(kernel).unwrap();
    let mut memory: Vec<Memory> = all.inputs.iter().map(|(bytes, content)| input(device, *bytes, *content)).collect();
    memory.extend(all.outputs.iter().map(|bytes| device.backend.alloc((*bytes).max(4)).unwrap()));
    memory.push(device.workspace(*kernel));
    let (inputs, all) = (all.inputs.len() as u32, memory.len() as u32);
    let call = Call {
        kernel: *kernel,
        inputs: (0..inputs).map(Value).collect(),
        outputs: (inputs..all - 1).map(Value).collect(),
        workspace: Some(Value(all - 1)),
    };
    device.measure(&mut group(c, symbol), shape, work, || {
        execute(&*device.backend, &call, &|value| Ok(memory[value.0 as usize].all()))
    });
}

fn input(device: &Device, bytes: usize, content: Content) -> Memory {
    match content {
        Content::Noise => device.noise(bytes / 4),
        Content::Labels(classes) => device.put(&(0..bytes as u32 / 4).map(|i| i % classes).collect::<Vec<u32>>()),
        Content::Channels => device.put(&(0..bytes as u32 / 4).map(|i| 2 * i).collect::<Vec<u32>>()),
        Content::Bytes => device.put(&(0..bytes.next_multiple_of(4)).map(|i| (i % 4) as u8).collect::<Vec<u8>>()),
    }
}

/// The step of a layer of 512 channels, rows of one exponent, and of as many numbers each with its own.
fn optimiser(c: &mut Criterion, device: &Device) {
    let (k, taps, channels) = (512u32, 9u32, 512u32);
    let conv = Segment::conv(0, [k, taps, channels], 0);
    let elements = Segment::elements(0, k * conv.columns);
    let count = elements.columns as usize;
    for (shape, segment) in [("3x3x512-512", conv), ("2359296 elements", elements)] {
        let p = SgdI8 {
            sgd: Sgd { count: count as u32, scales: 0, momentum: 0.9, weight_decay: 1e-4, l1: 0.0 },
            segments: 1,
            master_f32: 0,
            round_gradients: 1,
            seed: [1, 2],
            tensors: [5, 6, 7],
        };
        let (table, lr, step) = (device.put(&[segment]), device.put(&[1e-6f32]), device.put(&[3u32, 0]));
        let [g, v, w] = [(); 3].map(|()| device.noise(count));
        let packed = device.backend.alloc(conv.packed()).unwrap();
        let bytes = Throughput::Bytes(
            20 * count as u64 + if segment.format == conv.format { u64::from(conv.exponents) } else { 0 },
        );
        device.measure(&mut group(c, "sgd_step_i8"), shape, bytes, || {
            let (int8, step) = (device.backend.int8()?, step.span(0, 4)?);
            int8.sgd_step_i8(&p, table.all(), lr.all(), step, g.all(), v.all(), w.all(), packed.all())
        });
    }
}
