//! What several test files share.
#![allow(dead_code)] // each file uses its part
#![allow(clippy::unwrap_used)]

pub mod cases;

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;

use earlybird::driver::observe::{Call, Observer};
use earlybird::driver::{self, Driver, Image};

/// The repository, where fixtures lie: `EARLYBIRD_TEST_ROOT` for test binaries that have left the machine they were built on (`make gpu-bundle`).
pub fn root() -> PathBuf {
    std::env::var_os("EARLYBIRD_TEST_ROOT").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into()).into()
}

/// The command under test; `EARLYBIRD_TEST_EXE` as [`root`].
pub fn executable() -> PathBuf {
    std::env::var_os("EARLYBIRD_TEST_EXE").unwrap_or_else(|| env!("CARGO_BIN_EXE_earlybird").into()).into()
}

/// Name of the device that cases stamped `cuda` run on: `EARLYBIRD_TEST_GPU`, else the first GPU. A virtual one proves that the cases run where no GPU is.
pub fn gpu_name() -> String {
    std::env::var("EARLYBIRD_TEST_GPU").unwrap_or_else(|_| "cuda:0".into())
}

/// The device of [`gpu_name`]. Where there is none, the case is skipped aloud, or fails under `REQUIRE_CUDA=1`.
pub fn gpu() -> Option<Arc<dyn Driver>> {
    use std::io::Write;
    if !have_kernels("cuda") {
        return None;
    }
    match driver::open(&gpu_name()) {
        Ok(driver) => Some(driver),
        Err(error) => {
            let case = std::thread::current().name().unwrap_or("cuda").to_string();
            assert!(std::env::var("REQUIRE_CUDA").as_deref() != Ok("1"), "{case}: {error}, and REQUIRE_CUDA=1");
            let error = error.to_string();
            let why = error.split(" (tried").next().unwrap_or_default();
            // Past the harness, which keeps to itself what passing tests print.
            let _ = writeln!(std::io::stderr(), "skipped: {case}: {why}");
            None
        }
    }
}

/// Loads one module from other PTX.
pub struct Swap {
    pub module: &'static str,
    pub ptx: String,
}

impl Observer for Swap {
    fn before(&self, _: Call) -> driver::Result<()> {
        Ok(())
    }

    fn replacement(&self, image: &Image<'_>) -> Option<String> {
        (image.name == self.module).then(|| self.ptx.clone())
    }
}

/// Whether this build carries kernels. Where it does not, the case says that it is skipped, or fails under `REQUIRE_NVRTC=1`.
pub fn have_kernels(case: &str) -> bool {
    skip_unless(!earlybird::driver::kernels::MODULES.is_empty(), case, "this build found no NVRTC (`make nvrtc`)")
}

/// Whether ptxas is installed; as [`have_kernels`].
pub fn have_ptxas(case: &str) -> bool {
    skip_unless(earlybird::driver::ptxas::Tool::ptxas().is_ok(), case, "ptxas is not installed (`make nvrtc`)")
}

fn skip_unless(there: bool, case: &str, why: &str) -> bool {
    if !there {
        assert!(std::env::var("REQUIRE_NVRTC").as_deref() != Ok("1"), "{case}: {why}, and REQUIRE_NVRTC=1");
        println!("skipped: {case}: {why}");
    }
    there
}

/// The command with these arguments.
pub fn earlybird(arguments: &[&str]) -> Command {
    let mut command = Command::new(executable());
    command.args(arguments);
    command
}

/// Exit code, standard output and standard error.
pub fn outcome(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}
