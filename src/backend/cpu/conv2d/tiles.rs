//! Products in the tile registers of AMX: 16 rows of 64 bytes each, `tdpbssd` multiplies bytes with sign and adds up in 32 bits.
//!
//! A block is 32 x 32 sums in four tiles; each 64 bytes of depth take two tiles of rows, two of columns and four instructions of 16 cycles, which the four loads hide behind. Factors come as
//! [`super::choice::Form::Tiles`]: rows one after the other, 16 words a step; columns in panels `[steps][32]`, so that 16 steps of 16 columns are a tile (Intel's VNNI layout). Every tile is full: rows, columns and
//! steps that there are not are zeros in memory, and one configuration does for everything.
//!
//! The instructions of a block are written down once, as a listing, from which the machine's code and the calls of the emulation ([`super::emulated_tiles`]) are both made. The machine's code is one
//! statement of assembly language per block, because nothing is promised about registers between two; only the configuration lives from statement to statement, as the rounding mode of floats does. It is set by
//! [`super::lanes::Unit`] and released by it: a thread that keeps tiles pays for them at every switch.

use super::choice::IntegerPath;
use super::emulated_tiles;
use super::lanes::{Columns, Rows, Shape};

/// Rows of a tile.
pub(super) const TILE: usize = 16;
/// Words of a row of a panel.
const PANEL: usize = 32;
/// Bytes of a panel that a step of 64 bytes uses: 16 rows of 32 words.
const ADVANCE: usize = TILE * PANEL * 4;

/// Whose tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Machine {
    /// The processor's.
    Real,
    /// Computed by the definition of each instruction.
    Emulated,
}

impl Machine {
    /// Those that `products` are computed with.
    pub(super) fn of(products: IntegerPath) -> Option<Machine> {
        match products {
            IntegerPath::Amx => Some(Machine::Real),
            IntegerPath::EmulatedAmx => Some(Machine::Emulated),
            _ => None,
        }
    }
}

/// The operand of `ldtilecfg`.
#[repr(C, align(64))]
pub(super) struct Configuration(pub [u8; 64]);

impl Configuration {
    /// Palette 1, each tile with its rows and its bytes per row.
    pub(super) const fn new(tiles: [(u8, u8); 8]) -> Configuration {
        let mut bytes = [0; 64];
        bytes[0] = 1;
        let mut i = 0;
        while i < tiles.len() {
            (bytes[48 + i], bytes[16 + 2 * i]) = tiles[i];
            i += 1;
        }
        Configuration(bytes)
    }
}

/// All tiles full.
static FULL: Configuration = Configuration::new([(16, 64); 8]);

/// Configures the tiles of this thread.
///
/// # Safety
/// The machine has AMX.
pub(super) unsafe fn configure(machine: Machine) {
    match machine {
        Machine::Emulated => emulated_tiles::run(|tiles| tiles.configure(&FULL)),
        Machine::Real => {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the operand has 64 bytes; the machine has AMX, says the caller. Tiles are nobody else's.
            unsafe {
                std::arch::asm!(
                    "ldtilecfg [{}]", in(reg) &raw const FULL,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack, readonly, preserves_flags),
                );
            }
        }
    }
}

/// Leaves no state in the tiles of this thread.
///
/// # Safety
/// The machine has AMX.
pub(super) unsafe fn release(machine: Machine) {
    match machine {
        Machine::Emulated => emulated_tiles::run(|tiles| {
            tiles.release();
            Ok(())
        }),
        Machine::Real => {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the machine has AMX, says the caller. Tiles are nobody else's.
            unsafe {
                std::arch::asm!(
                    "tilerelease",
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack, nomem, preserves_flags),
                );
            }
        }
    }
}

/// What a block works on. Strides are bytes from row to row.
#[derive(Clone, Copy)]
struct Block {
    /// Rows 0..16, 16..32.
    a: *const u8,
    a1: *const u8,
    sa: usize,
    /// Columns: a panel.
    b: *const u8,
    sb: usize,
    /// Sums of rows 0..16, 16..32.
    c: *mut u8,
    c1: *mut u8,
    sc: usize,
    /// Steps of 64 bytes until the rows jump, at least one.
    steps: usize,
    /// How often that, at least once.
    turns: usize,
    /// Bytes by which the rows move on then.
    jump: usize,
    /// Whether the sums are written over what is there: 1, else 0.
    fresh: usize,
}

/// A line of a listing as assembly language.
#[cfg(target_arch = "x86_64")]
macro_rules! assembly {
    (zero $tile:literal) => {
        concat!("tilezero tmm", $tile)
    };
    (load $tile:literal, $at:ident + $more:literal, $stride:ident) => {
        concat!("tileloadd tmm", $tile, ", [{", stringify!($at), "} + {", stringify!($stride), "} + ", $more, "]")
    };
    (store $tile:literal, $at:ident + $more:literal, $stride:ident) => {
        concat!("tilestored [{", stringify!($at), "} + {", stringify!($stride), "} + ", $more, "], tmm", $tile)
    };
    (dot $sums:literal, $rows:literal, $columns:literal) => {
        concat!("tdpbssd tmm", $sums, ", tmm", $rows, ", tmm", $columns)
    };
}

