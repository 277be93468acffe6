// Kernels with one mistake each. `case:` says how to launch (the language is in main.rs); `BAD kind` marks the line of the finding and `OTHER` that of the other
// access where one is told; `WARN kind` a warning. Nothing else may be found.
#include "common.cuh"

// ---- barriers and shared memory

// case: block=64 args=raw:256
extern "C" __global__ void barrier_missing_after_store(u32* out) {
    __shared__ u32 s[64];
    s[TID] = TID; // BAD shared-race
    out[TID] = s[63 - TID]; // BAD shared-race
}

// case: block=64 args=raw:256,ramp:64
extern "C" __global__ void barrier_missing_before_reuse(u32* out, const u32* in) {
    __shared__ u32 s[64];
    u32 sum = 0;
    for (u32 i = 0; i < 3; i++) {
        s[TID] = in[TID] + i; // BAD shared-race
        __syncthreads();
        sum += s[63 - TID]; // BAD shared-race
    }
    out[TID] = sum;
}

// case: block=256 args=raw:4,ramp:256
extern "C" __global__ void barrier_missing_in_reduction(u32* out, const u32* in) {
    __shared__ u32 s[256];
    s[TID] = in[TID];
    for (u32 d = 128; d != 0; d >>= 1) {
        __syncthreads();
        if (TID < d) s[TID] += s[TID + d]; // OTHER
    }
    if (TID == 32) *out = s[0]; // BAD shared-race
}

// case: block=64 args=raw:256
extern "C" __global__ void half_words_share_nothing_but_a_race(u32* out) {
    __shared__ u16 s[128];
    s[TID] = (u16)TID; // BAD shared-race
    s[64 + TID] = (u16)TID;
    out[TID] = s[(TID + 32) % 64]; // BAD shared-race
}

// case: block=64 args=raw:256
extern "C" __global__ void histogram_read_too_early(u32* out) {
    __shared__ u32 bins[4];
    if (TID < 4) bins[TID] = 0;
    __syncthreads();
    atomicAdd(&bins[TID % 4], 1u); // BAD shared-race
    __syncwarp();
    if (TID >= 60) out[TID - 60] = bins[TID - 60]; // OTHER
}

// case: block=64 args=raw:256
extern "C" __global__ void atomic_meets_plain_store(u32* out) {
    __shared__ u32 n;
    if (TID == 40) n = 0; // BAD shared-race
    __syncwarp();
    if (TID < 32) atomicAdd(&n, 1u); // OTHER
    __syncthreads();
    out[TID] = n;
}

// case: block=64 args=raw:256
extern "C" __global__ void arrive_does_not_wait(u32* out) {
    __shared__ u32 s[32];
    if (WARP == 0) {
        s[LANE] = LANE;
        bar_arrive<1, 64>();
        s[LANE] = 7; // OTHER
    } else {
        bar_sync<1, 64>();
        out[LANE] = s[31 - LANE]; // BAD shared-race
    }
}

// case: block=64 args=raw:256
extern "C" __global__ void halves_use_different_barriers(u32* out) {
    __shared__ u32 s[64];
    s[TID] = TID; // BAD shared-race
    if (WARP == 0) bar_sync<1, 32>();
    else bar_sync<2, 32>();
    out[TID] = s[63 - TID]; // BAD shared-race
}

// case: block=64 args=raw:256
extern "C" __global__ void fence_is_no_barrier(u32* out) {
    __shared__ u32 s[64];
    s[TID] = TID; // BAD shared-race
    __threadfence_block();
    out[TID] = s[63 - TID]; // BAD shared-race
}

// ---- threads of a warp

// case: block=32 args=raw:128
extern "C" __global__ void syncwarp_missing(u32* out) {
    __shared__ u32 s[32];
    s[LANE] = LANE; // OTHER
    out[LANE] = s[31 - LANE]; // BAD intra-warp-race
}

// case: block=32 args=raw:128
extern "C" __global__ void syncwarp_of_halves(u32* out) {
    __shared__ u32 s[32];
    s[LANE] = LANE; // OTHER
    if (LANE < 16) __syncwarp(0x0000ffffu);
    else __syncwarp(0xffff0000u);
    out[LANE] = s[(LANE + 8) % 32]; // BAD intra-warp-race
}

