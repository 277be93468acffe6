//! Grids of `kernels/batchnorm.cu`: sums over slabs of rows, one small launch that makes coefficients of them, one pass that applies them.
//!
//! The split into slabs depends on the shape (and on whether channels can be read in fours), not on the device: the same bits everywhere.

use super::device::Cuda;
use super::{by_column, wide};
use crate::Result;
use crate::backend::Span;
use crate::driver::{DevPtr, Dims};
use crate::ops::batchnorm::BatchNorm;

/// Threads of a block.
const THREADS: u32 = 256;
/// Rows that a thread adds up at the least.
const CHAIN: u32 = 16;
/// Rows that a thread passes over at the least.
const PASS: u32 = 4;
/// Most slabs: what one warp adds in 32 steps.
const MOST_SLABS: u32 = 1024;

/// How threads stand on the matrix.
struct Plan {
    /// Elements that a thread reads at once: 4 or 1.
    v: u32,
    /// Neighbouring groups of columns in a block; a power of two.
    lanes: u32,
    /// Blocks over columns.
    blocks: u32,
    slab_rows: u32,
    slabs: u32,
}

impl Plan {
    fn new(p: &BatchNorm, v: u32) -> Plan {
        let groups = p.c.div_ceil(v).max(1);
        let lanes = groups.min(32).next_power_of_two();
        let slab_rows = (THREADS / lanes * CHAIN).max(p.rows.div_ceil(MOST_SLABS));
        Plan { v, lanes, blocks: groups.div_ceil(lanes), slab_rows, slabs: p.rows.div_ceil(slab_rows) }
    }

    /// Blocks for the sums: a slab each.
    fn sums(&self) -> Dims {
        Dims { grid: [self.blocks, self.slabs, 1], block: [THREADS, 1, 1], shared: 0 }
    }

    /// Blocks for a pass over all rows: enough to fill the device, and few enough that a thread's coefficients serve several rows.
    fn pass(&self, cuda: &Cuda, rows: u32) -> Dims {
        let props = cuda.kernels().driver().props();
        let resident = props.sm_count * (props.max_threads_per_sm / THREADS);
        let y = rows.div_ceil(THREADS / self.lanes * PASS).clamp(1, (resident / self.blocks).clamp(1, 65_535));
        Dims { grid: [self.blocks, y, 1], block: [THREADS, 1, 1], shared: 0 }
    }

    fn partial_bytes(&self, p: &BatchNorm) -> usize {
        self.slabs as usize * 2 * p.c as usize * 4
    }
}

/// Blocks for the coefficients: a warp per channel.
fn per_channel(p: &BatchNorm) -> Dims {
    Dims::linear((p.c * 32).div_ceil(THREADS), THREADS)
}

/// Bytes of scratch memory: sums of every slab, and up to three coefficients per channel.
pub(super) fn workspace(p: &BatchNorm) -> usize {
    let partial = [1, 4].map(|v| Plan::new(p, v).partial_bytes(p));
    partial[0].max(partial[1]) + 3 * p.c as usize * 4
}

/// Training forward. `affine` is gamma and beta, `statistics` running mean and variance, mean, 1/std.
pub(super) fn fwd(
    cuda: &Cuda,
    p: &BatchNorm,
    x: Span,
    affine: [Span; 2],
    statistics: [Span; 4],
    y: Span,
    ws: Span,
) -> Result<()> {
    let (all, one) = (p.rows as usize * p.c as usize * 4, p.c as usize * 4);
    let [running_mean, running_var, mean, invstd] = statistics.map(|s| (s, one));
    let reads = [(x, all), (affine[0], one), (affine[1], one)];
    let writes = [(y, all), running_mean, running_var, mean, invstd, (ws, workspace(p))];
    let (reads, writes) = cuda.open("batchnorm_fwd_f32", reads, writes)?;
    let ([x, gamma, beta], [y, running_mean, running_var, mean, invstd, ws]) = (reads, writes);
    if all == 0 {
        return Ok(());
    }
    let (k, stream) = (cuda.kernels(), cuda.stream());
    let plan = Plan::new(p, if wide(p.c, &[x, y, ws]) { 4 } else { 1 });
    let coef = ws.offset(plan.partial_bytes(p));
    let (sums, pass, (flat, threads)) = (plan.sums(), plan.pass(cuda, p.rows), by_column(k, all / 4, p.c, 16));
    match plan.v {
        4 => k.batchnorm_stats_f32(sums, stream, p, x, ws, plan.slab_rows, plan.lanes)?,
        _ => k.batchnorm_stats_f32_any(sums, stream, p, x, ws, plan.slab_rows, plan.lanes)?,
    }
    k.batchnorm_fwd_coef_f32(
        per_channel(p),
        stream,
        p,
        x,
        gamma,
        beta,
        ws,
        plan.slabs,
        running_mean,
        running_var,
        mean,
        invstd,
        coef,
    )?;
    match plan.v {
        4 => k.batchnorm_fwd_f32(pass, stream, p, x, coef, y, plan.lanes)?,
        _ => k.batchnorm_fwd_f32_any(flat, stream, p, x, coef, y, threads)?,
    }
    Ok(())
}

