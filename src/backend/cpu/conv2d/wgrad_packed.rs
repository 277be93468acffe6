//! The integer weight gradient on packed factors: the same sums as [`super::wgrad_i8`], fast.
//!
//! Rows of the product are outputs k, columns are input channels, and the pixels are what is summed over: words hold the same channel of neighbouring pixels. A task has a block of outputs
//! and channels and a slice of the pixels; it packs a stretch of pixels once for the outputs and once per tap for the channels. Slices add up in i64.

use std::cell::RefCell;

use rayon::prelude::*;

use super::super::memory::Shared;
use super::super::simd_int8::{Level, vectorised_i8};
use super::choice::{Form, IntegerPath};
use super::lanes::{self, TILE_ROWS, Unit};
use super::packed::grow;
use super::panels::{self, Stack};
use super::taps::{Forward, Row, Taps};
use super::tiles::TILE;
use super::winograd::Winograd;
use super::winograd_wgrad;
use crate::ops::conv2d::Conv2d;
use crate::quant::bfp;
use crate::quant::layout::{WGRAD_SLICE, pad};

/// Outputs and channels of a block, and words of a row that are multiplied at once.
#[derive(Clone, Copy, Debug)]
struct Block {
    outputs: usize,
    channels: usize,
    stretch: usize,
}

/// Products pixel by pixel: a panel of 16 columns is 16 kB.
const DIRECT: Block = Block { outputs: 128, channels: 64, stretch: 256 };
/// Winograd's, whose stretch is its own.
const WINOGRAD: Block = Block { outputs: 64, ..DIRECT };
/// Tiles are so fast that packing counts: per pixel, tap and channel a byte of the input that serves all outputs of a block, hence many of those. A panel of 32 columns and the 32 rows that pass by are 32 kB, and the sums
/// of nine taps 590 kB, in a second-level cache of 2 MB.
const TILES: Block = Block { outputs: 256, channels: 64, stretch: 128 };
/// Channels that are summed over slices at once.
const CHANNELS: usize = 64;
/// Tasks wanted at least, so that many threads find work.
const TASKS: usize = 32;
/// Elements of partial sums that are worth their memory.
const PARTIAL: usize = 1 << 21;

/// How the work is split: a function of the shape and the instructions alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Split {
    /// The geometry of Winograd's algorithm, where it is used.
    winograd: Option<Winograd>,
    block: Block,
    /// Blocks of outputs.
    outputs: usize,
    /// Blocks of channels.
    channels: usize,
    /// Slices of pixels.
    slices: usize,
    /// Pixels of a slice.
    pixels: usize,
    /// Sums of a slice: `[K][taps][pad C]`.
    length: usize,
}

impl Split {
    pub(super) fn new(products: IntegerPath, p: &Conv2d) -> Split {
        let winograd = Winograd::forward(products, p);
        let (block, most) = match (winograd, products.form()) {
            (Some(_), _) => (WINOGRAD, winograd_wgrad::SLICE),
            (None, Some(Form::Tiles)) => (TILES, WGRAD_SLICE),
            _ => (DIRECT, WGRAD_SLICE),
        };
        let (k, c, rows) = (p.k as usize, pad(p.c as usize), p.rows());
        let (outputs, channels) = (k.div_ceil(block.outputs), c.div_ceil(block.channels));
        let length = k * (p.r * p.s) as usize * c;
        let worth = (PARTIAL / length.max(1)).clamp(1, TASKS.div_ceil(outputs * channels));
        let wanted = worth.max(rows.div_ceil(most)).max(1);
        // A whole number of stretches, in every form.
        let pixels = rows.div_ceil(wanted).next_multiple_of(4 * DIRECT.stretch).min(most);
        Split { winograd, block, outputs, channels, slices: rows.div_ceil(pixels), pixels, length }
    }

    /// Bytes of scratch memory.
    pub(super) fn workspace(&self) -> usize {
        if self.slices == 1 { 0 } else { self.slices * self.length * 4 }
    }
}

/// Scratch of a thread.
#[derive(Default)]
struct Scratch {
    rows: Vec<Row>,
    words: Vec<u32>,
    outputs: Vec<u32>,
    channels: Vec<u32>,
    sums: Vec<i32>,
    corrections: Vec<i32>,
    winograd: winograd_wgrad::Buffers,
}

