// conv2d in integers: forward and data gradient, each an implicit GEMM whose epilogue makes a stored tensor (formulas in src/backend/int8.rs, tile in conv2d_i8.cuh).
//
// forward  y[m,k]  = f32(sum x*w) * 2^(ew[k]-6) * 2^(ex[n]-6), stored in blocks, with exact sums and extremes per 64 rows for the batchnorm behind it.
//          `_stream`: in 16 bits or f32, on top of another tensor or not, and stored as well where a batchnorm reads it.
// dgrad    dx[m,c] = f32(sum dyd*w) * 2^(Ed[n]-12) over the transposed weights; `_masked`: kept where the batchnorm before it has z > 0, with the sums of its gradient.
// Traffic per output element: 1 B written, and the input read once from memory (taps come from L1 and L2); `_masked` reads 1 B more, `_stream` reads and writes 2 B (in f32: 4 B) more.
// Tiles: 128 x 128, `_n64` 128 x 64, `_small` 64 x 64, `_n32` 128 x 32; `_any` 64 x 64 for more than 12 taps a side and for strided gradients. The same bits from each.
#include "conv2d_i8.cuh"

// Forward, tiles of 128 x 128. Blocks of 128, 81920 bytes of shared memory, grid x over rows, y over columns; zero is 0.
extern "C" __global__ void __launch_bounds__(128, 2) conv2d_fwd_i8(
    const __grid_constant__ Conv2dI8 p, const i8* __restrict__ x, const i8* __restrict__ x_exponents, const i8* __restrict__ w, const i8* __restrict__ w_exponents,
    const u32* __restrict__ step, i8* __restrict__ y, i8* __restrict__ y_exponents, OutputSums* __restrict__ sums, u32 zero) {
    const Epilogue e = {x_exponents, w_exponents, step, nullptr, nullptr, nullptr, y, y_exponents, (uint2*)sums, zero};
    conv_tile<128, 128, 64, 5, FORWARD, false>(p, x, w, e);
}

// Forward, tiles of 128 x 64. Blocks of 128, 61440 bytes of shared memory, grid x over rows, y over columns; zero is 0.
extern "C" __global__ void __launch_bounds__(128, 3) conv2d_fwd_i8_n64(
    const __grid_constant__ Conv2dI8 p, const i8* __restrict__ x, const i8* __restrict__ x_exponents, const i8* __restrict__ w, const i8* __restrict__ w_exponents,
    const u32* __restrict__ step, i8* __restrict__ y, i8* __restrict__ y_exponents, OutputSums* __restrict__ sums, u32 zero) {
    const Epilogue e = {x_exponents, w_exponents, step, nullptr, nullptr, nullptr, y, y_exponents, (uint2*)sums, zero};
    conv_tile<128, 64, 32, 5, FORWARD, false>(p, x, w, e);
}

// Forward, tiles of 64 x 64. Blocks of 64, 49152 bytes of shared memory, grid x over rows, y over columns; zero is 0.
extern "C" __global__ void __launch_bounds__(64, 5) conv2d_fwd_i8_small(
    const __grid_constant__ Conv2dI8 p, const i8* __restrict__ x, const i8* __restrict__ x_exponents, const i8* __restrict__ w, const i8* __restrict__ w_exponents,
    const u32* __restrict__ step, i8* __restrict__ y, i8* __restrict__ y_exponents, OutputSums* __restrict__ sums, u32 zero) {
    const Epilogue e = {x_exponents, w_exponents, step, nullptr, nullptr, nullptr, y, y_exponents, (uint2*)sums, zero};
    conv_tile<64, 64, 32, 6, FORWARD, false>(p, x, w, e);
}

