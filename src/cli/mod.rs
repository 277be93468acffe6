//! The command line: one file per subcommand.
//!
//! Exit codes: 0 done, 1 findings or failed checks, 2 bad input or unavailable device, 3 unsupported. Messages go to standard error, results to
//! standard output. Not here: anything a library user would want.

mod kernels;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{Error, Result};

/// Exit code: done.
pub const DONE: u8 = 0;
/// Exit code: findings or failed checks.
pub const FINDINGS: u8 = 1;

#[derive(Parser)]
#[command(
    name = "earlybird",
    version,
    about = "Trains conv nets by Early-Bird tickets (arXiv 1909.11957)",
    max_term_width = 110
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The GPU kernels of this build: what they take and what they cost
    #[command(subcommand)]
    Kernels(kernels::KernelsCommand),
}

/// Runs the command line; never panics on bad input.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // `--help` and `--version` are no errors; everything else is bad input.
            let code = if error.use_stderr() { 2 } else { DONE };
            let _ = error.print(); // a closed pipe must not turn into a panic
            return ExitCode::from(code);
        }
    };
    match run(cli.command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            complain(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(command: Command) -> Result<u8> {
    match command {
        Command::Kernels(command) => command.run(),
    }
}

fn complain(error: &Error) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "error: {error}");
}

/// Prints a line of results; a reader that went away (`| head`) is no error.
pub(crate) fn say(line: impl std::fmt::Display) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{line}");
}
