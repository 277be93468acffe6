//! What the GPUs that a virtual one can stand for allow, and the check of a launch against it. Rates are in [`super::prof::arch`].
//!
//! Sources: CUDA C++ Programming Guide, table "Technical Specifications per Compute Capability"; white papers of the three GPUs.

use super::ir::Kernel;
use super::report::{Finding, Kind};

/// Limits of one GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// As on the command line: `a100`.
    pub name: &'static str,
    /// Compute capability: major, minor.
    pub cc: (u32, u32),
    /// Multiprocessors.
    pub sms: u32,
    /// Threads per block.
    pub block_threads: u32,
    /// Threads per multiprocessor.
    pub sm_threads: u32,
    /// Blocks per multiprocessor.
    pub sm_blocks: u32,
    /// Shared memory per block without opting in, in bytes.
    pub shared: u32,
    /// Shared memory per block after opting in, in bytes.
    pub shared_optin: u32,
    /// Shared memory per multiprocessor, in bytes.
    pub sm_shared: u32,
    /// Registers per multiprocessor.
    pub sm_regs: u32,
    /// L2 cache in bytes.
    pub l2_bytes: u64,
    /// Memory in bytes.
    pub memory: u64,
    /// Boost clock in kHz.
    pub clock_khz: u32,
}

/// Largest grid in x, y, z.
pub const GRID: [u32; 3] = [0x7fff_ffff, 65535, 65535];
/// Largest block in x, y, z.
pub const BLOCK: [u32; 3] = [1024, 1024, 64];

/// NVIDIA A100 80 GB.
pub const A100: Limits = Limits {
    name: "a100",
    cc: (8, 0),
    sms: 108,
    block_threads: 1024,
    sm_threads: 2048,
    sm_blocks: 32,
    shared: 48 << 10,
    shared_optin: 163 << 10,
    sm_shared: 164 << 10,
    sm_regs: 65536,
    l2_bytes: 40 << 20,
    memory: 80 << 30,
    clock_khz: 1_410_000,
};

/// NVIDIA H100 SXM.
pub const H100: Limits = Limits {
    name: "h100",
    cc: (9, 0),
    sms: 132,
    shared_optin: 227 << 10,
    sm_shared: 228 << 10,
    l2_bytes: 50 << 20,
    clock_khz: 1_980_000,
    ..A100
};

/// NVIDIA GeForce RTX 4090.
pub const RTX4090: Limits = Limits {
    name: "rtx4090",
    cc: (8, 9),
    sms: 128,
    sm_threads: 1536,
    sm_blocks: 24,
    shared_optin: 99 << 10,
    sm_shared: 100 << 10,
    l2_bytes: 72 << 20,
    memory: 24 << 30,
    clock_khz: 2_520_000,
    ..A100
};

/// The GPUs that can be chosen.
pub const ALL: [Limits; 3] = [A100, H100, RTX4090];

impl Limits {
    /// The GPU called `name`.
    pub fn named(name: &str) -> Option<Limits> {
        ALL.into_iter().find(|l| l.name == name)
    }

    /// Blocks of a kernel that fit on one multiprocessor: the least of threads, blocks, registers (by warps, in units of 256) and shared memory (each
    /// block takes 1 KiB more for the system). `regs` is 0 where unknown.
    pub fn occupancy(&self, threads: u32, regs: u32, shared: u32) -> u32 {
        let warps = threads.div_ceil(32).max(1);
        let by_threads = self.sm_threads / (warps * 32);
        let by_regs = match regs {
            0 => u32::MAX,
            regs => self.sm_regs / ((regs * 32).next_multiple_of(256) * warps),
        };
        let by_shared = self.sm_shared / (shared.next_multiple_of(128) + 1024);
        self.sm_blocks.min(by_threads).min(by_regs).min(by_shared)
    }

    /// What is wrong with a launch. `optin`: dynamic shared memory that the kernel was allowed beyond [`Limits::shared`]; 0 where it was not.
    pub fn check(&self, kernel: &Kernel, grid: [u32; 3], block: [u32; 3], dynamic: u32, optin: u32) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut over = |what: String, hint: &str| {
            findings.push(Finding::launch(Kind::LimitExceeded, what, &kernel.name).with_hint(hint));
        };
        for (axis, name) in ["x", "y", "z"].into_iter().enumerate() {
            if grid[axis] == 0 || grid[axis] > GRID[axis] {
                over(format!("grid {name} is {}, allowed are 1 to {}", grid[axis], GRID[axis]), "");
            }
            if block[axis] == 0 || block[axis] > BLOCK[axis] {
                over(format!("block {name} is {}, allowed are 1 to {}", block[axis], BLOCK[axis]), "");
            }
        }
        let threads = block.iter().map(|&b| u64::from(b)).product::<u64>();
        if threads > u64::from(self.block_threads) {
            over(format!("{threads} threads per block, {} has {}", self.name, self.block_threads), "");
        }
        if let Some(max) = kernel.maxntid {
            let allowed = max.iter().map(|&m| u64::from(m.max(1))).product::<u64>();
            if threads > allowed {
                over(
                    format!("{threads} threads per block, the kernel was compiled for {allowed} (.maxntid)"),
                    "launch smaller blocks or raise __launch_bounds__",
                );
            }
        }
        if let Some(wanted) = kernel.reqntid {
            let wanted = wanted.map(|w| w.max(1));
            if wanted != block {
                over(format!("block {block:?}, the kernel needs exactly {wanted:?} (.reqntid)"), "");
            }
        }
        let shared = u64::from(kernel.shared_bytes) + u64::from(dynamic);
        if shared > u64::from(self.shared_optin) {
            over(format!("{shared} bytes of shared memory per block, {} has {}", self.name, self.shared_optin), "");
        } else if shared > u64::from(self.shared) && dynamic > optin {
            over(
                format!("{shared} bytes of shared memory per block, {} without opting in", self.shared),
                "call cuFuncSetAttribute(MAX_DYNAMIC_SHARED_SIZE_BYTES) first",
            );
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn occupancy_is_the_least_of_its_limits() {
        assert_eq!(A100.occupancy(256, 32, 0), 8, "threads");
        assert_eq!(A100.occupancy(256, 64, 0), 4, "registers");
        assert_eq!(A100.occupancy(256, 32, 48 << 10), 3, "shared memory");
        assert_eq!(A100.occupancy(32, 32, 0), 32, "blocks");
        assert_eq!(RTX4090.occupancy(1024, 0, 0), 1);
    }
}
