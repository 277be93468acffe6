//! One case for every kernel: launches with odd sizes, on buffers exactly as large as they must be, and everything that comes out of them.

use earlybird::backend::cuda::launch::Kernels;
use earlybird::driver::{DevPtr, Dims, Fill, Result, StreamId};
use earlybird::ops::mask::Mask;
use earlybird::ops::matmul::Matmul;

use crate::bench::{Bench, Case, Outcome, floats, noise};
use crate::{int8, operators};

/// The case of a kernel; `None` where there is none yet.
pub fn case(kernel: &str) -> Option<Case> {
    Some(match kernel {
        "fill_u32" => fill,
        "copy_u8" => copy,
        "cast_f32_f16" => |b| cast(b, 4, 2, |k, d, x, y, n| k.cast_f32_f16(d, STREAM, x, y, n)),
        "cast_f32_bf16" => |b| cast(b, 4, 2, |k, d, x, y, n| k.cast_f32_bf16(d, STREAM, x, y, n)),
        "cast_f32_i8" => |b| cast(b, 4, 1, |k, d, x, y, n| k.cast_f32_i8(d, STREAM, x, y, n)),
        "cast_f32_u8" => |b| cast(b, 4, 1, |k, d, x, y, n| k.cast_f32_u8(d, STREAM, x, y, n)),
        "cast_f16_f32" => |b| cast(b, 2, 4, |k, d, x, y, n| k.cast_f16_f32(d, STREAM, x, y, n)),
        "cast_bf16_f32" => |b| cast(b, 2, 4, |k, d, x, y, n| k.cast_bf16_f32(d, STREAM, x, y, n)),
        "cast_i8_f32" => |b| cast(b, 1, 4, |k, d, x, y, n| k.cast_i8_f32(d, STREAM, x, y, n)),
        "cast_u8_f32" => |b| cast(b, 1, 4, |k, d, x, y, n| k.cast_u8_f32(d, STREAM, x, y, n)),
        "mask_step_f32" => mask,
        "matmul_nn_f32" => |b| matmul(b, LARGE, Matmul::nn, |k, d, p, x, y, z| k.matmul_nn_f32(d, STREAM, p, x, y, z)),
        "matmul_nt_f32" => |b| matmul(b, LARGE, Matmul::nt, |k, d, p, x, y, z| k.matmul_nt_f32(d, STREAM, p, x, y, z)),
        "matmul_tn_f32" => |b| matmul(b, LARGE, Matmul::tn, |k, d, p, x, y, z| k.matmul_tn_f32(d, STREAM, p, x, y, z)),
        "matmul_nn_f32_small" => {
            |b| matmul(b, SMALL, Matmul::nn, |k, d, p, x, y, z| k.matmul_nn_f32_small(d, STREAM, p, x, y, z))
        }
        "matmul_nt_f32_small" => {
            |b| matmul(b, SMALL, Matmul::nt, |k, d, p, x, y, z| k.matmul_nt_f32_small(d, STREAM, p, x, y, z))
        }
        "matmul_tn_f32_small" => {
            |b| matmul(b, SMALL, Matmul::tn, |k, d, p, x, y, z| k.matmul_tn_f32_small(d, STREAM, p, x, y, z))
        }
        _ => return int8::case(kernel).or_else(|| operators::case(kernel)),
    })
}

const STREAM: StreamId = StreamId::DEFAULT;

impl Bench<'_> {
    /// A matrix of `rows` x `columns` floats with `pitch` floats from row to row. What lies between rows stays unwritten, and nothing lies behind the last.
    fn matrix(&self, rows: u32, columns: u32, pitch: u32) -> Result<DevPtr> {
        let (rows, columns, pitch) = (rows as usize, columns as usize, pitch as usize);
        let at = self.raw(((rows - 1) * pitch + columns) * 4)?;
        for (row, content) in floats(rows * columns).chunks_exact(columns * 4).enumerate() {
            self.kernels.driver().copy_htod(at.offset(row * pitch * 4), content, STREAM)?;
        }
        Ok(at)
    }
}

fn fill(b: &Bench) -> Outcome {
    // (elements in front, elements, blocks): ends off the 16-byte grid, no whole chunk, more chunks than threads.
    for (front, n, grid) in b.each([(0, 37, 1), (1, 38, 2), (3, 2, 1), (1, 1301, 1)]) {
        let bytes = (front + n) * 4;
        let x = b.put(&noise(bytes))?;
        b.kernels.fill_u32(Dims::linear(grid, 256), STREAM, x.offset(front * 4), n as u32, 0xdead_beef)?;
        b.get(x, bytes)?;
    }
    Ok(())
}

fn copy(b: &Bench) -> Outcome {
    for (skew_x, skew_y, n, grid) in
        b.each([(0, 0, 37, 1), (5, 5, 150, 1), (3, 4, 300, 1), (3, 4, 100, 1), (9, 9, 4, 1), (1, 1, 4500, 1)])
    {
        let (x, y) = (b.put(&noise(skew_x + n))?, b.put(&noise(skew_y + n)[..])?);
        b.kernels.driver().fill(y, Fill::U8(1), skew_y + n, STREAM)?;
        b.kernels.copy_u8(Dims::linear(grid, 256), STREAM, x.offset(skew_x), y.offset(skew_y), n as u32)?;
        b.get(y, skew_y + n)?;
    }
    Ok(())
}

