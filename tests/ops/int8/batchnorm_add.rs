//! The end of a residual block in 8 bits: batchnorm, addition and ReLU in one, and the gradient behind them.

use earlybird::backend::{BatchNormInput, BatchNormState, Bfp, Summand};
use earlybird::ops::Kernel;
use earlybird::ops::batchnorm::GradientSums;
use earlybird::ops::batchnorm_add::{BatchNormAddGradI8, BatchNormAddI8, mask_bytes};
use earlybird::quant::layout::pad;

use super::batchnorm::{Data, Forward, data, parameters};
use super::conv2d::gradient_sums;
use super::*;

/// Images, pixels, channels: blocks of rows in one image, and across them; more images than a block has rows; widths of one channel, of a part of a block, of more than one.
const SHAPES: [(usize, usize, usize); 7] =
    [(2, 64, 64), (3, 25, 37), (2, 128, 16), (70, 1, 3), (1, 1, 1), (5, 30, 130), (9, 9, 48)];

/// A batchnorm's tensors on a device.
struct Input {
    y: OnDevice,
    sums: Memory,
    /// gamma, beta, running mean, running variance, mean, 1/std, affine map.
    state: [Memory; 7],
}

impl Input {
    fn put(device: &Device, d: &Data, c: usize) -> Input {
        let state = [
            device.put(&d.gamma),
            device.put(&d.beta),
            device.put(&d.running_mean),
            device.put(&d.running_var),
            device.out(c),
            device.out(c),
            device.out(2 * pad(c)),
        ];
        Input { y: d.y.put(device), sums: device.put(&output_sums(&d.y, c)), state }
    }

    fn all(&self) -> BatchNormInput<'_> {
        let [gamma, beta, running_mean, running_var, mean, invstd, affine] = self.state.each_ref().map(Memory::all);
        let state = BatchNormState { gamma, beta, running_mean, running_var, mean, invstd, affine };
        BatchNormInput { y: self.y.bfp(), sums: self.sums.all(), state }
    }

    fn check(&self, what: &str, device: &Device, want: &Forward) {
        let [_, _, running_mean, running_var, mean, invstd, affine] = &self.state;
        let floats = |memory: &Memory| device.get::<f32>(memory);
        same(&format!("{what} mean"), &floats(mean), &want.mean);
        same(&format!("{what} 1/std"), &floats(invstd), &want.invstd);
        same(&format!("{what} affine"), &floats(affine), &want.affine);
        same(&format!("{what} running mean"), &floats(running_mean), &want.running_mean);
        same(&format!("{what} running variance"), &floats(running_var), &want.running_var);
    }
}

/// What a pass shall do: form of what is added (`None`: a second batchnorm), of the sum, whether there are a ReLU and an operand.
type Way = (Option<Form>, Form, bool, bool);

const WAYS: [Way; 6] = [
    (Some(Form::Bfp16), Form::Bfp16, true, true),
    (None, Form::Bfp16, true, true),
    (Some(Form::F32), Form::Bfp16, true, false),
    (Some(Form::Stored), Form::Bfp16, false, true),
    (Some(Form::Bfp16), Form::F32, true, false),
    (None, Form::F32, false, false),
];

