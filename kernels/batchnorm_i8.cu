// batchnorm in 8 bits: statistics and normalisation (with ReLU, max-pool and quantisation), and both gradients (formulas in src/backend/int8.rs).
//
// forward   First blocks: from the convolution's sums to mean, 1/std, running statistics, a and b, in f64. The others wait for them; each finds the exponent of its image (from the
//           extremes in the sums where blocks of rows lie in one image; else others have looked at all of it before: 1 B more read) and normalises, pools and rounds its part. 1 B read,
//           1 B written (pooled: 1/4).
// gradient  ReLU mask and un-pooling in one pass, stored in blocks with sums: 1 B read of y, 1 B (or 2, or 4) of each of up to two that come from behind, 1 B written.
// backward  First blocks: A, B, D, the bounds' parts and the channels' exponents; where blocks of rows span images, before those the extremes of each image and channel. Then one
//           pass with both roundings: 2 B read, 2 B written (`_wide`: 3 B).
#include "batchnorm_i8.cuh"

// Bits of the largest size of z in image `n`, from the sums of its blocks of rows; every thread gets it. z rises or falls with y: its largest size is at an end.
__device__ __forceinline__ u32 largest_of_sums(
    const BatchNormI8& p, const Sizes& s, u32 n, const i8* __restrict__ y_exponents, const OutputSums* __restrict__ sums, const f32* affine, u32* scratch) {
    u32 bits = 0;
    const u32 tiles = s.pixels / BLOCK_ROWS, count = tiles * p.pool.c;
    for (u32 i = threadIdx.x; i < count; i += blockDim.x) {
        const u32 tile = n * tiles + i / p.pool.c, channel = i % p.pool.c;
        const OutputSums sum = sums[(u64)tile * s.stride + channel];
        const f32 scale = power(y_exponents[tile * s.across + channel / BLOCK_CHANNELS] - 6), a = affine[channel], b = affine[s.stride + channel];
        const f32 low = __fmaf_rn(a, __fmul_rn(__int2float_rn(sum.low()), scale), b), high = __fmaf_rn(a, __fmul_rn(__int2float_rn(sum.high()), scale), b);
        bits = max(bits, max(magnitude(relu_if(p.relu, low)), magnitude(relu_if(p.relu, high))));
    }
    return block_max(bits, scratch);
}

// The same of part `part` of `parts` of the image, from y itself.
__device__ __forceinline__ u32 largest_of_part(
    const BatchNormI8& p, const Sizes& s, u32 n, u32 part, u32 parts, const i8* __restrict__ y, const i8* __restrict__ y_exponents, const f32* affine, u32* scratch) {
    u32 bits = 0;
    const u32 groups = s.stride / 8, count = s.pixels * groups, start = part * blockDim.x + threadIdx.x, pace = parts * blockDim.x;
    const bool same = pace % groups == 0; // a thread has the same channels every time
    Eight map;
    for (u32 i = start; i < count; i += pace) {
        const u32 channel = i % groups * 8;
        f32 z[8];
        if (i == start || !same) map.load(affine, s.stride, channel);
        map.z(y, y_exponents, s, n * s.pixels + i / groups, channel, p.relu, z);
#pragma unroll
        for (u32 j = 0; j < 8; j++) bits = max(bits, magnitude(z[j]));
    }
    return block_max(bits, scratch);
}

