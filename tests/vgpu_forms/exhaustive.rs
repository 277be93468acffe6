//! All inputs where there are few: unary forms of 16-bit floats and conversions from 8 and 16 bits.

use earlybird::vgpu::ir::Isa;
use earlybird::vgpu::lower::forms::forms;

use crate::machine::{Machine, instr};
use crate::{Kind, Want, reference};

/// Every spelling with one source of at most 16 bits, on all of its values.
#[test]
fn one_source_of_sixteen_bits() {
    let mut count = 0;
    for form in forms() {
        for spelling in form.spellings() {
            let Some(case) = reference(&spelling) else { continue };
            if case.src != [Kind::Bits(16)] || form.base == "ex2" || form.base == "tanh" {
                continue;
            }
            count += 1;
            let mut m = Machine::new(Isa::detect());
            m.reg("d", case.dst[0], &[0; 32]);
            m.reg("s", Kind::Bits(16), &[0; 32]);
            let code = m.lower(&instr(&format!("{spelling} d, s"))).unwrap();
            // Bytes first, then every 16-bit value; a byte's upper half is ignored, so 8-bit sources need no more.
            let end = if spelling.ends_with("8") { 0x400 } else { 0x1_0000 };
            for first in (0..end as u128).step_by(32) {
                m.set("s", &std::array::from_fn(|l| first + l as u128));
                m.run(&code, u32::MAX);
                for (lane, got) in m.get("d").into_iter().enumerate() {
                    let source = first as u64 + lane as u64;
                    assert_eq!(Want::Exact(got as u64), (case.eval)(&[source])[0], "{spelling} of {source:#x}");
                }
            }
        }
    }
    assert!(count > 100, "{count}");
}