#[test]
fn forward_on_top_of_a_stream_and_of_a_second_batchnorm() {
    for (number, (n, pixels, c)) in SHAPES.into_iter().enumerate() {
        let (seed, rows) = (number as u64, n * pixels);
        let case = (n, (pixels as u32, 1, c), (0, 1, 0), false);
        let (d, second) = (data(&case, 2 * seed), data(&case, 2 * seed + 40));
        for (other, form, relu, operand) in WAYS {
            let rounding = Rounding::new(0x0900_0000_0000_0011, 21, number % 4 != 2);
            let p_of = |eps, momentum| {
                let p = parameters(&case, rounding, (Form::F32, None), true);
                earlybird::ops::batchnorm::BatchNormI8 { eps, momentum, ..p }
            };
            let (f, g) = (d.forward(&p_of(1e-5, 0.1), rounding), second.forward(&p_of(1e-3, 0.25), rounding));
            let added = Tensor::new(other.unwrap_or_default(), seed + 7, rows, c);
            let sum = |row: usize, channel: usize| {
                let z = d.z(&f.affine, row, channel);
                z + match other {
                    Some(_) => added.values[row * c + channel],
                    None => second.z(&g.affine, row, channel),
                }
            };
            let raw: Vec<f32> = (0..rows * c).map(|i| sum(i / c, i % c)).collect();
            let want: Vec<f32> = raw.iter().map(|v| if relu && *v <= 0.0 { 0.0 } else { *v }).collect();
            let mut mask = vec![0u8; if relu { mask_bytes(rows, c) } else { 0 }];
            if relu {
                for (i, _) in raw.iter().enumerate().filter(|(_, v)| **v > 0.0) {
                    let at = i / c * pad(c) + i % c;
                    mask[at / 8] |= 1 << (at % 8);
                }
            }
            let wide = Host16::store(&want, c);
            // The operand is that of the 16 bits.
            let (values, mut q) = (wide.values(c), Host { m: vec![0; rows * pad(c)], e: vec![0; n] });
            for image in 0..n {
                let all = &values[image * pixels * c..(image + 1) * pixels * c];
                let e = exponent(all.iter().fold(0.0, |max, v| f64::from(v.abs()).max(max)));
                q.e[image] = e as i8;
                for (i, v) in all.iter().enumerate() {
                    let at = (image * pixels + i / c) * pad(c) + i % c;
                    q.m[at] = rounding.element(*v, e, at);
                }
            }
            let p = BatchNormAddI8 {
                n: n as u32,
                pixels: pixels as u32,
                c: c as u32,
                eps: [1e-5, 1e-3],
                momentum: [0.1, 0.25],
                relu: u32::from(relu),
                both: u32::from(other.is_none()),
                other: other.unwrap_or_default() as u32,
                form: form as u32,
                operand: u32::from(operand),
                noise: rounding.noise,
            };
            everywhere(|device| {
                let what = |tensor: &str| format!("{} {tensor} of {p:?}", device.name);
                let (first, summand) = (Input::put(device, &d, c), Input::put(device, &second, c));
                let stream = added.put(device);
                let (blank, blank_q) = (Host16::blank(rows, c), Host::blank(q.m.len(), q.e.len()));
                let (out, plain, out_q) = (blank.put(device), device.out(rows * c), blank_q.put(device));
                let out_mask = put(device, &vec![9i8; mask.len().max(1)]);
                let (ws, at) = (device.workspace(&Kernel::BatchNormAddFwdI8(p)), step(device, &rounding));
                let (nothing, int8) = (none(&at), device.backend.int8().unwrap());
                let to = if form == Form::F32 { Bfp::f32(plain.all()) } else { out.bfp() };
                let masked = if relu { out_mask.all() } else { nothing };
                let to_q = if operand { out_q.bfp() } else { Bfp::f32(nothing) };
                let other = match other {
                    Some(_) => Summand::Stream(stream.bfp()),
                    None => Summand::BatchNorm(summand.all()),
                };
                int8.batchnorm_add_fwd_i8(&p, first.all(), other, at.all(), to, masked, to_q, ws.all()).unwrap();
                first.check(&what("first"), device, &f);
                if p.both != 0 {
                    summand.check(&what("second"), device, &g);
                }
                match form {
                    Form::F32 => same(&what("sum"), &device.get::<f32>(&plain), &want),
                    _ => blank.get(device, &out).is(&what("sum"), &wide),
                }
                if relu {
                    same(&what("mask"), &device.get::<u8>(&out_mask)[..mask.len()], &mask);
                }
                same_host(&what("operand"), &blank_q.get(device, &out_q), if operand { &q } else { &blank_q });
            });
        }
    }
}

