//! Places values in memory.
