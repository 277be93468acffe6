//! Cases of the kernels behind operators: each runs all shapes of its operator, so that every variant (`_any`, `_small`) comes to its turn. Buffers are as large as
//! they must be, outputs and scratch memory full of NaN before.

use earlybird::backend::{AugmentSource, Backend};
use earlybird::driver::{DevPtr, Dims, StreamId};
use earlybird::ops::Kernel;
use earlybird::ops::add::Add;
use earlybird::ops::advance::{Advance, StepState};
use earlybird::ops::augment::Augment;
use earlybird::ops::batchnorm::BatchNorm;
use earlybird::ops::classifier::Classifier;
use earlybird::ops::conv2d::{Conv2d, Conv2dAttr};
use earlybird::ops::linear::Linear;
use earlybird::ops::pool::Pool;
use earlybird::ops::relu::Relu;
use earlybird::ops::select::Select;
use earlybird::ops::sgd::Sgd;
use earlybird::ops::softmax_xent::SoftmaxXent;
use earlybird::ops::{Metrics, Shape};

use crate::bench::{Bench, Case, Outcome, at, floats, noise};

/// The case of an operator's kernel.
pub fn case(kernel: &str) -> Option<Case> {
    let starts = |stem: &str| kernel.starts_with(stem);
    Some(match kernel {
        _ if starts("add_") => add,
        _ if starts("relu_") => relu,
        _ if starts("conv2d_fwd") => conv2d_fwd,
        _ if starts("conv2d_dgrad") => conv2d_dgrad,
        _ if starts("conv2d_wgrad") => conv2d_wgrad,
        _ if starts("batchnorm_") => batchnorm,
        _ if starts("maxpool_") => maxpool,
        _ if starts("avgpool_") => avgpool,
        _ if starts("linear_") => linear,
        _ if starts("select_") => select,
        _ if starts("softmax_xent_") => softmax_xent,
        _ if starts("classifier_") => classifier,
        _ if starts("sgd_") => sgd,
        _ if starts("augment_") => augment,
        _ if starts("advance_") => advance,
        _ => return None,
    })
}

/// Sizes of elementwise operators: less than one vector, off a multiple, more than one block.
const SIZES: [usize; 4] = [3, 37, 1030, 1283];

fn add(b: &Bench) -> Outcome {
    for n in b.each(SIZES) {
        let (x, y, z) = (b.floats(n)?, b.bytes(&floats(n + 5)[20..])?, b.room(n)?);
        b.cuda.add_fwd_f32(&Add { n: n as u32 }, x.all(), y.all(), z.all())?;
        b.take(&[&z])?;
    }
    Ok(())
}

fn relu(b: &Bench) -> Outcome {
    for n in b.each(SIZES) {
        let p = Relu { n: n as u32 };
        let (x, y, dy, dx) = (b.floats(n)?, b.room(n)?, b.floats(n)?, b.room(n)?);
        b.cuda.relu_fwd_f32(&p, x.all(), y.all())?;
        b.cuda.relu_bwd_f32(&p, y.all(), dy.all(), dx.all())?;
        b.take(&[&y, &dx])?;
    }
    Ok(())
}

/// Shapes of convolutions: (n, side, c, k, kernel, stride, padding). Wide channels and others; tiles and slices that are not full; and rows that end one past
/// a multiple of four, in the first slice and in a later one, so that the last row's reads past its end are reads past the buffer's.
const CONVOLUTIONS: [(usize, usize, usize, usize, usize, usize, usize); 35] = [
    (2, 7, 4, 8, 3, 1, 1),
    (1, 6, 3, 5, 3, 2, 1),
    (2, 5, 20, 36, 1, 1, 0),
    (1, 9, 8, 68, 3, 2, 0),
    (1, 6, 4, 7, 3, 1, 1),
    (1, 6, 3, 8, 3, 1, 1),
    (1, 5, 5, 6, 3, 1, 1),
    (1, 4, 5, 6, 1, 1, 0),
    (1, 4, 4, 4, 1, 1, 0),
    (1, 5, 4, 4, 3, 1, 1),
    (1, 5, 5, 3, 3, 1, 1),
    (1, 4, 5, 3, 1, 1, 0),
    (1, 3, 4, 8, 1, 1, 0),
    (2, 2, 3, 5, 1, 1, 0),
    (1, 3, 3, 5, 1, 1, 0),
    (5, 2, 3, 5, 1, 1, 0),
    (1, 5, 3, 5, 1, 1, 0),
    (1, 2, 4, 133, 1, 1, 0),
    (1, 9, 4, 69, 1, 1, 0),
    (1, 9, 4, 5, 1, 1, 0),
    (1, 5, 68, 4, 1, 1, 0),
    (1, 3, 68, 4, 1, 1, 0),
    (1, 2, 4, 8, 1, 1, 0),
    (1, 9, 4, 133, 1, 1, 0),
    (1, 9, 5, 69, 1, 1, 0),
    // Tiles that are full in one direction, with the last columns in their first half and in their second, one behind a multiple of four.
    (1, 12, 5, 5, 1, 1, 0),
    (1, 12, 37, 37, 1, 1, 0),
    (1, 12, 69, 69, 1, 1, 0),
    (1, 2, 5, 133, 1, 1, 0),
    (1, 2, 37, 133, 1, 1, 0),
    (1, 2, 21, 133, 1, 1, 0),
    (1, 2, 69, 133, 1, 1, 0),
    // Residue classes of pixels without taps, and without pixels.
    (1, 5, 5, 6, 1, 3, 0),
    (1, 5, 4, 8, 1, 3, 0),
    (1, 1, 4, 4, 1, 3, 0),
];

