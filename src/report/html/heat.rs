//! The mask-distance heat map: one path per colour, drawn in runs of equal colour, and the exact values for the hover script.

use super::axis::coordinate;
use super::figure::{Figure, Table, open_svg, svg_text};
use super::text::{escape, significant};
use crate::report::plot::{short, viridis};

/// Pairwise distances of the masks of one ratio.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matrix {
    /// Such as `p50`.
    pub label: String,
    /// Epoch of each row and column.
    pub epochs: Vec<f64>,
    /// Row by row, 0 to 1.
    pub distances: Vec<Vec<f64>>,
    /// Epoch of the ticket.
    pub ticket: Option<f64>,
}

/// Rows and columns that are drawn at most.
pub const MOST: usize = 100;
/// Colours told apart: steps of a 24th of the scale.
const COLOURS: usize = 24;
const LEFT: f64 = 46.0;
const TOP: f64 = 10.0;
const SIDE: f64 = 350.0;
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = TOP + SIDE + 50.0;

/// Which of `draws` a matrix of at most [`MOST`] rows shows: evenly spread, with the first, the last and the `wanted` ones.
pub fn chosen(draws: usize, wanted: &[usize]) -> Vec<usize> {
    if draws <= MOST {
        return (0..draws).collect();
    }
    let spread = MOST - wanted.len().min(MOST - 2);
    let mut all: Vec<usize> = (0..spread).map(|i| i * (draws - 1) / (spread - 1)).collect();
    all.extend(wanted.iter().copied().filter(|i| *i < draws));
    all.sort_unstable();
    all.dedup();
    all
}

impl Matrix {
    /// The chart with legend and table.
    pub fn figure(&self) -> Figure {
        let n = self.epochs.len();
        let step = n.div_ceil(16).max(1);
        let shown: Vec<usize> = (0..n).step_by(step).collect();
        let mut table = Table::new(&["epoch"]);
        table.head.extend(shown.iter().map(|i| short(self.epochs[*i])));
        let row = |i: &usize| {
            let cell = |j: &usize| significant((self.at(*i, *j) * 1e4).round() / 1e4, 3);
            std::iter::once(short(self.epochs[*i])).chain(shown.iter().map(cell)).collect()
        };
        table.rows = shown.iter().map(row).collect();
        table.note = (step > 1).then(|| format!("Every {step}th mask; mask-distance-{}.csv holds all.", self.label));
        Figure {
            title: format!("Distance between any two masks, {}", self.label),
            note: "Share of channels that differ. The bright square that grows along the diagonal is where the masks no longer change.".into(),
            legend: Vec::new(),
            svg: self.svg(),
            table,
            wide: false,
        }
    }

    fn at(&self, row: usize, column: usize) -> f64 {
        let value = self.distances.get(row).and_then(|row| row.get(column)).copied().unwrap_or(0.0);
        if value.is_finite() { value.clamp(0.0, 1.0) } else { 0.0 }
    }

    /// The colour scale ends at a round number, so that small distances can be told apart.
    fn top(&self) -> f64 {
        let n = self.epochs.len();
        // The untrained network's mask keeps nothing and is far from all others: it would take all colours for itself.
        let first = usize::from(n > 2 && self.epochs[0] == 0.0);
        let most = (first..n).flat_map(|i| (first..n).map(move |j| self.at(i, j))).fold(0.0, f64::max);
        [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8].into_iter().find(|top| most <= *top).unwrap_or(1.0)
    }

