//! Triton's kernels: one axis at a time. Triton passes two more pointers (scratch memory) behind the arguments.

use half::{bf16, f16};

use super::{Arg, Launch, Numbers, bytes, close, corpus, values};

/// Runs `triton/FILE.ptx` on `blocks` blocks of 128 threads.
fn run(file: &str, kernel: &str, blocks: u32, shared: u32, args: &[Arg]) -> Vec<Vec<u8>> {
    let name = format!("triton/{file}.ptx");
    let text = corpus(&name);
    let args = [args, &[Arg::Null, Arg::Null]].concat();
    Launch { file: &name, text: &text, kernel, grid: [blocks, 1, 1], block: 128, shared }.run(&args)
}

fn floats(data: &[f32]) -> Arg {
    Arg::In(bytes(data))
}

#[test]
fn vector_add() {
    let (x, y) = (Numbers(1).floats(2500), Numbers(2).floats(2500));
    let want: Vec<f32> = x.iter().zip(&y).map(|(x, y)| x + y).collect();
    let out = run("vector_add", "vector_add", 3, 0, &[floats(&x), floats(&y), Arg::Out(10_000), Arg::I32(2500)]);
    assert_eq!(values::<f32>(&out[0]), want);
}

#[test]
fn softmax() {
    let (rows, n) = (3, 781);
    let x = Numbers(3).floats(rows * n);
    let mut want = Vec::new();
    for row in x.chunks(n) {
        let sum: f64 = row.iter().map(|v| f64::from(*v).exp()).sum();
        want.extend(row.iter().map(|v| f64::from(*v).exp() / sum));
    }
    let args = [floats(&x), Arg::Out(rows * n * 4), Arg::I32(n as i32), Arg::I32(n as i32)];
    close("softmax", &values(&run("softmax", "softmax", 3, 16, &args)[0]), &want, 1e-6);
}

#[test]
fn layer_norm() {
    let (rows, n) = (4, 300);
    let (x, w, b) = (Numbers(4).floats(rows * n), Numbers(5).floats(n), Numbers(6).floats(n));
    let mut want = Vec::new();
    for row in x.chunks(n) {
        let mean = row.iter().map(|v| f64::from(*v)).sum::<f64>() / n as f64;
        let var = row.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n as f64;
        let scaled = |i: usize| (f64::from(row[i]) - mean) / (var + 1e-5).sqrt() * f64::from(w[i]) + f64::from(b[i]);
        want.extend((0..n).map(scaled));
    }
    let args = [floats(&x), Arg::Out(rows * n * 4), floats(&w), floats(&b), Arg::I32(n as i32), Arg::F32(1e-5)];
    close("layer_norm", &values(&run("layer_norm", "layer_norm", 4, 16, &args)[0]), &want, 1e-5);
}

#[test]
fn sums_of_columns() {
    let (m, n) = (70, 130);
    let x = Numbers(7).floats(m * n);
    let want: Vec<f64> = (0..n).map(|c| (0..m).map(|r| f64::from(x[r * n + c])).sum()).collect();
    let args = [floats(&x), Arg::Out(n * 4), Arg::I32(m as i32), Arg::I32(n as i32)];
    close("column_sum", &values(&run("column_sum", "column_sum", 3, 512, &args)[0]), &want, 1e-5);
}

#[test]
fn argmax_takes_the_first() {
    let n = 200;
    let mut x = Numbers(8).floats(3 * n);
    x[n + 50] = 5.0;
    x[n + 150] = 5.0;
    let rows = || {
        x.chunks(n)
            .map(|row| row.iter().enumerate().fold((0, f32::MIN), |b, (i, v)| if *v > b.1 { (i, *v) } else { b }))
    };
    let out = run("argmax_rows", "argmax_rows", 3, 32, &[floats(&x), Arg::Out(12), Arg::Out(12), Arg::I32(n as i32)]);
    assert_eq!(values::<i32>(&out[0]), rows().map(|b| b.0 as i32).collect::<Vec<_>>());
    assert_eq!(values::<f32>(&out[1]), rows().map(|b| b.1).collect::<Vec<_>>());
}

