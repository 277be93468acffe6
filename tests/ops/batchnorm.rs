//! batchnorm: training forward with running statistics, inference, and gradients; with and without the ReLU behind it.
//!
//! Bounds follow the roundings through the formula: of the mean (a sum of `rows` terms), of the variance around it, of `1/sqrt`, and of what is built on
//! them. They hold for a variance taken around the mean; one taken as `E[x^2] - E[x]^2` in f32 fails the case with the large offset.

use earlybird::ops::Kernel;
use earlybird::ops::batchnorm::BatchNorm;
use ndarray::{Array1, Array2, ArrayView1, Axis};
use proptest::prelude::*;

use crate::device::Device;
use crate::oracle::{CHANNELS, U, array, close, coarse, exact, gamma, normal};

for_each_device!(
    training_forward_and_running_statistics,
    a_large_offset_costs_no_precision,
    one_row_gives_the_shift,
    inference,
    gradients,
    no_gradient_passes_where_the_relu_is_zero
);

const EPS: f32 = 1e-5;

/// A channel's statistics with the errors that f32 may make (absolute for mean and variance, relative for `invstd`).
struct Statistics {
    mean: f64,
    mean_error: f64,
    var: f64,
    var_error: f64,
    invstd: f64,
    invstd_error: f64,
}

fn statistics(x: ArrayView1<f64>) -> Statistics {
    let (rows, sum) = (x.len() as f64, gamma(x.len() + 1));
    let mean = x.sum() / rows;
    let mean_error = sum * x.mapv(f64::abs).sum() / rows;
    let var = x.mapv(|v| (v - mean).powi(2)).sum() / rows;
    let widest = x.iter().map(|v| (v - mean).abs()).fold(0.0, f64::max);
    // Around a mean that is off by e, the variance is off by e^2; each difference is rounded, and squared.
    let var_error = mean_error.powi(2) + (sum + 4.0 * U) * var + 2.0 * U * widest * mean_error;
    let inside = var + f64::from(EPS);
    Statistics {
        mean,
        mean_error,
        var,
        var_error,
        invstd: inside.sqrt().recip(),
        invstd_error: 0.5 * var_error / inside + 4.0 * U,
    }
}

struct Data {
    p: BatchNorm,
    x: Vec<f32>,
    gamma: Vec<f32>,
    beta: Vec<f32>,
    running_mean: Vec<f32>,
    running_var: Vec<f32>,
}

fn data(rows: usize, c: usize, relu: bool, offset: f64, seed: u64) -> Data {
    let positive = |what: &str| -> Vec<f32> { normal(seed, what, c, 1.0).iter().map(|v| v.abs() + 0.1).collect() };
    Data {
        p: BatchNorm { rows: rows as u32, c: c as u32, eps: EPS, momentum: 0.1, relu: u32::from(relu) },
        x: normal(seed, "x", rows * c, 1.0).iter().map(|v| v + offset as f32).collect(),
        gamma: normal(seed, "gamma", c, 1.0),
        beta: normal(seed, "beta", c, 1.0),
        running_mean: normal(seed, "running mean", c, 1.0),
        running_var: positive("running var"),
    }
}

fn rectify(relu: bool, y: f64) -> f64 {
    if relu { y.max(0.0) } else { y }
}

