//! `study compare`: Early-Bird training and what it is measured against.
//!
//! Two dense trainings serve all: one to the end (unpruned; where the lottery ticket and network slimming take their masks) and one search per precision (the Early-Bird
//! variants). A method is charged everything it needs, shared or not.

use super::super::{DONE, say};
use super::Spec;
use super::lab::{Lab, Part, Ran};
use super::tickets::{self, Weights};
use crate::report::study::StudyResult;
use crate::ticket::{Start, Task, Ticket, ratio_label, ticket_path};
use crate::{Error, Result};

/// Name, title, what it is.
const METHODS: [(&str, &str, &str); 9] = [
    ("unpruned", "Unpruned", "the dense network, trained to the end (with L1 on its scales like all others)"),
    (
        "lottery-ticket",
        "Lottery ticket",
        "train, prune by the trained scales, rewind to the initial weights, train again (Frankle and Carbin 2019, one shot)",
    ),
    (
        "network-slimming",
        "Network slimming",
        "train with L1 on the scales, prune by them, train on as long again (Liu et al. 2017)",
    ),
    ("snip", "SNIP", "prune before training by sensitivities of channels (Lee et al. 2019), train"),
    ("random-ticket", "Random ticket", "channels drawn evenly over the network, initial weights, train"),
    (
        "eb-reinit",
        "EB re-init",
        "search the ticket, then fresh random weights in its shape, trained as long as a dense network",
    ),
    ("eb-ff", "EB Train FF", "search the ticket, cut, train on; all in f32"),
    ("eb-lf", "EB Train LF", "the search in 8 bits, training on in f32"),
    ("eb-ll", "EB Train LL", "search and training on in 8 bits"),
];

/// Name and title of an Early-Bird variant in 8 bits: `eb8` has the plain name.
fn variant(base: &str, precision: &str) -> String {
    if precision == "eb8" { base.into() } else { format!("{base}-{precision}") }
}

/// The methods asked for, or an error that lists them.
pub fn check(methods: Vec<String>, low: &[String]) -> Result<Vec<String>> {
    let mut known: Vec<String> = METHODS[..7].iter().map(|method| method.0.to_string()).collect();
    for precision in low {
        if !["eb8", "int8"].contains(&precision.as_str()) {
            let what = format!("`{precision}` is no 8-bit precision");
            return Err(Error::bad_setting("--low-precision", what, "choose eb8, int8 or both"));
        }
        known.extend(["eb-lf", "eb-ll"].map(|base| variant(base, precision)));
    }
    if let Some(bad) = methods.iter().find(|method| !known.contains(method)) {
        let what = format!("there is no method `{bad}`");
        return Err(Error::bad_setting("--methods", what, format!("choose from {}", known.join(", "))));
    }
    Ok(if methods.is_empty() { known } else { methods })
}

/// Says what would run.
pub fn dry_run(spec: &Spec) -> Result<u8> {
    let settings = &spec.settings;
    settings.run_options(Task::Train, true)?;
    say(format_args!(
        "{} x{} on {}, {} epochs, seeds {:?}, ratios {:?}",
        settings.model, settings.width, settings.data, settings.epochs, spec.seeds, settings.prune.0
    ));
    for (name, title, about) in METHODS {
        if spec.methods.iter().any(|method| method == name || method.strip_suffix("-int8") == Some(name)) {
            say(format_args!("{title:18} {about}"));
        }
    }
    Ok(DONE)
}

