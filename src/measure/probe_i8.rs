//! The 8-bit operators for [`super::probe`], and the bytes of a whole 8-bit layer: at shapes that are small and fill the blocks of every tile.

use super::operands::Content;
use super::probe::{Counted, Rig};
use crate::Result;
use crate::backend::{Backend, Int8, Memory};
use crate::ops::Kernel;
use crate::ops::batchnorm::{BatchNormBwdStreamI8, BatchNormI8};
use crate::ops::batchnorm_add::{BatchNormAddGradI8, BatchNormAddI8};
use crate::ops::conv2d::{Conv2d, Conv2dI8, Conv2dStreamI8};
use crate::ops::pool::Pool;
use crate::ops::quantize::{Dequantize, Form, Noise, Quantize, QuantizeGradient, Store};
use crate::ops::sgd::{Segment, Sgd, SgdI8};
use crate::quant::layout::pad;

const NOISE: Noise = Noise { seed: [1, 2], tensor: 3, stochastic: 1 };

/// A square convolution that keeps the size, or halves it with `stride` 2.
fn conv(n: u32, side: u32, c: u32, k: u32, kernel: u32, stride: u32) -> Conv2dI8 {
    let out = (side + 2 * (kernel / 2) - kernel) / stride + 1;
    let conv = Conv2d {
        n,
        h: side,
        w: side,
        c,
        k,
        r: kernel,
        s: kernel,
        p: out,
        q: out,
        stride_h: stride,
        stride_w: stride,
        pad_h: kernel / 2,
        pad_w: kernel / 2,
    };
    Conv2dI8 { conv, noise: NOISE, wide: 0 }
}

/// A batchnorm with ReLU, with a pool of 2 x 2 or none.
fn batchnorm(n: u32, side: u32, c: u32, pooled: bool) -> BatchNormI8 {
    let kernel = if pooled { 2 } else { 0 };
    let out = if pooled { side / 2 } else { side };
    let pool = Pool {
        n,
        h: side,
        w: side,
        c,
        p: out,
        q: out,
        kernel_h: kernel,
        kernel_w: kernel,
        stride: if pooled { 2 } else { 1 },
        padding: 0,
    };
    BatchNormI8 {
        pool,
        eps: 1e-5,
        momentum: 0.1,
        relu: 1,
        gradient: Form::Stored as u32,
        add: 0,
        more: 0,
        dgrad: 1,
        noise: NOISE,
        dyd_tensor: 4,
        wide: 0,
    }
}

