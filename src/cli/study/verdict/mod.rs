//! What the numbers say to the paper's claims, in plain words. Every sentence is made from the statistics; nothing is assumed.
//!
//! A claim that does not reproduce is said to; one whose methods did not run is not tested; a difference inside the standard error of the seeds' means is called one that
//! these seeds cannot tell.

mod compare;
mod existence;
mod searches;

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

/// What a tested claim came to: a number, the one it is held against, and whether it holds; `None` where these seeds cannot tell.
struct Measure {
    value: Option<f64>,
    target: Option<f64>,
    met: Option<bool>,
}

fn judgement(met: bool) -> &'static str {
    if met { "reproduces" } else { "does not reproduce at this size" }
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

    /// A claim that was tested; `text` is the sentence about it, without its ratio.
    fn tested(&self, name: &str, claim: &str, unit: &str, measure: Measure, text: &str) -> Check {
        let Measure { value, target, met } = measure;
        Check {
            name: name.into(),
            ratio: Some(self.ratio),
            claim: claim.into(),
            value,
            unit: unit.into(),
            target,
            met,
            text: format!("At {}: {text}", percent(self.ratio)),
            reason: None,
        }
    }

    /// Statistics of two methods, or why one of them has none.
    fn both(&self, methods: [&str; 2]) -> Result<[&Statistic; 2], String> {
        match methods.map(|method| self.find(method).ok_or(method)) {
            [Ok(a), Ok(b)] => Ok([a, b]),
            [Err(missing), _] | [_, Err(missing)] => Err(format!("{}: {}", self.title(missing), self.why_not(missing))),
        }
    }

    /// Whether `method` ends at most `points` below `other`.
    fn within(&self, name: &str, claim: &str, method: &str, other: &str, points: f64) -> Check {
        let [a, b] = match self.both([method, other]) {
            Ok(both) => both,
            Err(why) => return self.open(name, claim, &why),
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
        let judgement = met.map_or("can be neither confirmed nor denied: the seeds differ more than that", judgement);
        let unsure = if error.is_none() { " With one seed this is a single observation." } else { "" };
        let text = format!(
            "{} ends at {}, {} at {}, a difference of {value:+.2} points; the claim that {claim} {judgement}.{unsure}",
            self.title(method),
            accuracy(a),
            self.title(other),
            accuracy(b),
        );
        let measure = Measure { value: Some(value), target: Some(-points), met };
        self.tested(name, claim, "points", measure, &text)
    }

    /// How many times less of something `method` needs than `other`.
    fn times(&self, name: &str, claim: &str, of: Quantity, [method, other]: [&str; 2], target: f64) -> Check {
        let [a, b] = match self.both([method, other]) {
            Ok(both) => both,
            Err(why) => return self.open(name, claim, &why),
        };
        let (Some(mine), Some(theirs)) = (of.of(a), of.of(b)) else {
            return self.open(name, claim, "nothing was counted");
        };
        let value = theirs / mine;
        let met = value >= target;
        let text = format!(
            "{} needs {value:.2} times less {} than {} ({} against {}); the claim that {claim} {}.",
            self.title(method),
            of.name(),
            self.title(other),
            of.show(mine),
            of.show(theirs),
            judgement(met)
        );
        let measure = Measure { value: Some(value), target: Some(target), met: Some(met) };
        self.tested(name, claim, "times", measure, &text)
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
        assert!(bad.verdict[0].contains("0 of 5 claims reproduce, 2 do not, 3 were not tested"), "{}", bad.verdict[0]);
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
