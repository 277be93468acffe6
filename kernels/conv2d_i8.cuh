// The integer GEMM of conv2d, forward and data gradient: a tile of BM pixels x BN channels by mma.sync, with the stored tensor's blocks made in registers (kernels.md 4.1).
//
// Rows are output pixels, columns output channels, the long axis is taps x padded channels in pieces of 16 bytes; a stage holds 4 pieces of each row and column. Each thread copies
// one piece of its rows and columns per stage in the background; a piece outside the image or behind the end is filled with zeros. Pieces of a row of 64 bytes are kept at
// piece ^ (row / 2 % 4), so that neither copies nor ldmatrix meet a bank twice. Every warp has 64 rows and WN columns: the blocks of 64 x 32 whose exponents and random bits
// the format wants lie in one warp, whatever the tile: all tiles give the same bits.
#pragma once
#include "bfp.cuh"
#include "ptx.cuh"

// rust: crate::ops::conv2d::Conv2d
struct Conv2d {
    u32 n, h, w, c, k, r, s, p, q, stride_h, stride_w, pad_h, pad_w;
};
// rust: crate::ops::conv2d::Conv2dI8
struct Conv2dI8 {
    Conv2d conv;
    Noise noise;
    u32 wide; // 1: the weight gradient's dyw has 16 bits
};

// rust: crate::ops::conv2d::Conv2dStreamI8
struct Conv2dStreamI8 {
    Conv2dI8 product;
    u32 add, other, form, store;
};

enum Pass { FORWARD, STREAM, DGRAD, DGRAD_MASKED };

// The pass as a convolution of `in` into `out`: forward it is that itself; the data gradient reads dY at (h + pad - (R-1) + tap) / stride where that is whole, with flipped weights.
struct Geometry {
    u32 n, in_h, in_w, in_c, out_h, out_w, out_c; // in_c padded
    u32 taps_h, taps_w;
    i32 step_h, step_w, first_h, first_w; // of the input per output pixel, before the division
    u32 divide_h, divide_w, shift_h, shift_w; // and, of powers of two, by how much that shifts

    __device__ __forceinline__ Geometry(const Conv2d& p, bool forward)
        : n(p.n), in_h(forward ? p.h : p.p), in_w(forward ? p.w : p.q), in_c(pad16(forward ? p.c : p.k)), out_h(forward ? p.p : p.h), out_w(forward ? p.q : p.w),
          out_c(forward ? p.k : p.c), taps_h(p.r), taps_w(p.s), step_h(forward ? p.stride_h : 1), step_w(forward ? p.stride_w : 1),
          first_h(forward ? -(i32)p.pad_h : (i32)p.pad_h - (i32)p.r + 1), first_w(forward ? -(i32)p.pad_w : (i32)p.pad_w - (i32)p.s + 1),
          divide_h(forward ? 1 : p.stride_h), divide_w(forward ? 1 : p.stride_w), shift_h(31 - __clz((i32)divide_h)), shift_w(31 - __clz((i32)divide_w)) {}
};

