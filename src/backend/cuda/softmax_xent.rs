//! Grid of `kernels/softmax_xent.cu`.

use super::device::Cuda;
use super::grid_stride;
use crate::backend::Span;
use crate::driver::Dims;
use crate::ops::Metrics;
use crate::ops::softmax_xent::SoftmaxXent;
use crate::{Error, Result};

/// Logits that a warp holds in shared memory, as in the kernel.
const WARP_LOGITS: u32 = 320;

/// Probabilities, and the batch's sums added to `metrics`. Labels are not checked here (that would wait for the device): one that is no class makes the loss
/// NaN.
pub(super) fn fwd(cuda: &Cuda, p: &SoftmaxXent, logits: Span, labels: Span, probs: Span, metrics: Span) -> Result<()> {
    let (n, all) = (p.n as usize, p.n as usize * p.classes as usize * 4);
    let writes = [(probs, all), (metrics, size_of::<Metrics>())];
    let ([logits, labels], [probs, metrics]) =
        cuda.open("softmax_xent_fwd_f32", [(logits, all), (labels, n * 4)], writes)?;
    if metrics.0 % 8 != 0 {
        let what = "the metrics are not aligned to 8 bytes".into();
        return Err(Error::Graph { node: "loss".into(), op: "softmax_xent", what });
    }
    let dims = Dims::linear(1, 1024);
    Ok(cuda.kernels().softmax_xent_fwd_f32(dims, cuda.stream(), p, logits, labels, probs, metrics, group(p))?)
}

/// Samples that each of 32 warps takes at a time: its share of the batch, in eights so that a group of rows is whole sectors, as many as fit into its piece of
/// shared memory. By the shape alone: the order in which losses are added follows it.
fn group(p: &SoftmaxXent) -> u32 {
    let fit = (WARP_LOGITS / p.classes.max(1)).clamp(1, 32);
    let wanted = p.n.div_ceil(32).next_multiple_of(8).min(fit);
    if wanted >= 8 { wanted / 8 * 8 } else { wanted }
}

/// Gradient of the mean loss.
pub(super) fn bwd(cuda: &Cuda, p: &SoftmaxXent, probs: Span, labels: Span, dlogits: Span) -> Result<()> {
    let (n, all) = (p.n as usize, p.n as usize * p.classes as usize * 4);
    let reads = [(probs, all), (labels, n * 4)];
    let ([probs, labels], [dlogits]) = cuda.open("softmax_xent_bwd_f32", reads, [(dlogits, all)])?;
    if all == 0 {
        return Ok(());
    }
    let dims = grid_stride(cuda.kernels(), (p.n * p.classes).div_ceil(8));
    Ok(cuda.kernels().softmax_xent_bwd_f32(dims, cuda.stream(), p, probs, labels, dlogits)?)
}