fn cast(b: &Bench, from: usize, to: usize, launch: fn(&Kernels, Dims, DevPtr, DevPtr, u32) -> Result<()>) -> Outcome {
    // (elements in front of x and y, elements): a wide body with a tail, less than one chunk, no alignment at all, several rounds.
    for (front_x, front_y, n) in b.each([(0, 0, 37), (0, 0, 5), (1, 0, 300), (0, 1, 290), (0, 0, 4400)]) {
        let content = if from == 4 { floats(front_x + n) } else { noise((front_x + n) * from) };
        let (x, y) = (b.put(&content)?, b.put(&noise((front_y + n) * to))?);
        launch(&b.kernels, Dims::linear(1, 256), x.offset(front_x * from), y.offset(front_y * to), n as u32)?;
        b.get(y, (front_y + n) * to)?;
    }
    Ok(())
}

fn mask(b: &Bench) -> Outcome {
    let ties = |n: usize| noise(n).iter().flat_map(|v| f32::from(v % 4).to_le_bytes()).collect::<Vec<u8>>();
    // Zeros, then numbers whose upper digits are those of zero, so that a thread without a scale must not count as one.
    let tiny = |n: usize| (0..n as u32).flat_map(|i| (i.saturating_sub(28) * 3000).to_le_bytes()).collect::<Vec<u8>>();
    let eight = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8];
    // More scales than threads, a last word that is not full, ties; all ratios; a ring that goes round.
    let draws: [(Vec<u8>, &[f64], usize); 4] = [
        (floats(1100), &eight[2..5], 3),
        (ties(70), &eight[4..5], 2),
        (tiny(70), &eight[3..5], 2),
        (floats(90), &eight, 1),
    ];
    for (scales, ratios, depth) in b.each(draws) {
        let x = b.put(&scales)?;
        let mut p = Mask::new(scales.len() / 4, ratios, depth)?;
        let ring_bytes = p.ring_words() * 4;
        let ring = b.raw(ring_bytes)?;
        for round in 0..depth + 2 {
            let (thresholds, distances) = (b.raw(ratios.len() * 4)?, b.raw(ratios.len() * depth * 4)?);
            let kept = b.raw(ratios.len() * 4 + 4)?;
            b.kernels.mask_step_f32(Dims::linear(1, 1024), STREAM, &p, x, ring, thresholds, distances, kept)?;
            b.get(thresholds, ratios.len() * 4)?;
            b.get(distances, ratios.len() * depth * 4)?;
            b.get(kept, ratios.len() * 4 + 4)?;
            // Other scales for the next round: the old ones moved on.
            let mut moved = scales.clone();
            moved.rotate_left(4 * (round + 1));
            b.kernels.driver().copy_htod(x, &moved, STREAM)?;
            p = p.next();
        }
        b.get(ring, ring_bytes)?;
    }
    Ok(())
}

/// Block and tile of the two sizes of the product, and shapes: one past a multiple of four in every direction, with a sum of one slice and of several.
struct Tile {
    threads: u32,
    side: u32,
    shapes: &'static [[u32; 3]],
}

const LARGE: &Tile = &Tile { threads: 256, side: 128, shapes: &[[133, 129, 5], [133, 129, 13]] };
const SMALL: &Tile = &Tile { threads: 64, side: 32, shapes: &[[37, 33, 5], [37, 33, 21], [53, 49, 13], [53, 49, 29]] };

fn matmul(
    b: &Bench,
    tile: &Tile,
    shape: fn(u32, u32, u32) -> Matmul,
    launch: fn(&Kernels, Dims, &Matmul, DevPtr, DevPtr, DevPtr) -> Result<()>,
) -> Outcome {
    // Rows one after another, and rows that start at multiples of 16 bytes.
    let all = tile.shapes.iter().flat_map(|shape| [(*shape, false), (*shape, true)]);
    for ([m, n, k], pitched) in b.each(all) {
        let dense = shape(m, n, k);
        let pitch = |columns: u32| if pitched { columns.next_multiple_of(4) } else { columns };
        let p = Matmul { lda: pitch(dense.lda), ldb: pitch(dense.ldb), ldc: pitch(n), ..dense };
        let (x, y) = (b.matrix(m * k / dense.lda, dense.lda, p.lda)?, b.matrix(k * n / dense.ldb, dense.ldb, p.ldb)?);
        let bytes = ((m - 1) * p.ldc + n) as usize * 4;
        let z = b.put(&noise(bytes))?;
        let grid = [n.div_ceil(tile.side), m.div_ceil(tile.side), 1];
        launch(&b.kernels, Dims { grid, block: [tile.threads, 1, 1], shared: 0 }, &p, x, y, z)?;
        b.get(z, bytes)?;
    }
    Ok(())
}
