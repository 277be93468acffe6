//! What the numbers say to the paper's claims, in plain words. Every sentence is made from the statistics; nothing is assumed.
//!
//! A claim that does not reproduce is said to; one whose methods did not run is not tested; a difference inside the standard error of the seeds' means is called one that
//! these seeds cannot tell.

use super::Kind;
use crate::report::study::{Check, Statistic, Study};

/// Recomputes `checks` and `verdict`.
pub fn judge(study: &mut Study) {
    let mut checks = Vec::new();
    for ratio in study.ratios.clone() {
        let at = At { study, ratio };
        match study.kind.as_str() {
            kind if kind == Kind::Compare.name() => at.compare(&mut checks),
            kind if kind == Kind::Existence.name() => at.existence(&mut checks),
            kind if kind == Kind::Distance.name() => at.distance(&mut checks),
            kind if kind == Kind::LearningRate.name() => at.learning_rate(&mut checks),
            _ => at.precision(&mut checks),
        }
    }
    let tested = checks.iter().filter(|check| check.reason.is_none()).count();
    let count = |met| checks.iter().filter(|check| check.met == Some(met)).count();
    let (yes, no) = (count(true), count(false));
    let (unsure, open) = (tested - yes - no, checks.len() - tested);
    let place = format!(
        "{} x{} on {}, {} epochs, {} {}",
        study.model,
        study.width,
        study.data,
        study.epochs,
        study.seeds.len(),
        if study.seeds.len() == 1 { "seed" } else { "seeds" }
    );
    let mut headline = format!("{place}: {yes} of {} claims reproduce", checks.len());
    for (count, what) in [(no, "not"), (unsure, "cannot be told from these seeds"), (open, "not tested")] {
        match (count, what) {
            (0, _) => {}
            (1, "not") => headline += ", 1 does not",
            (count, "not") => headline += &format!(", {count} do not"),
            (1, "not tested") => headline += ", 1 was not tested",
            (count, "not tested") => headline += &format!(", {count} were not tested"),
            (count, what) => headline += &format!(", {count} {what}"),
        }
    }
    let sentences = checks.iter().filter(|check| check.reason.is_none()).map(|check| check.text.clone());
    study.verdict = std::iter::once(headline + ".").chain(sentences).chain(untested(&checks)).collect();
    study.checks = checks;
}

/// What was not tested, a sentence for each reason.
fn untested(checks: &[Check]) -> Vec<String> {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for check in checks {
        let Some(reason) = check.reason.as_deref() else { continue };
        match reasons.iter_mut().find(|known| known.0 == reason) {
            Some((_, claims)) if claims.contains(&check.claim.as_str()) => {}
            Some((_, claims)) => claims.push(&check.claim),
            None => reasons.push((reason, vec![&check.claim])),
        }
    }
    reasons.into_iter().map(|(reason, claims)| format!("Not tested: {}. {reason}.", claims.join("; "))).collect()
}

/// One ratio.
struct At<'s> {
    study: &'s Study,
    ratio: f64,
}

