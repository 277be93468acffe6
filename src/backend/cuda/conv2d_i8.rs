//! Grids of `kernels/conv2d_i8.cu` and `kernels/conv2d_wgrad_i8.cu`: which tile, and how many slices.
//!
//! Every tile and every split gives the same bits, so the choice may depend on the device.

use super::device::Cuda;
use super::fill;
use super::int8::{aligned, indexed};
use crate::backend::{Bfp, Normalised, Span};
use crate::driver::{DevPtr, Dims};
use crate::ops::batchnorm::{GradientSums, OutputSums};
use crate::ops::conv2d::{Conv2d, Conv2dI8, Conv2dStreamI8};
use crate::ops::quantize::Form;
use crate::quant::layout::{BLOCK_ROWS, WGRAD_SLICE, blocks, pad};
use crate::{Error, Result};

/// A tile of the forward pass or the data gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tile {
    /// 128 x 128
    Large,
    /// 128 x 64
    N64,
    /// 64 x 64
    Small,
    /// 128 x 32
    N32,
    /// 64 x 64, any taps and strides of gradients
    Any,
}

/// Most taps a side for which a row's valid taps fit into a word, with room for the last stage's surplus.
const MOST_TAPS: u32 = 12;

impl Tile {
    /// Rows, columns, threads, stages.
    const fn shape(self) -> (usize, usize, u32, usize) {
        match self {
            Tile::Large => (128, 128, 128, 5),
            Tile::N64 => (128, 64, 128, 5),
            Tile::Small => (64, 64, 64, 6),
            Tile::N32 => (128, 32, 64, 6),
            Tile::Any => (64, 64, 64, 4),
        }
    }

    fn dims(self, rows: usize, columns: usize) -> Dims {
        let (m, n, threads, stages) = self.shape();
        Dims {
            grid: [rows.div_ceil(m) as u32, columns.div_ceil(n) as u32, 1],
            block: [threads, 1, 1],
            shared: (stages * (m + n) * 64) as u32,
        }
    }

    /// `divided`: what a gradient divides places by. The largest tile that leaves every multiprocessor work: large ones need the fewest bytes of shared memory per product.
    fn choose(cuda: &Cuda, p: &Conv2d, rows: usize, columns: usize, divided: [u32; 2]) -> Tile {
        if p.r > MOST_TAPS || p.s > MOST_TAPS || !divided.iter().all(|stride| stride.is_power_of_two()) {
            return Tile::Any;
        }
        let enough = 2 * cuda.kernels().driver().props().sm_count as usize;
        let fills = |tile: Tile| {
            let (m, n, ..) = tile.shape();
            rows.div_ceil(m) * columns.div_ceil(n) >= enough
        };
        match columns {
            0..=32 => Tile::N32,
            65.. if fills(Tile::Large) => Tile::Large,
            _ if fills(Tile::N64) => Tile::N64,
            _ => Tile::Small,
        }
    }
}

/// Most pixels a side, padding included: the weight gradient keeps two coordinates in a word.
const MOST_SIDE: u32 = 16_000;

/// Refuses shapes whose byte offsets or coordinates do not fit the kernels' indices.
fn check(op: &'static str, p: &Conv2d) -> Result<()> {
    let shape = p.padded();
    indexed(op, &[shape.x_len(), shape.y_len(), shape.w_len()])?;
    let sides = [p.h + p.pad_h, p.w + p.pad_w, p.p * p.stride_h, p.q * p.stride_w, p.r, p.s];
    match sides.iter().find(|side| **side > MOST_SIDE) {
        None => Ok(()),
        Some(side) => {
            let what = format!("{side} pixels a side; {MOST_SIDE} are the most: use smaller images");
            Err(Error::Graph { node: op.into(), op: "cuda", what })
        }
    }
}

