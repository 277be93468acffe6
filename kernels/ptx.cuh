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

// threadIdx.x, read anew: what is made of it behind a long loop takes no registers in the loop.
__device__ __forceinline__ u32 ptx_thread() {
    u32 r;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(r));
    return r;
}

// Picks four bytes of (b:a) by the nibbles of `select`.
__device__ __forceinline__ u32 ptx_prmt(u32 a, u32 b, u32 select) {
    u32 r;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(select));
    return r;
}

// The smaller, the larger of each half of two words of f16.
__device__ __forceinline__ u32 ptx_min_f16x2(u32 a, u32 b) {
    u32 r;
    asm("min.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
    return r;
}
__device__ __forceinline__ u32 ptx_max_f16x2(u32 a, u32 b) {
    u32 r;
    asm("max.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
    return r;
}

// Address in shared memory as the instructions below want it.
__device__ __forceinline__ u32 ptx_shared(const void* p) { return (u32)__cvta_generic_to_shared(p); }

// Copies 16 bytes from global to shared memory in the background; `bytes` is 16 or 0, and 0 writes zeros and reads nothing.
__device__ __forceinline__ void ptx_cp_async16(u32 to, const void* from, u32 bytes) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}
__device__ __forceinline__ void ptx_cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most N of this thread's groups are on their way.
template <int N> __device__ __forceinline__ void ptx_cp_async_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }

// Four 8x8 matrices of 16-bit elements; each lane names a row of 16 bytes.
__device__ __forceinline__ void ptx_ldmatrix(u32 (&r)[4], u32 at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(at) : "memory");
}
// The same, each matrix transposed.
__device__ __forceinline__ void ptx_ldmatrix_trans(u32 (&r)[4], u32 at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(at) : "memory");
}

// c += a * b: 16x32 by 32x8 signed bytes, exact in 32 bits.
__device__ __forceinline__ void ptx_mma_s8(i32 (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// The same value, of which the compiler knows nothing more: what it cannot derive again stays in its register, and sums that it would split stay sums.
__device__ __forceinline__ u32 ptx_opaque(u32 v) {
    asm volatile("" : "+r"(v));
    return v;
}
__device__ __forceinline__ const f32* ptx_opaque(const f32* v) {
    asm volatile("" : "+l"(v));
    return v;
}
