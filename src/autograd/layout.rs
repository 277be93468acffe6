//! Where each parameter lies: one arena for all trained parameters, one for running statistics, one for constants.
//!
//! The BN scales come first and in mask order, so that one launch can rank them, one can step all parameters, and L1 is a prefix. Gradients and momenta have the same
//! layout as the parameters.

use std::collections::HashMap;

use crate::graph::{Graph, Parameter};
use crate::ops::ParameterKind;

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
            let offset = *length;
            *length += parameter.elements();
            if parameter.kind == ParameterKind::Scale {
                scales = *length;
            }
            entries.push(Placed { parameter, arena, offset });
        }
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

    /// Elements in an arena.
    pub fn length(&self, arena: Arena) -> usize {
        self.lengths.get(&arena).copied().unwrap_or(0)
    }

    /// Number of BN scales: the first elements of [`Arena::Parameters`].
    pub fn scales(&self) -> usize {
        self.scales
    }
}
