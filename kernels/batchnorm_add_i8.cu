// batchnorm + addition + ReLU in 8 bits, at the end of a residual block: what is added is a stream, or a second batchnorm (formulas in src/backend/int8.rs).
//
// forward   First blocks: statistics, of both batchnorms where there are two. Then one pass over blocks of 64 x 32: normalise, add, ReLU, 16 bits, a bit for each element that the ReLU
//           lets through, and the largest value of each image; 1 B and 2 B (two batchnorms: 1 B) read, 2 1/8 B written. Where convolutions read the sum, a last pass rounds it to their
//           operand: 2 B read, from L2 where it holds them, 1 B written.
// gradient  ReLU mask on what comes from behind, up to two tensors; stored in blocks with sums for each batchnorm, and in 16 bits for the stream: 1 1/8 B of mask and y and 1 to 4 B of
//           each gradient read, 1 B and 2 B written.
#include "batchnorm_i8.cuh"

// rust: crate::ops::batchnorm_add::BatchNormAddI8
struct BatchNormAddI8 {
    u32 n, pixels, c;
    f32 eps[2], momentum[2];
    u32 relu, both, other, form, operand;
    Noise noise;
};

// rust: crate::ops::batchnorm_add::BatchNormAddGradI8
struct BatchNormAddGradI8 {
    u32 rows, c, relu, both, up, add, more, stream;
    Noise noise;
};

// Raises the largest value of each image by those of a block of rows, as they are in 16 bits. A thread has `bits` of row `row`, the block's largest is `all`.
__device__ __forceinline__ void raise_images(const Sizes& s, u32 row, u32 bits, u32 all, u32* largest) {
    const u32 first = row / BLOCK_ROWS * BLOCK_ROWS, last = min(first + BLOCK_ROWS, s.rows) - 1;
    if (first / s.pixels == last / s.pixels) {
        if (threadIdx.x == 0) atomicMax(largest + first / s.pixels, all);
        return;
    }
    // Whose largest value is not the block's may be rounded up to the next power of two, which counts.
    const i32 e = exponent_of(all);
    bits = __float_as_uint(__fmul_rn(__int2float_rn(round_even(fminf(__fmul_rn(__uint_as_float(bits), power(14 - e)), 32767.f))), power(e - 14)));
    // A warp has eight rows.
    const u32 top = row / 8 * 8, bottom = min(top + 8, s.rows) - 1;
    if (top / s.pixels == bottom / s.pixels) {
        bits = __reduce_max_sync(FULL_WARP, bits);
        if (lane_id() == 0) atomicMax(largest + top / s.pixels, bits);
        return;
    }
#pragma unroll
    for (u32 d = 1; d < 4; d <<= 1) bits = max(bits, __shfl_xor_sync(FULL_WARP, bits, d));
    if (lane_id() % 4 == 0 && row < s.rows) atomicMax(largest + row / s.pixels, bits);
}