vectorised_i8! {
    fn scaled(sums: &[i32], scale: f32, out: &mut [f32]) {
        out.iter_mut().zip(sums).for_each(|(out, sum)| *out = *sum as f32 * scale);
    }
}

/// Computes `dw` from padded operands; `products` are not plain.
#[allow(clippy::too_many_arguments)]
pub(super) fn run(
    (products, form): (IntegerPath, Form),
    level: Level,
    p: &Conv2d,
    shape: &Conv2d,
    x: &[i8],
    dyw: &[i8],
    exponents: &[i8],
    dw: &mut [f32],
    workspace: &mut [i32],
) {
    thread_local!(static SCRATCH: RefCell<Scratch> = RefCell::default());
    let split = Split::new(products, p);
    let (taps, k, c) = ((p.r * p.s) as usize, p.k as usize, p.c as usize);
    let (partial, out) = (Shared::new(bytemuck::cast_slice_mut(workspace)), Shared::new(dw));
    (0..split.slices * split.outputs * split.channels).into_par_iter().for_each(|number| {
        let (slice, block) = (number / (split.outputs * split.channels), number % (split.outputs * split.channels));
        let (output, channel) =
            (block / split.channels * split.block.outputs, block % split.channels * split.block.channels);
        let task = Task {
            products,
            form,
            level,
            p,
            taps: Forward(shape),
            x,
            dyw,
            winograd: split.winograd,
            stretch: split.block.stretch,
            k: output..(output + split.block.outputs).min(k),
            c: channel..(channel + split.block.channels).min(pad(c)),
        };
        SCRATCH.with_borrow_mut(|scratch| {
            task.sum(slice * split.pixels..((slice + 1) * split.pixels).min(p.rows()), scratch);
            for (i, k) in task.k.clone().enumerate() {
                let scale = bfp::power(i32::from(exponents[k]) - 12);
                for tap in 0..taps {
                    let sums = task.row(&scratch.sums, tap, i);
                    if split.slices == 1 {
                        let there = c.saturating_sub(task.c.start).min(sums.len());
                        // SAFETY: inside `dw`, and only this task has this block.
                        let out = unsafe {
                            std::slice::from_raw_parts_mut(out.at((k * taps + tap) * c + task.c.start), there)
                        };
                        scaled(level, &sums[..there], scale, out);
                    } else {
                        let first = slice * split.length + (k * taps + tap) * pad(c) + task.c.start;
                        // SAFETY: inside the workspace, and only this task has this block of this slice.
                        let out = unsafe { std::slice::from_raw_parts_mut(partial.at(first).cast(), sums.len()) };
                        out.copy_from_slice(sums);
                    }
                }
            }
        });
    });
    if split.slices > 1 {
        let partial = &workspace[..split.slices * split.length];
        dw.par_chunks_mut(taps * c).enumerate().for_each(|(k, dw)| {
            let scale = bfp::power(i32::from(exponents[k]) - 12);
            for (tap, dw) in dw.chunks_exact_mut(c).enumerate() {
                let first = (k * taps + tap) * pad(c);
                let slices = (0..split.slices).map(|slice| &partial[slice * split.length + first..][..c]);
                for (first, dw) in dw.chunks_mut(CHANNELS).enumerate() {
                    let mut total = [0i64; CHANNELS];
                    for slice in slices.clone() {
                        let sums = &slice[first * CHANNELS..];
                        total.iter_mut().zip(sums).for_each(|(total, sum)| *total += i64::from(*sum));
                    }
                    dw.iter_mut().zip(total).for_each(|(dw, total)| *dw = total as f32 * scale);
                }
            }
        });
    }
}

/// A block of outputs and channels.
struct Task<'a> {
    products: IntegerPath,
    form: Form,
    level: Level,
    p: &'a Conv2d,
    taps: Forward<'a>,
    x: &'a [i8],
    dyw: &'a [i8],
    winograd: Option<Winograd>,
    /// Words of a row that are multiplied at once.
    stretch: usize,
    k: std::ops::Range<usize>,
    c: std::ops::Range<usize>,
}

