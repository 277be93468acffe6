//! `report.html`: there after every run, finished or killed, and made again from folders.

use super::{Place, small};

/// The verdict's words, and whether the page is whole.
fn page(place: &Place, name: &str) -> String {
    let page = place.text(name);
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"), "{name} is whole");
    assert!(!page.contains("NaN") && !page.contains("http:") && !page.contains("https:"), "{name}");
    page
}

#[test]
fn a_run_leaves_its_report_and_its_folder_makes_the_same() {
    let place = Place::new();
    let out = place.ok(&small(&["train"], &[]));
    assert!(out.contains("report: run/report.html"), "{out}");
    let first = page(&place, "run/report.html");
    for words in [
        "emerged after 3 of 4 epochs",
        "No dense twin",
        "ticket p50, p30: epoch 3",
        "threshold 0.3",
        "feature.12",
        "Training FLOPs, modelled",
        "Seconds by phase, measured",
        "batch_size",
    ] {
        assert!(first.contains(words), "{words}");
    }
    assert_eq!(first.matches("data-heat=").count(), 2, "one heat map for each ratio");
    place.ok(&["report", "run", "--out", "again/page.html"]);
    assert_eq!(page(&place, "again/page.html"), first);
    // With its dense twin beside it, the verdict compares.
    place.ok(&small(&["train"], &["--dense=true", "--out", "twin"])
        .iter()
        .map(|a| if *a == "--dense=true" { "--dense" } else { a })
        .collect::<Vec<_>>());
    place.ok(&["report", "run"]);
    let with = page(&place, "run/report.html");
    assert!(with.contains("its dense twin (") && with.contains("test, dense twin") && !with.contains("No dense twin"));
    assert!(page(&place, "twin/report.html").contains("The dense network trained for 4 epochs"));
    place.ok(&["report", "run", "twin", "--out", "both.html"]);
    assert!(page(&place, "both.html").contains("its dense twin ("), "a twin is shown with its run");
}

#[test]
fn a_killed_run_has_a_report_and_so_has_its_folder() {
    let place = Place::new();
    let killed = place.command(&small(&["train"], &[])).env("EARLYBIRD_FAULT", "kill:state:3").output();
    assert_eq!(killed.unwrap().status.code(), None);
    assert!(page(&place, "run/report.html").contains("under way after 1 of 4 epochs"));
    place.ok(&["report", "run", "--out", "killed.html"]);
    assert!(page(&place, "killed.html").contains("under way after 1 of 4 epochs"));
    // Killed while the report itself is written: the old one stands.
    let place = Place::new();
    let killed = place.command(&small(&["train"], &[])).env("EARLYBIRD_FAULT", "kill:report:3").output();
    assert_eq!(killed.unwrap().status.code(), None);
    assert!(page(&place, "run/report.html").contains("under way after 1 of 4 epochs"));
    place.ok(&["report", "run", "run", "--out", "two.html"]);
    assert!(
        page(&place, "two.html").contains("under way after 2 of 4 epochs"),
        "the state was stored before the report"
    );
    place.ok(&["train", "--resume", "run"]);
    assert!(page(&place, "run/report.html").contains("emerged after 3 of 4 epochs"));
}

#[test]
fn names_that_are_html_stay_names() {
    let place = Place::new();
    let name = "<img src=x onerror=alert(1)>\"'&";
    place.ok(&small(&["train"], &["--epochs", "1", "--eps", "1", "--queue", "2", "--out", name, "--steps", "2"]));
    let page = page(&place, &format!("{name}/report.html"));
    assert!(!page.contains("<img") && page.contains("&lt;img src=x onerror=alert(1)&gt;&quot;&#39;&amp;"), "{page}");
}

#[test]
fn what_is_no_run_is_refused_with_words() {
    let place = Place::new();
    place.refuses(&["report", "nowhere"], &["nowhere", "holds no run"]);
    place.ok(&small(&["train"], &["--steps", "3"]));
    std::fs::write(place.path("run/metrics.csv"), "phase,epoch\nsearch,one\n").unwrap();
    place.refuses(&["report", "run"], &["metrics.csv", "line 2", "epoch"]);
    std::fs::write(place.path("run/summary.json"), "{}").unwrap();
    place.refuses(&["report", "run"], &["summary.json"]);
}
