// Blocks of one launch that depend on each other without a launch between them: phases in a fixed order, and the last of several blocks.
//
// Nothing is summed in the order in which blocks come: tickets only say who goes on. All counters are 0 between launches, and launches that use the same ones follow each other.
#pragma once
#include "common.cuh"

// Whether this block is the last of `members` to come here; what the others wrote before is then there to read. Every thread gets it.
__device__ __forceinline__ bool last_of(u32* ticket, u32 members) {
    __shared__ u32 last;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        last = atomicAdd(ticket, 1u) == members - 1;
        if (last) atomicExch(ticket, 0u);
    }
    __syncthreads();
    __threadfence();
    return last != 0;
}

// The phases of a launch. Blocks take numbers as they begin, and phases are ranges of numbers: whoever waits, waits for blocks with smaller numbers, which have begun, so that
// it ends whatever the order in which a device begins blocks, and however few it runs at a time. `tickets`: 4 words; null where nobody may wait (a device that runs a part
// of the blocks, for their counters): the numbers are then those of the grid.
struct Phases {
    u32* tickets;

    // The number of this block.
    __device__ __forceinline__ u32 begin() const {
        __shared__ u32 number;
        if (tickets == nullptr) return blockIdx.x;
        if (threadIdx.x == 0) number = atomicAdd(tickets, 1u);
        __syncthreads();
        return number;
    }
    // This block's part of phase 1 or 2 is there to read.
    __device__ __forceinline__ void done(u32 phase) const {
        if (tickets == nullptr) return;
        __threadfence();
        __syncthreads();
        if (threadIdx.x == 0) atomicAdd(tickets + phase, 1u);
    }
    // Waits for the `blocks` of phase 1 or 2.
    __device__ __forceinline__ void wait(u32 phase, u32 blocks) const {
        if (tickets == nullptr) return;
        if (threadIdx.x == 0) {
            while (atomicAdd(tickets + phase, 0u) < blocks) __nanosleep(100);
        }
        __syncthreads();
        __threadfence();
    }
    // Behind all that a block does: the last one leaves the counters as they were.
    __device__ __forceinline__ void end() const {
        if (tickets == nullptr || threadIdx.x != 0) return;
        if (atomicAdd(tickets + 3, 1u) != gridDim.x - 1) return;
        for (u32 i = 0; i < 4; i++) atomicExch(tickets + i, 0u);
    }
};
