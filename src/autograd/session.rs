//! x
/// x
pub struct Session;
