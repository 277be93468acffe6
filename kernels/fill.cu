// fill: x[i] = value.
//
// Traffic per element: 4 B written. One thread stores 16 B; head and tail that are not 16-byte aligned go element by element. A grid-stride loop, so
// any grid is right; blocks of 256.
#include "common.cuh"

// x[i] = value for i < n. Bit pattern as given (NaN payloads included).
extern "C" __global__ void __launch_bounds__(256) fill_u32(u32* __restrict__ x, u32 n, u32 value) {
    // Elements in front of the first 16-byte boundary; x itself is 4-byte aligned.
    const u32 head = min(n, (u32)((16u - ((u32)(u64)x & 15u)) & 15u) / 4u);
    const u32 chunks = (n - head) / 4u;
    const u32 tail = head + chunks * 4u;
    const uint4 four = make_uint4(value, value, value, value);
    for (u32 i = thread_index(); i < chunks; i += thread_count()) store16(x + head + i * 4u, four);
    // Fewer than 3 + 3 elements are left.
    const u32 i = thread_index();
    if (i < head) x[i] = value;
    if (i < n - tail) x[tail + i] = value;
}
