//! Device memory of the virtual GPU: every allocation in an address window of its own, so that an access is right to the byte or found out.
//!
//! Window `n` starts at [`GLOBAL`] + `n` << 32; an allocation starts [`LEAD`] bytes into its window (overruns on either side stay inside the window) and
//! takes several windows when it is larger. Windows are never used again, so a freed pointer stays recognisable. Every device address needs more than
//! 32 bits: a truncated pointer is no address at all. Not here: shared, local and constant memory (`exec`), initialisation (`san`).

use std::alloc::{Layout, alloc, dealloc};
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};

/// First global address.
pub const GLOBAL: u64 = 0x7f00_0000_0000;
/// Bytes between the start of a window and the allocation in it.
pub const LEAD: u64 = 64 << 10;
/// Base alignment of an allocation, as `cuMemAlloc` promises.
pub const ALIGN: usize = 256;
/// What fresh memory is filled with: a NaN as f32 and f16, a large number as integer.
pub const POISON: u8 = 0xcb;

/// What the machine needs to know of a window.
#[derive(Clone, Copy)]
pub struct Window {
    /// First byte of the allocation; dangling where `bytes` is 0.
    pub ptr: *mut u8,
    /// Bytes of the allocation; 0 where it was freed.
    pub bytes: u64,
    /// Added to the low half of an address, gives the byte in the allocation.
    pub bias: i64,
    /// Index of the allocation.
    pub id: u32,
}

// SAFETY: plain addresses; every access through them is atomic (`read`, `write` below) or has the device's lock.
unsafe impl Send for Window {}
// SAFETY: as above.
unsafe impl Sync for Window {}

/// An allocation, also after its end.
#[derive(Clone, Debug)]
pub struct Allocation {
    /// Device address of its first byte.
    pub address: u64,
    /// Bytes.
    pub bytes: u64,
    /// For messages: a variable's name, an argument's, or `allocation 3`.
    pub label: String,
    /// Whether it can be accessed.
    pub live: bool,
    ptr: *mut u8,
}

// SAFETY: the pointer is owned by `Memory` and used under its borrow rules.
unsafe impl Send for Allocation {}
// SAFETY: as above.
unsafe impl Sync for Allocation {}

/// All of a device's global memory.
#[derive(Default)]
pub struct Memory {
    windows: Vec<Window>,
    allocations: Vec<Allocation>,
    in_use: u64,
}

/// Where an address lies, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index of the allocation.
    pub id: u32,
    /// Its label.
    pub label: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// The address relative to its first byte; may be negative or past the end.
    pub offset: i64,
    /// Whether it is still allocated.
    pub live: bool,
}

impl Memory {
    /// Bytes allocated now.
    pub fn in_use(&self) -> u64 {
        self.in_use
    }

    /// All windows by number.
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// Every allocation so far by index, freed ones too.
    pub fn allocations(&self) -> &[Allocation] {
        &self.allocations
    }

    /// Allocates; content is [`POISON`]. `None` where the host has no memory, or for zero bytes.
    pub fn alloc(&mut self, bytes: u64, label: Option<&str>) -> Option<u64> {
        let layout = layout(bytes)?;
        // SAFETY: the layout has a size above 0.
        let ptr = unsafe { alloc(layout) };
        if ptr.is_null() {
            return None;
        }
        // SAFETY: fresh memory of this size.
        unsafe { ptr.write_bytes(POISON, bytes as usize) };
        let id = self.allocations.len() as u32;
        let first = self.windows.len() as u64;
        let address = GLOBAL + (first << 32) + LEAD;
        for k in 0..(LEAD + bytes).div_ceil(1 << 32).max(1) {
            self.windows.push(Window { ptr, bytes, bias: ((k << 32) as i64) - LEAD as i64, id });
        }
        let label = label.map_or_else(|| format!("allocation {id}"), str::to_string);
        self.allocations.push(Allocation { address, bytes, label, live: true, ptr });
        self.in_use += bytes;
        Some(address)
    }

    /// Frees the allocation that starts at `address`; its index, or `None` where there is none.
    pub fn free(&mut self, address: u64) -> Option<u32> {
        let place = self.place(address)?;
        if place.offset != 0 || !place.live {
            return None;
        }
        self.release(place.id as usize);
        for window in self.windows.iter_mut().filter(|w| w.id == place.id) {
            window.bytes = 0;
            window.ptr = std::ptr::NonNull::dangling().as_ptr();
        }
        Some(place.id)
    }

    fn release(&mut self, id: usize) {
        let allocation = &mut self.allocations[id];
        if std::mem::replace(&mut allocation.live, false)
            && let Some(layout) = layout(allocation.bytes)
        {
            // SAFETY: allocated by `alloc` with this layout, freed once (`live`).
            unsafe { dealloc(allocation.ptr, layout) };
            self.in_use -= allocation.bytes;
        }
    }

    /// The allocation whose window `address` lies in.
    pub fn place(&self, address: u64) -> Option<Place> {
        let window = self.windows.get((address.checked_sub(GLOBAL)? >> 32) as usize)?;
        let allocation = &self.allocations[window.id as usize];
        Some(Place {
            id: window.id,
            label: allocation.label.clone(),
            bytes: allocation.bytes,
            offset: (address & 0xffff_ffff) as i64 + window.bias,
            live: allocation.live,
        })
    }

    /// Gives an allocation another name for messages.
    pub fn set_label(&mut self, address: u64, label: &str) {
        if let Some(place) = self.place(address) {
            self.allocations[place.id as usize].label = label.to_string();
        }
    }

