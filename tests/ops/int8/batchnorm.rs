//! The 8-bit batchnorm: forward with its pool, the gradient behind it, and both quantised output gradients.

use earlybird::backend::{BatchNormGradients, BatchNormState, Bfp, Normalised};
use earlybird::ops::Kernel;
use earlybird::ops::batchnorm::{BatchNormBwdStreamI8, BatchNormI8, GradientSums, OutputSums};
use earlybird::ops::pool::Pool;
use earlybird::quant::layout::{blocks_across, pad};

use super::conv2d::gradient_sums;
use super::*;
use crate::oracle::normal;

/// Images, (h, w, c), window (kernel, stride, padding; kernel 0: none), ReLU.
pub type Case = (usize, (u32, u32, usize), (u32, u32, u32), bool);

const CASES: [Case; 11] = [
    (2, (8, 8, 64), (0, 1, 0), true),
    (2, (8, 16, 37), (2, 2, 0), true),
    (3, (7, 5, 16), (3, 2, 1), true),
    (1, (9, 9, 48), (3, 1, 1), false),
    (5, (2, 2, 130), (2, 2, 0), true),
    (70, (1, 1, 3), (0, 1, 0), false),
    (1, (1, 1, 17), (0, 1, 0), true),
    (2, (5, 6, 33), (2, 2, 0), true),
    (3, (4, 4, 64), (0, 1, 0), true),
    (2, (16, 8, 16), (3, 2, 0), false),
    (1, (3, 3, 2064), (2, 1, 0), true),
];

pub fn parameters(case: &Case, rounding: Rounding, (gradient, more): (Form, Option<Form>), dgrad: bool) -> BatchNormI8 {
    let (n, (h, w, c), (kernel, stride, padding), relu) = *case;
    let extent = |size: u32| if kernel == 0 { size } else { (size + 2 * padding - kernel) / stride + 1 };
    let pool = Pool {
        n: n as u32,
        h,
        w,
        c: c as u32,
        p: extent(h),
        q: extent(w),
        kernel_h: kernel,
        kernel_w: kernel,
        stride,
        padding,
    };
    BatchNormI8 {
        pool,
        eps: 1e-5,
        momentum: 0.1,
        relu: u32::from(relu),
        gradient: gradient as u32,
        add: u32::from(more.is_some()),
        more: more.unwrap_or_default() as u32,
        dgrad: u32::from(dgrad),
        noise: rounding.noise,
        dyd_tensor: 4711,
        wide: 0,
    }
}

/// Sum over the tiles in the specified order.
fn in_lanes(terms: &[f64]) -> f64 {
    let mut lanes: Vec<f64> = (0..32).map(|l| terms.iter().skip(l).step_by(32).fold(0.0, |a, b| a + b)).collect();
    for distance in [16, 8, 4, 2, 1] {
        lanes = (0..32).map(|l| lanes[l] + lanes[l ^ distance]).collect();
    }
    lanes[0]
}

/// The exponent of the block of tile `tile`, channel `c`, as a power of two.
fn scale(t: &Host, channels: usize, tile: usize, c: usize) -> f64 {
    2f64.powi(i32::from(t.e[tile * blocks_across(channels) + c / 32]) - 6)
}

pub struct Forward {
    pub mean: Vec<f32>,
    pub invstd: Vec<f32>,
    pub affine: Vec<f32>,
    pub running_mean: Vec<f32>,
    pub running_var: Vec<f32>,
    out: Host,
    index: Vec<u8>,
}

pub struct Data {
    case: Case,
    pub y: Host,
    pub gamma: Vec<f32>,
    pub beta: Vec<f32>,
    pub running_mean: Vec<f32>,
    pub running_var: Vec<f32>,
}

pub fn data(case: &Case, seed: u64) -> Data {
    let (n, (h, w, c), _, _) = *case;
    let mut s = stream(seed, "batchnorm");
    let mut y = stored(&mut s, n * (h * w) as usize, c, -3, 1);
    if seed % 2 == 1 {
        // Few different values: ties in windows.
        y.e.fill(0);
        y.m.iter_mut().for_each(|m| *m = *m / 40 * 40);
    }
    Data {
        case: *case,
        y,
        gamma: normal(seed, "gamma", c, 1.0),
        beta: normal(seed, "beta", c, 0.5),
        running_mean: normal(seed, "mean", c, 1.0),
        running_var: normal(seed, "var", c, 1.0).iter().map(|v| v.abs()).collect(),
    }
}