fn percent(ratio: f64) -> String {
    let text = format!("{:.2}", 100.0 * ratio);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

/// `99.2 +- 0.1%`
fn accuracy(row: &Statistic) -> String {
    let mean = row.accuracy_mean.map_or("unknown".into(), |mean| format!("{:.2}", 100.0 * mean));
    row.accuracy_std.map_or_else(|| format!("{mean}%"), |std| format!("{mean} +- {:.2}%", 100.0 * std))
}

impl At<'_> {
    fn find(&self, method: &str) -> Option<&Statistic> {
        let of = |row: &&Statistic| row.method == method && row.ratio.is_none_or(|ratio| ratio == self.ratio);
        self.study.statistics.iter().filter(of).find(|row| row.runs > 0)
    }

    fn why_not(&self, method: &str) -> String {
        let row = self.study.results.iter().find(|row| row.method == method && row.reason.is_some());
        row.and_then(|row| row.reason.clone()).unwrap_or_else(|| "it has not run".into())
    }

    fn title(&self, method: &str) -> String {
        let info = self.study.methods.iter().find(|info| info.name == method);
        info.map_or_else(|| method.into(), |info| info.title.clone())
    }

    fn open(&self, name: &str, claim: &str, why: &str) -> Check {
        let text = format!("At {}: not tested whether {claim}: {why}.", percent(self.ratio));
        let (ratio, reason) = (Some(self.ratio), Some(why.into()));
        Check { name: name.into(), ratio, claim: claim.into(), text, reason, ..Check::default() }
    }

    /// Whether `method` ends at most `points` below `other`.
    fn within(&self, name: &str, claim: &str, method: &str, other: &str, points: f64) -> Check {
        let (Some(a), Some(b)) = (self.find(method), self.find(other)) else {
            let missing = if self.find(method).is_none() { method } else { other };
            return self.open(name, claim, &format!("{}: {}", self.title(missing), self.why_not(missing)));
        };
        let (Some(mean_a), Some(mean_b)) = (a.accuracy_mean, b.accuracy_mean) else {
            return self.open(name, claim, "an accuracy is unknown");
        };
        let value = 100.0 * (mean_a - mean_b);
        // Standard error of the difference of two means: inside it these seeds give no answer.
        let square = |row: &Statistic| row.accuracy_std.map(|std| (100.0 * std).powi(2) / row.runs as f64);
        let error = square(a).zip(square(b)).map(|(a, b)| (a + b).sqrt());
        let met = match error {
            Some(error) if (value + points).abs() < error => None,
            _ => Some(value >= -points),
        };
        let judgement = match met {
            Some(true) => "reproduces",
            Some(false) => "does not reproduce at this size",
            None => "can be neither confirmed nor denied: the seeds differ more than that",
        };
        let unsure = if error.is_none() { " With one seed this is a single observation." } else { "" };
        let text = format!(
            "At {}: {} ends at {}, {} at {}, a difference of {value:+.2} points; the claim that {claim} {}.{unsure}",
            percent(self.ratio),
            self.title(method),
            accuracy(a),
            self.title(other),
            accuracy(b),
            judgement
        );
        Check {
            name: name.into(),
            ratio: Some(self.ratio),
            claim: claim.into(),
            value: Some(value),
            unit: "points".into(),
            target: Some(-points),
            met,
            text,
            reason: None,
        }
    }

    /// How many times less of something `method` needs than `other`.
    fn times(&self, name: &str, claim: &str, of: Quantity, [method, other]: [&str; 2], target: Option<f64>) -> Check {
        let (Some(a), Some(b)) = (self.find(method), self.find(other)) else {
            let missing = if self.find(method).is_none() { method } else { other };
            return self.open(name, claim, &format!("{}: {}", self.title(missing), self.why_not(missing)));
        };
        let (Some(mine), Some(theirs)) = (of.of(a), of.of(b)) else {
            return self.open(name, claim, "nothing was counted");
        };
        let value = theirs / mine;
        let met = target.map(|target| value >= target);
        let judgement = match met {
            Some(true) => format!("; the claim that {claim} reproduces"),
            Some(false) => format!("; the claim that {claim} does not reproduce at this size"),
            None => String::new(),
        };
        let text = format!(
            "At {}: {} needs {value:.2} times less {} than {} ({} against {}){judgement}.",
            percent(self.ratio),
            self.title(method),
            of.name(),
            self.title(other),
            of.show(mine),
            of.show(theirs),
        );
        let (ratio, claim, unit) = (Some(self.ratio), claim.into(), "times".into());
        Check { name: name.into(), ratio, claim, value: Some(value), unit, target, met, text, reason: None }
    }

    fn compare(&self, checks: &mut Vec<Check>) {
        let has = |method: &str| self.study.methods.iter().any(|info| info.name == method);
        let mut within = |name: &str, claim: &str, method: &str, other: &str, points: f64| {
            if has(method) && has(other) {
                checks.push(self.within(name, claim, method, other, points));
            }
        };
        let lottery = "lottery-ticket";
        within(
            "eb-train-as-good-as-lottery-ticket",
            "EB Train is within 1 point of the lottery ticket",
            "eb-ff",
            lottery,
            1.0,
        );
        within(
            "eb-train-better-than-random",
            "Early-Bird tickets are better than random ones",
            "eb-ff",
            "random-ticket",
            0.0,
        );
        within(
            "weights-matter",
            "inheriting the weights is no worse than re-initialising them",
            "eb-ff",
            "eb-reinit",
            0.0,
        );
        within("eb-train-as-good-as-snip", "EB Train is no worse than SNIP", "eb-ff", "snip", 0.0);
        within(
            "eb-train-as-good-as-unpruned",
            "EB Train is within 1 point of the unpruned network",
            "eb-ff",
            "unpruned",
            1.0,
        );
        for precision in ["", "-int8"] {
            let (lf, ll) = (format!("eb-lf{precision}"), format!("eb-ll{precision}"));
            within(&format!("{lf}-within-1-point"), "a search in 8 bits costs at most 1 point", &lf, "eb-ff", 1.0);
            within(
                &format!("{ll}-within-2-points"),
                "search and training in 8 bits cost at most 2 points",
                &ll,
                "eb-ff",
                2.0,
            );
        }
        let mut times = |name: &str, claim: &str, of: Quantity, pair: [&str; 2], target: Option<f64>| {
            if pair.into_iter().all(has) {
                checks.push(self.times(name, claim, of, pair, target));
            }
        };
        for precision in ["", "-int8"] {
            let ll = format!("eb-ll{precision}");
            let claim = "EB Train LL saves 4.7 times the energy of train-prune-retrain";
            times(&format!("{ll}-energy"), claim, Quantity::Joules, [&ll, lottery], Some(4.7));
            times(&format!("{ll}-seconds"), "EB Train LL saves time", Quantity::Seconds, [&ll, lottery], Some(1.0));
        }
        times("eb-ff-energy", "EB Train saves energy", Quantity::Joules, ["eb-ff", lottery], Some(1.0));
        times("eb-ff-flops", "EB Train saves training FLOPs", Quantity::Flops, ["eb-ff", lottery], Some(1.0));
        times("eb-ff-seconds", "EB Train saves time", Quantity::Seconds, ["eb-ff", lottery], Some(1.0));
    }

    fn existence(&self, checks: &mut Vec<Check>) {
        let drawn: Vec<&Statistic> = self
            .study
            .statistics
            .iter()
            .filter(|row| row.method == "drawn" && row.ratio == Some(self.ratio) && row.accuracy_mean.is_some())
            .collect();
        let half = self.study.epochs as f64 / 2.0;
        let epoch = |row: &Statistic| row.drawn_epoch.unwrap_or(0.0);
        let best = |rows: &mut dyn Iterator<Item = &&Statistic>| -> Option<Statistic> {
            rows.max_by(|a, b| a.accuracy_mean.unwrap_or(0.0).total_cmp(&b.accuracy_mean.unwrap_or(0.0)))
                .map(|row| (*row).clone())
        };
        let claim = "tickets drawn in the first half of training are as good (within half a point) as later ones";
        let early = best(&mut drawn.iter().filter(|row| epoch(row) < half));
        let late = best(&mut drawn.iter().filter(|row| epoch(row) >= half));
        let (Some(early), Some(late)) = (early, late) else {
            return checks.push(self.open("early-tickets", claim, "tickets were not drawn in both halves"));
        };
        let value = 100.0 * (early.accuracy_mean.unwrap_or(0.0) - late.accuracy_mean.unwrap_or(0.0));
        let met = value >= -0.5;
        let text = format!(
            "At {}: the best early ticket, drawn after {} epochs, ends at {}; the best late one, after {}, at {}; the claim that {claim} {}.",
            percent(self.ratio),
            epoch(&early),
            accuracy(&early),
            epoch(&late),
            accuracy(&late),
            if met { "reproduces" } else { "does not reproduce at this size" }
        );
        let (name, ratio, unit) = ("early-tickets".to_string(), Some(self.ratio), "points".to_string());
        checks.push(Check {
            name,
            ratio,
            claim: claim.into(),
            value: Some(value),
            unit,
            target: Some(-0.5),
            met: Some(met),
            text,
            reason: None,
        });
        for (other, points) in [("random", 0.0), ("dense", -1.0)] {
            let claim = match other {
                "random" => "the best early ticket is better than random ones",
                _ => "the best early ticket is within 1 point of the dense network",
            };
            let Some(row) = self.find(other) else {
                checks.push(self.open(&format!("early-ticket-and-{other}"), claim, &self.why_not(other)));
                continue;
            };
            let value = 100.0 * (early.accuracy_mean.unwrap_or(0.0) - row.accuracy_mean.unwrap_or(0.0));
            let met = value >= points;
            let text = format!(
                "At {}: the best early ticket ends at {}, {} at {}; the claim that {claim} {}.",
                percent(self.ratio),
                accuracy(&early),
                self.title(other).to_lowercase(),
                accuracy(row),
                if met { "reproduces" } else { "does not reproduce at this size" }
            );
            let (name, ratio, unit) = (format!("early-ticket-and-{other}"), Some(self.ratio), "points".to_string());
            checks.push(Check {
                name,
                ratio,
                claim: claim.into(),
                value: Some(value),
                unit,
                target: Some(points),
                met: Some(met),
                text,
                reason: None,
            });
        }
    }

    fn distance(&self, checks: &mut Vec<Check>) {
        let claim = "masks settle within the first half of training";
        let here: Vec<_> = self.study.matrices.iter().filter(|matrix| matrix.ratio == self.ratio).collect();
        if here.is_empty() {
            return checks.push(self.open("masks-settle-early", claim, &self.why_not("search")));
        }
        let epochs: Vec<f64> = here.iter().filter_map(|matrix| matrix.emerged).collect();
        let value = (epochs.len() == here.len())
            .then(|| epochs.iter().sum::<f64>() / epochs.len() as f64 / self.study.epochs as f64);
        let met = value.is_some_and(|value| value <= 0.5);
        let list = epochs.iter().map(|epoch| epoch.to_string()).collect::<Vec<_>>().join(", ");
        let text = format!(
            "At {}: the ticket emerges in {} of {} searches{}{list}; the claim that {claim} {}.",
            percent(self.ratio),
            epochs.len(),
            here.len(),
            if epochs.is_empty() { "" } else { ", after epochs " },
            if met { "reproduces" } else { "does not reproduce at this size" }
        );
        let (name, ratio, unit) = ("masks-settle-early".to_string(), Some(self.ratio), "of all epochs".to_string());
        checks.push(Check {
            name,
            ratio,
            claim: claim.into(),
            value,
            unit,
            target: Some(0.5),
            met: Some(met),
            text,
            reason: None,
        });
    }

    fn learning_rate(&self, checks: &mut Vec<Check>) {
        let rate = |name: &str| name.strip_prefix("lr-").and_then(|rate| rate.parse::<f64>().ok());
        let mut rates: Vec<(f64, &str)> =
            self.study.methods.iter().filter_map(|info| Some((rate(&info.name)?, info.name.as_str()))).collect();
        rates.sort_by(|a, b| a.0.total_cmp(&b.0));
        if let (Some(low), Some(high)) = (rates.first(), rates.last())
            && low.0 < high.0
        {
            checks.push(self.within(
                "large-rates-draw-better-tickets",
                "a large initial rate draws better tickets",
                high.1,
                low.1,
                0.0,
            ));
        }
    }

    fn precision(&self, checks: &mut Vec<Check>) {
        for other in ["eb8", "int8"].into_iter().filter(|name| self.study.methods.iter().any(|info| info.name == *name))
        {
            checks.push(self.within(
                &format!("tickets-of-{other}"),
                "tickets of an 8-bit search are within 1 point of those of f32",
                other,
                "f32",
                1.0,
            ));
            let claim = "a ticket of an 8-bit search is closer to that of f32 than half the distance of random masks";
            let pairs = self.study.overlaps.iter().filter(|o| {
                o.ratio == self.ratio
                    && [&o.a, &o.b].iter().any(|l| l.starts_with("f32/"))
                    && [&o.a, &o.b].iter().any(|l| l.starts_with(&format!("{other}/")))
            });
            let distances: Vec<f64> = pairs.map(|overlap| overlap.distance).collect();
            if distances.is_empty() {
                checks.push(self.open(&format!("overlap-of-{other}"), claim, &self.why_not(other)));
                continue;
            }
            // Two random masks that keep the share k of all channels differ on 2k(1-k) of them.
            let random = 2.0 * self.ratio * (1.0 - self.ratio);
            let value = distances.iter().sum::<f64>() / distances.len() as f64;
            let met = value < random / 2.0;
            let text = format!(
                "At {}: tickets of {other} and f32 differ on {} of all channels on average (random masks: {}); the claim that {claim} {}.",
                percent(self.ratio),
                percent(value),
                percent(random),
                if met { "reproduces" } else { "does not reproduce at this size" }
            );
            let (name, ratio, unit) = (format!("overlap-of-{other}"), Some(self.ratio), "of all channels".to_string());
            checks.push(Check {
                name,
                ratio,
                claim: claim.into(),
                value: Some(value),
                unit,
                target: Some(random / 2.0),
                met: Some(met),
                text,
                reason: None,
            });
        }
    }
}

