//! Cases of the f32 operators. Shapes are small, take every kernel of an operator between them, and fill no tile: 13 and 37 channels cannot be read in fours, 128 take
//! the large tiles on a device of one multiprocessor.

use super::side::{Rule, Side, positive};
use super::{Case, Result};
use crate::Error;
use crate::backend::{AugmentSource, MaskSpans, Memory};
use crate::ops::add::Add;
use crate::ops::advance::{Advance, StepState};
use crate::ops::augment::Augment;
use crate::ops::batchnorm::BatchNorm;
use crate::ops::conv2d::{Conv2d, Conv2dAttr};
use crate::ops::linear::Linear;
use crate::ops::mask::Mask;
use crate::ops::pool::Pool;
use crate::ops::relu::Relu;
use crate::ops::select::Select;
use crate::ops::sgd::Sgd;
use crate::ops::softmax_xent::SoftmaxXent;
use crate::ops::{Kernel, Metrics, Shape};

/// All cases.
pub(super) fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for shape in CONVOLUTIONS {
        convolution(&mut all, shape);
    }
    for (rows, c, relu) in [(600, 64, 1), (300, 37, 1), (90, 8, 0)] {
        let p = BatchNorm { rows, c, eps: 1e-5, momentum: 0.1, relu };
        let name = |pass: &str| format!("batchnorm_{pass}_f32, {rows} rows of {c} channels");
        all.push(Case::operator(name("fwd"), move |s| batchnorm_fwd(s, p)));
        all.push(Case::operator(name("eval"), move |s| batchnorm_eval(s, p)));
        all.push(Case::operator(name("bwd"), move |s| batchnorm_bwd(s, p)));
    }
    for c in [8, 37] {
        for (window, stride, padding) in [(2, 2, 0), (3, 2, 1)] {
            pools(&mut all, pool(3, 9, c, window, stride, padding));
        }
        pools(&mut all, pool(2, 5, c, 5, 1, 0)); // over the whole image
    }
    for (n, c, k) in [(13, 70, 10), (130, 36, 132)] {
        linear(&mut all, Linear { n, c, k });
    }
    elementwise(&mut all);
    loss_and_step(&mut all);
    all.push(Case::operator("augment_fwd_f32".into(), augment));
    all.push(Case::operator("mask_step_f32".into(), masks));
    all
}

/// Batch, side, C, K, kernel, stride, padding.
type Convolution = (usize, usize, usize, usize, usize, usize, usize);

const CONVOLUTIONS: [Convolution; 6] = [
    (1, 10, 16, 132, 3, 1, 1), // large tiles of the output
    (1, 9, 132, 16, 3, 1, 1),  // and of the input
    (2, 9, 3, 20, 3, 2, 1),    // images
    (1, 8, 13, 37, 3, 1, 1),   // channels one by one
    (2, 24, 16, 32, 1, 1, 0),  // the weight gradient in slices
    (3, 2, 20, 36, 3, 1, 1),   // 2x2 images: most taps are padding
];