impl Data {
    fn c(&self) -> usize {
        self.case.1.2
    }

    pub fn rows(&self) -> usize {
        self.y.m.len() / pad(self.c())
    }

    pub fn z(&self, affine: &[f32], row: usize, c: usize) -> f32 {
        affine[c].mul_add(stored_value(&self.y, self.c(), row, c) as f32, affine[pad(self.c()) + c])
    }

    pub fn forward(&self, p: &BatchNormI8, rounding: Rounding) -> Forward {
        let (c, rows, stride) = (self.c(), self.rows(), pad(self.c()));
        let sums = output_sums(&self.y, c);
        let tiles = rows.div_ceil(64);
        let mut f = Forward {
            mean: vec![0.0; c],
            invstd: vec![0.0; c],
            affine: vec![0.0; 2 * stride],
            running_mean: self.running_mean.clone(),
            running_var: self.running_var.clone(),
            out: Host::blank(0, 0),
            index: Vec::new(),
        };
        for channel in 0..c {
            let term = |pick: &dyn Fn(&OutputSums) -> f64, squared: bool| -> Vec<f64> {
                (0..tiles)
                    .map(|tile| {
                        let s = scale(&self.y, c, tile, channel);
                        pick(&sums[tile * stride + channel]) * if squared { s * s } else { s }
                    })
                    .collect()
            };
            let m = rows as f64;
            let mean = in_lanes(&term(&|s| f64::from(s.sum), false)) / m;
            let var = (in_lanes(&term(&|s| f64::from(s.squares), true)) / m - mean * mean).max(0.0);
            let invstd = 1.0 / (var + f64::from(p.eps)).sqrt();
            let a = f64::from(self.gamma[channel]) * invstd;
            (f.mean[channel], f.invstd[channel]) = (mean as f32, invstd as f32);
            f.affine[channel] = a as f32;
            f.affine[stride + channel] = (f64::from(self.beta[channel]) - mean * a) as f32;
            let unbiased = if rows > 1 { var * m / (m - 1.0) } else { var };
            let momentum = f64::from(p.momentum);
            let moved = |old: f32, new: f64| ((1.0 - momentum) * f64::from(old) + momentum * new) as f32;
            f.running_mean[channel] = moved(self.running_mean[channel], mean);
            f.running_var[channel] = moved(self.running_var[channel], unbiased);
        }
        let pool = &p.pool;
        let (pixels, pooled) = ((pool.h * pool.w) as usize, (pool.p * pool.q) as usize);
        let n = pool.n as usize;
        f.out = Host { m: vec![0; n * pooled * stride], e: vec![0; n] };
        f.index = vec![0; if pool.kernel_h == 0 { 0 } else { n * pooled * stride }];
        let rectified = |row: usize, channel: usize| {
            let z = self.z(&f.affine, row, channel);
            if p.relu != 0 && z < 0.0 { 0.0 } else { z }
        };
        for image in 0..n {
            let all = (0..pixels).flat_map(|pixel| (0..c).map(move |c| (pixel, c)));
            let max = all.map(|(pixel, c)| f64::from(rectified(image * pixels + pixel, c).abs())).fold(0.0, f64::max);
            let e = exponent(max);
            f.out.e[image] = e as i8;
            for (pixel, channel) in (0..pooled).flat_map(|pixel| (0..c).map(move |c| (pixel, c))) {
                let index = (image * pooled + pixel) * stride + channel;
                let z = if pool.kernel_h == 0 {
                    rectified(image * pixels + pixel, channel)
                } else {
                    let window = window(pool, pixel);
                    let mut best: Option<(u8, f32)> = None;
                    for (tap, input) in window {
                        let z = rectified(image * pixels + input, channel);
                        if best.is_none_or(|(_, so_far)| z > so_far) {
                            best = Some((tap, z));
                        }
                    }
                    f.index[index] = best.unwrap().0;
                    best.unwrap().1
                };
                f.out.m[index] = rounding.element(z, e, index);
            }
        }
        f
    }
}

/// Taps of a window and the input pixels under them.
fn window(p: &Pool, output: usize) -> Vec<(u8, usize)> {
    let (row, column) = (output as i64 / i64::from(p.q), output as i64 % i64::from(p.q));
    let taps = (0..i64::from(p.kernel_h)).flat_map(|r| (0..i64::from(p.kernel_w)).map(move |s| (r, s)));
    taps.filter_map(|(r, s)| {
        let h = row * i64::from(p.stride) + r - i64::from(p.padding);
        let w = column * i64::from(p.stride) + s - i64::from(p.padding);
        let inside = (0..i64::from(p.h)).contains(&h) && (0..i64::from(p.w)).contains(&w);
        inside.then(|| ((r * i64::from(p.kernel_w) + s) as u8, (h * i64::from(p.w) + w) as usize))
    })
    .collect()
}

