//! Cases of the 8-bit operators: every byte is the CPU's.

use super::side::{Rule, Side, bfp, positive};
use super::{Case, Result};
use crate::Error;
use crate::backend::{BatchNormGradients, BatchNormInput, BatchNormState, Bfp, Memory, Normalised, Summand};
use crate::data::noise;
use crate::ops::batchnorm::{BatchNormBwdStreamI8, BatchNormI8, GradientSums, OutputSums};
use crate::ops::batchnorm_add::{BatchNormAddGradI8, BatchNormAddI8, mask_bytes};
use crate::ops::classifier::Classifier;
use crate::ops::conv2d::{Conv2d, Conv2dAttr, Conv2dI8, Conv2dStreamI8};
use crate::ops::pool::Pool;
use crate::ops::quantize::{Dequantize, Form, Noise, Quantize, QuantizeGradient, Round, Store};
use crate::ops::sgd::{Format, Segment, Sgd, SgdI8};
use crate::ops::{Kernel, Metrics, Shape};
use crate::quant::layout::{BLOCK_ROWS, blocks, pad};
use crate::quant::philox::Stream;

/// All cases.
pub(super) fn cases() -> Vec<Case> {
    let mut all = vec![Case::operator("quantize_i8".into(), conversions)];
    for shape in CONVOLUTIONS {
        let (n, side, c, k, kernel, stride, _) = shape;
        let name = format!("conv2d_i8, {n}x{side}x{side}x{c} to {k}, {kernel}x{kernel} by {stride}");
        for (pass, body) in PASSES {
            all.push(Case::operator(format!("{name}, {pass}"), move |s| body(s, convolution(shape)?)));
        }
    }
    for layer in LAYERS {
        let (n, h, w, c, window) = layer;
        let name = format!("batchnorm_i8, {n}x{h}x{w}x{c}, window {window}");
        all.push(Case::operator(name, move |s| batchnorm(s, layer)));
    }
    for (n, pixels, c) in [(2, 128, 37), (3, 35, 48), (9, 4, 16)] {
        let name = format!("batchnorm_add_i8, {n} images of {pixels} x {c}");
        all.push(Case::operator(name, move |s| batchnorm_add(s, (n, pixels, c))));
    }
    for (n, c, k) in [(5, 37, 10), (9, 33, 70)] {
        let p = Classifier { n, c, k, bias: 1 };
        all.push(Case::operator(format!("classifier_f32, {n} rows of {c} to {k}"), move |s| classifier(s, p)));
    }
    all.push(Case::operator("sgd_i8".into(), optimiser));
    all
}

/// How the tensor of this number is rounded.
fn rounding(tensor: u32) -> Noise {
    Noise { seed: [0x1234_5678, 0xfedc_ba98], tensor, stochastic: 1 }
}

/// The step counter: any number.
fn step(s: &Side) -> Result<Memory> {
    s.put(&[17u32])
}

fn small_integers(n: usize, seed: u64, low: i32, high: i32) -> Vec<i8> {
    let mut stream = Stream::new(seed, 8);
    (0..n).map(|_| (low + stream.below((high - low + 1) as u32) as i32) as i8).collect()
}

fn exponents(s: &Side, n: usize, seed: u64) -> Result<Memory> {
    s.put(&small_integers(n, seed, -9, 5))
}

/// Rows of mantissas; padded channels are 0.
fn mantissas(s: &Side, rows: usize, c: usize, seed: u64) -> Result<Memory> {
    let mut all = small_integers(rows * pad(c), seed, -127, 127);
    all.chunks_exact_mut(pad(c)).for_each(|row| row[c..].fill(0));
    s.put(&all)
}

/// A tensor of `rows` x `c` in f32 or 16 bits: elements and exponents.
fn stream_of(s: &Side, form: Form, rows: usize, c: usize, seed: u64) -> Result<[Memory; 2]> {
    if form == Form::F32 {
        return Ok([s.noise(rows * c, seed)?, s.put::<i8>(&[])?]);
    }
    let mut random = Stream::new(seed, 8);
    let mut all: Vec<i16> = (0..rows * pad(c)).map(|_| (random.below(65_535) as i32 - 32_767) as i16).collect();
    all.chunks_exact_mut(pad(c)).for_each(|row| row[c..].fill(0));
    Ok([s.put(&all)?, exponents(s, blocks(rows, c), seed)?])
}

