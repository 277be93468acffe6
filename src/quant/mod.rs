//! Number formats and random bits: the bit-exact specification in code, shared by operators, backends and data.

pub mod bfp;
pub mod layout;
pub mod philox;
