//! quantize: f32 to operands, stored tensors and output gradients, and back.

use earlybird::ops::Kernel;
use earlybird::ops::batchnorm::OutputSums;
use earlybird::ops::quantize::{Dequantize, Quantize, QuantizeGradient, Round, Store};
use earlybird::quant::layout::{blocks, pad};

use super::*;
use crate::oracle::normal;

const SHAPES: [(usize, usize, usize); 7] =
    [(2, 9, 3), (3, 64, 16), (1, 130, 37), (4, 5, 48), (2, 70, 64), (2, 33, 130), (1, 1, 1)];

/// Images of very different sizes, the second all 0.
fn images(n: usize, each: usize, seed: u64) -> Vec<f32> {
    let mut all = normal(seed, "images", n * each, 1.0);
    for (i, image) in all.chunks_exact_mut(each).enumerate() {
        let scale = [1.0, 0.0, 1e-14, 3e13][i % 4];
        image.iter_mut().for_each(|v| *v *= scale);
    }
    all
}

fn operand(values: &[f32], n: usize, c: usize, rounding: Rounding) -> Host {
    let image = values.len() / n;
    let mut out = Host { m: vec![0; values.len() / c * pad(c)], e: vec![0; n] };
    for (i, values) in values.chunks_exact(image).enumerate() {
        let e = exponent(values.iter().map(|v| f64::from(v.abs())).fold(0.0, f64::max));
        out.e[i] = e as i8;
        for (j, v) in values.iter().enumerate() {
            let index = (i * image / c + j / c) * pad(c) + j % c;
            out.m[index] = rounding.element(*v, e, index);
        }
    }
    out
}

/// Groups of one element and of many, that begin anywhere among the groups of noise; sizes from the smallest to the largest that f32 has.
#[test]
fn groups_are_rounded_in_place() {
    for (groups, length) in [(3, 8), (5, 37), (1, 1), (2, 4099), (41, 1), (7, 3)] {
        let mut x = normal(9, "groups", groups * length, 1.0);
        for (i, group) in x.chunks_exact_mut(length).enumerate() {
            let scale = [1.0, 0.0, 1e-14, 3e13, 1e-36, 1e-42, 2e36][i % 7];
            group.iter_mut().for_each(|v| *v *= scale);
        }
        for stochastic in [true, false] {
            let rounding = Rounding::new(0x0500_0000_0000_0009, 36, stochastic);
            let mut want = Vec::new();
            for (i, group) in x.chunks_exact(length).enumerate() {
                let max = group.iter().fold(0.0f32, |max, v| max.max(v.abs()));
                want.extend((0..length).map(|j| simulated(group[j], max, rounding.noise(i * length + j)).to_bits()));
            }
            everywhere(|device| {
                let (x, at) = (device.put(&x), step(device, &rounding));
                let p = Round { groups: groups as u32, length: length as u32, noise: rounding.noise };
                let int8 = device.backend.int8().unwrap();
                int8.quantize_round_i8(&p, at.all(), x.all()).unwrap();
                same(&format!("{} {p:?}", device.name), &device.get::<u32>(&x), &want);
                // What lies on the grid stays there.
                int8.quantize_round_i8(&p, device.put(&[1000u32]).all(), x.all()).unwrap();
                same(&format!("{} {p:?} again", device.name), &device.get::<u32>(&x), &want);
            });
        }
    }
}

/// `x`, which is what `wide` stands for where the form is that of 16 bits.
fn input(device: &Device, x: &[f32], wide: &Host16, form: Form) -> OnDevice {
    match form {
        Form::Bfp16 => wide.put(device),
        _ => OnDevice { m: device.put(x), e: put(device, &[]) },
    }
}

#[test]
fn sixteen_bits_come_back() {
    for (n, pixels, c) in SHAPES {
        let wide = Host16::store(&images(n, pixels * c, 4), c);
        let want = wide.values(c);
        everywhere(|device| {
            let (q, x) = (wide.put(device), device.out(want.len()));
            let p = Dequantize { n: n as u32, pixels: pixels as u32, c: c as u32, stored: Form::Bfp16 as u32 };
            device.backend.int8().unwrap().dequantize_fwd_i8(&p, q.bfp(), x.all()).unwrap();
            same(&format!("{} {p:?}", device.name), &device.get::<f32>(&x), &want);
        });
    }
}

