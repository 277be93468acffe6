// Kernels that are right, many of them close to being wrong. Nothing may be found in them, under any schedule. `case:` says how to launch (the language is in
// main.rs), `out=FIRST,..` what the first words of the first buffer are afterwards.
#include "common.cuh"

// ---- barriers and shared memory

// case: block=64 args=raw:256 out=63,62,61
extern "C" __global__ void reverse_through_shared(u32* out) {
    __shared__ u32 s[64];
    s[TID] = TID;
    __syncthreads();
    out[TID] = s[63 - TID];
}

// case: block=64 args=raw:256,ramp:64 out=192,189
extern "C" __global__ void barrier_on_both_sides_of_a_loop(u32* out, const u32* in) {
    __shared__ u32 s[64];
    u32 sum = 0;
    for (u32 i = 0; i < 3; i++) {
        s[TID] = in[TID] + i;
        __syncthreads();
        sum += s[63 - TID];
        __syncthreads();
    }
    out[TID] = sum;
}

// case: block=64 args=raw:256,ramp:64 out=190
extern "C" __global__ void two_buffers_need_one_barrier(u32* out, const u32* in) {
    __shared__ u32 s[2][64];
    u32 sum = 0;
    for (u32 i = 0; i < 3; i++) {
        s[i % 2][TID] = in[TID];
        __syncthreads();
        sum += s[i % 2][63 - TID];
    }
    out[TID] = sum + (TID == 0);
}

// case: grid=3 block=256 args=zeros:12,ramp:256 out=32640,32640,32640
extern "C" __global__ void tree_reduction(u32* out, const u32* in) {
    __shared__ u32 s[256];
    s[TID] = in[TID];
    for (u32 d = 128; d != 0; d >>= 1) {
        __syncthreads();
        if (TID < d) s[TID] += s[TID + d];
    }
    if (TID == 0) out[blockIdx.x] = s[0];
}

// case: block=256 args=raw:1024 out=0,1,3,6,10
extern "C" __global__ void scan_in_two_buffers(u32* out) {
    __shared__ u32 s[2][256];
    u32 from = 0;
    s[0][TID] = TID;
    for (u32 d = 1; d < 256; d *= 2, from ^= 1) {
        __syncthreads();
        s[from ^ 1][TID] = s[from][TID] + (TID >= d ? s[from][TID - d] : 0);
    }
    out[TID] = s[from][TID];
}

// case: block=128 args=raw:512 out=1
extern "C" __global__ void bytes_of_one_word_by_different_threads(u32* out) {
    __shared__ u8 s[512];
    for (u32 i = 0; i < 4; i++) s[TID + i * 128] = (u8)(TID == 0);
    __syncthreads();
    out[TID] = *(u32*)&s[TID * 4];
}

// case: block=64 args=raw:128 out=65536
extern "C" __global__ void half_words_in_global_memory(u16* out) { out[TID] = (u16)TID; }

// case: block=64 args=raw:256 out=7,7
extern "C" __global__ void all_store_the_same_value(u32* out) {
    __shared__ u32 s;
    if (WARP == 0) s = 7;
    __syncthreads();
    out[TID] = s;
}

// case: block=128 args=raw:512,u32:3 out=0,1
extern "C" __global__ void work_for_some_barrier_for_all(u32* out, u32 n) {
    __shared__ u32 s[128];
    s[TID] = 0;
    __syncthreads();
    for (u32 i = 0; i < n; i++) {
        if (TID % 2 == i % 2) s[TID] += TID;
        __syncthreads();
    }
    out[TID] = s[TID] / (TID % 2 == 0 ? 2 : 1);
}

// case: block=96 args=raw:4 out=48
extern "C" __global__ void barrier_that_counts(u32* out) {
    int n = __syncthreads_count(TID % 2);
    int any = __syncthreads_or(TID == 95), all = __syncthreads_and(TID < 95);
    if (TID == 0) *out = n + (any == 0) + (all != 0);
}

// case: block=64 args=raw:128 out=31,30
extern "C" __global__ void producer_and_consumer(u32* out) {
    __shared__ u32 s[2][32];
    u32 sum = 0;
    for (u32 i = 0; i < 4; i++) {
        u32 b = i % 2;
        if (WARP == 0) {
            if (i >= 2) { if (b == 0) bar_sync<3, 64>(); else bar_sync<4, 64>(); }
            s[b][LANE] = LANE + i;
            if (b == 0) bar_arrive<1, 64>(); else bar_arrive<2, 64>();
        } else {
            if (b == 0) bar_sync<1, 64>(); else bar_sync<2, 64>();
            sum += s[b][31 - LANE];
            if (i < 2) { if (b == 0) bar_arrive<3, 64>(); else bar_arrive<4, 64>(); }
        }
    }
    if (WARP == 1) out[LANE] = (sum - 6) / 4;
}