// Statistics, then normalise, ReLU, max-pool, round. Blocks of 256: padded channels / 2 for the statistics; where blocks of rows span images, `parts` for each image that look for its
// largest value; then `parts` for each image. `largest`: a word for each image, in the second case only.
extern "C" __global__ void __launch_bounds__(256) batchnorm_fwd_i8(
    const __grid_constant__ BatchNormI8 p, const i8* __restrict__ y, const i8* __restrict__ y_exponents, const OutputSums* __restrict__ sums,
    const f32* __restrict__ gamma, const f32* __restrict__ beta, f32* __restrict__ running_mean, f32* __restrict__ running_var, f32* __restrict__ mean,
    f32* __restrict__ invstd, f32* affine, const u32* __restrict__ step, i8* __restrict__ out, i8* __restrict__ exponents, u8* __restrict__ index, u32* largest, u32* tickets,
    u32 parts) {
    __shared__ u32 scratch[32];
    const Sizes s(p);
    const Phases phases = {tickets};
    const u32 first = s.stride / SUM_CHANNELS;
    u32 number = phases.begin();
    if (number < first) {
        if (number == 0 && !s.whole) {
            for (u32 n = threadIdx.x; n < p.pool.n; n += blockDim.x) largest[n] = 0;
        }
        statistics(p.pool.c, p.eps, p.momentum, s, number, y_exponents, sums, {gamma, beta, running_mean, running_var, mean, invstd, affine});
        phases.done(1);
        return phases.end();
    }
    phases.wait(1, first);
    number -= first;
    if (!s.whole) {
        const u32 second = p.pool.n * parts;
        if (number < second) {
            const u32 bits = largest_of_part(p, s, number / parts, number % parts, parts, y, y_exponents, affine, scratch);
            if (threadIdx.x == 0) atomicMax(largest + number / parts, bits);
            phases.done(2);
            return phases.end();
        }
        phases.wait(2, second);
        number -= second;
    }
    const u32 n = number / parts, part = number % parts, groups = s.stride / 8, pooled = p.pool.p * p.pool.q, count = pooled * groups, now = *step;
    const i32 e = exponent_of(s.whole ? largest_of_sums(p, s, n, y_exponents, sums, affine, scratch) : largest[n]);
    if (part == 0 && threadIdx.x == 0) exponents[n] = (i8)e;
    const f32 scale = power(21 - e);
    const u32 fill = fill_of(p.noise);
    const u32 start = part * blockDim.x + threadIdx.x, pace = parts * blockDim.x;
    const bool same = pace % groups == 0; // a thread has the same channels every time
    Eight map;
    for (u32 i = start; i < count; i += pace) {
        const u32 pixel = i / groups, channel = i % groups * 8;
        const u32 at = (n * pooled + pixel) * s.stride + channel;
        if (i == start || !same) map.load(affine, s.stride, channel);
        f32 best[8];
        if (p.pool.kernel_h == 0) {
            map.z(y, y_exponents, s, n * s.pixels + pixel, channel, p.relu, best);
        } else {
            const i32 h0 = (i32)(pixel / p.pool.q * p.pool.stride) - (i32)p.pool.padding, w0 = (i32)(pixel % p.pool.q * p.pool.stride) - (i32)p.pool.padding;
            i32 winner[8];
#pragma unroll
            for (u32 j = 0; j < 8; j++) best[j] = 0.f, winner[j] = -1;
            for (u32 r = 0; r < p.pool.kernel_h; r++) {
                if ((u32)(h0 + (i32)r) >= p.pool.h) continue;
                for (u32 c = 0; c < p.pool.kernel_w; c++) {
                    if ((u32)(w0 + (i32)c) >= p.pool.w) continue;
                    f32 z[8];
                    map.z(y, y_exponents, s, n * s.pixels + (u32)(h0 + (i32)r) * p.pool.w + (u32)(w0 + (i32)c), channel, p.relu, z);
#pragma unroll
                    for (u32 j = 0; j < 8; j++) {
                        const bool wins = winner[j] < 0 || z[j] > best[j];
                        best[j] = wins ? z[j] : best[j];
                        winner[j] = wins ? (i32)(r * p.pool.kernel_w + c) : winner[j];
                    }
                }
            }
#pragma unroll
            for (u32 j = 0; j < 8; j++) winner[j] = channel + j < p.pool.c ? winner[j] : 0;
            *(uint2*)(index + at) = pack8(winner);
        }
        const Philox noise = operand_noise(p.noise, p.noise.tensor, at / 8, now);
        put_operand(best, scale, noise, fill, out + at);
    }
    phases.end();
}

