//! What several test files share.
#![allow(dead_code)] // each file uses its part
#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

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
    let mut command = Command::new(env!("CARGO_BIN_EXE_earlybird"));
    command.args(arguments);
    command
}

/// Exit code, standard output and standard error.
pub fn outcome(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}
