//! Horizontal bars: channels kept of a layer, a cost split by phase, a method's mean with its spread.

use super::axis::{Axis, coordinate};
use super::figure::{Figure, Table, open_svg, svg_text};
use super::text::escape;

/// One piece of a bar.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// CSS class of the fill: `s0` to `s7`, `rest`.
    pub class: String,
    /// Length in the chart's unit.
    pub value: f64,
    /// Shown on hover.
    pub tip: String,
}

/// One bar.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    /// Left of it.
    pub label: String,
    /// Pieces, from the left.
    pub parts: Vec<Part>,
    /// Right of it.
    pub word: String,
    /// Half the length of the whisker at its end.
    pub spread: Option<f64>,
}

/// Bars below each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Bars {
    /// Heading.
    pub title: String,
    /// What to see.
    pub note: String,
    /// (class, word) of the pieces.
    pub legend: Vec<(String, String)>,
    /// The bars.
    pub bars: Vec<Bar>,
    /// The numbers.
    pub table: Table,
}

const WIDTH: f64 = 480.0;
/// More bars than this are drawn thin, with some of their names.
const MANY: usize = 32;

impl Bars {
    /// The chart with legend and table.
    pub fn figure(&self) -> Figure {
        Figure {
            title: self.title.clone(),
            note: self.note.clone(),
            legend: self.legend.clone(),
            svg: self.svg(),
            table: self.table.clone(),
            wide: false,
        }
    }

    fn svg(&self) -> String {
        let dense = self.bars.len() > MANY;
        let row = if dense { 8.0 } else { 24.0 };
        let longest =
            |words: &mut dyn Iterator<Item = &String>| words.map(|w| w.chars().count()).max().unwrap_or(0) as f64;
        let left = (longest(&mut self.bars.iter().map(|bar| &bar.label)) * 9.4 + 12.0).clamp(30.0, WIDTH * 0.42);
        let right = if dense {
            10.0
        } else {
            (longest(&mut self.bars.iter().map(|bar| &bar.word)) * 9.4 + 12.0).clamp(10.0, WIDTH * 0.34)
        };
        let length = |value: f64| if value.is_finite() { value.max(0.0) } else { 0.0 };
        let total = |bar: &Bar| {
            bar.parts.iter().map(|part| length(part.value)).sum::<f64>() + length(bar.spread.unwrap_or(0.0))
        };
        let most = self.bars.iter().map(total).fold(0.0, f64::max);
        let axis = Axis::new(0.0, most, left, WIDTH - right);
        let height = row * self.bars.len().max(1) as f64 + 6.0;
        let mut out = open_svg(WIDTH, height, &self.alternative(), " data-bars=\"\"");
        let names = (20.0f64 / row).ceil() as usize; // of thin rows, as many names as have room
        for (i, bar) in self.bars.iter().enumerate() {
            let y = 3.0 + row * i as f64;
            if !dense || i % names == 0 {
                out += &svg_text(left - 8.0, y + row / 2.0 + 4.5, "end", "", &fit(&bar.label, left - 8.0));
            }
            let mut sum = 0.0;
            let (thick, inset) = if dense { (row - 1.0, 0.5) } else { (row - 6.0, 3.0) };
            for part in &bar.parts {
                let (from, to) = (axis.place(sum), axis.place(sum + length(part.value)));
                sum += length(part.value);
                out += &format!(
                    "<rect class=\"{}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" data-tip=\"{}\"/>",
                    part.class,
                    coordinate(from),
                    coordinate(y + inset),
                    coordinate(to - from),
                    coordinate(thick),
                    escape(&part.tip)
                );
            }
            let mut end = axis.place(sum);
            if let Some(spread) = bar.spread.filter(|s| s.is_finite() && *s > 0.0) {
                let [low, middle, high] = [axis.place(sum - spread), y + row / 2.0, axis.place(sum + spread)];
                out += &format!(
                    "<path class=\"spread\" d=\"M{0} {1}H{2}m0 -4v8M{0} {1}m0 -4v8\"/>",
                    coordinate(low),
                    coordinate(middle),
                    coordinate(high)
                );
                end = high;
            }
            if !dense {
                out += &svg_text(end + 6.0, y + row / 2.0 + 4.5, "start", "value", &bar.word);
            }
        }
        out + "</svg>"
    }

    fn alternative(&self) -> String {
        let mut out = format!("{}: bars.", self.title);
        let some = self.bars.iter().take(24).map(|bar| format!(" {}: {}.", bar.label, bar.word));
        some.for_each(|bar| out += &bar);
        if self.bars.len() > 24 {
            out += &format!(" And {} more, in the table below.", self.bars.len() - 24);
        }
        out
    }
}

/// The end of a name that is longer than its place: of layers it tells more than the beginning.
pub fn fit(label: &str, room: f64) -> String {
    let most = (room / 9.0) as usize;
    match label.chars().count() {
        length if length > most => format!("…{}", label.chars().skip(length + 1 - most.max(2)).collect::<String>()),
        _ => label.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bars(n: usize, value: f64) -> Bars {
        let bar = |i: usize| Bar {
            label: format!("layer{i}.\"><script>"),
            parts: vec![Part { class: "s0".into(), value, tip: "a<b".into() }],
            word: format!("{i}"),
            spread: Some(value / 10.0),
        };
        Bars {
            title: "Bars".into(),
            note: String::new(),
            legend: vec![],
            bars: (0..n).map(bar).collect(),
            table: Table::default(),
        }
    }

    #[test]
    fn any_number_of_bars_and_any_value_is_drawn() {
        for n in [0, 1, 13, 100] {
            for value in [0.0, 1.0, f64::NAN, f64::INFINITY] {
                let html = bars(n, value).figure().html();
                assert!(!html.contains("NaN") && !html.contains("inf\"") && !html.contains("<script"), "{html}");
                assert_eq!(html.matches("<rect class=\"s0\"").count(), n);
            }
        }
    }
}
