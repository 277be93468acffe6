//! Reverse-mode differentiation over the graph, and the memory plan.
