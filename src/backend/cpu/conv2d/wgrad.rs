//! The weight gradient: `dw[k][tap][c] = sum over output pixels of dy[row][k] * x[pixel(row, tap)][c]`.
//!
//! A register tile holds `MR` outputs k x `NV` vectors of c and walks over the rows of a chunk; rows whose tap falls on padding are left out. Sums are three-level
//! (rows of a chunk in registers, chunks of a split in memory, splits in order), which keeps rounding errors far below one long f32 chain, and everything is
//! split by shape, never by threads.

use std::cell::RefCell;

use rayon::prelude::*;

use super::super::memory::Shared;
use super::super::simd::{Path, Plain, Vector};
use super::taps::{Dense, Forward, Row, Taps, few_channels, patches};
use crate::ops::conv2d::Conv2d;

/// How the work is split: a function of the shape alone.
#[derive(Clone, Copy, Debug)]
pub struct Split {
    /// Rows per chunk: summed in registers.
    chunk: usize,
    /// Splits of the rows with sums of their own.
    splits: usize,
    /// Chunks per split.
    chunks: usize,
    /// Outputs k per task.
    group: usize,
}

/// Elements of partial sums that are worth their memory.
const PARTIAL: usize = 1 << 21;
/// Tasks wanted at least, so that many threads find work.
const TASKS: usize = 32;

impl Split {
    pub fn new(p: &Conv2d) -> Split {
        let k = p.k as usize;
        let chunk = (65_536 / k.max(p.c as usize).max(1)).clamp(128, 512);
        let all = p.rows().div_ceil(chunk).max(1);
        let splits = (PARTIAL / p.w_len().max(1)).clamp(1, TASKS).min(all);
        let chunks = all.div_ceil(splits);
        let splits = all.div_ceil(chunks);
        let group = k.div_ceil(TASKS.div_ceil(splits)).next_multiple_of(14);
        Split { chunk, splits, chunks, group }
    }

    /// Elements of scratch memory.
    pub fn workspace(&self, p: &Conv2d) -> usize {
        if self.splits == 1 { 0 } else { self.splits * p.w_len() }
    }
}

/// Computes `dw`.
pub fn run(path: Path, p: &Conv2d, x: &[f32], dy: &[f32], dw: &mut [f32], workspace: &mut [f32]) {
    let split = Split::new(p);
    let length = p.w_len();
    let partial = if split.splits == 1 { &mut *dw } else { &mut workspace[..split.splits * length] };
    let groups = (p.k as usize).div_ceil(split.group);
    let shared = Shared::new(partial);
    (0..split.splits * groups).into_par_iter().for_each(|task| {
        let (number, k) = (task / groups, task % groups * split.group);
        let rows = number * split.chunks * split.chunk..((number + 1) * split.chunks * split.chunk).min(p.rows());
        let task =
            Task { path, p, x, dy, k: k..(k + split.group).min(p.k as usize), out: shared, base: number * length };
        task.run(rows, split.chunk);
    });
    if split.splits > 1 {
        let partial = &workspace[..split.splits * length];
        dw.par_chunks_mut(4096).enumerate().for_each(|(i, out)| {
            let first = i * 4096;
            out.copy_from_slice(&partial[first..first + out.len()]);
            for number in 1..split.splits {
                let from = &partial[number * length + first..][..out.len()];
                out.iter_mut().zip(from).for_each(|(sum, value)| *sum += value);
            }
        });
    }
}

/// One split and group of outputs.
struct Task<'a> {
    path: Path,
    p: &'a Conv2d,
    x: &'a [f32],
    dy: &'a [f32],
    k: std::ops::Range<usize>,
    out: Shared,
    base: usize,
}

/// What a task writes down for one chunk; kept from task to task.
#[derive(Default)]
struct Notes {
    /// Places of the chunk's rows.
    rows: Vec<Row>,
    /// Rows under the tap at hand: element of dy, element of x.
    pairs: Vec<(usize, usize)>,
}

thread_local!(static SCRATCH: RefCell<(Notes, Vec<f32>)> = RefCell::default());