// case: block=32 args=raw:128
extern "C" __global__ void warp_reduction_without_syncwarp(u32* out) {
    __shared__ u32 s[64];
    s[LANE] = LANE;
    s[LANE + 32] = 0;
    __syncwarp();
    u32 v = s[LANE] + s[LANE + 16];
    s[LANE] = v; // BAD intra-warp-race
    __syncwarp();
    out[LANE] = s[0];
}

// case: block=32 args=raw:128
extern "C" __global__ void lanes_disagree_shared(u32* out) {
    __shared__ u32 s[4];
    s[LANE & 3] = LANE; // BAD intra-warp-race
    __syncwarp();
    out[LANE] = s[LANE & 3];
}

// case: block=32 args=raw:128
extern "C" __global__ void lanes_disagree_global(u32* out) {
    out[LANE / 2] = LANE; // BAD intra-warp-race
}

// case: block=32 args=raw:128,u32:65535
extern "C" __global__ void shuffle_without_itself(u32* out, u32 mask) {
    out[LANE] = __shfl_sync(mask, LANE, 3); // BAD sync-mask
}

// case: block=32 args=raw:128
extern "C" __global__ void shuffle_from_an_absent_lane(u32* out) {
    u32 v = 0;
    if (LANE < 16) v = __shfl_sync(0x0000ffffu, LANE * 3, LANE + 8); // BAD sync-mask
    out[LANE] = v;
}

// case: block=32 args=raw:128
extern "C" __global__ void masks_that_never_meet(u32* out) {
    u32 v;
    if (LANE < 16) v = __ballot_sync(FULL, LANE & 1);
    else v = __shfl_sync(FULL, LANE, 0); // BAD warp-deadlock
    out[LANE] = v;
}

// case: block=32 args=raw:128
extern "C" __global__ void mma_of_half_a_warp(int* out) {
    int c[4] = {0, 0, 0, 0};
    u32 a[4] = {LANE, 1, 2, 3}, b[2] = {4, 5};
    if (LANE < 16) return;
    mma_s8(c, a, b); // BAD partial-warp
    out[LANE] = c[0] + c[1] + c[2] + c[3];
}

// ---- cp.async

// case: block=32 args=raw:128,ramp:128
extern "C" __global__ void copy_without_wait(u32* out, const u32* in) {
    __shared__ uint4 s[32];
    copy16(&s[LANE], in + LANE * 4); // OTHER WARN outstanding-copy
    commit();
    __syncwarp();
    out[LANE] = s[LANE].x; // BAD in-flight-access
}

// case: block=32 args=raw:128,ramp:256
extern "C" __global__ void copy_wait_of_the_wrong_group(u32* out, const u32* in) {
    __shared__ uint4 s[2][32];
    copy16(&s[0][LANE], in + LANE * 4);
    commit();
    copy16(&s[1][LANE], in + 128 + LANE * 4); // OTHER
    commit();
    wait<1>();
    __syncwarp();
    out[LANE] = s[1][LANE].x; // BAD in-flight-access
    wait<0>();
}

// case: block=32 args=raw:128,ramp:128
extern "C" __global__ void copy_wait_before_commit(u32* out, const u32* in) {
    __shared__ uint4 s[32];
    copy16(&s[LANE], in + LANE * 4); // OTHER
    wait<0>();
    __syncwarp();
    out[LANE] = s[LANE].y; // BAD in-flight-access
    commit();
    wait<0>();
}

// case: block=64 args=raw:256,ramp:256
extern "C" __global__ void copy_wait_is_no_barrier(u32* out, const u32* in) {
    __shared__ uint4 s[64];
    copy16(&s[TID], in + TID * 4); // BAD in-flight-overlap
    commit();
    wait<0>();
    out[TID] = s[63 - TID].x; // BAD shared-race
}

