//! The network as data: nodes, shape inference, parameter names, FLOPs.
