//! Which bytes of global memory have ever been written: one bit a byte, in pages of 64 KiB that exist only where some bytes of a page are and others are
//! not. The device owns it, for it outlives launches; the sanitizer reads and marks it during one. Not here: what to do about undefined bytes.

const PAGE: u64 = 1 << 16;
const WORDS: usize = PAGE as usize / 64;

/// One page.
#[derive(Clone, Debug)]
enum Page {
    Undefined,
    Defined,
    Mixed(Box<[u64; WORDS]>),
}

/// One allocation.
#[derive(Clone, Debug)]
struct Plane {
    bytes: u64,
    name: String,
    /// Reads of undefined bytes are no error (`GlobalInit::allow`).
    allowed: bool,
    pages: Vec<Page>,
}

/// Initialised bytes of all allocations, by slot. Calls for slots that do not exist, and ranges past the end, are ignored: bounds are checked elsewhere.
#[derive(Clone, Debug, Default)]
pub struct GlobalInit {
    planes: Vec<Option<Plane>>,
}

impl GlobalInit {
    /// Nothing allocated.
    pub fn new() -> GlobalInit {
        GlobalInit::default()
    }

    /// A fresh allocation in `slot`: all undefined.
    pub fn alloc(&mut self, slot: u32, bytes: u64) {
        let i = slot as usize;
        if self.planes.len() <= i {
            self.planes.resize(i + 1, None);
        }
        let pages = vec![Page::Undefined; bytes.div_ceil(PAGE) as usize];
        self.planes[i] = Some(Plane { bytes, name: format!("allocation {slot}"), allowed: false, pages });
    }

    /// Names an allocation for messages.
    pub fn set_name(&mut self, slot: u32, name: &str) {
        if let Some(plane) = self.plane_mut(slot) {
            plane.name = name.into();
        }
    }

    /// Name and size in bytes.
    pub fn buffer(&self, slot: u32) -> Option<(&str, u64)> {
        self.plane(slot).map(|p| (p.name.as_str(), p.bytes))
    }

    /// The allocation is gone.
    pub fn free(&mut self, slot: u32) {
        if let Some(plane) = self.planes.get_mut(slot as usize) {
            *plane = None;
        }
    }

    /// Reads of undefined bytes of this allocation are no error: padding that is read for speed and not used.
    pub fn allow(&mut self, slot: u32) {
        if let Some(plane) = self.plane_mut(slot) {
            plane.allowed = true;
        }
    }

    /// Takes everything that exists now for written: after a launch that ran without checks, whose stores nobody saw.
    pub fn trust(&mut self) {
        for plane in self.planes.iter_mut().flatten() {
            plane.pages.fill(Page::Defined);
        }
    }

    fn plane(&self, slot: u32) -> Option<&Plane> {
        self.planes.get(slot as usize)?.as_ref()
    }

    fn plane_mut(&mut self, slot: u32) -> Option<&mut Plane> {
        self.planes.get_mut(slot as usize)?.as_mut()
    }

    /// Bytes `off .. off + len` of `slot` are written.
    pub fn mark(&mut self, slot: u32, off: u64, len: u64) {
        if let Some(plane) = self.plane_mut(slot) {
            plane.mark(off, len);
        }
    }

    /// `len` bytes are copied from one place to another, each (slot, offset): bytes undefined there are undefined here afterwards.
    pub fn copy(&mut self, dst: (u32, u64), src: (u32, u64), len: u64) {
        let Some(source) = self.plane(src.0) else { return };
        if source.first_undefined(src.1, len).is_none() {
            return self.mark(dst.0, dst.1, len);
        }
        let mut at = 0;
        while at < len {
            let n = (len - at).min(64);
            let bits = self.plane(src.0).map_or(0, |p| p.get(src.1 + at));
            if let Some(plane) = self.plane_mut(dst.0) {
                plane.put(dst.1 + at, n, bits);
            }
            at += n;
        }
    }

    /// The first byte of `off .. off + len` that was never written; `None` where all are, or the allocation allows it.
    #[inline]
    pub fn first_undefined(&self, slot: u32, off: u64, len: u64) -> Option<u64> {
        let plane = self.plane(slot).filter(|p| !p.allowed)?;
        plane.first_undefined(off, len)
    }
}

impl Plane {
    /// Calls `f` with page, word and bits of every word that the range touches; stops where it answers true.
    fn words(off: u64, len: u64, mut f: impl FnMut(usize, usize, u64) -> bool) {
        let end = off.saturating_add(len);
        let mut at = off;
        while at < end {
            let first = at % 64;
            let n = (64 - first).min(end - at);
            let bits = (u64::MAX >> (64 - n)) << first;
            if f((at / PAGE) as usize, (at % PAGE / 64) as usize, bits) {
                return;
            }
            at += n;
        }
    }

