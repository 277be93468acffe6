//! `trait Backend`: the operator set on buffers. `cpu/` is the reference and the default; `cuda/` runs the kernels of `kernels/` through
//! [`crate::driver`].
//!
//! Rules: every operator takes its `#[repr(C)]` parameter struct from [`crate::ops`] (the very struct a kernel receives), then inputs, then outputs;
//! operators never allocate (workspace sizes come from [`Backend::workspace`]); an operator exists for a backend or answers
//! [`crate::Error::Unsupported`]. All tensors are f32 unless said otherwise, activations NHWC, convolution weights `[K][R][S][C]`,
//! linear weights `[K][C]`. Outputs never overlap inputs unless the operator says so.

pub mod cuda;

pub mod cpu;

mod int8;
mod memory;
mod replay;

pub use int8::{BatchNormGradients, BatchNormInput, BatchNormState, Bfp, Int8, Normalised, Summand};
pub use memory::{Block, Memory, Span};
pub use replay::Replay;

use crate::Result;
use crate::ops::add::Add;
use crate::ops::advance::Advance;
use crate::ops::augment::Augment;
use crate::ops::batchnorm::BatchNorm;
use crate::ops::conv2d::Conv2d;
use crate::ops::linear::Linear;
use crate::ops::mask::Mask;
use crate::ops::pool::Pool;
use crate::ops::relu::Relu;
use crate::ops::select::Select;
use crate::ops::sgd::Sgd;
use crate::ops::softmax_xent::SoftmaxXent;
use crate::ops::{Kernel, Metrics};

/// What [`Backend::augment_fwd_f32`] reads.
#[derive(Clone, Copy, Debug)]
pub struct AugmentSource<'m> {
    /// u8 `[count][h][w][c]`.
    pub images: Span<'m>,
    /// u32 `[count]`.
    pub labels: Span<'m>,
    /// u32 `[order]`: numbers of images, each below `count`.
    pub order: Span<'m>,
    /// One [`StepState`](crate::ops::advance::StepState): epoch and cursor.
    pub state: Span<'m>,
    /// f32 per channel, of pixels scaled to 0..1.
    pub mean: Span<'m>,
    /// f32 per channel.
    pub std: Span<'m>,
}

/// What [`Backend::mask_step_f32`] reads and writes; lengths and contents: [`MaskLengths`](crate::ops::mask::MaskLengths).
#[derive(Clone, Copy, Debug)]
pub struct MaskSpans<'m> {
    /// All BN scales.
    pub scales: Span<'m>,
    /// Masks; this one is written, those before it are read.
    pub ring: Span<'m>,
    /// Written.
    pub thresholds: Span<'m>,
    /// Written.
    pub distances: Span<'m>,
    /// Written.
    pub kept: Span<'m>,
}

/// The operators, memory and transfers of one device. Calls on one backend run one after the other, in the order they were made.
#[allow(clippy::too_many_arguments)] // an operator's tensors are its arguments; a struct per call would only rename them
pub trait Backend: Send + Sync {
    /// Name as on the command line: `cpu`, `vgpu:a100`, `cuda:0`.
    fn name(&self) -> &str;

    // ---- memory ---------------------------------------------------------------------------------------------------
    /// Allocates `bytes` zeroed bytes, aligned to 256. Never called inside an operator.
    fn alloc(&self, bytes: usize) -> Result<Memory>;
    /// Copies host bytes into a span of the same length.
    fn upload(&self, from: &[u8], to: Span) -> Result<()>;
    /// Copies a span into host bytes of the same length, after everything queued before.
    fn download(&self, from: Span, to: &mut [u8]) -> Result<()>;
    /// Waits until everything queued is done.
    fn synchronize(&self) -> Result<()>;
    /// Bytes of scratch memory that `kernel` wants as its `ws` argument (0 for most).
    fn workspace(&self, kernel: &Kernel) -> usize;
    /// Runs `work`, a series of calls on this backend, where they cost least (on the CPU: inside its thread pool, instead of going there and back for
    /// every call). What is computed does not depend on it.
    fn together(&self, work: &mut (dyn FnMut() -> Result<()> + Send)) -> Result<()> {
        work()
    }

    /// The operators of 8-bit training.
    ///
    /// # Errors
    /// [`crate::Error::Unsupported`] where the device does not have them.
    fn int8(&self) -> Result<&dyn Int8> {
        Err(crate::Error::Unsupported {
            what: "8-bit training".into(),
            place: Some(self.name().into()),
            hint: "use another device or --search-precision f32".into(),
        })
    }

