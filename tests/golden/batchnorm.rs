//! Batch normalisation, with and without the fused ReLU, in training (forward, running statistics, gradients) and inference, against PyTorch in f64.
//!
//! The tolerances follow the rounding errors through the formula: of the mean (a sum of `rows` terms), of the variance, of `1/sqrt`, and of what is built on them.
//! They hold for a variance taken around the mean; one taken as E[x^2] - E[x]^2 in f32 fails the case with the large offset.

use earlybird::ops::Kernel;
use earlybird::ops::batchnorm::BatchNorm;

use super::device::Device;
use super::store::{Case, Golden, Tensor, U, sum_factor};

for_each_device!(batchnorm_agrees_with_pytorch_in_training_inference_and_gradients);

/// One channel: exact values and how far f32 may be from them.
#[derive(Default)]
struct Channel {
    mean: f64,
    mean_error: f64,
    var: f64,
    var_error: f64,
    invstd: f64,
    /// Relative.
    invstd_error: f64,
    /// Of (x - mean) * invstd.
    xhat_error: f64,
    /// Sums over dy behind the ReLU mask, and their errors.
    dbeta: f64,
    dbeta_error: f64,
    dgamma: f64,
    dgamma_error: f64,
}

struct Data {
    rows: usize,
    c: usize,
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    dy: Tensor,
    relu: bool,
}

impl Data {
    fn column<'a>(&'a self, t: &'a Tensor, j: usize) -> impl Iterator<Item = f64> + Clone + 'a {
        t.data.iter().skip(j).step_by(self.c).copied()
    }

    fn channel(&self, j: usize) -> Channel {
        let (rows, factor) = (self.rows as f64, sum_factor(self.rows));
        let x = self.column(&self.x, j);
        let mean = x.clone().sum::<f64>() / rows;
        let mean_error = factor * x.clone().map(f64::abs).sum::<f64>() / rows + U * mean.abs();
        let var = x.clone().map(|v| (v - mean).powi(2)).sum::<f64>() / rows;
        let var_error = (factor + 3.0 * U) * var + mean_error.powi(2);
        let invstd = 1.0 / (var + 1e-5).sqrt();
        let invstd_error = 0.5 * var_error / (var + 1e-5) + 4.0 * U;
        let widest = x.clone().map(|v| (v - mean).abs()).fold(0.0, f64::max);
        let xhat_error = invstd * (mean_error + widest * (invstd_error + 3.0 * U));
        let mut channel =
            Channel { mean, mean_error, var, var_error, invstd, invstd_error, xhat_error, ..Default::default() };
        let (mut sum_dy, mut sum_products) = (0.0, 0.0);
        for (x, dy) in x.zip(self.column(&self.dy, j)) {
            let xhat = (x - mean) * invstd;
            if self.relu && self.before_relu(j, xhat) <= 0.0 {
                continue;
            }
            channel.dbeta += dy;
            channel.dgamma += dy * xhat;
            sum_dy += dy.abs();
            sum_products += (dy * xhat).abs();
        }
        channel.dbeta_error = factor * sum_dy;
        channel.dgamma_error = factor * sum_products + sum_dy * xhat_error;
        channel
    }

    fn before_relu(&self, j: usize, xhat: f64) -> f64 {
        self.gamma.data[j] * xhat + self.beta.data[j]
    }
}

/// Bounds for y and dx, element by element. A value so close to 0 that rounding could flip the ReLU has no place in a golden file.
fn element_bounds(d: &Data, channels: &[Channel], id: &str) -> (Vec<f64>, Vec<f64>) {
    let rows = d.rows as f64;
    let (mut by, mut bdx) = (Vec::new(), Vec::new());
    for (i, (x, dy)) in d.x.data.iter().zip(&d.dy.data).enumerate() {
        let (j, c) = (i % d.c, &channels[i % d.c]);
        let (gamma, xhat) = (d.gamma.data[j].abs(), (x - c.mean) * c.invstd);
        // Folding into x*scale + shift rounds at the size of both terms.
        let folded = U * gamma * c.invstd * (x.abs() + c.mean.abs());
        let y = gamma * c.xhat_error + folded + 3.0 * U * (gamma * xhat.abs() + d.beta.data[j].abs());
        let before = d.before_relu(j, xhat);
        assert!(!d.relu || before.abs() > y, "{id}: {before} before the ReLU could go either way");
        by.push(y);
        let dy = if d.relu && before <= 0.0 { 0.0 } else { dy.abs() };
        let inner = dy + c.dbeta.abs() / rows + (xhat * c.dgamma).abs() / rows;
        let inner_error = c.dbeta_error / rows
            + xhat.abs() * c.dgamma_error / rows
            + c.xhat_error * c.dgamma.abs() / rows
            + 6.0 * U * inner;
        bdx.push(gamma * c.invstd * (inner_error + (c.invstd_error + 2.0 * U) * inner));
    }
    (by, bdx)
}

