//! conv2d in integers: forward, data gradient (plain and masked by the batchnorm before), weight gradient.

use earlybird::backend::Normalised;
use earlybird::ops::batchnorm::{GradientSums, OutputSums};
use earlybird::ops::conv2d::{Conv2d, Conv2dAttr, Conv2dI8, Conv2dStreamI8};
use earlybird::ops::{Kernel, Shape};
use earlybird::quant::layout::{blocks, pad};

use proptest::prelude::*;

use super::*;

/// Batch, image (h, w, c), outputs, kernel, stride, padding.
pub type Case = (usize, (usize, usize, usize), usize, (usize, usize), (usize, usize), (usize, usize));

/// Odd channel counts, strides, kernels that hang over every edge, partial blocks, one row.
pub const CASES: [Case; 12] = [
    (2, (8, 8, 3), 16, (3, 3), (1, 1), (1, 1)),
    (3, (7, 5, 16), 37, (3, 3), (1, 1), (1, 1)),
    (2, (9, 8, 37), 48, (3, 3), (2, 2), (1, 1)),
    (1, (6, 6, 64), 130, (1, 1), (1, 1), (0, 0)),
    (2, (5, 5, 130), 16, (1, 1), (2, 2), (0, 0)),
    (2, (11, 9, 3), 48, (7, 7), (2, 3), (3, 3)),
    (9, (2, 2, 48), 64, (3, 3), (1, 1), (1, 1)),
    (1, (1, 1, 16), 17, (1, 1), (1, 1), (0, 0)),
    (1, (3, 3, 130), 130, (3, 3), (3, 3), (0, 0)),
    (2, (8, 16, 64), 64, (3, 3), (1, 1), (1, 1)),
    (5, (4, 4, 16), 33, (5, 2), (1, 1), (2, 0)),
    (2, (10, 10, 48), 37, (3, 3), (3, 1), (1, 1)),
];

pub fn shape(case: &Case) -> Conv2d {
    let (n, (h, w, c), k, kernel, stride, padding) = *case;
    let attr = Conv2dAttr { out_channels: k, kernel, stride, padding, bias: false };
    Conv2d::new(n, Shape::new(h, w, c), &attr).unwrap()
}

/// Calls `each([n, p, q], [n, h, w], r, s)` for every pair of pixels that meet under a tap.
fn pairs(p: &Conv2d, mut each: impl FnMut(usize, usize, usize)) {
    for n in 0..p.n as i64 {
        for (row, column) in (0..i64::from(p.p)).flat_map(|row| (0..i64::from(p.q)).map(move |column| (row, column))) {
            for (r, s) in (0..i64::from(p.r)).flat_map(|r| (0..i64::from(p.s)).map(move |s| (r, s))) {
                let h = row * i64::from(p.stride_h) + r - i64::from(p.pad_h);
                let w = column * i64::from(p.stride_w) + s - i64::from(p.pad_w);
                if (0..i64::from(p.h)).contains(&h) && (0..i64::from(p.w)).contains(&w) {
                    let output = (n * i64::from(p.p) + row) * i64::from(p.q) + column;
                    let input = (n * i64::from(p.h) + h) * i64::from(p.w) + w;
                    each(output as usize, input as usize, (r * i64::from(p.s) + s) as usize);
                }
            }
        }
    }
}

struct Data {
    p: Conv2d,
    x: Host,
    w: Host,
    transposed: Vec<i8>,
    dy: Host,
    dyw_exponents: Vec<i8>,
    before: Host,
    affine: Vec<f32>,
}

fn data(case: &Case, seed: u64, low: i32, high: i32) -> Data {
    let p = shape(case);
    let mut s = stream(seed, "conv");
    let (n, c, k, taps) = (p.n as usize, p.c as usize, p.k as usize, (p.r * p.s) as usize);
    let pixels = n * (p.h * p.w) as usize;
    let w = Host { m: mantissas(&mut s, k * taps, c), e: exponents(&mut s, k, low, high) };
    let mut transposed = vec![0i8; c * taps * pad(k)];
    for (out, tap, channel) in (0..k).flat_map(|o| (0..taps).flat_map(move |t| (0..c).map(move |c| (o, t, c)))) {
        transposed[(channel * taps + taps - 1 - tap) * pad(k) + out] = w.m[(out * taps + tap) * pad(c) + channel];
    }
    let mut affine = vec![0.0; 2 * pad(c)];
    for channel in 0..c {
        affine[channel] = (s.normal() * 0.5) as f32;
        affine[pad(c) + channel] = (s.normal() * 0.1) as f32;
    }
    Data {
        x: Host { m: mantissas(&mut s, pixels, c), e: exponents(&mut s, n, low, high) },
        w,
        transposed,
        dy: Host { m: mantissas(&mut s, p.rows(), k), e: exponents(&mut s, n, low, high) },
        dyw_exponents: exponents(&mut s, k, low, high),
        before: stored(&mut s, pixels, c, -4, 2),
        affine,
        p,
    }
}

