//! The 8-bit batchnorm: forward with its pool, the gradient behind it, backward.

use bytemuck::cast_slice;
use earlybird::backend::Backend;
use earlybird::driver::Dims;
use earlybird::ops::batchnorm::{BatchNormBwdStreamI8, BatchNormI8, GradientSums};
use earlybird::ops::pool::Pool;
use earlybird::ops::quantize::Form;
use earlybird::quant::layout::{blocks, pad};

use super::quantize::named;
use super::{STREAM, exponents, gradient_sums, mantissas, output_sums, rounding};
use crate::bench::{Bench, Case, Outcome, at, noise};

/// The case of a batchnorm's kernel.
pub fn case(kernel: &str) -> Option<Case> {
    Some(match kernel {
        "batchnorm_fwd_i8" => forward,
        "batchnorm_grad_i8" => gradient,
        "batchnorm_bwd_i8" => backward,
        "batchnorm_bwd_i8_stream" => stream,
        "batchnorm_bwd_i8_stream_select" => stream_select,
        _ => return None,
    })
}

/// Images, height, width, C; window (0: no pool), stride, padding; ReLU; parts of an image. A stored gradient, 16 bits and rounding to nearest go by turns.
type Layer = ((u32, u32, u32, u32), (u32, u32, u32), bool, u32);

/// Blocks of rows within an image and across; more of them, more images and more channels than lanes or threads; windows that overlap, and that leave pixels over.
const LAYERS: [Layer; 23] = [
    ((1, 1, 1, 3), (0, 1, 0), false, 1),
    ((2, 8, 8, 16), (0, 1, 0), true, 1),
    ((1, 16, 8, 37), (2, 2, 0), true, 2),
    ((3, 7, 5, 40), (3, 2, 1), true, 1),
    ((2, 5, 5, 20), (2, 2, 0), true, 1),
    ((5, 2, 2, 130), (2, 2, 0), false, 1),
    ((40, 1, 1, 3), (0, 1, 0), true, 1),
    ((1, 1, 1, 260), (0, 1, 0), true, 1),
    ((1, 16, 16, 24), (0, 1, 0), true, 3),
    ((33, 8, 8, 3), (0, 1, 0), true, 1),
    ((1, 5, 5, 20), (3, 1, 1), true, 1),
    ((1, 7, 7, 5), (3, 2, 0), true, 1),
    // The last window, and the last row, in each of a thread's four rows.
    ((1, 2, 2, 20), (2, 2, 0), true, 1),
    ((1, 4, 4, 20), (2, 2, 0), true, 1),
    ((1, 4, 6, 20), (2, 2, 0), true, 1),
    ((1, 8, 4, 20), (2, 2, 0), true, 1),
    ((10, 1, 1, 3), (0, 1, 0), false, 1),
    ((20, 1, 1, 3), (0, 1, 0), false, 1),
    // Rounds of windows, whole and not, and first rows of an image in each of a thread's four rows; padded channels show, for there is no ReLU.
    ((1, 6, 6, 5), (5, 1, 2), false, 1),
    ((4, 3, 3, 5), (3, 1, 1), false, 1),
    // Rows of f32 in whole vectors and a half.
    ((3, 4, 4, 20), (2, 2, 0), false, 1),
    ((9, 3, 1, 20), (0, 1, 0), false, 1),
    ((5, 3, 1, 33), (0, 1, 0), false, 1),
];

/// A layer and its sizes.
struct Sizes {
    p: BatchNormI8,
    rows: usize,
    pooled: usize,
    c: usize,
    n: usize,
    /// Blocks of rows lie in one image.
    whole: bool,
    parts: u32,
}

