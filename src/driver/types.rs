//! Handles and plain data of the driver seam. No behaviour; the calls are in [`super::Driver`].

use bytemuck::{Pod, Zeroable};

/// An address in device memory, as kernels receive it: 8 bytes in a parameter buffer. Never a host address.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct DevPtr(pub u64);

impl DevPtr {
    /// The null pointer: for optional kernel arguments.
    pub const NULL: DevPtr = DevPtr(0);

    /// The address `bytes` further on.
    pub fn offset(self, bytes: usize) -> DevPtr {
        DevPtr(self.0.wrapping_add(bytes as u64))
    }
}

/// Page-locked host memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPtr {
    /// First byte.
    pub ptr: *mut u8,
    /// Size in bytes.
    pub bytes: usize,
}

// SAFETY: a plain address; using it is unsafe where it is used (`copy_*_async`).
unsafe impl Send for HostPtr {}
// SAFETY: as above.
unsafe impl Sync for HostPtr {}

macro_rules! handle {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);
    };
}
handle!(
    /// A loaded module.
    ModuleId
);
handle!(
    /// An entry point of a loaded module.
    KernelId
);
handle!(
    /// A stream.
    StreamId
);
handle!(
    /// An event.
    EventId
);
handle!(
    /// An instantiated graph.
    GraphId
);

impl StreamId {
    /// The stream that always exists. It cannot be captured.
    pub const DEFAULT: StreamId = StreamId(0);
}

/// Grid and block of a launch, with the dynamic shared memory per block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dims {
    /// Blocks in x, y, z.
    pub grid: [u32; 3],
    /// Threads per block in x, y, z.
    pub block: [u32; 3],
    /// Dynamic shared memory per block in bytes.
    pub shared: u32,
}

impl Dims {
    /// A one-dimensional launch of `grid` blocks of `block` threads.
    pub fn linear(grid: u32, block: u32) -> Dims {
        Dims { grid: [grid, 1, 1], block: [block, 1, 1], shared: 0 }
    }

    /// The same with dynamic shared memory.
    pub fn with_shared(self, bytes: u32) -> Dims {
        Dims { shared: bytes, ..self }
    }

    /// Threads per block.
    pub fn block_threads(&self) -> u64 {
        self.block.iter().map(|&v| u64::from(v)).product()
    }

    /// Blocks in the grid (at most 2^63: the limits of each axis keep it in range).
    pub fn blocks(&self) -> u64 {
        self.grid.iter().fold(1u64, |n, &v| n.saturating_mul(u64::from(v)))
    }
}

/// What [`super::Driver::fill`] writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// One byte, repeated.
    U8(u8),
    /// Two bytes, little-endian; the address must be a multiple of 2.
    U16(u16),
    /// Four bytes, little-endian; the address must be a multiple of 4.
    U32(u32),
}

impl Fill {
    /// Width of one element in bytes.
    pub fn width(self) -> usize {
        match self {
            Fill::U8(_) => 1,
            Fill::U16(_) => 2,
            Fill::U32(_) => 4,
        }
    }

    /// Fills with this `f32`.
    pub fn f32(value: f32) -> Fill {
        Fill::U32(value.to_bits())
    }
}

/// A module as it goes to the driver.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// For messages: `conv2d`.
    pub name: &'a str,
    /// PTX text, without a terminating zero.
    pub ptx: &'a str,
}

/// What the driver says of a kernel. On a virtual device registers are those that ptxas would give if known, else 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelAttr {
    /// Registers per thread; 0 where unknown (virtual device).
    pub regs: u32,
    /// Local memory per thread in bytes (spills and indexed arrays).
    pub local_bytes: u32,
    /// Static shared memory per block in bytes.
    pub shared_bytes: u32,
    /// Most threads per block that this kernel can be launched with.
    pub max_threads: u32,
}

/// Where the times of a device come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// A real device: its times are measurements.
    Wall,
    /// A virtual device: its times are the host's and mean nothing about a GPU. Benches and reports refuse or label them.
    Simulated,
}

/// What a device is.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceProps {
    /// `NVIDIA A100-SXM4-80GB`, `virtual a100`.
    pub name: String,
    /// As it would be written on the command line: `cuda:0`, `vgpu:a100`.
    pub device: String,
    /// Version of what runs it: NVIDIA's driver, or this crate for a virtual device.
    pub driver: String,
    /// Compute capability: major, minor.
    pub cc: (u32, u32),
    /// Multiprocessors.
    pub sm_count: u32,
    /// Lanes of a warp: 32.
    pub warp_size: u32,
    /// Most threads per block.
    pub max_threads_per_block: u32,
    /// Most threads resident on one multiprocessor.
    pub max_threads_per_sm: u32,
    /// Shared memory per block without opting in, in bytes (48 KiB).
    pub shared_per_block: u32,
    /// Most shared memory per block after [`super::Driver::kernel_set_shared`], in bytes.
    pub shared_per_block_optin: u32,
    /// Shared memory per multiprocessor in bytes.
    pub shared_per_sm: u32,
    /// 32-bit registers per multiprocessor.
    pub regs_per_sm: u32,
    /// L2 cache in bytes.
    pub l2_bytes: u64,
    /// Device memory in bytes.
    pub total_mem: u64,
    /// Highest clock in kHz; 0 where unknown.
    pub clock_khz: u32,
    /// Where times come from.
    pub clock: Clock,
    /// Whether a launch runs only some of its blocks (a virtual GPU that counts samples): blocks must not wait for others then.
    pub sampled: bool,
}
