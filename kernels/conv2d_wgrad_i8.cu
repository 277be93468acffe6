// conv2d in integers: weight gradient dw[k][tap][c] = f32(sum over pixels dyw[m][k] * x[pixel(m, tap)][c]) * 2^(Ew[k]-12), from both NHWC operands as they are.
//
// A GEMM with channels k as rows, (tap, c) as columns and pixels as the long axis, which both operands have across their memory. 8-bit mma wants it along: each patch of
// 16 channels x 32 pixels is read by ldmatrix.trans, which turns pairs of channels, and finished by PRMT, one per mma (kernels.md 4.4). The pixels of a step come out in
// another order, the same for both operands; row g of a fragment is channel 2g, row g + 8 channel 2g + 1, and a thread ends with four neighbouring columns.
// Pixels are split into slices of at most 131072, summed in 32 bits to `partial` [slice][padded k][columns]; slices are added in 64 bits. Exact, so the split shows nowhere.
// Traffic: an element of dyw is read once per 128 columns (8 taps x 16 channels at the least), one of x once per tap and 128 channels, mostly from L2.
#include "conv2d_i8.cuh"

// A piece's place in a stage: rows are pixels of B channels.
template <u32 B> __device__ __forceinline__ u32 pixel_place(u32 pixel, u32 piece) {
    return pixel * B + ((B == 128 ? piece ^ (pixel & 7) : piece ^ (pixel >> 1 & 3)) << 4);
}

// One tile of BM channels x BN columns over one slice. Grid x over channels, y over columns, z over slices.
template <u32 BM, u32 BN, u32 WN, u32 STAGES>
__device__ __forceinline__ void wgrad_tile(const Conv2d& p, const i8* __restrict__ x, const i8* __restrict__ dyw, i32* __restrict__ partial, u32 slice, const i8* __restrict__ exponents,
                                            f32* __restrict__ dw) {
    constexpr u32 WARPS_M = BM / 64, THREADS = WARPS_M * (BN / WN) * 32, BK = 64, STAGE = (BM + BN) * BK, NJ = WN / 16;
    constexpr u32 CA = BM / 16, CB = BN / 16, RA = THREADS / CA, RB = THREADS / CB, AP = BK / RA, BP = BK / RB;
    extern __shared__ __align__(128) u8 shared[];
    __shared__ int2 pixels[2][BK]; // of a stage: offset of its first tap in x, and that tap's row and column in 16 bits each
    const u32 lane = lane_id(), wm = warp_id() % WARPS_M * 64, wn = warp_id() / WARPS_M * WN;
    const u32 k_stride = pad16(p.k), c_stride = pad16(p.c), per_tap = c_stride / 16, columns = p.r * p.s * per_tap;
    const u32 k0 = blockIdx.x * BM, column0 = blockIdx.y * CB, rows = p.n * p.p * p.q;
    const u32 first = blockIdx.z * slice, end = min(first + slice, rows), iterations = div_up(end - first, BK);

    // What this thread copies: one piece of channels of dyw and one of columns, for several pixels of a stage.
    const u32 a_piece = threadIdx.x % CA, a_row = threadIdx.x / CA, b_piece = threadIdx.x % CB, b_row = threadIdx.x / CB;
    const bool a_there = k0 + a_piece * 16 < k_stride, b_there = column0 + b_piece < columns;
    const u32 tap = (column0 + b_piece) / per_tap, tap_h = tap / p.s, tap_w = tap % p.s;
    const i8* a_from = dyw + (u64)(first + a_row) * k_stride + (a_there ? k0 + a_piece * 16 : 0);
    const i32 b_offset = (i32)((tap_h * p.w + tap_w) * c_stride + (column0 + b_piece) % per_tap * 16);
    const u32 b_h = b_there ? tap_h : 0x8000u; // outside of every image

    // The pixel whose record this thread writes, in digits.
    u32 row = first + threadIdx.x, low = row % p.q, mid = row / p.q % p.p, high = row / p.q / p.p;
    const u32 step_low = BK % p.q, step_mid = BK / p.q % p.p, step_high = BK / p.q / p.p;
    auto record = [&](u32 to) {
        if (threadIdx.x >= BK) return;
        const i32 h = (i32)(mid * p.stride_h) - (i32)p.pad_h, w = (i32)(low * p.stride_w) - (i32)p.pad_w;
        const i32 offset = (((i32)(high * p.h) + h) * (i32)p.w + w) * (i32)c_stride;
        pixels[to][threadIdx.x] = make_int2(offset, row < end ? h << 16 | (w & 0xffff) : (i32)0x7fff0000);
        row += BK, low += step_low, mid += step_mid, high += step_high;
        if (low >= p.q) low -= p.q, mid++;
        if (mid >= p.p) mid -= p.p, high++;
    };

    const u32 base = ptx_shared(shared), a_to = base + pixel_place<BM>(a_row, a_piece), b_to = base + BM * BK + pixel_place<BN>(b_row, b_piece);
    i32 left = a_there ? (i32)(end - first) : 0;
    auto load = [&](u32 slot, u32 from) {
#pragma unroll
        for (u32 i = 0; i < AP; i++) ptx_cp_async16(a_to + slot + i * RA * BM, a_from + (u64)(i * RA) * k_stride, (i32)(a_row + i * RA) < left ? 16 : 0);
#pragma unroll
        for (u32 i = 0; i < BP; i++) {
            const int2 pixel = pixels[from][b_row + i * RB];
            const bool in = (u32)((pixel.y >> 16) + (i32)b_h) < p.h && (u32)((pixel.y << 16 >> 16) + (i32)tap_w) < p.w;
            ptx_cp_async16(b_to + slot + i * RB * BN, x + (pixel.x + b_offset), in ? 16 : 0);
        }
        a_from += (u64)BK * k_stride;
        left -= BK;
    };

    i32 acc[4][NJ][2][4];
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
#pragma unroll
        for (u32 j = 0; j < NJ; j++) {
#pragma unroll
            for (u32 h = 0; h < 2; h++) acc[i][j][h][0] = acc[i][j][h][1] = acc[i][j][h][2] = acc[i][j][h][3] = 0;
        }
    }
    record(0);
    __syncthreads();
