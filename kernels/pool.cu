// pool: maximum and mean over windows, forward and backward, NHWC; a thread per output element group (backward: input element group) of V channels.
//
// maxpool: padding never wins, the first of equals wins, a NaN wins and stays (the last of several); index is the winner's place in its window, row by row.
// avgpool: padding counts as 0. Backward gathers: a pixel adds what its windows hand it, in the order of the windows: no atomics. Where
// windows tile the image each pixel has one, and a thread stands on the window: dy and index are read once.
// Traffic: windows * 4 B read from the cache, x once from memory; 4 B (+1) written per output element.
// With channels of any number a pixel begins inside a sector, whose parts two requests would fetch: `_any` variants bring the rows of a piece of image into shared
// memory as one run of elements, 32 neighbours to a warp, and write a row the same way. (Rows of huge pixels do not fit; there the ends weigh nothing.)
#include "columns.cuh"

// rust: crate::ops::pool::Pool
struct Pool {
    u32 n, h, w, c; // input
    u32 p, q;       // output
    u32 kernel_h, kernel_w, stride, padding;
};

// Window rows (or columns) that cover input row `x`: first and one past the last.
__device__ __forceinline__ void covering(u32 x, u32 kernel, u32 stride, u32 padding, u32 count, u32& first, u32& end) {
    const u32 at = x + padding;
    first = at < kernel ? 0 : (at - kernel) / stride + 1;
    end = min(at / stride + 1, count);
}

// The maximum of the window at output element `at` and its place, channel by channel; `get(r, s, v)` fetches one pixel, false outside the image.
template <u32 V> struct Maximum {
    const Pool& p;
    f32* y;
    u8* index;
    template <class G> __device__ __forceinline__ void operator()(u64 at, G get) const {
        Pack<V> best;
        u32 place[V], places = 0;
#pragma unroll
        for (u32 j = 0; j < V; j++) best.v[j] = __int_as_float(0xff800000), place[j] = 255;
        for (u32 r = 0; r < p.kernel_h; r++) {
            for (u32 s = 0; s < p.kernel_w; s++) {
                Pack<V> v;
                if (!get(r, s, v)) continue;
#pragma unroll
                for (u32 j = 0; j < V; j++) {
                    if (v.v[j] > best.v[j] || place[j] == 255 || v.v[j] != v.v[j]) best.v[j] = v.v[j], place[j] = r * p.kernel_w + s;
                }
            }
        }
#pragma unroll
        for (u32 j = 0; j < V; j++) places |= place[j] << (8 * j);
        store_pack<V>(y + at, best);
        if (V == 4) *(u32*)(index + at) = places;
        else index[at] = (u8)places;
    }
};

// The mean of a window.
template <u32 V> struct Mean {
    const Pool& p;
    f32* y;
    template <class G> __device__ __forceinline__ void operator()(u64 at, G get) const {
        Pack<V> sum;
#pragma unroll
        for (u32 j = 0; j < V; j++) sum.v[j] = 0.f;
        for (u32 r = 0; r < p.kernel_h; r++) {
            for (u32 s = 0; s < p.kernel_w; s++) {
                Pack<V> v;
                if (!get(r, s, v)) continue;
#pragma unroll
                for (u32 j = 0; j < V; j++) sum.v[j] = __fadd_rn(sum.v[j], v.v[j]);
            }
        }
#pragma unroll
        for (u32 j = 0; j < V; j++) sum.v[j] = __fdiv_rn(sum.v[j], (f32)(p.kernel_h * p.kernel_w));
        store_pack<V>(y + at, sum);
    }
};

// `f(at, get)` for every group of V output elements.
template <u32 V, class F> __device__ __forceinline__ void each_window(const Pool& p, const f32* __restrict__ x, F f) {
    const u32 groups = p.c / V;
    for (u32 i = thread_index(); i < p.n * p.p * p.q * groups; i += thread_count()) {
        const u32 column = i % groups * V, pixel = i / groups, q = pixel % p.q, row = pixel / p.q % p.p, n = pixel / p.q / p.p;
        f((u64)pixel * p.c + column, [&](u32 r, u32 s, Pack<V>& v) {
            const u32 h = row * p.stride + r - p.padding, w = q * p.stride + s - p.padding; // negative: huge
            if (h >= p.h || w >= p.w) return false;
            v = load_pack<V>(x + ((u64)(n * p.h + h) * p.w + w) * p.c + column);
            return true;
        });
    }
}

