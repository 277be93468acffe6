//! What every chart of the report is wrapped in: heading, legend, the SVG with its text alternative, and its numbers as a table.

use super::text::escape;

/// Numbers behind a chart, or a table of its own. Cells are text, not HTML.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Column heads; the first column names the row.
    pub head: Vec<String>,
    /// Rows of as many cells.
    pub rows: Vec<Vec<String>>,
    /// Said below, where rows are left out.
    pub note: Option<String>,
}

/// Rows that a chart's table shows at most; the rest is in the run's CSV files.
const MOST_ROWS: usize = 100;

impl Table {
    /// A table with these column heads.
    pub fn new(head: &[&str]) -> Table {
        Table { head: head.iter().map(|name| name.to_string()).collect(), ..Default::default() }
    }

    /// Every n-th row, so that a long run's report stays small; the last row always stays.
    pub fn thinned(mut self) -> Table {
        let (all, step) = (self.rows.len(), self.rows.len().div_ceil(MOST_ROWS).max(1));
        if step > 1 {
            let rows = self.rows.into_iter().enumerate();
            self.rows = rows.filter(|(i, _)| i % step == 0 || i + 1 == all).map(|(_, row)| row).collect();
            self.note = Some(format!("Every {step}th of {all} rows; the files of the run hold all."));
        }
        self
    }

    /// As HTML; `caption` is for readers of screens.
    pub fn html(&self, caption: &str) -> String {
        let cells = |cells: &[String], head: bool| -> String {
            let cell = |(i, text): (usize, &String)| match (head, i) {
                (true, _) => format!("<th scope=\"col\">{}</th>", escape(text)),
                (false, 0) => format!("<th scope=\"row\">{}</th>", escape(text)),
                _ => format!("<td>{}</td>", escape(text)),
            };
            cells.iter().enumerate().map(cell).collect()
        };
        // A region that scrolls must be reachable by keyboard.
        let mut out = format!(
            "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{0}\"><table><caption>{0}</caption>",
            escape(caption)
        );
        out += &format!("<thead><tr>{}</tr></thead><tbody>", cells(&self.head, true));
        self.rows.iter().for_each(|row| out += &format!("<tr>{}</tr>", cells(row, false)));
        out += "</tbody></table></div>";
        if let Some(note) = &self.note {
            out += &format!("<p class=\"note\">{}</p>", escape(note));
        }
        out
    }
}

/// One chart, complete.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Heading.
    pub title: String,
    /// What to see in it, one or two sentences.
    pub note: String,
    /// (class of the sample, word).
    pub legend: Vec<(String, String)>,
    /// The drawing.
    pub svg: String,
    /// Its numbers.
    pub table: Table,
    /// Whether it takes the whole width of a desk's screen.
    pub wide: bool,
}

impl Figure {
    /// As HTML.
    pub fn html(&self) -> String {
        let mut out = format!("<figure{}>", if self.wide { " class=\"wide\"" } else { "" });
        out += &format!("<h3>{}</h3>", escape(&self.title));
        if !self.note.is_empty() {
            out += &format!("<p class=\"note\">{}</p>", escape(&self.note));
        }
        if !self.legend.is_empty() {
            out += "<p class=\"legend\">";
            for (class, word) in &self.legend {
                out += &format!("<span>{}{}</span> ", sample(class), escape(word));
            }
            out += "</p>";
        }
        out += &self.svg;
        if !self.table.rows.is_empty() {
            out += "<details><summary>Numbers</summary>";
            out += &self.table.html(&self.title);
            out += "</details>";
        }
        out + "</figure>"
    }
}

/// A piece of the line or the area that the legend explains.
fn sample(class: &str) -> String {
    let inside = match class.contains("line") {
        true => format!("<path class=\"{class}\" d=\"M0 5H26\"/>"),
        false => format!("<rect class=\"{class}\" y=\"0\" x=\"6\" width=\"12\" height=\"10\"/>"),
    };
    format!("<svg class=\"sample\" viewBox=\"0 0 26 10\" aria-hidden=\"true\">{inside}</svg>")
}

/// Opens an SVG of `width` by `height` with its text alternative; `data` are further attributes, already escaped. The caller adds `</svg>`.
pub fn open_svg(width: f64, height: f64, alternative: &str, data: &str) -> String {
    format!(
        "<svg class=\"chart\" viewBox=\"0 0 {width} {height}\" role=\"img\" tabindex=\"0\" aria-label=\"{}\"{data}>",
        escape(alternative)
    )
}

/// `class` with text at a place; `anchor` is `start`, `middle` or `end`.
pub fn svg_text(x: f64, y: f64, anchor: &str, class: &str, text: &str) -> String {
    let (x, y) = (super::axis::coordinate(x), super::axis::coordinate(y));
    let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
    format!("<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\"{class}>{}</text>", escape(text))
}
