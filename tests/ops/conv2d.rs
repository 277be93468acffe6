//! conv2d: forward, data gradient, weight and bias gradient.

use earlybird::ops::conv2d::{Conv2d, Conv2dAttr};
use earlybird::ops::{Kernel, Shape};
use ndarray::{Array1, Array4};
use proptest::prelude::*;

use crate::device::Device;
use crate::oracle::{CHANNELS, array, close, gamma, normal};

for_each_device!(
    random_shapes_agree_with_the_definition,
    shapes_that_span_many_tiles,
    kernels_that_hang_over_every_edge,
    two_by_two_images
);

#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub n: usize,
    pub image: Shape,
    pub attr: Conv2dAttr,
    pub seed: u64,
}

fn case(n: usize, (h, w, c): (usize, usize, usize), attr: Conv2dAttr) -> Case {
    Case { n, image: Shape::new(h, w, c), attr, seed: 1 }
}

/// Calls `each([n, p, q, k], [n, h, w, c], [k, r, s, c])` for every product of the definition.
fn products(p: &Conv2d, mut each: impl FnMut([usize; 4], [usize; 4], [usize; 4])) {
    let [n, h, w, c, k] = [p.n, p.h, p.w, p.c, p.k].map(|v| v as usize);
    for (image, out) in (0..n).flat_map(|image| (0..k).map(move |out| (image, out))) {
        for (row, column) in (0..p.p).flat_map(|row| (0..p.q).map(move |column| (row, column))) {
            for (r, s) in (0..p.r).flat_map(|r| (0..p.s).map(move |s| (r, s))) {
                let i = i64::from(row * p.stride_h + r) - i64::from(p.pad_h);
                let j = i64::from(column * p.stride_w + s) - i64::from(p.pad_w);
                if !(0..h as i64).contains(&i) || !(0..w as i64).contains(&j) {
                    continue;
                }
                for channel in 0..c {
                    each(
                        [image, row as usize, column as usize, out],
                        [image, i as usize, j as usize, channel],
                        [out, r as usize, s as usize, channel],
                    );
                }
            }
        }
    }
}

/// The four results of one convolution, or (from magnitudes) the sums of the magnitudes of their terms.
struct Results {
    y: Array4<f64>,
    dx: Array4<f64>,
    dw: Array4<f64>,
    dbias: Array1<f64>,
}

fn results(p: &Conv2d, x: &Array4<f64>, w: &Array4<f64>, bias: &Array1<f64>, dy: &Array4<f64>) -> Results {
    let mut y = Array4::from_shape_fn(dy.dim(), |(_, _, _, k)| bias[k]);
    let (mut dx, mut dw) = (Array4::zeros(x.dim()), Array4::zeros(w.dim()));
    products(p, |o, i, t| {
        y[o] += x[i] * w[t];
        dx[i] += dy[o] * w[t];
        dw[t] += dy[o] * x[i];
    });
    let dbias = Array1::from_shape_fn(bias.len(), |k| dy.slice(ndarray::s![.., .., .., k]).sum());
    Results { y, dx, dw, dbias }
}