// Elements that a block stages.
constexpr u32 STAGE = 4096;

// `f(i)` for i below `size`, neighbours to neighbours, so that 32 of them are whole sectors of what begins at element `at` of an aligned tensor.
template <class F> __device__ __forceinline__ void each_of_run(u64 at, u32 size, F f) {
    for (i32 i = i32(threadIdx.x) - i32(at % 32); i < i32(size); i += i32(blockDim.x)) {
        if (i >= 0) f(u32(i));
    }
}

// As each_window<1>, a piece of an output row at a time. Every thread of the block must call it.
template <class F> __device__ __forceinline__ void staged_windows(const Pool& p, const f32* __restrict__ x, F f) {
    __shared__ f32 kept[STAGE];
    const u32 fit = STAGE / p.kernel_h / p.c; // pixels of each window row
    if (fit < p.kernel_w) return each_window<1>(p, x, f);
    const u32 pieces = div_up(p.q, (fit - p.kernel_w) / p.stride + 1), length = div_up(p.q, pieces), pitch = fit * p.c;
    for (u32 piece = blockIdx.x; piece < p.n * p.p * pieces; piece += gridDim.x) {
        const u32 q0 = piece % pieces * length, q1 = min(q0 + length, p.q), line = piece / pieces, row = line % p.p, n = line / p.p;
        if (q0 >= q1) continue;
        const u32 w0 = max(i32(q0 * p.stride) - i32(p.padding), 0), w1 = min(max(i32((q1 - 1) * p.stride + p.kernel_w) - i32(p.padding), 0), i32(p.w));
        for (u32 r = 0; r < p.kernel_h; r++) {
            const u32 h = row * p.stride + r - p.padding;
            if (h >= p.h || w0 >= w1) continue;
            const u64 at = ((u64)(n * p.h + h) * p.w + w0) * p.c;
            each_of_run(at, (w1 - w0) * p.c, [&](u32 i) { kept[r * pitch + i] = x[at + i]; });
        }
        __syncthreads();
        const u64 at = ((u64)line * p.q + q0) * p.c;
        each_of_run(at, (q1 - q0) * p.c, [&](u32 i) {
            const u32 q = i / p.c, column = i - q * p.c;
            f(at + i, [&](u32 r, u32 s, Pack<1>& v) {
                const u32 h = row * p.stride + r - p.padding, w = (q0 + q) * p.stride + s - p.padding;
                if (h >= p.h || w >= p.w) return false;
                v.v[0] = kept[r * pitch + (w - w0) * p.c + column];
                return true;
            });
        });
        __syncthreads();
    }
}

// Whether windows tile the image: then a thread per window reads its gradient once and writes the window's pixels.
__device__ __forceinline__ bool tiling(const Pool& p) { return p.kernel_h == p.stride && p.kernel_w == p.stride && p.padding == 0; }

// Where windows tile: `f(at, place, sum)` makes the gradient of the pixel at `place` in the window whose output is at `at`; pixels past the last window get 0.
template <u32 V, class L, class F> __device__ __forceinline__ void tiled_bwd(const Pool& p, f32* __restrict__ dx, L load, F f) {
    const u32 groups = p.c / V, rows = div_up(p.h, p.stride), columns = div_up(p.w, p.stride);
    for (u32 i = thread_index(); i < p.n * rows * columns * groups; i += thread_count()) {
        const u32 column = i % groups * V, window = i / groups, q = window % columns, row = window / columns % rows, n = window / columns / rows;
        Pack<V> g;
        u32 winners = 0;
#pragma unroll
        for (u32 j = 0; j < V; j++) g.v[j] = 0.f;
        if (row < p.p && q < p.q) load(((u64)(n * p.p + row) * p.q + q) * p.c + column, g, winners);
        const u32 h1 = min(p.stride, p.h - row * p.stride), w1 = min(p.stride, p.w - q * p.stride);
        for (u32 r = 0; r < h1; r++) {
            f32* to = dx + ((u64)(n * p.h + row * p.stride + r) * p.w + q * p.stride) * p.c + column;
            for (u32 s = 0; s < w1; s++, to += p.c) store_pack<V>(to, f(g, winners, r * p.kernel_w + s));
        }
    }
}

