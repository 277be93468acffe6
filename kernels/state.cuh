// What a step knows of its place in a run, and the sums it leaves: both lie in device memory, so that a recorded step needs no new arguments.
#pragma once
#include "common.cuh"

// crate::ops::advance::StepState.
struct StepState {
    u64 step;   // optimiser steps taken before this one
    u32 epoch;  // from 0
    u32 cursor; // first image of the batch in the epoch's order
    f32 lr;
    u32 slot;   // place in the log that this step's sums go to
};

// Sums of batches: crate::ops::Metrics.
struct Metrics {
    double loss_sum;
    u64 top1, top5, count;
};