// A row of the tile: where its first tap lies, and which taps are inside. ANY: any number of taps and gradients of any stride, worked out tap by tap; otherwise at most 12 x 12 taps and
// strides that are powers of two, with a bit per row (0..15) and column (16..31) of taps. Of the taps of a strided gradient a row has those with (h + tap) / stride whole: floor(tap / stride)
// behind the first of them, whichever that is.
template <bool ANY> struct Row;
template <> struct Row<false> {
    i32 base;
    u32 inside;
    // Bit i for each of `taps` taps with at + i = j << shift, 0 <= j < size.
    __device__ __forceinline__ static u32 span(i32 at, u32 size, u32 taps, u32 shift) {
        if (shift == 0) {
            const i32 from = max(-at, 0), to = min((i32)size - at, (i32)taps);
            return to > from ? (1u << to) - (1u << from) : 0u;
        }
        u32 bits = 0;
        const u32 divide = 1u << shift;
#pragma unroll 1
        for (u32 i = (u32)-at & (divide - 1); i < taps; i += divide) bits |= (u32)((at + (i32)i) >> shift) < size ? 1u << i : 0u;
        return bits;
    }
    __device__ __forceinline__ void set(const Geometry& g, u32 m, u32 rows) {
        base = 0, inside = 0;
        if (m >= rows) return;
        const u32 image = m / (g.out_h * g.out_w), pixel = m - image * (g.out_h * g.out_w), oh = pixel / g.out_w, ow = pixel - oh * g.out_w;
        const i32 h = (i32)oh * g.step_h + g.first_h, w = (i32)ow * g.step_w + g.first_w;
        const i32 first_h = (h + (i32)g.divide_h - 1) >> g.shift_h, first_w = (w + (i32)g.divide_w - 1) >> g.shift_w; // the first that are whole
        base = (((i32)(image * g.in_h) + first_h) * (i32)g.in_w + first_w) * (i32)g.in_c;
        inside = span(h, g.in_h, g.taps_h, g.shift_h) | span(w, g.in_w, g.taps_w, g.shift_w) << 16;
    }
    // `tap`: what `tap_bits` says.
    __device__ __forceinline__ u32 bytes(const Geometry&, u32, u32, u32 tap) const { return tap & ~inside ? 0 : 16; }
    __device__ __forceinline__ i32 offset(const Geometry&, u32, u32) const { return base; }
    __device__ __forceinline__ static u32 tap_bits(u32 r, u32 s) { return 1u << r | 0x10000u << s; }
    __device__ __forceinline__ static i32 tap(const Geometry& g, u32 r, u32 s, u32 piece) { return (i32)(((r >> g.shift_h) * g.in_w + (s >> g.shift_w)) * g.in_c + piece * 16); }
};
template <> struct Row<true> {
    u32 image;
    i32 h, w;
    bool there;
    __device__ __forceinline__ void set(const Geometry& g, u32 m, u32 rows) {
        there = m < rows;
        if (!there) m = 0;
        const u32 n = m / (g.out_h * g.out_w), pixel = m - n * (g.out_h * g.out_w), oh = pixel / g.out_w, ow = pixel - oh * g.out_w;
        image = n * g.in_h * g.in_w;
        h = (i32)oh * g.step_h + g.first_h, w = (i32)ow * g.step_w + g.first_w;
    }
    __device__ __forceinline__ u32 bytes(const Geometry& g, u32 r, u32 s, u32) const {
        const i32 y = h + (i32)r, x = w + (i32)s;
        const bool in = there && r < g.taps_h && y >= 0 && x >= 0 && (u32)y % g.divide_h == 0 && (u32)x % g.divide_w == 0 && (u32)y / g.divide_h < g.in_h &&
                        (u32)x / g.divide_w < g.in_w;
        return in ? 16 : 0;
    }
    __device__ __forceinline__ static u32 tap_bits(u32, u32) { return 0; }
    __device__ __forceinline__ i32 offset(const Geometry& g, u32 r, u32 s) const {
        const u32 y = (u32)(h + (i32)r) / g.divide_h, x = (u32)(w + (i32)s) / g.divide_w;
        return (i32)((image + y * g.in_w + x) * g.in_c);
    }
    __device__ __forceinline__ static i32 tap(const Geometry&, u32, u32, u32 piece) { return (i32)(piece * 16); }
};

// Place of a 16-byte piece in a stage.
__device__ __forceinline__ u32 swizzled(u32 row, u32 piece) { return row * 64 + ((piece ^ (row >> 1 & 3)) << 4); }

// What the epilogue reads and writes. `y`, its exponents and `affine` [2][padded channels] belong to the batchnorm whose ReLU masks a gradient.
struct Epilogue {
    const i8* row_exponents;    // per image
    const i8* column_exponents; // per output channel, forward
    const u32* step;
    const i8* y;
    const i8* y_exponents;
    const f32* affine;
    i8* mantissas;
    i8* exponents;
    uint2* sums; // OutputSums or GradientSums
    u32 zero;    // always 0, see Philox
    // Of a residual stream: what is added and what comes of it, whether there is something to add, both forms, and whether the sum is stored, too.
    const void* other;
    const i8* other_exponents;
    void* stream;
    i8* stream_exponents;
    u32 add, other_form, form, store;
};