    fn mark(&mut self, off: u64, len: u64) {
        let end = off.saturating_add(len).min(self.bytes);
        let mut at = off;
        while at < end {
            // A page at a time, so that whole ones cost nothing.
            let page = (at / PAGE) as usize;
            let stop = ((at / PAGE + 1) * PAGE).min(end);
            let whole = at.is_multiple_of(PAGE) && (stop.is_multiple_of(PAGE) || stop == self.bytes);
            match &mut self.pages[page] {
                Page::Defined => {}
                state if whole => *state = Page::Defined,
                state => {
                    if matches!(state, Page::Undefined) {
                        *state = Page::Mixed(Box::new([0; WORDS]));
                    }
                    if let Page::Mixed(words) = state {
                        Plane::words(at, stop - at, |_, word, bits| {
                            words[word] |= bits;
                            false
                        });
                    }
                }
            }
            at = stop;
        }
    }

    #[inline]
    fn first_undefined(&self, off: u64, len: u64) -> Option<u64> {
        let len = len.min(self.bytes.saturating_sub(off));
        if len == 0 {
            return None;
        }
        let last = (off + len - 1) / PAGE;
        if off / PAGE == last && matches!(self.pages[last as usize], Page::Defined) {
            return None;
        }
        let mut found = None;
        Plane::words(off, len, |page, word, bits| {
            let missing = match &self.pages[page] {
                Page::Defined => 0,
                Page::Undefined => bits,
                Page::Mixed(words) => bits & !words[word],
            };
            if missing != 0 {
                found = Some(page as u64 * PAGE + word as u64 * 64 + u64::from(missing.trailing_zeros()));
            }
            missing != 0
        });
        found
    }

    /// Bits of the 64 bytes from `off` on; those past the end are 0.
    fn get(&self, off: u64) -> u64 {
        let word = |at: u64| match self.pages.get((at / PAGE) as usize) {
            None | Some(Page::Undefined) => 0,
            Some(Page::Defined) => u64::MAX,
            Some(Page::Mixed(words)) => words[(at % PAGE / 64) as usize],
        };
        match off % 64 {
            0 => word(off),
            shift => word(off) >> shift | word(off + 64) << (64 - shift),
        }
    }

    /// Sets the state of `n` (at most 64) bytes from `off` on.
    fn put(&mut self, off: u64, n: u64, bits: u64) {
        let n = n.min(self.bytes.saturating_sub(off));
        Plane::words(off, n, |page, word, touched| {
            let state = &mut self.pages[page];
            let fill = match state {
                Page::Undefined => Some(0),
                Page::Defined => Some(u64::MAX),
                Page::Mixed(_) => None,
            };
            if let Some(fill) = fill {
                *state = Page::Mixed(Box::new([fill; WORDS]));
            }
            if let Page::Mixed(words) = state {
                let start = page as u64 * PAGE + word as u64 * 64;
                let new = if start >= off {
                    bits.checked_shr((start - off) as u32).unwrap_or(0)
                } else {
                    bits << (off - start)
                };
                words[word] = words[word] & !touched | new & touched;
            }
            false
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_defined_one_by_one() {
        let mut init = GlobalInit::new();
        init.alloc(3, 200_000);
        assert_eq!(init.first_undefined(3, 5, 4), Some(5));
        init.mark(3, 4, 3);
        assert_eq!(init.first_undefined(3, 4, 4), Some(7));
        assert_eq!(init.first_undefined(3, 4, 3), None);
        // Across the words and pages.
        init.mark(3, 65_500, 100);
        assert_eq!(init.first_undefined(3, 65_500, 100), None);
        assert_eq!(init.first_undefined(3, 65_500, 101), Some(65_600));
        assert_eq!(init.first_undefined(3, 65_499, 2), Some(65_499));
        init.mark(3, 0, 1 << 40);
        assert_eq!(init.first_undefined(3, 0, 200_000), None);
        assert_eq!(init.first_undefined(7, 0, 4), None);
        init.free(3);
        init.alloc(3, 16);
        assert_eq!(init.first_undefined(3, 0, 16), Some(0));
        init.allow(3);
        assert_eq!(init.first_undefined(3, 0, 16), None);
        init.alloc(4, 16);
        init.trust();
        assert_eq!(init.first_undefined(4, 0, 16), None);
    }

    #[test]
    fn copies_carry_what_is_undefined() {
        let mut init = GlobalInit::new();
        for (shift, len) in [(0u64, 300u64), (13, 300), (64, 64), (1, 7), (65_530, 200)] {
            init.alloc(0, 140_000);
            init.alloc(1, 140_000);
            init.trust();
            init.alloc(0, 140_000);
            for at in (0..len).step_by(3) {
                init.mark(0, 5 + at, 1);
            }
            init.copy((1, shift), (0, 5), len);
            for at in 0..len {
                let expected = (at % 3 != 0).then_some(shift + at);
                assert_eq!(init.first_undefined(1, shift + at, 1), expected, "{shift} {at}");
            }
            assert_eq!(init.first_undefined(1, shift + len, 100), None);
            assert_eq!(init.first_undefined(1, 0, shift), None);
        }
    }
}
