//! Where the elements of A, B, C and D lie, shape by shape as the PTX ISA lists them ("Matrix Fragments for mma.mXnYkZ"). Nothing is derived from a common
//! rule here: that is what the implementation does.

use earlybird::vgpu::exec::mma::{Acc, Elem, Form};

/// Row and column of element `a_i` of a lane.
pub fn a(form: &Form, lane: usize, i: usize) -> (usize, usize) {
    let (group, thread) = (lane >> 2, lane % 4);
    match (form.m, form.k, form.a.bits()) {
        // m8n8k4 with f64; m16n8k4, k8, k16 with f64
        (8, 4, 64) => (group, thread),
        (16, 4, 64) => (if i == 0 { group } else { group + 8 }, thread),
        (16, 8, 64) => (if i == 0 || i == 2 { group } else { group + 8 }, if i < 2 { thread } else { thread + 4 }),
        (16, 16, 64) if i % 2 == 0 => (group, i * 2 + thread),
        (16, 16, 64) => (group + 8, i * 2 - 2 + thread),
        // m16n8k4, k8 with tf32
        (16, 4, 32) => (if i == 0 { group } else { group + 8 }, thread),
        (16, 8, 32) => (if i == 0 || i == 2 { group } else { group + 8 }, if i < 2 { thread } else { thread + 4 }),
        // m16n8k8, k16 with f16 and bf16
        (16, 8, 16) => (if i < 2 { group } else { group + 8 }, thread * 2 + (i & 1)),
        (16, 16, 16) => {
            let row = if i < 2 || (4..6).contains(&i) { group } else { group + 8 };
            (row, if i < 4 { thread * 2 + (i & 1) } else { thread * 2 + (i & 1) + 8 })
        }
        // m8n8k16, m16n8k16, m16n8k32 with 8-bit elements
        (8, 16, 8) => (group, thread * 4 + i),
        (16, 16, 8) => (if i < 4 { group } else { group + 8 }, thread * 4 + (i & 3)),
        (16, 32, 8) => {
            let row = if i < 4 || (8..12).contains(&i) { group } else { group + 8 };
            (row, if i < 8 { thread * 4 + (i & 3) } else { thread * 4 + (i & 3) + 16 })
        }
        // m8n8k32, m16n8k32, m16n8k64 with 4-bit elements
        (8, 32, 4) => (group, thread * 8 + i),
        (16, 32, 4) => (if i < 8 { group } else { group + 8 }, thread * 8 + (i & 7)),
        (16, 64, 4) => {
            let row = if i < 8 || (16..24).contains(&i) { group } else { group + 8 };
            (row, if i < 16 { thread * 8 + (i & 7) } else { thread * 8 + (i & 7) + 32 })
        }
        // m8n8k128, m16n8k128, m16n8k256 with single bits
        (8, 128, 1) => (group, thread * 32 + i),
        (16, 128, 1) => (if i < 32 { group } else { group + 8 }, thread * 32 + (i & 31)),
        (16, 256, 1) => {
            let row = if i < 32 || (64..96).contains(&i) { group } else { group + 8 };
            (row, if i < 64 { thread * 32 + (i & 31) } else { thread * 32 + (i & 31) + 128 })
        }
        other => panic!("no such shape: {other:?}"),
    }
}

/// Row (of K) and column of element `b_i` of a lane.
pub fn b(form: &Form, lane: usize, i: usize) -> (usize, usize) {
    let (group, thread) = (lane >> 2, lane % 4);
    let row = match (form.m, form.k, form.b.bits()) {
        (_, 4, 64) => thread,
        (16, 8, 64) => [thread, thread + 4][i],
        (16, 16, 64) => thread + i * 4,
        (16, 4, 32) => thread,
        (16, 8, 32) => [thread, thread + 4][i],
        (16, 8, 16) => thread * 2 + i,
        (16, 16, 16) => {
            if i < 2 {
                thread * 2 + (i & 1)
            } else {
                thread * 2 + (i & 1) + 8
            }
        }
        (_, 16, 8) => thread * 4 + i,
        (16, 32, 8) => {
            if i < 4 {
                thread * 4 + (i & 3)
            } else {
                thread * 4 + (i & 3) + 16
            }
        }
        (_, 32, 4) => thread * 8 + i,
        (16, 64, 4) => {
            if i < 8 {
                thread * 8 + (i & 7)
            } else {
                thread * 8 + (i & 7) + 32
            }
        }
        (_, 128, 1) => thread * 32 + i,
        (16, 256, 1) => {
            if i < 32 {
                thread * 32 + i
            } else {
                thread * 32 + (i & 31) + 128
            }
        }
        other => panic!("no such shape: {other:?}"),
    };
    (row, group)
}

