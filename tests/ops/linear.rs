//! linear: forward, data gradient, weight and bias gradient.

use earlybird::ops::linear::Linear;
use ndarray::{Array1, Array2, Axis};
use proptest::prelude::*;

use crate::device::Device;
use crate::oracle::{CHANNELS, array, close, gamma, normal};

for_each_device!(random_sizes_agree_with_matrix_products, a_classifier_on_a_flattened_image);

struct Results {
    y: Array2<f64>,
    dx: Array2<f64>,
    dw: Array2<f64>,
    dbias: Array1<f64>,
}

fn results(x: &Array2<f64>, w: &Array2<f64>, bias: &Array1<f64>, dy: &Array2<f64>) -> Results {
    Results { y: x.dot(&w.t()) + bias, dx: dy.dot(w), dw: dy.t().dot(x), dbias: dy.sum_axis(Axis(0)) }
}

fn agree(device: &Device, (n, c, k): (usize, usize, usize), with_bias: bool, seed: u64) {
    let p = Linear { n: n as u32, c: c as u32, k: k as u32 };
    let data = |what: &str, len: usize| normal(seed, what, len, 1.0);
    let (hx, hw, hdy) = (data("x", n * c), data("w", k * c), data("dy", n * k));
    let hb = if with_bias { data("bias", k) } else { vec![0.0; k] };
    let (x, w, bias, dy) = (array((n, c), &hx), array((k, c), &hw), array(k, &hb), array((n, k), &hdy));
    let want = results(&x, &w, &bias, &dy);
    let sizes = results(&x.mapv(f64::abs), &w.mapv(f64::abs), &bias.mapv(f64::abs), &dy.mapv(f64::abs));

    let (x, w, dy) = (device.put(&hx), device.put(&hw), device.put(&hdy));
    let bias = with_bias.then(|| device.put(&hb));
    let what = |tensor: &str| format!("{} {tensor} of {p:?}, bias {with_bias}, seed {seed}", device.name);
    let (y, dx, dw) = (device.out(n * k), device.out(n * c), device.out(k * c));
    let dbias = with_bias.then(|| device.out(k));
    let backend = &device.backend;
    backend.linear_fwd_f32(&p, x.all(), w.all(), bias.as_ref().map(|b| b.all()), y.all()).unwrap();
    backend.linear_dgrad_f32(&p, dy.all(), w.all(), dx.all()).unwrap();
    backend.linear_wgrad_f32(&p, x.all(), dy.all(), dw.all(), dbias.as_ref().map(|b| b.all())).unwrap();
    close(&what("y"), &device.get(&y), &want.y, &(sizes.y * gamma(c + 2)));
    close(&what("dx"), &device.get(&dx), &want.dx, &(sizes.dx * gamma(k + 1)));
    close(&what("dw"), &device.get(&dw), &want.dw, &(sizes.dw * gamma(n + 1)));
    if let Some(dbias) = dbias {
        close(&what("dbias"), &device.get(&dbias), &want.dbias, &(sizes.dbias * gamma(n + 1)));
    }
}

fn random_sizes_agree_with_matrix_products(device: &Device) {
    let size = || proptest::sample::select(&CHANNELS[..]);
    device.check((1usize..=37, size(), size(), any::<bool>(), any::<u64>()), |(n, c, k, bias, seed)| {
        agree(device, (n, c, k), bias, seed);
    });
}

fn a_classifier_on_a_flattened_image(device: &Device) {
    agree(device, (5, 2 * 2 * 131, 10), true, 1);
    agree(device, (1, 512, 100), true, 2);
}
