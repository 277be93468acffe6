// conv2d: forward, gradient for the input, gradient for the weights, in f32; NHWC, weights [K][R][S][C], any kernel, stride, padding and channel count.
//
// All three are matrix products whose operands are gathered while they are loaded (implicit GEMM, core in gemm.cuh):
//   fwd    y[npq][k]   = sum over (r,s,c) of x[n, p*stride+r-pad, q*stride+s-pad, c] * w[k][rsc]
//   dgrad  dx[nhw][c]  = sum over (r,s,k) of dy[n, (h+pad-r)/stride, (w+pad-s)/stride, k] * w[k][rs][c], where the division leaves no rest
//   wgrad  dw[k][rsc]  = sum over (n,p,q) of dy[npq][k] * x[n, p*stride+r-pad, ..., c]
// dgrad by residue class: pixels with the same (h+pad, w+pad) modulo the stride have the same taps, every stride-th one. Of these alone a class is a product, with
// stride 1 among its pixels; a block works on one class. So R*S*C*K multiply-adds per pixel of dy are done, for any stride.
// Where a thread stands on the reduction axis is kept in digits (tap, channel) that grow by addition, with the offset they stand for: no division, no multiplication
// and no table in the loop. A thread of a turned loader (k contiguous in memory) stands on one k and several rows, one of a straight loader on one row of k.
// Tiles: 128x128x8 with 256 threads and 8x8 results each; 64x32x16 with 64 threads and 8x4 for small layers; `_any` variants fetch element by element, for
// channel counts that are no multiple of 4, in tiles of 64x64x8 with 64 threads and 8x8 (wgrad 64x32x8 with 32: a first layer has 27 columns).
// wgrad splits its rows into slices whose sums are added in order: no atomics, the same bits every time.
// Traffic per result: reduction * 4 B * (1/BM + 1/BN) from L2, 4 B written (wgrad with slices: 4 B * slices written and read again).
#include "gemm.cuh"

// rust: crate::ops::conv2d::Conv2d
struct Conv2d {
    u32 n, h, w, c; // input
    u32 k, r, s;    // output channels, taps
    u32 p, q;       // output
    u32 stride_h, stride_w, pad_h, pad_w;
};

// Where a thread of a turned loader stands in a slice: V neighbouring k of LOADS rows that are STEP apart. Four rows by 8 (of V = 4: eight by 4) k in a warp, so
// that its stores meet no bank twice.
template <u32 V, u32 B, u32 BK, u32 THREADS> struct TurnedThread {
    static constexpr u32 STEP = THREADS * V / BK, LOADS = B / STEP;
    static __device__ __forceinline__ u32 k() { return V == 4 ? threadIdx.x % (BK / 4) * 4 : threadIdx.x % 8 + threadIdx.x / 32 % (BK / 8) * 8; }
    static __device__ __forceinline__ u32 row() {
        return V == 4 ? threadIdx.x / (BK / 4) : threadIdx.x / 8 % 4 + threadIdx.x / (4 * BK) * 4;
    }
    static __device__ __forceinline__ void store(f32* s, const f32 (&held)[LOADS][V]) {
        typedef Turned<B, BK> Layout;
        // Rows 16 further on lie 16 words further on; STEP is 8 or a multiple of 16.
        const u32 flip = Layout::flipped(k()) ? Layout::FLIP : 0;
        f32* const even = s + k() * Layout::PITCH + (row() ^ flip);
        f32* const odd = s + k() * Layout::PITCH + (row() + STEP ^ flip);
#pragma unroll
        for (u32 i = 0; i < LOADS; i++) {
#pragma unroll
            for (u32 j = 0; j < V; j++) (i % 2 == 0 ? even : odd)[i / 2 * 2 * STEP + j * Layout::PITCH] = held[i][j];
        }
    }
};