// As tiled_bwd<1>, a piece of a row of windows at a time; gradients and winners are fetched, and pixels written, as runs. Every thread of the block must call it.
template <class L, class F> __device__ __forceinline__ void staged_bwd(const Pool& p, f32* __restrict__ dx, L load, F f) {
    __shared__ f32 kept[STAGE];
    __shared__ u8 places[STAGE];
    const u32 rows = div_up(p.h, p.stride), columns = div_up(p.w, p.stride), fit = STAGE / p.c;
    if (fit == 0) return tiled_bwd<1>(p, dx, load, f);
    const u32 pieces = div_up(columns, fit), length = div_up(columns, pieces);
    for (u32 piece = blockIdx.x; piece < p.n * rows * pieces; piece += gridDim.x) {
        const u32 q0 = piece % pieces * length, q1 = min(q0 + length, columns), line = piece / pieces, row = line % rows, n = line / rows;
        if (q0 >= q1) continue;
        const u32 known = row < p.p && q0 < p.q ? (min(q1, p.q) - q0) * p.c : 0; // elements of windows that have an output
        const u64 from = ((u64)(n * p.p + row) * p.q + q0) * p.c;
        each_of_run(from, known, [&](u32 i) {
            Pack<1> g;
            u32 winner = 0;
            load(from + i, g, winner);
            kept[i] = g.v[0];
            places[i] = (u8)winner;
        });
        __syncthreads();
        const u32 h1 = min(p.stride, p.h - row * p.stride), w0 = q0 * p.stride, size = (min(q1 * p.stride, p.w) - w0) * p.c;
        for (u32 r = 0; r < h1; r++) {
            const u64 to = ((u64)(n * p.h + row * p.stride + r) * p.w + w0) * p.c;
            each_of_run(to, size, [&](u32 i) {
                const u32 w = i / p.c, q = w / p.stride, at = q * p.c + i - w * p.c;
                Pack<1> g;
                g.v[0] = 0.f;
                if (at < known) {
                    g.v[0] = kept[at];
                    g = f(g, places[at], r * p.kernel_w + w - q * p.stride);
                }
                dx[to + i] = g.v[0];
            });
        }
        __syncthreads();
    }
}

template <u32 V> __device__ __forceinline__ void max_bwd(const Pool& p, const u8* __restrict__ index, const f32* __restrict__ dy, f32* __restrict__ dx) {
    if (tiling(p)) {
        const auto load = [&](u64 at, Pack<V>& g, u32& winners) {
            g = load_pack<V>(dy + at);
            winners = V == 4 ? *(const u32*)(index + at) : index[at];
        };
        const auto share = [](const Pack<V>& g, u32 winners, u32 place) {
            Pack<V> sum;
#pragma unroll
            for (u32 j = 0; j < V; j++) sum.v[j] = (winners >> (8 * j) & 255) == place ? __fadd_rn(0.f, g.v[j]) : 0.f;
            return sum;
        };
        if constexpr (V == 1) staged_bwd(p, dx, load, share);
        else tiled_bwd<V>(p, dx, load, share);
        return;
    }
    const u32 groups = p.c / V;
    for (u32 i = thread_index(); i < p.n * p.h * p.w * groups; i += thread_count()) {
        const u32 column = i % groups * V, pixel = i / groups, w = pixel % p.w, h = pixel / p.w % p.h, n = pixel / p.w / p.h;
        u32 p0, p1, q0, q1;
        covering(h, p.kernel_h, p.stride, p.padding, p.p, p0, p1);
        covering(w, p.kernel_w, p.stride, p.padding, p.q, q0, q1);
        Pack<V> sum;
#pragma unroll
        for (u32 j = 0; j < V; j++) sum.v[j] = 0.f;
        for (u32 row = p0; row < p1; row++) {
            for (u32 q = q0; q < q1; q++) {
                const u32 place = (h + p.padding - row * p.stride) * p.kernel_w + (w + p.padding - q * p.stride);
                const u64 at = ((u64)(n * p.p + row) * p.q + q) * p.c + column;
                const u32 winners = V == 4 ? *(const u32*)(index + at) : index[at];
                const Pack<V> g = load_pack<V>(dy + at);
#pragma unroll
                for (u32 j = 0; j < V; j++) {
                    if ((winners >> (8 * j) & 255) == place) sum.v[j] = __fadd_rn(sum.v[j], g.v[j]);
                }
            }
        }
        store_pack<V>(dx + (u64)pixel * p.c + column, sum);
    }
}

