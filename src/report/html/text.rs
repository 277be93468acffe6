//! Words and numbers of the report: escaping, and figures as people read them.
//!
//! Everything that comes from a user (names, paths, settings) passes through [`escape`]; nothing else writes text into the page.

/// Text for HTML content and for attributes in double or single quotes. Characters that no browser may meet in a page (control characters) become spaces.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            '\n' | '\t' => out.push(c),
            // Direction overrides could make a name read as another one.
            c if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// `1,234,567`.
pub fn count(value: impl Into<u128>) -> String {
    let digits = value.into().to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Three significant digits with a prefix: `39.5 M`, `1.26 P`. What is no number is `unknown`.
pub fn scaled(value: f64) -> String {
    const PREFIXES: [&str; 7] = ["", " k", " M", " G", " T", " P", " E"];
    if !value.is_finite() {
        return "unknown".into();
    }
    let mut at = 0;
    let mut rest = value.abs();
    while rest >= 999.5 && at + 1 < PREFIXES.len() {
        rest /= 1000.0;
        at += 1;
    }
    let sign = if value < 0.0 { "-" } else { "" };
    format!("{sign}{}{}", significant(rest, 3), PREFIXES[at])
}

/// `digits` significant digits, no useless zeros, never in exponent form from 1e-4 on.
pub fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 || !value.is_finite() {
        return if value == 0.0 { "0".into() } else { "unknown".into() };
    }
    let exponent = value.abs().log10().floor() as i64;
    if exponent < -4 {
        return format!("{value:.*e}", digits.saturating_sub(1));
    }
    let decimals = (digits as i64 - 1 - exponent).max(0) as usize;
    let text = format!("{value:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => text,
    }
}

/// `99.44%` of 0.9944.
pub fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.2}%", 100.0 * share) } else { "unknown".into() }
}

/// `50%` of 0.4991: a share without decimals, where it is not the point.
pub fn rough(share: f64) -> String {
    if share.is_finite() { format!("{:.0}%", 100.0 * share) } else { "unknown".into() }
}

/// Seconds as `0.42 s`, `26 s`, `3 min 20 s`, `2 h 5 min`.
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "unknown".into();
    }
    let whole = seconds.round() as u64;
    match whole {
        0..10 => format!("{} s", significant(seconds, 2)),
        10..120 => format!("{whole} s"),
        120..7200 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole / 60 % 60),
    }
}

/// `one channel`, `3 channels`.
pub fn plural(number: usize, one: &str, many: &str) -> String {
    if number == 1 { format!("one {one}") } else { format!("{} {many}", count(number as u64)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_means_something_in_html_survives() {
        let hostile = "</script><img src=x onerror=\"alert('1')\">&\u{0}\u{202e}";
        let text = escape(hostile);
        assert!(!text.contains(['<', '>', '"', '\'', '\u{0}', '\u{202e}']), "{text}");
        assert!(text.starts_with("&lt;/script&gt;&lt;img"), "{text}");
    }

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!((count(0u64), count(999u64), count(1_234_567u64)), ("0".into(), "999".into(), "1,234,567".into()));
        assert_eq!(["39.5 M", "1.26 P", "0", "-2 k"], [39_467_000.0, 1.2591e15, 0.0, -2000.0].map(scaled).as_slice());
        assert_eq!((scaled(999.9), scaled(f64::NAN)), ("1 k".into(), "unknown".into()));
        assert_eq!(
            ["0.0123", "12", "1230", "1.2e-7"],
            [0.0123, 12.0, 1230.4, 1.23e-7].map(|v| significant(v, if v < 1e-6 { 2 } else { 3 })).as_slice()
        );
        assert_eq!(
            (duration(0.42), duration(26.2), duration(200.0)),
            ("0.42 s".into(), "26 s".into(), "3 min 20 s".into())
        );
    }
}