fn agree(device: &Device, case: &Case) {
    let p = Conv2d::new(case.n, case.image, &case.attr).unwrap();
    let [n, h, w, c, k, r, s, rows, columns] = [p.n, p.h, p.w, p.c, p.k, p.r, p.s, p.p, p.q].map(|v| v as usize);
    let data = |what: &str, len: usize| normal(case.seed, what, len, 1.0);
    let (hx, hw, hdy) = (data("x", p.x_len()), data("w", p.w_len()), data("dy", p.y_len()));
    let hb = if case.attr.bias { data("bias", k) } else { vec![0.0; k] };
    let (x, weights) = (array((n, h, w, c), &hx), array((k, r, s, c), &hw));
    let (bias, dy) = (array(k, &hb), array((n, rows, columns, k), &hdy));
    let want = results(&p, &x, &weights, &bias, &dy);
    let sizes = results(&p, &x.mapv(f64::abs), &weights.mapv(f64::abs), &bias.mapv(f64::abs), &dy.mapv(f64::abs));

    let (x, w, dy) = (device.put(&hx), device.put(&hw), device.put(&hdy));
    let bias = case.attr.bias.then(|| device.put(&hb));
    let what = |tensor: &str| format!("{} {tensor} of {case:?}", device.name);

    let (y, ws) = (device.out(p.y_len()), device.workspace(&Kernel::Conv2dFwd(p)));
    let backend = &device.backend;
    backend.conv2d_fwd_f32(&p, x.all(), w.all(), bias.as_ref().map(|b| b.all()), y.all(), ws.all()).unwrap();
    close(&what("y"), &device.get(&y), &want.y, &(sizes.y * gamma(r * s * c + 2)));

    let (dx, ws) = (device.out(p.x_len()), device.workspace(&Kernel::Conv2dDgrad(p)));
    backend.conv2d_dgrad_f32(&p, dy.all(), w.all(), dx.all(), ws.all()).unwrap();
    close(&what("dx"), &device.get(&dx), &want.dx, &(sizes.dx * gamma(r * s * k + 1)));

    let (dw, ws) = (device.out(p.w_len()), device.workspace(&Kernel::Conv2dWgrad(p)));
    let dbias = case.attr.bias.then(|| device.out(k));
    backend.conv2d_wgrad_f32(&p, x.all(), dy.all(), dw.all(), dbias.as_ref().map(|b| b.all()), ws.all()).unwrap();
    close(&what("dw"), &device.get(&dw), &want.dw, &(sizes.dw * gamma(p.rows() + 1)));
    if let Some(dbias) = dbias {
        close(&what("dbias"), &device.get(&dbias), &want.dbias, &(sizes.dbias * gamma(p.rows() + 1)));
    }
}

/// Kernels 1x1 to 7x7, strides 1 to 3, padding 0 to 3 (more than half the kernel, too), all independent along both axes.
fn cases(budget: usize) -> impl Strategy<Value = Case> {
    let channels = || proptest::sample::select(&CHANNELS[..]);
    let image = (1usize..=9, 1usize..=9, channels());
    let pair = |range: std::ops::RangeInclusive<usize>| (range.clone(), range);
    (1usize..=5, image, channels(), pair(1..=7), pair(1..=3), pair(0..=3), any::<bool>(), any::<u64>())
        .prop_map(|(n, (h, w, c), out_channels, kernel, stride, padding, bias, seed)| Case {
            n,
            image: Shape::new(h, w, c),
            attr: Conv2dAttr { out_channels, kernel, stride, padding, bias },
            seed,
        })
        .prop_filter("fits and is small enough", move |case| {
            Conv2d::new(case.n, case.image, &case.attr).is_ok_and(|p| p.macs() <= budget as u64)
        })
}

fn random_shapes_agree_with_the_definition(device: &Device) {
    device.check(cases(device.budget), |case| agree(device, &case));
}

/// More rows than one chunk of the weight gradient and one task of the others, more channels than one block of weights, and a rest in each.
fn shapes_that_span_many_tiles(device: &Device) {
    agree(device, &case(5, (15, 13, 37), Conv2dAttr::square(37, 3, 1, 1)));
    agree(device, &case(2, (31, 29, 3), Conv2dAttr::square(33, 3, 1, 1)));
    agree(device, &case(3, (17, 17, 12), Conv2dAttr { bias: true, ..Conv2dAttr::square(70, 3, 2, 1) }));
    agree(device, &case(1, (5, 5, 130), Conv2dAttr::square(131, 1, 1, 0)));
    agree(device, &case(2, (23, 23, 3), Conv2dAttr::square(16, 7, 2, 3)));
    agree(device, &case(2, (6, 5, 132), Conv2dAttr::square(136, 3, 2, 1)));
}

fn kernels_that_hang_over_every_edge(device: &Device) {
    for (kernel, padding) in [((5, 1), (4, 0)), ((1, 5), (0, 4)), ((3, 3), (3, 3)), ((7, 7), (6, 6))] {
        for stride in [(1, 1), (2, 3), (3, 1)] {
            let attr = Conv2dAttr { out_channels: 5, kernel, stride, padding, bias: true };
            agree(device, &case(2, (2, 3, 13), attr));
        }
    }
}

/// The last stage of a VGG on 32x32 images: most taps fall on padding.
fn two_by_two_images(device: &Device) {
    agree(device, &case(5, (2, 2, 37), Conv2dAttr::square(41, 3, 1, 1)));
    agree(device, &case(1, (2, 2, 16), Conv2dAttr::square(16, 2, 1, 0)));
}
