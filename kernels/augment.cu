// augment: makes a batch from u8 images that lie on the device: pad, crop, mirror, normalise, and gather the labels. The device side of src/data/augment.rs, bit by
// bit the same.
//
//   images[n,y,x,c] = (byte / 255 - mean[c]) / std[c], byte = data[index, y + down - pad, (mirrored ? w - 1 - x : x) + right - pad, c] or 0 outside,
//   index = order[cursor + n]; down, right, mirrored from Philox4x32-10 of (index, epoch) under the seed. Cursor and epoch lie in device memory.
//
// Traffic per element: 1 B read, 4 B written. One block makes CHUNK elements of one image, so that all its threads share the image's draw; a thread makes four
// neighbours and stores them as 16 B where images are multiples of four elements. Its bytes are read one by one: where they lie depends on the draw.
#include "philox.cuh"
#include "state.cuh"

#define THREADS 256
#define CHUNK 4096

// rust: crate::ops::augment::Augment
struct Augment {
    u32 seed[2];
    u32 n, h, w, c; // of the batch
    u32 count;      // images in the data set
    u32 order;      // entries of the order
    u32 pad, crop, flip;
};

// images, labels. Grid (n, ceil(h * w * c / CHUNK)), blocks of THREADS. An entry behind the end of the order, or one that names no image, gives a black image with the
// label 0xffffffff, which makes the loss NaN.
extern "C" __global__ void __launch_bounds__(THREADS) augment_fwd_f32(
    const __grid_constant__ Augment p, const u8* __restrict__ data, const u32* __restrict__ known, const u32* __restrict__ order,
    const StepState* __restrict__ state, const f32* __restrict__ mean, const f32* __restrict__ std, f32* __restrict__ images,
    u32* __restrict__ labels) {
    const u32 n = blockIdx.x, cursor = state->cursor;
    u32 index = 0xffffffffu;
    if (cursor < p.order && n < p.order - cursor) index = order[cursor + n];
    const bool there = index < p.count;
    if (blockIdx.y == 0 && threadIdx.x == 0) {
        u32 label = 0xffffffffu;
        if (there) label = known[index];
        labels[n] = label;
    }

    u32 words[4] = {0, 0, index, state->epoch};
    philox4x32<10>(words, p.seed[0], p.seed[1]);
    const u32 down = (p.crop ? __umulhi(words[0], 2 * p.pad + 1) : p.pad) - p.pad;
    const u32 right = (p.crop ? __umulhi(words[1], 2 * p.pad + 1) : p.pad) - p.pad;
    const bool mirrored = p.flip && words[2] >> 31;

    const u32 row = p.w * p.c, elements = p.h * row;
    const u8* from = data + (u64)index * elements;
    f32* to = images + (u64)n * elements;
    const u32 end = min(elements, (blockIdx.y + 1) * CHUNK);
    const bool wide = (elements & 3u) == 0;
#pragma unroll 1
    for (u32 first = blockIdx.y * CHUNK + threadIdx.x * 4; first < end; first += THREADS * 4) {
        u32 y = first / row, x = (first - y * row) / p.c, c = first - y * row - x * p.c;
        f32 v[4];
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            // Outside is a huge number, too: coordinates wrap round.
            const u32 source_y = y + down, source_x = (mirrored ? p.w - 1 - x : x) + right;
            u32 byte = 0;
            if (there && source_y < p.h && source_x < p.w) byte = from[source_y * row + source_x * p.c + c];
            v[i] = __fdiv_rn(__fsub_rn(__fdiv_rn((f32)byte, 255.f), mean[c]), std[c]);
            if (++c == p.c) {
                c = 0;
                if (++x == p.w) {
                    x = 0;
                    y++;
                }
            }
        }
        if (wide) {
            *(float4*)(to + first) = make_float4(v[0], v[1], v[2], v[3]);
        } else {
#pragma unroll
            for (u32 i = 0; i < 4; i++) {
                if (first + i < end) to[first + i] = v[i];
            }
        }
    }
}
