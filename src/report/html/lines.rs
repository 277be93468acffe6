//! Lines over a common axis: accuracy, loss, mask distance, existence curves.
//!
//! A value that is no number breaks its line. Long lines are thinned to their highest and lowest points, so that a run of a thousand epochs stays small and no
//! peak is lost.

use super::axis::{Axis, coordinate, round_up};
use super::figure::{Figure, Table, open_svg, svg_text};
use super::text::{escape, significant};
use crate::report::plot::short;

/// How values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Values are shares, shown as percent.
    Percent,
    /// Plain numbers.
    Plain,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Unit::Percent => super::text::percent(value),
            Unit::Plain => significant(value, 4),
        }
    }
}

/// One line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Line {
    /// For legend and hover.
    pub label: String,
    /// (x, y), x ascending.
    pub points: Vec<(f64, f64)>,
    /// Half the height of the bar around each point, where there are several runs; empty for none.
    pub spread: Vec<f64>,
    /// The colour and dash; lines of one kind share it.
    pub style: usize,
}

/// A chart of lines.
#[derive(Clone, Debug, PartialEq)]
pub struct Lines {
    /// Heading.
    pub title: String,
    /// What to see.
    pub note: String,
    /// Axis label.
    pub x: String,
    /// Axis label.
    pub y: String,
    /// Unit of the y axis.
    pub unit: Unit,
    /// The lines.
    pub lines: Vec<Line>,
    /// Vertical lines with a word.
    pub marks: Vec<(f64, String)>,
    /// Horizontal lines with a word.
    pub levels: Vec<(f64, String)>,
    /// Whether the y axis must begin at 0 (else it may begin where the data do).
    pub from_zero: bool,
}

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 290.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 50.0;
/// Points of a line that are drawn at most.
const MOST_POINTS: usize = 400;
/// Height of a mark's word, above the plot where it can hide nothing.
const WORD: f64 = 17.0;
/// Lines of other styles than these repeat the first.
pub const STYLES: usize = 8;

impl Lines {
    /// Whether there is anything to draw.
    pub fn is_empty(&self) -> bool {
        self.lines.iter().flat_map(|line| &line.points).all(|(x, y)| !x.is_finite() || !y.is_finite())
    }

    /// The chart with legend and table.
    pub fn figure(&self) -> Figure {
        let mut legend: Vec<(String, String)> = Vec::new();
        for line in &self.lines {
            let entry = (format!("line s{}", line.style % STYLES), line.label.clone());
            if !legend.contains(&entry) {
                legend.push(entry); // the parts of a line that is broken into several have one entry
            }
        }
        Figure {
            title: self.title.clone(),
            note: self.note.clone(),
            legend,
            svg: self.svg(),
            table: self.table(),
            wide: false,
        }
    }

    /// Upper end of the plot: the words of the marks stand above it.
    fn top(&self) -> f64 {
        TOP + WORD * self.marks.iter().filter(|mark| mark.0.is_finite()).count().min(6) as f64
    }

    /// Bounds of the x axis: from 0, unless the data begin far from it.
    fn reach(&self) -> (f64, f64) {
        let xs = self.lines.iter().flat_map(|line| line.points.iter().map(|p| p.0));
        let xs: Vec<f64> = xs.chain(self.marks.iter().map(|mark| mark.0)).filter(|x| x.is_finite()).collect();
        let first = xs.iter().copied().fold(f64::INFINITY, f64::min);
        let last = xs.iter().copied().fold(1.0, f64::max);
        (if xs.len() > 1 && first > 0.3 * last && first < last { first } else { 0.0 }, last)
    }

