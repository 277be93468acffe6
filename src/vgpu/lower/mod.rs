//! From the syntax tree to machine code: names, types, control flow, and the choice of a row function for every form.

pub mod forms;
pub mod operands;
pub mod tensor;
