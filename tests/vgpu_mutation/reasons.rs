//! Mutants that make no difference, and why: by what was taken out, the file that it stands in, and what the line says. Entries marked [`OPEN`] are no explanation: they name
//! what no case notices yet, so that nothing new joins them unseen.

use earlybird::vgpu::mutate::Cut;

/// Not explained, and not found: a case is missing.
const OPEN: &str = "OPEN: no case notices it yet";

/// (cut, file, part of the source line, reason).
const REASONS: &[(Cut, &str, &str, &str)] = &[
    (
        Cut::Guard,
        "gemm.cuh",
        "for (i32 left = i32(length); left > 0; left -= BK) {",
        "the first test of the loop: a product over nothing adds a slice of zeros, for each load has a guard of its own",
    ),
    (
        Cut::Guard,
        "conv2d.cu",
        "if (row0 >= rows) return;",
        "a block past the pixels of its class loads and stores nothing: each access has a guard of its own",
    ),
    (
        Cut::Guard,
        "batchnorm.cu",
        "if (first >= threads) return;",
        "threads past the last whole row write what others write, too: the same elements with the same coefficients",
    ),
    (
        Cut::Guard,
        "softmax_xent.cu",
        "if (n - first >= 32) label = labels[n];",
        "the label that a lane has fetched is then read again",
    ),
    (
        Cut::Guard,
        "softmax_xent.cu",
        "for (u32 start = thread_index() / 32 * 256; start < all; start += warps * 256) {",
        "the first test of the loop: a warp past the last element finds no sample and no element",
    ),
    (
        Cut::WarpBarrier,
        "softmax_xent.cu",
        "__syncwarp();                     // the label's logit is everyone's to read",
        "where rows are not held in shared memory: probabilities then go to another tensor than logits come from",
    ),
    (Cut::Guard, "gemm.cuh", "if (row >= rows) continue;", "a test behind one that has made it true"),
    (
        Cut::Guard,
        "pool.cu",
        "if (h >= p.h || w0 >= w1) continue;",
        "the second half: a window row always has pixels, for padding is less than the window",
    ),
    (
        Cut::Guard,
        "pool.cu",
        "if (fit < p.kernel_w) return each_window<1>(p, x, f);",
        "where the jump is over the direct way: the same result",
    ),
    (
        Cut::Guard,
        "pool.cu",
        "if (fit == 0) return tiled_bwd<1>(p, dx, load, f);",
        "where the jump is over the direct way: the same result",
    ),
    (Cut::Guard, "pool.cu", "if (q0 >= q1) continue;", "a piece without pixels has none to load or store"),
    (
        Cut::Guard,
        "matmul.cu",
        "if (k0 + BK < p.k) {",
        "loading a slice past the last one reads nothing: each of its loads has a guard of its own",
    ),
    (
        Cut::Guard,
        "columns.cuh",
        "for (u32 half = COLUMN_THREADS / 2; half >= lanes; half /= 2) {",
        "the first test of a loop that always runs at least once: 128 >= lanes, which is at most 32",
    ),
    (
        Cut::Guard,
        "augment.cu",
        "if (first + i < end) to[first + i] = v[i];",
        "the first of four elements: the loop has just made sure of it; without the guard of another one the next image, or what lies behind the last, is written",
    ),
    (
        Cut::Barrier,
        "columns.cuh",
        "__syncthreads();",
        "the last barrier of the last column_sum of a kernel: nobody writes the scratch memory after it",
    ),
    (
        Cut::Guard,
        "mask.cu",
        "for (u32 i = tid; i < 2048; i += THREADS) s.bins[i] = 0;",
        "the first test of a loop that always runs: a block has 1024 threads",
    ),
    (
        Cut::Guard,
        "mask.cu",
        "for (u32 i = tid; i < p.ratios * 1024; i += THREADS) s.bins[i] = 0;",
        "the first test of a loop that always runs, and of its unrolled part, which then clears bins of ratios that are not asked for",
    ),
    (
        Cut::Guard,
        "batchnorm.cu",
        "= inside ? coef[",
        "lanes past the last column read other words of the scratch memory and write nothing",
    ),
    (
        Cut::Guard,
        "linear.cu",
        "for (u32 first = place.row; first < rows; first += 64 * place.step) {",
        "a thread without rows then adds an empty part: the loop inside has the same test",
    ),
    (
        Cut::Guard,
        "linear.cu",
        "for (u32 row = first; row < end; row += place.step) part",
        "the first test of a loop that the loop around it has made true",
    ),
    (
        Cut::Guard,
        "matmul.cu",
        "if (wide && col + 4 <= cols) return *(const float4*)at;",
        "where the jump is into the wide read: without it the elements are read one by one, with the same result",
    ),
    (
        Cut::Guard,
        "softmax_xent.cu",
        "for (u32 i = lane_id(); i < classes; i += 32)",
        "the first test of the loop: rows that are not held in shared memory have more classes than a warp has lanes",
    ),
    (Cut::Guard, "softmax_xent.cu", "if (i >= 0) mine[i] = logits[start + i];", OPEN),
    (Cut::Guard, "softmax_xent.cu", "if (i >= 0) probs[start + i] = mine[i];", OPEN),
    (Cut::Guard, "softmax_xent.cu", "const f32 own = label < classes ? row[label]", OPEN),
    (Cut::WarpBarrier, "softmax_xent.cu", "__syncwarp();", OPEN),
    (Cut::Guard, "pool.cu", "if (h >= p.h || w >= p.w) return false;", OPEN),
    (Cut::Guard, "pool.cu", "if (i >= 0) f(u32(i));", OPEN),
];

/// Why a mutant makes no difference; `None` where nobody has said so. `place` is the file and line, innermost first.
pub fn reason(cut: Cut, place: &str, line: &str) -> Option<&'static str> {
    let innermost = place.split(" < ").next().unwrap_or_default();
    REASONS.iter().find(|r| r.0 == cut && innermost.contains(r.1) && line.contains(r.2)).map(|r| r.3)
}
