// All inline PTX of the project; no other file uses asm. Instructions whose meaning C++ cannot say: half-precision conversions without cuda_fp16.h
// (NVRTC's wheel has no headers) and saturating conversions.
#pragma once
#include "common.cuh"

// f32 -> f16, round to nearest even; overflow gives infinity, NaN the canonical 0x7fff.
__device__ __forceinline__ u16 ptx_f32_to_f16(f32 v) {
    u16 r;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r) : "f"(v));
    return r;
}

// f16 -> f32, exact.
__device__ __forceinline__ f32 ptx_f16_to_f32(u16 v) {
    f32 r;
    asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(v));
    return r;
}

// Two f32 -> packed f16: `low` in bits 0..15, `high` in bits 16..31 (the instruction names the high one first).
__device__ __forceinline__ u32 ptx_f32x2_to_f16x2(f32 low, f32 high) {
    u32 r;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}

// f32 -> bf16, round to nearest even; NaN gives the canonical 0x7fff.
__device__ __forceinline__ u16 ptx_f32_to_bf16(f32 v) {
    u16 r;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r) : "f"(v));
    return r;
}

__device__ __forceinline__ u32 ptx_f32x2_to_bf16x2(f32 low, f32 high) {
    u32 r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}

// f32 -> signed 8 bits, round to nearest even, clamped to -128..127; NaN gives 0.
__device__ __forceinline__ i32 ptx_f32_to_i8(f32 v) {
    i32 r;
    asm("cvt.rni.sat.s8.f32 %0, %1;" : "=r"(r) : "f"(v));
    return r;
}

// f32 -> unsigned 8 bits, round to nearest even, clamped to 0..255; NaN gives 0.
__device__ __forceinline__ u32 ptx_f32_to_u8(f32 v) {
    u32 r;
    asm("cvt.rni.sat.u8.f32 %0, %1;" : "=r"(r) : "f"(v));
    return r;
}

// Picks four bytes of (b:a) by the nibbles of `select`.
__device__ __forceinline__ u32 ptx_prmt(u32 a, u32 b, u32 select) {
    u32 r;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(select));
    return r;
}
