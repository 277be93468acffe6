//! `earlybird watch`: masks of a network that another program trains, such as PyTorch. BN scales come in as JSON lines, distances and tickets go out as JSON lines.

use std::io::{BufRead, Write};
use std::path::PathBuf;

use clap::Args;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::json;

use super::settings::Ratios;
use super::{DONE, NO_TICKET, masks, say, warn};
use crate::report::{DrawRecord, MaskLog, RunFolder};
use crate::ticket::{Criterion, DetectorOptions, MaskTracker, Observation, ratio_label};
use crate::{Error, Result};

/// Arguments of `watch`.
#[derive(Args)]
pub struct WatchArgs {
    /// JSON lines such as {"epoch": 1, "scales": {"bn1": [0.5, 0.1], "bn2": [0.3]}}, one for each draw; `-` reads standard input and answers each line at once
    file: PathBuf,
    /// Shares of channels to prune, watched side by side
    #[arg(long, value_name = "P[,P]", default_value = "0.5")]
    prune: Ratios,
    /// When a ticket has emerged: consecutive (the paper) or window (the official code)
    #[arg(long, default_value = "consecutive")]
    criterion: Criterion,
    /// Largest mask distance that counts as settled
    #[arg(long, default_value_t = 0.1)]
    eps: f64,
    /// Length of the detector's queue
    #[arg(long, default_value_t = 5)]
    queue: usize,
    /// Lines for each epoch; distances are taken across one epoch
    #[arg(long, default_value_t = 1)]
    draws_per_epoch: usize,
    /// Folder for masks.bin and the distance matrices as CSV and SVG; must not exist or be empty
    #[arg(long)]
    out: Option<PathBuf>,
}

/// One line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Draw {
    epoch: f64,
    #[serde(default)]
    step: u64,
    scales: Layers,
}

/// Layers in the order of the file, which is that of the network.
struct Layers(Vec<(String, Vec<f32>)>);

impl<'de> Deserialize<'de> for Layers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Layers;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("an object of layers, each a list of numbers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Layers, A::Error> {
                let mut all = Vec::new();
                while let Some(layer) = map.next_entry()? {
                    all.push(layer);
                }
                Ok(Layers(all))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

impl WatchArgs {
    /// Runs the command.
    pub fn run(self) -> Result<u8> {
        let WatchArgs { criterion, eps, queue, draws_per_epoch, .. } = self;
        let options = DetectorOptions { criterion, eps, queue, draws_per_epoch };
        let mut tracker = MaskTracker::new(&self.prune.0, options)?;
        let folder = self.out.as_deref().map(RunFolder::create).transpose()?; // before anything is read: what it refuses costs nothing
        let mut log: Option<MaskLog> = None;
        let mut tickets = Vec::new();
        let reader: Box<dyn BufRead> = match self.file.as_os_str() == "-" {
            true => Box::new(std::io::stdin().lock()),
            false => {
                let file = std::fs::File::open(&self.file).map_err(|e| Error::io("read the scales", &self.file, e))?;
                Box::new(std::io::BufReader::new(file))
            }
        };
        for (number, line) in reader.lines().enumerate() {
            let line = line.map_err(|e| Error::io("read the scales", &self.file, e))?;
            if line.trim().is_empty() {
                continue;
            }
            let bad = |what: String| {
                let hint = "each line is one object: {\"epoch\": 1, \"scales\": {\"bn1\": [0.5, 0.1]}}; NaN is no JSON";
                Error::bad_file(&self.file, None, format!("line {}: {what}", number + 1), hint)
            };
            let draw: Draw = serde_json::from_str(&line)
                .map_err(|e| bad(e.to_string().replace(" at line 1 column ", " at column ")))?;
            let layers = draw.scales.0.iter().map(|(name, scales)| (name.as_str(), &scales[..]));
            let seen = tracker.observe(layers).map_err(|e| match e {
                Error::BadSetting { what, .. } => bad(what),
                other => other,
            })?;
            tickets.extend(seen.iter().filter(|seen| seen.emerged).map(|seen| (seen.ratio, draw.epoch)));
            if let Some(folder) = &folder {
                let log = match &mut log {
                    Some(log) => log,
                    None => log.insert(begin(folder, &tracker)?),
                };
                log.append(&records(&draw, &seen))?;
            }
            answer(&tracker, draw.epoch, &seen);
        }
        if let Some(folder) = folder.filter(|_| tracker.draws() > 0) {
            masks::write(folder.path(), &tickets)?;
        }
        for (ratio, ticket) in tracker.ratios().iter().zip(tracker.tickets()) {
            if ticket.is_none() {
                warn(format_args!(
                    "no ticket for {}: the masks of {} draws did not settle",
                    ratio_label(*ratio),
                    tracker.draws()
                ));
            }
        }
        Ok(if tracker.all_emerged() { DONE } else { NO_TICKET })
    }
}

fn begin(folder: &RunFolder, tracker: &MaskTracker) -> Result<MaskLog> {
    let channels = tracker.layers().iter().map(|(_, channels)| channels).sum();
    MaskLog::create(&folder.file(masks::MASKS), channels, tracker.ratios())
}

fn records(draw: &Draw, seen: &[Observation]) -> Vec<DrawRecord> {
    let record = |(i, seen): (usize, &Observation)| DrawRecord {
        step: draw.step,
        epoch: draw.epoch,
        ratio: i as u32,
        threshold: seen.cut.threshold,
        words: seen.cut.mask.words().to_vec(),
    };
    seen.iter().enumerate().map(record).collect()
}

/// One line, at once: the other program may wait for it.
fn answer(tracker: &MaskTracker, epoch: f64, seen: &[Observation]) {
    let mask = |seen: &Observation| {
        let kept = seen.emerged.then(|| {
            let layers = tracker.kept(&seen.cut.mask).into_iter().map(|(name, kept)| (name, json!(kept)));
            layers.collect::<serde_json::Map<_, _>>()
        });
        json!({
            "ratio": seen.ratio, "kept": seen.cut.mask.count(), "channels": seen.cut.mask.len(), "threshold": seen.cut.threshold,
            "distance": seen.distance, "judged": seen.judged, "settled": seen.settled, "ticket": kept,
        })
    };
    say(json!({"epoch": epoch, "masks": seen.iter().map(mask).collect::<Vec<_>>()}));
    let _ = std::io::stdout().flush(); // a reader that went away is no error
}
