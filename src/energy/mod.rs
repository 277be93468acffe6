//! Energy and work: what was measured, and what is modelled from counted operations and bytes. The two are kept in different types and files.
//!
//! Measured: an [`EnergyMeter`] reads the counters of GPU (NVML), processor and memory (RAPL) around anything:
//!
//! ```
//! use earlybird::energy::EnergyMeter;
//! let mut meter = EnergyMeter::open(None); // no GPU
//! meter.begin("work");
//! let sum: u64 = (0..1000).sum();
//! let window = meter.end("work").expect("it was begun");
//! match window.cpu {
//!     earlybird::energy::Reading::Joules(joules) => println!("{sum}: {joules} J"),
//!     earlybird::energy::Reading::Unknown(reason) => println!("{sum}: {reason}"), // an unknown is never 0
//! }
//! ```
//!
//! Modelled: [`cost`] counts a network's operations and bytes, [`profile`] holds published energies per operation with their sources, and
//! [`Profile::joules`] multiplies the two. [`flops`] has the paper's rule for training FLOPs.

/// Joules of a kilowatt-hour, the unit of CodeCarbon's columns.
pub const KWH: f64 = 3.6e6;

pub mod cost;
pub mod flops;
mod meter;
mod nvml;
mod phases;
pub mod profile;
mod rapl;

pub use cost::{Cost, LayerCost, Numerics};
pub use meter::{Component, Counter, EnergyMeter, Reading, Window};
pub use phases::{Activity, PhaseEnergy, PhaseMeter};
pub use profile::{Constant, Modelled, Profile};
