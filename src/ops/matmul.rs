//! Matrix product: what the device kernels of `kernels/matmul.cu` receive. Convolution and linear layers are lowered to it on GPUs; it is no node of
//! the network.

use bytemuck::{Pod, Zeroable};

/// `c[i][j] = sum_k a[i][k] * b[k][j]`, row-major f32. How the factors are stored (plain or transposed) is in the kernel's name.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Matmul {
    /// Rows of `a` and `c`.
    pub m: u32,
    /// Columns of `b` and `c`.
    pub n: u32,
    /// Terms of each sum.
    pub k: u32,
    /// Elements from one stored row of `a` to the next.
    pub lda: u32,
    /// Elements from one stored row of `b` to the next.
    pub ldb: u32,
    /// Elements from one row of `c` to the next.
    pub ldc: u32,
}

impl Matmul {
    /// Dense `a` (m x k) times dense `b` (k x n).
    pub fn nn(m: u32, n: u32, k: u32) -> Matmul {
        Matmul { m, n, k, lda: k, ldb: n, ldc: n }
    }

    /// Dense `a` (m x k) times the transpose of dense `b` (n x k).
    pub fn nt(m: u32, n: u32, k: u32) -> Matmul {
        Matmul { m, n, k, lda: k, ldb: k, ldc: n }
    }

    /// The transpose of dense `a` (k x m) times dense `b` (k x n).
    pub fn tn(m: u32, n: u32, k: u32) -> Matmul {
        Matmul { m, n, k, lda: m, ldb: n, ldc: n }
    }
}