#[test]
fn prefix_sums_and_sorting() {
    let n = 400;
    let x = Numbers(9).floats(2 * n);
    let mut want = Vec::new();
    for row in x.chunks(n) {
        want.extend(row.iter().scan(0.0, |sum, v| {
            *sum += f64::from(*v);
            Some(*sum)
        }));
    }
    let out = run("prefix_sum", "prefix_sum", 2, 64, &[floats(&x), Arg::Out(8 * n), Arg::I32(n as i32)]);
    close("prefix_sum", &values(&out[0]), &want, 1e-5);
    let x = Numbers(10).ints(300, i32::MIN.into(), i32::MAX.into());
    let mut want = x.clone();
    want.chunks_mut(100).for_each(<[i32]>::sort_unstable);
    let out = run("sort_rows", "sort_rows", 3, 512, &[Arg::In(bytes(&x)), Arg::Out(1200), Arg::I32(100)]);
    assert_eq!(values::<i32>(&out[0]), want);
}

/// Float sums by atomics depend on the order, everything else does not.
#[test]
fn atomics() {
    let x: Vec<f32> = Numbers(11).floats(700).iter().map(|v| v * 8.0).collect();
    let text = corpus("triton/atomics.ptx");
    let launch =
        Launch { file: "triton/atomics.ptx", text: &text, kernel: "atomics", grid: [3, 1, 1], block: 128, shared: 16 };
    let low = Arg::InOut(bytes(&[f32::NEG_INFINITY]));
    let zeros = |n| Arg::InOut(vec![0; n]);
    let args = [floats(&x), zeros(4), low, zeros(64), zeros(4), Arg::I32(700), Arg::Null, Arg::Null];
    let mut bins = [0; 16];
    x.iter().for_each(|v| bins[(*v as i32 & 15) as usize] += 1);
    for out in launch.run_each(&args, [128, 1, 1]) {
        close("sum", &values(&out[0]), &[x.iter().map(|v| f64::from(*v)).sum()], 1e-4);
        assert_eq!(values::<f32>(&out[1]), [x.iter().fold(0.0, |a: f32, b| a.max(*b))]);
        assert_eq!(values::<i32>(&out[2]), bins);
        assert_eq!(values::<i32>(&out[3]), [1]);
    }
}

/// Philox 4x32-10 (Salmon et al. 2011), and Triton's way from 32 bits to a number in 0..1.
fn philox(seed: u64, i: u32) -> f32 {
    let (mut c, mut k) = ([i, 0, 0, 0], [seed as u32, (seed >> 32) as u32]);
    for _ in 0..10 {
        let (a, b) = (u64::from(c[0]) * 0xD251_1F53, u64::from(c[2]) * 0xCD9E_8D57);
        c = [(b >> 32) as u32 ^ c[1] ^ k[0], b as u32, (a >> 32) as u32 ^ c[3] ^ k[1], a as u32];
        k = [k[0].wrapping_add(0x9E37_79B9), k[1].wrapping_add(0xBB67_AE85)];
    }
    let v = c[0] as i32;
    (if v < 0 { -v - 1 } else { v }) as f32 * 4.656_612_7e-10
}

#[test]
fn dropout_by_philox() {
    let x = Numbers(12).floats(300);
    let keep = |(i, v): (usize, &f32)| if philox(42, i as u32) > 0.3 { f64::from(*v) / 0.7 } else { 0.0 };
    let want: Vec<f64> = x.iter().enumerate().map(keep).collect();
    let args = [floats(&x), Arg::Out(1200), Arg::I32(300), Arg::F32(0.3), Arg::I32(42)];
    close("dropout", &values(&run("philox_dropout", "philox_dropout", 2, 0, &args)[0]), &want, 1e-6);
}

