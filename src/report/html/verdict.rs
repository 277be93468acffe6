//! The verdict: what a run came to, in a sentence that is computed from its numbers, and says so where the method did not do what it promises.

use super::record::RunRecord;
use super::text::{count, percent, plural, rough};
use crate::report::plot::short;

/// How it went, for colour and badge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// A ticket, and its accuracy within a point of the dense twin.
    Good,
    /// Nothing to judge by, or not finished.
    Open,
    /// No ticket, or accuracy lost.
    Bad,
}

/// The verdict on one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// How it went.
    pub tone: Tone,
    /// Two or three words.
    pub badge: String,
    /// The sentence.
    pub sentence: String,
    /// What to know before believing it.
    pub notes: Vec<String>,
}

/// A ticket that ends this far below its twin has lost accuracy (points).
const TOLERANCE: f64 = 1.0;

/// `0.28 points below`, in hundredths.
fn against(accuracy: f64, other: f64) -> String {
    let points = 100.0 * (accuracy - other);
    match (points * 100.0).round() as i64 {
        0 => "equal to".into(),
        1.. => format!("{points:.2} points above"),
        _ => format!("{:.2} points below", -points),
    }
}

/// `1 epoch`, `2.5 epochs`.
fn epochs(number: f64) -> String {
    format!("{} {}", short(number), if number == 1.0 { "epoch" } else { "epochs" })
}

/// Judges `run`; `twin` is the same network trained dense.
pub fn verdict(run: &RunRecord, twin: Option<&RunRecord>) -> Verdict {
    let summary = &run.summary;
    let planned = run.number("epochs").unwrap_or(summary.epochs);
    let last =
        summary.accuracy.last.map_or("an unknown accuracy".to_string(), |a| format!("{} test accuracy", percent(a)));
    let reached = if run.rows.is_empty() { "before its first epoch ended".to_string() } else { format!("at {last}") };
    let plain =
        |tone, badge: &str, sentence: String| Verdict { tone, badge: badge.into(), sentence, notes: Vec::new() };
    let mut verdict = match (summary.task.as_str(), summary.outcome.as_str(), summary.ticket_epoch) {
        ("dense", "trained", _) => {
            let epochs = epochs(summary.epochs);
            plain(
                Tone::Open,
                "Dense twin",
                format!(
                    "The dense network trained for {epochs} and ends at {last}. It is what a ticket is compared with."
                ),
            )
        }
        (_, "no-ticket", _) => {
            let missing: Vec<String> = summary
                .tickets
                .iter()
                .filter(|ticket| ticket.epoch.is_none())
                .map(|ticket| {
                    let worst = ticket.distances.iter().copied().fold(0.0, f64::max);
                    let judged = if ticket.distances.is_empty() {
                        "no distance was judged yet".into()
                    } else {
                        format!("largest of the last distances {}", short(worst))
                    };
                    format!("{}% ({judged})", short(100.0 * ticket.ratio))
                })
                .collect();
            let eps = run.setting("eps").unwrap_or("its limit").to_string();
            plain(
                Tone::Bad,
                "No ticket",
                format!(
                    "No Early-Bird ticket emerged within {}: the masks that prune {} did not settle below {eps}. Nothing was cut; the dense network stands {reached}.",
                    epochs(summary.epochs),
                    missing.join(", ")
                ),
            )
        }
        (_, "found", Some(epoch)) => {
            let tickets = plural(summary.tickets.len(), "ticket", "tickets");
            let mut found = plain(
                Tone::Good,
                "Ticket found",
                format!("The search found {tickets}; the first emerged after {}", epochs(epoch)),
            );
            if !summary.layers.is_empty() {
                found.sentence += &format!(" and keeps {}", kept(run));
            }
            found.sentence += ". Nothing is cut or trained on yet.";
            found
        }
        (_, "trained", Some(epoch)) => trained(run, twin, epoch, planned, &last),
        (_, outcome, ticket) => {
            let stage = match (ticket, summary.task.as_str()) {
                (Some(epoch), _) => format!("a ticket emerged after {}", epochs(epoch)),
                (None, "dense") => "it is the dense twin".into(),
                (None, _) => "no ticket has emerged yet".into(),
            };
            let (badge, how) = match outcome {
                "running" => ("Not finished", "was under way"),
                _ => ("Stopped early", "was stopped"),
            };
            plain(
                Tone::Open,
                badge,
                format!("This run {how} after {} of {}, {reached}: {stage}.", short(summary.epochs), epochs(planned)),
            )
        }
    };
    if let Some(images) = summary.images.filter(|images| images.test > 0 && !run.rows.is_empty()) {
        let one = 100.0 / images.test as f64;
        verdict.notes.push(format!(
            "One test image of {} is {} points, and one run is one seed: small differences may be chance.",
            count(images.test as u64),
            super::text::significant(one, 2)
        ));
    }
    verdict
}

fn kept(run: &RunRecord) -> String {
    let (kept, all) = run.summary.layers.iter().fold((0, 0), |sum, layer| (sum.0 + layer.kept, sum.1 + layer.before));
    format!("{} of {} channels ({})", count(kept as u64), count(all as u64), rough(kept as f64 / all.max(1) as f64))
}

fn trained(run: &RunRecord, twin: Option<&RunRecord>, epoch: f64, planned: f64, last: &str) -> Verdict {
    let summary = &run.summary;
    let mut sentence = format!("The Early-Bird ticket emerged after {} of {}", short(epoch), epochs(planned));
    if !summary.layers.is_empty() {
        sentence += &format!(", keeps {}", kept(run));
    }
    sentence += &format!(" and ends at {last}");
    let mut notes = Vec::new();
    let pair = summary.accuracy.last.zip(twin.and_then(|twin| twin.summary.accuracy.last));
    let (tone, badge) = match pair {
        Some((own, dense)) => {
            sentence += &format!(", {} its dense twin ({})", against(own, dense), percent(dense));
            match 100.0 * (dense - own) > TOLERANCE {
                true => (Tone::Bad, "Accuracy lost"),
                false => (Tone::Good, "Ticket found, accuracy kept"),
            }
        }
        None => {
            notes.push("No dense twin was trained beside it (`train --dense` with the same settings): whether accuracy was kept is not known.".to_string());
            (Tone::Open, "Ticket found")
        }
    };
    match run.flops().and_then(|flops| flops.saved()) {
        Some(saved) if saved > 0.0 => {
            sentence += &format!(", for {} fewer training FLOPs (modelled) than the dense network", rough(saved))
        }
        Some(saved) => {
            sentence += &format!("; it took {} more training FLOPs (modelled) than the dense network", rough(-saved))
        }
        None => {}
    }
    if run.search_epochs() > epoch + 1e-9 {
        notes.push(format!(
            "The search went on to epoch {} for the other ratios; this run's FLOPs and seconds contain that.",
            short(run.search_epochs())
        ));
    }
    Verdict { tone, badge: badge.into(), sentence: sentence + ".", notes }
}
