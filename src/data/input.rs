//! Reading data files that nobody has vouched for: regular files only, a bound on every size, a byte offset in every message.
//!
//! Not here: what the bytes mean (`cifar`, `idx`, `pickle`).

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use crate::{Error, Result};

/// Most bytes of one file, and of the unpacked images of one part of a data set: 1 GiB, five times CIFAR's and MNIST's.
pub const MAX_BYTES: u64 = 1 << 30;

/// A data file, plain or gzip, read from front to back.
pub struct Input {
    path: PathBuf,
    reader: Box<dyn Read>,
    at: u64,
    length: Option<u64>,
    hint: &'static str,
}

impl Input {
    /// Opens `path`; gzip is recognised by its first two bytes, not by the name. `hint` ends every message.
    ///
    /// # Errors
    /// Where the file is missing, no regular file (a pipe would block for ever), or larger than [`MAX_BYTES`].
    pub fn open(path: &Path, hint: &'static str) -> Result<Input> {
        let (file, length) = open(path, hint)?;
        let mut reader = BufReader::with_capacity(1 << 16, file);
        let start = std::io::BufRead::fill_buf(&mut reader).map_err(|e| Error::io("read", path, e))?;
        let packed = start.starts_with(&[0x1f, 0x8b]);
        let (reader, length): (Box<dyn Read>, _) =
            if packed { (Box::new(MultiGzDecoder::new(reader)), None) } else { (Box::new(reader), Some(length)) };
        Ok(Input { path: path.into(), reader, at: 0, length, hint })
    }

    /// Bytes read so far, of the unpacked content.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Length of the content; unknown where it is packed.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// Fills `buffer`; `what` names it: `the header`.
    pub fn fill(&mut self, buffer: &mut [u8], what: &dyn std::fmt::Display) -> Result<()> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.reader.read(&mut buffer[filled..]) {
                Ok(0) => return Err(self.bad(self.at, format!("the file ends within {what}: truncated?"))),
                Ok(n) => {
                    filled += n;
                    self.at += n as u64;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(self.failed(e, what)),
            }
        }
        Ok(())
    }

    /// Checks that nothing follows `what`; for gzip this also checks the sum of the whole content.
    pub fn end(&mut self, what: &dyn std::fmt::Display) -> Result<()> {
        loop {
            match self.reader.read(&mut [0]) {
                Ok(0) => return Ok(()),
                Ok(_) => return Err(self.bad(self.at, format!("the file goes on after {what}"))),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(self.failed(e, &format_args!("the end of {what}"))),
            }
        }
    }

    /// An error at byte `at` of the content.
    pub fn bad(&self, at: u64, what: String) -> Error {
        let unpacked = if self.length.is_none() { " (counted in the unpacked content)" } else { "" };
        Error::bad_file(&self.path, Some(at), format!("{what}{unpacked}"), self.hint)
    }

    fn failed(&self, error: std::io::Error, what: &dyn std::fmt::Display) -> Error {
        match (self.length, error.kind()) {
            (None, ErrorKind::UnexpectedEof) => {
                self.bad(self.at, format!("the gzip stream ends within {what}: truncated?"))
            }
            (None, ErrorKind::InvalidInput | ErrorKind::InvalidData) => {
                self.bad(self.at, format!("the gzip stream is damaged within {what} ({error})"))
            }
            _ => Error::io("read", &self.path, error),
        }
    }
}

/// The whole of a file of at most `limit` bytes.
///
/// # Errors
/// As [`Input::open`].
pub fn read_whole(path: &Path, limit: u64, hint: &'static str) -> Result<Vec<u8>> {
    let (file, length) = open(path, hint)?;
    if length > limit {
        return Err(Error::bad_file(path, None, format!("has {length} bytes, at most {limit} are read"), hint));
    }
    let mut bytes = Vec::with_capacity(length as usize);
    // A file that grows meanwhile is still bounded.
    file.take(limit).read_to_end(&mut bytes).map_err(|e| Error::io("read", path, e))?;
    Ok(bytes)
}

fn open(path: &Path, hint: &'static str) -> Result<(File, u64)> {
    let about = match std::fs::metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return Err(Error::bad_file(path, None, "this file of the data set is missing", hint));
        }
        about => about.map_err(|e| Error::io("read", path, e))?,
    };
    if !about.is_file() {
        return Err(Error::bad_file(path, None, "is no regular file", hint));
    }
    if about.len() > MAX_BYTES {
        let what = format!("has {} bytes, at most {MAX_BYTES} are read", about.len());
        return Err(Error::bad_file(path, None, what, hint));
    }
    Ok((File::open(path).map_err(|e| Error::io("read", path, e))?, about.len()))
}
