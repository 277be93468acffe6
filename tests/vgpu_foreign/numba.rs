//! numba-cuda kernels by libNVVM: arrays come as seven (one axis) or nine (two axes) parameters.

use super::{Arg, Launch, Numbers, bytes, close, corpus, values};

fn vector(data: Arg, size: usize, item: usize) -> Vec<Arg> {
    let (size, item) = (Arg::I64(size as i64), Arg::I64(item as i64));
    vec![Arg::Null, Arg::Null, size.clone(), item.clone(), data, size, item]
}

fn matrix(data: Arg, rows: usize, columns: usize, item: usize) -> Vec<Arg> {
    let n = |v: usize| Arg::I64(v as i64);
    vec![Arg::Null, Arg::Null, n(rows * columns), n(item), data, n(rows), n(columns), n(columns * item), n(item)]
}

fn launch(kernel: &str, grid: [u32; 3], block: [u32; 3], args: &[Arg]) -> Vec<Vec<Vec<u8>>> {
    let file = format!("nvvm/{kernel}.ptx");
    let text = corpus(&file);
    Launch { file: &file, text: &text, kernel, grid, block: 0, shared: 0 }.run_each(args, block)
}

#[test]
fn saxpy() {
    let (x, y) = (Numbers(1).floats(100), Numbers(2).floats(100));
    let want: Vec<f64> = x.iter().zip(&y).map(|(x, y)| 2.5 * f64::from(*x) + f64::from(*y)).collect();
    let args =
        [vec![Arg::F32(2.5)], vector(Arg::In(bytes(&x)), 100, 4), vector(Arg::InOut(bytes(&y)), 100, 4)].concat();
    for out in launch("saxpy", [2, 1, 1], [64, 1, 1], &args) {
        close("saxpy", &values(&out[0]), &want, 1e-6);
    }
}

#[test]
fn matmul_by_tiles() {
    let (m, n, k) = (20, 40, 35);
    let (a, b) = (Numbers(3).floats(m * k), Numbers(4).floats(k * n));
    let want = product(&a, &b, m, n, k);
    let args = [
        matrix(Arg::In(bytes(&a)), m, k, 4),
        matrix(Arg::In(bytes(&b)), k, n, 4),
        matrix(Arg::Out(m * n * 4), m, n, 4),
    ]
    .concat();
    for out in launch("matmul", [3, 2, 1], [16, 16, 1], &args) {
        close("matmul", &values(&out[0]), &want, 1e-5);
    }
}

/// a (m x k) times b (k x n) in f64.
pub fn product(a: &[f32], b: &[f32], m: usize, n: usize, k: usize) -> Vec<f64> {
    let cell = |i: usize| (0..k).map(|j| f64::from(a[i / n * k + j]) * f64::from(b[j * n + i % n])).sum();
    (0..m * n).map(cell).collect()
}

#[test]
fn mandelbrot_diverges_and_meets_again() {
    let (h, w) = (20, 30);
    let (x0, y0, dx) = (-2.013, -1.007, 0.1003);
    let want: Vec<i32> = (0..h * w)
        .map(|p| {
            let (cx, cy) = (x0 + (p % w) as f64 * dx, y0 + (p / w) as f64 * dx);
            let (mut x, mut y, mut n) = (0.0, 0.0, 0);
            while n < 40 && x * x + y * y < 4.0 {
                (x, y) = (x * x - y * y + cx, 2.0 * x * y + cy);
                n += 1;
            }
            n
        })
        .collect();
    let numbers = [Arg::F64(x0), Arg::F64(y0), Arg::F64(dx), Arg::I32(40)].to_vec();
    let args = [matrix(Arg::Out(h * w * 4), h, w, 4), numbers].concat();
    for out in launch("mandel", [3, 4, 1], [8, 8, 1], &args) {
        assert_eq!(values::<i32>(&out[0]), want);
    }
}

#[test]
fn histogram_and_statistics_by_atomics() {
    let x = Numbers(5).ints(300, 0, 1000);
    let mut want = [0; 10];
    x.iter().for_each(|v| want[(*v % 10) as usize] += 1);
    let args = [vector(Arg::In(bytes(&x)), 300, 4), vector(Arg::InOut(vec![0; 40]), 10, 4)].concat();
    for out in launch("hist", [3, 1, 1], [128, 1, 1], &args) {
        assert_eq!(values::<i32>(&out[0]), want);
    }
    let x: Vec<f64> = Numbers(6).floats(256).into_iter().map(f64::from).collect();
    let warps = || x.chunks(32).map(|w| w.iter().sum::<f64>());
    let want = [x.iter().sum(), warps().fold(f64::MIN, f64::max), x.iter().filter(|v| **v > 0.0).count() as f64];
    let start = bytes(&[0.0, -1e9, 0.0]);
    let args = [vector(Arg::In(bytes(&x)), 256, 8), vector(Arg::InOut(start), 3, 8)].concat();
    for out in launch("stats", [2, 1, 1], [128, 1, 1], &args) {
        for (got, want) in values::<f64>(&out[0]).iter().zip(want) {
            assert!((got - want).abs() < 1e-12, "{got}, should be {want}");
        }
    }
}

#[test]
fn integers_divide_as_python_does() {
    let mut numbers = Numbers(7);
    let x = numbers.ints(200, i32::MIN.into(), 1 << 31);
    let y: Vec<i32> = numbers.ints(200, -50, 50).into_iter().map(|v| if v == 0 { 7 } else { v }).collect();
    let want: Vec<i32> = x
        .iter()
        .zip(&y)
        .map(|(x, y)| {
            let (a, b) = (i64::from(*x), i64::from(*y));
            let floor = a.div_euclid(b) - i64::from(b < 0 && a.rem_euclid(b) != 0);
            let sum = floor + (a - floor * b) + (a >> 3) - i64::from(x.leading_zeros())
                + i64::from((*y as u32).reverse_bits());
            sum as i32
        })
        .collect();
    let args = [vector(Arg::In(bytes(&x)), 200, 4), vector(Arg::In(bytes(&y)), 200, 4), vector(Arg::Out(800), 200, 4)]
        .concat();
    for out in launch("ints", [2, 1, 1], [128, 1, 1], &args) {
        assert_eq!(values::<i32>(&out[0]), want);
    }
}

#[test]
fn bubble_sort_in_local_memory() {
    let x = Numbers(8).ints(64 * 8, -99, 99);
    let mut want = x.clone();
    want.chunks_mut(8).for_each(<[i32]>::sort_unstable);
    for out in launch("local_sort", [2, 1, 1], [32, 1, 1], &matrix(Arg::InOut(bytes(&x)), 64, 8, 4)) {
        assert_eq!(values::<i32>(&out[0]), want);
    }
}