/// Runs the study.
pub fn run(lab: &mut Lab) -> Result<()> {
    let spec = lab.spec;
    let wanted = |name: &str| spec.methods.iter().any(|method| method == name);
    for name in &spec.methods {
        let (base, precision) = name.strip_suffix("-int8").map_or((name.as_str(), "eb8"), |base| (base, "int8"));
        if let Some((_, title, about)) = METHODS.iter().find(|method| method.0 == base) {
            let eight = base == "eb-lf" || base == "eb-ll";
            let title = if eight { format!("{title} ({precision})") } else { title.to_string() };
            lab.method(name, &title, about);
        }
    }
    let surgery = spec.settings.surgery_options();
    for seed in &spec.seeds {
        let seed = *seed;
        let result =
            |method: &str, ratio: Option<f64>| StudyResult { method: method.into(), ratio, seed, ..Default::default() };
        let dense = format!("s{seed}-dense");
        if ["unpruned", "lottery-ticket", "network-slimming"].into_iter().any(wanted) {
            let ran = lab.train(Task::Dense, lab.settings(&dense, seed))?;
            if wanted("unpruned") {
                lab.record(result("unpruned", None), ran.clone(), &[Part::whole(&dense)])?;
            }
            for ratio in spec.settings.prune.0.iter().copied() {
                for (method, weights) in [("lottery-ticket", Weights::Initial), ("network-slimming", Weights::Trained)]
                {
                    if wanted(method) {
                        let run = format!("s{seed}-{}-{method}", ratio_label(ratio));
                        let ran = ran.clone().then(|| {
                            let make = || tickets::of_trained(&lab.path(&dense), ratio, weights, surgery);
                            lab.train_ticket(inherit(lab, &run, seed), make)
                        })?;
                        lab.record(result(method, Some(ratio)), ran, &[Part::whole(&dense), Part::whole(&run)])?;
                    }
                }
            }
        }
        early_birds(lab, seed, "f32")?;
        for ratio in spec.settings.prune.0.iter().copied() {
            for method in ["snip", "random-ticket"].into_iter().filter(|method| wanted(method)) {
                let run = format!("s{seed}-{}-{method}", ratio_label(ratio));
                let settings = inherit(lab, &run, seed);
                let make = || match method {
                    "snip" => tickets::snip(&settings, ratio, spec.snip_batches),
                    _ => tickets::random(&settings, ratio),
                };
                let ran = lab.train_ticket(settings.clone(), make)?;
                lab.record(result(method, Some(ratio)), ran, &[Part::whole(&run)])?;
            }
        }
        for precision in &spec.low_precision {
            early_birds(lab, seed, precision)?;
        }
    }
    Ok(())
}

/// Settings of a run that begins with a ticket.
fn inherit(lab: &Lab, run: &str, seed: u64) -> super::Settings {
    super::Settings { start: Start::Inherit, ..lab.settings(run, seed) }
}

/// One search in `precision` for all ratios, and what trains on from its tickets.
fn early_birds(lab: &mut Lab, seed: u64, precision: &str) -> Result<()> {
    let spec = lab.spec;
    // Method, and the precision it trains on in.
    let variants: Vec<(String, &str)> = match precision {
        "f32" => vec![("eb-ff".into(), "f32"), ("eb-reinit".into(), "f32")],
        _ => vec![(variant("eb-lf", precision), "f32"), (variant("eb-ll", precision), precision)],
    };
    let variants: Vec<_> = variants.into_iter().filter(|(method, _)| spec.methods.contains(method)).collect();
    if variants.is_empty() {
        return Ok(());
    }
    let search = format!("s{seed}-search-{precision}");
    let settings = super::Settings { search_precision: precision.into(), ..lab.settings(&search, seed) };
    let searched = lab.train(Task::Search, settings)?;
    for ratio in spec.settings.prune.0.iter().copied() {
        let path = ticket_path(&lab.path(&search), ratio);
        // One ratio's ticket may have emerged where another's has not.
        let ticket = match &searched {
            Ran::Done | Ran::NoTicket(_) if path.exists() => Ok(Ticket::load(&path)?),
            other => Err(other.clone()),
        };
        for (method, train_precision) in &variants {
            let run = format!("s{seed}-{}-{method}", ratio_label(ratio));
            let result = StudyResult {
                method: method.clone(),
                ratio: Some(ratio),
                seed,
                search_precision: Some(precision.into()),
                train_precision: Some((*train_precision).into()),
                ticket_epoch: ticket.as_ref().ok().map(|ticket| ticket.info.epoch),
                ..Default::default()
            };
            let ticket = match &ticket {
                Ok(ticket) => ticket,
                Err(ran) => {
                    lab.record(result, ran.clone(), &[])?;
                    continue;
                }
            };
            let settings = super::Settings { train_precision: (*train_precision).into(), ..inherit(lab, &run, seed) };
            let make = || match method.as_str() {
                "eb-reinit" => {
                    let surgery = settings.surgery_options();
                    tickets::fresh(ticket.clone(), seed, surgery)
                }
                _ => Ok(ticket.clone()),
            };
            let ran = lab.train_ticket(settings.clone(), make)?;
            lab.record(result, ran, &[Part::until(&search, ticket.info.epoch), Part::whole(&run)])?;
        }
    }
    Ok(())
}