/// The output in f32.
fn output(d: &Data) -> Vec<f32> {
    let (p, c, k) = (&d.p, d.p.c as usize, d.p.k as usize);
    let (taps, rows) = ((p.r * p.s) as usize, p.rows());
    let mut acc = vec![0i64; rows * k];
    pairs(p, |output, input, tap| {
        for out in 0..k {
            for channel in 0..c {
                acc[output * k + out] += i64::from(d.x.m[input * pad(c) + channel])
                    * i64::from(d.w.m[(out * taps + tap) * pad(c) + channel]);
            }
        }
    });
    let value = |(i, acc): (usize, &i64)| {
        let (image, out) = (i / k / (p.p * p.q) as usize, i % k);
        let scale = 2f64.powi(i32::from(d.x.e[image]) - 6 + i32::from(d.w.e[out]) - 6);
        (f64::from(*acc as f32) * scale) as f32
    };
    acc.iter().enumerate().map(value).collect()
}

fn forward(device: &Device, d: &Data, rounding: Rounding) {
    let (p, k, rows) = (&d.p, d.p.k as usize, d.p.rows());
    let want = rounding.store(&output(d), k);
    let blank = Host::blank(rows * pad(k), blocks(rows, k));
    let (x, w, y) = (d.x.put(device), d.w.put(device), blank.put(device));
    let sums = device.put(&vec![OutputSums { squares: 7, sum: 7, min: 7, max: 7 }; rows.div_ceil(64) * pad(k)]);
    let call = Conv2dI8 { conv: *p, noise: rounding.noise, wide: 0 };
    let at = step(device, &rounding);
    let int8 = device.backend.int8().unwrap();
    int8.conv2d_fwd_i8(&call, x.bfp(), w.bfp(), at.all(), y.bfp(), sums.all()).unwrap();
    let what = format!("{} forward {p:?}", device.name);
    same_host(&what, &blank.get(device, &y), &want);
    same(&format!("{what} sums"), &device.get::<OutputSums>(&sums), &output_sums(&want, k));
}

/// What is added to a stream, in its form, and whether the stream has 16 bits and is stored as well.
type Way = (Option<Form>, Form, bool);

/// Into a stream: on top of another tensor or not, in f32 or 16 bits, stored as well or not.
fn into_stream(device: &Device, d: &Data, rounding: Rounding, (below, form, store): Way) {
    let (p, k, rows) = (&d.p, d.p.k as usize, d.p.rows());
    let mut random = stream(3, "stream");
    let other: Vec<f32> = (0..rows * k).map(|_| random.normal() as f32).collect();
    let packed = Host16::store(&other, k);
    let (other, on) = match below {
        Some(Form::Bfp16) => (packed.values(k), packed.put(device)),
        _ => (other.clone(), OnDevice { m: device.put(&other), e: put(device, &[]) }),
    };
    let alone = output(d);
    let want: Vec<f32> = match below {
        Some(_) => alone.iter().zip(&other).map(|(y, other)| other + y).collect(),
        None => alone,
    };
    let (blank, stored) = (Host::blank(rows * pad(k), blocks(rows, k)), rounding.store(&want, k));
    let (x, w, q) = (d.x.put(device), d.w.put(device), blank.put(device));
    let sums = device.put(&vec![OutputSums { squares: 7, sum: 7, min: 7, max: 7 }; rows.div_ceil(64) * pad(k)]);
    let (s, blank_16) = (device.put(&vec![-1f32; rows * k]), Host16::blank(rows, k));
    let s_16 = blank_16.put(device);
    let to = if form == Form::F32 { Bfp::f32(s.all()) } else { s_16.bfp() };
    let product = Conv2dI8 { conv: *p, noise: rounding.noise, wide: 0 };
    let (add, other) = (u32::from(below.is_some()), below.unwrap_or_default() as u32);
    let call = Conv2dStreamI8 { product, add, other, form: form as u32, store: u32::from(store) };
    let at = step(device, &rounding);
    let int8 = device.backend.int8().unwrap();
    int8.conv2d_stream_i8(&call, x.bfp(), w.bfp(), at.all(), on.bfp(), to, q.bfp(), sums.all()).unwrap();
    let what = format!("{} stream {p:?} {below:?} {form:?} {store}", device.name);
    let bits = |all: Vec<f32>| all.into_iter().map(f32::to_bits).collect::<Vec<u32>>();
    match form {
        Form::F32 => same(&what, &bits(device.get::<f32>(&s)), &bits(want)),
        _ => blank_16.get(device, &s_16).is(&what, &Host16::store(&want, k)),
    }
    let untouched = vec![OutputSums { squares: 7, sum: 7, min: 7, max: 7 }; rows.div_ceil(64) * pad(k)];
    let (want, want_sums) = if store { (stored.clone(), output_sums(&stored, k)) } else { (blank.clone(), untouched) };
    same_host(&what, &blank.get(device, &q), &want);
    same(&format!("{what} sums"), &device.get::<OutputSums>(&sums), &want_sums);
}

