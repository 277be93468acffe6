//! Claims of `study compare`.

use super::super::output;
use super::{At, Measure, Quantity, judgement};
use crate::report::study::{Check, mean_and_spread};

impl At<'_> {
    pub(super) fn compare(&self, checks: &mut Vec<Check>) {
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
        let times = |checks: &mut Vec<Check>, name: &str, claim: &str, of: Quantity, pair: [&str; 2], target: f64| {
            if pair.into_iter().all(has) {
                checks.push(self.times(name, claim, of, pair, target));
            }
        };
        for precision in ["", "-int8"] {
            let ll = format!("eb-ll{precision}");
            let claim = "EB Train LL saves 4.7 times the energy of train-prune-retrain";
            let (energy, seconds) = (format!("{ll}-energy"), format!("{ll}-seconds"));
            times(checks, &energy, claim, Quantity::Joules, [&ll, lottery], 4.7);
            times(checks, &seconds, "EB Train LL saves time", Quantity::Seconds, [&ll, lottery], 1.0);
        }
        if has("eb-ff") && has(lottery) {
            checks.push(self.as_int8("eb-ff", lottery));
        }
        let pair = ["eb-ff", lottery];
        times(checks, "eb-ff-energy", "EB Train saves energy", Quantity::Joules, pair, 1.0);
        times(checks, "eb-ff-flops", "EB Train saves training FLOPs", Quantity::Flops, pair, 1.0);
        times(checks, "eb-ff-seconds", "EB Train saves time", Quantity::Seconds, pair, 1.0);
    }

    /// The energy that the model gives for `method`'s f32 work as if it were executed in int8, against `other` in f32. It says nothing of accuracy in 8 bits.
    fn as_int8(&self, method: &str, other: &str) -> Check {
        let claim = "8-bit execution of EB Train's work would save 4.7 times the energy of train-prune-retrain in f32";
        let name = format!("{method}-as-int8-energy");
        let of = |method: &str, as_int8| {
            let rows = self.study.results.iter().filter(|row| row.method == method && row.ratio == Some(self.ratio));
            let all: Vec<f64> = rows.filter_map(|row| output::joules(self.study, row, as_int8)).collect();
            mean_and_spread(&all).0
        };
        let (Some(mine), Some(theirs)) = (of(method, true), of(other, false)) else {
            return self.open(&name, claim, "nothing was counted");
        };
        let value = theirs / mine;
        let met = value >= 4.7;
        let text = format!(
            "the work of {} as if it were executed in int8 is modelled at {mine:.3} J, {value:.2} times less than {} in f32 ({theirs:.3} J), whatever became of accuracy; \
             the claim that {claim} {}.",
            self.title(method),
            self.title(other),
            judgement(met)
        );
        self.tested(&name, claim, "times", Measure { value: Some(value), target: Some(4.7), met: Some(met) }, &text)
    }
}