    /// Bounds of the y axis, on round numbers.
    fn bounds(&self) -> (f64, f64) {
        let reach = |line: &Line| -> Vec<f64> {
            let spread = |i: usize| line.spread.get(i).copied().filter(|s| s.is_finite()).unwrap_or(0.0);
            line.points.iter().enumerate().flat_map(|(i, p)| [p.1 - spread(i), p.1 + spread(i)]).collect()
        };
        let values: Vec<f64> = self.lines.iter().flat_map(reach).filter(|y| y.is_finite()).collect();
        let marked = self.levels.iter().map(|level| level.0).filter(|y| y.is_finite());
        let low = values.iter().copied().chain(marked.clone()).fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().chain(marked).fold(f64::NEG_INFINITY, f64::max);
        if !(low.is_finite() && high.is_finite()) {
            return (0.0, 1.0);
        }
        let few = self.lines.iter().all(|line| line.points.len() < 2);
        if few && self.unit == Unit::Percent {
            return (0.0, 1.0); // single points show no change that the axis should magnify
        }
        let low = if self.from_zero { 0.0 } else { low };
        let step = round_up((high - low).max(high.abs() * 1e-3).max(1e-9) / 5.0);
        let most = if self.unit == Unit::Percent { 1.0 } else { f64::INFINITY };
        let least = if low >= 0.0 { 0.0 } else { f64::NEG_INFINITY };
        let bottom = if self.from_zero { 0.0 } else { ((low / step).floor() * step).max(least) };
        (bottom, ((high / step - 1e-9).ceil() * step).min(most))
    }

    fn svg(&self) -> String {
        let (first, last) = self.reach();
        let x = Axis::new(first, last, LEFT, WIDTH - RIGHT);
        let ((low, high), top) = (self.bounds(), self.top());
        let y = Axis::new(low, high, HEIGHT - BOTTOM, top);
        let mut out = open_svg(WIDTH, HEIGHT, &self.alternative(), &self.data());
        out += &self.frame(&x, &y);
        for (i, (value, word)) in self.marks.iter().filter(|mark| mark.0.is_finite()).enumerate() {
            let (at, above) = (x.place(*value), TOP + WORD * (i % 6) as f64);
            out += &format!(
                "<path class=\"mark\" d=\"M{} {}V{}\"/>",
                coordinate(at),
                coordinate(above - 4.0),
                HEIGHT - BOTTOM
            );
            let (anchor, beside) = if at > WIDTH * 0.55 { ("end", -5.0) } else { ("start", 5.0) };
            out += &svg_text(at + beside, above + 7.0, anchor, "word", word);
        }
        for line in &self.lines {
            out += &draw(line, &x, &y);
        }
        for (value, word) in self.levels.iter().filter(|level| level.0.is_finite()) {
            let at = y.place(*value);
            out += &format!("<path class=\"level\" d=\"M{LEFT} {0}H{1}\"/>", coordinate(at), WIDTH - RIGHT);
            let above = if at < top + 18.0 { at + 16.0 } else { at - 6.0 };
            out += &svg_text(WIDTH - RIGHT, above, "end", "word", word);
        }
        out += "<path class=\"cross\" d=\"\"/></svg>";
        out
    }

