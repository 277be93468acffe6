// matmul: c[i][j] = sum_k a[i][k] * b[k][j] in f32, row-major, with either factor stored transposed.
//
// Every element is one chain of fused multiply-adds over ascending k from +0, whatever the tile: both tile sizes give the same bits.
// Tiles: 128x128x8 with 256 threads and 8x8 results per thread (2x2 groups of 4x4, so that fragments are conflict-free 16-byte reads), and 32x32x16
// with 64 threads and 4x4 for small products. The next k-slice is fetched into registers while the present one is multiplied; two shared slices in turn need one barrier each.
// Traffic per result: k * 4 B * (1/BM + 1/BN) read, 4 B written: 16 multiply-adds per 16-byte shared read in the large tile.
// Any size and row pitch; 16-byte accesses where pointer and pitch allow, else element by element; out of range counts as 0.
#include "common.cuh"

// rust: crate::ops::matmul::Matmul
struct Matmul {
    u32 m, n, k;       // c is m x n
    u32 lda, ldb, ldc; // elements from one stored row to the next
};

// Four elements of row `row`, columns `col..col+4`, of a `rows` x `cols` matrix; 0 outside.
__device__ __forceinline__ float4 fetch(const f32* __restrict__ x, u32 ld, u32 row, u32 col, u32 rows, u32 cols, bool wide) {
    float4 v = make_float4(0.f, 0.f, 0.f, 0.f);
    if (row < rows && col < cols) {
        const f32* at = x + (u64)row * ld + col;
        if (wide && col + 4 <= cols) return *(const float4*)at;
        v.x = at[0];
        if (col + 1 < cols) v.y = at[1];
        if (col + 2 < cols) v.z = at[2];
        if (col + 3 < cols) v.w = at[3];
    }
    return v;
}

// A slice of B elements along m (or n) and BK along k, kept as [k][element], rows from k = 8 on with bit 3 of the
// element flipped. ALONG_K: stored with k contiguous, so it is turned on the way in.
template <bool ALONG_K, u32 B, u32 BK, u32 THREADS> struct Slice {
    static constexpr u32 LOADS = B * BK / 4 / THREADS;
    static constexpr u32 PITCH = B + 4; // keeps 16-byte rows and spreads the turned stores over banks
    float4 held[LOADS];

    __device__ __forceinline__ void load(const f32* __restrict__ x, u32 ld, u32 first, u32 k0, u32 elements, u32 k, bool wide) {
#pragma unroll
        for (u32 i = 0; i < LOADS; i++) {
            const u32 at = threadIdx.x + i * THREADS;
            if (ALONG_K) held[i] = fetch(x, ld, first + at / (BK / 4), k0 + at % (BK / 4) * 4, elements, k, wide);
            else held[i] = fetch(x, ld, k0 + at / (B / 4), first + at % (B / 4) * 4, k, elements, wide);
        }
    }
    __device__ __forceinline__ void store(f32* s) const {
#pragma unroll
        for (u32 i = 0; i < LOADS; i++) {
            const u32 at = threadIdx.x + i * THREADS;
            if (ALONG_K) {
                const u32 k = at % (BK / 4) * 4;
                f32* to = s + k * PITCH + (at / (BK / 4) ^ (k & 8));
                to[0] = held[i].x;
                to[PITCH] = held[i].y;
                to[2 * PITCH] = held[i].z;
                to[3 * PITCH] = held[i].w;
            } else {
                const u32 k = at / (B / 4);
                *(float4*)(s + k * PITCH + (at % (B / 4) * 4 ^ (k & 8))) = held[i];
            }
        }
    }
};

