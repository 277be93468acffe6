//! The tile registers of AMX without AMX: every instruction that [`super::tiles`] uses, computed by its definition (Intel's Software Developer's Manual, volume 2, chapter 3.2 of the instruction set
//! extensions), with rows, bytes per row and what it refuses. Like the processor's, registers belong to a thread. For tests on machines without AMX.
//!
//! Not here: `start_row`, which only matters after a page fault in the middle of a load.

use std::cell::RefCell;

use super::tiles::Configuration;

/// What the processor would end the process for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault(pub &'static str);

/// Rows and bytes per row of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    rows: usize,
    bytes: usize,
}

/// The registers.
pub(super) struct Tiles {
    /// `None`: as after `tilerelease`.
    extents: Option<[Extent; 8]>,
    data: [[[u8; 64]; 16]; 8],
}

thread_local!(static TILES: RefCell<Tiles> = const { RefCell::new(Tiles::new()) });

/// Lets `program` run on the tiles of this thread.
pub(super) fn run(program: impl FnOnce(&mut Tiles) -> Result<(), Fault>) {
    let outcome = TILES.with_borrow_mut(program);
    debug_assert!(outcome.is_ok(), "{outcome:?}");
}

/// Whether the tiles of this thread are as after `tilerelease`.
#[cfg(test)]
pub(super) fn idle() -> bool {
    TILES.with_borrow(|tiles| {
        tiles.extents.is_none() && tiles.data.as_flattened().as_flattened().iter().all(|byte| *byte == 0)
    })
}

impl Tiles {
    pub(super) const fn new() -> Tiles {
        Tiles { extents: None, data: [[[0; 64]; 16]; 8] }
    }

    /// `ldtilecfg`.
    pub(super) fn configure(&mut self, configuration: &Configuration) -> Result<(), Fault> {
        let bytes = &configuration.0;
        if bytes[0] == 0 {
            self.release();
            return Ok(());
        }
        if bytes[0] != 1 {
            return Err(Fault("ldtilecfg: there is no such palette"));
        }
        if bytes[1] != 0 {
            return Err(Fault("ldtilecfg: not emulated: a first row"));
        }
        if [&bytes[2..16], &bytes[32..48], &bytes[56..64]].iter().any(|part| part.iter().any(|byte| *byte != 0)) {
            return Err(Fault("ldtilecfg: reserved bytes"));
        }
        let extents = std::array::from_fn(|i| Extent {
            rows: usize::from(bytes[48 + i]),
            bytes: usize::from(u16::from_le_bytes([bytes[16 + 2 * i], bytes[17 + 2 * i]])),
        });
        if extents.iter().any(|e| e.rows > 16 || e.bytes > 64 || (e.rows == 0) != (e.bytes == 0)) {
            return Err(Fault("ldtilecfg: rows or bytes per row"));
        }
        *self = Tiles { extents: Some(extents), ..Tiles::new() };
        Ok(())
    }

    /// `tilerelease`.
    pub(super) fn release(&mut self) {
        *self = Tiles::new();
    }

    fn extent(&self, tile: usize) -> Result<Extent, Fault> {
        let extents = self.extents.ok_or(Fault("tiles are not configured"))?;
        let found =
            extents.get(tile).filter(|extent| extent.rows > 0).copied().ok_or(Fault("there is no such tile"))?;
        if found.bytes % 4 == 0 { Ok(found) } else { Err(Fault("bytes per row are not whole words")) }
    }

    /// `tilezero`.
    pub(super) fn zero(&mut self, tile: usize) -> Result<(), Fault> {
        self.extent(tile)?;
        self.data[tile] = [[0; 64]; 16];
        Ok(())
    }

    /// `tileloadd`: the tile's rows and bytes from memory, zeros elsewhere.
    ///
    /// # Safety
    /// The tile's bytes in each of its rows, `stride` bytes apart from `at` on, are valid.
    pub(super) unsafe fn load(&mut self, tile: usize, at: *const u8, stride: usize) -> Result<(), Fault> {
        let extent = self.extent(tile)?;
        self.data[tile] = [[0; 64]; 16];
        for (i, row) in self.data[tile].iter_mut().enumerate().take(extent.rows) {
            // SAFETY: the caller's promise.
            let from = unsafe { std::slice::from_raw_parts(at.wrapping_add(i * stride), extent.bytes) };
            row[..extent.bytes].copy_from_slice(from);
        }
        Ok(())
    }

    /// `tilestored`: the tile's rows and bytes to memory.
    ///
    /// # Safety
    /// As [`Tiles::load`], to write.
    pub(super) unsafe fn store(&self, tile: usize, at: *mut u8, stride: usize) -> Result<(), Fault> {
        let extent = self.extent(tile)?;
        for (i, row) in self.data[tile].iter().enumerate().take(extent.rows) {
            // SAFETY: the caller's promise.
            let to = unsafe { std::slice::from_raw_parts_mut(at.wrapping_add(i * stride), extent.bytes) };
            to.copy_from_slice(&row[..extent.bytes]);
        }
        Ok(())
    }