fn convolution(all: &mut Vec<Case>, shape: Convolution) {
    let (n, side, c, k, kernel, stride, padding) = shape;
    let attr = Conv2dAttr::square(k, kernel, stride, padding);
    let conv = move || -> Result<Conv2d> {
        Conv2d::new(n, Shape::new(side, side, c), &attr).map_err(|what| Error::Graph {
            node: "self-test".into(),
            op: "conv2d",
            what,
        })
    };
    let name = |pass: &str| format!("conv2d_{pass}_f32, {n}x{side}x{side}x{c} to {k}, {kernel}x{kernel} by {stride}");
    let taps = kernel * kernel;
    all.push(Case::operator(name("fwd"), move |s| {
        let p = conv()?;
        let (x, w, bias) = (s.noise(p.x_len(), 1)?, s.noise(p.w_len(), 2)?, s.noise(k, 3)?);
        let y = s.out("y", p.y_len() * 4, Rule::Sum(taps * c + 1))?;
        let ws = s.workspace(&Kernel::Conv2dFwd(p))?;
        s.backend.conv2d_fwd_f32(&p, x.all(), w.all(), Some(bias.all()), y.all(), ws.all())
    }));
    all.push(Case::operator(name("dgrad"), move |s| {
        let p = conv()?;
        let (dy, w) = (s.noise(p.y_len(), 1)?, s.noise(p.w_len(), 2)?);
        let dx = s.out("dx", p.x_len() * 4, Rule::Sum(taps * k))?;
        let ws = s.workspace(&Kernel::Conv2dDgrad(p))?;
        s.backend.conv2d_dgrad_f32(&p, dy.all(), w.all(), dx.all(), ws.all())
    }));
    all.push(Case::operator(name("wgrad"), move |s| {
        let p = conv()?;
        let (x, dy) = (s.noise(p.x_len(), 1)?, s.noise(p.y_len(), 2)?);
        let dw = s.out("dw", p.w_len() * 4, Rule::Sum(p.rows()))?;
        let ws = s.workspace(&Kernel::Conv2dWgrad(p))?;
        s.backend.conv2d_wgrad_f32(&p, x.all(), dy.all(), dw.all(), None, ws.all())
    }));
}

/// Four vectors with an element per channel.
fn per_channel<const N: usize>(s: &Side, c: u32) -> Result<[Memory; N]> {
    let mut seed = 10;
    let mut next = || {
        seed += 1;
        s.noise(c as usize, seed)
    };
    let all: Vec<Memory> = (0..N).map(|_| next()).collect::<Result<_>>()?;
    all.try_into().map_err(|_| Error::Graph { node: "self-test".into(), op: "batchnorm", what: "too few".into() })
}

fn batchnorm_fwd(s: &mut Side, p: BatchNorm) -> Result<()> {
    let (rows, c) = (p.rows as usize, p.c as usize);
    let (x, [gamma, beta]) = (s.noise(rows * c, 1)?, per_channel(s, p.c)?);
    let rule = Rule::Sum(rows);
    let y = s.out("y", rows * c * 4, rule)?;
    let (mean, invstd) = (s.out("mean", c * 4, rule)?, s.out("1/std", c * 4, rule)?);
    let running_mean = s.updated("running mean", &crate::data::noise(c, 5), rule)?;
    let running_var = s.updated("running variance", &positive(c, 6), rule)?;
    let ws = s.workspace(&Kernel::BatchNormFwd(p))?;
    let (x, gamma, beta, running) = (x.all(), gamma.all(), beta.all(), [running_mean.all(), running_var.all()]);
    s.backend.batchnorm_fwd_f32(&p, x, gamma, beta, running[0], running[1], y.all(), mean.all(), invstd.all(), ws.all())
}

fn batchnorm_eval(s: &mut Side, p: BatchNorm) -> Result<()> {
    let all = p.rows as usize * p.c as usize;
    let (x, [gamma, beta, mean]) = (s.noise(all, 1)?, per_channel(s, p.c)?);
    let (var, y) = (s.positive(p.c as usize, 6)?, s.out("y", all * 4, Rule::Sum(1))?);
    s.backend.batchnorm_eval_f32(&p, x.all(), gamma.all(), beta.all(), mean.all(), var.all(), y.all())
}

