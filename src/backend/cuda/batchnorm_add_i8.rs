//! Grids of `kernels/batchnorm_add_i8.cu`.
//!
//! Nothing that is computed depends on a grid here: sums have their order in the kernels, roundings their noise from places.

use super::batchnorm_i8::{PHASES, SUM_CHANNELS, THREADS, parts_of_image, strips};
use super::device::Cuda;
use super::int8::{aligned, aligned_for, indexed};
use super::quantize::per_block;
use crate::Result;
use crate::backend::{BatchNormInput, Bfp, Span, Summand};
use crate::driver::{DevPtr, Dims};
use crate::ops::batchnorm::{GradientSums, OutputSums, SizesI8};
use crate::ops::batchnorm_add::{BatchNormAddGradI8, BatchNormAddI8, mask_bytes};
use crate::ops::quantize::Form;
use crate::quant::layout::{BLOCK_ROWS, pad};

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
    let (one, all, both, wanted) = (s.c * 4, s.rows * s.stride, usize::from(p.both != 0), usize::from(p.operand != 0));
    indexed(OP, &[all])?;
    let (sums, affine) = (s.sums() * size_of::<OutputSums>(), 2 * s.stride * 4);
    let form = if p.both != 0 { Form::Stored } else { Form::of(p.other) };
    let (added, made) = (form.bytes(s.rows, s.c), Form::of(p.form).bytes(s.rows, s.c));
    let (a, b) = (first.state, second.state);
    let reads = [
        (first.y.mantissas, all),
        (first.y.exponents, s.exponents()),
        (first.sums, sums),
        (a.gamma, one),
        (a.beta, one),
        (second.y.mantissas, added[0]),
        (second.y.exponents, added[1]),
        (second.sums, both * sums),
        (b.gamma, both * one),
        (b.beta, both * one),
        (step, 4),
    ];
    let writes = [
        (a.running_mean, one),
        (a.running_var, one),
        (a.mean, one),
        (a.invstd, one),
        (a.affine, affine),
        (b.running_mean, both * one),
        (b.running_var, both * one),
        (b.mean, both * one),
        (b.invstd, both * one),
        (b.affine, both * affine),
        (sum.mantissas, made[0]),
        (sum.exponents, made[1]),
        (mask, if p.relu != 0 { mask_bytes(s.rows, s.c) } else { 0 }),
        (operand.mantissas, wanted * all),
        (operand.exponents, wanted * s.n),
        (ws, workspace(p)),
    ];
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
    aligned_for(OP, form, Some(other))?;
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
    let all = rows * pad(c);
    indexed(OP, &[all])?;
    let none = step.part(0, 0)?;
    let ((other_y, other_sums), both) = (second.unwrap_or((none, none)), usize::from(p.both != 0));
    let [first, added] = [p.up, p.more].map(|form| Form::of(form).bytes(rows, c));
    let added = if p.add != 0 { added } else { [0; 2] };
    let (stored, sums_bytes) =
        (Form::Stored.bytes(rows, c), rows.div_ceil(BLOCK_ROWS) * pad(c) * size_of::<GradientSums>());
    let written = if p.stream != 0 { Form::Bfp16.bytes(rows, c) } else { [0; 2] };
    let reads = [
        (up.mantissas, first[0]),
        (up.exponents, first[1]),
        (more.mantissas, added[0]),
        (more.exponents, added[1]),
        (mask, if p.relu != 0 { mask_bytes(rows, c) } else { 0 }),
        (y, all),
        (other_y, both * all),
        (step, 4),
    ];
    let writes = [
        (dz.mantissas, stored[0]),
        (dz.exponents, stored[1]),
        (sums, sums_bytes),
        (other_sums, both * sums_bytes),
        (dx.mantissas, written[0]),
        (dx.exponents, written[1]),
    ];
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