/// Room for such a tensor.
fn stream_out(s: &mut Side, form: Form, rows: usize, c: usize) -> Result<[Memory; 2]> {
    let [elements, exponents] = form.bytes(rows, c);
    Ok([s.out("stream", elements, Rule::Exact)?, s.out("its exponents", exponents, Rule::Exact)?])
}

/// Every second of `c` channels from the second on, and the last.
fn every_second(c: usize) -> Vec<u32> {
    (0..c as u32).filter(|channel| channel % 2 == 1 || *channel == c as u32 - 1).collect()
}

fn sums_bytes<T>(rows: usize, c: usize) -> usize {
    rows.div_ceil(BLOCK_ROWS) * pad(c) * size_of::<T>()
}

fn conversions(s: &mut Side) -> Result<()> {
    let (n, pixels, c) = (3usize, 50usize, 37usize);
    let (rows, step, i8) = (n * pixels, step(s)?, s.backend.int8()?);
    let x = s.noise(rows * c, 1)?;
    let [images, per_image, channels] = [n, pixels, c].map(|v| v as u32);
    let rounded = s.updated("rounded", &noise(rows * c, 9), Rule::Exact)?;
    i8.quantize_round_i8(
        &Round { groups: images, length: per_image * channels, noise: rounding(9) },
        step.all(),
        rounded.all(),
    )?;
    let (q, e) = (s.out("operand", rows * pad(c), Rule::Exact)?, s.out("its exponents", n, Rule::Exact)?);
    let p = Quantize { n: images, pixels: per_image, c: channels, form: 0, noise: rounding(5) };
    i8.quantize_fwd_i8(&p, Bfp::f32(x.all()), step.all(), bfp(&q, &e))?;
    let back = s.out("operand in f32", rows * c * 4, Rule::Exact)?;
    let p = Dequantize { n: images, pixels: per_image, c: channels, stored: 0 };
    i8.dequantize_fwd_i8(&p, bfp(&q, &e), back.all())?;

    let (q, e) = (s.out("stored", rows * pad(c), Rule::Exact)?, s.out("its exponents", blocks(rows, c), Rule::Exact)?);
    let sums = s.out("sums", sums_bytes::<OutputSums>(rows, c), Rule::Exact)?;
    let (p, none) = (Store::all(rows, c, rounding(6)), step.span(0, 0)?);
    i8.quantize_store_i8(&p, Bfp::f32(x.all()), none, step.all(), bfp(&q, &e), sums.all())?;
    for form in [Form::F32, Form::Bfp16] {
        // Some channels of a stream.
        let ([x, xe], own) = (stream_of(s, form, rows, c, 11)?, every_second(c));
        let index = s.put(&own)?;
        let c = own.len();
        let p = Store { c: c as u32, form: form as u32, select: 1, ..p };
        let (q, e) =
            (s.out("gathered", rows * pad(c), Rule::Exact)?, s.out("its exponents", blocks(rows, c), Rule::Exact)?);
        let sums = s.out("its sums", sums_bytes::<OutputSums>(rows, c), Rule::Exact)?;
        i8.quantize_store_i8(&p, bfp(&x, &xe), index.all(), step.all(), bfp(&q, &e), sums.all())?;
    }
    let back = s.out("stored in f32", rows * c * 4, Rule::Exact)?;
    let p = Dequantize { n: images, pixels: per_image, c: channels, stored: 1 };
    i8.dequantize_fwd_i8(&p, bfp(&q, &e), back.all())?;

    let [wide, wide_exponents] = stream_of(s, Form::Bfp16, rows, c, 4)?;
    let back = s.out("16 bits in f32", rows * c * 4, Rule::Exact)?;
    let p = Dequantize { n: images, pixels: per_image, c: channels, stored: Form::Bfp16 as u32 };
    i8.dequantize_fwd_i8(&p, bfp(&wide, &wide_exponents), back.all())?;
    let (q, e) = (s.out("operand of 16 bits", rows * pad(c), Rule::Exact)?, s.out("its exponents", n, Rule::Exact)?);
    let p = Quantize { n: images, pixels: per_image, c: channels, form: Form::Bfp16 as u32, noise: rounding(5) };
    i8.quantize_fwd_i8(&p, bfp(&wide, &wide_exponents), step.all(), bfp(&q, &e))?;

    let (we, xe) = (exponents(s, c, 2)?, exponents(s, n, 3)?);
    for (form, dy) in [(Form::F32, Bfp::f32(x.all())), (Form::Bfp16, bfp(&wide, &wide_exponents))] {
        let p = QuantizeGradient {
            n: images,
            pixels: per_image,
            k: channels,
            dgrad: 1,
            form: form as u32,
            noise: rounding(7),
            dyd_tensor: 8,
            wide: 0,
        };
        let (dyd, ed) = (s.out("dyd", rows * pad(c), Rule::Exact)?, s.out("its exponents", n, Rule::Exact)?);
        let (dyw, ew) = (s.out("dyw", rows * pad(c), Rule::Exact)?, s.out("its exponents", c, Rule::Exact)?);
        let ws = s.workspace(&Kernel::QuantizeBwdI8(p))?;
        i8.quantize_bwd_i8(&p, dy, we.all(), xe.all(), step.all(), bfp(&dyd, &ed), bfp(&dyw, &ew), ws.all())?;
    }
    Ok(())
}