// Two neighbours of an f32 tensor at element `at`, an even channel of `c`: adds them, writes them.
__device__ __forceinline__ void add_pair(const f32* __restrict__ other, u32 at, u32 channel, u32 c, f32& first, f32& second) {
    if (c % 2 == 0) {
        const float2 o = *(const float2*)(other + at);
        first = __fadd_rn(o.x, first), second = __fadd_rn(o.y, second);
        return;
    }
    first = __fadd_rn(other[at], first);
    if (channel + 1 < c) second = __fadd_rn(other[at + 1], second);
}
__device__ __forceinline__ void put_pair(f32* __restrict__ to, u32 at, u32 channel, u32 c, f32 first, f32 second) {
    if (c % 2 == 0) {
        *(float2*)(to + at) = make_float2(first, second);
        return;
    }
    to[at] = first;
    if (channel + 1 < c) to[at + 1] = second;
}

// 16 bytes of the staged block of a warp: rows of BYTES bytes with pieces exchanged, so that neither pairs of mantissas nor pieces meet a bank twice.
template <u32 BYTES> __device__ __forceinline__ u32 staged(u32 row, u32 piece) {
    return row * BYTES + ((piece ^ (BYTES == 128 ? row & 7 : BYTES == 64 ? row >> 1 & 3 : row >> 2 & 1)) << 4);
}

// Adds (or takes the larger, smaller) over the 8 lanes that hold the rows of a warp: each step halves the columns that a lane still has.
template <u32 HALF, u32 N, class F> __device__ __forceinline__ void fold_half(i32 (&v)[N], u32 distance, F f) {
    const i32 upper = lane_id() & distance ? -1 : 0; // a mask: `?:` between elements would send the array to local memory
#pragma unroll
    for (u32 k = 0; k < HALF; k++) {
        const i32 swap = (v[k] ^ v[k + HALF]) & upper, keep = v[k] ^ swap, send = v[k + HALF] ^ swap;
        v[k] = f(keep, __shfl_xor_sync(FULL_WARP, send, distance));
    }
}
template <u32 N, class F> __device__ __forceinline__ void fold_rows(i32 (&v)[N], F f) {
    fold_half<N / 2>(v, 4, f);
    fold_half<N / 4>(v, 8, f);
    if constexpr (N >= 8) fold_half<N / 8>(v, 16, f);
    else v[0] = f(v[0], __shfl_xor_sync(FULL_WARP, v[0], 16)); // both lanes have it
}

// Calls f(j, row, first, second) for the pairs of neighbours that this thread has in block `b` of 32 columns, j counting 8 of them; `row` is that of lane 0.
template <u32 WN, class F> __device__ __forceinline__ void each_pair(i32 (&acc)[4][WN / 8][4], u32 b, F f) {
#pragma unroll
    for (u32 j = 0; j < 4; j++) {
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
#pragma unroll
            for (u32 h = 0; h < 2; h++) {
                f32 first = __int_as_float(acc[i][b * 4 + j][h * 2]), second = __int_as_float(acc[i][b * 4 + j][h * 2 + 1]);
                f(j, i * 16 + h * 8, first, second);
                acc[i][b * 4 + j][h * 2] = __float_as_int(first), acc[i][b * 4 + j][h * 2 + 1] = __float_as_int(second);
            }
        }
    }
}

