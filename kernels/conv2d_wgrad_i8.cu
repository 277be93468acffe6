// conv2d in integers: weight gradient dw[k][tap][c] = f32(sum over pixels dyw[m][k] * x[pixel(m, tap)][c]) * 2^(Ew[k]-12), from both NHWC operands as they are.
//
// A GEMM with channels k as rows, (tap, c) as columns and pixels as the long axis, which both operands have across their memory. 8-bit mma wants it along: each patch of
// 16 channels x 32 pixels is read by ldmatrix.trans, which turns pairs of channels, and finished by PRMT, one per mma (kernels.md 4.4). The pixels of a step come out in
// another order, the same for both operands; row g of a fragment is channel 2g, row g + 8 channel 2g + 1, and a thread ends with four neighbouring columns.
// Pixels are split into slices, a block each, so that small products have work for the whole device. Slices whose sums fit 32 bits together are a group: the last of four
// neighbours to finish adds the others' sums to its own and goes on for them, until one block is left; groups are added in 64 bits by the last group to finish. All of it
// is integers, so neither the split nor who comes last shows.
// In 16 bits dyw is two tensors of 8 bits, high and low: 256 * high + low. Each is a half of the slices, with groups of its own.
// Traffic: an element of dyw is read once per 128 columns (8 taps x 16 channels at the least), one of x once per tap and 128 channels, mostly from L2.
#include "conv2d_i8.cuh"
#include "phases.cuh"

// A piece's place in a stage: rows are pixels of B channels.
template <u32 B> __device__ __forceinline__ u32 pixel_place(u32 pixel, u32 piece) {
    return pixel * B + ((B == 128 ? piece ^ (pixel & 7) : piece ^ (pixel >> 1 & 3)) << 4);
}

// How the pixels are split, and where sums of slices meet.
struct Split {
    i32* partial; // [slice][tile][piece of four sums][thread]
    u32* tickets; // 0 between launches; null: nobody counts, slices end where they are written (a device that runs a part of the blocks)
    u32 slice, group, wide; // pixels of a slice, slices of a group, 1: dyw has 16 bits

    __device__ __forceinline__ u32 per_half() const { return wide ? gridDim.z / 2 : gridDim.z; }
    __device__ __forceinline__ u32 groups_of_half() const { return div_up(per_half(), group); }
    __device__ __forceinline__ u32 groups() const { return groups_of_half() << wide; }
    // First slice of a group.
    __device__ __forceinline__ u32 first(u32 g) const { return g / groups_of_half() * per_half() + g % groups_of_half() * group; }
    // Tickets of a group: one per four slices, per four of those, ..
    __device__ __forceinline__ u32 nodes() const {
        u32 count = 0;
        for (u32 width = min(group, per_half()); width > 1; width = div_up(width, 4)) count += div_up(width, 4);
        return count;
    }
};

