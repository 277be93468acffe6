//! Axes: round ticks, and the way from values to places.

/// A linear axis from `low` to `high`, drawn from `from` to `to`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// Bounds that are no numbers, or leave no room between them, are replaced by ones that do: an empty chart still has an axis.
    pub fn new(low: f64, high: f64, from: f64, to: f64) -> Axis {
        let low = if low.is_finite() { low } else { 0.0 };
        let high = if high.is_finite() && high > low { high } else { low + 1.0 };
        Axis { low, high, from, to }
    }

    /// Where `value` lies; values outside are drawn at the border.
    pub fn place(&self, value: f64) -> f64 {
        let share = ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        self.from + share * (self.to - self.from)
    }

    /// Round values inside the axis, at most `most` + 1 of them.
    pub fn ticks(&self, most: usize) -> Vec<f64> {
        let step = round_up((self.high - self.low) / most.max(1) as f64);
        let first = (self.low / step - 1e-9).ceil() as i64;
        let last = (self.high / step + 1e-9).floor() as i64;
        (first..=last).map(|i| i as f64 * step).collect()
    }

    /// Decimals that tell neighbouring ticks apart.
    pub fn decimals(&self, most: usize) -> usize {
        let step = round_up((self.high - self.low) / most.max(1) as f64);
        let exact = |digits: &usize| {
            ((step * 10f64.powi(*digits as i32)).round() / 10f64.powi(*digits as i32) - step).abs() < step * 1e-6
        };
        (0..8).find(exact).unwrap_or(8)
    }
}

/// 1, 2, 2.5 or 5 times a power of ten at or above `value`; 1 where `value` is no positive number.
pub fn round_up(value: f64) -> f64 {
    if !(value > 0.0 && value.is_finite()) {
        return 1.0;
    }
    let unit = 10f64.powf(value.log10().floor());
    let fits = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|step| step * unit >= value * (1.0 - 1e-9));
    fits.unwrap_or(10.0) * unit
}

/// A coordinate with one decimal, as short as it gets; never NaN or infinite.
pub fn coordinate(value: f64) -> String {
    let value = if value.is_finite() { value } else { 0.0 };
    let text = format!("{value:.1}");
    let text = text.strip_suffix(".0").unwrap_or(&text);
    if text == "-0" { "0".into() } else { text.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let axis = Axis::new(0.0, 24.0, 0.0, 240.0);
        assert_eq!(axis.ticks(6), [0.0, 5.0, 10.0, 15.0, 20.0]);
        assert_eq!((axis.place(12.0), axis.place(99.0), axis.place(-1.0)), (120.0, 240.0, 0.0));
        let hundredths =
            Axis::new(0.93, 1.0, 0.0, 1.0).ticks(4).iter().map(|t| (t * 100.0).round()).collect::<Vec<_>>();
        assert_eq!(hundredths, [94.0, 96.0, 98.0, 100.0]);
        assert_eq!(Axis::new(0.0, 0.1, 0.0, 1.0).decimals(4), 3); // steps of 0.025
    }

    #[test]
    fn impossible_bounds_still_make_an_axis() {
        for (low, high) in [(f64::NAN, 1.0), (0.0, f64::INFINITY), (2.0, 2.0), (3.0, 1.0)] {
            let axis = Axis::new(low, high, 0.0, 100.0);
            assert!(!axis.ticks(5).is_empty() && axis.ticks(5).len() <= 7);
            assert!(axis.place(f64::NAN).is_nan() && coordinate(axis.place(f64::NAN)) == "0");
        }
        assert_eq!((coordinate(-0.01), coordinate(3.0), coordinate(2.25)), ("0".into(), "3".into(), "2.2".into()));
    }
}
