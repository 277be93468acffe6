//! The gradient behind an 8-bit batchnorm: un-pooling and the ReLU's mask, stored in blocks with its sums.
//!
//! Formulas: [`crate::backend::Int8::batchnorm_grad_i8`].

use rayon::prelude::*;

use super::super::Cpu;
use super::super::memory::{f32s, i8s, i8s_mut, u32_of};
use super::super::noise::Source;
use super::super::simd_int8::{Level, vectorised_i8};
use super::super::stream::{Read, add};
use super::super::tile::{self, COLUMNS, ROWS, Strip, Tile};
use super::i8::Stored;
use crate::Result;
use crate::backend::{Bfp, Normalised, Span};
use crate::ops::batchnorm::{BatchNormI8, GradientSums, SizesI8};
use crate::ops::pool::Pool;
use crate::ops::quantize::Form;

vectorised_i8! {
    /// Adds a row where `index` is `tap`.
    fn add_won(up: &[f32], index: &[u8], tap: u8, out: &mut [f32]) {
        for ((out, up), index) in out.iter_mut().zip(up).zip(index) {
            *out += if *index == tap { *up } else { 0.0 };
        }
    }
}

/// The gradient that comes from behind, in one tensor or two.
struct Up<'a> {
    up: Read<'a>,
    more: Option<Read<'a>>,
    c: usize,
}

impl Up<'_> {
    /// Adds the gradient of row `row`, block of channels `column`, to `out`, where the row's `index` is `tap`.
    fn add(
        &self,
        level: Level,
        row: usize,
        column: usize,
        (index, tap): (Option<&[u8]>, u8),
        out: &mut [f32; COLUMNS],
    ) {
        let (mut sum, mut more) = ([0.0; COLUMNS], [0.0; COLUMNS]);
        let width = (self.c - column * COLUMNS).min(COLUMNS);
        self.up.part(level, row, column, &mut sum[..width]);
        if let Some(other) = &self.more {
            other.part(level, row, column, &mut more[..width]);
            add(level, &more[..width], &mut sum[..width]);
        }
        match index {
            Some(index) => add_won(level, &sum[..width], index, tap, out),
            None => add(level, &sum[..width], out),
        }
    }
}

/// Calls `f(output pixel, tap)` for every window that holds input pixel (h, w), in order.
fn each_window(p: &Pool, pixel: u32, f: &mut dyn FnMut(usize, u8)) {
    let (h, w) = (pixel / p.w + p.padding, pixel % p.w + p.padding);
    // The first window that reaches a coordinate, and the one behind the last.
    let range = |at: u32, kernel: u32, count: u32| {
        let first = (at + 1).saturating_sub(kernel).div_ceil(p.stride);
        first..(at / p.stride + 1).min(count)
    };
    for row in range(h, p.kernel_h, p.p) {
        for column in range(w, p.kernel_w, p.q) {
            let tap = (h - row * p.stride) * p.kernel_w + (w - column * p.stride);
            f((row * p.q + column) as usize, tap as u8);
        }
    }
}

/// Most windows that a pixel lies in for [`Windows`].
const MOST: usize = 4;

/// The windows of each row of a block, found once for all its channels.
struct Windows {
    /// Row of the pool's output, tap.
    all: [[(usize, u8); MOST]; ROWS],
    counts: [usize; ROWS],
}

impl Windows {
    /// Those of `rows` rows from `first` on; `None` without a pool and where a pixel may lie in too many.
    fn of(p: &Pool, s: &SizesI8, first: usize, rows: usize) -> Option<Windows> {
        let most = |kernel: u32| kernel.div_ceil(p.stride.max(1)) as usize;
        if p.kernel_h == 0 || most(p.kernel_h) * most(p.kernel_w) > MOST {
            return None;
        }
        let mut windows = Windows { all: [[(0, 0); MOST]; ROWS], counts: [0; ROWS] };
        for i in 0..rows {
            let (image, pixel) = ((first + i) / s.pixels, (first + i) % s.pixels);
            each_window(p, pixel as u32, &mut |output: usize, tap: u8| {
                windows.all[i][windows.counts[i]] = (image * s.pooled + output, tap);
                windows.counts[i] += 1;
            });
        }
        Some(windows)
    }