/// Batch, side, C, K, kernel, stride, padding.
type Convolution = (usize, usize, usize, usize, usize, usize, usize);

const CONVOLUTIONS: [Convolution; 7] = [
    (1, 16, 130, 130, 1, 1, 0), // the largest tile on one multiprocessor, the smallest on a large GPU
    (1, 16, 64, 64, 3, 1, 1),
    (2, 9, 3, 20, 3, 1, 1),    // narrow tiles
    (1, 9, 48, 37, 3, 2, 1),   // a stride
    (1, 10, 20, 37, 3, 3, 1),  // one that is no power of two
    (1, 14, 20, 20, 13, 1, 6), // more taps than a word holds
    (2, 36, 3, 20, 1, 1, 0),   // the weight gradient in slices
];

type Pass = fn(&mut Side, Conv2d) -> Result<()>;

const PASSES: [(&str, Pass); 5] = [
    ("fwd", forward),
    ("fwd into a stream", stream),
    ("dgrad", |s, p| dgrad(s, p, false)),
    ("dgrad masked", |s, p| dgrad(s, p, true)),
    ("wgrad", wgrad),
];

fn convolution((n, side, c, k, kernel, stride, padding): Convolution) -> Result<Conv2d> {
    Conv2d::new(n, Shape::new(side, side, c), &Conv2dAttr::square(k, kernel, stride, padding))
        .map_err(|what| Error::Graph { node: "self-test".into(), op: "conv2d", what })
}

/// Images, C, K, taps, output rows, input pixels.
fn sizes(p: &Conv2d) -> [usize; 6] {
    let pixels = p.n * p.h * p.w;
    [p.n as usize, p.c as usize, p.k as usize, (p.r * p.s) as usize, p.rows(), pixels as usize]
}

fn forward(s: &mut Side, conv: Conv2d) -> Result<()> {
    let [n, c, k, taps, rows, pixels] = sizes(&conv);
    let (x, xe) = (mantissas(s, pixels, c, 1)?, exponents(s, n, 2)?);
    let (w, we, step) = (mantissas(s, k * taps, c, 3)?, exponents(s, k, 4)?, step(s)?);
    let (y, ye) = (s.out("y", rows * pad(k), Rule::Exact)?, s.out("its exponents", blocks(rows, k), Rule::Exact)?);
    let sums = s.out("sums", sums_bytes::<OutputSums>(rows, k), Rule::Exact)?;
    let p = Conv2dI8 { conv, noise: rounding(33), wide: 0 };
    s.backend.int8()?.conv2d_fwd_i8(&p, bfp(&x, &xe), bfp(&w, &we), step.all(), bfp(&y, &ye), sums.all())
}

