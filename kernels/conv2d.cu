// conv2d: forward, gradient for the input, gradient for the weights, in f32; NHWC, weights [K][R][S][C], any kernel, stride, padding and channel count.
//
// All three are matrix products whose operands are gathered while they are loaded (implicit GEMM, core in gemm.cuh):
//   fwd    y[npq][k]   = sum over (r,s,c) of x[n, p*stride+r-pad, q*stride+s-pad, c] * w[k][rsc]
//   dgrad  dx[nhw][c]  = sum over (r,s,k) of dy[n, (h+pad-r)/stride, (w+pad-s)/stride, k] * w[k][rs][c], where the division leaves no rest
//   wgrad  dw[k][rsc]  = sum over (n,p,q) of dy[npq][k] * x[n, p*stride+r-pad, ..., c]
// Where a thread stands on the reduction axis is kept in digits (tap, channel) that grow by addition: no division and no table in the loop.
// Tiles: 128x128x8 with 256 threads and 8x8 results each, 64x32x16 with 128 threads and 4x4 for small layers. `_any` variants fetch element by element, for
// channel counts that are no multiple of 4. wgrad splits its rows into slices whose sums are added in order: no atomics, the same bits every time.
// Traffic per result: reduction * 4 B * (1/BM + 1/BN) from L2, 4 B written (wgrad with slices: 4 B * slices written and read again).
#include "gemm.cuh"

// rust: crate::ops::conv2d::Conv2d
struct Conv2d {
    u32 n, h, w, c; // input
    u32 k, r, s;    // output channels, taps
    u32 p, q;       // output
    u32 stride_h, stride_w, pad_h, pad_w;
};

// x / d for x below 2^32 / d, by a multiplication.
struct Divisor {
    u32 d, magic;
    __device__ __forceinline__ Divisor(u32 d) : d(d), magic((0xffffffffu / d) + 1) {}
    __device__ __forceinline__ u32 quotient(u32 x) const { return d == 1 ? x : __umulhi(x, magic); }
};

// Rows of pixels, k = (tap row, tap column, channel) with the channel fastest: x for fwd, dy for dgrad.
template <bool DGRAD, bool WIDE, u32 B, u32 BK, u32 THREADS> struct PixelRows {
    static constexpr u32 LOADS = PIECES<B, BK, THREADS>;
    float4 held[LOADS];
    const f32* x;
    u32 height, width, channels, taps_r; // of what is gathered
    u32 image_row[LOADS];                // n * height
    i32 h0[LOADS], w0[LOADS];
    Divisor stride_h, stride_w;
    Digits at; // channel, tap column, tap row

    __device__ __forceinline__ PixelRows(const Conv2d& p, const f32* x, u32 row0)
        : x(x), height(DGRAD ? p.p : p.h), width(DGRAD ? p.q : p.w), channels(DGRAD ? p.k : p.c), taps_r(p.r), stride_h(p.stride_h),
          stride_w(p.stride_w), at(threadIdx.x % (BK / 4) * 4, BK, DGRAD ? p.k : p.c, p.s) {
        const u32 rows_h = DGRAD ? p.h : p.p, rows_w = DGRAD ? p.w : p.q;
#pragma unroll
        for (u32 i = 0; i < LOADS; i++) {
            const u32 row = row0 + threadIdx.x / (BK / 4) + i * (THREADS / (BK / 4));
            const u32 n = row / (rows_h * rows_w), hh = row / rows_w % rows_h, ww = row % rows_w;
            image_row[i] = n * height;
            h0[i] = DGRAD ? i32(hh + p.pad_h) : i32(hh * p.stride_h) - i32(p.pad_h);
            w0[i] = DGRAD ? i32(ww + p.pad_w) : i32(ww * p.stride_w) - i32(p.pad_w);
            if (n >= p.n) h0[i] = DGRAD ? -1 : i32(0x80000000); // no pixel: outside with every tap
        }
    }
    // Where tap (r, s) of row i reads; false outside.
    __device__ __forceinline__ bool pixel(u32 i, u32 r, u32 s, u32& index) const {
        u32 h, w;
        bool inside = r < taps_r;
        if (DGRAD) {
            const i32 dh = h0[i] - i32(r), dw = w0[i] - i32(s);
            h = stride_h.quotient(u32(dh)), w = stride_w.quotient(u32(dw));
            inside = inside && (dh | dw) >= 0 && h * stride_h.d == u32(dh) && w * stride_w.d == u32(dw);
        } else {
            h = u32(h0[i] + i32(r)), w = u32(w0[i] + i32(s));
        }
        index = (image_row[i] + h) * width + w;
        return inside && h < height && w < width;
    }
    __device__ __forceinline__ void load() {
#pragma unroll
        for (u32 i = 0; i < LOADS; i++) {
            held[i] = make_float4(0.f, 0.f, 0.f, 0.f);
            u32 index;
            if (WIDE) {
                if (pixel(i, at.high, at.mid, index)) held[i] = *(const float4*)(x + (u64)index * channels + at.low);
            } else {
                Digits one = at;
                f32 v[4];
#pragma unroll
                for (u32 j = 0; j < 4; j++) {
                    v[j] = pixel(i, one.high, one.mid, index) ? x[(u64)index * channels + one.low] : 0.f;
                    one.increment();
                }
                held[i] = make_float4(v[0], v[1], v[2], v[3]);
            }
        }
        at.advance();
    }
    __device__ __forceinline__ void store(f32* s) const {
#pragma unroll
        for (u32 i = 0; i < LOADS; i++) {
            const u32 k = threadIdx.x % (BK / 4) * 4, row = threadIdx.x / (BK / 4) + i * (THREADS / (BK / 4));
            store_turned<B>(s, k, row, held[i]);
        }
    }
};

