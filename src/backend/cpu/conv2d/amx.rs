//! Whether AMX can be used: the processor has it, the system saves its registers and lets this process have them, and a product that comes out of them is right.
//!
//! Processor and system: CPUID leaf 7 (`amx-tile`, `amx-int8`), leaves 0x1d and 0x1e (sizes of palette 1), bits 17 and 18 of XCR0. Linux gives the registers to processes that ask
//! (`arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)`, since 5.16), for all threads at once. All of it happens once per process. Not here: the instructions ([`super::tiles`]).

use std::fmt;
use std::sync::OnceLock;

use super::choice::{Form, IntegerPath};
use super::lanes::{Columns, Rows, Shape, Unit};

/// Why 8-bit products are not computed with AMX.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAmx {
    /// The processor lacks `amx-tile` or `amx-int8`.
    Processor,
    /// Its tiles are not 16 rows of 64 bytes.
    Sizes,
    /// The system does not save the registers.
    System,
    /// How to ask this system for them is not known here; its name.
    Unknown(&'static str),
    /// The system does not give the registers to this process; its words.
    Refused(String),
    /// A product was wrong; which sum.
    Wrong(String),
}

impl fmt::Display for NoAmx {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            NoAmx::Processor => write!(f, "this processor has none"),
            NoAmx::Sizes => write!(f, "this processor's tiles are not 16 rows of 64 bytes"),
            NoAmx::System => write!(f, "the system does not save its registers (XCR0 bits 17 and 18)"),
            NoAmx::Unknown(name) => write!(f, "not known how to ask {name} for its registers"),
            NoAmx::Refused(why) => write!(f, "the system does not give its registers to this process: {why}"),
            NoAmx::Wrong(what) => write!(f, "off, because it computed a wrong product here: {what}"),
        }
    }
}

/// Whether 8-bit products may use AMX, and if not, why. The first call asks the system and tries the registers out.
pub fn usable() -> Result<(), &'static NoAmx> {
    static USABLE: OnceLock<Result<(), NoAmx>> = OnceLock::new();
    let usable = USABLE.get_or_init(|| {
        there()?;
        request()?;
        // SAFETY: the machine has AMX, and this process may use it.
        let unit = unsafe { Unit::new(IntegerPath::Amx) };
        // SAFETY: `compare` answers for the pointers.
        compare(&|rows, columns, steps, fresh| unsafe { unit.multiply(rows, columns, steps, fresh) }).map_err(|what| {
            let wrong = NoAmx::Wrong(what);
            eprintln!("warning: AMX is {wrong}; 8-bit products use {}", IntegerPath::without_tiles().name());
            wrong
        })
    });
    usable.as_ref().copied()
}

/// Whether processor and system have it.
#[cfg(target_arch = "x86_64")]
pub(super) fn there() -> Result<(), NoAmx> {
    use std::arch::x86_64::{__cpuid_count, _xgetbv};
    let cpuid = |leaf, sub| {
        #[allow(unused_unsafe)] // safe in newer compilers
        // SAFETY: every 64-bit processor has the instruction.
        let found = unsafe { __cpuid_count(leaf, sub) };
        [found.eax, found.ebx, found.ecx, found.edx]
    };
    judge(&cpuid, &|| {
        #[target_feature(enable = "xsave")]
        fn enabled() -> u64 {
            // SAFETY: the function has the feature that the instruction needs.
            unsafe { _xgetbv(0) }
        }
        // SAFETY: only asked where the system has switched XSAVE on.
        unsafe { enabled() }
    })
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn there() -> Result<(), NoAmx> {
    Err(NoAmx::Processor)
}

/// The same from what CPUID says, [eax, ebx, ecx, edx] of a leaf and subleaf, and XCR0.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
fn judge(cpuid: &dyn Fn(u32, u32) -> [u32; 4], xcr0: &dyn Fn() -> u64) -> Result<(), NoAmx> {
    const OSXSAVE: u32 = 1 << 27;
    const TILE_AND_INT8: u32 = 1 << 24 | 1 << 25;
    const REGISTERS: u64 = 1 << 17 | 1 << 18;
    if cpuid(0, 0)[0] < 0x1e || cpuid(7, 0)[3] & TILE_AND_INT8 != TILE_AND_INT8 {
        return Err(NoAmx::Processor);
    }
    if cpuid(1, 0)[2] & OSXSAVE == 0 || xcr0() & REGISTERS != REGISTERS {
        return Err(NoAmx::System);
    }
    let ([bytes, names, rows, _], [_, depth, ..]) = (cpuid(0x1d, 1), cpuid(0x1e, 0));
    let palette = bytes >> 16 >= 1024 && names >> 16 >= 8 && names & 0xffff == 64 && rows & 0xffff == 16;
    let products = depth & 0xff >= 16 && depth >> 8 & 0xffff >= 64;
    if palette && products { Ok(()) } else { Err(NoAmx::Sizes) }
}

/// Asks the system for the registers.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn request() -> Result<(), NoAmx> {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: the call reads its two numbers and no memory.
    let outcome = unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) };
    if outcome == 0 { Ok(()) } else { Err(NoAmx::Refused(std::io::Error::last_os_error().to_string())) }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn request() -> Result<(), NoAmx> {
    Err(NoAmx::Unknown(std::env::consts::OS))
}

