//! The virtual GPU: a PTX machine that runs, checks and counts kernels without a GPU.
//!
//! | module | what |
//! |---|---|
//! | [`ptx`] | text to syntax tree |
//! | [`device`] | memory, modules and launches of a virtual device; start here |
//! | [`lower`] | syntax tree to machine code: names, types, control flow, the table of instruction forms |
//! | [`ir`] | the machine code |
//! | [`exec`] | warps, splits, barriers, memory accesses; [`exec::lanes`] is how row functions are written |
//! | [`mem`] | global memory |
//! | [`num`] | what one lane of an instruction computes, bit for bit |
//! | [`prof`] | what a launch did, counted, and a lower bound on its time |
//! | [`mutate`] | kernels with a barrier, a wait or a guard taken out, to test the sanitizer and the tests |
//! | [`san`] | races, bytes nobody wrote, bytes in flight |
//! | [`report`] | what is wrong with a launch, with its place in the source |

pub mod device;
pub mod exec;
pub mod ir;
pub mod limits;
pub mod lower;
pub mod mem;
pub mod mutate;
pub mod num;
pub mod prof;
pub mod ptx;
pub mod report;
pub mod san;
