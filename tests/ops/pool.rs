//! Pools: maximum with its winners, mean over windows, mean over the image, and their gradients.

use earlybird::ops::pool::Pool;
use ndarray::Array4;
use proptest::prelude::*;

use crate::device::Device;
use crate::oracle::{CHANNELS, array, close, coarse, exact, gamma, normal};

for_each_device!(
    maxpool_values_winners_and_gradients,
    maxpool_gives_ties_to_the_first_and_the_last_nan_wins,
    avgpool_values_and_gradients,
    pixels_of_so_many_channels_that_no_window_fits_in_shared_memory,
    global_avgpool_values_and_gradients
);

fn pool((n, h, w, c): (u32, u32, u32, u32), kernel: (u32, u32), stride: u32, padding: u32) -> Option<Pool> {
    let extent = |size: u32, kernel: u32| (size + 2 * padding).checked_sub(kernel).map(|room| room / stride + 1);
    let (p, q) = (extent(h, kernel.0)?, extent(w, kernel.1)?);
    Some(Pool { n, h, w, c, p, q, kernel_h: kernel.0, kernel_w: kernel.1, stride, padding })
}

/// Dimensions of the input and of the output, NHWC.
fn dims(p: &Pool) -> [[usize; 4]; 2] {
    [[p.n, p.h, p.w, p.c], [p.n, p.p, p.q, p.c]].map(|dims| dims.map(|v| v as usize))
}

/// The pixels under output pixel (row, column), as (place in the window, row, column); padding is left out.
fn window(p: &Pool, row: usize, column: usize) -> Vec<(usize, usize, usize)> {
    let mut pixels = Vec::new();
    for r in 0..p.kernel_h as usize {
        for s in 0..p.kernel_w as usize {
            let i = (row * p.stride as usize + r) as i64 - i64::from(p.padding);
            let j = (column * p.stride as usize + s) as i64 - i64::from(p.padding);
            if (0..i64::from(p.h)).contains(&i) && (0..i64::from(p.w)).contains(&j) {
                pixels.push((r * p.kernel_w as usize + s, i as usize, j as usize));
            }
        }
    }
    pixels
}

/// Windows up to 7x7, stride 1 to 3, padding at most half the kernel, 1x1 images to 9x9.
fn pools(budget: usize) -> impl Strategy<Value = Pool> {
    let channels = proptest::sample::select(&CHANNELS[..]);
    ((1u32..=5, 1u32..=9, 1u32..=9, channels), 1u32..=7, 1u32..=3, 0u32..=3)
        .prop_filter_map("fits", |((n, h, w, c), kernel, stride, padding)| {
            let padding = padding.min(kernel / 2);
            pool((n, h, w, c as u32), (kernel, kernel), stride, padding)
        })
        .prop_filter("small enough", move |p| (p.n * p.p * p.q * p.c * p.kernel_h * p.kernel_w) as usize <= budget)
}

fn maximum(device: &Device, p: &Pool, hx: &[f32], seed: u64) {
    let [x_dims, y_dims] = dims(p);
    let x = Array4::from_shape_vec(x_dims, hx.to_vec()).unwrap();
    let (mut y, mut index) = (Array4::<f32>::zeros(y_dims), Array4::<u8>::zeros(y_dims));
    let hdy = normal(seed, "dy", y.len(), 1.0);
    let dy = array(y_dims, &hdy);
    let (mut dx, mut sizes, mut wins) = (Array4::<f64>::zeros(x_dims), Array4::<f64>::zeros(x_dims), 0);
    for ((n, row, column, c), best) in y.indexed_iter_mut() {
        let mut winner = None;
        for (place, i, j) in window(p, row, column) {
            let value = x[(n, i, j, c)];
            // A NaN always wins, the last of several, as in PyTorch.
            let wins = winner.is_none_or(|(_, _, _, top): (_, _, _, f32)| value > top || value.is_nan());
            if wins {
                winner = Some((place, i, j, value));
            }
        }
        let (place, i, j, value) = winner.unwrap();
        *best = value;
        index[(n, row, column, c)] = place as u8;
        dx[(n, i, j, c)] += dy[(n, row, column, c)];
        sizes[(n, i, j, c)] += dy[(n, row, column, c)].abs();
        wins += 1;
    }
    assert_eq!(wins, y.len());
    let what = |tensor: &str| format!("{} {tensor} of {p:?}, seed {seed}", device.name);
    let (dev_x, dev_dy) = (device.put(hx), device.put(&hdy));
    let (dev_y, dev_index, dev_dx) = (device.out(y.len()), device.put(&vec![0xABu8; y.len()]), device.out(x.len()));
    device.backend.maxpool_fwd_f32(p, dev_x.all(), dev_y.all(), dev_index.all()).unwrap();
    device.backend.maxpool_bwd_f32(p, dev_index.all(), dev_dy.all(), dev_dx.all()).unwrap();
    exact(&what("y"), &device.get(&dev_y), y.as_slice().unwrap());
    exact(&what("index"), &device.get(&dev_index), index.as_slice().unwrap());
    let bound = sizes * gamma((p.kernel_h * p.kernel_w) as usize);
    close(&what("dx"), &device.get(&dev_dx), &dx, &bound);
}

