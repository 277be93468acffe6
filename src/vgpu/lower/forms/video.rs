//! SIMD video instructions.

use super::Form;

pub(super) static FORMS: &[Form] = &[];