// Rows of a plain matrix along k: w[k][rsc] for fwd.
template <bool WIDE, u32 B, u32 BK, u32 THREADS> struct MatrixRows {
    static constexpr u32 LOADS = PIECES<B, BK, THREADS>;
    float4 held[LOADS];
    const f32* x;
    u32 row, rows, k, length;

    __device__ __forceinline__ MatrixRows(const f32* x, u32 row0, u32 rows, u32 length)
        : x(x), row(row0 + threadIdx.x / (BK / 4)), rows(rows), k(threadIdx.x % (BK / 4) * 4), length(length) {}
    __device__ __forceinline__ void load() {
#pragma unroll
        for (u32 i = 0; i < LOADS; i++) {
            held[i] = make_float4(0.f, 0.f, 0.f, 0.f);
            const u32 r = row + i * (THREADS / (BK / 4));
            if (r < rows && k < length) {
                const f32* from = x + (u64)r * length + k;
                if (WIDE) {
                    held[i] = *(const float4*)from;
                } else {
                    held[i].x = from[0];
                    if (k + 1 < length) held[i].y = from[1];
                    if (k + 2 < length) held[i].z = from[2];
                    if (k + 3 < length) held[i].w = from[3];
                }
            }
        }
        k += BK;
    }
    __device__ __forceinline__ void store(f32* s) const {
#pragma unroll
        for (u32 i = 0; i < LOADS; i++) {
            store_turned<B>(s, threadIdx.x % (BK / 4) * 4, threadIdx.x / (BK / 4) + i * (THREADS / (BK / 4)), held[i]);
        }
    }
};

// Four elements of a row from `col` on; 0 past `cols`.
template <bool WIDE> __device__ __forceinline__ float4 fetch4(const f32* row, u32 col, u32 cols) {
    float4 v = make_float4(0.f, 0.f, 0.f, 0.f);
    if (col >= cols) return v;
    if (WIDE) return *(const float4*)(row + col);
    v.x = row[col];
    if (col + 1 < cols) v.y = row[col + 1];
    if (col + 2 < cols) v.z = row[col + 2];
    if (col + 3 < cols) v.w = row[col + 3];
    return v;
}