/// Calls the launcher of a tile: one name per tile, in order, then the arguments.
macro_rules! launch {
    ($cuda:expr, $tile:expr, [$large:ident, $n64:ident, $small:ident, $n32:ident, $any:ident], $dims:expr, $arguments:tt) => {
        match $tile {
            Tile::Large => launch!(@one $cuda, $large, $dims, $arguments),
            Tile::N64 => launch!(@one $cuda, $n64, $dims, $arguments),
            Tile::Small => launch!(@one $cuda, $small, $dims, $arguments),
            Tile::N32 => launch!(@one $cuda, $n32, $dims, $arguments),
            Tile::Any => launch!(@one $cuda, $any, $dims, $arguments),
        }
    };
    (@one $cuda:expr, $name:ident, $dims:expr, $arguments:tt) => {{
        let kernels = $cuda.kernels();
        kernels.allow_shared("conv2d_i8", stringify!($name), $dims.shared)?;
        kernels.$name $arguments ?
    }};
}

/// Forward.
pub(super) fn fwd(cuda: &Cuda, p: &Conv2dI8, x: Bfp, w: Bfp, step: Span, y: Bfp, sums: Span) -> Result<()> {
    const OP: &str = "conv2d_fwd_i8";
    check(OP, &p.conv)?;
    let (conv, shape) = (&p.conv, p.conv.padded());
    let (n, k, rows) = (conv.n as usize, conv.k as usize, conv.rows());
    let reads = [
        (x.mantissas, shape.x_len()),
        (x.exponents, n),
        (w.mantissas, k * (shape.r * shape.s * shape.c) as usize),
        (w.exponents, k),
        (step, 4),
    ];
    let writes = [
        (y.mantissas, rows * pad(k)),
        (y.exponents, blocks(rows, k)),
        (sums, rows.div_ceil(BLOCK_ROWS) * pad(k) * size_of::<OutputSums>()),
    ];
    let ([x, xe, w, we, step], [y, ye, sums]) = cuda.open(OP, reads, writes)?;
    if rows == 0 {
        return Ok(());
    }
    aligned(OP, 16, &[x, w, y])?;
    aligned(OP, 8, &[sums])?;
    let tile = Tile::choose(cuda, conv, rows, pad(k), [1; 2]);
    let dims = tile.dims(rows, pad(k));
    launch!(
        cuda,
        tile,
        [conv2d_fwd_i8, conv2d_fwd_i8_n64, conv2d_fwd_i8_small, conv2d_fwd_i8_n32, conv2d_fwd_i8_any],
        dims,
        (dims, cuda.stream(), p, x, xe, w, we, step, y, ye, sums, 0)
    );
    Ok(())
}

/// Forward into a residual stream. `read`: input, weights, what is added; `written`: the stream, and its stored copy.
#[allow(clippy::too_many_arguments)] // an operator's tensors
pub(super) fn stream(
    cuda: &Cuda,
    p: &Conv2dStreamI8,
    read: [Bfp; 3],
    step: Span,
    written: [Bfp; 2],
    sums: Span,
) -> Result<()> {
    const OP: &str = "conv2d_stream_i8";
    check(OP, &p.product.conv)?;
    let (conv, shape) = (&p.product.conv, p.product.conv.padded());
    let (n, k, rows, stored) = (conv.n as usize, conv.k as usize, conv.rows(), usize::from(p.store != 0));
    let ([x, w, other], [s, q]) = (read, written);
    let added = if p.add != 0 { Form::of(p.other).bytes(rows, k) } else { [0; 2] };
    let made = Form::of(p.form).bytes(rows, k);
    let reads = [
        (x.mantissas, shape.x_len()),
        (x.exponents, n),
        (w.mantissas, k * (shape.r * shape.s * shape.c) as usize),
        (w.exponents, k),
        (step, 4),
        (other.mantissas, added[0]),
        (other.exponents, added[1]),
    ];
    let writes = [
        (s.mantissas, made[0]),
        (s.exponents, made[1]),
        (q.mantissas, stored * rows * pad(k)),
        (q.exponents, stored * blocks(rows, k)),
        (sums, stored * rows.div_ceil(BLOCK_ROWS) * pad(k) * size_of::<OutputSums>()),
    ];
    let ([x, xe, w, we, step, other, oe], [s, se, q, qe, sums]) = cuda.open(OP, reads, writes)?;
    if rows == 0 {
        return Ok(());
    }
    aligned(OP, 16, &[x, w, s])?;
    if p.add != 0 {
        aligned(OP, 16, &[other])?;
    }
    if p.store != 0 {
        aligned(OP, 16, &[q])?;
        aligned(OP, 8, &[sums])?;
    }
    let tile = Tile::choose(cuda, conv, rows, pad(k), [1; 2]);
    let dims = tile.dims(rows, pad(k));
    launch!(
        cuda,
        tile,
        [
            conv2d_fwd_i8_stream,
            conv2d_fwd_i8_stream_n64,
            conv2d_fwd_i8_stream_small,
            conv2d_fwd_i8_stream_n32,
            conv2d_fwd_i8_stream_any
        ],
        dims,
        (dims, cuda.stream(), p, x, xe, w, we, step, other, oe, s, se, q, qe, sums, 0)
    );
    Ok(())
}

