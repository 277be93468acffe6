//! Grids of `kernels/batchnorm_i8.cu`.
//!
//! Nothing that is computed depends on a grid here: sums have their order in the kernels, roundings their noise from places.

use super::device::Cuda;
use super::int8::{aligned, aligned_for, indexed};
use super::quantize::per_block;
use crate::Result;
use crate::backend::{BatchNormGradients, BatchNormState, Bfp, Normalised, Span};
use crate::driver::{DevPtr, Dims};
use crate::ops::batchnorm::{BatchNormBwdStreamI8, BatchNormI8, GradientSums, OutputSums, SizesI8};
use crate::ops::quantize::Form;
use crate::quant::layout::{blocks_across, pad};

/// Threads of a block.
pub(super) const THREADS: u32 = 256;
/// Channels of a block that sums over all rows.
pub(super) const SUM_CHANNELS: u32 = 2;
/// Channels of a block that looks for extremes.
const EXTREME_CHANNELS: usize = 32;
/// Counters of a launch in phases (`kernels/phases.cuh`).
pub(super) const PHASES: usize = 4;
/// Elements that a thread handles at once.
const GROUP: u32 = 8;

/// Parts of each of `n` images of so many padded elements that keep the device busy.
pub(super) fn parts_of_image(cuda: &Cuda, n: u32, elements: u32) -> u32 {
    let props = cuda.kernels().driver().props();
    let resident = props.sm_count * (props.max_threads_per_sm / THREADS);
    (elements / GROUP).div_ceil(THREADS).clamp(1, resident.div_ceil(n).max(1))
}

/// Blocks of threads that take one block of a tensor of `tiles` x `across` after the other: whole rows of blocks at a time, so that a thread has the same channels in all of its blocks; and each as many.
pub(super) fn strips(cuda: &Cuda, tiles: usize, across: usize) -> u32 {
    let props = cuda.kernels().driver().props();
    let resident = (props.sm_count * (props.max_threads_per_sm / THREADS)) as usize;
    let rounds = (tiles * across).div_ceil(resident);
    (across * tiles.div_ceil(rounds)) as u32
}

/// All blocks of a launch: `before` and those that sum, then `parts` of each image.
fn phases(s: &SizesI8, before: usize, parts: u32) -> Dims {
    Dims::linear(before as u32 + s.stride as u32 / SUM_CHANNELS + s.n as u32 * parts, THREADS)
}

/// Bytes of the coefficients.
fn coef_bytes(s: &SizesI8) -> usize {
    s.stride * (size_of::<f64>() + 3 * size_of::<f32>())
}

/// Bytes of scratch memory of the backward pass: coefficients and, where blocks of rows span images, three extremes of each image and channel.
pub(super) fn workspace(p: &BatchNormI8) -> usize {
    let s = SizesI8::of(p);
    coef_bytes(&s) + if s.whole_blocks() { 0 } else { s.n * s.stride * 3 * 4 }
}

/// Bytes of scratch memory of the forward pass: where blocks of rows span images, the largest value of each.
pub(super) fn fwd_workspace(p: &BatchNormI8) -> usize {
    let s = SizesI8::of(p);
    if s.whole_blocks() { 0 } else { s.n * 4 }
}

/// Forward.
#[allow(clippy::too_many_arguments)] // an operator's tensors
pub(super) fn fwd(
    cuda: &Cuda,
    p: &BatchNormI8,
    y: Bfp,
    sums: Span,
    state: BatchNormState,
    step: Span,
    out: Bfp,
    index: Span,
    ws: Span,
) -> Result<()> {
    const OP: &str = "batchnorm_fwd_i8";
    let s = SizesI8::of(p);
    let (one, image) = (s.c * 4, s.pooled * s.stride);
    indexed(OP, &[s.rows * s.stride, s.n * image])?;
    let reads = [
        (y.mantissas, s.rows * s.stride),
        (y.exponents, s.exponents()),
        (sums, s.sums() * size_of::<OutputSums>()),
        (state.gamma, one),
        (state.beta, one),
        (step, 4),
    ];
    let writes = [
        (state.running_mean, one),
        (state.running_var, one),
        (state.mean, one),
        (state.invstd, one),
        (state.affine, 2 * s.stride * 4),
        (out.mantissas, s.n * image),
        (out.exponents, s.n),
        (index, if p.pool.kernel_h == 0 { 0 } else { s.n * image }),
        (ws, fwd_workspace(p)),
    ];
    let ([y, ye, sums, gamma, beta, step], writes) = cuda.open(OP, reads, writes)?;
    let [running_mean, running_var, mean, invstd, affine, out, oute, index, largest] = writes;
    if s.rows * s.c == 0 {
        return Ok(());
    }
    aligned(OP, 8, &[y, out])?;
    aligned(OP, 16, &[affine])?;
    if p.pool.kernel_h != 0 {
        aligned(OP, 8, &[index])?;
    }
    let (kernels, stream) = (cuda.kernels(), cuda.stream());
    let parts = parts_of_image(cuda, s.n as u32, image as u32);
    let before = if s.whole_blocks() { 0 } else { s.n * parts as usize };
    Ok(kernels.batchnorm_fwd_i8(
        phases(&s, before, parts),
        stream,
        p,
        y,
        ye,
        sums,
        gamma,
        beta,
        running_mean,
        running_var,
        mean,
        invstd,
        affine,
        step,
        out,
        oute,
        index,
        largest,
        cuda.tickets(OP, PHASES)?,
        parts,
    )?)
}

