//! Rows of the implicit GEMM for tiles, without a copy for every tap: lines of the image with their padding, in which a tile finds its 16 rows a fixed distance apart.
//!
//! A tile takes 64 bytes from each of 16 pixels. Where the 16 pixels of the output lie in one line, the taps of a line are neighbours in memory: pixel by pixel the rows start one pixel (or one stride)
//! further, and overlap. A step of 64 bytes then covers several taps of few channels. Where lines are shorter, the taps of a line are copied side by side for every pixel of the output, and rows go on
//! from line to line. Either way one tap of the other direction is the next line. Bytes behind a line's taps belong to other pixels; their weights are zeros.
//!
//! Counted for 3x3 taps: an input byte is copied once (and the lines at the edges of a task again) or three times, where rows of taps ([`super::packed`]) copy it nine times, in runs of one pixel.
//! Not here: the products ([`super::tiles`]).

use super::packed::grow;
use super::tiles::TILE;
use crate::ops::conv2d::Conv2d;

/// Bytes that a tile takes from a row.
const STEP: usize = 64;

/// The geometry of one pass: `q` pixels in each of `p` lines of the output, `r` x `s` taps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lines {
    /// Lines, pixels per line and bytes per pixel of the input.
    h: usize,
    w: usize,
    depth: usize,
    p: usize,
    q: usize,
    r: usize,
    s: usize,
    stride: (usize, usize),
    /// Padding above and to the left; negative: so much of the input is left out.
    padding: (isize, isize),
    /// Whether the taps of a line are copied side by side for every pixel.
    apart: bool,
}

impl Lines {
    /// Of the forward pass of a convolution as it lies in memory, where it can.
    pub(super) fn forward(p: &Conv2d) -> Option<Lines> {
        let [h, w, depth, r, s] = [p.h, p.w, p.c, p.r, p.s].map(|v| v as usize);
        let stride = (p.stride_h as usize, p.stride_w as usize);
        let padding = (p.pad_h as isize, p.pad_w as isize);
        Lines { h, w, depth, p: p.p as usize, q: p.q as usize, r, s, stride, padding, apart: false }.fitting()
    }

    /// Of its data gradient: a convolution of the output gradient with the taps in reverse order.
    pub(super) fn backward(p: &Conv2d) -> Option<Lines> {
        let [h, w, depth, r, s] = [p.p, p.q, p.k, p.r, p.s].map(|v| v as usize);
        let padding = (r as isize - 1 - p.pad_h as isize, s as isize - 1 - p.pad_w as isize);
        let unit = p.stride_h == 1 && p.stride_w == 1;
        let lines =
            Lines { h, w, depth, p: p.h as usize, q: p.w as usize, r, s, stride: (1, 1), padding, apart: false };
        lines.fitting().filter(|_| unit)
    }

    fn fitting(self) -> Option<Lines> {
        if self.q.is_multiple_of(TILE) {
            return Some(self);
        }
        let fits = self.stride == (1, 1) && (self.p * self.q).is_multiple_of(TILE);
        fits.then_some(Lines { apart: true, ..self })
    }

    /// Steps of 64 bytes of the taps of a line.
    pub(super) fn steps(&self) -> usize {
        (self.s * self.depth).div_ceil(STEP)
    }

    /// Taps in the other direction.
    pub(super) fn taps(&self) -> usize {
        self.r
    }

    /// Bytes from one row to the next.
    pub(super) fn row(&self) -> usize {
        self.depth * if self.apart { self.s } else { self.stride.1 }
    }

    /// Bytes from one line to the next.
    pub(super) fn line(&self) -> usize {
        self.depth * if self.apart { self.q * self.s } else { (self.q - 1) * self.stride.1 + self.s }
    }

