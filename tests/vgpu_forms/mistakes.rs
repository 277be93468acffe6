//! What other emulators got wrong, one test each, and what the table refuses.

use crate::Case;
use crate::exact::F32;
use crate::floats::extreme;
use crate::machine::{Machine, instr};
use crate::{Kind, Want};
use earlybird::vgpu::ir::Isa;

/// Runs `text` on one set of operands `s0`, `s1`.. (bits, value), result `d` of `width` bits.
pub fn run(text: &str, width: u32, sources: &[(u32, u64)]) -> u64 {
    let results = [Isa::Base, Isa::detect()].map(|isa| {
        let mut m = Machine::new(isa);
        let kind = |w: u32| if w == 1 { Kind::Pred } else { Kind::Bits(w) };
        m.reg("d", kind(width), &[0; 32]);
        for (i, (w, v)) in sources.iter().enumerate() {
            m.reg(&format!("s{i}"), kind(*w), &[u128::from(*v); 32]);
        }
        let code = m.lower(&instr(text)).unwrap();
        m.run(&code, u32::MAX);
        let d = m.get("d");
        assert!(d.iter().all(|v| *v == d[0]), "{text}: lanes differ");
        d[0] as u64
    });
    assert_eq!(results[0], results[1], "{text}: builds differ");
    results[0]
}

/// The three-operand minima: the rule for two, twice.
pub fn three_operands(spelling: &str) -> Case {
    let op: Vec<&str> = spelling.split('.').collect();
    let (max, nan, abs) = (op[0] == "max", op.contains(&"NaN"), op.contains(&"abs"));
    let ftz = op.contains(&"ftz");
    Case::many(&[32], &[32, 32, 32], move |v| {
        let read = |b: u64| {
            let b = if abs { b & 0x7fff_ffff } else { b };
            if ftz { F32.flush(b) } else { b }
        };
        let first = extreme(F32, max, nan, false, read(v[0]), read(v[1]));
        vec![Want::Exact(extreme(F32, max, nan, false, first, read(v[2])))]
    })
}

const ONE: u64 = 0x3f80_0000;

#[test]
fn fma_is_rounded_once() {
    let a = u64::from((1.0f32 + 1.0 / 4096.0).to_bits());
    let c = u64::from(f32::from_bits(47 << 23).to_bits()); // 2^-80
    assert_eq!(run("fma.rn.f32 d, s0, s1, s2", 32, &[(32, a), (32, a), (32, c)]), 0x3f80_1001);
    // The exact sum lies between two numbers.
    let tie = u64::from((1.0f32 + 2f32.powi(-12)).to_bits());
    let far = u64::from(2f32.powi(-30).to_bits());
    assert_ne!(
        run("fma.rm.f32 d, s0, s1, s2", 32, &[(32, tie), (32, tie), (32, far)]),
        run("fma.rp.f32 d, s0, s1, s2", 32, &[(32, tie), (32, tie), (32, far)])
    );
}

#[test]
fn directed_roundings_differ_from_nearest() {
    let (one, tiny) = ((32, ONE), (32, 1));
    assert_eq!(run("add.rp.f32 d, s0, s1", 32, &[one, tiny]), ONE + 1);
    assert_eq!(run("add.rm.f32 d, s0, s1", 32, &[one, tiny]), ONE);
    assert_eq!(run("sub.rm.f32 d, s0, s1", 32, &[one, tiny]), ONE - 1);
    assert_eq!(run("sub.rz.f32 d, s0, s1", 32, &[one, tiny]), ONE - 1);
    assert_eq!(run("mul.rz.f32 d, s0, s1", 32, &[(32, 0x7f7f_ffff), (32, 0x7f7f_ffff)]), 0x7f7f_ffff);
    assert_eq!(run("sub.rm.f32 d, s0, s1", 32, &[one, one]), 0x8000_0000);
    assert_eq!(run("cvt.rz.f32.s32 d, s0", 32, &[(32, 0x7fff_ffff)]), 0x4eff_ffff);
    assert_eq!(run("cvt.rp.f32.s32 d, s0", 32, &[(32, 0x0100_0001)]), 0x4b80_0001);
    assert_eq!(run("cvt.rn.f32.u64 d, s0", 32, &[(64, 0x0080_0000_8000_0001)]), 0x5b00_0001);
}

#[test]
fn ftz_is_per_instruction_and_keeps_the_sign() {
    assert_eq!(run("add.ftz.f32 d, s0, s1", 32, &[(32, 0x8000_0001), (32, 0x8000_0001)]), 0x8000_0000);
    assert_eq!(run("add.f32 d, s0, s1", 32, &[(32, 0x8000_0001), (32, 0x8000_0001)]), 0x8000_0002);
    assert_eq!(run("mul.ftz.f32 d, s0, s1", 32, &[(32, 0x0080_0000), (32, 0xbf00_0000)]), 0x8000_0000);
    assert_eq!(run("ex2.approx.f32 d, s0", 32, &[(32, 1)]), ONE);
}