/// Operators that between them launch every 8-bit kernel of the backend.
fn operators() -> Vec<Kernel> {
    let mut all = Vec::new();
    // Tiles of 128 x 128, 128 x 64, 64 x 64 and 128 x 32, then any taps and strides.
    for p in [
        conv(2, 32, 128, 128, 3, 1),
        conv(1, 32, 64, 64, 3, 1),
        conv(1, 8, 64, 64, 3, 1),
        conv(1, 16, 32, 32, 3, 1),
        conv(1, 8, 16, 16, 13, 1),
    ] {
        all.extend([Kernel::Conv2dFwdI8(p), Kernel::Conv2dDgradI8(p)]);
        for form in [Form::Bfp16, Form::F32].map(|form| form as u32) {
            all.push(Kernel::Conv2dStreamI8(Conv2dStreamI8 { product: p, add: 1, other: form, form, store: 1 }));
        }
    }
    // One slice and several, and gradients of 16 bits.
    let wide = Conv2dI8 { wide: 1, ..conv(2, 16, 128, 128, 1, 1) };
    all.extend(
        [conv(2, 16, 128, 128, 3, 1), conv(8, 32, 128, 128, 1, 1), wide, conv(2, 32, 64, 64, 1, 1)]
            .map(Kernel::Conv2dWgradI8),
    );
    // Blocks of rows within images and across them, with a pool and without.
    for p in [batchnorm(8, 16, 64, false), batchnorm(8, 16, 64, true), batchnorm(64, 4, 64, false)] {
        all.extend([Kernel::BatchNormFwdI8(p), Kernel::BatchNormGradI8(p), Kernel::BatchNormBwdI8(p)]);
    }
    for (c, add, form) in [(64, 1, Form::Bfp16), (64, 1, Form::F32), (37, 0, Form::F32)] {
        let form = form as u32;
        let all_channels = BatchNormBwdStreamI8 { rows: 2048, c, add, other: form, form, select: 0, wide: c };
        all.push(Kernel::BatchNormBwdStreamI8(all_channels));
        // Every second channel of a stream.
        all.push(Kernel::BatchNormBwdStreamI8(BatchNormBwdStreamI8 { select: 1, wide: 2 * c, ..all_channels }));
    }
    // Blocks of rows within images and across them, streams and second batchnorms.
    for (n, pixels, both) in [(8, 256, 0), (8, 256, 1), (32, 49, 0)] {
        let (c, wide) = (64, Form::Bfp16 as u32);
        let (eps, momentum) = ([1e-5; 2], [0.1; 2]);
        let p = BatchNormAddI8 {
            n,
            pixels,
            c,
            eps,
            momentum,
            relu: 1,
            both,
            other: wide,
            form: wide,
            operand: 1,
            noise: NOISE,
        };
        all.push(Kernel::BatchNormAddFwdI8(p));
        let (rows, more) = (n * pixels, Form::Stored as u32);
        let up = if both == 1 { more } else { wide };
        let p = BatchNormAddGradI8 { rows, c, relu: 1, both, up, add: 1, more, stream: 1 - both, noise: NOISE };
        all.push(Kernel::BatchNormAddGradI8(p));
    }
    let (n, pixels, c) = (8, 256, 64);
    let both = [Form::F32, Form::Bfp16].map(|form| form as u32);
    all.extend(both.map(|form| Kernel::QuantizeFwdI8(Quantize { n, pixels, c, form, noise: NOISE })));
    all.extend([0, 1, 2].map(|stored| Kernel::DequantizeFwdI8(Dequantize { n, pixels, c, stored })));
    for (form, select) in [(Form::F32, 0), (Form::F32, 1), (Form::Bfp16, 0), (Form::Bfp16, 1)] {
        let rows = n * pixels;
        let p = Store { rows, c, form: form as u32, select, from: 2 * c, noise: NOISE };
        all.push(Kernel::QuantizeStoreI8(p));
    }
    let gradient = |form| QuantizeGradient { n, pixels, k: c, dgrad: 1, form, noise: NOISE, dyd_tensor: 4, wide: 0 };
    all.extend(both.map(|form| Kernel::QuantizeBwdI8(gradient(form))));
    all
}

/// What every 8-bit kernel counts.
///
/// # Errors
/// What the device says.
pub(super) fn probe(rig: &Rig) -> Result<Vec<Counted>> {
    let mut all = Vec::new();
    for kernel in operators() {
        all.extend(rig.operator(&kernel)?);
    }
    let plain = conv(1, 32, 64, 64, 3, 1);
    for p in [
        conv(2, 32, 128, 128, 3, 1),
        plain,
        conv(1, 8, 64, 64, 3, 1),
        conv(1, 16, 32, 32, 3, 1),
        conv(1, 8, 16, 16, 13, 1),
    ] {
        all.extend(dgrad(rig, &p)?);
    }
    all.extend(optimiser(rig)?);
    Ok(all)
}

