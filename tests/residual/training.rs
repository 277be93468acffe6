//! Steps after surgery equal steps of the masked dense net, where the mathematics says so.
//!
//! A removed channel is 0 in front of a ReLU whose derivative there is 0, or is neither written nor read: it gets no gradient, so every step is equal. The exception is
//! `select` on a post-activation ResNet, whose blocks stop reading channels that live on the stream: there the first step is equal, and from then on the masked net's
//! weights of 0 have grown.

use earlybird::autograd::{Hyper, StateDict};
use earlybird::graph::Graph;
use earlybird::ticket::{Policy, Surgery, SurgeryOptions, masked_state};

use super::support::{POLICIES, images, mask, networks, operate, session, state};

const HYPER: Hyper = Hyper { momentum: 0.9, weight_decay: 0.01, l1: 0.01 };

/// The pruned and the masked net after `steps` steps, as states of the pruned net.
fn train(g: &Graph, surgery: &Surgery, dense: &StateDict, steps: usize) -> (StateDict, StateDict) {
    let (masked, momenta) = (masked_state(surgery, dense), masked_state(surgery, &state(g, 77)));
    let momenta = momenta.into_iter().filter(|(name, _)| !name.contains("running_")).collect();
    let run = |graph: &Graph, state: &StateDict, momenta: &StateDict| {
        let mut session = session(graph, state, HYPER);
        session.load_momenta(momenta).unwrap();
        for step in 0..steps {
            session.step(&images(g, 6, step as u64), &[0, 1, 2, 3, 1, 2], 0.01).unwrap();
        }
        session.state_dict().unwrap()
    };
    let pruned = run(&surgery.graph, &surgery.cut(dense).unwrap(), &surgery.cut(&momenta).unwrap());
    let masked = run(g, &masked, &momenta);
    let mut small = surgery.cut(&masked).unwrap();
    // Cutting silences again what has grown since; those tensors have their full width.
    for layer in surgery.layers.iter().filter(|layer| !layer.silenced.is_empty()) {
        for suffix in ["weight", "bias"] {
            let name = format!("{}.{suffix}", layer.layer);
            small.insert(name.clone(), masked[&name].clone());
        }
    }
    (pruned, small)
}

/// Norm of the difference over that of the way from `start`.
fn apart(a: &StateDict, b: &StateDict, start: &StateDict) -> f64 {
    let square = |x: &StateDict, y: &StateDict| -> f64 {
        x.iter().flat_map(|(n, t)| t.data.iter().zip(&y[n].data)).map(|(x, y)| f64::from(x - y).powi(2)).sum()
    };
    (square(a, b) / square(a, start)).sqrt()
}

#[test]
fn training_goes_on_as_in_the_masked_net() {
    for (number, g) in networks().iter().enumerate().filter(|(_, g)| !g.name().contains("101")) {
        let dense = state(g, 20 + number as u64);
        for policy in POLICIES {
            let options = SurgeryOptions { policy, min_channels: 2, ..Default::default() };
            let surgery = operate(g, &dense, &mask(g, 0.6, 5), options);
            let start = surgery.cut(&dense).unwrap();
            let regrows = policy == Policy::Select && (g.name().starts_with("resnet") || g.name() == "branched");
            let steps = if regrows { 1 } else { 2 };
            let (pruned, masked) = train(g, &surgery, &dense, steps);
            let off = apart(&pruned, &masked, &start);
            assert!(off < 2e-3, "{} {policy:?}: {off} apart after {steps} steps", g.name());
        }
    }
}

/// The exception is real: otherwise the comment above, and the documentation of `masked_state`, would be wrong.
#[test]
fn a_block_fed_by_a_gather_stops_reading_what_lives_on_the_stream() {
    let g = networks().swap_remove(2);
    let dense = state(&g, 22);
    let surgery = operate(&g, &dense, &mask(&g, 0.6, 5), SurgeryOptions { min_channels: 2, ..Default::default() });
    let start = surgery.cut(&dense).unwrap();
    let [one, three] = [1, 3].map(|steps| {
        let (pruned, masked) = train(&g, &surgery, &dense, steps);
        apart(&pruned, &masked, &start)
    });
    assert!(three > 20.0 * one, "{one} apart after one step, {three} after three");
}
