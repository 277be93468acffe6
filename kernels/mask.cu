// mask: ranks all BN scales of the net and draws the mask of kept channels for up to 8 pruning ratios, with its Hamming distances to the masks drawn
// before, in one launch of one block (kernels.md section 6).
//
// threshold_p = sorted(|scale|)[rank_p], exactly, by radix select on the bits of |scale| (order-preserving for non-negative floats): digits of 11, 10
// and 10 bits, most significant first; the first digit is exponent and 3 mantissa bits, which spreads scales over bins. mask_p = |scale| > threshold_p,
// strictly: the threshold and all that tie with it go. NaN ranks above infinity and is never kept.
//
// Traffic: 4 B read per scale and pass (3 passes and one per ratio; L1 or L2 after the first), 1/8 B written and depth/8 B read per scale and ratio.
// Histograms are in shared memory: 2048 bins for the first digit, which all ratios share, then 1024 per ratio (32 KiB). All lanes of a warp that fall
// into the first lane's bin are merged into one atomic, so a net at its initial value (all equal) and 8-bit ties cost 1 atomic per warp instead of 32.
#include "common.cuh"

#define RATIOS 8
#define THREADS 1024
#define WARPS 32

// rust: crate::ops::mask::Mask
struct Mask {
    u32 scales; // BN scales in the net, at least 1
    u32 ratios; // 1..=8
    u32 words;  // of one mask: scales / 32, rounded up
    u32 depth;  // earlier masks kept per ratio, at most 31; the ring has depth + 1 slots
    u32 head;   // slot written now; the q-th previous mask is q slots before it, around the ring
    u32 filled; // earlier masks in the ring so far
    u32 rank[RATIOS]; // trunc(scales * ratio), computed by the host in f64; below `scales`
};

struct Shared {
    u32 bins[RATIOS * 1024]; // the first digit uses 2048 of them
    u32 sums[RATIOS][WARPS]; // bins summed per warp
    u32 prefix[RATIOS];      // digits of the threshold found so far
    u32 rank[RATIOS];        // rank among the scales that share this prefix
    u32 counts[RATIOS][32];  // [0] kept channels, [q] distance to the q-th previous mask
    u32 odd;                 // scales that are infinite or no number
};

__device__ __forceinline__ u32 key_of(const f32* __restrict__ scales, u32 i) { return __float_as_uint(scales[i]) & 0x7fffffffu; }

// Counts one key per lane where `hit`. All lanes of the warp call it.
__device__ __forceinline__ void count(u32* bins, bool hit, u32 bin) {
    const u32 hits = __ballot_sync(FULL_WARP, hit);
    if (hits == 0) return;
    const u32 first = __ffs(hits) - 1;
    const u32 common = __shfl_sync(FULL_WARP, bin, first);
    const u32 same = __ballot_sync(FULL_WARP, hit && bin == common);
    if (lane_id() == first) atomicAdd(bins + common, __popc(same));
    else if (hit && bin != common) atomicAdd(bins + bin, 1u);
}

// The warp finds the bin that holds the rank of ratio `p`, appends it to the prefix and makes the rank one inside the bin. PER bins per lane.
template <u32 PER> __device__ __forceinline__ void locate(Shared& s, u32 p, const u32* bins, const u32* sums, u32 shift) {
    const u32 rank = s.rank[p], prefix = s.prefix[p];
    const u32 sum = sums[lane_id()], upto = warp_scan(sum);
    const u32 part = __ffs(__ballot_sync(FULL_WARP, rank < upto)) - 1; // the group of PER * 32 bins
    const u32 before = __shfl_sync(FULL_WARP, upto - sum, part);
    const u32 bin = (part * 32 + lane_id()) * PER;
    const u32 low = bins[bin], both = low + (PER == 2 ? bins[bin + 1] : 0u);
    const u32 end = before + warp_scan(both), start = end - both;
    __syncwarp(); // every lane has read rank and prefix
    if (rank >= start && rank < end) {
        const bool second = rank >= start + low;
        s.rank[p] = rank - start - (second ? low : 0u);
        s.prefix[p] = prefix | (bin + (second ? 1u : 0u)) << shift;
    }
}