// case: block=128 args=raw:512 out=63
extern "C" __global__ void halves_of_a_block_on_their_own(u32* out) {
    __shared__ u32 s[128];
    u32 half = TID / 64;
    s[TID] = TID;
    if (half == 0) bar_sync<1, 64>();
    else bar_sync<2, 64>();
    out[TID] = s[half * 64 + 63 - TID % 64];
}

// case: block=64 args=raw:256 out=4
extern "C" __global__ void histogram_in_shared_memory(u32* out) {
    __shared__ u32 bins[16];
    if (TID < 16) bins[TID] = 0;
    __syncthreads();
    atomicAdd(&bins[TID % 16], 1u);
    __syncthreads();
    if (TID < 16) out[TID] = bins[TID];
}

// case: grid=2 block=64 args=raw:512,u32:64 shared=512 out=63
extern "C" __global__ void dynamic_memory_in_two_parts(u32* out, u32 n) {
    extern __shared__ u32 dynamic[];
    u32* left = dynamic;
    u32* right = dynamic + n;
    left[TID] = TID;
    right[n - 1 - TID] = blockIdx.x * 100 + TID;
    __syncthreads();
    out[blockIdx.x * 64 + TID] = left[63 - TID] + right[63] * 0 + (right[TID] - blockIdx.x * 100) * 0;
}

// case: grid=2,2 block=32,8 args=raw:16384,ramp:4096 out=0,64,128
extern "C" __global__ void transpose(u32* out, const u32* in) {
    __shared__ u32 tile[32][33];
    u32 x = blockIdx.x * 32 + threadIdx.x, y = blockIdx.y * 32 + threadIdx.y;
    for (u32 i = 0; i < 32; i += 8) tile[threadIdx.y + i][threadIdx.x] = in[(y + i) * 64 + x];
    __syncthreads();
    x = blockIdx.y * 32 + threadIdx.x, y = blockIdx.x * 32 + threadIdx.y;
    for (u32 i = 0; i < 32; i += 8) out[(y + i) * 64 + x] = tile[threadIdx.x][threadIdx.y + i];
}

// case: grid=2,2 block=16,16 args=raw:4096,ramp:1024,ramp:1024
extern "C" __global__ void tiled_product(u32* c, const u32* a, const u32* b) {
    __shared__ u32 as[16][16], bs[16][16];
    u32 row = blockIdx.y * 16 + threadIdx.y, col = blockIdx.x * 16 + threadIdx.x, sum = 0;
    for (u32 k0 = 0; k0 < 32; k0 += 16) {
        as[threadIdx.y][threadIdx.x] = a[row * 32 + k0 + threadIdx.x];
        bs[threadIdx.y][threadIdx.x] = b[(k0 + threadIdx.y) * 32 + col];
        __syncthreads();
        for (u32 k = 0; k < 16; k++) sum += as[threadIdx.y][k] * bs[k][threadIdx.x];
        __syncthreads();
    }
    c[row * 32 + col] = sum;
}

__device__ __noinline__ u32 through_a_pointer(const u32* p, u32 i) { return p[i]; }

// case: block=64 args=raw:256,ramp:64 out=63,63
extern "C" __global__ void generic_pointers(u32* out, const u32* in) {
    __shared__ u32 s[64];
    s[TID] = TID;
    __syncthreads();
    out[TID] = through_a_pointer(TID % 2 == 0 ? s : in, 63 - TID) + (TID % 2);
}

// ---- threads of a warp

// case: block=32 args=raw:128 out=496
extern "C" __global__ void warp_reduction_with_syncwarp(u32* out) {
    __shared__ u32 s[32];
    s[LANE] = LANE;
    for (u32 d = 16; d != 0; d >>= 1) {
        __syncwarp();
        u32 v = LANE < d ? s[LANE + d] : 0;
        __syncwarp();
        if (LANE < d) s[LANE] += v;
    }
    __syncwarp();
    out[LANE] = s[0];
}

// case: block=64 args=raw:256 out=7,6,5,4,3,2,1,0,15
extern "C" __global__ void tiles_of_eight_lanes(u32* out) {
    __shared__ u32 s[64];
    u32 mask = 0xffu << (LANE & 24);
    s[TID] = TID;
    __syncwarp(mask);
    out[TID] = s[TID ^ 7];
}

