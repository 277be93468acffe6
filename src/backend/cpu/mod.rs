//! The CPU backend: the reference for every other device, and the default where there is no GPU.
//!
//! One file per operator. Work is spread over rayon's threads by shape alone, so that results do not depend on how many there are. They do depend, within f32
//! rounding, on the instruction set ([`Path`]).

mod add;
mod advance;
mod augment;
mod batchnorm;
mod classifier;
mod conv2d;
mod elementwise;
mod int8;
mod lane_sums;
mod linear;
mod mask;
mod memory;
mod noise;
mod pool;
mod quantize;
mod relu;
mod select;
mod sgd;
mod sgd_i8;
mod simd;
mod simd_int8;
mod softmax_xent;
mod stream;
mod tile;

pub use conv2d::{IntegerPath, NoAmx, amx};
pub use simd::Path;

use std::sync::{Arc, Mutex};

use crate::backend::{AugmentSource, Backend, Int8, MaskSpans, Memory, Span};
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
use conv2d::Pass;

/// The CPU as a device. Threads outside rayon's pools may share one and take turns. Inside a pool it must not be shared: a thread that waits for its part of
/// an operator may be handed another task, whose operator would then wait for the first. Give each such task a `Cpu` of its own.
pub struct Cpu {
    path: Path,
    level: simd_int8::Level,
    products: IntegerPath,
    memory: memory::Owner,
    /// Packed weights of the operator that runs; operators take turns.
    scratch: Mutex<conv2d::Scratch>,
}

impl Cpu {
    fn of(path: Path, products: IntegerPath) -> Cpu {
        let (level, scratch) = (simd_int8::Level::of(path), Mutex::default());
        Cpu { path, level, products, memory: memory::Owner::new(), scratch }
    }

    /// With the best instruction set of this machine.
    #[allow(clippy::new_ret_no_self)] // a backend is only ever used behind its trait
    pub fn new() -> Arc<dyn Backend> {
        Arc::new(Cpu::of(Path::best(), IntegerPath::best()))
    }

    /// With a given instruction set, for tests and comparisons; 8-bit products with what belongs to it, plain ones on [`Path::Portable`].
    ///
    /// # Errors
    /// [`Error::DeviceUnavailable`] where this machine does not have it.
    pub fn with_path(path: Path) -> Result<Arc<dyn Backend>> {
        let products = match path {
            Path::Portable => IntegerPath::Plain,
            Path::Avx2 => IntegerPath::Avx2,
            Path::Avx512 => IntegerPath::best(),
        };
        Cpu::with_integers(path, products)
    }

    /// As [`Cpu::with_path`], 8-bit products computed in a given way.
    ///
    /// # Errors
    /// As [`Cpu::with_path`].
    pub fn with_integers(path: Path, products: IntegerPath) -> Result<Arc<dyn Backend>> {
        if !path.available() || !products.available() {
            return Err(Error::DeviceUnavailable {
                device: format!("cpu with {path:?}, 8-bit products {products:?}"),
                why: "these instructions cannot be used here".into(),
                hint: "use Path::best() and IntegerPath::best()".into(),
            });
        }
        Ok(Arc::new(Cpu::of(path, products)))
    }
}

impl Backend for Cpu {
    fn name(&self) -> &str {
        "cpu"
    }

    fn alloc(&self, bytes: usize) -> Result<Memory> {
        Ok(Memory::new(Arc::new(self.memory.alloc(bytes)?)))
    }

    fn upload(&self, from: &[u8], to: Span) -> Result<()> {
        let io = self.memory.open("upload", [], [(to, from.len())])?;
        let [to] = io.write;
        to.copy_from_slice(from);
        Ok(())
    }

    fn download(&self, from: Span, to: &mut [u8]) -> Result<()> {
        let io = self.memory.open("download", [(from, to.len())], [])?;
        let [from] = io.read;
        to.copy_from_slice(from);
        Ok(())
    }

    fn synchronize(&self) -> Result<()> {
        Ok(())
    }

    fn workspace(&self, kernel: &Kernel) -> usize {
        match kernel {
            Kernel::Conv2dFwd(p) => self.conv2d_workspace(p, Pass::Fwd),
            Kernel::Conv2dDgrad(p) => self.conv2d_workspace(p, Pass::Dgrad),
            Kernel::Conv2dWgrad(p) => self.conv2d_workspace(p, Pass::Wgrad),
            Kernel::BatchNormFwd(p) | Kernel::BatchNormBwd(p) => Self::batchnorm_workspace(p),
            Kernel::Conv2dWgradI8(p) => self.conv2d_wgrad_i8_workspace(p),
            Kernel::BatchNormBwdI8(p) => Self::batchnorm_bwd_i8_workspace(p),
            Kernel::BatchNormBwdStreamI8(p) => Self::batchnorm_bwd_stream_i8_workspace(p),
            Kernel::QuantizeBwdI8(p) => Self::quantize_bwd_i8_workspace(p),
            _ => 0,
        }
    }

    fn int8(&self) -> Result<&dyn Int8> {
        Ok(self)
    }

    fn together(&self, work: &mut (dyn FnMut() -> Result<()> + Send)) -> Result<()> {
        let _turn = self.memory.turn();
        rayon::scope(|_| work())
    }

