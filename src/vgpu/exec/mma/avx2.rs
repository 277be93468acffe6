//! The hot `mma` forms with AVX2, FMA and F16C. Same bits as the portable code.

use std::arch::x86_64::*;

use super::fragment::reg;
use super::{Acc, Form};
use crate::vgpu::ir::{File, Ins, RowId};

/// Order of columns in a vector: those of C's first register, then those of its second.
const COLUMNS: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];

#[inline(always)]
unsafe fn row_ptr(file: &File, r: RowId) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe { file.rows.add(r as usize).cast() }
}

/// Transposes 8 rows of eight 16-bit units.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose16(r: [__m128i; 8]) -> [__m128i; 8] {
    let lo = |a, b| _mm_unpacklo_epi16(a, b);
    let hi = |a, b| _mm_unpackhi_epi16(a, b);
    let t = [lo(r[0], r[1]), hi(r[0], r[1]), lo(r[2], r[3]), hi(r[2], r[3])];
    let v = [lo(r[4], r[5]), hi(r[4], r[5]), lo(r[6], r[7]), hi(r[6], r[7])];
    let mut out = [r[0]; 8];
    for i in 0..2 {
        let (a, b) = (_mm_unpacklo_epi32(t[i], t[i + 2]), _mm_unpackhi_epi32(t[i], t[i + 2]));
        let (c, d) = (_mm_unpacklo_epi32(v[i], v[i + 2]), _mm_unpackhi_epi32(v[i], v[i + 2]));
        out[4 * i] = _mm_unpacklo_epi64(a, c);
        out[4 * i + 1] = _mm_unpackhi_epi64(a, c);
        out[4 * i + 2] = _mm_unpacklo_epi64(b, d);
        out[4 * i + 3] = _mm_unpackhi_epi64(b, d);
    }
    out
}

#[inline]
#[target_feature(enable = "avx2")]
fn widen<const SIGNED: bool>(bytes: __m128i) -> __m256i {
    if SIGNED { _mm256_cvtepi8_epi16(bytes) } else { _mm256_cvtepu8_epi16(bytes) }
}

/// `mma` on bytes: `H` halves of eight rows, `S` pieces of 16 of K; signs of A and B.
///
/// Pairs of K are multiplied and added by one instruction: A's pair is broadcast, B's pairs of all eight columns lie side by side.
///
/// # Safety
/// [`crate::vgpu::ir::RowFn`]'s, and the host has AVX2.
#[target_feature(enable = "avx2")]
pub unsafe fn bytes<const H: usize, const S: usize, const A: bool, const B: bool>(file: &File, ins: &Ins, _mask: u32) {
    let sat = Form::unpack(ins.imm).sat;
    let (nd, na) = (2 * H, H * S);
    // SAFETY: the caller's promise: every register in the list is a row of 128 bytes.
    unsafe {
        let mut pairs = [[0i32; 16]; 16]; // A: [row][pair of K]
        for s in 0..S {
            for h in 0..H {
                let from = row_ptr(file, reg(file, ins, nd + s * H + h));
                for g in 0..8 {
                    let wide = widen::<A>(_mm_load_si128(from.add(16 * g).cast()));
                    _mm256_storeu_si256(pairs[8 * h + g][8 * s..].as_mut_ptr().cast(), wide);
                }
            }
        }
        let mut columns = [_mm256_setzero_si256(); 16]; // B: [pair of K], eight columns each
        for s in 0..S {
            let from = row_ptr(file, reg(file, ins, nd + na + s));
            let mut rows = [_mm_setzero_si128(); 8];
            for (row, n) in rows.iter_mut().zip(COLUMNS) {
                *row = _mm_load_si128(from.add(16 * n).cast());
            }
            for (p, row) in transpose16(rows).into_iter().enumerate() {
                columns[8 * s + p] = widen::<B>(row);
            }
        }
        let mut out = [_mm256_setzero_si256(); 16];
        for r in (0..8 * H).step_by(4) {
            let mut sums = [_mm256_setzero_si256(); 4];
            for p in 0..8 * S {
                for (q, sum) in sums.iter_mut().enumerate() {
                    let products = _mm256_madd_epi16(_mm256_set1_epi32(pairs[r + q][p]), columns[p]);
                    *sum = _mm256_add_epi32(*sum, products);
                }
            }
            out[r..r + 4].copy_from_slice(&sums);
        }
        // All sources are read before anything is written: D may be one of them.
        for h in 0..H {
            let c = [0, 1].map(|i| row_ptr(file, reg(file, ins, nd + na + S + 2 * h + i)));
            for g in 0..8 {
                let c =
                    _mm256_set_m128i(_mm_load_si128(c[1].add(16 * g).cast()), _mm_load_si128(c[0].add(16 * g).cast()));
                let sum = out[8 * h + g];
                let mut total = _mm256_add_epi32(c, sum);
                if sat {
                    // Overflow where both terms have another sign than the total.
                    let over = _mm256_and_si256(_mm256_xor_si256(c, total), _mm256_xor_si256(sum, total));
                    let limit = _mm256_xor_si256(_mm256_srai_epi32::<31>(c), _mm256_set1_epi32(i32::MAX));
                    total = _mm256_blendv_epi8(total, limit, _mm256_srai_epi32::<31>(over));
                }
                out[8 * h + g] = total;
            }
        }
        for h in 0..H {
            let d = [0, 1].map(|i| row_ptr(file, reg(file, ins, 2 * h + i)));
            for g in 0..8 {
                _mm_store_si128(d[0].add(16 * g).cast(), _mm256_castsi256_si128(out[8 * h + g]));
                _mm_store_si128(d[1].add(16 * g).cast(), _mm256_extracti128_si256::<1>(out[8 * h + g]));
            }
        }
    }
}