// One tile of BM channels x BN columns over one slice. Grid x over channels, y over columns, z over slices.
template <u32 BM, u32 BN, u32 WN, u32 STAGES>
__device__ __forceinline__ void wgrad_tile(const Conv2d& p, const i8* __restrict__ x, const i8* __restrict__ dyw, const Split& split, const i8* __restrict__ exponents, f32* __restrict__ dw) {
    constexpr u32 WARPS_M = BM / 64, THREADS = WARPS_M * (BN / WN) * 32, BK = 64, STAGE = (BM + BN) * BK, NJ = WN / 16;
    constexpr u32 CA = BM / 16, CB = BN / 16, RA = THREADS / CA, RB = THREADS / CB, AP = BK / RA, BP = BK / RB;
    extern __shared__ __align__(128) u8 shared[];
    __shared__ uint2 pixels[2][BK]; // of a stage: offset of its first tap in x, and that tap's row and column before the padding, 16 bits each
    const u32 lane = lane_id(), wm = warp_id() % WARPS_M * 64, wn = warp_id() / WARPS_M * WN;
    const u32 k_stride = pad16(p.k), c_stride = pad16(p.c), per_tap = c_stride / 16, columns = p.r * p.s * per_tap;
    const u32 k0 = blockIdx.x * BM, column0 = blockIdx.y * CB, rows = p.n * p.p * p.q;
    const u32 per_half = split.per_half(), half = blockIdx.z / per_half, first = blockIdx.z % per_half * split.slice;

    i32 left = (i32)min(split.slice, rows - first); // pixels of the slice behind what is copied

    // What this thread copies: one piece of channels of dyw and one of columns, for several pixels of a stage.
    const u32 a_piece = threadIdx.x % CA, a_row = threadIdx.x / CA, b_piece = threadIdx.x % CB, b_row = threadIdx.x / CB;
    const bool a_there = k0 + a_piece * 16 < k_stride, b_there = column0 + b_piece < columns;
    const u32 tap = (column0 + b_piece) / per_tap, tap_h = tap / p.s, tap_w = tap % p.s;
    const i8* a_from = dyw + (u64)(half * rows + first + a_row) * k_stride + (a_there ? k0 + a_piece * 16 : 0);
    const i8* b_from = x + ((tap_h * p.w + tap_w) * c_stride + (column0 + b_piece) % per_tap * 16);
    // A tap is inside if its row and column, v in 16 bits each, are neither below the padding nor behind the image: bit 15 of v + 0x8000 - padding, and that of 0x8000 +
    // padding + size - 1 - v. Both coordinates at once; nothing is carried from one to the other, for all are below 0x8000.
    constexpr u32 TOPS = 0x80008000u;
    const u32 not_below = b_there ? TOPS + (tap_h << 16 | tap_w) - (p.pad_h << 16 | p.pad_w) : 0;
    const u32 not_behind = TOPS + ((p.pad_h + p.h - 1) << 16 | (p.pad_w + p.w - 1)) - (tap_h << 16 | tap_w);

    const i32 a_pixel = a_there ? (i32)a_row : 1 << 30;
    // The pixel whose record this thread writes, in digits.
    u32 low = (first + threadIdx.x) % p.q, mid = (first + threadIdx.x) / p.q % p.p, high = (first + threadIdx.x) / p.q / p.p;
    const u32 step_low = BK % p.q, step_mid = BK / p.q % p.p, step_high = BK / p.q / p.p;
    auto record = [&](u32 to) { // of the stage behind what is copied
        if (threadIdx.x >= BK) return;
        const u32 h = mid * p.stride_h, w = low * p.stride_w;
        const u32 offset = ((high * p.h + h - p.pad_h) * p.w + w - p.pad_w) * c_stride; // may be below 0
        pixels[to][threadIdx.x] = make_uint2(offset, (i32)threadIdx.x < left ? h * 0x10000u + w : 0x7fff0000u); // behind every image
        low += step_low, mid += step_mid, high += step_high;
        if (low >= p.q) low -= p.q, mid++;
        if (mid >= p.p) mid -= p.p, high++;
    };

    const u32 base = ptx_shared(shared), a_to = base + pixel_place<BM>(a_row, a_piece), b_to = base + BM * BK + pixel_place<BN>(b_row, b_piece);
    auto load = [&](u32 slot, u32 from) {
        // Records first: a read of shared memory between two copies costs three empty instructions.
        i32 at[BP];
        bool in[BP];
#pragma unroll
        for (u32 i = 0; i < BP; i++) {
            const uint2 pixel = pixels[from][b_row + i * RB];
            at[i] = (i32)pixel.x;
            in[i] = (pixel.y + not_below & not_behind - pixel.y & TOPS) == TOPS;
        }
#pragma unroll
        for (u32 i = 0; i < AP; i++) ptx_cp_async16(a_to + slot + i * RA * BM, a_from + (u64)(i * RA) * k_stride, a_pixel + (i32)(i * RA) < left ? 16 : 0);
#pragma unroll
        for (u32 i = 0; i < BP; i++) ptx_cp_async16(b_to + slot + i * RB * BN, b_from + at[i], in[i] ? 16 : 0);
        a_from += (u64)BK * k_stride;
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
        if (left > 0) load(s * STAGE, s & 1);
        ptx_cp_async_commit();
        left -= BK;
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
    u32 read = 0, write = (STAGES - 1) * STAGE, from = STAGES - 1 & 1;
#pragma unroll 1
    do {
#pragma unroll
        for (u32 k = 0; k < 2; k++) {
            if (k == 1) {
                ptx_cp_async_wait<STAGES - 2>();
                __syncthreads();
                if (left > -(i32)((STAGES - 1) * BK)) read = read == (STAGES - 1) * STAGE ? 0 : read + STAGE; // the last round reads what nobody uses
            }
            fragments(k ^ 1, read, k ^ 1);
            if (k == 0) {
                if (left > 0) load(write, from);
                ptx_cp_async_commit();
                left -= BK;
                from ^= 1;
                record(from);
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
    } while (left > -(i32)((STAGES - 1) * BK));
    ptx_cp_async_wait<0>();
    // Sums of slices, see Split. A thread keeps its own in pieces of 16 bytes.
    const u32 tile = blockIdx.y * gridDim.x + blockIdx.x, groups = split.groups(), nodes = split.nodes(), g = half * split.groups_of_half() + blockIdx.z % per_half / split.group;
    const u64 pitch = (u64)(gridDim.x * gridDim.y) * (BM * BN);
    i32* const own = split.partial + (u64)tile * (BM * BN) + ptx_thread() * 4;
    u32* const tickets = split.tickets + tile * (groups * nodes + 1);
    auto keep = [&](u32 slice) {
        i32* const to = own + slice * pitch;
#pragma unroll
        for (u32 n = 0; n < 4 * NJ * 2; n++) {
            const i32(&v)[4] = acc[n / (2 * NJ)][n / 2 % NJ][n % 2];
            *(int4*)(to + n * (THREADS * 4)) = make_int4(v[0], v[1], v[2], v[3]);
        }
    };
    if (gridDim.z > 1) {
        const u32 start = split.first(g);
        if (split.tickets == nullptr) return keep(blockIdx.z);
        u32* node = tickets + 1 + g * nodes;
        u32 z = blockIdx.z - start;
        for (u32 width = min(split.group, per_half - (start - half * per_half)), step = 1; width > 1; width = div_up(width, 4), step *= 4) {
            const u32 members = min(4u, width - (z & ~3u));
            if (members > 1) {
                keep(start + z * step);
                if (!last_of(node + z / 4, members)) return;
                for (u32 other = z & ~3u; other < (z & ~3u) + members; other++) {
                    if (other == z) continue;
                    const i32* const from = own + (start + other * step) * pitch;
#pragma unroll
                    for (u32 n = 0; n < 4 * NJ * 2; n++) {
                        const int4 v = *(const int4*)(from + n * (THREADS * 4));
                        i32(&sum)[4] = acc[n / (2 * NJ)][n / 2 % NJ][n % 2];
                        sum[0] += v.x, sum[1] += v.y, sum[2] += v.z, sum[3] += v.w;
                    }
                }
            }
            node += div_up(width, 4);
            z /= 4;
        }
        if (groups > 1) {
            keep(start);
            if (!last_of(tickets, groups)) return;
        }
    }

    // Four neighbouring columns of one row of the sums to dw.
    const u32 thread = ptx_thread(), row = k0 + thread / 32 % WARPS_M * 64 + (thread >> 2 & 7) * 2, column = column0 * 16 + thread / 32 / WARPS_M * WN + (thread & 3) * 4;
    auto put = [&](u32 i, u32 j, u32 odd, const f32 (&v)[4]) {
        const u32 k = row + i * 16 + odd, at = column + j * 16, channel = at % c_stride;
        if (k >= p.k || at >= columns * 16) return;
        const f32 scale = power(exponents[k] - (split.wide ? 20 : 12));
        f32* to = dw + ((u64)k * (p.r * p.s) + at / c_stride) * p.c + channel;
#pragma unroll
        for (u32 x = 0; x < 4; x++) {
            if (channel + x < p.c) to[x] = __fmul_rn(v[x], scale);
        }
    };
    if (groups > 1) {
#pragma unroll 1
        for (u32 part = 0; part < 4 * NJ; part++) {
            long long sums[8] = {0, 0, 0, 0, 0, 0, 0, 0};
            for (u32 other = 0; other < groups; other++) {
                const int4* from = (const int4*)(own + split.first(other) * pitch) + part * (2 * THREADS);
                const int4 even = from[0], odd = from[THREADS];
                const i32 weight = split.wide && other < groups / 2 ? 256 : 1;
                sums[0] += (long long)even.x * weight, sums[1] += (long long)odd.x * weight, sums[2] += (long long)even.y * weight, sums[3] += (long long)odd.y * weight;
                sums[4] += (long long)even.z * weight, sums[5] += (long long)odd.z * weight, sums[6] += (long long)even.w * weight, sums[7] += (long long)odd.w * weight;
            }
#pragma unroll
            for (u32 odd = 0; odd < 2; odd++) {
                const f32 v[4] = {__ll2float_rn(sums[odd * 4]), __ll2float_rn(sums[odd * 4 + 1]), __ll2float_rn(sums[odd * 4 + 2]), __ll2float_rn(sums[odd * 4 + 3])};
                put(part / NJ, part % NJ, odd, v);
            }
        }
        return;
    }
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
#pragma unroll
        for (u32 j = 0; j < NJ; j++) {
#pragma unroll
            for (u32 odd = 0; odd < 2; odd++) {
                const i32(&v)[2][4] = acc[i][j];
                const f32 sums[4] = {__int2float_rn(v[0][odd * 2]), __int2float_rn(v[1][odd * 2]), __int2float_rn(v[0][odd * 2 + 1]), __int2float_rn(v[1][odd * 2 + 1])};
                put(i, j, odd, sums);
            }
        }
    }
}

// Tiles of 128 x 128: blocks of 128, 65536 bytes of dynamic shared memory, grid x over channels, y over columns, z over slices of `slice` pixels; `group` slices have at most 131072.
extern "C" __global__ void __launch_bounds__(128, 2) conv2d_wgrad_i8(
    const __grid_constant__ Conv2dI8 p, const i8* __restrict__ x, const i8* __restrict__ dyw, i32* partial, u32* tickets, u32 slice, u32 group,
    const i8* __restrict__ exponents, f32* __restrict__ dw) {
    wgrad_tile<128, 128, 64, 4>(p.conv, x, dyw, {partial, tickets, slice, group, p.wide}, exponents, dw);
}
// Tiles of 64 x 64: blocks of 64, 32768 bytes of dynamic shared memory.
extern "C" __global__ void __launch_bounds__(64, 5) conv2d_wgrad_i8_small(
    const __grid_constant__ Conv2dI8 p, const i8* __restrict__ x, const i8* __restrict__ dyw, i32* partial, u32* tickets, u32 slice, u32 group,
    const i8* __restrict__ exponents, f32* __restrict__ dw) {
    wgrad_tile<64, 64, 32, 4>(p.conv, x, dyw, {partial, tickets, slice, group, p.wide}, exponents, dw);
}