    /// Records `work`, a series of operator calls on memory of `keep`, instead of running it; [`Replay::run`] runs it as often as wanted, at the cost of one call. No
    /// transfers, allocations or waiting inside. Kernels must have run once before: a GPU loads them when first used, which cannot be recorded. `None` where the backend
    /// gains nothing by it (`work` is not called then).
    fn capture(
        &self,
        _keep: &[&Memory],
        _work: &mut (dyn FnMut() -> Result<()> + Send),
    ) -> Result<Option<Box<dyn Replay>>> {
        Ok(None)
    }
    /// Bytes of device memory that are free; `None` where the device works in the host's own memory and data need not be brought to it.
    fn room(&self) -> Result<Option<u64>> {
        Ok(None)
    }

    // ---- data -----------------------------------------------------------------------------------------------------
    /// Makes a batch from images on the device: `images[n,h,w,c]` and `labels[n]` (u32), from those that the order names from the state's cursor on, changed as seed,
    /// epoch and index say. An entry that names no image is refused; where looking would mean to wait for the device, its image is black and its label
    /// [`Augment::NO_LABEL`], which makes the loss NaN.
    fn augment_fwd_f32(&self, p: &Augment, from: AugmentSource, images: Span, labels: Span) -> Result<()>;

    // ---- elementwise and copies -----------------------------------------------------------------------------------
    /// `x[i] = value` for every f32 of the span.
    fn fill_f32(&self, value: f32, x: Span) -> Result<()>;
    /// `y = x`, same length in bytes.
    fn copy(&self, x: Span, y: Span) -> Result<()>;
    /// `y = a + b`; `y` may be `a` or `b` itself.
    fn add_fwd_f32(&self, p: &Add, a: Span, b: Span, y: Span) -> Result<()>;
    /// `y = max(x, 0)`; NaN stays NaN; `y` may be `x`.
    fn relu_fwd_f32(&self, p: &Relu, x: Span, y: Span) -> Result<()>;
    /// `dx = dy` where the forward output `y` is `> 0`, else 0; `dx` may be `dy`.
    fn relu_bwd_f32(&self, p: &Relu, y: Span, dy: Span, dx: Span) -> Result<()>;

    // ---- conv2d -------------------------------------------------------------------------------------------------------
    /// `y[n,p,q,k] = bias[k] + sum_{r,s,c} x[n, p*stride_h+r-pad_h, q*stride_w+s-pad_w, c] * w[k,r,s,c]`.
    fn conv2d_fwd_f32(&self, p: &Conv2d, x: Span, w: Span, bias: Option<Span>, y: Span, ws: Span) -> Result<()>;
    /// Gradient for the input: `dx[n,h,w,c]`, every element written.
    fn conv2d_dgrad_f32(&self, p: &Conv2d, dy: Span, w: Span, dx: Span, ws: Span) -> Result<()>;
    /// Gradient for the weights `dw[k,r,s,c]` and, where there is a bias, `dbias[k]`; written, not accumulated.
    fn conv2d_wgrad_f32(&self, p: &Conv2d, x: Span, dy: Span, dw: Span, dbias: Option<Span>, ws: Span) -> Result<()>;

    // ---- batchnorm ----------------------------------------------------------------------------------------------------
    /// Training forward over `rows` x `c`: batch mean and biased variance normalise; `running_mean`, `running_var` move by `momentum`
    /// towards the mean and the *unbiased* variance; `mean` and `invstd` are saved for the backward pass. With `p.relu` the output is
    /// `max(y, 0)`.
    fn batchnorm_fwd_f32(
        &self,
        p: &BatchNorm,
        x: Span,
        gamma: Span,
        beta: Span,
        running_mean: Span,
        running_var: Span,
        y: Span,
        mean: Span,
        invstd: Span,
        ws: Span,
    ) -> Result<()>;
    /// Inference forward with the running statistics; `y` may be `x`. With `p.relu` the output is `max(y, 0)`.
    fn batchnorm_eval_f32(
        &self,
        p: &BatchNorm,
        x: Span,
        gamma: Span,
        beta: Span,
        running_mean: Span,
        running_var: Span,
        y: Span,
    ) -> Result<()>;
    /// Gradients of the training forward. With `p.relu`, `dy` is the gradient behind the ReLU and `y` (the forward output) masks it: it counts
    /// where `y > 0`. `dx` may be `dy`.
    fn batchnorm_bwd_f32(
        &self,
        p: &BatchNorm,
        x: Span,
        y: Span,
        gamma: Span,
        mean: Span,
        invstd: Span,
        dy: Span,
        dx: Span,
        dgamma: Span,
        dbeta: Span,
        ws: Span,
    ) -> Result<()>;