#[test]
fn forward_with_statistics_pool_and_rounding() {
    for (number, case) in CASES.iter().enumerate() {
        let (d, rounding) = (data(case, number as u64), Rounding::new(0x0900_0000_0000_0001, 16, number % 4 != 2));
        let p = parameters(case, rounding, (Form::F32, None), true);
        let want = d.forward(&p, rounding);
        let c = d.c();
        everywhere(|device| {
            let (y, sums) = (d.y.put(device), device.put(&output_sums(&d.y, c)));
            let [gamma, beta, running_mean, running_var] =
                [&d.gamma, &d.beta, &d.running_mean, &d.running_var].map(|v| device.put(v));
            let (mean, invstd, affine) = (device.out(c), device.out(c), device.out(2 * pad(c)));
            let blank = Host::blank(want.out.m.len(), want.out.e.len());
            let (out, index) = (blank.put(device), put(device, &vec![9; want.index.len()]));
            let state = BatchNormState {
                gamma: gamma.all(),
                beta: beta.all(),
                running_mean: running_mean.all(),
                running_var: running_var.all(),
                mean: mean.all(),
                invstd: invstd.all(),
                affine: affine.all(),
            };
            let (ws, at) = (device.workspace(&Kernel::BatchNormFwdI8(p)), step(device, &rounding));
            let int8 = device.backend.int8().unwrap();
            int8.batchnorm_fwd_i8(&p, y.bfp(), sums.all(), state, at.all(), out.bfp(), index.all(), ws.all()).unwrap();
            let what = |tensor: &str| format!("{} {tensor} of {p:?}", device.name);
            same(&what("mean"), &device.get::<f32>(&mean), &want.mean);
            same(&what("invstd"), &device.get::<f32>(&invstd), &want.invstd);
            same(&what("affine"), &device.get::<f32>(&affine), &want.affine);
            same(&what("running mean"), &device.get::<f32>(&running_mean), &want.running_mean);
            same(&what("running var"), &device.get::<f32>(&running_var), &want.running_var);
            same(&what("index"), &device.get::<u8>(&index)[..want.index.len()], &want.index);
            same_host(&what("out"), &blank.get(device, &out), &want.out);
        });
    }
}

#[test]
fn the_gradient_behind_it() {
    for (number, case) in CASES.iter().enumerate() {
        let (d, rounding) = (data(case, number as u64), Rounding::new(0x0900_0000_0000_0002, 18, true));
        let c = d.c();
        for (form, more) in [
            (Form::F32, None),
            (Form::Stored, None),
            (Form::Bfp16, None),
            (Form::Bfp16, Some(Form::Stored)),
            (Form::Stored, Some(Form::Stored)),
            (Form::Stored, Some(Form::F32)),
        ] {
            let p = parameters(case, rounding, (form, more), true);
            let f = d.forward(&p, rounding);
            let pool = &p.pool;
            let (pixels, pooled, n) = ((pool.h * pool.w) as usize, (pool.p * pool.q) as usize, pool.n as usize);
            let up = Tensor::new(form, number as u64, n * pooled, c);
            let other = more.map(|form| Tensor::new(form, number as u64 + 100, n * pooled, c));
            let value = |row: usize, channel: usize| {
                let at = row * c + channel;
                other.as_ref().map_or(up.values[at], |other| up.values[at] + other.values[at])
            };
            let mut dz = vec![0.0f32; n * pixels * c];
            for (output, channel) in (0..n * pooled).flat_map(|row| (0..c).map(move |c| (row, c))) {
                let row = match pool.kernel_h {
                    0 => output,
                    _ => {
                        let tap = f.index[output * pad(c) + channel];
                        let under = window(pool, output % pooled);
                        output / pooled * pixels + under.iter().find(|(t, _)| *t == tap).unwrap().1
                    }
                };
                dz[row * c + channel] += value(output, channel);
            }
            if p.relu != 0 {
                for (i, dz) in dz.iter_mut().enumerate() {
                    *dz = if d.z(&f.affine, i / c, i % c) > 0.0 { *dz } else { 0.0 };
                }
            }
            let want = rounding.store(&dz, c);
            everywhere(|device| {
                let blank = Host::blank(d.y.m.len(), d.y.e.len());
                let (y, affine, out) = (d.y.put(device), device.put(&f.affine), blank.put(device));
                let behind = [Some(&up), other.as_ref()].map(|tensor| tensor.map(|tensor| tensor.put(device)));
                let index = put(device, bytemuck::cast_slice(&f.index));
                let sums = device.put(&vec![GradientSums::default(); d.rows().div_ceil(64) * pad(c)]);
                let nothing = Bfp::f32(none(&sums));
                let [up, more] = behind.each_ref().map(|tensor| tensor.as_ref().map_or(nothing, OnDevice::bfp));
                let forward = Normalised { y: y.bfp(), affine: affine.all() };
                let (at, places) =
                    (step(device, &rounding), if f.index.is_empty() { none(&sums) } else { index.all() });
                let int8 = device.backend.int8().unwrap();
                int8.batchnorm_grad_i8(&p, up, more, places, forward, at.all(), out.bfp(), sums.all()).unwrap();
                let what = format!("{} dz of {p:?}", device.name);
                same_host(&what, &blank.get(device, &out), &want);
                same(&what, &device.get::<GradientSums>(&sums), &gradient_sums(&want, &d.y, c));
            });
        }
    }
}

