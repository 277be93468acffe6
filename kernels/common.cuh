// What kernels share: short type names, warp and block reductions, bit helpers. Not here: inline PTX (ptx.cuh).
#pragma once

typedef unsigned char u8;
typedef signed char i8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef int i32;
typedef unsigned long long u64;
typedef long long i64;
typedef float f32;

#define FULL_WARP 0xffffffffu

__device__ __forceinline__ u32 lane_id() { return threadIdx.x & 31u; }
__device__ __forceinline__ u32 warp_id() { return threadIdx.x >> 5; }

// Index of this thread in a one-dimensional grid. The host keeps grids below 2^32 threads.
__device__ __forceinline__ u32 thread_index() { return blockIdx.x * blockDim.x + threadIdx.x; }
__device__ __forceinline__ u32 thread_count() { return gridDim.x * blockDim.x; }

__device__ __forceinline__ u32 div_up(u32 a, u32 b) { return (a + b - 1) / b; }

// Sum over the lanes of a full warp, in a fixed order (butterfly); every lane gets it.
__device__ __forceinline__ f32 warp_sum(f32 v) {
#pragma unroll
    for (int d = 16; d > 0; d >>= 1) v = __fadd_rn(v, __shfl_xor_sync(FULL_WARP, v, d));
    return v;
}

__device__ __forceinline__ double warp_sum(double v) {
#pragma unroll
    for (int d = 16; d > 0; d >>= 1) v = __dadd_rn(v, __shfl_xor_sync(FULL_WARP, v, d));
    return v;
}

__device__ __forceinline__ f32 warp_max(f32 v) {
#pragma unroll
    for (int d = 16; d > 0; d >>= 1) v = fmaxf(v, __shfl_xor_sync(FULL_WARP, v, d));
    return v;
}

__device__ __forceinline__ u32 warp_sum(u32 v) { return __reduce_add_sync(FULL_WARP, v); }

// Inclusive prefix sum over the lanes of a full warp.
__device__ __forceinline__ u32 warp_scan(u32 v) {
#pragma unroll
    for (int d = 1; d < 32; d <<= 1) {
        u32 below = __shfl_up_sync(FULL_WARP, v, d);
        if (lane_id() >= d) v += below;
    }
    return v;
}

// Sum over a block of whole warps (at most 1024 threads) in a fixed order; every thread gets it. `scratch` holds 32 values and may be used again
// after the call.
template <typename T>
__device__ __forceinline__ T block_sum(T v, T* scratch) {
    v = warp_sum(v);
    if (lane_id() == 0) scratch[warp_id()] = v;
    __syncthreads();
    v = lane_id() < blockDim.x / 32 ? scratch[lane_id()] : T(0);
    v = warp_sum(v);
    __syncthreads();
    return v;
}

// 16 bytes at once. Both need a 16-byte aligned address.
__device__ __forceinline__ uint4 load16(const void* p) { return *(const uint4*)p; }
__device__ __forceinline__ void store16(void* p, uint4 v) { *(uint4*)p = v; }
__device__ __forceinline__ bool aligned16(const void* p) { return ((u64)p & 15u) == 0; }
