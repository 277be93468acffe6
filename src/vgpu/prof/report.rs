//! A [`Summary`] and its bounds as text and as JSON.

use std::fmt::Write as _;

use super::arch::{ALL, Arch};
use super::model::{self, Bound};
use super::{Global, Summary};

impl Summary {
    /// The bounds for every GPU known.
    pub fn bounds(&self) -> Vec<Bound> {
        ALL.iter().map(|arch| model::bound(self, arch)).collect()
    }

    /// The bound for one GPU.
    pub fn bound(&self, arch: &Arch) -> Bound {
        model::bound(self, arch)
    }

    /// Counts and bounds as JSON.
    pub fn to_json(&self) -> serde_json::Value {
        let mut json = serde_json::json!(self);
        let classes: serde_json::Map<_, _> = self
            .classes
            .iter()
            .map(|(class, n)| {
                let name = serde_json::json!(class).as_str().unwrap_or_default().to_string();
                (name, serde_json::json!(n))
            })
            .collect();
        json["classes"] = classes.into();
        json["simt_efficiency"] = self.simt_efficiency().into();
        json["shared"]["conflicts"] = self.shared.wavefronts.saturating_sub(self.shared.ideal).into();
        json["modelled"] = serde_json::json!(self.bounds());
        json
    }

    /// Counts and bounds for people.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        let all = self.issued();
        let ([gx, gy, gz], [bx, by, bz]) = (self.grid, self.block);
        let _ = writeln!(
            out,
            "profile of {}: grid {gx}x{gy}x{gz}, block {bx}x{by}x{bz}, {} B shared per block",
            self.kernel, self.shared_bytes
        );
        let _ = writeln!(
            out,
            "  instructions   {} by warps, {} by lanes, {:.1}% of lanes at work",
            all.warps,
            all.lanes,
            100.0 * self.simt_efficiency()
        );
        let mut classes = self.classes.clone();
        classes.sort_by_key(|(class, n)| (std::cmp::Reverse(n.warps), *class));
        for (class, n) in classes {
            let name = serde_json::json!(class).as_str().unwrap_or_default().to_string();
            let _ = writeln!(
                out,
                "    {name:12} {:>14}  {:5.1}%",
                n.warps,
                100.0 * n.warps as f64 / all.warps.max(1) as f64
            );
        }
        for (name, g) in [("read", &self.global_read), ("written", &self.global_write)] {
            let _ = writeln!(out, "  global {name:8}{}", global(g));
        }
        let s = &self.shared;
        let conflicts = s.wavefronts.saturating_sub(s.ideal);
        let _ = writeln!(
            out,
            "  shared         {} wavefronts, {} without bank conflicts ({conflicts} conflicts)",
            s.wavefronts, s.ideal
        );
        for m in &self.mma {
            let _ = writeln!(out, "  mma            {} x {} ({} multiply-adds)", m.count, m.form, m.count * m.macs);
        }
        let _ = writeln!(
            out,
            "  control        {} barrier arrivals, {} divergent branches",
            self.barriers, self.divergent_branches
        );
        let _ = writeln!(out, "  least time, modelled (roofline at peak rates, nothing measured):");
        for (arch, b) in ALL.iter().zip(self.bounds()) {
            let _ = writeln!(
                out,
                "    {:17} >= {}, bound by {}; >= {} where L2 keeps nothing",
                arch.title,
                time(b.seconds),
                b.limit,
                time(b.seconds_without_l2)
            );
        }
        out
    }
}

fn global(g: &Global) -> String {
    let asked = 32.0 * g.sectors as f64;
    let used = if g.sectors == 0 { String::new() } else { format!(", {:.0}% used", 100.0 * g.bytes as f64 / asked) };
    format!(
        "{} B by {} requests, {} sectors of 32 B{used}, footprint {} B",
        g.bytes,
        g.requests,
        g.sectors,
        32 * g.footprint_sectors
    )
}

/// A time in the unit that reads best.
fn time(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.1} us", s * 1e6),
        s if s < 1.0 => format!("{:.2} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Class, Issued, SharedAccess};
    use super::*;

    #[test]
    fn text_and_json_say_that_times_are_modelled() {
        let summary = Summary {
            kernel: "k".into(),
            grid: [2, 1, 1],
            block: [32, 1, 1],
            classes: vec![(Class::LoadGlobal, Issued { warps: 2, lanes: 33 })],
            global_read: Global { requests: 2, bytes: 132, sectors: 5, footprint_sectors: 4 },
            shared: SharedAccess { wavefronts: 3, ideal: 2 },
            ..Summary::default()
        };
        let text = summary.to_text();
        assert!(
            text.contains("modelled") && text.contains("51.6% of lanes") && text.contains("(1 conflicts)"),
            "{text}"
        );
        let json = summary.to_json();
        assert_eq!(json["classes"]["load_global"]["lanes"], 33);
        assert_eq!(json["shared"]["conflicts"], 1);
        for bound in json["modelled"].as_array().unwrap() {
            assert_eq!(bound["kind"], "modelled");
        }
    }
}
