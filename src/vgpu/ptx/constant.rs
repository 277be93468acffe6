//! Constant expressions (PTX ISA, "Constant Expressions"): literals, casts, and C's operators over `.s64`, `.u64` and `.f64`.

use super::ast::Imm;
use super::lex::{self, Kind};
use super::parse::{Parser, Result};

/// A value while its expression is read. The ISA's table of types: integers are `.s64` unless they say otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Value {
    S(i64),
    U(u64),
    F(f64),
    /// `0f..` stands alone: it takes part in no expression but a sign.
    F32(u32),
    /// As `0d..`, whose bits (of a NaN too) must survive.
    F64(u64),
}

/// Operators of two operands, loosest first.
#[derive(Clone, Copy, PartialEq)]
enum Op {
    Or,
    And,
    BitOr,
    BitXor,
    BitAnd,
    Eq,
    Ne,
    Lt,
    Gt,
    Le,
    Ge,
    Shl,
    Shr,
    Add,
    Sub,
    Mul,
    Div,
    Rem,
}

impl Op {
    fn level(self) -> u8 {
        match self {
            Op::Or => 1,
            Op::And => 2,
            Op::BitOr => 3,
            Op::BitXor => 4,
            Op::BitAnd => 5,
            Op::Eq | Op::Ne => 6,
            Op::Lt | Op::Gt | Op::Le | Op::Ge => 7,
            Op::Shl | Op::Shr => 8,
            Op::Add | Op::Sub => SUM,
            Op::Mul | Op::Div | Op::Rem => 10,
        }
    }

    fn of(kind: Kind) -> Option<Op> {
        Some(match kind {
            Kind::Punct2(b'|', _) => Op::Or,
            Kind::Punct2(b'&', _) => Op::And,
            Kind::Punct(b'|') => Op::BitOr,
            Kind::Punct(b'^') => Op::BitXor,
            Kind::Punct(b'&') => Op::BitAnd,
            Kind::Punct2(b'=', _) => Op::Eq,
            Kind::Punct2(b'!', _) => Op::Ne,
            Kind::Punct(b'<') => Op::Lt,
            Kind::Punct(b'>') => Op::Gt,
            Kind::Punct2(b'<', b'=') => Op::Le,
            Kind::Punct2(b'>', b'=') => Op::Ge,
            Kind::Punct2(b'<', _) => Op::Shl,
            Kind::Punct2(b'>', _) => Op::Shr,
            Kind::Punct(b'+') => Op::Add,
            Kind::Punct(b'-') => Op::Sub,
            Kind::Punct(b'*') => Op::Mul,
            Kind::Punct(b'/') => Op::Div,
            Kind::Punct(b'%') => Op::Rem,
            _ => return None,
        })
    }
}

/// The level of `+`: what a count between `<` and `>` may hold.
const SUM: u8 = 9;

/// Why a value cannot be computed.
type Fault = &'static str;

impl Value {
    fn float(self) -> Option<f64> {
        match self {
            Value::F(f) => Some(f),
            Value::F64(bits) => Some(f64::from_bits(bits)),
            _ => None,
        }
    }

    fn bits(self) -> std::result::Result<u64, Fault> {
        match self {
            Value::S(v) => Ok(v as u64),
            Value::U(v) => Ok(v),
            _ => Err("this operator takes integers only"),
        }
    }

    fn truth(self) -> std::result::Result<bool, Fault> {
        self.bits().map(|v| v != 0)
    }

    fn unary(self, op: u8) -> std::result::Result<Value, Fault> {
        Ok(match (op, self) {
            (b'+', v) => v,
            (b'-', Value::S(v)) => Value::S(v.wrapping_neg()),
            (b'-', Value::U(v)) => Value::U(v.wrapping_neg()),
            (b'-', Value::F(v)) => Value::F(-v),
            (b'-', Value::F32(v)) => Value::F32(v ^ 1 << 31),
            (b'-', Value::F64(v)) => Value::F64(v ^ 1 << 63),
            (b'!', v) => Value::S((!v.truth()?).into()),
            (_, v) => Value::U(!v.bits()?),
        })
    }

