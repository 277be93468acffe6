//! Plots as SVG: curves over epochs, the mask-distance heat map, channels kept per layer.
//!
//! Inputs are plain data ([`Curves`], [`Heatmap`], [`Bars`]), so that other forms of report can draw them, too.

use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::{Error, Result, fsio};

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// For the legend.
    pub label: String,
    /// (x, y), x ascending; breaks are left to the caller (use several curves).
    pub points: Vec<(f64, f64)>,
}

/// Lines over a common axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Curves {
    /// Heading.
    pub title: String,
    /// Axis label with unit.
    pub x: String,
    /// Axis label with unit.
    pub y: String,
    /// The lines.
    pub curves: Vec<Curve>,
    /// Vertical lines with a word: where a ticket was drawn.
    pub marks: Vec<(f64, String)>,
    /// A horizontal line with a word: the detector's threshold.
    pub threshold: Option<(f64, String)>,
    /// Fixed top of the y axis (bottom is 0); found from the data where `None`.
    pub top: Option<f64>,
}

/// Pairwise distances, 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Heatmap {
    /// Heading.
    pub title: String,
    /// Epoch of each row and column.
    pub epochs: Vec<f64>,
    /// Row by row.
    pub distances: Vec<Vec<f64>>,
    /// Epoch to mark.
    pub mark: Option<f64>,
}

/// One bar: part of a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    /// Below the bar.
    pub label: String,
    /// The part.
    pub kept: usize,
    /// The whole.
    pub total: usize,
    /// Whether to point it out.
    pub flagged: bool,
}

/// Bars side by side.
#[derive(Clone, Debug, PartialEq)]
pub struct Bars {
    /// Heading.
    pub title: String,
    /// The bars.
    pub bars: Vec<Bar>,
}

/// Distinguishable also without colour vision (Okabe and Ito).
const PALETTE: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(90, 90, 90),
];
const INK: RGBColor = RGBColor(40, 40, 40);
const GRID: RGBColor = RGBColor(225, 225, 225);
const SIZE: (u32, u32) = (900, 520);

type Drawn = std::result::Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// Draws into a string and writes it atomically.
fn save(
    path: &Path,
    size: (u32, u32),
    draw: impl FnOnce(&DrawingArea<SVGBackend, plotters::coord::Shift>) -> Drawn,
) -> Result<()> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        let drawn = area.fill(&WHITE).and_then(|()| draw(&area)).and_then(|()| area.present());
        drawn.map_err(|e| {
            Error::bad_file(path, None, format!("cannot be drawn: {e}"), "this is a defect, please report it")
        })?;
    }
    fsio::write_atomic(path, svg.as_bytes())
}

/// A chart error is a drawing error, or cannot happen on a string.
type Fail = DrawingAreaErrorKind<std::io::Error>;

