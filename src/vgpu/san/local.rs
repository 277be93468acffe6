//! Local memory: which bytes a thread has written. No races, for no other thread sees them.

use super::clocks::each;
use super::{AccessKind, At, LANES, Place, San};
use crate::vgpu::ptx::ast::Space;
use crate::vgpu::report::Kind;

/// One bit per byte and lane: `written[warp * bytes + byte]`.
pub(super) struct Local {
    bytes: usize,
    written: Vec<u32>,
}

impl Local {
    pub(super) fn new(bytes: u32) -> Local {
        Local { bytes: bytes as usize, written: Vec::new() }
    }

    pub(super) fn block_begin(&mut self, warps: u32) {
        self.written.clear();
        self.written.resize(self.bytes * warps as usize, 0);
    }
}

impl San<'_> {
    /// An access to local memory: `offs` bytes from the start of each lane's own, `width` bytes for the whole vector.
    pub fn local(&mut self, at: &At, kind: AccessKind, offs: &[u32; LANES], width: u32) {
        if !self.options.uninitialised {
            return;
        }
        let start = at.warp as usize * self.local.bytes;
        let Some(written) = self.local.written.get_mut(start..start + self.local.bytes) else { return };
        let mut undefined = None;
        for lane in each(at.mask, LANES) {
            let off = offs[lane] as usize;
            let Some(bytes) = written.get_mut(off..off + width as usize) else { continue };
            if kind.reads()
                && let Some(first) = bytes.iter().position(|b| b >> lane & 1 == 0)
            {
                undefined.get_or_insert((lane, off + first));
            }
            if kind.writes() {
                bytes.iter_mut().for_each(|b| *b |= 1 << lane);
            }
        }
        if let Some((lane, off)) = undefined {
            self.found(Kind::UninitialisedRead, at, lane, None, |san| {
                let place = Place { space: Space::Local, slot: 0, off: off as u64, bytes: width };
                let message = format!("local {} of {width} bytes that this thread has not written", kind.name());
                san.describe(Kind::UninitialisedRead, message, at, &place)
            });
        }
    }
}
