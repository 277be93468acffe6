//! Points with their spread on an axis that begins where the values do: differences of a few points that bars from zero would hide.

use super::axis::{Axis, coordinate, round_up};
use super::figure::{Figure, Table, open_svg, svg_text};
use super::text::{escape, percent};

/// One row: a share, its spread, and how it was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Dot {
    /// Left of it.
    pub label: String,
    /// The mean, a share.
    pub mean: f64,
    /// Half the width of the bar around it.
    pub spread: Option<f64>,
    /// Runs behind it.
    pub runs: usize,
}

const WIDTH: f64 = 480.0;
const ROW: f64 = 26.0;
const BELOW: f64 = 28.0;

/// A chart of shares, shown as percent. Rows whose mean is no number are left out.
pub fn figure(title: &str, note: &str, dots: &[Dot]) -> Figure {
    let dots: Vec<&Dot> = dots.iter().filter(|dot| dot.mean.is_finite()).collect();
    let longest = dots.iter().map(|dot| dot.label.chars().count()).max().unwrap_or(0) as f64;
    let left = (longest * 9.4 + 14.0).clamp(30.0, WIDTH * 0.48);
    let right = WIDTH - 74.0;
    let spread = |dot: &Dot| dot.spread.filter(|s| s.is_finite()).unwrap_or(0.0);
    let low = dots.iter().map(|dot| dot.mean - spread(dot)).fold(f64::INFINITY, f64::min);
    let high = dots.iter().map(|dot| dot.mean + spread(dot)).fold(f64::NEG_INFINITY, f64::max);
    let step = round_up((high - low).max(0.005) / 3.0);
    let (low, high) = ((low / step).floor() * step, (high / step).ceil() * step);
    let axis = Axis::new(low, high, left, right);
    let height = ROW * dots.len().max(1) as f64 + BELOW;
    let mut alternative = format!("{title}: means");
    let mut body = String::from("<g class=\"axis\">");
    for tick in axis.ticks(3) {
        let x = coordinate(axis.place(tick));
        body += &format!("<path class=\"grid\" d=\"M{x} 2V{}\"/>", height - BELOW);
        let digits = axis.decimals(3).saturating_sub(2);
        body += &svg_text(axis.place(tick), height - 8.0, "middle", "", &format!("{:.*}%", digits, 100.0 * tick));
    }
    body += "</g>";
    let mut table = Table::new(&["method", "mean", "spread (one standard deviation)", "runs"]);
    for (i, dot) in dots.iter().enumerate() {
        let y = ROW * (i as f64 + 0.5);
        let (x, spread) = (axis.place(dot.mean), spread(dot));
        let around = if spread > 0.0 { format!(" ± {}", percent(spread)) } else { String::new() };
        let tip = format!(
            "{}: {}{around}, {} run{}",
            dot.label,
            percent(dot.mean),
            dot.runs,
            if dot.runs == 1 { "" } else { "s" }
        );
        alternative += &format!("; {}: {}{around}", dot.label, percent(dot.mean));
        body += &svg_text(left - 10.0, y + 4.5, "end", "", &super::bars::fit(&dot.label, left - 10.0));
        if spread > 0.0 {
            let [a, b, y] = [axis.place(dot.mean - spread), axis.place(dot.mean + spread), y].map(coordinate);
            body += &format!("<path class=\"spread\" d=\"M{a} {y}H{b}m0 -4v8M{a} {y}m0 -4v8\"/>");
        }
        body += &format!(
            "<rect class=\"hit\" x=\"0\" y=\"{}\" width=\"{WIDTH}\" height=\"{ROW}\" data-tip=\"{}\"/>",
            coordinate(y - ROW / 2.0),
            escape(&tip)
        );
        body += &format!("<circle class=\"s0 dot\" cx=\"{}\" cy=\"{}\" r=\"5\"/>", coordinate(x), coordinate(y));
        body += &svg_text(right + 10.0, y + 4.5, "start", "value", &percent(dot.mean));
        let around = if spread > 0.0 { percent(spread) } else { String::new() };
        table.rows.push(vec![dot.label.clone(), percent(dot.mean), around, dot.runs.to_string()]);
    }
    let svg = open_svg(WIDTH, height, &alternative, " data-bars=\"\"") + &body + "</svg>";
    Figure { title: title.into(), note: note.into(), legend: Vec::new(), svg, table, wide: false }
}
