//! Claims of `study existence`.

use super::{At, accuracy, percent};
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
}
