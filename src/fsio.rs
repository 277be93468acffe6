//! Writing files so that a reader sees the old content or the new, never a half: a utility below all layers that write.
//!
//! A file is written beside its place, synced, and renamed over it; the folder is synced, too. On any failure the old file stays and the temporary one goes.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use crate::{Error, Result};

/// For tests only: `EARLYBIRD_FAULT=full:NAME` makes every write of a file whose name contains NAME fail as a full disk does.
const FAULT: &str = "EARLYBIRD_FAULT";

fn fault(path: &Path) -> std::io::Result<()> {
    let Some(name) = std::env::var(FAULT).ok().and_then(|value| value.strip_prefix("full:").map(String::from)) else {
        return Ok(());
    };
    let hit = path.file_name().is_some_and(|file| file.to_string_lossy().contains(&name));
    if hit { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(()) }
}

/// Writes `bytes` to `path` atomically.
///
/// # Errors
/// [`Error::Io`] naming the file; what was there before is still there.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let write = || -> std::io::Result<()> {
        fault(path)?;
        let mut file = tempfile::Builder::new().prefix(".earlybird-").suffix(".tmp").tempfile_in(folder)?;
        file.write_all(bytes)?;
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
        fault(path)?;
        let mut file = File::options().append(true).create(true).open(path)?;
        file.write_all(bytes)?;
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