#[test]
fn images_become_operands_and_come_back() {
    for (n, pixels, c) in SHAPES {
        for (stochastic, form) in [(true, Form::F32), (false, Form::F32), (true, Form::Bfp16)] {
            let x = images(n, pixels * c, 1);
            let wide = Host16::store(&x, c);
            let x = if form == Form::F32 { x } else { wide.values(c) };
            let rounding = Rounding::new(0x0500_0000_0000_0003, 33, stochastic);
            let want = operand(&x, n, c, rounding);
            let back: Vec<f32> = (0..x.len())
                .map(|i| {
                    let m = want.m[i / c * pad(c) + i % c];
                    f32::from(m) * 2f32.powi(i32::from(want.e[i / (pixels * c)]) - 6)
                })
                .collect();
            everywhere(|device| {
                let blank = Host::blank(n * pixels * pad(c), n);
                let (from, q, at) = (input(device, &x, &wide, form), blank.put(device), step(device, &rounding));
                let (n_, pixels_, c_) = (n as u32, pixels as u32, c as u32);
                let p = Quantize { n: n_, pixels: pixels_, c: c_, form: form as u32, noise: rounding.noise };
                let int8 = device.backend.int8().unwrap();
                int8.quantize_fwd_i8(&p, from.bfp(), at.all(), q.bfp()).unwrap();
                same_host(&format!("{} {p:?}", device.name), &blank.get(device, &q), &want);
                let p = Dequantize { n: p.n, pixels: p.pixels, c: p.c, stored: 0 };
                let x = device.out(back.len());
                int8.dequantize_fwd_i8(&p, q.bfp(), x.all()).unwrap();
                same(&format!("{} {p:?}", device.name), &device.get::<f32>(&x), &back);
            });
        }
    }
}

#[test]
fn rows_become_stored_tensors_and_come_back() {
    for (n, pixels, c) in SHAPES {
        let x = images(n, pixels * c, 2);
        for stochastic in [true, false] {
            let rounding = Rounding::new(0x0500_0000_0000_0004, 34, stochastic);
            let want = rounding.store(&x, c);
            let rows = n * pixels;
            let back: Vec<f32> = (0..x.len()).map(|i| stored_value(&want, c, i / c, i % c) as f32).collect();
            everywhere(|device| {
                let blank = Host::blank(rows * pad(c), blocks(rows, c));
                let (from, q, at) = (device.put(&x), blank.put(device), step(device, &rounding));
                let p = Store::all(rows, c, rounding.noise);
                let sums = device.put(&vec![OutputSums::default(); rows.div_ceil(64) * pad(c)]);
                let int8 = device.backend.int8().unwrap();
                int8.quantize_store_i8(&p, Bfp::f32(from.all()), none(&from), at.all(), q.bfp(), sums.all()).unwrap();
                let what = format!("{} {p:?}", device.name);
                same_host(&what, &blank.get(device, &q), &want);
                same(&what, &device.get::<OutputSums>(&sums), &output_sums(&want, c));
                let p = Dequantize { n: n as u32, pixels: pixels as u32, c: c as u32, stored: 1 };
                let x = device.out(back.len());
                int8.dequantize_fwd_i8(&p, q.bfp(), x.all()).unwrap();
                same(&format!("{} {p:?}", device.name), &device.get::<f32>(&x), &back);
            });
        }
    }
}

/// In f32 and 16 bits, all channels of a tensor and some.
#[test]
fn channels_are_gathered_and_stored() {
    for (number, (n, pixels, c)) in SHAPES.into_iter().enumerate() {
        let rows = n * pixels;
        let all = ((0..c as u32).collect(), c);
        for (i, (index, wide)) in gathers(c).into_iter().chain([all]).enumerate() {
            let select = i < gathers(c).len();
            let x = images(n, pixels * wide, 5);
            let packed = Host16::store(&x, wide);
            for form in [Form::F32, Form::Bfp16] {
                let x = if form == Form::F32 { x.clone() } else { packed.values(wide) };
                let own = |row: usize| index.iter().map(move |channel| (row, *channel as usize));
                let gathered: Vec<f32> =
                    (0..rows).flat_map(own).map(|(row, channel)| x[row * wide + channel]).collect();
                let rounding = Rounding::new(0x0500_0000_0000_0005, 37, (number + i) % 3 != 2);
                let want = rounding.store(&gathered, c);
                everywhere(|device| {
                    let blank = Host::blank(rows * pad(c), blocks(rows, c));
                    let (from, q, at) = (input(device, &x, &packed, form), blank.put(device), step(device, &rounding));
                    let channels = device.put(&index);
                    let [rows_, c_, wide] = [rows, c, wide].map(|v| v as u32);
                    let (select, form, noise) = (u32::from(select), form as u32, rounding.noise);
                    let p = Store { rows: rows_, c: c_, form, select, from: wide, noise };
                    let sums = device.put(&vec![OutputSums::default(); rows.div_ceil(64) * pad(c)]);
                    let int8 = device.backend.int8().unwrap();
                    let named = if select != 0 { channels.all() } else { none(&channels) };
                    int8.quantize_store_i8(&p, from.bfp(), named, at.all(), q.bfp(), sums.all()).unwrap();
                    let what = format!("{} {p:?} {index:?}", device.name);
                    same_host(&what, &blank.get(device, &q), &want);
                    same(&what, &device.get::<OutputSums>(&sums), &output_sums(&want, c));
                });
            }
        }
    }
}

