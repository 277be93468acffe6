//! Where a row of the implicit GEMM finds its input: one pixel per tap, or padding.
//!
//! Forward, rows are output pixels and taps read the input; for the data gradient rows are input pixels and taps read the output gradient.

use crate::ops::conv2d::Conv2d;

/// A row's place in the image.
#[derive(Clone, Copy, Default)]
pub struct Row {
    /// Element of the first pixel of the row's image.
    image: usize,
    h: i32,
    w: i32,
}

/// The geometry of one pass.
pub trait Taps: Sync {
    /// Taps (R, S).
    fn extent(&self) -> (usize, usize);
    /// Elements reduced per tap.
    fn depth(&self) -> usize;
    /// The place of GEMM row `row`.
    fn row(&self, row: usize) -> Row;
    /// First element of the pixel under tap (r, s), `None` for padding.
    fn pixel(&self, row: &Row, r: usize, s: usize) -> Option<usize>;
}

/// Rows are output pixels, taps read the input.
pub struct Forward<'a>(pub &'a Conv2d);

impl Taps for Forward<'_> {
    #[inline(always)]
    fn extent(&self) -> (usize, usize) {
        (self.0.r as usize, self.0.s as usize)
    }
    #[inline(always)]
    fn depth(&self) -> usize {
        self.0.c as usize
    }
    #[inline(always)]
    fn row(&self, row: usize) -> Row {
        let p = self.0;
        let (pixels, q) = ((p.p * p.q) as usize, p.q as usize);
        let (n, pixel) = (row / pixels, row % pixels);
        Row {
            image: n * (p.h * p.w * p.c) as usize,
            h: (pixel / q) as i32 * p.stride_h as i32 - p.pad_h as i32,
            w: (pixel % q) as i32 * p.stride_w as i32 - p.pad_w as i32,
        }
    }
    #[inline(always)]
    fn pixel(&self, row: &Row, r: usize, s: usize) -> Option<usize> {
        let p = self.0;
        // A negative coordinate becomes a huge one: one comparison does for both ends.
        let (h, w) = ((row.h + r as i32) as u32, (row.w + s as i32) as u32);
        (h < p.h && w < p.w).then(|| row.image + (h as usize * p.w as usize + w as usize) * p.c as usize)
    }
}

/// Rows are input pixels, taps read the output gradient; `UNIT`: both strides are 1.
pub struct Backward<'a, const UNIT: bool>(pub &'a Conv2d);

impl<const UNIT: bool> Taps for Backward<'_, UNIT> {
    #[inline(always)]
    fn extent(&self) -> (usize, usize) {
        (self.0.r as usize, self.0.s as usize)
    }
    #[inline(always)]
    fn depth(&self) -> usize {
        self.0.k as usize
    }
    #[inline(always)]
    fn row(&self, row: usize) -> Row {
        let p = self.0;
        let (pixels, width) = ((p.h * p.w) as usize, p.w as usize);
        let (n, pixel) = (row / pixels, row % pixels);
        Row {
            image: n * (p.p * p.q * p.k) as usize,
            h: (pixel / width) as i32 + p.pad_h as i32,
            w: (pixel % width) as i32 + p.pad_w as i32,
        }
    }
    #[inline(always)]
    fn pixel(&self, row: &Row, r: usize, s: usize) -> Option<usize> {
        let p = self.0;
        let (mut h, mut w) = ((row.h - r as i32) as u32, (row.w - s as i32) as u32);
        if !UNIT {
            if h % p.stride_h != 0 || w % p.stride_w != 0 {
                return None;
            }
            // A negative coordinate is huge and stays far outside.
            (h, w) = (h / p.stride_h, w / p.stride_w);
        }
        (h < p.p && w < p.q).then(|| row.image + (h as usize * p.q as usize + w as usize) * p.k as usize)
    }
}

/// Rows lie one behind the other, one tap: a plain GEMM over patches.
pub struct Dense {
    /// Elements per row.
    pub depth: usize,
}

impl Taps for Dense {
    #[inline(always)]
    fn extent(&self) -> (usize, usize) {
        (1, 1)
    }
    #[inline(always)]
    fn depth(&self) -> usize {
        self.depth
    }
    #[inline(always)]
    fn row(&self, row: usize) -> Row {
        Row { image: row * self.depth, h: 0, w: 0 }
    }
    #[inline(always)]
    fn pixel(&self, row: &Row, _r: usize, _s: usize) -> Option<usize> {
        Some(row.image)
    }
}

/// Whether a convolution is better computed over patches: with few input channels, a tap is too short to be a loop of its own.
pub fn few_channels(p: &Conv2d) -> bool {
    p.c < 12 && p.r * p.s > 1
}

/// Writes the patches of `rows` rows from `first` on: `[row][r][s][c]`, zeros for padding.
pub fn patches(p: &Conv2d, x: &[f32], first: usize, rows: usize, out: &mut Vec<f32>) {
    let taps = Forward(p);
    let (c, s) = (p.c as usize, p.s as usize);
    let depth = p.r as usize * s * c;
    out.clear();
    out.resize(rows * depth, 0.0);
    for (i, patch) in out.chunks_exact_mut(depth).enumerate() {
        let row = taps.row(first + i);
        for (r, line) in patch.chunks_exact_mut(s * c).enumerate() {
            // Inside the image a line of the patch is one run of the image.
            match (taps.pixel(&row, r, 0), taps.pixel(&row, r, s - 1)) {
                (Some(start), Some(_)) => line.copy_from_slice(&x[start..start + s * c]),
                _ => {
                    for (s, pixel) in line.chunks_exact_mut(c).enumerate() {
                        if let Some(at) = taps.pixel(&row, r, s) {
                            pixel.copy_from_slice(&x[at..at + c]);
                        }
                    }
                }
            }
        }
    }
}
