// Philox4x32 (Salmon et al., SC 2011): the device side of src/quant/philox.rs, bit by bit the same.
#pragma once
#include "common.cuh"

// c becomes the four words of counter c under the key (k0, k1), ROUNDS rounds.
template <int ROUNDS> __device__ __forceinline__ void philox4x32(u32 (&c)[4], u32 k0, u32 k1) {
#pragma unroll
    for (int round = 0; round < ROUNDS; round++) {
        const u64 a = (u64)0xD2511F53u * c[0], b = (u64)0xCD9E8D57u * c[2];
        c[0] = (u32)(b >> 32) ^ c[1] ^ k0;
        c[2] = (u32)(a >> 32) ^ c[3] ^ k1;
        c[1] = (u32)b;
        c[3] = (u32)a;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}
