//! Integer convolutions: all three passes on every tile, and counters of their launches.
//!
//! Cases as those of [`super`].

use super::*;

/// Batch, height, width, C, K, kernel, stride, padding.
type Shape = (usize, usize, usize, usize, usize, usize, usize, usize);

fn conv(s: Shape) -> Conv2d {
    let (n, h, w, c, k, kernel, stride, padding) = s;
    let out = |size: usize| (size + 2 * padding - kernel) / stride + 1;
    let [n, h, w, c, k, r, s, p, q, stride_h, stride_w, pad_h, pad_w] =
        [n, h, w, c, k, kernel, kernel, out(h), out(w), stride, stride, padding, padding].map(|v| v as u32);
    Conv2d { n, h, w, c, k, r, s, p, q, stride_h, stride_w, pad_h, pad_w }
}

/// All three passes of one convolution.
fn passes(gpus: &[Named], shape: Shape, large: bool, stochastic: bool) {
    let conv = conv(shape);
    same(gpus, &format!("conv2d {shape:?} large {large} stochastic {stochastic}"), |side| {
        gemms(side, conv, large, stochastic)
    });
}

fn gemms(side: &mut Side, conv: Conv2d, large: bool, stochastic: bool) {
    let mut random = Random(conv.x_len() as u64);
    let (n, c, k, taps) = (conv.n as usize, conv.c as usize, conv.k as usize, (conv.r * conv.s) as usize);
    let (rows, pixels) = (conv.rows(), n * (conv.h * conv.w) as usize);
    let step = side.put(&STEP);
    // A second block of rows with few rows, all 0: rows behind the end must not count for its exponent.
    let quiet = |mut m: Vec<i8>, c: usize| {
        if conv.r == 1 && m.len() == 66 * pad(c) {
            m[64 * pad(c)..].fill(0);
        }
        m
    };
    let (x, xe) = (side.put(&quiet(random.mantissas(pixels, c, large), c)), side.put(&random.exponents(n)));
    let (w, we) = (side.put(&random.mantissas(k * taps, c, large)), side.put(&random.exponents(k)));
    let i8 = side.backend.clone();
    let i8 = i8.int8().unwrap();
    let p = Conv2dI8 { conv, noise: noise(33, stochastic), wide: 0 };
    let (y, ye) = (side.out("y", rows * pad(k)), side.out("y exponents", blocks(rows, k)));
    let sums = side.out("y sums", rows.div_ceil(64) * pad(k) * size_of::<OutputSums>());
    i8.conv2d_fwd_i8(&p, bfp(&x, &xe), bfp(&w, &we), step.all(), bfp(&y, &ye), sums.all()).unwrap();

    for (add, store, other, form) in [
        (1, 1, Form::F32, Form::F32),
        (1, 0, Form::Bfp16, Form::F32),
        (0, 1, Form::F32, Form::Bfp16),
        (1, 1, Form::Bfp16, Form::Bfp16),
        (1, 0, Form::F32, Form::Bfp16),
    ] {
        let p = Conv2dStreamI8 { product: p, add, other: other as u32, form: form as u32, store };
        let stored = store as usize;
        let [other, oe] = side.tensor(&mut random, other, rows, k);
        let ([s, se], q) = (side.stream(form, rows, k), side.out("its mantissas", stored * rows * pad(k)));
        let e = side.out("its exponents", stored * blocks(rows, k));
        let sums = side.out("its sums", stored * rows.div_ceil(64) * pad(k) * size_of::<OutputSums>());
        let (x, w, q) = (bfp(&x, &xe), bfp(&w, &we), bfp(&q, &e));
        i8.conv2d_stream_i8(&p, x, w, step.all(), bfp(&other, &oe), bfp(&s, &se), q, sums.all()).unwrap();
    }

    let (dy, ed) = (side.put(&quiet(random.mantissas(rows, k, large), k)), side.put(&random.exponents(n)));
    let turned = side.put(&random.mantissas(c * taps, k, large));
    let (z, ze) = (side.put(&random.mantissas(pixels, c, false)), side.put(&random.exponents(blocks(pixels, c))));
    let affine: Vec<f32> = random.floats(2 * pad(c));
    let affine: Vec<f32> = affine.iter().enumerate().map(|(i, v)| if i % pad(c) < c { *v } else { 0.0 }).collect();
    let affine = side.put(&affine);
    for fused in [false, true] {
        let (dx, dxe) = (side.out("dx", pixels * pad(c)), side.out("dx exponents", blocks(pixels, c)));
        let length = if fused { pixels.div_ceil(64) * pad(c) * size_of::<GradientSums>() } else { 0 };
        let sums = side.out("dx sums", length);
        let before = fused.then_some(Normalised { y: bfp(&z, &ze), affine: affine.all() });
        let (dy, dx) = (bfp(&dy, &ed), bfp(&dx, &dxe));
        i8.conv2d_dgrad_i8(&p, dy, turned.all(), step.all(), before, dx, sums.all()).unwrap();
    }

    let ew = side.put(&random.exponents(k));
    let both = random.mantissas(2 * rows, k, large);
    let both = side.put(&both);
    for (wide, dy) in [(0, &dy), (1, &both)] {
        let p = Conv2dI8 { wide, ..p };
        let (dw, ws) = (side.out("dw", conv.w_len() * 4), side.ws(&Kernel::Conv2dWgradI8(p)));
        i8.conv2d_wgrad_i8(&p, bfp(&x, &xe), bfp(dy, &ew), dw.all(), ws.all()).unwrap();
    }
}

