//! The implicit GEMM of the forward pass and the data gradient: `y[row][k] = sum over taps and depth of x[pixel(row, tap)][c] * w[tap][c][k]`.
//!
//! No patch matrix is built: a register tile of `MR` rows x `NV` vectors walks through the taps with one pointer per row; padding points to a row of zeros. Weights are
//! packed into panels `[block of k][tap][c][NV * LANES]`, zero-padded, so that the inner loop reads them in a straight line. Per step of c: NV loads, MR
//! broadcasts, MR*NV multiply-adds: 28 to 16 loads with AVX-512, which keeps two FMA pipes busy. Each output is one chain of multiply-adds in a fixed order.

use std::cell::RefCell;

use rayon::prelude::*;

use super::super::memory::Shared;
use super::super::simd::{Path, Plain, Vector};
use super::taps::{Row, Taps};

/// Rows that a task works on: its input should stay in the second-level cache while panels pass by.
const CHUNK_TILES: usize = 16;
/// Bytes of panels used together on one tile; they should stay in the second-level cache, too.
const PANEL_BYTES: usize = 384 << 10;

/// Rows and columns of the register tile of a path: (MR, NV * LANES).
pub fn tile_shape(path: Path) -> (usize, usize) {
    match path {
        Path::Avx512 => (14, 32),
        Path::Avx2 => (6, 16),
        Path::Portable => (2, 16),
    }
}

/// Elements of packed weights for `width` outputs of `taps` x `depth` each.
pub fn packed_len(path: Path, taps: usize, depth: usize, width: usize) -> usize {
    let (_, nr) = tile_shape(path);
    width.div_ceil(nr) * nr * taps * depth
}

/// Packs `w` through `at(k, tap, c)`: the element that multiplies depth c of tap for output k.
pub fn pack(
    path: Path,
    taps: usize,
    depth: usize,
    width: usize,
    out: &mut [f32],
    fill: impl Fn(usize, usize, &mut [f32]) + Sync,
) {
    let (_, nr) = tile_shape(path);
    out.par_chunks_mut(nr * taps * depth).take(width.div_ceil(nr)).enumerate().for_each(|(block, panel)| {
        for (tap, rows) in panel.chunks_exact_mut(nr * depth).enumerate() {
            rows.fill(0.0);
            fill(block * nr, tap, rows);
        }
    });
}

/// One pass over all rows.
pub struct Gemm<'a> {
    /// Input.
    pub x: &'a [f32],
    /// Packed weights.
    pub panels: &'a [f32],
    /// At least `depth` zeros.
    pub zeros: &'a [f32],
    /// Outputs per row.
    pub width: usize,
    /// Added to every row.
    pub bias: Option<&'a [f32]>,
}

