//! Loss and optimiser step against PyTorch in f64.

use earlybird::ops::Metrics;
use earlybird::ops::sgd::Sgd;
use earlybird::ops::softmax_xent::SoftmaxXent;

use super::device::Device;
use super::store::{Golden, U};

for_each_device!(
    softmax_cross_entropy_agrees_with_pytorch_in_loss_hits_and_gradient,
    sgd_follows_pytorch_over_steps_with_l1_before_weight_decay_before_momentum,
);

/// Tolerance of a probability: the rounding of `logit - max` becomes a relative error of its exponential; the sum over the classes adds its own.
fn softmax_cross_entropy_agrees_with_pytorch_in_loss_hits_and_gradient(device: &Device) {
    for case in Golden::open("ops").cases("softmax_xent") {
        let (n, classes) = (case.size("n"), case.size("classes"));
        let p = SoftmaxXent { n: n as u32, classes: classes as u32 };
        let logits = case.tensor("logits");
        let labels: Vec<u32> = case.tensor("labels").data.iter().map(|l| *l as u32).collect();
        let (bl, by) = (device.put(&logits.f32()), device.put(&labels));
        let (probs, dlogits) = (device.out(n * classes), device.out(n * classes));
        let metrics = device.put(&[Metrics::default()]);
        device.backend.softmax_xent_fwd_f32(&p, bl.all(), by.all(), probs.all(), metrics.all()).unwrap();

        let want = case.tensor("probs");
        let (mut bound, mut loss_bound) = (Vec::new(), 0.0);
        for (row, chunk) in logits.data.chunks_exact(classes).enumerate() {
            let top = chunk.iter().copied().fold(f64::MIN, f64::max);
            for (j, logit) in chunk.iter().enumerate() {
                let relative = U * (2.0 * (top - logit) + classes as f64 + 8.0);
                // f32 knows nothing below 1e-38: such a probability may be 0.
                bound.push(want.data[row * classes + j] * relative + 2e-38);
            }
            let label = labels[row] as usize;
            loss_bound += U * (4.0 * (top - chunk[label]).abs() + classes as f64 + 8.0);
        }
        case.close("probs", &device.get(&probs), &want.data, &bound);
        let got = device.backend.take_metrics(metrics.all()).unwrap();
        let loss = case.tensor("loss").data[0] * n as f64;
        assert!((got.loss_sum - loss).abs() <= loss_bound, "{}: loss sum {} for {loss}", case.id, got.loss_sum);
        let counts = (got.top1 as usize, got.top5 as usize, got.count as usize);
        assert_eq!(counts, (case.size("top1"), case.size("top5"), n), "{}: hits", case.id);
        assert_eq!(device.backend.take_metrics(metrics.all()).unwrap(), Metrics::default(), "taken is zeroed");

        device.backend.softmax_xent_bwd_f32(&p, probs.all(), by.all(), dlogits.all()).unwrap();
        let want = case.tensor("dlogits");
        let bound: Vec<f64> =
            bound.iter().zip(&want.data).map(|(b, d)| b / n as f64 + 3.0 * U * (d.abs() + 1.0 / n as f64)).collect();
        case.close("dlogits", &device.get(&dlogits), &want.data, &bound);
    }
}

/// Tolerance: each step's roundings, carried through the recursion of `v` and `w` with the errors of the steps before.
fn sgd_follows_pytorch_over_steps_with_l1_before_weight_decay_before_momentum(device: &Device) {
    for case in Golden::open("ops").cases("sgd") {
        let (steps, count, scales) = (case.size("steps"), case.size("count"), case.size("scales"));
        let [momentum, decay, l1] = ["momentum", "weight_decay", "l1"].map(|key| case.number(key));
        let p = Sgd {
            count: count as u32,
            scales: scales as u32,
            momentum: momentum as f32,
            weight_decay: decay as f32,
            l1: l1 as f32,
        };
        let (start, g) = (case.tensor("w"), case.tensor("g"));
        let (want_v, want_w) = (case.tensor("v_after"), case.tensor("w_after"));
        let (w, v) = (device.put(&start.f32()), device.put(&vec![0.0f32; count]));
        let (mut w_error, mut v_error) = (vec![0.0; count], vec![0.0; count]);
        for (step, rate) in case.list("rates").into_iter().enumerate() {
            assert!(step < steps);
            let now = step * count..(step + 1) * count;
            let gradient = device.put(&g.f32()[now.clone()]);
            let lr = device.put(&[rate as f32]);
            device.backend.sgd_step_f32(&p, lr.all(), gradient.all(), v.all(), w.all()).unwrap();
            for i in 0..count {
                let at = |t: &[f64]| t[now.start + i].abs();
                let before_w = if step == 0 { start.data[i].abs() } else { want_w.data[now.start - count + i].abs() };
                let before_v = if step == 0 { 0.0 } else { want_v.data[now.start - count + i].abs() };
                let l1 = if i < scales { l1 } else { 0.0 };
                let size = momentum * before_v + at(&g.data) + l1 + decay * before_w;
                v_error[i] = momentum * v_error[i] + decay * w_error[i] + 5.0 * U * size;
                w_error[i] += rate * v_error[i] + 3.0 * U * (rate * at(&want_v.data) + before_w);
            }
            case.close(&format!("v after step {}", step + 1), &device.get(&v), &want_v.data[now.clone()], &v_error);
            case.close(&format!("w after step {}", step + 1), &device.get(&w), &want_w.data[now], &w_error);
        }
    }
}
