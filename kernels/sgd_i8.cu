// sgd in 8 bits: gradients, momenta and weights rounded row by row, and the weights packed for the integer GEMMs in both layouts (formulas in src/ops/sgd.rs).
//
// One launch for all parameters: blocks share out the rows of the table's segments (runs, where every element is for itself). A row is walked three times: largest gradient; step, with the new
// momenta and weights in their places and their largest values; rounding and packing. Traffic per element: 12 B read and 8 B written in the first two, as much again from L1 and L2 in
// the last, and 2 B of mantissas. Noise belongs to places in the arena, eight neighbours to a Philox call, so a thread always has a whole group of eight.
#include "bfp.cuh"

// rust: crate::ops::sgd::Sgd
struct Sgd {
    u32 count, scales;
    f32 momentum, weight_decay, l1;
};
// rust: crate::ops::sgd::SgdI8
struct SgdI8 {
    Sgd sgd;
    u32 segments, master_f32, round_gradients, seed[2], tensors[3];
};
// rust: crate::ops::sgd::Segment
struct Segment {
    u32 offset, rows, columns, format, taps, c, weights, transposed, exponents;
};

constexpr u32 RUN = 2048; // elements of a segment without rows that a block takes at once

__device__ __forceinline__ f32 with_l1(const Sgd& p, u32 i, f32 g, f32 w) {
    if (i >= p.scales) return g;
    return __fadd_rn(g, __fmul_rn(p.l1, w > 0.f ? 1.f : w < 0.f ? -1.f : 0.f));
}

// Rounds v in a row of exponent e.
__device__ __forceinline__ i32 round_row(f32 v, i32 e, u32 noise) { return round_scaled(__fmul_rn(v, power(21 - e)), noise); }
__device__ __forceinline__ f32 value_of(i32 m, i32 e) { return __fmul_rn(__int2float_rn(m), power(e - 6)); }

// d = g + wd*w, v = mu*v + d, w = w - lr*v.
__device__ __forceinline__ void update(const Sgd& p, f32 rate, f32 g, f32& v, f32& w) {
    const f32 d = __fadd_rn(g, __fmul_rn(p.weight_decay, w));
    v = __fadd_rn(__fmul_rn(p.momentum, v), d);
    w = __fsub_rn(w, __fmul_rn(rate, v));
}

// Calls f(first place of a group of eight, its part inside the row) for this thread's groups of [first, end).
template <class F> __device__ __forceinline__ void each_group(u32 first, u32 end, F f) {
    for (u32 at = (first & ~7u) + threadIdx.x * 8; at < end; at += blockDim.x * 8) f(at, max(at, first), min(at + 8, end));
}

// Rounds the weights of row k and packs them; `bits` is the largest magnitude.
__device__ __forceinline__ void pack_row(const SgdI8& p, const Segment& s, u32 k, u32 step, u32 bits, f32* __restrict__ w, i8* __restrict__ packed) {
    const i32 e = exponent_of(bits);
    const u32 first = s.offset + k * s.columns, c_stride = pad16(s.c), k_stride = pad16(s.rows);
    const bool conv = s.format == 2;
    each_group(first, first + s.columns, [&](u32 at, u32 from, u32 to) {
        const Philox noise(at / 8, step, p.tensors[0], p.seed);
#pragma unroll
        for (u32 j = 0; j < 8; j++) {
            const u32 i = at + j;
            if (i < from || i >= to) continue;
            const i32 m = round_row(w[i], e, noise[j]);
            if (!p.master_f32) w[i] = value_of(m, e);
            if (conv) {
                const u32 tap = (i - first) / s.c, channel = (i - first) % s.c;
                packed[s.weights + (k * s.taps + tap) * c_stride + channel] = (i8)m;
                packed[s.transposed + (channel * s.taps + (s.taps - 1 - tap)) * k_stride + k] = (i8)m;
            }
        }
    });
    if (!conv) return;
    if (threadIdx.x == 0) packed[s.exponents + k] = (i8)e;
    const u32 spare = c_stride - s.c, spare_rows = k_stride - s.rows;
    for (u32 i = threadIdx.x; i < s.taps * spare; i += blockDim.x) packed[s.weights + (k * s.taps + i / spare) * c_stride + s.c + i % spare] = 0;
    if (k + 1 < s.rows) return;
    for (u32 i = threadIdx.x; i < s.c * s.taps * spare_rows; i += blockDim.x) packed[s.transposed + i / spare_rows * k_stride + s.rows + i % spare_rows] = 0;
}

// Rounds the weights of a run, each by itself.
__device__ __forceinline__ void pack_elements(const SgdI8& p, u32 first, u32 end, u32 step, f32* __restrict__ w) {
    each_group(first, end, [&](u32 at, u32 from, u32 to) {
        const Philox noise(at / 8, step, p.tensors[0], p.seed);
#pragma unroll
        for (u32 j = 0; j < 8; j++) {
            const u32 i = at + j;
            if (i >= from && i < to) w[i] = Grid(magnitude(w[i]))(w[i], noise[j]);
        }
    });
}