impl Gemm<'_> {
    /// Computes rows `0..rows` into `y`.
    pub fn run(&self, path: Path, taps: &impl Taps, rows: usize, y: &mut [f32]) {
        let (mr, nr) = tile_shape(path);
        let (r, s) = taps.extent();
        let blocks = self.width.div_ceil(nr);
        let panel = r * s * taps.depth() * nr * 4;
        let group = (PANEL_BYTES / panel.max(1)).clamp(1, blocks);
        let (chunks, groups) = (rows.div_ceil(mr * CHUNK_TILES), blocks.div_ceil(group));
        let shared = Shared::new(y);
        (0..chunks * groups).into_par_iter().for_each(|task| {
            let (first, block) = (task / groups * mr * CHUNK_TILES, task % groups * group);
            let until = (first + mr * CHUNK_TILES).min(rows);
            self.rows(path, taps, first, until, block..(block + group).min(blocks), shared);
        });
    }

    /// As [`Gemm::run`] for few channels: `make` writes the patches of a run of rows, which are then dense.
    pub fn run_patches(
        &self,
        path: Path,
        depth: usize,
        rows: usize,
        y: &mut [f32],
        make: impl Fn(usize, usize, &mut Vec<f32>) + Sync,
    ) {
        thread_local!(static PATCHES: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) });
        let (mr, nr) = tile_shape(path);
        let chunk = mr * CHUNK_TILES;
        y.par_chunks_mut(chunk * self.width).enumerate().for_each(|(i, y)| {
            PATCHES.with_borrow_mut(|patches| {
                let (first, rows) = (i * chunk, (rows - i * chunk).min(chunk));
                make(first, rows, patches);
                let gemm = Gemm { x: patches, ..*self };
                let taps = super::taps::Dense { depth };
                gemm.rows(path, &taps, 0, rows, 0..self.width.div_ceil(nr), Shared::new(y));
            });
        });
    }

    fn rows(
        &self,
        path: Path,
        taps: &impl Taps,
        first: usize,
        until: usize,
        blocks: std::ops::Range<usize>,
        y: Shared,
    ) {
        match path {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the path says that the machine has the instructions.
            Path::Avx512 => unsafe { rows_avx512(self, taps, first, until, blocks, y) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Path::Avx2 => unsafe { rows_avx2(self, taps, first, until, blocks, y) },
            // SAFETY: needs nothing of the machine.
            _ => unsafe { rows_of::<Plain, _, 2>(self, taps, first, until, blocks, y) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
unsafe fn rows_avx512(
    gemm: &Gemm,
    taps: &impl Taps,
    first: usize,
    until: usize,
    blocks: std::ops::Range<usize>,
    y: Shared,
) {
    // SAFETY: the caller's promises are the same.
    unsafe { rows_of::<super::super::simd::Avx512, _, 14>(gemm, taps, first, until, blocks, y) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn rows_avx2(
    gemm: &Gemm,
    taps: &impl Taps,
    first: usize,
    until: usize,
    blocks: std::ops::Range<usize>,
    y: Shared,
) {
    // SAFETY: the caller's promises are the same.
    unsafe { rows_of::<super::super::simd::Avx2, _, 6>(gemm, taps, first, until, blocks, y) }
}

/// Rows `first..until` for `blocks` of outputs.
///
/// # Safety
/// The machine has the instructions of `V`; `y` has `until * width` elements and no other task writes these rows and blocks.
#[inline(always)]
unsafe fn rows_of<V: Vector, T: Taps, const MR: usize>(
    gemm: &Gemm,
    taps: &T,
    first: usize,
    until: usize,
    blocks: std::ops::Range<usize>,
    y: Shared,
) {
    let (r, s) = taps.extent();
    let nr = 2 * V::LANES;
    let panel = r * s * taps.depth() * nr;
    debug_assert!(gemm.zeros.len() >= taps.depth() && gemm.panels.len() >= blocks.end * panel);
    for start in (first..until).step_by(MR) {
        let count = MR.min(until - start);
        let rows: [Row; MR] = std::array::from_fn(|i| taps.row(start + i.min(count - 1)));
        for block in blocks.clone() {
            let k = block * nr;
            let left = gemm.width - k;
            // SAFETY: the panel of this block lies inside the packed weights, asserted where they are made.
            let panel = unsafe { gemm.panels.as_ptr().add(block * panel) };
            let out = y.at(start * gemm.width + k);
            let bias = gemm.bias.map(|bias| &bias[k..]);
            // SAFETY: rows start..start+count and columns k..k+left are inside y and this task's own.
            unsafe {
                if left > V::LANES {
                    tile::<V, T, MR, 2>(gemm, taps, &rows, panel, out, count, left.min(nr), bias);
                } else {
                    tile::<V, T, MR, 1>(gemm, taps, &rows, panel, out, count, left, bias);
                }
            }
        }
    }
}

/// One register tile: `count` rows, `left` columns.
///
/// # Safety
/// As [`rows_of`]; `out` is the tile's first element.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn tile<V: Vector, T: Taps, const MR: usize, const NV: usize>(
    gemm: &Gemm,
    taps: &T,
    rows: &[Row; MR],
    panel: *const f32,
    out: *mut f32,
    count: usize,
    left: usize,
    bias: Option<&[f32]>,
) {
    let ((extent_r, extent_s), depth) = (taps.extent(), taps.depth());
    let (x, zeros) = (gemm.x.as_ptr(), gemm.zeros.as_ptr());
    let mut w = panel;
    // SAFETY: pixels lie inside x (`Taps::pixel`), zeros and panel are long enough (asserted in `rows_of`), stores stay inside the tile.
    unsafe {
        let mut sums = [[V::zero(); NV]; MR];
        for r in 0..extent_r {
            for s in 0..extent_s {
                let mut any = false;
                let pointers: [*const f32; MR] = std::array::from_fn(|i| match taps.pixel(&rows[i], r, s) {
                    Some(at) => {
                        any = true;
                        x.add(at)
                    }
                    None => zeros,
                });
                if any {
                    for c in 0..depth {
                        let weights: [V; NV] = std::array::from_fn(|j| V::load(w.add(c * 2 * V::LANES + j * V::LANES)));
                        for i in 0..MR {
                            let value = V::splat(*pointers[i].add(c));
                            for j in 0..NV {
                                sums[i][j] = value.mul_add(weights[j], sums[i][j]);
                            }
                        }
                    }
                }
                w = w.add(depth * 2 * V::LANES);
            }
        }
        for j in 0..NV {
            let lanes = (left - j * V::LANES).min(V::LANES);
            let shift = bias.map(|bias| V::load_first(bias.as_ptr().add(j * V::LANES), lanes));
            for (i, sum) in sums.iter().enumerate().take(count) {
                let sum = shift.map_or(sum[j], |shift| sum[j].add(shift));
                sum.store_first(out.add(i * gemm.width + j * V::LANES), lanes);
            }
        }
    }
}