/// Compares products with the definition: every mantissa meets every other, with one and two tiles of rows and of columns, whole and odd, one and several steps, fresh sums and sums that go on.
pub(super) fn compare(multiply: &dyn Fn(Rows, Columns, usize, bool)) -> Result<(), String> {
    // Bytes of any sign and size, the same every time.
    let byte = |number: usize| (number.wrapping_mul(0x9e37_79b9).wrapping_add(0x7f4a_7c15) >> 13) as u8 as i8;
    let width = IntegerPath::Amx.panel();
    for (count, across, depth) in [(16, 16, 64), (32, 32, 192), (48, 16, 256), (16, 48, 64), (48, 80, 320)] {
        // Rows, columns and bytes that count; what lies behind is zeros, as packing leaves it.
        let (rows, columns, used) = (count - 3, across - 5, depth - 7);
        let steps = depth / Form::Tiles.depth();
        let a = |row: usize, at: usize| if row < rows && at < used { byte(row * 331 + at) } else { 0 };
        let b = |column: usize, at: usize| if column < columns && at < used { byte(column * 197 + at * 89) } else { 0 };
        let word = |byte: &dyn Fn(usize) -> i8| u32::from_le_bytes(std::array::from_fn(|i| byte(i) as u8));
        let left: Vec<u32> = (0..count * steps).map(|i| word(&|k| a(i / steps, i % steps * 4 + k))).collect();
        let panels = across.div_ceil(width);
        let right: Vec<u32> = (0..panels * steps * width)
            .map(|i| word(&|k| b(i / (steps * width) * width + i % width, i / width % steps * 4 + k)))
            .collect();
        let mut sums = vec![77i32; count * across];
        for fresh in [true, false] {
            let rows = Rows { start: left.as_ptr(), shape: Shape::Dense(steps), count };
            let (start, panel) = (right.as_ptr(), steps * width);
            let columns = Columns { start, width, panel, count: across, sums: sums.as_mut_ptr(), stride: across };
            multiply(rows, columns, steps, fresh);
        }
        for (i, got) in sums.iter().enumerate() {
            let (row, column) = (i / across, i % across);
            let want: i32 = (0..depth).map(|at| 2 * i32::from(a(row, at)) * i32::from(b(column, at))).sum();
            if *got != want {
                return Err(format!(
                    "{got} where {want} is right, row {row} and column {column} of {count} x {across} over {depth} bytes"
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A processor with AMX under a system that knows it: leaves 0, 1, 7, 0x1d and 0x1e, and XCR0.
    fn sapphire_rapids(leaf: u32, sub: u32) -> [u32; 4] {
        match (leaf, sub) {
            (0, 0) => [0x20, 0, 0, 0],
            (1, 0) => [0, 0, 1 << 27, 0],
            (7, 0) => [0, 0, 0, 1 << 22 | 1 << 24 | 1 << 25],
            (0x1d, 1) => [1024 << 16 | 8192, 8 << 16 | 64, 16, 0],
            (0x1e, 0) => [0, 64 << 8 | 16, 0, 0],
            _ => [0; 4],
        }
    }

    #[test]
    fn each_of_the_conditions_counts() {
        let but = |leaf: u32, register: usize, value: u32| {
            let cpuid = move |l, sub| {
                let mut found = sapphire_rapids(l, sub);
                if l == leaf {
                    found[register] = value;
                }
                found
            };
            judge(&cpuid, &|| 0x600e7)
        };
        assert_eq!(judge(&sapphire_rapids, &|| 0x600e7), Ok(()));
        assert_eq!(but(0, 0, 0xd), Err(NoAmx::Processor));
        assert_eq!(but(7, 3, 1 << 24), Err(NoAmx::Processor));
        assert_eq!(but(7, 3, 1 << 25), Err(NoAmx::Processor));
        assert_eq!(but(1, 2, 0), Err(NoAmx::System));
        assert_eq!(judge(&sapphire_rapids, &|| 0x200e7), Err(NoAmx::System));
        assert_eq!(judge(&sapphire_rapids, &|| 0x400e7), Err(NoAmx::System));
        assert_eq!(but(0x1d, 2, 8), Err(NoAmx::Sizes));
        assert_eq!(but(0x1d, 1, 4 << 16 | 64), Err(NoAmx::Sizes));
        assert_eq!(but(0x1e, 1, 32 << 8 | 16), Err(NoAmx::Sizes));
        let never = || unreachable!("a system without XSAVE is not asked for XCR0");
        assert_eq!(
            judge(&|leaf, sub| if leaf == 1 { [0; 4] } else { sapphire_rapids(leaf, sub) }, &never),
            Err(NoAmx::System)
        );
    }

    #[test]
    fn this_machine_has_it_or_says_why_not() {
        match (there(), usable()) {
            (Ok(()), Err(NoAmx::Refused(_) | NoAmx::Unknown(_)) | Ok(())) => {}
            (Err(why), found) => {
                assert_eq!(found, Err(&why));
                // Nobody is given what is not there.
                let refused = request().unwrap_err().to_string();
                assert!(refused.contains("the system does not give") || refused.contains("not known how"), "{refused}");
                assert!(!IntegerPath::Amx.available() && IntegerPath::best() != IntegerPath::Amx);
            }
            (Ok(()), found) => panic!("{found:?}"),
        }
    }

    /// What the emulated registers compute, changed by `change`.
    fn outcome(change: &dyn Fn(Columns, usize, bool)) -> Result<(), String> {
        // SAFETY: needs nothing of the machine.
        let unit = unsafe { Unit::new(IntegerPath::EmulatedAmx) };
        compare(&|rows, columns, steps, fresh| {
            // SAFETY: `compare` answers for the pointers.
            unsafe { unit.multiply(rows, columns, steps, fresh) };
            change(columns, steps, fresh);
        })
    }

    #[test]
    fn a_wrong_product_is_found_out() {
        assert_eq!(outcome(&|_, _, _| ()), Ok(()));
        let add = |columns: Columns, place: usize, more: i32| {
            // SAFETY: the sums are those of `compare`.
            unsafe { *columns.sums.add(place) += more }
        };
        // The last sum of the second tile of columns, in a block of every shape; sums that start from what was there.
        for width in [16, 32, 48, 80] {
            let found = outcome(&|columns, _, fresh| {
                if columns.count == width && fresh {
                    add(columns, 15 * columns.stride + width - 1, 1);
                }
            });
            assert!(found.unwrap_err().contains(&format!("column {}", width - 1)));
        }
        assert!(
            outcome(&|columns, _, fresh| if fresh {
                add(columns, 0, 77)
            })
            .is_err()
        );
    }
}