#pragma unroll 1
    for (u32 s = 0; s < STAGES - 1; s++) {
        if (s < iterations) load(s * STAGE, s & 1);
        ptx_cp_async_commit();
        record(s + 1 & 1);
        __syncthreads();
    }
    u32 a_at[4], b_at[NJ];
#pragma unroll
    for (u32 i = 0; i < 4; i++) a_at[i] = base + pixel_place<BM>(lane, wm / 16 + i);
#pragma unroll
    for (u32 j = 0; j < NJ; j++) b_at[j] = base + BM * BK + pixel_place<BN>(lane, wn / 16 + j);
    u32 a[2][4][4], b[2][NJ][4];
    auto fragments = [&](u32 to, u32 slot, u32 k) {
#pragma unroll
        for (u32 i = 0; i < 4; i++) ptx_ldmatrix_trans(a[to][i], a_at[i] + slot + k * 32 * BM);
#pragma unroll
        for (u32 j = 0; j < NJ; j++) ptx_ldmatrix_trans(b[to][j], b_at[j] + slot + k * 32 * BN);
    };
    ptx_cp_async_wait<STAGES - 2>();
    __syncthreads();
    fragments(0, 0, 0);
    u32 read = 0, write = (STAGES - 1) * STAGE;
#pragma unroll 1
    for (u32 it = 0; it < iterations; it++) {
#pragma unroll
        for (u32 k = 0; k < 2; k++) {
            if (k == 1) {
                ptx_cp_async_wait<STAGES - 2>();
                __syncthreads();
                if (it + 1 < iterations) read = read == (STAGES - 1) * STAGE ? 0 : read + STAGE; // the last round reads what nobody uses
            }
            fragments(k ^ 1, read, k ^ 1);
            if (k == 0) {
                const u32 from = it + STAGES - 1 & 1;
                if (it + STAGES - 1 < iterations) load(write, from);
                ptx_cp_async_commit();
                record(from ^ 1);
                write = write == (STAGES - 1) * STAGE ? 0 : write + STAGE;
            }
            u32 even[NJ][2], odd[NJ][2];
#pragma unroll
            for (u32 j = 0; j < NJ; j++) {
                even[j][0] = ptx_prmt(b[k][j][0], b[k][j][1], 0x6420), even[j][1] = ptx_prmt(b[k][j][2], b[k][j][3], 0x6420);
                odd[j][0] = ptx_prmt(b[k][j][0], b[k][j][1], 0x7531), odd[j][1] = ptx_prmt(b[k][j][2], b[k][j][3], 0x7531);
            }
#pragma unroll
            for (u32 i = 0; i < 4; i++) {
                const u32 turned[4] = {ptx_prmt(a[k][i][0], a[k][i][1], 0x6420), ptx_prmt(a[k][i][0], a[k][i][1], 0x7531),
                                       ptx_prmt(a[k][i][2], a[k][i][3], 0x6420), ptx_prmt(a[k][i][2], a[k][i][3], 0x7531)};
#pragma unroll
                for (u32 j = 0; j < NJ; j++) {
                    ptx_mma_s8(acc[i][j][0], turned, even[j][0], even[j][1]);
                    ptx_mma_s8(acc[i][j][1], turned, odd[j][0], odd[j][1]);
                }
            }
        }
    }
    ptx_cp_async_wait<0>();
    if (gridDim.z == 1) { // the only slice: no sums to add
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
#pragma unroll
            for (u32 odd = 0; odd < 2; odd++) {
                const u32 k = k0 + wm + i * 16 + (lane >> 2) * 2 + odd;
                if (k >= p.k) continue;
                const f32 scale = power(exponents[k] - 12);
#pragma unroll
                for (u32 j = 0; j < NJ; j++) {
                    const u32 at = column0 * 16 + wn + j * 16 + (lane & 3) * 4, channel = at % c_stride;
                    if (at >= columns * 16) continue;
                    f32* to = dw + ((u64)k * (p.r * p.s) + at / c_stride) * p.c + channel;
                    const i32(&v)[2][4] = acc[i][j];
#pragma unroll
                    for (u32 x = 0; x < 4; x++) {
                        if (channel + x < p.c) to[x] = __fmul_rn(__int2float_rn(v[x & 1][odd * 2 + x / 2]), scale);
                    }
                }
            }
        }
        return;
    }
    i32* out = partial + (u64)blockIdx.z * k_stride * (columns * 16);
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
#pragma unroll
        for (u32 odd = 0; odd < 2; odd++) {
            const u32 k = k0 + wm + i * 16 + (lane >> 2) * 2 + odd;
#pragma unroll
            for (u32 j = 0; j < NJ; j++) {
                const u32 column = column0 * 16 + wn + j * 16 + (lane & 3) * 4;
                const i32(&v)[2][4] = acc[i][j];
                if (k < k_stride && column < columns * 16) {
                    *(int4*)(out + (u64)k * (columns * 16) + column) = make_int4(v[0][odd * 2], v[1][odd * 2], v[0][odd * 2 + 1], v[1][odd * 2 + 1]);
                }
            }
        }
    }
}

