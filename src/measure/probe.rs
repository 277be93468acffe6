//! Every kernel on the profiling virtual GPU, at shapes that are small and fill its blocks: what it counts, beside what it must move.
//!
//! Counters do not depend on the host, so budgets can stand on them. Not here: the budgets (`earlybird kernels budget`).

use std::sync::Arc;

use super::operands::{self, Content, compulsory, operands};
use super::probe_i8;
use crate::autograd::execute;
use crate::backend::cuda::Cuda;
use crate::backend::cuda::cast::{Narrow, cast_from_f32, cast_to_f32};
use crate::backend::cuda::mask::{MaskBuffers, mask_step_f32};
use crate::backend::cuda::matmul::{Stored, matmul_f32};
use crate::backend::cuda::{copy, fill};
use crate::backend::{AugmentSource, Backend, Memory};
use crate::driver::vgpu::Vgpu;
use crate::driver::{DevPtr, StreamId};
use crate::ops::add::Add;
use crate::ops::advance::StepState;
use crate::ops::augment::Augment;
use crate::ops::batchnorm::BatchNorm;
use crate::ops::classifier::Classifier;
use crate::ops::conv2d::{Conv2d, Conv2dAttr};
use crate::ops::linear::Linear;
use crate::ops::mask::Mask;
use crate::ops::matmul::Matmul;
use crate::ops::pool::Pool;
use crate::ops::relu::Relu;
use crate::ops::select::Select;
use crate::ops::sgd::Sgd;
use crate::ops::softmax_xent::SoftmaxXent;
use crate::ops::{Call, Kernel, Shape, Value};
use crate::vgpu::device::Options;
use crate::vgpu::limits::{A100, Limits};
use crate::vgpu::prof::Summary;
use crate::{Error, Result};

/// A launch with what it must move.
#[derive(Clone, Debug)]
pub struct Counted {
    /// What the profiler counted.
    pub summary: Summary,
    /// Bytes it must read and write, where that is known.
    pub compulsory: Option<(usize, usize)>,
}

impl Counted {
    /// Bytes of 32-byte sectors asked for, over those that must move.
    pub fn traffic(&self) -> Option<f64> {
        let (read, written) = self.compulsory?;
        let sectors = self.summary.global_read.sectors + self.summary.global_write.sectors;
        (read + written > 0).then(|| 32.0 * sectors as f64 / (read + written) as f64)
    }

    /// Bytes of distinct sectors touched, over those that must move; a few sectors that are only partly an operand's are not held against it.
    pub fn memory(&self) -> Option<f64> {
        let (read, written) = self.compulsory?;
        let sectors = self.summary.global_read.footprint_sectors + self.summary.global_write.footprint_sectors;
        let bytes = (32 * sectors).saturating_sub(32 * 6);
        (read + written > 0).then(|| bytes as f64 / (read + written) as f64)
    }

    /// Passes through the banks of shared memory beyond the least.
    pub fn conflicts(&self) -> u64 {
        self.summary.shared.wavefronts.saturating_sub(self.summary.shared.ideal)
    }
}

/// A virtual GPU that counts, with the project's kernels on it.
pub struct Rig {
    driver: Arc<Vgpu>,
    backend: Arc<Cuda>,
}

impl Rig {
    /// With `sms` multiprocessors and the limits of an A100; counting at most `sample` blocks of a launch.
    ///
    /// # Errors
    /// [`Error::DeviceUnavailable`] where this build has no kernels.
    pub fn new(sms: u32, sample: Option<u64>) -> Result<Rig> {
        let limits = Limits { sms, ..A100 };
        Rig::with(Options { limits, profile: true, sample, ..Options::default() })
    }

    /// With these options and counters on.
    ///
    /// # Errors
    /// As [`Rig::new`].
    pub fn with(options: Options) -> Result<Rig> {
        let driver = Arc::new(Vgpu::new(Options { profile: true, ..options }));
        Ok(Rig { backend: Arc::new(Cuda::new(driver.clone())?), driver })
    }

    /// The backend.
    pub fn backend(&self) -> &Arc<Cuda> {
        &self.backend
    }

    /// What `call` counts, launch by launch.
    ///
    /// # Errors
    /// What the call says.
    pub fn count(&self, call: impl FnOnce() -> Result<()>) -> Result<Vec<Summary>> {
        self.driver.take_summaries();
        call()?;
        Ok(self.driver.take_summaries())
    }

    pub(super) fn put(&self, bytes: usize, content: Content) -> Result<Memory> {
        let memory = self.backend.alloc(bytes.max(4))?;
        let words = bytes / 4;
        let data: Vec<u8> = match content {
            Content::Noise => bytemuck::cast_slice(&crate::data::noise(words, words as u64)).to_vec(),
            Content::Labels(classes) => (0..words as u32).flat_map(|i| (i % classes.max(1)).to_le_bytes()).collect(),
            Content::Channels => (0..words as u32).flat_map(|i| (2 * i).to_le_bytes()).collect(),
            Content::Bytes => (0..bytes).map(|i| (i % 4) as u8).collect(),
        };
        self.backend.upload(&data, memory.span(0, data.len())?)?;
        Ok(memory)
    }