/// Data gradient, with the ReLU's mask of the batchnorm before it where `fused` says so.
#[allow(clippy::too_many_arguments)] // an operator's tensors
pub(super) fn dgrad(
    cuda: &Cuda,
    p: &Conv2dI8,
    dyd: Bfp,
    transposed: Span,
    step: Span,
    fused: Option<Normalised>,
    dx: Bfp,
    sums: Span,
) -> Result<()> {
    const OP: &str = "conv2d_dgrad_i8";
    check(OP, &p.conv)?;
    let (conv, shape) = (&p.conv, p.conv.padded());
    let (n, c) = (conv.n as usize, conv.c as usize);
    let rows = n * conv.h as usize * conv.w as usize;
    let none = transposed.part(0, 0)?;
    let (before, affine, there) = match fused {
        Some(fused) => (fused.y, fused.affine, 1),
        None => (Bfp { mantissas: none, exponents: none }, none, 0),
    };
    let reads = [
        (dyd.mantissas, shape.y_len()),
        (dyd.exponents, n),
        (transposed, c * (shape.r * shape.s * shape.k) as usize),
        (step, 4),
        (before.mantissas, there * rows * pad(c)),
        (before.exponents, there * blocks(rows, c)),
        (affine, there * 2 * pad(c) * 4),
    ];
    let writes = [
        (dx.mantissas, rows * pad(c)),
        (dx.exponents, blocks(rows, c)),
        (sums, there * rows.div_ceil(BLOCK_ROWS) * pad(c) * size_of::<GradientSums>()),
    ];
    let (reads, [dx, dxe, sums]) = cuda.open(OP, reads, writes)?;
    let [dyd, ed, w, step, y, ye, affine] = reads;
    if rows == 0 {
        return Ok(());
    }
    aligned(OP, 16, &[dyd, w, dx])?;
    let tile = Tile::choose(cuda, conv, rows, pad(c), [conv.stride_h, conv.stride_w]);
    let dims = tile.dims(rows, pad(c));
    if fused.is_some() {
        aligned(OP, 16, &[y])?;
        aligned(OP, 8, &[sums])?;
        launch!(
            cuda,
            tile,
            [
                conv2d_dgrad_i8_masked,
                conv2d_dgrad_i8_masked_n64,
                conv2d_dgrad_i8_masked_small,
                conv2d_dgrad_i8_masked_n32,
                conv2d_dgrad_i8_masked_any
            ],
            dims,
            (dims, cuda.stream(), p, dyd, ed, w, step, y, ye, affine, dx, dxe, sums, 0)
        );
    } else {
        launch!(
            cuda,
            tile,
            [conv2d_dgrad_i8, conv2d_dgrad_i8_n64, conv2d_dgrad_i8_small, conv2d_dgrad_i8_n32, conv2d_dgrad_i8_any],
            dims,
            (dims, cuda.stream(), p, dyd, ed, w, step, dx, dxe, 0)
        );
    }
    Ok(())
}

/// How the weight gradient is cut: the tile's side, tiles, slices (of each half of a 16-bit dY), pixels of each, and slices that 32 bits can sum.
struct Cut {
    side: usize,
    tiles: [usize; 2],
    halves: usize,
    slices: usize,
    rows: usize,
    group: usize,
}

