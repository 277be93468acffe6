//! A product of matrices in plain sight: elements are laid into registers by the ISA's maps, D is read back by them, and what it must be is computed from the
//! matrices alone.

use earlybird::vgpu::exec::mma::{Acc, Elem, Form, describe};
use earlybird::vgpu::ir::{Isa, MmaMode};

use super::fragments;
use super::machine::{Machine, mma_text, names};
use super::numbers::{Draw, Num, Random, draw, draw_sum, element, exponent, sum};

/// Raw bits of the operands: A by rows, B by rows of K, C by rows. Four products of `m8n8k4` of f16, one of every other form.
#[derive(Clone)]
pub struct Operands {
    pub a: Vec<Vec<u64>>,
    pub b: Vec<Vec<u64>>,
    pub c: Vec<Vec<u64>>,
}

pub fn random(form: &Form, how: Draw, random: &mut Random) -> Vec<Operands> {
    let mut one = || {
        let mut matrix = |rows: usize, columns: usize, mut of: Box<dyn FnMut(&mut Random) -> u64>| {
            (0..rows).map(|_| (0..columns).map(|_| of(random)).collect()).collect()
        };
        let (a, b, c) = (form.a, form.b, form.c);
        Operands {
            a: matrix(form.m, form.k, Box::new(move |r| draw(a, how, r))),
            b: matrix(form.k, 8, Box::new(move |r| draw(b, how, r))),
            c: matrix(form.m, 8, Box::new(move |r| draw_sum(c, how, r))),
        }
    };
    (0..if form.quads() { 4 } else { 1 }).map(|_| one()).collect()
}

/// Puts `elements` of `bits` each into registers: the first one lowest.
fn pack(bits: usize, elements: &[u64]) -> Vec<u64> {
    let register = if bits == 64 { 64 } else { 32 };
    let one = |chunk: &[u64]| chunk.iter().rev().fold(0, |all, &x| if bits == 64 { x } else { all << bits | x });
    elements.chunks(register / bits).map(one).collect()
}

fn unpack(bits: usize, registers: &[u64]) -> Vec<u64> {
    let mask = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
    let register = if bits == 64 { 64 } else { 32 };
    registers.iter().flat_map(|r| (0..register / bits).map(move |i| r >> (i * bits) & mask)).collect()
}

fn acc_bits(acc: Acc) -> usize {
    [32, 16, 32, 64][acc as usize]
}

type Map = Box<dyn Fn(usize, usize) -> (usize, usize)>;

/// The maps of A, B, C and D, and elements per lane.
fn maps(form: Form) -> [(Map, usize); 4] {
    if form.quads() {
        return [
            (Box::new(move |l, i| fragments::quad_a(&form, l, i)), 4),
            (Box::new(move |l, i| fragments::quad_b(&form, l, i)), 4),
            (Box::new(move |l, i| fragments::quad_c(form.c, l, i)), 8),
            (Box::new(move |l, i| fragments::quad_c(form.d, l, i)), 8),
        ];
    }
    [
        (Box::new(move |l, i| fragments::a(&form, l, i)), form.m * form.k / 32),
        (Box::new(move |l, i| fragments::b(&form, l, i)), form.k * 8 / 32),
        (Box::new(move |l, i| fragments::c(&form, l, i)), form.m * 8 / 32),
        (Box::new(move |l, i| fragments::c(&form, l, i)), form.m * 8 / 32),
    ]
}