// Where a thread of a straight loader stands: on one k-row, LOADS pieces of four columns that are STEP apart.
template <u32 B, u32 BK, u32 THREADS> struct StraightThread {
    static constexpr u32 STEP = THREADS / BK * 4, LOADS = B / STEP;
    static __device__ __forceinline__ u32 k() { return threadIdx.x / (THREADS / BK); }
    static __device__ __forceinline__ u32 column() { return threadIdx.x % (THREADS / BK) * 4; }
    static __device__ __forceinline__ void store(f32* s, const float4 (&held)[LOADS]) {
        typedef Straight<B, BK, THREADS> Layout;
        const u32 flip = Layout::flipped(k()) ? Layout::FLIP : 0;
#pragma unroll
        for (u32 i = 0; i < LOADS; i++) *(float4*)(s + k() * Layout::PITCH + (column() + i * STEP ^ flip)) = held[i];
    }
};

// V elements at `at`, or 0.
template <u32 V> __device__ __forceinline__ void fetch(f32 (&to)[V], bool inside, const f32* at) {
    if (V == 4) {
        float4 v = make_float4(0.f, 0.f, 0.f, 0.f);
        if (inside) v = __ldg((const float4*)at);
        to[0] = v.x, to[V > 1 ? 1 : 0] = v.y, to[V > 2 ? 2 : 0] = v.z, to[V > 3 ? 3 : 0] = v.w;
    } else {
        to[0] = 0.f;
        if (inside) to[0] = __ldg(at);
    }
}

// Four elements from `at` on, 0 past the first `left`.
template <bool WIDE> __device__ __forceinline__ float4 fetch4(const f32* at, i32 left) {
    float4 v = make_float4(0.f, 0.f, 0.f, 0.f);
    if (WIDE) {
        if (left > 0) v = __ldg((const float4*)at);
    } else {
        if (left > 0) v.x = __ldg(at);
        if (left > 1) v.y = __ldg(at + 1);
        if (left > 2) v.z = __ldg(at + 2);
        if (left > 3) v.w = __ldg(at + 3);
    }
    return v;
}

// The pixels of dx that one block works on: a residue class, and the taps that reach it.
struct Class {
    u32 a, b;           // residues: taps a, a + stride ..
    u32 taps_r, taps_s; // how many; may be 0
    u32 h, w;           // first pixel
    u32 rows_h, rows_w; // pixels

    __device__ __forceinline__ Class(const Conv2d& p, u32 z) {
        a = z / p.stride_w, b = z % p.stride_w;
        taps_r = every(p.r, a, p.stride_h), taps_s = every(p.s, b, p.stride_w);
        h = (a + p.stride_h - p.pad_h % p.stride_h) % p.stride_h, w = (b + p.stride_w - p.pad_w % p.stride_w) % p.stride_w;
        rows_h = every(p.h, h, p.stride_h), rows_w = every(p.w, w, p.stride_w);
    }
    // How many of first, first + stride .. are below `end`; first is less than the stride, so that there is no going below 0.
    static __device__ __forceinline__ u32 every(u32 end, u32 first, u32 stride) { return (end + (stride - 1 - first)) / stride; }
};

// Rows of pixels, k = (tap row, tap column, channel) with the channel fastest. `sign` is 1 where a further tap reads a further pixel (x for fwd), -1 where it reads
// an earlier one (dy for dgrad).
template <i32 SIGN, u32 V, u32 B, u32 BK, u32 THREADS> struct PixelRows {
    typedef Turned<B, BK> Layout;
    typedef TurnedThread<V, B, BK, THREADS> Thread;
    f32 held[Thread::LOADS][V];
    const f32* x;
    i32 from[Thread::LOADS]; // what tap (0, 0) reads, inside or not
    i32 h0[Thread::LOADS], w0[Thread::LOADS];
    u32 height, width, taps_r; // of what is gathered
    Digits at;                 // channel, tap column, tap row

    __device__ __forceinline__ PixelRows(const f32* x, u32 height, u32 width, u32 channels, u32 taps_r, u32 taps_s)
        : x(x), height(height), width(width), taps_r(taps_r),
          at(Thread::k(), BK, channels, taps_s, 1, SIGN * i32(channels), SIGN * i32(width * channels)) {}

    // Row i of the block begins at (h, w) of image n; `there` is false for rows behind the last.
    __device__ __forceinline__ void start(u32 i, bool there, u32 n, i32 h, i32 w) {
        h0[i] = there ? h : i32(0x80000000); // outside with every tap
        w0[i] = w;
        from[i] = ((i32(n * height) + h) * i32(width) + w) * i32(at.radix_low);
    }
    __device__ __forceinline__ void load() {
        const f32* base = ptx_opaque(x + at.offset);
#pragma unroll
        for (u32 i = 0; i < Thread::LOADS; i++) {
            if (Thread::LOADS > 1) from[i] = i32(ptx_opaque(u32(from[i]))); // one multiply-add for the address, and not two additions to one that is kept in 64 bits
            const bool inside = at.high < taps_r && u32(h0[i] + SIGN * i32(at.high)) < height && u32(w0[i] + SIGN * i32(at.mid)) < width;
            fetch<V>(held[i], inside, base + from[i]);
        }
        at.advance();
    }
    __device__ __forceinline__ void store(f32* s) const { Thread::store(s, held); }
};