// Columns of w for dgrad: k-row (tap, k) holds w[k][tap][c ..].
template <bool WIDE, u32 B, u32 BK, u32 THREADS> struct TapColumns {
    static constexpr u32 LOADS = PIECES<B, BK, THREADS>;
    float4 held[LOADS];
    const f32* w;
    u32 col, c, k, taps;
    u32 out[LOADS], tap[LOADS]; // digits of the k-row

    __device__ __forceinline__ TapColumns(const Conv2d& p, const f32* w, u32 col0)
        : w(w), col(col0 + threadIdx.x % (B / 4) * 4), c(p.c), k(p.k), taps(p.r * p.s) {
#pragma unroll
        for (u32 i = 0; i < LOADS; i++) {
            const u32 row = threadIdx.x / (B / 4) + i * (THREADS / (B / 4));
            out[i] = row % k, tap[i] = row / k;
        }
    }
    __device__ __forceinline__ void load() {
        const u32 step_out = BK % k, step_tap = BK / k; // the same for every slice: hoisted
#pragma unroll
        for (u32 i = 0; i < LOADS; i++) {
            held[i] = make_float4(0.f, 0.f, 0.f, 0.f);
            if (tap[i] < taps) held[i] = fetch4<WIDE>(w + (u64)(out[i] * taps + tap[i]) * c, col, c);
            out[i] += step_out, tap[i] += step_tap;
            if (out[i] >= k) out[i] -= k, tap[i]++;
        }
    }
    __device__ __forceinline__ void store(f32* s) const {
#pragma unroll
        for (u32 i = 0; i < LOADS; i++) {
            store_straight<B>(s, threadIdx.x / (B / 4) + i * (THREADS / (B / 4)), threadIdx.x % (B / 4) * 4, held[i]);
        }
    }
};

// Columns of dy for wgrad: k-row m holds dy[m][k ..], up to `end`.
template <bool WIDE, u32 B, u32 BK, u32 THREADS> struct MatrixColumns {
    static constexpr u32 LOADS = PIECES<B, BK, THREADS>;
    float4 held[LOADS];
    const f32* x;
    u32 col, cols, row, end;

    __device__ __forceinline__ MatrixColumns(const f32* x, u32 col0, u32 cols, u32 first, u32 end)
        : x(x), col(col0 + threadIdx.x % (B / 4) * 4), cols(cols), row(first + threadIdx.x / (B / 4)), end(end) {}
    __device__ __forceinline__ void load() {
#pragma unroll
        for (u32 i = 0; i < LOADS; i++) {
            const u32 m = row + i * (THREADS / (B / 4));
            held[i] = make_float4(0.f, 0.f, 0.f, 0.f);
            if (m < end) held[i] = fetch4<WIDE>(x + (u64)m * cols, col, cols);
        }
        row += BK;
    }
    __device__ __forceinline__ void store(f32* s) const {
#pragma unroll
        for (u32 i = 0; i < LOADS; i++) {
            store_straight<B>(s, threadIdx.x / (B / 4) + i * (THREADS / (B / 4)), threadIdx.x % (B / 4) * 4, held[i]);
        }
    }
};

// Columns of gathered x for wgrad: k-row m is an output pixel, column (tap, c).
template <bool WIDE, u32 B, u32 BK, u32 THREADS> struct PixelColumns {
    static constexpr u32 LOADS = PIECES<B, BK, THREADS>, WORDS = WIDE ? 1 : 4;
    float4 held[LOADS];
    const f32* x;
    const Conv2d& p;
    u32 m, end;
    i32 r[WORDS], s[WORDS]; // tap less padding, of each column
    u32 c[WORDS];
    bool column[WORDS];

    __device__ __forceinline__ PixelColumns(const Conv2d& p, const f32* x, u32 col0, u32 first, u32 end)
        : x(x), p(p), m(first + threadIdx.x / (B / 4)), end(end) {
#pragma unroll
        for (u32 j = 0; j < WORDS; j++) {
            const u32 col = col0 + threadIdx.x % (B / 4) * 4 + j;
            c[j] = col % p.c;
            r[j] = i32(col / p.c / p.s) - i32(p.pad_h);
            s[j] = i32(col / p.c % p.s) - i32(p.pad_w);
            column[j] = col < p.r * p.s * p.c;
        }
    }
    __device__ __forceinline__ void load() {
#pragma unroll
        for (u32 i = 0; i < LOADS; i++) {
            held[i] = make_float4(0.f, 0.f, 0.f, 0.f);
            const u32 row = m + i * (THREADS / (B / 4));
            if (row < end) {
                const u32 line = row / p.q, q = row - line * p.q, n = line / p.p;
                const u32 hs = (line - n * p.p) * p.stride_h, ws = q * p.stride_w;
                f32 v[4] = {0.f, 0.f, 0.f, 0.f};
#pragma unroll
                for (u32 j = 0; j < WORDS; j++) {
                    const u32 h = u32(i32(hs) + r[j]), w = u32(i32(ws) + s[j]);
                    if (column[j] && h < p.h && w < p.w) {
                        const f32* from = x + (u64)((n * p.h + h) * p.w + w) * p.c + c[j];
                        if (WIDE) held[i] = *(const float4*)from;
                        else v[j] = *from;
                    }
                }
                if (!WIDE) held[i] = make_float4(v[0], v[1], v[2], v[3]);
            }
        }
        m += BK;
    }
    __device__ __forceinline__ void store(f32* s) const {
#pragma unroll
        for (u32 i = 0; i < LOADS; i++) {
            store_straight<B>(s, threadIdx.x / (B / 4) + i * (THREADS / (B / 4)), threadIdx.x % (B / 4) * 4, held[i]);
        }
    }
};