/// `floor(log2)` of a f64 bound that is rounded to f32 first.
fn bound_exponent(bound: f64) -> i32 {
    exponent(f64::from(bound as f32))
}

#[test]
fn both_quantised_output_gradients() {
    for (number, case) in CASES.iter().enumerate() {
        let (d, rounding) = (data(case, number as u64), Rounding::new(0x0900_0000_0000_0003, 20, number != 4));
        let (c, rows, stride) = (d.c(), d.rows(), pad(d.c()));
        let p = parameters(case, rounding, (Form::F32, None), true);
        let f = d.forward(&p, rounding);
        let mut s = stream(number as u64, "bwd");
        let dz = stored(&mut s, rows, c, -14, -9);
        let n = p.pool.n as usize;
        let (we, xe) = (exponents(&mut s, c, -9, 1), exponents(&mut s, n, -3, 4));
        let (sums, y_sums) = (gradient_sums(&dz, &d.y, c), output_sums(&d.y, c));
        let pixels = rows / n;
        let (mut dgamma, mut dbeta) = (vec![0.0f32; c], vec![0.0f32; c]);
        let mut want_w = Host { m: vec![0; rows * stride], e: vec![0; c] };
        let mut want_wide = vec![0; 2 * rows * stride];
        let mut want_d = Host { m: vec![0; rows * stride], e: vec![0; n] };
        let mut d_bounds = vec![0.0f64; n];
        let mut dy = vec![0.0f32; rows * c];
        for channel in 0..c {
            let tiles = 0..rows.div_ceil(64);
            let scales = |tile: usize| (scale(&dz, c, tile, channel), scale(&d.y, c, tile, channel));
            let at = |tile: usize| &sums[tile * stride + channel];
            let sum: Vec<f64> = tiles.clone().map(|t| f64::from(at(t).sum) * scales(t).0).collect();
            let dot: Vec<f64> = tiles.map(|t| f64::from(at(t).products) * (scales(t).0 * scales(t).1)).collect();
            let (sum, dot) = (in_lanes(&sum), in_lanes(&dot));
            let (m, mean, invstd) = (rows as f64, f64::from(f.mean[channel]), f64::from(f.invstd[channel]));
            let u = (dot - mean * sum) * invstd;
            (dbeta[channel], dgamma[channel]) = (sum as f32, u as f32);
            let (m1, m2) = (sum / m, u / m);
            let a = f64::from(d.gamma[channel]) * invstd;
            let b = -(a * m2 * invstd);
            let shift = -(a * m1) - b * mean;
            let (a, b, shift) = (a as f32, b as f32, shift as f32);
            let (wide_a, wide_b, am1) = (f64::from(a).abs(), f64::from(b).abs(), (f64::from(a) * m1).abs());
            let (mut largest_y, mut r) = (0.0f64, 0.0f64);
            for image in 0..n {
                let of = |t: &Host| -> Vec<f64> {
                    (image * pixels..(image + 1) * pixels).map(|row| stored_value(t, c, row, channel)).collect()
                };
                let y = of(&d.y).iter().map(|y| (y - mean).abs()).fold(0.0, f64::max);
                let g = of(&dz).iter().map(|dz| dz.abs()).fold(0.0, f64::max);
                let bound = (wide_a * g + (wide_b * y + am1)) * (1.0 + 2f64.powi(-10));
                d_bounds[image] = d_bounds[image].max(2f64.powi(i32::from(we[channel])) * bound);
                largest_y = largest_y.max(y);
                r = r.max(g * 2f64.powi(i32::from(xe[image])));
            }
            let input = 2f64.powi(i32::from(*xe.iter().max().unwrap()));
            let bound = (wide_a * r + (wide_b * largest_y + am1) * input) * (1.0 + 2f64.powi(-10));
            want_w.e[channel] = bound_exponent(bound) as i8;
            for row in 0..rows {
                let inner = b.mul_add(stored_value(&d.y, c, row, channel) as f32, shift);
                dy[row * c + channel] = a.mul_add(stored_value(&dz, c, row, channel) as f32, inner);
            }
        }
        for (e, bound) in want_d.e.iter_mut().zip(&d_bounds) {
            *e = bound_exponent(*bound) as i8;
        }
        for (row, channel) in (0..rows).flat_map(|row| (0..c).map(move |c| (row, c))) {
            let (index, dy, image) = (row * stride + channel, dy[row * c + channel], row / pixels);
            let (folded, ed) = (dy * 2f32.powi(i32::from(we[channel])), i32::from(want_d.e[image]));
            want_d.m[index] = rounding.of_tensor(4711).element(folded, ed, index);
            let folded = dy * 2f32.powi(i32::from(xe[image]));
            let ew = i32::from(want_w.e[channel]);
            want_w.m[index] = rounding.element(folded, ew, index);
            (want_wide[index], want_wide[rows * stride + index]) = rounding.wide(folded, ew, index);
        }
        let want_wide = Host { m: want_wide, e: want_w.e.clone() };
        for (dgrad, wide) in [(true, false), (false, false), (true, true)] {
            let p = BatchNormI8 { wide: u32::from(wide), ..parameters(case, rounding, (Form::F32, None), dgrad) };
            let want_w = if wide { &want_wide } else { &want_w };
            everywhere(|device| {
                let (blank_d, blank_w) = (Host::blank(rows * stride, n), Host::blank(want_w.m.len(), c));
                let (dyd, dyw) = (blank_d.put(device), blank_w.put(device));
                let (dz, y) = (dz.put(device), d.y.put(device));
                let (sums, y_sums) = (device.put(&sums), device.put(&y_sums));
                let [gamma, mean, invstd] = [&d.gamma, &f.mean, &f.invstd].map(|v| device.put(v));
                let (we, xe) = (put(device, &we), put(device, &xe));
                let (out_gamma, out_beta) = (device.out(c), device.out(c));
                let gradients = BatchNormGradients {
                    gamma: gamma.all(),
                    mean: mean.all(),
                    invstd: invstd.all(),
                    weight_exponents: we.all(),
                    input_exponents: xe.all(),
                    dgamma: out_gamma.all(),
                    dbeta: out_beta.all(),
                };
                let (ws, at) = (device.workspace(&Kernel::BatchNormBwdI8(p)), step(device, &rounding));
                let (sums, y_sums, at) = (sums.all(), y_sums.all(), at.all());
                let (d, w) = (dyd.bfp(), dyw.bfp());
                let int8 = device.backend.int8().unwrap();
                int8.batchnorm_bwd_i8(&p, dz.bfp(), sums, y.bfp(), y_sums, gradients, at, d, w, ws.all()).unwrap();
                let what = |tensor: &str| format!("{} {tensor} of {p:?}", device.name);
                same(&what("dgamma"), &device.get::<f32>(&out_gamma), &dgamma);
                same(&what("dbeta"), &device.get::<f32>(&out_beta), &dbeta);
                same_host(&what("dyw"), &blank_w.get(device, &dyw), want_w);
                same_host(&what("dyd"), &blank_d.get(device, &dyd), if dgrad { &want_d } else { &blank_d });
            });
        }
        let made = Made { d: &d, f: &f, dz: &dz, sums: &sums, dy: &dy, dgamma: &dgamma, dbeta: &dbeta };
        let all = ((0..c as u32).collect(), c);
        for (way, (index, wide)) in [all].into_iter().chain(gathers(c)).enumerate() {
            gradient_of_a_stream(&made, &index, wide, way);
        }
    }
}