// The windows that hold a pixel: the first of them as a row of the pool's output, the pixel's place in it, how many there are down and across.
struct Windows {
    u32 first, counts;
    __device__ __forceinline__ Windows(u32 first, u32 counts) : first(first), counts(counts) {}
    __device__ __forceinline__ Windows(const Pool& pool, u32 pixels, u32 row) {
        const u32 n = row / pixels, pixel = row - n * pixels, line = pixel / pool.w, h = line + pool.padding, w = pixel - line * pool.w + pool.padding;
        const u32 h_first = h + 1 > pool.kernel_h ? div_up(h + 1 - pool.kernel_h, pool.stride) : 0, h_end = min(h / pool.stride + 1, pool.p);
        const u32 w_first = w + 1 > pool.kernel_w ? div_up(w + 1 - pool.kernel_w, pool.stride) : 0, w_end = min(w / pool.stride + 1, pool.q);
        const u32 tap = (h - h_first * pool.stride) * pool.kernel_w + (w - w_first * pool.stride);
        first = n * (pool.p * pool.q) + h_first * pool.q + w_first;
        counts = tap | (h_end - h_first) << 8 | (w_end - w_first) << 20;
    }
    __device__ __forceinline__ u32 tap() const { return counts & 255u; }
    __device__ __forceinline__ u32 down() const { return counts >> 8 & 0xfffu; }
    __device__ __forceinline__ u32 across() const { return counts >> 20; }
};

// dZ in blocks. Blocks of 256, one for each block of the tensor, in their order.
extern "C" __global__ void __launch_bounds__(256) batchnorm_grad_i8(
    const __grid_constant__ BatchNormI8 p, const void* __restrict__ up, const i8* __restrict__ up_exponents, const void* __restrict__ more,
    const i8* __restrict__ more_exponents, const u8* __restrict__ index, const i8* __restrict__ y, const i8* __restrict__ y_exponents,
    const f32* __restrict__ affine, const u32* __restrict__ step, i8* __restrict__ dz, i8* __restrict__ dz_exponents, GradientSums* __restrict__ sums) {
    __shared__ RowScratch scratch;
    __shared__ u32 windows[2][BLOCK_ROWS];
    const Sizes s(p);
    const RowPlace place;
    const u32 tile = blockIdx.x / s.across, column = blockIdx.x - tile * s.across, row = tile * BLOCK_ROWS + place.row, channel = column * BLOCK_CHANNELS + place.channel;
    const Behind behind = {p.gradient, up, up_exponents, p.add, p.more, more, more_exponents};
    const bool there = row < s.rows && channel < s.stride;
    if (p.pool.kernel_h != 0) { // once for all channels of a row
        if (threadIdx.x < BLOCK_ROWS && tile * BLOCK_ROWS + threadIdx.x < s.rows) {
            const Windows own(p.pool, s.pixels, tile * BLOCK_ROWS + threadIdx.x);
            windows[0][threadIdx.x] = own.first, windows[1][threadIdx.x] = own.counts;
        }
        __syncthreads();
    }
    f32 v[8] = {0.f, 0.f, 0.f, 0.f, 0.f, 0.f, 0.f, 0.f};
    uint2 ys = make_uint2(0, 0), q;
    if (there) {
        if (p.pool.kernel_h == 0) {
            behind(row, channel, p.pool.c, v);
        } else {
            const Windows here(windows[0][place.row], windows[1][place.row]);
            for (u32 r = 0; r < here.down(); r++) {
                u32 from = here.first + r * p.pool.q, tap = here.tap() - r * p.pool.stride * p.pool.kernel_w;
                for (u32 c = 0; c < here.across(); c++, from++, tap -= p.pool.stride) {
                    const uint2 winners = *(const uint2*)(index + (u64)from * s.stride + channel);
                    f32 w[8];
                    behind(from, channel, p.pool.c, w);
#pragma unroll
                    for (u32 j = 0; j < 8; j++) v[j] = __fadd_rn(v[j], ((j < 4 ? winners.x : winners.y) >> 8 * (j & 3) & 255u) == tap ? w[j] : 0.f);
                }
            }
        }
        ys = *(const uint2*)(y + (u64)row * s.stride + channel);
        if (p.relu) {
            f32 w[8], a[8], b[8];
            From8(y_exponents[blockIdx.x]).eight(ys, w);
            coef8(affine + channel, a), coef8(affine + s.stride + channel, b);
#pragma unroll
            for (u32 j = 0; j < 8; j++) {
                if (!(__fmaf_rn(a[j], w[j], b[j]) > 0.f)) v[j] = 0.f;
            }
        }
    }
    row_put(v, s.rows, s.stride, tile, column, s.across, p.noise, *step, dz, dz_exponents, scratch, q);
    i32 all[4];
    row_sums(q, ys, false, ys, scratch, all);
    const u32 own = column * BLOCK_CHANNELS + lane_id();
    if (warp_id() == 0 && own < s.stride) sums[(u64)tile * s.stride + own] = GradientSums::of(all[0], all[2], all[3]);
}