fn convolutions() -> Vec<Conv2d> {
    let one = |(n, side, c, k, kernel, stride, padding): (usize, usize, usize, usize, usize, usize, usize)| {
        let attr = Conv2dAttr::square(k, kernel, stride, padding);
        Conv2d::new(n, Shape::new(side, side, c), &attr).unwrap_or_else(|e| panic!("{e}"))
    };
    CONVOLUTIONS.into_iter().map(one).collect()
}

/// The large tile, which the backend takes for large products only.
fn large(rows: usize, columns: usize) -> Dims {
    Dims { grid: [rows.div_ceil(128) as u32, columns.div_ceil(128) as u32, 1], block: [256, 1, 1], shared: 0 }
}

fn conv2d_fwd(b: &Bench) -> Outcome {
    for p in b.each(convolutions()) {
        let (x, w, shift) = (b.floats(p.x_len())?, b.floats(p.w_len())?, b.floats(p.k as usize)?);
        let ws = b.cuda.alloc(0)?;
        for bias in [true, false] {
            let y = b.room(p.y_len())?;
            b.cuda.conv2d_fwd_f32(&p, x.all(), w.all(), bias.then(|| shift.all()), y.all(), ws.all())?;
            b.take(&[&y])?;
            if p.c.is_multiple_of(4) {
                let z = b.room(p.y_len())?;
                let dims = large(p.rows(), p.k as usize);
                let shift = if bias { at(&shift) } else { DevPtr::NULL };
                b.kernels.conv2d_fwd_f32(dims, StreamId::DEFAULT, &p, at(&x), at(&w), shift, at(&z))?;
                b.take(&[&z])?;
            }
        }
    }
    Ok(())
}

fn conv2d_dgrad(b: &Bench) -> Outcome {
    for p in b.each(convolutions()) {
        let (dy, w, dx) = (b.floats(p.y_len())?, b.floats(p.w_len())?, b.room(p.x_len())?);
        let ws = b.cuda.alloc(0)?;
        b.cuda.conv2d_dgrad_f32(&p, dy.all(), w.all(), dx.all(), ws.all())?;
        b.take(&[&dx])?;
        if p.c.is_multiple_of(4) && p.k.is_multiple_of(4) {
            let z = b.room(p.x_len())?;
            let mut dims = large(p.class_rows(), p.c as usize);
            dims.grid[2] = p.stride_h * p.stride_w;
            b.kernels.conv2d_dgrad_f32(dims, StreamId::DEFAULT, &p, at(&dy), at(&w), at(&z))?;
            b.take(&[&z])?;
        }
    }
    Ok(())
}

fn conv2d_wgrad(b: &Bench) -> Outcome {
    let mut shapes = convolutions();
    // Enough rows for two slices; enough output channels for the large tile.
    let attr = |k| Conv2dAttr::square(k, 1, 1, 0);
    shapes.extend(Conv2d::new(3, Shape::new(18, 19, 3), &attr(2)));
    shapes.extend(Conv2d::new(1, Shape::new(5, 5, 4), &attr(132)));
    shapes.extend(Conv2d::new(1, Shape::new(2, 2, 4), &attr(132)));
    shapes.extend(Conv2d::new(1, Shape::new(2, 2, 68), &attr(132)));
    for p in b.each(shapes) {
        let (x, dy, dw) = (b.floats(p.x_len())?, b.floats(p.y_len())?, b.room(p.w_len())?);
        let (dbias, ws) = (b.room(p.k as usize)?, b.scratch(&Kernel::Conv2dWgrad(p))?);
        b.cuda.conv2d_wgrad_f32(&p, x.all(), dy.all(), dw.all(), Some(dbias.all()), ws.all())?;
        b.take(&[&dw, &dbias])?;
    }
    Ok(())
}