#[test]
fn functions() {
    let mut x: Vec<f32> = Numbers(13).floats(300);
    x.extend([1e5, -3e4, 100.25, 0.0, -0.0, 1e-30]); // large ones take the slow path of sin and cos
    let erf = |v: f64| {
        // The series of the error function; 0 < v < 3 converges, beyond it is 1.
        if v.abs() > 5.0 {
            return v.signum();
        }
        let (mut term, mut sum) = (v, v);
        for k in 1..200 {
            term *= -v * v / f64::from(k);
            sum += term / f64::from(2 * k + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    };
    let want: Vec<f64> = x
        .iter()
        .map(|v| {
            let v = f64::from(*v);
            let (a, b) = (1.0 / (1.0 + (-v).exp()) * (v.abs() + 1.0).ln(), v.sin() * v.cos());
            let c = 1.0 / (v.abs() + 0.5).sqrt() + (v * 0.25).exp2() + erf(v) + v.floor() - v.ceil();
            a + b + c + v * v + 0.5 + v.max(0.25) + v.min(0.75)
        })
        .collect();
    let n = x.len();
    let out = run("elementwise", "elementwise", 3, 0, &[floats(&x), Arg::Out(n * 4), Arg::I32(n as i32)]);
    let got: Vec<f32> = values(&out[0]);
    assert_eq!(got[300], f32::INFINITY, "2^25000");
    let finite = |i: &usize| *i != 300;
    let pick = |i: usize| (got[i], want[i]);
    let (got, want): (Vec<f32>, Vec<f64>) = (0..n).filter(finite).map(pick).unzip();
    close("elementwise", &got, &want, 1e-5);
}

#[test]
fn sixteen_bits() {
    let (x, y) = (Numbers(14).floats(700), Numbers(15).floats(700));
    let args = |x: Vec<u8>, y: Vec<u8>| [Arg::In(x), Arg::In(y), Arg::Out(1400), Arg::Out(700), Arg::I32(700)];
    let (a, b): (Vec<f16>, Vec<f16>) = x.iter().zip(&y).map(|(x, y)| (f16::from_f32(*x), f16::from_f32(*y))).unzip();
    let packed = |v: &[f16]| bytes(&v.iter().map(|v| v.to_bits()).collect::<Vec<_>>());
    let out = run("half_ops", "half_ops", 2, 0, &args(packed(&a), packed(&b)));
    let fma = |(a, b): (&f16, &f16)| f16::from_f64(a.to_f64() * b.to_f64() + a.to_f64()).to_bits();
    assert_eq!(values::<u16>(&out[0]), a.iter().zip(&b).map(fma).collect::<Vec<_>>(), "one rounding");
    assert_eq!(values::<i8>(&out[1]), a.iter().map(|v| (v.to_f32() * 16.0) as i8).collect::<Vec<_>>());
    let (a, b): (Vec<bf16>, Vec<bf16>) =
        x.iter().zip(&y).map(|(x, y)| (bf16::from_f32(*x), bf16::from_f32(*y))).unzip();
    let packed = |v: &[bf16]| bytes(&v.iter().map(|v| v.to_bits()).collect::<Vec<_>>());
    let out = run("half_ops_bf16", "half_ops", 2, 0, &args(packed(&a), packed(&b)));
    let fma = |(a, b): (&bf16, &bf16)| bf16::from_f64(a.to_f64() * b.to_f64() + a.to_f64()).to_bits();
    assert_eq!(values::<u16>(&out[0]), a.iter().zip(&b).map(fma).collect::<Vec<_>>(), "one rounding");
}

#[test]
fn transpose_through_shared_memory() {
    let (m, n) = (45, 70);
    let x: Vec<u16> = (0..m * n).map(|v| v as u16).collect();
    let want: Vec<u16> = (0..m * n).map(|i| x[i % m * n + i / m]).collect();
    let text = corpus("triton/transpose.ptx");
    let launch =
        Launch { file: "transpose", text: &text, kernel: "transpose", grid: [2, 3, 1], block: 128, shared: 2048 };
    let size = [Arg::I32(m as i32), Arg::I32(n as i32), Arg::Null, Arg::Null];
    let out = launch.run(&[&[Arg::In(bytes(&x)), Arg::Out(m * n * 2)][..], &size].concat());
    assert_eq!(values::<u16>(&out[0]), want);
}

#[test]
fn histogram_counts_padding_too() {
    let x = Numbers(16).ints(400, 0, 64);
    let mut want = [0; 64];
    x.iter().for_each(|v| want[*v as usize] += 1);
    want[0] += 512 - 400; // masked lanes count as 0
    let out = run("histogram", "histogram", 1, 256, &[Arg::In(bytes(&x)), Arg::Out(256), Arg::I32(400)]);
    assert_eq!(values::<i32>(&out[0]), want);
}

#[test]
fn integers() {
    let (x, y) = (Numbers(17).ints(500, i32::MIN.into(), 1 << 31), Numbers(18).ints(500, i32::MIN.into(), 1 << 31));
    let want: Vec<i32> = x
        .iter()
        .zip(&y)
        .map(|(x, y)| {
            let d = y | 1;
            let high = ((u64::from(*x as u32) * u64::from(*y as u32)) >> 32) as i32;
            let rest = x.wrapping_rem(d).wrapping_add(high).wrapping_add(x << 3).wrapping_sub(y >> 2);
            x.wrapping_div(d) ^ rest
        })
        .collect();
    let args = [Arg::In(bytes(&x)), Arg::In(bytes(&y)), Arg::Out(2000), Arg::I32(500)];
    assert_eq!(values::<i32>(&run("int_ops", "int_ops", 2, 0, &args)[0]), want);
}
