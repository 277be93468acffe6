//! Reference of `mov` between registers; packing and unpacking are in the tests below.

use crate::machine::{Machine, instr};
use crate::{Case, Kind, width};
use earlybird::vgpu::ir::Isa;

pub fn case(op: &[&str]) -> Option<Case> {
    let w = if op[0] == "mov" { width(op.last()?) } else { return None };
    (w <= 64).then(|| Case::new(&[w], &[w], |v| v[0]))
}

/// Packs and unpacks every shape: part `i` is the `i`-th lowest.
#[test]
fn vectors_pack_and_unpack_lowest_first() {
    for isa in [Isa::Base, Isa::Avx2] {
        for (whole, n) in [(16, 2), (32, 2), (32, 4), (64, 2), (64, 4), (128, 2), (128, 4)] {
            let each = whole / n;
            let mut m = Machine::new(isa);
            let full = |lane: usize| 0x0123_4567_89ab_cdef_fedc_ba98_7654_3210u128.rotate_left(7 * lane as u32);
            let keep = |v: u128, w: u32| if w == 128 { v } else { v & ((1 << w) - 1) };
            m.reg("w", Kind::Bits(whole), &std::array::from_fn(|l| keep(full(l), whole)));
            m.reg("back", Kind::Bits(whole), &[0; 32]);
            let names: Vec<String> = (0..n).map(|i| format!("p{i}")).collect();
            for name in &names {
                m.reg(name, Kind::Bits(each), &[0; 32]);
            }
            let list = names.join(", ");
            let code = m.lower(&instr(&format!("mov.b{whole} {{{list}}}, w"))).unwrap();
            m.run(&code, u32::MAX);
            for (i, name) in names.iter().enumerate() {
                let want: [u128; 32] = std::array::from_fn(|l| keep(keep(full(l), whole) >> (each * i as u32), each));
                assert_eq!(m.get(name), want, "b{whole} part {i}");
            }
            let code = m.lower(&instr(&format!("mov.b{whole} back, {{{list}}}"))).unwrap();
            m.run(&code, 0x0f0f_0f0f);
            let want = std::array::from_fn(|l| if 0x0f0f_0f0f >> l & 1 == 1 { keep(full(l), whole) } else { 0 });
            assert_eq!(m.get("back"), want, "b{whole}");
        }
    }
}

#[test]
fn a_sink_takes_a_part_that_nobody_wants() {
    let mut m = Machine::new(Isa::detect());
    m.reg("w", Kind::Bits(64), &[0x1111_2222_3333_4444; 32]);
    m.reg("hi", Kind::Bits(32), &[0; 32]);
    let code = m.lower(&instr("mov.b64 {_, hi}, w")).unwrap();
    m.run(&code, u32::MAX);
    assert_eq!(m.get("hi"), [0x1111_2222; 32]);
}

#[test]
fn one_element_vectors_are_their_element() {
    let mut m = Machine::new(Isa::detect());
    m.reg("a", Kind::Bits(32), &[7; 32]);
    m.reg("d", Kind::Bits(32), &[0; 32]);
    let code = m.lower(&instr("mov.b32 d, {a}")).unwrap();
    m.run(&code, u32::MAX);
    assert_eq!(m.get("d"), [7; 32]);
}

#[test]
fn wrong_shapes_are_errors() {
    let mut m = Machine::new(Isa::detect());
    m.reg("w", Kind::Bits(64), &[0; 32]);
    m.reg("a", Kind::Bits(32), &[0; 32]);
    for text in ["mov.b64 w, {a, a, a}", "mov.u64 w, {a, a}", "mov.b64 {a, a}, {a, a}", "mov.b32 a, w", "mov.b64 w"] {
        assert!(m.lower(&instr(text)).is_err(), "{text}");
    }
}
