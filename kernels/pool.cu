// pool: maximum and mean over windows, forward and backward, NHWC; a thread per output element group (backward: input element group) of V channels.
//
// maxpool: padding never wins, the first of equals wins, a NaN wins and stays (the last of several); index is the winner's place in its window, row by row.
// avgpool: padding counts as 0. Backward gathers: a pixel adds what its windows hand it, in the order of the windows: no atomics. Where
// windows tile the image each pixel has one, and a thread stands on the window: dy and index are read once.
// Traffic: windows * 4 B read from the cache, x once from memory; 4 B (+1) written per output element.
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

template <u32 V> __device__ __forceinline__ void max_fwd(const Pool& p, const f32* __restrict__ x, f32* __restrict__ y, u8* __restrict__ index) {
    const u32 groups = p.c / V;
    for (u32 i = thread_index(); i < p.n * p.p * p.q * groups; i += thread_count()) {
        const u32 column = i % groups * V, pixel = i / groups, q = pixel % p.q, row = pixel / p.q % p.p, n = pixel / p.q / p.p;
        f32 best[V];
        u32 place[V];
#pragma unroll
        for (u32 j = 0; j < V; j++) best[j] = __int_as_float(0xff800000), place[j] = 255;
        for (u32 r = 0; r < p.kernel_h; r++) {
            const u32 h = row * p.stride + r - p.padding; // negative: huge
            if (h >= p.h) continue;
            for (u32 s = 0; s < p.kernel_w; s++) {
                const u32 w = q * p.stride + s - p.padding;
                if (w >= p.w) continue;
                const Pack<V> v = load_pack<V>(x + ((u64)(n * p.h + h) * p.w + w) * p.c + column);
#pragma unroll
                for (u32 j = 0; j < V; j++) {
                    if (v.v[j] > best[j] || place[j] == 255 || v.v[j] != v.v[j]) best[j] = v.v[j], place[j] = r * p.kernel_w + s;
                }
            }
        }
        const u64 at = (u64)pixel * p.c + column;
        Pack<V> out;
        u32 places = 0;
#pragma unroll
        for (u32 j = 0; j < V; j++) out.v[j] = best[j], places |= place[j] << (8 * j);
        store_pack<V>(y + at, out);
        if (V == 4) *(u32*)(index + at) = places;
        else index[at] = (u8)places;
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

template <u32 V> __device__ __forceinline__ void max_bwd(const Pool& p, const u8* __restrict__ index, const f32* __restrict__ dy, f32* __restrict__ dx) {
    if (tiling(p)) {
        tiled_bwd<V>(
            p, dx,
            [&](u64 at, Pack<V>& g, u32& winners) {
                g = load_pack<V>(dy + at);
                winners = V == 4 ? *(const u32*)(index + at) : index[at];
            },
            [](const Pack<V>& g, u32 winners, u32 place) {
                Pack<V> sum;
#pragma unroll
                for (u32 j = 0; j < V; j++) sum.v[j] = (winners >> (8 * j) & 255) == place ? __fadd_rn(0.f, g.v[j]) : 0.f;
                return sum;
            });
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

template <u32 V> __device__ __forceinline__ void avg_fwd(const Pool& p, const f32* __restrict__ x, f32* __restrict__ y) {
    const u32 groups = p.c / V;
    const f32 taps = (f32)(p.kernel_h * p.kernel_w);
    for (u32 i = thread_index(); i < p.n * p.p * p.q * groups; i += thread_count()) {
        const u32 column = i % groups * V, pixel = i / groups, q = pixel % p.q, row = pixel / p.q % p.p, n = pixel / p.q / p.p;
        Pack<V> sum;
#pragma unroll
        for (u32 j = 0; j < V; j++) sum.v[j] = 0.f;
        for (u32 r = 0; r < p.kernel_h; r++) {
            const u32 h = row * p.stride + r - p.padding;
            if (h >= p.h) continue;
            for (u32 s = 0; s < p.kernel_w; s++) {
                const u32 w = q * p.stride + s - p.padding;
                if (w >= p.w) continue;
                const Pack<V> v = load_pack<V>(x + ((u64)(n * p.h + h) * p.w + w) * p.c + column);
#pragma unroll
                for (u32 j = 0; j < V; j++) sum.v[j] = __fadd_rn(sum.v[j], v.v[j]);
            }
        }
#pragma unroll
        for (u32 j = 0; j < V; j++) sum.v[j] = __fdiv_rn(sum.v[j], taps);
        store_pack<V>(y + (u64)pixel * p.c + column, sum);
    }
}

template <u32 V> __device__ __forceinline__ void avg_bwd(const Pool& p, const f32* __restrict__ dy, f32* __restrict__ dx) {
    const f32 taps = (f32)(p.kernel_h * p.kernel_w);
    if (tiling(p)) {
        tiled_bwd<V>(
            p, dx,
            [&](u64 at, Pack<V>& g, u32&) {
                g = load_pack<V>(dy + at);
#pragma unroll
                for (u32 j = 0; j < V; j++) g.v[j] = __fadd_rn(0.f, __fdiv_rn(g.v[j], taps));
            },
            [](const Pack<V>& g, u32, u32) { return g; });
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
    max_fwd<4>(p, x, y, index);
}
// As maxpool_fwd_f32, for any C and alignment.
extern "C" __global__ void __launch_bounds__(256) maxpool_fwd_f32_any(
    const __grid_constant__ Pool p, const f32* __restrict__ x, f32* __restrict__ y, u8* __restrict__ index) {
    max_fwd<1>(p, x, y, index);
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
    avg_fwd<4>(p, x, y);
}
// As avgpool_fwd_f32, for any C and alignment.
extern "C" __global__ void __launch_bounds__(256) avgpool_fwd_f32_any(const __grid_constant__ Pool p, const f32* __restrict__ x, f32* __restrict__ y) {
    avg_fwd<1>(p, x, y);
}
// dx = share of every window's gradient. C is a multiple of 4, all is aligned to 16. Any grid.
extern "C" __global__ void __launch_bounds__(256, 6) avgpool_bwd_f32(const __grid_constant__ Pool p, const f32* __restrict__ dy, f32* __restrict__ dx) {
    avg_bwd<4>(p, dy, dx);
}
// As avgpool_bwd_f32, for any C and alignment.
extern "C" __global__ void __launch_bounds__(256) avgpool_bwd_f32_any(const __grid_constant__ Pool p, const f32* __restrict__ dy, f32* __restrict__ dx) {
    avg_bwd<1>(p, dy, dx);
}
