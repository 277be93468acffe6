//! The end of a residual block in 8 bits: forward, and the gradient behind it.

use bytemuck::cast_slice;
use earlybird::backend::{Backend, Memory};
use earlybird::driver::{DevPtr, Dims};
use earlybird::ops::batchnorm::GradientSums;
use earlybird::ops::batchnorm_add::{BatchNormAddGradI8, BatchNormAddI8, mask_bytes};
use earlybird::ops::quantize::Form;
use earlybird::quant::layout::{blocks, pad};

use super::batchnorm::positive;
use super::{STREAM, exponents, mantissas, output_sums, rounding};
use crate::bench::{Bench, Case, Outcome, at, noise};

/// The case of one of these kernels.
pub fn case(kernel: &str) -> Option<Case> {
    Some(match kernel {
        "batchnorm_add_fwd_i8" => forward,
        "batchnorm_add_grad_i8" => gradient,
        _ => return None,
    })
}

/// Images, pixels, C; form of what is added (`None`: a second batchnorm), of the sum; ReLU, operand; blocks that sum, parts of an image.
type End = ((usize, usize, usize), (Option<Form>, Form), (bool, bool), (u32, u32));

const WIDE: Form = Form::Bfp16;

/// More blocks of threads than of the tensor. Blocks of rows in one image, across images with rows that share a warp and rows that do not; rounds with the same channels and with others; vectors that are whole, halves and less; more
/// images than threads, and than lanes.
const ENDS: [End; 15] = [
    ((1, 1, 1), (Some(WIDE), WIDE), (true, true), (3, 1)),
    ((2, 35, 20), (Some(Form::F32), WIDE), (true, true), (1, 1)),
    ((3, 5, 12), (Some(Form::F32), Form::F32), (false, false), (1, 1)),
    ((2, 64, 20), (Some(WIDE), WIDE), (true, true), (1, 2)),
    ((3, 25, 37), (None, WIDE), (true, true), (2, 1)),
    ((2, 36, 48), (Some(Form::Stored), WIDE), (false, true), (4, 1)),
    ((70, 1, 3), (Some(WIDE), WIDE), (true, true), (1, 1)),
    ((5, 14, 40), (None, WIDE), (true, true), (3, 3)),
    ((2, 35, 5), (Some(Form::F32), Form::F32), (true, false), (1, 1)),
    ((1, 70, 36), (None, Form::F32), (false, false), (2, 1)),
    ((1, 130, 130), (Some(Form::F32), WIDE), (true, true), (4, 2)),
    ((260, 1, 3), (Some(WIDE), WIDE), (false, true), (2, 1)),
    ((33, 64, 3), (None, WIDE), (true, true), (5, 1)),
    ((1, 3, 260), (Some(WIDE), WIDE), (true, false), (9, 1)),
    ((2, 9, 24), (Some(WIDE), Form::F32), (true, false), (1, 1)),
];

/// A batchnorm's tensors.
struct Input {
    y: Memory,
    e: Memory,
    sums: Memory,
    /// gamma, beta, running mean, running variance, mean, 1/std, affine map.
    state: [Memory; 7],
}

impl Input {
    fn new(b: &Bench, start: usize, rows: usize, c: usize) -> Outcome<Input> {
        let y = mantissas(start, rows, c);
        let sums = b.bytes(cast_slice(&output_sums(&y, c)))?;
        let state = [
            b.floats(c)?,
            b.floats(c)?,
            b.floats(c)?,
            b.bytes(&positive(c))?,
            b.room(c)?,
            b.room(c)?,
            b.cuda.alloc(2 * pad(c) * 4)?,
        ];
        Ok(Input { y: b.small(&y)?, e: b.small(&exponents(blocks(rows, c)))?, sums, state })
    }

    /// What it wrote.
    fn take(&self, b: &Bench) -> Outcome {
        let [_, _, running_mean, running_var, mean, invstd, affine] = &self.state;
        b.take(&[running_mean, running_var, mean, invstd, affine])
    }
}

