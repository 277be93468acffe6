//! Mutants that make no difference, and why: by what was taken out, the kernel, the file that it stands in, and what the line says. A mutant that no case notices and that is not
//! named here fails the test.

use earlybird::vgpu::mutate::Cut;

/// Where something was taken out.
pub struct Site<'s> {
    pub cut: Cut,
    pub kernel: &'s str,
    /// File and line, innermost first.
    pub place: &'s str,
    /// The innermost line of the source.
    pub line: &'s str,
    /// The instruction; `before: ..` and `after: ..`, the lines around; lines that called it; each on a line.
    pub around: &'s str,
}

/// (cut, part of the kernel's name, file, part of the source line and then parts of what is around it, reason).
const REASONS: &[(Cut, &str, &str, &[&str], &str)] = &[
    (
        Cut::Guard,
        "",
        "gemm.cuh",
        &["for (i32 left = i32(length); left > 0; left -= BK) {"],
        "the first test of the loop: a product over nothing adds a slice of zeros, for each load has a guard of its own",
    ),
    (
        Cut::Guard,
        "",
        "conv2d.cu",
        &["if (row0 >= rows) return;"],
        "a block past the pixels of its class loads and stores nothing: each access has a guard of its own",
    ),
    (
        Cut::Guard,
        "",
        "batchnorm.cu",
        &["if (first >= threads) return;"],
        "threads past the last whole row write what others write, too: the same elements with the same coefficients",
    ),
    (
        Cut::Guard,
        "",
        "softmax_xent.cu",
        &["if (n - first >= 32) label = labels[n];"],
        "the label that a lane has fetched is then read again",
    ),
    (
        Cut::Guard,
        "",
        "softmax_xent.cu",
        &["for (u32 start = thread_index() / 32 * 256; start < all; start += warps * 256) {"],
        "the first test of the loop: a warp past the last element finds no sample and no element",
    ),
    (
        Cut::WarpBarrier,
        "",
        "softmax_xent.cu",
        &["__syncwarp();                     // the label's logit is everyone's to read"],
        "where rows are not held in shared memory: probabilities then go to another tensor than logits come from",
    ),
    (Cut::Guard, "", "gemm.cuh", &["if (row >= rows) continue;"], "a test behind one that has made it true"),
    (
        Cut::Guard,
        "",
        "pool.cu",
        &["if (h >= p.h || w0 >= w1) continue;"],
        "the second half: a window row always has pixels, for padding is less than the window",
    ),
    (
        Cut::Guard,
        "",
        "pool.cu",
        &["if (fit < p.kernel_w) return each_window<1>(p, x, f);"],
        "where the jump is over the direct way: the same result",
    ),
    (
        Cut::Guard,
        "",
        "pool.cu",
        &["if (fit == 0) return tiled_bwd<1>(p, dx, load, f);"],
        "where the jump is over the direct way: the same result",
    ),
    (Cut::Guard, "", "pool.cu", &["if (q0 >= q1) continue;"], "a piece without pixels has none to load or store"),
    (
        Cut::Guard,
        "",
        "matmul.cu",
        &["if (k0 + BK < p.k) {"],
        "loading a slice past the last one reads nothing: each of its loads has a guard of its own",
    ),
    (
        Cut::Guard,
        "",
        "columns.cuh",
        &["for (u32 half = COLUMN_THREADS / 2; half >= lanes; half /= 2) {"],
        "the first test of a loop that always runs at least once: 128 >= lanes, which is at most 32",
    ),
    (
        Cut::Guard,
        "",
        "augment.cu",
        &["if (first + i < end) to[first + i] = v[i];"],
        "the first of four elements: the loop has just made sure of it; without the guard of another one the next image, or what lies behind the last, is written",
    ),
    (
        Cut::Barrier,
        "",
        "columns.cuh",
        &["__syncthreads();"],
        "the last barrier of the last column_sum of a kernel: nobody writes the scratch memory after it",
    ),
    (
        Cut::Guard,
        "",
        "mask.cu",
        &["for (u32 i = tid; i < 2048; i += THREADS) s.bins[i] = 0;"],
        "the first test of a loop that always runs: a block has 1024 threads",
    ),
    (
        Cut::Guard,
        "",
        "mask.cu",
        &["for (u32 i = tid; i < p.ratios * 1024; i += THREADS) s.bins[i] = 0;"],
        "the first test of a loop that always runs, and of its unrolled part, which then clears bins of ratios that are not asked for",
    ),
    (
        Cut::Guard,
        "",
        "batchnorm.cu",
        &["= inside ? coef["],
        "lanes past the last column read other words of the scratch memory and write nothing",
    ),
    (
        Cut::Guard,
        "",
        "linear.cu",
        &["for (u32 first = place.row; first < rows; first += 64 * place.step) {"],
        "a thread without rows then adds an empty part: the loop inside has the same test",
    ),
    (
        Cut::Guard,
        "",
        "linear.cu",
        &["for (u32 row = first; row < end; row += place.step) part"],
        "the first test of a loop that the loop around it has made true",
    ),
    (
        Cut::Guard,
        "",
        "matmul.cu",
        &["if (wide && col + 4 <= cols) return *(const float4*)at;"],
        "where the jump is into the wide read: without it the elements are read one by one, with the same result",
    ),
    (
        Cut::Guard,
        "",
        "softmax_xent.cu",
        &["for (u32 i = lane_id(); i < classes; i += 32)"],
        "the first test of the loop: rows that are not held in shared memory have more classes than a warp has lanes",
    ),
    // ---- 8 bits
    (
        Cut::Barrier,
        "batchnorm_fwd_i8",
        "batchnorm_i8.cuh",
        &["__syncthreads();", "after: x = a[0][channel], y = b[0][channel];"],
        "lane 0 alone goes on, with what it has written itself",
    ),
    (
        Cut::Barrier,
        "batchnorm_add_fwd_i8",
        "batchnorm_i8.cuh",
        &["__syncthreads();", "after: x = a[0][channel], y = b[0][channel];"],
        "lane 0 alone goes on, with what it has written itself",
    ),
    (
        Cut::Barrier,
        "batchnorm_bwd_i8_stream",
        "batchnorm_i8.cuh",
        &["__syncthreads();", "after: x = a[0][channel], y = b[0][channel];"],
        "lane 0 alone goes on, with what it has written itself",
    ),
    (
        Cut::Guard,
        "",
        "phases.cuh",
        &["while (atomicAdd(tickets + phase, 0u) < blocks) __nanosleep(100);"],
        "the first test of the loop: a block sleeps once more",
    ),
    (
        Cut::Guard,
        "classifier_fwd_f32",
        "classifier.cu",
        &["for (; k < p.k; k += pace) {"],
        "the first test of the loop: there are no more parts than classes",
    ),
    (
        Cut::Barrier,
        "quantize_bwd_i8",
        "phases.cuh",
        &["__syncthreads();", "after: if (threadIdx.x == 0) atomicAdd(tickets + phase, 1u);", "phases.done(1);"],
        "largest values are stored by lanes of the first warp together with thread 0, which counts them behind its fence: the barrier is for other warps, which store nothing",
    ),
    (
        Cut::Barrier,
        "batchnorm_",
        "bfp.cuh",
        &["__syncthreads();", "after: return v;"],
        "the last barrier of block_max lets its scratch memory be used again: a block of this kernel asks once",
    ),
    (
        Cut::Barrier,
        "quantize_",
        "bfp.cuh",
        &["__syncthreads();", "after: return v;"],
        "the last barrier of block_max lets its scratch memory be used again: a block of this kernel asks once",
    ),
    (
        Cut::Guard,
        "batchnorm_grad_i8",
        "batchnorm_i8.cu",
        &["a[j] = channel < s.stride ? affine[channel + j] : 0.f;"],
        "threads past the last channel then read the second half of the coefficients, and use nothing of it",
    ),
    (
        Cut::Guard,
        "conv2d_",
        "conv2d_i8.cuh",
        &["if (s < iterations) load(s * STAGE);"],
        "of the first stage, which every product has",
    ),
    (
        Cut::Guard,
        "conv2d_",
        "conv2d_i8.cuh",
        &["if (it + STAGES - 1 < iterations) load(write);"],
        "a stage behind the last tap copies nothing: zeros go into a stage that nobody reads",
    ),
    (
        Cut::CopyWait,
        "conv2d_",
        "ptx.cuh",
        &["ptx_cp_async_wait()", "cp.async.wait_group 0"],
        "behind the loop only groups without a copy are in flight: the loop has waited for the last stage",
    ),
    (
        Cut::Guard,
        "_small",
        "conv2d_i8.cuh",
        &["if (m0 >= rows || n0 >= stride) return;"],
        "64 rows of a tile are one warp's, so only columns may be missing: what such a warp loads and stores has guards of its own",
    ),
    (
        Cut::Guard,
        "_any",
        "conv2d_i8.cuh",
        &["if (m0 >= rows || n0 >= stride) return;"],
        "64 rows of a tile are one warp's, so only columns may be missing: what such a warp loads and stores has guards of its own",
    ),
    (
        Cut::Guard,
        "conv2d_",
        "conv2d_i8.cuh",
        &["if (PASS != DGRAD_MASKED && left < BLOCK_ROWS) {"],
        "spares blocks that are full the search for rows that are not there",
    ),
    (
        Cut::Guard,
        "conv2d_",
        "conv2d_i8.cuh",
        &["if (shift == 0) {"],
        "spares gradients without a stride a loop over taps, which finds the same bits",
    ),
    (
        Cut::Guard,
        "conv2d_",
        "conv2d_i8.cuh",
        &["for (u32 i = (u32)-at & (divide - 1); i < taps; i += divide)"],
        "the first test of the loop: the bit of a tap that there is not is asked for by nobody",
    ),
    (
        Cut::Guard,
        "conv2d_",
        "conv2d_i8.cuh",
        &["if (column >= across) {"],
        "of the first 32 columns of a warp, which is gone where there are none",
    ),
    (
        Cut::Guard,
        "_masked",
        "conv2d_i8.cuh",
        &["a[x] = PASS == DGRAD_MASKED && there ? e.affine[channel + x] : 0.f;"],
        "padded channels: their y is 0, and so is their shift, so z is not above 0 and the gradient is masked whatever `a` and the scale are",
    ),
    (
        Cut::Guard,
        "_masked",
        "conv2d_i8.cuh",
        &["shift[x] = PASS == DGRAD_MASKED && there ? e.affine[stride + channel + x] : 0.f;"],
        "the first 16 columns of a block: padded channels have a shift of 0 in memory, too",
    ),
    (
        Cut::Guard,
        "_masked_any",
        "conv2d_i8.cuh",
        &["scale[x] = !there ? 0.f : GRADIENT"],
        "padded channels: their y is 0, and so is their shift, so z is not above 0 and the gradient is masked whatever `a` and the scale are",
    ),
    (
        Cut::Guard,
        "conv2d_wgrad_i8_small",
        "conv2d_wgrad_i8.cu",
        &["if (threadIdx.x >= BK) return;"],
        "blocks of 64 threads have none past the 64 records",
    ),
    (
        Cut::Guard,
        "conv2d_wgrad_i8",
        "conv2d_wgrad_i8.cu",
        &["if (threadIdx.x >= BK) return;", "record(0);"],
        "of the first records: behind them lie the second ones, which are written later",
    ),
    (
        Cut::Guard,
        "conv2d_wgrad_i8",
        "conv2d_wgrad_i8.cu",
        &["if (left > 0) load("],
        "a stage behind the slice copies nothing: zeros go into a stage that nobody reads",
    ),
    (
        Cut::Guard,
        "conv2d_wgrad_i8",
        "conv2d_wgrad_i8.cu",
        &["for (u32 width = min(split.group, per_half - (start - half * per_half)), step = 1; width > 1;"],
        "the first test of the loop: a slice alone meets nobody",
    ),
    (
        Cut::Guard,
        "conv2d_wgrad_i8",
        "conv2d_wgrad_i8.cu",
        &["for (u32 other = z & ~3u; other < (z & ~3u) + members; other++) {"],
        "the first test of a loop over at least two",
    ),
    (
        Cut::Guard,
        "conv2d_wgrad_i8",
        "conv2d_wgrad_i8.cu",
        &["if (groups > 1) {", "after: keep(start);"],
        "a group alone then writes its sums, and is the last to do so",
    ),
    (
        Cut::Guard,
        "quantize_round_i8",
        "quantize.cu",
        &["for (u32 at = (first & ~7u) + threadIdx.x * 8; at < end; at += blockDim.x * 8) {"],
        "the first test of the loop: of eight elements behind the group none is in it",
    ),
    (
        Cut::Guard,
        "sgd_",
        "sgd_i8.cu",
        &["for (u32 at = (first & ~7u) + threadIdx.x * 8; at < end; at += blockDim.x * 8) f("],
        "the first test of the loop: of eight elements behind the row none is in it",
    ),
    (
        Cut::Guard,
        "sgd_",
        "sgd_i8.cu",
        &["for (u32 i = from; i < to; i++) bits = max("],
        "the first test of a loop over a part of a group that has at least one element",
    ),
    (
        Cut::Guard,
        "sgd_step_i8",
        "sgd_i8.cu",
        &["if (rounds) {", "after: u32 bits = 0;"],
        "an exponent is then worked out that nobody uses",
    ),
    (
        Cut::Guard,
        "sgd_step_i8",
        "sgd_i8.cu",
        &["if (rounds) noise = Philox("],
        "noise is then worked out that nobody uses",
    ),
    (
        Cut::Guard,
        "batchnorm_grad_i8",
        "batchnorm_i8.cu",
        &["const u32 h_first = h + 1 > pool.kernel_h ?"],
        "windows that end above the pixel are then looked at, too: its place in them is behind their last, where nobody wins",
    ),
    (
        Cut::Barrier,
        "batchnorm_",
        "phases.cuh",
        &["__syncthreads();", "after: if (threadIdx.x == 0) atomicAdd(tickets + phase, 1u);"],
        "what the blocks of a phase leave is stored by lanes of their first warp together with thread 0, which counts them behind its fence: the barrier is for other warps, which store nothing",
    ),
    // ---- pools and softmax
    (
        Cut::Guard,
        "softmax_xent_fwd_f32",
        "softmax_xent.cu",
        &["loss += (double)logf(sum)"],
        "logf's own case of infinity and NaN: a sum is from 1 to the number of classes, or NaN, which stays NaN on both ways",
    ),
    (
        Cut::Guard,
        "softmax_xent_fwd_f32",
        "softmax_xent.cu",
        &["if (i >= 0) mine[i] = logits[start + i];"],
        "a later element of an unrolled round: the skew is below 8, so 32 elements on i is not negative",
    ),
    (
        Cut::Guard,
        "softmax_xent_fwd_f32",
        "softmax_xent.cu",
        &["if (i >= 0) probs[start + i] = mine[i];"],
        "a later element of an unrolled round: the skew is below 8, so 32 elements on i is not negative",
    ),
    (
        Cut::WarpBarrier,
        "softmax_xent_fwd_f32",
        "softmax_xent.cu",
        &["__syncwarp();", "before: }", "after: }"],
        "a warp's rounds are multiples of 32 rows apart, so they have the same skew: who writes an element in the next round is the lane that has read it in this one",
    ),
    (
        Cut::Guard,
        "pool_fwd_f32_any",
        "pool.cu",
        &["if (i >= 0) f(u32(i));"],
        "in the compiler's copy of the loop for windows without pixels, which no pool has, or of a later round, where i is not negative",
    ),
];

/// Why a mutant makes no difference; `None` where nobody has said so.
pub fn reason(site: &Site) -> Option<&'static str> {
    let innermost = site.place.split(" < ").next().unwrap_or_default();
    let fits = |(cut, kernel, file, parts, _): &&(Cut, &str, &str, &[&str], &str)| {
        let (line, around) = parts.split_first().unwrap();
        *cut == site.cut
            && site.kernel.contains(kernel)
            && innermost.contains(file)
            && site.line.contains(line)
            && around.iter().all(|part| site.around.contains(part))
    };
    REASONS.iter().find(fits).map(|reason| reason.4)
}