/// Transposes 8 rows of eight f32.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose32(r: [__m256; 8]) -> [__m256; 8] {
    let lo = |a, b| _mm256_unpacklo_ps(a, b);
    let hi = |a, b| _mm256_unpackhi_ps(a, b);
    let pair = |a: __m256, b: __m256| {
        let (a, b) = (_mm256_castps_pd(a), _mm256_castps_pd(b));
        (_mm256_castpd_ps(_mm256_unpacklo_pd(a, b)), _mm256_castpd_ps(_mm256_unpackhi_pd(a, b)))
    };
    let mut quads = [r[0]; 8]; // [half of the rows][column % 4]; columns 4.. in the upper halves
    for h in 0..2 {
        let r = &r[4 * h..];
        (quads[4 * h], quads[4 * h + 1]) = pair(lo(r[0], r[1]), lo(r[2], r[3]));
        (quads[4 * h + 2], quads[4 * h + 3]) = pair(hi(r[0], r[1]), hi(r[2], r[3]));
    }
    let mut out = quads;
    for i in 0..4 {
        out[i] = _mm256_permute2f128_ps::<0x20>(quads[i], quads[i + 4]);
        out[i + 4] = _mm256_permute2f128_ps::<0x31>(quads[i], quads[i + 4]);
    }
    out
}

/// Eight elements of a row or column as f32.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wide {
    /// 16 bytes of f16.
    F16,
    /// 16 bytes of bf16.
    Bf16,
    /// 32 bytes of f32, of which tensor cores read the upper 19 bits.
    Tf32,
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn load(kind: Wide, from: [*mut u8; 2], g: usize) -> __m256 {
    // SAFETY: the caller's promise: rows of 128 bytes, g < 8.
    unsafe {
        let low = _mm_load_si128(from[0].add(16 * g).cast());
        match kind {
            Wide::F16 => _mm256_cvtph_ps(low),
            Wide::Bf16 => _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(low))),
            Wide::Tf32 => {
                let both = _mm256_set_m128i(_mm_load_si128(from[1].add(16 * g).cast()), low);
                _mm256_castsi256_ps(_mm256_and_si256(both, _mm256_set1_epi32(0xffff_e000u32 as i32)))
            }
        }
    }
}

/// `m16n8k16` of f16 and bf16 and `m16n8k8` of tf32, C and D in f32: a chain of fused multiply-adds in the order of k.
///
/// # Safety
/// [`crate::vgpu::ir::RowFn`]'s, and the host has AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn chain(file: &File, ins: &Ins, form: &Form, kind: Wide) {
    debug_assert!(form.m == 16 && form.segments() == 2 && form.c == Acc::F32 && form.d == Acc::F32);
    // Each element vector holds eight of k: one 16-byte piece, or both of tf32.
    let vectors = form.k / 8;
    let piece = |first: usize, stride: usize, v: usize| {
        let second = if kind == Wide::Tf32 { first + stride } else { first };
        // SAFETY: the caller's promise.
        [first + v * stride, second + v * stride].map(|i| unsafe { row_ptr(file, reg(file, ins, i)) })
    };
    // SAFETY: the caller's promise: every register in the list is a row of 128 bytes.
    unsafe {
        let mut a = [[0f32; 16]; 16];
        let mut b = [_mm256_setzero_ps(); 16]; // [k], eight columns each
        for v in 0..vectors {
            for h in 0..2 {
                let from = piece(4 + h, 2, v);
                for g in 0..8 {
                    _mm256_storeu_ps(a[8 * h + g][8 * v..].as_mut_ptr(), load(kind, from, g));
                }
            }
            let from = piece(8, 1, v);
            let mut columns = [_mm256_setzero_ps(); 8];
            for (column, n) in columns.iter_mut().zip(COLUMNS) {
                *column = load(kind, from, n);
            }
            b[8 * v..8 * v + 8].copy_from_slice(&transpose32(columns));
        }
        let mut out = [_mm256_setzero_ps(); 16];
        for h in 0..2 {
            let c = [0, 1].map(|i| row_ptr(file, reg(file, ins, 10 + 2 * h + i)).cast::<f32>());
            for g in 0..8 {
                out[8 * h + g] = _mm256_set_m128(_mm_load_ps(c[1].add(4 * g)), _mm_load_ps(c[0].add(4 * g)));
            }
        }
        for r in (0..16).step_by(8) {
            let mut sums = [out[0]; 8];
            sums.copy_from_slice(&out[r..r + 8]);
            for (k, column) in b.iter().enumerate().take(form.k) {
                for (q, sum) in sums.iter_mut().enumerate() {
                    *sum = _mm256_fmadd_ps(_mm256_set1_ps(a[r + q][k]), *column, *sum);
                }
            }
            out[r..r + 8].copy_from_slice(&sums);
        }
        let nan = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fff_ffff));
        for h in 0..2 {
            let d = [0, 1].map(|i| row_ptr(file, reg(file, ins, 2 * h + i)).cast::<f32>());
            for g in 0..8 {
                let x = out[8 * h + g];
                let x = _mm256_blendv_ps(x, nan, _mm256_cmp_ps::<_CMP_UNORD_Q>(x, x));
                _mm_store_ps(d[0].add(4 * g), _mm256_castps256_ps128(x));
                _mm_store_ps(d[1].add(4 * g), _mm256_extractf128_ps::<1>(x));
            }
        }
    }
}