// Rows of a plain matrix along k: w[k][rsc] for fwd.
template <u32 V, u32 B, u32 BK, u32 THREADS> struct MatrixRows {
    typedef Turned<B, BK> Layout;
    typedef TurnedThread<V, B, BK, THREADS> Thread;
    f32 held[Thread::LOADS][V];
    const f32* row;
    u32 k, length;
    i32 left; // rows from this one on

    __device__ __forceinline__ MatrixRows(const f32* x, u32 row0, u32 rows, u32 length)
        : row(x + (u64)(row0 + Thread::row()) * length), k(Thread::k()), length(length), left(i32(rows - row0 - Thread::row())) {}
    __device__ __forceinline__ void load() {
        const f32* at = row + k;
        const i32 rows = k < length ? left : 0;
#pragma unroll
        for (u32 i = 0; i < Thread::LOADS; i++) {
            fetch<V>(held[i], i32(i * Thread::STEP) < rows, (const f32*)((const u8*)at + (u64)length * (i * Thread::STEP * 4)));
        }
        k = ptx_opaque(k + BK);
    }
    __device__ __forceinline__ void store(f32* s) const { Thread::store(s, held); }
};

// Columns of w for dgrad: k-row (tap of the class, k) holds w[k][tap][c ..].
template <bool WIDE, u32 B, u32 BK, u32 THREADS> struct TapColumns {
    typedef Straight<B, BK, THREADS> Layout;
    typedef StraightThread<B, BK, THREADS> Thread;
    float4 held[Thread::LOADS];
    const f32* w;
    u32 taps_r;
    i32 left; // columns from this one on
    Digits at; // k, tap column, tap row

    __device__ __forceinline__ TapColumns(const Conv2d& p, const Class& of, const f32* w, u32 col0)
        : w(w + (of.a * p.s + of.b) * p.c + col0 + Thread::column()), taps_r(of.taps_r), left(i32(p.c - col0 - Thread::column())),
          at(Thread::k(), BK, p.k, of.taps_s, i32(p.r * p.s * p.c), i32(p.stride_w * p.c), i32(p.stride_h * p.s * p.c)) {}
    __device__ __forceinline__ void load() {
        const f32* from = ptx_opaque(w + at.offset);
        const i32 columns = at.high < taps_r ? left : 0;
#pragma unroll
        for (u32 i = 0; i < Thread::LOADS; i++) held[i] = fetch4<WIDE>(from + i * Thread::STEP, columns - i32(i * Thread::STEP));
        at.advance();
    }
    __device__ __forceinline__ void store(f32* s) const { Thread::store(s, held); }
};

// Columns of dy for wgrad: k-row m holds dy[m][k ..], up to `end`.
template <bool WIDE, u32 B, u32 BK, u32 THREADS> struct MatrixColumns {
    typedef Straight<B, BK, THREADS> Layout;
    typedef StraightThread<B, BK, THREADS> Thread;
    float4 held[Thread::LOADS];
    const f32* x;
    u32 pitch, row, end; // bytes of a row
    i32 left;            // columns from this one on

    __device__ __forceinline__ MatrixColumns(const f32* x, u32 col0, u32 cols, u32 first, u32 end)
        : x(x + col0 + Thread::column()), pitch(cols * 4), row(first + Thread::k()), end(end), left(i32(cols - col0 - Thread::column())) {}
    __device__ __forceinline__ void load() {
        const f32* from = (const f32*)((const u8*)x + (u64)row * pitch);
        const i32 columns = row < end ? left : 0;
#pragma unroll
        for (u32 i = 0; i < Thread::LOADS; i++) held[i] = fetch4<WIDE>(from + i * Thread::STEP, columns - i32(i * Thread::STEP));
        row += BK;
    }
    __device__ __forceinline__ void store(f32* s) const { Thread::store(s, held); }
};