    /// `tdpbssd`: word `n` of row `m` of the sums gets the products of the four bytes of word `k` of row `m` of the rows with those of word `n` of row `k` of the columns, for all `k`. Sums wrap; what lies
    /// behind the sums' rows and bytes becomes zero.
    pub(super) fn dot(&mut self, sums: usize, rows: usize, columns: usize) -> Result<(), Fault> {
        let (c, a, b) = (self.extent(sums)?, self.extent(rows)?, self.extent(columns)?);
        if sums == rows || sums == columns || rows == columns {
            return Err(Fault("tdpbssd: the same tile twice"));
        }
        if c.rows != a.rows || c.bytes != b.bytes || a.bytes / 4 != b.rows {
            return Err(Fault("tdpbssd: tiles do not fit each other"));
        }
        let mut out = [[0; 64]; 16];
        for (m, out) in out.iter_mut().enumerate().take(c.rows) {
            for n in 0..c.bytes / 4 {
                let old = &self.data[sums][m][4 * n..][..4];
                let mut sum = i32::from_le_bytes([old[0], old[1], old[2], old[3]]);
                for (k, column) in self.data[columns].iter().enumerate().take(b.rows) {
                    let pairs = self.data[rows][m][4 * k..][..4].iter().zip(&column[4 * n..][..4]);
                    sum = pairs.fold(sum, |sum, (x, w)| sum.wrapping_add(i32::from(*x as i8) * i32::from(*w as i8)));
                }
                out[4 * n..][..4].copy_from_slice(&sum.to_le_bytes());
            }
        }
        self.data[sums] = out;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sums of 5 rows x 3 words over a depth of two words; tile 3 does not fit, tile 4 is not there.
    const ODD: Configuration =
        Configuration::new([(5, 12), (5, 8), (2, 12), (3, 12), (0, 0), (1, 6), (16, 64), (16, 64)]);

    fn ready() -> Tiles {
        let mut tiles = Tiles::new();
        tiles.configure(&ODD).unwrap();
        tiles
    }

    #[test]
    fn odd_tiles_are_read_multiplied_and_written_as_far_as_they_reach() {
        let mut tiles = ready();
        let a: Vec<i8> = (0..5 * 10).map(|i| if i == 3 { -128 } else { (i * 37 % 256) as u8 as i8 }).collect();
        let b: Vec<i8> = (0..2 * 16).map(|i| if i == 3 { -128 } else { (i * 91 % 251) as u8 as i8 }).collect();
        let mut c: Vec<i32> = (0..5 * 7).map(|i| i - 9).collect();
        c[0] = i32::MAX;
        let before = c.clone();
        // SAFETY: rows of 10, 16 and 28 bytes.
        unsafe {
            tiles.load(1, a.as_ptr().cast(), 10).unwrap();
            tiles.load(2, b.as_ptr().cast(), 16).unwrap();
            tiles.load(0, c.as_ptr().cast(), 28).unwrap();
            tiles.dot(0, 1, 2).unwrap();
            tiles.store(0, c.as_mut_ptr().cast(), 28).unwrap();
        }
        for (i, (got, before)) in c.iter().zip(&before).enumerate() {
            let (m, n) = (i / 7, i % 7);
            let mut want = *before;
            for depth in 0..8 {
                if n < 3 {
                    let x = i32::from(a[m * 10 + depth]) * i32::from(b[depth / 4 * 16 + 4 * n + depth % 4]);
                    want = want.wrapping_add(x);
                }
            }
            assert_eq!(*got, want, "row {m}, word {n}");
        }
        let (rows, behind) = tiles.data[0].split_at(5);
        assert!(rows.iter().all(|row| row[12..] == [0; 52]) && behind.iter().all(|row| *row == [0; 64]));
        tiles.zero(0).unwrap();
        assert_eq!(tiles.data[0], [[0; 64]; 16]);
    }

    #[test]
    fn what_the_processor_refuses_is_refused() {
        let mut tiles = ready();
        for (sums, rows, columns) in
            [(0, 1, 1), (1, 1, 2), (3, 1, 2), (0, 2, 1), (0, 6, 2), (4, 1, 2), (5, 1, 2), (0, 1, 8)]
        {
            assert!(tiles.dot(sums, rows, columns).is_err(), "{sums} {rows} {columns}");
        }
        let refused = |place: usize, value: u8| {
            let mut configuration = Configuration(ODD.0);
            configuration.0[place] = value;
            Tiles::new().configure(&configuration).is_err()
        };
        // Palette, first row, reserved bytes, bytes per row, rows, one without the other.
        assert!(refused(0, 2) && refused(1, 1) && refused(9, 1) && refused(40, 1) && refused(60, 1));
        assert!(refused(16, 65) && refused(17, 1) && refused(48, 17) && refused(48, 0) && refused(24, 4));
        let mut configuration = Configuration(ODD.0);
        configuration.0[0] = 0;
        tiles.configure(&configuration).unwrap();
        assert_eq!(tiles.zero(0), Err(Fault("tiles are not configured")));
    }
}
