// batchnorm in 8 bits that reads a residual stream, or some channels of it, backward: the gradient of the stream (formulas in src/backend/int8.rs).
//
// First blocks: A, B, D. Then one pass to 16 bits, on top of another tensor or not: 2 B (4 B) read, 2 B written; in f32 4 B for each 2. Where an index names the channels that the
// batchnorm reads, a thread takes the run of them that is among its eight of the stream; it looks for it while the first blocks sum.
#include "batchnorm_i8.cuh"

// rust: crate::ops::batchnorm::BatchNormBwdStreamI8
struct BatchNormBwdStreamI8 {
    u32 rows, c, add, other, form, select, wide;
};

// Which channels of the batchnorm are among eight neighbours of the stream.
struct Run {
    u32 first;     // of them
    u32 count;     // how many
    u32 places[2]; // for each neighbour, 4 bits: how many channels behind `first` its own is
    u32 kept;      // a bit for each neighbour that has one; from bit 8 on, for each whose channel is of another block than `first`
    __device__ __forceinline__ Run() {}

    // Of the neighbours from `at` on.
    __device__ __forceinline__ Run(u32 at, const u32* __restrict__ index, u32 c) {
        u32 high = c;
        first = 0; // until it is the first with index[first] >= at
        while (first < high) {
            const u32 middle = (first + high) / 2;
            if (index[middle] < at) first = middle + 1;
            else high = middle;
        }
        count = places[0] = places[1] = kept = 0;
#pragma unroll
        for (u32 j = 0; j < 8; j++) {
            const u32 own = first + count;
            places[j / 4] |= count << (j % 4 * 4);
            if (own < c && index[own] == at + j) kept |= (own / BLOCK_CHANNELS == first / BLOCK_CHANNELS ? 1u : 257u) << j, count++;
        }
    }
    __device__ __forceinline__ bool is_late(u32 neighbour) const { return kept >> (8 + neighbour) & 1u; }

    // Numbers of the batchnorm's channels, each where its neighbour is; 0 where a neighbour has none.
    __device__ __forceinline__ void floats(const f32* from, f32 (&to)[8]) const {
#pragma unroll
        for (u32 j = 0; j < 8; j++) to[j] = kept >> j & 1u ? from[first + (places[j / 4] >> (j % 4 * 4) & 15u)] : 0.f;
    }
    // The same of a row of bytes; any byte of the run where a neighbour has none.
    __device__ __forceinline__ uint2 bytes(const i8* __restrict__ row) const {
        const u32 skipped = first % 4, end = count == 0 ? 0 : skipped + count;
        const u32* words = (const u32*)(row + (first - skipped));
        u32 w[3];
#pragma unroll
        for (u32 i = 0; i < 3; i++) w[i] = 4 * i < end ? words[i] : 0u;
        const u32 low = __funnelshift_r(w[0], w[1], 8 * skipped), high = __funnelshift_r(w[1], w[2], 8 * skipped);
        return make_uint2(__byte_perm(low, high, places[0]), __byte_perm(low, high, places[1]));
    }
};

