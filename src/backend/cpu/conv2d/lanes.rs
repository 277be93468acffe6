//! Integer dot products in vector registers: the one thing in which the instruction sets of the 8-bit GEMMs differ, and the register tile built on it.
//!
//! Both factors are packed in words of 32 bits: two 16-bit numbers for `vpmaddwd` ([`Form::Pairs`]), four bytes for `vpdpbusd` ([`Form::Quads`]). A step multiplies one word of each row by one
//! word of each column and adds the products to the 32-bit sum of the place. `vpdpbusd` wants one factor without sign: rows carry `x + 128`, and 128 times
//! the column's sum is taken off again ([`super::panels`]). Sums wrap, so that only the result must fit into 32 bits, and no order of work shows.
//!
//! AVX2 has two ways to multiply bytes. `vpmaddubsw` (with the sign of one factor moved to the other; two products of at most 127^2 fit into 16 bits) needs a second multiplication to widen its sums
//! and one instruction for the sign; `vpmaddwd` on factors that were widened while they were packed needs none of it: measured on Zen 3, 79 against 63 G multiply-adds a second. Hence pairs.
//!
//! AMX has a register file of its own; its products are in [`super::tiles`]. Not here: packing ([`super::panels`]), what is multiplied with what, what is chosen ([`super::choice`]).

use std::marker::PhantomData;

use super::choice::IntegerPath;
use super::tiles::{self, Machine, Overlapping};

/// A register of 32-bit sums, and the dot product of words into it.
///
/// # Safety
/// Methods must be called on a machine that has the instructions; pointers must be valid for the words touched.
pub(in super::super) unsafe trait Lanes: Copy {
    /// Sums in a register.
    const LANES: usize;
    /// All zero.
    unsafe fn zero() -> Self;
    /// `LANES` words from `at` on.
    unsafe fn load(at: *const u32) -> Self;
    /// One word in all lanes.
    unsafe fn splat(word: u32) -> Self;
    /// `self` plus the dot product of each lane's words.
    unsafe fn dot(self, rows: Self, columns: Self) -> Self;
    /// Adds the sums to those in memory.
    unsafe fn add_to(self, at: *mut i32);
    /// Writes the sums to memory.
    unsafe fn store(self, at: *mut i32);
}

/// `vpdpbusd` on 512 bits by its definition: per lane, four products of a byte without sign and one with sign, added to the sum without saturation.
#[derive(Clone, Copy)]
pub(in super::super) struct Emulated([u32; 16]);