/// Lowers and runs the form on these operands; D by rows. With `alias` D's registers are C's, as compilers write it.
pub fn run(form: &Form, operands: &[Operands], isa: Isa, mode: MmaMode, alias: bool) -> Vec<Vec<Vec<u64>>> {
    let mut machine = Machine::new(isa, mode);
    let of = |lane: usize| if form.quads() { fragments::quad(lane) } else { 0 };
    let [a, b, c, d] = maps(*form);
    let bits = [form.a.bits(), form.b.bits(), acc_bits(form.c)];
    let mut counts = [0; 4]; // D, A, B, C
    let width = |bits: usize| if bits == 64 { 8 } else { 4 };
    for (n, (map, per_lane)) in [&a, &b, &c].into_iter().enumerate() {
        let lanes: Vec<Vec<u64>> = (0..32)
            .map(|lane| {
                let from = &operands[of(lane)];
                let matrix = [&from.a, &from.b, &from.c][n];
                let elements: Vec<u64> = (0..*per_lane).map(|i| map(lane, i)).map(|(r, c)| matrix[r][c]).collect();
                pack(bits[n], &elements)
            })
            .collect();
        counts[n + 1] = lanes[0].len();
        let letter = ["a", "b", "c"][n];
        for i in 0..lanes[0].len() {
            machine.declare(&format!("%{letter}{i}"), width(bits[n]));
            machine.set(&format!("%{letter}{i}"), &std::array::from_fn(|lane| lanes[lane][i]));
        }
    }
    counts[0] = d.1 * acc_bits(form.d) / if acc_bits(form.d) == 64 { 64 } else { 32 };
    let mut results = names(counts)[0].clone();
    let mut text = mma_text(form, counts);
    if alias {
        assert_eq!(form.c, form.d);
        text = text.replace("%d", "%c");
        results = results.iter().map(|n| n.replace("%d", "%c")).collect();
    } else {
        results.iter().for_each(|name| _ = machine.declare(name, width(acc_bits(form.d))));
    }
    let code = machine.lower(&text).unwrap();
    assert_eq!(code.len(), 1);
    let told = describe(&code[0]).unwrap();
    let products = operands.len() * form.m * 8 * form.k;
    assert_eq!((told.form.as_str(), told.macs), (form.name().as_str(), products as u64));
    machine.run(&code[0]);
    let registers: Vec<[u64; 32]> = results.iter().map(|name| machine.get(name)).collect();
    let mut out = vec![vec![vec![0; 8]; form.m]; operands.len()];
    for lane in 0..32 {
        let own: Vec<u64> = registers.iter().map(|r| r[lane]).collect();
        for (i, x) in unpack(acc_bits(form.d), &own).into_iter().enumerate() {
            let (r, c) = (d.0)(lane, i);
            out[of(lane)][r][c] = x;
        }
    }
    out
}

/// An infinite or undefined sum by IEEE rules; `None` where all is finite.
fn special(terms: &[(Num, Num)], c: Num) -> Option<Num> {
    let mut found = [c == Num::Nan, c == Num::Inf(false), c == Num::Inf(true)]; // NaN, +, -
    for &(x, y) in terms {
        let negative = |n: Num| matches!(n, Num::Inf(true)) || matches!(n, Num::Fin(m, _) if m < 0);
        let zero = |n: Num| matches!(n, Num::Fin(0, _));
        match (x, y) {
            (Num::Nan, _) | (_, Num::Nan) => found[0] = true,
            (Num::Inf(_), other) | (other, Num::Inf(_)) if zero(other) => found[0] = true,
            (Num::Inf(_), _) | (_, Num::Inf(_)) => found[1 + usize::from(negative(x) != negative(y))] = true,
            _ => {}
        }
    }
    match found {
        [false, false, false] => None,
        [false, true, false] => Some(Num::Inf(false)),
        [false, false, true] => Some(Num::Inf(true)),
        _ => Some(Num::Nan),
    }
}

/// Bits of an infinity or the canonical NaN.
pub fn special_bits(acc: Acc, n: Num) -> u64 {
    match (acc, n) {
        (Acc::F16, Num::Inf(neg)) => 0x7c00 | u64::from(neg) << 15,
        (Acc::F16, _) => 0x7fff,
        (_, Num::Inf(neg)) => 0x7f80_0000 | u64::from(neg) << 31,
        _ => 0x7fff_ffff,
    }
}

/// What IEEE arithmetic says where an operand is infinite or no number.
pub fn special_of(form: &Form, at: &Operands, r: usize, n: usize) -> Option<u64> {
    let terms: Vec<(Num, Num)> =
        (0..form.k).map(|k| (element(form.a, at.a[r][k]), element(form.b, at.b[k][n]))).collect();
    special(&terms, sum(form.c, at.c[r][n])).map(|x| special_bits(form.d, x))
}

/// A unit of the block model: products of a block, fraction bits, least exponent, fraction bits of the result.
pub type Unit = (usize, i32, i32, i32);

/// Units of sm_80 (and 8.x) and of sm_90, from the design's table.
pub fn unit(mode: MmaMode, e: Elem) -> Unit {
    match (mode, e) {
        (MmaMode::Sm80, Elem::F16 | Elem::Bf16) => (8, 24, -132, 23),
        (MmaMode::Sm80, Elem::Tf32) => (4, 24, -132, 23),
        (MmaMode::Sm80, Elem::E4m3 | Elem::E5m2) => (16, 13, -132, 13),
        (MmaMode::Sm90, Elem::Tf32) => (8, 25, -133, 23),
        (MmaMode::Sm90, _) => (16, 25, -133, 23),
        other => panic!("no unit for {other:?}"),
    }
}