fn font(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

/// The x axis from 0 to the last epoch, never empty.
fn last_x(curves: &[Curve]) -> f64 {
    curves.iter().flat_map(|curve| &curve.points).map(|point| point.0).fold(1.0, f64::max)
}

/// A round number at or above `value`: 1, 2 or 5 times a power of ten, in tenths of the decade.
fn round_up(value: f64) -> f64 {
    if !(value > 0.0 && value.is_finite()) {
        return 1.0;
    }
    let unit = 10f64.powf(value.log10().floor()) / 2.0;
    (value / unit).ceil() * unit
}

impl Curves {
    /// Writes the plot.
    pub fn save(&self, path: &Path) -> Result<()> {
        let highest =
            self.curves.iter().flat_map(|c| &c.points).map(|p| p.1).filter(|y| y.is_finite()).fold(0.0, f64::max);
        let highest = highest.max(self.threshold.as_ref().map_or(0.0, |t| t.0 * 1.5));
        let (right, top) = (last_x(&self.curves), self.top.unwrap_or_else(|| round_up(highest)));
        save(path, SIZE, |area| {
            area.draw(&Text::new(self.title.clone(), (80, 18), font(22)))?;
            let mut chart = ChartBuilder::on(area)
                .margin(16)
                .margin_top(56)
                .margin_right(190)
                .x_label_area_size(46)
                .y_label_area_size(64)
                .build_cartesian_2d(0.0..right, 0.0..top)?;
            chart
                .configure_mesh()
                .x_desc(&self.x)
                .y_desc(&self.y)
                .label_style(font(14))
                .axis_desc_style(font(15))
                .axis_style(INK)
                .bold_line_style(GRID)
                .light_line_style(TRANSPARENT)
                .x_labels(12)
                .y_labels(8)
                .x_label_formatter(&|value| short(*value))
                .y_label_formatter(&|value| short(*value))
                .draw()?;
            if let Some((y, _)) = &self.threshold {
                chart.draw_series(DashedLineSeries::new([(0.0, *y), (right, *y)], 6, 4, INK.stroke_width(1)))?;
            }
            for (x, _) in &self.marks {
                chart.draw_series(DashedLineSeries::new([(*x, 0.0), (*x, top)], 3, 3, INK.stroke_width(1)))?;
            }
            for (i, curve) in self.curves.iter().enumerate() {
                let colour = PALETTE[i % PALETTE.len()];
                let inside = curve.points.iter().copied().filter(|p| p.1.is_finite()).map(|(x, y)| (x, y.min(top)));
                let points: Vec<(f64, f64)> = inside.collect();
                if points.len() == 1 {
                    chart.draw_series(points.iter().map(|p| Circle::new(*p, 3, colour.filled())))?;
                }
                // Where a mark is of this curve, the point itself is shown, too.
                let of_this = |mark: &&(f64, String)| mark.1.split([' ', ':']).any(|word| word == curve.label);
                let marked = self.marks.iter().filter(of_this).filter_map(|(x, _)| points.iter().find(|p| p.0 == *x));
                chart.draw_series(marked.map(|p| Circle::new(*p, 5, colour.filled())))?;
                chart.draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))?;
            }
            // The legend stands right of the chart, where it can hide nothing; so do the words for the lines.
            let mut y = 66;
            let x = SIZE.0 as i32 - 178;
            for (i, curve) in self.curves.iter().enumerate() {
                let colour = PALETTE[i % PALETTE.len()];
                area.draw(&PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(3)))?;
                area.draw(&Text::new(curve.label.clone(), (x + 26, y - 7), font(14)))?;
                y += 22;
            }
            // A horizontal line is explained by a horizontal sample, a vertical one by a vertical sample.
            let lines = self.threshold.iter().map(|t| (&t.1, true)).chain(self.marks.iter().map(|m| (&m.1, false)));
            for (word, flat) in lines {
                for dash in 0..3 {
                    let at = if flat { (x + dash * 8, y) } else { (x + 10, y - 9 + dash * 7) };
                    let to = if flat { (at.0 + 5, at.1) } else { (at.0, at.1 + 4) };
                    area.draw(&PathElement::new([at, to], INK.stroke_width(1)))?;
                }
                area.draw(&Text::new(word.clone(), (x + 26, y - 7), font(14)))?;
                y += 22;
            }
            Ok::<(), Fail>(())
        })
    }
}

/// Viridis at `t` in 0..=1, between its nodes linearly (van der Walt and Smith; nine of matplotlib's 256 colours).
pub(super) fn viridis(t: f64) -> RGBColor {
    const NODES: [(u8, u8, u8); 9] = [
        (68, 1, 84),
        (71, 44, 122),
        (59, 81, 139),
        (44, 113, 142),
        (33, 144, 141),
        (39, 173, 129),
        (92, 200, 99),
        (170, 220, 50),
        (253, 231, 37),
    ];
    let at = t.clamp(0.0, 1.0) * 8.0;
    let low = (at as usize).min(7);
    let mix = |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * (at - low as f64)).round() as u8;
    let (a, b) = (NODES[low], NODES[low + 1]);
    RGBColor(mix(a.0, b.0), mix(a.1, b.1), mix(a.2, b.2))
}