fn forward(b: &Bench) -> Outcome {
    for (i, ((n, pixels, c), (other, form), (relu, operand), (work, parts))) in b.each(ENDS.into_iter().enumerate()) {
        let (rows, both) = (n * pixels, other.is_none());
        let first = Input::new(b, 0, rows, c)?;
        let second = if both { Some(Input::new(b, 7, rows, c)?) } else { None };
        let [stream, streame] = b.tensor(other.unwrap_or(WIDE), if both { 0 } else { rows }, c)?;
        let [out, oute] = b.written(form, rows, c)?;
        let mask = b.blank(if relu { mask_bytes(rows, c) } else { 0 })?;
        let (q, qe) = match operand {
            true => (b.blank(rows * pad(c))?, b.blank(n)?),
            false => (b.blank(0)?, b.blank(0)?),
        };
        let largest = b.cuda.alloc(if operand { n * 4 } else { 0 })?;
        let (step, tickets) = (b.step()?, b.words(&[0; 4])?);
        let p = BatchNormAddI8 {
            n: n as u32,
            pixels: pixels as u32,
            c: c as u32,
            eps: [1e-5, 1e-2],
            momentum: [0.1, 0.25],
            relu: u32::from(relu),
            both: u32::from(both),
            other: other.unwrap_or_default() as u32,
            form: form as u32,
            operand: u32::from(operand),
            noise: rounding(i % 4 != 3),
        };
        let of_second = |pick: &dyn Fn(&Input) -> DevPtr| second.as_ref().map_or(DevPtr::NULL, pick);
        let [gamma, beta, running_mean, running_var, mean, invstd, affine] = first.state.each_ref().map(at);
        let before = (pad(c) as u32 / 2) << p.both;
        b.kernels.batchnorm_add_fwd_i8(
            Dims::linear(before + work + if operand { n as u32 * parts } else { 0 }, 256),
            STREAM,
            &p,
            at(&first.y),
            at(&first.e),
            at(&first.sums),
            gamma,
            beta,
            running_mean,
            running_var,
            mean,
            invstd,
            affine,
            second.as_ref().map_or(at(&stream), |second| at(&second.y)),
            second.as_ref().map_or(at(&streame), |second| at(&second.e)),
            of_second(&|second| at(&second.sums)),
            of_second(&|second| at(&second.state[0])),
            of_second(&|second| at(&second.state[1])),
            of_second(&|second| at(&second.state[2])),
            of_second(&|second| at(&second.state[3])),
            of_second(&|second| at(&second.state[4])),
            of_second(&|second| at(&second.state[5])),
            of_second(&|second| at(&second.state[6])),
            at(&step),
            at(&out),
            at(&oute),
            at(&mask),
            at(&q),
            at(&qe),
            at(&largest),
            at(&tickets),
            work,
            parts,
        )?;
        first.take(b)?;
        if let Some(second) = &second {
            second.take(b)?;
        }
        b.take(&[&out, &oute, &mask, &q, &qe, &tickets])?;
    }
    Ok(())
}

/// Rows, C; forms of what comes from behind; ReLU, second batchnorm, stream.
type Behind = ((usize, usize), (Form, Option<Form>), [bool; 3]);

const BEHIND: [Behind; 11] = [
    ((1, 1), (WIDE, None), [true, false, true]),
    ((70, 37), (WIDE, Some(Form::Stored)), [true, false, true]),
    ((130, 20), (Form::Stored, Some(Form::Stored)), [true, true, false]),
    ((33, 70), (Form::F32, Some(WIDE)), [true, true, true]),
    ((64, 48), (Form::Stored, Some(Form::F32)), [false, false, true]),
    ((9, 130), (WIDE, Some(WIDE)), [false, true, false]),
    ((20, 16), (Form::F32, None), [true, false, false]),
    ((20, 20), (Form::F32, Some(Form::F32)), [false, false, true]),
    ((10, 3), (Form::F32, Some(Form::F32)), [false, true, true]),
    ((70, 33), (Form::Stored, Some(Form::F32)), [false, false, true]),
    ((40, 3), (Form::Stored, None), [true, true, true]),
];

fn gradient(b: &Bench) -> Outcome {
    for (i, ((rows, c), (up, more), [relu, both, stream])) in b.each(BEHIND.into_iter().enumerate()) {
        let (y, other_y) = (b.small(&mantissas(0, rows, c))?, b.small(&mantissas(9, if both { rows } else { 0 }, c))?);
        let [up_of, upe] = b.tensor(up, rows, c)?;
        let [more_of, moree] = b.tensor(more.unwrap_or(WIDE), if more.is_some() { rows } else { 0 }, c)?;
        let mut bits = noise(if relu { mask_bytes(rows, c) } else { 0 });
        for row in bits.chunks_exact_mut(pad(c) / 8) {
            (c..pad(c)).for_each(|channel| row[channel / 8] &= !(1 << (channel % 8)));
        }
        let (mask, step) = (b.bytes(&bits)?, b.step()?);
        let (dz, dze) = (b.blank(rows * pad(c))?, b.blank(blocks(rows, c))?);
        let bytes = rows.div_ceil(64) * pad(c) * size_of::<GradientSums>();
        let (sums, other_sums) = (b.blank(bytes)?, b.blank(if both { bytes } else { 0 })?);
        let [dx, dxe] = b.written(WIDE, if stream { rows } else { 0 }, c)?;
        let p = BatchNormAddGradI8 {
            rows: rows as u32,
            c: c as u32,
            relu: u32::from(relu),
            both: u32::from(both),
            up: up as u32,
            add: u32::from(more.is_some()),
            more: more.unwrap_or_default() as u32,
            stream: u32::from(stream),
            noise: rounding(i % 3 != 2),
        };
        b.kernels.batchnorm_add_grad_i8(
            Dims::linear(blocks(rows, c) as u32, 256),
            STREAM,
            &p,
            at(&up_of),
            at(&upe),
            at(&more_of),
            at(&moree),
            at(&mask),
            at(&y),
            at(&other_y),
            at(&step),
            at(&dz),
            at(&dze),
            at(&sums),
            at(&other_sums),
            at(&dx),
            at(&dxe),
        )?;
        b.take(&[&dz, &dze, &sums, &other_sums, &dx, &dxe])?;
    }
    Ok(())
}