    /// Runs one lowered operator on made-up operands.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for kernels that are not f32; what the device says.
    pub fn operator(&self, kernel: &Kernel) -> Result<Vec<Counted>> {
        let operands = operands(kernel).ok_or_else(|| Error::Unsupported {
            what: format!("probing {kernel:?}"),
            place: None,
            hint: "it has no operands of its own".into(),
        })?;
        let inputs: Vec<Memory> =
            operands.inputs.iter().map(|(bytes, content)| self.put(*bytes, *content)).collect::<Result<_>>()?;
        let outputs: Vec<Memory> =
            operands.outputs.iter().map(|bytes| self.backend.alloc((*bytes).max(4))).collect::<Result<_>>()?;
        let workspace = self.backend.workspace(kernel);
        let scratch = self.backend.alloc(workspace.max(4))?;
        let all: Vec<&Memory> = inputs.iter().chain(&outputs).chain([&scratch]).collect();
        let value = |i: usize| Value(i as u32);
        let call = Call {
            kernel: *kernel,
            inputs: (0..inputs.len()).map(value).collect(),
            outputs: (inputs.len()..inputs.len() + outputs.len()).map(value).collect(),
            workspace: (workspace > 0).then(|| value(all.len() - 1)),
        };
        let summaries = self.count(|| {
            execute(&*self.backend, &call, &|v| {
                all.get(v.0 as usize).map(|memory| memory.all()).ok_or_else(|| Error::Graph {
                    node: "probe".into(),
                    op: "value",
                    what: "has no memory".into(),
                })
            })
        })?;
        Ok(summaries
            .into_iter()
            .map(|summary| Counted {
                compulsory: compulsory(&summary.kernel, kernel, summary.grid, workspace),
                summary,
            })
            .collect())
    }

    /// Runs `launch` with device memory of these sizes.
    fn raw(
        &self,
        sizes: &[usize],
        must: (usize, usize),
        launch: impl FnOnce(StreamId, &[DevPtr]) -> crate::driver::Result<()>,
    ) -> Result<Vec<Counted>> {
        let memories: Vec<Memory> =
            sizes.iter().map(|bytes| self.put(*bytes, Content::Noise)).collect::<Result<_>>()?;
        let addresses: Vec<DevPtr> = memories.iter().map(|m| DevPtr(m.all().address())).collect();
        let summaries = self.count(|| Ok(launch(self.backend.stream(), &addresses)?))?;
        Ok(summaries.into_iter().map(|summary| Counted { summary, compulsory: Some(must) }).collect())
    }
}

fn conv(n: usize, side: usize, c: usize, k: usize, kernel: usize, stride: usize) -> Result<Conv2d> {
    Conv2d::new(n, Shape::new(side, side, c), &Conv2dAttr::square(k, kernel, stride, kernel / 2))
        .map_err(|what| Error::Graph { node: "probe".into(), op: "conv2d", what })
}

/// Operators that between them launch every f32 kernel of the backend.
fn operators() -> Result<Vec<Kernel>> {
    let mut all = Vec::new();
    // Large tiles, small ones, and element by element.
    for p in [conv(2, 20, 16, 128, 3, 1)?, conv(2, 12, 16, 32, 3, 1)?, conv(1, 9, 13, 37, 3, 1)?] {
        all.extend([Kernel::Conv2dFwd(p), Kernel::Conv2dDgrad(p), Kernel::Conv2dWgrad(p)]);
    }
    all.push(Kernel::Conv2dDgrad(conv(2, 20, 128, 16, 3, 1)?));
    all.push(Kernel::Conv2dWgrad(conv(2, 40, 16, 32, 1, 1)?)); // in slices
    let n = 1 << 17;
    all.extend([Kernel::AddFwd(Add { n }), Kernel::ReluFwd(Relu { n }), Kernel::ReluBwd(Relu { n })]);
    for (rows, c) in [(8192, 64), (8192, 37)] {
        let p = BatchNorm { rows, c, eps: 1e-5, momentum: 0.1, relu: 1 };
        all.extend([Kernel::BatchNormFwd(p), Kernel::BatchNormEval(p), Kernel::BatchNormBwd(p)]);
    }
    for c in [64, 37] {
        let p = Pool { n: 2, h: 32, w: 32, c, p: 16, q: 16, kernel_h: 2, kernel_w: 2, stride: 2, padding: 0 };
        let all_four = [Kernel::MaxPoolFwd(p), Kernel::MaxPoolBwd(p), Kernel::AvgPoolFwd(p), Kernel::AvgPoolBwd(p)];
        all.extend(all_four);
    }
    for p in [Linear { n: 384, c: 128, k: 64 }, Linear { n: 256, c: 64, k: 256 }] {
        all.extend([Kernel::LinearFwd(p), Kernel::LinearDgrad(p), Kernel::LinearWgrad(p)]);
    }
    let p = Select { rows: 8192, c: 128, k: 64 };
    all.extend([Kernel::SelectFwd(p), Kernel::SelectBwd(p)]);
    let p = SoftmaxXent { n: 512, classes: 10 };
    all.extend([Kernel::SoftmaxXentFwd(p), Kernel::SoftmaxXentBwd(p)]);
    let p = Classifier { n: 64, c: 512, k: 10, bias: 1 };
    all.extend([Kernel::ClassifierFwd(p), Kernel::ClassifierBwd(p)]);
    all.push(Kernel::SgdStep(Sgd { count: n, scales: 64, momentum: 0.9, weight_decay: 1e-4, l1: 1e-4 }));
    Ok(all)
}

