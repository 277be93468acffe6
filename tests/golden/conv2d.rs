//! Convolution and linear layer, forward and all gradients, against PyTorch in f64.
//!
//! Tolerance per element: `sum_factor(terms)` times the sum of the terms' magnitudes, which a plain loop over |x|, |w|, |dy| computes here.

use earlybird::backend::Memory;
use earlybird::ops::conv2d::{Conv2d, Conv2dAttr};
use earlybird::ops::linear::Linear;
use earlybird::ops::{Kernel, Shape};

use super::device::Device;
use super::store::{Case, Golden, Tensor, sum_factor};

for_each_device!(
    conv2d_agrees_with_pytorch_forwards_and_in_all_gradients,
    linear_agrees_with_pytorch_forwards_and_in_all_gradients,
);

/// Calls `each(x, w, y)` with the three indices of every product of the convolution.
pub fn products(p: &Conv2d, mut each: impl FnMut(usize, usize, usize)) {
    let [n, h, w, c, k, r, s, rows, columns] = [p.n, p.h, p.w, p.c, p.k, p.r, p.s, p.p, p.q].map(|v| v as usize);
    for (y, (((n, i), j), k)) in (0..n)
        .flat_map(|n| (0..rows).map(move |i| (n, i)))
        .flat_map(|ni| (0..columns).map(move |j| (ni, j)))
        .flat_map(|nij| (0..k).map(move |k| (nij, k)))
        .enumerate()
    {
        for (a, b) in (0..r).flat_map(|a| (0..s).map(move |b| (a, b))) {
            let row = (i * p.stride_h as usize + a).wrapping_sub(p.pad_h as usize);
            let column = (j * p.stride_w as usize + b).wrapping_sub(p.pad_w as usize);
            if row < h && column < w {
                for ch in 0..c {
                    each(((n * h + row) * w + column) * c + ch, ((k * r + a) * s + b) * c + ch, y);
                }
            }
        }
    }
}

/// Sums of magnitudes for y, dx and dw: what the tolerances are taken of.
fn magnitudes(p: &Conv2d, x: &Tensor, w: &Tensor, dy: &Tensor) -> [Vec<f64>; 3] {
    let (mut sy, mut sx, mut sw) = (vec![0.0; p.y_len()], vec![0.0; p.x_len()], vec![0.0; p.w_len()]);
    products(p, |i, j, o| {
        sy[o] += (x.data[i] * w.data[j]).abs();
        sx[i] += (dy.data[o] * w.data[j]).abs();
        sw[j] += (dy.data[o] * x.data[i]).abs();
    });
    [sy, sx, sw]
}

fn scaled(sums: &[f64], terms: usize) -> Vec<f64> {
    sums.iter().map(|s| s * sum_factor(terms)).collect()
}

/// Sum of |dy| over all but the last dimension.
fn column_sums(dy: &Tensor, k: usize) -> Vec<f64> {
    (0..k).map(|j| dy.data.iter().skip(j).step_by(k).map(|v| v.abs()).sum()).collect()
}

