//! The backend of GPUs, real and virtual: grid, block and arguments for each kernel. One file per operator; all of them know only
//! [`crate::driver::Driver`].

pub mod launch;