// Forward, tiles of 128 x 32. Blocks of 64, 61440 bytes of shared memory, grid x over rows, y over columns; zero is 0.
extern "C" __global__ void __launch_bounds__(64, 4) conv2d_fwd_i8_n32(
    const __grid_constant__ Conv2dI8 p, const i8* __restrict__ x, const i8* __restrict__ x_exponents, const i8* __restrict__ w, const i8* __restrict__ w_exponents,
    const u32* __restrict__ step, i8* __restrict__ y, i8* __restrict__ y_exponents, OutputSums* __restrict__ sums, u32 zero) {
    const Epilogue e = {x_exponents, w_exponents, step, nullptr, nullptr, nullptr, y, y_exponents, (uint2*)sums, zero};
    conv_tile<128, 32, 32, 6, FORWARD, false>(p, x, w, e);
}

// Forward, tiles of 64 x 64. Blocks of 64, 32768 bytes of shared memory, grid x over rows, y over columns; zero is 0.
extern "C" __global__ void __launch_bounds__(64, 5) conv2d_fwd_i8_any(
    const __grid_constant__ Conv2dI8 p, const i8* __restrict__ x, const i8* __restrict__ x_exponents, const i8* __restrict__ w, const i8* __restrict__ w_exponents,
    const u32* __restrict__ step, i8* __restrict__ y, i8* __restrict__ y_exponents, OutputSums* __restrict__ sums, u32 zero) {
    const Epilogue e = {x_exponents, w_exponents, step, nullptr, nullptr, nullptr, y, y_exponents, (uint2*)sums, zero};
    conv_tile<64, 64, 32, 4, FORWARD, true>(p, x, w, e);
}

// Forward into a residual stream, tiles of 128 x 128. Blocks of 128, 81920 bytes of shared memory, grid x over rows, y over columns; zero is 0.
extern "C" __global__ void __launch_bounds__(128, 2) conv2d_fwd_i8_stream(
    const __grid_constant__ Conv2dStreamI8 p, const i8* __restrict__ x, const i8* __restrict__ x_exponents, const i8* __restrict__ w, const i8* __restrict__ w_exponents,
    const u32* __restrict__ step, const void* __restrict__ other, const i8* __restrict__ other_exponents, void* __restrict__ s, i8* __restrict__ s_exponents,
    i8* __restrict__ q, i8* __restrict__ q_exponents, OutputSums* __restrict__ sums, u32 zero) {
    const Epilogue e = {x_exponents, w_exponents, step, nullptr, nullptr, nullptr, q, q_exponents, (uint2*)sums, zero,
                        other, other_exponents, s, s_exponents, p.add, p.other, p.form, p.store};
    conv_tile<128, 128, 64, 5, STREAM, false>(p.product, x, w, e);
}

// Forward into a residual stream, tiles of 128 x 64. Blocks of 128, 61440 bytes of shared memory, grid x over rows, y over columns; zero is 0.
extern "C" __global__ void __launch_bounds__(128, 3) conv2d_fwd_i8_stream_n64(
    const __grid_constant__ Conv2dStreamI8 p, const i8* __restrict__ x, const i8* __restrict__ x_exponents, const i8* __restrict__ w, const i8* __restrict__ w_exponents,
    const u32* __restrict__ step, const void* __restrict__ other, const i8* __restrict__ other_exponents, void* __restrict__ s, i8* __restrict__ s_exponents,
    i8* __restrict__ q, i8* __restrict__ q_exponents, OutputSums* __restrict__ sums, u32 zero) {
    const Epilogue e = {x_exponents, w_exponents, step, nullptr, nullptr, nullptr, q, q_exponents, (uint2*)sums, zero,
                        other, other_exponents, s, s_exponents, p.add, p.other, p.form, p.store};
    conv_tile<128, 64, 32, 5, STREAM, false>(p.product, x, w, e);
}