// Columns of gathered x for wgrad: k-row m is an output pixel, column (tap, c).
template <bool WIDE, u32 B, u32 BK, u32 THREADS> struct PixelColumns {
    typedef Straight<B, BK, THREADS> Layout;
    typedef StraightThread<B, BK, THREADS> Thread;
    static constexpr u32 WORDS = WIDE ? 1 : 4;
    float4 held[Thread::LOADS];
    const f32* x;
    const Conv2d& p;
    u32 m, end;
    i32 r[Thread::LOADS][WORDS], s[Thread::LOADS][WORDS]; // tap less padding, of each column
    i32 offset[Thread::LOADS][WORDS];                      // of what it reads for the pixel at (0, 0)
    Digits at;                                             // q, p, n

    __device__ __forceinline__ PixelColumns(const Conv2d& p, const f32* x, u32 col0, u32 first, u32 end)
        : x(x), p(p), m(first + Thread::k()), end(end), at(first + Thread::k(), BK, p.q, p.p, 0, 0, 0) {
#pragma unroll
        for (u32 i = 0; i < Thread::LOADS; i++) {
#pragma unroll
            for (u32 j = 0; j < WORDS; j++) {
                const u32 col = col0 + Thread::column() + i * Thread::STEP + j, c = col % p.c;
                r[i][j] = i32(col / p.c / p.s) - i32(p.pad_h);
                s[i][j] = i32(col / p.c % p.s) - i32(p.pad_w);
                offset[i][j] = (r[i][j] * i32(p.w) + s[i][j]) * i32(p.c) + i32(c);
                if (col >= p.r * p.s * p.c) r[i][j] = i32(0x80000000); // outside for every pixel
            }
        }
    }
    __device__ __forceinline__ void load() {
        const u32 h0 = at.mid * p.stride_h, w0 = at.low * p.stride_w;
        const f32* from = ptx_opaque((const f32*)((const u8*)x + (u64)((at.high * p.h + h0) * p.w + w0) * (p.c * 4)));
#pragma unroll
        for (u32 i = 0; i < Thread::LOADS; i++) {
            f32 v[4] = {0.f, 0.f, 0.f, 0.f};
#pragma unroll
            for (u32 j = 0; j < WORDS; j++) {
                if (Thread::LOADS * WORDS > 1) offset[i][j] = i32(ptx_opaque(u32(offset[i][j])));
                const bool inside = m < end && u32(i32(h0) + r[i][j]) < p.h && u32(i32(w0) + s[i][j]) < p.w;
                if (WIDE) {
                    held[i] = fetch4<true>(from + offset[i][j], inside);
                } else if (inside) {
                    v[j] = __ldg(from + offset[i][j]);
                }
            }
            if (!WIDE) held[i] = make_float4(v[0], v[1], v[2], v[3]);
        }
        m += BK;
        at.advance();
    }
    __device__ __forceinline__ void store(f32* s) const { Thread::store(s, held); }
};

template <u32 V, u32 BM, u32 BN, u32 BK, u32 TM, u32 TN>
__device__ __forceinline__ void fwd(const Conv2d& p, const f32* __restrict__ x, const f32* __restrict__ w, const f32* __restrict__ bias, f32* __restrict__ y) {
    constexpr u32 THREADS = TILE_THREADS<BM, BN, TM, TN>;
    const u32 row0 = blockIdx.x * BM, col0 = blockIdx.y * BN, length = p.r * p.s * p.c;
    typedef PixelRows<1, V, BM, BK, THREADS> A;
    A a(x, p.h, p.w, p.c, p.r, p.s);
#pragma unroll
    for (u32 i = 0; i < A::Thread::LOADS; i++) {
        const u32 row = row0 + A::Thread::row() + i * A::Thread::STEP, n = row / (p.p * p.q), hh = row / p.q % p.p, ww = row % p.q;
        a.start(i, n < p.n, n, i32(hh * p.stride_h) - i32(p.pad_h), i32(ww * p.stride_w) - i32(p.pad_w));
    }
    MatrixRows<V, BN, BK, THREADS> b(w, col0, p.k, length);
    f32 sum[TM][TN];
    multiply<BM, BN, BK>(length, a, b, sum);
    const auto same = [](u32 row) { return row; };
    if (p.k % 4 == 0 && aligned16(y)) write_tile<true, BM, BN>(sum, y, bias, row0, col0, p.n * p.p * p.q, p.k, same);
    else write_tile<false, BM, BN>(sum, y, bias, row0, col0, p.n * p.p * p.q, p.k, same);
}

