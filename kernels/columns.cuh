// Walking a rows x c matrix by columns: threads of a block stand on `lanes` neighbouring groups of V columns (16 bytes where V is 4) and on 256 / lanes rows, so that
// a warp reads whole sectors whatever c is. Not here: what is done with the elements.
#pragma once
#include "common.cuh"

constexpr u32 COLUMN_THREADS = 256;

// V neighbouring elements.
template <u32 V> struct Pack {
    f32 v[V];
};

template <u32 V> __device__ __forceinline__ Pack<V> load_pack(const f32* at) {
    Pack<V> r;
    if (V == 4) {
        const float4 x = *(const float4*)at;
        r.v[0] = x.x, r.v[V > 1 ? 1 : 0] = x.y, r.v[V > 2 ? 2 : 0] = x.z, r.v[V > 3 ? 3 : 0] = x.w;
    } else {
#pragma unroll
        for (u32 j = 0; j < V; j++) r.v[j] = at[j];
    }
    return r;
}

template <u32 V> __device__ __forceinline__ void store_pack(f32* at, const Pack<V>& x) {
    if (V == 4) *(float4*)at = make_float4(x.v[0], x.v[V > 1 ? 1 : 0], x.v[V > 2 ? 2 : 0], x.v[V > 3 ? 3 : 0]);
    else {
#pragma unroll
        for (u32 j = 0; j < V; j++) at[j] = x.v[j];
    }
}

// Where this thread stands. `lanes` is a power of two, at most 32.
struct Place {
    u32 column, row, step; // first column of the group; first row of the block's range; rows of the block
    __device__ __forceinline__ Place(u32 lanes, u32 v) : column((blockIdx.x * lanes + threadIdx.x % lanes) * v), row(threadIdx.x / lanes), step(COLUMN_THREADS / lanes) {}
};

// Adds `value` over the threads that stand on the same columns, in a fixed tree; those of the first row get the sum. `scratch` holds 256 words.
__device__ __forceinline__ f32 column_sum(f32 value, u32 lanes, f32* scratch) {
    scratch[threadIdx.x] = value;
    for (u32 half = COLUMN_THREADS / 2; half >= lanes; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) scratch[threadIdx.x] = __fadd_rn(scratch[threadIdx.x], scratch[threadIdx.x + half]);
    }
    __syncthreads();
    const f32 sum = scratch[threadIdx.x % lanes];
    __syncthreads();
    return sum;
}