fn batchnorm(b: &Bench) -> Outcome {
    // One row and three, so that lanes past the last column and rows past the last one read past the buffer.
    let shapes = [
        (37usize, 5usize, true),
        (70, 12, false),
        (600, 36, true),
        (3, 130, false),
        (1, 5, true),
        (1, 12, false),
        (3, 12, true),
    ];
    for (rows, c, relu) in b.each(shapes) {
        let p = BatchNorm { rows: rows as u32, c: c as u32, eps: 1e-5, momentum: 0.1, relu: u32::from(relu) };
        let (x, y, dy, dx) = (b.floats(rows * c)?, b.room(rows * c)?, b.floats(rows * c)?, b.room(rows * c)?);
        let [gamma, beta, running_mean] = [b.floats(c)?, b.floats(c)?, b.floats(c)?];
        let running_var = b.bytes(bytemuck::cast_slice(&vec![1.5f32; c]))?;
        let [mean, invstd, dgamma, dbeta] = [b.room(c)?, b.room(c)?, b.room(c)?, b.room(c)?];
        let ws = b.scratch(&Kernel::BatchNormFwd(p))?;
        b.cuda.batchnorm_fwd_f32(
            &p,
            x.all(),
            gamma.all(),
            beta.all(),
            running_mean.all(),
            running_var.all(),
            y.all(),
            mean.all(),
            invstd.all(),
            ws.all(),
        )?;
        b.take(&[&y, &mean, &invstd, &running_mean, &running_var])?;
        let ws = b.scratch(&Kernel::BatchNormBwd(p))?;
        b.cuda.batchnorm_bwd_f32(
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
        )?;
        b.take(&[&dx, &dgamma, &dbeta])?;
        let z = b.room(rows * c)?;
        let (rm, rv) = (running_mean.all(), running_var.all());
        b.cuda.batchnorm_eval_f32(&p, x.all(), gamma.all(), beta.all(), rm, rv, z.all())?;
        b.take(&[&z])?;
    }
    Ok(())
}

/// Windows: (n, side, c, kernel, stride, padding), with and without overlap, with rows that no window reaches.
fn pools() -> Vec<Pool> {
    let one = |(n, side, c, kernel, stride, padding): (u32, u32, u32, u32, u32, u32)| {
        let p = (side + 2 * padding - kernel) / stride + 1;
        Pool { n, h: side, w: side, c, p, q: p, kernel_h: kernel, kernel_w: kernel, stride, padding }
    };
    let shapes = [
        (2, 7, 4, 2, 2, 0),
        (1, 7, 5, 3, 2, 1),
        (1, 6, 8, 3, 1, 1),
        (3, 5, 3, 2, 3, 0),
        (3, 5, 4, 2, 3, 0),
        // Windows that tile the image: with a channel count of any kind, pixels behind the last window, a last block that is not full.
        (2, 7, 5, 2, 2, 0),
        (3, 9, 7, 2, 2, 0),
        (1, 7, 4, 5, 1, 2),
        (1, 7, 5, 5, 2, 2),
        (1, 7, 4, 7, 1, 3),
        (1, 7, 5, 7, 1, 3),
        // More blocks than pieces of rows; pixels too large to be staged.
        (1, 4, 501, 2, 2, 0),
        (1, 3, 4097, 2, 2, 0),
        (1, 2, 2051, 3, 1, 1),
        // The same with more than four columns.
        (1, 4, 165, 5, 1, 2),
    ];
    shapes.map(one).to_vec()
}

fn maxpool(b: &Bench) -> Outcome {
    for p in b.each(pools()) {
        let (n_x, n_y) = ((p.n * p.h * p.w * p.c) as usize, (p.n * p.p * p.q * p.c) as usize);
        let (x, y, index) = (b.floats(n_x)?, b.room(n_y)?, b.bytes(&vec![0xff; n_y])?);
        let (dy, dx) = (b.floats(n_y)?, b.room(n_x)?);
        b.cuda.maxpool_fwd_f32(&p, x.all(), y.all(), index.all())?;
        b.cuda.maxpool_bwd_f32(&p, index.all(), dy.all(), dx.all())?;
        b.take(&[&y, &index, &dx])?;
    }
    Ok(())
}