template <u32 V> __device__ __forceinline__ void avg_bwd(const Pool& p, const f32* __restrict__ dy, f32* __restrict__ dx) {
    const f32 taps = (f32)(p.kernel_h * p.kernel_w);
    if (tiling(p)) {
        const auto load = [&](u64 at, Pack<V>& g, u32&) {
            g = load_pack<V>(dy + at);
#pragma unroll
            for (u32 j = 0; j < V; j++) g.v[j] = __fadd_rn(0.f, __fdiv_rn(g.v[j], taps));
        };
        const auto share = [](const Pack<V>& g, u32, u32) { return g; };
        if constexpr (V == 1) staged_bwd(p, dx, load, share);
        else tiled_bwd<V>(p, dx, load, share);
        return;
    }
    const u32 groups = p.c / V;
    for (u32 i = thread_index(); i < p.n * p.h * p.w * groups; i += thread_count()) {
        const u32 column = i % groups * V, pixel = i / groups, w = pixel % p.w, h = pixel / p.w % p.h, n = pixel / p.w / p.h;
        u32 p0, p1, q0, q1;
        covering(h, p.kernel_h, p.stride, p.padding, p.p, p0, p1);
        covering(w, p.kernel_w, p.stride, p.padding, p.q, q0, q1);
        Pack<V> sum;
#pragma unroll
        for (u32 j = 0; j < V; j++) sum.v[j] = 0.f;
        for (u32 row = p0; row < p1; row++) {
            for (u32 q = q0; q < q1; q++) {
                const Pack<V> g = load_pack<V>(dy + ((u64)(n * p.p + row) * p.q + q) * p.c + column);
#pragma unroll
                for (u32 j = 0; j < V; j++) sum.v[j] = __fadd_rn(sum.v[j], __fdiv_rn(g.v[j], taps));
            }
        }
        store_pack<V>(dx + (u64)pixel * p.c + column, sum);
    }
}

// y and index of the maximum of every window. C is a multiple of 4, all is aligned to 16. Any grid.
extern "C" __global__ void __launch_bounds__(256) maxpool_fwd_f32(
    const __grid_constant__ Pool p, const f32* __restrict__ x, f32* __restrict__ y, u8* __restrict__ index) {
    each_window<4>(p, x, Maximum<4>{p, y, index});
}
// As maxpool_fwd_f32, for any C and alignment.
extern "C" __global__ void __launch_bounds__(256) maxpool_fwd_f32_any(
    const __grid_constant__ Pool p, const f32* __restrict__ x, f32* __restrict__ y, u8* __restrict__ index) {
    staged_windows(p, x, Maximum<1>{p, y, index});
}
// dx from the winners. C is a multiple of 4, all is aligned to 16. Any grid.
extern "C" __global__ void __launch_bounds__(256) maxpool_bwd_f32(
    const __grid_constant__ Pool p, const u8* __restrict__ index, const f32* __restrict__ dy, f32* __restrict__ dx) {
    max_bwd<4>(p, index, dy, dx);
}
// As maxpool_bwd_f32, for any C and alignment.
extern "C" __global__ void __launch_bounds__(256) maxpool_bwd_f32_any(
    const __grid_constant__ Pool p, const u8* __restrict__ index, const f32* __restrict__ dy, f32* __restrict__ dx) {
    max_bwd<1>(p, index, dy, dx);
}
// y = mean of every window. C is a multiple of 4, all is aligned to 16. Any grid.
extern "C" __global__ void __launch_bounds__(256) avgpool_fwd_f32(const __grid_constant__ Pool p, const f32* __restrict__ x, f32* __restrict__ y) {
    each_window<4>(p, x, Mean<4>{p, y});
}
// As avgpool_fwd_f32, for any C and alignment.
extern "C" __global__ void __launch_bounds__(256) avgpool_fwd_f32_any(const __grid_constant__ Pool p, const f32* __restrict__ x, f32* __restrict__ y) {
    staged_windows(p, x, Mean<1>{p, y});
}
// dx = share of every window's gradient. C is a multiple of 4, all is aligned to 16. Any grid.
extern "C" __global__ void __launch_bounds__(256, 6) avgpool_bwd_f32(const __grid_constant__ Pool p, const f32* __restrict__ dy, f32* __restrict__ dx) {
    avg_bwd<4>(p, dy, dx);
}
// As avgpool_bwd_f32, for any C and alignment.
extern "C" __global__ void __launch_bounds__(256) avgpool_bwd_f32_any(const __grid_constant__ Pool p, const f32* __restrict__ dy, f32* __restrict__ dx) {
    avg_bwd<1>(p, dy, dx);
}