fn sizes() -> Vec<Sizes> {
    let one = |(i, layer): (usize, &Layer)| {
        let ((n, h, w, c), (window, stride, padding), relu, parts) = *layer;
        let out = |size: u32| if window == 0 { size } else { (size + 2 * padding - window) / stride + 1 };
        let (p, q) = (out(h), out(w));
        let pool = Pool { n, h, w, c, p, q, kernel_h: window, kernel_w: window, stride, padding };
        let p = BatchNormI8 {
            pool,
            eps: 1e-5,
            momentum: 0.1,
            relu: u32::from(relu),
            gradient: if i < 12 { (i % 3) as u32 } else { 0 },
            add: u32::from(i % 4 == 1 || i > 16),
            more: if i < 16 { (i % 3) as u32 } else { 0 },
            dgrad: u32::from(i % 3 != 2),
            noise: rounding(i % 4 != 3),
            dyd_tensor: 3,
            wide: (i / 2 % 2) as u32,
        };
        let (rows, pooled) = ((n * h * w) as usize, (n * pool.p * pool.q) as usize);
        Sizes { p, rows, pooled, c: c as usize, n: n as usize, whole: (h * w).is_multiple_of(64), parts }
    };
    LAYERS.iter().enumerate().map(one).collect()
}

impl Sizes {
    /// Blocks that sum over all rows, two channels each, behind `before` others and in front of the images'.
    fn dims(&self, before: usize) -> Dims {
        Dims::linear((before + pad(self.c) / 2) as u32 + self.n as u32 * self.parts, 256)
    }

    fn window(&self) -> usize {
        self.p.pool.kernel_h as usize
    }
}

/// Positive floats.
pub fn positive(n: usize) -> Vec<u8> {
    noise(n).iter().flat_map(|v| ((f32::from(*v) + 1.0) / 64.0).to_le_bytes()).collect()
}

fn forward(b: &Bench) -> Outcome {
    for s in b.each(sizes()) {
        let (c, rows) = (s.c, s.rows);
        let y = mantissas(0, rows, c);
        let (sums, y, ye) =
            (b.bytes(cast_slice(&output_sums(&y, c)))?, b.small(&y)?, b.small(&exponents(blocks(rows, c)))?);
        let [gamma, beta, running_mean] = [b.floats(c)?, b.floats(c)?, b.floats(c)?];
        let running_var = b.bytes(&positive(c))?;
        let [mean, invstd, affine] = [b.room(c)?, b.room(c)?, b.cuda.alloc(2 * pad(c) * 4)?];
        let (out, oute) = (b.blank(s.pooled * pad(c))?, b.blank(s.n)?);
        let index = b.blank(if s.window() == 0 { 0 } else { s.pooled * pad(c) })?;
        let (step, tickets) = (b.step()?, b.words(&[0; 4])?);
        let (before, largest) = (if s.whole { 0 } else { s.n * s.parts as usize }, b.room(s.n)?);
        b.kernels.batchnorm_fwd_i8(
            s.dims(before),
            STREAM,
            &s.p,
            at(&y),
            at(&ye),
            at(&sums),
            at(&gamma),
            at(&beta),
            at(&running_mean),
            at(&running_var),
            at(&mean),
            at(&invstd),
            at(&affine),
            at(&step),
            at(&out),
            at(&oute),
            at(&index),
            at(&largest),
            at(&tickets),
            s.parts,
        )?;
        b.take(&[&out, &oute, &index, &mean, &invstd, &affine, &running_mean, &running_var, &tickets])?;
    }
    Ok(())
}

fn gradient(b: &Bench) -> Outcome {
    for s in b.each(sizes()) {
        let (c, rows, pooled) = (s.c, s.rows, s.pooled);
        let (y, ye) = (b.small(&mantissas(0, rows, c))?, b.small(&exponents(blocks(rows, c)))?);
        let [up, upe] = b.tensor(Form::of(s.p.gradient), pooled, c)?;
        let [more, moree] = b.tensor(Form::of(s.p.more), if s.p.add != 0 { pooled } else { 0 }, c)?;
        let (affine, step) = (b.affine(c)?, b.step()?);
        let taps = (s.window() * s.window()).max(1);
        let places = if s.window() == 0 { 0 } else { pooled * pad(c) };
        let index: Vec<u8> = noise(places).iter().map(|v| *v % taps as u8).collect();
        let index = b.bytes(&index)?;
        let (dz, dze) = (b.blank(rows * pad(c))?, b.blank(blocks(rows, c))?);
        let sums = b.blank(rows.div_ceil(64) * pad(c) * size_of::<GradientSums>())?;
        b.kernels.batchnorm_grad_i8(
            Dims::linear(blocks(rows, c) as u32, 256),
            STREAM,
            &s.p,
            at(&up),
            at(&upe),
            at(&more),
            at(&moree),
            at(&index),
            at(&y),
            at(&ye),
            at(&affine),
            at(&step),
            at(&dz),
            at(&dze),
            at(&sums),
        )?;
        b.take(&[&dz, &dze, &sums])?;
    }
    Ok(())
}

