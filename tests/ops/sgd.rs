//! sgd: the step in PyTorch's order, with the L1 sub-gradient on the BN scales before it.

use earlybird::ops::sgd::Sgd;
use ndarray::Array1;
use proptest::prelude::*;

use crate::device::Device;
use crate::oracle::{U, array, close, coarse, exact, normal};

for_each_device!(
    steps_follow_the_recursion,
    the_first_step_is_the_gradient_itself,
    the_sub_gradient_at_zero_is_zero,
    scales_end_in_the_middle_of_a_task
);

/// Exact values, and how far f32 may be from them after the steps so far.
struct Truth {
    w: Array1<f64>,
    v: Array1<f64>,
    w_error: Array1<f64>,
    v_error: Array1<f64>,
}

impl Truth {
    fn new(w: &[f32]) -> Truth {
        let zero = || Array1::zeros(w.len());
        Truth { w: array(w.len(), w), v: zero(), w_error: zero(), v_error: zero() }
    }

    /// `d = g + l1*sign(w) + wd*w; v = mu*v + d; w -= lr*v`, at most seven roundings of terms no larger than the sum of magnitudes.
    fn step(&mut self, p: &Sgd, lr: f64, g: &Array1<f64>) {
        let (mu, decay, l1) = (f64::from(p.momentum), f64::from(p.weight_decay), f64::from(p.l1));
        for i in 0..g.len() {
            let w = self.w[i];
            let l1 = if i < p.scales as usize && w != 0.0 { l1 * w.signum() } else { 0.0 };
            let size = mu * self.v[i].abs() + g[i].abs() + l1.abs() + decay * w.abs();
            self.v[i] = mu * self.v[i] + (g[i] + l1 + decay * w);
            self.w[i] = w - lr * self.v[i];
            self.v_error[i] = mu * self.v_error[i] + decay * self.w_error[i] + 6.0 * U * size;
            self.w_error[i] += lr * self.v_error[i] + 2.0 * U * (lr * self.v[i].abs() + w.abs());
        }
    }
}

fn follow(device: &Device, p: &Sgd, start: &[f32], rates: &[f32], seed: u64) {
    let count = start.len();
    let mut truth = Truth::new(start);
    let (w, v) = (device.put(start), device.put(&vec![0.0f32; count]));
    for (step, lr) in rates.iter().enumerate() {
        let g = normal(seed, &format!("g{step}"), count, 1.0);
        let (gradient, rate) = (device.put(&g), device.put(&[*lr]));
        device.backend.sgd_step_f32(p, rate.all(), gradient.all(), v.all(), w.all()).unwrap();
        // A weight whose sign f32 may get wrong has no place here: its L1 term would be off by 2*l1.
        let near = truth.w.iter().zip(&truth.w_error).take(p.scales as usize).any(|(w, e)| *w != 0.0 && w.abs() <= *e);
        assert!(!near || p.l1 == 0.0, "seed {seed}: choose another, a scale is too near to 0");
        truth.step(p, f64::from(*lr), &array(count, &g));
        let what = |tensor: &str| format!("{} {tensor} after step {} of {p:?}", device.name, step + 1);
        close(&what("v"), &device.get(&v), &truth.v, &truth.v_error);
        close(&what("w"), &device.get(&w), &truth.w, &truth.w_error);
    }
}

/// Constants so large that another order of the terms cannot hide behind rounding.
fn steps_follow_the_recursion(device: &Device) {
    let sizes = (1usize..=300).prop_flat_map(|n| (Just(n), 0..=n));
    let constants = (0.0f32..0.99, 0.0f32..0.5, 0.0f32..0.5);
    let rates = proptest::collection::vec(0.001f32..0.2, 1..5);
    device.check((sizes, constants, rates, any::<u64>()), |((n, scales), (momentum, decay, l1), rates, seed)| {
        let p = Sgd { count: n as u32, scales: scales as u32, momentum, weight_decay: decay, l1 };
        follow(device, &p, &normal(seed, "w", n, 1.0), &rates, seed);
    });
}

/// Zero momenta before the first step give PyTorch's `v = d`, whatever the momentum factor.
fn the_first_step_is_the_gradient_itself(device: &Device) {
    let g = normal(3, "g", 100, 1.0);
    let p = Sgd { count: 100, scales: 0, momentum: 0.9, weight_decay: 0.0, l1: 0.0 };
    let (w, v, gradient) = (device.put(&[0.0f32; 100]), device.put(&[0.0f32; 100]), device.put(&g));
    device.backend.sgd_step_f32(&p, device.put(&[0.5f32]).all(), gradient.all(), v.all(), w.all()).unwrap();
    exact("v", &device.get(&v), &g);
    exact("w", &device.get(&w), &g.iter().map(|g| -0.5 * g).collect::<Vec<f32>>());
}

fn the_sub_gradient_at_zero_is_zero(device: &Device) {
    let start = coarse(5, "w", 64); // multiples of 1/2, zeros among them
    assert!(start.contains(&0.0));
    let p = Sgd { count: 64, scales: 60, momentum: 0.0, weight_decay: 0.0, l1: 0.25 };
    let (w, v, gradient) = (device.put(&start), device.put(&[0.0f32; 64]), device.put(&[0.0f32; 64]));
    device.backend.sgd_step_f32(&p, device.put(&[1.0f32]).all(), gradient.all(), v.all(), w.all()).unwrap();
    let moved = |(i, w): (usize, &f32)| if i < 60 && *w != 0.0 { w - 0.25 * w.signum() } else { *w };
    exact("w", &device.get(&w), &start.iter().enumerate().map(moved).collect::<Vec<f32>>());
    let minus_zero = Sgd { count: 1, scales: 1, ..p };
    let (w, v, gradient) = (device.put(&[-0.0f32]), device.put(&[0.0f32]), device.put(&[0.0f32]));
    device.backend.sgd_step_f32(&minus_zero, device.put(&[1.0f32]).all(), gradient.all(), v.all(), w.all()).unwrap();
    exact("-0", &device.get::<f32>(&w), &[0.0]);
}

fn scales_end_in_the_middle_of_a_task(device: &Device) {
    for scales in [0, 1, 32_767, 32_768, 32_769, 40_000] {
        let p = Sgd { count: 40_000, scales, momentum: 0.9, weight_decay: 0.02, l1: 0.03 };
        // Far from zero: no sign may change.
        let start: Vec<f32> = normal(7, "w", 40_000, 1.0).iter().map(|w| w + 8.0 * w.signum()).collect();
        follow(device, &p, &start, &[0.1, 0.01], 7);
    }
}