impl Task<'_> {
    fn run(&self, rows: std::ops::Range<usize>, chunk: usize) {
        let per_k = self.p.w_len() / self.p.k as usize;
        for k in self.k.clone() {
            // SAFETY: this task's own outputs, inside the partial sums.
            unsafe { std::slice::from_raw_parts_mut(self.out.at(self.base + k * per_k), per_k) }.fill(0.0);
        }
        SCRATCH.with_borrow_mut(|(notes, buffer)| {
            for first in rows.clone().step_by(chunk) {
                let until = (first + chunk).min(rows.end);
                if few_channels(self.p) {
                    patches(self.p, self.x, first, until - first, buffer);
                    self.chunk(&Dense { depth: per_k }, buffer, first, 0..until - first, notes);
                } else {
                    self.chunk(&Forward(self.p), self.x, 0, first..until, notes);
                }
            }
        });
    }

    /// Adds the rows of one chunk; row i of `taps` is row `shift + i` of dy.
    fn chunk(&self, taps: &impl Taps, x: &[f32], shift: usize, rows: std::ops::Range<usize>, notes: &mut Notes) {
        let ((r, s), depth, k) = (taps.extent(), taps.depth(), self.p.k as usize);
        let first = (shift + rows.start) * k;
        notes.rows.clear();
        notes.rows.extend(rows.map(|row| taps.row(row)));
        for tap in 0..r * s {
            notes.pairs.clear();
            for (i, row) in notes.rows.iter().enumerate() {
                if let Some(pixel) = taps.pixel(row, tap / s, tap % s) {
                    notes.pairs.push((first + i * k, pixel));
                }
            }
            let pairs = &notes.pairs;
            let place = Place { x, pairs, depth, tap, taps: r * s };
            match self.path {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the path says that the machine has the instructions.
                Path::Avx512 => unsafe { add_avx512(self, &place) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                Path::Avx2 => unsafe { add_avx2(self, &place) },
                // SAFETY: needs nothing of the machine.
                _ => unsafe { add::<Plain, 2>(self, &place) },
            }
        }
    }
}

/// One tap of one chunk.
struct Place<'a> {
    x: &'a [f32],
    pairs: &'a [(usize, usize)],
    depth: usize,
    tap: usize,
    taps: usize,
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
unsafe fn add_avx512(task: &Task, place: &Place) {
    // SAFETY: the caller's promises are the same.
    unsafe { add::<super::super::simd::Avx512, 14>(task, place) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn add_avx2(task: &Task, place: &Place) {
    // SAFETY: the caller's promises are the same.
    unsafe { add::<super::super::simd::Avx2, 6>(task, place) }
}

/// Adds one tap of one chunk to the task's sums, tile by tile of at most `MR` outputs.
///
/// # Safety
/// The machine has the instructions of `V`; the outputs `task.k` of the sums at `task.base` are this task's own.
#[inline(always)]
unsafe fn add<V: Vector, const MR: usize>(task: &Task, place: &Place) {
    let mut c = 0;
    while c < place.depth {
        let lanes = (place.depth - c).min(2 * V::LANES);
        let mut k = task.k.start;
        while k < task.k.end {
            // Blocks of about equal size rather than full ones and a rest.
            let left = task.k.end - k;
            let size = left.div_ceil(left.div_ceil(MR));
            // SAFETY: as for this function.
            unsafe {
                if lanes > V::LANES {
                    sized::<V, MR, 2>(task, place, k, c, lanes, size)
                } else {
                    sized::<V, MR, 1>(task, place, k, c, lanes, size)
                }
            }
            k += size;
        }
        c += lanes;
    }
}

/// The tile of exactly `size` outputs, which is a constant for the compiler.
///
/// # Safety
/// As [`add`].
#[inline(always)]
unsafe fn sized<V: Vector, const MR: usize, const NV: usize>(
    task: &Task,
    place: &Place,
    k: usize,
    c: usize,
    lanes: usize,
    size: usize,
) {
    macro_rules! sizes {
        ($($n:literal)*) => {
            // SAFETY: as for this function.
            unsafe { match size {
                $($n if $n <= MR => tile::<V, $n, NV>(task, place, k, c, lanes),)*
                _ => (0..size).for_each(|i| tile::<V, 1, NV>(task, place, k + i, c, lanes)),
            } }
        };
    }
    sizes!(2 3 4 5 6 7 8 9 10 11 12 13 14)
}

/// `KR` outputs x `lanes` of c.
///
/// # Safety
/// As [`add`].
#[inline(always)]
unsafe fn tile<V: Vector, const KR: usize, const NV: usize>(
    task: &Task,
    place: &Place,
    k: usize,
    c: usize,
    lanes: usize,
) {
    let last = lanes - (NV - 1) * V::LANES;
    let (x, dy) = (place.x.as_ptr(), task.dy.as_ptr());
    // SAFETY: pairs hold elements of dy's rows and of x's pixels; c + lanes <= depth and k + KR <= K stay inside them; the sums are the task's own.
    unsafe {
        let mut sums = [[V::zero(); NV]; KR];
        for (row, pixel) in place.pairs {
            let (dy, x) = (dy.add(row + k), x.add(pixel + c));
            let values: [V; NV] = std::array::from_fn(|j| {
                if j + 1 < NV { V::load(x.add(j * V::LANES)) } else { V::load_first(x.add(j * V::LANES), last) }
            });
            for (i, sum) in sums.iter_mut().enumerate() {
                let gradient = V::splat(*dy.add(i));
                for (sum, value) in sum.iter_mut().zip(&values) {
                    *sum = gradient.mul_add(*value, *sum);
                }
            }
        }
        for (i, sum) in sums.iter().enumerate() {
            let out = task.out.at(task.base + ((k + i) * place.taps + place.tap) * place.depth + c);
            for (j, sum) in sum.iter().enumerate() {
                let lanes = if j + 1 < NV { V::LANES } else { last };
                let at = out.add(j * V::LANES);
                sum.add(V::load_first(at, lanes)).store_first(at, lanes);
            }
        }
    }
}
