//! Hard cases of rounding: sums that cancel, products at and just beside a tie or a format's edges, in all four modes.

use crate::coverage::compare_on;
use crate::reference;
use crate::values::Rng;

/// A number of the format `(exponent bits, fraction bits)` with a chosen exponent field and few, many or all fraction bits.
fn float(rng: &mut Rng, exponent_bits: u32, fraction_bits: u32, exponent: u64) -> u64 {
    let fraction = match rng.below(6) {
        0 => 0,
        1 => 1,
        2 => (1 << fraction_bits) - 1,
        3 => 1 << rng.below(fraction_bits as usize),
        4 => (1 << fraction_bits) - (1 << rng.below(fraction_bits as usize)),
        _ => rng.next() & ((1 << fraction_bits) - 1),
    };
    let exponent = exponent.min((1 << exponent_bits) - 2);
    (rng.next() & 1) << (exponent_bits + fraction_bits) | exponent << fraction_bits | fraction
}

/// Operands whose product has about the size of a third one, half a unit in its last place, or the size of the format's edges.
fn operands(rng: &mut Rng, exponent_bits: u32, fraction_bits: u32) -> [u64; 3] {
    let top = (1u64 << exponent_bits) - 2;
    let bias = top / 2;
    let ea = match rng.below(4) {
        0 => rng.next() % (top + 1),
        _ => bias - bias.min(40) + rng.next() % 80.min(top),
    };
    // Half of the time the product is near the smallest or largest number.
    let sum = match rng.below(4) {
        0 => bias + rng.next() % 5,
        1 => (bias + fraction_bits as u64).saturating_sub(rng.next() % (3 * fraction_bits as u64)),
        2 => bias + top - rng.next() % 3,
        _ => bias + rng.next() % (top + 1),
    };
    let eb = sum.saturating_sub(ea);
    let product = (ea + eb).saturating_sub(bias);
    let shift = [
        0,
        1,
        2,
        fraction_bits as u64,
        fraction_bits as u64 + 1,
        fraction_bits as u64 + 2,
        2 * fraction_bits as u64 + 3,
    ];
    let away = shift[rng.below(shift.len())];
    let ec = if rng.next() & 1 == 0 { product + away } else { product.saturating_sub(away) };
    [(ea), (eb), (ec)].map(|e| float(rng, exponent_bits, fraction_bits, e))
}

#[test]
fn ties_edges_and_cancellation() {
    for (ty, exponent_bits, fraction_bits) in [("f32", 8, 23), ("f64", 11, 52), ("f16", 5, 10), ("bf16", 8, 7)] {
        let modes: &[&str] = if ty.ends_with("16") { &["rn"] } else { &["rn", "rz", "rm", "rp"] };
        for mode in modes {
            for op in ["add", "sub", "mul", "fma", "div", "rcp", "sqrt"] {
                let spelling = format!("{op}.{mode}.{ty}");
                let Some(case) = reference(&spelling) else { continue };
                let mut rng = Rng(u64::from(exponent_bits) + 31 * op.len() as u64);
                let sources = case.src.len();
                let result = compare_on(&spelling, &case, 400, |_| {
                    let [a, b, c] = operands(&mut rng, exponent_bits, fraction_bits);
                    // Sums take the first and the third, which are a chosen distance apart from the product, not from each other.
                    match sources {
                        1 => vec![a],
                        2 if matches!(op, "add" | "sub") => {
                            let exponent = a >> fraction_bits & ((1 << exponent_bits) - 1);
                            let near = (exponent + rng.next() % (fraction_bits as u64 + 4)).saturating_sub(1);
                            vec![a, float(&mut rng, exponent_bits, fraction_bits, near)]
                        }
                        2 => vec![a, b],
                        _ => vec![a, b, c],
                    }
                });
                result.unwrap();
            }
        }
    }
}
