//! Number formats and rounding: the bit-exact specification in code.
