//! Augment: makes a batch from u8 images that lie on the device: pad, crop, mirror, normalise. What it computes is `crate::data`'s augmentation, bit by bit; there the
//! method is explained.
//!
//! Not a node of the network: [`crate::autograd::Session`] puts it before the first one. Which images it takes is an order in device memory, from the cursor of the
//! [`StepState`](super::advance::StepState) on.

use bytemuck::{Pod, Zeroable};

/// What kernels receive.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Augment {
    /// Key of the random bits.
    pub seed: [u32; 2],
    /// Batch.
    pub n: u32,
    /// Rows.
    pub h: u32,
    /// Columns.
    pub w: u32,
    /// Channels.
    pub c: u32,
    /// Images in the data set.
    pub count: u32,
    /// Entries of the order.
    pub order: u32,
    /// Zeros added at each side before the crop.
    pub pad: u32,
    /// 1: crop back to the image's size at a random place; 0: in the middle.
    pub crop: u32,
    /// 1: mirror every second image, left to right.
    pub flip: u32,
}

impl Augment {
    /// Label of an image that is not there. It is no class, so that the loss of its batch is no number.
    pub const NO_LABEL: u32 = u32::MAX;

    /// Elements of one image.
    pub fn elements(&self) -> usize {
        self.h as usize * self.w as usize * self.c as usize
    }
}
