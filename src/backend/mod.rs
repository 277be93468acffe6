//! `trait Backend`: the operator set on buffers, one file per operator in `cpu/` and `cuda/`.