// Sums over the rows of a warp by column, `left` rows from the first on: mantissas in acc[..][0], as store_tile has packed them, those of `y` in acc[..][1].
template <u32 WN, Pass PASS> __device__ __forceinline__ void column_sums(i32 (&acc)[4][WN / 8][4], uint2* sums, u32 left, u32 n0, u32 stride) {
    constexpr u32 NI = WN / 8;
    const u32 lane = lane_id(), row = lane >> 2, pair = (lane & 3) * 2;
    // Of both columns of a pair in one word, but for the products.
    i32 products[NI * 2], sum[NI], low[NI], high[NI];
#pragma unroll
    for (u32 j = 0; j < NI; j++) {
        i32 of[2] = {0, 0};
#pragma unroll
        for (u32 x = 0; x < 2; x++) {
            products[j * 2 + x] = 0;
#pragma unroll
            for (u32 i = 0; i < 4; i += 2) {
                const u32 four = ptx_prmt((u32)acc[i][j][0], (u32)acc[i + 1][j][0], x ? 0x7531 : 0x6420);
                u32 with = four;
                if (PASS == DGRAD_MASKED) with = ptx_prmt((u32)acc[i][j][1], (u32)acc[i + 1][j][1], x ? 0x7531 : 0x6420);
                of[x] = __dp4a((i32)four, 0x01010101, of[x]);
                products[j * 2 + x] = __dp4a((i32)four, (i32)with, products[j * 2 + x]);
            }
        }
        sum[j] = of[0] + of[1] * 65536;
    }
    // Rows that are not there are zeros, which is right for sums and the largest magnitude; for the least and the most they become the first row's.
    if (PASS != DGRAD_MASKED && left < BLOCK_ROWS) {
#pragma unroll
        for (u32 j = 0; j < NI; j++) {
            const u32 first = __byte_perm(__shfl_sync(FULL_WARP, (u32)acc[0][j][0], lane & 3), 0, 0x1010);
#pragma unroll
            for (u32 i = 0; i < 4; i++) {
                if (i * 16 + row >= left) acc[i][j][0] = (i32)first;
                else if (i * 16 + row + 8 >= left) acc[i][j][0] = (i32)__byte_perm((u32)acc[i][j][0], first, 0x5410);
            }
        }
    }
    // A mantissa m as the f16 of 1152 + m, whose bits are 0x6480 + m: two columns are compared at once.
#pragma unroll
    for (u32 j = 0; j < NI; j++) {
        u32 least = 0, most = 0;
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            const u32 biased = (u32)acc[i][j][0] ^ 0x80808080u, upper = ptx_prmt(biased, 0x64, 0x4140), lower = ptx_prmt(biased, 0x64, 0x4342);
            least = ptx_min_f16x2(i == 0 ? upper : ptx_min_f16x2(least, upper), lower);
            most = ptx_max_f16x2(i == 0 ? upper : ptx_max_f16x2(most, upper), lower);
        }
        // 0x6480 - (0x6480 + m) + 0x6480: the other sign.
        if (PASS == DGRAD_MASKED) most = ptx_max_f16x2(most, 0xc900c900u - least);
        low[j] = (i32)least, high[j] = (i32)most;
    }
    const auto add = [](i32 a, i32 b) { return a + b; };
    fold_rows(products, add);
    fold_rows(sum, add);
    fold_rows(high, [](i32 a, i32 b) { return (i32)ptx_max_f16x2((u32)a, (u32)b); });
    if (PASS != DGRAD_MASKED) fold_rows(low, [](i32 a, i32 b) { return (i32)ptx_min_f16x2((u32)a, (u32)b); });
    const u32 start = (lane >> 2 & 1) * NI + (lane >> 3 & 1) * (NI / 2) + (lane >> 4 & 1) * (NI / 4);
#pragma unroll
    for (u32 k = 0; k < NI / 4; k++) {
        const u32 index = start + k, channel = n0 + index / 2 * 8 + pair + index % 2;
        if (channel >= stride) continue;
        // Of a word of two columns; a mantissa is the byte with its first bit turned.
        const i32 both = sum[k / 2], first = both << 16 >> 16, of = index % 2 ? (both - first) >> 16 : first;
        const auto extreme = [&](i32 word) { return (i32)((u32)word >> index % 2 * 16 & 255u) - 128; };
        uint2 out;
        if (PASS != DGRAD_MASKED) {
            const OutputSums s = OutputSums::of(products[k], of, extreme(low[k / 2]), extreme(high[k / 2]));
            out = make_uint2(s.squares, s.rest);
        } else {
            const GradientSums s = GradientSums::of(products[k], of, extreme(high[k / 2]));
            out = make_uint2((u32)s.products, s.rest);
        }
        sums[channel] = out;
    }
}

// Bytes of a warp's shared memory for its 64 x WN results: of 8 bits, and before those of a stream's 16.
template <u32 WN, Pass PASS> constexpr u32 STAGED_BYTES = 64 * WN * (PASS == STREAM ? 3 : 1);