#[test]
fn the_gradient_behind_it() {
    for (number, (n, pixels, c)) in SHAPES.into_iter().enumerate() {
        let (seed, rows) = (number as u64, n * pixels);
        let case = (n, (pixels as u32, 1, c), (0, 1, 0), false);
        let (d, second) = (data(&case, 2 * seed), data(&case, 2 * seed + 40));
        let mut s = stream(seed, "mask");
        let mut mask: Vec<u8> = (0..mask_bytes(rows, c)).map(|_| s.below(256) as u8).collect();
        // A sum has no padded channels, and a mask no bits for them.
        for row in mask.chunks_exact_mut(pad(c) / 8) {
            (c..pad(c)).for_each(|channel| row[channel / 8] &= !(1 << (channel % 8)));
        }
        for (up, more, relu, both, stream) in [
            (Form::Bfp16, Some(Form::Stored), true, false, true),
            (Form::Stored, Some(Form::Stored), true, true, false),
            (Form::F32, None, true, false, true),
            (Form::Stored, None, false, true, true),
            (Form::Bfp16, Some(Form::F32), false, false, false),
        ] {
            let rounding = Rounding::new(0x0900_0000_0000_0012, 22, number % 3 != 1);
            let behind = Tensor::new(up, seed + 9, rows, c);
            let other = more.map(|form| Tensor::new(form, seed + 19, rows, c));
            let want: Vec<f32> = (0..rows * c)
                .map(|i| {
                    let at = i / c * pad(c) + i % c;
                    let v = other.as_ref().map_or(behind.values[i], |other| behind.values[i] + other.values[i]);
                    if relu && mask[at / 8] >> (at % 8) & 1 == 0 { 0.0 } else { v }
                })
                .collect();
            let (dz, dx) = (rounding.store(&want, c), Host16::store(&want, c));
            let p = BatchNormAddGradI8 {
                rows: rows as u32,
                c: c as u32,
                relu: u32::from(relu),
                both: u32::from(both),
                up: up as u32,
                add: u32::from(more.is_some()),
                more: more.unwrap_or_default() as u32,
                stream: u32::from(stream),
                noise: rounding.noise,
            };
            everywhere(|device| {
                let what = |tensor: &str| format!("{} {tensor} of {p:?}", device.name);
                let ups = [Some(&behind), other.as_ref()].map(|tensor| tensor.map(|tensor| tensor.put(device)));
                let (masked, at) = (put(device, bytemuck::cast_slice(&mask)), step(device, &rounding));
                let [y, other_y] = [&d, &second].map(|d| d.y.put(device));
                let (blank, blank_16) = (Host::blank(dz.m.len(), dz.e.len()), Host16::blank(rows, c));
                let (out, out_16) = (blank.put(device), blank_16.put(device));
                let [sums, second_sums] =
                    [0; 2].map(|_| device.put(&vec![GradientSums::default(); rows.div_ceil(64) * pad(c)]));
                let (nothing, int8) = (none(&at), device.backend.int8().unwrap());
                let [up, more] = ups.each_ref().map(|tensor| tensor.as_ref().map_or(Bfp::f32(nothing), OnDevice::bfp));
                let second_of = both.then(|| (other_y.m.all(), second_sums.all()));
                let masks = if relu { masked.all() } else { nothing };
                let to = if stream { out_16.bfp() } else { Bfp::f32(nothing) };
                let (y, at, sums_of) = (y.m.all(), at.all(), sums.all());
                int8.batchnorm_add_grad_i8(&p, up, more, masks, y, second_of, at, out.bfp(), sums_of, to).unwrap();
                same_host(&what("dz"), &blank.get(device, &out), &dz);
                same(&what("sums"), &device.get::<GradientSums>(&sums), &gradient_sums(&dz, &d.y, c));
                if both {
                    let want = gradient_sums(&dz, &second.y, c);
                    same(&what("second sums"), &device.get::<GradientSums>(&second_sums), &want);
                }
                blank_16.get(device, &out_16).is(&what("dx"), if stream { &dx } else { &blank_16 });
            });
        }
    }
}
