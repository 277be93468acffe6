//! Shadow cells: who last wrote and read a word (or a byte) of shared or global memory. Not here: which of two accesses came first (`clocks`).

/// An access as a cell remembers it. `seg` is the segment of the thread's warp (see `clocks`), 0 for none; `info` packs instruction, lane and flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rec {
    pub seg: u32,
    info: u32,
}

/// Several lanes of the warp.
pub const MANY_LANES: u32 = 1 << 25;
/// Several warps of the block in the same barrier interval.
pub const MANY_WARPS: u32 = 1 << 26;
/// Several blocks.
pub const MANY_BLOCKS: u32 = 1 << 27;
/// A strong access (atomic, volatile, relaxed, acquire, release).
pub const STRONG: u32 = 1 << 28;
/// A strong access whose scope is the block only.
pub const CTA: u32 = 1 << 29;
/// Reads: a `.nc` load. Writes: by `cp.async`.
pub const NC: u32 = 1 << 30;
/// Writes: an atomic operation.
pub const ATOMIC: u32 = 1 << 31;

const PC_BITS: u32 = 18;
const SIZE_SHIFT: u32 = PC_BITS;
const LANE_SHIFT: u32 = PC_BITS + 2;

impl Rec {
    /// An access; `lane` 32 and above means all lanes. Instructions beyond 2^18 are remembered as the last one that fits.
    #[inline]
    pub fn new(seg: u32, pc: u32, lane: u32, flags: u32) -> Rec {
        let many = if lane < 32 { 0 } else { MANY_LANES };
        Rec { seg, info: pc.min((1 << PC_BITS) - 1) | (lane & 31) << LANE_SHIFT | flags | many }
    }

    /// The same access by another lane; `self` is that of lane 0.
    #[inline(always)]
    pub fn of_lane(self, lane: u32) -> Rec {
        Rec { info: self.info | lane << LANE_SHIFT, ..self }
    }

    /// Flags of an atomic on `bytes` bytes (2 to 16).
    pub fn atomic(bytes: u32) -> u32 {
        STRONG | ATOMIC | (bytes.trailing_zeros().clamp(1, 4) - 1) << SIZE_SHIFT
    }

    /// Two atomics of different sizes.
    pub fn sizes_differ(self, other: Rec) -> bool {
        self.has(ATOMIC) && other.has(ATOMIC) && (self.info ^ other.info) >> SIZE_SHIFT & 3 != 0
    }

    #[inline]
    pub fn pc(self) -> u32 {
        self.info & ((1 << PC_BITS) - 1)
    }

    #[inline]
    pub fn lane(self) -> u32 {
        self.info >> LANE_SHIFT & 31
    }

    #[inline]
    pub fn warp(self) -> u32 {
        self.seg & 31
    }

    #[inline]
    pub fn has(self, flags: u32) -> bool {
        self.info & flags != 0
    }

    #[inline]
    pub fn set(&mut self, flags: u32) {
        self.info |= flags;
    }

    /// A plain access where `self` was a strong one: it conflicts with more, so it is the one to remember.
    #[inline]
    pub fn weakened_by(self, new: Rec) -> bool {
        self.has(STRONG) && !new.has(STRONG)
    }

    /// Two strong accesses that may meet without an order between them; `blocks`: by different blocks.
    pub fn agrees(self, other: Rec, blocks: bool) -> bool {
        self.has(STRONG) && other.has(STRONG) && !(blocks && (self.has(CTA) || other.has(CTA)))
    }

    pub fn is_none(self) -> bool {
        self.seg == 0
    }
}

/// Last writer and readers of one unit of memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cell {
    /// Last write; the first of several atomics that nothing orders.
    pub w: Rec,
    /// Last read; the first of several that nothing orders.
    pub r: Rec,
}

/// A run of cells for words, or for bytes from the first access below 4 bytes on.
#[derive(Clone, Debug)]
pub struct Cells {
    cells: Vec<Cell>,
    /// 2 for words, 0 for bytes.
    shift: u32,
}

impl Cells {
    /// Cells for `bytes` bytes.
    pub fn new(bytes: usize, narrow: bool) -> Cells {
        let shift = if narrow { 0 } else { 2 };
        Cells { cells: vec![Cell::default(); bytes.div_ceil(1 << shift)], shift }
    }

    /// Bytes per cell as a power of two.
    #[inline]
    pub fn shift(&self) -> u32 {
        self.shift
    }

    /// Makes sure that accesses of `width` bytes have cells of their own. True where that changed the cells.
    #[inline]
    pub fn fit(&mut self, width: u32) -> bool {
        let split = width & 3 != 0 && self.shift != 0;
        if split {
            self.cells = self.cells.iter().flat_map(|cell| [*cell; 4]).collect();
            self.shift = 0;
        }
        split
    }

    /// The cells of `width` bytes at `off`: the first one's index, and all of them. None past the end.
    #[inline]
    pub fn span(&mut self, off: u32, width: u32) -> (u32, &mut [Cell]) {
        let (first, end) = (off >> self.shift, ((off + width - 1) >> self.shift) + 1);
        (first, self.cells.get_mut(first as usize..end as usize).unwrap_or_default())
    }

    /// As [`Cells::span`], only to look.
    pub fn peek(&self, off: u32, width: u32) -> (u32, &[Cell]) {
        let (first, end) = (off >> self.shift, ((off + width - 1) >> self.shift) + 1);
        (first, self.cells.get(first as usize..end as usize).unwrap_or_default())
    }
}
