//! Tensor-core instructions of the virtual GPU against references of their own: fragment maps copied from the text of the PTX ISA, integers in i128, the
//! block model in i128, and the error bounds that any summation must keep. Forms are checked against ptxas where it is installed.
#![allow(clippy::unwrap_used)]
#![allow(clippy::needless_range_loop, clippy::manual_is_multiple_of, clippy::precedence)] // indices as the ISA writes them

#[path = "../common/mod.rs"]
mod common;
mod floats;
mod forms;
mod fragments;
mod integers;
mod machine;
mod matrices;
mod numbers;
mod reference;