// Tiles of 128 x 128: blocks of 128, 65536 bytes of dynamic shared memory, grid x over channels, y over columns, z over slices of `slice` pixels (at most 131072). A single
// slice goes to dw at once, several to `partial`.
extern "C" __global__ void __launch_bounds__(128, 2) conv2d_wgrad_i8(
    const __grid_constant__ Conv2dI8 p, const i8* __restrict__ x, const i8* __restrict__ dyw, i32* __restrict__ partial, u32 slice,
    const i8* __restrict__ exponents, f32* __restrict__ dw) {
    wgrad_tile<128, 128, 64, 4>(p.conv, x, dyw, partial, slice, exponents, dw);
}
// Tiles of 64 x 64: blocks of 64, 32768 bytes of dynamic shared memory.
extern "C" __global__ void __launch_bounds__(64, 5) conv2d_wgrad_i8_small(
    const __grid_constant__ Conv2dI8 p, const i8* __restrict__ x, const i8* __restrict__ dyw, i32* __restrict__ partial, u32 slice,
    const i8* __restrict__ exponents, f32* __restrict__ dw) {
    wgrad_tile<64, 64, 32, 4>(p.conv, x, dyw, partial, slice, exponents, dw);
}

// Adds the slices and scales. Any grid.
extern "C" __global__ void __launch_bounds__(256) conv2d_wgrad_sum_i8(
    const __grid_constant__ Conv2dI8 p, const i32* __restrict__ partial, const i8* __restrict__ exponents, f32* __restrict__ dw, u32 slices) {
    const Conv2d& s = p.conv;
    const u32 taps = s.r * s.s, width = taps * s.c, padded = taps * pad16(s.c), count = s.k * width;
    const u64 slice = (u64)pad16(s.k) * padded;
    for (u32 i = thread_index(); i < count; i += thread_count()) {
        const u32 k = i / width, within = i % width;
        const i32* at = partial + (u64)k * padded + within / s.c * pad16(s.c) + within % s.c;
        long long sum = 0;
        for (u32 z = 0; z < slices; z++) sum += at[z * slice];
        dw[i] = __fmul_rn(__ll2float_rn(sum), power(exponents[k] - 12));
    }
}
