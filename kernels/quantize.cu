// quantize: f32 tensors to block floating point and back, and what behind it says which exponent (src/ops/quantize.rs, formulas in src/backend/int8.rs).
//
// Images to operands: the block of an image finds its largest value, then rounds; the image comes from L2 the second time. Traffic per element: 8 B read (of 16 bits 4 B), 1 B written.
// Rows, or some of their channels, to stored tensors: a block per 64 x 32 block, 4 B read (of 16 bits 2 B), 1 B written, sums.
// Groups of f32 to the numbers of their grids, in place: a block per group, 8 B read (4 from L2) and 4 B written.
// Output gradients of convolutions without a batchnorm: first blocks largest values per image and channel, then exponents of channels, then a pass that rounds twice: 8 B read
// (of 16 bits 4 B), 2 B written.
#include "phases.cuh"
#include "stored.cuh"

// rust: crate::ops::quantize::Round
struct Round {
    u32 groups, length;
    Noise noise;
};
// rust: crate::ops::quantize::Quantize
struct Quantize {
    u32 n, pixels, c, form;
    Noise noise;
};
// rust: crate::ops::quantize::Dequantize
struct Dequantize {
    u32 n, pixels, c, stored;
};
// rust: crate::ops::quantize::Store
struct Store {
    u32 rows, c, form, select, from;
    Noise noise;
};
// rust: crate::ops::quantize::QuantizeGradient
struct QuantizeGradient {
    u32 n, pixels, k, dgrad, form;
    Noise noise;
    u32 dyd_tensor, wide;
};

// Groups of f32 to their grids: a block of whole warps per group.
extern "C" __global__ void __launch_bounds__(256) quantize_round_i8(
    const __grid_constant__ Round p, const u32* __restrict__ step, f32* __restrict__ x) {
    __shared__ u32 scratch[32];
    const u32 first = blockIdx.x * p.length, end = first + p.length, now = *step;
    u32 bits = 0;
    for (u32 i = first + threadIdx.x; i < end; i += blockDim.x) bits = max(bits, magnitude(x[i]));
    const Grid grid(block_max(bits, scratch));
    // A thread takes whole groups of eight of the noise, of which the first and the last may belong to neighbours in part.
    for (u32 at = (first & ~7u) + threadIdx.x * 8; at < end; at += blockDim.x * 8) {
        const Philox noise = operand_noise(p.noise, p.noise.tensor, at / 8, now);
#pragma unroll
        for (u32 j = 0; j < 8; j++) {
            const u32 i = at + j;
            if (i >= first && i < end) x[i] = grid(x[i], noise[j]);
        }
    }
}

// Images to an operand: a block per image.
extern "C" __global__ void __launch_bounds__(256) quantize_fwd_i8(
    const __grid_constant__ Quantize p, const void* __restrict__ x, const i8* __restrict__ x_exponents, const u32* __restrict__ step, i8* __restrict__ q,
    i8* __restrict__ exponents) {
    __shared__ u32 scratch[32];
    const u32 n = blockIdx.x, stride = pad16(p.c), image = p.pixels * stride, length = p.pixels * p.c;
    u32 bits = 0;
    if (p.form == FORM_F32) {
        for (u32 i = threadIdx.x; i < length; i += blockDim.x) bits = max(bits, magnitude(((const f32*)x)[(u64)n * length + i]));
    } else {
        for (u32 at = threadIdx.x * 8; at < image; at += blockDim.x * 8) {
            f32 v[8];
            load8(p.form, x, x_exponents, n * p.pixels + at / stride, at % stride, p.c, v);
#pragma unroll
            for (u32 j = 0; j < 8; j++) bits = max(bits, magnitude(v[j]));
        }
    }
    const i32 e = exponent_of(block_max(bits, scratch));
    if (threadIdx.x == 0) exponents[n] = (i8)e;
    const f32 scale = power(21 - e);
    const u32 now = *step, fill = fill_of(p.noise);
    for (u32 at = threadIdx.x * 8; at < image; at += blockDim.x * 8) {
        const u32 index = n * image + at;
        const Philox noise = operand_noise(p.noise, p.noise.tensor, index / 8, now);
        f32 v[8];
        load8(p.form, x, x_exponents, n * p.pixels + at / stride, at % stride, p.c, v);
        put_operand(v, scale, noise, fill, q + index);
    }
}

// Operand or tensor in blocks, of 8 or 16 bits, to f32. Any grid.
extern "C" __global__ void __launch_bounds__(256) dequantize_fwd_i8(
    const __grid_constant__ Dequantize p, const void* __restrict__ q, const i8* __restrict__ exponents, f32* __restrict__ x) {
    const u32 stride = pad16(p.c), across = div_up(stride, BLOCK_CHANNELS), count = p.n * p.pixels * p.c;
    for (u32 i = thread_index(); i < count; i += thread_count()) {
        const u32 row = i / p.c, channel = i % p.c;
        const u32 block = p.stored ? row / BLOCK_ROWS * across + channel / BLOCK_CHANNELS : row / p.pixels;
        const u64 at = (u64)row * stride + channel;
        const bool wide = p.stored == FORM_BFP16;
        x[i] = __fmul_rn(__int2float_rn(wide ? (i32)((const short*)q)[at] : (i32)((const i8*)q)[at]), power(exponents[block] - (wide ? 14 : 6)));
    }
}

