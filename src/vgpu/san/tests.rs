//! The sanitizer driven by hand: hooks called as the machine would call them.
