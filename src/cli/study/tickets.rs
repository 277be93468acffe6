//! Tickets that are made, not found: from a trained network's scales, from sensitivities at the start, at random, or with fresh weights in a ticket's shape.
//!
//! All start at epoch 0 with momenta of zero, so that they train as long as a dense network.

use std::path::Path;
use std::sync::Arc;

use super::super::Settings;
use super::super::account::carried;
use super::super::recorder::MODEL;
use super::super::train::{self, INIT};
use crate::autograd::{Session, StateDict, Tensor};
use crate::data::{Loader, LoaderOptions};
use crate::graph::Graph;
use crate::quant::philox::{Stream, stream_of};
use crate::ticket::{Mask, SurgeryOptions, Task, Ticket, TicketInfo, draw, plan_surgery};
use crate::train::Position;
use crate::{Result, nn};

/// Which weights a ticket trains from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// Those the network began with (the lottery ticket's rewinding).
    Initial,
    /// Those it was trained to (network slimming's fine-tuning).
    Trained,
}

/// The ticket of the trained network of the run in `folder`.
pub fn of_trained(folder: &Path, ratio: f64, weights: Weights, surgery: SurgeryOptions) -> Result<Ticket> {
    let (graph, file) = carried(&folder.join(MODEL))?;
    let trained = file.tensors;
    let scores = scales(&graph, &trained);
    let state = match weights {
        Weights::Initial => carried(&folder.join(INIT))?.1.tensors,
        Weights::Trained => trained,
    };
    make(graph, state, &scores, ratio, surgery)
}

/// A ticket by SNIP's connection sensitivity (Lee, Ajanthan and Torr, ICLR 2019), taken at channels: |dL/dg| of a gate g = 1 on each batchnorm's output, averaged in sign over
/// `batches` batches of the untrained network (structured SNIP: Verdenius, Stol and Forre 2020). By the chain rule dL/dg = gamma dL/dgamma + beta dL/dbeta.
pub fn snip(settings: &Settings, ratio: f64, batches: usize) -> Result<Ticket> {
    let (options, data, backend) = train::prepare(settings, Task::Train)?;
    let graph = train::model(settings, &data)?;
    let state = train::initial_state(settings, &graph)?;
    let mut session = Session::new(Arc::new(graph.clone()), backend, options.hyper)?;
    session.load_state(&state)?;
    let loader = LoaderOptions {
        batch_size: options.batch.size,
        shuffle: options.batch.shuffle,
        augment: options.batch.augment,
        seed: options.batch.seed,
        ..LoaderOptions::default()
    };
    let loader = Loader::train(&data, loader)?;
    let mut gates = vec![0.0f32; graph.bn_channels()];
    for batch in loader.epoch(0, 0..batches.min(loader.batches())) {
        let batch = batch?;
        session.differentiate(&batch.images, &batch.labels)?;
        let gradients = session.gradients()?;
        let mut at = 0;
        for layer in graph.bn_layers() {
            let value = |dict: &StateDict, suffix: &str, c: usize| {
                dict.get(&format!("{}.{suffix}", layer.name)).map_or(0.0, |tensor| tensor.data[c])
            };
            for c in 0..layer.channels {
                for suffix in ["weight", "bias"] {
                    gates[at + c] += value(&state, suffix, c) * value(&gradients, suffix, c);
                }
            }
            at += layer.channels;
        }
    }
    make(graph, state, &gates, ratio, options.surgery)
}

/// A ticket of channels drawn evenly over the whole network, with the initial weights.
pub fn random(settings: &Settings, ratio: f64) -> Result<Ticket> {
    let (options, data, _) = train::prepare(settings, Task::Train)?;
    let graph = train::model(settings, &data)?;
    let state = train::initial_state(settings, &graph)?;
    let mut stream = Stream::new(settings.seed, stream_of("random ticket"));
    let scores: Vec<f32> = (0..graph.bn_channels()).map(|_| stream.normal().abs() as f32).collect();
    make(graph, state, &scores, ratio, options.surgery)
}

/// `ticket`'s channels with fresh random weights.
pub fn fresh(ticket: Ticket, seed: u64, surgery: SurgeryOptions) -> Result<Ticket> {
    let mask = completed(&ticket.graph, &ticket.mask, &ticket.scales(), surgery)?;
    let state = nn::init_like(&ticket.graph, seed);
    Ok(begun(ticket.graph, state, mask, ticket.info.ratio, ticket.info.threshold))
}

fn scales(graph: &Graph, state: &StateDict) -> Vec<f32> {
    let layers = graph.bn_layers();
    let scales = layers.iter().filter_map(|layer| state.get(&format!("{}.weight", layer.name)));
    scales.flat_map(|tensor| tensor.data.iter().copied()).collect()
}

fn make(graph: Graph, state: StateDict, scores: &[f32], ratio: f64, surgery: SurgeryOptions) -> Result<Ticket> {
    let cut = draw(scores, &[ratio])?.remove(0);
    let mask = completed(&graph, &cut.mask, scores, surgery)?;
    Ok(begun(graph, state, mask, ratio, cut.threshold))
}

/// The mask with what surgery saves in each layer, chosen by these scores: surgery itself would choose by the scales of the weights the ticket starts from.
fn completed(graph: &Graph, mask: &Mask, scores: &[f32], surgery: SurgeryOptions) -> Result<Mask> {
    let plan = plan_surgery(graph, mask, scores, surgery)?;
    let kept = plan.layers.iter().flat_map(|layer| {
        (0..layer.before).map(|c| layer.kept.binary_search(&(c as u32)).is_ok()).collect::<Vec<bool>>()
    });
    Ok(Mask::from_bools(kept))
}

fn begun(graph: Graph, state: StateDict, mask: Mask, ratio: f64, threshold: f32) -> Ticket {
    let zero = |tensor: &Tensor| Tensor { dims: tensor.dims.clone(), data: vec![0.0; tensor.data.len()] };
    let trained = graph.parameters().into_iter().filter(|parameter| parameter.kind.trained());
    let momenta = trained.filter_map(|p| state.get(&p.name).map(|tensor| (p.name.clone(), zero(tensor)))).collect();
    let info =
        TicketInfo { ratio, epoch: 0.0, position: Position::default(), step: 0, threshold, distances: Vec::new() };
    Ticket { info, mask, graph, state, momenta }
}
