//! Reverse-mode differentiation over the graph, and the memory plan.

pub mod plan;
mod session;
pub use session::Session;