template <bool WIDE, u32 BM, u32 BN, u32 BK, u32 T>
__device__ __forceinline__ void fwd(const Conv2d& p, const f32* __restrict__ x, const f32* __restrict__ w, const f32* __restrict__ bias, f32* __restrict__ y) {
    constexpr u32 THREADS = TILE_THREADS<BM, BN, T>;
    const u32 row0 = blockIdx.x * BM, col0 = blockIdx.y * BN, length = p.r * p.s * p.c;
    PixelRows<false, WIDE, BM, BK, THREADS> a(p, x, row0);
    MatrixRows<WIDE, BN, BK, THREADS> b(w, col0, p.k, length);
    f32 sum[T][T];
    multiply<BM, BN, BK, T>(div_up(length, BK), a, b, sum);
    if (p.k % 4 == 0 && aligned16(y)) write_tile<true, BM, BN, T>(sum, y, bias, row0, col0, p.n * p.p * p.q, p.k);
    else write_tile<false, BM, BN, T>(sum, y, bias, row0, col0, p.n * p.p * p.q, p.k);
}

template <bool WIDE, u32 BM, u32 BN, u32 BK, u32 T>
__device__ __forceinline__ void dgrad(const Conv2d& p, const f32* __restrict__ dy, const f32* __restrict__ w, f32* __restrict__ dx) {
    constexpr u32 THREADS = TILE_THREADS<BM, BN, T>;
    const u32 row0 = blockIdx.x * BM, col0 = blockIdx.y * BN;
    PixelRows<true, WIDE, BM, BK, THREADS> a(p, dy, row0);
    TapColumns<WIDE, BN, BK, THREADS> b(p, w, col0);
    f32 sum[T][T];
    multiply<BM, BN, BK, T>(div_up(p.r * p.s * p.k, BK), a, b, sum);
    write_tile<WIDE, BM, BN, T>(sum, dx, nullptr, row0, col0, p.n * p.h * p.w, p.c);
}

template <bool WIDE, u32 BM, u32 BN, u32 BK, u32 T>
__device__ __forceinline__ void wgrad(const Conv2d& p, const f32* __restrict__ x, const f32* __restrict__ dy, f32* __restrict__ dw, u32 slice_rows) {
    constexpr u32 THREADS = TILE_THREADS<BM, BN, T>;
    const u32 row0 = blockIdx.x * BM, col0 = blockIdx.y * BN, length = p.r * p.s * p.c;
    const u32 first = blockIdx.z * slice_rows, end = min(first + slice_rows, p.n * p.p * p.q);
    MatrixColumns<WIDE, BM, BK, THREADS> a(dy, row0, p.k, first, end);
    PixelColumns<WIDE, BN, BK, THREADS> b(p, x, col0, first, end);
    f32 sum[T][T];
    multiply<BM, BN, BK, T>(div_up(end - first, BK), a, b, sum);
    write_tile<WIDE, BM, BN, T>(sum, dw + (u64)blockIdx.z * p.k * length, nullptr, row0, col0, p.k, length);
}

