//! PTX text into a lossless syntax tree. Nothing here knows what an instruction means: an unknown opcode parses and fails in [`super::lower`], with its
//! line.

pub mod ast;
