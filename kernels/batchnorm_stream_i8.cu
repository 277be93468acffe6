// batchnorm in 8 bits that reads a residual stream, backward: the gradient of the stream (formulas in src/backend/int8.rs).
//
// First blocks: A, B, D. Then one pass to 16 bits, on top of another tensor or not: 2 B (4 B) read, 2 B written; in f32 4 B for each 2.
#include "batchnorm_i8.cuh"

// rust: crate::ops::batchnorm::BatchNormBwdStreamI8
struct BatchNormBwdStreamI8 {
    u32 rows, c, add, other, form;
};

// Coefficients, then the gradient of a stream, on top of `other` or not. Blocks of 256: padded channels / 2 for the coefficients, then any number of at least one, each with one
// block of the tensor after the other, so that a block's largest value never leaves the multiprocessor; a thread has eight channels of a row.
extern "C" __global__ void __launch_bounds__(256) batchnorm_bwd_i8_stream(
    const __grid_constant__ BatchNormBwdStreamI8 p, const i8* __restrict__ dz, const i8* __restrict__ dz_exponents, const GradientSums* __restrict__ sums,
    const i8* __restrict__ y, const i8* __restrict__ y_exponents, const f32* __restrict__ gamma, const f32* __restrict__ mean, const f32* __restrict__ invstd,
    const void* __restrict__ other, const i8* __restrict__ other_exponents, f32* __restrict__ dgamma, f32* __restrict__ dbeta, f32* coef, void* __restrict__ dx,
    i8* __restrict__ dx_exponents, u32* tickets) {
    __shared__ Lanes lanes;
    __shared__ u32 scratch[32];
    const Phases phases = {tickets};
    const u32 number = phases.begin(), stride = pad16(p.c), across = div_up(stride, BLOCK_CHANNELS), first = stride / SUM_CHANNELS;
    if (number < first) {
        const u32 lane = threadIdx.x / SUM_CHANNELS, own = threadIdx.x % SUM_CHANNELS, channel = number * SUM_CHANNELS + own;
        double sum = 0.0, dot = 0.0;
        if (lane < 32) {
            for (u32 tile = lane; tile < div_up(p.rows, BLOCK_ROWS); tile += 32) {
                const u32 block = tile * across + channel / BLOCK_CHANNELS;
                add_sums(sums[(u64)tile * stride + channel], dz_exponents[block], y_exponents[block], sum, dot);
            }
        }
        lanes.add(lane, own, sum, dot);
        if (lane == 0) {
            const bool there = channel < p.c;
            const Coefficients of(sum, dot, p.rows, there ? gamma[channel] : 0.f, there ? mean[channel] : 0.f, there ? invstd[channel] : 0.f);
            coef[channel] = of.a, coef[stride + channel] = of.b, coef[2 * stride + channel] = of.d;
            if (there) dgamma[channel] = (f32)of.u, dbeta[channel] = (f32)sum;
        }
        phases.done(1);
        return phases.end();
    }
    phases.wait(1, first);
    const u32 count = div_up(p.rows, BLOCK_ROWS) * across, start = number - first, pace = gridDim.x - first;
    const bool same = pace % across == 0; // a thread has the same channels every time
    f32 a[8], b[8], d[8];
    for (u32 block = start; block < count; block += pace) {
        const u32 tile = block / across, row = tile * BLOCK_ROWS + threadIdx.x / 4, channel = (block - tile * across) * BLOCK_CHANNELS + threadIdx.x % 4 * 8;
        const bool there = row < p.rows && channel < stride;
        if (block == start || !same) {
            const u32 from = channel < stride ? channel : 0; // channels behind the last one are nobody's
            coef8(coef + from, a), coef8(coef + stride + from, b), coef8(coef + 2 * stride + from, d);
        }
        f32 v[8] = {0.f, 0.f, 0.f, 0.f, 0.f, 0.f, 0.f, 0.f};
        u32 bits = 0;
        if (there) {
            const u32 at = row * stride + channel;
            const uint2 mz = *(const uint2*)(dz + at), my = *(const uint2*)(y + at);
            const f32 z_scale = power(dz_exponents[block] - 6), y_scale = power(y_exponents[block] - 6);
#pragma unroll
            for (u32 j = 0; j < 8; j++) {
                const f32 z = __fmul_rn(mantissa_f32(j < 4 ? mz.x : mz.y, j & 3), z_scale), w = __fmul_rn(mantissa_f32(j < 4 ? my.x : my.y, j & 3), y_scale);
                v[j] = __fmaf_rn(a[j], z, __fmaf_rn(b[j], w, d[j]));
            }
            if (p.add) {
                f32 o[8];
                load8(p.other, other, other_exponents, row, channel, p.c, o);
#pragma unroll
                for (u32 j = 0; j < 8; j++) v[j] = __fadd_rn(o[j], v[j]);
            }
#pragma unroll
            for (u32 j = 0; j < 8; j++) bits = max(bits, magnitude(v[j]));
        }
        if (p.form == FORM_F32) {
            if (!there) continue;
            f32* to = (f32*)dx + (u64)row * p.c + channel;
            if (p.c % 4 == 0) {
                if (channel < p.c) *(float4*)to = make_float4(v[0], v[1], v[2], v[3]);
                if (channel + 4 < p.c) *(float4*)(to + 4) = make_float4(v[4], v[5], v[6], v[7]);
                continue;
            }
#pragma unroll
            for (u32 j = 0; j < 8; j++) {
                if (channel + j < p.c) to[j] = v[j];
            }
            continue;
        }
        bits = block_max(bits, scratch);
        const i32 e = exponent_of(bits);
        if (threadIdx.x == 0) dx_exponents[block] = (i8)e;
        const To16 round(bits, e);
        uint4 out = make_uint4(round.pair<false>(v[0], v[1]), round.pair<false>(v[2], v[3]), round.pair<false>(v[4], v[5]), round.pair<false>(v[6], v[7]));
        if (round.clips) out = make_uint4(round.pair<true>(v[0], v[1]), round.pair<true>(v[2], v[3]), round.pair<true>(v[4], v[5]), round.pair<true>(v[6], v[7]));
        if (there) store16((u16*)dx + (u64)row * stride + channel, out);
    }
    phases.end();
}
