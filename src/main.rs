//! The `earlybird` command. Everything it does lives in [`earlybird::cli`].

fn main() {}