    /// Grid, ticks and labels.
    fn frame(&self, x: &Axis, y: &Axis) -> String {
        let mut out = String::from("<g class=\"axis\">");
        let decimals = y.decimals(5);
        for tick in y.ticks(5) {
            let at = y.place(tick);
            out += &format!("<path class=\"grid\" d=\"M{LEFT} {0}H{1}\"/>", coordinate(at), WIDTH - RIGHT);
            let text = match self.unit {
                Unit::Percent => format!("{:.*}%", decimals.saturating_sub(2), 100.0 * tick),
                Unit::Plain => format!("{tick:.decimals$}"),
            };
            out += &svg_text(LEFT - 7.0, at + 4.5, "end", "", &text);
        }
        let last = self.reach().1; // no ticks between the first epochs of a short run
        for tick in x.ticks(if last < 6.0 { last.floor().max(1.0) as usize } else { 6 }) {
            let at = x.place(tick);
            out += &format!("<path class=\"tick\" d=\"M{0} {1}v5\"/>", coordinate(at), HEIGHT - BOTTOM);
            out += &svg_text(at, HEIGHT - BOTTOM + 19.0, "middle", "", &short(tick));
        }
        out += &format!("<path class=\"base\" d=\"M{LEFT} {0}H{1}\"/>", HEIGHT - BOTTOM, WIDTH - RIGHT);
        out += &svg_text((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 8.0, "middle", "", &self.x);
        out + "</g>"
    }

    /// The values for the hover script.
    fn data(&self) -> String {
        let one = |line: &Line| {
            let points = thin(&line.points);
            let numbers = |values: Vec<f64>| values.into_iter().map(number).collect::<Vec<_>>().join(",");
            let spread =
                (line.spread.len() == line.points.len() && points.len() == line.points.len()).then_some(&line.spread);
            let spread = spread.map(|s| {
                format!(",\"e\":[{}]", numbers(s.iter().map(|v| if v.is_finite() { *v } else { 0.0 }).collect()))
            });
            format!(
                "{{\"n\":{},\"x\":[{}],\"y\":[{}]{}}}",
                serde_json::Value::from(line.label.as_str()),
                numbers(points.iter().map(|p| p.0).collect()),
                numbers(points.iter().map(|p| p.1).collect()),
                spread.unwrap_or_default()
            )
        };
        let lines: Vec<String> = self.lines.iter().map(one).collect();
        let ((first, last), (low, high)) = (self.reach(), self.bounds());
        format!(
            " data-lines=\"{}\" data-box=\"{LEFT},{},{},{},{first},{last},{low},{high}\" data-x=\"{}\" data-unit=\"{}\"",
            escape(&format!("[{}]", lines.join(","))),
            WIDTH - RIGHT,
            self.top(),
            HEIGHT - BOTTOM,
            escape(&self.x),
            if self.unit == Unit::Percent { "%" } else { "" }
        )
    }

    /// One sentence per line, for those who do not see it.
    fn alternative(&self) -> String {
        let mut out = format!("{}, {} over {}.", self.title, self.y, self.x);
        for line in &self.lines {
            let finite: Vec<(f64, f64)> =
                line.points.iter().copied().filter(|p| p.0.is_finite() && p.1.is_finite()).collect();
            let (Some(first), Some(last)) = (finite.first(), finite.last()) else {
                out += &format!(" {}: no values.", line.label);
                continue;
            };
            out += &format!(
                " {}: from {} at {} to {} at {}.",
                line.label,
                self.unit.show(first.1),
                short(first.0),
                self.unit.show(last.1),
                short(last.0)
            );
        }
        let drawn = |line: &&(f64, String)| line.0.is_finite();
        self.levels
            .iter()
            .filter(drawn)
            .for_each(|(value, word)| out += &format!(" Line at {}: {word}.", self.unit.show(*value)));
        self.marks
            .iter()
            .filter(drawn)
            .for_each(|(value, word)| out += &format!(" Mark at {}: {word}.", short(*value)));
        out
    }

    fn table(&self) -> Table {
        let mut xs: Vec<f64> =
            self.lines.iter().flat_map(|l| l.points.iter().map(|p| p.0)).filter(|x| x.is_finite()).collect();
        xs.sort_by(f64::total_cmp);
        xs.dedup();
        let mut table = Table::new(&[&self.x]);
        table.head.extend(self.lines.iter().map(|line| line.label.clone()));
        let cell = |line: &Line, x: f64| {
            let at = line.points.iter().position(|p| p.0 == x);
            at.map_or(String::new(), |i| match line.spread.get(i).filter(|s| s.is_finite()) {
                Some(spread) => format!("{} ± {}", self.unit.show(line.points[i].1), self.unit.show(*spread)),
                None => self.unit.show(line.points[i].1),
            })
        };
        let row = |x: f64| std::iter::once(short(x)).chain(self.lines.iter().map(|line| cell(line, x))).collect();
        table.rows = xs.into_iter().map(row).collect();
        table.thinned()
    }
}

/// A number as JSON has it; what is none is null.
fn number(value: f64) -> String {
    if value.is_finite() { significant(value, 5) } else { "null".into() }
}

/// The line's path, its points where they are few, and the bars of its spread.
fn draw(line: &Line, x: &Axis, y: &Axis) -> String {
    let points = thin(&line.points);
    let class = line.style % STYLES;
    let (mut path, mut dots, mut broken) = (String::new(), String::new(), true);
    for (px, py) in &points {
        if !(px.is_finite() && py.is_finite()) {
            broken = true;
            continue;
        }
        let (cx, cy) = (coordinate(x.place(*px)), coordinate(y.place(*py)));
        path += &format!("{}{cx} {cy}", if broken { "M" } else { "L" });
        if points.len() <= 40 {
            dots += &format!("<circle cx=\"{cx}\" cy=\"{cy}\" r=\"2.6\"/>");
        }
        broken = false;
    }
    let mut out = String::new();
    for ((px, py), spread) in line.points.iter().zip(&line.spread) {
        if px.is_finite() && py.is_finite() && *spread > 0.0 && spread.is_finite() && points.len() == line.points.len()
        {
            let [cx, low, high] = [x.place(*px), y.place(py - spread), y.place(py + spread)].map(coordinate);
            out += &format!("<path class=\"whisker s{class}\" d=\"M{cx} {low}V{high}m-4 0h8M{cx} {low}m-4 0h8\"/>");
        }
    }
    if !path.is_empty() {
        out += &format!("<path class=\"line s{class}\" d=\"{path}\"/>");
    }
    if !dots.is_empty() {
        out += &format!("<g class=\"dot s{class}\">{dots}</g>");
    }
    out
}

/// At most [`MOST_POINTS`] points: of each stretch its lowest and its highest, in order, and the ends.
fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= MOST_POINTS {
        return points.to_vec();
    }
    let stretch = points.len().div_ceil(MOST_POINTS / 2 - 1);
    let mut kept = vec![0, points.len() - 1];
    for start in (0..points.len()).step_by(stretch) {
        let stretch = start..(start + stretch).min(points.len());
        let finite = || stretch.clone().filter(|i| points[*i].1.is_finite());
        kept.extend(finite().min_by(|a, b| points[*a].1.total_cmp(&points[*b].1)));
        kept.extend(finite().max_by(|a, b| points[*a].1.total_cmp(&points[*b].1)));
    }
    kept.sort_unstable();
    kept.dedup();
    kept.into_iter().map(|i| points[i]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>) -> Lines {
        Lines {
            title: "Loss".into(),
            note: String::new(),
            x: "epochs".into(),
            y: "nats".into(),
            unit: Unit::Plain,
            lines: vec![Line { label: "a<b".into(), points, ..Default::default() }],
            marks: vec![(3.0, "cut".into()), (f64::NAN, "nowhere".into())],
            levels: vec![(0.1, "eps".into())],
            from_zero: true,
        }
    }