fn forward(device: &Device, d: &Data) {
    let (p, rows, c) = (d.p, d.p.rows as usize, d.p.c as usize);
    let x = array((rows, c), &d.x);
    let channels: Vec<Statistics> = x.axis_iter(Axis(1)).map(statistics).collect();
    let per_channel = |f: &dyn Fn(usize, &Statistics) -> f64| Array1::from_shape_fn(c, |j| f(j, &channels[j]));
    let (mut want, mut bound) = (Array2::<f64>::zeros((rows, c)), Array2::<f64>::zeros((rows, c)));
    for ((i, j), x) in x.indexed_iter() {
        let (s, gamma, beta) = (&channels[j], f64::from(d.gamma[j]), f64::from(d.beta[j]));
        let xhat = (x - s.mean) * s.invstd;
        // The ReLU moves no two numbers apart: the bound holds behind it as well.
        want[(i, j)] = rectify(p.relu != 0, gamma * xhat + beta);
        // As (x - mean)*invstd*gamma + beta, or folded into x*scale + shift, which rounds at the size of both terms.
        let xhat_error = s.invstd * s.mean_error + xhat.abs() * (s.invstd_error + 3.0 * U);
        let folded = 3.0 * U * gamma.abs() * s.invstd * (x.abs() + s.mean.abs());
        bound[(i, j)] = gamma.abs() * xhat_error + folded + 4.0 * U * (gamma.abs() * xhat.abs() + beta.abs());
    }
    let (dev_x, dev_gamma, dev_beta) = (device.put(&d.x), device.put(&d.gamma), device.put(&d.beta));
    let (running_mean, running_var) = (device.put(&d.running_mean), device.put(&d.running_var));
    let (y, mean, invstd) = (device.out(rows * c), device.out(c), device.out(c));
    let ws = device.workspace(&Kernel::BatchNormFwd(p));
    let (rm, rv) = (running_mean.all(), running_var.all());
    device
        .backend
        .batchnorm_fwd_f32(
            &p,
            dev_x.all(),
            dev_gamma.all(),
            dev_beta.all(),
            rm,
            rv,
            y.all(),
            mean.all(),
            invstd.all(),
            ws.all(),
        )
        .unwrap();
    let what = |tensor: &str| format!("{} {tensor} of {p:?}", device.name);
    close(
        &what("mean"),
        &device.get(&mean),
        &per_channel(&|_, s| s.mean),
        &per_channel(&|_, s| s.mean_error + U * s.mean.abs()),
    );
    let bounds = per_channel(&|_, s| s.invstd * s.invstd_error);
    close(&what("invstd"), &device.get(&invstd), &per_channel(&|_, s| s.invstd), &bounds);
    close(&what("y"), &device.get(&y), &want, &bound);
    // PyTorch: the unbiased variance goes into the running one.
    let unbiased = if rows > 1 { rows as f64 / (rows as f64 - 1.0) } else { 1.0 };
    let (old_mean, old_var) = (|j: usize| f64::from(d.running_mean[j]), |j: usize| f64::from(d.running_var[j]));
    let m = f64::from(p.momentum);
    let want = per_channel(&|j, s| (1.0 - m) * old_mean(j) + m * s.mean);
    let bounds = per_channel(&|j, s| m * s.mean_error + 4.0 * U * (old_mean(j).abs() + s.mean.abs()));
    close(&what("running mean"), &device.get(&running_mean), &want, &bounds);
    let want = per_channel(&|j, s| (1.0 - m) * old_var(j) + m * unbiased * s.var);
    let bounds = per_channel(&|j, s| m * unbiased * s.var_error + 6.0 * U * (old_var(j) + unbiased * s.var));
    close(&what("running var"), &device.get(&running_var), &want, &bounds);
}

/// Up to 520 rows: several of the blocks over which statistics are taken, and rests.
fn sizes() -> impl Strategy<Value = (usize, usize)> {
    (prop_oneof![2usize..=70, 120usize..=135, 500usize..=520], proptest::sample::select(&CHANNELS[..]))
}

fn training_forward_and_running_statistics(device: &Device) {
    device.check((sizes(), any::<bool>(), any::<u64>()), |((rows, c), relu, seed)| {
        forward(device, &data(rows, c, relu, 0.0, seed));
    });
}

fn a_large_offset_costs_no_precision(device: &Device) {
    forward(device, &data(500, 3, false, 1000.0, 1));
    forward(device, &data(77, 17, true, -3000.0, 2));
}

/// A batch of one 1x1 image: variance 0. PyTorch refuses it; here the outcome is finite and stated.
fn one_row_gives_the_shift(device: &Device) {
    forward(device, &data(1, 37, false, 0.0, 1));
}

fn inference(device: &Device) {
    device.check((sizes(), any::<bool>(), any::<u64>()), |((rows, c), relu, seed)| {
        let d = data(rows, c, relu, 0.5, seed);
        let (mut want, mut bound) = (array((rows, c), &d.x), Array2::<f64>::zeros((rows, c)));
        for ((i, j), y) in want.indexed_iter_mut() {
            let scale = f64::from(d.gamma[j]) / (f64::from(d.running_var[j]) + f64::from(EPS)).sqrt();
            let (mean, beta) = (f64::from(d.running_mean[j]), f64::from(d.beta[j]));
            bound[(i, j)] = 8.0 * U * (scale.abs() * (y.abs() + mean.abs()) + beta.abs());
            *y = rectify(relu, scale * (*y - mean) + beta);
        }
        let inputs = [&d.gamma, &d.beta, &d.running_mean, &d.running_var].map(|v| device.put(v));
        let [gamma, beta, mean, var] = inputs.each_ref().map(|m| m.all());
        let (x, y) = (device.put(&d.x), device.out(rows * c));
        device.backend.batchnorm_eval_f32(&d.p, x.all(), gamma, beta, mean, var, y.all()).unwrap();
        close(&format!("{} y of {:?}", device.name, d.p), &device.get(&y), &want, &bound);
        device.backend.batchnorm_eval_f32(&d.p, x.all(), gamma, beta, mean, var, x.all()).unwrap();
        exact(&format!("{} in place, {:?}", device.name, d.p), &device.get::<f32>(&x), &device.get::<f32>(&y));
    });
}