fn backward(b: &Bench) -> Outcome {
    for s in b.each(sizes()) {
        let (c, rows, n) = (s.c, s.rows, s.n);
        let (y, dz) = (mantissas(0, rows, c), mantissas(11, rows, c));
        let y_sums = b.bytes(cast_slice(&output_sums(&y, c)))?;
        let sums = b.bytes(cast_slice(&gradient_sums(&dz, &y, c)))?;
        let e = b.small(&exponents(blocks(rows, c)))?;
        let (y, dz) = (b.small(&y)?, b.small(&dz)?);
        let [gamma, mean, invstd] = [b.floats(c)?, b.floats(c)?, b.bytes(&positive(c))?];
        let (we, xe) = (b.small(&exponents(c))?, b.small(&exponents(n))?);
        let before = if s.whole { 0 } else { pad(c).div_ceil(32) * n };
        let extremes = b.cuda.alloc(if s.whole { 0 } else { n * pad(c) * 12 })?;
        let coef = b.cuda.alloc(pad(c) * 20)?;
        let (dgamma, dbeta) = (b.room(c)?, b.room(c)?);
        let wanted = s.p.dgrad as usize;
        let (dyd, ed) = (b.blank(wanted * rows * pad(c))?, b.blank(wanted * n)?);
        let (dyw, ew) = (b.blank((rows * pad(c)) << s.p.wide)?, b.blank(c)?);
        let (step, tickets) = (b.step()?, b.words(&[0; 4])?);
        b.kernels.batchnorm_bwd_i8(
            s.dims(before),
            STREAM,
            &s.p,
            at(&dz),
            at(&e),
            at(&sums),
            at(&y),
            at(&e),
            at(&y_sums),
            at(&gamma),
            at(&mean),
            at(&invstd),
            at(&we),
            at(&xe),
            at(&extremes),
            at(&dgamma),
            at(&dbeta),
            at(&coef),
            at(&step),
            at(&dyd),
            at(&ed),
            at(&dyw),
            at(&ew),
            at(&tickets),
            s.parts,
        )?;
        b.take(&[&dyd, &ed, &dyw, &ew, &dgamma, &dbeta, &tickets])?;
    }
    Ok(())
}

/// What is added to a stream, in its form, and the form of what comes of it.
type Way = (Option<Form>, Form);

const F32: Way = (Some(Form::F32), Form::F32);
const BOTH: Way = (Some(Form::Bfp16), Form::Bfp16);
const ALONE: Way = (None, Form::Bfp16);
const STORED: Way = (Some(Form::Stored), Form::Bfp16);

/// Rows, channels, blocks behind those that sum. Less than a vector, more blocks of rows than lanes, rounds with the same channels and with others, rows that are whole vectors and rows
/// that are not, a last block of channels that is whole and one that is half.
const STREAMS: [(usize, usize, u32, Way); 12] = [
    (1, 1, 1, ALONE),
    (70, 37, 1, F32),
    (70, 37, 1, BOTH),
    (300, 16, 2, STORED),
    (130, 20, 1, (Some(Form::F32), Form::Bfp16)),
    (2200, 3, 2, ALONE),
    (33, 130, 2, BOTH),
    (9, 260, 1, STORED),
    (64, 64, 3, BOTH),
    (130, 52, 2, F32),
    (33, 130, 1, (None, Form::F32)),
    (200, 20, 1, (Some(Form::Bfp16), Form::F32)),
];

fn stream(b: &Bench) -> Outcome {
    gradients(b, STREAMS.map(|(rows, c, blocks, way)| (rows, c, blocks, way, None)))
}