/// On top of another tensor and stored as well, then alone, in f32 and 16 bits.
fn stream(s: &mut Side, conv: Conv2d) -> Result<()> {
    let [n, c, k, taps, rows, pixels] = sizes(&conv);
    let (x, xe) = (mantissas(s, pixels, c, 1)?, exponents(s, n, 2)?);
    let (w, we, step) = (mantissas(s, k * taps, c, 3)?, exponents(s, k, 4)?, step(s)?);
    let product = Conv2dI8 { conv, noise: rounding(36), wide: 0 };
    for (both, form) in [(1, Form::F32), (0, Form::F32), (1, Form::Bfp16), (0, Form::Bfp16)] {
        let p = Conv2dStreamI8 { product, add: both, other: form as u32, form: form as u32, store: both };
        let stored = both as usize;
        let ([other, oe], [sum, se]) = (stream_of(s, form, rows, k, 5)?, stream_out(s, form, rows, k)?);
        let q = s.out("stored", stored * rows * pad(k), Rule::Exact)?;
        let e = s.out("its exponents", stored * blocks(rows, k), Rule::Exact)?;
        let sums = s.out("sums", stored * sums_bytes::<OutputSums>(rows, k), Rule::Exact)?;
        let (x, w, other, sum, q) = (bfp(&x, &xe), bfp(&w, &we), bfp(&other, &oe), bfp(&sum, &se), bfp(&q, &e));
        s.backend.int8()?.conv2d_stream_i8(&p, x, w, step.all(), other, sum, q, sums.all())?;
    }
    Ok(())
}

fn dgrad(s: &mut Side, conv: Conv2d, masked: bool) -> Result<()> {
    let [n, c, k, taps, rows, pixels] = sizes(&conv);
    let (dy, ed) = (mantissas(s, rows, k, 1)?, exponents(s, n, 2)?);
    let (transposed, step) = (mantissas(s, c * taps, k, 3)?, step(s)?);
    let (z, ze) = (mantissas(s, pixels, c, 4)?, exponents(s, blocks(pixels, c), 5)?);
    let mut affine = noise(2 * pad(c), 6);
    affine.chunks_exact_mut(pad(c)).for_each(|row| row[c..].fill(0.0));
    let affine = s.put(&affine)?;
    let (dx, dxe) =
        (s.out("dx", pixels * pad(c), Rule::Exact)?, s.out("its exponents", blocks(pixels, c), Rule::Exact)?);
    let sums = s.out("sums", if masked { sums_bytes::<GradientSums>(pixels, c) } else { 0 }, Rule::Exact)?;
    let before = masked.then(|| Normalised { y: bfp(&z, &ze), affine: affine.all() });
    let p = Conv2dI8 { conv, noise: rounding(34), wide: 0 };
    let i8 = s.backend.int8()?;
    i8.conv2d_dgrad_i8(&p, bfp(&dy, &ed), transposed.all(), step.all(), before, bfp(&dx, &dxe), sums.all())
}

fn wgrad(s: &mut Side, conv: Conv2d) -> Result<()> {
    let [n, c, k, _, rows, pixels] = sizes(&conv);
    let (x, xe) = (mantissas(s, pixels, c, 1)?, exponents(s, n, 2)?);
    let (dy, ew) = (mantissas(s, rows, k, 3)?, exponents(s, k, 4)?);
    let p = Conv2dI8 { conv, noise: rounding(35), wide: 0 };
    let (dw, ws) = (s.out("dw", conv.w_len() * 4, Rule::Exact)?, s.workspace(&Kernel::Conv2dWgradI8(p))?);
    s.backend.int8()?.conv2d_wgrad_i8(&p, bfp(&x, &xe), bfp(&dy, &ew), dw.all(), ws.all())
}

