// A block of 64 rows x 32 channels on its way into a stored tensor: exponent, rounding, sums. For kernels of 256 threads with one block of the tensor per thread block.
//
// Threads stand where their random bits are (src/quant/layout.rs): a thread has rows r, r + 8, r + 16, r + 24 of two neighbouring channels, so one Philox call is all it needs.
#pragma once
#include "bfp.cuh"

constexpr u32 STORE_THREADS = 256;

// Where this thread stands in the block.
struct StoredPlace {
    u32 row, channel; // of the first value, within the block
    __device__ __forceinline__ StoredPlace() {
        const u32 unit = warp_id(), lane = lane_id();
        row = unit / 4 * 32 + lane / 4;
        channel = unit % 4 * 8 + lane % 4 * 2;
    }
};

// Shared memory of a block.
struct StoredScratch {
    u32 warps[32];
    i32 parts[16 * 2 * 4]; // pairs of channels, channels, up to four sums
};

// Sums over the rows of a warp and then over both halves of the rows. `sums` are two channels with M numbers each, combined by `f(m, a, b)`; threads of the first row of the
// first half get the result.
template <u32 M, class F> __device__ __forceinline__ void stored_reduce(i32 (&sums)[2][M], i32* scratch, F f) {
#pragma unroll
    for (u32 j = 0; j < 2; j++) {
#pragma unroll
        for (u32 m = 0; m < M; m++) {
#pragma unroll
            for (u32 d = 4; d < 32; d <<= 1) sums[j][m] = f(m, sums[j][m], __shfl_xor_sync(FULL_WARP, sums[j][m], d));
        }
    }
    const u32 unit = warp_id(), lane = lane_id();
    i32* mine = scratch + (unit % 4 * 4 + lane % 4) * 2 * M;
    if (unit >= 4 && lane < 4) {
#pragma unroll
        for (u32 j = 0; j < 2; j++) {
#pragma unroll
            for (u32 m = 0; m < M; m++) mine[j * M + m] = sums[j][m];
        }
    }
    __syncthreads();
    if (unit < 4 && lane < 4) {
#pragma unroll
        for (u32 j = 0; j < 2; j++) {
#pragma unroll
            for (u32 m = 0; m < M; m++) sums[j][m] = f(m, sums[j][m], mine[j * M + m]);
        }
    }
}

// Rounds and writes the block (`tile` of 64 rows, `column` of 32 channels). Values of rows and channels that the tensor does not have are 0. `q[i][j]` are the mantissas written,
// i counting rows, j channels. Returns the bits of the largest absolute value.
__device__ __forceinline__ u32 stored_put(
    const f32 (&values)[4][2], u32 rows, u32 stride, u32 tile, u32 column, u32 across, const Noise& noise, u32 step, i8* mantissas, i8* exponents, u32* scratch,
    i32 (&q)[4][2]) {
    u32 bits = 0;
#pragma unroll
    for (u32 i = 0; i < 4; i++) bits = max(bits, max(magnitude(values[i][0]), magnitude(values[i][1])));
    bits = block_max(bits, scratch);
    const i32 e = exponent_of(bits);
    const u32 block = tile * across + column;
    if (threadIdx.x == 0) exponents[block] = (i8)e;
    Philox bits8;
    if (noise.stochastic) bits8 = Philox((block * 8 + warp_id()) * 32 + lane_id(), step, noise.tensor, noise.seed);
    else bits8.w[0] = bits8.w[1] = bits8.w[2] = bits8.w[3] = 0;
    const StoredRounding round(e, noise.stochastic != 0);
    const StoredPlace place;
    const u32 channel = column * BLOCK_CHANNELS + place.channel;
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
        const u32 row = tile * BLOCK_ROWS + place.row + 8 * i;
        q[i][0] = round(values[i][0], bits8[2 * i]);
        q[i][1] = round(values[i][1], bits8[2 * i + 1]);
        if (row < rows && channel < stride) *(u16*)(mantissas + (u64)row * stride + channel) = (u16)((q[i][0] & 255) | q[i][1] << 8);
    }
    return bits;
}