// Rows, or the channels of them that an index names, to a stored tensor with its sums. Blocks of 256, one for each block of the tensor, in their order.
extern "C" __global__ void __launch_bounds__(256) quantize_store_i8(
    const __grid_constant__ Store p, const void* __restrict__ x, const i8* __restrict__ x_exponents, const u32* __restrict__ index, const u32* __restrict__ step,
    i8* __restrict__ q, i8* __restrict__ exponents, OutputSums* __restrict__ sums) {
    __shared__ StoredScratch scratch;
    const StoredPlace place;
    const u32 stride = pad16(p.c), across = div_up(stride, BLOCK_CHANNELS), tile = blockIdx.x / across, column = blockIdx.x - tile * across;
    const u32 first = tile * BLOCK_ROWS + place.row, channel = column * BLOCK_CHANNELS + place.channel;
    f32 values[4][2];
    if (p.form == FORM_BFP16 && !p.select) { // blocks of both are the same
        const From16 from(x_exponents[blockIdx.x]);
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            const bool there = first + 8 * i < p.rows && channel < stride;
            from(there ? *(const u32*)((const u16*)x + (u64)(first + 8 * i) * stride + channel) : 0u, values[i][0], values[i][1]);
        }
    } else {
        const u32 read = p.select ? p.from : p.c, wide = p.form == FORM_F32 ? read : pad16(read);
#pragma unroll
        for (u32 j = 0; j < 2; j++) {
            const bool there = channel + j < p.c;
            const u32 own = !there ? 0 : p.select ? index[channel + j] : channel + j;
            const u64 at = (u64)first * wide + own, pace = 8 * wide;
            if (p.form == FORM_F32) {
                const f32* from = (const f32*)x + at;
#pragma unroll
                for (u32 i = 0; i < 4; i++, from += pace) values[i][j] = there && first + 8 * i < p.rows ? *from : 0.f;
                continue;
            }
            const f32 scale = power(x_exponents[tile * div_up(wide, BLOCK_CHANNELS) + own / BLOCK_CHANNELS] - 14);
            const short* from = (const short*)x + at;
#pragma unroll
            for (u32 i = 0; i < 4; i++, from += pace) values[i][j] = there && first + 8 * i < p.rows ? __fmul_rn(__int2float_rn(*from), scale) : 0.f;
        }
    }
    i32 m[4][2], s[2][4];
    stored_put(values, p.rows, stride, tile, column, across, p.noise, *step, q, exponents, scratch.warps, m);
#pragma unroll
    for (u32 j = 0; j < 2; j++) {
        s[j][0] = s[j][1] = 0, s[j][2] = BFP_MAX, s[j][3] = -BFP_MAX;
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            if (first + 8 * i >= p.rows) continue;
            s[j][0] += m[i][j] * m[i][j], s[j][1] += m[i][j];
            s[j][2] = min(s[j][2], m[i][j]), s[j][3] = max(s[j][3], m[i][j]);
        }
    }
    i32 all[4];
    stored_reduce(s, scratch.parts, [](u32 m, i32 a, i32 b) { return m < 2 ? a + b : m == 2 ? min(a, b) : max(a, b); }, all);
    const u32 own = column * BLOCK_CHANNELS + lane_id();
    if (warp_id() == 0 && own < stride) sums[(u64)tile * stride + own] = OutputSums::of(all[0], all[1], all[2], all[3]);
}