// Coefficients, then the gradient of a stream, on top of `other` or not. Blocks of 256: padded channels / 2 for the coefficients, then any number of at least one, each with one
// block of the tensor after the other, so that a block's largest value never leaves the multiprocessor; a thread has eight channels of a row.
template <bool SELECT> __device__ __forceinline__ void gradient_of_stream(
    const BatchNormBwdStreamI8& p, const i8* __restrict__ dz, const i8* __restrict__ dz_exponents, const GradientSums* __restrict__ sums,
    const i8* __restrict__ y, const i8* __restrict__ y_exponents, const f32* __restrict__ gamma, const f32* __restrict__ mean, const f32* __restrict__ invstd,
    const u32* __restrict__ index, const void* __restrict__ other, const i8* __restrict__ other_exponents, f32* __restrict__ dgamma, f32* __restrict__ dbeta, f32* coef,
    void* __restrict__ dx, i8* __restrict__ dx_exponents, u32* tickets) {
    __shared__ Lanes lanes;
    __shared__ u32 scratch[32];
    const Phases phases = {tickets};
    // Of the batchnorm, then of the stream.
    const u32 number = phases.begin(), own_stride = pad16(p.c), own_across = div_up(own_stride, BLOCK_CHANNELS), first = own_stride / SUM_CHANNELS;
    const u32 c = SELECT ? p.wide : p.c, stride = pad16(c), across = div_up(stride, BLOCK_CHANNELS);
    if (number < first) {
        const u32 lane = threadIdx.x / SUM_CHANNELS, own = threadIdx.x % SUM_CHANNELS, channel = number * SUM_CHANNELS + own;
        double sum = 0.0, dot = 0.0;
        if (lane < 32) {
            for (u32 tile = lane; tile < div_up(p.rows, BLOCK_ROWS); tile += 32) {
                const u32 block = tile * own_across + channel / BLOCK_CHANNELS;
                add_sums(sums[(u64)tile * own_stride + channel], dz_exponents[block], y_exponents[block], sum, dot);
            }
        }
        lanes.add(lane, own, sum, dot);
        if (lane == 0) {
            const bool there = channel < p.c;
            const Coefficients of(sum, dot, p.rows, there ? gamma[channel] : 0.f, there ? mean[channel] : 0.f, there ? invstd[channel] : 0.f);
            coef[channel] = of.a, coef[own_stride + channel] = of.b, coef[2 * own_stride + channel] = of.d;
            if (there) dgamma[channel] = (f32)of.u, dbeta[channel] = (f32)sum;
        }
        phases.done(1);
        return phases.end();
    }
    const u32 count = div_up(p.rows, BLOCK_ROWS) * across, start = number - first, pace = gridDim.x - first;
    const bool same = pace % across == 0; // a thread has the same channels every time
    const RowPlace place;
    f32 a[8], b[8], d[8];
    Run run;
    if (SELECT) run = Run(start % across * BLOCK_CHANNELS + place.channel, index, p.c);
    phases.wait(1, first);
    for (u32 block = start; block < count; block += pace) {
        const u32 tile = block / across, row = tile * BLOCK_ROWS + place.row, channel = (block - tile * across) * BLOCK_CHANNELS + place.channel;
        const bool there = row < p.rows && channel < stride;
        if (block == start || !same) {
            if (SELECT) {
                if (block != start) run = Run(channel, index, p.c);
                run.floats(coef, a), run.floats(coef + own_stride, b), run.floats(coef + 2 * own_stride, d);
            } else {
                const u32 from = channel < stride ? channel : 0; // channels behind the last one are nobody's
                coef8(coef + from, a), coef8(coef + stride + from, b), coef8(coef + 2 * stride + from, d);
            }
        }
        f32 v[8] = {0.f, 0.f, 0.f, 0.f, 0.f, 0.f, 0.f, 0.f};
        u32 bits = 0;
        if (there) {
            f32 z[8], w[8];
            if (SELECT) {
                const u64 at = (u64)row * own_stride;
                const uint2 mz = run.bytes(dz + at), my = run.bytes(y + at);
                const u32 own = tile * own_across + run.first / BLOCK_CHANNELS;
                const bool some = run.count != 0, late = run.kept >= 256u;
                const f32 z_scale = some ? power(dz_exponents[own] - 6) : 0.f, y_scale = some ? power(y_exponents[own] - 6) : 0.f;
                const f32 late_z_scale = late ? power(dz_exponents[own + 1] - 6) : 0.f, late_y_scale = late ? power(y_exponents[own + 1] - 6) : 0.f;
#pragma unroll
                for (u32 j = 0; j < 8; j++) {
                    z[j] = __fmul_rn(mantissa_f32(j < 4 ? mz.x : mz.y, j & 3), run.is_late(j) ? late_z_scale : z_scale);
                    w[j] = __fmul_rn(mantissa_f32(j < 4 ? my.x : my.y, j & 3), run.is_late(j) ? late_y_scale : y_scale);
                }
            } else {
                const u32 at = row * stride + channel;
                From8(dz_exponents[block]).eight(*(const uint2*)(dz + at), z), From8(y_exponents[block]).eight(*(const uint2*)(y + at), w);
            }
#pragma unroll
            for (u32 j = 0; j < 8; j++) v[j] = __fmaf_rn(a[j], z[j], __fmaf_rn(b[j], w[j], d[j]));
            if (p.add) {
                f32 o[8];
                load8(p.other, other, other_exponents, row, channel, c, o);
#pragma unroll
                for (u32 j = 0; j < 8; j++) v[j] = __fadd_rn(o[j], v[j]);
            }
#pragma unroll
            for (u32 j = 0; j < 8; j++) bits = max(bits, magnitude(v[j]));
        }
        put_stream(p.form, dx, dx_exponents, c, block, row, channel, there, bits, v, scratch);
    }
    phases.end();
}

// Of a stream whose channels the batchnorm reads all.
extern "C" __global__ void __launch_bounds__(256) batchnorm_bwd_i8_stream(
    const __grid_constant__ BatchNormBwdStreamI8 p, const i8* __restrict__ dz, const i8* __restrict__ dz_exponents, const GradientSums* __restrict__ sums,
    const i8* __restrict__ y, const i8* __restrict__ y_exponents, const f32* __restrict__ gamma, const f32* __restrict__ mean, const f32* __restrict__ invstd,
    const void* __restrict__ other, const i8* __restrict__ other_exponents, f32* __restrict__ dgamma, f32* __restrict__ dbeta, f32* coef, void* __restrict__ dx,
    i8* __restrict__ dx_exponents, u32* tickets) {
    gradient_of_stream<false>(
        p, dz, dz_exponents, sums, y, y_exponents, gamma, mean, invstd, nullptr, other, other_exponents, dgamma, dbeta, coef, dx, dx_exponents, tickets);
}

// Of a stream that has the batchnorm's channels in the places that an index names.
extern "C" __global__ void __launch_bounds__(256) batchnorm_bwd_i8_stream_select(
    const __grid_constant__ BatchNormBwdStreamI8 p, const i8* __restrict__ dz, const i8* __restrict__ dz_exponents, const GradientSums* __restrict__ sums,
    const i8* __restrict__ y, const i8* __restrict__ y_exponents, const f32* __restrict__ gamma, const f32* __restrict__ mean, const f32* __restrict__ invstd,
    const u32* __restrict__ index, const void* __restrict__ other, const i8* __restrict__ other_exponents, f32* __restrict__ dgamma, f32* __restrict__ dbeta, f32* coef,
    void* __restrict__ dx, i8* __restrict__ dx_exponents, u32* tickets) {
    gradient_of_stream<true>(
        p, dz, dz_exponents, sums, y, y_exponents, gamma, mean, invstd, index, other, other_exponents, dgamma, dbeta, coef, dx, dx_exponents, tickets);
}