    #[test]
    fn paths_hold_numbers_only_and_break_where_there_is_none() {
        let html =
            chart(vec![(1.0, 2.0), (2.0, f64::NAN), (3.0, f64::INFINITY), (4.0, 1.0), (5.0, 0.5)]).figure().html();
        let path = html.split("<path class=\"line s0\" d=\"M").last().unwrap().split('"').next().unwrap();
        assert!(html.contains("a&lt;b") && !html.contains("a<b"));
        assert_eq!(path.matches('M').count(), 1, "one break: {path}");
        assert!(!html.contains("NaN") && !html.contains("inf\"") && !html.contains("inf "), "{html}");
    }

    #[test]
    fn nothing_and_one_point_are_drawn_too() {
        assert!(chart(vec![]).is_empty() && chart(vec![]).figure().html().contains("no values"));
        let one = chart(vec![(1.0, 0.5)]);
        assert!(!one.is_empty() && one.figure().html().contains("<circle"));
    }

    #[test]
    fn a_long_line_is_thin_and_keeps_its_peak() {
        let points: Vec<(f64, f64)> =
            (0..10_000).map(|i| (f64::from(i), if i == 4321 { 9.0 } else { f64::from(i % 7) })).collect();
        let thinned = thin(&points);
        assert!(thinned.len() <= MOST_POINTS + 2 && thinned.contains(&(4321.0, 9.0)));
        assert_eq!((thinned[0].0, thinned[thinned.len() - 1].0), (0.0, 9999.0));
        assert!(chart(points).figure().html().len() < 60_000);
    }
}
