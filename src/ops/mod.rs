//! One file per operator: parameter struct, shape rule, gradient rule, cost. No device code.
