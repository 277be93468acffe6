//! The `earlybird` command. Everything it does lives in [`earlybird::cli`].

fn main() -> std::process::ExitCode {
    earlybird::cli::main(std::env::args_os())
}