    fn binary(self, op: Op, other: Value) -> std::result::Result<Value, Fault> {
        let (a, b) = (self, other);
        if let (Some(x), Some(y)) = (a.float(), b.float()) {
            return Value::floats(x, op, y);
        }
        if matches!(a, Value::F32(_)) || matches!(b, Value::F32(_)) {
            return Err("a 0f constant stands alone, it takes part in no expression");
        }
        if a.float().is_some() || b.float().is_some() {
            return Err("an expression mixes integers and floats");
        }
        let (x, y) = (a.bits()?, b.bits()?);
        let signed = matches!((a, b), (Value::S(_), Value::S(_)));
        let (sx, sy) = (x as i64, y as i64);
        let usual = |v: u64| if signed { Value::S(v as i64) } else { Value::U(v) };
        let order = if signed { sx.cmp(&sy) } else { x.cmp(&y) };
        let shift = |shifted: u64| if matches!(a, Value::S(_)) { Value::S(shifted as i64) } else { Value::U(shifted) };
        Ok(match op {
            Op::Or => Value::S((x != 0 || y != 0).into()),
            Op::And => Value::S((x != 0 && y != 0).into()),
            Op::BitOr => Value::U(x | y),
            Op::BitXor => Value::U(x ^ y),
            Op::BitAnd => Value::U(x & y),
            Op::Eq => Value::S(order.is_eq().into()),
            Op::Ne => Value::S(order.is_ne().into()),
            Op::Lt => Value::S(order.is_lt().into()),
            Op::Gt => Value::S(order.is_gt().into()),
            Op::Le => Value::S(order.is_le().into()),
            Op::Ge => Value::S(order.is_ge().into()),
            Op::Shl => shift(if y < 64 { x << y } else { 0 }),
            Op::Shr if matches!(a, Value::S(_)) => Value::S(sx >> y.min(63)),
            Op::Shr => shift(if y < 64 { x >> y } else { 0 }),
            Op::Add => usual(x.wrapping_add(y)),
            Op::Sub => usual(x.wrapping_sub(y)),
            Op::Mul => usual(x.wrapping_mul(y)),
            Op::Div | Op::Rem if y == 0 => return Err("a constant expression divides by zero"),
            Op::Div if signed => Value::S(sx.wrapping_div(sy)),
            Op::Div => Value::U(x / y),
            Op::Rem => Value::S((x % y) as i64),
        })
    }

    fn floats(x: f64, op: Op, y: f64) -> std::result::Result<Value, Fault> {
        Ok(match op {
            Op::Add => Value::F(x + y),
            Op::Sub => Value::F(x - y),
            Op::Mul => Value::F(x * y),
            Op::Div => Value::F(x / y),
            Op::Eq => Value::S((x == y).into()),
            Op::Ne => Value::S((x != y).into()),
            Op::Lt => Value::S((x < y).into()),
            Op::Gt => Value::S((x > y).into()),
            Op::Le => Value::S((x <= y).into()),
            Op::Ge => Value::S((x >= y).into()),
            _ => return Err("this operator takes integers only"),
        })
    }
}

