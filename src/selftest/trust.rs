//! Which devices have passed the self-test, remembered in the user's cache folder: a device is tested once for this executable, these kernels and this driver.
//!
//! A cache that cannot be read or written costs another test, never a run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use etcetera::BaseStrategy;
use serde::{Deserialize, Serialize};

use super::{Report, run};
use crate::driver::{DeviceProps, Driver, kernels};
use crate::{Error, Result, fsio};

/// What a passed test holds for: anything else here is another device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Key {
    /// `NVIDIA A100-SXM4-80GB`.
    pub device: String,
    /// Version of the driver, which compiles the kernels.
    pub driver: String,
    /// CRC-32C and length of the executable.
    pub executable: String,
    /// SHA-256 of each module's PTX.
    pub modules: BTreeMap<String, String>,
}

impl Key {
    /// Of this process on a device.
    ///
    /// # Errors
    /// [`Error::Io`] where the system does not show the executable.
    pub fn of(props: &DeviceProps) -> Result<Key> {
        let path = std::env::current_exe().map_err(|e| Error::io("find", "the executable", e))?;
        let bytes = std::fs::read(&path).map_err(|e| Error::io("read", &path, e))?;
        Ok(Key {
            device: props.name.clone(),
            driver: props.driver.clone(),
            executable: format!("{:08x} {}", crc32c::crc32c(&bytes), bytes.len()),
            modules: kernels::MODULES.iter().map(|m| (m.name.into(), m.sha256.into())).collect(),
        })
    }

    /// Its file in a cache folder.
    pub fn file(&self, folder: &Path) -> PathBuf {
        let text = serde_json::to_string(self).unwrap_or_default(); // strings alone always become JSON
        folder.join(format!("passed-{:08x}.json", crc32c::crc32c(text.as_bytes())))
    }
}

/// What a file holds.
#[derive(Serialize, Deserialize)]
struct Passed {
    key: Key,
    kernels: usize,
    cases: usize,
}

/// `earlybird` in the user's cache folder; `None` where the user has none.
pub fn folder() -> Option<PathBuf> {
    etcetera::choose_base_strategy().ok().map(|base| base.cache_dir().join("earlybird"))
}

/// Whether the test was passed before.
///
/// # Errors
/// [`Error::Io`] and [`Error::BadFile`] for a file that is there and cannot be used.
pub fn passed_before(folder: &Path, key: &Key) -> Result<bool> {
    let path = key.file(folder);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(Error::io("read", path, e)),
    };
    let hint = "it is written anew after the next test that passes";
    let passed: Passed = serde_json::from_str(&text)
        .map_err(|e| Error::bad_file(&path, None, format!("is no record of a passed self-test: {e}"), hint))?;
    match passed.key == *key {
        true => Ok(true),
        false => Err(Error::bad_file(&path, None, "is the record of another device", hint)),
    }
}

/// Remembers a passed test. A report of anything else is refused.
///
/// # Errors
/// [`Error::Io`]; [`Error::BadSetting`] for a test that was not passed.
pub fn remember(folder: &Path, key: Key, report: &Report) -> Result<()> {
    if !report.passed() {
        return Err(Error::bad_setting("self-test", report.summary(), "only a passed test is remembered"));
    }
    std::fs::create_dir_all(folder).map_err(|e| Error::io("create", folder, e))?;
    let path = key.file(folder);
    let passed = Passed { key, kernels: report.kernels.len(), cases: report.cases };
    let text = serde_json::to_string_pretty(&passed)
        .map_err(|e| Error::bad_file(&path, None, e.to_string(), "please report this"))?;
    fsio::write_atomic(&path, (text + "\n").as_bytes())
}

/// Whether a device may be trusted: it passed before, or passes now, which is remembered in `folder`. `Err` of the inner result says why not. `tell` gets a line
/// about everything that takes time or goes wrong on the way.
///
/// # Errors
/// As [`run`].
pub fn trusted(
    driver: Arc<dyn Driver>,
    folder: Option<&Path>,
    tell: &mut dyn FnMut(String),
) -> Result<std::result::Result<(), String>> {
    let (device, name) = (driver.props().device.clone(), driver.props().name.clone());
    let key = Key::of(driver.props());
    if let (Ok(key), Some(folder)) = (&key, folder) {
        match passed_before(folder, key) {
            Ok(true) => return Ok(Ok(())),
            Ok(false) => {}
            Err(e) => tell(format!("warning: {e}")),
        }
    }
    tell(format!("{device} ({name}) is new to this build: testing every kernel against the CPU, once"));
    let report = run(driver)?;
    if !report.passed() {
        return Ok(Err(report.summary()));
    }
    tell(format!("{device}: {} in {:.1} s", report.summary(), report.seconds));
    let stored = match (key, folder) {
        (Ok(key), Some(folder)) => remember(folder, key, &report),
        (Err(e), _) => Err(e),
        (_, None) => Err(Error::bad_setting("cache folder", "this user has none", "set HOME or XDG_CACHE_HOME")),
    };
    if let Err(e) = stored {
        tell(format!("warning: the passed test is not remembered, the next run repeats it: {e}"));
    }
    Ok(Ok(()))
}
