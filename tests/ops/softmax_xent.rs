//! softmax_xent: probabilities, running sums of loss and hits, gradient of the mean loss.

use earlybird::ops::Metrics;
use earlybird::ops::softmax_xent::SoftmaxXent;
use ndarray::{Array2, Axis};
use proptest::prelude::*;

use crate::device::Device;
use crate::oracle::{U, array, close, coarse, normal};

for_each_device!(
    random_logits_agree_with_the_definition,
    equal_logits_rank_by_class_number,
    large_logits_neither_overflow_nor_vanish
);

/// Whether the label is among the `top` first classes, ranked by falling logit and, among equals, by class number.
fn hit(logits: &[f64], label: usize, top: usize) -> bool {
    let mut ranking: Vec<usize> = (0..logits.len()).collect();
    ranking.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b)));
    ranking.iter().take(top).any(|class| *class == label)
}

fn agree(device: &Device, classes: usize, hx: &[f32], labels: &[u32]) {
    let n = labels.len();
    let logits = array((n, classes), hx);
    let (mut probs, mut dlogits, mut bound) =
        (Array2::<f64>::zeros((n, classes)), Array2::<f64>::zeros((n, classes)), Array2::<f64>::zeros((n, classes)));
    let (mut loss, mut loss_bound, mut top1, mut top5) = (0.0, 0.0, 0, 0);
    for (i, (row, label)) in logits.axis_iter(Axis(0)).zip(labels).enumerate() {
        let label = *label as usize;
        let largest = row.iter().copied().fold(f64::MIN, f64::max);
        let sum: f64 = row.iter().map(|v| (v - largest).exp()).sum();
        for (j, logit) in row.iter().enumerate() {
            let p = (logit - largest).exp() / sum;
            probs[(i, j)] = p;
            dlogits[(i, j)] = (p - f64::from(u8::from(j == label))) / n as f64;
            // `logit - largest` is rounded, which exp turns into a relative error; the exponential and the sum of the classes add theirs. f32 knows
            // nothing below 1.2e-38.
            bound[(i, j)] = p * U * (2.0 * (largest - logit) + classes as f64 + 8.0) + 1.2e-38;
        }
        loss += sum.ln() - (row[label] - largest);
        loss_bound += U * (4.0 * (largest - row[label]) + 2.0 * sum.ln() + classes as f64 + 8.0);
        top1 += u64::from(hit(row.as_slice().unwrap(), label, 1));
        top5 += u64::from(hit(row.as_slice().unwrap(), label, 5));
    }
    let p = SoftmaxXent { n: n as u32, classes: classes as u32 };
    let what = |tensor: &str| format!("{} {tensor} of {p:?}, labels {labels:?}", device.name);
    let (x, labels, metrics) = (device.put(hx), device.put(labels), device.put(&[Metrics::default()]));
    let (out, dx) = (device.out(n * classes), device.out(n * classes));
    for _ in 0..2 {
        device.backend.softmax_xent_fwd_f32(&p, x.all(), labels.all(), out.all(), metrics.all()).unwrap();
    }
    device.backend.softmax_xent_bwd_f32(&p, out.all(), labels.all(), dx.all()).unwrap();
    close(&what("probs"), &device.get(&out), &probs, &bound);
    let gradient_bound = bound / n as f64 + dlogits.mapv(|d| 3.0 * U * (d.abs() + 1.0 / n as f64));
    close(&what("dlogits"), &device.get(&dx), &dlogits, &gradient_bound);
    // Both runs were added up.
    let sums = device.backend.take_metrics(metrics.all()).unwrap();
    let off = (sums.loss_sum - 2.0 * loss).abs();
    assert!(off <= 2.0 * loss_bound, "{}: {} for {}", what("loss"), sums.loss_sum, 2.0 * loss);
    assert_eq!((sums.top1, sums.top5, sums.count), (2 * top1, 2 * top5, 2 * n as u64), "{}", what("hits"));
    assert_eq!(device.get::<Metrics>(&metrics), [Metrics::default()], "{}", what("metrics after they were taken"));
}

fn inputs() -> impl Strategy<Value = (usize, Vec<u32>, u64)> {
    let sizes = (1usize..=9, prop_oneof![2usize..=12, Just(37), Just(100), Just(1000)], any::<u64>());
    sizes.prop_flat_map(|(n, classes, seed)| {
        (Just(classes), proptest::collection::vec(0..classes as u32, n), Just(seed))
    })
}

fn random_logits_agree_with_the_definition(device: &Device) {
    device.check((inputs(), 0.01f64..20.0), |((classes, labels, seed), scale)| {
        agree(device, classes, &normal(seed, "logits", labels.len() * classes, scale), &labels);
    });
}

fn equal_logits_rank_by_class_number(device: &Device) {
    agree(device, 10, &[0.5; 30], &[0, 4, 5]);
    device.check(inputs(), |(classes, labels, seed)| {
        agree(device, classes, &coarse(seed, "logits", labels.len() * classes), &labels);
    });
}

fn large_logits_neither_overflow_nor_vanish(device: &Device) {
    agree(device, 3, &[1e30, 0.0, -1e30, 1000.0, 999.0, -1000.0], &[0, 1]);
    agree(device, 2, &[0.0, 120.0], &[0]);
}