    fn of_row(&self, i: usize) -> &[(usize, u8)] {
        &self.all[i][..self.counts[i]]
    }
}

impl Cpu {
    #[allow(clippy::too_many_arguments)]
    pub(in super::super) fn batchnorm_grad_i8(
        &self,
        p: &BatchNormI8,
        up: Bfp,
        more: Bfp,
        index: Span,
        forward: Normalised,
        step: Span,
        dz: Bfp,
        sums: Span,
    ) -> Result<()> {
        let s = SizesI8::of(p);
        let (pooled, pools) = (s.n * s.pooled, p.pool.kernel_h != 0);
        let ups = Form::of(p.gradient).bytes(pooled, s.c);
        let added = if p.add != 0 { Form::of(p.more).bytes(pooled, s.c) } else { [0; 2] };
        let io = self.memory.open(
            "batchnorm_grad_i8",
            [
                (up.mantissas, ups[0]),
                (up.exponents, ups[1]),
                (more.mantissas, added[0]),
                (more.exponents, added[1]),
                (index, if pools { pooled * s.stride } else { 0 }),
                (forward.y.mantissas, s.rows * s.stride),
                (forward.y.exponents, s.exponents()),
                (forward.affine, 2 * s.stride * 4),
                (step, 4),
            ],
            [
                (dz.mantissas, s.rows * s.stride),
                (dz.exponents, s.exponents()),
                (sums, s.sums() * size_of::<GradientSums>()),
            ],
        )?;
        let [up, upe, more, moree, index, y, ye, affine, step] = io.read;
        let [dz, dze, sums] = io.write;
        let more = (p.add != 0).then(|| Read::new(p.more, more, moree, s.c));
        let up = Up { up: Read::new(p.gradient, up, upe, s.c), more, c: s.c };
        let (y, (a, b)) = (Stored { mantissas: i8s(y), exponents: i8s(ye) }, f32s(affine).split_at(s.stride));
        let (level, noise) = (self.level, Source::new(&p.noise, u32_of(step)));
        let sums: &mut [GradientSums] = bytemuck::cast_slice_mut(sums);
        let strips = i8s_mut(dz).par_chunks_mut(ROWS * s.stride).zip(i8s_mut(dze).par_chunks_mut(s.across));
        strips.zip(sums.par_chunks_mut(s.stride)).enumerate().for_each(|(number, ((mantissas, exponents), sums))| {
            let mut strip = Strip { number, channels: s.c, mantissas, exponents };
            let (mut tile, rows, first) = (Tile::new(), strip.rows(), number * ROWS);
            let windows = Windows::of(&p.pool, &s, first, rows);
            for column in 0..s.across {
                for (i, values) in tile.values.iter_mut().enumerate().take(rows) {
                    *values = [0.0; COLUMNS];
                    if pools {
                        let mut add = |row: usize, tap: u8| {
                            let index = &index[row * s.stride + column * COLUMNS..(row + 1) * s.stride];
                            up.add(level, row, column, (Some(index), tap), values);
                        };
                        match &windows {
                            Some(windows) => windows.of_row(i).iter().for_each(|(row, tap)| add(*row, *tap)),
                            None => {
                                let (image, pixel) = ((first + i) / s.pixels, (first + i) % s.pixels);
                                let mut add = |output, tap| add(image * s.pooled + output, tap);
                                each_window(&p.pool, pixel as u32, &mut add);
                            }
                        }
                    } else {
                        up.add(level, first + i, column, (None, 0), values);
                    }
                }
                tile.load_other(
                    &y.mantissas[first * s.stride..(first + rows) * s.stride],
                    s.stride,
                    column * COLUMNS,
                    strip.width(column),
                );
                if p.relu != 0 {
                    let scale = y.scale(&s, first, column);
                    tile::mask(level, &mut tile, scale, &tile::part(a, column), &tile::part(b, column));
                }
                strip.put(level, column, &mut tile, noise);
                tile::gradient_sums(level, &tile, &mut sums[column * COLUMNS..]);
            }
        });
        Ok(())
    }
}
