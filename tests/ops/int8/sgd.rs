//! The 8-bit step: gradients, momenta and weights rounded by rows and by elements, and the packed weights.

use earlybird::backend::Memory;
use earlybird::ops::sgd::{Format, Segment, Sgd, SgdI8};
use earlybird::quant::layout::pad;

use super::*;
use crate::oracle::normal;

const TENSORS: [u32; 3] = [1005, 1006, 1007];

/// BN scales, rounded one by one, then a convolution, a bias, a linear weight; gaps between them.
fn table() -> (Vec<Segment>, usize, usize) {
    let (k, taps, c) = (37u32, 6u32, 19u32);
    let conv = Segment {
        offset: 64,
        rows: k,
        columns: taps * c,
        format: Format::Conv as u32,
        taps,
        c,
        weights: 64,
        transposed: 64 + k * taps * pad(c as usize) as u32,
        exponents: 0,
    };
    let end = conv.transposed as usize + (c * taps) as usize * pad(k as usize);
    let behind = (64 + k * taps * c).next_multiple_of(64);
    let linear = Segment { format: Format::Rows as u32, rows: 10, ..Segment::plain(behind + 64, 51) };
    let count = (linear.offset + 510).next_multiple_of(64) as usize;
    let scales = Segment { format: Format::Elements as u32, ..Segment::plain(0, 41) };
    (vec![scales, conv, Segment::plain(behind, 13), linear], count, end)
}

struct State {
    w: Vec<f32>,
    v: Vec<f32>,
    packed: Vec<i8>,
}

/// Elements rounded one by one.
fn each(values: &[f32], first: usize, seed: [u32; 2], step: u32, tensor: u32) -> Vec<f32> {
    let key = NoiseKey { seed, step, tensor };
    values.iter().enumerate().map(|(i, v)| simulated(*v, v.abs(), key.element(first + i))).collect()
}

/// A row rounded: mantissas and exponent.
fn row(values: &[f32], first: usize, seed: [u32; 2], step: u32, tensor: u32) -> (Vec<i8>, i32) {
    let e = exponent(values.iter().map(|v| f64::from(v.abs())).fold(0.0, f64::max));
    let key = NoiseKey { seed, step, tensor };
    (values.iter().enumerate().map(|(i, v)| qpytorch(*v, e, key.element(first + i))).collect(), e)
}

fn value(m: i8, e: i32) -> f32 {
    f32::from(m) * 2f32.powi(e - 6)
}

fn oracle(p: &SgdI8, table: &[Segment], lr: f32, step: u32, g: Option<&[f32]>, s: &mut State) {
    for segment in table {
        let (columns, rounds) = (segment.columns as usize, segment.format != Format::F32 as u32);
        for k in 0..segment.rows as usize {
            let at = segment.offset as usize + k * columns;
            let elements = segment.format == Format::Elements as u32;
            let rounded = |values: &[f32], tensor: usize| -> Vec<f32> {
                if elements {
                    return each(values, at, p.seed, step, p.tensors[tensor]);
                }
                let (m, e) = row(values, at, p.seed, step, p.tensors[tensor]);
                m.iter().map(|m| value(*m, e)).collect()
            };
            if let Some(g) = g {
                let mut d: Vec<f32> = (at..at + columns)
                    .map(|i| {
                        let sign = if s.w[i] == 0.0 { 0.0 } else { s.w[i].signum() };
                        if i < p.sgd.scales as usize { g[i] + p.sgd.l1 * sign } else { g[i] }
                    })
                    .collect();
                if rounds && p.round_gradients != 0 {
                    d = rounded(&d, 2);
                }
                let mut v = Vec::new();
                for (i, d) in d.iter().enumerate() {
                    let decayed = d + p.sgd.weight_decay * s.w[at + i];
                    v.push(p.sgd.momentum * s.v[at + i] + decayed);
                    s.w[at + i] -= lr * v[i];
                }
                if rounds && p.round_gradients != 0 {
                    v = rounded(&v, 1);
                }
                s.v[at..at + columns].copy_from_slice(&v);
            }
            if !rounds {
                continue;
            }
            let before = s.w[at..at + columns].to_vec();
            if p.master_f32 == 0 {
                s.w[at..at + columns].copy_from_slice(&rounded(&before, 0));
            }
            if segment.format == Format::Conv as u32 {
                let (m, e) = row(&before, at, p.seed, step, p.tensors[0]);
                let (taps, c) = (segment.taps as usize, segment.c as usize);
                s.packed[segment.exponents as usize + k] = e as i8;
                for (i, m) in m.iter().enumerate() {
                    let (tap, channel) = (i / c, i % c);
                    s.packed[segment.weights as usize + (k * taps + tap) * pad(c) + channel] = *m;
                    let flipped = channel * taps + taps - 1 - tap;
                    s.packed[segment.transposed as usize + flipped * pad(segment.rows as usize) + k] = *m;
                }
            }
        }
    }
}