// case: block=64 args=raw:256,ramp:1024
extern "C" __global__ void copy_into_a_stage_in_use(u32* out, const u32* in) {
    __shared__ uint4 s[2][64];
    u32 sum = 0;
    copy16(&s[0][TID], in + TID * 4);
    commit();
    for (u32 i = 0; i < 4; i++) {
        if (i + 1 < 4) copy16(&s[(i + 1) % 2][TID], in + (i + 1) * 256 + TID * 4); // BAD in-flight-overlap
        commit();
        wait<1>();
        __syncthreads();
        sum += s[i % 2][63 - TID].x; // BAD in-flight-access
    }
    out[TID] = sum;
}

// case: block=32 args=raw:128,ramp:128
extern "C" __global__ void copies_on_top_of_each_other(u32* out, const u32* in) {
    __shared__ uint4 s[33];
    copy16(&s[LANE], in + LANE * 4); // OTHER
    copy16(&s[31 - LANE], in + LANE * 4); // BAD in-flight-overlap
    commit();
    wait<0>();
    __syncwarp();
    out[LANE] = s[LANE].x;
}

// case: block=32 args=raw:128,ramp:128
extern "C" __global__ void copy_over_a_fresh_store(u32* out, const u32* in) {
    __shared__ uint4 s[32];
    s[31 - LANE] = make_uint4(1, 2, 3, 4); // OTHER
    copy16(&s[LANE], in + LANE * 4); // BAD in-flight-overlap
    commit();
    wait<0>();
    __syncwarp();
    out[LANE] = s[LANE].x;
}

// case: block=32 args=raw:128,ramp:127
extern "C" __global__ void copy_past_the_end(u32* out, const u32* in) {
    __shared__ uint4 s[32];
    s[LANE] = make_uint4(0, 0, 0, 0);
    copy16(&s[LANE], in + LANE * 4); // BAD out-of-bounds
    commit();
    wait<0>();
    __syncwarp();
    out[LANE] = s[LANE].x;
}

// case: block=32 args=raw:128,ramp:256
extern "C" __global__ void copy_to_a_crooked_row(u32* out, const u32* in) {
    __shared__ __align__(16) u32 s[160];
    for (u32 i = LANE; i < 160; i += 32) s[i] = 0;
    __syncwarp();
    copy16(&s[LANE * 5], in + LANE * 4); // BAD misaligned
    commit();
    wait<0>();
    __syncwarp();
    out[LANE] = s[LANE];
}

// ---- addresses

// case: block=32 args=raw:128,ramp:31
extern "C" __global__ void load_one_past_the_end(u32* out, const u32* in) {
    out[LANE] = in[LANE]; // BAD out-of-bounds
}

// case: block=32 args=raw:128,ramp:32
extern "C" __global__ void load_one_in_front(u32* out, const u32* in) {
    out[LANE] = in[(int)LANE - 1]; // BAD out-of-bounds
}

// case: grid=3 block=32 args=raw:380
extern "C" __global__ void store_past_the_end(u32* out) {
    out[blockIdx.x * 32 + LANE] = LANE; // BAD out-of-bounds
}

// case: block=1 args=raw:16,ramp:6
extern "C" __global__ void vector_over_the_end(uint4* out, const uint4* in) {
    *out = in[1]; // BAD out-of-bounds
}

// case: block=32 args=raw:128,bytes:63
extern "C" __global__ void half_a_word_over_the_end(u32* out, const u16* in) {
    out[LANE] = in[LANE]; // BAD out-of-bounds
}

// case: block=1 args=raw:16,ramp+4:9
extern "C" __global__ void vector_of_a_crooked_pointer(uint4* out, const uint4* in) {
    *out = *in; // BAD misaligned
}

// case: block=32 args=raw:128
extern "C" __global__ void crooked_shared_vector(u32* out) {
    __shared__ __align__(16) u32 s[64];
    s[LANE] = s[LANE + 32] = LANE;
    __syncwarp();
    uint2 v = *(uint2*)&s[LANE]; // BAD misaligned
    out[LANE] = v.x ^ v.y;
}

// case: block=32 args=raw:128,u32:32 shared=128
extern "C" __global__ void shared_past_the_end(u32* out, u32 n) {
    extern __shared__ u32 dynamic[];
    dynamic[LANE] = 1;
    __syncwarp();
    out[LANE] = dynamic[LANE + (LANE == 31 ? n : 0)]; // BAD out-of-bounds
}

