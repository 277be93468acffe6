//! Constant expressions, by the ISA's table of operators and types.

use earlybird::vgpu::ptx::ast::{Imm, Operand, Stmt};
use earlybird::vgpu::ptx::parse;

fn value(expression: &str) -> Result<Imm, String> {
    let text = format!(".version 8.4\n.target sm_80\n.entry k() {{ mov.u64 %r1, {expression}; }}");
    let module = parse(&text).map_err(|e| e.what)?;
    match &module.funcs[0].body.as_ref().unwrap()[0] {
        Stmt::Instr(instr) => match &instr.operands[1] {
            Operand::Imm(imm) => Ok(*imm),
            other => Err(format!("{other:?}")),
        },
        other => Err(format!("{other:?}")),
    }
}

fn int(expression: &str) -> i64 {
    match value(expression) {
        Ok(Imm::Int(v)) => v,
        other => panic!("{expression}: {other:?}"),
    }
}

#[test]
fn literals() {
    assert_eq!(int("0"), 0);
    assert_eq!(int("10U"), 10);
    assert_eq!(int("0x1F"), 31);
    assert_eq!(int("0X1fU"), 31);
    assert_eq!(int("017"), 15);
    assert_eq!(int("0b101"), 5);
    assert_eq!(int("0B11U"), 3);
    assert_eq!(int("18446744073709551615"), -1);
    assert_eq!(int("-9223372036854775808"), i64::MIN);
    assert_eq!(int("WARP_SZ"), 32);
    assert_eq!(value("0f3f800000"), Ok(Imm::F32(0x3f80_0000)));
    assert_eq!(value("0F3F800000"), Ok(Imm::F32(0x3f80_0000)));
    assert_eq!(value("-0f3f800000"), Ok(Imm::F32(0xbf80_0000)));
    assert_eq!(value("0d3FF0000000000000"), Ok(Imm::F64(1f64.to_bits())));
    assert_eq!(value("0dFFF8000000000001"), Ok(Imm::F64(0xfff8_0000_0000_0001)), "the bits of a NaN stay");
    for (text, number) in [("1.5", 1.5), (".5", 0.5), ("5.", 5.0), ("5.e1", 50.0), ("1e5", 1e5), ("1.5e-05", 1.5e-5)] {
        assert_eq!(value(text), Ok(Imm::F64(f64::to_bits(number))), "{text}");
    }
    assert_eq!(value("-1.5"), Ok(Imm::F64((-1.5f64).to_bits())));
    assert_eq!(value("-0.0"), Ok(Imm::F64((-0.0f64).to_bits())));
}

#[test]
fn precedence_is_that_of_c() {
    assert_eq!(int("1+2*3"), 7);
    assert_eq!(int("(1+2)*3"), 9);
    assert_eq!(int("10-4-3"), 3);
    assert_eq!(int("1<<3>>1"), 4);
    assert_eq!(int("1|2^3&6"), 1, "1 | (2 ^ (3 & 6))");
    assert_eq!(int("1+1==2&&3<4"), 1);
    assert_eq!(int("0||0"), 0);
    assert_eq!(int("1 ? 2 : 0 ? 3 : 4"), 2);
    assert_eq!(int("0 ? 2 : 0 ? 3 : 4"), 4);
    assert_eq!(int("5 - - 2"), 7);
    assert_eq!(int("-5 / 2"), -2);
    assert_eq!(int("~0 >> 60"), 15, "~ gives .u64");
    assert_eq!(int("!5"), 0);
    assert_eq!(int("!0 + 1"), 2);
    assert_eq!(int("WARP_SZ*2-1"), 63);
    assert_eq!(int("7 >= 7"), 1);
    assert_eq!(int("7 != 7"), 0);
}

#[test]
fn integers_are_s64_until_one_says_otherwise() {
    assert_eq!(int("-1 < 0"), 1);
    assert_eq!(int("-1 < 0U"), 0);
    assert_eq!(int("-8 / 2U"), ((-8i64) as u64 / 2) as i64);
    assert_eq!(int("-8 >> 1"), -4);
    assert_eq!(int("(.u64)-8 >> 1"), ((-8i64) as u64 >> 1) as i64);
    assert_eq!(int("(.s64)(.u64)-8 >> 1"), -4);
    assert_eq!(int("1 << 64"), 0);
    assert_eq!(int("-1 >> 200"), -1);
    assert_eq!(int("9223372036854775807 + 1"), i64::MIN, "wraps");
    assert_eq!(int("-9223372036854775807 - 1"), i64::MIN);
    assert_eq!(int("(.s64)0x8000000000000000 / -1"), i64::MIN, "no trap");
    assert_eq!(int("-7 % 4"), ((-7i64) as u64 % 4) as i64, "% reads .u64");
    assert_eq!(int("1.5 < 2.5"), 1);
    assert_eq!(value("1.5 + 2.0 * 2.0"), Ok(Imm::F64(5.5f64.to_bits())));
    assert_eq!(value("1 ? 1.5 : 2.5"), Ok(Imm::F64(1.5f64.to_bits())));
}

#[test]
fn what_is_no_expression() {
    for (text, why) in [
        ("1/0", "divides by zero"),
        ("1 % 0U", "divides by zero"),
        ("1.0+2", "mixes"),
        ("0f3f800000+0f3f800000", "stands alone"),
        ("1.0 & 2.0", "integers only"),
        ("~1.0", "integers only"),
        ("99999999999999999999999", "64 bits"),
        ("0xFFFFFFFFFFFFFFFFF", "64 bits"),
        ("099", "octal"),
        ("0x", "hexadecimal"),
        ("0b12", "binary"),
        ("12ab", "decimal"),
        ("10u", "decimal"),
        ("1.5F", "letter"),
        ("1e", "exponent"),
        ("0f3f8", "8 hexadecimal digits"),
        ("0d3f800000", "16 hexadecimal digits"),
        ("(1", "`)`"),
        ("1 ? 2", "`:`"),
        ("1 +", "expected an operand"),
    ] {
        let error = value(text).expect_err(text);
        assert!(error.contains(why), "{text}: {error}");
    }
}
