//! Cases of the 8-bit kernels, each launched by itself: every tile and every split on shapes small enough for thousands of mutants. Operands are noise in the format's layout, with zeros in
//! padded channels; buffers end where the tensor ends; outputs are full of 0xff before, scratch memory is unwritten. Not here: whether results are right (`tests/kernels/int8.rs`).

mod batchnorm;
mod batchnorm_add;
mod gemm;
mod quantize;

use bytemuck::cast_slice;
use earlybird::backend::Memory;
use earlybird::driver::StreamId;
use earlybird::ops::batchnorm::{GradientSums, OutputSums};
use earlybird::ops::quantize::{Form, Noise};
use earlybird::quant::layout::pad;

use crate::bench::{Bench, Case, Outcome, floats, noise};

/// The case of an 8-bit kernel; `None` for others.
pub fn case(kernel: &str) -> Option<Case> {
    gemm::case(kernel)
        .or_else(|| batchnorm::case(kernel))
        .or_else(|| batchnorm_add::case(kernel))
        .or_else(|| quantize::case(kernel))
}

const STREAM: StreamId = StreamId::DEFAULT;

/// How results are rounded.
fn rounding(stochastic: bool) -> Noise {
    Noise { seed: [0x1234_5678, 0xfedc_ba98], tensor: 5, stochastic: u32::from(stochastic) }
}

/// Mantissas of `rows` rows, different ones for every `start`.
fn mantissas(start: usize, rows: usize, c: usize) -> Vec<i8> {
    let content = noise(start + rows * c);
    let mut all = vec![0; rows * pad(c)];
    for (row, from) in all.chunks_exact_mut(pad(c)).zip(content[start..].chunks_exact(c)) {
        row.iter_mut().zip(from).for_each(|(to, from)| *to = (*from as i8).max(-127));
    }
    all
}

/// Small exponents.
fn exponents(n: usize) -> Vec<i8> {
    noise(n + 3)[3..].iter().map(|v| (*v % 7) as i8 - 3).collect()
}

/// Sums over blocks of 64 rows of a stored tensor.
fn output_sums(m: &[i8], c: usize) -> Vec<OutputSums> {
    let strips = m.chunks(64 * pad(c));
    let one = |strip: &[i8], channel: usize| {
        let column = || strip.iter().skip(channel).step_by(pad(c)).copied();
        OutputSums {
            squares: column().map(|m| u32::from(m.unsigned_abs()).pow(2)).sum(),
            sum: column().map(i16::from).sum(),
            min: column().min().unwrap(),
            max: column().max().unwrap(),
        }
    };
    strips.flat_map(|strip| (0..pad(c)).map(move |channel| one(strip, channel))).collect()
}

/// The same of a gradient, with a stored tensor.
fn gradient_sums(dz: &[i8], y: &[i8], c: usize) -> Vec<GradientSums> {
    let strips = dz.chunks(64 * pad(c)).zip(y.chunks(64 * pad(c)));
    let one = |(dz, y): (&[i8], &[i8]), channel: usize| {
        let column = || dz.iter().zip(y).skip(channel).step_by(pad(c));
        GradientSums {
            products: column().map(|(dz, y)| i32::from(*dz) * i32::from(*y)).sum(),
            sum: column().map(|(dz, _)| i16::from(*dz)).sum(),
            max: column().map(|(dz, _)| dz.unsigned_abs()).max().unwrap(),
            zero: 0,
        }
    };
    strips.flat_map(|strip| (0..pad(c)).map(move |channel| one(strip, channel))).collect()
}

impl Bench<'_> {
    fn small(&self, numbers: &[i8]) -> Outcome<Memory> {
        self.bytes(cast_slice(numbers))
    }

    /// Floats of this size.
    fn scaled(&self, n: usize, scale: f32) -> Outcome<Memory> {
        let one = |v: &[u8]| f32::from_le_bytes([v[0], v[1], v[2], v[3]]) * scale;
        let all: Vec<f32> = floats(n).chunks_exact(4).map(one).collect();
        self.bytes(cast_slice(&all))
    }

    /// A tensor in this form: elements and exponents.
    fn tensor(&self, form: Form, rows: usize, c: usize) -> Outcome<[Memory; 2]> {
        let elements = match form {
            Form::F32 => self.floats(rows * c)?,
            Form::Stored => self.small(&mantissas(3, rows, c))?,
            Form::Bfp16 => {
                let content = noise(2 * rows * c + 1);
                let mut all = vec![0i16; rows * pad(c)];
                for (row, from) in all.chunks_exact_mut(pad(c)).zip(content[1..].chunks_exact(2 * c)) {
                    let pairs = row.iter_mut().zip(from.chunks_exact(2));
                    pairs.for_each(|(to, from)| *to = i16::from_le_bytes([from[0], from[1]]).max(-32767));
                }
                self.bytes(cast_slice(&all))?
            }
        };
        Ok([elements, self.small(&exponents(form.bytes(rows, c)[1]))?])
    }

    /// Room for such a tensor, full of 0xff.
    fn written(&self, form: Form, rows: usize, c: usize) -> Outcome<[Memory; 2]> {
        let [elements, exponents] = form.bytes(rows, c);
        Ok([self.blank(elements)?, self.blank(exponents)?])
    }

    /// The step counter.
    fn step(&self) -> Outcome<Memory> {
        self.words(&[17])
    }

    /// Two floats for each padded channel, zeros where there is none: a, then b.
    fn affine(&self, c: usize) -> Outcome<Memory> {
        let content = floats(2 * c + 5);
        let mut all = vec![0u8; 2 * pad(c) * 4];
        for half in 0..2 {
            let from = &content[(half * c + half * 5) * 4..][..c * 4];
            all[half * pad(c) * 4..][..c * 4].copy_from_slice(from);
        }
        self.bytes(&all)
    }
}
