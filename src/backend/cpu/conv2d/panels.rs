//! Packing for the integer GEMMs: bytes to the words that [`super::lanes`] multiplies.
//!
//! Not here: which pixels are wanted ([`super::taps`]).

use super::super::simd_int8::vectorised_i8;
use super::super::tile::COLUMNS;
use super::choice::{Form, IntegerPath};
use super::lanes::TILE_ROWS;

vectorised_i8! {
    /// Bytes to words of rows, one behind the other; `out` has a word per two or four bytes.
    fn row(form: Form, from: &[i8], out: &mut [u32]) {
        match form {
            Form::Pairs => {
                let out: &mut [i16] = bytemuck::cast_slice_mut(out);
                out.iter_mut().zip(from).for_each(|(out, x)| *out = i16::from(*x));
            }
            Form::Quads => {
                let out: &mut [u8] = bytemuck::cast_slice_mut(out);
                out.iter_mut().zip(from).for_each(|(out, x)| *out = *x as u8 ^ 0x80);
            }
            Form::Tiles => {
                let out: &mut [i8] = bytemuck::cast_slice_mut(out);
                out.copy_from_slice(&from[..out.len()]);
            }
        }
    }
}

/// Rows of bytes that lie over each other in words: two or four, the missing ones `None`.
pub(super) type Stack<'a> = [Option<&'a [i8]>; 4];

vectorised_i8! {
    /// Words of columns: word `c` holds byte `c` of each row of the stack, 0 where there is none.
    fn stack(form: Form, rows: &Stack, out: &mut [u32]) {
        let n = out.len();
        match form {
            Form::Pairs => match [rows[0], rows[1]] {
                [Some(a), Some(b)] => {
                    let (a, b) = (&a[..n], &b[..n]);
                    #[allow(clippy::needless_range_loop)] // several arrays at once, and LLVM vectorises this form best
                    for c in 0..n {
                        out[c] = i32::from(a[c]) as u32 & 0xffff | (i32::from(b[c]) as u32) << 16;
                    }
                }
                [Some(a), None] => out.iter_mut().zip(a).for_each(|(out, a)| *out = i32::from(*a) as u32 & 0xffff),
                [None, Some(b)] => out.iter_mut().zip(b).for_each(|(out, b)| *out = (i32::from(*b) as u32) << 16),
                [None, None] => out.fill(0),
            },
            Form::Quads | Form::Tiles => match rows {
                [Some(a), Some(b), Some(c), Some(d)] => {
                    let (a, b, c, d) = (&a[..n], &b[..n], &c[..n], &d[..n]);
                    #[allow(clippy::needless_range_loop)] // as above
                    for i in 0..n {
                        let byte = |x: i8, place: u32| u32::from(x as u8) << (8 * place);
                        out[i] = byte(a[i], 0) | byte(b[i], 1) | byte(c[i], 2) | byte(d[i], 3);
                    }
                }
                _ => {
                    out.fill(0);
                    for (place, row) in rows.iter().enumerate() {
                        let Some(row) = row else { continue };
                        out.iter_mut().zip(*row).for_each(|(out, x)| *out |= u32::from(*x as u8) << (8 * place));
                    }
                }
            },
        }
    }
}

/// Words of rows `[groups of TILE_ROWS][steps][TILE_ROWS]` from words of one step, `words[row]`; rows behind the last are zeros.
pub(super) fn group(form: Form, words: &[u32], step: usize, steps: usize, out: &mut [u32]) {
    let flip = form.zero_row();
    for (group, words) in words.chunks(TILE_ROWS).enumerate() {
        let out = &mut out[(group * steps + step) * TILE_ROWS..][..TILE_ROWS];
        out[words.len()..].fill(flip);
        out.iter_mut().zip(words).for_each(|(out, word)| *out = word ^ flip);
    }
}

vectorised_i8! {
    /// Words of rows `[rows][stride]` from those of `words.len() / width` steps, `words[step][row]`, from step `first` on.
    fn turn(words: &[u32], width: usize, first: usize, stride: usize, out: &mut [u32]) {
        let steps = words.len() / width;
        for (row, out) in out.chunks_exact_mut(stride).enumerate().take(width) {
            for (step, out) in out[first..first + steps].iter_mut().enumerate() {
                *out = words[step * width + row];
            }
        }
    }
}

