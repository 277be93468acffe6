//! Grids of `kernels/quantize.cu`.

use super::batchnorm_i8::{PHASES, parts_of_image};
use super::device::Cuda;
use super::grid_stride;
use super::int8::{aligned, indexed};
use crate::Result;
use crate::backend::{Bfp, Span};
use crate::driver::Dims;
use crate::ops::batchnorm::OutputSums;
use crate::ops::quantize::{Dequantize, Form, Quantize, QuantizeGradient, Round, Store};
use crate::quant::layout::{BLOCK_ROWS, blocks, pad};

/// Groups to their grids: a block per group.
pub(super) fn round(cuda: &Cuda, p: &Round, step: Span, x: Span) -> Result<()> {
    let bytes = p.groups as usize * p.length as usize * 4;
    let ([step], [x]) = cuda.open("quantize_round_i8", [(step, 4)], [(x, bytes)])?;
    match bytes {
        0 => Ok(()),
        _ => Ok(cuda.kernels().quantize_round_i8(Dims::linear(p.groups, 256), cuda.stream(), p, step, x)?),
    }
}

/// Images to an operand: a block per image.
pub(super) fn fwd(cuda: &Cuda, p: &Quantize, x: Bfp, step: Span, q: Bfp) -> Result<()> {
    const OP: &str = "quantize_fwd_i8";
    let (n, pixels, c) = (p.n as usize, p.pixels as usize, p.c as usize);
    indexed(OP, &[n * pixels * pad(c)])?;
    let [elements, exponents] = Form::of(p.form).bytes(n * pixels, c);
    let reads = [(x.mantissas, elements), (x.exponents, exponents), (step, 4)];
    let writes = [(q.mantissas, n * pixels * pad(c)), (q.exponents, n)];
    let ([x, xe, step], [q, e]) = cuda.open(OP, reads, writes)?;
    if n * pixels * c == 0 {
        return Ok(());
    }
    aligned(OP, 8, &[q])?;
    if p.form != Form::F32 as u32 {
        aligned(OP, 16, &[x])?;
    }
    Ok(cuda.kernels().quantize_fwd_i8(Dims::linear(p.n, 256), cuda.stream(), p, x, xe, step, q, e)?)
}

/// To f32.
pub(super) fn dequantize(cuda: &Cuda, p: &Dequantize, q: Bfp, x: Span) -> Result<()> {
    const OP: &str = "dequantize_fwd_i8";
    let (n, pixels, c) = (p.n as usize, p.pixels as usize, p.c as usize);
    indexed(OP, &[n * pixels * pad(c)])?;
    let [mantissas, exponents] = p.bytes();
    let reads = [(q.mantissas, mantissas), (q.exponents, exponents)];
    let ([q, e], [x]) = cuda.open(OP, reads, [(x, n * pixels * c * 4)])?;
    match n * pixels * c {
        0 => Ok(()),
        count => {
            let dims = grid_stride(cuda.kernels(), count as u32);
            Ok(cuda.kernels().dequantize_fwd_i8(dims, cuda.stream(), p, q, e, x)?)
        }
    }
}

/// A block of threads for each block of a stored tensor.
pub(super) fn per_block(rows: usize, c: usize) -> Dims {
    Dims::linear(blocks(rows, c) as u32, 256)
}

/// Rows, or some of their channels, to a stored tensor with its sums.
pub(super) fn store(cuda: &Cuda, p: &Store, x: Bfp, index: Span, step: Span, q: Bfp, sums: Span) -> Result<()> {
    const OP: &str = "quantize_store_i8";
    let (rows, c) = (p.rows as usize, p.c as usize);
    indexed(OP, &[rows * pad(c), rows * pad(p.read())])?;
    let [elements, exponents] = Form::of(p.form).bytes(rows, p.read());
    let reads = [(x.mantissas, elements), (x.exponents, exponents), (index, p.named() * 4), (step, 4)];
    let writes = [
        (q.mantissas, rows * pad(c)),
        (q.exponents, blocks(rows, c)),
        (sums, rows.div_ceil(BLOCK_ROWS) * pad(c) * size_of::<OutputSums>()),
    ];
    let ([x, xe, index, step], [q, e, sums]) = cuda.open(OP, reads, writes)?;
    if rows * c == 0 {
        return Ok(());
    }
    if p.form != Form::F32 as u32 {
        aligned(OP, 16, &[x])?;
    }
    let (kernels, dims) = (cuda.kernels(), per_block(rows, c));
    Ok(kernels.quantize_store_i8(dims, cuda.stream(), p, x, xe, index, step, q, e, sums)?)
}

/// Bytes of scratch memory: the largest gradient of each image and channel.
pub(super) fn workspace(p: &QuantizeGradient) -> usize {
    p.n as usize * p.k as usize * 4
}

/// Both quantised gradients of a convolution without a batchnorm. `exponents`: of its weights, of its input.
#[allow(clippy::too_many_arguments)] // an operator's tensors
pub(super) fn bwd(
    cuda: &Cuda,
    p: &QuantizeGradient,
    dy: Bfp,
    exponents: [Span; 2],
    step: Span,
    dyd: Bfp,
    dyw: Bfp,
    ws: Span,
) -> Result<()> {
    const OP: &str = "quantize_bwd_i8";
    let (n, k) = (p.n as usize, p.k as usize);
    let (all, wanted) = (n * p.pixels as usize, usize::from(p.dgrad != 0));
    indexed(OP, &[all * pad(k)])?;
    let [elements, blocks] = Form::of(p.form).bytes(all, k);
    let reads =
        [(dy.mantissas, elements), (dy.exponents, blocks), (exponents[0], wanted * k), (exponents[1], n), (step, 4)];
    let writes = [
        (dyd.mantissas, wanted * all * pad(k)),
        (dyd.exponents, wanted * n),
        (dyw.mantissas, all * pad(k) * (1 + usize::from(p.wide != 0))),
        (dyw.exponents, k),
        (ws, workspace(p)),
    ];
    let ([dy, dye, we, xe, step], [dyd, ed, dyw, ew, ws]) = cuda.open(OP, reads, writes)?;
    if all * k == 0 {
        return Ok(());
    }
    aligned(OP, 8, &[dyd, dyw])?;
    if p.form != Form::F32 as u32 {
        aligned(OP, 16, &[dy])?;
    }
    let parts = parts_of_image(cuda, p.n, (p.pixels as usize * pad(k)) as u32);
    let dims = Dims::linear(p.k.div_ceil(32) * p.n + p.k.div_ceil(8) + p.n * parts, 256);
    let (kernels, stream, tickets) = (cuda.kernels(), cuda.stream(), cuda.tickets(OP, PHASES)?);
    Ok(kernels.quantize_bwd_i8(dims, stream, p, dy, dye, ws, we, xe, step, dyd, ed, dyw, ew, tickets, parts)?)
}
