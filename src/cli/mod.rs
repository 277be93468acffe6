//! The command line: one file per subcommand.
//!
//! Exit codes: 0 done, 1 findings or failed checks, 2 bad input or unavailable device, 3 unsupported, 4 no ticket emerged. Messages go to standard error,
//! results to standard output. Not here: anything a library user would want ([`crate::ticket`], [`crate::train`], [`crate::report`]).

mod account;
mod bench;
mod device;
mod doctor;
mod energy;
mod eval;
mod export;
mod info;
mod kernels;
mod loading;
mod masks;
mod modelled;
mod prune;
mod recorder;
mod report;
mod settings;
mod study;
mod summary;
mod train;
mod vgpu;
mod watch;

pub use settings::{Overrides, Settings};

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{Error, Result};

/// Exit code: done.
pub const DONE: u8 = 0;
/// Exit code: findings or failed checks.
pub const FINDINGS: u8 = 1;
/// Exit code: no ticket emerged within the limit.
pub const NO_TICKET: u8 = 4;

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
    /// Search the ticket, cut the network, train on: all in one go
    Train(train::TrainArgs),
    /// Search only: draw the tickets and stop
    Search(train::SearchArgs),
    /// Cut a drawn ticket into a smaller network
    Prune(prune::PruneArgs),
    /// Train on from a drawn ticket
    Retrain(train::RetrainArgs),
    /// Loss and accuracy of a model on a test set
    Eval(eval::EvalArgs),
    /// Mask-distance matrix of a run, as SVG and CSV
    Masks(masks::MasksArgs),
    /// Masks of a network that another program trains: BN scales in, distances and tickets out, as JSON lines
    Watch(watch::WatchArgs),
    /// One HTML page about one run or several
    Report(report::ReportArgs),
    /// The paper's experiments, over several seeds, with baselines and energy; goes on where it was stopped
    #[command(subcommand)]
    Study(study::StudyCommand),
    /// Write a model for PyTorch
    Export(export::ExportArgs),
    /// Measure speed
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Parameters, BN channels and FLOPs of a model
    Info(info::InfoArgs),
    /// The GPU kernels of this build: what they take and what they cost
    #[command(subcommand)]
    Kernels(kernels::KernelsCommand),
    /// Run and check PTX kernels without a GPU
    #[command(subcommand)]
    Vgpu(vgpu::VgpuCommand),
    /// What this machine and this build can do
    Doctor(doctor::DoctorArgs),
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
        Command::Train(args) => args.run(),
        Command::Search(args) => args.run(),
        Command::Prune(args) => args.run(),
        Command::Retrain(args) => args.run(),
        Command::Eval(args) => args.run(),
        Command::Masks(args) => args.run(),
        Command::Watch(args) => args.run(),
        Command::Report(args) => args.run(),
        Command::Study(command) => command.run(),
        Command::Export(args) => args.run(),
        Command::Bench(args) => args.run(),
        Command::Info(args) => args.run(),
        Command::Kernels(command) => command.run(),
        Command::Vgpu(command) => command.run(),
        Command::Doctor(args) => args.run(),
    }
}

fn complain(error: &Error) {
    warn(format_args!("error: {error}"));
}

/// Prints a line to standard error.
pub(crate) fn warn(line: impl std::fmt::Display) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Prints a line of results; a reader that went away (`| head`) is no error.
pub(crate) fn say(line: impl std::fmt::Display) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{line}");
}
