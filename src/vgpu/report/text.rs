//! Findings and reports as text for people.

use std::fmt::Write as _;

use super::{Buffer, Finding, Report, Severity, Site, Who};

impl Finding {
    /// The finding for people, several lines.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        let severity = if self.severity == Severity::Error { "error" } else { "warning" };
        let _ = writeln!(out, "{severity}[{}]: {}", self.kind.name(), self.message);
        match &self.at {
            Some(site) => site_text(&mut out, "at  ", site, &format!("  in  {}", self.kernel)),
            None => drop(writeln!(out, "  at   launch of {}", self.kernel)),
        }
        if let Some(site) = &self.other {
            site_text(&mut out, "and ", site, "");
        }
        if let Some(who) = self.at.as_ref().and_then(|s| s.who) {
            let more = match (self.count, self.blocks) {
                (0 | 1, _) => String::new(),
                (n, 0 | 1) => format!("     also {} more times", n - 1),
                (n, b) => format!("     also {} more times, in {b} blocks", n - 1),
            };
            let _ = writeln!(out, "  by   {}{more}", who_text(&who));
        }
        if let Some(who) = self.other.as_ref().and_then(|s| s.who) {
            let _ = writeln!(out, "  and  {}", who_text(&who));
        }
        if let Some(address) = self.address {
            let _ = write!(out, "  addr {}", hex(address));
            if let Some(space) = self.space {
                let _ = write!(out, " ({})", space.name());
            }
            if let Some(buffer) = &self.buffer {
                let _ = write!(out, " = {}", buffer_text(buffer, self.bytes.unwrap_or(1)));
            }
            out.push('\n');
        }
        for line in &self.details {
            let _ = writeln!(out, "       {line}");
        }
        if !self.hint.is_empty() {
            let _ = writeln!(out, "  hint {}", self.hint);
        }
        out
    }
}

impl Report {
    /// The report for people.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        for finding in self.findings.iter().chain(&self.warnings) {
            out.push_str(&finding.to_text());
        }
        if self.omitted != 0 {
            let _ = writeln!(out, "and {} more that are not listed", self.omitted);
        }
        if self.allowed != 0 {
            let _ = writeln!(out, "{} allowed by the caller are not listed", self.allowed);
        }
        let _ = writeln!(
            out,
            "{}: {} distinct error(s), {} in all, {} warning(s)",
            self.kernel,
            self.findings.len(),
            self.errors,
            self.warnings.len()
        );
        out
    }
}

fn site_text(out: &mut String, label: &str, site: &Site, tail: &str) {
    let (line, ptx) = (site.line(), site.ptx_line);
    let _ = writeln!(out, "  {label} {line}{tail}  (ptx {ptx}: {};)", site.text);
    for place in &site.inlined_at {
        let _ = writeln!(out, "       inlined at {}:{}", place.file, place.line);
    }
}

fn who_text(who: &Who) -> String {
    let ([bx, by, bz], [tx, ty, tz]) = (who.block, who.thread);
    format!("block ({bx},{by},{bz}) thread ({tx},{ty},{tz})  [warp {} lane {}]", who.warp, who.lane)
}

fn buffer_text(buffer: &Buffer, bytes: u32) -> String {
    let (offset, size) = (i128::from(buffer.offset), i128::from(buffer.size));
    let end = offset + i128::from(bytes);
    let sign = if offset < 0 { '-' } else { '+' };
    let mut text = format!("\"{}\" {sign} {} of {size} bytes", buffer.name, offset.abs());
    if offset < 0 {
        let _ = write!(text, ": {} byte(s) in front of it", -offset);
    } else if end > size {
        let _ = write!(text, ": {} byte(s) past the end", end - size);
    }
    text
}

/// `0x7f01_0001_0200`.
fn hex(address: u64) -> String {
    let digits = format!("{address:x}");
    let mut out = String::from("0x");
    for (i, digit) in digits.chars().enumerate() {
        if i != 0 && (digits.len() - i).is_multiple_of(4) {
            out.push('_');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, Report};
    use super::*;
    use crate::vgpu::ptx::ast::Space;

    fn finding(pc: u32, block: u32) -> Finding {
        let who = Who::new(u64::from(block), 1, 2, [4, 1, 1], [16, 8, 1]);
        let site = Site {
            pc,
            ptx_line: 1427,
            text: "ld.global.f32 %f1, [%rd5]".into(),
            place: Some(super::super::Place { file: "kernels/pool.cu".into(), line: 30, col: 5 }),
            inlined_at: Vec::new(),
            who: Some(who),
        };
        let launch = Finding::launch(Kind::OutOfBounds, "out-of-bounds global load, 4 bytes".into(), "bad");
        let found = Finding { at: Some(site), ..launch };
        found.with_address(Space::Global, 0x7f01_0001_01ff, 4).with_buffer("x", 511, 512).with_hint("check the guard")
    }

    #[test]
    fn a_finding_reads_as_documented() {
        let text = finding(3, 1).to_text();
        let expected = "error[out-of-bounds]: out-of-bounds global load, 4 bytes
  at   kernels/pool.cu:30  in  bad  (ptx 1427: ld.global.f32 %f1, [%rd5];)
  by   block (1,0,0) thread (2,2,0)  [warp 1 lane 2]
  addr 0x7f01_0001_01ff (global) = \"x\" + 511 of 512 bytes: 3 byte(s) past the end
  hint check the guard
";
        assert_eq!(text, expected);
        let front = finding(3, 1).with_buffer("x", -4, 512).to_text();
        assert!(front.contains("\"x\" - 4 of 512 bytes: 4 byte(s) in front of it"), "{front}");
    }

    #[test]
    fn equal_findings_are_counted_and_others_capped() {
        let mut report = Report::new("bad");
        assert!(report.add(finding(3, 0)));
        assert!(!report.add(finding(3, 0)));
        assert!(report.repeat(Kind::OutOfBounds, 3, None, Some([1, 0, 0])));
        assert!(!report.repeat(Kind::Misaligned, 3, None, None));
        assert_eq!((report.findings[0].count, report.findings[0].blocks, report.errors), (3, 2, 3));
        assert!(report.to_text().contains("also 2 more times, in 2 blocks"));
        assert!(report.add(finding(1, 0).warning()));
        for pc in 10..40 {
            report.add(finding(pc, 0));
        }
        report.sort();
        assert_eq!((report.findings.len(), report.warnings.len(), report.omitted), (20, 1, 11));
        assert_eq!(report.findings[0].at.as_ref().map(|s| s.pc), Some(3));
        let mut twice = report.clone();
        twice.merge(report.clone());
        assert_eq!((twice.findings[0].count, twice.errors), (6, 2 * report.errors));
        assert_eq!(report.to_json()["findings"][0]["kind"], "out-of-bounds");
        assert_eq!(report.to_json()["findings"][0]["at"]["place"]["line"], 30);
    }

    #[test]
    fn names_are_those_of_json() {
        for kind in [Kind::OutOfBounds, Kind::UninitialisedRead, Kind::WriteToReadOnly, Kind::InFlightOverlap] {
            assert_eq!(serde_json::json!(kind), kind.name());
        }
    }
}