fn data_gradient(device: &Device, d: &Data, rounding: Rounding, fused: bool) {
    let (p, c, k) = (&d.p, d.p.c as usize, d.p.k as usize);
    let (taps, rows) = ((p.r * p.s) as usize, (p.n * p.h * p.w) as usize);
    let mut acc = vec![0i64; rows * c];
    pairs(p, |output, input, tap| {
        for out in 0..k {
            for channel in 0..c {
                acc[input * c + channel] +=
                    i64::from(d.dy.m[output * pad(k) + out]) * i64::from(d.w.m[(out * taps + tap) * pad(c) + channel]);
            }
        }
    });
    let value = |(i, acc): (usize, &i64)| {
        let (row, channel) = (i / c, i % c);
        let y = stored_value(&d.before, c, row, channel) as f32;
        let z = d.affine[channel].mul_add(y, d.affine[pad(c) + channel]);
        let scale = 2f64.powi(i32::from(d.dy.e[row / (p.h * p.w) as usize]) - 12);
        if fused && z <= 0.0 { 0.0 } else { (f64::from(*acc as f32) * scale) as f32 }
    };
    let want = rounding.store(&acc.iter().enumerate().map(value).collect::<Vec<f32>>(), c);
    let blank = Host::blank(rows * pad(c), blocks(rows, c));
    let (dy, w, dx) = (d.dy.put(device), put(device, &d.transposed), blank.put(device));
    let (before, affine) = (d.before.put(device), device.put(&d.affine));
    let sums = device.put(&vec![GradientSums { products: 7, sum: 7, max: 7, zero: 7 }; rows.div_ceil(64) * pad(c)]);
    let call = Conv2dI8 { conv: *p, noise: rounding.noise, wide: 0 };
    let at = step(device, &rounding);
    let (mask, sums_out) = match fused {
        true => (Some(Normalised { y: before.bfp(), affine: affine.all() }), sums.all()),
        false => (None, none(&sums)),
    };
    let int8 = device.backend.int8().unwrap();
    int8.conv2d_dgrad_i8(&call, dy.bfp(), w.all(), at.all(), mask, dx.bfp(), sums_out).unwrap();
    let what = format!("{} data gradient {p:?} fused {fused}", device.name);
    same_host(&what, &blank.get(device, &dx), &want);
    if fused {
        same(&format!("{what} sums"), &device.get::<GradientSums>(&sums), &gradient_sums(&want, &d.before, c));
    }
}

/// The sums of a gradient's mantissas and their products with a stored tensor's.
pub fn gradient_sums(dz: &Host, y: &Host, channels: usize) -> Vec<GradientSums> {
    let stride = pad(channels);
    let strips = dz.m.chunks(64 * stride).zip(y.m.chunks(64 * stride));
    strips
        .flat_map(|(dz, y)| {
            (0..stride).map(move |c| {
                let column = || dz.iter().zip(y).skip(c).step_by(stride);
                GradientSums {
                    products: column().map(|(dz, y)| i32::from(*dz) * i32::from(*y)).sum(),
                    sum: column().map(|(dz, _)| i16::from(*dz)).sum(),
                    max: column().map(|(dz, _)| dz.unsigned_abs()).max().unwrap(),
                    zero: 0,
                }
            })
        })
        .collect()
}