// Scales, masks or adds, rounds and writes the 64 x WN results of a warp, and their sums. `m0`, `n0`: first row and column. `stage`: STAGED_BYTES of shared memory.
template <u32 WN, Pass PASS>
__device__ __forceinline__ void store_tile(const Geometry& g, const Noise& noise, const Epilogue& e, i32 (&acc)[4][WN / 8][4], u8* stage, u32 m0, u32 n0) {
    constexpr bool GRADIENT = PASS == DGRAD || PASS == DGRAD_MASKED;
    u32 lane = lane_id(), row = lane >> 2, pair = (lane & 3) * 2;
    const u32 pixels = g.out_h * g.out_w, rows = g.n * pixels, stride = pad16(g.out_c), across = div_up(stride, BLOCK_CHANNELS), tile = m0 / BLOCK_ROWS;
    if (m0 >= rows || n0 >= stride) return;
    if (PASS == DGRAD_MASKED) {
#pragma unroll
        for (u32 i = 0; i < 64 * WN / 16 / 32; i++) {
            const u32 at = i * 32 + lane, r = at / (WN / 16), piece = at % (WN / 16);
            uint4 v = make_uint4(0, 0, 0, 0);
            if (m0 + r < rows && n0 + piece * 16 < stride) v = load16(e.y + (u64)(m0 + r) * stride + n0 + piece * 16);
            store16(stage + staged<WN>(r, piece), v);
        }
        __syncwarp();
    }
    u8* const pairs = stage; // mantissas of 16 bits
    if (PASS == STREAM) {
        stage += 64 * WN * 2;
        if (e.add && e.other_form == FORM_BFP16) {
#pragma unroll
            for (u32 i = 0; i < 64 * WN / 8 / 32; i++) {
                const u32 at = i * 32 + lane, r = at / (WN / 8), piece = at % (WN / 8);
                const bool there = m0 + r < rows && n0 + piece * 8 < stride;
                ptx_cp_async16(ptx_shared(pairs + staged<2 * WN>(r, piece)), (const u16*)e.other + ((m0 + r) * stride + n0 + piece * 8), there ? 16 : 0);
            }
            ptx_cp_async_commit();
            ptx_cp_async_wait<0>();
            __syncwarp();
        }
    }
    f32 row_scale[4][2];
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
#pragma unroll
        for (u32 h = 0; h < 2; h++) row_scale[i][h] = power(e.row_exponents[min(m0 + i * 16 + h * 8 + row, rows - 1) / pixels] - 6);
    }
    u32 chain = 0;
    const u32 fill = fill_of(noise);