#[test]
fn fields_at_and_beyond_the_top() {
    for (text, operands, want) in [
        ("bfe.u32 d, s0, s1, s2", [0x8765_4321, 0, 32], 0x8765_4321),
        ("bfe.s32 d, s0, s1, s2", [0x8765_4321, 4, 4], 0x2),
        ("bfe.s32 d, s0, s1, s2", [0x8765_4321, 28, 8], 0xffff_fff8),
        ("bfe.s32 d, s0, s1, s2", [0x8765_4321, 40, 8], 0xffff_ffff),
        ("bfe.u32 d, s0, s1, s2", [0x8765_4321, 40, 8], 0),
        ("bfe.s32 d, s0, s1, s2", [0x8765_4321, 3, 0], 0),
        ("bfe.u32 d, s0, s1, s2", [0x8765_4321, 256, 8], 0x21),
    ] {
        let sources = operands.map(|v| (32, v));
        assert_eq!(run(text, 32, &sources), want, "{text} {operands:x?}");
    }
    assert_eq!(run("bfe.u64 d, s0, s1, s2", 64, &[(64, u64::MAX), (32, 20), (32, 40)]), (1 << 40) - 1);
    assert_eq!(run("bfi.b64 d, s0, s1, s2, s3", 64, &[(64, 0xff), (64, 0), (32, 60), (32, 8)]), 0xf << 60);
    assert_eq!(run("bfi.b64 d, s0, s1, s2, s3", 64, &[(64, 1), (64, 0), (32, 33), (32, 1)]), 1 << 33);
    assert_eq!(run("bfind.u32 d, s0", 32, &[(32, 0)]), 0xffff_ffff);
}

#[test]
fn products_are_as_wide_as_they_say() {
    assert_eq!(run("mad.hi.u32 d, s0, s1, s2", 32, &[(32, u32::MAX as u64); 3]), 0xffff_fffd);
    assert_eq!(run("mul.wide.s32 d, s0, s1", 64, &[(32, 0x8000_0000), (32, 0x8000_0000)]), 1 << 62);
    assert_eq!(run("mul.hi.u64 d, s0, s1", 64, &[(64, u64::MAX), (64, u64::MAX)]), u64::MAX - 1);
}

#[test]
fn prmt_replicates_signs() {
    assert_eq!(run("prmt.b32 d, s0, s1, s2", 32, &[(32, 0x807f_0080), (32, 0), (32, 0xba98)]), 0xff00_00ff);
}

#[test]
fn selections_obey_a_negated_predicate() {
    assert_eq!(run("selp.b32 d, s0, s1, !s2", 32, &[(32, 1), (32, 2), (1, 1)]), 2);
    assert_eq!(run("selp.b64 d, s0, s1, !s2", 64, &[(64, 1), (64, 2), (1, 0)]), 1);
    assert_eq!(run("setp.eq.and.u32 d, s0, s1, !s2", 1, &[(32, 1), (32, 1), (1, 1)]), 0);
    assert_eq!(run("mov.pred d, 1", 1, &[]), 1);
    assert_eq!(run("mov.pred d, !s0", 1, &[(1, 1)]), 0);
}

#[test]
fn division_by_zero_does_not_trap() {
    for ty in ["u16", "s16", "u32", "s32", "u64", "s64"] {
        let w: u32 = ty[1..].parse().unwrap();
        for op in ["div", "rem"] {
            let text = format!("{op}.{ty} d, s0, s1");
            assert_eq!(run(&text, w, &[(w, 5), (w, 0)]), u64::MAX >> (64 - w), "{text}");
        }
    }
    assert_eq!(run("div.s32 d, s0, s1", 32, &[(32, 0x8000_0000), (32, 0xffff_ffff)]), 0x8000_0000);
    assert_eq!(run("rem.s32 d, s0, s1", 32, &[(32, 0x8000_0000), (32, 0xffff_ffff)]), 0);
}

#[test]
fn every_table_of_lop3() {
    let (a, b, c) = (0xf0f0_aa55u64, 0xcccc_3c3c, 0xaaaa_0ff0);
    for table in 0..256u64 {
        let want =
            (0..32).fold(0, |d, i| d | (table >> ((a >> i & 1) << 2 | (b >> i & 1) << 1 | (c >> i & 1)) & 1) << i);
        let text = format!("lop3.b32 d, s0, s1, s2, {table}");
        assert_eq!(run(&text, 32, &[(32, a), (32, b), (32, c)]), want, "{table:#x}");
    }
}