/// A number with two decimals at most, without useless digits.
pub fn short(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

impl Heatmap {
    /// Writes the plot; small distances are bright, as in the paper's figure.
    pub fn save(&self, path: &Path) -> Result<()> {
        let n = self.epochs.len();
        let (left, upper, side) = (80, 60, 560);
        let place = |i: usize| (side * i / n.max(1)) as i32;
        save(path, (760, 690), |area| {
            area.draw(&Text::new(self.title.clone(), (left, 18), font(22)))?;
            for (row, distances) in self.distances.iter().enumerate() {
                for (column, distance) in distances.iter().enumerate() {
                    // Row 0 at the bottom: time runs right and up.
                    let (x0, x1) = (left + place(column), left + place(column + 1));
                    let (y0, y1) = (upper + place(n - row - 1), upper + place(n - row));
                    area.draw(&Rectangle::new([(x0, y0), (x1, y1)], viridis(1.0 - distance).filled()))?;
                }
            }
            let step = n.div_ceil(10).max(1);
            let centred = font(14).pos(Pos::new(HPos::Center, VPos::Top));
            let beside = font(14).pos(Pos::new(HPos::Right, VPos::Center));
            let bottom = upper + side as i32;
            for i in (0..n).step_by(step) {
                let middle = (place(i) + place(i + 1)) / 2;
                area.draw(&Text::new(short(self.epochs[i]), (left + middle, bottom + 8), centred.clone()))?;
                area.draw(&Text::new(short(self.epochs[i]), (left - 8, bottom - middle), beside.clone()))?;
            }
            area.draw(&Text::new(
                "epochs trained",
                (left + side as i32 / 2, bottom + 32),
                font(15).pos(Pos::new(HPos::Center, VPos::Top)),
            ))?;
            if let Some(i) = self.mark.and_then(|mark| self.epochs.iter().position(|e| (e - mark).abs() < 1e-9)) {
                let (x, y) = (left + place(i), bottom - place(i + 1));
                let (right, low) = (x + place(1).max(4), y + place(1).max(4));
                let frame = [(x, y), (right, y), (right, low), (x, low), (x, y)];
                area.draw(&PathElement::new(frame, RGBColor(200, 20, 20).stroke_width(4)))?;
                let word = format!("red frame: ticket, epoch {}", short(self.epochs[i]));
                area.draw(&Text::new(
                    word,
                    (left + side as i32, 34),
                    font(14).pos(Pos::new(HPos::Right, VPos::Center)),
                ))?;
            }
            area.draw(&Text::new(
                "distance",
                (left + side as i32 + 24, bottom + 8),
                font(14).pos(Pos::new(HPos::Left, VPos::Top)),
            ))?;
            for i in 0..side {
                let (y, t) = (upper + i as i32, i as f64 / side as f64);
                area.draw(&Rectangle::new(
                    [(left + side as i32 + 24, y), (left + side as i32 + 44, y + 1)],
                    viridis(t).filled(),
                ))?;
            }
            for tenth in [0, 2, 4, 6, 8, 10] {
                let y = upper + (side as i32) - side as i32 * tenth / 10;
                let word = format!("{:.1}", f64::from(tenth) / 10.0);
                let y = upper + (bottom - y); // distance 0 is the bright end, at the bottom
                area.draw(&Text::new(
                    word,
                    (left + side as i32 + 50, 2 * upper + side as i32 - y),
                    font(14).pos(Pos::new(HPos::Left, VPos::Center)),
                ))?;
            }
            Ok::<(), Fail>(())
        })
    }
}

impl Bars {
    /// Writes the plot.
    pub fn save(&self, path: &Path) -> Result<()> {
        let n = self.bars.len().max(1);
        let width = SIZE.0.max(60 + 26 * n as u32);
        let most = self.bars.iter().map(|bar| bar.total).max().unwrap_or(1).max(1);
        let (left, upper, bottom) = (64, 56, SIZE.1 as i32 - 96);
        let across = (width as i32 - left - 24) / n as i32;
        let up = |channels: usize| bottom - ((bottom - upper) as usize * channels / most) as i32;
        save(path, (width, SIZE.1), |area| {
            area.draw(&Text::new(self.title.clone(), (left, 16), font(22)))?;
            for quarter in 0..=4 {
                let channels = most * quarter / 4;
                let y = up(channels);
                area.draw(&PathElement::new([(left, y), (width as i32 - 24, y)], GRID.stroke_width(1)))?;
                let beside = font(14).pos(Pos::new(HPos::Right, VPos::Center));
                area.draw(&Text::new(channels.to_string(), (left - 8, y), beside))?;
            }
            for (i, bar) in self.bars.iter().enumerate() {
                let (x0, x1) = (left + across * i as i32 + across / 8, left + across * (i as i32 + 1) - across / 8);
                let colour = if bar.flagged { PALETTE[1] } else { PALETTE[0] };
                area.draw(&Rectangle::new([(x0, up(bar.total)), (x1, bottom)], GRID.filled()))?;
                area.draw(&Rectangle::new([(x0, up(bar.kept)), (x1, bottom)], colour.filled()))?;
                let above = font(if n > 30 { 10 } else { 13 }).pos(Pos::new(HPos::Center, VPos::Bottom));
                area.draw(&Text::new(bar.kept.to_string(), ((x0 + x1) / 2, up(bar.kept) - 3), above))?;
                let turned = ("sans-serif", 12).into_font().transform(FontTransform::Rotate90).color(&INK);
                area.draw(&Text::new(bar.label.clone(), ((x0 + x1) / 2 + 5, bottom + 8), turned))?;
            }
            let flagged = self.bars.iter().any(|bar| bar.flagged);
            let remark = if flagged {
                "blue: kept; grey: removed; orange: saved from losing all"
            } else {
                "blue: kept; grey: removed"
            };
            area.draw(&Text::new(remark, (left, SIZE.1 as i32 - 22), font(14)))?;
            Ok::<(), Fail>(())
        })
    }
}
