// The core that convolutions share: a BM x BN tile of c = a * b in f32, T x T results per thread, slices of BK along k.
//
// Every result is one chain of fused multiply-adds over ascending k from +0, whatever the tile: all tiles give the same bits. A loader brings one slice of a
// or b: `load` fetches the next one into registers (0 where there is nothing), `store` puts it into shared memory as [k][element]. Two slices in turn need one
// barrier each. Columns of k-rows 8.. are kept with bit 3 flipped, so that a slice which is turned on its way in meets no bank twice.
#pragma once
#include "common.cuh"

// Words from one k-row of a slice to the next: 4 modulo 32, so that 16-byte rows stay aligned and turned stores spread over the banks.
template <u32 B> constexpr u32 PITCH = B + 4;
// Threads of a tile.
template <u32 BM, u32 BN, u32 T> constexpr u32 TILE_THREADS = BM / T * (BN / T);
// 16-byte pieces of a slice that each thread loads.
template <u32 B, u32 BK, u32 THREADS> constexpr u32 PIECES = B * BK / 4 / THREADS;

// A number in three digits, of which the lower two have a radix, that grows by a fixed step without a division.
struct Digits {
    u32 low, mid, high;
    u32 radix_low, radix_mid;
    u32 step_low, step_mid, step_high;

    __device__ __forceinline__ Digits(u32 start, u32 step, u32 radix_low, u32 radix_mid) : radix_low(radix_low), radix_mid(radix_mid) {
        low = start % radix_low, mid = start / radix_low % radix_mid, high = start / radix_low / radix_mid;
        step_low = step % radix_low, step_mid = step / radix_low % radix_mid, step_high = step / radix_low / radix_mid;
    }
    __device__ __forceinline__ void advance() {
        low += step_low, mid += step_mid, high += step_high;
        if (low >= radix_low) low -= radix_low, mid++;
        if (mid >= radix_mid) mid -= radix_mid, high++;
    }
    // One further on.
    __device__ __forceinline__ void increment() {
        if (++low == radix_low) {
            low = 0;
            if (++mid == radix_mid) mid = 0, high++;
        }
    }
};

// A piece of four words to [k .. k+4][column]: turned.
template <u32 B> __device__ __forceinline__ void store_turned(f32* s, u32 k, u32 column, float4 v) {
    f32* to = s + k * PITCH<B> + (column ^ (k & 8));
    to[0] = v.x;
    to[PITCH<B>] = v.y;
    to[2 * PITCH<B>] = v.z;
    to[3 * PITCH<B>] = v.w;
}

// A piece of four words to [k][column .. column+4].
template <u32 B> __device__ __forceinline__ void store_straight(f32* s, u32 k, u32 column, float4 v) {
    *(float4*)(s + k * PITCH<B> + (column ^ (k & 8))) = v;
}

__device__ __forceinline__ f32 word(const float4& v, u32 i) { return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w; }

// Multiplies over all slices. `a.load()` and `b.load()` go from slice to slice; sum[i][j] belongs to row `tile_row(i)` and column `tile_column(j)`.
template <u32 BM, u32 BN, u32 BK, u32 T, class A, class B> __device__ __forceinline__ void multiply(u32 slices, A& a, B& b, f32 (&sum)[T][T]) {
    constexpr u32 SIDE_N = BN / T, GROUPS = T / 4, STEP_M = BM / GROUPS, STEP_N = BN / GROUPS;
    __shared__ __align__(16) f32 as[2][BK * PITCH<BM>];
    __shared__ __align__(16) f32 bs[2][BK * PITCH<BN>];
    const u32 ty = threadIdx.x / SIDE_N * 4, tx = threadIdx.x % SIDE_N * 4;
#pragma unroll
    for (u32 i = 0; i < T; i++) {
#pragma unroll
        for (u32 j = 0; j < T; j++) sum[i][j] = 0.f;
    }
    if (slices > 0) {
        a.load();
        b.load();
    }
#pragma unroll 1
    for (u32 slice = 0; slice < slices; slice++) {
        f32* sa = as[slice & 1];
        f32* sb = bs[slice & 1];
        a.store(sa);
        b.store(sb);
        __syncthreads();
        if (slice + 1 < slices) {
            a.load();
            b.load();
        }
#pragma unroll
        for (u32 k = 0; k < BK; k++) {
            float4 fa[GROUPS], fb[GROUPS];
#pragma unroll
            for (u32 g = 0; g < GROUPS; g++) {
                fa[g] = *(const float4*)(sa + k * PITCH<BM> + g * STEP_M + (ty ^ (k & 8)));
                fb[g] = *(const float4*)(sb + k * PITCH<BN> + g * STEP_N + (tx ^ (k & 8)));
            }
#pragma unroll
            for (u32 i = 0; i < T; i++) {
#pragma unroll
                for (u32 j = 0; j < T; j++) sum[i][j] = __fmaf_rn(word(fa[i / 4], i % 4), word(fb[j / 4], j % 4), sum[i][j]);
            }
        }
    }
}

// Row of sum[i] and first column of sum[..][4 g ..] inside the tile.
template <u32 BM, u32 BN, u32 T> __device__ __forceinline__ u32 tile_row(u32 i) {
    return i / 4 * (BM / (T / 4)) + threadIdx.x / (BN / T) * 4 + i % 4;
}
template <u32 BN, u32 T> __device__ __forceinline__ u32 tile_column(u32 g) { return g * (BN / (T / 4)) + threadIdx.x % (BN / T) * 4; }

// Writes the tile at (row0, col0) of a rows x cols matrix, with one value per column added where `bias` is not null. WIDE: cols is a multiple of 4 and both
// addresses are aligned to 16.
template <bool WIDE, u32 BM, u32 BN, u32 T>
__device__ __forceinline__ void write_tile(const f32 (&sum)[T][T], f32* c, const f32* bias, u32 row0, u32 col0, u32 rows, u32 cols) {
#pragma unroll
    for (u32 g = 0; g < T / 4; g++) {
        const u32 col = col0 + tile_column<BN, T>(g);
        if (col >= cols) continue;
        f32 add[4] = {0.f, 0.f, 0.f, 0.f};
#pragma unroll
        for (u32 j = 0; j < 4; j++) {
            if (bias && (WIDE || col + j < cols)) add[j] = bias[col + j];
        }
#pragma unroll
        for (u32 i = 0; i < T; i++) {
            const u32 row = row0 + tile_row<BM, BN, T>(i);
            if (row >= rows) continue;
            f32* at = c + (u64)row * cols + col;
            const f32* v = &sum[i][g * 4];
            if (WIDE) {
                *(float4*)at = make_float4(v[0] + add[0], v[1] + add[1], v[2] + add[2], v[3] + add[3]);
            } else {
#pragma unroll
                for (u32 j = 0; j < 4; j++) {
                    if (col + j < cols) at[j] = v[j] + add[j];
                }
            }
        }
    }
}
