// batchnorm: y = gamma * (x - mean) * invstd + beta over rows x c, forward with batch statistics, with running ones, and backward; the ReLU behind it where p.relu.
//
// Training forward: sums of (x - x0) and (x - x0)^2 per slab of rows, x0 the channel's first element (one pass, no cancellation against a large mean); one warp per
// channel adds the slabs in f64, makes mean, 1/std, the running statistics and the two coefficients; y = x * scale + shift.
// Backward: sums of dy and dy * (x - mean) per slab, dy counted where y > 0 behind a ReLU; dx = a * dy + b * (x - mean) + d.
// Traffic per element: forward 8 B read, 4 B written; backward 24 B read (16 without ReLU), 4 B written. Sums have a fixed order.
// `_any` variants go element by element, for channel counts that are no multiple of 4 or addresses that are not aligned to 16. Passes over all elements then walk the
// matrix as one row, thread i by a multiple of c from element i on: it stays with its channel, and a warp with whole sectors.
#include "columns.cuh"

// rust: crate::ops::batchnorm::BatchNorm
struct BatchNorm {
    u32 rows, c;
    f32 eps, momentum;
    u32 relu;
};

// Two sums per column over a slab of rows, to partial[slab][2][c]. `f(row, column, a, b)` adds what one group of a row has.
template <u32 V, class F>
__device__ __forceinline__ void slab_sums(const BatchNorm& p, u32 slab_rows, u32 lanes, f32* partial, F f) {
    __shared__ f32 scratch[COLUMN_THREADS];
    const Place place(lanes, V);
    const u32 first = blockIdx.y * slab_rows, end = min(first + slab_rows, p.rows);
    const bool inside = place.column < p.c;
    f32 a[V], b[V];
#pragma unroll
    for (u32 j = 0; j < V; j++) a[j] = b[j] = 0.f;
    if (inside) {
        for (u32 row = first + place.row; row < end; row += place.step) f(row, place.column, a, b);
    }
#pragma unroll
    for (u32 j = 0; j < V; j++) {
        const f32 sa = column_sum(a[j], lanes, scratch), sb = column_sum(b[j], lanes, scratch);
        if (threadIdx.x < lanes && inside) {
            f32* out = partial + (u64)blockIdx.y * 2 * p.c + place.column + j;
            out[0] = sa;
            out[p.c] = sb;
        }
    }
}

template <u32 V> __device__ __forceinline__ void stats(const BatchNorm& p, const f32* __restrict__ x, f32* __restrict__ partial, u32 slab_rows, u32 lanes) {
    const Place place(lanes, V);
    Pack<V> x0;
    if (place.column < p.c) x0 = load_pack<V>(x + place.column);
    slab_sums<V>(p, slab_rows, lanes, partial, [&](u32 row, u32 column, f32(&a)[V], f32(&b)[V]) {
        const Pack<V> v = load_pack<V>(x + (u64)row * p.c + column);
#pragma unroll
        for (u32 j = 0; j < V; j++) {
            const f32 d = __fsub_rn(v.v[j], x0.v[j]);
            a[j] = __fadd_rn(a[j], d);
            b[j] = __fmaf_rn(d, d, b[j]);
        }
    });
}

// partial[slab][0][c] = sum of x - x0, [1] of its square. Blocks of 256: grid x over groups of columns by `lanes`, y over slabs.
extern "C" __global__ void __launch_bounds__(256) batchnorm_stats_f32(
    const __grid_constant__ BatchNorm p, const f32* __restrict__ x, f32* __restrict__ partial, u32 slab_rows, u32 lanes) {
    stats<4>(p, x, partial, slab_rows, lanes);
}
// As batchnorm_stats_f32, for any c and alignment.
extern "C" __global__ void __launch_bounds__(256) batchnorm_stats_f32_any(
    const __grid_constant__ BatchNorm p, const f32* __restrict__ x, f32* __restrict__ partial, u32 slab_rows, u32 lanes) {
    stats<1>(p, x, partial, slab_rows, lanes);
}

// The sums of one channel over all slabs, in f64: lane l adds slabs l, l + 32 .., then the lanes are added as a butterfly.
__device__ __forceinline__ void add_slabs(const f32* __restrict__ partial, u32 slabs, u32 c, u32 channel, double& a, double& b) {
    a = b = 0.0;
    for (u32 slab = lane_id(); slab < slabs; slab += 32) {
        const f32* at = partial + (u64)slab * 2 * c + channel;
        a = __dadd_rn(a, at[0]);
        b = __dadd_rn(b, at[c]);
    }
    a = warp_sum(a);
    b = warp_sum(b);
}