/// A batch made from images on the device, which lie in memory as they are wanted.
fn augment(rig: &Rig) -> Result<Vec<Counted>> {
    let (n, count) = (64u32, 64u32);
    let p = Augment { seed: [1, 2], n, h: 32, w: 32, c: 3, count, order: n, pad: 4, crop: 1, flip: 1 };
    let bytes = n as usize * p.elements();
    let order = rig.backend.alloc(n as usize * 4)?;
    rig.backend.upload(bytemuck::cast_slice(&(0..n).collect::<Vec<u32>>()), order.all())?;
    let (data, labels) = (rig.put(bytes, Content::Bytes)?, rig.put(count as usize * 4, Content::Labels(10))?);
    let (state, mean) = (rig.backend.alloc(size_of::<StepState>())?, rig.put(12, Content::Noise)?);
    let (images, out) = (rig.backend.alloc(bytes * 4)?, rig.backend.alloc(n as usize * 4)?);
    let from = AugmentSource {
        images: data.all(),
        labels: labels.all(),
        order: order.all(),
        state: state.all(),
        mean: mean.all(),
        std: mean.all(),
    };
    let summaries = rig.count(|| rig.backend.augment_fwd_f32(&p, from, images.all(), out.all()))?;
    let must = operands::batch(&p);
    Ok(summaries.into_iter().map(|summary| Counted { summary, compulsory: Some(must) }).collect())
}

/// What every kernel counts.
///
/// # Errors
/// [`Error::DeviceUnavailable`] where this build has no kernels.
pub fn probe() -> Result<Vec<Counted>> {
    // Few multiprocessors: the grids of small shapes then look like those of large shapes on a large GPU.
    let rig = Rig::new(4, None)?;
    let mut all = Vec::new();
    for kernel in operators()? {
        all.extend(rig.operator(&kernel)?);
    }
    all.extend(augment(&rig)?);
    all.extend(probe_i8::probe(&rig)?);
    let (kernels, n) = (rig.backend.kernels(), 1u32 << 16);
    let bytes = n as usize * 4;
    all.extend(rig.raw(&[bytes], (0, bytes), |s, a| fill::fill_u32(kernels, s, a[0], n, 1))?);
    all.extend(rig.raw(&[bytes, bytes], (bytes, bytes), |s, a| copy::copy_u8(kernels, s, a[0], a[1], n * 4))?);
    for narrow in [Narrow::F16, Narrow::Bf16, Narrow::I8, Narrow::U8] {
        let small = n as usize * narrow.bytes();
        let down = rig.raw(&[bytes, small], (bytes, small), |s, a| cast_from_f32(kernels, s, narrow, a[0], a[1], n));
        all.extend(down?);
        let up = rig.raw(&[small, bytes], (small, bytes), |s, a| cast_to_f32(kernels, s, narrow, a[0], a[1], n));
        all.extend(up?);
    }
    let tall = |stored| match stored {
        Stored::Nn => Matmul::nn(256, 256, 64),
        Stored::Nt => Matmul::nt(256, 256, 64),
        Stored::Tn => Matmul::tn(256, 256, 64),
    };
    for stored in [Stored::Nn, Stored::Nt, Stored::Tn] {
        let sizes = [256 * 64 * 4, 256 * 64 * 4, 256 * 256 * 4];
        let must = (sizes[0] + sizes[1], sizes[2]);
        all.extend(rig.raw(&sizes, must, |s, a| matmul_f32(kernels, s, stored, &tall(stored), a[0], a[1], a[2]))?);
    }
    let mask = Mask::new(4224, &[0.3, 0.5, 0.7], 4)?;
    let (words, ratios) = (mask.words as usize, mask.ratios as usize);
    let sizes = [4224 * 4, ratios * 5 * words * 4, ratios * 4, ratios * 4 * 4, ratios * 4 + 4];
    let must = (sizes[0], ratios * words * 4 + sizes[2] + sizes[3] + sizes[4]);
    all.extend(rig.raw(&sizes, must, |s, a| {
        let buffers = MaskBuffers { scales: a[0], ring: a[1], thresholds: a[2], distances: a[3], kept: a[4] };
        mask_step_f32(kernels, s, &mask, &buffers)
    })?);
    Ok(all)
}

/// Bytes touched per output element of a training step of one 8-bit layer.
///
/// # Errors
/// As [`probe`].
pub fn layer_bytes() -> Result<f64> {
    probe_i8::layer_bytes(&Rig::new(A100.sms, None)?)
}
