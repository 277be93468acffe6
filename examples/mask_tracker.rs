//! Masks of a model that this library knows nothing about: `cargo run --release --example mask_tracker`.
//!
//! The model here is forty gates of a linear regression, in two groups, trained by hand-written gradient descent with L1; only twelve gates carry signal. Whatever trains, wherever it runs: all
//! that [`MaskTracker`] wants is the scales of each layer, once an epoch. (A program in another language sends them to `earlybird watch` as JSON lines.)

use earlybird::ticket::{DetectorOptions, MaskTracker};
use earlybird::{Error, Result};

const GATES: usize = 40;
const SIGNAL: usize = 12;

/// A reproducible number in -1..1 (xorshift; quality does not matter here).
fn random(state: &mut u64) -> f32 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}

/// The external model: y = sum of gate * x, fitted to a target that depends on the first gates of each group only.
struct External {
    gates: [f32; GATES],
    seed: u64,
}

impl External {
    /// The weight that the data hide behind a gate.
    fn truth(gate: usize) -> f32 {
        if gate % (GATES / 2) < SIGNAL / 2 { 0.5 + 0.1 * (gate % 7) as f32 } else { 0.0 }
    }

    fn train_one_epoch(&mut self) {
        for _ in 0..50 {
            let mut x = [0.0f32; GATES];
            x.iter_mut().for_each(|x| *x = random(&mut self.seed));
            let wanted: f32 =
                x.iter().enumerate().map(|(i, x)| External::truth(i) * x).sum::<f32>() + 0.1 * random(&mut self.seed);
            let error = x.iter().zip(&self.gates).map(|(x, gate)| x * gate).sum::<f32>() - wanted;
            for (gate, x) in self.gates.iter_mut().zip(x) {
                *gate -= 0.02 * (error * x + 0.002 * gate.signum());
            }
        }
    }
}

fn main() -> Result<()> {
    let mut seed = 1;
    let mut model = External { gates: [0.0; GATES].map(|_| 0.5 + 0.05 * random(&mut seed)), seed: 7 };
    let ratio = 1.0 - SIGNAL as f64 / GATES as f64 - 0.01; // keep as many as carry signal
    let mut tracker = MaskTracker::new(&[ratio], DetectorOptions::default())?;
    for epoch in 1..=40 {
        model.train_one_epoch();
        let (first, second) = model.gates.split_at(GATES / 2);
        let seen = tracker.observe([("first", first), ("second", second)])?;
        println!("epoch {epoch:2}  distance {:.3?}  settled {}", seen[0].distance, seen[0].settled);
        if seen[0].emerged {
            println!("the ticket emerged after {epoch} epochs and keeps");
            let kept = tracker.kept(&seen[0].cut.mask);
            kept.iter().for_each(|(layer, gates)| println!("  {layer}: {gates:?}"));
            let found = kept.iter().flat_map(|(_, gates)| gates).filter(|gate| **gate < SIGNAL as u32 / 2).count();
            println!("{found} of the {SIGNAL} gates that carry signal are among them");
            return Ok(());
        }
    }
    Err(Error::bad_setting("mask_tracker", "no ticket emerged within 40 epochs", "this example should find one"))
}