/// The data gradient without a mask.
fn dgrad(rig: &Rig, p: &Conv2dI8) -> Result<Vec<Counted>> {
    use crate::backend::Bfp;
    let s = p.conv.padded();
    let (c, rows) = (p.conv.c as usize, (p.conv.n * p.conv.h * p.conv.w) as usize);
    let w = c * (s.r * s.s * s.k) as usize;
    let put = |bytes: usize| rig.put(bytes, Content::Bytes);
    let (dyd, ed, w_memory, step) = (put(s.y_len())?, put(s.n as usize)?, put(w)?, rig.put(4, Content::Labels(1))?);
    let blocks = crate::quant::layout::blocks(rows, c);
    let (dx, e) = (put(rows * pad(c))?, put(blocks)?);
    let none = step.span(0, 0)?;
    let summaries = rig.count(|| {
        let (dyd, dx) =
            (Bfp { mantissas: dyd.all(), exponents: ed.all() }, Bfp { mantissas: dx.all(), exponents: e.all() });
        rig.backend().conv2d_dgrad_i8(p, dyd, w_memory.all(), step.all(), None, dx, none)
    })?;
    let must = (s.y_len() + s.n as usize + w + 4, rows * pad(c) + blocks);
    Ok(summaries.into_iter().map(|summary| Counted { summary, compulsory: Some(must) }).collect())
}

/// The optimiser's step, and packing alone, on the weights of one convolution and one vector.
fn optimiser(rig: &Rig) -> Result<Vec<Counted>> {
    let (k, taps, c) = (64u32, 9u32, 64u32);
    let conv = Segment::conv(0, [k, taps, c], 0);
    let columns = conv.columns;
    let vector = Segment::plain(k * columns, 4096);
    let table = [conv, vector];
    let count = (k * columns + vector.columns) as usize;
    let p = SgdI8 {
        sgd: Sgd { count: count as u32, scales: 0, momentum: 0.9, weight_decay: 1e-4, l1: 0.0 },
        segments: 2,
        master_f32: 0,
        round_gradients: 1,
        seed: [1, 2],
        tensors: [5, 6, 7],
    };
    let packed = conv.packed();
    let (table_bytes, backend): (&[u8], _) = (bytemuck::cast_slice(&table), rig.backend());
    let table = backend.alloc(table_bytes.len())?;
    backend.upload(table_bytes, table.all())?;
    let float = |n: usize| rig.put(n * 4, Content::Noise);
    let (lr, step, g, v, w) = (float(1)?, rig.put(4, Content::Labels(1))?, float(count)?, float(count)?, float(count)?);
    let out: Memory = rig.put(packed, Content::Bytes)?;
    let mut counted = Vec::new();
    let summaries =
        rig.count(|| backend.sgd_step_i8(&p, table.all(), lr.all(), step.all(), g.all(), v.all(), w.all(), out.all()))?;
    let must = (table_bytes.len() + 8 + 3 * count * 4, 2 * count * 4 + packed);
    counted.extend(summaries.into_iter().map(|summary| Counted { summary, compulsory: Some(must) }));
    let summaries = rig.count(|| backend.sgd_pack_i8(&p, table.all(), step.all(), w.all(), out.all()))?;
    let weights = (k * columns) as usize * 4;
    let must = (table_bytes.len() + 4 + weights, weights + packed);
    counted.extend(summaries.into_iter().map(|summary| Counted { summary, compulsory: Some(must) }));
    Ok(counted)
}

/// Bytes from and to memory per output element of a training step of one layer, C = K, all five kernels: what each touches, each sector once (kernels.md 3: 13, and the
/// sums and weights on top).
///
/// # Errors
/// What the device says.
pub(super) fn layer_bytes(rig: &Rig) -> Result<f64> {
    // One tap and one slice of the weight gradient: weights and sums of slices, which do not grow with the batch, are small beside the rows.
    let (n, side, c) = (1, 32, 64);
    let (p, b) = (conv(n, side, c, c, 1, 1), batchnorm(n, side, c, false));
    let mut sectors = 0;
    for kernel in [
        Kernel::Conv2dFwdI8(p),
        Kernel::BatchNormFwdI8(b),
        Kernel::BatchNormBwdI8(b),
        Kernel::Conv2dDgradI8(p),
        Kernel::Conv2dWgradI8(p),
    ] {
        for counted in rig.operator(&kernel)? {
            let s = &counted.summary;
            sectors += s.global_read.footprint_sectors + s.global_write.footprint_sectors;
        }
    }
    Ok(32.0 * sectors as f64 / f64::from(n * side * side * c))
}