/// A line of a listing as a call of the emulation.
macro_rules! emulation {
    ($tiles:ident $block:ident zero $tile:literal) => {
        $tiles.zero($tile)?
    };
    ($tiles:ident $block:ident load $tile:literal, $at:ident + $more:literal, $stride:ident) => {
        // SAFETY: inside what the block's caller promises.
        unsafe { $tiles.load($tile, $block.$at.wrapping_add($more) as *const u8, $block.$stride)? }
    };
    ($tiles:ident $block:ident store $tile:literal, $at:ident + $more:literal, $stride:ident) => {
        // SAFETY: as above.
        unsafe { $tiles.store($tile, $block.$at.wrapping_add($more), $block.$stride)? }
    };
    ($tiles:ident $block:ident dot $sums:literal, $rows:literal, $columns:literal) => {
        $tiles.dot($sums, $rows, $columns)?
    };
}

/// A block from its listing: which tiles have which sums, and the instructions of 64 bytes of depth. `rows` are the pointers that move on with each step.
macro_rules! block {
    ($(#[$meta:meta])* $name:ident; rows $($row:ident)*; sums $($pointer:ident)*: $([$tile:literal $at:ident + $more:literal])*; step $([$($step:tt)*])*) => {
        $(#[$meta])*
        ///
        /// # Safety
        /// The tiles of `machine` are configured; the pointers are valid for their tiles and steps; nobody else touches the sums.
        unsafe fn $name(machine: Machine, block: Block) {
            match machine {
                Machine::Emulated => emulated_tiles::run(|tiles| {
                    let mut block = block;
                    if block.fresh == 1 {
                        $(emulation!(tiles block zero $tile);)*
                    } else {
                        $(emulation!(tiles block load $tile, $at + $more, sc);)*
                    }
                    for _ in 0..block.turns {
                        for _ in 0..block.steps {
                            $(emulation!(tiles block $($step)*);)*
                            $(block.$row = block.$row.wrapping_add(64);)*
                            block.b = block.b.wrapping_add(ADVANCE);
                        }
                        $(block.$row = block.$row.wrapping_add(block.jump);)*
                    }
                    $(emulation!(tiles block store $tile, $at + $more, sc);)*
                    Ok(())
                }),
                Machine::Real => {
                    #[cfg(target_arch = "x86_64")]
                    // SAFETY: the caller's promise.
                    unsafe {
                        std::arch::asm!(
                            "test {fresh}, {fresh}",
                            "jz 2f",
                            $(assembly!(zero $tile),)*
                            "jmp 3f",
                            "2:",
                            $(assembly!(load $tile, $at + $more, sc),)*
                            "3:",
                            // Whether they were fresh is not asked again.
                            "mov {fresh}, {steps}",
                            "4:",
                            $(assembly!($($step)*),)*
                            $(concat!("add {", stringify!($row), "}, 64"),)*
                            "add {b}, {advance}",
                            "dec {fresh}",
                            "jnz 4b",
                            $(concat!("add {", stringify!($row), "}, {jump}"),)*
                            "dec {turns}",
                            "jnz 3b",
                            $(assembly!(store $tile, $at + $more, sc),)*
                            $($row = inout(reg) block.$row => _,)*
                            $($pointer = in(reg) block.$pointer,)*
                            b = inout(reg) block.b => _,
                            steps = in(reg) block.steps,
                            turns = inout(reg) block.turns => _,
                            jump = in(reg) block.jump,
                            fresh = inout(reg) block.fresh => _,
                            sa = in(reg) block.sa,
                            sb = in(reg) block.sb,
                            sc = in(reg) block.sc,
                            advance = const ADVANCE,
                            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                            options(nostack),
                        );
                    }
                }
            }
        }
    };
}

block! {
    /// 32 rows x 32 columns.
    two_by_two; rows a a1; sums c c1: [0 c + 0] [1 c + 64] [2 c1 + 0] [3 c1 + 64];
    step [load 4, a + 0, sa] [load 6, b + 0, sb] [dot 0, 4, 6] [load 7, b + 64, sb] [dot 1, 4, 7] [load 5, a1 + 0, sa] [dot 2, 5, 6] [dot 3, 5, 7]
}

block! {
    /// 32 rows x 16 columns.
    two_by_one; rows a a1; sums c c1: [0 c + 0] [2 c1 + 0];
    step [load 4, a + 0, sa] [load 6, b + 0, sb] [dot 0, 4, 6] [load 5, a1 + 0, sa] [dot 2, 5, 6]
}

block! {
    /// 16 rows x 32 columns.
    one_by_two; rows a; sums c: [0 c + 0] [1 c + 64];
    step [load 4, a + 0, sa] [load 6, b + 0, sb] [dot 0, 4, 6] [load 7, b + 64, sb] [dot 1, 4, 7]
}

block! {
    /// 16 rows x 16 columns.
    one_by_one; rows a; sums c: [0 c + 0]; step [load 4, a + 0, sa] [load 6, b + 0, sb] [dot 0, 4, 6]
}

/// A block of the tiles of rows from `a` and `a1` on, in lines that are `jump` bytes longer than the steps.
#[allow(clippy::too_many_arguments)]
fn block(
    [a, a1]: [*const u8; 2],
    sa: usize,
    columns: &Columns,
    panel: *const u32,
    (row, column): (usize, usize),
    steps: usize,
    (turns, jump): (usize, usize),
    fresh: bool,
) -> Block {
    let c = columns.sums.wrapping_add(row * columns.stride + column);
    let c1 = c.wrapping_add(TILE * columns.stride);
    let (b, sb, sc) = (panel.cast(), 4 * PANEL, 4 * columns.stride);
    Block { a, a1, sa, b, sb, c: c.cast(), c1: c1.cast(), sc, steps, turns, jump, fresh: usize::from(fresh) }
}

/// Multiplies a block of one or two tiles of rows and of columns.
///
/// # Safety
/// The tiles of `machine` are configured; the pointers of the tiles that there are are valid; nobody else touches the sums.
unsafe fn multiply_block(machine: Machine, (high, wide): (bool, bool), block: Block) {
    // SAFETY: the caller's promises; the second half of a block is only used where it is there.
    unsafe {
        match (high, wide) {
            (true, true) => two_by_two(machine, block),
            (true, false) => two_by_one(machine, block),
            (false, true) => one_by_two(machine, block),
            (false, false) => one_by_one(machine, block),
        }
    }
}

/// What [`super::lanes::Unit::multiply`] does. Columns outermost: the rows pass by a panel that stays in the first-level cache.
///
/// # Safety
/// As there, and the tiles of `machine` are configured; rows are dense, rows and columns are multiples of [`TILE`], and so are steps; panels are 32 wide.
pub(super) unsafe fn multiply(machine: Machine, rows: Rows, columns: Columns, steps: usize, fresh: bool) {
    let Shape::Dense(stride) = rows.shape else {
        debug_assert!(false, "tiles have rows one after the other");
        return;
    };
    debug_assert!([rows.count, columns.count, steps].iter().all(|n| n.is_multiple_of(TILE)));
    debug_assert!(columns.width == PANEL && steps > 0);
    for column in (0..columns.count).step_by(PANEL) {
        let panel = columns.start.wrapping_add(column / PANEL * columns.panel);
        for row in (0..rows.count).step_by(2 * TILE) {
            let a = [row, row + TILE].map(|row| rows.start.wrapping_add(row * stride).cast());
            let there = (row + 2 * TILE <= rows.count, column + PANEL <= columns.count);
            let block = block(a, 4 * stride, &columns, panel, (row, column), steps / TILE, (1, 0), fresh);
            // SAFETY: the caller's promises.
            unsafe { multiply_block(machine, there, block) };
        }
    }
}

/// Rows that a tile finds in lines of pixels ([`super::lines`]).
#[derive(Clone, Copy)]
pub(in super::super) struct Overlapping<'a> {
    /// Where the rows of each tile start.
    pub tiles: &'a [*const u8],
    /// Bytes from row to row.
    pub row: usize,
    /// Bytes from line to line.
    pub line: usize,
    /// Steps of 64 bytes per line.
    pub steps: usize,
    /// Lines.
    pub lines: usize,
}

/// What [`super::lanes::Unit::multiply_lines`] does.
///
/// # Safety
/// As there, and the tiles of `machine` are configured; columns are multiples of [`TILE`] and panels 32 wide.
pub(super) unsafe fn multiply_lines(machine: Machine, rows: Overlapping, columns: Columns) {
    debug_assert!(columns.width == PANEL && rows.steps > 0 && rows.lines > 0);
    let jump = rows.line.wrapping_sub(64 * rows.steps);
    for column in (0..columns.count).step_by(PANEL) {
        let panel = columns.start.wrapping_add(column / PANEL * columns.panel);
        for (pair, tiles) in rows.tiles.chunks(2).enumerate() {
            let (a, at) = ([tiles[0], tiles[tiles.len() - 1]], (2 * TILE * pair, column));
            let there = (tiles.len() == 2, column + PANEL <= columns.count);
            let block = block(a, rows.row, &columns, panel, at, rows.steps, (rows.lines, jump), true);
            // SAFETY: the caller's promises.
            unsafe { multiply_block(machine, there, block) };
        }
    }
}
