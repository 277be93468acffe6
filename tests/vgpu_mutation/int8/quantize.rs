//! Quantisation and the optimiser in 8 bits.

use bytemuck::cast_slice;
use earlybird::driver::Dims;
use earlybird::ops::batchnorm::OutputSums;
use earlybird::ops::quantize::{Dequantize, Form, Quantize, QuantizeGradient, Round, Store};
use earlybird::ops::sgd::{Format, Segment, Sgd, SgdI8};
use earlybird::quant::layout::{blocks, pad};

use super::{STREAM, exponents, mantissas, rounding};
use crate::bench::{Bench, Case, Outcome, at};

/// The case of a kernel.
pub fn case(kernel: &str) -> Option<Case> {
    Some(match kernel {
        "quantize_round_i8" => round,
        "quantize_fwd_i8" => images,
        "dequantize_fwd_i8" => dequantize,
        "quantize_store_i8" => store,
        "quantize_bwd_i8" => gradient,
        "sgd_step_i8" => step,
        "sgd_pack_i8" => pack,
        _ => return None,
    })
}

/// Images, pixels, channels: less than a vector, less than a warp, more than one round of a block in pixels and in channels, more images than lanes; whole vectors, and padding behind them.
const SHAPES: [(usize, usize, usize); 8] =
    [(1, 1, 1), (3, 25, 3), (2, 9, 48), (1, 70, 37), (1, 300, 17), (2, 1, 300), (40, 1, 3), (2, 9, 40)];

fn round(b: &Bench) -> Outcome {
    // Groups that begin anywhere in the noise's groups of eight, shorter and longer than a block's round; numbers so large that the grid has none for them, and zeros.
    let sizes = [
        (1usize, 1usize, 1f32),
        (3, 5, 1.0),
        (2, 257, 1.0),
        (5, 8, 1.0),
        (1, 2100, 1.0),
        (3, 2051, 1.0),
        (2, 9, 6e36),
        (2, 9, 1.2e37),
        (2, 9, 2e37),
        (2, 9, 0.0),
    ];
    for (i, (groups, length, scale)) in b.each(sizes.into_iter().enumerate()) {
        let (x, step) = (b.scaled(groups * length, scale)?, b.step()?);
        let p = Round { groups: groups as u32, length: length as u32, noise: rounding(i % 2 == 1) };
        b.kernels.quantize_round_i8(Dims::linear(p.groups, 256), STREAM, &p, at(&step), at(&x))?;
        b.take(&[&x])?;
    }
    Ok(())
}

fn images(b: &Bench) -> Outcome {
    let ways = [Form::F32, Form::Bfp16].into_iter().flat_map(|form| SHAPES.map(|shape| (shape, form)));
    for (i, ((n, pixels, c), form)) in b.each(ways.enumerate()) {
        let ([x, xe], step) = (b.tensor(form, n * pixels, c)?, b.step()?);
        let (q, e) = (b.blank(n * pixels * pad(c))?, b.blank(n)?);
        let (n, pixels, c) = (n as u32, pixels as u32, c as u32);
        let p = Quantize { n, pixels, c, form: form as u32, noise: rounding(i % 2 == 1) };
        b.kernels.quantize_fwd_i8(Dims::linear(p.n, 256), STREAM, &p, at(&x), at(&xe), at(&step), at(&q), at(&e))?;
        b.take(&[&q, &e])?;
    }
    Ok(())
}

fn dequantize(b: &Bench) -> Outcome {
    let forms = [None, Some(Form::Stored), Some(Form::Bfp16)];
    let ways = SHAPES.into_iter().flat_map(|shape| forms.map(|form| (shape, form)));
    for ((n, pixels, c), form) in b.each(ways) {
        let [q, e] = match form {
            None => [b.small(&mantissas(0, n * pixels, c))?, b.small(&exponents(n))?],
            Some(form) => b.tensor(form, n * pixels, c)?,
        };
        let (x, stored) = (b.room(n * pixels * c)?, form.map_or(0, |form| form as u32));
        let p = Dequantize { n: n as u32, pixels: pixels as u32, c: c as u32, stored };
        b.kernels.dequantize_fwd_i8(Dims::linear(2, 256), STREAM, &p, at(&q), at(&e), at(&x))?;
        b.take(&[&x])?;
    }
    Ok(())
}