/// A batchnorm's backward pass as it should be.
struct Made<'a> {
    d: &'a Data,
    f: &'a Forward,
    dz: &'a Host,
    sums: &'a [GradientSums],
    dy: &'a [f32],
    dgamma: &'a [f32],
    dbeta: &'a [f32],
}

/// What a stream of `wide` channels gets: dY itself in the channels of `index` (way 0: that is no operand, they are all), on top of another tensor in each form or alone, in f32 or 16 bits.
fn gradient_of_a_stream(made: &Made, index: &[u32], wide: usize, way: usize) {
    let Made { d, f, .. } = *made;
    let (c, rows, mut s) = (d.c(), d.rows(), stream(way as u64, "stream"));
    let mut dy = vec![0.0f32; rows * wide];
    for (i, v) in made.dy.iter().enumerate() {
        dy[i / c * wide + index[i % c] as usize] = *v;
    }
    let plain: Vec<f32> = (0..rows * wide).map(|_| s.normal() as f32).collect();
    let (packed_16, packed) = (Host16::store(&plain, wide), stored(&mut s, rows, wide, -4, 2));
    let ways = [
        (Some(Form::F32), Form::F32),
        (None, Form::F32),
        (Some(Form::Bfp16), Form::Bfp16),
        (Some(Form::Stored), Form::Bfp16),
        (Some(Form::F32), Form::Bfp16),
        (Some(Form::Bfp16), Form::F32),
        (None, Form::Bfp16),
    ];
    for (number, (below, form)) in ways.into_iter().enumerate() {
        // Of each gather three of them, the next one others.
        if way > 0 && (number + 2 * way) % 7 > 2 {
            continue;
        }
        let other: Vec<f32> = match below {
            Some(Form::F32) => plain.clone(),
            Some(Form::Bfp16) => packed_16.values(wide),
            Some(Form::Stored) => {
                (0..rows * wide).map(|i| stored_value(&packed, wide, i / wide, i % wide) as f32).collect()
            }
            None => Vec::new(),
        };
        let want: Vec<f32> = match below {
            Some(_) => dy.iter().zip(&other).map(|(dy, other)| other + dy).collect(),
            None => dy.clone(),
        };
        let (select, add, other_form) = (u32::from(way > 0), u32::from(below.is_some()), below.unwrap_or_default());
        let [rows_, c_, wide_, other_form, form_] =
            [rows, c, wide, other_form as usize, form as usize].map(|v| v as u32);
        let p = BatchNormBwdStreamI8 { rows: rows_, c: c_, add, other: other_form, form: form_, select, wide: wide_ };
        everywhere(|device| {
            let (dz, y, sums) = (made.dz.put(device), d.y.put(device), device.put(made.sums));
            let on = match below {
                Some(Form::Bfp16) => packed_16.put(device),
                Some(Form::Stored) => packed.put(device),
                _ => OnDevice { m: device.put(&other), e: put(device, &[]) },
            };
            let [gamma, mean, invstd] = [&d.gamma, &f.mean, &f.invstd].map(|v| device.put(v));
            let [out_gamma, out_beta, dx] = [c, c, rows * wide].map(|n| device.out(n));
            let (blank, channels) = (Host16::blank(rows, wide), device.put(index));
            let dx_16 = blank.put(device);
            let out = if form == Form::F32 { Bfp::f32(dx.all()) } else { dx_16.bfp() };
            let ws = device.workspace(&Kernel::BatchNormBwdStreamI8(p));
            let [gamma, mean, invstd] = [&gamma, &mean, &invstd].map(Memory::all);
            let (g, b, int8) = (out_gamma.all(), out_beta.all(), device.backend.int8().unwrap());
            let (dz, y, sums, on, ws) = (dz.bfp(), y.bfp(), sums.all(), on.bfp(), ws.all());
            let named = if way > 0 { channels.all() } else { none(&channels) };
            int8.batchnorm_bwd_stream_i8(&p, dz, sums, y, gamma, mean, invstd, named, on, g, b, out, ws).unwrap();
            let what = |tensor: &str| format!("{} {tensor} of {p:?} {index:?}", device.name);
            same(&what("dgamma"), &device.get::<f32>(&out_gamma), made.dgamma);
            same(&what("dbeta"), &device.get::<f32>(&out_beta), made.dbeta);
            let bits = |all: &[f32]| all.iter().map(|v| v.to_bits()).collect::<Vec<u32>>();
            match form {
                Form::F32 => same(&what("dx"), &bits(&device.get::<f32>(&dx)), &bits(&want)),
                _ => blank.get(device, &dx_16).is(&what("dx"), &Host16::store(&want, wide)),
            }
        });
    }
}
