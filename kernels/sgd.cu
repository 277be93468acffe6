// sgd: one step of all parameters in one launch: momentum, weight decay, L1 on the BN scales, which come first. 12 B read, 8 B written per parameter.
//
//   d = (g + l1 * sign(w)) + weight_decay * w;  v = momentum * v + d;  w = w - lr * v
// in PyTorch's order, each operation rounded by itself: the bits are the CPU's.
#include "common.cuh"

// rust: crate::ops::sgd::Sgd
struct Sgd {
    u32 count;  // parameters
    u32 scales; // the first this many are BN scales
    f32 momentum, weight_decay, l1;
};

__device__ __forceinline__ void step(const Sgd& p, f32 lr, u32 i, f32 g, f32& v, f32& w) {
    const f32 sign = w > 0.f ? 1.f : w < 0.f ? -1.f : 0.f;
    const f32 l1 = i < p.scales ? p.l1 : 0.f;
    const f32 d = __fadd_rn(__fadd_rn(g, __fmul_rn(l1, sign)), __fmul_rn(p.weight_decay, w));
    v = __fadd_rn(__fmul_rn(p.momentum, v), d);
    w = __fsub_rn(w, __fmul_rn(lr, v));
}

// Moves v and w; lr is one value in device memory. Any grid.
extern "C" __global__ void __launch_bounds__(256) sgd_step_f32(
    const __grid_constant__ Sgd p, const f32* __restrict__ lr, const f32* __restrict__ g, f32* __restrict__ v, f32* __restrict__ w) {
    const f32 rate = *lr;
    const u32 wide = aligned16(g) && aligned16(v) && aligned16(w) ? p.count / 4 : 0;
    for (u32 i = thread_index(); i < wide; i += thread_count()) {
        const float4 d = ((const float4*)g)[i];
        float4 m = ((float4*)v)[i], x = ((float4*)w)[i];
        step(p, rate, 4 * i, d.x, m.x, x.x);
        step(p, rate, 4 * i + 1, d.y, m.y, x.y);
        step(p, rate, 4 * i + 2, d.z, m.z, x.z);
        step(p, rate, 4 * i + 3, d.w, m.w, x.w);
        ((float4*)v)[i] = m;
        ((float4*)w)[i] = x;
    }
    for (u32 i = wide * 4 + thread_index(); i < p.count; i += thread_count()) step(p, rate, i, g[i], v[i], w[i]);
}