/// Inference forward; `y` may be `x`. `channel` is gamma, beta, running mean and variance.
pub(super) fn eval(cuda: &Cuda, p: &BatchNorm, x: Span, channel: [Span; 4], y: Span) -> Result<()> {
    let (all, one) = (p.rows as usize * p.c as usize * 4, p.c as usize * 4);
    let [gamma, beta, mean, var] = channel.map(|s| (s, one));
    let reads = [(x, all), gamma, beta, mean, var];
    let ([x, gamma, beta, mean, var], [y]) = cuda.open_in_place("batchnorm_eval_f32", reads, [(y, all)])?;
    if all == 0 {
        return Ok(());
    }
    let (k, stream) = (cuda.kernels(), cuda.stream());
    let plan = Plan::new(p, if wide(p.c, &[x, y]) { 4 } else { 1 });
    let (pass, (flat, threads)) = (plan.pass(cuda, p.rows), by_column(k, all / 4, p.c, 64));
    match plan.v {
        4 => k.batchnorm_eval_f32(pass, stream, p, x, gamma, beta, mean, var, y, plan.lanes)?,
        _ => k.batchnorm_eval_f32_any(flat, stream, p, x, gamma, beta, mean, var, y, threads)?,
    }
    Ok(())
}

/// Gradients. `rows` is x, y and dy, `channel` gamma, mean and 1/std; `dx` may be dy; `gradients` dgamma and dbeta.
pub(super) fn bwd(
    cuda: &Cuda,
    p: &BatchNorm,
    rows: [Span; 3],
    channel: [Span; 3],
    dx: Span,
    gradients: [Span; 2],
    ws: Span,
) -> Result<()> {
    let (all, one) = (p.rows as usize * p.c as usize * 4, p.c as usize * 4);
    let [x, y, dy] = rows.map(|s| (s, all));
    let [gamma, mean, invstd] = channel.map(|s| (s, one));
    let [dgamma, dbeta] = gradients.map(|s| (s, one));
    let reads = [x, y, dy, gamma, mean, invstd];
    let writes = [(dx, all), dgamma, dbeta, (ws, workspace(p))];
    let (reads, writes) = cuda.open_in_place("batchnorm_bwd_f32", reads, writes)?;
    let ([x, y, dy, gamma, mean, invstd], [dx, dgamma, dbeta, ws]): ([DevPtr; 6], [DevPtr; 4]) = (reads, writes);
    if all == 0 {
        return Ok(());
    }
    let (k, stream) = (cuda.kernels(), cuda.stream());
    let plan = Plan::new(p, if wide(p.c, &[x, y, dy, dx, mean, ws]) { 4 } else { 1 });
    let coef = ws.offset(plan.partial_bytes(p));
    let (sums, pass, (flat, threads)) = (plan.sums(), plan.pass(cuda, p.rows), by_column(k, all / 4, p.c, 16));
    match plan.v {
        4 => k.batchnorm_bwd_sums_f32(sums, stream, p, x, y, mean, dy, ws, plan.slab_rows, plan.lanes)?,
        _ => k.batchnorm_bwd_sums_f32_any(sums, stream, p, x, y, mean, dy, ws, plan.slab_rows, plan.lanes)?,
    }
    k.batchnorm_bwd_coef_f32(per_channel(p), stream, p, gamma, invstd, ws, plan.slabs, dgamma, dbeta, coef)?;
    match plan.v {
        4 => k.batchnorm_bwd_f32(pass, stream, p, x, y, mean, coef, dy, dx, plan.lanes)?,
        _ => k.batchnorm_bwd_f32_any(flat, stream, p, x, y, mean, coef, dy, dx, threads)?,
    }
    Ok(())
}