// largest[n][k] = max |dy| of image n and 32 channels from `column` * 32 on.
__device__ __forceinline__ void image_largest(const QuantizeGradient& p, u32 n, u32 column, const void* __restrict__ dy, const i8* __restrict__ dy_exponents, f32* largest) {
    __shared__ u32 scratch[8][32];
    const u32 channel = column * 32 + lane_id();
    if (p.form == FORM_F32) {
        u32 bits = 0;
        if (channel < p.k) {
            for (u32 pixel = warp_id(); pixel < p.pixels; pixel += 8) bits = max(bits, magnitude(((const f32*)dy)[((u64)n * p.pixels + pixel) * p.k + channel]));
        }
        scratch[warp_id()][lane_id()] = bits;
    } else { // eight channels of every eighth row
        const u32 own = lane_id() % 4 * 8;
        f32 most[8] = {0.f, 0.f, 0.f, 0.f, 0.f, 0.f, 0.f, 0.f};
        if (column * 32 + own < pad16(p.k)) {
            for (u32 pixel = warp_id() * 8 + lane_id() / 4; pixel < p.pixels; pixel += 64) {
                f32 v[8];
                load8(FORM_BFP16, dy, dy_exponents, n * p.pixels + pixel, column * 32 + own, p.k, v);
#pragma unroll
                for (u32 j = 0; j < 8; j++) most[j] = fmaxf(most[j], fabsf(v[j]));
            }
        }
#pragma unroll
        for (u32 j = 0; j < 8; j++) {
#pragma unroll
            for (u32 d = 4; d < 32; d <<= 1) most[j] = fmaxf(most[j], __shfl_xor_sync(FULL_WARP, most[j], d));
            scratch[warp_id()][own + j] = __float_as_uint(most[j]); // the same from all lanes of a channel
        }
    }
    __syncthreads();
    if (warp_id() != 0 || channel >= p.k) return;
    u32 bits = 0;
#pragma unroll
    for (u32 w = 0; w < 8; w++) bits = max(bits, scratch[w][lane_id()]);
    largest[(u64)n * p.k + channel] = __uint_as_float(bits);
}

// Largest values, exponents, then both roundings. Blocks of 256: channels / 32 for the largest values of each image, then channels / 8 for the exponents, a warp for each, then `parts`
// for each image.
extern "C" __global__ void __launch_bounds__(256) quantize_bwd_i8(
    const __grid_constant__ QuantizeGradient p, const void* __restrict__ dy, const i8* __restrict__ dy_exponents, f32* largest,
    const i8* __restrict__ weight_exponents, const i8* __restrict__ input_exponents, const u32* __restrict__ step, i8* __restrict__ dyd,
    i8* __restrict__ dyd_exponents, i8* __restrict__ dyw, i8* dyw_exponents, u32* tickets, u32 parts) {
    __shared__ u32 scratch[32];
    const Phases phases = {tickets};
    const u32 across = div_up(p.k, 32), first = across * p.n, second = div_up(p.k, 8);
    u32 number = phases.begin();
    if (number < first) {
        image_largest(p, number / across, number % across, dy, dy_exponents, largest);
        phases.done(1);
        return phases.end();
    }
    number -= first;
    if (number < second) {
        phases.wait(1, first);
        const u32 k = number * 8 + warp_id();
        if (k < p.k) {
            u32 bits = 0;
            for (u32 n = lane_id(); n < p.n; n += 32) bits = max(bits, magnitude(__fmul_rn(largest[(u64)n * p.k + k], power(input_exponents[n]))));
            bits = __reduce_max_sync(FULL_WARP, bits);
            if (lane_id() == 0) dyw_exponents[k] = (i8)exponent_of(bits);
        }
        phases.done(2);
        return phases.end();
    }
    phases.wait(2, second);
    const u32 n = (number - second) / parts, part = (number - second) % parts, stride = pad16(p.k), image = p.pixels * stride, groups = stride / 8, now = *step;
    i32 e = 0;
    if (p.dgrad) {
        u32 bits = 0;
        for (u32 k = threadIdx.x; k < p.k; k += blockDim.x) bits = max(bits, magnitude(__fmul_rn(largest[(u64)n * p.k + k], power(weight_exponents[k]))));
        e = exponent_of(block_max(bits, scratch));
        if (part == 0 && threadIdx.x == 0) dyd_exponents[n] = (i8)e;
    }
    const f32 x = power(input_exponents[n]), sample = power(21 - e);
    const u32 fill = fill_of(p.noise);
    const u32 start = (part * blockDim.x + threadIdx.x) * 8, pace = parts * blockDim.x * 8;
    const bool same = pace / 8 % groups == 0; // a thread has the same channels every time
    const u32 rows = pace / stride; // that it goes down each time if so
    u32 row = 0, channel = 0;
    f32 to_w[8], to_d[8];
    for (u32 at = start; at < image; at += pace, row += rows) {
        const u32 index = n * image + at;
        if (at == start || !same) {
            row = n * p.pixels + at / stride, channel = at % stride;
#pragma unroll
            for (u32 j = 0; j < 8; j++) {
                const bool there = channel + j < p.k;
                to_w[j] = there ? __fmul_rn(power(21 - dyw_exponents[channel + j]), x) : 0.f;
                to_d[j] = there && p.dgrad ? __fmul_rn(power(weight_exponents[channel + j]), sample) : 0.f;
            }
        }
        f32 v[8];
        load8(p.form, dy, dy_exponents, row, channel, p.k, v);
        put_gradient(v, to_w, operand_noise(p.noise, p.noise.tensor, index / 8, now), fill, p.wide, dyw, index, (u64)p.n * image);
        if (!p.dgrad) continue;
        put_gradient(v, to_d, operand_noise(p.noise, p.dyd_tensor, index / 8, now), fill, 0, dyd, index, 0);
    }
    phases.end();
}
