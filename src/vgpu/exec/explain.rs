//! What is wrong with an address: one lane after another, with the buffer that is meant and the registers that the address came from. Only reached when the
//! check of the whole warp failed (`access`).

use super::Halt;
use super::access::{Lanes, Verb, classify};
use super::block::Block;
use super::lanes::{each, get, get64};
use crate::vgpu::ir::{NO_ROW, Op, RowId, window};
use crate::vgpu::mem::{self, GLOBAL};
use crate::vgpu::ptx::ast::Space;
use crate::vgpu::report::{Finding, Kind};

/// How far back the origin of an address is followed.
const DEPTH: usize = 2;

impl<const CHECK: bool, const COUNT: bool> Block<'_, CHECK, COUNT> {
    /// Lane by lane: finds those that are wrong, reports the first of each kind, and lets the others through.
    pub fn translate_slowly(
        &mut self,
        w: usize,
        pc: u32,
        verb: Verb,
        addr: &[u64; 32],
        bytes: u32,
        lanes: &mut Lanes,
    ) -> Result<(), Halt> {
        let mut told: Vec<Kind> = Vec::new();
        let mut right = 0u32;
        for lane in each(lanes.mask) {
            match self.place(w, lane, lanes.space, addr[lane], bytes, verb) {
                Ok((ptr, off, slot)) => {
                    right |= 1 << lane;
                    (lanes.ptr[lane], lanes.off[lane], lanes.slot[lane]) = (ptr, off, slot);
                }
                Err(finding) => {
                    if !told.contains(&finding.kind) {
                        told.push(finding.kind);
                        let who = self.who(w as u32, lane as u32);
                        let mut at = Finding::at(finding.kind, finding.message, self.kernel, pc, Some(who));
                        (at.buffer, at.hint) = (finding.buffer, finding.hint);
                        if let Some(line) = self.registers(w, pc, lane) {
                            at.details.push(line);
                        }
                        self.found(at.with_address(lanes.space, addr[lane], bytes))?;
                    }
                }
            }
        }
        lanes.mask = right;
        if right != 0 {
            let first = right.trailing_zeros() as usize;
            for lane in each(!right) {
                (lanes.ptr[lane], lanes.off[lane], lanes.slot[lane]) =
                    (lanes.ptr[first], lanes.off[first], lanes.slot[first]);
            }
        }
        Ok(())
    }

    /// One lane's address, or what is wrong with it.
    fn place(
        &mut self,
        w: usize,
        lane: usize,
        space: Space,
        addr: u64,
        bytes: u32,
        verb: Verb,
    ) -> Result<(*mut u8, u64, u32), Box<Finding>> {
        let name = &self.kernel.name;
        let error = |kind: Kind, what: &str| {
            let message = format!("{what} {} {}, {bytes} bytes", space.name(), verb.text());
            Box::new(Finding::launch(kind, message, name))
        };
        if verb != Verb::Load && matches!(space, Space::Const | Space::Param) {
            return Err(error(Kind::WriteToReadOnly, "write to read-only memory:"));
        }
        let aligned = addr & u64::from(bytes.next_power_of_two() - 1) == 0;
        if space == Space::Global {
            let Some(place) = self.task.memory.place(addr) else {
                let (kind, what) = match addr {
                    0..=0xffff => (Kind::NullPointer, "null pointer in"),
                    _ => (Kind::InvalidAddress, "invalid address in"),
                };
                let mut finding = error(kind, what);
                if addr >> 32 == 0 && addr > 0xffff {
                    finding.hint = "no device address fits 32 bits: was a pointer cut off?".into();
                } else if matches!(classify(addr).0, Space::Shared | Space::Local | Space::Const) {
                    finding.kind = Kind::WrongSpace;
                    finding.hint = format!("this is an address in {} memory", classify(addr).0.name());
                }
                return Err(finding);
            };
            let with = |f: Box<Finding>| Box::new(f.with_buffer(&place.label, place.offset, place.bytes));
            if !place.live {
                return Err(with(error(Kind::UseAfterFree, "use after free:")));
            }
            if place.offset < 0 || place.offset as u64 + u64::from(bytes) > place.bytes {
                return Err(with(error(Kind::OutOfBounds, "out-of-bounds")));
            }
            if !aligned {
                return Err(with(error(Kind::Misaligned, "misaligned")));
            }
            let slot = (addr - GLOBAL) >> 32;
            let ptr = self.task.memory.windows()[slot as usize].ptr.wrapping_add(place.offset as usize);
            return Ok((ptr, place.offset as u64, place.id));
        }
        let (base, start, size, stride) = self.region(space, w);
        let off = addr.wrapping_sub(start);
        let name = &self.kernel.name;
        let error = |kind: Kind, what: &str| {
            let message = format!("{what} {} {}, {bytes} bytes", space.name(), verb.text());
            Box::new(Finding::launch(kind, message, name))
        };
        if off > size.wrapping_sub(u64::from(bytes)) || size < u64::from(bytes) {
            let mut finding = error(Kind::OutOfBounds, "out-of-bounds");
            if addr >= GLOBAL {
                finding.kind = Kind::WrongSpace;
                finding.message = format!("global address in a {} {}", space.name(), verb.text());
            } else if space == Space::Shared && classify(addr).0 == Space::Shared && addr >= window::SHARED {
                finding.kind = Kind::WrongSpace;
                finding.message = format!("generic address in a shared {}", verb.text());
                finding.hint = "convert it with cvta.to.shared first".into();
            }
            return Err(Box::new(finding.with_buffer(&format!("{} memory", space.name()), off as i64, size)));
        }
        if !aligned {
            let finding = error(Kind::Misaligned, "misaligned");
            return Err(Box::new(finding.with_buffer(&format!("{} memory", space.name()), off as i64, size)));
        }
        Ok((base.wrapping_add(off as usize + lane * stride), off, 0))
    }

    /// A byte that the host wants to look at on behalf of a lane; `None` where there is none.
    pub fn peek(&mut self, w: usize, lane: usize, space: Space, addr: u64) -> Option<u8> {
        let (ptr, ..) = self.place(w, lane, space, addr, 1, Verb::Load).ok()?;
        // SAFETY: a checked address.
        Some(unsafe { mem::read::<1>(ptr) }[0])
    }

    /// The register that holds the address of the instruction at `pc`, and those it was computed from a few instructions before.
    fn registers(&mut self, w: usize, pc: u32, lane: usize) -> Option<String> {
        let ins = &self.kernel.code[pc as usize];
        let mut named = Vec::new();
        let mut wanted = vec![(ins.a, pc)];
        for _ in 0..=DEPTH {
            let mut sources = Vec::new();
            for (row, before) in wanted {
                let Some(text) = self.register(w, row, lane) else { continue };
                if named.contains(&text) {
                    continue;
                }
                named.push(text);
                // The last write in front of it, inside the same block of straight code.
                let straight = (0..before).rev().map(|p| (p, &self.kernel.code[p as usize]));
                let straight = straight.take_while(|(_, i)| !matches!(i.op, Op::Join | Op::Bra | Op::Brx | Op::Exit));
                if let Some((p, def)) = straight.into_iter().find(|(_, i)| i.op == Op::Row && i.d == row) {
                    sources.extend([def.a, def.b, def.c].map(|r| (r, p)));
                }
            }
            wanted = sources;
        }
        (!named.is_empty()).then(|| format!("registers: {}", named.join(", ")))
    }

    /// `%rd5=0x7f0000010200`; `None` for constants and rows without a name.
    fn register(&mut self, w: usize, row: RowId, lane: usize) -> Option<String> {
        if row == NO_ROW {
            return None;
        }
        let names = &self.kernel.row_names;
        let name =
            names.get(row as usize).filter(|n| n.starts_with(['%', '$', '_']) || n.starts_with(char::is_alphabetic))?;
        let wide = names.get(row as usize + 1) == Some(name);
        let name = name.clone();
        let file = self.file(w);
        // SAFETY: rows with names are rows of the kernel; a wide register has two.
        let value = unsafe { if wide { get64(&file, row)[lane] } else { u64::from(get(&file, row)[lane]) } };
        Some(if value < 1 << 20 { format!("{name}={value}") } else { format!("{name}={value:#x}") })
    }
}