// Mean, 1/std and running statistics of every channel; coef = scale[c], shift[c]. Blocks of whole warps, a warp per channel, any grid.
extern "C" __global__ void __launch_bounds__(256) batchnorm_fwd_coef_f32(
    const __grid_constant__ BatchNorm p, const f32* __restrict__ x, const f32* __restrict__ gamma, const f32* __restrict__ beta, const f32* __restrict__ partial,
    u32 slabs, f32* __restrict__ running_mean, f32* __restrict__ running_var, f32* __restrict__ mean, f32* __restrict__ invstd, f32* __restrict__ coef) {
    for (u32 channel = thread_index() / 32; channel < p.c; channel += thread_count() / 32) {
        double sum, squares;
        add_slabs(partial, slabs, p.c, channel, sum, squares);
        if (lane_id() != 0) continue;
        const double n = p.rows, shifted = sum / n, average = x[channel] + shifted;
        const double deviations = fmax(squares - sum * shifted, 0.0), inverse = 1.0 / sqrt(deviations / n + (double)p.eps);
        const double unbiased = deviations / fmax(n - 1.0, 1.0), m = p.momentum;
        running_mean[channel] = (f32)((1.0 - m) * (double)running_mean[channel] + m * average);
        running_var[channel] = (f32)((1.0 - m) * (double)running_var[channel] + m * unbiased);
        mean[channel] = (f32)average;
        invstd[channel] = (f32)inverse;
        const double factor = (double)gamma[channel] * inverse;
        coef[channel] = (f32)factor;
        coef[p.c + channel] = (f32)((double)beta[channel] - average * factor);
    }
}

__device__ __forceinline__ f32 relu_if(u32 relu, f32 v) { return relu && v < 0.f ? 0.f : v; } // NaN stays NaN

// y = x * scale + shift, each block its rows; y may be x.
template <u32 V> __device__ __forceinline__ void affine(const BatchNorm& p, const f32* x, f32* y, u32 lanes, const f32 (&scale)[V], const f32 (&shift)[V]) {
    const Place place(lanes, V);
    if (place.column >= p.c) return;
    for (u32 row = blockIdx.y * place.step + place.row; row < p.rows; row += gridDim.y * place.step) {
        const u64 at = (u64)row * p.c + place.column;
        Pack<V> v = load_pack<V>(x + at);
#pragma unroll
        for (u32 j = 0; j < V; j++) v.v[j] = relu_if(p.relu, __fmaf_rn(v.v[j], scale[j], shift[j]));
        store_pack<V>(y + at, v);
    }
}

// The same, element i by thread i modulo `threads`, a multiple of c; `f(channel, scale, shift)` makes the coefficients.
template <class F> __device__ __forceinline__ void affine_any(const BatchNorm& p, const f32* x, f32* y, u32 threads, F f) {
    const u32 first = thread_index();
    if (first >= threads) return;
    const u64 all = (u64)p.rows * p.c;
    f32 scale, shift;
    f(first % p.c, scale, shift);
    for (u64 i = first; i < all; i += threads) y[i] = relu_if(p.relu, __fmaf_rn(x[i], scale, shift));
}

// y = x * scale + shift with the coefficients of batchnorm_fwd_coef_f32. Blocks of 256: grid x over groups of columns by `lanes`, any y.
extern "C" __global__ void __launch_bounds__(256) batchnorm_fwd_f32(
    const __grid_constant__ BatchNorm p, const f32* __restrict__ x, const f32* __restrict__ coef, f32* __restrict__ y, u32 lanes) {
    const Place place(lanes, 4);
    if (place.column >= p.c) return;
    const Pack<4> scale = load_pack<4>(coef + place.column), shift = load_pack<4>(coef + p.c + place.column);
    affine<4>(p, x, y, lanes, scale.v, shift.v);
}
// As batchnorm_fwd_f32, for any c and alignment. At least `threads`, a multiple of c.
extern "C" __global__ void __launch_bounds__(256) batchnorm_fwd_f32_any(
    const __grid_constant__ BatchNorm p, const f32* __restrict__ x, const f32* __restrict__ coef, f32* __restrict__ y, u32 threads) {
    affine_any(p, x, y, threads, [&](u32 channel, f32& scale, f32& shift) { scale = coef[channel], shift = coef[p.c + channel]; });
}

