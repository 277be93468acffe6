//! Models as graph builders.