fn batchnorm_bwd(s: &mut Side, p: BatchNorm) -> Result<()> {
    let (rows, c) = (p.rows as usize, p.c as usize);
    let rule = Rule::Sum(rows);
    // The output only says where the ReLU was open: any numbers do.
    let (x, y, dy) = (s.noise(rows * c, 1)?, s.noise(rows * c, 2)?, s.noise(rows * c, 3)?);
    let [gamma, mean] = per_channel(s, p.c)?;
    let invstd = s.positive(c, 7)?;
    let dx = s.out("dx", rows * c * 4, rule)?;
    let (dgamma, dbeta) = (s.out("dgamma", c * 4, rule)?, s.out("dbeta", c * 4, rule)?);
    let ws = s.workspace(&Kernel::BatchNormBwd(p))?;
    let (x, y, dy, gamma, mean, invstd) = (x.all(), y.all(), dy.all(), gamma.all(), mean.all(), invstd.all());
    s.backend.batchnorm_bwd_f32(&p, x, y, gamma, mean, invstd, dy, dx.all(), dgamma.all(), dbeta.all(), ws.all())
}

fn pool(n: u32, side: u32, c: u32, window: u32, stride: u32, padding: u32) -> Pool {
    let out = (side + 2 * padding - window) / stride + 1;
    Pool { n, h: side, w: side, c, p: out, q: out, kernel_h: window, kernel_w: window, stride, padding }
}

fn pools(all: &mut Vec<Case>, p: Pool) {
    let pixels = |h: u32, w: u32| p.n as usize * h as usize * w as usize * p.c as usize;
    let (x_len, y_len, area) = (pixels(p.h, p.w), pixels(p.p, p.q), (p.kernel_h * p.kernel_w) as usize);
    let whole = p.kernel_h == p.h;
    let name = |kind: &str| format!("{kind}pool_f32, {0}x{0} by {1}, {2} channels", p.kernel_h, p.stride, p.c);
    all.push(Case::operator(name("max"), move |s| {
        let (x, dy) = (s.noise(x_len, 1)?, s.noise(y_len, 2)?);
        let (y, index) = (s.out("y", y_len * 4, Rule::Exact)?, s.out("index", y_len, Rule::Exact)?);
        s.backend.maxpool_fwd_f32(&p, x.all(), y.all(), index.all())?;
        let dx = s.out("dx", x_len * 4, Rule::Sum(area))?;
        s.backend.maxpool_bwd_f32(&p, index.all(), dy.all(), dx.all())
    }));
    all.push(Case::operator(name("avg"), move |s| {
        let (x, dy) = (s.noise(x_len, 1)?, s.noise(y_len, 2)?);
        let y = s.out("y", y_len * 4, Rule::Sum(area))?;
        let dx = s.out("dx", x_len * 4, Rule::Sum(area))?;
        if whole {
            s.backend.global_avgpool_fwd_f32(&p, x.all(), y.all())?;
            return s.backend.global_avgpool_bwd_f32(&p, dy.all(), dx.all());
        }
        s.backend.avgpool_fwd_f32(&p, x.all(), y.all())?;
        s.backend.avgpool_bwd_f32(&p, dy.all(), dx.all())
    }));
}

fn linear(all: &mut Vec<Case>, p: Linear) {
    let (n, c, k) = (p.n as usize, p.c as usize, p.k as usize);
    let name = |pass: &str| format!("linear_{pass}_f32, {n} rows of {c} to {k}");
    all.push(Case::operator(name("fwd"), move |s| {
        let (x, w, bias) = (s.noise(n * c, 1)?, s.noise(k * c, 2)?, s.noise(k, 3)?);
        let y = s.out("y", n * k * 4, Rule::Sum(c + 1))?;
        s.backend.linear_fwd_f32(&p, x.all(), w.all(), Some(bias.all()), y.all())
    }));
    all.push(Case::operator(name("dgrad"), move |s| {
        let (dy, w, dx) = (s.noise(n * k, 1)?, s.noise(k * c, 2)?, s.out("dx", n * c * 4, Rule::Sum(k))?);
        s.backend.linear_dgrad_f32(&p, dy.all(), w.all(), dx.all())
    }));
    all.push(Case::operator(name("wgrad"), move |s| {
        let (x, dy) = (s.noise(n * c, 1)?, s.noise(n * k, 2)?);
        let (dw, dbias) = (s.out("dw", k * c * 4, Rule::Sum(n))?, s.out("dbias", k * 4, Rule::Sum(n))?);
        s.backend.linear_wgrad_f32(&p, x.all(), dy.all(), dw.all(), Some(dbias.all()))
    }));
}

