//! The search inside a training loop of one's own: `cargo run --release --example own_loop`.
//!
//! The loop below is the caller's: batches, learning rate, when to look and what to do then. From the library it takes the network ([`Session`]), the masks ([`MaskTracker`]) and the
//! surgery ([`plan_surgery`]). `own_network.rs` is the shorter way, where [`Run`](earlybird::ticket::Run) owns the loop.

use std::sync::Arc;

use earlybird::autograd::{Hyper, Session};
use earlybird::backend::cpu::Cpu;
use earlybird::data::{self, Augment, Loader, LoaderOptions};
use earlybird::graph::Graph;
use earlybird::nn::{self, ModelOptions};
use earlybird::ops::Shape;
use earlybird::ticket::{DetectorOptions, MaskTracker, SurgeryOptions, plan_surgery};
use earlybird::{Error, Result};

/// One epoch; returns the mean loss.
fn train(session: &mut Session, batches: &Loader, epoch: usize, lr: f32) -> Result<f64> {
    for batch in batches.epoch(epoch, 0..batches.batches()) {
        let batch = batch?;
        session.step(&batch.images, &batch.labels, lr)?;
    }
    Ok(session.take_metrics()?.loss())
}

/// Accuracy on the test set.
fn test(session: &mut Session, batches: &Loader) -> Result<f64> {
    for batch in batches.epoch(0, 0..batches.batches()) {
        let batch = batch?;
        session.evaluate(&batch.images, &batch.labels)?;
    }
    Ok(session.take_metrics()?.accuracy())
}

/// The scales of all BN layers, layer by layer.
fn scales(session: &Session) -> Result<Vec<(String, Vec<f32>)>> {
    let all = session.bn_scales()?;
    let mut first = 0;
    let layer = |layer: earlybird::graph::BnLayer| {
        first += layer.channels;
        (layer.name, all[first - layer.channels..first].to_vec())
    };
    Ok(session.graph().bn_layers().into_iter().map(layer).collect())
}

fn main() -> Result<()> {
    let data = Arc::new(data::open("digits")?);
    let input = Shape::new(data.train.height, data.train.width, data.train.channels);
    let graph: Arc<Graph> = Arc::new(nn::build("vgg11", &ModelOptions { classes: data.classes, input, width: 0.125 })?);
    let options = LoaderOptions {
        batch_size: 64,
        shuffle: true,
        augment: Augment::digits(),
        seed: 1,
        ..LoaderOptions::default()
    };
    let batches = Loader::train(&data, options)?;
    let held_out = Loader::test(&data, LoaderOptions { shuffle: false, augment: Augment::none(), ..options })?;

    // L1 on the scales is what makes channels differ; the rest is plain SGD.
    let hyper = Hyper { momentum: 0.9, weight_decay: 1e-4, l1: 1e-4 };
    let mut session = Session::new(graph.clone(), Cpu::new(), hyper)?;
    session.load_state(&nn::init(&graph, 1))?;

    // A queue of 3 instead of the paper's 5, so that this takes seconds.
    let mut tracker = MaskTracker::new(&[0.5], DetectorOptions { queue: 3, eps: 0.15, ..Default::default() })?;
    let epochs = 14;
    let mut cut_at = None;
    for epoch in 0..epochs {
        let lr = if epoch < 8 { 0.05 } else { 0.005 };
        let loss = train(&mut session, &batches, epoch, lr)?;
        println!("epoch {:2}  loss {loss:.4}  test {:.2}%", epoch + 1, 100.0 * test(&mut session, &held_out)?);
        if cut_at.is_some() {
            continue;
        }
        let layers = scales(&session)?;
        let seen = tracker.observe(layers.iter().map(|(name, scales)| (name.as_str(), &scales[..])))?;
        println!("          mask distance {:.3?}", seen[0].distance);
        if !seen[0].emerged {
            continue;
        }
        // The ticket: remove what its mask prunes, take weights and momenta along, and go on with the small network.
        let all: Vec<f32> = layers.into_iter().flat_map(|(_, scales)| scales).collect();
        let surgery = plan_surgery(&graph, &seen[0].cut.mask, &all, SurgeryOptions::default())?;
        let mut small = Session::new(Arc::new(surgery.graph.clone()), Cpu::new(), hyper)?;
        small.load_state(&surgery.cut(&session.state_dict()?)?)?;
        small.load_momenta(&surgery.cut(&session.momenta()?)?)?;
        session = small;
        cut_at = Some(epoch + 1);
        let (before, after) = (graph.flops(), surgery.graph.flops());
        println!("ticket after {} epochs: {before} -> {after} FLOPs per image", epoch + 1);
    }
    let accuracy = test(&mut session, &held_out)?;
    println!("ends at {:.2}% with {} parameters", 100.0 * accuracy, session.graph().parameter_count());
    match cut_at {
        Some(_) if accuracy > 0.9 => Ok(()),
        _ => Err(Error::bad_setting(
            "own_loop",
            format!("ticket {cut_at:?}, accuracy {accuracy}"),
            "this example should find its ticket",
        )),
    }
}
