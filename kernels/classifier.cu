// classifier: linear layer, softmax, cross-entropy and their gradients at the end of a network, every sum in f64 and in a fixed order (src/ops/classifier.rs has the
// formulas): the same bits as on the CPU.
//
// Forward: a warp has some classes of an image, lane l takes features l, l + 32, ..; then a warp has an image. Backward: one thread per element of dx, dw and dbias.
// Traffic: weights and images from the cache, N*K*8 B of logits and their gradients. Work: 3*N*C*K f64 multiply-adds.
#include "phases.cuh"
#include "state.cuh"

// rust: crate::ops::classifier::Classifier
struct Classifier {
    u32 n, c, k, bias;
};

#define TOP1 1u
#define TOP5 2u

// p * x + term, two roundings.
__device__ __forceinline__ double horner(double p, double x, double term) { return __dadd_rn(__dmul_rn(p, x), term); }

__device__ __forceinline__ double exp_fixed(double v) {
    if (v < -700.0) return 0.0;
    const double magic = 6755399441055744.0; // 1.5 * 2^52
    const double t = horner(v, 1.4426950408889634, magic), k = __dsub_rn(t, magic);
    const int exponent = __double2loint(t);
    const double r =
        __dsub_rn(__dsub_rn(v, __dmul_rn(k, __longlong_as_double(0x3fe62e42fee00000ll))), __dmul_rn(k, __longlong_as_double(0x3dea39ef35793c76ll)));
    double p = 1.0 / 6227020800.0; // 1/13!
    p = horner(p, r, 1.0 / 479001600.0);
    p = horner(p, r, 1.0 / 39916800.0);
    p = horner(p, r, 1.0 / 3628800.0);
    p = horner(p, r, 1.0 / 362880.0);
    p = horner(p, r, 1.0 / 40320.0);
    p = horner(p, r, 1.0 / 5040.0);
    p = horner(p, r, 1.0 / 720.0);
    p = horner(p, r, 1.0 / 120.0);
    p = horner(p, r, 1.0 / 24.0);
    p = horner(p, r, 1.0 / 6.0);
    p = horner(p, r, 0.5);
    p = horner(p, r, 1.0);
    p = horner(p, r, 1.0);
    return __dmul_rn(p, __hiloint2double((exponent + 1023) << 20, 0));
}

__device__ __forceinline__ double ln_fixed(double s) {
    const int high = __double2hiint(s);
    if ((high & 0x7ff00000) == 0x7ff00000) return s;
    double e = (double)((high >> 20) - 1023), m = __hiloint2double((high & 0xfffff) | 0x3ff00000, __double2loint(s));
    if (m > 1.4142135623730951) m = __dmul_rn(m, 0.5), e = __dadd_rn(e, 1.0);
    const double f = __ddiv_rn(__dsub_rn(m, 1.0), __dadd_rn(m, 1.0)), square = __dmul_rn(f, f);
    double p = 1.0 / 21.0;
    p = horner(p, square, 1.0 / 19.0);
    p = horner(p, square, 1.0 / 17.0);
    p = horner(p, square, 1.0 / 15.0);
    p = horner(p, square, 1.0 / 13.0);
    p = horner(p, square, 1.0 / 11.0);
    p = horner(p, square, 1.0 / 9.0);
    p = horner(p, square, 1.0 / 7.0);
    p = horner(p, square, 1.0 / 5.0);
    p = horner(p, square, 1.0 / 3.0);
    p = horner(p, square, 1.0);
    const double low = __dadd_rn(__dmul_rn(__dmul_rn(2.0, f), p), __dmul_rn(e, __longlong_as_double(0x3dea39ef35793c76ll)));
    return __dadd_rn(__dmul_rn(e, __longlong_as_double(0x3fe62e42fee00000ll)), low);
}

// Logits k, k + pace .. of an image, by a warp.
__device__ __forceinline__ void classifier_logits(
    const Classifier& p, u32 n, u32 k, u32 pace, const f32* __restrict__ x, const f32* __restrict__ w, const f32* __restrict__ bias, f32* logits) {
    const u32 lane = lane_id();
    const f32* image = x + (u64)n * p.c;
    for (; k < p.k; k += pace) {
        const f32* weights = w + (u64)k * p.c;
        double sum = 0.0;
        for (u32 i = lane; i < p.c; i += 32) sum = __dadd_rn(sum, __dmul_rn((double)image[i], (double)weights[i]));
        sum = warp_sum(sum);
        if (p.bias) sum = __dadd_rn(sum, (double)bias[k]);
        if (lane == 0) logits[(u64)n * p.k + k] = (f32)sum;
    }
}

