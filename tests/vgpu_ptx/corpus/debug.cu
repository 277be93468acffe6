// A kernel with calls, a struct, local and shared memory, for `--device-debug`.
struct Pair { int low, high; };
__device__ Pair order(int a, int b) { Pair p = {a < b ? a : b, a < b ? b : a}; return p; }
__device__ static int square(int x) { return x * x; }
extern "C" __global__ void debug(const int* in, int* out, int n) {
    __shared__ int tile[64];
    int t = threadIdx.x, i = blockIdx.x * 64 + t;
    tile[t] = i < n ? in[i] : 0;
    __syncthreads();
    Pair p = order(tile[t], tile[t ^ 1]);
    if (i < n) out[i] = (t & 1) ? p.high : square(p.low);
}