/// Channels of more, for `c` of them: every third, the first or the last ones missing, in runs over the edges of blocks.
pub fn named(c: usize, way: usize) -> (Vec<u32>, usize) {
    let all = 0..c as u32;
    match way % 4 {
        0 => (all.map(|i| 3 * i + 1).collect(), 3 * c),
        1 => (all.map(|i| i + 9).collect(), c + 9),
        2 => (all.collect(), c + 20),
        _ => (all.map(|i| i + i / 5).collect(), c + c.div_ceil(5)),
    }
}

fn store(b: &Bench) -> Outcome {
    let ways = [(Form::F32, false), (Form::F32, true), (Form::Bfp16, false), (Form::Bfp16, true)];
    let ways = ways.into_iter().flat_map(|way| SHAPES.map(|shape| (shape, way)));
    for (i, ((n, pixels, c), (form, selects))) in b.each(ways.enumerate()) {
        let rows = n * pixels;
        let (index, wide) = if selects { named(c, i) } else { (Vec::new(), c) };
        let ([x, xe], index, step) = (b.tensor(form, rows, wide)?, b.words(&index)?, b.step()?);
        let (q, e) = (b.blank(rows * pad(c))?, b.blank(blocks(rows, c))?);
        let sums = b.blank(rows.div_ceil(64) * pad(c) * size_of::<OutputSums>())?;
        let (select, from) = (u32::from(selects), wide as u32);
        let p = Store { form: form as u32, select, from, ..Store::all(rows, c, rounding(i % 2 == 1)) };
        let (dims, [x, xe, index, step]) =
            (Dims::linear(blocks(rows, c) as u32, 256), [&x, &xe, &index, &step].map(at));
        b.kernels.quantize_store_i8(dims, STREAM, &p, x, xe, index, step, at(&q), at(&e), at(&sums))?;
        b.take(&[&q, &e, &sums])?;
    }
    Ok(())
}

/// Output gradients of every kind: stochastic or not, with a data gradient or not, from f32 or 16 bits, in 8 bits or 16.
fn gradients() -> Vec<QuantizeGradient> {
    let one = |(i, ((n, pixels, k), form)): (usize, ((usize, usize, usize), Form))| QuantizeGradient {
        n: n as u32,
        pixels: pixels as u32,
        k: k as u32,
        dgrad: u32::from(i % 3 != 2),
        form: form as u32,
        noise: rounding(i % 2 == 1),
        dyd_tensor: 8,
        wide: (i / 2 % 2) as u32,
    };
    let ways = [Form::F32, Form::Bfp16].into_iter().flat_map(|form| SHAPES.map(|shape| (shape, form)));
    ways.enumerate().map(one).collect()
}

fn gradient(b: &Bench) -> Outcome {
    for (i, p) in b.each(gradients().into_iter().enumerate()) {
        let (n, k, all) = (p.n as usize, p.k as usize, (p.n * p.pixels) as usize);
        let ([dy, dye], largest, parts) = (b.tensor(Form::of(p.form), all, k)?, b.room(n * k)?, 1 + i as u32 % 2);
        let (we, xe, step) = (b.small(&exponents(k))?, b.small(&exponents(n))?, b.step()?);
        let (dyd, ed) = (b.blank(p.dgrad as usize * all * pad(k))?, b.blank(p.dgrad as usize * n)?);
        let (dyw, ew, tickets) = (b.blank((all * pad(k)) << p.wide)?, b.blank(k)?, b.words(&[0; 4])?);
        let [dy, dye, l, we, xe, step] = [&dy, &dye, &largest, &we, &xe, &step].map(at);
        let [d, de, w, we_, t] = [&dyd, &ed, &dyw, &ew, &tickets].map(at);
        let dims = Dims::linear(p.k.div_ceil(32) * p.n + p.k.div_ceil(8) + p.n * parts, 256);
        b.kernels.quantize_bwd_i8(dims, STREAM, &p, dy, dye, l, we, xe, step, d, de, w, we_, t, parts)?;
        b.take(&[&largest, &dyd, &ed, &dyw, &ew, &tickets])?;
    }
    Ok(())
}