fn convolve(device: &Device, case: &Case) {
    let pair = |key: &str| {
        let list = case.list(key);
        (list[0] as usize, list[1] as usize)
    };
    let attr = Conv2dAttr {
        out_channels: case.size("k"),
        kernel: pair("kernel"),
        stride: pair("stride"),
        padding: pair("padding"),
        bias: case.flag("bias"),
    };
    let shape = Shape::new(case.size("h"), case.size("w"), case.size("c"));
    let p = Conv2d::new(case.size("n"), shape, &attr).unwrap();
    let [x, w, dy, y, dx, dw] = ["x", "w", "dy", "y", "dx", "dw"].map(|name| case.tensor(name).channels_last());
    let bias = case.find("bias");
    assert_eq!(y.data.len(), p.y_len(), "{}: output shape", case.id);

    let [mut sy, sx, sw] = magnitudes(&p, &x, &w, &dy);
    if let Some(bias) = &bias {
        sy.iter_mut().enumerate().for_each(|(i, s)| *s += bias.data[i % attr.out_channels].abs());
    }
    let (taps, k) = ((p.r * p.s) as usize, attr.out_channels);
    let (bx, bw, bdy) = (device.put(&x.f32()), device.put(&w.f32()), device.put(&dy.f32()));
    let bb = bias.as_ref().map(|b| device.put(&b.f32()));

    let (out, ws) = (device.out(p.y_len()), device.workspace(&Kernel::Conv2dFwd(p)));
    device.backend.conv2d_fwd_f32(&p, bx.all(), bw.all(), bb.as_ref().map(Memory::all), out.all(), ws.all()).unwrap();
    case.close("y", &device.get(&out), &y.data, &scaled(&sy, taps * shape.c + usize::from(bias.is_some())));

    let (out, ws) = (device.out(p.x_len()), device.workspace(&Kernel::Conv2dDgrad(p)));
    device.backend.conv2d_dgrad_f32(&p, bdy.all(), bw.all(), out.all(), ws.all()).unwrap();
    case.close("dx", &device.get(&out), &dx.data, &scaled(&sx, taps * k));

    let (out, ws) = (device.out(p.w_len()), device.workspace(&Kernel::Conv2dWgrad(p)));
    let db = bias.is_some().then(|| device.out(k));
    device
        .backend
        .conv2d_wgrad_f32(&p, bx.all(), bdy.all(), out.all(), db.as_ref().map(Memory::all), ws.all())
        .unwrap();
    case.close("dw", &device.get(&out), &dw.data, &scaled(&sw, p.rows()));
    if let Some(db) = db {
        let bound = scaled(&column_sums(&dy, k), p.rows());
        case.close("dbias", &device.get(&db), &case.tensor("dbias").data, &bound);
    }
}

fn conv2d_agrees_with_pytorch_forwards_and_in_all_gradients(device: &Device) {
    for case in Golden::open("ops").cases("conv2d") {
        convolve(device, &case);
    }
}

fn linear_agrees_with_pytorch_forwards_and_in_all_gradients(device: &Device) {
    for case in Golden::open("ops").cases("linear") {
        let [n, c, k] = ["n", "c", "k"].map(|key| case.size(key));
        let p = Linear { n: n as u32, c: c as u32, k: k as u32 };
        // A linear layer is a 1x1 convolution of 1x1 images.
        let conv = Conv2d::new(n, Shape::new(1, 1, c), &Conv2dAttr::square(k, 1, 1, 0)).unwrap();
        let [x, w, dy] = ["x", "w", "dy"].map(|name| case.tensor(name));
        let bias = case.find("bias");
        let [mut sy, sx, sw] = magnitudes(&conv, &x, &w, &dy);
        if let Some(bias) = &bias {
            sy.iter_mut().enumerate().for_each(|(i, s)| *s += bias.data[i % k].abs());
        }
        let (bx, bw, bdy) = (device.put(&x.f32()), device.put(&w.f32()), device.put(&dy.f32()));
        let bb = bias.as_ref().map(|b| device.put(&b.f32()));

        let out = device.out(n * k);
        device.backend.linear_fwd_f32(&p, bx.all(), bw.all(), bb.as_ref().map(Memory::all), out.all()).unwrap();
        case.close("y", &device.get(&out), &case.tensor("y").data, &scaled(&sy, c + usize::from(bias.is_some())));

        let out = device.out(n * c);
        device.backend.linear_dgrad_f32(&p, bdy.all(), bw.all(), out.all()).unwrap();
        case.close("dx", &device.get(&out), &case.tensor("dx").data, &scaled(&sx, k));

        let (out, db) = (device.out(k * c), bias.is_some().then(|| device.out(k)));
        device.backend.linear_wgrad_f32(&p, bx.all(), bdy.all(), out.all(), db.as_ref().map(Memory::all)).unwrap();
        case.close("dw", &device.get(&out), &case.tensor("dw").data, &scaled(&sw, n));
        if let Some(db) = db {
            let bound = scaled(&column_sums(&dy, k), n);
            case.close("dbias", &device.get(&db), &case.tensor("dbias").data, &bound);
        }
    }
}
