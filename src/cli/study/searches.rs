//! Studies of the search alone: `distance`, `learning-rate`, `precision`.

use std::collections::BTreeMap;

use super::super::masks::MASKS;
use super::lab::{Lab, Part, Ran};
use crate::report::MaskLog;
use crate::report::plot::Heatmap;
use crate::report::study::{Matrix, Overlap, StudyResult};
use crate::ticket::{Detector, DetectorOptions, Mask, Start, Task, Ticket, ratio_label, ticket_path};
use crate::{Result, fsio};

/// No distance is below it: a search with it never stops before its last epoch.
const NEVER: f64 = f64::MIN_POSITIVE;

/// Masks of a whole dense training; the detector is applied to them afterwards.
pub fn distance(lab: &mut Lab) -> Result<()> {
    let spec = lab.spec;
    lab.method("search", "Search", "the dense network, with masks drawn after every epoch");
    for seed in spec.seeds.iter().copied() {
        let run = format!("s{seed}-masks");
        let settings = super::Settings { eps: NEVER, ..lab.settings(&run, seed) };
        // That no ticket emerges is what this search is made for.
        let ran = match lab.train(Task::Search, settings)? {
            Ran::NoTicket(_) => Ran::Done,
            other => other,
        };
        let mut emerged = BTreeMap::new();
        if ran == Ran::Done {
            for (ratio, epochs, masks) in draws(lab, &run)? {
                let row = |mask: &Mask| masks.iter().map(|other| mask.distance(other)).collect::<Result<Vec<f64>>>();
                let distances = masks.iter().map(row).collect::<Result<Vec<_>>>()?;
                let options = DetectorOptions {
                    criterion: spec.settings.criterion,
                    eps: spec.settings.eps,
                    queue: spec.settings.queue,
                    draws_per_epoch: spec.settings.draws_per_epoch,
                };
                let mut detector = Detector::new(options);
                let mut first = None;
                for (epoch, mask) in epochs.iter().zip(&masks) {
                    if detector.update(mask)?.settled && first.is_none() {
                        first = Some(*epoch);
                    }
                }
                emerged.insert(ratio_label(ratio), first);
                save(lab, &Matrix { ratio, seed, epochs, distances, emerged: first })?;
            }
        }
        for ratio in spec.settings.prune.0.iter().copied() {
            let ticket_epoch = emerged.get(&ratio_label(ratio)).copied().flatten();
            let result =
                StudyResult { method: "search".into(), ratio: Some(ratio), seed, ticket_epoch, ..Default::default() };
            lab.record(result, ran.clone(), &[Part::whole(&run)])?;
        }
    }
    Ok(())
}

/// A ratio, the epochs of its draws, and their masks.
type Draws = (f64, Vec<f64>, Vec<Mask>);

/// All draws of a run, by ratio.
fn draws(lab: &Lab, run: &str) -> Result<Vec<Draws>> {
    let (log, records) = MaskLog::read(&lab.path(run).join(MASKS))?;
    let mut all: Vec<_> = log.ratios().iter().map(|ratio| (*ratio, Vec::new(), Vec::new())).collect();
    for record in records {
        let (_, epochs, masks) = &mut all[record.ratio as usize];
        epochs.push(record.epoch);
        masks.push(Mask::from_words(record.words, log.channels())?);
    }
    Ok(all)
}

fn save(lab: &mut Lab, matrix: &Matrix) -> Result<()> {
    let Matrix { ratio, seed, epochs, distances, emerged } = matrix;
    let name = format!("distance-{}-s{seed}", ratio_label(*ratio));
    let line =
        |first: String, values: &[f64]| values.iter().fold(first, |line, value| line + &format!(",{value}")) + "\n";
    let mut csv = line("epoch".into(), epochs);
    for (epoch, row) in epochs.iter().zip(distances) {
        csv += &line(epoch.to_string(), row);
    }
    fsio::write_atomic(&lab.file(&format!("{name}.csv")), csv.as_bytes())?;
    let title = format!("Mask distance between epochs, {}, seed {seed}", ratio_label(*ratio));
    let map = Heatmap { title, epochs: epochs.clone(), distances: distances.clone(), mark: *emerged };
    map.save(&lab.file(&format!("{name}.svg")))?;
    lab.study.matrices.push(matrix.clone());
    Ok(())
}