// case: block=32 args=raw:128 out=1,0
extern "C" __global__ void lanes_hand_over_step_by_step(u32* out) {
    __shared__ u32 s[32];
    if (LANE < 2) {
        s[LANE] = LANE;
        __syncwarp(3);
        out[LANE] = s[1 - LANE];
    } else {
        out[LANE] = 5;
    }
}

// case: block=64 args=raw:256 out=496,2016
extern "C" __global__ void shuffles(u32* out) {
    u32 v = LANE;
    for (u32 d = 16; d != 0; d >>= 1) v += __shfl_xor_sync(FULL, v, d);
    u32 scan = TID;
    for (u32 d = 1; d < 32; d *= 2) {
        u32 below = __shfl_up_sync(FULL, scan, d);
        if (LANE >= d) scan += below;
    }
    out[TID] = TID == 1 ? 2016 + (scan != 1) : v;
}

// case: block=32 args=raw:128 out=120,376
extern "C" __global__ void half_warps_shuffle_on_their_own(u32* out) {
    u32 v = LANE;
    if (LANE < 16) {
        for (u32 d = 8; d != 0; d >>= 1) v += __shfl_xor_sync(0x0000ffffu, v, d);
    } else {
        for (u32 d = 8; d != 0; d >>= 1) v += __shfl_xor_sync(0xffff0000u, v, d);
    }
    if (LANE % 16 == 0) out[LANE / 16] = v;
}

// case: block=40 args=raw:160,u32:37 out=1
extern "C" __global__ void threads_leave_before_votes(u32* out, u32 n) {
    if (TID >= n) return;
    u32 mask = __activemask();
    u32 votes = __ballot_sync(mask, TID % 2 == 0);
    out[TID] = __popc(votes) != 0;
}

// case: block=64 args=raw:256,raw:4 out=0,2,4
extern "C" __global__ void compaction_by_ballot(u32* out, u32* n) {
    __shared__ u32 base[2];
    bool keep = TID % 2 == 0;
    u32 votes = __ballot_sync(FULL, keep);
    if (LANE == 0) base[WARP] = __popc(votes);
    __syncthreads();
    u32 before = WARP == 0 ? 0 : base[0];
    if (keep) out[before + __popc(votes & ((1u << LANE) - 1))] = TID;
    if (TID == 0) *n = base[0] + base[1];
}

// case: block=64 args=zeros:16 out=16,16,16,16
extern "C" __global__ void one_atomic_per_group(u32* out) {
    u32 key = TID % 4;
    u32 peers = __match_any_sync(FULL, key);
    if (LANE == __ffs(peers) - 1) atomicAdd(&out[key], __popc(peers));
}

// case: block=32 args=raw:128 out=3,496
extern "C" __global__ void redux_and_match_all(u32* out) {
    u32 sum = __reduce_add_sync(FULL, LANE);
    int same;
    u32 all = __match_all_sync(FULL, sum, &same);
    out[LANE] = LANE == 1 ? sum : (all == FULL) * 2 + same;
}

// case: block=32 args=raw:128 out=2,2
extern "C" __global__ void nested_branches_meet_again(u32* out) {
    __shared__ u32 s[32];
    u32 v = 0;
    for (u32 i = 0; i < LANE % 4; i++) {
        if ((i ^ LANE) & 1) v += 1;
        else v += 2;
    }
    s[LANE] = v;
    __syncwarp();
    out[LANE] = s[LANE ^ 2] * 0 + 2;
}

// ---- cp.async

// case: block=64 args=raw:256,ramp:256 out=252
extern "C" __global__ void copy_wait_barrier_read(u32* out, const u32* in) {
    __shared__ uint4 s[64];
    copy16(&s[TID], in + TID * 4);
    commit();
    wait<0>();
    __syncthreads();
    out[TID] = s[63 - TID].x;
}

template <int STAGES> __device__ __forceinline__ void pipeline(u32* out, const u32* in) {
    __shared__ uint4 s[STAGES][64];
    const u32 slices = 7;
    u32 sum = 0;
    for (u32 i = 0; i < STAGES - 1; i++) {
        copy16(&s[i][TID], in + i * 256 + TID * 4);
        commit();
    }
    for (u32 i = 0; i < slices; i++) {
        wait<STAGES - 2>();
        __syncthreads();
        // The slice that is overwritten was read before this barrier by everybody.
        u32 next = i + STAGES - 1;
        if (next < slices) copy16(&s[next % STAGES][TID], in + next * 256 + TID * 4);
        commit();
        sum += s[i % STAGES][63 - TID].x;
    }
    out[TID] = sum;
}

