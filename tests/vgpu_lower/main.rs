//! Lowering from the outside: PTX text in, machine code or an error with its line out. What the code does when it runs is tested elsewhere.

#![allow(clippy::unwrap_used)] // clippy.toml allows it in test functions only, not in their helpers

mod calls;
#[path = "../common/mod.rs"]
mod common;
mod corpus;
mod errors;
mod flow;
mod forms;
mod hints;
mod hostile;
mod image;
mod memory;
mod run;

use earlybird::vgpu::ir::{Access, Ins, Kernel, Op, Options};
use earlybird::vgpu::lower::{self, LowerError};
use earlybird::vgpu::ptx;

/// Lowers an entry of a text without its first lines; `.global` variables lie one after the other.
pub fn lower(text: &str, entry: &str) -> Result<Kernel, LowerError> {
    let text = format!(".version 8.4\n.target sm_80\n.address_size 64\n{text}");
    lower_file(&text, entry)
}

/// Lowers an entry of a whole file.
pub fn lower_file(text: &str, entry: &str) -> Result<Kernel, LowerError> {
    let module = ptx::parse(text).unwrap_or_else(|e| panic!("{e}"));
    let image = lower::image(&module)?;
    let place = |name: &str| {
        let n = image.globals.iter().position(|g| g.name == name)?;
        Some(0x7f00_0001_0000 + ((n as u64) << 32))
    };
    lower::lower(&module, entry, &place, &Options::default())
}

/// A kernel `k` with registers of every kind and two parameters; `body` begins on line 6.
pub fn kernel(body: &str) -> String {
    format!(
        ".visible .entry k(.param .u64 p, .param .u32 n)\n{{ .reg .pred %p<9>; .reg .b16 %h<9>; .reg .b32 %r<99>; .reg .f32 %f<9>; \
         .reg .b64 %rd<99>; .reg .f64 %fd<9>; .reg .b128 %q<3>; .reg .v4 .b32 v; .reg .u32 %u; .reg .b8 %c<3>; \
         .shared .align 8 .b32 s[16]; .local .align 8 .b8 l[32];\n{body}\nret; }}"
    )
}

/// Lowers `kernel(body)`.
pub fn body(body: &str) -> Result<Kernel, LowerError> {
    lower(&kernel(body), "k")
}

/// Lowers a body that must be right.
pub fn good(text: &str) -> Kernel {
    body(text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// The instructions of a kind.
pub fn all(kernel: &Kernel, op: Op) -> Vec<Ins> {
    kernel.code.iter().filter(|i| i.op == op).copied().collect()
}

/// The access of the only instruction of a kind.
pub fn access(kernel: &Kernel, op: Op) -> Access {
    let found = all(kernel, op);
    assert_eq!(found.len(), 1, "{op:?}");
    kernel.accesses[found[0].x as usize].clone()
}

/// Name of the register in a row.
pub fn name(kernel: &Kernel, row: u16) -> &str {
    &kernel.row_names[row as usize]
}

/// The value of a constant row.
pub fn constant(kernel: &Kernel, row: u16) -> u64 {
    let [low, high] = kernel.constants.iter().find(|c| c.0 == row).unwrap().1;
    u64::from(high) << 32 | u64::from(low)
}
