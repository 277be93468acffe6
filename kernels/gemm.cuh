// The core that convolutions share: a BM x BN tile of c = a * b in f32, TM x TN results per thread, slices of BK along k.
//
// Every result is one chain of fused multiply-adds over ascending k from +0, whatever the tile: all tiles give the same bits. A loader brings one slice of a
// or b: `load` fetches the next one into registers (0 behind the end), `store` puts it into shared memory as [k][element]. Two slices in turn need one
// barrier each. How a slice lies there is the loader's: turned or straight, so that neither its stores nor the reads of the product meet a bank twice.
#pragma once
#include "common.cuh"
#include "ptx.cuh"

// A slice of B elements along m (or n) whose k is contiguous in memory: turned on its way in, in pieces of 1 or 4 along k.
template <u32 B, u32 BK> struct Turned {
    // Words from k-row to k-row: 4 modulo 32 spread turned stores over the banks and keep 16-byte rows.
    static constexpr u32 PITCH = B + 4, WORDS = BK * PITCH;
    // What is flipped in the element's number, in which rows: bit 3 in rows 8..16.
    static constexpr u32 FLIP = 8;
    static __device__ __forceinline__ bool flipped(u32 k) { return k & 8; }
};

// A slice whose elements are contiguous, in pieces of 4. Where fewer than 8 threads share a k-row, 4 do, and odd rows have bit 4 flipped.
template <u32 B, u32 BK, u32 THREADS> struct Straight {
    static constexpr u32 PITCH = B, WORDS = BK * PITCH;
    static constexpr u32 FLIP = 16;
    static __device__ __forceinline__ bool flipped(u32 k) { return THREADS / BK < 8 && k & 1; }
};

// Threads of a tile.
template <u32 BM, u32 BN, u32 TM, u32 TN> constexpr u32 TILE_THREADS = BM / TM * (BN / TN);

// A number in three digits, of which the lower two have a radix, that grows by a fixed step without a division; and an offset to which each digit adds its place
// times what it stands for.
struct Digits {
    u32 low, mid, high;
    i32 offset;
    u32 radix_low, radix_mid;
    u32 step_low, step_mid, step_high;
    i32 step, carry_low, carry_mid; // of the offset

    __device__ __forceinline__ Digits(u32 start, u32 by, u32 radix_low, u32 radix_mid, i32 per_low, i32 per_mid, i32 per_high)
        : radix_low(radix_low), radix_mid(radix_mid) {
        low = start % radix_low, mid = start / radix_low % radix_mid, high = start / radix_low / radix_mid;
        step_low = by % radix_low, step_mid = by / radix_low % radix_mid, step_high = by / radix_low / radix_mid;
        offset = i32(low) * per_low + i32(mid) * per_mid + i32(high) * per_high;
        carry_low = per_mid - i32(radix_low) * per_low, carry_mid = per_high - i32(radix_mid) * per_mid;
        step = i32(step_low) * per_low + i32(step_mid) * per_mid + i32(step_high) * per_high + carry_low + carry_mid;
        step_mid = ptx_opaque(step_mid + 1), step_high = ptx_opaque(step_high + 1);
    }
    // As if both lower digits ran over; `stays` is all ones where one does not, and takes that back.
    __device__ __forceinline__ void advance() {
        low += step_low - radix_low;
        const u32 low_stays = u32(i32(low) >> 31);
        low += radix_low & low_stays;
        mid += step_mid - radix_mid + low_stays;
        const u32 mid_stays = u32(i32(mid) >> 31);
        mid += radix_mid & mid_stays;
        high += step_high + mid_stays;
        offset += step - i32(carry_low & low_stays) - i32(carry_mid & mid_stays);
    }
};

__device__ __forceinline__ f32 word(const float4& v, u32 i) { return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w; }

// Where group g of row k begins, for groups of STEP elements. Of groups that the flipped bit numbers, pairs change places; in larger ones it is the thread that moves.
template <class Layout, u32 STEP> __device__ __forceinline__ u32 place(u32 k, u32 g) {
    return k * Layout::PITCH + (g * STEP ^ (STEP <= Layout::FLIP && Layout::flipped(k) ? Layout::FLIP : 0));
}