// case: block=64 args=raw:256,ramp:1792 out=7140
extern "C" __global__ void pipeline_of_two(u32* out, const u32* in) { pipeline<2>(out, in); }
// case: block=64 args=raw:256,ramp:1792 out=7140
extern "C" __global__ void pipeline_of_three(u32* out, const u32* in) { pipeline<3>(out, in); }
// case: block=64 args=raw:256,ramp:1792 out=7140
extern "C" __global__ void pipeline_of_four(u32* out, const u32* in) { pipeline<4>(out, in); }

// case: block=32 args=raw:128,ramp:102,u32:102 out=0,4
extern "C" __global__ void copy_of_a_tail_with_zeros(u32* out, const u32* in, u32 n) {
    __shared__ uint4 s[32];
    u32 left = LANE * 4 < n ? min(n - LANE * 4, 4u) : 0;
    copy16(&s[LANE], in + LANE * 4, left * 4);
    commit();
    wait<0>();
    __syncwarp();
    out[LANE] = s[LANE].x + s[31].w;
}

// case: block=32 args=raw:128,ramp:32 out=1,2
extern "C" __global__ void copies_of_single_words(u32* out, const u32* in) {
    __shared__ u32 s[32];
    copy4(&s[LANE], in + LANE);
    asm volatile("cp.async.wait_all;" ::: "memory");
    __syncwarp();
    out[LANE] = s[(LANE + 1) % 32];
}

// ---- tensor cores

// case: block=32 args=raw:512,ramp:256
extern "C" __global__ void matrix_tile(int* out, const u32* in) {
    __shared__ __align__(16) u32 s[256];
    for (u32 i = LANE; i < 256; i += 32) s[i] = in[i];
    __syncwarp();
    u32 a[4], b[4];
    ldmatrix4(a, &s[LANE * 4]);
    ldmatrix4(b, &s[128 + LANE * 4]);
    int c[4] = {0, 0, 0, 0};
    mma_s8(c, a, b);
    __syncwarp();
    s[LANE] = (u32)c[0]; // everybody has read
    for (u32 i = 0; i < 4; i++) out[LANE * 4 + i] = c[i];
}

// ---- global memory

// case: grid=3 block=64 args=raw:600,ramp:150,u32:150 out=0,2,4
extern "C" __global__ void guarded_tail(u32* out, const u32* in, u32 n) {
    u32 i = blockIdx.x * 64 + TID;
    if (i < n) out[i] = in[i] * 2;
}

// case: grid=2 block=32 args=raw:600,ramp:150,u32:150 out=0,2,4
extern "C" __global__ void grid_stride_loop(u32* out, const u32* in, u32 n) {
    for (u32 i = blockIdx.x * 32 + TID; i < n; i += gridDim.x * 32) out[i] = in[i] * 2;
}

// case: block=64 args=raw:604,ramp:151,u32:151 out=1,2
extern "C" __global__ void vectors_and_a_scalar_tail(u32* out, const u32* in, u32 n) {
    for (u32 i = TID; i < n / 4; i += 64) {
        uint4 v = ((const uint4*)in)[i];
        ((uint4*)out)[i] = make_uint4(v.x + 1, v.y + 1, v.z + 1, v.w + 1);
    }
    if (TID < n % 4) out[n / 4 * 4 + TID] = in[n / 4 * 4 + TID] + 1;
}

// case: block=64 args=ramp:64 out=63,62
extern "C" __global__ void exchange_in_global_memory(u32* x) {
    u32 v = x[63 - TID];
    __syncthreads();
    x[TID] = v;
}

// case: grid=4 block=32 args=zeros:16 out=32,32
extern "C" __global__ void atomics_from_all_blocks(u32* n) {
    atomicAdd(&n[LANE % 4], 1u);
    atomicMax(&n[LANE % 4], 2u);
}

// case: grid=2 block=64 args=ramp:64 out=63
extern "C" __global__ void maximum_by_compare_and_swap(u32* x) {
    u32 mine = x[63] < 63 ? 0 : (blockIdx.x == 0 ? TID : 0), old = 0;
    for (;;) {
        u32 seen = atomicCAS(&x[0], old, max(old, mine));
        if (seen == old) break;
        old = seen;
    }
}

template <typename T> __device__ __forceinline__ T fresh(const T* p) { return *(const volatile T*)p; }

