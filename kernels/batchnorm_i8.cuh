// What the batchnorm kernels in 8 bits share: parameters, statistics of the forward pass, coefficients of the backward pass (formulas in src/backend/int8.rs).
#pragma once
#include "phases.cuh"
#include "stored.cuh"

// rust: crate::ops::pool::Pool
struct Pool {
    u32 n, h, w, c, p, q, kernel_h, kernel_w, stride, padding;
};
// rust: crate::ops::batchnorm::BatchNormI8
struct BatchNormI8 {
    Pool pool;
    f32 eps, momentum;
    u32 relu, gradient, add, more, dgrad;
    Noise noise;
    u32 dyd_tensor, wide;
};

struct Sizes {
    u32 pixels, rows, stride, across, tiles;
    bool whole; // blocks of rows lie in one image
    __device__ __forceinline__ Sizes(u32 n, u32 pixels, u32 c)
        : pixels(pixels), rows(n * pixels), stride(pad16(c)), across(div_up(stride, BLOCK_CHANNELS)), tiles(div_up(rows, BLOCK_ROWS)), whole(pixels % BLOCK_ROWS == 0) {}
    __device__ __forceinline__ explicit Sizes(const BatchNormI8& p) : Sizes(p.pool.n, p.pool.h * p.pool.w, p.pool.c) {}
};

// Channels of a block that sums over all rows: few, so that many multiprocessors share the f64 work.
constexpr u32 SUM_CHANNELS = 2;

// Two f64 per (lane, channel) of 32 lanes x 2 channels (threads 0..63 of the block; the others only keep step), combined over the lanes 16, 8, 4, 2, 1 apart; every lane gets
// what its channel comes to.
struct Lanes {
    double a[32][SUM_CHANNELS], b[32][SUM_CHANNELS];
    template <class F> __device__ __forceinline__ void combine(u32 lane, u32 channel, double& x, double& y, F f) {
        if (lane < 32) a[lane][channel] = x, b[lane][channel] = y;
        for (u32 distance = 16; distance > 0; distance /= 2) {
            __syncthreads();
            if (lane < distance) {
                a[lane][channel] = f(a[lane][channel], a[lane + distance][channel]);
                b[lane][channel] = f(b[lane][channel], b[lane + distance][channel]);
            }
        }
        __syncthreads();
        x = a[0][channel], y = b[0][channel];
    }
    // Sums.
    __device__ __forceinline__ void add(u32 lane, u32 channel, double& x, double& y) {
        combine(lane, channel, x, y, [](double low, double high) { return __dadd_rn(low, high); });
    }
    // The larger of each.
    __device__ __forceinline__ void largest(u32 lane, u32 channel, double& x, double& y) {
        combine(lane, channel, x, y, [](double low, double high) { return fmax(low, high); });
    }
};

// What a batchnorm keeps of its parameters and statistics; affine is a, then b, [2][padded c].
struct State {
    const f32* gamma;
    const f32* beta;
    f32* running_mean;
    f32* running_var;
    f32* mean;
    f32* invstd;
    f32* affine;
};

// Statistics of channels 2 * part and the next, of `c` channels.
__device__ __forceinline__ void statistics(
    u32 c, f32 eps, f32 momentum, const Sizes& s, u32 part, const i8* __restrict__ y_exponents, const OutputSums* __restrict__ sums, const State& state) {
    __shared__ Lanes lanes;
    const u32 lane = threadIdx.x / SUM_CHANNELS, channel = part * SUM_CHANNELS + threadIdx.x % SUM_CHANNELS;
    double s1 = 0.0, s2 = 0.0;
    if (lane < 32) {
        for (u32 tile = lane; tile < s.tiles; tile += 32) {
            const OutputSums sum = sums[(u64)tile * s.stride + channel];
            const i32 e = y_exponents[tile * s.across + channel / BLOCK_CHANNELS];
            // Exact in f32: integers below 2^24 times powers of two.
            s1 = __dadd_rn(s1, (double)__fmul_rn(__int2float_rn(sum.sum()), power(e - 6)));
            s2 = __dadd_rn(s2, (double)__fmul_rn(__uint2float_rn(sum.squares), power(2 * e - 12)));
        }
    }
    lanes.add(lane, threadIdx.x % SUM_CHANNELS, s1, s2);
    if (lane != 0) return;
    if (channel >= c) {
        state.affine[channel] = state.affine[s.stride + channel] = 0.f;
        return;
    }
    const double m = s.rows, mean = s1 / m, var = fmax(s2 / m - mean * mean, 0.0), invstd = 1.0 / sqrt(var + (double)eps);
    const double a = (double)state.gamma[channel] * invstd, unbiased = s.rows > 1 ? var * m / (m - 1.0) : var, share = momentum;
    state.mean[channel] = (f32)mean;
    state.invstd[channel] = (f32)invstd;
    state.affine[channel] = (f32)a;
    state.affine[s.stride + channel] = (f32)((double)state.beta[channel] - mean * a);
    state.running_mean[channel] = (f32)((1.0 - share) * (double)state.running_mean[channel] + share * mean);
    state.running_var[channel] = (f32)((1.0 - share) * (double)state.running_var[channel] + share * unbiased);
}