#pragma unroll
    for (u32 b = 0; b < WN / 32; b++) {
        const u32 column = n0 / BLOCK_CHANNELS + b, block = tile * across + column;
        if (column >= across) {
#pragma unroll
            for (u32 i = 0; i < 4; i++) {
#pragma unroll
                for (u32 j = 0; j < 4; j++) acc[i][b * 4 + j][0] = acc[i][b * 4 + j][1] = 0;
            }
            continue;
        }
        const f32 y_scale = PASS == DGRAD_MASKED ? power(e.y_exponents[block] - 6) : 0.f;
        f32 largest = 0.f;
#pragma unroll
        for (u32 j = 0; j < 4; j++) {
            const u32 channel = n0 + b * 32 + j * 8 + pair;
            f32 scale[2], a[2], shift[2];
#pragma unroll
            for (u32 x = 0; x < 2; x++) {
                const bool there = channel + x < g.out_c;
                scale[x] = !there ? 0.f : GRADIENT ? power(-6) : power(e.column_exponents[channel + x] - 6);
                a[x] = PASS == DGRAD_MASKED && there ? e.affine[channel + x] : 0.f;
                shift[x] = PASS == DGRAD_MASKED && there ? e.affine[stride + channel + x] : 0.f;
            }
#pragma unroll
            for (u32 i = 0; i < 4; i++) {
                u32 other = 0;
                if (PASS == DGRAD_MASKED) {
                    const u32 upper = *(const u16*)(stage + staged<WN>(i * 16 + row, b * 2 + j / 2) + j % 2 * 8 + pair);
                    const u32 lower = *(const u16*)(stage + staged<WN>(i * 16 + row + 8, b * 2 + j / 2) + j % 2 * 8 + pair);
                    other = upper << 16 | lower;
                }
#pragma unroll
                for (u32 x = 0; x < 4; x++) {
                    f32 v = __fmul_rn(__int2float_rn(acc[i][b * 4 + j][x]), __fmul_rn(scale[x & 1], row_scale[i][x >> 1]));
                    if (PASS == DGRAD_MASKED) {
                        const f32 y = __fmul_rn(mantissa_f32(other, (x & 1) + (x < 2 ? 2 : 0)), y_scale);
                        v = __fmaf_rn(a[x & 1], y, shift[x & 1]) > 0.f ? v : 0.f;
                    }
                    acc[i][b * 4 + j][x] = __float_as_int(v);
                    if (PASS != STREAM) largest = fmaxf(largest, fabsf(v)); // never NaN: an integer, scaled
                }
            }
        }
        u32 bits = __float_as_uint(largest);
        if (PASS == STREAM) {
            // Where in the staged block a lane reads and writes is worked out anew, twice: kept from before, it would take registers that the sums need.
            lane = ptx_thread() & 31u, row = lane >> 2, pair = (lane & 3) * 2;
            // What is uniform is asked once, not for each pair.
            if (e.add && e.other_form == FORM_BFP16) {
                const From16 from(e.other_exponents[block]);
                each_pair<WN>(acc, b, [&](u32 j, u32 r, f32& first, f32& second) {
                    f32 low, high;
                    from(*(const u32*)(pairs + staged<2 * WN>(r + row, b * 4 + j) + pair * 2), low, high);
                    first = __fadd_rn(low, first), second = __fadd_rn(high, second);
                });
            } else if (e.add) {
                each_pair<WN>(acc, b, [&](u32 j, u32 r, f32& first, f32& second) {
                    const u32 m = m0 + r + row, channel = n0 + b * 32 + j * 8 + pair;
                    if (m < rows && channel < g.out_c) add_pair((const f32*)e.other, m * g.out_c + channel, channel, g.out_c, first, second);
                });
            }
            if (e.form == FORM_F32) {
                each_pair<WN>(acc, b, [&](u32 j, u32 r, f32& first, f32& second) {
                    const u32 m = m0 + r + row, channel = n0 + b * 32 + j * 8 + pair;
                    if (m < rows && channel < g.out_c) put_pair((f32*)e.stream, m * g.out_c + channel, channel, g.out_c, first, second);
                });
                if (!e.store) continue;
            }
            each_pair<WN>(acc, b, [&](u32, u32, f32& first, f32& second) { bits = max(bits, max(magnitude(first), magnitude(second))); });
            lane = ptx_thread() & 31u, row = lane >> 2, pair = (lane & 3) * 2;
        }
        bits = __reduce_max_sync(FULL_WARP, bits);
        const i32 exponent = exponent_of(bits);
        if (PASS == STREAM && e.form == FORM_BFP16) {
            if (lane == 0) e.stream_exponents[block] = (i8)exponent;
            const To16 to(bits, exponent);
            auto put = [&](u32 j, u32 r, u32 packed) { *(u32*)(pairs + staged<2 * WN>(r + row, b * 4 + j) + pair * 2) = packed; };
            if (to.clips) each_pair<WN>(acc, b, [&](u32 j, u32 r, f32& first, f32& second) { put(j, r, to.pair<true>(first, second)); });
            else each_pair<WN>(acc, b, [&](u32 j, u32 r, f32& first, f32& second) { put(j, r, to.pair<false>(first, second)); });
        }
        if (PASS == STREAM && !e.store) continue;
        if (lane == 0) e.exponents[block] = (i8)exponent;
        const StoredRounding round(bits, exponent, noise.stochastic);
        if (!round.plain) each_pair<WN>(acc, b, [&](u32, u32, f32& first, f32& second) { first = round.before(first), second = round.before(second); });
        const u32 step = *e.step;
        // Four mantissas each, the upper row in the lower half.
#pragma unroll
        for (u32 j = 0; j < 4; j++) {
#pragma unroll
            for (u32 i = 0; i < 4; i += 2) {
                Philox random;
                if (noise.stochastic) random = Philox((block * 8 + i / 2 * 4 + j) * 32 + lane, step, noise.tensor, noise.seed, chain & e.zero);
                else random.w[0] = random.w[1] = random.w[2] = random.w[3] = 0;
#pragma unroll
                for (u32 h = 0; h < 2; h++) {
                    i32 (&four)[4] = acc[i + h][b * 4 + j];
                    u32 q[4];
#pragma unroll
                    for (u32 x = 0; x < 4; x++) q[x] = round(__int_as_float(four[x]), random.stored(h * 4 + x, fill));
                    chain = pack_rounded(q[0], q[1], q[2], q[3]);
                    four[0] = (i32)chain;
                }
            }
        }
#pragma unroll
        for (u32 j = 0; j < 4; j++) {
#pragma unroll
            for (u32 i = 0; i < 4; i++) {
                const u32 packed = (u32)acc[i][b * 4 + j][0];
                u16* at = (u16*)(stage + staged<WN>(i * 16 + row, b * 2 + j / 2) + j % 2 * 8 + pair);
                u16* below = (u16*)(stage + staged<WN>(i * 16 + row + 8, b * 2 + j / 2) + j % 2 * 8 + pair);
                if (PASS == DGRAD_MASKED) acc[i][b * 4 + j][1] = (i32)((u32)*at | (u32)*below << 16);
                *at = (u16)packed;
                *below = (u16)(packed >> 16);
            }
        }
    }
    if (PASS == STREAM && e.form == FORM_BFP16) {
        __syncwarp();
#pragma unroll
        for (u32 i = 0; i < 64 * WN / 8 / 32; i++) {
            const u32 at = i * 32 + lane, r = at / (WN / 8), piece = at % (WN / 8);
            if (m0 + r < rows && n0 + piece * 8 < stride) store16((u16*)e.stream + ((m0 + r) * stride + n0 + piece * 8), load16(pairs + staged<2 * WN>(r, piece)));
        }
    }
    if (PASS == STREAM && !e.store) return;
    if (PASS != DGRAD) column_sums<WN, PASS>(acc, e.sums + (u64)tile * stride, rows - m0, n0, stride);
    __syncwarp();
