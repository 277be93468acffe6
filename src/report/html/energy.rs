//! Energy by phase: modelled joules and measured joules, never in one chart or column.

use super::bars::{Bar, Bars, Part};
use super::figure::{Figure, Table};
use super::text::significant;

/// Joules of one phase of one bar; `None` where they are not known.
pub type Entry = (String, String, Option<f64>);

/// Phases in their order, with the class of their fill.
pub const PHASES: [(&str, &str); 5] =
    [("search", "s0"), ("draw", "s3"), ("surgery", "s4"), ("train", "s1"), ("evaluation", "s5")];

/// Stacked bars of `entries` (bar, phase, value in `unit`), the bars in the order given. Bars of which nothing is known are left out.
pub fn by_phase(title: &str, note: &str, unit: &str, bars: &[String], entries: &[Entry]) -> Option<Figure> {
    let value = |bar: &str, phase: &str| -> Option<f64> {
        let of = entries.iter().filter(|(b, p, _)| b == bar && p == phase).filter_map(|entry| entry.2);
        of.filter(|v| v.is_finite()).reduce(|a, b| a + b)
    };
    let show = |value: f64| format!("{} {unit}", significant(value, 3));
    let mut table = Table::new(&[""]);
    table.head.extend(PHASES.iter().map(|(phase, _)| format!("{phase}, {unit}")));
    table.head.push(format!("total, {unit}"));
    let mut drawn = Vec::new();
    for bar in bars {
        let values: Vec<(&str, &str, Option<f64>)> =
            PHASES.iter().map(|(p, class)| (*p, *class, value(bar, p))).collect();
        if values.iter().all(|entry| entry.2.is_none()) {
            continue;
        }
        let total: f64 = values.iter().filter_map(|entry| entry.2).sum();
        let part = |(phase, class, value): &(&str, &str, Option<f64>)| {
            let value = (*value)?;
            Some(Part { class: class.to_string(), value, tip: format!("{bar}, {phase}: {}", show(value)) })
        };
        let mut row = vec![bar.clone()];
        row.extend(values.iter().map(|entry| entry.2.map_or(String::new(), |v| significant(v, 4))));
        row.push(significant(total, 4));
        table.rows.push(row);
        drawn.push(Bar {
            label: bar.clone(),
            parts: values.iter().filter_map(part).collect(),
            word: show(total),
            spread: None,
        });
    }
    if drawn.is_empty() {
        return None;
    }
    let used =
        |class: &str| drawn.iter().flat_map(|bar| &bar.parts).any(|part| part.class == class && part.value > 0.0);
    let legend =
        PHASES.iter().filter(|(_, class)| used(class)).map(|(phase, class)| (class.to_string(), phase.to_string()));
    let legend = legend.collect();
    Some(Bars { title: title.into(), note: note.into(), legend, bars: drawn, table }.figure())
}

/// Says on the last of `figures` why nothing was measured, where there are reasons.
pub fn unmeasured<'a>(figures: &mut [Figure], rows: impl Iterator<Item = Option<&'a str>>) {
    let reason = reasons(rows);
    if let (Some(figure), false) = (figures.last_mut(), reason.is_empty()) {
        figure.note += &format!(" Energy was not measured: {reason}.");
    }
}

/// The reasons why nothing was measured, each once.
fn reasons<'a>(rows: impl Iterator<Item = Option<&'a str>>) -> String {
    let mut all: Vec<&str> = Vec::new();
    for reason in rows.flatten().filter(|reason| !reason.is_empty()) {
        if !all.contains(&reason) {
            all.push(reason);
        }
    }
    all.truncate(3);
    all.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_is_no_bar_and_no_zero() {
        let entries =
            vec![("a".to_string(), "search".to_string(), None), ("b".to_string(), "train".to_string(), Some(2.0))];
        let figure = by_phase("E", "", "J", &["a".into(), "b".into()], &entries).unwrap();
        assert_eq!(figure.table.rows, [["b", "", "", "", "2", "", "2"].map(String::from)]);
        assert!(by_phase("E", "", "J", &["a".into()], &entries).is_none());
    }
}