__device__ __forceinline__ f32 relu_if(u32 relu, f32 v) { return relu ? fmaxf(v, 0.f) : v; }

// Eight neighbours of a row of coefficients.
__device__ __forceinline__ void coef8(const f32* from, f32 (&to)[8]) {
    const float4 low = *(const float4*)from, high = *(const float4*)(from + 4);
    to[0] = low.x, to[1] = low.y, to[2] = low.z, to[3] = low.w, to[4] = high.x, to[5] = high.y, to[6] = high.z, to[7] = high.w;
}

// z of eight channels of a row.
struct Eight {
    f32 a[8], b[8];
    __device__ __forceinline__ void load(const f32* affine, u32 stride, u32 channel) {
        coef8(affine + channel, a), coef8(affine + stride + channel, b);
    }
    __device__ __forceinline__ void z(const i8* __restrict__ y, const i8* __restrict__ exponents, const Sizes& s, u32 row, u32 channel, u32 relu, f32 (&v)[8]) const {
        From8(exponents[row / BLOCK_ROWS * s.across + channel / BLOCK_CHANNELS]).eight(*(const uint2*)(y + (u64)row * s.stride + channel), v);
#pragma unroll
        for (u32 j = 0; j < 8; j++) v[j] = relu_if(relu, __fmaf_rn(a[j], v[j], b[j]));
    }
};

// Adds those of a block of rows to the sums of dz and of dz * y. Exact in f32: integers below 2^24 times powers of two.
__device__ __forceinline__ void add_sums(const GradientSums& g, i32 e, i32 ey, double& sum, double& dot) {
    sum = __dadd_rn(sum, (double)__fmul_rn(__int2float_rn(g.sum()), power(e - 6)));
    dot = __dadd_rn(dot, (double)__fmul_rn(__int2float_rn(g.products), power(e - 6 + ey - 6)));
}

// A, B, D of a channel of `m` rows, and what they are made of.
struct Coefficients {
    double u, m1;
    f32 a, b, d;
    __device__ __forceinline__ Coefficients(double sum, double dot, double m, double gamma, double mean, double invstd) {
        u = (dot - mean * sum) * invstd, m1 = sum / m;
        const double m2 = u / m, wide = gamma * invstd, slope = -(wide * m2 * invstd);
        a = (f32)wide, b = (f32)slope, d = (f32)(-(wide * m1) - slope * mean);
    }
};

// The gradient that comes from behind, in one tensor or, with `add`, in two: eight channels of row `row`, of `c`.
struct Behind {
    u32 form;
    const void* up;
    const i8* up_exponents;
    u32 add, more_form;
    const void* more;
    const i8* more_exponents;
    __device__ __forceinline__ void operator()(u32 row, u32 channel, u32 c, f32 (&v)[8]) const {
        load8(form, up, up_exponents, row, channel, c, v);
        if (!add) return;
        f32 w[8];
        load8(more_form, more, more_exponents, row, channel, c, w);
#pragma unroll
        for (u32 j = 0; j < 8; j++) v[j] = __fadd_rn(v[j], w[j]);
    }
};

// Writes eight channels of a row in 16 bits; all threads of a block of the tensor (number `block`), whose largest absolute value has these bits, `there` where the tensor has them.
__device__ __forceinline__ void put_16(u16* to, i8* exponents, u32 block, bool there, u32 bits, const f32 (&v)[8]) {
    const i32 e = exponent_of(bits);
    if (threadIdx.x == 0) exponents[block] = (i8)e;
    const uint4 out = To16(bits, e).eight(v);
    if (there) store16(to, out);
}

// Writes eight channels of a row of a tensor of `c` channels in f32 or 16 bits; all threads of a block of 64 rows x 32 channels (number `block`), a quarter of a row each, `there` where the
// tensor has them. `bits`: of the largest absolute value of `v`. Returns those of the whole block, for 16 bits.
__device__ __forceinline__ u32 put_stream(
    u32 form, void* x, i8* exponents, u32 c, u32 block, u32 row, u32 channel, bool there, u32 bits, const f32 (&v)[8], u32* scratch) {
    if (form == FORM_F32) {
        if (!there) return 0;
        f32* to = (f32*)x + (u64)row * c + channel;
        if (c % 4 == 0) {
            if (channel < c) *(float4*)to = make_float4(v[0], v[1], v[2], v[3]);
            if (channel + 4 < c) *(float4*)(to + 4) = make_float4(v[4], v[5], v[6], v[7]);
            return 0;
        }
#pragma unroll
        for (u32 j = 0; j < 8; j++) {
            if (channel + j < c) to[j] = v[j];
        }
        return 0;
    }
    bits = block_max(bits, scratch);
    put_16((u16*)x + (u64)row * pad16(c) + channel, exponents, block, there, bits, v);
    return bits;
}