fn normalise(device: &Device, case: &Case) {
    let [n, c, h, w] = ["n", "c", "h", "w"].map(|key| case.size(key));
    let rows = n * h * w;
    let d = Data {
        rows,
        c,
        x: case.tensor("x").channels_last(),
        gamma: case.tensor("gamma"),
        beta: case.tensor("beta"),
        dy: case.tensor("dy").channels_last(),
        relu: case.flag("relu"),
    };
    let p = BatchNorm { rows: rows as u32, c: c as u32, eps: 1e-5, momentum: 0.1, relu: u32::from(d.relu) };
    let channels: Vec<Channel> = (0..c).map(|j| d.channel(j)).collect();
    let (by, bdx) = element_bounds(&d, &channels, case.id);
    let per_channel = |f: &dyn Fn(usize, &Channel) -> f64| -> Vec<f64> {
        channels.iter().enumerate().map(|(j, channel)| f(j, channel)).collect()
    };
    let (rm0, rv0) = (case.tensor("running_mean"), case.tensor("running_var"));
    let (x, gamma, beta) = (device.put(&d.x.f32()), device.put(&d.gamma.f32()), device.put(&d.beta.f32()));
    let (rm, rv) = (device.put(&rm0.f32()), device.put(&rv0.f32()));

    // Inference first: it reads the running statistics that training moves.
    let y = device.out(rows * c);
    device.backend.batchnorm_eval_f32(&p, x.all(), gamma.all(), beta.all(), rm.all(), rv.all(), y.all()).unwrap();
    let bound: Vec<f64> = (0..rows * c)
        .map(|i| {
            let scale = d.gamma.data[i % c].abs() / (rv0.data[i % c] + 1e-5).sqrt();
            8.0 * U * (scale * (d.x.data[i].abs() + rm0.data[i % c].abs()) + d.beta.data[i % c].abs())
        })
        .collect();
    case.close("y_eval", &device.get(&y), &case.tensor("y_eval").channels_last().data, &bound);

    let (y, mean, invstd) = (device.out(rows * c), device.out(c), device.out(c));
    let ws = device.workspace(&Kernel::BatchNormFwd(p));
    device
        .backend
        .batchnorm_fwd_f32(
            &p,
            x.all(),
            gamma.all(),
            beta.all(),
            rm.all(),
            rv.all(),
            y.all(),
            mean.all(),
            invstd.all(),
            ws.all(),
        )
        .unwrap();
    case.close("y", &device.get(&y), &case.tensor("y").channels_last().data, &by);
    let unbiased = rows as f64 / (rows as f64 - 1.0);
    let bound = per_channel(&|j, c| 0.1 * c.mean_error + 3.0 * U * (rm0.data[j].abs() + c.mean.abs()));
    case.close("running_mean", &device.get(&rm), &case.tensor("running_mean_after").data, &bound);
    let bound = per_channel(&|j, c| 0.1 * unbiased * c.var_error + 4.0 * U * (rv0.data[j] + c.var * unbiased));
    case.close("running_var", &device.get(&rv), &case.tensor("running_var_after").data, &bound);

    let (dy, dx) = (device.put(&d.dy.f32()), device.out(rows * c));
    let (dgamma, dbeta) = (device.out(c), device.out(c));
    let ws = device.workspace(&Kernel::BatchNormBwd(p));
    device
        .backend
        .batchnorm_bwd_f32(
            &p,
            x.all(),
            y.all(),
            gamma.all(),
            mean.all(),
            invstd.all(),
            dy.all(),
            dx.all(),
            dgamma.all(),
            dbeta.all(),
            ws.all(),
        )
        .unwrap();
    case.close("dx", &device.get(&dx), &case.tensor("dx").channels_last().data, &bdx);
    case.close(
        "dgamma",
        &device.get(&dgamma),
        &case.tensor("dgamma").data,
        &per_channel(&|_, c| c.dgamma_error + U * c.dgamma.abs()),
    );
    case.close("dbeta", &device.get(&dbeta), &case.tensor("dbeta").data, &per_channel(&|_, c| c.dbeta_error));

    // In place, as the lowered program calls it: dx over dy.
    let ws = device.workspace(&Kernel::BatchNormBwd(p));
    device
        .backend
        .batchnorm_bwd_f32(
            &p,
            x.all(),
            y.all(),
            gamma.all(),
            mean.all(),
            invstd.all(),
            dy.all(),
            dy.all(),
            dgamma.all(),
            dbeta.all(),
            ws.all(),
        )
        .unwrap();
    assert_eq!(device.get::<f32>(&dy), device.get::<f32>(&dx), "{}: in place", case.id);
}

fn batchnorm_agrees_with_pytorch_in_training_inference_and_gradients(device: &Device) {
    for case in Golden::open("ops").cases("batchnorm") {
        normalise(device, &case);
    }
}
