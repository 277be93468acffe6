//! Grid of `kernels/select.cu`: 32 channels by 8 rows to a block.

use super::device::Cuda;
use crate::Result;
use crate::backend::Span;
use crate::driver::Dims;
use crate::ops::select::Select;

/// Blocks over `channels`, and enough over rows to fill the device.
fn dims(cuda: &Cuda, channels: u32, rows: u32) -> Dims {
    let props = cuda.kernels().driver().props();
    let x = channels.div_ceil(32);
    let resident = props.sm_count * (props.max_threads_per_sm / 256);
    let y = rows.div_ceil(8).clamp(1, (resident / x).clamp(1, 65_535));
    Dims { grid: [x, y, 1], block: [256, 1, 1], shared: 0 }
}

/// `y[row, j] = x[row, index[j]]`.
pub(super) fn fwd(cuda: &Cuda, p: &Select, x: Span, index: Span, y: Span) -> Result<()> {
    let (rows, c, k) = (p.rows as usize, p.c as usize, p.k as usize);
    let reads = [(x, rows * c * 4), (index, k * 4)];
    let ([x, index], [y]) = cuda.open("select_fwd_f32", reads, [(y, rows * k * 4)])?;
    if rows * k == 0 {
        return Ok(());
    }
    Ok(cuda.kernels().select_fwd_f32(dims(cuda, p.k, p.rows), cuda.stream(), p, x, index, y)?)
}

/// `dx[row, index[j]] = dy[row, j]`, 0 elsewhere.
pub(super) fn bwd(cuda: &Cuda, p: &Select, dy: Span, index: Span, dx: Span) -> Result<()> {
    let (rows, c, k) = (p.rows as usize, p.c as usize, p.k as usize);
    let reads = [(dy, rows * k * 4), (index, k * 4)];
    let ([dy, index], [dx]) = cuda.open("select_bwd_f32", reads, [(dx, rows * c * 4)])?;
    if rows * c == 0 {
        return Ok(());
    }
    Ok(cuda.kernels().select_bwd_f32(dims(cuda, p.c, p.rows), cuda.stream(), p, dy, index, dx)?)
}