/// Batch, height, width, C, and the window of a pool that tiles the image (0: none).
type Layer = (u32, u32, u32, u32, u32);

/// Blocks of 64 rows within an image and across images, with a pool and without.
const LAYERS: [Layer; 3] = [(2, 8, 16, 37, 2), (3, 7, 5, 48, 0), (2, 8, 8, 16, 0)];

fn batchnorm(s: &mut Side, (n, h, w, c, window): Layer) -> Result<()> {
    let (p, q) = (h / window.max(1), w / window.max(1));
    let pool = Pool { n, h, w, c, p, q, kernel_h: window, kernel_w: window, stride: window.max(1), padding: 0 };
    let [rows, pooled, images, channels] = [n * h * w, n * p * q, n, c].map(|v| v as usize);
    let (step, i8, one) = (step(s)?, s.backend.int8()?, channels * 4);
    let out = Rule::Exact;

    let x = s.noise(rows * channels, 1)?;
    let (y, ye) = (s.out("y", rows * pad(channels), out)?, s.out("y exponents", blocks(rows, channels), out)?);
    let y_sums = s.out("y sums", sums_bytes::<OutputSums>(rows, channels), out)?;
    let (store, none) = (Store::all(rows, channels, rounding(1)), step.span(0, 0)?);
    i8.quantize_store_i8(&store, Bfp::f32(x.all()), none, step.all(), bfp(&y, &ye), y_sums.all())?;

    let stored = window == 0;
    let p = BatchNormI8 {
        pool,
        eps: 1e-5,
        momentum: 0.1,
        relu: 1,
        gradient: u32::from(stored),
        add: u32::from(stored),
        more: Form::Bfp16 as u32,
        dgrad: 1,
        noise: rounding(2),
        dyd_tensor: 3,
        wide: 0,
    };
    let (gamma, beta) = (s.noise(channels, 2)?, s.noise(channels, 3)?);
    let running_mean = s.updated("running mean", &noise(channels, 4), out)?;
    let running_var = s.updated("running variance", &positive(channels, 5), out)?;
    let (mean, invstd) = (s.out("mean", one, out)?, s.out("1/std", one, out)?);
    let affine = s.out("affine", 2 * pad(channels) * 4, out)?;
    let state = BatchNormState {
        gamma: gamma.all(),
        beta: beta.all(),
        running_mean: running_mean.all(),
        running_var: running_var.all(),
        mean: mean.all(),
        invstd: invstd.all(),
        affine: affine.all(),
    };
    let (z, ze) = (s.out("out", pooled * pad(channels), out)?, s.out("out exponents", images, out)?);
    let index = s.out("index", if stored { 0 } else { pooled * pad(channels) }, out)?;
    let ws = s.workspace(&Kernel::BatchNormFwdI8(p))?;
    i8.batchnorm_fwd_i8(&p, bfp(&y, &ye), y_sums.all(), state, step.all(), bfp(&z, &ze), index.all(), ws.all())?;

    let [up, upe] = match stored {
        true => [mantissas(s, pooled, channels, 7)?, exponents(s, blocks(pooled, channels), 8)?],
        false => stream_of(s, Form::F32, pooled, channels, 6)?,
    };
    let [more, moree] = stream_of(s, Form::Bfp16, if stored { pooled } else { 0 }, channels, 13)?;
    let (dz, dze) = (s.out("dz", rows * pad(channels), out)?, s.out("dz exponents", blocks(rows, channels), out)?);
    let dz_sums = s.out("dz sums", sums_bytes::<GradientSums>(rows, channels), out)?;
    let forward = Normalised { y: bfp(&y, &ye), affine: affine.all() };
    let (up, more, dzs) = (bfp(&up, &upe), bfp(&more, &moree), bfp(&dz, &dze));
    i8.batchnorm_grad_i8(&p, up, more, index.all(), forward, step.all(), dzs, dz_sums.all())?;

    let (we, xe) = (exponents(s, channels, 9)?, exponents(s, images, 10)?);
    let (dgamma, dbeta) = (s.out("dgamma", one, out)?, s.out("dbeta", one, out)?);
    let (dyd, ed) = (s.out("dyd", rows * pad(channels), out)?, s.out("dyd exponents", images, out)?);
    let (dyw, ew) = (s.out("dyw", rows * pad(channels), out)?, s.out("dyw exponents", channels, out)?);
    let ws = s.workspace(&Kernel::BatchNormBwdI8(p))?;
    let gradients = BatchNormGradients {
        gamma: gamma.all(),
        mean: mean.all(),
        invstd: invstd.all(),
        weight_exponents: we.all(),
        input_exponents: xe.all(),
        dgamma: dgamma.all(),
        dbeta: dbeta.all(),
    };
    let (y, dyd, dyw) = (bfp(&y, &ye), bfp(&dyd, &ed), bfp(&dyw, &ew));
    i8.batchnorm_bwd_i8(&p, dzs, dz_sums.all(), y, y_sums.all(), gradients, step.all(), dyd, dyw, ws.all())?;

    // On top of a tensor in each form and alone, in f32 and 16 bits; the stream has the channels of the batchnorm, or others, too.
    for (add, other, form, select) in [
        (1, Form::F32, Form::F32, 0),
        (0, Form::F32, Form::F32, 0),
        (1, Form::Bfp16, Form::Bfp16, 0),
        (1, Form::Stored, Form::Bfp16, 0),
        (1, Form::Bfp16, Form::Bfp16, 1),
        (0, Form::F32, Form::F32, 1),
    ] {
        let (other_, form_, wide) = (other as u32, form as u32, 2 * c + 1);
        let p = BatchNormBwdStreamI8 { rows: rows as u32, c, add, other: other_, form: form_, select, wide };
        let wide = p.stream();
        let [below, be] = match other {
            Form::Stored => [mantissas(s, rows, wide, 11)?, exponents(s, blocks(rows, wide), 12)?],
            _ => stream_of(s, other, rows, wide, 11)?,
        };
        let index = s.put(&(0..p.named() as u32).map(|i| 2 * i + i / 20 % 2).collect::<Vec<u32>>())?;
        let (dgamma, dbeta) = (s.out("dgamma of a stream", one, out)?, s.out("dbeta of a stream", one, out)?);
        let ([dx, dxe], ws) = (stream_out(s, form, rows, wide)?, s.workspace(&Kernel::BatchNormBwdStreamI8(p))?);
        let ([gamma, mean, invstd], [dgamma, dbeta]) =
            ([&gamma, &mean, &invstd].map(Memory::all), [&dgamma, &dbeta].map(Memory::all));
        let (sums, index, below, dx, ws) = (dz_sums.all(), index.all(), bfp(&below, &be), bfp(&dx, &dxe), ws.all());
        i8.batchnorm_bwd_stream_i8(&p, dzs, sums, y, gamma, mean, invstd, index, below, dgamma, dbeta, dx, ws)?;
    }
    Ok(())
}

