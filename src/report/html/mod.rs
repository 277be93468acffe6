//! `report.html`: one file that needs nothing else, on a phone, on a desk and on paper.
//!
//! [`run_page`] is the report of one run, [`runs_page`] of several side by side, [`study_page`] of a study. Charts are our own inline SVG: they take their colours from the page (light, dark, print), carry
//! their values for the hover script, and have their numbers in a table; plotters writes fixed colours and bare shapes. What a run leaves as plots of their own is in
//! [`super::plot`]. No text of a user reaches the page but through `text::escape`, and a content policy in the page forbids every request.

mod axis;
mod bars;
mod compare;
mod cost;
mod dots;
mod energy;
mod figure;
mod heat;
mod lines;
mod record;
mod run;
mod study;
mod text;
mod verdict;

pub use record::{RunRecord, TrainingFlops};
pub use verdict::{Tone, Verdict, verdict};

use super::study::Study;
use text::escape;

/// Name of the file in a run folder.
pub const REPORT: &str = "report.html";

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// The report of one run; `twin` is the same network trained dense, if there is one.
pub fn run_page(run: &RunRecord, twin: Option<&RunRecord>) -> String {
    page(&format!("{} on {}", run.model(), run.data()), &lead(run), &run::sections(run, twin))
}

/// The report of several runs: a comparison first, then each. A dense run that is another one's twin is shown with it, not on its own.
pub fn runs_page(runs: &[RunRecord], twins: &[Option<usize>]) -> String {
    let twin = |i: usize| twins.get(i).copied().flatten().and_then(|twin| runs.get(twin));
    let hidden = |i: usize| twins.contains(&Some(i));
    let shown: Vec<usize> = (0..runs.len()).filter(|i| !hidden(*i)).collect();
    if let [only] = shown[..] {
        return run_page(&runs[only], twin(only));
    }
    let mut body = compare::sections(runs);
    for i in shown {
        body += &format!(
            "<h2 class=\"run\">{}</h2><p class=\"lead\">{}</p>",
            escape(&runs[i].name),
            escape(&lead(&runs[i]))
        );
        body += &run::sections(&runs[i], twin(i));
    }
    page(&format!("{} runs", runs.len()), "Early-Bird tickets, side by side", &body)
}

/// The report of a study.
pub fn study_page(study: &Study) -> String {
    let title = format!("Study: {}", study.kind);
    let data = std::path::Path::new(&study.data).file_name().map_or("data".into(), |name| name.to_string_lossy());
    let lead = format!(
        "{} x{} on {data}, {} epochs, {} seeds, on {}",
        study.model,
        study.width,
        study.epochs,
        study.seeds.len(),
        study.device
    );
    page(&title, &lead, &study::sections(study))
}

fn lead(run: &RunRecord) -> String {
    let what = match run.summary.task.as_str() {
        "dense" => "Dense training",
        "search" => "Early-Bird search",
        _ => "Early-Bird training",
    };
    format!("{what} on {}, seed {}", run.summary.device, run.summary.seed)
}

/// A whole page. `title` and `lead` are text, `body` is HTML.
fn page(title: &str, lead: &str, body: &str) -> String {
    let (title, lead) = (escape(title), escape(lead));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:\">\n\
         <meta name=\"generator\" content=\"earlybird {version}\">\n<title>{title} · earlybird</title>\n<link rel=\"icon\" href=\"data:,\">\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <header class=\"top\"><div><h1>{title}</h1><p>{lead}</p></div><button id=\"theme\" type=\"button\" hidden>Dark</button></header>\n\
         <main>{body}</main>\n\
         <footer>Written by earlybird {version}. Early-Bird tickets: arXiv 1909.11957. Charts show their values under the pointer and by arrow keys; the numbers are below each.</footer>\n\
         <script>\n{SCRIPT}</script>\n</body>\n</html>\n",
        version = env!("CARGO_PKG_VERSION")
    )
}

#[cfg(test)]
mod tests;