fn elementwise(all: &mut Vec<Case>) {
    // Whole blocks, and a rest that is no multiple of four.
    const N: usize = 2 * 1024 + 259;
    all.push(Case::operator("add_fwd_f32".into(), |s| {
        let (a, b, y) = (s.noise(N, 1)?, s.noise(N, 2)?, s.out("y", N * 4, Rule::Exact)?);
        s.backend.add_fwd_f32(&Add { n: N as u32 }, a.all(), b.all(), y.all())
    }));
    all.push(Case::operator("relu_f32".into(), |s| {
        let (p, x, dy) = (Relu { n: N as u32 }, s.noise(N, 1)?, s.noise(N, 2)?);
        let (y, dx) = (s.out("y", N * 4, Rule::Exact)?, s.out("dx", N * 4, Rule::Exact)?);
        s.backend.relu_fwd_f32(&p, x.all(), y.all())?;
        s.backend.relu_bwd_f32(&p, y.all(), dy.all(), dx.all())
    }));
    all.push(Case::operator("fill_u32".into(), |s| {
        let x = s.out("x", N * 4, Rule::Exact)?;
        s.backend.fill_f32(0.75, x.all())
    }));
    all.push(Case::operator("copy_u8".into(), |s| {
        let (x, y, z) = (s.noise(N, 1)?, s.out("y", N * 4, Rule::Exact)?, s.out("z", N * 4, Rule::Exact)?);
        s.backend.copy(x.all(), y.all())?;
        // Differently aligned, a byte at a time.
        s.backend.copy(x.span(4, 1000)?, z.span(8, 1000)?)
    }));
    for (rows, c, channels) in [(70, 16, vec![0u32, 3, 4, 9, 15]), (9, 37, vec![1, 2, 36])] {
        let p = Select { rows, c, k: channels.len() as u32 };
        all.push(Case::operator(format!("select_f32, {} of {c} channels", p.k), move |s| {
            let (wide, narrow) = ((p.rows * p.c) as usize, (p.rows * p.k) as usize);
            let (x, dy, index) = (s.noise(wide, 1)?, s.noise(narrow, 2)?, s.put(&channels)?);
            let (y, dx) = (s.out("y", narrow * 4, Rule::Exact)?, s.out("dx", wide * 4, Rule::Exact)?);
            s.backend.select_fwd_f32(&p, x.all(), index.all(), y.all())?;
            s.backend.select_bwd_f32(&p, dy.all(), index.all(), dx.all())
        }));
    }
}

