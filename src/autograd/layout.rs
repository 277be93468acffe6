//! Where each parameter lies: one arena for all trained parameters, one for running statistics, one for constants.
//!
//! The BN scales come first and in mask order, so that one launch can rank them, one can step all parameters, and L1 is a prefix. Gradients and momenta have the same
//! layout as the parameters. Everything behind the scales begins at a multiple of [`ALIGN`] elements, whatever the lengths before it: kernels that move 16 bytes at a
//! time need it. The gaps are zero at first and the optimiser leaves a zero with a zero gradient as it is; no state dict and no file has them.

use std::collections::HashMap;

use crate::graph::{Graph, Parameter};
use crate::ops::ParameterKind;

/// Elements that an offset is a multiple of: 64 bytes, what HBM reads at a time.
pub const ALIGN: usize = 16;

/// Which arena a parameter lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arena {
    /// Trained.
    Parameters,
    /// Running statistics.
    State,
    /// Constants (u32).
    Constants,
}

/// A parameter with its place.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The parameter.
    pub parameter: Parameter,
    /// Its arena.
    pub arena: Arena,
    /// Its first element in the arena.
    pub offset: usize,
}

/// Places of all parameters of a network.
#[derive(Clone, Debug)]
pub struct Layout {
    entries: Vec<Placed>,
    by_name: HashMap<String, usize>,
    lengths: HashMap<Arena, usize>,
    scales: usize,
}

impl Layout {
    /// Lays out the parameters of `graph`.
    pub fn new(graph: &Graph) -> Self {
        let mut parameters = graph.parameters();
        // Stable: scales first, everything else in node order.
        parameters.sort_by_key(|p| p.kind != ParameterKind::Scale);
        let mut lengths = HashMap::from([(Arena::Parameters, 0), (Arena::State, 0), (Arena::Constants, 0)]);
        let mut entries = Vec::new();
        let mut scales = 0;
        for parameter in parameters {
            let arena = match parameter.kind {
                ParameterKind::RunningMean | ParameterKind::RunningVar => Arena::State,
                ParameterKind::Index => Arena::Constants,
                _ => Arena::Parameters,
            };
            let length = lengths.entry(arena).or_default();
            let scale = parameter.kind == ParameterKind::Scale;
            let offset = if scale { *length } else { usize::next_multiple_of(*length, ALIGN) };
            *length = offset + parameter.elements();
            if scale {
                scales = *length;
            }
            entries.push(Placed { parameter, arena, offset });
        }
        // Whole pieces for the optimiser, too.
        lengths.values_mut().for_each(|length| *length = usize::next_multiple_of(*length, ALIGN));
        let by_name = entries.iter().enumerate().map(|(i, entry)| (entry.parameter.name.clone(), i)).collect();
        Layout { entries, by_name, lengths, scales }
    }

    /// All parameters, scales first.
    pub fn entries(&self) -> &[Placed] {
        &self.entries
    }

    /// A parameter by its full name.
    pub fn get(&self, name: &str) -> Option<&Placed> {
        self.by_name.get(name).map(|i| &self.entries[*i])
    }

    /// Elements in an arena, gaps included.
    pub fn length(&self, arena: Arena) -> usize {
        self.lengths.get(&arena).copied().unwrap_or(0)
    }

    /// Number of BN scales: the first elements of [`Arena::Parameters`].
    pub fn scales(&self) -> usize {
        self.scales
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{ModelOptions, build};

    /// Widths that are no multiples of anything: VGG16 at 0.15 has 10, 19, 38 and 77 channels.
    fn odd() -> Graph {
        build("vgg16", &ModelOptions { width: 0.15, ..Default::default() }).unwrap()
    }

    #[test]
    fn scales_are_one_piece_in_mask_order_and_the_rest_is_aligned() {
        let graph = odd();
        let layout = Layout::new(&graph);
        let scales: Vec<_> = graph.parameters().into_iter().filter(|p| p.kind == ParameterKind::Scale).collect();
        let mut next = 0;
        for scale in &scales {
            assert_eq!(layout.get(&scale.name).unwrap().offset, next, "{}", scale.name);
            next += scale.elements();
        }
        assert_eq!(next, layout.scales());
        assert!(scales.iter().any(|s| s.elements() % ALIGN != 0), "a network without odd widths shows nothing");
        for arena in [Arena::Parameters, Arena::State, Arena::Constants] {
            let mut end = 0;
            for placed in layout.entries().iter().filter(|placed| placed.arena == arena) {
                assert!(placed.offset >= end, "{} overlaps what is before it", placed.parameter.name);
                assert!(placed.offset - end < ALIGN, "{} leaves a gap", placed.parameter.name);
                assert!(placed.parameter.kind == ParameterKind::Scale || placed.offset % ALIGN == 0);
                end = placed.offset + placed.parameter.elements();
            }
            assert_eq!(layout.length(arena), end.next_multiple_of(ALIGN));
        }
    }
}
