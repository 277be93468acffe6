//! PTX text into a lossless syntax tree. Nothing here knows what an instruction means: an unknown opcode parses and fails in [`super::lower`], with its
//! line.

pub mod ast;
mod constant;
mod decl;
mod lex;
mod parse;
mod print;
mod stmt;

pub use parse::parse;

use ast::Pos;

/// Why a text is no PTX.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {}, column {}: {what}{}", pos.line, pos.col, if hint.is_empty() { String::new() } else { format!("; {hint}") })]
pub struct ParseError {
    /// Where.
    pub pos: Pos,
    /// What is wrong.
    pub what: String,
    /// What to do; may be empty.
    pub hint: String,
}

impl ParseError {
    pub(crate) fn new(pos: Pos, what: impl Into<String>, hint: impl Into<String>) -> ParseError {
        ParseError { pos, what: what.into(), hint: hint.into() }
    }
}