/// The gradient as a function of what the operator is given, mean and `invstd` rounded to f32 included.
fn backward(device: &Device, p: BatchNorm, hx: &[f32], hy: &[f32], hgamma: &[f32], seed: u64) {
    let (rows, c) = (p.rows as usize, p.c as usize);
    let (x, y) = (array((rows, c), hx), array((rows, c), hy));
    let hdy = normal(seed, "dy", rows * c, 1.0);
    let dy = array((rows, c), &hdy);
    let channels: Vec<Statistics> = x.axis_iter(Axis(1)).map(statistics).collect();
    let hmean: Vec<f32> = channels.iter().map(|s| s.mean as f32).collect();
    let hinvstd: Vec<f32> = channels.iter().map(|s| s.invstd as f32).collect();
    let (mut dx, mut dx_bound) = (Array2::<f64>::zeros((rows, c)), Array2::<f64>::zeros((rows, c)));
    let [mut dgamma, mut dgamma_bound, mut dbeta, mut dbeta_bound] = [(); 4].map(|()| Array1::<f64>::zeros(c));
    for j in 0..c {
        let (mean, invstd, scale) = (f64::from(hmean[j]), f64::from(hinvstd[j]), f64::from(hgamma[j]));
        let masked = |i: usize| if p.relu != 0 && y[(i, j)] <= 0.0 { 0.0 } else { dy[(i, j)] };
        let xhat = |i: usize| (x[(i, j)] - mean) * invstd;
        let (mut sum, mut dot) = (0.0, 0.0);
        for i in 0..rows {
            dbeta[j] += masked(i);
            dgamma[j] += masked(i) * xhat(i);
            sum += masked(i).abs();
            dot += (masked(i) * xhat(i)).abs();
        }
        dbeta_bound[j] = gamma(rows + 1) * sum;
        dgamma_bound[j] = gamma(rows + 4) * dot;
        for i in 0..rows {
            let n = rows as f64;
            dx[(i, j)] = scale * invstd * (masked(i) - dbeta[j] / n - xhat(i) * dgamma[j] / n);
            let size = masked(i).abs() + sum / n + xhat(i).abs() * dot / n;
            dx_bound[(i, j)] = gamma(rows + 12) * (scale * invstd).abs() * size;
        }
    }
    let inputs = [hx, hy, hgamma, &hmean, &hinvstd, &hdy].map(|v| device.put(v));
    let [x, y, scale, mean, invstd, dy] = inputs.each_ref().map(|m| m.all());
    let what = |tensor: &str| format!("{} {tensor} of {p:?}, seed {seed}", device.name);
    for in_place in [false, true] {
        let (fresh, out_gamma, out_beta) = (device.out(rows * c), device.out(c), device.out(c));
        let ws = device.workspace(&Kernel::BatchNormBwd(p));
        let out = if in_place { dy } else { fresh.all() };
        device
            .backend
            .batchnorm_bwd_f32(&p, x, y, scale, mean, invstd, dy, out, out_gamma.all(), out_beta.all(), ws.all())
            .unwrap();
        let got = if in_place { device.get(&inputs[5]) } else { device.get(&fresh) };
        close(&what("dx"), &got, &dx, &dx_bound);
        close(&what("dgamma"), &device.get(&out_gamma), &dgamma, &dgamma_bound);
        close(&what("dbeta"), &device.get(&out_beta), &dbeta, &dbeta_bound);
    }
}

fn gradients(device: &Device) {
    device.check((sizes(), any::<bool>(), any::<u64>()), |((rows, c), relu, seed)| {
        let d = data(rows, c, relu, 0.0, seed);
        // Any y does: the operator masks by what it is given.
        backward(device, d.p, &d.x, &normal(seed, "y", rows * c, 1.0), &d.gamma, seed);
    });
}

/// Outputs full of exact zeros, as a ReLU leaves them.
fn no_gradient_passes_where_the_relu_is_zero(device: &Device) {
    let d = data(200, 37, true, 0.0, 9);
    let y: Vec<f32> = coarse(9, "y", 200 * 37).iter().map(|v| v.max(0.0)).collect();
    backward(device, d.p, &d.x, &y, &d.gamma, 9);
}
