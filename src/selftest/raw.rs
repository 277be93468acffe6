//! Cases of the kernels that are no operator's: casts, and products as such.

use half::{bf16, f16};

use super::Case;
use super::side::Rule;
use crate::backend::Memory;
use crate::backend::cuda::cast::{Narrow, cast_from_f32, cast_to_f32};
use crate::backend::cuda::matmul::{Stored, matmul_f32};
use crate::data::noise;
use crate::driver::DevPtr;
use crate::ops::matmul::Matmul;

/// All cases.
pub(super) fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for narrow in [Narrow::F16, Narrow::Bf16, Narrow::I8, Narrow::U8] {
        all.push(casts(narrow));
    }
    for stored in [Stored::Nn, Stored::Nt, Stored::Tn] {
        all.push(product(stored));
    }
    all
}

fn address(memory: &Memory) -> DevPtr {
    DevPtr(memory.all().address())
}

/// Bytes of `x` in a narrow format: to nearest even, integers saturate.
fn narrowed(x: &[f32], to: Narrow) -> Vec<u8> {
    let bytes = |v: &f32| match to {
        Narrow::F16 => f16::from_f32(*v).to_le_bytes().to_vec(),
        Narrow::Bf16 => bf16::from_f32(*v).to_le_bytes().to_vec(),
        Narrow::I8 => vec![v.round_ties_even() as i8 as u8],
        Narrow::U8 => vec![v.round_ties_even() as u8],
    };
    x.iter().flat_map(bytes).collect()
}

fn widened(x: &[u8], from: Narrow) -> Vec<f32> {
    let pair = |p: &[u8]| u16::from_le_bytes([p[0], p[1]]);
    match from {
        Narrow::F16 => x.chunks_exact(2).map(|p| f16::from_bits(pair(p)).to_f32()).collect(),
        Narrow::Bf16 => x.chunks_exact(2).map(|p| bf16::from_bits(pair(p)).to_f32()).collect(),
        Narrow::I8 => x.iter().map(|v| f32::from(*v as i8)).collect(),
        Narrow::U8 => x.iter().map(|v| f32::from(*v)).collect(),
    }
}

fn casts(narrow: Narrow) -> Case {
    Case::raw(format!("cast, f32 and {narrow:?}"), move |cuda, s| {
        const N: usize = 1024 + 259;
        // Every exponent that matters, ties of the integer formats, and numbers that saturate.
        let scale = |i: usize| [1.0f32, 64.0, 1e-5, 300.0][i % 4];
        let mut x: Vec<f32> = noise(N, 1).iter().enumerate().map(|(i, v)| v * scale(i)).collect();
        x[..6].copy_from_slice(&[0.5, 1.5, -0.5, -2.5, 1e9, -1e9]);
        let small = narrowed(&x, narrow);
        let (kernels, stream, n) = (cuda.kernels(), cuda.stream(), N as u32);
        let (from, to) = (s.put(&x)?, s.expected("narrow", &small, Rule::Exact)?);
        cast_from_f32(kernels, stream, narrow, address(&from), address(&to), n)?;
        let (from, to) = (s.put(&small)?, s.expected("wide", &widened(&small, narrow), Rule::Exact)?);
        Ok(cast_to_f32(kernels, stream, narrow, address(&from), address(&to), n)?)
    })
}

fn product(stored: Stored) -> Case {
    Case::raw(format!("matmul_f32, {stored:?}"), move |cuda, s| {
        const M: usize = 70;
        const N: usize = 133;
        const K: usize = 37;
        let p = match stored {
            Stored::Nn => Matmul::nn(M as u32, N as u32, K as u32),
            Stored::Nt => Matmul::nt(M as u32, N as u32, K as u32),
            Stored::Tn => Matmul::tn(M as u32, N as u32, K as u32),
        };
        let (a, b) = (noise(M * K, 1), noise(K * N, 2));
        let left = |i: usize, k: usize| if stored == Stored::Tn { a[k * M + i] } else { a[i * K + k] };
        let right = |k: usize, j: usize| if stored == Stored::Nt { b[j * K + k] } else { b[k * N + j] };
        let term = |i, j| (0..K).map(|k| f64::from(left(i, k)) * f64::from(right(k, j))).sum::<f64>() as f32;
        let c: Vec<f32> = (0..M * N).map(|at| term(at / N, at % N)).collect();
        let (a, b, c) = (s.put(&a)?, s.put(&b)?, s.expected("c", &c, Rule::Sum(K))?);
        Ok(matmul_f32(cuda.kernels(), cuda.stream(), stored, &p, address(&a), address(&b), address(&c))?)
    })
}
