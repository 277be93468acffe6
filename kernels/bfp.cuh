// Block floating point with mantissas of 8 and 16 bits, and its random bits: the device side of src/quant, which is the specification. Bit by bit the same.
// Not here: integer GEMMs (conv2d_i8.cuh), blocks on their way into a stored tensor (stored.cuh).
#pragma once
#include "philox.cuh"

#define BFP_MAX 127
#define BLOCK_ROWS 64
#define BLOCK_CHANNELS 32

// rust: crate::ops::quantize::Noise
struct Noise {
    u32 seed[2];
    u32 tensor;
    u32 stochastic; // 0: to nearest
};

// Bytes that prmt puts beside those that it picks: 0x80, 0, 0, and the exponent 0x4b of 2^23. Made of a parameter whose first bit is 0, which compilers do not know: a constant would take the
// place of the immediate that says which bytes, and that would be moved to a register each time.
__device__ __forceinline__ u32 fill_of(const Noise& noise) { return 0x4b000080u | noise.stochastic >> 31; }
constexpr u32 FILL = 0x4b000080u; // where it is not worth while

__device__ __forceinline__ u32 pad16(u32 channels) { return (channels + 15u) & ~15u; }

// 2^e, -126 <= e <= 127.
__device__ __forceinline__ f32 power(i32 e) { return __uint_as_float((u32)(e + 127) << 23); }

// Exponent of a block whose largest absolute value has these bits.
__device__ __forceinline__ i32 exponent_of(u32 bits) { return min(max((i32)(bits >> 23) - 127, -48), 47); }
__device__ __forceinline__ u32 magnitude(f32 v) { return __float_as_uint(v) & 0x7fffffffu; }

// Added to |v| < 2^22, leaves the nearest integer, halves to even, in the last bits of the sum.
constexpr f32 NEAREST = 12582912.f; // 1.5 * 2^23
__device__ __forceinline__ i32 round_even(f32 v) { return __float_as_int(__fadd_rn(v, NEAREST)) - 0x4b400000; }

// How the numbers of a stored block are rounded: stochastic, or to nearest even. `bits` are those of the block's largest absolute value, `e` is its exponent. An fma leaves
// rne(v * 2^(21-e)) in the last bits of a float; twice that and 16 bits of noise, of which rounding takes the upper 15, have the mantissa in byte 2.
struct StoredRounding {
    f32 scale, unit;
    bool stochastic, plain; // plain: numbers need not go through `before`
    __device__ __forceinline__ StoredRounding(u32 bits, i32 e, u32 stochastic)
        : scale(power(21 - e)), unit(power(e - 6)), stochastic(stochastic != 0), plain(stochastic && __uint_as_float(bits) <= __fmul_rn(unit, BFP_MAX)) {}
    // Clips, and rounds to nearest; where rounding is stochastic, that is left.
    __device__ __forceinline__ f32 before(f32 v) const {
        const f32 limit = __fmul_rn(unit, BFP_MAX), nearest = __fmul_rn(unit, NEAREST);
        v = fminf(fmaxf(v, -limit), limit);
        return stochastic ? v : __fsub_rn(__fadd_rn(v, nearest), nearest);
    }
    __device__ __forceinline__ f32 ready(f32 v) const { return plain ? v : before(v); }
    // Of what is `ready`. `noise`: of Philox::stored; of zeros where rounding is to nearest.
    __device__ __forceinline__ u32 operator()(f32 v, u32 noise) const { return (__float_as_uint(__fmaf_rn(v, scale, NEAREST)) << 1) + noise; }
};
// Byte N of four words, that of the first lowest.
template <u32 N> __device__ __forceinline__ u32 pack_bytes(u32 a, u32 b, u32 c, u32 d) {
    constexpr u32 pair = N + 4 << 4 | N;
    return __byte_perm(__byte_perm(a, b, pair), __byte_perm(c, d, pair), 0x5410);
}
// Mantissas of four results.
__device__ __forceinline__ u32 pack_rounded(u32 a, u32 b, u32 c, u32 d) { return pack_bytes<2>(a, b, c, d); }

// Mantissa of an operand's value that was scaled by 2^(21-e).
__device__ __forceinline__ i32 round_scaled(f32 scaled, u32 noise) {
    const f32 limit = (f32)(BFP_MAX << 15);
    return (round_even(fminf(fmaxf(scaled, -limit), limit)) + (i32)noise) >> 15;
}