/// Row and column of element `c_i` of a lane; the same for every shape of N = 8.
pub fn c(_: &Form, lane: usize, i: usize) -> (usize, usize) {
    let (group, thread) = (lane >> 2, lane % 4);
    (if i < 2 { group } else { group + 8 }, thread * 2 + (i & 1))
}

/// `m8n8k4` of f16: which of the four products a lane takes part in.
pub fn quad(lane: usize) -> usize {
    match lane {
        0..=3 | 16..=19 => 0,
        4..=7 | 20..=23 => 1,
        8..=11 | 24..=27 => 2,
        _ => 3,
    }
}

/// `m8n8k4`: element `a_i`, A by rows or by columns.
pub fn quad_a(form: &Form, lane: usize, i: usize) -> (usize, usize) {
    if form.a_col {
        (if lane < 16 { i % 4 } else { i % 4 + 4 }, lane % 4)
    } else {
        (if lane < 16 { lane % 4 } else { lane % 4 + 4 }, i)
    }
}

/// `m8n8k4`: element `b_i`, row of K and column.
pub fn quad_b(form: &Form, lane: usize, i: usize) -> (usize, usize) {
    if form.b_row {
        (lane % 4, if lane < 16 { i } else { i + 4 })
    } else {
        (i, if lane < 16 { lane % 4 } else { lane % 4 + 4 })
    }
}

/// `m8n8k4`: element `c_i` of an accumulator of this type.
pub fn quad_c(acc: Acc, lane: usize, i: usize) -> (usize, usize) {
    if acc == Acc::F16 {
        (if lane < 16 { lane % 4 } else { lane % 4 + 4 }, i)
    } else {
        let x = (lane & 0b1) + (i & 0b10);
        (if lane < 16 { x } else { x + 4 }, (i & 0b100) + (lane & 0b10) + (i & 0b1))
    }
}

/// Every form that the ISA lists for sm_80 to sm_90, written out from its table.
pub fn all() -> Vec<Form> {
    use Acc::{F16 as H, F32 as F, F64 as D, S32 as I};
    let mut forms = Vec::new();
    let mut add = |m: usize, ks: &[usize], pairs: &[(Elem, Elem)], sums: &[(Acc, Acc)], ops: &[(bool, bool)]| {
        for &k in ks {
            for &(a, b) in pairs {
                for &(d, c) in sums {
                    for &(sat, and) in ops {
                        forms.push(Form { m, k, a, b, c, d, sat, and, a_col: false, b_row: false });
                    }
                }
            }
        }
    };
    let mixes = |x: Elem, y: Elem| [(x, x), (x, y), (y, x), (y, y)];
    let (bytes, nibbles) = (mixes(Elem::S8, Elem::U8), mixes(Elem::S4, Elem::U4));
    let (plain, either): (&[_], &[_]) = (&[(false, false)], &[(false, false), (true, false)]);
    add(8, &[16], &bytes, &[(I, I)], either);
    add(16, &[16, 32], &bytes, &[(I, I)], either);
    add(8, &[32], &nibbles, &[(I, I)], either);
    add(16, &[32, 64], &nibbles, &[(I, I)], either);
    let bit = [(Elem::B1, Elem::B1)];
    add(8, &[128], &bit, &[(I, I)], &[(false, false), (false, true)]);
    add(16, &[128, 256], &bit, &[(I, I)], &[(false, false), (false, true)]);
    add(16, &[8, 16], &[(Elem::F16, Elem::F16)], &[(H, H), (F, F)], plain);
    add(16, &[8, 16], &[(Elem::Bf16, Elem::Bf16)], &[(F, F)], plain);
    add(16, &[4, 8], &[(Elem::Tf32, Elem::Tf32)], &[(F, F)], plain);
    add(16, &[16, 32], &mixes(Elem::E4m3, Elem::E5m2), &[(H, H), (F, F)], plain);
    add(8, &[4], &[(Elem::F64, Elem::F64)], &[(D, D)], plain);
    add(16, &[4, 8, 16], &[(Elem::F64, Elem::F64)], &[(D, D)], plain);
    for (d, c) in [(H, H), (F, H), (F, F)] {
        for (a_col, b_row) in [(false, false), (false, true), (true, false), (true, true)] {
            let half = Elem::F16;
            forms.push(Form { m: 8, k: 4, a: half, b: half, c, d, sat: false, and: false, a_col, b_row });
        }
    }
    forms
}
