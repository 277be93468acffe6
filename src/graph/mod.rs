//! x
/// x
pub enum Op {}
