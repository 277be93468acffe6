//! Optimiser, schedule, checkpoints and the training loop.