// The step of a run whose elements are rounded by themselves, up to the weights.
__device__ __forceinline__ void step_elements(
    const SgdI8& p, u32 first, u32 end, f32 rate, u32 step, const f32* __restrict__ g, f32* __restrict__ v, f32* __restrict__ w) {
    each_group(first, end, [&](u32 at, u32 from, u32 to) {
        const Philox gradients(at / 8, step, p.tensors[2], p.seed), momenta(at / 8, step, p.tensors[1], p.seed);
#pragma unroll
        for (u32 j = 0; j < 8; j++) {
            const u32 i = at + j;
            if (i < from || i >= to) continue;
            f32 momentum = v[i], weight = w[i], gradient = with_l1(p.sgd, i, g[i], weight);
            if (p.round_gradients) gradient = Grid(magnitude(gradient))(gradient, gradients[j]);
            update(p.sgd, rate, gradient, momentum, weight);
            v[i] = p.round_gradients ? Grid(magnitude(momentum))(momentum, momenta[j]) : momentum;
            w[i] = weight;
        }
    });
}

// Calls f(segment, row) for the rows of this block (runs, where a segment has none).
template <class F> __device__ __forceinline__ void each_row(const SgdI8& p, const Segment* __restrict__ table, F f) {
    u32 skip = blockIdx.x; // rows until the next of this block
    for (u32 i = 0; i < p.segments; i++) {
        const Segment s = table[i];
        const u32 rows = s.format == 0 || s.format == 3 ? div_up(s.rows * s.columns, RUN) : s.rows;
        u32 row = skip;
        for (; row < rows; row += gridDim.x) f(s, row);
        skip = row - rows;
    }
}

// The whole step. Blocks of 256, any grid.
extern "C" __global__ void __launch_bounds__(256, 4) sgd_step_i8(
    const __grid_constant__ SgdI8 p, const Segment* __restrict__ table, const f32* __restrict__ lr, const u32* __restrict__ step, const f32* __restrict__ g,
    f32* __restrict__ v, f32* __restrict__ w, i8* __restrict__ packed) {
    __shared__ u32 scratch[32];
    const f32 rate = *lr;
    const u32 now = *step;
    each_row(p, table, [&](const Segment& s, u32 k) {
        const bool rows = s.format == 1 || s.format == 2, rounds = rows && p.round_gradients;
        const u32 first = s.offset + (rows ? k * s.columns : k * RUN), end = rows ? first + s.columns : min(first + RUN, s.offset + s.rows * s.columns);
        if (s.format == 3) {
            step_elements(p, first, end, rate, now, g, v, w);
            if (!p.master_f32) pack_elements(p, first, end, now, w);
            return;
        }
        i32 e = 0;
        if (rounds) {
            u32 bits = 0;
            each_group(first, end, [&](u32, u32 from, u32 to) {
                for (u32 i = from; i < to; i++) bits = max(bits, magnitude(with_l1(p.sgd, i, g[i], w[i])));
            });
            e = exponent_of(block_max(bits, scratch));
        }
        u32 v_bits = 0, w_bits = 0;
        each_group(first, end, [&](u32 at, u32 from, u32 to) {
            Philox noise;
            if (rounds) noise = Philox(at / 8, now, p.tensors[2], p.seed);
            else noise.w[0] = noise.w[1] = noise.w[2] = noise.w[3] = 0;
#pragma unroll
            for (u32 j = 0; j < 8; j++) {
                const u32 i = at + j;
                if (i < from || i >= to) continue;
                const f32 weight = w[i];
                f32 gradient = with_l1(p.sgd, i, g[i], weight);
                if (rounds) gradient = value_of(round_row(gradient, e, noise[j]), e);
                f32 momentum = v[i], stepped = weight;
                update(p.sgd, rate, gradient, momentum, stepped);
                v[i] = momentum;
                w[i] = stepped;
                v_bits = max(v_bits, magnitude(momentum));
                w_bits = max(w_bits, magnitude(stepped));
            }
        });
        if (!rows) return;
        if (rounds) {
            e = exponent_of(block_max(v_bits, scratch));
            each_group(first, end, [&](u32 at, u32 from, u32 to) {
                const Philox noise(at / 8, now, p.tensors[1], p.seed);
#pragma unroll
                for (u32 j = 0; j < 8; j++) {
                    if (at + j >= from && at + j < to) v[at + j] = value_of(round_row(v[at + j], e, noise[j]), e);
                }
            });
        }
        if (s.format == 2 || !p.master_f32) pack_row(p, s, k, now, block_max(w_bits, scratch), w, packed);
    });
}

// Only rounds and packs the weights. Blocks of 256, any grid.
extern "C" __global__ void __launch_bounds__(256) sgd_pack_i8(
    const __grid_constant__ SgdI8 p, const Segment* __restrict__ table, const u32* __restrict__ step, f32* __restrict__ w, i8* __restrict__ packed) {
    __shared__ u32 scratch[32];
    const u32 now = *step;
    each_row(p, table, [&](const Segment& s, u32 k) {
        if (s.format == 0 || (s.format != 2 && p.master_f32)) return;
        if (s.format == 3) {
            const u32 run = s.offset + k * RUN;
            pack_elements(p, run, min(run + RUN, s.offset + s.rows * s.columns), now, w);
            return;
        }
        const u32 first = s.offset + k * s.columns;
        u32 bits = 0;
        each_group(first, first + s.columns, [&](u32, u32 from, u32 to) {
            for (u32 i = from; i < to; i++) bits = max(bits, magnitude(w[i]));
        });
        pack_row(p, s, k, now, block_max(bits, scratch), w, packed);
    });
}
