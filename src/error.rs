//! The one error type of the crate: every variant says what, where and what to do.
//!
//! Not here: outcomes that are no errors (a ticket that never emerges is a [`crate::ticket`] outcome), and the driver's own
//! error codes ([`crate::driver::DriverError`] converts into [`Error::Driver`] once that layer exists).

use std::path::{Path, PathBuf};

/// What every fallible function of the crate returns.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong, with what a user needs to act on it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // ---- files and settings -------------------------------------------------------------------------------------
    /// The operating system refused something on a path.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb phrase: `read`, `create the run folder`.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system answered.
        source: std::io::Error,
    },
    /// A file holds something else than it should.
    #[error("{}{}: {what}; {hint}", path.display(), offset.map(|o| format!(" at byte {o}")).unwrap_or_default())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// The byte at which it went wrong, where one is known.
        offset: Option<u64>,
        /// What is wrong.
        what: String,
        /// What to do about it.
        hint: String,
    },
    /// A setting (flag, key of a settings file, argument) has a value that cannot be used.
    #[error("{name}: {what}; {hint}")]
    BadSetting {
        /// The setting as the user wrote it, such as `--prune 1.5` or `config.toml: batch_size`.
        name: String,
        /// What is wrong.
        what: String,
        /// What to do about it.
        hint: String,
    },

    // ---- network and operators ------------------------------------------------------------------------------------
    /// A node of the network does not fit its inputs.
    #[error("{node} ({op}): {what}")]
    Graph {
        /// Name of the node.
        node: String,
        /// Operator of the node.
        op: &'static str,
        /// What does not fit, with the shapes.
        what: String,
    },
    /// A value stopped being finite during training.
    #[error("{what} is not finite at step {step} (epoch {epoch}); {hint}")]
    NotFinite {
        /// What: `the loss`.
        what: &'static str,
        /// The optimiser step, counted from 1 over the whole run.
        step: u64,
        /// The epoch, counted from 1.
        epoch: usize,
        /// What to do, and what was kept.
        hint: String,
    },

    // ---- devices ------------------------------------------------------------------------------------------------------
    /// A call to a GPU, real or virtual, failed.
    #[error(transparent)]
    Driver(#[from] crate::driver::DriverError),
    /// The device exists in principle but cannot be used here.
    #[error("device {device} is not available: {why}; {hint}")]
    DeviceUnavailable {
        /// As given on the command line: `cuda:0`.
        device: String,
        /// Why not.
        why: String,
        /// What to do.
        hint: String,
    },
    /// The combination is not built: an operator on a device or in a precision, a PTX instruction, a file form.
    #[error("{what} is not supported{}; {hint}", place.as_ref().map(|p| format!(" ({p})")).unwrap_or_default())]
    Unsupported {
        /// What.
        what: String,
        /// Where: device, file and line.
        place: Option<String>,
        /// What works instead.
        hint: String,
    },
}

impl Error {
    /// An I/O failure on `path` while trying to `action` it.
    pub fn io(action: &'static str, path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Error::Io { action, path: path.as_ref().to_path_buf(), source }
    }

    /// A file whose content is not what it should be.
    pub fn bad_file(
        path: impl AsRef<Path>,
        offset: Option<u64>,
        what: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Error::BadFile { path: path.as_ref().to_path_buf(), offset, what: what.into(), hint: hint.into() }
    }

    /// A setting that cannot be used.
    pub fn bad_setting(name: impl Into<String>, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Error::BadSetting { name: name.into(), what: what.into(), hint: hint.into() }
    }

    /// Exit code of the command for this error: 2 bad input or unavailable device, 3 unsupported.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Unsupported { .. } => 3,
            _ => 2,
        }
    }
}