    fn svg(&self) -> String {
        let (n, top) = (self.epochs.len(), self.top());
        let cell = SIDE / n.max(1) as f64;
        let mut out = open_svg(WIDTH, HEIGHT, &self.alternative(), &self.data());
        // Time runs right and up, as in the paper's figure.
        out += &format!(
            "<g class=\"heat\" transform=\"translate({LEFT} {}) scale({} -{})\">",
            TOP + SIDE,
            significant(cell, 7),
            significant(cell, 7)
        );
        let colour = |i: usize, j: usize| ((self.at(i, j) / top).min(1.0) * (COLOURS - 1) as f64).round() as usize;
        let mut paths = vec![String::new(); COLOURS];
        for i in 0..n {
            let mut start = 0;
            for j in 1..=n {
                if j == n || colour(i, j) != colour(i, start) {
                    paths[colour(i, start)] += &format!("M{start} {i}h{0}v1h-{0}z", j - start);
                    start = j;
                }
            }
        }
        for (level, path) in paths.iter().enumerate().filter(|(_, path)| !path.is_empty()) {
            out += &format!("<path fill=\"{}\" d=\"{path}\"/>", hex(1.0 - level as f64 / (COLOURS - 1) as f64));
        }
        out += "</g><g class=\"axis\">";
        let step = n.div_ceil(8).max(1);
        for i in (0..n).step_by(step) {
            let middle = cell * (i as f64 + 0.5);
            out += &svg_text(LEFT + middle, TOP + SIDE + 17.0, "middle", "", &short(self.epochs[i]));
            out += &svg_text(LEFT - 6.0, TOP + SIDE - middle + 4.5, "end", "", &short(self.epochs[i]));
        }
        out += &svg_text(LEFT + SIDE / 2.0, HEIGHT - 6.0, "middle", "", "epochs trained");
        let bar = LEFT + SIDE + 14.0;
        for i in 0..COLOURS {
            let height = SIDE / COLOURS as f64;
            let y = TOP + SIDE - height * (i as f64 + 1.0);
            let fill = hex(1.0 - i as f64 / (COLOURS - 1) as f64);
            out += &format!(
                "<rect x=\"{bar}\" y=\"{}\" width=\"14\" height=\"{}\" fill=\"{fill}\"/>",
                coordinate(y),
                coordinate(height + 0.5)
            );
        }
        for i in 0..=4 {
            let share = f64::from(i) / 4.0;
            let word = format!("{}{}", if i == 4 && top < 1.0 { "≥" } else { "" }, significant(share * top, 3));
            out +=
                &svg_text(bar + 18.0, TOP + SIDE * (1.0 - share) + if i == 4 { 11.0 } else { 4.5 }, "start", "", &word);
        }
        out += "</g>";
        if let Some(i) = self.ticket.and_then(|ticket| self.epochs.iter().position(|e| (e - ticket).abs() < 1e-9)) {
            let (x, y) = (LEFT + cell * i as f64, TOP + SIDE - cell * (i + 1) as f64);
            let (x, y, side) = (coordinate(x), coordinate(y), coordinate(cell.max(5.0)));
            out += &format!("<rect class=\"frame\" x=\"{x}\" y=\"{y}\" width=\"{side}\" height=\"{side}\"/>");
            let end = if cell * (i as f64) > SIDE * 0.6 { "end" } else { "start" };
            let word = format!("ticket, epoch {}", short(self.epochs[i]));
            let at = TOP + SIDE - cell * (i + 1) as f64 - 7.0;
            out += &svg_text(
                LEFT + cell * i as f64,
                if at < TOP + 10.0 { TOP + 24.0 + cell } else { at },
                end,
                "halo",
                &word,
            );
        }
        out + "<rect class=\"cross\" width=\"0\" height=\"0\"/></svg>"
    }

    /// The upper triangle in ten-thousandths, two bytes each, base 64; and epochs.
    fn data(&self) -> String {
        let n = self.epochs.len();
        let values = (0..n).flat_map(|i| (i..n).map(move |j| (self.at(i, j) * 1e4).round() as u16));
        let bytes: Vec<u8> = values.flat_map(u16::to_le_bytes).collect();
        let epochs: Vec<String> = self.epochs.iter().map(|epoch| short(*epoch)).collect();
        format!(
            " data-heat=\"{}\" data-epochs=\"{}\" data-box=\"{LEFT},{TOP},{SIDE}\"",
            base64(&bytes),
            escape(&epochs.join(","))
        )
    }

    fn alternative(&self) -> String {
        let n = self.epochs.len();
        let mut out = format!("Heat map of the distances between {n} masks, {}.", self.label);
        if n > 1 {
            let (first, last) = (self.at(n - 1, 0), self.at(n - 1, n - 2));
            let [first, last] = [first, last].map(|d| significant(d, 3));
            out += &format!(
                " The last mask differs from the first in a share of {first}, from the one before it in {last}."
            );
        }
        if let Some(ticket) = self.ticket {
            out += &format!(" The ticket was drawn at epoch {}.", short(ticket));
        }
        out
    }
}

fn hex(t: f64) -> String {
    let colour = viridis(t);
    format!("#{:02x}{:02x}{:02x}", colour.0, colour.1, colour.2)
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= chunk.len() { digit as char } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_the_rfcs() {
        let pairs = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]; // RFC 4648, 10
        pairs.iter().for_each(|(plain, coded)| assert_eq!(base64(plain.as_bytes()), *coded));
    }

    #[test]
    fn long_runs_are_thinned_and_keep_the_ticket() {
        let some = chosen(1000, &[517]);
        assert!(some.len() <= MOST && some.contains(&517) && some.contains(&0) && some.contains(&999));
        assert_eq!(chosen(3, &[1]), [0, 1, 2]);
    }

    #[test]
    fn every_cell_is_drawn_once() {
        let n = 7;
        let distances: Vec<Vec<f64>> =
            (0..n).map(|i| (0..n).map(|j| (i as f64 - j as f64).abs() / 10.0).collect()).collect();
        let matrix =
            Matrix { label: "p50".into(), epochs: (0..n).map(|i| i as f64).collect(), distances, ticket: Some(6.0) };
        let svg = matrix.svg();
        let mut cells = 0;
        for run in svg.split("</g>").next().unwrap().split("v1h-").skip(1) {
            cells += run.split('z').next().unwrap().parse::<usize>().unwrap();
        }
        assert_eq!(cells, n * n);
        assert!(svg.contains("ticket, epoch 6"));
        for empty in [Matrix::default(), Matrix { epochs: vec![0.0], distances: vec![vec![0.0]], ..Default::default() }]
        {
            let html = empty.figure().html();
            assert!(!html.contains("NaN") && !html.contains("inf"), "{html}");
        }
    }
}