    /// Copies the lines of the `rows` rows from `first` on, both multiples of 16; `starts`: where in `words` each 16 of them start, in bytes.
    pub(super) fn copy(&self, x: &[i8], first: usize, rows: usize, words: &mut Vec<u32>, starts: &mut [usize]) {
        let (image, length) = (self.p * self.q, self.line());
        let (mut done, mut end) = (0, 0);
        while done < rows {
            let (n, pixel) = ((first + done) / image, (first + done) % image);
            let there = (rows - done).min(image - pixel);
            let (top, bottom) = (pixel / self.q, (pixel + there - 1) / self.q);
            let count = (bottom - top) * self.stride.0 + self.r;
            // The last row's last step may read beyond its line.
            grow(words, (end + count * length + STEP * self.steps()).div_ceil(4), 0);
            let bytes: &mut [i8] = bytemuck::cast_slice_mut(words);
            let x = &x[n * self.h * self.w * self.depth..];
            for (i, line) in bytes[end..end + count * length].chunks_exact_mut(length).enumerate() {
                let y = ((top * self.stride.0 + i) as isize - self.padding.0) as usize;
                if y < self.h {
                    self.copy_line(&x[y * self.w * self.depth..][..self.w * self.depth], line);
                } else {
                    line.fill(0);
                }
            }
            for tile in (0..there).step_by(TILE) {
                let (y, x) = ((pixel + tile) / self.q - top, (pixel + tile) % self.q);
                starts[(done + tile) / TILE] = end + y * self.stride.0 * length + x * self.row();
            }
            (done, end) = (done + there, end + count * length);
        }
    }

    /// One line of the input.
    fn copy_line(&self, x: &[i8], line: &mut [i8]) {
        if !self.apart {
            return self.copy_pixels(x, 0, line);
        }
        for (pixel, taps) in line.chunks_exact_mut(self.s * self.depth).enumerate() {
            self.copy_pixels(x, pixel, taps);
        }
    }

