//! `study existence`: tickets drawn at chosen epochs of one dense training, each cut and trained as long as a dense network, beside that network and random tickets.

use std::path::Path;

use super::lab::{Lab, Part};
use super::tickets::{self, Weights};
use crate::report::study::StudyResult;
use crate::ticket::{Start, Ticket, ratio_label, ticket_path};
use crate::{Error, Result};

/// The epochs asked for, or seven between the first and the last.
pub fn epochs(given: Vec<usize>, all: usize) -> Result<Vec<usize>> {
    let mut epochs = given;
    if epochs.is_empty() {
        // Closer together where masks still change: 1, and shares of the training that about double.
        epochs = [0.03, 0.06, 0.125, 0.25, 0.5, 0.75, 1.0]
            .map(|share| ((share * all as f64).round() as usize).max(1))
            .into();
    }
    epochs.sort_unstable();
    epochs.dedup();
    match epochs.iter().find(|epoch| **epoch == 0 || **epoch > all) {
        Some(bad) => {
            let what = format!("there is no ticket after epoch {bad} of {all}");
            Err(Error::bad_setting(
                "--draw-at",
                what,
                "before the first epoch all scales are equal; give epochs from 1 to --epochs",
            ))
        }
        None => Ok(epochs),
    }
}

/// Runs the study.
pub fn run(lab: &mut Lab) -> Result<()> {
    let spec = lab.spec;
    lab.method("dense", "Dense", "the dense network, trained to the end");
    lab.method(
        "drawn",
        "Drawn ticket",
        "the ticket of the epoch, with the weights of the epoch, trained as long as the dense network",
    );
    lab.method("random", "Random ticket", "channels drawn evenly over the network, initial weights, trained as long");
    let surgery = spec.settings.surgery_options();
    let ratios = &spec.settings.prune.0;
    for seed in spec.seeds.iter().copied() {
        let dense = format!("s{seed}-dense");
        let tickets_of = |epoch: usize| lab.file("tickets").join(format!("s{seed}-e{epoch}"));
        let drawn = |run: &Path, epoch: usize| -> Result<()> {
            let folder = tickets_of(epoch);
            std::fs::create_dir_all(&folder).map_err(|e| Error::io("create the tickets' folder", &folder, e))?;
            for ratio in ratios {
                let path = ticket_path(&folder, *ratio);
                if !path.exists() {
                    tickets::of_trained(run, *ratio, Weights::Trained, surgery)?.save(&path)?;
                }
            }
            Ok(())
        };
        let ran = lab.train_with_stops(lab.settings(&dense, seed), &spec.draw_at, drawn)?;
        let folders: Vec<_> = spec.draw_at.iter().map(|epoch| (*epoch, tickets_of(*epoch))).collect();
        let result = |method: &str, ratio, drawn_epoch| StudyResult {
            method: method.into(),
            ratio,
            seed,
            drawn_epoch,
            ..Default::default()
        };
        lab.record(result("dense", None, None), ran.clone(), &[Part::whole(&dense)])?;
        for ratio in ratios.iter().copied() {
            for (epoch, folder) in &folders {
                let run = format!("s{seed}-{}-e{epoch}", ratio_label(ratio));
                let settings = super::Settings { start: Start::Inherit, ..lab.settings(&run, seed) };
                let ran =
                    ran.clone().then(|| lab.train_ticket(settings, || Ticket::load(&ticket_path(folder, ratio))))?;
                let parts = [Part::until(&dense, *epoch as f64), Part::whole(&run)];
                lab.record(result("drawn", Some(ratio), Some(*epoch as f64)), ran, &parts)?;
            }
            let run = format!("s{seed}-{}-random", ratio_label(ratio));
            let settings = super::Settings { start: Start::Inherit, ..lab.settings(&run, seed) };
            let ran = lab.train_ticket(settings.clone(), || tickets::random(&settings, ratio))?;
            lab.record(result("random", Some(ratio), None), ran, &[Part::whole(&run)])?;
        }
    }
    Ok(())
}
