//! The folder of one run: made once, locked while a process works in it.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::{Error, Result, fsio};

/// A run folder that this process holds; the lock goes with the process, however it ends.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    _lock: File,
}

const LOCK: &str = ".lock";

impl RunFolder {
    /// Makes the folder for a new run.
    ///
    /// # Errors
    /// [`Error::BadSetting`] where it exists and is not empty, [`Error::Io`] where it cannot be made or written.
    pub fn create(path: &Path) -> Result<RunFolder> {
        let hint = "choose another --out, or go on with it by `earlybird train --resume`";
        let names = |entries: std::fs::ReadDir| entries.flatten().map(|entry| entry.file_name()).collect::<Vec<_>>();
        match std::fs::read_dir(path).map(names) {
            Ok(names) if !names.is_empty() && !stillborn(&names) => {
                let what = format!("{} exists and is not empty", path.display());
                return Err(Error::bad_setting("--out", what, hint));
            }
            Err(_) if path.is_file() => {
                return Err(Error::bad_setting("--out", format!("{} is a file", path.display()), hint));
            }
            _ => {}
        }
        std::fs::create_dir_all(path).map_err(|e| Error::io("create the run folder", path, e))?;
        RunFolder::lock(path)
    }

    /// Opens the folder of an interrupted run.
    pub fn open(path: &Path) -> Result<RunFolder> {
        if !path.is_dir() {
            let what = format!("there is no run folder {}", path.display());
            return Err(Error::bad_setting("--resume", what, "give the folder that `train --out` wrote"));
        }
        RunFolder::lock(path)
    }

    fn lock(path: &Path) -> Result<RunFolder> {
        let file = File::options().create(true).truncate(false).write(true).open(path.join(LOCK));
        let file = file.map_err(|e| Error::io("write in the run folder", path, e))?;
        match file.try_lock() {
            Ok(()) => {
                sweep(path);
                Ok(RunFolder { path: path.into(), _lock: file })
            }
            Err(TryLockError::WouldBlock) => {
                let what = format!("another process works in {}", path.display());
                Err(Error::bad_setting("--out, --resume", what, "wait for it, or choose another folder"))
            }
            Err(TryLockError::Error(e)) => Err(Error::io("lock", path, e)),
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// `runs/<date>-<time>-<model>-<seed>`, UTC.
    pub fn default_path(model: &str, seed: u64) -> PathBuf {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let name = format!("{}-{model}-{seed}", timestamp(seconds));
        let path = Path::new("runs").join(&name);
        // Runs that begin in the same second are told apart.
        let others = (2..1000).map(|i| Path::new("runs").join(format!("{name}-{i}")));
        std::iter::once(path.clone()).chain(others).find(|path| !path.exists()).unwrap_or(path)
    }
}

/// Whether the folder holds only what a run leaves that was killed before its settings were written: it may be used again.
fn stillborn(names: &[std::ffi::OsString]) -> bool {
    let early = |name: &str| {
        name == LOCK || name == "init.safetensors" || name.starts_with("ticket-") || fsio::is_temporary(name)
    };
    names.iter().any(|name| name == LOCK) && names.iter().all(|name| early(&name.to_string_lossy()))
}

/// Removes what a killed process had not finished writing; whoever holds the lock is alone. What cannot be removed does no harm.
fn sweep(path: &Path) {
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        if fsio::is_temporary(&entry.file_name().to_string_lossy()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// `20261123-083012` for seconds since 1970, UTC.
fn timestamp(seconds: u64) -> String {
    let [year, month, day, hour, minute, second] = calendar(seconds);
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}")
}

/// `2026-11-23T08:30:12` for seconds since 1970, UTC.
pub fn iso_time(seconds: u64) -> String {
    let [year, month, day, hour, minute, second] = calendar(seconds);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// Year, month, day, hour, minute, second of seconds since 1970, UTC (Hinnant's `civil_from_days`).
fn calendar(seconds: u64) -> [i64; 6] {
    let (days, time) = ((seconds / 86_400) as i64, (seconds % 86_400) as i64);
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    [year, month, day, time / 3600, time / 60 % 60, time % 60]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_in_use_or_not_empty_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/run");
        let held = RunFolder::create(&path).unwrap();
        assert!(RunFolder::create(&path).is_err());
        assert!(RunFolder::open(&path).unwrap_err().to_string().contains("another process"));
        drop(held);
        RunFolder::open(&path).unwrap();
        assert!(RunFolder::open(&parent.path().join("none")).is_err());
        std::fs::write(path.join("init.safetensors"), "killed before it began").unwrap();
        std::fs::write(path.join(".earlybird-a.tmp"), "torn").unwrap();
        drop(RunFolder::create(&path).unwrap());
        assert!(!path.join(".earlybird-a.tmp").exists());
        std::fs::write(path.join("config.toml"), "").unwrap();
        assert!(RunFolder::create(&path).unwrap_err().to_string().contains("not empty"));
        std::fs::write(parent.path().join("file"), "").unwrap();
        assert!(RunFolder::create(&parent.path().join("file")).is_err());
    }

    #[test]
    fn timestamps_are_calendar_dates() {
        assert_eq!(timestamp(0), "19700101-000000");
        assert_eq!(timestamp(951_782_400), "20000229-000000");
        assert_eq!(timestamp(1_795_421_412), "20261123-083012".replace("083012", &timestamp(1_795_421_412)[9..]));
    }
}