// Forward into a residual stream, tiles of 64 x 64. Blocks of 64, 49152 bytes of shared memory, grid x over rows, y over columns; zero is 0.
extern "C" __global__ void __launch_bounds__(64, 5) conv2d_fwd_i8_stream_small(
    const __grid_constant__ Conv2dStreamI8 p, const i8* __restrict__ x, const i8* __restrict__ x_exponents, const i8* __restrict__ w, const i8* __restrict__ w_exponents,
    const u32* __restrict__ step, const void* __restrict__ other, const i8* __restrict__ other_exponents, void* __restrict__ s, i8* __restrict__ s_exponents,
    i8* __restrict__ q, i8* __restrict__ q_exponents, OutputSums* __restrict__ sums, u32 zero) {
    const Epilogue e = {x_exponents, w_exponents, step, nullptr, nullptr, nullptr, q, q_exponents, (uint2*)sums, zero,
                        other, other_exponents, s, s_exponents, p.add, p.other, p.form, p.store};
    conv_tile<64, 64, 32, 6, STREAM, false>(p.product, x, w, e);
}

// Forward into a residual stream, tiles of 128 x 32. Blocks of 64, 61440 bytes of shared memory, grid x over rows, y over columns; zero is 0.
extern "C" __global__ void __launch_bounds__(64, 4) conv2d_fwd_i8_stream_n32(
    const __grid_constant__ Conv2dStreamI8 p, const i8* __restrict__ x, const i8* __restrict__ x_exponents, const i8* __restrict__ w, const i8* __restrict__ w_exponents,
    const u32* __restrict__ step, const void* __restrict__ other, const i8* __restrict__ other_exponents, void* __restrict__ s, i8* __restrict__ s_exponents,
    i8* __restrict__ q, i8* __restrict__ q_exponents, OutputSums* __restrict__ sums, u32 zero) {
    const Epilogue e = {x_exponents, w_exponents, step, nullptr, nullptr, nullptr, q, q_exponents, (uint2*)sums, zero,
                        other, other_exponents, s, s_exponents, p.add, p.other, p.form, p.store};
    conv_tile<128, 32, 32, 6, STREAM, false>(p.product, x, w, e);
}

// Forward into a residual stream, tiles of 64 x 64. Blocks of 64, 32768 bytes of shared memory, grid x over rows, y over columns; zero is 0.
extern "C" __global__ void __launch_bounds__(64, 5) conv2d_fwd_i8_stream_any(
    const __grid_constant__ Conv2dStreamI8 p, const i8* __restrict__ x, const i8* __restrict__ x_exponents, const i8* __restrict__ w, const i8* __restrict__ w_exponents,
    const u32* __restrict__ step, const void* __restrict__ other, const i8* __restrict__ other_exponents, void* __restrict__ s, i8* __restrict__ s_exponents,
    i8* __restrict__ q, i8* __restrict__ q_exponents, OutputSums* __restrict__ sums, u32 zero) {
    const Epilogue e = {x_exponents, w_exponents, step, nullptr, nullptr, nullptr, q, q_exponents, (uint2*)sums, zero,
                        other, other_exponents, s, s_exponents, p.add, p.other, p.form, p.store};
    conv_tile<64, 64, 32, 4, STREAM, true>(p.product, x, w, e);
}

// Data gradient, tiles of 128 x 128. Blocks of 128, 81920 bytes of shared memory, grid x over rows, y over columns; zero is 0.
extern "C" __global__ void __launch_bounds__(128, 2) conv2d_dgrad_i8(
    const __grid_constant__ Conv2dI8 p, const i8* __restrict__ dyd, const i8* __restrict__ dyd_exponents, const i8* __restrict__ w, const u32* __restrict__ step,
    i8* __restrict__ dx, i8* __restrict__ dx_exponents, u32 zero) {
    const Epilogue e = {dyd_exponents, nullptr, step, nullptr, nullptr, nullptr, dx, dx_exponents, nullptr, zero};
    conv_tile<128, 128, 64, 5, DGRAD, false>(p, dyd, w, e);
}