fn weight_gradient(device: &Device, d: &Data, rounding: Rounding, wide: bool) {
    let (p, c, k) = (&d.p, d.p.c as usize, d.p.k as usize);
    let taps = (p.r * p.s) as usize;
    let mut acc = vec![0i64; k * taps * c];
    let low = mantissas(&mut stream(p.rows() as u64, "low bytes"), p.rows(), k);
    let dy = |i: usize| match wide {
        true => 256 * i64::from(d.dy.m[i]) + i64::from(low[i]),
        false => i64::from(d.dy.m[i]),
    };
    pairs(p, |output, input, tap| {
        for out in 0..k {
            for channel in 0..c {
                acc[(out * taps + tap) * c + channel] +=
                    dy(output * pad(k) + out) * i64::from(d.x.m[input * pad(c) + channel]);
            }
        }
    });
    let places = if wide { 20 } else { 12 };
    let value = |(i, acc): (usize, &i64)| {
        (f64::from(*acc as f32) * 2f64.powi(i32::from(d.dyw_exponents[i / (taps * c)]) - places)) as f32
    };
    let want: Vec<f32> = acc.iter().enumerate().map(value).collect();
    let mut m = d.dy.m.clone();
    if wide {
        m.extend(&low);
    }
    let dyw = Host { m, e: d.dyw_exponents.clone() }.put(device);
    let (x, dw) = (d.x.put(device), device.out(want.len()));
    let call = Conv2dI8 { conv: *p, noise: rounding.noise, wide: u32::from(wide) };
    let ws = device.workspace(&Kernel::Conv2dWgradI8(call));
    let int8 = device.backend.int8().unwrap();
    int8.conv2d_wgrad_i8(&call, x.bfp(), dyw.bfp(), dw.all(), ws.all()).unwrap();
    same(&format!("{} weight gradient {call:?}", device.name), &device.get::<f32>(&dw), &want);
}

#[test]
fn every_case_agrees_with_the_definition() {
    for (number, case) in CASES.iter().enumerate() {
        let d = data(case, number as u64, -20, 4);
        let rounding = Rounding::new(0x0123_4567_89ab_cdef ^ number as u64, 18, number % 3 != 1);
        everywhere(|device| {
            forward(device, &d, rounding);
            let (f32, bfp16) = (Form::F32, Form::Bfp16);
            let ways: [Way; 7] = [
                (Some(bfp16), bfp16, true),
                (None, bfp16, true),
                (Some(bfp16), bfp16, false),
                (Some(f32), bfp16, number % 2 == 0),
                (Some(bfp16), f32, number % 2 == 0),
                (Some(f32), f32, true),
                (None, f32, false),
            ];
            ways.into_iter().for_each(|way| into_stream(device, &d, rounding, way));
            data_gradient(device, &d, rounding, false);
            data_gradient(device, &d, rounding, true);
            weight_gradient(device, &d, rounding, false);
            weight_gradient(device, &d, rounding, true);
        });
    }
}

#[test]
fn the_ends_of_the_exponents() {
    for (low, high) in [(-48, -46), (10, 20), (-48, 20)] {
        let d = data(&CASES[1], 5, low, high);
        everywhere(|device| {
            forward(device, &d, Rounding::new(3, 18, true));
            into_stream(device, &d, Rounding::new(3, 18, true), (None, Form::F32, true));
            into_stream(device, &d, Rounding::new(3, 18, true), (None, Form::Bfp16, true));
            data_gradient(device, &d, Rounding::new(4, 18, true), true);
            weight_gradient(device, &d, Rounding::new(4, 18, true), low < 0);
        });
    }
}

