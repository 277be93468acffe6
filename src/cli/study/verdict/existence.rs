//! Claims of `study existence`.

use super::{At, Measure, accuracy, judgement};
use crate::report::study::{Check, Statistic};

impl At<'_> {
    pub(super) fn existence(&self, checks: &mut Vec<Check>) {
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
            "the best early ticket, drawn after {} epochs, ends at {}; the best late one, after {}, at {}; the claim that {claim} {}.",
            epoch(&early),
            accuracy(&early),
            epoch(&late),
            accuracy(&late),
            judgement(met)
        );
        let measure = Measure { value: Some(value), target: Some(-0.5), met: Some(met) };
        checks.push(self.tested("early-tickets", claim, "points", measure, &text));
        for (other, points) in [("random", 0.0), ("dense", -1.0)] {
            let claim = match other {
                "random" => "the best early ticket is better than random ones",
                _ => "the best early ticket is within 1 point of the dense network",
            };
            let name = format!("early-ticket-and-{other}");
            let Some(row) = self.find(other) else {
                checks.push(self.open(&name, claim, &self.why_not(other)));
                continue;
            };
            let value = 100.0 * (early.accuracy_mean.unwrap_or(0.0) - row.accuracy_mean.unwrap_or(0.0));
            let met = value >= points;
            let text = format!(
                "the best early ticket ends at {}, {} at {}; the claim that {claim} {}.",
                accuracy(&early),
                self.title(other).to_lowercase(),
                accuracy(row),
                judgement(met)
            );
            let measure = Measure { value: Some(value), target: Some(points), met: Some(met) };
            checks.push(self.tested(&name, claim, "points", measure, &text));
        }
    }
}