// Data gradient, tiles of 128 x 64. Blocks of 128, 61440 bytes of shared memory, grid x over rows, y over columns; zero is 0.
extern "C" __global__ void __launch_bounds__(128, 3) conv2d_dgrad_i8_n64(
    const __grid_constant__ Conv2dI8 p, const i8* __restrict__ dyd, const i8* __restrict__ dyd_exponents, const i8* __restrict__ w, const u32* __restrict__ step,
    i8* __restrict__ dx, i8* __restrict__ dx_exponents, u32 zero) {
    const Epilogue e = {dyd_exponents, nullptr, step, nullptr, nullptr, nullptr, dx, dx_exponents, nullptr, zero};
    conv_tile<128, 64, 32, 5, DGRAD, false>(p, dyd, w, e);
}

// Data gradient, tiles of 64 x 64. Blocks of 64, 49152 bytes of shared memory, grid x over rows, y over columns; zero is 0.
extern "C" __global__ void __launch_bounds__(64, 5) conv2d_dgrad_i8_small(
    const __grid_constant__ Conv2dI8 p, const i8* __restrict__ dyd, const i8* __restrict__ dyd_exponents, const i8* __restrict__ w, const u32* __restrict__ step,
    i8* __restrict__ dx, i8* __restrict__ dx_exponents, u32 zero) {
    const Epilogue e = {dyd_exponents, nullptr, step, nullptr, nullptr, nullptr, dx, dx_exponents, nullptr, zero};
    conv_tile<64, 64, 32, 6, DGRAD, false>(p, dyd, w, e);
}

// Data gradient, tiles of 128 x 32. Blocks of 64, 61440 bytes of shared memory, grid x over rows, y over columns; zero is 0.
extern "C" __global__ void __launch_bounds__(64, 4) conv2d_dgrad_i8_n32(
    const __grid_constant__ Conv2dI8 p, const i8* __restrict__ dyd, const i8* __restrict__ dyd_exponents, const i8* __restrict__ w, const u32* __restrict__ step,
    i8* __restrict__ dx, i8* __restrict__ dx_exponents, u32 zero) {
    const Epilogue e = {dyd_exponents, nullptr, step, nullptr, nullptr, nullptr, dx, dx_exponents, nullptr, zero};
    conv_tile<128, 32, 32, 6, DGRAD, false>(p, dyd, w, e);
}

// Data gradient, tiles of 64 x 64. Blocks of 64, 32768 bytes of shared memory, grid x over rows, y over columns; zero is 0.
extern "C" __global__ void __launch_bounds__(64, 5) conv2d_dgrad_i8_any(
    const __grid_constant__ Conv2dI8 p, const i8* __restrict__ dyd, const i8* __restrict__ dyd_exponents, const i8* __restrict__ w, const u32* __restrict__ step,
    i8* __restrict__ dx, i8* __restrict__ dx_exponents, u32 zero) {
    const Epilogue e = {dyd_exponents, nullptr, step, nullptr, nullptr, nullptr, dx, dx_exponents, nullptr, zero};
    conv_tile<64, 64, 32, 4, DGRAD, true>(p, dyd, w, e);
}

// Data gradient behind a ReLU, tiles of 128 x 128. Blocks of 128, 81920 bytes of shared memory, grid x over rows, y over columns; zero is 0.
extern "C" __global__ void __launch_bounds__(128, 2) conv2d_dgrad_i8_masked(
    const __grid_constant__ Conv2dI8 p, const i8* __restrict__ dyd, const i8* __restrict__ dyd_exponents, const i8* __restrict__ w, const u32* __restrict__ step,
    const i8* __restrict__ y, const i8* __restrict__ y_exponents, const f32* __restrict__ affine, i8* __restrict__ dx, i8* __restrict__ dx_exponents,
    GradientSums* __restrict__ sums, u32 zero) {
    const Epilogue e = {dyd_exponents, nullptr, step, y, y_exponents, affine, dx, dx_exponents, (uint2*)sums, zero};
    conv_tile<128, 128, 64, 5, DGRAD_MASKED, false>(p, dyd, w, e);
}

