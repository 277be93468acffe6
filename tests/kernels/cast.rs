//! `cast_*`: all 65,536 and 256 narrow values, and f32 on both sides of every rounding boundary, against the crate `half` and Rust's saturating casts.

use earlybird::backend::cuda::cast::{Narrow, cast_from_f32, cast_to_f32};
use half::{bf16, f16};

use crate::device::{Open, STREAM};

for_each_gpu!(crate::device::vgpu, crate::device::cuda; every_narrow_value_widens_exactly, narrowing_rounds_to_nearest_even_and_saturates);

fn every_narrow_value_widens_exactly(open: &Open) {
    let gpu = open("converge");
    let halves: Vec<u16> = (0..=u16::MAX).collect();
    let bytes: Vec<u8> = (0..=u8::MAX).collect();
    let (h, b) = (gpu.upload(&halves), gpu.upload(&bytes));
    let y = gpu.alloc::<f32>(65536);
    let widen = |from, x, n: usize| -> Vec<f32> {
        cast_to_f32(&gpu.kernels, STREAM, from, x, y, n as u32).unwrap();
        gpu.download(y, n)
    };
    let same = |got: f32, want: f32| got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan());
    for (v, got) in halves.iter().zip(widen(Narrow::F16, h, 65536)) {
        assert!(same(got, f16::from_bits(*v).to_f32()), "f16 {v:#x}: {got}");
    }
    for (v, got) in halves.iter().zip(widen(Narrow::Bf16, h, 65536)) {
        assert!(same(got, bf16::from_bits(*v).to_f32()), "bf16 {v:#x}: {got}");
    }
    assert!(bytes.iter().zip(widen(Narrow::I8, b, 256)).all(|(v, got)| got == f32::from(*v as i8)));
    assert!(bytes.iter().zip(widen(Narrow::U8, b, 256)).all(|(v, got)| got == f32::from(*v)));
}

/// f32 around every boundary between two neighbours of the format.
fn boundaries(values: impl Iterator<Item = f32>) -> Vec<f32> {
    let mut out = vec![f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, 0.0, -0.0, 1e-45];
    for v in values.filter(|v| v.is_finite()) {
        for bits in [v.to_bits().wrapping_sub(1), v.to_bits(), v.to_bits().wrapping_add(1)] {
            out.push(f32::from_bits(bits));
        }
    }
    out
}

fn narrowing_rounds_to_nearest_even_and_saturates(open: &Open) {
    let gpu = open("converge");
    let midpoint = |a: f32, b: f32| ((f64::from(a) + f64::from(b)) / 2.0) as f32;
    let f16s = (0..0x7bffu16).step_by(7).flat_map(|v| {
        let m = midpoint(f16::from_bits(v).to_f32(), f16::from_bits(v + 1).to_f32());
        [m, -m]
    });
    let bf16s = (0..0x7f7fu16).step_by(13).flat_map(|v| {
        let m = midpoint(bf16::from_bits(v).to_f32(), bf16::from_bits(v + 1).to_f32());
        [m, -m]
    });
    let integers = (-300..=300).flat_map(|i| [i as f32, i as f32 + 0.5]);
    for (to, inputs) in [
        (Narrow::F16, boundaries(f16s)),
        (Narrow::Bf16, boundaries(bf16s)),
        (Narrow::I8, boundaries(integers.clone())),
        (Narrow::U8, boundaries(integers)),
    ] {
        let n = inputs.len();
        let x = gpu.upload(&inputs);
        let y = gpu.alloc::<u16>(n);
        cast_from_f32(&gpu.kernels, STREAM, to, x, y, n as u32).unwrap();
        let raw: Vec<u8> = gpu.download(y, n * to.bytes());
        for (i, v) in inputs.iter().enumerate() {
            let got = match to.bytes() {
                1 => u32::from(raw[i]),
                _ => u32::from(raw[2 * i]) | u32::from(raw[2 * i + 1]) << 8,
            };
            let want = match to {
                Narrow::F16 if v.is_nan() => 0x7fff,
                Narrow::Bf16 if v.is_nan() => 0x7fff,
                Narrow::F16 => u32::from(f16::from_f32(*v).to_bits()),
                Narrow::Bf16 => u32::from(bf16::from_f32(*v).to_bits()),
                Narrow::I8 => u32::from(v.round_ties_even() as i8 as u8),
                Narrow::U8 => u32::from(v.round_ties_even() as u8),
            };
            assert_eq!(got, want, "{to:?} of {v:e} ({:#x})", v.to_bits());
        }
    }
}
