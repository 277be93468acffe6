//! A drawn ticket and its file: the dense network's weights and momenta at the draw, the mask, and where and how it was drawn.
//!
//! The dense weights are kept, not the pruned ones, so that the same ticket can be cut with other `--min-channels` or `--round-to`, compared, or exported.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::mask::Mask;
use super::surgery::{Surgery, SurgeryOptions, plan_surgery};
use crate::autograd::StateDict;
use crate::graph::Graph;
use crate::train::Position;
use crate::train::checkpoint::{Checkpoint, join, split};
use crate::{Error, Result};

/// Where and how a ticket was drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TicketInfo {
    /// Share of channels to prune.
    pub ratio: f64,
    /// Epochs trained at the draw; fractional between epochs.
    pub epoch: f64,
    /// The place, exactly.
    pub position: Position,
    /// Optimiser steps at the draw.
    pub step: u64,
    /// Scales up to this are pruned.
    pub threshold: f32,
    /// The distances that were judged, newest first.
    pub distances: Vec<f64>,
}

/// A drawn ticket.
#[derive(Clone, Debug)]
pub struct Ticket {
    /// Where and how it was drawn.
    pub info: TicketInfo,
    /// Channels kept, over all BN layers.
    pub mask: Mask,
    /// The dense network.
    pub graph: Graph,
    /// Its parameters and running statistics at the draw.
    pub state: StateDict,
    /// Its momenta at the draw.
    pub momenta: StateDict,
}

const TICKET_KEY: &str = "earlybird.ticket";
const KEPT_KEY: &str = "earlybird.kept";

/// `ticket-p50.safetensors` for ratio 0.5 in `folder`; further digits follow a dot, as in `p12.5`.
pub fn ticket_path(folder: &Path, ratio: f64) -> PathBuf {
    folder.join(format!("ticket-{}.safetensors", ratio_label(ratio)))
}

/// `p50` for 0.5, `p12.5` for 0.125.
pub fn ratio_label(ratio: f64) -> String {
    let percent = format!("{:.4}", ratio * 100.0);
    format!("p{}", percent.trim_end_matches('0').trim_end_matches('.'))
}

impl Ticket {
    /// Channels kept per BN layer, by the layer's name.
    pub fn kept(&self) -> BTreeMap<String, Vec<u32>> {
        let mut first = 0;
        let mut all = BTreeMap::new();
        for layer in self.graph.bn_layers() {
            let kept = (0..layer.channels).filter(|c| self.mask.kept(first + c)).map(|c| c as u32).collect();
            first += layer.channels;
            all.insert(layer.name, kept);
        }
        all
    }

    /// All BN scales at the draw, in mask order.
    pub fn scales(&self) -> Vec<f32> {
        let layers = self.graph.bn_layers();
        let scales = layers.iter().filter_map(|layer| self.state.get(&format!("{}.weight", layer.name)));
        scales.flat_map(|tensor| tensor.data.iter().copied()).collect()
    }

    /// Plans its surgery.
    pub fn surgery(&self, options: SurgeryOptions) -> Result<Surgery> {
        plan_surgery(&self.graph, &self.mask, &self.scales(), options)
    }

    /// Writes the file atomically.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut file = Checkpoint::new(&self.graph, join(self.state.clone(), self.momenta.clone()))?;
        file.put(TICKET_KEY, &self.info)?;
        file.put(KEPT_KEY, &self.kept())?;
        file.save(path)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::BadFile`] where it is no ticket, or its kept channels do not fit its network.
    pub fn load(path: &Path) -> Result<Ticket> {
        let file = Checkpoint::load(path)?;
        let info: TicketInfo = file.get(TICKET_KEY, path)?;
        let kept: BTreeMap<String, Vec<u32>> = file.get(KEPT_KEY, path)?;
        let bad = |what: String| Error::bad_file(path, None, what, "draw the ticket again with `earlybird search`");
        let graph = file.graph(path)?.ok_or_else(|| bad("carries no network".into()))?;
        let mut bits = Vec::new();
        for layer in graph.bn_layers() {
            let channels = kept.get(&layer.name).ok_or_else(|| bad(format!("says nothing of layer {}", layer.name)))?;
            if channels.iter().any(|c| *c as usize >= layer.channels) {
                return Err(bad(format!("keeps a channel that layer {} does not have", layer.name)));
            }
            bits.extend((0..layer.channels).map(|c| channels.contains(&(c as u32))));
        }
        let (state, momenta) = split(file.tensors);
        let ticket = Ticket { info, mask: Mask::from_bools(bits), graph, state, momenta };
        if ticket.scales().len() != ticket.mask.len() {
            return Err(bad("has not all BN scales of its network".into()));
        }
        Ok(ticket)
    }
}