// Mantissa of an operand's value, where StoredRounding has it. `scale`, a power of two, makes units of 2^-15 of it; `noise`: of Philox::stored.
__device__ __forceinline__ u32 round_operand(f32 v, f32 scale, u32 noise) {
    constexpr f32 limit = BFP_MAX << 15;
    return (__float_as_uint(fminf(fmaxf(__fmaf_rn(v, scale, NEAREST), NEAREST - limit), NEAREST + limit)) << 1) + noise;
}

// 16-bit mantissa of the same: a bit of the format's 8 is 256 of it. In -32639..=32639, so that both halves of it are signed bytes. The low half in byte 2; the high half, rounded, in
// byte 3; both with their first bit turned.
constexpr i32 WIDE_MAX = 127 * 256 + 127;
__device__ __forceinline__ u32 round_wide(f32 v, f32 scale, u32 noise) {
    constexpr f32 limit = WIDE_MAX << 7;
    return (__float_as_uint(fminf(fmaxf(__fmaf_rn(v, scale, NEAREST), NEAREST - limit), NEAREST + limit)) << 9) + noise;
}

// Forms of a tensor that f32 and 8-bit operators both know: crate::ops::quantize::Form.
enum Form { FORM_F32, FORM_STORED, FORM_BFP16 };

// Numbers of pairs of 16-bit mantissas in a block of exponent `e`. A mantissa and 2^15 go behind the exponent of 2^23: one fma takes both off again and scales, exactly.
struct From16 {
    f32 scale, shift;
    __device__ __forceinline__ explicit From16(i32 e) : scale(power(e - 14)), shift(-8421376.f * scale) {}
    __device__ __forceinline__ void operator()(u32 pair, f32& low, f32& high) const {
        pair ^= 0x80008000u;
        low = __fmaf_rn(__uint_as_float(__byte_perm(pair, 0x4b000000u, 0x7610)), scale, shift);
        high = __fmaf_rn(__uint_as_float(__byte_perm(pair, 0x4b000000u, 0x7632)), scale, shift);
    }
};

// Pairs of 16-bit mantissas, to nearest even, in a block whose largest absolute value has these bits and exponent `e`. CLIPS: whether a number of the block may be clipped; `clips` says so.
struct To16 {
    f32 scale;
    bool clips;
    __device__ __forceinline__ To16(u32 bits, i32 e) : scale(power(14 - e)), clips(!(__fmul_rn(__uint_as_float(bits), scale) < 32767.5f)) {}
    template <bool CLIPS> __device__ __forceinline__ u32 pair(f32 low, f32 high) const {
        if (!CLIPS) return __byte_perm(__float_as_uint(__fmaf_rn(low, scale, NEAREST)), __float_as_uint(__fmaf_rn(high, scale, NEAREST)), 0x5410);
        low = fminf(fmaxf(__fmul_rn(low, scale), -32767.f), 32767.f), high = fminf(fmaxf(__fmul_rn(high, scale), -32767.f), 32767.f);
        return ((u32)round_even(low) & 0xffffu) | (u32)round_even(high) << 16;
    }
    __device__ __forceinline__ uint4 eight(const f32 (&v)[8]) const {
        if (clips) return make_uint4(pair<true>(v[0], v[1]), pair<true>(v[2], v[3]), pair<true>(v[4], v[5]), pair<true>(v[6], v[7]));
        return make_uint4(pair<false>(v[0], v[1]), pair<false>(v[2], v[3]), pair<false>(v[4], v[5]), pair<false>(v[6], v[7]));
    }
};

// Philox4x32-7 of (group, step, tensor, zero): eight 16-bit halfwords. `zero` is 0; where it comes out of other work, the compiler cannot start all calls at once, which
// would take more registers than there are.
struct Philox {
    u32 w[4];
    __device__ __forceinline__ Philox(u32 group, u32 step, u32 tensor, const u32 (&seed)[2], u32 zero = 0) {
        w[0] = group, w[1] = step, w[2] = tensor, w[3] = zero;
        philox4x32<7>(w, seed[0], seed[1]);
    }
    __device__ __forceinline__ Philox() {}
    // Halfword h for roundings, and what takes the float's exponent away from byte 2.
    __device__ __forceinline__ u32 stored(u32 h, u32 fill) const { return __byte_perm(w[h / 2], fill, h & 1 ? 0x5432 : 0x5410); }
    // Number of 15 bits for halfword h.
    __device__ __forceinline__ u32 operator[](u32 h) const { return h & 1 ? w[h / 2] >> 17 : (w[h / 2] & 0xffffu) >> 1; }
};

// Noise of the eight elements of a group of an operand; halves where rounding is to nearest.
__device__ __forceinline__ Philox operand_noise(const Noise& n, u32 tensor, u32 group, u32 step) {
    if (n.stochastic) return Philox(group, step, tensor, n.seed);
    Philox p;
    p.w[0] = p.w[1] = p.w[2] = p.w[3] = 0x80008000u;
    return p;
}