// SAFETY: plain Rust; pointers are the caller's promise.
unsafe impl Lanes for Emulated {
    const LANES: usize = 16;
    #[inline(always)]
    unsafe fn zero() -> Self {
        Emulated([0; 16])
    }
    #[inline(always)]
    unsafe fn load(at: *const u32) -> Self {
        // SAFETY: valid for sixteen words, says the caller.
        Emulated(unsafe { at.cast::<[u32; 16]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn splat(word: u32) -> Self {
        Emulated([word; 16])
    }
    #[inline(always)]
    unsafe fn dot(self, rows: Self, columns: Self) -> Self {
        Emulated(std::array::from_fn(|i| {
            let pairs = rows.0[i].to_le_bytes().into_iter().zip(columns.0[i].to_le_bytes());
            let products = pairs.map(|(x, w)| i32::from(x) * i32::from(w as i8));
            self.0[i].wrapping_add(products.sum::<i32>() as u32)
        }))
    }
    #[inline(always)]
    unsafe fn add_to(self, at: *mut i32) {
        for (i, lane) in self.0.iter().enumerate() {
            // SAFETY: valid for sixteen sums, says the caller.
            unsafe { at.add(i).write(at.add(i).read().wrapping_add(*lane as i32)) };
        }
    }
    #[inline(always)]
    unsafe fn store(self, at: *mut i32) {
        // SAFETY: valid for sixteen sums, says the caller.
        unsafe { at.cast::<[u32; 16]>().write_unaligned(self.0) };
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Lanes;
    use std::arch::x86_64::*;

    /// Defines a register type of 256 bits whose `dot` is `$dot`.
    macro_rules! lanes256 {
        ($(#[$meta:meta])* $name:ident, |$sum:ident, $rows:ident, $columns:ident| $dot:expr) => {
            $(#[$meta])*
            #[derive(Clone, Copy)]
            pub(in super::super::super) struct $name(__m256i);

            // SAFETY: the caller promises the instructions and valid pointers.
            unsafe impl Lanes for $name {
                const LANES: usize = 8;
                #[inline(always)]
                unsafe fn zero() -> Self {
                    // SAFETY: see the impl.
                    $name(unsafe { _mm256_setzero_si256() })
                }
                #[inline(always)]
                unsafe fn load(at: *const u32) -> Self {
                    // SAFETY: see the impl.
                    $name(unsafe { _mm256_loadu_si256(at.cast()) })
                }
                #[inline(always)]
                unsafe fn splat(word: u32) -> Self {
                    // SAFETY: see the impl.
                    $name(unsafe { _mm256_set1_epi32(word as i32) })
                }
                #[inline(always)]
                unsafe fn dot(self, rows: Self, columns: Self) -> Self {
                    let ($sum, $rows, $columns) = (self.0, rows.0, columns.0);
                    // SAFETY: see the impl.
                    $name(unsafe { $dot })
                }
                #[inline(always)]
                unsafe fn add_to(self, at: *mut i32) {
                    let at = at.cast::<__m256i>();
                    // SAFETY: see the impl.
                    unsafe { _mm256_storeu_si256(at, _mm256_add_epi32(_mm256_loadu_si256(at), self.0)) }
                }
                #[inline(always)]
                unsafe fn store(self, at: *mut i32) {
                    // SAFETY: see the impl.
                    unsafe { _mm256_storeu_si256(at.cast(), self.0) }
                }
            }
        };
    }

    lanes256! {
        /// Eight sums of AVX2; words are pairs.
        Avx2, |sum, rows, columns| _mm256_add_epi32(sum, _mm256_madd_epi16(rows, columns))
    }

    lanes256! {
        /// Eight sums of AVX-VNNI; words are quads.
        AvxVnni, |sum, rows, columns| _mm256_dpbusd_avx_epi32(sum, rows, columns)
    }

    /// Sixteen sums of AVX-512 VNNI; words are quads.
    #[derive(Clone, Copy)]
    pub(in super::super::super) struct Avx512Vnni(__m512i);

    // SAFETY: the caller promises AVX-512 F and VNNI and valid pointers.
    unsafe impl Lanes for Avx512Vnni {
        const LANES: usize = 16;
        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: see the impl.
            Avx512Vnni(unsafe { _mm512_setzero_si512() })
        }
        #[inline(always)]
        unsafe fn load(at: *const u32) -> Self {
            // SAFETY: see the impl.
            Avx512Vnni(unsafe { _mm512_loadu_si512(at.cast()) })
        }
        #[inline(always)]
        unsafe fn splat(word: u32) -> Self {
            // SAFETY: see the impl.
            Avx512Vnni(unsafe { _mm512_set1_epi32(word as i32) })
        }
        #[inline(always)]
        unsafe fn dot(self, rows: Self, columns: Self) -> Self {
            // SAFETY: see the impl.
            Avx512Vnni(unsafe { _mm512_dpbusd_epi32(self.0, rows.0, columns.0) })
        }
        #[inline(always)]
        unsafe fn add_to(self, at: *mut i32) {
            // SAFETY: see the impl.
            unsafe {
                let sum = _mm512_add_epi32(_mm512_loadu_si512(at.cast()), self.0);
                _mm512_storeu_si512(at.cast(), sum);
            }
        }
        #[inline(always)]
        unsafe fn store(self, at: *mut i32) {
            // SAFETY: see the impl.
            unsafe { _mm512_storeu_si512(at.cast(), self.0) }
        }
    }
}

/// How the words of rows lie in memory.
#[derive(Clone, Copy)]
pub(in super::super) enum Shape {
    /// `[rows][stride]`, steps one behind the other.
    Dense(usize),
    /// `[groups of TILE_ROWS rows][steps][TILE_ROWS]`.
    Grouped,
}

/// The factor whose words are spread.
#[derive(Clone, Copy)]
pub(in super::super) struct Rows {
    /// First word.
    pub start: *const u32,
    /// Where the others are.
    pub shape: Shape,
    /// How many: a multiple of [`TILE_ROWS`].
    pub count: usize,
}

/// The other factor, in panels `[steps][width]`, and the sums.
#[derive(Clone, Copy)]
pub(in super::super) struct Columns {
    /// First word.
    pub start: *const u32,
    /// Columns of a panel, [`IntegerPath::panel`].
    pub width: usize,
    /// Words from panel to panel.
    pub panel: usize,
    /// Columns in all: a multiple of 16.
    pub count: usize,
    /// First sum.
    pub sums: *mut i32,
    /// Sums from row to row.
    pub stride: usize,
}

/// Rows are counted and grouped in multiples of this.
pub(in super::super) const TILE_ROWS: usize = 8;

/// One register tile: `MR` rows `row` words apart, `NV` registers of columns; steps `step` and `columns.width` words apart.
///
/// # Safety
/// As [`multiply`].
#[inline(always)]
unsafe fn tile<L: Lanes, const MR: usize, const NV: usize>(
    rows: *const u32,
    row: usize,
    step: usize,
    columns: Columns,
    steps: usize,
    fresh: bool,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[L::zero(); NV]; MR];
        let (mut x, mut w) = (rows, columns.start);
        for _ in 0..steps {
            let words: [L; NV] = std::array::from_fn(|j| L::load(w.add(j * L::LANES)));
            for (i, sums) in sums.iter_mut().enumerate() {
                let word = L::splat(*x.add(i * row));
                for (sum, column) in sums.iter_mut().zip(&words) {
                    *sum = sum.dot(word, *column);
                }
            }
            x = x.wrapping_add(step);
            w = w.wrapping_add(columns.width);
        }
        for (i, sums) in sums.iter().enumerate() {
            for (j, sum) in sums.iter().enumerate() {
                let at = columns.sums.add(i * columns.stride + j * L::LANES);
                if fresh { sum.store(at) } else { sum.add_to(at) }
            }
        }
    }
}

/// All tiles; columns outermost, so that a panel of them stays in the first-level cache while the rows pass by.
///
/// # Safety
/// As [`multiply`].
#[inline(always)]
unsafe fn tiles<L: Lanes, const MR: usize>(rows: Rows, columns: Columns, steps: usize, fresh: bool) {
    let mut column = 0;
    while column < columns.count {
        let wide = column + 2 * L::LANES <= columns.count;
        let place = column / columns.width * columns.panel + column % columns.width;
        for first in (0..rows.count).step_by(MR) {
            // SAFETY: inside what the caller promises.
            unsafe {
                let sums = columns.sums.add(first * columns.stride + column);
                let columns = Columns { start: columns.start.add(place), sums, ..columns };
                let (offset, row, step) = match rows.shape {
                    Shape::Dense(stride) => (first * stride, stride, 1),
                    Shape::Grouped => (first / TILE_ROWS * TILE_ROWS * steps + first % TILE_ROWS, 1, TILE_ROWS),
                };
                let start = rows.start.add(offset);
                if wide {
                    tile::<L, MR, 2>(start, row, step, columns, steps, fresh);
                } else {
                    tile::<L, MR, 1>(start, row, step, columns, steps, fresh);
                }
            }
        }
        column += if wide { 2 * L::LANES } else { L::LANES };
    }
}

/// The same with the strides of both shapes as constants.
///
/// # Safety
/// As [`multiply`].
#[inline(always)]
unsafe fn shaped<L: Lanes, const MR: usize>(rows: Rows, columns: Columns, steps: usize, fresh: bool) {
    // SAFETY: the caller's promises are the same.
    unsafe {
        match rows.shape {
            Shape::Dense(stride) => tiles::<L, MR>(Rows { shape: Shape::Dense(stride), ..rows }, columns, steps, fresh),
            Shape::Grouped => tiles::<L, MR>(Rows { shape: Shape::Grouped, ..rows }, columns, steps, fresh),
        }
    }
}

/// Products on this thread. Those of AMX keep its tile registers configured for as long as this lives, and leave nothing in them.
pub(in super::super) struct Unit {
    products: IntegerPath,
    /// Registers belong to a thread.
    _stays: PhantomData<*const ()>,
}

impl Unit {
    /// Makes `products` ready. One at a time on a thread, not while others may run on it.
    ///
    /// # Safety
    /// The machine has the instructions of `products`.
    pub(in super::super) unsafe fn new(products: IntegerPath) -> Unit {
        if let Some(machine) = Machine::of(products) {
            // SAFETY: the caller's promise.
            unsafe { tiles::configure(machine) };
        }
        Unit { products, _stays: PhantomData }
    }

    /// Writes the sums of the products of rows in lines of pixels with the columns, whose panels have `rows.lines * rows.steps` times 16 steps. Nothing where products have no tiles.
    ///
    /// # Safety
    /// As [`Unit::multiply`]; each tile has 16 rows, of each of which all steps of all lines are valid.
    pub(in super::super) unsafe fn multiply_lines(&self, rows: Overlapping, columns: Columns) {
        if let Some(machine) = Machine::of(self.products) {
            // SAFETY: the registers are configured; the rest is the caller's promise.
            unsafe { tiles::multiply_lines(machine, rows, columns) };
        }
    }

    /// Adds `sum over steps of dot(rows, columns)` to the sums of all rows and columns, or writes it over what is there where they are `fresh`. Nothing where products are plain.
    ///
    /// # Safety
    /// `rows`, `columns` and their sums are valid for all rows and `steps` steps; nobody else touches the sums.
    pub(in super::super) unsafe fn multiply(&self, rows: Rows, columns: Columns, steps: usize, fresh: bool) {
        debug_assert!(rows.count.is_multiple_of(TILE_ROWS) && columns.count.is_multiple_of(16));
        match self.products {
            // SAFETY: needs nothing of the machine; the rest is the caller's promise.
            IntegerPath::EmulatedVnni => unsafe { shaped::<Emulated, 8>(rows, columns, steps, fresh) },
            // SAFETY: the registers are configured; the rest is the caller's promise.
            IntegerPath::EmulatedAmx => unsafe { tiles::multiply(Machine::Emulated, rows, columns, steps, fresh) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above, and the machine has them.
            IntegerPath::Amx => unsafe { tiles::multiply(Machine::Real, rows, columns, steps, fresh) },
            #[cfg(target_arch = "x86_64")]
            IntegerPath::Avx2 => {
                #[target_feature(enable = "avx2")]
                unsafe fn run(rows: Rows, columns: Columns, steps: usize, fresh: bool) {
                    // SAFETY: the caller's promises are the same.
                    unsafe { shaped::<x86::Avx2, 4>(rows, columns, steps, fresh) }
                }
                // SAFETY: who made the unit has made sure of the instructions; the rest is the caller's promise.
                unsafe { run(rows, columns, steps, fresh) }
            }
            #[cfg(target_arch = "x86_64")]
            IntegerPath::AvxVnni => {
                #[target_feature(enable = "avx2,avxvnni")]
                unsafe fn run(rows: Rows, columns: Columns, steps: usize, fresh: bool) {
                    // SAFETY: the caller's promises are the same.
                    unsafe { shaped::<x86::AvxVnni, 4>(rows, columns, steps, fresh) }
                }
                // SAFETY: as above.
                unsafe { run(rows, columns, steps, fresh) }
            }
            #[cfg(target_arch = "x86_64")]
            IntegerPath::Avx512Vnni => {
                #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vnni")]
                unsafe fn run(rows: Rows, columns: Columns, steps: usize, fresh: bool) {
                    // SAFETY: the caller's promises are the same.
                    unsafe { shaped::<x86::Avx512Vnni, 8>(rows, columns, steps, fresh) }
                }
                // SAFETY: as above.
                unsafe { run(rows, columns, steps, fresh) }
            }
            _ => {}
        }
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        if let Some(machine) = Machine::of(self.products) {
            // SAFETY: this configured them, so that the machine has them.
            unsafe { tiles::release(machine) };
        }
    }
}
