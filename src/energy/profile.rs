//! Published energies of single operations, and the joules that follow from counts. *Modelled*, never measured: no leakage, no clock tree, no host.
//!
//! Two tables cover integers, floats, SRAM and DRAM: Horowitz's for 45 nm, the one most of the literature uses, and its update for 7 nm by Jouppi and others. A memory
//! access is given for 64 bits there and counted by the byte here; where a range is printed its middle is taken.

use super::cost::Cost;

const HOROWITZ: &str =
    "M. Horowitz, Computing's Energy Problem (and what we can do about it), ISSCC 2014, figure 1.1.9 (45 nm, 0.9 V)";
const JOUPPI: &str =
    "N. Jouppi et al., Ten Lessons From Three Generations Shaped Google's TPUv4i, ISCA 2021, table 2 (7 nm)";
const HBM2: &str = "N. Jouppi et al., ISCA 2021, table 2: HBM2, 250 to 450 pJ for 64 bits (compare 3.9 pJ/bit in M. O'Connor et al., Fine-Grained DRAM, MICRO 2017)";

/// A number with its source.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Constant {
    /// What costs it.
    pub what: &'static str,
    /// Picojoules.
    pub picojoules: f64,
    /// Per what: an operation, 64 bits.
    pub per: &'static str,
    /// Where it was published.
    pub source: &'static str,
}

const fn operation(what: &'static str, picojoules: f64, source: &'static str) -> Constant {
    Constant { what, picojoules, per: "operation", source }
}

const fn access(what: &'static str, picojoules: f64, source: &'static str) -> Constant {
    Constant { what, picojoules, per: "64 bits", source }
}

/// A class of device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    /// As in files: `7nm-hbm2`.
    pub name: &'static str,
    /// For readers.
    pub about: &'static str,
    /// Multiplication of 8-bit integers.
    pub i8_multiply: Constant,
    /// Addition of 32-bit integers: what accumulates 8-bit products.
    pub i32_add: Constant,
    /// Multiplication in f16.
    pub f16_multiply: Constant,
    /// Addition in f16.
    pub f16_add: Constant,
    /// Multiplication in f32.
    pub f32_multiply: Constant,
    /// Addition in f32.
    pub f32_add: Constant,
    /// Access to an 8 KB SRAM.
    pub sram: Constant,
    /// Access to DRAM.
    pub dram: Constant,
}

/// All profiles; the first is the default.
pub const PROFILES: [Profile; 3] = [
    Profile { name: "7nm-hbm2", about: "a GPU or accelerator of 7 nm with HBM2, such as an A100", ..SEVEN },
    Profile {
        name: "7nm-ddr4",
        about: "a processor of 7 nm with DDR4 memory",
        dram: access("DRAM (DDR4)", 1300.0, JOUPPI),
        ..SEVEN
    },
    Profile {
        name: "45nm-ddr3",
        about: "the table of 45 nm that most of the literature uses",
        i8_multiply: operation("int8 multiply", 0.2, HOROWITZ),
        i32_add: operation("int32 add", 0.1, HOROWITZ),
        f16_multiply: operation("f16 multiply", 1.1, HOROWITZ),
        f16_add: operation("f16 add", 0.4, HOROWITZ),
        f32_multiply: operation("f32 multiply", 3.7, HOROWITZ),
        f32_add: operation("f32 add", 0.9, HOROWITZ),
        sram: access("SRAM of 8 KB", 10.0, HOROWITZ),
        dram: access("DRAM, 1.3 to 2.6 nJ", 1950.0, HOROWITZ),
    },
];

const SEVEN: Profile = Profile {
    name: "",
    about: "",
    i8_multiply: operation("int8 multiply", 0.07, JOUPPI),
    i32_add: operation("int32 add", 0.03, JOUPPI),
    f16_multiply: operation("f16 multiply", 0.34, JOUPPI),
    f16_add: operation("f16 add", 0.16, JOUPPI),
    f32_multiply: operation("f32 multiply", 1.31, JOUPPI),
    f32_add: operation("f32 add", 0.38, JOUPPI),
    sram: access("SRAM of 8 KB", 7.5, JOUPPI),
    dram: access("DRAM (HBM2), 250 to 450 pJ", 350.0, HBM2),
};

/// Modelled joules of some work.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Modelled {
    /// Multiply-adds and other arithmetic.
    pub arithmetic: f64,
    /// DRAM traffic.
    pub dram: f64,
    /// SRAM traffic.
    pub sram: f64,
}

impl Modelled {
    /// All together.
    pub fn total(&self) -> f64 {
        self.arithmetic + self.dram + self.sram
    }
}

impl Profile {
    /// The profile called `name`.
    pub fn find(name: &str) -> Option<&'static Profile> {
        PROFILES.iter().find(|profile| profile.name == name)
    }

    /// Its numbers with their sources.
    pub fn constants(&self) -> [Constant; 8] {
        [
            self.i8_multiply,
            self.i32_add,
            self.f16_multiply,
            self.f16_add,
            self.f32_multiply,
            self.f32_add,
            self.sram,
            self.dram,
        ]
    }

    /// Joules of counted work. A multiply-add is a multiplication and an addition in the accumulator's type (int32 for int8, f32 for f16 and f32); other f32
    /// operations cost the mean of an addition and a multiplication.
    pub fn joules(&self, cost: &Cost) -> Modelled {
        let pj = |constant: Constant| constant.picojoules;
        let arithmetic = cost.macs_f32 as f64 * (pj(self.f32_multiply) + pj(self.f32_add))
            + cost.macs_f16 as f64 * (pj(self.f16_multiply) + pj(self.f32_add))
            + cost.macs_i8 as f64 * (pj(self.i8_multiply) + pj(self.i32_add))
            + cost.ops_f32 as f64 * (pj(self.f32_multiply) + pj(self.f32_add)) / 2.0;
        Modelled {
            arithmetic: arithmetic * 1e-12,
            dram: cost.dram_bytes as f64 * pj(self.dram) / 8.0 * 1e-12,
            sram: cost.sram_bytes as f64 * pj(self.sram) / 8.0 * 1e-12,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joules_are_counts_times_the_table() {
        let profile = Profile::find("45nm-ddr3").unwrap();
        let cost = Cost { macs_f32: 1_000_000, macs_i8: 1_000_000, ..Cost::default() };
        let modelled = profile.joules(&cost);
        assert!((modelled.total() - (4.6 + 0.3) * 1e-6).abs() < 1e-15, "{modelled:?}");
        let cost = Cost { dram_bytes: 8_000_000, sram_bytes: 8_000_000, ..Cost::default() };
        let modelled = profile.joules(&cost);
        assert!((modelled.dram - 1950e-6).abs() < 1e-12 && (modelled.sram - 10e-6).abs() < 1e-12);
        assert!(Profile::find("7nm").is_none());
    }

    #[test]
    fn every_number_has_a_source_and_names_differ() {
        for (i, profile) in PROFILES.iter().enumerate() {
            assert!(PROFILES[..i].iter().all(|other| other.name != profile.name));
            for constant in profile.constants() {
                assert!(constant.picojoules > 0.0 && constant.source.contains("20"), "{constant:?}");
            }
        }
    }
}