/// Everything the three passes write, as bytes.
fn passes(device: &Device, d: &Data, rounding: Rounding) -> Vec<Vec<u8>> {
    let p = &d.p;
    let (c, k, rows, pixels) = (p.c as usize, p.k as usize, p.rows(), (p.n * p.h * p.w) as usize);
    let int8 = device.backend.int8().unwrap();
    let call = Conv2dI8 { conv: *p, noise: rounding.noise, wide: 0 };
    let (x, w, dy) = (d.x.put(device), d.w.put(device), d.dy.put(device));
    let (transposed, before, affine) = (put(device, &d.transposed), d.before.put(device), device.put(&d.affine));
    let dyw = Host { m: d.dy.m.clone(), e: d.dyw_exponents.clone() }.put(device);
    let at = step(device, &rounding);
    let y = Host::blank(rows * pad(k), blocks(rows, k)).put(device);
    let dx = Host::blank(pixels * pad(c), blocks(pixels, c)).put(device);
    let sums = device.put(&vec![OutputSums { squares: 7, sum: 7, min: 7, max: 7 }; rows.div_ceil(64) * pad(k)]);
    let gradients =
        device.put(&vec![GradientSums { products: 7, sum: 7, max: 7, zero: 7 }; pixels.div_ceil(64) * pad(c)]);
    let (dw, ws) = (device.out(p.w_len()), device.workspace(&Kernel::Conv2dWgradI8(call)));
    int8.conv2d_fwd_i8(&call, x.bfp(), w.bfp(), at.all(), y.bfp(), sums.all()).unwrap();
    let mask = Some(Normalised { y: before.bfp(), affine: affine.all() });
    int8.conv2d_dgrad_i8(&call, dy.bfp(), transposed.all(), at.all(), mask, dx.bfp(), gradients.all()).unwrap();
    int8.conv2d_wgrad_i8(&call, x.bfp(), dyw.bfp(), dw.all(), ws.all()).unwrap();
    [&y.m, &y.e, &sums, &dx.m, &dx.e, &gradients, &dw].map(|memory| device.get::<u8>(memory)).into()
}

/// The same, for every instruction set, on shapes that nobody chose.
#[test]
fn random_shapes_give_the_same_bytes_on_every_instruction_set() {
    let channels = || prop_oneof![Just(3usize), Just(16), Just(37), Just(48), Just(64), Just(130), 1usize..300];
    let kernels = prop_oneof![3 => Just((3usize, 1usize)), 1 => Just((1, 0)), 1 => Just((5, 2)), 1 => Just((7, 3)), 1 => Just((3, 0))];
    let strategy = (1usize..6, 1usize..18, 1usize..18, channels(), channels(), kernels, 1usize..4, any::<u64>());
    let devices = crate::device::integers();
    devices[0].check(strategy, |(n, h, w, c, k, (kernel, padding), stride, seed)| {
        let kernel = kernel.min(h + 2 * padding).min(w + 2 * padding);
        // Mostly stride 1, as networks have it.
        let stride = if seed % 3 == 0 { stride } else { 1 };
        let mut n = n;
        while n > 1 && n * h * w * c * k * kernel * kernel > 20_000_000 {
            n -= 1;
        }
        let d = data(&(n, (h, w, c), k, (kernel, kernel), (stride, stride), (padding, padding)), seed, -20, 4);
        let rounding = Rounding::new(seed, 18, seed % 2 == 0);
        let want = passes(&devices[0], &d, rounding);
        for device in &devices[1..] {
            for threads in [1, 2] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let got = pool.install(|| passes(device, &d, rounding));
                for (what, (got, want)) in
                    ["y", "y e", "sums", "dx", "dx e", "dx sums", "dw"].iter().zip(got.iter().zip(&want))
                {
                    same(&format!("{} {what} {:?}", device.name, d.p), got, want);
                }
            }
        }
    });
}

/// Whole blocks, several stretches of pixels and of taps, more than one block of outputs and channels.
#[test]
fn larger_shapes_give_the_same_bytes_on_every_instruction_set() {
    let cases: [Case; 5] = [
        (2, (32, 32, 64), 64, (3, 3), (1, 1), (1, 1)),
        (5, (16, 16, 16), 48, (3, 3), (1, 1), (1, 1)),
        (9, (4, 4, 160), 272, (3, 3), (1, 1), (1, 1)),
        (33, (2, 2, 144), 80, (3, 3), (1, 1), (1, 1)),
        (3, (8, 8, 700), 40, (1, 1), (1, 1), (0, 0)),
    ];
    let devices = crate::device::integers();
    for (number, case) in cases.iter().enumerate() {
        let d = data(case, number as u64, -20, 4);
        let rounding = Rounding::new(number as u64, 18, true);
        let want = passes(&devices[0], &d, rounding);
        for device in &devices[1..] {
            for (what, (got, want)) in ["y", "y e", "sums", "dx", "dx e", "dx sums", "dw"]
                .iter()
                .zip(passes(device, &d, rounding).iter().zip(&want))
            {
                same(&format!("{} {what} {:?}", device.name, d.p), got, want);
            }
        }
    }
}