template <u32 V, u32 BM, u32 BN, u32 BK, u32 TM, u32 TN>
__device__ __forceinline__ void dgrad(const Conv2d& p, const f32* __restrict__ dy, const f32* __restrict__ w, f32* __restrict__ dx) {
    constexpr u32 THREADS = TILE_THREADS<BM, BN, TM, TN>;
    const Class of(p, blockIdx.z);
    const u32 row0 = blockIdx.x * BM, col0 = blockIdx.y * BN, rows = p.n * of.rows_h * of.rows_w;
    if (row0 >= rows) return; // classes differ by a row or column of pixels
    typedef PixelRows<-1, V, BM, BK, THREADS> A;
    A a(dy, p.p, p.q, p.k, of.taps_r, max(of.taps_s, 1));
#pragma unroll
    for (u32 i = 0; i < A::Thread::LOADS; i++) {
        const u32 row = row0 + A::Thread::row() + i * A::Thread::STEP, n = row / (of.rows_h * of.rows_w), hh = row / of.rows_w % of.rows_h, ww = row % of.rows_w;
        a.start(i, n < p.n, n, i32(hh + (of.h + p.pad_h) / p.stride_h), i32(ww + (of.w + p.pad_w) / p.stride_w));
    }
    TapColumns<V == 4, BN, BK, THREADS> b(p, of, w, col0);
    f32 sum[TM][TN];
    multiply<BM, BN, BK>(of.taps_r * of.taps_s * p.k, a, b, sum);
    write_tile<V == 4, BM, BN>(sum, dx, nullptr, row0, col0, rows, p.c, [&](u32 row) {
        if (p.stride_h * p.stride_w == 1) return row;
        const u32 line = row / of.rows_w, n = line / of.rows_h;
        return (n * p.h + of.h + (line - n * of.rows_h) * p.stride_h) * p.w + of.w + (row - line * of.rows_w) * p.stride_w;
    });
}

template <bool WIDE, u32 BM, u32 BN, u32 BK, u32 TM, u32 TN>
__device__ __forceinline__ void wgrad(const Conv2d& p, const f32* __restrict__ x, const f32* __restrict__ dy, f32* __restrict__ dw, u32 slice_rows) {
    constexpr u32 THREADS = TILE_THREADS<BM, BN, TM, TN>;
    const u32 row0 = blockIdx.x * BM, col0 = blockIdx.y * BN, length = p.r * p.s * p.c;
    const u32 first = blockIdx.z * slice_rows, end = min(first + slice_rows, p.n * p.p * p.q);
    MatrixColumns<WIDE, BM, BK, THREADS> a(dy, row0, p.k, first, end);
    PixelColumns<WIDE, BN, BK, THREADS> b(p, x, col0, first, end);
    f32 sum[TM][TN];
    multiply<BM, BN, BK>(end - first, a, b, sum);
    write_tile<WIDE, BM, BN>(sum, dw + (u64)blockIdx.z * p.k * length, nullptr, row0, col0, p.k, length, [](u32 row) { return row; });
}