pub fn convolutions(gpus: &[Named]) {
    passes(gpus, (2, 8, 8, 3, 16, 3, 1, 1), false, true);
    passes(gpus, (3, 7, 5, 37, 48, 3, 1, 1), false, true); // samples within a block
    passes(gpus, (1, 12, 11, 16, 130, 1, 1, 0), true, false);
    passes(gpus, (1, 9, 9, 48, 37, 3, 2, 1), false, true);
    passes(gpus, (2, 13, 12, 3, 37, 7, 3, 3), false, true);
    // Gradients of strides that are powers of two, on every tile.
    passes(gpus, (2, 9, 8, 130, 37, 3, 2, 1), false, true);
    passes(gpus, (2, 13, 12, 70, 20, 1, 2, 0), true, true);
    passes(gpus, (1, 11, 12, 20, 37, 7, 2, 3), false, false);
    passes(gpus, (1, 10, 9, 37, 20, 5, 4, 2), false, true);
    passes(gpus, (1, 17, 16, 130, 130, 3, 1, 1), false, true);
    passes(gpus, (3, 2, 2, 64, 64, 3, 1, 1), true, true);
    passes(gpus, (2, 36, 36, 3, 20, 3, 1, 1), true, true); // several slices of the weight gradient
    passes(gpus, (1, 11, 6, 210, 210, 1, 1, 0), false, true); // see `quiet`
    // Stages of a whole number of rounds: a warp must not write its results over what another one still reads.
    passes(gpus, (1, 4, 4, 90, 90, 2, 1, 0), false, true);
    passes(gpus, (1, 17, 16, 320, 130, 1, 1, 0), false, true);
    passes(gpus, (1, 8, 8, 16, 64, 2, 2, 0), false, true);
    if everything() {
        for (i, c) in [3, 16, 37, 48, 64, 130].into_iter().enumerate() {
            for (j, k) in [3, 16, 37, 48, 64, 130].into_iter().enumerate() {
                let (kernel, padding) = [(1, 0), (3, 1), (7, 3), (5, 0)][(i + j) % 4];
                passes(gpus, (1 + j % 3, 8 + i, 9 + j, c, k, kernel, 1 + (i + 2 * j) % 3, padding), i == j, j % 2 == 0);
            }
        }
        passes(gpus, (1, 14, 15, 20, 20, 13, 1, 6), false, true);
    }
}

#[test]
fn integer_gemms_have_no_bank_conflicts() {
    if !have_kernels("int8: bank conflicts") {
        return;
    }
    for sms in [1, 108] {
        let driver =
            Arc::new(Vgpu::new(Options { profile: true, limits: Limits { sms, ..A100 }, ..Options::default() }));
        let mut side = Side { backend: Arc::new(Cuda::new(driver.clone()).unwrap()), outputs: Vec::new() };
        driver.take_summaries();
        let conv = conv((1, 16, 16, 128, 128, 3, 1, 1));
        gemms(&mut side, conv, false, false);
        let counted = driver.take_summaries();
        let products: Vec<_> =
            counted.iter().filter(|s| s.kernel.starts_with("conv2d") && !s.kernel.contains("sum")).collect();
        assert_eq!(products.len(), 10, "forward, five into a stream, two data gradients, two weight gradients");
        for s in products {
            assert_eq!(s.shared.wavefronts, s.shared.ideal, "{}: bank conflicts", s.kernel);
        }
    }
}
