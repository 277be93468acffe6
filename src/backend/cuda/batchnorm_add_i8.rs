//! Grids of `kernels/batchnorm_add_i8.cu`.
//!
//! Nothing that is computed depends on a grid here: sums have their order in the kernels, roundings their noise from places.

use super::batchnorm_i8::{PHASES, SUM_CHANNELS, THREADS, parts_of_image, strips};
use super::device::Cuda;
use super::int8::{aligned, aligned_for, indexed};
use super::quantize::per_block;
use crate::Result;
use crate::backend::int8::{batchnorm_add_fwd_tensors, batchnorm_add_grad_tensors};
use crate::backend::{BatchNormInput, Bfp, Span, Summand};
use crate::driver::{DevPtr, Dims};
use crate::ops::batchnorm::SizesI8;
use crate::ops::batchnorm_add::{BatchNormAddGradI8, BatchNormAddI8};
use crate::ops::quantize::Form;
use crate::quant::layout::pad;

/// Bytes of scratch memory: the largest value of each image, where it is rounded.
pub(super) fn workspace(p: &BatchNormAddI8) -> usize {
    if p.operand != 0 { p.n as usize * 4 } else { 0 }
}

/// Forward.
#[allow(clippy::too_many_arguments)] // an operator's tensors
pub(super) fn fwd(
    cuda: &Cuda,
    p: &BatchNormAddI8,
    first: BatchNormInput,
    other: Summand,
    step: Span,
    sum: Bfp,
    mask: Span,
    operand: Bfp,
    ws: Span,
) -> Result<()> {
    const OP: &str = "batchnorm_add_fwd_i8";
    let (s, second) = (SizesI8::of_sum(p), other.parts(step.part(0, 0)?));
    indexed(OP, &[s.rows * s.stride])?;
    let ws = (ws, workspace(p));
    let (reads, writes) = batchnorm_add_fwd_tensors(p, first, second, step, sum, mask, operand, ws);
    let (reads, writes) = cuda.open(OP, reads, writes)?;
    let [y, ye, sums, gamma, beta, other, oe, other_sums, other_gamma, other_beta, step]: [DevPtr; 11] = reads;
    let [running_mean, running_var, mean, invstd, affine, writes @ ..] = writes;
    let [other_running_mean, other_running_var, other_mean, other_invstd, other_affine, writes @ ..] = writes;
    let [out, oute, mask, operand, operande, largest]: [DevPtr; 6] = writes;
    if s.rows * s.c == 0 {
        return Ok(());
    }
    aligned(OP, 8, &[y])?;
    aligned(OP, 16, &[affine, out])?;
    if p.both != 0 {
        aligned(OP, 16, &[other_affine])?;
    }
    aligned_for(OP, p.other(), Some(other))?;
    if p.operand != 0 {
        aligned(OP, 8, &[operand])?;
    }
    let (kernels, stream, work) = (cuda.kernels(), cuda.stream(), strips(cuda, s.tiles, s.across));
    let parts = parts_of_image(cuda, p.n, (s.pixels * s.stride) as u32);
    let before = (s.stride as u32 / SUM_CHANNELS) << p.both;
    let dims = Dims::linear(before + work + if p.operand != 0 { p.n * parts } else { 0 }, THREADS);
    Ok(kernels.batchnorm_add_fwd_i8(
        dims,
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
        other,
        oe,
        other_sums,
        other_gamma,
        other_beta,
        other_running_mean,
        other_running_var,
        other_mean,
        other_invstd,
        other_affine,
        step,
        out,
        oute,
        mask,
        operand,
        operande,
        largest,
        cuda.tickets(OP, PHASES)?,
        work,
        parts,
    )?)
}

/// The gradient behind both summands.
#[allow(clippy::too_many_arguments)] // an operator's tensors
pub(super) fn grad(
    cuda: &Cuda,
    p: &BatchNormAddGradI8,
    up: Bfp,
    more: Bfp,
    mask: Span,
    y: Span,
    second: Option<(Span, Span)>,
    step: Span,
    dz: Bfp,
    sums: Span,
    dx: Bfp,
) -> Result<()> {
    const OP: &str = "batchnorm_add_grad_i8";
    let (rows, c) = (p.rows as usize, p.c as usize);
    indexed(OP, &[rows * pad(c)])?;
    let none = step.part(0, 0)?;
    let second = second.unwrap_or((none, none));
    let (reads, writes) = batchnorm_add_grad_tensors(p, up, more, mask, y, second, step, dz, sums, dx);
    let (reads, [dz, dze, sums, other_sums, dx, dxe]) = cuda.open(OP, reads, writes)?;
    let [up, upe, more, moree, mask, y, other_y, step]: [DevPtr; 8] = reads;
    if rows * c == 0 {
        return Ok(());
    }
    aligned(OP, 8, &[y, dz])?;
    if p.both != 0 {
        aligned(OP, 8, &[other_y])?;
    }
    for (form, tensor) in [(Form::of(p.up), Some(up)), (Form::of(p.more), (p.add != 0).then_some(more))] {
        aligned_for(OP, form, tensor)?;
    }
    aligned_for(OP, Form::Bfp16, (p.stream != 0).then_some(dx))?;
    Ok(cuda.kernels().batchnorm_add_grad_i8(
        per_block(rows, c),
        cuda.stream(),
        p,
        up,
        upe,
        more,
        moree,
        mask,
        y,
        other_y,
        step,
        dz,
        dze,
        sums,
        other_sums,
        dx,
        dxe,
    )?)
}
