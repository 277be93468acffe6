//! What the time model knows of three GPUs: rates per multiprocessor and clock, and memory bandwidth.
//!
//! Sources: NVIDIA's A100, H100 and Ada white papers and the throughput table of the CUDA C++ Programming Guide (arithmetic instructions). Rates are
//! peaks, so that every time made from them is a lower bound.

/// Rates of one GPU. "Lanes" are results per multiprocessor and clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arch {
    /// `a100`, as on the command line.
    pub name: &'static str,
    /// What it stands for.
    pub title: &'static str,
    /// Multiprocessors.
    pub sms: u32,
    /// Boost clock in GHz.
    pub clock_ghz: f64,
    /// Memory bandwidth in GB/s.
    pub dram_gbs: f64,
    /// L2 cache in MiB.
    pub l2_mib: f64,
    /// f32 add, multiply, fma.
    pub fp32: f64,
    /// f64.
    pub fp64: f64,
    /// Packed f16 and bf16, in lanes of two.
    pub fp16x2: f64,
    /// 32-bit integer add, logic, shift, compare.
    pub int: f64,
    /// Conversions between formats.
    pub cvt: f64,
    /// Reciprocal, square root, exponential, sine and the like.
    pub sfu: f64,
    /// Tensor-core multiply-adds, f16 and bf16 with f32 sums.
    pub mac_f16: f64,
    /// Tensor-core multiply-adds, 8-bit integers.
    pub mac_i8: f64,
    /// Tensor-core multiply-adds, tf32.
    pub mac_tf32: f64,
    /// Tensor-core multiply-adds, 8-bit floats with f32 sums, by `mma.sync`; where there is no unit for them, those of f16, which they could at best be
    /// converted to.
    pub mac_fp8: f64,
    /// Tensor-core multiply-adds, 4-bit integers; those of 8-bit integers where there is no unit for them.
    pub mac_i4: f64,
    /// Tensor-core operations on single bits.
    pub mac_b1: f64,
    /// Tensor-core multiply-adds, f64; the plain rate where there is no unit for them.
    pub mac_f64: f64,
    /// Share of the tensor peak that `mma.sync` reaches; the rest needs wgmma.
    pub mma_sync: f64,
}

/// NVIDIA A100 SXM, 80 GB.
pub const A100: Arch = Arch {
    name: "a100",
    title: "A100 SXM 80 GB",
    sms: 108,
    clock_ghz: 1.41,
    dram_gbs: 2039.0,
    l2_mib: 40.0,
    fp32: 64.0,
    fp64: 32.0,
    fp16x2: 128.0,
    int: 64.0,
    cvt: 64.0,
    sfu: 16.0,
    mac_f16: 1024.0,
    mac_i8: 2048.0,
    mac_tf32: 512.0,
    mac_fp8: 1024.0,
    mac_i4: 4096.0,
    mac_b1: 16384.0,
    mac_f64: 64.0,
    mma_sync: 1.0,
};

/// NVIDIA H100 SXM.
pub const H100: Arch = Arch {
    name: "h100",
    title: "H100 SXM",
    sms: 132,
    clock_ghz: 1.98,
    dram_gbs: 3350.0,
    l2_mib: 50.0,
    fp32: 128.0,
    fp64: 64.0,
    fp16x2: 128.0,
    int: 64.0,
    cvt: 64.0,
    sfu: 16.0,
    mac_f16: 2048.0,
    mac_i8: 4096.0,
    mac_tf32: 1024.0,
    mac_fp8: 2048.0,
    mac_i4: 4096.0,
    mac_b1: 16384.0,
    mac_f64: 128.0,
    mma_sync: 0.65,
};

/// NVIDIA GeForce RTX 4090.
pub const RTX4090: Arch = Arch {
    name: "rtx4090",
    title: "GeForce RTX 4090",
    sms: 128,
    clock_ghz: 2.52,
    dram_gbs: 1008.0,
    l2_mib: 72.0,
    fp32: 128.0,
    fp64: 2.0,
    fp16x2: 128.0,
    int: 64.0,
    cvt: 64.0,
    sfu: 16.0,
    mac_f16: 256.0,
    mac_i8: 1024.0,
    mac_tf32: 128.0,
    mac_fp8: 512.0,
    mac_i4: 2048.0,
    mac_b1: 8192.0,
    mac_f64: 2.0,
    mma_sync: 1.0,
};

/// All of them.
pub const ALL: [&Arch; 3] = [&A100, &H100, &RTX4090];
