// relu, where it is not fused into a batchnorm: y = max(x, 0), NaN stays NaN; dx = dy where y > 0. In place or not. 4 B (8 B backward) read, 4 B written per element.
#include "common.cuh"

// rust: crate::ops::relu::Relu
struct Relu {
    u32 n;
};

__device__ __forceinline__ f32 positive(f32 v) { return v < 0.f ? 0.f : v; }
__device__ __forceinline__ f32 passed(f32 y, f32 dy) { return y > 0.f ? dy : 0.f; }

// y = max(x, 0). Any grid.
extern "C" __global__ void __launch_bounds__(256) relu_fwd_f32(const __grid_constant__ Relu p, const f32* x, f32* y) {
    const u32 wide = aligned16(x) && aligned16(y) ? p.n / 4 : 0;
    for (u32 i = thread_index(); i < wide; i += thread_count()) {
        const float4 v = ((const float4*)x)[i];
        ((float4*)y)[i] = make_float4(positive(v.x), positive(v.y), positive(v.z), positive(v.w));
    }
    for (u32 i = wide * 4 + thread_index(); i < p.n; i += thread_count()) y[i] = positive(x[i]);
}

// dx = dy where y > 0, else 0. Any grid.
extern "C" __global__ void __launch_bounds__(256) relu_bwd_f32(const __grid_constant__ Relu p, const f32* __restrict__ y, const f32* dy, f32* dx) {
    const u32 wide = aligned16(y) && aligned16(dy) && aligned16(dx) ? p.n / 4 : 0;
    for (u32 i = thread_index(); i < wide; i += thread_count()) {
        const float4 o = ((const float4*)y)[i], g = ((const float4*)dy)[i];
        ((float4*)dx)[i] = make_float4(passed(o.x, g.x), passed(o.y, g.y), passed(o.z, g.z), passed(o.w, g.w));
    }
    for (u32 i = wide * 4 + thread_index(); i < p.n; i += thread_count()) dx[i] = passed(y[i], dy[i]);
}