// case: grid=5 block=64 args=zeros:4,zeros:4,raw:1280 out=10080
extern "C" __global__ void last_block_sums_up(u32* out, u32* n, u32* parts) {
    __shared__ bool last;
    parts[blockIdx.x * 64 + TID] = TID;
    __threadfence();
    __syncthreads();
    if (TID == 0) last = atomicAdd(n, 1u) == gridDim.x - 1;
    __syncthreads();
    if (!last) return;
    u32 sum = 0;
    for (u32 b = 0; b < gridDim.x; b++) sum += fresh(&parts[b * 64 + TID]);
    atomicAdd(out, sum);
    if (TID == 0) *n = 0;
}

// case: grid=5 block=64 args=zeros:4,zeros:4,raw:20 out=10080
extern "C" __global__ void last_block_after_a_block_reduction(u32* out, u32* n, u32* parts) {
    __shared__ u32 s[2];
    u32 sum = __reduce_add_sync(FULL, TID);
    if (LANE == 0) s[WARP] = sum;
    __syncthreads();
    if (TID != 0) return;
    parts[blockIdx.x] = s[0] + s[1];
    __threadfence();
    if (atomicAdd(n, 1u) == gridDim.x - 1) {
        __threadfence();
        sum = 0;
        for (u32 b = 0; b < gridDim.x; b++) sum += parts[b];
        *out = sum;
    }
}

// case: grid=5 block=32 args=zeros:4,zeros:4,raw:20 out=5
extern "C" __global__ void last_block_by_acquire_and_release(u32* out, u32* n, u32* parts) {
    if (TID != 0) return;
    parts[blockIdx.x] = 1;
    u32 before;
    asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], 1;" : "=r"(before) : "l"(n) : "memory");
    if (before == gridDim.x - 1) {
        u32 sum = 0;
        for (u32 b = 0; b < gridDim.x; b++) sum += fresh(&parts[b]);
        *out = sum;
    }
}

// case: grid=3 block=64 args=zeros:4,zeros:4 out=6
extern "C" __global__ void spin_lock(u32* data, u32* lock) {
    if (LANE != 0) return;
    while (atomicCAS(lock, 0u, 1u) != 0u) {}
    __threadfence();
    *(volatile u32*)data = *(volatile u32*)data + 1;
    __threadfence();
    atomicExch(lock, 0u);
}

// case: grid=2 block=32 args=zeros:4,zeros:4 out=64
extern "C" __global__ void every_thread_takes_the_lock(u32* data, u32* lock) {
    bool done = false;
    while (!done) {
        if (atomicCAS(lock, 0u, 1u) == 0u) {
            __threadfence();
            *data += 1;
            __threadfence();
            atomicExch(lock, 0u);
            done = true;
        }
    }
}

// case: block=64 args=raw:128,zeros:4 out=31,30
extern "C" __global__ void flag_between_warps(u32* out, u32* flag) {
    __shared__ u32 s[32];
    if (WARP == 0) {
        s[LANE] = LANE;
        __syncwarp();
        if (LANE == 0) asm volatile("fence.acq_rel.cta; st.relaxed.cta.global.u32 [%0], 1;" ::"l"(flag) : "memory");
    } else {
        u32 set = 0;
        while (set == 0) asm volatile("ld.acquire.cta.global.u32 %0, [%1];" : "=r"(set) : "l"(flag) : "memory");
        __syncwarp();
        out[LANE] = s[31 - LANE];
    }
}

// case: block=64 args=raw:256,ramp:64 out=0,1
extern "C" __global__ void read_only_loads(u32* out, const u32* __restrict__ in) { out[TID] = __ldg(&in[TID]); }

__constant__ u32 table[4] = {5, 6, 7, 8};

// case: block=32 args=raw:128 out=5,6,7,8,5
extern "C" __global__ void constants(u32* out) { out[LANE] = table[LANE % 4]; }

// case: block=32 args=raw:128,u32:3 out=3,6
extern "C" __global__ void local_array(u32* out, u32 n) {
    u32 a[8];
    for (u32 i = 0; i < 8; i++) a[i] = i * n;
    out[LANE] = a[(LANE + 1) % 8];
}

// case: grid=2 block=32 args=raw:256,raw:256 out=0,1
extern "C" __global__ void scratch_of_every_block(u32* out, u32* scratch) {
    u32 i = blockIdx.x * 32 + LANE;
    scratch[i] = i;
    __syncthreads();
    out[i] = scratch[i ^ 1] ^ 1;
}

// case: block=32 args=null,raw:128 out=0
extern "C" __global__ void optional_argument(const u32* in, u32* out) { out[LANE] = in != nullptr ? in[LANE] : LANE; }