// Extremes of an image and channel: smallest and largest y, largest |dz|.
struct Extremes {
    f32 low, high, gradient;
};

// extremes[n][padded c] of image n and 32 channels from `column` * 32 on, from the tensors themselves.
__device__ __forceinline__ void image_extremes(
    const Sizes& s, u32 n, u32 column, const i8* __restrict__ dz, const i8* __restrict__ dz_exponents, const i8* __restrict__ y, const i8* __restrict__ y_exponents,
    Extremes* extremes) {
    __shared__ Extremes scratch[8][32];
    const u32 channel = column * 32 + lane_id();
    const f32 infinity = __int_as_float(0x7f800000);
    Extremes x = {infinity, -infinity, 0.f};
    if (channel < s.stride) {
        for (u32 row = n * s.pixels + warp_id(); row < (n + 1) * s.pixels; row += 8) {
            const u32 block = row / BLOCK_ROWS * s.across + column;
            const f32 v = __fmul_rn(__int2float_rn(y[(u64)row * s.stride + channel]), power(y_exponents[block] - 6));
            const f32 g = __fmul_rn(__int2float_rn(abs((i32)dz[(u64)row * s.stride + channel])), power(dz_exponents[block] - 6));
            x.low = fminf(x.low, v), x.high = fmaxf(x.high, v), x.gradient = fmaxf(x.gradient, g);
        }
    }
    scratch[warp_id()][lane_id()] = x;
    __syncthreads();
    if (warp_id() != 0 || channel >= s.stride) return;
#pragma unroll
    for (u32 w = 1; w < 8; w++) {
        const Extremes o = scratch[w][lane_id()];
        x.low = fminf(x.low, o.low), x.high = fmaxf(x.high, o.high), x.gradient = fmaxf(x.gradient, o.gradient);
    }
    extremes[(u64)n * s.stride + channel] = x;
}

__device__ __forceinline__ double farthest(f32 low, f32 high, double mean) { return fmax(fabs((double)low - mean), fabs((double)high - mean)); }

// Those of one block of rows.
__device__ __forceinline__ Extremes block_extremes(const OutputSums& y, i32 y_exponent, const GradientSums& dz, i32 dz_exponent) {
    const f32 scale = power(y_exponent - 6);
    return {__fmul_rn(__int2float_rn(y.low()), scale), __fmul_rn(__int2float_rn(y.high()), scale), __fmul_rn(__uint2float_rn(dz.largest()), power(dz_exponent - 6))};
}

// coef: f64 |A*m1| [padded c], then f32 A, B, D [padded c] each; 0 in padded channels.
__device__ __forceinline__ f32* coef_f32(double* coef, u32 stride) { return (f32*)(coef + stride); }
__device__ __forceinline__ const f32* coef_f32(const double* coef, u32 stride) { return (const f32*)(coef + stride); }

// What coefficients are made of, and what they are.
struct Backward {
    const i8* dz_exponents;
    const GradientSums* sums;
    const i8* y_exponents;
    const OutputSums* y_sums;
    const f32* gamma;
    const f32* mean;
    const f32* invstd;
    const i8* input_exponents;
    const Extremes* extremes; // only where blocks of rows span images
    f32* dgamma;
    f32* dbeta;
    double* coef;
    i8* dyw_exponents;
};

