//! `matmul_{nn,nt,tn}_f32`, both tiles, against sums in f64.

use earlybird::backend::cuda::matmul::{Stored, matmul_f32};
use earlybird::ops::matmul::Matmul;

use crate::device::{Gpu, Open, SCHEDULES, STREAM, noise};

for_each_gpu!(crate::device::vgpu, crate::device::cuda; small_tiles_on_odd_shapes_under_all_schedules, large_tiles_equal_small_ones_bit_for_bit);

/// Compares one product; `(lda, ldb, ldc)` may be wider than the matrices.
fn check(gpu: &Gpu, stored: Stored, [m, n, k]: [u32; 3], pad: u32) {
    let mut p = match stored {
        Stored::Nn => Matmul::nn(m, n, k),
        Stored::Nt => Matmul::nt(m, n, k),
        Stored::Tn => Matmul::tn(m, n, k),
    };
    p.lda += pad;
    p.ldb += pad;
    p.ldc += pad;
    let (rows_a, rows_b) = (if stored == Stored::Tn { k } else { m }, if stored == Stored::Nt { n } else { k });
    let a = noise(1, (rows_a * p.lda) as usize);
    let b = noise(2, (rows_b * p.ldb) as usize);
    let (da, db) = (gpu.upload(&a), gpu.upload(&b));
    // Poison that must survive between the rows.
    let dc = gpu.upload(&vec![-7.0f32; (m * p.ldc) as usize]);
    matmul_f32(&gpu.kernels, STREAM, stored, &p, da, db, dc).unwrap();
    let c: Vec<f32> = gpu.download(dc, (m * p.ldc) as usize);
    let at = |row: u32, col: u32, ld: u32| (row * ld + col) as usize;
    for i in 0..m {
        for j in 0..p.ldc {
            let got = c[at(i, j, p.ldc)];
            if j >= n {
                assert_eq!(got, -7.0, "padding behind row {i}");
                continue;
            }
            let (mut sum, mut size) = (0f64, 0f64);
            for l in 0..k {
                let x = a[if stored == Stored::Tn { at(l, i, p.lda) } else { at(i, l, p.lda) }];
                let y = b[if stored == Stored::Nt { at(j, l, p.ldb) } else { at(l, j, p.ldb) }];
                sum += f64::from(x) * f64::from(y);
                size += (f64::from(x) * f64::from(y)).abs();
            }
            // A chain of k fused multiply-adds rounds k times.
            let bound = f64::from(k) * size * f64::from(f32::EPSILON) / 2.0 + 1e-30;
            assert!((f64::from(got) - sum).abs() <= bound, "{stored:?} {m}x{n}x{k} at ({i}, {j}): {got} for {sum}");
        }
    }
}

fn small_tiles_on_odd_shapes_under_all_schedules(open: &Open) {
    for schedule in SCHEDULES {
        let gpu = open(schedule);
        for stored in [Stored::Nn, Stored::Nt, Stored::Tn] {
            check(&gpu, stored, [33, 37, 19], 0);
            check(&gpu, stored, [1, 1, 1], 3);
            check(&gpu, stored, [32, 64, 16], 0);
            check(&gpu, stored, [5, 70, 0], 1);
        }
    }
}

fn large_tiles_equal_small_ones_bit_for_bit(open: &Open) {
    use earlybird::driver::Dims;
    let gpu = open("converge");
    for [m, n, k] in [[130u32, 140, 33], [128, 128, 32]] {
        let p = Matmul::nn(m, n, k);
        let (a, b) = (gpu.upload(&noise(3, (m * k) as usize)), gpu.upload(&noise(4, (k * n) as usize)));
        let (large, small) = (gpu.alloc::<f32>((m * n) as usize), gpu.alloc::<f32>((m * n) as usize));
        let dims = |side: u32, threads: u32| Dims {
            grid: [n.div_ceil(side), m.div_ceil(side), 1],
            block: [threads, 1, 1],
            shared: 0,
        };
        gpu.kernels.matmul_nn_f32(dims(128, 256), STREAM, &p, a, b, large).unwrap();
        gpu.kernels.matmul_nn_f32_small(dims(32, 64), STREAM, &p, a, b, small).unwrap();
        let bits = |ptr| gpu.download::<u32>(ptr, (m * n) as usize);
        assert_eq!(bits(large), bits(small), "{m}x{n}x{k}");
    }
}
