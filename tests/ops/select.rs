//! select: channel gather, and the scatter that is its gradient; exact.

use earlybird::ops::select::Select;
use ndarray::{Array2, Axis};
use proptest::prelude::*;

use crate::device::Device;
use crate::oracle::{CHANNELS, exact, normal};

for_each_device!(random_channels_are_gathered_and_scattered, all_channels_and_one);

fn agree(device: &Device, rows: usize, c: usize, channels: &[u32], seed: u64) {
    let k = channels.len();
    let (hx, hdy) = (normal(seed, "x", rows * c, 1.0), normal(seed, "dy", rows * k, 1.0));
    let x = Array2::from_shape_vec((rows, c), hx.clone()).unwrap();
    let dy = Array2::from_shape_vec((rows, k), hdy.clone()).unwrap();
    let places: Vec<usize> = channels.iter().map(|i| *i as usize).collect();
    let want_y = x.select(Axis(1), &places);
    let mut want_dx = Array2::<f32>::zeros((rows, c));
    for (column, place) in dy.columns().into_iter().zip(&places) {
        want_dx.column_mut(*place).assign(&column);
    }
    let p = Select { rows: rows as u32, c: c as u32, k: k as u32 };
    let what = |tensor: &str| format!("{} {tensor} of {p:?}, channels {channels:?}", device.name);
    let (x, dy, index) = (device.put(&hx), device.put(&hdy), device.put(channels));
    let (y, dx) = (device.out(rows * k), device.out(rows * c));
    device.backend.select_fwd_f32(&p, x.all(), index.all(), y.all()).unwrap();
    device.backend.select_bwd_f32(&p, dy.all(), index.all(), dx.all()).unwrap();
    exact(&what("y"), &device.get(&y), want_y.as_standard_layout().as_slice().unwrap());
    exact(&what("dx"), &device.get(&dx), want_dx.as_slice().unwrap());
}

fn random_channels_are_gathered_and_scattered(device: &Device) {
    let channels = proptest::sample::select(&CHANNELS[..]);
    let subset = channels.prop_flat_map(|c| {
        let all: Vec<u32> = (0..c as u32).collect();
        (Just(c), proptest::sample::subsequence(all, 1..=c))
    });
    // 256 rows are one task of the CPU.
    let rows = prop_oneof![1usize..=50, 250usize..=520];
    device.check((rows, subset, any::<u64>()), |(rows, (c, channels), seed)| agree(device, rows, c, &channels, seed));
}

fn all_channels_and_one(device: &Device) {
    let all: Vec<u32> = (0..37).collect();
    agree(device, 12, 37, &all, 1);
    agree(device, 12, 37, &[36], 2);
    agree(device, 1, 1, &[0], 3);
}