// y = conv(x, w) + bias (bias may be null). Blocks of 256 over 128x128 tiles: grid x over N*P*Q, y over K. C is a multiple of 4, x and w are aligned to 16.
extern "C" __global__ void __launch_bounds__(256, 2) conv2d_fwd_f32(
    const __grid_constant__ Conv2d p, const f32* __restrict__ x, const f32* __restrict__ w, const f32* __restrict__ bias, f32* __restrict__ y) {
    fwd<true, 128, 128, 8, 8>(p, x, w, bias, y);
}
// As conv2d_fwd_f32. Blocks of 128 over 64x32 tiles.
extern "C" __global__ void __launch_bounds__(128) conv2d_fwd_f32_small(
    const __grid_constant__ Conv2d p, const f32* __restrict__ x, const f32* __restrict__ w, const f32* __restrict__ bias, f32* __restrict__ y) {
    fwd<true, 64, 32, 16, 4>(p, x, w, bias, y);
}
// As conv2d_fwd_f32_small, for any C and alignment.
extern "C" __global__ void __launch_bounds__(128) conv2d_fwd_f32_any(
    const __grid_constant__ Conv2d p, const f32* __restrict__ x, const f32* __restrict__ w, const f32* __restrict__ bias, f32* __restrict__ y) {
    fwd<false, 64, 32, 16, 4>(p, x, w, bias, y);
}

// dx = gradient of the input. Blocks of 256 over 128x128 tiles: grid x over N*H*W, y over C. C and K are multiples of 4, all is aligned to 16.
extern "C" __global__ void __launch_bounds__(256, 2) conv2d_dgrad_f32(
    const __grid_constant__ Conv2d p, const f32* __restrict__ dy, const f32* __restrict__ w, f32* __restrict__ dx) {
    dgrad<true, 128, 128, 8, 8>(p, dy, w, dx);
}
// As conv2d_dgrad_f32. Blocks of 128 over 64x32 tiles.
extern "C" __global__ void __launch_bounds__(128) conv2d_dgrad_f32_small(
    const __grid_constant__ Conv2d p, const f32* __restrict__ dy, const f32* __restrict__ w, f32* __restrict__ dx) {
    dgrad<true, 64, 32, 16, 4>(p, dy, w, dx);
}
// As conv2d_dgrad_f32_small, for any C, K and alignment.
extern "C" __global__ void __launch_bounds__(128) conv2d_dgrad_f32_any(
    const __grid_constant__ Conv2d p, const f32* __restrict__ dy, const f32* __restrict__ w, f32* __restrict__ dx) {
    dgrad<false, 64, 32, 16, 4>(p, dy, w, dx);
}

// dw[z] = gradient of the weights over rows z*slice_rows .. of N*P*Q. Blocks of 256 over 128x128 tiles: grid x over K, y over R*S*C, z over slices.
// C and K are multiples of 4, all is aligned to 16.
extern "C" __global__ void __launch_bounds__(256, 2) conv2d_wgrad_f32(
    const __grid_constant__ Conv2d p, const f32* __restrict__ x, const f32* __restrict__ dy, f32* __restrict__ dw, u32 slice_rows) {
    wgrad<true, 128, 128, 8, 8>(p, x, dy, dw, slice_rows);
}
// As conv2d_wgrad_f32. Blocks of 128 over 64x32 tiles.
extern "C" __global__ void __launch_bounds__(128) conv2d_wgrad_f32_small(
    const __grid_constant__ Conv2d p, const f32* __restrict__ x, const f32* __restrict__ dy, f32* __restrict__ dw, u32 slice_rows) {
    wgrad<true, 64, 32, 16, 4>(p, x, dy, dw, slice_rows);
}
// As conv2d_wgrad_f32_small, for any C, K and alignment.
extern "C" __global__ void __launch_bounds__(128) conv2d_wgrad_f32_any(
    const __grid_constant__ Conv2d p, const f32* __restrict__ x, const f32* __restrict__ dy, f32* __restrict__ dw, u32 slice_rows) {
    wgrad<false, 64, 32, 16, 4>(p, x, dy, dw, slice_rows);
}

// dw[i] = sum of slices[z][i] over z, in order. Any grid.
extern "C" __global__ void __launch_bounds__(256) conv2d_wgrad_sum_f32(const f32* __restrict__ slices, f32* __restrict__ dw, u32 count, u32 n) {
    for (u32 i = thread_index(); i < n; i += thread_count()) {
        f32 sum = slices[i];
        for (u32 z = 1; z < count; z++) sum = __fadd_rn(sum, slices[(u64)z * n + i]);
        dw[i] = sum;
    }
}
