//! Device memory as the layers above see it: blocks that free themselves, and typed-by-use views into them.
//!
//! A [`Span`] is a plain (address, length) pair tied to the life of its [`Memory`]; what the address means is the backend's business (a host pointer on
//! `cpu`, a device address on `cuda`). Only a backend may look behind it.

use std::marker::PhantomData;
use std::sync::Arc;

use crate::{Error, Result};

/// A block of memory that a backend handed out; dropping the last handle frees it.
pub trait Block: Send + Sync {
    /// Address of the first byte, aligned to at least 256 bytes.
    fn address(&self) -> u64;
    /// Length in bytes.
    fn bytes(&self) -> usize;
    /// Identity of the backend instance that owns the block.
    fn owner(&self) -> u64;
}

/// An allocation on one backend.
#[derive(Clone)]
pub struct Memory {
    block: Arc<dyn Block>,
}

impl Memory {
    /// Wraps a backend's block.
    pub fn new(block: Arc<dyn Block>) -> Self {
        Memory { block }
    }

    /// Length in bytes.
    pub fn bytes(&self) -> usize {
        self.block.bytes()
    }

    /// The whole block.
    pub fn all(&self) -> Span<'_> {
        Span { address: self.block.address(), bytes: self.bytes(), owner: self.block.owner(), memory: PhantomData }
    }

    /// `bytes` bytes from `offset` on; an error if they do not lie inside the block.
    pub fn span(&self, offset: usize, bytes: usize) -> Result<Span<'_>> {
        self.all().part(offset, bytes)
    }
}

/// A part of a [`Memory`], valid while that lives. Operators read the spans named as inputs and write those named as outputs.
#[derive(Clone, Copy, Debug)]
pub struct Span<'m> {
    address: u64,
    bytes: usize,
    owner: u64,
    memory: PhantomData<&'m Memory>,
}

impl<'m> Span<'m> {
    /// Address of the first byte.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Length in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Identity of the backend instance that owns the memory.
    pub fn owner(&self) -> u64 {
        self.owner
    }

    /// `bytes` bytes from `offset` on, of this span.
    pub fn part(&self, offset: usize, bytes: usize) -> Result<Span<'m>> {
        match offset.checked_add(bytes) {
            Some(end) if end <= self.bytes => Ok(Span { address: self.address + offset as u64, bytes, ..*self }),
            _ => Err(Error::bad_setting(
                "memory span",
                format!("{bytes} bytes at {offset} of a span of {} bytes", self.bytes),
                "this is a defect of the caller's memory plan, please report it",
            )),
        }
    }

    /// Whether two spans share a byte.
    pub fn overlaps(&self, other: &Span<'_>) -> bool {
        self.owner == other.owner
            && self.address < other.address + other.bytes as u64
            && other.address < self.address + self.bytes as u64
    }
}
