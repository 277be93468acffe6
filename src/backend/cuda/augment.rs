//! Grid of `kernels/augment.cu`: blocks of one image each.

use super::device::Cuda;
use crate::backend::{AugmentSource, Span};
use crate::driver::Dims;
use crate::ops::advance::StepState;
use crate::ops::augment::Augment;
use crate::{Error, Result};

/// Elements of an image that one block makes.
const CHUNK: usize = 4096;

/// Makes a batch. What the order names is not checked here (that would wait for the device): an image that is not there is black and of no class.
pub(super) fn fwd(cuda: &Cuda, p: &Augment, from: AugmentSource, images: Span, labels: Span) -> Result<()> {
    let (n, each, count, channels) = (p.n as usize, p.elements(), p.count as usize, p.c as usize * 4);
    let reads = [
        (from.images, count * each),
        (from.labels, count * 4),
        (from.order, p.order as usize * 4),
        (from.state, size_of::<StepState>()),
        (from.mean, channels),
        (from.std, channels),
    ];
    let writes = [(images, n * each * 4), (labels, n * 4)];
    let ([data, known, order, state, mean, std], [images, labels]) = cuda.open("augment_fwd_f32", reads, writes)?;
    if state.0 % 8 != 0 || (each % 4 == 0 && images.0 % 16 != 0) {
        let what = "the state must be aligned to 8 bytes, images to 16".into();
        return Err(Error::Graph { node: "batch".into(), op: "augment", what });
    }
    if n * each == 0 {
        return Ok(());
    }
    let dims = Dims { grid: [p.n, each.div_ceil(CHUNK) as u32, 1], block: [256, 1, 1], shared: 0 };
    let kernels = cuda.kernels();
    Ok(kernels.augment_fwd_f32(dims, cuda.stream(), p, data, known, order, state, mean, std, images, labels)?)
}
