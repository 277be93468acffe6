//! Writing files so that a reader sees the old content or the new, never a half: a utility below all layers that write.
//!
//! A file is written beside its place, synced, and renamed over it; the folder is synced, too. On any failure the old file stays and the temporary one goes.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Error, Result};

/// For tests only: `EARLYBIRD_FAULT=full:NAME[:N]` makes every write (from the N-th on) of a file whose name contains NAME fail as a full disk does;
/// `kill:NAME[:N]` ends the process at the N-th write with the file half written, as `kill -9` or a power cut would.
const FAULT: &str = "EARLYBIRD_FAULT";

/// What the next write is to suffer.
enum Fault {
    None,
    Full,
    Kill,
}

fn fault(path: &Path) -> Fault {
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let Ok(value) = std::env::var(FAULT) else { return Fault::None };
    let mut parts = value.split(':');
    let (kind, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if !path.file_name().is_some_and(|file| file.to_string_lossy().contains(name)) {
        return Fault::None;
    }
    let first = parts.next().and_then(|n| n.parse().ok()).unwrap_or(1);
    let number = WRITES.fetch_add(1, Ordering::Relaxed) + 1;
    match kind {
        "full" if number >= first => Fault::Full,
        "kill" if number == first => Fault::Kill,
        _ => Fault::None,
    }
}

/// Writes all of `bytes`, or suffers the fault of the tests.
fn write_all(file: &mut File, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    match fault(path) {
        Fault::None => file.write_all(bytes),
        Fault::Full => {
            file.write_all(&bytes[..bytes.len() / 2])?;
            Err(std::io::ErrorKind::StorageFull.into())
        }
        Fault::Kill => {
            file.write_all(&bytes[..bytes.len() / 2])?;
            std::process::abort()
        }
    }
}

const PREFIX: &str = ".earlybird-";
const SUFFIX: &str = ".tmp";

/// Whether a file of this name is one that a killed process was writing.
pub fn is_temporary(name: &str) -> bool {
    name.starts_with(PREFIX) && name.ends_with(SUFFIX)
}

/// Writes `bytes` to `path` atomically.
///
/// # Errors
/// [`Error::Io`] naming the file; what was there before is still there.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomic_by(path, |file| write_all(file, path, bytes))
}

/// As [`write_atomic`], for content that is too large for memory: `content` writes it.
///
/// # Errors
/// As [`write_atomic`]; those of `content`, too.
pub fn write_atomic_by(path: &Path, content: impl FnOnce(&mut File) -> std::io::Result<()>) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(PREFIX).suffix(SUFFIX).tempfile_in(folder)?;
        content(file.as_file_mut())?;
        #[cfg(unix)]
        {
            // A temporary file is private; what replaces a file should be as readable as one made by hand.
            use std::os::unix::fs::PermissionsExt;
            file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
        }
        file.as_file().sync_all()?;
        file.persist(path).map_err(|e| e.error)?;
        // Without this the rename itself may be lost with the power. Some file systems cannot sync folders; the content is safe there, too.
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
        Ok(())
    };
    write().map_err(|e| Error::io("write (what was there before is kept)", path, e))
}

/// Appends to a log file and syncs it.
///
/// # Errors
/// [`Error::Io`] naming the file. A part may have been written: readers of logs must bear a torn tail.
pub fn append(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut file = File::options().append(true).create(true).open(path)?;
        write_all(&mut file, path, bytes)?;
        file.sync_data()
    };
    write().map_err(|e| Error::io("append to", path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_replaces_the_whole_file_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write_atomic(&path, b"a long first version").unwrap();
        write_atomic(&path, b"second").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"second");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_keeps_the_old_file_and_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        std::fs::create_dir(&path).unwrap(); // cannot be replaced by a file
        let error = write_atomic(&path, b"x").unwrap_err();
        assert!(error.to_string().contains("taken") && error.exit_code() == 2, "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(write_atomic(&folder.path().join("missing/file"), b"x").is_err());
    }
}