/// A batchnorm's input of `rows` x `c`, stored, and its state.
struct Input {
    y: [Memory; 2],
    sums: Memory,
    state: [Memory; 7],
}

impl Input {
    fn new(s: &mut Side, rows: usize, c: usize, seed: u64) -> Result<Input> {
        let (x, out, step) = (s.noise(rows * c, seed)?, Rule::Exact, step(s)?);
        let y = [s.out("y", rows * pad(c), out)?, s.out("y exponents", blocks(rows, c), out)?];
        let sums = s.out("y sums", sums_bytes::<OutputSums>(rows, c), out)?;
        let (store, none) = (Store::all(rows, c, rounding(seed as u32)), step.span(0, 0)?);
        let (x, to) = (Bfp::f32(x.all()), bfp(&y[0], &y[1]));
        s.backend.int8()?.quantize_store_i8(&store, x, none, step.all(), to, sums.all())?;
        let state = [
            s.noise(c, seed + 1)?,
            s.noise(c, seed + 2)?,
            s.updated("running mean", &noise(c, seed + 3), out)?,
            s.updated("running variance", &positive(c, seed + 4), out)?,
            s.out("mean", c * 4, out)?,
            s.out("1/std", c * 4, out)?,
            s.out("affine", 2 * pad(c) * 4, out)?,
        ];
        Ok(Input { y, sums, state })
    }