// Coefficients of a channel from its running statistics.
__device__ __forceinline__ void eval_coef(
    const BatchNorm& p, const f32* gamma, const f32* beta, const f32* running_mean, const f32* running_var, u32 channel, f32& scale, f32& shift) {
    const double factor = (double)gamma[channel] / sqrt((double)running_var[channel] + (double)p.eps);
    scale = (f32)factor;
    shift = (f32)((double)beta[channel] - (double)running_mean[channel] * factor);
}

// y = batchnorm with running statistics; y may be x. Blocks of 256: grid x over groups of columns by `lanes`, any y. The coefficients of a block's channels are made
// once and shared: what they are made of has no alignment of its own, and a root in f64 is dear.
extern "C" __global__ void __launch_bounds__(256) batchnorm_eval_f32(
    const __grid_constant__ BatchNorm p, const f32* x, const f32* __restrict__ gamma, const f32* __restrict__ beta, const f32* __restrict__ running_mean,
    const f32* __restrict__ running_var, f32* y, u32 lanes) {
    __shared__ __align__(16) f32 coef[2][128];
    const u32 channel = blockIdx.x * lanes * 4 + threadIdx.x;
    if (threadIdx.x < lanes * 4 && channel < p.c) {
        eval_coef(p, gamma, beta, running_mean, running_var, channel, coef[0][threadIdx.x], coef[1][threadIdx.x]);
    }
    __syncthreads();
    const Place place(lanes, 4);
    if (place.column >= p.c) return;
    const u32 at = threadIdx.x % lanes * 4;
    const Pack<4> scale = load_pack<4>(coef[0] + at), shift = load_pack<4>(coef[1] + at);
    affine<4>(p, x, y, lanes, scale.v, shift.v);
}
// As batchnorm_eval_f32, for any c and alignment. At least `threads`, a multiple of c.
extern "C" __global__ void __launch_bounds__(256) batchnorm_eval_f32_any(
    const __grid_constant__ BatchNorm p, const f32* x, const f32* __restrict__ gamma, const f32* __restrict__ beta, const f32* __restrict__ running_mean,
    const f32* __restrict__ running_var, f32* y, u32 threads) {
    affine_any(p, x, y, threads, [&](u32 channel, f32& scale, f32& shift) { eval_coef(p, gamma, beta, running_mean, running_var, channel, scale, shift); });
}

// The gradient behind the ReLU where the output is positive.
template <u32 V> __device__ __forceinline__ Pack<V> masked(const BatchNorm& p, const f32* y, const f32* dy, u64 at) {
    Pack<V> g = load_pack<V>(dy + at);
    if (p.relu) {
        const Pack<V> out = load_pack<V>(y + at);
#pragma unroll
        for (u32 j = 0; j < V; j++) g.v[j] = out.v[j] > 0.f ? g.v[j] : 0.f;
    }
    return g;
}

template <u32 V> __device__ __forceinline__ void bwd_sums(
    const BatchNorm& p, const f32* __restrict__ x, const f32* __restrict__ y, const f32* __restrict__ mean, const f32* __restrict__ dy, f32* __restrict__ partial,
    u32 slab_rows, u32 lanes) {
    const Place place(lanes, V);
    f32 m[V];
#pragma unroll
    for (u32 j = 0; j < V; j++) m[j] = place.column + j < p.c ? mean[place.column + j] : 0.f;
    slab_sums<V>(p, slab_rows, lanes, partial, [&](u32 row, u32 column, f32(&a)[V], f32(&b)[V]) {
        const u64 at = (u64)row * p.c + column;
        const Pack<V> g = masked<V>(p, y, dy, at), v = load_pack<V>(x + at);
#pragma unroll
        for (u32 j = 0; j < V; j++) {
            a[j] = __fadd_rn(a[j], g.v[j]);
            b[j] = __fmaf_rn(g.v[j], __fsub_rn(v.v[j], m[j]), b[j]);
        }
    });
}