// case: block=32 args=raw:128,u32:4 shared=128
extern "C" __global__ void shared_in_front(u32* out, int n) {
    extern __shared__ u32 dynamic[];
    dynamic[(int)LANE - n] = 1; // BAD out-of-bounds
    __syncwarp();
    out[LANE] = 0;
}

// case: block=32 args=raw:128,u32:17
extern "C" __global__ void local_past_the_end(u32* out, u32 n) {
    u32 a[8];
    for (u32 i = 0; i < 8; i++) a[i * 5 % 8] = i + out[0] * 0 + n;
    out[LANE] = a[(LANE + n) % 9]; // BAD out-of-bounds
}

// case: block=32 args=boxed-freed:128
extern "C" __global__ void store_after_free(u32** box) {
    u32* out = *box;
    out[LANE] = LANE; // BAD use-after-free
}

// case: block=32 args=null
extern "C" __global__ void store_through_null(u32* out) {
    out[LANE] = LANE; // BAD null-pointer
}

// case: block=32 args=raw:128
extern "C" __global__ void pointer_cut_to_32_bits(u32* out) {
    u32 low = (u32)(u64)out;
    ((u32*)(u64)low)[LANE] = LANE; // BAD invalid-address
}

// case: block=32 args=ramp:31
extern "C" __global__ void atomic_past_the_end(u32* out) {
    atomicAdd(&out[LANE], 1u); // BAD out-of-bounds
}

// case: block=1 args=bytes:16
extern "C" __global__ void crooked_atomic(u8* out) {
    atomicAdd((u32*)(out + 2), 1u); // BAD misaligned
}

// case: block=32 args=raw:128,ramp:32
extern "C" __global__ void crooked_matrix_rows(u32* out, const u32* in) {
    __shared__ __align__(16) u32 s[32 * 6];
    for (u32 i = LANE; i < 192; i += 32) s[i] = in[i % 32];
    __syncwarp();
    u32 r[4];
    ldmatrix4(r, &s[LANE * 5]); // BAD misaligned
    out[LANE] = r[0] ^ r[1] ^ r[2] ^ r[3];
}

// ---- bytes that nobody wrote

// case: block=64 args=raw:256
extern "C" __global__ void shared_never_written(u32* out) {
    __shared__ u32 s[64];
    if (TID < 63) s[TID] = TID;
    __syncthreads();
    out[TID] = s[TID]; // BAD uninitialised-read
}

// case: grid=2 block=64 args=raw:512
extern "C" __global__ void shared_of_the_block_before(u32* out) {
    __shared__ u32 s[64];
    if (blockIdx.x == 0) s[TID] = TID;
    __syncthreads();
    out[blockIdx.x * 64 + TID] = s[TID]; // BAD uninitialised-read
}

// case: block=32 args=raw:128,raw:128
extern "C" __global__ void global_never_written(u32* out, const u32* in) {
    out[LANE] = in[LANE]; // BAD uninitialised-read
}

// case: block=32 args=raw:128,raw:128
extern "C" __global__ void one_byte_never_written(u32* out, u8* scratch) {
    for (u32 i = 0; i < 4; i++) {
        if (LANE != 7 || i != 3) scratch[LANE * 4 + i] = (u8)i;
    }
    out[LANE] = ((const volatile u32*)scratch)[LANE]; // BAD uninitialised-read
}

// case: block=32 args=raw:128,u32:3
extern "C" __global__ void local_never_written(u32* out, u32 n) {
    u32 a[8];
    for (u32 i = 0; i < n; i++) a[i] = i * LANE;
    out[LANE] = a[n + LANE % 2] + a[0]; // BAD uninitialised-read
}

// case: block=32 args=raw:4
extern "C" __global__ void counter_never_cleared(u32* n) {
    atomicAdd(n, 1u); // BAD uninitialised-read
}

// ---- barriers that cannot complete

// case: block=64 args=raw:256
extern "C" __global__ void barriers_in_both_branches(u32* out) {
    if (LANE < 16) {
        __syncthreads(); // OTHER
        out[TID] = 1;
    } else {
        out[TID] = 2;
        __syncthreads(); // BAD barrier-divergence
    }
}

