// softmax_xent: softmax, cross-entropy, hits and their gradient; one warp per sample, logits read three times from the cache.
//
//   probs = exp(logit - max) * (1 / sum);  loss = ln(sum) - (logit[label] - max);  dlogits = (probs - onehot(label)) / n
// expf and logf are libdevice's (2 ulp). Losses are added in f64: each warp its samples in order, then the warps in order. A label that is no class counts as a NaN
// loss and no hit, so that it cannot go unseen; the host checks labels when it loads data.
#include "state.cuh"

// rust: crate::ops::softmax_xent::SoftmaxXent
struct SoftmaxXent {
    u32 n, classes;
};

// Writes probs, adds to metrics. One block of 1024 threads.
extern "C" __global__ void __launch_bounds__(1024, 1) softmax_xent_fwd_f32(
    const __grid_constant__ SoftmaxXent p, const f32* __restrict__ logits, const u32* __restrict__ labels, f32* __restrict__ probs, Metrics* metrics) {
    __shared__ double losses[32];
    __shared__ u32 hits[2][32];
    double loss = 0.0;
    u32 top1 = 0, top5 = 0;
    for (u32 n = warp_id(); n < p.n; n += 32) {
        const f32* row = logits + (u64)n * p.classes;
        f32* out = probs + (u64)n * p.classes;
        const u32 label = labels[n];
        const bool known = label < p.classes;
        const f32 own = known ? row[label] : __int_as_float(0x7fffffff);
        f32 largest = __int_as_float(0xff800000);
        for (u32 i = lane_id(); i < p.classes; i += 32) largest = fmaxf(largest, row[i]);
        largest = warp_max(largest);
        f32 sum = 0.f;
        u32 before = 0; // classes that rank before the label: larger ones, and equal ones with a lower number
        for (u32 i = lane_id(); i < p.classes; i += 32) {
            const f32 logit = row[i];
            sum = __fadd_rn(sum, expf(__fsub_rn(logit, largest)));
            before += logit > own || (logit == own && i < label);
        }
        sum = warp_sum(sum);
        before = warp_sum(before);
        const f32 share = __frcp_rn(sum); // of a number from 1 to classes
        for (u32 i = lane_id(); i < p.classes; i += 32) out[i] = __fmul_rn(expf(__fsub_rn(row[i], largest)), share);
        loss += (double)logf(sum) - (double)__fsub_rn(own, largest);
        top1 += before == 0 && own == own;
        top5 += before < 5 && own == own;
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

// dlogits = (probs - onehot(label)) / n. Any grid.
extern "C" __global__ void __launch_bounds__(256) softmax_xent_bwd_f32(
    const __grid_constant__ SoftmaxXent p, const f32* __restrict__ probs, const u32* __restrict__ labels, f32* __restrict__ dlogits) {
    for (u32 i = thread_index(); i < p.n * p.classes; i += thread_count()) {
        const f32 hit = labels[i / p.classes] == i % p.classes ? 1.f : 0.f;
        dlogits[i] = __fdiv_rn(__fsub_rn(probs[i], hit), (f32)p.n);
    }
}