    fn all(&self) -> BatchNormInput<'_> {
        let [gamma, beta, running_mean, running_var, mean, invstd, affine] = self.state.each_ref().map(Memory::all);
        let state = BatchNormState { gamma, beta, running_mean, running_var, mean, invstd, affine };
        BatchNormInput { y: bfp(&self.y[0], &self.y[1]), sums: self.sums.all(), state }
    }
}

/// The end of a residual block: on top of a stream in each form and of a second batchnorm, to each form, and the gradients behind.
fn batchnorm_add(s: &mut Side, (n, pixels, c): (u32, u32, u32)) -> Result<()> {
    let (rows, channels, out) = ((n * pixels) as usize, c as usize, Rule::Exact);
    let step = step(s)?;
    let first = Input::new(s, rows, channels, 20)?;
    for (i, (other, form)) in [
        (Some(Form::Bfp16), Form::Bfp16),
        (Some(Form::F32), Form::Bfp16),
        (None, Form::Bfp16),
        (Some(Form::Bfp16), Form::F32),
    ]
    .into_iter()
    .enumerate()
    {
        let second = Input::new(s, rows, channels, 30)?;
        let [stream, streame] = stream_of(s, other.unwrap_or_default(), rows, channels, 40)?;
        let (operand, both) = (usize::from(form == Form::Bfp16), u32::from(other.is_none()));
        let p = BatchNormAddI8 {
            n,
            pixels,
            c,
            eps: [1e-5, 1e-3],
            momentum: [0.1, 0.2],
            relu: u32::from(i != 1),
            both,
            other: other.unwrap_or_default() as u32,
            form: form as u32,
            operand: operand as u32,
            noise: rounding(41),
        };
        let [sum, sume] = stream_out(s, form, rows, channels)?;
        let mask = s.out("mask", if p.relu != 0 { mask_bytes(rows, channels) } else { 0 }, out)?;
        let q = s.out("operand", operand * rows * pad(channels), out)?;
        let (qe, ws) =
            (s.out("its exponents", operand * n as usize, out)?, s.workspace(&Kernel::BatchNormAddFwdI8(p))?);
        let i8 = s.backend.int8()?;
        let summand = match other {
            Some(_) => Summand::Stream(bfp(&stream, &streame)),
            None => Summand::BatchNorm(second.all()),
        };
        let (sum, q) = (bfp(&sum, &sume), bfp(&q, &qe));
        i8.batchnorm_add_fwd_i8(&p, first.all(), summand, step.all(), sum, mask.all(), q, ws.all())?;

        let up = other.unwrap_or(Form::Stored);
        let [ups, upe] = match up {
            Form::Stored => [mantissas(s, rows, channels, 42)?, exponents(s, blocks(rows, channels), 43)?],
            form => stream_of(s, form, rows, channels, 42)?,
        };
        let more = [mantissas(s, rows, channels, 44)?, exponents(s, blocks(rows, channels), 45)?];
        let p = BatchNormAddGradI8 {
            rows: rows as u32,
            c,
            relu: p.relu,
            both,
            up: up as u32,
            add: u32::from(i != 3),
            more: Form::Stored as u32,
            stream: 1 - both,
            noise: rounding(46),
        };
        let (dz, dze) = (s.out("dz", rows * pad(channels), out)?, s.out("dz exponents", blocks(rows, channels), out)?);
        let bytes = sums_bytes::<GradientSums>(rows, channels);
        let [sums, second_sums] = [s.out("dz sums", bytes, out)?, s.out("second sums", both as usize * bytes, out)?];
        let [dx, dxe] = stream_out(s, Form::Bfp16, if both == 0 { rows } else { 0 }, channels)?;
        let (behind, more, dz) = (bfp(&ups, &upe), bfp(&more[0], &more[1]), bfp(&dz, &dze));
        let second = (both != 0).then(|| (second.y[0].all(), second_sums.all()));
        let (y, i8) = (first.y[0].all(), s.backend.int8()?);
        i8.batchnorm_add_grad_i8(&p, behind, more, mask.all(), y, second, step.all(), dz, sums.all(), bfp(&dx, &dxe))?;
    }
    Ok(())
}

