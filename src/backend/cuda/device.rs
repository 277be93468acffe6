//! [`Cuda`]: the operators of a GPU, real or virtual, behind [`Backend`]. Here: memory, transfers, and which file runs which operator.
//!
//! Not here: grids and arguments (the operators' files beside this one), recording (`capture`).

use std::sync::Arc;

use super::capture::Recordings;
use super::launch::Kernels;
use super::memory::{DeviceBlock, InPlace, identity, open};
use super::{
    add, advance, augment, batchnorm, batchnorm_add_i8, batchnorm_i8, capture, conv2d, conv2d_i8, copy, fill, linear,
    mask, pool, quantize, relu, select, sgd, softmax_xent,
};
use crate::backend::{AugmentSource, Backend, Int8, MaskSpans, Memory, Replay, Span};
use crate::driver::{DevPtr, Driver, StreamId};
use crate::ops::Kernel;
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
use crate::{Error, Result};

/// A GPU as a backend: the project's kernels on one device, all on one stream.
pub struct Cuda {
    driver: Arc<dyn Driver>,
    kernels: Kernels,
    stream: StreamId,
    owner: u64,
    name: String,
    recordings: Recordings,
    tickets: Memory,
}

/// Words of the counters by which blocks of a launch know who goes on (`kernels/phases.cuh`).
const TICKETS: usize = 1 << 16;

impl Cuda {
    /// On `driver`'s device.
    ///
    /// # Errors
    /// [`crate::Error::DeviceUnavailable`] where this build has no kernels; what the driver says when it makes a stream.
    pub fn new(driver: Arc<dyn Driver>) -> Result<Cuda> {
        let kernels = Kernels::new(Arc::clone(&driver))?;
        let (stream, name) = (driver.stream_create()?, driver.props().device.clone());
        let owner = identity();
        let tickets = Memory::new(Arc::new(DeviceBlock::zeroed(&driver, stream, owner, TICKETS * 4)?));
        Ok(Cuda { driver, kernels, stream, owner, name, recordings: Recordings::default(), tickets })
    }

    /// The driver underneath.
    pub fn driver(&self) -> &Arc<dyn Driver> {
        &self.driver
    }

    /// The kernels, with the device they run on.
    pub(crate) fn kernels(&self) -> &Kernels {
        &self.kernels
    }

    /// The stream that everything runs on; on a thread that records, the one it records from.
    pub fn stream(&self) -> StreamId {
        self.recordings.stream().unwrap_or(self.stream)
    }

    /// `words` counters that are 0 before each launch and after it; all launches share them, for they follow each other on one stream. Null on a device that
    /// runs a part of the blocks.
    pub(super) fn tickets(&self, op: &'static str, words: usize) -> Result<DevPtr> {
        if words > TICKETS {
            let what = format!("{words} counters between blocks, {TICKETS} are the most: use a smaller batch");
            return Err(Error::Graph { node: op.into(), op: "cuda", what });
        }
        match self.driver.props().sampled {
            true => Ok(DevPtr::NULL),
            false => Ok(DevPtr(self.tickets.all().address())),
        }
    }

    /// The memory of [`Cuda::tickets`], which a recording keeps.
    pub(super) fn tickets_memory(&self) -> &Memory {
        &self.tickets
    }

    /// Who records now.
    pub(super) fn recordings(&self) -> &Recordings {
        &self.recordings
    }

    /// Addresses for one call, see [`open`].
    pub(super) fn open<const R: usize, const W: usize>(
        &self,
        op: &'static str,
        reads: [(Span, usize); R],
        writes: [(Span, usize); W],
    ) -> Result<([DevPtr; R], [DevPtr; W])> {
        self.recordings.check(op, &reads.map(|read| read.0))?;
        self.recordings.check(op, &writes.map(|write| write.0))?;
        open(self.owner, op, reads, writes, InPlace::No)
    }

    /// As [`Cuda::open`] where outputs may be inputs.
    pub(super) fn open_in_place<const R: usize, const W: usize>(
        &self,
        op: &'static str,
        reads: [(Span, usize); R],
        writes: [(Span, usize); W],
    ) -> Result<([DevPtr; R], [DevPtr; W])> {
        self.recordings.check(op, &reads.map(|read| read.0))?;
        self.recordings.check(op, &writes.map(|write| write.0))?;
        open(self.owner, op, reads, writes, InPlace::Allowed)
    }
}

