//! In which arithmetic a network trains: f32, the official code's simulated 8 bits (`eb8`), or integer arithmetic (`int8`).
//!
//! Evaluation is always f32, over the weights as they are. Number format and rounding: [`crate::quant`].

use serde::{Deserialize, Serialize};

/// Arithmetic of a training step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// f32 throughout.
    #[default]
    F32,
    /// Block floating point with 8-bit mantissas simulated in f32, where the official code has it (early-bird.md section 5).
    Eb8,
    /// Block floating point with 8-bit mantissas, products in integer arithmetic (kernels.md section 1).
    Int8(Int8Options),
}

impl Precision {
    /// Names of all precisions, as flags take them.
    pub const NAMES: [&str; 3] = ["f32", "eb8", "int8"];

    /// As flags and files name it.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Eb8 => "eb8",
            Precision::Int8(_) => "int8",
        }
    }

    /// The one of this name; `int8` stands for what `options` say.
    pub fn named(name: &str, options: Int8Options) -> Option<Precision> {
        match name {
            "f32" => Some(Precision::F32),
            "eb8" => Some(Precision::Eb8),
            "int8" => Some(Precision::Int8(options)),
            _ => None,
        }
    }
}

/// What `int8` leaves open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Int8Options {
    /// Products kept in f32, to find out what a rounding costs.
    pub f32_products: Products,
    /// Whether the optimiser keeps weights in f32 and only their 8-bit copies are rounded.
    pub master_f32: bool,
    /// Whether integer weight gradients are of output gradients of 16 bits, two products each. Says nothing where that product is f32.
    pub wgrad16: bool,
    /// Whether BN scales, shifts and biases are rounded like in `eb8`, each with exponents of its own; otherwise they stay in f32.
    pub scales_int8: bool,
}

/// A choice among the three products of a convolution's training step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Products {
    /// Output from input and weights.
    pub forward: bool,
    /// Input gradient from output gradient and weights.
    pub dgrad: bool,
    /// Weight gradient from input and output gradient.
    pub wgrad: bool,
}

impl Int8Options {
    /// Whether the weight gradient's operand has 16 bits.
    pub fn is_wide(self) -> bool {
        self.wgrad16 && !self.f32_products.wgrad
    }
}

impl Products {
    /// All of them.
    pub const ALL: Products = Products { forward: true, dgrad: true, wgrad: true };

    /// None of them.
    pub fn is_empty(self) -> bool {
        self == Products::default()
    }
}

impl std::str::FromStr for Products {
    type Err = String;

    /// `none`, or names with commas between them.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut products = Products::default();
        for part in text.split(',').map(str::trim).filter(|_| text != "none") {
            match part {
                "forward" => products.forward = true,
                "dgrad" => products.dgrad = true,
                "wgrad" => products.wgrad = true,
                _ => return Err(format!("there is no product `{part}`; choose among forward, dgrad, wgrad, or none")),
            }
        }
        Ok(products)
    }
}

impl std::fmt::Display for Products {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all = [(self.forward, "forward"), (self.dgrad, "dgrad"), (self.wgrad, "wgrad")];
        let names: Vec<&str> = all.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
        f.write_str(if names.is_empty() { "none" } else { "" })?;
        f.write_str(&names.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_read_what_they_write() {
        for bits in 0..8 {
            let products = Products { forward: bits & 1 != 0, dgrad: bits & 2 != 0, wgrad: bits & 4 != 0 };
            assert_eq!(products.to_string().parse(), Ok(products));
        }
        assert!("forward,backward".parse::<Products>().is_err());
    }

    #[test]
    fn names_are_those_of_the_precisions() {
        for name in Precision::NAMES {
            assert_eq!(Precision::named(name, Int8Options::default()).map(Precision::name), Some(name));
        }
        assert_eq!(Precision::named("int4", Int8Options::default()), None);
    }
}