fn maxpool_values_winners_and_gradients(device: &Device) {
    device.check((pools(device.budget), any::<bool>(), any::<u64>()), |(p, ties, seed)| {
        let len = (p.n * p.h * p.w * p.c) as usize;
        let x = if ties { coarse(seed, "x", len) } else { normal(seed, "x", len, 1.0) };
        maximum(device, &p, &x, seed);
    });
}

fn maxpool_gives_ties_to_the_first_and_the_last_nan_wins(device: &Device) {
    let p = pool((1, 4, 4, 1), (2, 2), 2, 0).unwrap();
    let (nan, low) = (f32::NAN, f32::NEG_INFINITY);
    #[rustfmt::skip]
    let x = [
        1.0, 1.0,  0.0, -0.0,
        1.0, 1.0, -0.0,  0.0,
        low, low,  nan,  5.0,
        low, low,  9.0,  nan,
    ];
    maximum(device, &p, &x, 1);
    let overlapping = pool((2, 5, 5, 3), (3, 3), 1, 1).unwrap();
    maximum(device, &overlapping, &[7.0; 150], 2);
    maximum(device, &overlapping, &[low; 150], 3);
}

/// Mean over windows, with the padding's zeros counted, and its gradient.
fn mean(device: &Device, p: &Pool, global: bool, seed: u64) {
    let [x_dims, y_dims] = dims(p);
    let area = f64::from(p.kernel_h * p.kernel_w);
    let (hx, hdy) = (normal(seed, "x", (p.n * p.h * p.w * p.c) as usize, 1.0), {
        normal(seed, "dy", (p.n * p.p * p.q * p.c) as usize, 1.0)
    });
    let (x, dy) = (array(x_dims, &hx), array(y_dims, &hdy));
    let results = |x: &Array4<f64>, dy: &Array4<f64>| {
        let (mut y, mut dx) = (Array4::<f64>::zeros(y_dims), Array4::<f64>::zeros(x_dims));
        for ((n, row, column, c), dy) in dy.indexed_iter() {
            for (_, i, j) in window(p, row, column) {
                y[(n, row, column, c)] += x[(n, i, j, c)] / area;
                dx[(n, i, j, c)] += dy / area;
            }
        }
        (y, dx)
    };
    let ((y, dx), (y_sizes, dx_sizes)) = (results(&x, &dy), results(&x.mapv(f64::abs), &dy.mapv(f64::abs)));
    let what = |tensor: &str| format!("{} {tensor} of {p:?}, seed {seed}", device.name);
    let (dev_x, dev_dy, dev_y, dev_dx) = (device.put(&hx), device.put(&hdy), device.out(y.len()), device.out(x.len()));
    if global {
        device.backend.global_avgpool_fwd_f32(p, dev_x.all(), dev_y.all()).unwrap();
        device.backend.global_avgpool_bwd_f32(p, dev_dy.all(), dev_dx.all()).unwrap();
    } else {
        device.backend.avgpool_fwd_f32(p, dev_x.all(), dev_y.all()).unwrap();
        device.backend.avgpool_bwd_f32(p, dev_dy.all(), dev_dx.all()).unwrap();
    }
    // The sum's roundings, and one or two of the factor 1/area.
    let roundings = gamma(area as usize + 2);
    close(&what("y"), &device.get(&dev_y), &y, &(y_sizes * roundings));
    close(&what("dx"), &device.get(&dev_dx), &dx, &(dx_sizes * roundings));
}

fn avgpool_values_and_gradients(device: &Device) {
    device.check((pools(device.budget), any::<u64>()), |(p, seed)| mean(device, &p, false, seed));
}

fn pixels_of_so_many_channels_that_no_window_fits_in_shared_memory(device: &Device) {
    for (shape, kernel, stride, padding) in
        [((1, 4, 4, 165), 5, 1, 2), ((1, 3, 3, 4097), 2, 2, 0), ((1, 2, 2, 2051), 3, 1, 1)]
    {
        let p = pool(shape, (kernel, kernel), stride, padding).unwrap();
        maximum(device, &p, &normal(1, "x", (p.n * p.h * p.w * p.c) as usize, 1.0), 1);
        mean(device, &p, false, 2);
    }
}

fn global_avgpool_values_and_gradients(device: &Device) {
    let channels = proptest::sample::select(&CHANNELS[..]);
    device.check((1u32..=5, 1u32..=9, 1u32..=9, channels, any::<u64>()), |(n, h, w, c, seed)| {
        mean(device, &pool((n, h, w, c as u32), (h, w), 1, 0).unwrap(), true, seed);
    });
}