// What the numbers of a block may become, as f32; `bits` are those of the largest absolute value. QPyTorch's formula: crate::quant::bfp::Grid.
struct Grid {
    f32 base, limit;
    __device__ __forceinline__ explicit Grid(u32 bits) {
        const u32 field = bits & 0x7f800000u;
        const f32 s = __uint_as_float(field);
        base = field == 0 ? 6.f : field > 251u << 23 ? __uint_as_float(0x7fc00000u) : __fmul_rn(6.f, s);
        limit = __fmul_rn(s, BFP_MAX / 64.f);
    }
    __device__ __forceinline__ f32 operator()(f32 v, u32 noise) const {
        const f32 y = __fsub_rn(__uint_as_float((__float_as_uint(__fadd_rn(v, base)) + noise) & ~0x7fffu), base);
        return y > limit ? limit : y < -limit ? -limit : y;
    }
};

// Byte i of a word of mantissas.
__device__ __forceinline__ i32 mantissa(u32 word, u32 i) { return (i32)(word << (24 - 8 * i)) >> 24; }
__device__ __forceinline__ f32 mantissa_f32(u32 word, u32 i) { return __int2float_rn(mantissa(word, i)); }

// Numbers of 8-bit mantissas, four to a word, in a block of exponent `e`; as From16.
struct From8 {
    f32 scale, shift;
    __device__ __forceinline__ explicit From8(i32 e) : scale(power(e - 6)), shift(-8388736.f * scale) {}
    __device__ __forceinline__ f32 operator()(u32 word, u32 i, u32 fill = FILL) const {
        return __fmaf_rn(__uint_as_float(__byte_perm(word ^ 0x80808080u, fill, 0x7550 + i)), scale, shift);
    }
    __device__ __forceinline__ void eight(uint2 words, f32 (&v)[8], u32 fill = FILL) const {
#pragma unroll
        for (u32 j = 0; j < 8; j++) v[j] = (*this)(j < 4 ? words.x : words.y, j & 3, fill);
    }
};

// Eight neighbours of a row from `channel` (a multiple of 8, of a channel that the tensor has or pads) on, of a tensor of `c` channels in `form`; 0 behind the last channel.
__device__ __forceinline__ void load8(u32 form, const void* __restrict__ x, const i8* __restrict__ exponents, u32 row, u32 channel, u32 c, f32 (&v)[8]) {
    const u32 stride = pad16(c);
    if (form == FORM_F32) {
        const f32* from = (const f32*)x + (u64)row * c + channel;
        if (c % 4 == 0 && aligned16(x)) {
            const float4 zero = make_float4(0.f, 0.f, 0.f, 0.f), low = channel < c ? *(const float4*)from : zero, high = channel + 4 < c ? *(const float4*)(from + 4) : zero;
            v[0] = low.x, v[1] = low.y, v[2] = low.z, v[3] = low.w, v[4] = high.x, v[5] = high.y, v[6] = high.z, v[7] = high.w;
            return;
        }
#pragma unroll
        for (u32 j = 0; j < 8; j++) v[j] = channel + j < c ? from[j] : 0.f;
        return;
    }
    const i32 e = exponents[row / BLOCK_ROWS * div_up(stride, BLOCK_CHANNELS) + channel / BLOCK_CHANNELS];
    const u64 at = (u64)row * stride + channel;
    if (form == FORM_STORED) {
        From8(e).eight(*(const uint2*)((const i8*)x + at), v);
        return;
    }
    const uint4 m = load16((const u16*)x + at);
    const From16 from(e);
    from(m.x, v[0], v[1]), from(m.y, v[2], v[3]), from(m.z, v[4], v[5]), from(m.w, v[6], v[7]);
}

// The same of two neighbours from an even `channel` on.
__device__ __forceinline__ void load2(u32 form, const void* __restrict__ x, const i8* __restrict__ exponents, u32 row, u32 channel, u32 c, f32 (&v)[2]) {
    const u32 stride = pad16(c);
    if (form == FORM_F32) {
#pragma unroll
        for (u32 j = 0; j < 2; j++) v[j] = channel + j < c ? ((const f32*)x)[(u64)row * c + channel + j] : 0.f;
        return;
    }
    const i32 e = exponents[row / BLOCK_ROWS * div_up(stride, BLOCK_CHANNELS) + channel / BLOCK_CHANNELS];
    const u64 at = (u64)row * stride + channel;
    if (form == FORM_STORED) {
        const u32 m = *(const u16*)((const i8*)x + at);
        const From8 from(e);
        v[0] = from(m, 0), v[1] = from(m, 1);
        return;
    }
    const From16 from(e);
    from(*(const u32*)((const u16*)x + at), v[0], v[1]);
}

