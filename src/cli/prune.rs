//! `earlybird prune`: cuts a drawn ticket into a smaller network, after printing what it will do.

use std::path::PathBuf;

use clap::Args;

use super::{DONE, say};
use crate::Result;
use crate::graph::Graph;
use crate::ticket::{LayerPlan, Surgery, SurgeryOptions, Ticket};
use crate::train::checkpoint::{Checkpoint, join};

/// Metadata key of the kept channels, per BN layer of the dense network.
pub const KEPT_KEY: &str = "earlybird.kept";

/// Arguments of `prune`.
#[derive(Args)]
pub struct PruneArgs {
    /// The ticket, such as runs/x/ticket-p50.safetensors
    ticket: PathBuf,
    /// Where the pruned network goes
    #[arg(long)]
    out: PathBuf,
    /// Channels that every layer keeps at least
    #[arg(long, default_value_t = 1)]
    min_channels: usize,
    /// Widen layers to a multiple of this
    #[arg(long, default_value_t = 1)]
    round_to: usize,
    /// Print the plan and write nothing
    #[arg(long)]
    dry_run: bool,
}

impl PruneArgs {
    /// Runs the command.
    pub fn run(self) -> Result<u8> {
        let ticket = Ticket::load(&self.ticket)?;
        let options = SurgeryOptions { min_channels: self.min_channels, round_to: self.round_to };
        options.check()?;
        let surgery = ticket.surgery(options)?;
        print_plan(&ticket.graph, &surgery.graph, &surgery.layers);
        if self.dry_run {
            return Ok(DONE);
        }
        let state = surgery.cut(&ticket.state)?;
        let momenta = surgery.cut(&ticket.momenta)?;
        pruned_checkpoint(&surgery, join(state, momenta))?.save(&self.out)?;
        say(format_args!("wrote {}", self.out.display()));
        Ok(DONE)
    }
}

fn pruned_checkpoint(surgery: &Surgery, tensors: crate::autograd::StateDict) -> Result<Checkpoint> {
    let mut file = Checkpoint::new(&surgery.graph, tensors)?;
    file.put(KEPT_KEY, &surgery.layers)?;
    Ok(file)
}

/// The plan, layer by layer, and what it comes to.
pub fn print_plan(dense: &Graph, pruned: &Graph, layers: &[LayerPlan]) {
    let width = layers.iter().map(|layer| layer.layer.len()).max().unwrap_or(0);
    for LayerPlan { layer, before, kept, masked, saved, obstacle } in layers {
        let remark = match (obstacle, saved) {
            (Some(why), _) => format!("   not pruned: {why}"),
            (None, true) => format!("   saved: the mask left {masked}"),
            (None, false) if kept.len() != *masked => format!("   the mask left {masked}, rounded"),
            _ => String::new(),
        };
        say(format_args!("{layer:width$}  {before:>5} -> {:>5}{remark}", kept.len()));
    }
    let share = |after: f64, before: f64| 100.0 * after / before;
    let (a, b) = (pruned.bn_channels(), dense.bn_channels());
    say(format_args!("channels    {b} -> {a} ({:.1}%)", share(a as f64, b as f64)));
    let (a, b) = (pruned.parameter_count(), dense.parameter_count());
    say(format_args!("parameters  {b} -> {a} ({:.1}%)", share(a as f64, b as f64)));
    let (a, b) = (pruned.flops(), dense.flops());
    say(format_args!("FLOPs       {b} -> {a} ({:.1}%)", share(a as f64, b as f64)));
}
