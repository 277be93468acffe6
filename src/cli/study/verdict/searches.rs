//! Claims of the studies of the search alone: `distance`, `learning-rate`, `precision`.

use super::{At, Measure, judgement, percent};
use crate::report::study::Check;

impl At<'_> {
    pub(super) fn distance(&self, checks: &mut Vec<Check>) {
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
            "the ticket emerges in {} of {} searches{}{list}; the claim that {claim} {}.",
            epochs.len(),
            here.len(),
            if epochs.is_empty() { "" } else { ", after epochs " },
            judgement(met)
        );
        let measure = Measure { value, target: Some(0.5), met: Some(met) };
        checks.push(self.tested("masks-settle-early", claim, "of all epochs", measure, &text));
    }

    pub(super) fn learning_rate(&self, checks: &mut Vec<Check>) {
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

    pub(super) fn precision(&self, checks: &mut Vec<Check>) {
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
            let name = format!("overlap-of-{other}");
            if distances.is_empty() {
                checks.push(self.open(&name, claim, &self.why_not(other)));
                continue;
            }
            // Two random masks that keep the share k of all channels differ on 2k(1-k) of them.
            let random = 2.0 * self.ratio * (1.0 - self.ratio);
            let value = distances.iter().sum::<f64>() / distances.len() as f64;
            let met = value < random / 2.0;
            let text = format!(
                "tickets of {other} and f32 differ on {} of all channels on average (random masks: {}); the claim that {claim} {}.",
                percent(value),
                percent(random),
                judgement(met)
            );
            let measure = Measure { value: Some(value), target: Some(random / 2.0), met: Some(met) };
            checks.push(self.tested(&name, claim, "of all channels", measure, &text));
        }
    }
}