/// Words of columns of one step into panels `[steps][width]`; `words` is whole panels long, but for the last.
pub(super) fn spread(words: &[u32], width: usize, step: usize, steps: usize, out: &mut [u32]) {
    for (panel, words) in words.chunks(width).enumerate() {
        out[(panel * steps + step) * width..][..words.len()].copy_from_slice(words);
    }
}

vectorised_i8! {
    /// Adds the bytes of each word of a step to its column's sum.
    fn add_bytes(words: &[u32], sums: &mut [i32]) {
        for (sum, word) in sums.iter_mut().zip(words) {
            let byte = |place: u32| (*word << (24 - 8 * place)) as i32 >> 24;
            *sum = sum.wrapping_add(byte(0) + byte(1) + byte(2) + byte(3));
        }
    }
}

/// Weights of one pass: `[width][taps][depth]`.
#[derive(Clone, Copy)]
pub(super) struct Weights<'a> {
    /// Mantissas.
    pub w: &'a [i8],
    /// Output channels.
    pub width: usize,
    /// Taps.
    pub taps: usize,
    /// Bytes per tap in memory.
    pub depth: usize,
    /// Bytes per tap that count: a multiple of 4.
    pub used: usize,
    /// Whether the taps are wanted in reverse order.
    pub flipped: bool,
    /// Taps whose words lie beside each other, with all bytes in memory, before zeros fill up a step; `None`: all taps, with the bytes that count.
    pub line: Option<usize>,
}

impl Weights<'_> {
    /// Words per row: all taps.
    pub(super) fn words(&self, form: Form) -> usize {
        match self.line {
            Some(taps) => self.taps / taps * self.line_words(form, taps),
            None => self.taps * self.used / form.depth(),
        }
    }

    /// Words of a line of `taps` taps.
    fn line_words(&self, form: Form, taps: usize) -> usize {
        (taps * self.depth).div_ceil(form.depth()).next_multiple_of(form.grain())
    }

    /// First word of a tap.
    fn place(&self, form: Form, tap: usize) -> usize {
        match self.line {
            Some(taps) => tap / taps * self.line_words(form, taps) + tap % taps * self.depth / form.depth(),
            None => tap * self.used / form.depth(),
        }
    }

    /// The same with the zeros that fill up the last step.
    pub(super) fn steps(&self, form: Form) -> usize {
        self.words(form).next_multiple_of(form.grain())
    }

    /// Packs output channels `32 * block..` in panels `[all steps][columns of a panel]`, and what must be added to their sums in `correction`.
    pub(super) fn pack(
        &self,
        products: IntegerPath,
        form: Form,
        block: usize,
        out: &mut [u32],
        correction: &mut [i32; COLUMNS],
    ) {
        *correction = [0; COLUMNS];
        let (width, all) = (products.panel(), self.steps(form));
        let there = (self.width - block * COLUMNS).min(COLUMNS);
        if there < COLUMNS || all * form.depth() > self.taps * self.used {
            out.fill(0);
        }
        // Tap by tap: the lines of memory that a tap of all columns shares stay in the first-level cache until they are full.
        for tap in 0..self.taps {
            let from = if self.flipped { self.taps - 1 - tap } else { tap };
            for j in 0..there {
                let from = &self.w[((block * COLUMNS + j) * self.taps + from) * self.depth..][..self.used];
                let panel = &mut out[j / width * all * width..];
                let to = panel[self.place(form, tap) * width + j % width..].iter_mut().step_by(width);
                match form {
                    Form::Pairs => {
                        for (to, pair) in to.zip(from.chunks_exact(2)) {
                            *to = i32::from(pair[0]) as u32 & 0xffff | (i32::from(pair[1]) as u32) << 16;
                        }
                    }
                    Form::Quads | Form::Tiles => {
                        for (to, quad) in to.zip(from.chunks_exact(4)) {
                            *to = u32::from_le_bytes([quad[0] as u8, quad[1] as u8, quad[2] as u8, quad[3] as u8]);
                        }
                        if form == Form::Quads {
                            let sum: i32 = from.iter().map(|w| i32::from(*w)).sum();
                            correction[j] = correction[j].wrapping_sub(128 * sum);
                        }
                    }
                }
            }
        }
    }
}
