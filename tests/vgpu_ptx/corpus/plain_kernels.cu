// Kernels for compilers other than NVRTC: no CUDA header, only clang's own NVPTX builtins.
#define GLOBAL extern "C" __attribute__((global))
#define DEVICE __attribute__((device))
#define SHARED __attribute__((shared))
#define CONSTANT __attribute__((constant))
#define TID __nvvm_read_ptx_sreg_tid_x()
#define BID __nvvm_read_ptx_sreg_ctaid_x()
#define BDIM __nvvm_read_ptx_sreg_ntid_x()
#define SYNC __syncthreads()
typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned char u8;

struct Affine { float scale, shift; int relu; u8 tag[3]; };

CONSTANT float coefficients[5] = {1.0f, -0.5f, 0.25f, -0.125f, 0.0625f};
DEVICE const short weights[4] = {1, -2, 3, -4};
DEVICE int shared_counter = 7;
DEVICE int *counter_address = &shared_counter;
DEVICE const char *const words[3] = {"alpha", "beta", "gamma"};

GLOBAL void affine(const float *x, float *y, Affine p, int n) {
    int i = BID * BDIM + TID;
    if (i >= n) return;
    float v = x[i] * p.scale + p.shift;
    if (p.relu && v < 0) v = 0;
    y[i] = v + (float)p.tag[1];
}

GLOBAL void polynomial(const float *x, float *y, int n) {
    for (int i = BID * BDIM + TID; i < n; i += BDIM * __nvvm_read_ptx_sreg_nctaid_x()) {
        float v = 0;
        for (int k = 4; k >= 0; k--) v = v * x[i] + coefficients[k];
        y[i] = v;
    }
}

GLOBAL void block_sum(const int *x, int *sums, int n) {
    SHARED static int part[256];
    int i = BID * BDIM + TID;
    part[TID] = i < n ? x[i] : 0;
    SYNC;
    for (u32 s = BDIM / 2; s > 0; s >>= 1) {
        if (TID < s) part[TID] += part[TID + s];
        SYNC;
    }
    if (TID == 0) sums[BID] = part[0];
}

GLOBAL void warp_sum(const int *x, int *sums) {
    int v = x[BID * BDIM + TID];
    for (int d = 16; d > 0; d >>= 1) v += __nvvm_shfl_sync_bfly_i32(0xffffffff, v, d, 0x1f);
    if ((TID & 31) == 0) sums[(BID * BDIM + TID) >> 5] = v;
}

GLOBAL void histogram(const u8 *x, u32 *bins, int n) {
    SHARED static u32 local_bins[256];
    for (u32 i = TID; i < 256; i += BDIM) local_bins[i] = 0;
    SYNC;
    for (int i = BID * BDIM + TID; i < n; i += BDIM * __nvvm_read_ptx_sreg_nctaid_x())
        __nvvm_atom_add_gen_i((int *)&local_bins[x[i]], 1);
    SYNC;
    for (u32 i = TID; i < 256; i += BDIM)
        if (local_bins[i]) __nvvm_atom_add_gen_i((int *)&bins[i], local_bins[i]);
}

DEVICE __attribute__((noinline)) int collatz(u64 n, int *high) {
    int steps = 0;
    u64 most = n;
    while (n != 1) {
        n = n & 1 ? 3 * n + 1 : n / 2;
        if (n > most) most = n;
        steps++;
    }
    *high = (int)most;
    return steps;
}

GLOBAL void collatz_steps(const u32 *x, int *steps, int *highs, int n) {
    int i = BID * BDIM + TID;
    if (i < n) {
        int high;
        steps[i] = collatz(x[i], &high);
        highs[i] = high;
    }
}

GLOBAL void insertion_sort(const int *x, int *y, int n) {
    int t = BID * BDIM + TID;
    int a[16];
    for (int i = 0; i < 16; i++) {
        int v = x[t * 16 + i], j = i;
        while (j > 0 && a[j - 1] > v) { a[j] = a[j - 1]; j--; }
        a[j] = v;
    }
    for (int i = 0; i < 16; i++) y[t * 16 + i] = a[i];
}

GLOBAL void opcodes(const int *op, const int *a, const int *b, int *y, int n) {
    int i = BID * BDIM + TID;
    if (i >= n) return;
    int r;
    switch (op[i]) {
    case 0: r = a[i] + b[i]; break;
    case 1: r = a[i] - b[i]; break;
    case 2: r = a[i] * b[i]; break;
    case 3: r = b[i] ? a[i] / b[i] : 0; break;
    case 4: r = b[i] ? a[i] % b[i] : 0; break;
    case 5: r = (u32)a[i] >> (b[i] & 31); break;
    case 6: r = a[i] >> (b[i] & 31); break;
    case 7: r = __builtin_popcount(a[i]) + __builtin_clz(b[i] | 1); break;
    case 8: r = (int)(((long long)a[i] * b[i]) >> 32); break;
    case 9: r = a[i] < b[i] ? a[i] : b[i]; break;
    case 10: r = a[i] * weights[b[i] & 3]; break;
    case 11: r = words[(u32)a[i] % 3][b[i] & 3]; break;
    default: r = -1;
    }
    y[i] = r;
}

GLOBAL void wide(const u64 *a, const u64 *b, u64 *y, double *z, int n) {
    int i = BID * BDIM + TID;
    if (i >= n) return;
    u64 d = b[i] ? b[i] : 1;
    y[i] = a[i] / d + a[i] % d + (a[i] << (b[i] & 63)) + (u64)((long long)a[i] >> (b[i] & 63));
    z[i] = (double)a[i] * 0.5 + __builtin_sqrt((double)b[i]) / 3.0 + (double)(float)(long long)a[i];
}

GLOBAL void last_block(const float *x, float *partial, float *total, u32 *done, int n) {
    SHARED static float part[128];
    SHARED static volatile int last; // else LLVM moves its load over the barrier, into a race
    float s = 0;
    for (int i = BID * BDIM + TID; i < n; i += BDIM * __nvvm_read_ptx_sreg_nctaid_x()) s += x[i];
    part[TID] = s;
    SYNC;
    for (u32 k = 64; k > 0; k >>= 1) {
        if (TID < k) part[TID] += part[TID + k];
        SYNC;
    }
    if (TID == 0) {
        partial[BID] = part[0];
        __nvvm_membar_gl();
        last = (u32)__nvvm_atom_add_gen_i((int *)done, 1) == __nvvm_read_ptx_sreg_nctaid_x() - 1;
    }
    SYNC;
    if (last && TID == 0) {
        __nvvm_membar_gl();
        float sum = 0;
        for (u32 b = 0; b < __nvvm_read_ptx_sreg_nctaid_x(); b++) sum += ((volatile float *)partial)[b];
        *total = sum;
    }
}

GLOBAL void counter(int *y) {
    if (TID == 0) y[0] = *counter_address + 1;
}
