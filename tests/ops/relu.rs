//! relu: forward and gradient, exact, in place as well.

use earlybird::ops::relu::Relu;
use proptest::prelude::*;

use crate::device::Device;
use crate::oracle::{coarse, exact, normal};

for_each_device!(values_and_gradients_are_exact, nan_stays_nan_and_infinity_passes);

fn agree(device: &Device, x: &[f32], dy: &[f32]) {
    let want_y: Vec<f32> = x.iter().map(|v| if *v < 0.0 { 0.0 } else { *v }).collect();
    let want_dx: Vec<f32> = want_y.iter().zip(dy).map(|(y, dy)| if *y > 0.0 { *dy } else { 0.0 }).collect();
    let p = Relu { n: x.len() as u32 };
    let what = |tensor: &str| format!("{} {tensor}, {} elements", device.name, x.len());
    let (dev_x, dev_dy) = (device.put(x), device.put(dy));
    let (y, dx) = (device.out(x.len()), device.out(x.len()));
    device.backend.relu_fwd_f32(&p, dev_x.all(), y.all()).unwrap();
    device.backend.relu_bwd_f32(&p, y.all(), dev_dy.all(), dx.all()).unwrap();
    exact(&what("y"), &device.get(&y), &want_y);
    exact(&what("dx"), &device.get(&dx), &want_dx);
    device.backend.relu_fwd_f32(&p, dev_x.all(), dev_x.all()).unwrap();
    device.backend.relu_bwd_f32(&p, dev_x.all(), dev_dy.all(), dev_dy.all()).unwrap();
    exact(&what("y in place"), &device.get(&dev_x), &want_y);
    exact(&what("dx in place"), &device.get(&dev_dy), &want_dx);
}

/// Half of the inputs are multiples of 1/2, zeros among them: no gradient passes there.
fn values_and_gradients_are_exact(device: &Device) {
    let sizes = prop_oneof![1usize..=70, 32_700usize..=32_800].prop_filter("small enough", |n| *n <= device.budget);
    device.check((sizes, any::<bool>(), any::<u64>()), |(n, ties, seed)| {
        let x = if ties { coarse(seed, "x", n) } else { normal(seed, "x", n, 1.0) };
        agree(device, &x, &normal(seed, "dy", n, 1.0));
    });
}

fn nan_stays_nan_and_infinity_passes(device: &Device) {
    let x = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, f32::MIN_POSITIVE, -f32::MIN_POSITIVE];
    agree(device, &x, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
}
