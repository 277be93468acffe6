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

// Words from one warp's sums to the next one's: so that lanes of one warp find theirs in different banks.
constexpr u32 STORED_PITCH = 36;

// Shared memory of a block.
struct StoredScratch {
    u32 warps[32];
    i32 parts[8 * STORED_PITCH];
};

// Four numbers for each channel over the rows of the block, combined by `f(m, a, b)`: from those of a thread's two channels to `all`, in lanes of the first warp, of one channel of the block
// each. At every step a lane hands on the half of its numbers that its partner goes on with.
template <class F> __device__ __forceinline__ void stored_reduce(const i32 (&sums)[2][4], i32* scratch, F f, i32 (&all)[4]) {
    const u32 lane = lane_id();
    const bool second = lane & 16, high = lane & 8, odd = lane & 4;
    i32 a[4], b[2];
#pragma unroll
    for (u32 m = 0; m < 4; m++) {
        const i32 other = __shfl_xor_sync(FULL_WARP, second ? sums[0][m] : sums[1][m], 16);
        a[m] = f(m, second ? sums[1][m] : sums[0][m], other);
    }
#pragma unroll
    for (u32 m = 0; m < 2; m++) {
        const i32 other = __shfl_xor_sync(FULL_WARP, high ? a[m] : a[m + 2], 8), own = high ? a[m + 2] : a[m];
        b[m] = high ? f(m + 2, own, other) : f(m, own, other);
    }
    const i32 other = __shfl_xor_sync(FULL_WARP, odd ? b[0] : b[1], 4), own = odd ? b[1] : b[0];
    const i32 even = high ? f(2, own, other) : f(0, own, other);
    scratch[warp_id() * STORED_PITCH + lane] = odd ? (high ? f(3, own, other) : f(1, own, other)) : even;
    __syncthreads();
    if (warp_id() != 0) return;
    const i32* from = scratch + lane / 8 * STORED_PITCH + lane % 8 / 2 + lane % 2 * 16;
#pragma unroll
    for (u32 m = 0; m < 4; m++) all[m] = f(m, from[m / 2 * 8 + m % 2 * 4], from[4 * STORED_PITCH + m / 2 * 8 + m % 2 * 4]);
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
    const StoredRounding round(bits, e, noise.stochastic);
    const StoredPlace place;
    const u32 channel = column * BLOCK_CHANNELS + place.channel, fill = fill_of(noise);
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
        const u32 row = tile * BLOCK_ROWS + place.row + 8 * i;
        const u32 low = round(round.ready(values[i][0]), bits8.stored(2 * i, fill)), high = round(round.ready(values[i][1]), bits8.stored(2 * i + 1, fill));
        q[i][0] = mantissa(low, 2), q[i][1] = mantissa(high, 2);
        if (row < rows && channel < stride) *(u16*)(mantissas + (u64)row * stride + channel) = (u16)__byte_perm(low, high, 0x0062);
    }
    return bits;
}

// ---- The same block in the hands of threads that have eight channels of a row each, so that what they read and write is wide ----------------------------------------------------------

// Where this thread stands in the block.
struct RowPlace {
    u32 row, channel;
    __device__ __forceinline__ RowPlace() : row(threadIdx.x / 4), channel(threadIdx.x % 4 * 8) {}
};

// Words from one unit's noise to the next one's: so that threads of a row find theirs in different banks.
constexpr u32 NOISE_PITCH = 136;

// Shared memory of a block.
struct RowScratch {
    u32 warps[32];
    uint4 noise[8 * NOISE_PITCH / 4];
    uint2 q[STORE_THREADS], y[2][STORE_THREADS];
    i32 parts[8 * STORED_PITCH];
};

// Place of a thread's mantissas in shared memory, in eights: rows 4 apart are in other banks for who reads columns.
__device__ __forceinline__ u32 row_slot(u32 row, u32 eighth) { return row * 4 + (eighth ^ (row >> 1 & 2)); }