/// What can be saved.
#[derive(Clone, Copy)]
enum Quantity {
    Joules,
    Flops,
    Seconds,
}

impl Quantity {
    fn name(self) -> &'static str {
        match self {
            Quantity::Joules => "modelled energy",
            Quantity::Flops => "training FLOPs",
            Quantity::Seconds => "measured time",
        }
    }

    fn of(self, row: &Statistic) -> Option<f64> {
        match self {
            Quantity::Joules => row.joules_modelled_mean,
            Quantity::Flops => row.training_flops_mean,
            Quantity::Seconds => row.seconds_mean,
        }
    }

    fn show(self, value: f64) -> String {
        match self {
            Quantity::Joules => format!("{value:.3} J"),
            Quantity::Flops => format!("{value:.3e}"),
            Quantity::Seconds => format!("{value:.1} s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::study::{MethodInfo, StudyResult};

    /// A comparison at 50% of these methods: accuracies, joules.
    fn study(methods: &[(&str, &[f64], f64)]) -> Study {
        let mut study = Study { kind: "compare".into(), ratios: vec![0.5], seeds: vec![1, 2, 3], ..Study::default() };
        for (name, accuracies, joules) in methods {
            study.methods.push(MethodInfo { name: (*name).into(), title: (*name).into(), about: String::new() });
            let (accuracy_mean, accuracy_std) = crate::report::study::mean_and_spread(accuracies);
            study.statistics.push(Statistic {
                method: (*name).into(),
                ratio: Some(0.5),
                runs: accuracies.len(),
                accuracy_mean,
                accuracy_std,
                joules_modelled_mean: Some(*joules).filter(|joules| *joules > 0.0),
                ..Statistic::default()
            });
        }
        judge(&mut study);
        study
    }

    fn check(study: &Study, name: &str) -> Check {
        study.checks.iter().find(|check| check.name == name).unwrap().clone()
    }

    #[test]
    fn claims_follow_from_the_numbers() {
        let good = study(&[("eb-ff", &[0.930, 0.932], 1.0), ("lottery-ticket", &[0.931, 0.933], 2.0)]);
        let claim = check(&good, "eb-train-as-good-as-lottery-ticket");
        assert!(claim.met == Some(true) && (claim.value.unwrap() + 0.1).abs() < 1e-9, "{claim:?}");
        assert!(claim.text.contains("93.10 +- 0.14%") && claim.text.contains("-0.10 points; "), "{}", claim.text);
        assert_eq!(check(&good, "eb-ff-energy").value, Some(2.0));
        let bad = study(&[("eb-ff", &[0.900, 0.902], 2.0), ("lottery-ticket", &[0.931, 0.933], 1.0)]);
        for name in ["eb-train-as-good-as-lottery-ticket", "eb-ff-energy"] {
            let claim = check(&bad, name);
            assert!(claim.met == Some(false) && claim.text.contains("does not reproduce"), "{claim:?}");
        }
        assert!(bad.verdict[0].contains("0 of 4 claims reproduce, 2 do not, 2 were not tested"), "{}", bad.verdict[0]);
    }

    #[test]
    fn a_difference_inside_the_seeds_spread_is_no_answer_and_one_seed_is_said_to_be_one() {
        let unsure = study(&[("eb-ff", &[0.90, 0.94], 1.0), ("random-ticket", &[0.915, 0.916], 1.0)]);
        let claim = check(&unsure, "eb-train-better-than-random");
        assert!(claim.met.is_none() && claim.value.is_some() && claim.text.contains("neither"), "{claim:?}");
        let single = study(&[("eb-ff", &[0.92], 1.0), ("random-ticket", &[0.90], 1.0)]);
        let claim = check(&single, "eb-train-better-than-random");
        assert!(claim.met == Some(true) && claim.text.contains("single observation"), "{claim:?}");
    }

    #[test]
    fn what_did_not_run_is_not_tested_and_says_why() {
        let mut open = study(&[("eb-ll", &[], 0.0), ("lottery-ticket", &[0.9, 0.9], 1.0)]);
        let (method, reason) = ("eb-ll".into(), Some("not available in this build".into()));
        open.results.push(StudyResult { method, reason, ratio: Some(0.5), ..StudyResult::default() });
        judge(&mut open);
        let claim = check(&open, "eb-ll-energy");
        assert!(claim.met.is_none() && claim.value.is_none() && claim.reason.is_some(), "{claim:?}");
        let told = open.verdict.iter().filter(|line| line.starts_with("Not tested")).collect::<Vec<_>>();
        assert!(told.len() == 1 && told[0].contains("not available in this build") && told[0].contains("4.7 times"));
    }
}
