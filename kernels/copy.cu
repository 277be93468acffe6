// copy: y[i] = x[i], bytes.
//
// Traffic per byte: 1 B read, 1 B written. One thread moves 16 B where both addresses are equally aligned, else byte by byte (the slow path exists for
// slices at odd offsets). A grid-stride loop, so any grid is right; blocks of 256. The ranges must not overlap.
#include "common.cuh"

// y[i] = x[i] for i < n, n in bytes.
extern "C" __global__ void __launch_bounds__(256) copy_u8(const u8* __restrict__ x, u8* __restrict__ y, u32 n) {
    const u32 skew = (u32)(u64)x & 15u;
    if (skew != ((u32)(u64)y & 15u)) {
        for (u32 i = thread_index(); i < n; i += thread_count()) y[i] = x[i];
        return;
    }
    const u32 head = min(n, (16u - skew) & 15u); // up to the first 16-byte boundary
    const u32 chunks = (n - head) / 16u;
    const u32 tail = head + chunks * 16u;
    for (u32 i = thread_index(); i < chunks; i += thread_count()) {
        store16(y + head + (u64)i * 16u, load16(x + head + (u64)i * 16u));
    }
    // Head and tail hold at most 15 bytes each: one thread each.
    const u32 i = thread_index();
    if (i < head) y[i] = x[i];
    if (i < n - tail) y[tail + i] = x[tail + i];
}