    // ---- pools --------------------------------------------------------------------------------------------------------
    /// Maximum over windows (padding never wins); `index` (u8, one per output) is the winner's place in its window, row by row, the first of
    /// equals; a NaN wins, the last of several, as in PyTorch.
    fn maxpool_fwd_f32(&self, p: &Pool, x: Span, y: Span, index: Span) -> Result<()>;
    /// `dx` gets `dy` at each window's winner, summed where windows overlap; every element written.
    fn maxpool_bwd_f32(&self, p: &Pool, index: Span, dy: Span, dx: Span) -> Result<()>;
    /// Mean over windows; zeros of the padding count (PyTorch's `count_include_pad`).
    fn avgpool_fwd_f32(&self, p: &Pool, x: Span, y: Span) -> Result<()>;
    /// Gradient of the window mean; every element written.
    fn avgpool_bwd_f32(&self, p: &Pool, dy: Span, dx: Span) -> Result<()>;
    /// Mean over all of H x W: `y[n,c]`. `p.kernel_*` are the image's sides.
    fn global_avgpool_fwd_f32(&self, p: &Pool, x: Span, y: Span) -> Result<()>;
    /// Gradient of the image mean.
    fn global_avgpool_bwd_f32(&self, p: &Pool, dy: Span, dx: Span) -> Result<()>;

    // ---- linear -------------------------------------------------------------------------------------------------------
    /// `y[n,k] = bias[k] + sum_c x[n,c] * w[k,c]`.
    fn linear_fwd_f32(&self, p: &Linear, x: Span, w: Span, bias: Option<Span>, y: Span) -> Result<()>;
    /// `dx[n,c] = sum_k dy[n,k] * w[k,c]`.
    fn linear_dgrad_f32(&self, p: &Linear, dy: Span, w: Span, dx: Span) -> Result<()>;
    /// `dw[k,c] = sum_n dy[n,k] * x[n,c]`, `dbias[k] = sum_n dy[n,k]`.
    fn linear_wgrad_f32(&self, p: &Linear, x: Span, dy: Span, dw: Span, dbias: Option<Span>) -> Result<()>;

    // ---- select -------------------------------------------------------------------------------------------------------
    /// Channel gather: `y[row, j] = x[row, index[j]]`, `index` u32, ascending and distinct.
    fn select_fwd_f32(&self, p: &Select, x: Span, index: Span, y: Span) -> Result<()>;
    /// Scatter: `dx[row, index[j]] = dy[row, j]`, 0 elsewhere.
    fn select_bwd_f32(&self, p: &Select, dy: Span, index: Span, dx: Span) -> Result<()>;

    // ---- loss and optimiser -------------------------------------------------------------------------------------------
    /// Softmax cross-entropy: writes `probs[n,k]`, **adds** this batch's sums to `metrics` (one [`Metrics`] in device memory). `labels` u32, each
    /// below `p.classes`.
    fn softmax_xent_fwd_f32(
        &self,
        p: &SoftmaxXent,
        logits: Span,
        labels: Span,
        probs: Span,
        metrics: Span,
    ) -> Result<()>;
    /// Gradient of the *mean* loss of the batch: `(probs - onehot(label)) / n`.
    fn softmax_xent_bwd_f32(&self, p: &SoftmaxXent, probs: Span, labels: Span, dlogits: Span) -> Result<()>;
    /// One step for all parameters at once, see [`Sgd`]; `lr` is one f32 in device memory.
    fn sgd_step_f32(&self, p: &Sgd, lr: Span, g: Span, v: Span, w: Span) -> Result<()>;

    /// Ends a step: the sums in `metrics` (one [`Metrics`]) move to their place in `log` (`p.slots` of them), `state` (one
    /// [`StepState`](crate::ops::advance::StepState)) moves on.
    fn advance_step_u64(&self, p: &Advance, state: Span, metrics: Span, log: Span) -> Result<()>;

    /// Draws a mask per ratio from all BN scales, into a ring of masks, and measures its distances to those before, see [`Mask`].
    fn mask_step_f32(&self, p: &Mask, spans: MaskSpans) -> Result<()>;

    /// Reads and zeroes the running sums that [`Backend::softmax_xent_fwd_f32`] keeps in `metrics`.
    fn take_metrics(&self, metrics: Span) -> Result<Metrics> {
        let mut host = Metrics::default();
        self.download(metrics, bytemuck::bytes_of_mut(&mut host))?;
        self.upload(bytemuck::bytes_of(&Metrics::default()), metrics)?;
        Ok(host)
    }
}