#pragma unroll
    for (u32 i = 0; i < 64 * WN / 16 / 32; i++) {
        const u32 at = i * 32 + lane, r = at / (WN / 16), piece = at % (WN / 16);
        if (m0 + r < rows && n0 + piece * 16 < stride) store16(e.mantissas + (u64)(m0 + r) * stride + n0 + piece * 16, load16(stage + staged<WN>(r, piece)));
    }
}

// One tile: x [pixels][padded channels], w [columns][taps][padded channels]. Blocks of BM / 64 * BN / WN warps, grid x over rows, y over columns.
template <u32 BM, u32 BN, u32 WN, u32 STAGES, Pass PASS, bool ANY>
__device__ __forceinline__ void conv_tile(const Conv2dI8& p, const i8* __restrict__ x, const i8* __restrict__ w, const Epilogue& e) {
    constexpr u32 WARPS_M = BM / 64, THREADS = WARPS_M * (BN / WN) * 32, PASS_ROWS = THREADS / 4, AP = BM / PASS_ROWS, BP = BN / PASS_ROWS, NI = WN / 8;
    constexpr u32 STAGE = (BM + BN) * 64;
    extern __shared__ __align__(128) u8 shared[];
    const Geometry g(p.conv, PASS == FORWARD || PASS == STREAM);
    const u32 lane = lane_id(), wm = warp_id() % WARPS_M * 64, wn = warp_id() / WARPS_M * WN, m0 = blockIdx.x * BM, n0 = blockIdx.y * BN;
    const u32 piece = threadIdx.x % 4, row0 = threadIdx.x / 4;
    const u32 per_tap = g.in_c / 16, pieces = g.taps_h * g.taps_w * per_tap, iterations = div_up(pieces, 4), width = pieces * 16;

    Row<ANY> rows[AP];
#pragma unroll
    for (u32 i = 0; i < AP; i++) rows[i].set(g, m0 + row0 + i * PASS_ROWS, g.n * g.out_h * g.out_w);
    const i8* columns[BP];
#pragma unroll
    for (u32 i = 0; i < BP; i++) columns[i] = w + (u64)min(n0 + row0 + i * PASS_ROWS, g.out_c - 1) * width + piece * 16; // columns behind the end are scaled by 0

    // This thread's piece in digits: piece of a tap, column and row of taps.
    u32 low = piece % per_tap, mid = piece / per_tap % g.taps_w, high = piece / per_tap / g.taps_w;
    const u32 step_low = 4 % per_tap, step_mid = 4 / per_tap % g.taps_w, step_high = 4 / per_tap / g.taps_w;
    // The shuffle says nothing new: it keeps ptxas from working the address out again in every round.
    const u32 base = ptx_shared(shared), a_to = __shfl_sync(FULL_WARP, base + swizzled(row0, piece), lane), b_to = a_to + BM * 64;
    auto load = [&](u32 slot) {
        const i8* from = x + Row<ANY>::tap(g, high, mid, low);
        const u32 tap = Row<ANY>::tap_bits(high, mid);
#pragma unroll
        for (u32 i = 0; i < AP; i++) {
            ptx_cp_async16(a_to + slot + i * PASS_ROWS * 64, from + rows[i].offset(g, high, mid), rows[i].bytes(g, high, mid, tap));
        }
        const u32 bytes = high < g.taps_h ? 16 : 0; // 0 behind the last tap
#pragma unroll
        for (u32 i = 0; i < BP; i++) {
            ptx_cp_async16(b_to + slot + i * PASS_ROWS * 64, columns[i], bytes);
            columns[i] += 64;
        }
        low += step_low, mid += step_mid, high += step_high;
        if (low >= per_tap) low -= per_tap, mid++;
        if (mid >= g.taps_w) mid -= g.taps_w, high++;
    };

    i32 acc[4][NI][4];
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
#pragma unroll
        for (u32 j = 0; j < NI; j++) acc[i][j][0] = acc[i][j][1] = acc[i][j][2] = acc[i][j][3] = 0;
    }
    if (iterations < STAGES) { // the last round reads ahead what nobody uses: not what nobody wrote
#pragma unroll
        for (u32 i = 0; i < AP; i++) ptx_cp_async16(a_to + iterations * STAGE + i * PASS_ROWS * 64, x, 0);
#pragma unroll
        for (u32 i = 0; i < BP; i++) ptx_cp_async16(b_to + iterations * STAGE + i * PASS_ROWS * 64, x, 0);
    }