impl Drop for Cuda {
    fn drop(&mut self) {
        // Nothing is left to tell of an error here; blocks that still live hold the driver.
        let _ = self.driver.stream_sync(self.stream);
        let _ = self.driver.stream_destroy(self.stream);
    }
}

impl Backend for Cuda {
    fn name(&self) -> &str {
        &self.name
    }

    fn alloc(&self, bytes: usize) -> Result<Memory> {
        self.recordings.refuse("an allocation")?;
        Ok(Memory::new(Arc::new(DeviceBlock::zeroed(&self.driver, self.stream, self.owner, bytes)?)))
    }

    fn upload(&self, from: &[u8], to: Span) -> Result<()> {
        self.recordings.refuse("an upload")?;
        let ([], [to]) = self.open("upload", [], [(to, from.len())])?;
        if !from.is_empty() {
            self.driver.copy_htod(to, from, self.stream)?;
        }
        Ok(())
    }

    fn download(&self, from: Span, to: &mut [u8]) -> Result<()> {
        self.recordings.refuse("a download")?;
        let ([from], []) = self.open("download", [(from, to.len())], [])?;
        if !to.is_empty() {
            self.driver.copy_dtoh(to, from, self.stream)?;
        }
        Ok(())
    }

    fn synchronize(&self) -> Result<()> {
        self.recordings.refuse("waiting for the device")?;
        Ok(self.driver.stream_sync(self.stream)?)
    }

    fn workspace(&self, kernel: &Kernel) -> usize {
        match kernel {
            Kernel::Conv2dWgrad(p) => conv2d::workspace(p),
            Kernel::BatchNormFwd(p) | Kernel::BatchNormBwd(p) => batchnorm::workspace(p),
            Kernel::QuantizeBwdI8(p) => quantize::workspace(p),
            Kernel::Conv2dWgradI8(p) => conv2d_i8::workspace(p),
            Kernel::BatchNormFwdI8(p) => batchnorm_i8::fwd_workspace(p),
            Kernel::BatchNormBwdI8(p) => batchnorm_i8::workspace(p),
            Kernel::BatchNormBwdStreamI8(p) => batchnorm_i8::stream_workspace(p),
            Kernel::BatchNormAddFwdI8(p) => batchnorm_add_i8::workspace(p),
            _ => 0,
        }
    }

    fn int8(&self) -> Result<&dyn Int8> {
        Ok(self)
    }

    fn capture(
        &self,
        keep: &[&Memory],
        work: &mut (dyn FnMut() -> Result<()> + Send),
    ) -> Result<Option<Box<dyn Replay>>> {
        capture::capture(self, keep, work).map(Some)
    }

    fn room(&self) -> Result<Option<u64>> {
        Ok(Some(self.driver.mem_info()?.0))
    }

    fn augment_fwd_f32(&self, p: &Augment, from: AugmentSource, images: Span, labels: Span) -> Result<()> {
        augment::fwd(self, p, from, images, labels)
    }

    fn fill_f32(&self, value: f32, x: Span) -> Result<()> {
        let n = x.bytes() / 4;
        let ([], [x]) = self.open("fill_f32", [], [(x, n * 4)])?;
        Ok(fill::fill_f32(&self.kernels, self.stream(), x, n as u32, value)?)
    }

    fn copy(&self, x: Span, y: Span) -> Result<()> {
        let bytes = x.bytes();
        let ([x], [y]) = self.open("copy", [(x, bytes)], [(y, bytes)])?;
        // The kernel counts bytes in 32 bits; the driver's own copy does not.
        match u32::try_from(bytes) {
            Ok(n) => Ok(copy::copy_u8(&self.kernels, self.stream(), x, y, n)?),
            Err(_) => Ok(self.driver.copy_dtod(y, x, bytes, self.stream())?),
        }
    }

    fn add_fwd_f32(&self, p: &Add, a: Span, b: Span, y: Span) -> Result<()> {
        add::fwd(self, p, a, b, y)
    }

    fn relu_fwd_f32(&self, p: &Relu, x: Span, y: Span) -> Result<()> {
        relu::fwd(self, p, x, y)
    }

    fn relu_bwd_f32(&self, p: &Relu, y: Span, dy: Span, dx: Span) -> Result<()> {
        relu::bwd(self, p, y, dy, dx)
    }