// Thresholds, masks, kept channels and distances for all ratios, and the number of scales that are not finite behind the kept ones. One block of 1024 threads.
// ring[ratio][depth + 1][words], distances[ratio][depth] (0xffffffff where no such mask was drawn yet), thresholds[ratio], kept[ratios + 1].
extern "C" __global__ void __launch_bounds__(THREADS, 1) mask_step_f32(
    const __grid_constant__ Mask p, const f32* __restrict__ scales, u32* __restrict__ ring, f32* __restrict__ thresholds,
    u32* __restrict__ distances, u32* __restrict__ kept) {
    __shared__ Shared s;
    const u32 tid = threadIdx.x, lane = lane_id(), warp = warp_id();
    const u32 rounds = div_up(p.scales, THREADS);

    if (tid < p.ratios) {
        s.prefix[tid] = 0;
        s.rank[tid] = p.rank[tid];
    }
    if (tid < RATIOS * 32) (&s.counts[0][0])[tid] = 0;
    if (tid == 0) s.odd = 0;

    // First digit: bits 20..30, one histogram for all ratios.
    for (u32 i = tid; i < 2048; i += THREADS) s.bins[i] = 0;
    __syncthreads();
#pragma unroll 1
    for (u32 r = 0; r < rounds; r++) {
        const u32 i = r * THREADS + tid;
        const bool in = i < p.scales;
        const u32 key = in ? key_of(scales, i) : 0u;
        count(s.bins, in, key >> 20);
        if (key >= 0x7f800000u) atomicAdd(&s.odd, 1u);
    }
    __syncthreads();
    {
        const u32 sum = warp_sum(s.bins[warp * 64 + lane] + s.bins[warp * 64 + 32 + lane]);
        if (lane == 0) s.sums[0][warp] = sum;
    }
    __syncthreads();
    if (warp < p.ratios) locate<2>(s, warp, s.bins, s.sums[0], 20);
    __syncthreads();

    // Second and third digit: bits 10..19 and 0..9, among the keys that share the digits found.
#pragma unroll 1
    for (u32 shift = 10;; shift = 0) {
        for (u32 i = tid; i < p.ratios * 1024; i += THREADS) s.bins[i] = 0;
        __syncthreads();
#pragma unroll 1
        for (u32 r = 0; r < rounds; r++) {
            const u32 i = r * THREADS + tid;
            const bool in = i < p.scales;
            const u32 key = in ? key_of(scales, i) : 0u;
#pragma unroll 1
            for (u32 q = 0; q < p.ratios; q++) {
                count(s.bins + q * 1024, in && (key ^ s.prefix[q]) >> (shift + 10) == 0, key >> shift & 1023u);
            }
        }
        __syncthreads();
#pragma unroll 1
        for (u32 q = 0; q < p.ratios; q++) {
            const u32 sum = warp_sum(s.bins[q * 1024 + warp * 32 + lane]);
            if (lane == 0) s.sums[q][warp] = sum;
        }
        __syncthreads();
        if (warp < p.ratios) locate<1>(s, warp, s.bins + warp * 1024, s.sums[warp], shift);
        __syncthreads();
        if (shift == 0) break;
    }

    // Masks and distances: one ballot is one word; lane 0 writes it, lane q compares it with the q-th previous mask.
    const u32 slots = p.depth + 1, earlier = min(p.filled, p.depth);
    const u32 slot = lane <= p.head ? p.head - lane : p.head + slots - lane;
#pragma unroll 1
    for (u32 q = 0; q < p.ratios; q++) {
        const u32 threshold = s.prefix[q];
        u32 sum = 0;
#pragma unroll 1
        for (u32 r = 0; r < rounds; r++) {
            const u32 i = r * THREADS + tid, word = i >> 5;
            const u32 key = i < p.scales ? key_of(scales, i) : 0u;
            const u32 bits = __ballot_sync(FULL_WARP, key > threshold && key <= 0x7f800000u);
            if (word < p.words && lane <= earlier) {
                u32* at = ring + ((u64)q * slots + slot) * p.words + word;
                if (lane == 0) *at = bits;
                sum += __popc(lane == 0 ? bits : bits ^ *at);
            }
        }
        if (sum != 0) atomicAdd(&s.counts[q][lane], sum);
    }
    __syncthreads();
    if (tid < p.ratios) {
        thresholds[tid] = __uint_as_float(s.prefix[tid]);
        kept[tid] = s.counts[tid][0];
    }
    if (tid == 0) kept[p.ratios] = s.odd;
    for (u32 i = tid; i < p.ratios * p.depth; i += THREADS) {
        const u32 q = i / p.depth, back = i % p.depth + 1;
        distances[i] = back <= earlier ? s.counts[q][back] : 0xffffffffu;
    }
}
