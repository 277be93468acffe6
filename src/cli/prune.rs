//! `earlybird prune`: cuts a drawn ticket into a smaller network, after printing what it will do.

use std::path::PathBuf;

use clap::Args;

use super::{DONE, say};
use crate::Result;
use crate::graph::{Graph, Node, Op};
use crate::ticket::{LayerPlan, Policy, Surgery, SurgeryOptions, Ticket};
use crate::train::checkpoint::{Checkpoint, join};

/// Metadata key of the kept channels, per BN layer of the dense network.
pub const KEPT_KEY: &str = "earlybird.kept";
/// Metadata key of the [`SurgeryOptions`] that a network was cut with.
pub const SURGERY_KEY: &str = "earlybird.surgery";

/// Arguments of `prune`.
#[derive(Args)]
pub struct PruneArgs {
    /// The ticket, such as runs/x/ticket-p50.safetensors
    ticket: PathBuf,
    /// Where the pruned network goes
    #[arg(long, required_unless_present = "dry_run")]
    out: Option<PathBuf>,
    /// Channels that every layer keeps at least
    #[arg(long, default_value_t = 1)]
    min_channels: usize,
    /// Widen layers to a multiple of this
    #[arg(long, default_value_t = 1)]
    round_to: usize,
    /// Where adds tie channels: select (the stream keeps its width, gathers feed the blocks) or group (tied channels go together)
    #[arg(long, default_value = "select")]
    surgery: Policy,
    /// Print the plan and write nothing
    #[arg(long)]
    dry_run: bool,
}

impl PruneArgs {
    /// Runs the command.
    pub fn run(self) -> Result<u8> {
        let ticket = Ticket::load(&self.ticket)?;
        let options = SurgeryOptions { min_channels: self.min_channels, round_to: self.round_to, policy: self.surgery };
        options.check()?;
        let surgery = ticket.surgery(options)?;
        print_plan(&ticket.graph, &surgery.graph, &surgery.layers);
        let Some(out) = self.out.filter(|_| !self.dry_run) else { return Ok(DONE) };
        let state = surgery.cut(&ticket.state)?;
        let momenta = surgery.cut(&ticket.momenta)?;
        pruned_checkpoint(&surgery, options, join(state, momenta))?.save(&out)?;
        say(format_args!("wrote {}", out.display()));
        Ok(DONE)
    }
}

fn pruned_checkpoint(
    surgery: &Surgery,
    options: SurgeryOptions,
    tensors: crate::autograd::StateDict,
) -> Result<Checkpoint> {
    let mut file = Checkpoint::new(&surgery.graph, tensors)?;
    file.put(KEPT_KEY, &surgery.layers)?;
    file.put(SURGERY_KEY, &options)?;
    Ok(file)
}

/// The plan, layer by layer with the channels in and out before and after, and what it comes to.
pub fn print_plan(dense: &Graph, pruned: &Graph, layers: &[LayerPlan]) {
    let width = pruned.nodes().iter().map(|node| node.name.len()).max().unwrap_or(0);
    let channels = |graph: &Graph, name: &str| {
        let id = graph.ids().find(|id| graph.node(*id).name == name)?;
        let input = graph.node(id).inputs.first()?;
        Some((graph.shape(*input).c, graph.shape(id).c))
    };
    for Node { name, op, .. } in pruned.nodes() {
        let Some((input, output)) = channels(pruned, name) else { continue };
        let before = channels(dense, name);
        match (op, before) {
            (Op::Select(_), None) => say(format_args!("{name:width$}  gathers {output} of {input}")),
            (Op::BatchNorm(_), Some((_, before))) => {
                let remark = layers.iter().find(|layer| layer.layer == *name).map_or(String::new(), remark);
                say(format_args!("{name:width$}  {before:>5} -> {output:>5}{remark}"));
            }
            (Op::Conv2d(_) | Op::Linear(_), Some((from, to))) => {
                say(format_args!("{name:width$}  {to:>5} -> {output:>5}   in {from} -> {input}"));
            }
            _ => {}
        }
    }
    let share = |after: f64, before: f64| 100.0 * after / before;
    let (a, b) = (pruned.bn_channels(), dense.bn_channels());
    say(format_args!("channels    {b} -> {a} ({:.1}%)", share(a as f64, b as f64)));
    let (a, b) = (pruned.parameter_count(), dense.parameter_count());
    say(format_args!("parameters  {b} -> {a} ({:.1}%)", share(a as f64, b as f64)));
    let (a, b) = (pruned.flops(), dense.flops());
    say(format_args!("FLOPs       {b} -> {a} ({:.1}%)", share(a as f64, b as f64)));
}

/// What a layer's numbers alone do not say.
fn remark(plan: &LayerPlan) -> String {
    let LayerPlan { kept, masked, saved, obstacle, silenced, tied, .. } = plan;
    let mut words = match (obstacle, saved) {
        (Some(why), _) => format!("   not pruned: {why}"),
        (None, true) => format!("   saved: the mask left {masked}"),
        (None, false) if !tied.is_empty() => {
            let more = if tied.len() > 2 { format!(" and {} more", tied.len() - 2) } else { String::new() };
            format!("   the mask left {masked}, together with {}{more}", tied[..tied.len().min(2)].join(", "))
        }
        (None, false) if kept.len() != *masked => format!("   the mask left {masked}, rounded"),
        _ => String::new(),
    };
    if !silenced.is_empty() {
        words += &format!("; {} channels silenced", silenced.len());
    }
    words
}