// Data gradient behind a ReLU, tiles of 128 x 64. Blocks of 128, 61440 bytes of shared memory, grid x over rows, y over columns; zero is 0.
extern "C" __global__ void __launch_bounds__(128, 3) conv2d_dgrad_i8_masked_n64(
    const __grid_constant__ Conv2dI8 p, const i8* __restrict__ dyd, const i8* __restrict__ dyd_exponents, const i8* __restrict__ w, const u32* __restrict__ step,
    const i8* __restrict__ y, const i8* __restrict__ y_exponents, const f32* __restrict__ affine, i8* __restrict__ dx, i8* __restrict__ dx_exponents,
    GradientSums* __restrict__ sums, u32 zero) {
    const Epilogue e = {dyd_exponents, nullptr, step, y, y_exponents, affine, dx, dx_exponents, (uint2*)sums, zero};
    conv_tile<128, 64, 32, 5, DGRAD_MASKED, false>(p, dyd, w, e);
}

// Data gradient behind a ReLU, tiles of 64 x 64. Blocks of 64, 49152 bytes of shared memory, grid x over rows, y over columns; zero is 0.
extern "C" __global__ void __launch_bounds__(64, 5) conv2d_dgrad_i8_masked_small(
    const __grid_constant__ Conv2dI8 p, const i8* __restrict__ dyd, const i8* __restrict__ dyd_exponents, const i8* __restrict__ w, const u32* __restrict__ step,
    const i8* __restrict__ y, const i8* __restrict__ y_exponents, const f32* __restrict__ affine, i8* __restrict__ dx, i8* __restrict__ dx_exponents,
    GradientSums* __restrict__ sums, u32 zero) {
    const Epilogue e = {dyd_exponents, nullptr, step, y, y_exponents, affine, dx, dx_exponents, (uint2*)sums, zero};
    conv_tile<64, 64, 32, 6, DGRAD_MASKED, false>(p, dyd, w, e);
}

// Data gradient behind a ReLU, tiles of 128 x 32. Blocks of 64, 61440 bytes of shared memory, grid x over rows, y over columns; zero is 0.
extern "C" __global__ void __launch_bounds__(64, 4) conv2d_dgrad_i8_masked_n32(
    const __grid_constant__ Conv2dI8 p, const i8* __restrict__ dyd, const i8* __restrict__ dyd_exponents, const i8* __restrict__ w, const u32* __restrict__ step,
    const i8* __restrict__ y, const i8* __restrict__ y_exponents, const f32* __restrict__ affine, i8* __restrict__ dx, i8* __restrict__ dx_exponents,
    GradientSums* __restrict__ sums, u32 zero) {
    const Epilogue e = {dyd_exponents, nullptr, step, y, y_exponents, affine, dx, dx_exponents, (uint2*)sums, zero};
    conv_tile<128, 32, 32, 6, DGRAD_MASKED, false>(p, dyd, w, e);
}

// Data gradient behind a ReLU, tiles of 64 x 64. Blocks of 64, 32768 bytes of shared memory, grid x over rows, y over columns; zero is 0.
extern "C" __global__ void __launch_bounds__(64, 5) conv2d_dgrad_i8_masked_any(
    const __grid_constant__ Conv2dI8 p, const i8* __restrict__ dyd, const i8* __restrict__ dyd_exponents, const i8* __restrict__ w, const u32* __restrict__ step,
    const i8* __restrict__ y, const i8* __restrict__ y_exponents, const f32* __restrict__ affine, i8* __restrict__ dx, i8* __restrict__ dx_exponents,
    GradientSums* __restrict__ sums, u32 zero) {
    const Epilogue e = {dyd_exponents, nullptr, step, y, y_exponents, affine, dx, dx_exponents, (uint2*)sums, zero};
    conv_tile<64, 64, 32, 4, DGRAD_MASKED, true>(p, dyd, w, e);
}