    /// Index and byte offset of `bytes` bytes at `address`, if they all lie in one live allocation.
    pub fn range(&self, address: u64, bytes: u64) -> Option<(u32, u64)> {
        let place = self.place(address)?;
        let start = u64::try_from(place.offset).ok()?;
        (place.live && start.checked_add(bytes)? <= place.bytes).then_some((place.id, start))
    }

    /// The bytes of a range that [`Memory::range`] gave.
    pub fn bytes(&self, id: u32, start: u64, bytes: u64) -> &[u8] {
        let allocation = &self.allocations[id as usize];
        assert!(allocation.live && start + bytes <= allocation.bytes);
        // SAFETY: inside a live allocation; kernels run only while the device is locked.
        unsafe { std::slice::from_raw_parts(allocation.ptr.add(start as usize), bytes as usize) }
    }

    /// As [`Memory::bytes`], to write.
    pub fn bytes_mut(&mut self, id: u32, start: u64, bytes: u64) -> &mut [u8] {
        let allocation = &self.allocations[id as usize];
        assert!(allocation.live && start + bytes <= allocation.bytes);
        // SAFETY: as above, and borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(allocation.ptr.add(start as usize), bytes as usize) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        for id in 0..self.allocations.len() {
            self.release(id);
        }
    }
}

fn layout(bytes: u64) -> Option<Layout> {
    let bytes = usize::try_from(bytes).ok().filter(|&b| b > 0)?;
    Layout::from_size_align(bytes.checked_next_multiple_of(16)?, ALIGN).ok()
}

/// Reads `N` bytes that other blocks may write at the same time, as the hardware would: up to 8 bytes as one.
///
/// # Safety
/// `ptr` must be readable for `N` bytes and aligned to `N`.
#[inline(always)]
pub unsafe fn read<const N: usize>(ptr: *const u8) -> [u8; N] {
    let mut out = [0u8; N];
    // SAFETY: in range and aligned by the caller's promise; atomics make races defined.
    unsafe {
        match N {
            1 => out[0] = (*ptr.cast::<AtomicU8>()).load(Relaxed),
            2 => out.copy_from_slice(&(*ptr.cast::<AtomicU16>()).load(Relaxed).to_le_bytes()),
            4 => out.copy_from_slice(&(*ptr.cast::<AtomicU32>()).load(Relaxed).to_le_bytes()),
            _ => {
                for (k, word) in out.chunks_exact_mut(8).enumerate() {
                    word.copy_from_slice(&(*ptr.cast::<AtomicU64>().add(k)).load(Relaxed).to_le_bytes());
                }
            }
        }
    }
    out
}

/// Writes `N` bytes; see [`read`].
///
/// # Safety
/// `ptr` must be writable for `N` bytes and aligned to `N`.
#[inline(always)]
pub unsafe fn write<const N: usize>(ptr: *mut u8, value: [u8; N]) {
    // SAFETY: as in `read`.
    unsafe {
        match N {
            1 => (*ptr.cast::<AtomicU8>()).store(value[0], Relaxed),
            2 => (*ptr.cast::<AtomicU16>()).store(u16::from_le_bytes([value[0], value[1]]), Relaxed),
            4 => {
                let word = u32::from_le_bytes([value[0], value[1], value[2], value[3]]);
                (*ptr.cast::<AtomicU32>()).store(word, Relaxed);
            }
            _ => {
                for (k, w) in value.chunks_exact(8).enumerate() {
                    let word = u64::from_le_bytes([w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7]]);
                    (*ptr.cast::<AtomicU64>().add(k)).store(word, Relaxed);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_their_allocation_on_both_sides() {
        let mut memory = Memory::default();
        let a = memory.alloc(100, Some("x")).unwrap();
        let b = memory.alloc(8, None).unwrap();
        assert_eq!((a, b), (GLOBAL + LEAD, GLOBAL + (1 << 32) + LEAD));
        let before = memory.place(a - 3).unwrap();
        assert_eq!((before.label.as_str(), before.offset), ("x", -3));
        assert_eq!(memory.place(b + 9).unwrap().offset, 9);
        assert_eq!(memory.range(a + 96, 4), Some((0, 96)));
        assert_eq!(memory.range(a + 97, 4), None, "one byte over");
        assert_eq!(memory.range(a & 0xffff_ffff, 1), None, "a truncated pointer");
        assert_eq!(memory.free(a + 1), None);
        assert_eq!(memory.free(a), Some(0));
        assert_eq!(memory.free(a), None, "twice");
        assert_eq!((memory.range(a, 1), memory.in_use()), (None, 8));
        assert!(!memory.place(a).unwrap().live);
    }

    #[test]
    fn fresh_memory_is_poison_and_words_are_read_back() {
        let mut memory = Memory::default();
        let a = memory.alloc(32, None).unwrap();
        assert!(memory.bytes(0, 0, 32).iter().all(|&b| b == POISON));
        memory.bytes_mut(0, 4, 4).copy_from_slice(&7u32.to_le_bytes());
        let window = memory.windows()[((a - GLOBAL) >> 32) as usize];
        // SAFETY: inside the allocation, aligned.
        unsafe {
            assert_eq!(read::<4>(window.ptr.add(4)), 7u32.to_le_bytes());
            write::<16>(window.ptr.add(16), [9; 16]);
            write::<2>(window.ptr.add(2), [1, 2]);
            assert_eq!((read::<16>(window.ptr.add(16)), read::<2>(window.ptr.add(2))), ([9; 16], [1, 2]));
            assert_eq!(read::<1>(window.ptr.add(3)), [2]);
        }
    }
}