fn constants(count: usize, segments: usize, master: u32, round: u32) -> SgdI8 {
    SgdI8 {
        sgd: Sgd { count: count as u32, scales: 41, momentum: 0.9, weight_decay: 1e-2, l1: 0.03 },
        segments: segments as u32,
        master_f32: master,
        round_gradients: round,
        seed: [5, 6],
        tensors: TENSORS,
    }
}

#[test]
fn steps_follow_the_definition() {
    let (table, count, bytes) = table();
    for (master, round) in [(0, 1), (1, 1), (0, 0), (1, 0)] {
        let p = constants(count, table.len(), master, round);
        let mut start = normal(1, "w", count, 0.3);
        start[3] = 0.0;
        let start_row = table[1].offset as usize + 2 * table[1].columns as usize;
        start[start_row..start_row + table[1].columns as usize].fill(0.0);
        // What padding must become, and what lies between parameters must stay.
        let mut truth = State { w: start.clone(), v: vec![0.0; count], packed: vec![0; bytes] };
        let gradients: Vec<Vec<f32>> = (0..3).map(|i| normal(i, "g", count, 0.1)).collect();
        let mut states = Vec::new();
        oracle(&p, &table, 0.0, 7, None, &mut truth);
        states.push((truth.w.clone(), truth.v.clone(), truth.packed.clone()));
        for (i, g) in gradients.iter().enumerate() {
            oracle(&p, &table, 0.25, 8 + i as u32, Some(g), &mut truth);
            states.push((truth.w.clone(), truth.v.clone(), truth.packed.clone()));
        }
        everywhere(|device| {
            let (w, v, packed) = (device.put(&start), device.put(&vec![0.0f32; count]), put(device, &vec![55; bytes]));
            let (rows, lr) = (device.put(&table), device.put(&[0.25f32]));
            let int8 = device.backend.int8().unwrap();
            let check = |number: usize, packed: &Memory| {
                let what = format!("{} step {number} of {p:?}", device.name);
                let (want_w, want_v, want_packed) = &states[number];
                same(&format!("{what} v"), &device.get::<f32>(&v), want_v);
                same(&format!("{what} w"), &device.get::<f32>(&w), want_w);
                let got = device.get::<i8>(packed);
                let k = table[1].rows as usize;
                same(&format!("{what} exponents"), &got[..k], &want_packed[..k]);
                same(&format!("{what} packed"), &got[64..bytes], &want_packed[64..]);
            };
            int8.sgd_pack_i8(&p, rows.all(), device.put(&[7u32]).all(), w.all(), packed.all()).unwrap();
            check(0, &packed);
            for (i, g) in gradients.iter().enumerate() {
                let (g, step) = (device.put(g), device.put(&[8 + i as u32]));
                int8.sgd_step_i8(&p, rows.all(), lr.all(), step.all(), g.all(), v.all(), w.all(), packed.all())
                    .unwrap();
                check(i + 1, &packed);
            }
            let before = device.get::<f32>(&w);
            int8.sgd_pack_i8(&p, rows.all(), device.put(&[999u32]).all(), w.all(), packed.all()).unwrap();
            same("weights of the grid stay as they are", &device.get::<f32>(&w), &before);
        });
    }
}

#[test]
fn a_table_that_does_not_fit_is_refused() {
    let (mut table, count, bytes) = table();
    table[1].rows += 1000;
    let p = constants(count, table.len(), 0, 1);
    let device = &crate::device::cpu()[0];
    let (w, packed, rows, step) =
        (device.out(count), put(device, &vec![0; bytes]), device.put(&table), device.put(&[0u32]));
    let result = device.backend.int8().unwrap().sgd_pack_i8(&p, rows.all(), step.all(), w.all(), packed.all());
    assert!(result.unwrap_err().to_string().contains("outside the arena"));
}
