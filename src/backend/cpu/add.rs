//! add on the CPU. 12 bytes per element.

use super::Cpu;
use crate::Result;
use crate::backend::Span;
use crate::ops::add::Add;

impl Cpu {
    pub(super) fn add(&self, p: &Add, a: Span, b: Span, y: Span) -> Result<()> {
        let n = p.n as usize;
        // The sum is formed in y, which may be either summand.
        let (a, b) = if y.address() == b.address() { (b, a) } else { (a, b) };
        self.copy_unless_same(a, y, n * 4)?;
        if b.address() == y.address() {
            let io = self.memory.open("add_fwd_f32", [], [(y, n * 4)])?;
            let [y] = io.write.map(super::memory::f32s_mut);
            y.iter_mut().for_each(|y| *y += *y);
            return Ok(());
        }
        self.zip("add_fwd_f32", n, b, y, |y, b| *y += b)
    }
}
