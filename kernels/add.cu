// add: y = a + b, element by element; y may be a or b. 8 B read, 4 B written per element.
#include "common.cuh"

// rust: crate::ops::add::Add
struct Add {
    u32 n;
};

// y = a + b. Any grid.
extern "C" __global__ void __launch_bounds__(256) add_fwd_f32(const __grid_constant__ Add p, const f32* a, const f32* b, f32* y) {
    const u32 wide = aligned16(a) && aligned16(b) && aligned16(y) ? p.n / 4 : 0;
    for (u32 i = thread_index(); i < wide; i += thread_count()) {
        const float4 u = ((const float4*)a)[i], v = ((const float4*)b)[i];
        ((float4*)y)[i] = make_float4(u.x + v.x, u.y + v.y, u.z + v.z, u.w + v.w);
    }
    for (u32 i = wide * 4 + thread_index(); i < p.n; i += thread_count()) y[i] = a[i] + b[i];
}
