//! add: one correctly rounded sum per element, also over one of its own inputs.

use earlybird::ops::add::Add;
use proptest::prelude::*;

use crate::device::Device;
use crate::oracle::{exact, normal};

for_each_device!(sums_are_the_rounded_sums, special_values);

/// The f64 sum of two f32, rounded once, is the f32 sum: 53 bits are enough for double rounding to be harmless (Figueroa, 1995).
fn oracle(a: &[f32], b: &[f32]) -> Vec<f32> {
    let (a, b) = (ndarray::aview1(a).mapv(f64::from), ndarray::aview1(b).mapv(f64::from));
    (a + b).mapv(|v| v as f32).to_vec()
}

fn agree(device: &Device, a: &[f32], b: &[f32]) {
    let (want, doubled) = (oracle(a, b), oracle(a, a));
    let p = Add { n: a.len() as u32 };
    let what = |how: &str| format!("{} {how}, {} elements", device.name, a.len());
    let run = |x: &earlybird::backend::Memory, y: &earlybird::backend::Memory, out: &earlybird::backend::Memory| {
        device.backend.add_fwd_f32(&p, x.all(), y.all(), out.all()).unwrap();
        device.get::<f32>(out)
    };
    let (da, db, out) = (device.put(a), device.put(b), device.out(a.len()));
    exact(&what("a + b"), &run(&da, &db, &out), &want);
    exact(&what("a + a"), &run(&da, &da, &out), &doubled);
    exact(&what("b = a + b"), &run(&da, &db, &db), &want);
    let db = device.put(b);
    exact(&what("a = a + b"), &run(&da, &db, &da), &want);
    let da = device.put(a);
    exact(&what("a = a + a"), &run(&da, &da, &da), &doubled);
}

fn sums_are_the_rounded_sums(device: &Device) {
    // Around the sizes of vectors and of a task.
    let sizes = prop_oneof![1usize..=70, 32_700usize..=32_800, 65_500usize..=65_600];
    let sizes = sizes.prop_filter("small enough", |n| *n <= device.budget);
    device.check((sizes, any::<u64>(), -3i32..4), |(n, seed, exponent)| {
        agree(device, &normal(seed, "a", n, 1.0), &normal(seed, "b", n, 10f64.powi(exponent)));
    });
}

fn special_values(device: &Device) {
    let (max, tiny, inf) = (f32::MAX, f32::MIN_POSITIVE, f32::INFINITY);
    agree(device, &[max, tiny, inf, inf, f32::NAN, -0.0, 1.0], &[max, -tiny, 1.0, -inf, 1.0, 0.0, -1.0]);
}