/// Blocks that keep a large device busy; the workspace must not depend on the device.
const WGRAD_BLOCKS: usize = 256;
/// Slices whose sums meet in one block, each time (`kernels/conv2d_wgrad_i8.cu`).
const MEET: usize = 4;

impl Cut {
    fn of(p: &Conv2dI8) -> Cut {
        let (shape, rows) = (p.conv.padded(), p.conv.rows());
        let (k, columns) = (shape.k as usize, (shape.r * shape.s * shape.c) as usize);
        let side = if k > 64 && columns > 64 { 128 } else { 64 };
        let (tiles, halves) = ([k.div_ceil(side), columns.div_ceil(side)], 1 + usize::from(p.wide != 0));
        // At least 16 stages of 64 pixels a slice, so that its sums are worth writing.
        let blocks = (tiles[0] * tiles[1] * halves).max(1);
        let wanted = (WGRAD_BLOCKS / blocks).min(rows.div_ceil(16 * 64)).max(1);
        let slice = rows.div_ceil(wanted).next_multiple_of(64).clamp(64, WGRAD_SLICE);
        Cut { side, tiles, halves, slices: rows.div_ceil(slice), rows: slice, group: WGRAD_SLICE / slice }
    }

    /// Blocks of the grid in z.
    fn deep(&self) -> usize {
        self.halves * self.slices
    }

    /// Counters: of each tile one, and of each group one per four slices, per four of those, and so on.
    fn tickets(&self) -> usize {
        let mut nodes = 0;
        let mut width = self.group.min(self.slices);
        while width > 1 {
            width = width.div_ceil(MEET);
            nodes += width;
        }
        self.tiles[0] * self.tiles[1] * (self.halves * self.slices.div_ceil(self.group) * nodes + 1)
    }
}

/// Bytes of scratch memory of the weight gradient: 32-bit sums of every slice and tile, if there are several slices.
pub(super) fn workspace(p: &Conv2dI8) -> usize {
    let cut = Cut::of(p);
    match cut.deep() {
        0 | 1 => 0,
        deep => deep * cut.tiles[0] * cut.tiles[1] * cut.side * cut.side * 4,
    }
}

/// Weight gradient.
pub(super) fn wgrad(cuda: &Cuda, p: &Conv2dI8, x: Bfp, dyw: Bfp, dw: Span, ws: Span) -> Result<()> {
    const OP: &str = "conv2d_wgrad_i8";
    check(OP, &p.conv)?;
    let (conv, shape, cut) = (&p.conv, p.conv.padded(), Cut::of(p));
    let dyw_bytes = cut.halves * shape.y_len();
    let reads = [(x.mantissas, shape.x_len()), (dyw.mantissas, dyw_bytes), (dyw.exponents, conv.k as usize)];
    let ([x, dyw, ew], [dw, ws]) = cuda.open(OP, reads, [(dw, conv.w_len() * 4), (ws, workspace(p))])?;
    let (kernels, stream) = (cuda.kernels(), cuda.stream());
    if conv.w_len() == 0 || cut.slices == 0 {
        return Ok(fill::fill_f32(kernels, stream, dw, conv.w_len() as u32, 0.0)?);
    }
    let operands = [x, dyw, ws];
    aligned(OP, 16, if cut.deep() > 1 { &operands } else { &operands[..2] })?;
    let grid = [cut.tiles[0] as u32, cut.tiles[1] as u32, cut.deep() as u32];
    let dims = Dims { grid, block: [cut.side as u32, 1, 1], shared: (4 * 2 * cut.side * 64) as u32 };
    let tickets = if cut.deep() > 1 { cuda.tickets(OP, cut.tickets())? } else { DevPtr::NULL };
    let (rows, group) = (cut.rows as u32, cut.group as u32);
    if cut.side == 128 {
        kernels.allow_shared("conv2d_wgrad_i8", "conv2d_wgrad_i8", dims.shared)?;
        kernels.conv2d_wgrad_i8(dims, stream, p, x, dyw, ws, tickets, rows, group, ew, dw)?;
    } else {
        kernels.conv2d_wgrad_i8_small(dims, stream, p, x, dyw, ws, tickets, rows, group, ew, dw)?;
    }
    Ok(())
}