fn avgpool(b: &Bench) -> Outcome {
    for p in b.each(pools()) {
        let (n_x, n_y) = ((p.n * p.h * p.w * p.c) as usize, (p.n * p.p * p.q * p.c) as usize);
        let (x, y, dy, dx) = (b.floats(n_x)?, b.room(n_y)?, b.floats(n_y)?, b.room(n_x)?);
        b.cuda.avgpool_fwd_f32(&p, x.all(), y.all())?;
        b.cuda.avgpool_bwd_f32(&p, dy.all(), dx.all())?;
        b.take(&[&y, &dx])?;
    }
    Ok(())
}

fn linear(b: &Bench) -> Outcome {
    for (n, c, k) in b.each([(5usize, 9usize, 10usize), (300, 3, 3), (40, 4, 33)]) {
        let p = Linear { n: n as u32, c: c as u32, k: k as u32 };
        let (x, w, bias, y) = (b.floats(n * c)?, b.floats(k * c)?, b.floats(k)?, b.room(n * k)?);
        let (dy, dw, dbias) = (b.floats(n * k)?, b.room(k * c)?, b.room(k)?);
        b.cuda.linear_fwd_f32(&p, x.all(), w.all(), Some(bias.all()), y.all())?;
        b.cuda.linear_wgrad_f32(&p, x.all(), dy.all(), dw.all(), Some(dbias.all()))?;
        b.take(&[&y, &dw, &dbias])?;
    }
    Ok(())
}

fn select(b: &Bench) -> Outcome {
    for (rows, c, channels) in b.each([(7usize, 9usize, &[0u32, 2, 3, 8][..]), (300, 3, &[1]), (5, 70, &[0, 69])]) {
        let k = channels.len();
        let p = Select { rows: rows as u32, c: c as u32, k: k as u32 };
        let (x, index, y) = (b.floats(rows * c)?, b.words(channels)?, b.room(rows * k)?);
        let (dy, dx) = (b.floats(rows * k)?, b.room(rows * c)?);
        b.cuda.select_fwd_f32(&p, x.all(), index.all(), y.all())?;
        b.cuda.select_bwd_f32(&p, dy.all(), index.all(), dx.all())?;
        b.take(&[&y, &dx])?;
    }
    Ok(())
}

fn softmax_xent(b: &Bench) -> Outcome {
    // Rows that begin inside a sector and follow one another without a gap; a second round; rows too long to be held.
    for (n, classes) in b.each([(5usize, 10usize), (70, 3), (33, 100), (3, 159), (33, 320), (2, 330), (9, 29)]) {
        let p = SoftmaxXent { n: n as u32, classes: classes as u32 };
        let mut labels: Vec<u32> = noise(n).iter().map(|v| u32::from(*v) % classes as u32).collect();
        if classes == 100 || classes == 330 {
            labels[0] = u32::MAX; // no class: it must not be looked up, and makes the loss NaN
        }
        let (logits, labels, probs) = (b.floats(n * classes)?, b.words(&labels)?, b.room(n * classes)?);
        let (metrics, dlogits) = (b.bytes(bytemuck::bytes_of(&Metrics::default()))?, b.room(n * classes)?);
        b.cuda.softmax_xent_fwd_f32(&p, logits.all(), labels.all(), probs.all(), metrics.all())?;
        b.cuda.softmax_xent_bwd_f32(&p, probs.all(), labels.all(), dlogits.all())?;
        b.take(&[&probs, &metrics, &dlogits])?;
    }
    Ok(())
}