// Eight mantissas as they lie in memory.
__device__ __forceinline__ uint2 pack8(const i32 (&q)[8]) {
    uint2 r;
    r.x = (u32)(q[0] & 255) | (u32)(q[1] & 255) << 8 | (u32)(q[2] & 255) << 16 | (u32)q[3] << 24;
    r.y = (u32)(q[4] & 255) | (u32)(q[5] & 255) << 8 | (u32)(q[6] & 255) << 16 | (u32)q[7] << 24;
    return r;
}

// Rounds and writes eight neighbours of an operand; `scale(j)` makes units of 2^-15 of number j.
template <class F> __device__ __forceinline__ void put_operand(const f32 (&v)[8], F scale, const Philox& noise, u32 fill, i8* __restrict__ to) {
    u32 m[8];
#pragma unroll
    for (u32 j = 0; j < 8; j++) m[j] = round_operand(v[j], scale(j), noise.stored(j, fill));
    *(uint2*)to = make_uint2(pack_rounded(m[0], m[1], m[2], m[3]), pack_rounded(m[4], m[5], m[6], m[7]));
}
__device__ __forceinline__ void put_operand(const f32 (&v)[8], f32 scale, const Philox& noise, u32 fill, i8* __restrict__ to) {
    put_operand(v, [&](u32) { return scale; }, noise, fill, to);
}

// The same to `to` + at. `wide`: to 16 bits, high bytes there and low bytes `low` bytes behind them.
__device__ __forceinline__ void put_gradient(const f32 (&v)[8], const f32 (&scale)[8], const Philox& noise, u32 fill, u32 wide, i8* __restrict__ to, u32 at, u64 low) {
    if (!wide) return put_operand(v, [&](u32 j) { return scale[j]; }, noise, fill, to + at);
    u32 m[8];
#pragma unroll
    for (u32 j = 0; j < 8; j++) m[j] = round_wide(v[j], scale[j], noise.stored(j, fill));
    constexpr u32 turned = 0x80808080u;
    *(uint2*)(to + at) = make_uint2(pack_bytes<3>(m[0], m[1], m[2], m[3]) ^ turned, pack_bytes<3>(m[4], m[5], m[6], m[7]) ^ turned);
    *(uint2*)(to + low + at) = make_uint2(pack_bytes<2>(m[0], m[1], m[2], m[3]) ^ turned, pack_bytes<2>(m[4], m[5], m[6], m[7]) ^ turned);
}

// rust: crate::ops::batchnorm::OutputSums
struct OutputSums {
    u32 squares;
    u32 rest; // i16 sum, i8 min, i8 max
    __device__ __forceinline__ i32 sum() const { return (i32)(rest << 16) >> 16; }
    __device__ __forceinline__ i32 low() const { return (i32)(rest << 8) >> 24; }
    __device__ __forceinline__ i32 high() const { return (i32)rest >> 24; }
    __device__ __forceinline__ static OutputSums of(i32 squares, i32 sum, i32 low, i32 high) {
        return {(u32)squares, ((u32)sum & 0xffffu) | (u32)(low & 255) << 16 | (u32)high << 24};
    }
};

// rust: crate::ops::batchnorm::GradientSums
struct GradientSums {
    i32 products;
    u32 rest; // i16 sum, u8 largest magnitude, 0
    __device__ __forceinline__ i32 sum() const { return (i32)(rest << 16) >> 16; }
    __device__ __forceinline__ u32 largest() const { return rest >> 16; }
    __device__ __forceinline__ static GradientSums of(i32 products, i32 sum, i32 largest) { return {products, ((u32)sum & 0xffffu) | (u32)largest << 16}; }
};

// 2^e in f64.
__device__ __forceinline__ double power_f64(i32 e) { return __hiloint2double((e + 1023) << 20, 0); }

// Largest value over the block (whole warps); every thread gets it. `scratch` holds 32 words and may be used again after the call.
__device__ __forceinline__ u32 block_max(u32 v, u32* scratch) {
    v = __reduce_max_sync(FULL_WARP, v);
    if (lane_id() == 0) scratch[warp_id()] = v;
    __syncthreads();
    v = __reduce_max_sync(FULL_WARP, lane_id() < blockDim.x / 32 ? scratch[lane_id()] : 0u);
    __syncthreads();
    return v;
}