// Coefficients, dgamma, dbeta and exponents of channels 2 * part and the next.
__device__ __forceinline__ void coefficients(const BatchNormI8& p, const Sizes& s, u32 part, const Backward& t, u32* scratch) {
    __shared__ Lanes lanes;
    const u32 lane = threadIdx.x / SUM_CHANNELS, own = threadIdx.x % SUM_CHANNELS, channel = part * SUM_CHANNELS + own;
    const bool there = channel < p.pool.c;
    const double mean = there ? t.mean[channel] : 0.0, invstd = there ? t.invstd[channel] : 0.0;
    double sum = 0.0, dot = 0.0, r = 0.0, farthest_y = 0.0;
    if (lane < 32) {
        f32 low = __int_as_float(0x7f800000), high = -low, most = 0.f;
        const u32 per_image = s.pixels / BLOCK_ROWS;
        for (u32 tile = lane; tile < s.tiles; tile += 32) {
            const GradientSums g = t.sums[(u64)tile * s.stride + channel];
            const i32 e = t.dz_exponents[tile * s.across + channel / BLOCK_CHANNELS], ey = t.y_exponents[tile * s.across + channel / BLOCK_CHANNELS];
            add_sums(g, e, ey, sum, dot);
            if (s.whole) {
                const Extremes x = block_extremes(t.y_sums[(u64)tile * s.stride + channel], ey, g, e);
                most = fmaxf(most, __fmul_rn(x.gradient, power(t.input_exponents[tile / per_image])));
                low = fminf(low, x.low), high = fmaxf(high, x.high);
            }
        }
        if (!s.whole) {
            for (u32 n = lane; n < p.pool.n; n += 32) {
                const Extremes x = t.extremes[(u64)n * s.stride + channel];
                most = fmaxf(most, __fmul_rn(x.gradient, power(t.input_exponents[n])));
                low = fminf(low, x.low), high = fmaxf(high, x.high);
            }
        }
        r = most;
        if (low <= high) farthest_y = farthest(low, high, mean);
    }
    lanes.add(lane, own, sum, dot);
    __syncthreads();
    lanes.largest(lane, own, r, farthest_y);
    u32 largest = 0; // exponents of the input, + 128 so that they are not negative
    for (u32 n = threadIdx.x; n < p.pool.n; n += blockDim.x) largest = max(largest, (u32)(t.input_exponents[n] + 128));
    largest = block_max(largest, scratch);
    if (warp_id() != 0) return;
    f32* f = coef_f32(t.coef, s.stride);
    const Coefficients of(sum, dot, s.rows, there ? (double)t.gamma[channel] : 0.0, mean, invstd);
    const double shift = fabs((double)of.a * of.m1);
    const double bound = (fabs((double)of.a) * r + (fabs((double)of.b) * farthest_y + shift) * power_f64((i32)largest - 128)) * (1.0 + 1.0 / 1024.0);
    if (lane != 0) return;
    t.coef[channel] = there ? shift : 0.0;
    f[channel] = there ? of.a : 0.f, f[s.stride + channel] = there ? of.b : 0.f, f[2 * s.stride + channel] = there ? of.d : 0.f;
    if (!there) return;
    t.dgamma[channel] = (f32)of.u;
    t.dbeta[channel] = (f32)sum;
    t.dyw_exponents[channel] = (i8)exponent_of(magnitude((f32)bound));
}

