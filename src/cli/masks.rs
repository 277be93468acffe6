//! `earlybird masks`: the pairwise mask-distance matrix of a run, as SVG heat map and CSV.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;

use super::{DONE, say};
use crate::report::MaskLog;
use crate::report::plot::Heatmap;
use crate::ticket::{Mask, ratio_label};
use crate::{Result, fsio};

/// The mask draws of a run.
pub const MASKS: &str = "masks.bin";

/// Arguments of `masks`.
#[derive(Args)]
pub struct MasksArgs {
    /// The run folder
    run: PathBuf,
}

impl MasksArgs {
    /// Runs the command.
    pub fn run(self) -> Result<u8> {
        let summary = std::fs::read_to_string(self.run.join("summary.json")).unwrap_or_default();
        let summary: Option<crate::report::Summary> = serde_json::from_str(&summary).ok();
        let tickets: Vec<(f64, f64)> =
            summary.iter().flat_map(|s| &s.tickets).filter_map(|t| Some((t.ratio, t.epoch?))).collect();
        for name in write(&self.run, &tickets)? {
            say(self.run.join(name).display());
        }
        Ok(DONE)
    }
}

/// Writes `mask-distance-pXX.csv` and `.svg` for every ratio of the run in `folder`; `tickets` are (ratio, epoch). Returns the plots' names.
pub fn write(folder: &Path, tickets: &[(f64, f64)]) -> Result<Vec<String>> {
    let (log, records) = MaskLog::read(&folder.join(MASKS))?;
    let mut draws: BTreeMap<u32, Vec<(f64, Mask)>> = BTreeMap::new();
    for record in records {
        let mask = Mask::from_words(record.words, log.channels())?;
        draws.entry(record.ratio).or_default().push((record.epoch, mask));
    }
    let mut written = Vec::new();
    for (number, draws) in draws {
        let ratio = log.ratios()[number as usize];
        let label = ratio_label(ratio);
        let row =
            |(_, mask): &(f64, Mask)| draws.iter().map(|(_, other)| mask.distance(other)).collect::<Result<Vec<f64>>>();
        let distances = draws.iter().map(row).collect::<Result<Vec<_>>>()?;
        let epochs: Vec<f64> = draws.iter().map(|(epoch, _)| *epoch).collect();
        let mut csv = String::from("epoch");
        epochs.iter().for_each(|epoch| csv += &format!(",{epoch}"));
        csv.push('\n');
        for (epoch, distances) in epochs.iter().zip(&distances) {
            csv += &epoch.to_string();
            distances.iter().for_each(|distance| csv += &format!(",{distance}"));
            csv.push('\n');
        }
        fsio::write_atomic(&folder.join(format!("mask-distance-{label}.csv")), csv.as_bytes())?;
        let name = format!("mask-distance-{label}.svg");
        let mark = tickets.iter().find(|(r, _)| *r == ratio).map(|(_, epoch)| *epoch);
        let title = format!("Mask distance between epochs, {label}");
        Heatmap { title, epochs, distances, mark }.save(&folder.join(&name))?;
        written.push(name);
    }
    Ok(written)
}
