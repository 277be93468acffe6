//! linear on the GPU: the products of `kernels/matmul.cu`, and `kernels/linear.cu` for the bias.

use super::by_column;
use super::device::Cuda;
use super::matmul::{Stored, matmul_f32};
use crate::Result;
use crate::backend::Span;
use crate::driver::{DevPtr, Dims};
use crate::ops::linear::Linear;
use crate::ops::matmul::Matmul;

/// `y[n,k] = bias[k] + sum_c x[n,c] * w[k,c]`.
pub(super) fn fwd(cuda: &Cuda, p: &Linear, x: Span, w: Span, bias: Option<Span>, y: Span) -> Result<()> {
    let (n, c, k) = (p.n as usize, p.c as usize, p.k as usize);
    let bias_arg = bias.map_or((w, 0), |bias| (bias, k * 4));
    let reads = [(x, n * c * 4), (w, k * c * 4), bias_arg];
    let ([x, w, bias_at], [y]) = cuda.open("linear_fwd_f32", reads, [(y, n * k * 4)])?;
    let product = Matmul { m: p.n, n: p.k, k: p.c, lda: p.c, ldb: p.c, ldc: p.k };
    matmul_f32(cuda.kernels(), cuda.stream(), Stored::Nt, &product, x, w, y)?;
    if bias.is_some() && n * k > 0 {
        let (dims, threads) = by_column(cuda.kernels(), n * k, p.k, 16);
        cuda.kernels().linear_bias_fwd_f32(dims, cuda.stream(), bias_at, y, p.n * p.k, p.k, threads)?;
    }
    Ok(())
}

/// `dx[n,c] = sum_k dy[n,k] * w[k,c]`.
pub(super) fn dgrad(cuda: &Cuda, p: &Linear, dy: Span, w: Span, dx: Span) -> Result<()> {
    let (n, c, k) = (p.n as usize, p.c as usize, p.k as usize);
    let ([dy, w], [dx]) = cuda.open("linear_dgrad_f32", [(dy, n * k * 4), (w, k * c * 4)], [(dx, n * c * 4)])?;
    let product = Matmul { m: p.n, n: p.c, k: p.k, lda: p.k, ldb: p.c, ldc: p.c };
    Ok(matmul_f32(cuda.kernels(), cuda.stream(), Stored::Nn, &product, dy, w, dx)?)
}

/// `dw[k,c] = sum_n dy[n,k] * x[n,c]`, `dbias[k] = sum_n dy[n,k]`.
pub(super) fn wgrad(cuda: &Cuda, p: &Linear, x: Span, dy: Span, dw: Span, dbias: Option<Span>) -> Result<()> {
    let (n, c, k) = (p.n as usize, p.c as usize, p.k as usize);
    let bias_arg = match dbias {
        Some(dbias) => (dbias, k * 4),
        None => (dw.part(0, 0)?, 0),
    };
    let reads = [(x, n * c * 4), (dy, n * k * 4)];
    let ([x, dy], [dw, dbias_at]) = cuda.open("linear_wgrad_f32", reads, [(dw, k * c * 4), bias_arg])?;
    let product = Matmul { m: p.k, n: p.c, k: p.n, lda: p.k, ldb: p.c, ldc: p.c };
    matmul_f32(cuda.kernels(), cuda.stream(), Stored::Tn, &product, dy, x, dw)?;
    match dbias {
        Some(_) => bias_bwd(cuda, dy, dbias_at, p.n, p.k),
        None => Ok(()),
    }
}

/// `dbias[c] = sum over rows of dy[row][c]`.
pub(super) fn bias_bwd(cuda: &Cuda, dy: DevPtr, dbias: DevPtr, rows: u32, c: u32) -> Result<()> {
    if c == 0 {
        return Ok(());
    }
    Ok(cuda.kernels().linear_bias_bwd_f32(Dims::linear(c.div_ceil(8), 256), cuda.stream(), dy, dbias, rows, c)?)
}
