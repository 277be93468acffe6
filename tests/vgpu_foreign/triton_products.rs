//! Triton's tensor-core products with cp.async pipelines, at sizes that fill no tile, and flash attention.

use half::{bf16, f16};

use super::numba::product;
use super::{Arg, Launch, Numbers, bytes, close, corpus, values};

const SIZES: [(usize, usize, usize); 2] = [(64, 32, 64), (45, 37, 50)];

struct Tile {
    m: usize,
    n: usize,
    threads: u32,
    shared: u32,
}

fn matmul(file: &str, tile: &Tile, size: (usize, usize, usize), a: Vec<u8>, b: Vec<u8>) -> Vec<u8> {
    let (m, n, k) = size;
    let name = format!("triton/{file}.ptx");
    let text = corpus(&name);
    let grid = [m.div_ceil(tile.m) as u32, n.div_ceil(tile.n) as u32, 1];
    let launch = Launch { file: &name, text: &text, kernel: "matmul", grid, block: tile.threads, shared: tile.shared };
    let numbers = [m, n, k, k, 1, n, 1, n, 1].map(|v| Arg::I32(v as i32));
    let buffers = [Arg::In(a), Arg::In(b), Arg::Out(m * n * 4)];
    launch.run(&[&buffers[..], &numbers, &[Arg::Null, Arg::Null]].concat()).remove(0)
}

/// Compares a float product of `convert`ed inputs.
fn check(file: &str, tile: &Tile, convert: impl Fn(f32) -> f32, store: impl Fn(&[f32]) -> Vec<u8>) {
    for size in SIZES {
        let (m, n, k) = size;
        let (a, b) = (Numbers(1).floats(m * k), Numbers(2).floats(k * n));
        let out = matmul(file, tile, size, store(&a), store(&b));
        let (a, b): (Vec<f32>, Vec<f32>) =
            (a.into_iter().map(&convert).collect(), b.into_iter().map(&convert).collect());
        close(file, &values(&out), &product(&a, &b, m, n, k), 1e-5);
    }
}

#[test]
fn f16_in_three_stages() {
    let tile = Tile { m: 32, n: 32, threads: 128, shared: 4096 };
    let store = |v: &[f32]| bytes(&v.iter().map(|v| f16::from_f32(*v).to_bits()).collect::<Vec<_>>());
    check("matmul_f16", &tile, |v| f16::from_f32(v).to_f32(), store);
}

#[test]
fn bf16_with_two_warps() {
    let tile = Tile { m: 16, n: 16, threads: 64, shared: 2048 };
    let store = |v: &[f32]| bytes(&v.iter().map(|v| bf16::from_f32(*v).to_bits()).collect::<Vec<_>>());
    check("matmul_bf16", &tile, |v| bf16::from_f32(v).to_f32(), store);
}

/// The hardware drops the low 13 bits of an f32 that no instruction has rounded to tf32.
#[test]
fn tf32_of_unrounded_inputs() {
    let tile = Tile { m: 32, n: 32, threads: 128, shared: 8192 };
    check("matmul_tf32", &tile, |v| f32::from_bits(v.to_bits() & 0xffff_e000), bytes);
}

#[test]
fn f32_without_tensor_cores() {
    let tile = Tile { m: 16, n: 16, threads: 128, shared: 4096 };
    check("matmul_ieee", &tile, |v| v, bytes);
}

#[test]
fn int8() {
    let tile = Tile { m: 32, n: 32, threads: 128, shared: 4096 };
    for size in SIZES {
        let (m, n, k) = size;
        let mut numbers = Numbers(3);
        let mut draw = |n: usize| (0..n).map(|_| numbers.bits() as i8).collect::<Vec<_>>();
        let (a, b) = (draw(m * k), draw(k * n));
        let cell = |i: usize| (0..k).map(|j| i32::from(a[i / n * k + j]) * i32::from(b[j * n + i % n])).sum();
        let want: Vec<i32> = (0..m * n).map(cell).collect();
        assert_eq!(values::<i32>(&matmul("matmul_s8", &tile, size, bytes(&a), bytes(&b))), want);
    }
}

#[test]
fn flash_attention() {
    let (t, d) = (50, 16);
    let mut numbers = Numbers(4);
    let mut draw = || (0..t * d).map(|_| f16::from_f32(numbers.float())).collect::<Vec<_>>();
    let (q, k, v) = (draw(), draw(), draw());
    let mut want = Vec::new();
    for i in 0..t {
        let dot = |j: usize| (0..d).map(|c| q[i * d + c].to_f64() * k[j * d + c].to_f64()).sum::<f64>() * 0.25;
        let weights: Vec<f64> = (0..t).map(|j| dot(j).exp()).collect();
        let sum: f64 = weights.iter().sum();
        want.extend((0..d).map(|c| (0..t).map(|j| weights[j] / sum * v[j * d + c].to_f64()).sum::<f64>()));
    }
    let text = corpus("triton/attention.ptx");
    let launch =
        Launch { file: "attention", text: &text, kernel: "attention", grid: [4, 1, 1], block: 32, shared: 1024 };
    let packed = |v: &[f16]| Arg::In(bytes(&v.iter().map(|v| v.to_bits()).collect::<Vec<_>>()));
    let last = [Arg::Out(t * d * 4), Arg::F32(0.25), Arg::I32(t as i32), Arg::Null, Arg::Null];
    let out = launch.run(&[&[packed(&q), packed(&k), packed(&v)][..], &last].concat());
    close("attention", &values(&out[0]), &want, 2e-3); // the weights are rounded to f16
}
