//! The time of a training step, modelled kernel by kernel from counters, beside the roofline of each kernel. Nothing here is measured.
//!
//! Launches have the true shapes, grids and parameters of the batch; of each launch a few blocks are interpreted and counted, evenly spread ones and more where they differ, and every
//! sum is that of the whole grid, estimated from them (`tests/measure.rs` compares with whole launches). Bytes from memory are not estimated but compulsory: every operand read once,
//! every result written once.

use std::sync::Arc;

use super::operands::{self, compulsory};
use super::probe::Rig;
use crate::Result;
use crate::autograd::{Hyper, Part, Precision, Resident, Session};
use crate::backend::Backend;
use crate::graph::Graph;
use crate::ops::augment::Augment;
use crate::ops::{Kernel, u};
use crate::vgpu::device::Options;
use crate::vgpu::prof::Summary;
use crate::vgpu::prof::arch::Arch;

/// One launch of a step.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Row {
    /// The value that the operator writes first: names the layer.
    pub layer: String,
    /// Kernel.
    pub symbol: String,
    /// Blocks.
    pub blocks: u64,
    /// Threads of a block.
    pub threads: u32,
    /// Multiply-adds that the operator asks for; 0 where it is no product.
    pub macs: u64,
    /// Bytes that must move.
    pub bytes: u64,
    /// Roofline: the larger of arithmetic at its peak (f32, or 8-bit integers by `mma.sync`) and compulsory bytes at memory bandwidth, in seconds.
    pub roofline: f64,
    /// Modelled time, in seconds: slowest unit on the busiest multiprocessor, and the launch.
    pub modelled: f64,
    /// Which unit that is.
    pub limit: &'static str,
    /// Of the modelled time: what the slowest unit needs beyond the roofline with all multiprocessors equally busy.
    pub work: f64,
    /// Of the modelled time: multiprocessors that wait for the busiest one.
    pub tail: f64,
    /// Of the modelled time: starting the kernel.
    pub launch: f64,
    /// 32-byte sectors that multiprocessors ask L2 for, over compulsory bytes.
    pub traffic: f64,
}

/// Whether it is a product of 8-bit integers.
fn is_integer(kernel: &Kernel) -> bool {
    matches!(
        kernel,
        Kernel::Conv2dFwdI8(_) | Kernel::Conv2dStreamI8(_) | Kernel::Conv2dDgradI8(_) | Kernel::Conv2dWgradI8(_)
    )
}

/// Multiply-adds of a launch.
fn macs(kernel: &Kernel, symbol: &str) -> u64 {
    match kernel {
        Kernel::Conv2dFwd(p) | Kernel::Conv2dDgrad(p) | Kernel::Conv2dWgrad(p) if !symbol.contains("sum") => p.macs(),
        Kernel::Conv2dFwdI8(p) | Kernel::Conv2dDgradI8(p) => p.conv.macs(),
        Kernel::Conv2dStreamI8(p) => p.product.conv.macs(),
        Kernel::Conv2dWgradI8(p) => p.conv.macs() << u32::from(p.wide != 0),
        Kernel::LinearFwd(p) | Kernel::LinearDgrad(p) | Kernel::LinearWgrad(p) if symbol.starts_with("matmul") => {
            u64::from(p.n) * u64::from(p.c) * u64::from(p.k)
        }
        _ => 0,
    }
}

fn row(layer: &str, part: Part<'_>, workspace: usize, summary: &Summary, arch: &Arch) -> Row {
    let mut all = summary.clone();
    let sectors = |s: &Summary| 32 * (s.global_read.sectors + s.global_write.sectors);
    let known = match part {
        Part::Batch(p) => Some(operands::batch(p)),
        Part::Operator(kernel) => compulsory(&summary.kernel, kernel, summary.grid, workspace),
        Part::Advance(_) => None,
    };
    // Small kernels of which no rule is known: their sectors as counted.
    let (read, written) =
        known.unwrap_or((32 * all.global_read.sectors as usize, 32 * all.global_write.sectors as usize));
    all.global_read.footprint_sectors = read.div_ceil(32) as u64;
    all.global_write.footprint_sectors = written.div_ceil(32) as u64;
    let bytes = (read + written) as u64;
    let (macs, integer) = match part {
        Part::Operator(kernel) => (macs(kernel, &summary.kernel), is_integer(kernel)),
        _ => (0, false),
    };
    let rate = if integer { arch.mac_i8 * arch.mma_sync } else { arch.fp32 };
    let peak = rate * f64::from(arch.sms) * arch.clock_ghz * 1e9; // multiply-adds
    let roofline = (macs as f64 / peak).max(bytes as f64 / (arch.dram_gbs * 1e9));
    let bound = all.bound(arch);
    let even = Summary { grid: [arch.sms, 1, 1], heaviest: 0, ..all.clone() }.bound(arch);
    let unit = |b: &crate::vgpu::prof::model::Bound| b.units.first().map_or(0.0, |u| u.seconds);
    Row {
        layer: layer.into(),
        symbol: summary.kernel.clone(),
        blocks: summary.blocks(),
        threads: summary.threads() as u32,
        macs,
        bytes,
        roofline,
        modelled: bound.seconds,
        limit: bound.limit,
        work: (unit(&even) - roofline).max(0.0),
        tail: unit(&bound) - unit(&even),
        launch: bound.seconds - unit(&bound),
        traffic: sectors(&all) as f64 / bytes.max(1) as f64,
    }
}

/// Models a training step of `graph` in `precision` on `arch`, all that a recorded step has: the batch of `batch` images made from images on the device, the operators, the
/// optimiser, the counter.
///
/// # Errors
/// [`crate::Error::DeviceUnavailable`] where this build has no kernels; a batch that does not fit.
pub fn model(graph: &Graph, batch: usize, precision: Precision, options: Options, arch: &Arch) -> Result<Vec<Row>> {
    let rig = Rig::with(options)?;
    let mut session =
        Session::with_precision(Arc::new(graph.clone()), rig.backend().clone(), Hyper::default(), precision, 1)?;
    let (shape, count) = (graph.input_shape(), u(batch));
    let [h, w, c] = [shape.h, shape.w, shape.c].map(u);
    let p = Augment { seed: [1, 2], n: 0, h, w, c, count, order: 0, pad: 4, crop: 1, flip: 1 };
    let (images, labels) = (vec![0; batch * shape.elements()], vec![0; batch]);
    let resident = Resident::new(&**rig.backend(), p, &images, &labels, &vec![0.5; shape.c], &vec![0.25; shape.c])?;
    resident.set_order(&**rig.backend(), &(0..count).collect::<Vec<u32>>())?;
    let feed = session.attach(&resident)?;
    let mut rows = Vec::new();
    session.walk(batch, Some(feed), &mut |layer, part, run| {
        let workspace = match part {
            Part::Operator(kernel) => rig.backend().workspace(kernel),
            _ => 0,
        };
        rows.extend(rig.count(run)?.iter().map(|summary| row(layer, part, workspace, summary, arch)));
        Ok(())
    })?;
    Ok(rows)
}