    fn conv2d_fwd_f32(&self, p: &Conv2d, x: Span, w: Span, bias: Option<Span>, y: Span, _ws: Span) -> Result<()> {
        conv2d::fwd(self, p, x, w, bias, y)
    }

    fn conv2d_dgrad_f32(&self, p: &Conv2d, dy: Span, w: Span, dx: Span, _ws: Span) -> Result<()> {
        conv2d::dgrad(self, p, dy, w, dx)
    }

    fn conv2d_wgrad_f32(&self, p: &Conv2d, x: Span, dy: Span, dw: Span, dbias: Option<Span>, ws: Span) -> Result<()> {
        conv2d::wgrad(self, p, x, dy, dw, dbias, ws)
    }

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
    ) -> Result<()> {
        batchnorm::fwd(self, p, x, [gamma, beta], [running_mean, running_var, mean, invstd], y, ws)
    }

    fn batchnorm_eval_f32(
        &self,
        p: &BatchNorm,
        x: Span,
        gamma: Span,
        beta: Span,
        running_mean: Span,
        running_var: Span,
        y: Span,
    ) -> Result<()> {
        batchnorm::eval(self, p, x, [gamma, beta, running_mean, running_var], y)
    }

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
    ) -> Result<()> {
        batchnorm::bwd(self, p, [x, y, dy], [gamma, mean, invstd], dx, [dgamma, dbeta], ws)
    }

    fn maxpool_fwd_f32(&self, p: &Pool, x: Span, y: Span, index: Span) -> Result<()> {
        pool::max_fwd(self, p, x, y, index)
    }

    fn maxpool_bwd_f32(&self, p: &Pool, index: Span, dy: Span, dx: Span) -> Result<()> {
        pool::max_bwd(self, p, index, dy, dx)
    }

    fn avgpool_fwd_f32(&self, p: &Pool, x: Span, y: Span) -> Result<()> {
        pool::avg_fwd(self, p, x, y)
    }

    fn avgpool_bwd_f32(&self, p: &Pool, dy: Span, dx: Span) -> Result<()> {
        pool::avg_bwd(self, p, dy, dx)
    }

    fn global_avgpool_fwd_f32(&self, p: &Pool, x: Span, y: Span) -> Result<()> {
        pool::avg_fwd(self, p, x, y)
    }

    fn global_avgpool_bwd_f32(&self, p: &Pool, dy: Span, dx: Span) -> Result<()> {
        pool::avg_bwd(self, p, dy, dx)
    }

    fn linear_fwd_f32(&self, p: &Linear, x: Span, w: Span, bias: Option<Span>, y: Span) -> Result<()> {
        linear::fwd(self, p, x, w, bias, y)
    }

    fn linear_dgrad_f32(&self, p: &Linear, dy: Span, w: Span, dx: Span) -> Result<()> {
        linear::dgrad(self, p, dy, w, dx)
    }

    fn linear_wgrad_f32(&self, p: &Linear, x: Span, dy: Span, dw: Span, dbias: Option<Span>) -> Result<()> {
        linear::wgrad(self, p, x, dy, dw, dbias)
    }

    fn select_fwd_f32(&self, p: &Select, x: Span, index: Span, y: Span) -> Result<()> {
        select::fwd(self, p, x, index, y)
    }

    fn select_bwd_f32(&self, p: &Select, dy: Span, index: Span, dx: Span) -> Result<()> {
        select::bwd(self, p, dy, index, dx)
    }

    fn softmax_xent_fwd_f32(
        &self,
        p: &SoftmaxXent,
        logits: Span,
        labels: Span,
        probs: Span,
        metrics: Span,
    ) -> Result<()> {
        softmax_xent::fwd(self, p, logits, labels, probs, metrics)
    }

    fn softmax_xent_bwd_f32(&self, p: &SoftmaxXent, probs: Span, labels: Span, dlogits: Span) -> Result<()> {
        softmax_xent::bwd(self, p, probs, labels, dlogits)
    }

    fn sgd_step_f32(&self, p: &Sgd, lr: Span, g: Span, v: Span, w: Span) -> Result<()> {
        sgd::step(self, p, lr, g, v, w)
    }

    fn advance_step_u64(&self, p: &Advance, state: Span, metrics: Span, log: Span) -> Result<()> {
        advance::step(self, p, state, metrics, log)
    }

    fn mask_step_f32(&self, p: &Mask, spans: MaskSpans) -> Result<()> {
        mask::step(self, p, spans)
    }
}