// As stored_put, of the eight values of this thread's row. `q` are the mantissas written. The noise of a row comes from four threads' calls, each of which serves four rows.
__device__ __forceinline__ u32 row_put(
    const f32 (&v)[8], u32 rows, u32 stride, u32 tile, u32 column, u32 across, const Noise& noise, u32 step, i8* mantissas, i8* exponents, RowScratch& scratch, uint2& q) {
    const u32 block = tile * across + column, unit = warp_id(), lane = lane_id();
    u32 bits = 0;
#pragma unroll
    for (u32 j = 0; j < 8; j++) bits = max(bits, magnitude(v[j]));
    if (noise.stochastic) {
        const Philox own(block * STORE_THREADS + threadIdx.x, step, noise.tensor, noise.seed);
        u32* to = (u32*)scratch.noise + unit * NOISE_PITCH + lane;
#pragma unroll
        for (u32 w = 0; w < 4; w++) to[w * 32] = own.w[w];
    }
    bits = block_max(bits, scratch.warps); // whose barrier shows the noise
    const i32 e = exponent_of(bits);
    if (threadIdx.x == 0) exponents[block] = (i8)e;
    const StoredRounding round(bits, e, noise.stochastic);
    Philox pairs;
    pairs.w[0] = pairs.w[1] = pairs.w[2] = pairs.w[3] = 0;
    if (noise.stochastic) {
        const uint4 from = scratch.noise[((unit / 4 * 4 + lane % 4) * NOISE_PITCH + unit % 4 * 32) / 4 + lane / 4];
        pairs.w[0] = from.x, pairs.w[1] = from.y, pairs.w[2] = from.z, pairs.w[3] = from.w;
    }
    const u32 fill = fill_of(noise);
    u32 m[8];
#pragma unroll
    for (u32 j = 0; j < 8; j++) m[j] = round(round.ready(v[j]), pairs.stored(j, fill));
    q = make_uint2(pack_rounded(m[0], m[1], m[2], m[3]), pack_rounded(m[4], m[5], m[6], m[7]));
    const RowPlace place;
    const u32 row = tile * BLOCK_ROWS + place.row, channel = column * BLOCK_CHANNELS + place.channel;
    if (row < rows && channel < stride) *(uint2*)(mantissas + (u64)row * stride + channel) = q;
    return bits;
}

// Sums over the block's rows of mantissas `q` of a gradient, which are 0 where there is no row: products with `y`, with `other` where there are two, the sum, the largest in size. To `all`, in lanes
// of the first warp, of one channel of the block each.
__device__ __forceinline__ void row_sums(uint2 q, uint2 y, bool both, uint2 other, RowScratch& scratch, i32 (&all)[4]) {
    const RowPlace row;
    const u32 slot = row_slot(row.row, row.channel / 8);
    scratch.q[slot] = q, scratch.y[0][slot] = y;
    if (both) scratch.y[1][slot] = other;
    __syncthreads();
    const StoredPlace place;
    const u32 at = row_slot(place.row, place.channel / 8) * 4 + place.channel % 8 / 2; // in pairs
    i32 sum[2][4] = {{0, 0, 0, 0}, {0, 0, 0, 0}};
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
        const u32 pair = at + i * 8 * 16, m = ((const u16*)scratch.q)[pair], n = ((const u16*)scratch.y[0])[pair], o = both ? ((const u16*)scratch.y[1])[pair] : 0;
#pragma unroll
        for (u32 j = 0; j < 2; j++) {
            const i32 v = mantissa(m, j);
            sum[j][0] += v * mantissa(n, j), sum[j][1] += v * mantissa(o, j);
            sum[j][2] += v, sum[j][3] = max(sum[j][3], abs(v));
        }
    }
    stored_reduce(sum, scratch.parts, [](u32 m, i32 a, i32 b) { return m < 3 ? a + b : max(a, b); }, all);
}