// case: block=64 args=raw:256,u32:40
extern "C" __global__ void early_return_before_barrier(u32* out, u32 n) {
    __shared__ u32 s[64];
    if (TID >= n) return;
    s[TID] = TID;
    __syncthreads(); // BAD exited-at-barrier
    out[TID] = s[n - 1 - TID];
}

// case: block=64 args=raw:256,u32:32
extern "C" __global__ void whole_warp_returns_before_barrier(u32* out, u32 n) {
    if (TID >= n) return;
    __syncthreads(); // WARN exited-at-barrier
    out[TID] = TID;
}

// case: block=64 args=raw:256
extern "C" __global__ void named_barrier_nobody_else_reaches(u32* out) {
    if (WARP == 0) bar_sync<1, 64>(); // BAD barrier-deadlock
    out[TID] = TID;
}

// case: block=64 args=raw:256,u32:48
extern "C" __global__ void barrier_of_half_a_warp(u32* out, u32 n) {
    asm volatile("bar.sync 1, %0;" ::"r"(n) : "memory"); // BAD barrier-misuse
    out[TID] = TID;
}

// case: block=96 args=raw:384
extern "C" __global__ void barrier_counts_disagree(u32* out) {
    if (WARP == 0) bar_sync<1, 32 * 2>(); // OTHER
    else bar_sync<1, 32 * 3>(); // BAD barrier-misuse
    out[TID] = TID;
}

// case: block=32 args=zeros:4
extern "C" __global__ void waits_for_ever(u32* flag) {
    while (*(volatile u32*)flag == 0) {} // BAD livelock
}

// case: block=32 args=zeros:4 budget=100000
extern "C" __global__ void counts_for_ever(u32* n) {
    while (atomicAdd(n, 1u) != 0xffffffffu) {} // BAD timeout
}

// ---- global memory between threads and blocks

// case: grid=2 block=32 args=raw:128
extern "C" __global__ void blocks_store_to_the_same_place(u32* out) {
    out[LANE] = blockIdx.x; // BAD global-race
}

// case: grid=2 block=32 args=raw:128
extern "C" __global__ void blocks_store_the_same_value(u32* out) {
    out[LANE] = LANE; // WARN global-race
}

// case: grid=3 block=32 args=ramp:128
extern "C" __global__ void stencil_in_place(u32* x) {
    u32 i = blockIdx.x * 32 + LANE;
    u32 next = x[i + 1]; // OTHER
    __syncwarp();
    x[i] += next; // BAD global-race
}

// case: block=64 args=ramp:64
extern "C" __global__ void warps_exchange_without_barrier(u32* x) {
    x[TID] = TID; // BAD global-race
    u32 v = ((volatile u32*)x)[63 - TID]; // BAD global-race
    __syncthreads();
    x[TID] = v;
}

// case: grid=2 block=32 args=zeros:4,raw:4
extern "C" __global__ void atomic_and_plain_load(u32* n, u32* out) {
    atomicAdd(n, 1u); // OTHER
    if (LANE == 0 && blockIdx.x == 1) *out = *n; // BAD global-race
}

// case: grid=2 block=32 args=zeros:8
extern "C" __global__ void atomics_of_two_sizes(u32* n) {
    if (LANE != 0) return;
    if (blockIdx.x == 0) atomicAdd(n, 1u); // OTHER
    else atomicAdd((u64*)n, 1ull); // BAD global-race
}

// case: grid=2 block=32 args=zeros:4
extern "C" __global__ void atomic_for_the_block_only(u32* n) {
    if (LANE == 0) atomicAdd_block(n, 1u); // BAD global-race
}

// case: grid=4 block=64 args=zeros:4,raw:1024,zeros:4
extern "C" __global__ void last_block_without_fence(u32* n, u32* parts, u32* out) {
    __shared__ bool last;
    parts[blockIdx.x * 64 + TID] = TID; // OTHER
    __syncthreads();
    if (TID == 0) last = atomicAdd(n, 1u) == gridDim.x - 1;
    __syncthreads();
    if (!last) return;
    u32 sum = 0;
    for (u32 b = 0; b < 4; b++) sum += ((volatile u32*)parts)[b * 64 + TID]; // BAD global-race
    atomicAdd(out, sum);
}