/// One dot product as a unit sums it, in i128: finite factors, c and the result in bits of `acc`.
pub fn unit_dot(unit: Unit, (ea, a): (Elem, &[u64]), (eb, b): (Elem, &[u64]), (c_acc, c): (Acc, u64), acc: Acc) -> u64 {
    let (block, fraction, least, out) = unit;
    let mut now = sum(c_acc, c);
    let mut bits = c;
    for k0 in (0..a.len()).step_by(block) {
        let mut terms: Vec<(i128, i32, i32)> = Vec::new(); // significand, exponent of its last bit, exponent it counts with
        for k in k0..(k0 + block).min(a.len()) {
            let (Num::Fin(ma, xa), Num::Fin(mb, xb)) = (element(ea, a[k]), element(eb, b[k])) else { panic!("finite") };
            if ma * mb != 0 {
                terms.push((ma * mb, xa + xb, exponent(ea, a[k]) + exponent(eb, b[k])));
            }
        }
        match now {
            Num::Fin(m, x) if m != 0 => {
                terms.push((m, x, (x + 127 - m.unsigned_abs().leading_zeros() as i32).max(-126)))
            }
            Num::Fin(..) => {}
            _ => return bits, // an overflow of an earlier block stays
        }
        let top = terms.iter().map(|t| t.2).max().unwrap_or(least).max(least);
        let last = top - fraction;
        let total: i128 = terms
            .iter()
            .map(|&(m, x, _)| {
                let shift = x - last;
                let cut = if shift >= 0 {
                    m.unsigned_abs() << shift
                } else {
                    m.unsigned_abs().checked_shr(-shift as u32).unwrap_or(0)
                };
                if m < 0 { -(cut as i128) } else { cut as i128 }
            })
            .sum();
        bits = write(total, last, out, acc);
        now = sum(acc, bits);
    }
    bits
}

/// The nearest f16, ties to even.
pub fn f16_of(x: f64) -> u64 {
    if !x.is_finite() {
        return special_bits(Acc::F16, if x.is_nan() { Num::Nan } else { Num::Inf(x < 0.0) });
    }
    let exponent = (x.to_bits() >> 52 & 0x7ff) as i32;
    let fraction = x.to_bits() & ((1 << 52) - 1);
    let m = i128::from(if exponent == 0 { fraction } else { fraction | 1 << 52 });
    write(if x < 0.0 { -m } else { m }, exponent.max(1) - 1075, 10, Acc::F16)
}

/// `total * 2^last` to f32 cut to `out` fraction bits, or to f16 at the nearest even; overflow is infinite, zero positive.
fn write(total: i128, last: i32, out: i32, acc: Acc) -> u64 {
    if total == 0 {
        return 0;
    }
    let (least, fraction, top, sign) = if acc == Acc::F16 { (-14, 10, 15, 15) } else { (-126, 23, 127, 31) };
    let kept = if acc == Acc::F16 { 10 } else { out };
    let mut m = total.unsigned_abs();
    let mut x = last;
    let leading = x + 127 - m.leading_zeros() as i32;
    let wanted = leading.max(least) - kept;
    if x < wanted {
        let cut = (wanted - x) as u32;
        let (rest, half) = if cut < 127 { (m & ((1 << cut) - 1), 1u128 << (cut - 1)) } else { (m, u128::MAX) };
        m = m.checked_shr(cut).unwrap_or(0);
        if acc == Acc::F16 && (rest > half || rest == half && m & 1 == 1) {
            m += 1;
        }
        x = wanted;
    }
    if m == 0 {
        return 0;
    }
    let leading = x + 127 - m.leading_zeros() as i32;
    let negative = u64::from(total < 0) << sign;
    if leading > top {
        return negative | special_bits(acc, Num::Inf(false));
    }
    // The significand in units of the format's last bit.
    let unit = leading.max(least) - fraction;
    let m = if x >= unit { m << (x - unit) } else { m >> (unit - x) } as u64;
    let biased = if leading < least { 0 } else { (leading - least + 1) as u64 };
    negative | biased << fraction | (m & ((1 << fraction) - 1))
}