// Writes logits and their gradients, and each image's loss and hits. A label that is no class counts as a NaN loss and no hit, so that it cannot go unseen. Blocks of 256: those whose warps
// have a part of `parts` of an image's logits, then those whose warps have an image's softmax; bias is not read without p.bias.
extern "C" __global__ void __launch_bounds__(256) classifier_fwd_f32(
    const __grid_constant__ Classifier p, const f32* __restrict__ x, const f32* __restrict__ w, const f32* __restrict__ bias, const u32* __restrict__ labels,
    f32* logits, f32* __restrict__ dlogits, double* __restrict__ losses, u32* __restrict__ hits, u32* tickets, u32 parts) {
    const u32 lane = lane_id(), first = div_up(p.n * parts, 8);
    const Phases phases = {tickets};
    u32 number = phases.begin();
    if (number < first) {
        const u32 unit = number * 8 + warp_id(), image = unit / parts;
        if (image < p.n) classifier_logits(p, image, unit - image * parts, parts, x, w, bias, logits);
        phases.done(1);
        return phases.end();
    }
    phases.wait(1, first);
    const u32 n = (number - first) * 8 + warp_id();
    if (n < p.n) {
        const f32* row = logits + (u64)n * p.k;
        const u32 label = labels[n];
        const bool known = label < p.k;
        const f32 own = known ? row[label] : __int_as_float(0x7fffffff);
        f32 largest = __int_as_float(0xff800000);
        u32 before = 0; // classes that rank before the label: larger ones, and equal ones with a lower number
        for (u32 k = lane; k < p.k; k += 32) {
            largest = fmaxf(largest, row[k]);
            before += row[k] > own || (row[k] == own && k < label);
        }
        largest = warp_max(largest);
        before = warp_sum(before);
        double sum = 0.0;
        for (u32 k = lane; k < p.k; k += 32) sum = __dadd_rn(sum, exp_fixed((double)__fsub_rn(row[k], largest)));
        sum = warp_sum(sum);
        for (u32 k = lane; k < p.k; k += 32) {
            const double share = __ddiv_rn(exp_fixed((double)__fsub_rn(row[k], largest)), sum);
            dlogits[(u64)n * p.k + k] = (f32)__ddiv_rn(__dsub_rn(share, k == label ? 1.0 : 0.0), (double)p.n);
        }
        if (lane == 0) {
            losses[n] = __dsub_rn(ln_fixed(sum), (double)__fsub_rn(own, largest));
            hits[n] = own == own ? (before == 0 ? TOP1 : 0u) | (before < 5 ? TOP5 : 0u) : 0u;
        }
    }
    phases.end();
}

// Writes dx, dw and, with p.bias, dbias; the first warp adds the batch's sums to metrics. Any grid of whole warps.
extern "C" __global__ void __launch_bounds__(256) classifier_bwd_f32(
    const __grid_constant__ Classifier p, const f32* __restrict__ x, const f32* __restrict__ w, const f32* __restrict__ dlogits, const double* __restrict__ losses,
    const u32* __restrict__ hits, f32* __restrict__ dx, f32* __restrict__ dw, f32* __restrict__ dbias, Metrics* metrics) {
    for (u32 i = thread_index(); i < p.n * p.c; i += thread_count()) {
        const u32 n = i / p.c, c = i % p.c;
        double sum = 0.0;
        for (u32 k = 0; k < p.k; k++) sum = __dadd_rn(sum, __dmul_rn((double)dlogits[(u64)n * p.k + k], (double)w[(u64)k * p.c + c]));
        dx[i] = (f32)sum;
    }
    for (u32 i = thread_index(); i < p.k * p.c; i += thread_count()) {
        const u32 k = i / p.c, c = i % p.c;
        double sum = 0.0;
        for (u32 n = 0; n < p.n; n++) sum = __dadd_rn(sum, __dmul_rn((double)dlogits[(u64)n * p.k + k], (double)x[(u64)n * p.c + c]));
        dw[i] = (f32)sum;
    }
    for (u32 k = thread_index(); p.bias && k < p.k; k += thread_count()) {
        double sum = 0.0;
        for (u32 n = 0; n < p.n; n++) sum = __dadd_rn(sum, (double)dlogits[(u64)n * p.k + k]);
        dbias[k] = (f32)sum;
    }
    if (thread_index() < 32) {
        double loss = 0.0;
        u32 top1 = 0, top5 = 0;
        for (u32 n = lane_id(); n < p.n; n += 32) {
            loss = __dadd_rn(loss, losses[n]);
            top1 += (hits[n] & TOP1) != 0;
            top5 += (hits[n] & TOP5) != 0;
        }
        loss = warp_sum(loss);
        top1 = warp_sum(top1), top5 = warp_sum(top5);
        if (lane_id() == 0) {
            metrics->loss_sum = __dadd_rn(metrics->loss_sum, loss);
            metrics->top1 += top1;
            metrics->top5 += top5;
            metrics->count += p.n;
        }
    }
}