// case: grid=4 block=64 args=zeros:4,raw:1024,zeros:4
extern "C" __global__ void last_block_with_block_fence(u32* n, u32* parts, u32* out) {
    __shared__ bool last;
    parts[blockIdx.x * 64 + TID] = TID; // OTHER
    __threadfence_block();
    __syncthreads();
    if (TID == 0) last = atomicAdd(n, 1u) == gridDim.x - 1;
    __syncthreads();
    if (!last) return;
    u32 sum = 0;
    for (u32 b = 0; b < 4; b++) sum += ((volatile u32*)parts)[b * 64 + TID]; // BAD global-race
    atomicAdd(out, sum);
}

// case: grid=4 block=64 args=zeros:4,raw:1024,zeros:4
extern "C" __global__ void last_block_without_barrier(u32* n, u32* parts, u32* out) {
    __shared__ bool last;
    parts[blockIdx.x * 64 + TID] = TID; // OTHER
    __threadfence();
    if (TID == 0) last = atomicAdd(n, 1u) == gridDim.x - 1; // the other warp may not have stored yet
    __syncthreads();
    if (!last) return;
    u32 sum = 0;
    for (u32 b = 0; b < 4; b++) sum += ((volatile u32*)parts)[b * 64 + TID]; // BAD global-race
    atomicAdd(out, sum);
}

// case: grid=3 block=32 args=zeros:4,zeros:4
extern "C" __global__ void lock_without_fences(u32* lock, u32* data) {
    if (LANE != 0) return;
    while (atomicCAS(lock, 0u, 1u) != 0u) {}
    *data += 1; // BAD global-race
    atomicExch(lock, 0u);
}

// case: grid=2 block=32 args=ramp:64
extern "C" __global__ void read_only_loads_of_what_is_written(u32* x) {
    u32 v = __ldg(&x[LANE]); // BAD read-only-violation
    __syncwarp();
    x[LANE + 32 * blockIdx.x] = v; // BAD read-only-violation
}

// ---- the rest

// case: block=32 args=ramp:32
extern "C" __global__ void runs_into_a_trap(const u32* x) {
    if (x[LANE] == 31) asm volatile("trap;"); // BAD trap
}

__constant__ u32 table[32];

// case: block=32 args=raw:128
extern "C" __global__ void writes_constant_memory(u32* out) {
    u32* p = (u32*)table;
    asm volatile("" : "+l"(p));
    *(volatile u32*)(p + LANE) = LANE; // BAD write-to-read-only
    out[LANE] = LANE;
}

// case: block=32 args=u32:1,u32:2 expect=wrong-argument
extern "C" __global__ void argument_of_the_wrong_size(u32* out, u32 n) { out[LANE] = n; }

// case: block=32 args=raw:128 expect=wrong-argument
extern "C" __global__ void argument_missing(u32* out, u32 n) { out[LANE] = n; }

// case: block=32 args=raw:128,u32:1,u32:2 expect=wrong-argument
extern "C" __global__ void argument_too_many(u32* out, u32 n) { out[LANE] = n; }

// case: block=1056 args=raw:8192 expect=limit-exceeded
extern "C" __global__ void too_many_threads(u32* out) { out[TID] = TID; }

// case: block=32 shared=200000 args=raw:128 expect=limit-exceeded
extern "C" __global__ void too_much_shared_memory(u32* out) {
    extern __shared__ u32 dynamic[];
    dynamic[LANE] = LANE;
    out[LANE] = dynamic[LANE];
}

// case: block=32 shared=60000 args=raw:128 expect=limit-exceeded
extern "C" __global__ void shared_memory_without_opt_in(u32* out) {
    extern __shared__ u32 dynamic[];
    dynamic[LANE] = LANE;
    out[LANE] = dynamic[LANE];
}

// case: block=128 args=raw:512 expect=limit-exceeded
extern "C" __global__ void __launch_bounds__(64) more_threads_than_compiled_for(u32* out) { out[TID] = TID; }

// case: grid=0 block=32 args=raw:128 expect=limit-exceeded
extern "C" __global__ void no_blocks(u32* out) { out[TID] = TID; }