    fn augment_fwd_f32(&self, p: &Augment, from: AugmentSource, images: Span, labels: Span) -> Result<()> {
        self.augment_fwd(p, from, images, labels)
    }

    fn fill_f32(&self, value: f32, x: Span) -> Result<()> {
        self.fill(value, x)
    }

    fn copy(&self, x: Span, y: Span) -> Result<()> {
        self.copy_span(x, y)
    }

    fn add_fwd_f32(&self, p: &Add, a: Span, b: Span, y: Span) -> Result<()> {
        self.add(p, a, b, y)
    }

    fn relu_fwd_f32(&self, p: &Relu, x: Span, y: Span) -> Result<()> {
        self.relu_fwd(p, x, y)
    }

    fn relu_bwd_f32(&self, p: &Relu, y: Span, dy: Span, dx: Span) -> Result<()> {
        self.relu_bwd(p, y, dy, dx)
    }

    fn conv2d_fwd_f32(&self, p: &Conv2d, x: Span, w: Span, bias: Option<Span>, y: Span, ws: Span) -> Result<()> {
        self.conv2d_fwd(p, x, w, bias, y, ws)
    }

    fn conv2d_dgrad_f32(&self, p: &Conv2d, dy: Span, w: Span, dx: Span, ws: Span) -> Result<()> {
        self.conv2d_dgrad(p, dy, w, dx, ws)
    }

    fn conv2d_wgrad_f32(&self, p: &Conv2d, x: Span, dy: Span, dw: Span, dbias: Option<Span>, ws: Span) -> Result<()> {
        self.conv2d_wgrad(p, x, dy, dw, dbias, ws)
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
        self.batchnorm_fwd(p, x, gamma, beta, running_mean, running_var, y, mean, invstd, ws)
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
        self.batchnorm_eval(p, x, gamma, beta, running_mean, running_var, y)
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
        self.batchnorm_bwd(p, x, y, gamma, mean, invstd, dy, dx, dgamma, dbeta, ws)
    }

    fn maxpool_fwd_f32(&self, p: &Pool, x: Span, y: Span, index: Span) -> Result<()> {
        self.maxpool_fwd(p, x, y, index)
    }

    fn maxpool_bwd_f32(&self, p: &Pool, index: Span, dy: Span, dx: Span) -> Result<()> {
        self.maxpool_bwd(p, index, dy, dx)
    }

    fn avgpool_fwd_f32(&self, p: &Pool, x: Span, y: Span) -> Result<()> {
        self.avgpool_fwd(p, x, y)
    }

    fn avgpool_bwd_f32(&self, p: &Pool, dy: Span, dx: Span) -> Result<()> {
        self.avgpool_bwd(p, dy, dx)
    }

    // The mean over the image is the mean over one window as large as the image.
    fn global_avgpool_fwd_f32(&self, p: &Pool, x: Span, y: Span) -> Result<()> {
        self.avgpool_fwd(p, x, y)
    }

    fn global_avgpool_bwd_f32(&self, p: &Pool, dy: Span, dx: Span) -> Result<()> {
        self.avgpool_bwd(p, dy, dx)
    }

    fn linear_fwd_f32(&self, p: &Linear, x: Span, w: Span, bias: Option<Span>, y: Span) -> Result<()> {
        self.linear_fwd(p, x, w, bias, y)
    }

    fn linear_dgrad_f32(&self, p: &Linear, dy: Span, w: Span, dx: Span) -> Result<()> {
        self.linear_dgrad(p, dy, w, dx)
    }

    fn linear_wgrad_f32(&self, p: &Linear, x: Span, dy: Span, dw: Span, dbias: Option<Span>) -> Result<()> {
        self.linear_wgrad(p, x, dy, dw, dbias)
    }

    fn select_fwd_f32(&self, p: &Select, x: Span, index: Span, y: Span) -> Result<()> {
        self.select_fwd(p, x, index, y)
    }

    fn select_bwd_f32(&self, p: &Select, dy: Span, index: Span, dx: Span) -> Result<()> {
        self.select_bwd(p, dy, index, dx)
    }

    fn softmax_xent_fwd_f32(
        &self,
        p: &SoftmaxXent,
        logits: Span,
        labels: Span,
        probs: Span,
        metrics: Span,
    ) -> Result<()> {
        self.softmax_xent_fwd(p, logits, labels, probs, metrics)
    }

    fn softmax_xent_bwd_f32(&self, p: &SoftmaxXent, probs: Span, labels: Span, dlogits: Span) -> Result<()> {
        self.softmax_xent_bwd(p, probs, labels, dlogits)
    }

    fn sgd_step_f32(&self, p: &Sgd, lr: Span, g: Span, v: Span, w: Span) -> Result<()> {
        self.sgd_step(p, lr, g, v, w)
    }

    fn advance_step_u64(&self, p: &Advance, state: Span, metrics: Span, log: Span) -> Result<()> {
        self.advance_step(p, state, metrics, log)
    }

    fn mask_step_f32(&self, p: &Mask, spans: MaskSpans) -> Result<()> {
        self.mask_step(p, spans)
    }
}
