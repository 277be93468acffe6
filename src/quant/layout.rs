//! How 8-bit tensors lie in memory, which numbers share an exponent, and which random bits round which number: the same on every device.
//!
//! Channels are padded to a multiple of 16 (`pad`), so that a pixel is a whole number of 16-byte pieces; padded channels are always 0.
//!
//! | form | mantissas | exponents | for |
//! |---|---|---|---|
//! | operand | `[N][H][W][pad C]` | `[N]`, one per sample | inputs of integer GEMMs |
//! | weights | `[K][R][S][pad C]` | `[K]`, one per output channel | GEMMs, forward |
//! | transposed | `[C][R][S][pad K]`, taps flipped | none: the same mantissas | GEMM of the data gradient |
//! | stored | `[M][pad K]`, M = N*P*Q rows, sample-major | `[ceil(M/64)][ceil(pad K/32)]`: blocks of 64 rows x 32 channels | between a GEMM and its batchnorm |
//! | 16 bits | `[M][pad K]` of two bytes each | as stored | residual streams and their gradients |
//!
//! Exponents are one signed byte each. **Random bits**: Philox4x32 with 7 rounds (Salmon et al., SC 2011), key = the run's seed, counter = (group, step, tensor, 0); each call gives
//! eight 16-bit halfwords (halfword `h` is bits `16*(h%2)..` of word `h/2`), of which a number uses the upper 15 bits. Nothing depends on the order of work.

use super::philox::philox4x32_7;

/// Channels are padded to a multiple of this.
pub const PAD: usize = 16;
/// Rows of a block of a stored tensor.
pub const BLOCK_ROWS: usize = 64;
/// Channels of a block of a stored tensor.
pub const BLOCK_CHANNELS: usize = 32;
/// Rows of the weight gradient that one 32-bit sum may hold: `127^2 * 131072 < 2^31`.
pub const WGRAD_SLICE: usize = 131_072;

/// `channels` rounded up to a multiple of [`PAD`].
pub const fn pad(channels: usize) -> usize {
    channels.div_ceil(PAD) * PAD
}

/// Blocks across the channels of a stored tensor.
pub const fn blocks_across(channels: usize) -> usize {
    pad(channels).div_ceil(BLOCK_CHANNELS)
}

/// Blocks of a stored tensor: one exponent byte each.
pub const fn blocks(rows: usize, channels: usize) -> usize {
    rows.div_ceil(BLOCK_ROWS) * blocks_across(channels)
}

/// What keys the random bits of one tensor in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoiseKey {
    /// The run's seed, low and high half.
    pub seed: [u32; 2],
    /// Optimiser steps before this one.
    pub step: u32,
    /// Number of the tensor, see [`tensor`].
    pub tensor: u32,
}

/// Number of a tensor for [`NoiseKey`]: `layer` is the node's place in the network, `role` what the tensor is there.
pub const fn tensor(layer: u32, role: Role) -> u32 {
    layer * 16 + role as u32
}

/// What a tensor is to its layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// An operand that enters a convolution.
    X = 0,
    /// Output of a convolution.
    Y = 1,
    /// Gradient behind a batchnorm.
    Dz = 2,
    /// Output gradient for the data gradient, per sample.
    Dyd = 3,
    /// Output gradient for the weight gradient, per channel.
    Dyw = 4,
    /// Weights.
    W = 5,
    /// Momenta.
    V = 6,
    /// Gradients of weights.
    G = 7,
}

impl NoiseKey {
    /// The eight 15-bit numbers of `group`.
    #[inline]
    pub fn group(&self, group: u32) -> [u32; 8] {
        let words = philox4x32_7([group, self.step, self.tensor, 0], self.seed);
        std::array::from_fn(|h| (words[h / 2] >> (16 * (h % 2)) & 0xffff) >> 1)
    }

    /// Noise of element `index` of an elementwise tensor (linear in its padded memory order): eight neighbours share a group.
    #[inline]
    pub fn element(&self, index: usize) -> u32 {
        self.group((index / 8) as u32)[index % 8]
    }

    /// Noise of row `i` (0..64), channel `j` (0..32) of block number `block` (row-major over [`blocks`]) of a stored tensor. The order is that of an
    /// `mma.m16n8` accumulator, so that a thread of such a kernel needs only its own calls: a group holds rows g, g+8, g+16, g+24 of two neighbouring channels.
    #[inline]
    pub fn stored(&self, block: usize, i: usize, j: usize) -> u32 {
        let lane = (i % 8) * 4 + (j % 8) / 2;
        let group = ((block * 8) + (i / 32) * 4 + j / 8) * 32 + lane;
        let halfword = (((i / 16) & 1) * 2 + (i / 8) % 2) * 2 + j % 2;
        self.group(group as u32)[halfword]
    }
}
