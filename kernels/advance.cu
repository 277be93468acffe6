// advance: the last kernel of a step. It puts the step's sums into the log and moves the state on to the next step. 88 B read, 120 B written.
#include "state.cuh"

// rust: crate::ops::advance::Advance
struct Advance {
    u32 images; // that the cursor moves on by
    u32 steps;  // optimiser steps taken: 0 or 1
    u32 slots;  // of the log; 0 leaves the sums where they are
};

// log[slot] = sums, sums = 0; step, cursor and slot move on. One thread.
extern "C" __global__ void __launch_bounds__(32) advance_step_u64(
    const __grid_constant__ Advance p, StepState* __restrict__ state, Metrics* __restrict__ metrics, Metrics* __restrict__ log) {
    if (thread_index() != 0) return;
    const u32 slot = state->slot;
    if (p.slots != 0) {
        if (slot < p.slots) log[slot] = *metrics;
        metrics->loss_sum = 0.0;
        metrics->top1 = 0;
        metrics->top5 = 0;
        metrics->count = 0;
        state->slot = slot + 1 < p.slots ? slot + 1 : 0;
    }
    state->step += p.steps;
    state->cursor += p.images;
}