/// The same, each with channels in other places of the stream; runs that end with a row of either tensor, channels far up, and none at all.
fn stream_select(b: &Bench) -> Outcome {
    let streams = STREAMS.iter().enumerate().flat_map(|(i, (rows, c, blocks, way))| {
        [i, i + 1].map(|gather| (*rows, *c, *blocks, *way, Some(named(*c, gather))))
    });
    let few = |c: usize, first: u32, wide: usize| {
        (3, c, 1, BOTH, Some(((first..first + c as u32).collect::<Vec<u32>>(), wide)))
    };
    // Neighbours whose channels begin anywhere in a word, and whose last one is the last of a row.
    let odd = (0..4).map(|i| few(32, 8 - i, 40)).chain((1..9).map(|c| few(c, 3, 16)));
    let sparse =
        |c: usize, pace: u32| (2, c, 1, ALONE, Some(((0..c as u32).map(|i| pace * i).collect(), c * pace as usize)));
    // f32 rows that are no whole vectors, with eight channels of padding and more; more blocks than the tensor has.
    let padded = (3, 5, 1, F32, Some(((3..8).collect(), 19)));
    let idle = (3, 5, 4, BOTH, Some(((3..8).collect(), 19)));
    gradients(b, streams.chain(odd).chain([few(3, 5000, 9000), sparse(40, 13), sparse(70, 2), padded, idle]))
}

/// As [`STREAMS`], with the channels of the stream that are those of the batchnorm, and how many it has.
type Gradient = (usize, usize, u32, Way, Option<(Vec<u32>, usize)>);

fn gradients(b: &Bench, list: impl IntoIterator<Item = Gradient>) -> Outcome {
    for (rows, c, blocks_behind, (below, form), gather) in b.each(list) {
        let (select, (index, wide)) = (u32::from(gather.is_some()), gather.unwrap_or((Vec::new(), c)));
        let (y, dz) = (mantissas(0, rows, c), mantissas(11, rows, c));
        let sums = b.bytes(cast_slice(&gradient_sums(&dz, &y, c)))?;
        let e = b.small(&exponents(blocks(rows, c)))?;
        let (y, dz, add) = (b.small(&y)?, b.small(&dz)?, below.is_some());
        let [gamma, mean, invstd] = [b.floats(c)?, b.floats(c)?, b.bytes(&positive(c))?];
        let below = below.unwrap_or_default();
        let ([other, oe], index) = (b.tensor(below, if add { rows } else { 0 }, wide)?, b.words(&index)?);
        let (dgamma, dbeta, [dx, dxe]) = (b.room(c)?, b.room(c)?, b.written(form, rows, wide)?);
        let (coef, tickets) = (b.cuda.alloc(pad(c) * 12)?, b.words(&[0; 4])?);
        let dims = Dims::linear(pad(c) as u32 / 2 + blocks_behind, 256);
        let [rows, c, wide, other_form, form] =
            [rows, c, wide, below as usize, form as usize].map(|number| number as u32);
        let p = BatchNormBwdStreamI8 { rows, c, add: u32::from(add), other: other_form, form, select, wide };
        let [dz, e, sums_, y] = [&dz, &e, &sums, &y].map(at);
        let [gamma, mean, invstd, index, other, oe] = [&gamma, &mean, &invstd, &index, &other, &oe].map(at);
        let [g, beta, coef, to, to_e, t] = [&dgamma, &dbeta, &coef, &dx, &dxe, &tickets].map(at);
        let k = &b.kernels;
        match select {
            0 => k.batchnorm_bwd_i8_stream(
                dims, STREAM, &p, dz, e, sums_, y, e, gamma, mean, invstd, other, oe, g, beta, coef, to, to_e, t,
            )?,
            _ => k.batchnorm_bwd_i8_stream_select(
                dims, STREAM, &p, dz, e, sums_, y, e, gamma, mean, invstd, index, other, oe, g, beta, coef, to, to_e, t,
            )?,
        }
        b.take(&[&dgamma, &dbeta, &dx, &dxe, &tickets])?;
    }
    Ok(())
}