// y = conv(x, w) + bias (bias may be null). Blocks of 256 over 128x128 tiles: grid x over N*P*Q, y over K. C is a multiple of 4, x and w are aligned to 16.
extern "C" __global__ void __launch_bounds__(256, 2) conv2d_fwd_f32(
    const __grid_constant__ Conv2d p, const f32* __restrict__ x, const f32* __restrict__ w, const f32* __restrict__ bias, f32* __restrict__ y) {
    fwd<4, 128, 128, 8, 8, 8>(p, x, w, bias, y);
}
// As conv2d_fwd_f32. Blocks of 64 over 64x32 tiles.
extern "C" __global__ void __launch_bounds__(64) conv2d_fwd_f32_small(
    const __grid_constant__ Conv2d p, const f32* __restrict__ x, const f32* __restrict__ w, const f32* __restrict__ bias, f32* __restrict__ y) {
    fwd<4, 64, 32, 16, 8, 4>(p, x, w, bias, y);
}
// As conv2d_fwd_f32, for any C and alignment. Blocks of 64 over 64x64 tiles.
extern "C" __global__ void __launch_bounds__(64) conv2d_fwd_f32_any(
    const __grid_constant__ Conv2d p, const f32* __restrict__ x, const f32* __restrict__ w, const f32* __restrict__ bias, f32* __restrict__ y) {
    fwd<1, 64, 64, 8, 8, 8>(p, x, w, bias, y);
}

// dx = gradient of the input. Blocks of 256 over 128x128 tiles: grid x over the pixels of the largest residue class, N * ceil(H / stride) * ceil(W / stride), y
// over C, z over the stride_h * stride_w classes. C and K are multiples of 4, all is aligned to 16.
extern "C" __global__ void __launch_bounds__(256, 2) conv2d_dgrad_f32(
    const __grid_constant__ Conv2d p, const f32* __restrict__ dy, const f32* __restrict__ w, f32* __restrict__ dx) {
    dgrad<4, 128, 128, 8, 8, 8>(p, dy, w, dx);
}
// As conv2d_dgrad_f32. Blocks of 64 over 64x32 tiles.
extern "C" __global__ void __launch_bounds__(64) conv2d_dgrad_f32_small(
    const __grid_constant__ Conv2d p, const f32* __restrict__ dy, const f32* __restrict__ w, f32* __restrict__ dx) {
    dgrad<4, 64, 32, 16, 8, 4>(p, dy, w, dx);
}
// As conv2d_dgrad_f32, for any C, K and alignment. Blocks of 64 over 64x64 tiles.
extern "C" __global__ void __launch_bounds__(64) conv2d_dgrad_f32_any(
    const __grid_constant__ Conv2d p, const f32* __restrict__ dy, const f32* __restrict__ w, f32* __restrict__ dx) {
    dgrad<1, 64, 64, 8, 8, 8>(p, dy, w, dx);
}

// dw[z] = gradient of the weights over rows z*slice_rows .. of N*P*Q. Blocks of 256 over 128x128 tiles: grid x over K, y over R*S*C, z over slices.
// C and K are multiples of 4, all is aligned to 16.
extern "C" __global__ void __launch_bounds__(256, 2) conv2d_wgrad_f32(
    const __grid_constant__ Conv2d p, const f32* __restrict__ x, const f32* __restrict__ dy, f32* __restrict__ dw, u32 slice_rows) {
    wgrad<true, 128, 128, 8, 8, 8>(p, x, dy, dw, slice_rows);
}
// As conv2d_wgrad_f32. Blocks of 64 over 64x32 tiles.
extern "C" __global__ void __launch_bounds__(64) conv2d_wgrad_f32_small(
    const __grid_constant__ Conv2d p, const f32* __restrict__ x, const f32* __restrict__ dy, f32* __restrict__ dw, u32 slice_rows) {
    wgrad<true, 64, 32, 16, 8, 4>(p, x, dy, dw, slice_rows);
}
// As conv2d_wgrad_f32, for any C, K and alignment. Blocks of 32 over 64x32 tiles.
extern "C" __global__ void __launch_bounds__(32) conv2d_wgrad_f32_any(
    const __grid_constant__ Conv2d p, const f32* __restrict__ x, const f32* __restrict__ dy, f32* __restrict__ dw, u32 slice_rows) {
    wgrad<false, 64, 32, 8, 8, 8>(p, x, dy, dw, slice_rows);
}

// dw[i] = sum of slices[z][i] over z, in order. Any grid.
extern "C" __global__ void __launch_bounds__(256) conv2d_wgrad_sum_f32(const f32* __restrict__ slices, f32* __restrict__ dw, u32 count, u32 n) {
    for (u32 i = thread_index(); i < n; i += thread_count()) {
        f32 sum = slices[i];
        for (u32 z = 1; z < count; z++) sum = __fadd_rn(sum, slices[(u64)z * n + i]);
        dw[i] = sum;
    }
}