fn loss_and_step(all: &mut Vec<Case>) {
    for (n, classes) in [(70u32, 10u32), (9, 100)] {
        let p = SoftmaxXent { n, classes };
        all.push(Case::operator(format!("softmax_xent_f32, {n} rows of {classes}"), move |s| {
            let (len, rule) = ((n * classes) as usize, Rule::Sum(classes as usize));
            let labels: Vec<u32> = (0..n).map(|i| i * 7 % classes).collect();
            let (logits, labels) = (s.noise(len, 1)?, s.put(&labels)?);
            let (probs, dlogits) = (s.out("probs", len * 4, rule)?, s.out("dlogits", len * 4, rule)?);
            let metrics = s.updated("metrics", &[Metrics::default()], Rule::Metrics)?;
            s.backend.softmax_xent_fwd_f32(&p, logits.all(), labels.all(), probs.all(), metrics.all())?;
            s.backend.softmax_xent_bwd_f32(&p, probs.all(), labels.all(), dlogits.all())
        }));
    }
    all.push(Case::operator("sgd_step_f32".into(), |s| {
        const N: usize = 1024 + 259;
        let p = Sgd { count: N as u32, scales: 100, momentum: 0.9, weight_decay: 1e-2, l1: 1e-1 };
        let (lr, g) = (s.put(&[0.1f32])?, s.noise(N, 1)?);
        let v = s.updated("v", &crate::data::noise(N, 2), Rule::Sum(1))?;
        let mut start = crate::data::noise(N, 3);
        start[7] = 0.0; // no sign
        let w = s.updated("w", &start, Rule::Sum(1))?;
        s.backend.sgd_step_f32(&p, lr.all(), g.all(), v.all(), w.all())
    }));
    all.push(Case::operator("advance_step_u64".into(), |s| {
        let p = Advance { images: 5, steps: 1, slots: 3 };
        let state = StepState { step: u64::from(u32::MAX), epoch: 2, cursor: 9, lr: 0.5, slot: 2 };
        let state = s.updated("state", &[state], Rule::Exact)?;
        let sums = Metrics { loss_sum: 1.5, top1: 1, top5: 2, count: 3 };
        let metrics = s.updated("metrics", &[sums], Rule::Exact)?;
        let log = s.out("log", 3 * size_of::<Metrics>(), Rule::Exact)?;
        s.backend.advance_step_u64(&p, state.all(), metrics.all(), log.all())
    }));
}

/// A batch from the middle of an order, padded, cropped and mirrored.
fn augment(s: &mut Side) -> Result<()> {
    let p = Augment { seed: [5, 6], n: 5, h: 7, w: 6, c: 3, count: 9, order: 8, pad: 2, crop: 1, flip: 1 };
    let pixels: Vec<u8> = (0..p.count as usize * p.elements()).map(|i| (i * 97 % 251) as u8).collect();
    let (images, labels) = (s.put(&pixels)?, s.put(&[3u32, 1, 4, 1, 5, 9, 2, 6, 5])?);
    let (order, state) =
        (s.put(&[8u32, 0, 3, 7, 1, 1, 6, 2])?, StepState { epoch: 3, cursor: 2, ..Default::default() });
    let (state, mean, std) = (s.put(&[state])?, s.put(&[0.5f32, 0.4, 0.3])?, s.put(&[0.25f32, 0.2, 0.3])?);
    let x = s.out("images", p.n as usize * p.elements() * 4, Rule::Exact)?;
    let y = s.out("labels", p.n as usize * 4, Rule::Exact)?;
    let from = AugmentSource {
        images: images.all(),
        labels: labels.all(),
        order: order.all(),
        state: state.all(),
        mean: mean.all(),
        std: std.all(),
    };
    s.backend.augment_fwd_f32(&p, from, x.all(), y.all())
}

/// Three draws on a ring of two earlier masks, from scales with ties, as 8-bit training leaves them.
fn masks(s: &mut Side) -> Result<()> {
    const N: usize = 1300;
    let mut p = Mask::new(N, &[0.3, 0.5, 0.9], 2)?;
    let bytes = p.lengths()?;
    let memory = s.put(&vec![0f32; N])?;
    let (ring, thresholds) =
        (s.out("ring", bytes.ring, Rule::Exact)?, s.out("thresholds", bytes.thresholds, Rule::Exact)?);
    let (distances, kept) =
        (s.out("distances", bytes.distances, Rule::Exact)?, s.out("kept", bytes.kept, Rule::Exact)?);
    for seed in 1..4 {
        let scales: Vec<f32> = crate::data::noise(N, seed).iter().map(|v| (v * 32.0).round() / 32.0).collect();
        s.backend.upload(bytemuck::cast_slice(&scales), memory.all())?;
        let spans = MaskSpans {
            scales: memory.all(),
            ring: ring.all(),
            thresholds: thresholds.all(),
            distances: distances.all(),
            kept: kept.all(),
        };
        s.backend.mask_step_f32(&p, spans)?;
        p = p.next();
    }
    Ok(())
}