#[test]
fn a_signed_byte_is_extended_to_its_register() {
    assert_eq!(run("cvt.s8.s32 d, s0", 16, &[(32, 0x80)]), 0xff80);
    assert_eq!(run("cvt.s8.s32 d, s0", 32, &[(32, 0x80)]), 0xffff_ff80);
    assert_eq!(run("cvt.s8.s32 d, s0", 64, &[(32, 0x80)]), 0xffff_ffff_ffff_ff80);
    assert_eq!(run("cvt.u8.s32 d, s0", 32, &[(32, 0xfff_ff80)]), 0x80);
    assert_eq!(run("cvt.rni.s8.f32 d, s0", 16, &[(32, 0xc300_8000)]), 0xff80);
    assert_eq!(run("cvt.rni.s8.f32 d, s0", 32, &[(32, 0xc300_8000)]), 0xffff_ff80);
    assert_eq!(run("cvt.s32.s16 d, s0", 32, &[(32, 0xdead_8000)]), 0xffff_8000);
    assert_eq!(run("cvt.sat.s8.s32 d, s0", 32, &[(32, 0xffff_0000)]), 0xffff_ff80);
}

#[test]
fn the_first_source_of_a_packed_conversion_is_the_upper_half() {
    assert_eq!(run("cvt.rn.f16x2.f32 d, s0, s1", 32, &[(32, ONE), (32, 0)]), 0x3c00_0000);
}

#[test]
fn minima_order_zeros_and_prefer_numbers() {
    let (zero, minus, nan) = (0, 0x8000_0000, 0x7fc0_0000);
    assert_eq!(run("min.f32 d, s0, s1", 32, &[(32, zero), (32, minus)]), minus);
    assert_eq!(run("max.f32 d, s0, s1", 32, &[(32, minus), (32, zero)]), zero);
    assert_eq!(run("max.f32 d, s0, s1", 32, &[(32, nan), (32, minus)]), minus);
    assert_eq!(run("max.NaN.f32 d, s0, s1", 32, &[(32, nan), (32, minus)]), 0x7fff_ffff);
}

#[test]
fn what_ptxas_refuses_is_refused() {
    let mut m = Machine::new(Isa::detect());
    for (name, w) in [("h", 16), ("r", 32), ("d", 64)] {
        m.reg(name, Kind::Bits(w), &[0; 32]);
    }
    m.reg("p", Kind::Pred, &[0; 32]);
    for text in [
        "add.sat.u32 r, r, r",
        "mul.wide.u64 d, d, d",
        "mul.u32 r, r, r",
        "mad.lo.sat.s32 r, r, r, r",
        "fma.f32 r, r, r, r",
        "div.f32 r, r, r",
        "sqrt.f32 r, r",
        "ex2.f32 r, r",
        "neg.u32 r, r",
        "shl.u32 r, r, r",
        "shf.l.b32 r, r, r, r",
        "add.cc.u16 h, h, h",
        "add.f32.f32 r, r, r",
        "add.rz.f16 h, h, h",
        "fma.rn.sat.relu.f16 h, h, h, h",
        "set.lt.f32.b32 r, r, r",
        "set.eq.u16.u16 h, h, h",
        "setp.eq.ftz.bf16 p, h, h",
        "setp.lo.s32 p, r, r",
        "slct.ftz.f32.s32 r, r, r, r",
        "cvt.f32.s32 r, r",
        "cvt.s32.f32 r, r",
        "cvt.sat.u32.u16 r, h",
        "cvt.rn.s32.s32 r, r",
        "cvt.rn.e4m3x2.f32 h, r, r",
        "cvt.rn.ftz.relu.f16.f32 h, r",
        "lop3.b32 r, r, r, r, 256",
        "add.u32 r, r",
        "add.u32 r, r, r, r",
        "add.u32 r, r, d",
        "min.relu.u16x2 r, r, r",
        "tanh.approx.ftz.f32 r, r",
        "ex2.approx.bf16 h, h",
        "min.abs.f32 r, r, r",
        "add.rn.rz.f32 r, r, r",
        "fma.rn.oob.f16 h, h, h, h",
        "vadd.s32.s32.s32 r, r, r",
        "cvt.rs.f16x2.f32 r, r, r, r",
        "add.rn.f32.f16 r, h, r",
    ] {
        assert!(m.lower(&instr(text)).is_err(), "{text} was accepted");
    }
    let unsupported = m.lower(&instr("fma.rn.oob.f16 h, h, h, h")).err().unwrap();
    assert!(unsupported.unsupported && unsupported.to_string().contains("fma.rn.oob.f16"), "{unsupported}");
    let wrong = m.lower(&instr("add.u32 r, r")).err().unwrap();
    assert!(!wrong.unsupported && wrong.to_string().contains("3 operands, not 2"), "{wrong}");
}

#[test]
fn modifiers_may_come_in_any_order() {
    assert_eq!(run("add.f32.ftz.rp d, s0, s1", 32, &[(32, ONE), (32, 0x0080_0000)]), ONE + 1);
    assert_eq!(run("cvt.f64.bf16.rp d, s0", 64, &[(16, 0x3f80)]), 0x3ff0 << 48);
}
