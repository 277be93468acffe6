//! Integer sums of the forward pass and the data gradient: `sum over taps and depth of x[pixel(row, tap)][c] * w[k][tap][c]` in i32, exact.
//!
//! Here: the plain reference. Not here: scales and rounding ([`super::i8`]).

use super::super::tile::{COLUMNS, ROWS};
use super::taps::Taps;

/// Most blocks of 64 rows of a task.
pub(super) const BLOCKS: usize = 4;

/// Sums of 64 rows x 32 channels.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Sums(pub [[i32; COLUMNS]; ROWS]);

impl Sums {
    /// All zero.
    pub(super) fn new() -> Sums {
        Sums([[0; COLUMNS]; ROWS])
    }
}

/// The factors of one pass.
pub(super) struct Gemm<'a> {
    /// Activations or output gradients.
    pub x: &'a [i8],
    /// `[width][taps][depth]`.
    pub w: &'a [i8],
    /// Output channels, unpadded.
    pub width: usize,
    /// Whether the taps of `w` are in reverse order: the data gradient.
    pub flipped: bool,
}

impl Gemm<'_> {
    /// Sums of `rows` rows from `first` on for channels `32 * column..`; 0 for rows and channels that there are not.
    pub(super) fn block(&self, taps: &impl Taps, first: usize, rows: usize, column: usize, sums: &mut Sums) {
        let ((extent_r, extent_s), depth) = (taps.extent(), taps.depth());
        let count = extent_r * extent_s;
        *sums = Sums::new();
        for (i, sums) in sums.0.iter_mut().enumerate().take(rows) {
            let row = taps.row(first + i);
            for tap in 0..count {
                let Some(at) = taps.pixel(&row, tap / extent_s, tap % extent_s) else { continue };
                let x = &self.x[at..at + depth];
                let tap = if self.flipped { count - 1 - tap } else { tap };
                for (k, sum) in (column * COLUMNS..self.width).zip(sums.iter_mut()) {
                    let w = &self.w[(k * count + tap) * depth..][..depth];
                    *sum += x.iter().zip(w).map(|(x, w)| i32::from(*x) * i32::from(*w)).sum::<i32>();
                }
            }
        }
    }
}