/// One search per rate; every ticket trains on under the study's own schedule from its start, so that only the search differs.
pub fn learning_rate(lab: &mut Lab) -> Result<()> {
    let spec = lab.spec;
    for rate in &spec.rates {
        let about = format!(
            "search with an initial rate of {rate}; its tickets train {} epochs at the study's rate",
            spec.settings.epochs
        );
        lab.method(&format!("lr-{rate}"), &format!("Rate {rate}"), &about);
    }
    for seed in spec.seeds.iter().copied() {
        for rate in &spec.rates {
            let search = format!("s{seed}-search-lr{rate}");
            let ran = lab.train(Task::Search, super::Settings { lr: *rate, ..lab.settings(&search, seed) })?;
            train_on(lab, seed, &format!("lr-{rate}"), &search, &ran)?;
        }
        overlaps(
            lab,
            seed,
            &spec
                .rates
                .iter()
                .map(|rate| (format!("lr-{rate}"), format!("s{seed}-search-lr{rate}")))
                .collect::<Vec<_>>(),
        )?;
    }
    Ok(())
}

/// One search per precision, tickets trained on in f32, overlaps of the tickets.
pub fn precision(lab: &mut Lab) -> Result<()> {
    let spec = lab.spec;
    for precision in &spec.precisions {
        lab.method(
            precision,
            &format!("Search in {precision}"),
            &format!("search in {precision}; its tickets train {} epochs in f32", spec.settings.epochs),
        );
    }
    for seed in spec.seeds.iter().copied() {
        for precision in &spec.precisions {
            let search = format!("s{seed}-search-{precision}");
            let settings = super::Settings { search_precision: precision.clone(), ..lab.settings(&search, seed) };
            let ran = lab.train(Task::Search, settings)?;
            train_on(lab, seed, precision, &search, &ran)?;
        }
        overlaps(
            lab,
            seed,
            &spec.precisions.iter().map(|p| (p.clone(), format!("s{seed}-search-{p}"))).collect::<Vec<_>>(),
        )?;
    }
    Ok(())
}

/// Trains every ticket of a search from epoch 0 on, with the weights of the draw.
fn train_on(lab: &mut Lab, seed: u64, method: &str, search: &str, searched: &Ran) -> Result<()> {
    let spec = lab.spec;
    for ratio in spec.settings.prune.0.iter().copied() {
        let path = ticket_path(&lab.path(search), ratio);
        let mut result = StudyResult { method: method.into(), ratio: Some(ratio), seed, ..Default::default() };
        if !matches!(searched, Ran::Done | Ran::NoTicket(_)) || !path.exists() {
            lab.record(result, searched.clone(), &[])?;
            continue;
        }
        let ticket = Ticket::load(&path)?;
        let epoch = ticket.info.epoch;
        result.ticket_epoch = Some(epoch);
        let run = format!("s{seed}-{}-{method}", ratio_label(ratio));
        let settings = super::Settings { start: Start::Inherit, ..lab.settings(&run, seed) };
        let ran = lab.train_ticket(settings, || {
            let mut ticket = ticket;
            (ticket.info.epoch, ticket.info.position, ticket.info.step) = (0.0, Default::default(), 0);
            ticket.momenta.values_mut().for_each(|tensor| tensor.data.fill(0.0));
            Ok(ticket)
        })?;
        lab.record(result, ran, &[Part::until(search, epoch), Part::whole(&run)])?;
    }
    Ok(())
}

/// Every pair of the tickets of `searches` (label, run) at every ratio.
fn overlaps(lab: &mut Lab, seed: u64, searches: &[(String, String)]) -> Result<()> {
    for ratio in lab.spec.settings.prune.0.clone() {
        let mut tickets = Vec::new();
        for (label, run) in searches {
            let path = ticket_path(&lab.path(run), ratio);
            if path.exists() {
                tickets.push((format!("{label}/s{seed}"), Ticket::load(&path)?.mask));
            }
        }
        for (i, (a, mask_a)) in tickets.iter().enumerate() {
            for (b, mask_b) in &tickets[i + 1..] {
                let both = (0..mask_a.len()).filter(|c| mask_a.kept(*c) && mask_b.kept(*c)).count();
                let either = mask_a.count() + mask_b.count() - both;
                let jaccard = both as f64 / either.max(1) as f64;
                let distance = mask_a.distance(mask_b)?;
                lab.study.overlaps.push(Overlap { ratio, a: a.clone(), b: b.clone(), distance, jaccard });
            }
        }
    }
    Ok(())
}
