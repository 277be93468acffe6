// softmax_xent: softmax, cross-entropy, hits and their gradient; a warp takes several samples, one after another, and all its lanes each.
//
//   probs = exp(logit - max) * (1 / sum);  loss = ln(sum) - (logit[label] - max);  dlogits = (probs - onehot(label)) / n
// expf and logf are libdevice's (2 ulp). Losses are added in f64: each warp its samples in order, then the warps in order. A label that is no class counts as a NaN
// loss and no hit, so that it cannot go unseen; the host checks labels when it loads data.
// Traffic: 4 B read and written per logit: a warp brings the logits of its samples into shared memory at once, and takes the probabilities back the same way.
// Rows of more than 320 classes do not fit; they are read three times, from the cache.
#include "state.cuh"

// rust: crate::ops::softmax_xent::SoftmaxXent
struct SoftmaxXent {
    u32 n, classes;
};

constexpr u32 WARP_LOGITS = 320;

// Probabilities of one sample by a warp, loss and hits added up in every lane; `out` may be `row`.
__device__ __forceinline__ void one_sample(const f32* row, f32* out, u32 classes, u32 label, double& loss, u32& top1, u32& top5) {
    const f32 own = label < classes ? row[label] : __int_as_float(0x7fffffff);
    f32 largest = __int_as_float(0xff800000);
    for (u32 i = lane_id(); i < classes; i += 32) largest = fmaxf(largest, row[i]);
    largest = warp_max(largest);
    f32 sum = 0.f;
    u32 before = 0; // classes that rank before the label: larger ones, and equal ones with a lower number
    for (u32 i = lane_id(); i < classes; i += 32) {
        const f32 logit = row[i];
        sum = __fadd_rn(sum, expf(__fsub_rn(logit, largest)));
        before += logit > own || (logit == own && i < label);
    }
    sum = warp_sum(sum);
    before = warp_sum(before);
    const f32 share = __frcp_rn(sum); // of a number from 1 to classes
    __syncwarp();                     // the label's logit is everyone's to read
    for (u32 i = lane_id(); i < classes; i += 32) out[i] = __fmul_rn(expf(__fsub_rn(row[i], largest)), share);
    loss += (double)logf(sum) - (double)__fsub_rn(own, largest);
    top1 += before == 0 && own == own;
    top5 += before < 5 && own == own;
}

// Writes probs, adds to metrics. One block of 1024 threads. A warp takes `group` samples at a time: at most 32, and one where rows have more than 320 classes.
extern "C" __global__ void __launch_bounds__(1024, 1) softmax_xent_fwd_f32(
    const __grid_constant__ SoftmaxXent p, const f32* __restrict__ logits, const u32* __restrict__ labels, f32* __restrict__ probs, Metrics* metrics, u32 group) {
    __shared__ double losses[32];
    __shared__ u32 hits[2][32];
    __shared__ f32 kept[32 * WARP_LOGITS];
    f32* const mine = kept + warp_id() * WARP_LOGITS;
    const bool staged = p.classes <= WARP_LOGITS;
    double loss = 0.0;
    u32 top1 = 0, top5 = 0;
    for (u32 first = warp_id() * group; first < p.n; first += 32 * group) {
        const u32 samples = min(group, p.n - first);
        const u64 start = (u64)first * p.classes;
        const i32 size = samples * p.classes, skew = start % 8; // so that a warp reads whole sectors
        const u32 its_label = lane_id() < samples ? labels[first + lane_id()] : 0;
        if (staged) {
            for (i32 i = lane_id() - skew; i < size; i += 32) {
                if (i >= 0) mine[i] = logits[start + i];
            }
            __syncwarp();
        }
        for (u32 n = 0; n < samples; n++) {
            const u32 label = __shfl_sync(FULL_WARP, its_label, n);
            if (staged) one_sample(mine + n * p.classes, mine + n * p.classes, p.classes, label, loss, top1, top5);
            else one_sample(logits + start, probs + start, p.classes, label, loss, top1, top5);
        }
        if (staged) {
            __syncwarp();
            for (i32 i = lane_id() - skew; i < size; i += 32) {
                if (i >= 0) probs[start + i] = mine[i];
            }
            __syncwarp();
        }
    }
    if (lane_id() == 0) {
        losses[warp_id()] = loss;
        hits[0][warp_id()] = top1;
        hits[1][warp_id()] = top5;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        for (u32 w = 1; w < 32; w++) {
            loss += losses[w];
            top1 += hits[0][w];
            top5 += hits[1][w];
        }
        metrics->loss_sum += loss;
        metrics->top1 += top1;
        metrics->top5 += top5;
        metrics->count += p.n;
    }
}

// dlogits = (probs - onehot(label)) / n. Any grid. A warp takes 256 elements at a time, whose labels its lanes fetch together.
extern "C" __global__ void __launch_bounds__(256) softmax_xent_bwd_f32(
    const __grid_constant__ SoftmaxXent p, const f32* __restrict__ probs, const u32* __restrict__ labels, f32* __restrict__ dlogits) {
    const u32 all = p.n * p.classes, warps = thread_count() / 32;
    for (u32 start = thread_index() / 32 * 256; start < all; start += warps * 256) {
        const u32 first = start / p.classes, last = (min(start + 256, all) - 1) / p.classes, sample = first + lane_id();
        const u32 its_label = sample <= last ? labels[sample] : 0;
#pragma unroll
        for (u32 k = 0; k < 8; k++) {
            const u32 i = start + k * 32 + lane_id(), n = i / p.classes;
            u32 label = __shfl_sync(FULL_WARP, its_label, n - first & 31);
            if (i >= all) continue;
            if (n - first >= 32) label = labels[n]; // fewer than 9 classes
            const f32 hit = label == i - n * p.classes ? 1.f : 0.f;
            dlogits[i] = __fdiv_rn(__fsub_rn(probs[i], hit), (f32)p.n);
        }
    }
}