/// A parameter of each kind, in places off the noise's groups of eight; arena, and bytes of packed weights. `long`: rows and runs of more than one round of a block.
fn table(long: bool, k: u32, taps: u32, c: u32) -> (Vec<Segment>, usize, usize) {
    let conv = Segment::conv(43, [k, taps, c], 0);
    let rows = if long { 2085 } else { 29 };
    let linear =
        Segment { rows: 3, format: Format::Rows as u32, ..Segment::plain(conv.offset + k * conv.columns, rows) };
    let run = if long { 2100 } else { 11 };
    let bias = Segment::elements(linear.offset + 3 * rows, run);
    let plain = Segment::plain(bias.offset + run, run);
    let table = vec![Segment::elements(0, 21), Segment::plain(21, 22), conv, linear, bias, plain];
    (table, (plain.offset + run) as usize, conv.packed())
}

/// Long rows, K, taps, C, weights kept in f32, gradients rounded, and a scale of all numbers: numbers of usual size, and those for which the grid has none.
const STEPS: [(bool, u32, u32, u32, u32, u32, f32); 7] = [
    (false, 5, 4, 3, 0, 1, 1.0),
    (false, 18, 1, 37, 1, 1, 1.0),
    (false, 3, 9, 16, 0, 0, 1.0),
    (true, 16, 1, 5, 0, 1, 1.0),
    (true, 2, 4, 70, 1, 0, 1.0),
    (false, 5, 4, 3, 0, 1, 2e37),
    (true, 2, 1, 5, 0, 1, 1e37),
];

/// With an L1 term so large that a row's exponent shows whom it was added to.
fn constants(count: usize, segments: usize, master_f32: u32, round_gradients: u32) -> SgdI8 {
    SgdI8 {
        sgd: Sgd { count: count as u32, scales: 21, momentum: 0.9, weight_decay: 1e-4, l1: 8.0 },
        segments: segments as u32,
        master_f32,
        round_gradients,
        seed: [5, 6],
        tensors: [101, 102, 103],
    }
}

fn step(b: &Bench) -> Outcome {
    for (long, k, taps, c, master, rounds, scale) in b.each(STEPS) {
        let (table, count, bytes) = table(long, k, taps, c);
        let p = constants(count, table.len(), master, rounds);
        let (table, lr, now) = (b.bytes(cast_slice(&table))?, b.bytes(&0.1f32.to_le_bytes())?, b.step()?);
        let (g, v, w, packed) =
            (b.scaled(count, scale)?, b.scaled(count, scale)?, b.scaled(count, scale)?, b.blank(bytes)?);
        let (g, table, lr, now) = (at(&g), at(&table), at(&lr), at(&now));
        b.kernels.sgd_step_i8(Dims::linear(3, 256), STREAM, &p, table, lr, now, g, at(&v), at(&w), at(&packed))?;
        b.take(&[&v, &w, &packed])?;
    }
    Ok(())
}

fn pack(b: &Bench) -> Outcome {
    for (long, k, taps, c, master, rounds, scale) in b.each(STEPS) {
        let (table, count, bytes) = table(long, k, taps, c);
        let p = constants(count, table.len(), master, rounds);
        let (table, now, w, packed) =
            (b.bytes(cast_slice(&table))?, b.step()?, b.scaled(count, scale)?, b.blank(bytes)?);
        b.kernels.sgd_pack_i8(Dims::linear(3, 256), STREAM, &p, at(&table), at(&now), at(&w), at(&packed))?;
        b.take(&[&w, &packed])?;
    }
    Ok(())
}