impl Task<'_> {
    /// Rows of sums per tap.
    fn rows(&self) -> usize {
        match self.winograd {
            Some(_) => pad(self.k.len()),
            None if self.form == Form::Tiles => self.k.len().next_multiple_of(TILE),
            None => self.k.len().next_multiple_of(TILE_ROWS),
        }
    }

    /// The sums of one tap and output.
    fn row<'s>(&self, sums: &'s [i32], tap: usize, output: usize) -> &'s [i32] {
        &sums[(tap * self.rows() + output) * self.c.len()..][..self.c.len()]
    }

    /// Sums over the pixels `range` for every tap, output and channel of the block.
    fn sum(&self, range: std::ops::Range<usize>, scratch: &mut Scratch) {
        let (depth, width) = (self.form.depth(), self.products.panel());
        let (k, c, rows) = (self.k.len(), self.c.len(), self.rows());
        let (taps, extent, stride) = ((self.p.r * self.p.s) as usize, self.p.s as usize, pad(self.p.k as usize));
        let Scratch { rows: places, words, outputs, channels, sums, corrections, winograd } = scratch;
        if let Some(shape) = self.winograd {
            grow(sums, taps * rows * c, 0);
            let block = winograd_wgrad::Block {
                products: self.products,
                shape,
                x: self.x,
                dyw: self.dyw,
                stride,
                k: (self.k.start, rows),
                c: (self.c.start, c),
            };
            return block.sum(range, winograd, sums);
        }
        grow(words, (k * self.form.grain()).max(c), 0);
        grow(outputs, rows * self.stretch, 0);
        grow(channels, c.next_multiple_of(width) * self.stretch, 0);
        grow(sums, taps * rows * c, 0);
        corrections.clear();
        corrections.resize(taps * c, 0);
        let sums = &mut sums[..taps * rows * c];
        // SAFETY: who chose the products has made sure that the machine has them. No other task runs on this thread before the unit goes.
        let unit = unsafe { Unit::new(self.products) };
        for first in range.clone().step_by(self.stretch * depth) {
            let until = (first + self.stretch * depth).min(range.end);
            let steps = (until - first).div_ceil(depth).next_multiple_of(self.form.grain());
            places.clear();
            places.extend((first..until).map(|row| self.taps.row(row)));
            let gradients = |step: usize| -> Stack {
                std::array::from_fn(|i| {
                    let row = first + step * depth + i;
                    (i < depth && row < until).then(|| &self.dyw[row * stride + self.k.start..][..k])
                })
            };
            let shape = if self.form == Form::Tiles {
                for (number, step) in (0..steps).step_by(TILE).enumerate() {
                    for (i, words) in words[..k * TILE].chunks_exact_mut(k).enumerate() {
                        panels::stack(self.level, self.form, &gradients(step + i), words);
                    }
                    panels::turn(self.level, &words[..k * TILE], k, number * TILE, steps, outputs);
                }
                outputs[k * steps..rows * steps].fill(0);
                lanes::Shape::Dense(steps)
            } else {
                for step in 0..steps {
                    panels::stack(self.level, self.form, &gradients(step), &mut words[..k]);
                    panels::group(self.form, &words[..k], step, steps, outputs);
                }
                lanes::Shape::Grouped
            };
            for tap in 0..taps {
                for step in 0..steps {
                    let stack: Stack = std::array::from_fn(|i| {
                        let place = places.get(step * depth + i).filter(|_| i < depth)?;
                        let pixel = self.taps.pixel(place, tap / extent, tap % extent)?;
                        Some(&self.x[pixel + self.c.start..][..c])
                    });
                    panels::stack(self.level, self.form, &stack, &mut words[..c]);
                    panels::spread(&words[..c], width, step, steps, channels);
                    if self.form == Form::Quads {
                        panels::add_bytes(self.level, &words[..c], &mut corrections[tap * c..]);
                    }
                }
                let rows = lanes::Rows { start: outputs.as_ptr(), shape, count: rows };
                let columns = lanes::Columns {
                    start: channels.as_ptr(),
                    width,
                    panel: steps * width,
                    count: c,
                    sums: sums[tap * rows.count * c..].as_mut_ptr(),
                    stride: c,
                };
                // SAFETY: both factors were packed for `steps` steps, the sums of a tap are `rows` rows of `c`.
                unsafe { unit.multiply(rows, columns, steps, first == range.start) };
            }
        }
        if self.form != Form::Quads {
            return;
        }
        for (tap, sums) in sums.chunks_exact_mut(rows * c).enumerate() {
            let corrections = &corrections[tap * c..][..c];
            for row in sums.chunks_exact_mut(c) {
                row.iter_mut().zip(corrections).for_each(|(sum, x)| *sum = sum.wrapping_sub(x.wrapping_mul(128)));
            }
        }
    }
}