/// The gradient behind the batchnorm.
#[allow(clippy::too_many_arguments)] // an operator's tensors
pub(super) fn grad(
    cuda: &Cuda,
    p: &BatchNormI8,
    up: Bfp,
    more: Bfp,
    index: Span,
    forward: Normalised,
    step: Span,
    dz: Bfp,
    sums: Span,
) -> Result<()> {
    const OP: &str = "batchnorm_grad_i8";
    let s = SizesI8::of(p);
    let pooled = s.n * s.pooled;
    indexed(OP, &[s.rows * s.stride, pooled * s.stride])?;
    let ups = Form::of(p.gradient).bytes(pooled, s.c);
    let added = if p.add != 0 { Form::of(p.more).bytes(pooled, s.c) } else { [0; 2] };
    let reads = [
        (up.mantissas, ups[0]),
        (up.exponents, ups[1]),
        (more.mantissas, added[0]),
        (more.exponents, added[1]),
        (index, if p.pool.kernel_h == 0 { 0 } else { pooled * s.stride }),
        (forward.y.mantissas, s.rows * s.stride),
        (forward.y.exponents, s.exponents()),
        (forward.affine, 2 * s.stride * 4),
        (step, 4),
    ];
    let writes = [
        (dz.mantissas, s.rows * s.stride),
        (dz.exponents, s.exponents()),
        (sums, s.sums() * size_of::<GradientSums>()),
    ];
    let (reads, [dz, dze, sums]) = cuda.open(OP, reads, writes)?;
    let [up, upe, more, moree, index, y, ye, affine, step] = reads;
    if s.rows * s.c == 0 {
        return Ok(());
    }
    aligned(OP, 8, &[y, dz])?;
    aligned(OP, 16, &[affine])?;
    if p.pool.kernel_h != 0 {
        aligned(OP, 8, &[index])?;
    }
    aligned_for(OP, Form::of(p.gradient), Some(up))?;
    aligned_for(OP, Form::of(p.more), (p.add != 0).then_some(more))?;
    let (kernels, dims) = (cuda.kernels(), per_block(s.rows, s.c));
    Ok(kernels.batchnorm_grad_i8(
        dims,
        cuda.stream(),
        p,
        up,
        upe,
        more,
        moree,
        index,
        y,
        ye,
        affine,
        step,
        dz,
        dze,
        sums,
    )?)
}

/// Both output gradients of the convolution. `tensors`: dZ and Y, each with its sums.
#[allow(clippy::too_many_arguments)] // an operator's tensors
pub(super) fn bwd(
    cuda: &Cuda,
    p: &BatchNormI8,
    tensors: [(Bfp, Span); 2],
    gradients: BatchNormGradients,
    step: Span,
    dyd: Bfp,
    dyw: Bfp,
    ws: Span,
) -> Result<()> {
    const OP: &str = "batchnorm_bwd_i8";
    let s = SizesI8::of(p);
    let (one, all, wanted) = (s.c * 4, s.rows * s.stride, usize::from(p.dgrad != 0));
    indexed(OP, &[all])?;
    let [(dz, sums), (y, y_sums)] = tensors;
    let reads = [
        (dz.mantissas, all),
        (dz.exponents, s.exponents()),
        (sums, s.sums() * size_of::<GradientSums>()),
        (y.mantissas, all),
        (y.exponents, s.exponents()),
        (y_sums, s.sums() * size_of::<OutputSums>()),
        (gradients.gamma, one),
        (gradients.mean, one),
        (gradients.invstd, one),
        (gradients.weight_exponents, s.c),
        (gradients.input_exponents, s.n),
        (step, 4),
    ];
    let writes = [
        (gradients.dgamma, one),
        (gradients.dbeta, one),
        (dyd.mantissas, wanted * all),
        (dyd.exponents, wanted * s.n),
        (dyw.mantissas, all * (1 + usize::from(p.wide != 0))),
        (dyw.exponents, s.c),
        (ws, workspace(p)),
    ];
    let (reads, writes) = cuda.open(OP, reads, writes)?;
    let [dz, dze, sums, y, ye, y_sums, gamma, mean, invstd, we, xe, step]: [DevPtr; 12] = reads;
    let [dgamma, dbeta, dyd, ed, dyw, ew, coef] = writes;
    if s.rows * s.c == 0 {
        return Ok(());
    }
    aligned(OP, 8, &[dz, y, dyd, dyw])?;
    aligned(OP, 16, &[coef])?;
    let (kernels, stream) = (cuda.kernels(), cuda.stream());
    let extremes = coef.offset(coef_bytes(&s));
    let before = if s.whole_blocks() { 0 } else { s.stride.div_ceil(EXTREME_CHANNELS) * s.n };
    // Each looks at its image's extremes in all channels first: not more parts than have as much to do behind that.
    let most = if s.whole_blocks() { u32::MAX } else { (s.pixels as u32 / GROUP).max(1) };
    let parts = parts_of_image(cuda, s.n as u32, (s.pixels * s.stride) as u32).min(most);
    Ok(kernels.batchnorm_bwd_i8(
        phases(&s, before, parts),
        stream,
        p,
        dz,
        dze,
        sums,
        y,
        ye,
        y_sums,
        gamma,
        mean,
        invstd,
        we,
        xe,
        extremes,
        dgamma,
        dbeta,
        coef,
        step,
        dyd,
        ed,
        dyw,
        ew,
        cuda.tickets(OP, PHASES)?,
        parts,
    )?)
}

