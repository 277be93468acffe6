//! How many random cases a property is tried on, and which. Not the cases themselves: each test makes its own.

#![allow(clippy::expect_used)] // clippy.toml allows it in test functions only, not in their helpers

use proptest::test_runner::{Config, RngSeed};

/// `usual` cases, always the same ones, so that what passed passes again and a red run can be repeated. `EARLYBIRD_CASES=n` tries n others each time.
pub fn cases(usual: u32) -> Config {
    let wanted =
        std::env::var("EARLYBIRD_CASES").ok().map(|n| n.parse().expect("EARLYBIRD_CASES is a number of cases"));
    Config {
        cases: wanted.unwrap_or(usual),
        rng_seed: if wanted.is_some() { RngSeed::Random } else { RngSeed::Fixed(1) },
        failure_persistence: None,
        ..Config::default()
    }
}