// One B x B tile; T x T results per thread.
template <bool A_ALONG_K, bool B_ALONG_K, u32 B, u32 BK, u32 T>
__device__ __forceinline__ void tile(const Matmul& p, const f32* __restrict__ a, const f32* __restrict__ b, f32* __restrict__ c) {
    constexpr u32 SIDE = B / T, THREADS = SIDE * SIDE, GROUPS = T / 4, STEP = SIDE * 4;
    constexpr u32 PITCH = B + 4;
    // Two slices in turn: one barrier per slice, for who writes the one has left the other.
    __shared__ __align__(16) f32 slices[2][2][BK * PITCH];
    const u32 row0 = blockIdx.y * B, col0 = blockIdx.x * B;
    const u32 tx = threadIdx.x % SIDE, ty = threadIdx.x / SIDE;
    const bool wide_a = aligned16(a) && p.lda % 4 == 0, wide_b = aligned16(b) && p.ldb % 4 == 0;

    f32 sum[T][T];
#pragma unroll
    for (u32 i = 0; i < T; i++) {
#pragma unroll
        for (u32 j = 0; j < T; j++) sum[i][j] = 0.f;
    }
    Slice<A_ALONG_K, B, BK, THREADS> next_a;
    Slice<B_ALONG_K, B, BK, THREADS> next_b;
    next_a.load(a, p.lda, row0, 0, p.m, p.k, wide_a);
    next_b.load(b, p.ldb, col0, 0, p.n, p.k, wide_b);
#pragma unroll 1
    for (u32 k0 = 0; k0 < p.k; k0 += BK) {
        f32* as = slices[k0 / BK % 2][0];
        f32* bs = slices[k0 / BK % 2][1];
        next_a.store(as);
        next_b.store(bs);
        __syncthreads();
        if (k0 + BK < p.k) {
            next_a.load(a, p.lda, row0, k0 + BK, p.m, p.k, wide_a);
            next_b.load(b, p.ldb, col0, k0 + BK, p.n, p.k, wide_b);
        }
#pragma unroll
        for (u32 k = 0; k < BK; k++) {
            float4 fa[GROUPS], fb[GROUPS];
#pragma unroll
            for (u32 g = 0; g < GROUPS; g++) {
                fa[g] = *(const float4*)(as + k * PITCH + g * STEP + (ty * 4 ^ (k & 8)));
                fb[g] = *(const float4*)(bs + k * PITCH + g * STEP + (tx * 4 ^ (k & 8)));
            }
#pragma unroll
            for (u32 i = 0; i < T; i++) {
                const f32 va = i % 4 == 0 ? fa[i / 4].x : i % 4 == 1 ? fa[i / 4].y : i % 4 == 2 ? fa[i / 4].z : fa[i / 4].w;
#pragma unroll
                for (u32 j = 0; j < T; j++) {
                    const f32 vb = j % 4 == 0 ? fb[j / 4].x : j % 4 == 1 ? fb[j / 4].y : j % 4 == 2 ? fb[j / 4].z : fb[j / 4].w;
                    sum[i][j] = __fmaf_rn(va, vb, sum[i][j]);
                }
            }
        }
    }
    const bool wide_c = aligned16(c) && p.ldc % 4 == 0;
#pragma unroll
    for (u32 i = 0; i < T; i++) {
        const u32 row = row0 + i / 4 * STEP + ty * 4 + i % 4;
        if (row >= p.m) continue;
#pragma unroll
        for (u32 g = 0; g < GROUPS; g++) {
            const u32 col = col0 + g * STEP + tx * 4;
            f32* at = c + (u64)row * p.ldc + col;
            if (wide_c && col + 4 <= p.n) {
                *(float4*)at = make_float4(sum[i][g * 4], sum[i][g * 4 + 1], sum[i][g * 4 + 2], sum[i][g * 4 + 3]);
            } else {
#pragma unroll
                for (u32 j = 0; j < 4; j++) {
                    if (col + j < p.n) at[j] = sum[i][g * 4 + j];
                }
            }
        }
    }
}

// c = a * b, a stored m x k, b stored k x n. Blocks of 256 over 128x128 tiles.
extern "C" __global__ void __launch_bounds__(256, 2) matmul_nn_f32(
    const __grid_constant__ Matmul p, const f32* __restrict__ a, const f32* __restrict__ b, f32* __restrict__ c) {
    tile<true, false, 128, 8, 8>(p, a, b, c);
}
// c = a * b, a stored m x k, b stored n x k. Blocks of 256 over 128x128 tiles.
extern "C" __global__ void __launch_bounds__(256, 2) matmul_nt_f32(
    const __grid_constant__ Matmul p, const f32* __restrict__ a, const f32* __restrict__ b, f32* __restrict__ c) {
    tile<true, true, 128, 8, 8>(p, a, b, c);
}
// c = a * b, a stored k x m, b stored k x n. Blocks of 256 over 128x128 tiles.
extern "C" __global__ void __launch_bounds__(256, 2) matmul_tn_f32(
    const __grid_constant__ Matmul p, const f32* __restrict__ a, const f32* __restrict__ b, f32* __restrict__ c) {
    tile<false, false, 128, 8, 8>(p, a, b, c);
}
// As matmul_nn_f32. Blocks of 64 over 32x32 tiles.
extern "C" __global__ void __launch_bounds__(64) matmul_nn_f32_small(
    const __grid_constant__ Matmul p, const f32* __restrict__ a, const f32* __restrict__ b, f32* __restrict__ c) {
    tile<true, false, 32, 16, 4>(p, a, b, c);
}
// As matmul_nt_f32. Blocks of 64 over 32x32 tiles.
extern "C" __global__ void __launch_bounds__(64) matmul_nt_f32_small(
    const __grid_constant__ Matmul p, const f32* __restrict__ a, const f32* __restrict__ b, f32* __restrict__ c) {
    tile<true, true, 32, 16, 4>(p, a, b, c);
}
// As matmul_tn_f32. Blocks of 64 over 32x32 tiles.
extern "C" __global__ void __launch_bounds__(64) matmul_tn_f32_small(
    const __grid_constant__ Matmul p, const f32* __restrict__ a, const f32* __restrict__ b, f32* __restrict__ c) {
    tile<false, false, 32, 16, 4>(p, a, b, c);
}