// partial[slab][0][c] = sum of dy, [1] of dy * (x - mean). Grid as batchnorm_stats_f32.
extern "C" __global__ void __launch_bounds__(256, 5) batchnorm_bwd_sums_f32(
    const __grid_constant__ BatchNorm p, const f32* __restrict__ x, const f32* __restrict__ y, const f32* __restrict__ mean, const f32* __restrict__ dy,
    f32* __restrict__ partial, u32 slab_rows, u32 lanes) {
    bwd_sums<4>(p, x, y, mean, dy, partial, slab_rows, lanes);
}
// As batchnorm_bwd_sums_f32, for any c and alignment.
extern "C" __global__ void __launch_bounds__(256) batchnorm_bwd_sums_f32_any(
    const __grid_constant__ BatchNorm p, const f32* __restrict__ x, const f32* __restrict__ y, const f32* __restrict__ mean, const f32* __restrict__ dy,
    f32* __restrict__ partial, u32 slab_rows, u32 lanes) {
    bwd_sums<1>(p, x, y, mean, dy, partial, slab_rows, lanes);
}

// Gradients of gamma and beta; coef = a[c], b[c], d[c] of dx = a * dy + b * (x - mean) + d. Blocks of whole warps, a warp per channel, any grid.
extern "C" __global__ void __launch_bounds__(256) batchnorm_bwd_coef_f32(
    const __grid_constant__ BatchNorm p, const f32* __restrict__ gamma, const f32* __restrict__ invstd, const f32* __restrict__ partial, u32 slabs,
    f32* __restrict__ dgamma, f32* __restrict__ dbeta, f32* __restrict__ coef) {
    for (u32 channel = thread_index() / 32; channel < p.c; channel += thread_count() / 32) {
        double sum, dot;
        add_slabs(partial, slabs, p.c, channel, sum, dot);
        if (lane_id() != 0) continue;
        const double n = p.rows, inverse = invstd[channel], factor = (double)gamma[channel] * inverse;
        dbeta[channel] = (f32)sum;
        dgamma[channel] = (f32)(dot * inverse);
        coef[channel] = (f32)factor;
        coef[p.c + channel] = (f32)(-factor * inverse * inverse * dot / n);
        coef[2 * p.c + channel] = (f32)(-factor * sum / n);
    }
}

// dx = a * dy + b * (x - mean) + d; dx may be dy. Grid as batchnorm_fwd_f32.
extern "C" __global__ void __launch_bounds__(256) batchnorm_bwd_f32(
    const __grid_constant__ BatchNorm p, const f32* __restrict__ x, const f32* __restrict__ y, const f32* __restrict__ mean, const f32* __restrict__ coef, const f32* dy,
    f32* dx, u32 lanes) {
    const Place place(lanes, 4);
    if (place.column >= p.c) return;
    const Pack<4> m = load_pack<4>(mean + place.column), a = load_pack<4>(coef + place.column);
    const Pack<4> b = load_pack<4>(coef + p.c + place.column), d = load_pack<4>(coef + 2 * p.c + place.column);
    for (u32 row = blockIdx.y * place.step + place.row; row < p.rows; row += gridDim.y * place.step) {
        const u64 at = (u64)row * p.c + place.column;
        Pack<4> g = masked<4>(p, y, dy, at);
        const Pack<4> v = load_pack<4>(x + at);
#pragma unroll
        for (u32 j = 0; j < 4; j++) g.v[j] = __fmaf_rn(a.v[j], g.v[j], __fmaf_rn(b.v[j], __fsub_rn(v.v[j], m.v[j]), d.v[j]));
        store_pack<4>(dx + at, g);
    }
}
// As batchnorm_bwd_f32, for any c and alignment. At least `threads`, a multiple of c.
extern "C" __global__ void __launch_bounds__(256) batchnorm_bwd_f32_any(
    const __grid_constant__ BatchNorm p, const f32* __restrict__ x, const f32* __restrict__ y, const f32* __restrict__ mean, const f32* __restrict__ coef, const f32* dy,
    f32* dx, u32 threads) {
    const u32 first = thread_index(), channel = first % p.c;
    if (first >= threads) return;
    const u64 all = (u64)p.rows * p.c;
    const f32 m = mean[channel], a = coef[channel], b = coef[p.c + channel], d = coef[2 * p.c + channel];
    for (u64 i = first; i < all; i += threads) {
        const f32 g = masked<1>(p, y, dy, i).v[0];
        dx[i] = __fmaf_rn(a, g, __fmaf_rn(b, __fsub_rn(x[i], m), d));
    }
}
