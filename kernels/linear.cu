// linear: what the products of matmul.cu leave over: the bias, added to rows, and its gradient, summed over rows. Convolutions use them, too.
//
// Traffic: bias 8 B per element of y, for a thread stays with one column; gradient 4 B per element of dy. Sums in a fixed order, in chains of at most 64 terms.
#include "columns.cuh"

// y[row][c] += bias[c], element i by thread i modulo `threads`, a multiple of c. At least that many threads.
extern "C" __global__ void __launch_bounds__(256) linear_bias_fwd_f32(const f32* __restrict__ bias, f32* __restrict__ y, u32 n, u32 c, u32 threads) {
    const u32 first = thread_index();
    if (first >= threads || first >= n) return;
    const f32 add = bias[first % c];
    for (u32 i = first; i < n; i += threads) y[i] = __fadd_rn(y[i], add);
}

// dbias[c] = sum over rows of dy[row][c]. Blocks of 256 = 8 columns x 32 rows: grid x over C.
extern "C" __global__ void __launch_bounds__(256) linear_bias_bwd_f32(const f32* __restrict__ dy, f32* __restrict__ dbias, u32 rows, u32 c) {
    __shared__ f32 scratch[COLUMN_THREADS];
    const Place place(8, 1);
    f32 sum = 0.f;
    if (place.column < c) {
        for (u32 first = place.row; first < rows; first += 64 * place.step) {
            f32 part = 0.f;
            const u32 end = min(first + 64 * place.step, rows);
            for (u32 row = first; row < end; row += place.step) part = __fadd_rn(part, dy[(u64)row * c + place.column]);
            sum = __fadd_rn(sum, part);
        }
    }
    sum = column_sum(sum, 8, scratch);
    if (threadIdx.x < 8 && place.column < c) dbias[place.column] = sum;
}
