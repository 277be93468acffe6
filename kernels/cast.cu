// cast: y[i] = convert(x[i]) between f32 and the narrow formats.
//
// Rounding is to nearest even; f16 overflows to infinity, i8 and u8 saturate; NaN becomes the canonical NaN in f16 and bf16 and 0 in i8 and u8.
// Traffic per element: 4 B on the f32 side and 2 or 1 B on the other. One thread converts four elements, 16 B of the f32 side, where both addresses are 16-byte
// aligned, so that every access of a warp is whole sectors and no sector is asked for twice; else element by element. Grid-stride; blocks of 256.
#include "common.cuh"
#include "ptx.cuh"

// A narrow format: its storage, both conversions of one element, and packing 4 or 2 elements into 32 bits.
struct F16 {
    typedef u16 Store;
    static __device__ __forceinline__ u16 down(f32 v) { return ptx_f32_to_f16(v); }
    static __device__ __forceinline__ f32 up(u16 v) { return ptx_f16_to_f32(v); }
};
struct BF16 {
    typedef u16 Store;
    static __device__ __forceinline__ u16 down(f32 v) { return ptx_f32_to_bf16(v); }
    static __device__ __forceinline__ f32 up(u16 v) { return __uint_as_float((u32)v << 16); }
};
struct I8 {
    typedef u8 Store;
    static __device__ __forceinline__ u8 down(f32 v) { return (u8)ptx_f32_to_i8(v); }
    static __device__ __forceinline__ f32 up(u8 v) { return (f32)(i32)(i8)v; }
};
struct U8 {
    typedef u8 Store;
    static __device__ __forceinline__ u8 down(f32 v) { return (u8)ptx_f32_to_u8(v); }
    static __device__ __forceinline__ f32 up(u8 v) { return (f32)(u32)v; }
};

// Four f32 -> 32 bits of f16 pairs or bytes.
template <typename F> __device__ __forceinline__ void pack4(const uint4 v, u32* out);
template <> __device__ __forceinline__ void pack4<F16>(const uint4 v, u32* out) {
    out[0] = ptx_f32x2_to_f16x2(__uint_as_float(v.x), __uint_as_float(v.y));
    out[1] = ptx_f32x2_to_f16x2(__uint_as_float(v.z), __uint_as_float(v.w));
}
template <> __device__ __forceinline__ void pack4<BF16>(const uint4 v, u32* out) {
    out[0] = ptx_f32x2_to_bf16x2(__uint_as_float(v.x), __uint_as_float(v.y));
    out[1] = ptx_f32x2_to_bf16x2(__uint_as_float(v.z), __uint_as_float(v.w));
}
__device__ __forceinline__ u32 bytes4(u32 a, u32 b, u32 c, u32 d) {
    return ptx_prmt(ptx_prmt(a, b, 0x0040u), ptx_prmt(c, d, 0x0040u), 0x5410u);
}
template <> __device__ __forceinline__ void pack4<I8>(const uint4 v, u32* out) {
    out[0] = bytes4(ptx_f32_to_i8(__uint_as_float(v.x)), ptx_f32_to_i8(__uint_as_float(v.y)), ptx_f32_to_i8(__uint_as_float(v.z)),
                    ptx_f32_to_i8(__uint_as_float(v.w)));
}
template <> __device__ __forceinline__ void pack4<U8>(const uint4 v, u32* out) {
    out[0] = bytes4(ptx_f32_to_u8(__uint_as_float(v.x)), ptx_f32_to_u8(__uint_as_float(v.y)), ptx_f32_to_u8(__uint_as_float(v.z)),
                    ptx_f32_to_u8(__uint_as_float(v.w)));
}

// Four elements of F together.
template <typename F> struct __align__(4 * sizeof(typename F::Store)) Four {
    u32 words[sizeof(typename F::Store)];
};

// f32 -> F.
template <typename F> __device__ __forceinline__ void down(const f32* __restrict__ x, typename F::Store* __restrict__ y, u32 n) {
    const u32 chunks = aligned16(x) && aligned16(y) ? n / 4 : 0;
    for (u32 i = thread_index(); i < chunks; i += thread_count()) {
        Four<F> out;
        pack4<F>(load16(x + (u64)i * 4), out.words);
        ((Four<F>*)y)[i] = out;
    }
    for (u32 i = chunks * 4 + thread_index(); i < n; i += thread_count()) y[i] = F::down(x[i]);
}

// F -> f32.
template <typename F> __device__ __forceinline__ void up(const typename F::Store* __restrict__ x, f32* __restrict__ y, u32 n) {
    constexpr u32 BITS = 8 * sizeof(typename F::Store);
    const u32 chunks = aligned16(x) && aligned16(y) ? n / 4 : 0;
    for (u32 i = thread_index(); i < chunks; i += thread_count()) {
        const Four<F> v = ((const Four<F>*)x)[i];
        u32 four[4];
#pragma unroll
        for (u32 j = 0; j < 4; j++) four[j] = __float_as_uint(F::up((typename F::Store)(v.words[j * BITS / 32] >> (j * BITS % 32))));
        store16(y + (u64)i * 4, make_uint4(four[0], four[1], four[2], four[3]));
    }
    for (u32 i = chunks * 4 + thread_index(); i < n; i += thread_count()) y[i] = F::up(x[i]);
}

// f32 -> f16.
extern "C" __global__ void __launch_bounds__(256) cast_f32_f16(const f32* __restrict__ x, u16* __restrict__ y, u32 n) { down<F16>(x, y, n); }
// f16 -> f32.
extern "C" __global__ void __launch_bounds__(256) cast_f16_f32(const u16* __restrict__ x, f32* __restrict__ y, u32 n) { up<F16>(x, y, n); }
// f32 -> bf16.
extern "C" __global__ void __launch_bounds__(256) cast_f32_bf16(const f32* __restrict__ x, u16* __restrict__ y, u32 n) { down<BF16>(x, y, n); }
// bf16 -> f32.
extern "C" __global__ void __launch_bounds__(256) cast_bf16_f32(const u16* __restrict__ x, f32* __restrict__ y, u32 n) { up<BF16>(x, y, n); }
// f32 -> i8.
extern "C" __global__ void __launch_bounds__(256) cast_f32_i8(const f32* __restrict__ x, u8* __restrict__ y, u32 n) { down<I8>(x, y, n); }
// i8 -> f32.
extern "C" __global__ void __launch_bounds__(256) cast_i8_f32(const u8* __restrict__ x, f32* __restrict__ y, u32 n) { up<I8>(x, y, n); }
// f32 -> u8.
extern "C" __global__ void __launch_bounds__(256) cast_f32_u8(const f32* __restrict__ x, u8* __restrict__ y, u32 n) { down<U8>(x, y, n); }
// u8 -> f32.
extern "C" __global__ void __launch_bounds__(256) cast_u8_f32(const u8* __restrict__ x, f32* __restrict__ y, u32 n) { up<U8>(x, y, n); }