/// Bytes of scratch memory of the backward pass of a batchnorm that reads a stream: coefficients.
pub(super) fn stream_workspace(p: &BatchNormBwdStreamI8) -> usize {
    SizesI8::of_stream(p).stride * 3 * size_of::<f32>()
}

/// The gradient of a stream that a batchnorm reads. `channel`: gamma, mean, 1/std, the index; `stream`: what is added, and dx; `written`: dgamma, dbeta, scratch memory.
#[allow(clippy::too_many_arguments)] // an operator's tensors
pub(super) fn stream(
    cuda: &Cuda,
    p: &BatchNormBwdStreamI8,
    dz: Bfp,
    sums: Span,
    y: Bfp,
    channel: [Span; 4],
    stream: [Bfp; 2],
    written: [Span; 3],
) -> Result<()> {
    const OP: &str = "batchnorm_bwd_stream_i8";
    let (s, [other, dx], [dgamma, dbeta, ws]) = (SizesI8::of_stream(p), stream, written);
    let (one, wide, [gamma, mean, invstd, index]) = (s.c * 4, p.stream(), channel);
    indexed(OP, &[s.rows * s.stride, s.rows * pad(wide)])?;
    let added = if p.add != 0 { Form::of(p.other).bytes(s.rows, wide) } else { [0; 2] };
    let made = Form::of(p.form).bytes(s.rows, wide);
    let reads = [
        (dz.mantissas, s.rows * s.stride),
        (dz.exponents, s.exponents()),
        (sums, s.sums() * size_of::<GradientSums>()),
        (y.mantissas, s.rows * s.stride),
        (y.exponents, s.exponents()),
        (gamma, one),
        (mean, one),
        (invstd, one),
        (index, p.named() * 4),
        (other.mantissas, added[0]),
        (other.exponents, added[1]),
    ];
    let writes =
        [(dgamma, one), (dbeta, one), (dx.mantissas, made[0]), (dx.exponents, made[1]), (ws, stream_workspace(p))];
    let (reads, [dgamma, dbeta, dx, dxe, coef]) = cuda.open(OP, reads, writes)?;
    let [dz, dze, sums, y, ye, gamma, mean, invstd, index, other, oe]: [DevPtr; 11] = reads;
    if s.rows * s.c == 0 {
        return Ok(());
    }
    aligned(OP, 16, &[dz, y, dx, coef])?;
    if p.add != 0 {
        aligned(OP, 16, &[other])?;
    }
    let (kernels, stream) = (cuda.kernels(), cuda.stream());
    let dims = Dims::linear(s.stride as u32 / SUM_CHANNELS + strips(cuda, s.tiles, blocks_across(wide)), THREADS);
    let tickets = cuda.tickets(OP, PHASES)?;
    if p.select != 0 {
        return Ok(kernels.batchnorm_bwd_i8_stream_select(
            dims, stream, p, dz, dze, sums, y, ye, gamma, mean, invstd, index, other, oe, dgamma, dbeta, coef, dx, dxe,
            tickets,
        )?);
    }
    Ok(kernels.batchnorm_bwd_i8_stream(
        dims, stream, p, dz, dze, sums, y, ye, gamma, mean, invstd, other, oe, dgamma, dbeta, coef, dx, dxe, tickets,
    )?)
}
