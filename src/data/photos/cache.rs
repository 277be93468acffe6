//! Decoded photographs in one file, so that a second run need not decode them.
//!
//! | bytes | what, little-endian |
//! | --- | --- |
//! | 0..8 | `EBPHOTO\n` |
//! | 8..12 | version, 1 |
//! | 12..16 | longest shorter side, 0 for whole pictures |
//! | 16..24 | pictures |
//! | 24..28 | CRC-32C of what the pictures were made from: paths, lengths, times of change |
//! | 28..32 | CRC-32C of the index |
//! | 32..40 | length of the file |
//! | 40..44 | CRC-32C of bytes 0..40 |
//! | 44..64 | 0 |
//! | 64.. | index: per picture offset (8), width (4), height (4), CRC-32C of its pixels (4); width 0 where the file was no image |
//! | behind it | pixels, RGB row by row |
//!
//! It is read by position, not mapped: a file that somebody shortens is then an error and not the end of the process, and the pages are the system's either way. Every
//! picture is checked when it is read; a whole check of hundreds of gigabytes at each start would cost more than decoding saves.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::picture::Picture;
use crate::{Error, Result, fsio};

const MAGIC: &[u8; 8] = b"EBPHOTO\n";
/// Version that is written and read.
const VERSION: u32 = 1;
const HEADER: usize = 64;
const ENTRY: usize = 20;

/// What a cache must have been made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Pictures.
    pub count: u64,
    /// CRC-32C of paths, lengths and times of change.
    pub source: u32,
    /// Longest shorter side, 0 for whole pictures.
    pub side: u32,
}

/// Place and size of a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Entry {
    offset: u64,
    width: u32,
    height: u32,
    sum: u32,
}

impl Entry {
    fn bytes(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height) * 3
    }
}

/// An open cache.
#[derive(Debug)]
pub struct Cache {
    path: PathBuf,
    file: File,
    index: Vec<Entry>,
}

/// Why there is no usable cache at a path.
#[derive(Debug)]
pub enum Unusable {
    /// There is no file.
    Missing,
    /// It is ours and of no use any more: why.
    Stale(String),
    /// It is something else, which must not be written over, or cannot be read.
    Refused(Error),
}

impl Cache {
    /// Opens the cache at `path` if it was made for `key`.
    pub fn open(path: &Path, key: Key) -> std::result::Result<Cache, Unusable> {
        let stale = |why: String| Err(Unusable::Stale(why));
        let read = |e| Unusable::Refused(Error::io("read", path, e));
        let mut file = match File::open(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(Unusable::Missing),
            file => file.map_err(read)?,
        };
        let about = file.metadata().map_err(read)?;
        let mut header = Vec::new();
        Read::by_ref(&mut file).take(HEADER as u64).read_to_end(&mut header).map_err(read)?;
        if !about.is_file() || !header.starts_with(MAGIC) {
            let hint = "name another file for the cache, or take this one away";
            return Err(Unusable::Refused(Error::bad_file(path, None, "is no cache of pictures", hint)));
        }
        if header.len() < HEADER {
            return stale(format!("its header has {} of {HEADER} bytes", header.len()));
        }
        let u32_at = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if u32_at(8) != VERSION {
            return stale(format!("it is of version {}, this program's is {VERSION}", u32_at(8)));
        }
        if crc32c::crc32c(&header[..40]) != u32_at(40) {
            return stale("its header is damaged".into());
        }
        if (u64_at(16), u32_at(24)) != (key.count, key.source) {
            return stale("the folder of images has changed since it was made".into());
        }
        if u32_at(12) != key.side {
            return stale(format!("it was made with --cache-side {}, not {}", u32_at(12), key.side));
        }
        if u64_at(32) != about.len() {
            return stale(format!("it has {} of {} bytes", about.len(), u64_at(32)));
        }
        // The header's sum is right, so the number is one that was written; the file is as long.
        let mut bytes = vec![0; key.count as usize * ENTRY];
        if file.read_exact(&mut bytes).is_err() || crc32c::crc32c(&bytes) != u32_at(28) {
            return stale("its index is damaged".into());
        }
        let index = bytes.chunks_exact(ENTRY).map(|entry| {
            let word = |at: usize| u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]]);
            let offset = u64::from(word(0)) | u64::from(word(4)) << 32;
            Entry { offset, width: word(8), height: word(12), sum: word(16) }
        });
        Ok(Cache { path: path.into(), index: index.collect(), file })
    }

    /// Makes the file anew: `pictures` gives them in order, `None` where there is none.
    ///
    /// # Errors
    /// [`Error::Io`]; there is then the file that was there before, or none.
    pub fn make(path: &Path, key: Key, pictures: impl Iterator<Item = Option<Picture>>) -> Result<()> {
        fsio::write_atomic_by(path, |file| {
            let mut out = std::io::BufWriter::with_capacity(1 << 20, file);
            let start = HEADER as u64 + key.count * ENTRY as u64;
            out.seek(SeekFrom::Start(start))?;
            let (mut index, mut offset) = (Vec::new(), start);
            for picture in pictures {
                let mut entry = Entry { offset, ..Entry::default() };
                if let Some(Picture { width, height, rgb }) = picture {
                    entry = Entry { offset, width, height, sum: crc32c::crc32c(&rgb) };
                    out.write_all(&rgb)?;
                    offset += rgb.len() as u64;
                }
                index.extend_from_slice(&entry.offset.to_le_bytes());
                [entry.width, entry.height, entry.sum]
                    .iter()
                    .for_each(|word| index.extend_from_slice(&word.to_le_bytes()));
            }
            let mut header = [0; HEADER];
            header[..8].copy_from_slice(MAGIC);
            let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
            put(8, &VERSION.to_le_bytes());
            put(12, &key.side.to_le_bytes());
            put(16, &key.count.to_le_bytes());
            put(24, &key.source.to_le_bytes());
            put(28, &crc32c::crc32c(&index).to_le_bytes());
            put(32, &offset.to_le_bytes());
            let sum = crc32c::crc32c(&header[..40]);
            header[40..44].copy_from_slice(&sum.to_le_bytes());
            out.seek(SeekFrom::Start(0))?;
            out.write_all(&header)?;
            out.write_all(&index)?;
            out.flush()
        })
    }

    /// Picture `number`; `None` where the file it was to be made from was no image.
    ///
    /// # Errors
    /// [`Error::BadFile`] where the cache is damaged there.
    pub fn picture(&self, number: usize) -> Result<Option<Picture>> {
        let Some(entry) = self.index.get(number).filter(|entry| entry.width > 0 && entry.height > 0) else {
            return Ok(None);
        };
        let mut rgb = vec![0; entry.bytes() as usize];
        read_at(&self.file, &mut rgb, entry.offset).map_err(|e| Error::io("read", &self.path, e))?;
        if crc32c::crc32c(&rgb) != entry.sum {
            let hint = "delete it, and it is made anew";
            let what = format!("picture {number} of the cache is damaged");
            return Err(Error::bad_file(&self.path, Some(entry.offset), what, hint));
        }
        Ok(Some(Picture { width: entry.width, height: entry.height, rgb }))
    }
}

/// Fills `buffer` from byte `at`; threads need not wait for each other.
#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], at: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, at)
}

#[cfg(windows)]
fn read_at(file: &File, mut buffer: &mut [u8], mut at: u64) -> std::io::Result<()> {
    while !buffer.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, buffer, at)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => (buffer, at) = (&mut buffer[n..], at + n as u64),
        }
    }
    Ok(())
}