/// BN scales, each rounded by itself, shifts, a convolution's weights, a linear layer's, and a bias longer than a block's run: a segment of each format.
fn segments() -> (Vec<Segment>, usize, usize) {
    let (scales, k, taps, c) = (21u32, 18u32, 9u32, 37u32);
    let conv = Segment::conv(48, [k, taps, c], 0);
    let linear = Segment { rows: 3, format: Format::Rows as u32, ..Segment::plain(conv.offset + k * taps * c, 29) };
    let bias = Segment::elements(linear.offset + 87, 2100);
    let table = vec![Segment::elements(0, scales), Segment::plain(scales, scales), conv, linear, bias];
    (table, (bias.offset + bias.columns) as usize, conv.packed())
}

fn optimiser(s: &mut Side) -> Result<()> {
    let (table, count, packed) = segments();
    let p = SgdI8 {
        sgd: Sgd { count: count as u32, scales: 21, momentum: 0.9, weight_decay: 1e-4, l1: 1e-2 },
        segments: table.len() as u32,
        master_f32: 0,
        round_gradients: 1,
        seed: [5, 6],
        tensors: [101, 102, 103],
    };
    let (table, lr, step, i8) = (s.put(&table)?, s.put(&[0.1f32])?, step(s)?, s.backend.int8()?);
    let (g, v) = (s.noise(count, 1)?, s.updated("v", &noise(count, 2), Rule::Exact)?);
    let w = s.updated("w", &noise(count, 3), Rule::Exact)?;
    let first = s.out("packed", packed, Rule::Exact)?;
    let second = s.out("packed after the step", packed, Rule::Exact)?;
    i8.sgd_pack_i8(&p, table.all(), step.all(), w.all(), first.all())?;
    i8.sgd_step_i8(&p, table.all(), lr.all(), step.all(), g.all(), v.all(), w.all(), second.all())
}

/// The end of a network; the last class ties with the first.
fn classifier(s: &mut Side, p: Classifier) -> Result<()> {
    let (n, c, k) = (p.n as usize, p.c as usize, p.k as usize);
    let mut w = noise(k * c, 2);
    w.copy_within(..c, (k - 1) * c);
    let labels: Vec<u32> = (0..p.n).map(|i| i * 7 % p.k).collect();
    let (x, w, bias, labels) = (s.noise(n * c, 1)?, s.put(&w)?, s.noise(k, 3)?, s.put(&labels)?);
    let (logits, dlogits) = (s.out("logits", n * k * 4, Rule::Exact)?, s.out("dlogits", n * k * 4, Rule::Exact)?);
    let (losses, hits) = (s.out("losses", n * 8, Rule::Exact)?, s.out("hits", n * 4, Rule::Exact)?);
    let (dx, dw) = (s.out("dx", n * c * 4, Rule::Exact)?, s.out("dw", k * c * 4, Rule::Exact)?);
    let dbias = s.out("dbias", k * 4, Rule::Exact)?;
    let metrics = s.updated("metrics", &[Metrics { loss_sum: 0.7, top1: 3, top5: 4, count: 5 }], Rule::Exact)?;
    let (i8, x, w, losses, hits) = (s.backend.int8()?, x.all(), w.all(), losses.all(), hits.all());
    let (labels, logits, dlogits) = (labels.all(), logits.all(), dlogits.all());
    i8.classifier_fwd_f32(&p, x, w, bias.all(), labels, logits, dlogits, losses, hits)?;
    i8.classifier_bwd_f32(&p, x, w, dlogits, losses, hits, dx.all(), dw.all(), dbias.all(), metrics.all())
}