fn classifier(b: &Bench) -> Outcome {
    let int8 = b.cuda.int8()?;
    for (n, c, k, bias) in b.each([(5usize, 37usize, 10usize, 1u32), (70, 3, 3, 0), (33, 40, 50, 1), (2, 300, 130, 1)])
    {
        let p = Classifier { n: n as u32, c: c as u32, k: k as u32, bias };
        let mut labels: Vec<u32> = noise(n).iter().map(|v| u32::from(*v) % k as u32).collect();
        if k == 50 {
            labels[0] = u32::MAX; // no class: it must not be looked up, and makes the loss NaN
        }
        let (x, w, b_, labels) = (b.floats(n * c)?, b.floats(k * c)?, b.floats(k)?, b.words(&labels)?);
        let (logits, dlogits) = (b.room(n * k)?, b.room(n * k)?);
        let (losses, hits) = (b.room(n * 2)?, b.room(n)?);
        let (dx, dw, dbias) = (b.room(n * c)?, b.room(k * c)?, b.room(k)?);
        let metrics = b.bytes(bytemuck::bytes_of(&Metrics::default()))?;
        let (x, w, losses_, hits_) = (x.all(), w.all(), losses.all(), hits.all());
        int8.classifier_fwd_f32(&p, x, w, b_.all(), labels.all(), logits.all(), dlogits.all(), losses_, hits_)?;
        let (dx_, dw_, dbias_) = (dx.all(), dw.all(), dbias.all());
        int8.classifier_bwd_f32(&p, x, w, dlogits.all(), losses_, hits_, dx_, dw_, dbias_, metrics.all())?;
        b.take(&[&logits, &dlogits, &losses, &hits, &dx, &dw, &dbias, &metrics])?;
    }
    Ok(())
}

fn sgd(b: &Bench) -> Outcome {
    for (count, scales) in b.each([(3usize, 1u32), (37, 0), (1030, 9), (1283, 1283)]) {
        let p = Sgd { count: count as u32, scales, momentum: 0.9, weight_decay: 1e-2, l1: 0.5 };
        let lr = b.bytes(&0.1f32.to_le_bytes())?;
        let (g, v, w) = (b.floats(count)?, b.floats(count)?, b.floats(count)?);
        b.cuda.sgd_step_f32(&p, lr.all(), g.all(), v.all(), w.all())?;
        b.take(&[&v, &w])?;
    }
    Ok(())
}

fn augment(b: &Bench) -> Outcome {
    // (h, w, c, images, order, cursor): images in fours and not, in one block and two; entries that name no image, and an order that ends too early.
    let shapes = [
        (5u32, 3u32, 3u32, 3u32, &[2u32, 0, 1][..], 1u32),
        (4, 5, 1, 2, &[1, 2, 0, u32::MAX, 1], 1),
        (7, 4, 5, 2, &[1], 3),
        (45, 31, 3, 2, &[1, 0], 0),
        (46, 30, 3, 2, &[1, 0], 0),
    ];
    let ways = [(1, 1, 2), (0, 1, 1), (1, 0, 3)];
    let all = ways.into_iter().flat_map(|way| shapes.map(|shape| (way, shape)));
    for ((crop, flip, pad), (h, w, c, count, order, cursor)) in b.each(all) {
        let p = Augment { seed: [7, 8], n: 3, h, w, c, count, order: order.len() as u32, pad, crop, flip };
        let (images, labels) = (b.room(3 * p.elements())?, b.room(3)?);
        let state = StepState { epoch: 3, cursor, ..StepState::default() };
        let (data, known) = (b.bytes(&noise(count as usize * p.elements()))?, b.words(&[4, 9, 2][..count as usize])?);
        let (order, state) = (b.words(order)?, b.bytes(bytemuck::bytes_of(&state))?);
        let mean = b.bytes(bytemuck::cast_slice(&[0.25f32, 0.5, 0.75, 0.125, 1.5][..c as usize]))?;
        let from = AugmentSource {
            images: data.all(),
            labels: known.all(),
            order: order.all(),
            state: state.all(),
            mean: mean.all(),
            std: mean.all(),
        };
        b.cuda.augment_fwd_f32(&p, from, images.all(), labels.all())?;
        b.take(&[&images, &labels])?;
    }
    Ok(())
}

fn advance(b: &Bench) -> Outcome {
    // A log that goes round, a state whose place is behind the log's end, and none.
    for (slots, slot) in b.each([(3u32, 1u32), (2, 2), (0, 0)]) {
        let p = Advance { images: 5, steps: 1, slots };
        let state = StepState { step: u64::from(u32::MAX), epoch: 3, cursor: 7, lr: 0.5, slot };
        let sums = Metrics { loss_sum: 1.5, top1: 2, top5: 3, count: 4 };
        let (state, metrics) = (b.bytes(bytemuck::bytes_of(&state))?, b.bytes(bytemuck::bytes_of(&sums))?);
        let log = b.room(slots as usize * size_of::<Metrics>() / 4)?;
        for _ in 0..3 {
            b.cuda.advance_step_u64(&p, state.all(), metrics.all(), log.all())?;
            b.take(&[&state, &metrics, &log])?;
            b.cuda.upload(bytemuck::bytes_of(&sums), metrics.all())?;
        }
    }
    Ok(())
}
