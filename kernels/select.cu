// select: channel gather y[row, j] = x[row, index[j]] and its scatter dx[row, index[j]] = dy[row, j], 0 elsewhere; index ascending and distinct.
//
// A thread stands on one channel and walks rows, so that the index is read (and searched, backwards) once. 4 B read, 4 B written per element of y (of dx).
#include "common.cuh"

// rust: crate::ops::select::Select
struct Select {
    u32 rows, c, k;
};

// y[row, j] = x[row, index[j]]. Blocks of 256 = 32 channels x 8 rows: grid x over K, any y.
extern "C" __global__ void __launch_bounds__(256) select_fwd_f32(
    const __grid_constant__ Select p, const f32* __restrict__ x, const u32* __restrict__ index, f32* __restrict__ y) {
    const u32 j = blockIdx.x * 32 + lane_id();
    if (j >= p.k) return;
    const u32 channel = index[j];
    for (u32 row = blockIdx.y * 8 + warp_id(); row < p.rows; row += gridDim.y * 8) y[(u64)row * p.k + j] = x[(u64)row * p.c + channel];
}

// dx[row, index[j]] = dy[row, j], 0 elsewhere. Blocks of 256 = 32 channels x 8 rows: grid x over C, any y.
extern "C" __global__ void __launch_bounds__(256) select_bwd_f32(
    const __grid_constant__ Select p, const f32* __restrict__ dy, const u32* __restrict__ index, f32* __restrict__ dx) {
    const u32 channel = blockIdx.x * 32 + lane_id();
    if (channel >= p.c) return;
    u32 low = 0, high = p.k; // the first j with index[j] >= channel
    while (low < high) {
        const u32 middle = (low + high) / 2;
        if (index[middle] < channel) low = middle + 1;
        else high = middle;
    }
    const bool kept = low < p.k && index[low] == channel;
    for (u32 row = blockIdx.y * 8 + warp_id(); row < p.rows; row += gridDim.y * 8) {
        dx[(u64)row * p.c + channel] = kept ? dy[(u64)row * p.k + low] : 0.f;
    }
}
