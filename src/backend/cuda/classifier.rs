//! Grids of `kernels/classifier.cu`.

use super::batchnorm_i8::PHASES;
use super::device::Cuda;
use super::grid_stride;
use super::int8::aligned;
use crate::Result;
use crate::backend::Span;
use crate::driver::Dims;
use crate::ops::Metrics;
use crate::ops::classifier::Classifier;

/// Warps of a block.
const WARPS: u32 = 8;
/// Classes that are worth a warp.
const CLASSES: u32 = 4;

/// Logits and their gradients, losses and hits per image. `bias` counts where `p` says there is one. Labels are not checked here (that would wait for
/// the device): one that is no class makes the loss NaN.
#[allow(clippy::too_many_arguments)] // an operator's tensors
pub(super) fn fwd(
    cuda: &Cuda,
    p: &Classifier,
    x: Span,
    w: Span,
    bias: Span,
    labels: Span,
    logits: Span,
    dlogits: Span,
    losses: Span,
    hits: Span,
) -> Result<()> {
    let (n, c, k) = (p.n as usize, p.c as usize, p.k as usize);
    let reads = [(x, n * c * 4), (w, k * c * 4), (bias, p.bias as usize * k * 4), (labels, n * 4)];
    let writes = [(logits, n * k * 4), (dlogits, n * k * 4), (losses, n * 8), (hits, n * 4)];
    let ([x, w, bias, labels], [logits, dlogits, losses, hits]) = cuda.open("classifier_fwd_f32", reads, writes)?;
    aligned("classifier_fwd_f32", 8, &[losses])?;
    if n == 0 {
        return Ok(());
    }
    // A warp has some classes of an image: enough warps for the device, and some classes for each.
    let props = cuda.kernels().driver().props();
    let warps = props.sm_count * (props.max_threads_per_sm / 32);
    let parts = p.k.div_ceil(CLASSES).clamp(1, warps.div_ceil(p.n));
    let dims = Dims::linear((p.n * parts).div_ceil(WARPS) + p.n.div_ceil(WARPS), 32 * WARPS);
    let (kernels, stream) = (cuda.kernels(), cuda.stream());
    let tickets = cuda.tickets("classifier_fwd_f32", PHASES)?;
    Ok(kernels
        .classifier_fwd_f32(dims, stream, p, x, w, bias, labels, logits, dlogits, losses, hits, tickets, parts)?)
}

/// Gradients of images, weights and bias; the batch's sums are added to `metrics`.
#[allow(clippy::too_many_arguments)] // an operator's tensors
pub(super) fn bwd(
    cuda: &Cuda,
    p: &Classifier,
    x: Span,
    w: Span,
    dlogits: Span,
    losses: Span,
    hits: Span,
    dx: Span,
    dw: Span,
    dbias: Span,
    metrics: Span,
) -> Result<()> {
    let (n, c, k) = (p.n as usize, p.c as usize, p.k as usize);
    let reads = [(x, n * c * 4), (w, k * c * 4), (dlogits, n * k * 4), (losses, n * 8), (hits, n * 4)];
    let writes = [(dx, n * c * 4), (dw, k * c * 4), (dbias, p.bias as usize * k * 4), (metrics, size_of::<Metrics>())];
    let ([x, w, dlogits, losses, hits], [dx, dw, dbias, metrics]) = cuda.open("classifier_bwd_f32", reads, writes)?;
    aligned("classifier_bwd_f32", 8, &[losses, metrics])?;
    let dims = grid_stride(cuda.kernels(), p.c.saturating_mul(p.n.max(p.k)));
    let (kernels, stream) = (cuda.kernels(), cuda.stream());
    Ok(kernels.classifier_bwd_f32(dims, stream, p, x, w, dlogits, losses, hits, dx, dw, dbias, metrics)?)
}