impl Parser<'_> {
    /// Whether the present token starts a constant rather than a name.
    pub fn at_constant(&self) -> bool {
        match self.kind() {
            Kind::Int | Kind::F32 | Kind::F64 => true,
            Kind::Ident => self.word() == "WARP_SZ",
            Kind::Punct(b) => b"+-!~(".contains(&b),
            _ => false,
        }
    }

    /// A constant expression; `what` names it in errors.
    pub fn constant(&mut self, what: &str) -> Result<Imm> {
        Ok(match self.ternary(what)? {
            Value::S(v) => Imm::Int(v),
            Value::U(v) => Imm::Int(v as i64),
            Value::F(v) => Imm::F64(v.to_bits()),
            Value::F32(bits) => Imm::F32(bits),
            Value::F64(bits) => Imm::F64(bits),
        })
    }

    /// A constant expression that is an integer.
    pub fn constant_integer(&mut self, what: &str) -> Result<i64> {
        let pos = self.pos();
        match self.constant(what)? {
            Imm::Int(v) => Ok(v),
            _ => Err(super::ParseError::new(pos, format!("expected {what}, found a float"), "")),
        }
    }

    /// A count between `<` and `>`.
    pub fn count(&mut self, what: &str) -> Result<u32> {
        let pos = self.pos();
        let fits = |v: Value| v.bits().ok().and_then(|v| u32::try_from(v).ok());
        let value = self.binary(SUM, what)?;
        fits(value).ok_or_else(|| super::ParseError::new(pos, format!("{what} does not fit in 32 bits"), ""))
    }

    fn ternary(&mut self, what: &str) -> Result<Value> {
        self.nested(|p| {
            let condition = p.binary(1, what)?;
            if !p.take(b'?') {
                return Ok(condition);
            }
            let pos = p.pos();
            let yes = p.ternary(what)?;
            p.expect(b':', "of a conditional expression")?;
            let no = p.ternary(what)?;
            let fault = |fault: Fault| super::ParseError::new(pos, fault, "");
            let both_float = yes.float().is_some() && no.float().is_some();
            if both_float {
                return Ok(if condition.truth().map_err(fault)? { yes } else { no });
            }
            let signed = matches!((yes, no), (Value::S(_), Value::S(_)));
            let (a, b) = (yes.bits().map_err(fault)?, no.bits().map_err(fault)?);
            let chosen = if condition.truth().map_err(fault)? { a } else { b };
            Ok(if signed { Value::S(chosen as i64) } else { Value::U(chosen) })
        })
    }

    fn binary(&mut self, level: u8, what: &str) -> Result<Value> {
        let mut left = self.unary(what)?;
        while let Some(op) = Op::of(self.kind()).filter(|op| op.level() >= level) {
            let pos = self.pos();
            self.next();
            let right = self.binary(op.level() + 1, what)?;
            left = left.binary(op, right).map_err(|fault| super::ParseError::new(pos, fault, ""))?;
        }
        Ok(left)
    }

    fn unary(&mut self, what: &str) -> Result<Value> {
        let pos = self.pos();
        let token = self.token(0);
        match token.kind {
            Kind::Punct(op @ (b'+' | b'-' | b'!' | b'~')) => {
                self.next();
                let value = self.nested(|p| p.unary(what))?;
                value.unary(op).map_err(|fault| super::ParseError::new(pos, fault, ""))
            }
            Kind::Punct(b'(') => self.parenthesis(what),
            Kind::Int => {
                let Some((value, unsigned)) = lex::integer(self.slice(token)) else {
                    return self.fail("this integer does not fit in 64 bits", "");
                };
                self.next();
                Ok(if unsigned { Value::U(value) } else { Value::S(value as i64) })
            }
            Kind::F32 | Kind::F64 => {
                self.next();
                Ok(float(self.slice(token)))
            }
            Kind::Ident if self.word() == "WARP_SZ" => {
                self.next();
                Ok(Value::S(32))
            }
            _ => self.expected(what),
        }
    }

    /// `( .. )`, or a cast `(.s64) ..`.
    fn parenthesis(&mut self, what: &str) -> Result<Value> {
        let pos = self.pos();
        self.next();
        let unsigned = match (self.kind(), self.word()) {
            (Kind::Dot, ".s64") => Some(false),
            (Kind::Dot, ".u64") => Some(true),
            _ => None,
        };
        let Some(unsigned) = unsigned else {
            let value = self.ternary(what)?;
            self.expect(b')', "after an expression")?;
            return Ok(value);
        };
        self.next();
        self.expect(b')', "after the type of a cast")?;
        let value = self.nested(|p| p.unary(what))?;
        let bits = value.bits().map_err(|fault| super::ParseError::new(pos, fault, ""))?;
        Ok(if unsigned { Value::U(bits) } else { Value::S(bits as i64) })
    }
}

/// A float token. The lexer has checked its form.
fn float(text: &str) -> Value {
    let hex = |digits: &str| u64::from_str_radix(digits, 16).unwrap_or_default();
    match text.as_bytes() {
        [b'0', b'f' | b'F', ..] => Value::F32(hex(&text[2..]) as u32),
        [b'0', b'd' | b'D', ..] => Value::F64(hex(&text[2..])),
        _ => Value::F(text.parse().unwrap_or_default()),
    }
}