// Coefficients, then both roundings of dY. Blocks of 256: where blocks of rows span images padded channels / 32 for the extremes of each image, then padded channels / 2 for the
// coefficients, then `parts` for each image.
extern "C" __global__ void __launch_bounds__(256) batchnorm_bwd_i8(
    const __grid_constant__ BatchNormI8 p, const i8* __restrict__ dz, const i8* __restrict__ dz_exponents, const GradientSums* __restrict__ sums,
    const i8* __restrict__ y, const i8* __restrict__ y_exponents, const OutputSums* __restrict__ y_sums, const f32* __restrict__ gamma, const f32* __restrict__ mean,
    const f32* __restrict__ invstd, const i8* __restrict__ weight_exponents, const i8* __restrict__ input_exponents, Extremes* extremes, f32* __restrict__ dgamma,
    f32* __restrict__ dbeta, double* coef, const u32* __restrict__ step, i8* __restrict__ dyd, i8* __restrict__ dyd_exponents, i8* __restrict__ dyw,
    i8* dyw_exponents, u32* tickets, u32 parts) {
    __shared__ u32 scratch[32];
    const Sizes s(p);
    const Phases phases = {tickets};
    const u32 across = div_up(s.stride, 32), first = s.whole ? 0 : across * p.pool.n, second = s.stride / SUM_CHANNELS;
    u32 number = phases.begin();
    if (number < first) {
        image_extremes(s, number / across, number % across, dz, dz_exponents, y, y_exponents, extremes);
        phases.done(1);
        return phases.end();
    }
    number -= first;
    if (number < second) {
        if (!s.whole) phases.wait(1, first);
        coefficients(p, s, number, {dz_exponents, sums, y_exponents, y_sums, gamma, mean, invstd, input_exponents, extremes, dgamma, dbeta, coef, dyw_exponents}, scratch);
        phases.done(2);
        return phases.end();
    }
    phases.wait(2, second);
    const u32 n = (number - second) / parts, part = (number - second) % parts, groups = s.stride / 8, count = s.pixels * groups, now = *step, c = p.pool.c;
    const f32* f = coef_f32(coef, s.stride);
    i32 e = 0;
    if (p.dgrad) {
        u32 bits = 0;
        const u32 tiles = s.pixels / BLOCK_ROWS;
        for (u32 channel = threadIdx.x; channel < c; channel += blockDim.x) {
            Extremes x;
            if (s.whole) {
                for (u32 t = 0; t < tiles; t++) {
                    const u32 tile = n * tiles + t, block = tile * s.across + channel / BLOCK_CHANNELS;
                    const Extremes o = block_extremes(y_sums[(u64)tile * s.stride + channel], y_exponents[block], sums[(u64)tile * s.stride + channel], dz_exponents[block]);
                    x.low = t ? fminf(x.low, o.low) : o.low, x.high = t ? fmaxf(x.high, o.high) : o.high, x.gradient = t ? fmaxf(x.gradient, o.gradient) : o.gradient;
                }
            } else {
                x = extremes[(u64)n * s.stride + channel];
            }
            const double a = fabs((double)f[channel]), b = fabs((double)f[s.stride + channel]);
            const double bound = (a * (double)x.gradient + (b * farthest(x.low, x.high, mean[channel]) + coef[channel])) * (1.0 + 1.0 / 1024.0);
            bits = max(bits, magnitude((f32)(power_f64(weight_exponents[channel]) * bound)));
        }
        e = exponent_of(block_max(bits, scratch));
        if (part == 0 && threadIdx.x == 0) dyd_exponents[n] = (i8)e;
    }
    const f32 x = power(input_exponents[n]), sample = power(21 - e);
    const u32 fill = fill_of(p.noise);
    const u32 start = part * blockDim.x + threadIdx.x, pace = parts * blockDim.x;
    const bool same = pace % groups == 0; // a thread has the same channels every time
    f32 a[8], b[8], d[8], to_w[8], to_d[8];
    for (u32 i = start; i < count; i += pace) {
        const u32 channel = i % groups * 8, row = n * s.pixels + i / groups, block = row / BLOCK_ROWS * s.across + channel / BLOCK_CHANNELS;
        const u32 at = row * s.stride + channel;
        f32 v[8], z[8], w[8];
        From8(dz_exponents[block]).eight(*(const uint2*)(dz + at), z, fill), From8(y_exponents[block]).eight(*(const uint2*)(y + at), w, fill);
        if (i == start || !same) {
            coef8(f + channel, a), coef8(f + s.stride + channel, b), coef8(f + 2 * s.stride + channel, d);
#pragma unroll
            for (u32 j = 0; j < 8; j++) {
                const bool there = channel + j < c;
                to_w[j] = there ? __fmul_rn(power(21 - dyw_exponents[channel + j]), x) : 0.f;
                to_d[j] = there && p.dgrad ? __fmul_rn(power(weight_exponents[channel + j]), sample) : 0.f;
            }
        }
#pragma unroll
        for (u32 j = 0; j < 8; j++) v[j] = __fmaf_rn(a[j], z[j], __fmaf_rn(b[j], w[j], d[j]));
        put_gradient(v, to_w, operand_noise(p.noise, p.noise.tensor, at / 8, now), fill, p.wide, dyw, at, (u64)s.rows * s.stride);
        if (!p.dgrad) continue;
        put_gradient(v, to_d, operand_noise(p.noise, p.dyd_tensor, at / 8, now), fill, 0, dyd, at, 0);
    }
    phases.end();
}