#pragma unroll
    for (u32 s = 0; s < STAGES - 1; s++) {
        if (s < iterations) load(s * STAGE);
        ptx_cp_async_commit();
    }
    u32 a_at[2], b_at[2];
#pragma unroll
    for (u32 k = 0; k < 2; k++) {
        a_at[k] = base + swizzled(wm + (lane & 15), k * 2 + (lane >> 4));
        b_at[k] = base + BM * 64 + swizzled(wn + (lane & 7) + (lane >> 4 << 3), k * 2 + (lane >> 3 & 1));
    }
    u32 a[2][4][4], b[2][NI / 2][4];
    auto fragments = [&](u32 to, u32 slot, u32 k) {
#pragma unroll
        for (u32 i = 0; i < 4; i++) ptx_ldmatrix(a[to][i], a_at[k] + slot + i * 16 * 64);
#pragma unroll
        for (u32 j = 0; j < NI / 2; j++) ptx_ldmatrix(b[to][j], b_at[k] + slot + j * 16 * 64);
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
                read = read == (STAGES - 1) * STAGE ? 0 : read + STAGE;
            }
            fragments(k ^ 1, read, k ^ 1);
            if (k == 0) {
                if (it + STAGES - 1 < iterations) load(write);
                ptx_cp_async_commit();
                write = write == (STAGES - 1) * STAGE ? 0 : write + STAGE;
            }
#pragma unroll
            for (u32 i = 0; i < 4; i++) {
#pragma unroll
                for (u32 jj = 0; jj < NI; jj++) {
                    const u32 j = i & 1 ? NI - 1 - jj : jj; // back and forth, so that an operand is used twice in a row
                    ptx_mma_s8(acc[i][j], a[k][i], b[k][j / 2][j % 2 * 2], b[k][j / 2][j % 2 * 2 + 1]);
                }
            }
        }
    }
    ptx_cp_async_wait<0>();
    __syncthreads();
    store_tile<WN, PASS>(g, p.noise, e, acc, shared + warp_id() * STAGED_BYTES<WN, PASS>, m0 + wm, n0 + wn);
}