// Statistics, then the sum, then the operand. Blocks of 256: padded channels / 2 for the statistics of each batchnorm, then `work` of at least one, each with one block of the tensor after
// the other, a thread with eight channels of a row; then, where an operand is wanted, `parts` for each image.
extern "C" __global__ void __launch_bounds__(256) batchnorm_add_fwd_i8(
    const __grid_constant__ BatchNormAddI8 p, const i8* __restrict__ y, const i8* __restrict__ y_exponents, const OutputSums* __restrict__ sums,
    const f32* __restrict__ gamma, const f32* __restrict__ beta, f32* __restrict__ running_mean, f32* __restrict__ running_var, f32* __restrict__ mean,
    f32* __restrict__ invstd, f32* affine, const void* __restrict__ other, const i8* __restrict__ other_exponents, const OutputSums* __restrict__ other_sums,
    const f32* __restrict__ other_gamma, const f32* __restrict__ other_beta, f32* __restrict__ other_running_mean, f32* __restrict__ other_running_var,
    f32* __restrict__ other_mean, f32* __restrict__ other_invstd, f32* other_affine, const u32* __restrict__ step, void* out, i8* out_exponents,
    u8* __restrict__ mask, i8* __restrict__ operand, i8* __restrict__ operand_exponents, u32* largest, u32* tickets, u32 work, u32 parts) {
    __shared__ u32 scratch[32];
    const Sizes s(p.n, p.pixels, p.c);
    const Phases phases = {tickets};
    const u32 each = s.stride / SUM_CHANNELS, first = each << p.both;
    u32 number = phases.begin();
    if (number < first) {
        if (number == 0 && p.operand) {
            for (u32 n = threadIdx.x; n < p.n; n += blockDim.x) largest[n] = 0;
        }
        const bool second = number >= each;
        const State state = {
            second ? other_gamma : gamma, second ? other_beta : beta, second ? other_running_mean : running_mean, second ? other_running_var : running_var,
            second ? other_mean : mean, second ? other_invstd : invstd, second ? other_affine : affine};
        statistics(
            p.c, second ? p.eps[1] : p.eps[0], second ? p.momentum[1] : p.momentum[0], s, number - (second ? each : 0), second ? other_exponents : y_exponents,
            second ? other_sums : sums, state);
        phases.done(1);
        return phases.end();
    }
    phases.wait(1, first);
    number -= first;
    if (number < work) {
        const bool same = work % s.across == 0; // a thread has the same channels every time
        const RowPlace place;
        f32 a[8], b[8], other_a[8], other_b[8];
        for (u32 block = number; block < s.tiles * s.across; block += work) {
            const u32 tile = block / s.across, row = tile * BLOCK_ROWS + place.row, channel = (block - tile * s.across) * BLOCK_CHANNELS + place.channel;
            const bool there = row < s.rows && channel < s.stride;
            if (block == number || !same) {
                const u32 from = channel < s.stride ? channel : 0; // channels behind the last one are nobody's
                coef8(affine + from, a), coef8(affine + s.stride + from, b);
                if (p.both) coef8(other_affine + from, other_a), coef8(other_affine + s.stride + from, other_b);
            }
            f32 v[8] = {0.f, 0.f, 0.f, 0.f, 0.f, 0.f, 0.f, 0.f};
            u32 bits = 0;
            if (there) {
                const u32 at = row * s.stride + channel;
                f32 w[8];
                From8(y_exponents[block]).eight(*(const uint2*)(y + at), w);
                load8(p.both ? FORM_STORED : p.other, other, other_exponents, row, channel, p.c, v);
                u32 through = 0;
#pragma unroll
                for (u32 j = 0; j < 8; j++) {
                    const f32 z = __fmaf_rn(a[j], w[j], b[j]);
                    if (p.both) v[j] = __fmaf_rn(other_a[j], v[j], other_b[j]);
                    v[j] = __fadd_rn(z, v[j]);
                    const bool positive = v[j] > 0.f;
                    through |= (u32)positive << j;
                    v[j] = positive || !p.relu ? v[j] : 0.f;
                    bits = max(bits, magnitude(v[j]));
                }
                if (p.relu) mask[at / 8] = (u8)through;
            }
            const u32 all = put_stream(p.form, out, out_exponents, p.c, block, row, channel, there, bits, v, scratch);
            if (p.operand) raise_images(s, row, bits, all, largest);
        }
        phases.done(2);
        return phases.end();
    }
    phases.wait(2, work);
    number -= work;
    const u32 n = number / parts, part = number % parts, groups = s.stride / 8, count = s.pixels * groups, now = *step;
    const i32 e = exponent_of(largest[n]);
    if (part == 0 && threadIdx.x == 0) operand_exponents[n] = (i8)e;
    const f32 scale = power(21 - e);
    const u32 fill = fill_of(p.noise);
    for (u32 i = part * blockDim.x + threadIdx.x; i < count; i += parts * blockDim.x) {
        const u32 row = n * s.pixels + i / groups, channel = i % groups * 8, at = row * s.stride + channel;
        f32 v[8];
        load8(FORM_BFP16, out, out_exponents, row, channel, p.c, v);
        put_operand(v, scale, operand_noise(p.noise, p.noise.tensor, at / 8, now), fill, operand + at);
    }
    phases.end();
}

// dZ of the batchnorms and the gradient of the stream. Blocks of 256, one for each block of the tensor, in their order.
extern "C" __global__ void __launch_bounds__(256) batchnorm_add_grad_i8(
    const __grid_constant__ BatchNormAddGradI8 p, const void* __restrict__ up, const i8* __restrict__ up_exponents, const void* __restrict__ more,
    const i8* __restrict__ more_exponents, const u8* __restrict__ mask, const i8* __restrict__ y, const i8* __restrict__ other_y, const u32* __restrict__ step,
    i8* __restrict__ dz, i8* __restrict__ dz_exponents, GradientSums* __restrict__ sums, GradientSums* __restrict__ other_sums, u16* __restrict__ dx,
    i8* __restrict__ dx_exponents) {
    __shared__ RowScratch scratch;
    const RowPlace place;
    const u32 stride = pad16(p.c), across = div_up(stride, BLOCK_CHANNELS), tile = blockIdx.x / across, column = blockIdx.x - tile * across;
    const u32 row = tile * BLOCK_ROWS + place.row, channel = column * BLOCK_CHANNELS + place.channel;
    const bool there = row < p.rows && channel < stride;
    const u64 at = (u64)row * stride + channel;
    f32 v[8] = {0.f, 0.f, 0.f, 0.f, 0.f, 0.f, 0.f, 0.f};
    uint2 ys = make_uint2(0, 0), other_ys = ys, q;
    if (there) {
        Behind{p.up, up, up_exponents, p.add, p.more, more, more_exponents}(row, channel, p.c, v);
        if (p.relu) {
            const u32 through = mask[at / 8];
#pragma unroll
            for (u32 j = 0; j < 8; j++) v[j] = through >> j & 1 ? v[j] : 0.f;
        }
        ys = *(const uint2*)(y + at);
        if (p.both) other_ys = *(const uint2*)(other_y + at);
    }
    const u32 bits = row_put(v, p.rows, stride, tile, column, across, p.noise, *step, dz, dz_exponents, scratch, q);
    if (p.stream) put_16(dx + at, dx_exponents, blockIdx.x, there, bits, v);
    i32 all[4];
    row_sums(q, ys, p.both, other_ys, scratch, all);
    const u32 own = column * BLOCK_CHANNELS + lane_id();
    if (warp_id() != 0 || own >= stride) return;
    const u64 to = (u64)tile * stride + own;
    sums[to] = GradientSums::of(all[0], all[2], all[3]);
    if (p.both) other_sums[to] = GradientSums::of(all[1], all[2], all[3]);
}
