//! Tile and grid of `kernels/matmul.cu`.

use super::launch::Kernels;
use crate::driver::{DevPtr, Dims, Result, StreamId};
use crate::ops::matmul::Matmul;

/// How the factors are stored; see [`Matmul`]'s constructors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// `a` is m x k, `b` is k x n.
    Nn,
    /// `a` is m x k, `b` is n x k.
    Nt,
    /// `a` is k x m, `b` is k x n.
    Tn,
}

/// `c = a * b`. Both tiles give the same bits, so the choice is one of speed only.
pub fn matmul_f32(
    kernels: &Kernels,
    stream: StreamId,
    stored: Stored,
    p: &Matmul,
    a: DevPtr,
    b: DevPtr,
    c: DevPtr,
) -> Result<()> {
    if p.m == 0 || p.n == 0 {
        return Ok(());
    }
    let tiles = |side: u32| (p.n.div_ceil(side), p.m.div_ceil(side));
    let (x, y) = tiles(128);
    // Fewer large tiles than multiprocessors leave some idle; small ones then win in spite of twice the traffic.
    if u64::from(x) * u64::from(y) >= u64::from(kernels.driver().props().sm_count) {
        let dims = Dims { grid: [x, y, 1], block: [256, 1, 1], shared: 0 };
        return match stored {
            Stored::Nn => kernels.matmul_nn_f32(dims, stream, p, a, b, c),
            Stored::Nt => kernels.matmul_nt_f32(dims, stream, p, a, b, c),
            Stored::Tn => kernels.matmul_tn_f32(dims, stream, p, a, b, c),
        };
    }
    let (x, y) = tiles(32);
    let dims = Dims { grid: [x, y, 1], block: [64, 1, 1], shared: 0 };
    match stored {
        Stored::Nn => kernels.matmul_nn_f32_small(dims, stream, p, a, b, c),
        Stored::Nt => kernels.matmul_nt_f32_small(dims, stream, p, a, b, c),
        Stored::Tn => kernels.matmul_tn_f32_small(dims, stream, p, a, b, c),
    }
}