/// Channels that a tensor does not have, or not in this order, and no rows at all.
#[test]
fn channels_that_are_none_are_refused() {
    let rounding = Rounding::new(0x0500_0000_0000_0006, 38, true);
    everywhere(|device| {
        let p = Store { select: 1, from: 5, ..Store::all(2, 3, rounding.noise) };
        let (x, at, e) = (device.put(&[1f32; 10]), step(device, &rounding), put(device, &[0]));
        let (q, sums) = (put(device, &[0; 32]), device.put(&[OutputSums::default(); 16]));
        let int8 = device.backend.int8().unwrap();
        for (index, said) in [([0, 2, 5], "channel 5 of 5"), ([1, 0, 4], "ascending"), ([1, 1, 4], "ascending")] {
            let (index, to) = (device.put::<u32>(&index), Bfp { mantissas: q.all(), exponents: e.all() });
            let error = int8.quantize_store_i8(&p, Bfp::f32(x.all()), index.all(), at.all(), to, sums.all());
            let error = error.unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        let (p, nothing) = (Store { rows: 0, ..p }, none(&q));
        let (index, nothing) = (device.put::<u32>(&[0, 2, 4]), Bfp { mantissas: nothing, exponents: nothing });
        int8.quantize_store_i8(&p, nothing, index.all(), at.all(), nothing, none(&q)).unwrap();
    });
}

#[test]
fn both_forms_of_an_output_gradient() {
    let both = SHAPES.into_iter().enumerate().flat_map(|case| [(case, Form::F32), (case, Form::Bfp16)]);
    for ((number, (n, pixels, k)), form) in both {
        let dy = images(n, pixels * k, 3);
        let packed = Host16::store(&dy, k);
        let dy = if form == Form::F32 { dy } else { packed.values(k) };
        let mut s = stream(number as u64, "exponents");
        let (we, xe) = (exponents(&mut s, k, -9, 3), exponents(&mut s, n, -5, 5));
        let rounding = Rounding::new(0x0700_0000_0000_0001, 35, true);
        let power = |e: i8| 2f32.powi(i32::from(e));
        let image = pixels * k;
        let mut want_d = Host { m: vec![0; n * pixels * pad(k)], e: vec![0; n] };
        let mut want_w = Host { m: want_d.m.clone(), e: vec![0; k] };
        let all = want_w.m.len();
        let mut want_wide = vec![0; 2 * all];
        let largest = |pick: &dyn Fn(usize) -> f32, wanted: &dyn Fn(usize) -> bool| {
            (0..dy.len()).filter(|i| wanted(*i)).map(|i| f64::from(pick(i).abs())).fold(0.0, f64::max)
        };
        let (by_weight, by_input) = (|i: usize| dy[i] * power(we[i % k]), |i: usize| dy[i] * power(xe[i / image]));
        for (i, e) in want_d.e.iter_mut().enumerate() {
            *e = exponent(largest(&by_weight, &|j| j / image == i)) as i8;
        }
        for (i, e) in want_w.e.iter_mut().enumerate() {
            *e = exponent(largest(&by_input, &|j| j % k == i)) as i8;
        }
        for i in 0..dy.len() {
            let index = i / k * pad(k) + i % k;
            let (ed, ew) = (i32::from(want_d.e[i / image]), i32::from(want_w.e[i % k]));
            want_d.m[index] = rounding.of_tensor(77).element(by_weight(i), ed, index);
            want_w.m[index] = rounding.element(by_input(i), ew, index);
            (want_wide[index], want_wide[all + index]) = rounding.wide(by_input(i), ew, index);
        }
        let want_wide = Host { m: want_wide, e: want_w.e.clone() };
        for (dgrad, wide) in [(true, false), (false, false), (true, true)] {
            let want_w = if wide { &want_wide } else { &want_w };
            everywhere(|device| {
                let (blank_d, blank_w) = (Host::blank(want_d.m.len(), n), Host::blank(want_w.m.len(), k));
                let (dyd, dyw, at) = (blank_d.put(device), blank_w.put(device), step(device, &rounding));
                let p = QuantizeGradient {
                    n: n as u32,
                    pixels: pixels as u32,
                    k: k as u32,
                    dgrad: u32::from(dgrad),
                    form: form as u32,
                    noise: rounding.noise,
                    dyd_tensor: 77,
                    wide: u32::from(wide),
                };
                let (from, we, xe) = (input(device, &dy, &packed, form), put(device, &we), put(device, &xe));
                let ws = device.workspace(&Kernel::QuantizeBwdI8(p));
                let (d, w) = (dyd.bfp(), dyw.bfp());
                let int8 = device.backend.int8().unwrap();
                int8.quantize_bwd_i8(&p, from.bfp(), we.all(), xe.all(), at.all(), d, w, ws.all()).unwrap();
                let what = format!("{} {p:?}", device.name);
                same_host(&what, &blank_w.get(device, &dyw), want_w);
                let want = if dgrad { &want_d } else { &blank_d };
                same_host(&what, &blank_d.get(device, &dyd), want);
            });
        }
    }
}