// Multiplies over all slices. `a.load()` and `b.load()` go from slice to slice, and one beyond the last, where they have nothing to read; sum[i][j] belongs to row
// `tile_row(i)` and column `tile_column(j / 4) + j % 4`.
template <u32 BM, u32 BN, u32 BK, u32 TM, u32 TN, class A, class B>
__device__ __forceinline__ void multiply(u32 length, A& a, B& b, f32 (&sum)[TM][TN]) {
    constexpr u32 SIDE_N = BN / TN, GROUPS_M = TM / 4, GROUPS_N = TN / 4, STEP_M = BM / GROUPS_M, STEP_N = BN / GROUPS_N;
    typedef typename A::Layout LayoutA;
    typedef typename B::Layout LayoutB;
    __shared__ __align__(16) f32 slice_words[2][LayoutA::WORDS + LayoutB::WORDS];
    const u32 ty = threadIdx.x / SIDE_N * 4, tx = threadIdx.x % SIDE_N * 4;
    // Where this thread's elements lie in rows that are kept as they are, and in the others.
    const u32 ya[2] = {ptx_opaque(ty), ptx_opaque(ty ^ LayoutA::FLIP)}, xb[2] = {ptx_opaque(tx), ptx_opaque(tx ^ LayoutB::FLIP)};
#pragma unroll
    for (u32 i = 0; i < TM; i++) {
#pragma unroll
        for (u32 j = 0; j < TN; j++) sum[i][j] = 0.f;
    }
    a.load();
    b.load();
#pragma unroll 1
    for (i32 left = i32(length); left > 0; left -= BK) {
        f32* sa = slice_words[u32(left) / BK % 2];
        f32* sb = sa + LayoutA::WORDS;
        a.store(sa);
        b.store(sb);
        __syncthreads();
        a.load();
        b.load();
#pragma unroll
        for (u32 k = 0; k < BK; k++) {
            float4 fa[GROUPS_M], fb[GROUPS_N];
#pragma unroll
            for (u32 g = 0; g < GROUPS_M; g++) fa[g] = *(const float4*)(sa + place<LayoutA, STEP_M>(k, g) + ya[STEP_M > LayoutA::FLIP && LayoutA::flipped(k)]);
#pragma unroll
            for (u32 g = 0; g < GROUPS_N; g++) fb[g] = *(const float4*)(sb + place<LayoutB, STEP_N>(k, g) + xb[STEP_N > LayoutB::FLIP && LayoutB::flipped(k)]);
#pragma unroll
            for (u32 i = 0; i < TM; i++) {
#pragma unroll
                for (u32 j = 0; j < TN; j++) sum[i][j] = __fmaf_rn(word(fa[i / 4], i % 4), word(fb[j / 4], j % 4), sum[i][j]);
            }
        }
    }
}

// Row of sum[i] and first column of sum[..][4 g ..] inside the tile.
template <u32 BM, u32 BN, u32 TM, u32 TN> __device__ __forceinline__ u32 tile_row(u32 i) {
    return i / 4 * (BM / (TM / 4)) + threadIdx.x / (BN / TN) * 4 + i % 4;
}
template <u32 BN, u32 TN> __device__ __forceinline__ u32 tile_column(u32 g) { return g * (BN / (TN / 4)) + threadIdx.x % (BN / TN) * 4; }

// Writes the tile at (row0, col0) of a rows x cols product, with one value per column added where `bias` is not null; row i of the product is row place(i) of c.
// WIDE: cols is a multiple of 4 and both addresses are aligned to 16.
template <bool WIDE, u32 BM, u32 BN, u32 TM, u32 TN, class Place>
__device__ __forceinline__ void write_tile(const f32 (&sum)[TM][TN], f32* c, const f32* bias, u32 row0, u32 col0, u32 rows, u32 cols, Place place) {
#pragma unroll
    for (u32 g = 0; g < TN / 4; g++) {
        const u32 col = col0 + tile_column<BN, TN>(g);
        if (col >= cols) continue;
        f32 add[4] = {0.f, 0.f, 0.f, 0.f};
#pragma unroll
        for (u32 j = 0; j < 4; j++) {
            if (bias && (WIDE || col + j < cols)) add[j] = bias[col + j];
        }
#pragma unroll
        for (u32 i = 0; i < TM; i++) {
            const u32 row = row0 + tile_row<BM, BN, TM, TN>(i);
            if (row >= rows) continue;
            f32* at = c + (u64)place(row) * cols + col;
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