    /// Padded pixels from `first` on, zeros where the input has none.
    fn copy_pixels(&self, x: &[i8], first: usize, to: &mut [i8]) {
        let (count, start) = ((to.len() / self.depth) as isize, first as isize - self.padding.1);
        let missing = (-start).clamp(0, count) as usize;
        let there = (self.w as isize - start.max(0)).clamp(0, count - missing as isize) as usize;
        let (left, rest) = to.split_at_mut(missing * self.depth);
        let (middle, right) = rest.split_at_mut(there * self.depth);
        left.fill(0);
        if there > 0 {
            middle.copy_from_slice(&x[start.max(0) as usize * self.depth..][..there * self.depth]);
        }
        right.fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::choice::{Form, IntegerPath};
    use super::super::dot::{Gemm, Sums};
    use super::super::packed::{Packed, Scratch};
    use super::super::panels::Weights;
    use super::super::taps::{Backward, Forward, Taps};
    use super::*;
    use crate::backend::cpu::simd_int8::Level;
    use crate::backend::cpu::tile::{COLUMNS, ROWS};
    use crate::quant::layout::pad;

    fn bytes(count: usize) -> Vec<i8> {
        (0..count).map(|i| (i.wrapping_mul(0x9e37_79b9) >> 11) as u8 as i8).collect()
    }

    /// All sums of a pass by lines, task by task of one to four blocks, against the definition. Channels behind the last are zeros in x and whatever in w, which has none there.
    fn check(
        lines: Lines,
        taps: &impl Taps,
        (rows, depth, channels): (usize, usize, usize),
        width: usize,
        flipped: bool,
    ) {
        let (r, s) = taps.extent();
        let mut x = bytes(lines.h * lines.w * depth * (rows / (lines.p * lines.q)));
        x.chunks_exact_mut(depth).for_each(|pixel| pixel[channels..].fill(0));
        let mut w = bytes(width * r * s * depth);
        w.chunks_exact_mut(depth).for_each(|tap| tap[channels..].fill(0));
        let used = channels.next_multiple_of(4);
        let weights = Weights { w: &w, width, taps: r * s, depth, used, flipped, line: None };
        let gemm = Gemm { x: &x, w: &w, width, flipped };
        let mut want = Sums::new();
        for products in [IntegerPath::EmulatedAmx, IntegerPath::Amx].into_iter().filter(|products| products.available())
        {
            let mut scratch = Scratch::default();
            let packed = Packed::new(products, Form::Tiles, rows, Some(lines), weights, &mut scratch);
            let all = rows.div_ceil(ROWS);
            let mut seen = 0;
            for (first, count) in (0..all).map(|first| (first, 1 + first % 4)) {
                let range = first..(first + count).min(all);
                packed.sums(Level::Portable, taps, &x, range, rows, &mut |block, column, sums| {
                    gemm.block(taps, block * ROWS, (rows - block * ROWS).min(ROWS), column, &mut want);
                    assert!(sums.0 == want.0, "{lines:?}: block {block}, column {column}, {products:?}");
                    seen += 1;
                });
            }
            assert!(seen >= all * width.div_ceil(COLUMNS));
        }
    }

    /// Images of one line and of many, lines of 16, 32, 8, 4 and 24 pixels, tasks within images and across them, every kind of taps and padding.
    #[test]
    fn every_geometry_gives_the_sums_of_the_definition() {
        let mut checked = [0; 2];
        for (n, h, w, c, k, (r, s), stride, (above, left)) in [
            (2, 5, 16, 3, 40, (3, 3), 1, (1, 1)),
            (1, 6, 32, 64, 16, (3, 3), 1, (1, 1)),
            (3, 8, 8, 20, 33, (3, 3), 1, (1, 1)),
            (9, 4, 4, 48, 64, (3, 3), 1, (1, 1)),
            (5, 2, 8, 16, 16, (3, 3), 1, (1, 1)),
            (2, 4, 24, 16, 16, (3, 3), 1, (1, 1)),
            (2, 7, 16, 130, 16, (1, 1), 1, (0, 0)),
            (3, 4, 4, 16, 70, (1, 1), 1, (0, 0)),
            (2, 6, 18, 32, 16, (3, 3), 1, (0, 0)),
            (2, 4, 16, 16, 16, (5, 5), 1, (2, 2)),
            (2, 6, 6, 16, 16, (5, 5), 1, (1, 1)),
            (2, 5, 16, 16, 16, (1, 3), 1, (0, 1)),
            (2, 4, 4, 32, 16, (3, 1), 1, (1, 0)),
            (1, 4, 10, 16, 16, (3, 3), 1, (1, 4)),
            (2, 4, 8, 16, 16, (3, 3), 1, (1, 4)),
        ] {
            let (p, q) = ((h + 2 * above - r) / stride + 1, (w + 2 * left - s) / stride + 1);
            let conv = Conv2d {
                n,
                h,
                w,
                c: pad(c as usize) as u32,
                k: pad(k as usize) as u32,
                r,
                s,
                p,
                q,
                stride_h: stride,
                stride_w: stride,
                pad_h: above,
                pad_w: left,
            };
            let (depth, rows) = (conv.c as usize, conv.rows());
            if let Some(lines) = Lines::forward(&conv) {
                check(lines, &Forward(&conv), (rows, depth, c as usize), k as usize, false);
                checked[0] += 1;
            }
            let (depth, rows) = (conv.k as usize, (n * h * w) as usize);
            if let Some(lines) = Lines::backward(&conv) {
                check(lines, &Backward::<true>(&conv), (rows, depth, k as usize), c as usize, true);
                checked[1] += 1;
            }
        }
        assert_eq!(checked, [14, 12]);
    }

    #[test]
    fn strides_are_lines_where_whole_tiles_lie_in_a_line_of_the_output() {
        let conv = |w: u32, q: u32| Conv2d {
            n: 2,
            h: 9,
            w,
            c: 16,
            k: 48,
            r: 3,
            s: 3,
            p: 5,
            q,
            stride_h: 2,
            stride_w: 2,
            pad_h: 1,
            pad_w: 1,
        };
        for (w, q) in [(31, 16), (32, 16), (63, 32)] {
            let conv = conv(w, q);
            check(Lines::forward(&conv).unwrap(), &Forward(&conv), (conv.rows(), 16, 16), 48, false);
            assert!(Lines::backward(&conv).is_none());
        }
        assert!(Lines::forward(&conv(15, 8)).is_none());
    }
}
