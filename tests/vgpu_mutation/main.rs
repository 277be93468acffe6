//! The mutation test: takes every barrier, every wait for `cp.async` and every bounds guard out of every kernel of the project, one at a time, and runs a case of
//! that kernel on the virtual GPU. The sanitizer must object, or the result must differ; every mutant that goes unseen is in `reasons.rs` with why it makes no difference. Of all mutants
//! 85% must be found: the others are guards that are proven not to matter, in as many copies as the compiler has made of them.
//!
//! Compilers unroll, and kernels have variants: `cargo test` takes a sample, the same every time (see [`sample`]; the score says how many of how many). All of them:
//! `EARLYBIRD_MUTANTS=all cargo test --release --test vgpu_mutation -- --nocapture`; those of a few kernels: `EARLYBIRD_MUTANTS_OF=mask,augment`, of which no share is asked.

#![allow(clippy::unwrap_used, clippy::expect_used)] // clippy.toml allows them in test functions only, not in their helpers

mod bench;
mod cases;
#[path = "../common/mod.rs"]
mod common;
mod int8;
mod operators;
mod reasons;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use earlybird::driver::kernels::{Entry, MODULES, Module};
use earlybird::vgpu::mutate::{Cut, Mutant, mutants};
use rayon::prelude::*;

use bench::{Case, Plan, Stop};
use reasons::Site;

/// Share of mutants that must be found.
const SHARE: f64 = 0.85;
/// Of a sample: guards of one place, and mutants of a kernel.
const OF_A_PLACE: u32 = 2;
const OF_A_KERNEL: usize = 40;

/// Whether every mutant is wanted.
fn all_mutants() -> bool {
    std::env::var("EARLYBIRD_MUTANTS").as_deref() == Ok("all")
}

/// Whether mutants of this kernel are wanted: `EARLYBIRD_MUTANTS_OF=mask,augment` names parts of kernels' names.
fn is_wanted(kernel: &str) -> bool {
    std::env::var("EARLYBIRD_MUTANTS_OF").map_or(true, |parts| parts.split(',').any(|part| kernel.contains(part)))
}

/// PTX of a module with these entries alone: what the others need stays, and costs little.
fn only(ptx: &str, kernels: &BTreeSet<String>) -> String {
    let mut skips = false;
    let lines = ptx.split_inclusive('\n').filter(|line| {
        if let Some(entry) = line.strip_prefix(".visible .entry ") {
            skips = !kernels.contains(entry.split('(').next().unwrap_or_default().trim());
        }
        let keeps = !skips;
        skips &= line.trim_end() != "}";
        keeps
    });
    lines.collect()
}

/// How a mutant was found, or that it was not.
fn verdict(result: Result<(), Stop>) -> Option<String> {
    match result {
        Ok(()) => None,
        Err(Stop::Different) => Some("another result".into()),
        Err(Stop::Failed(detail)) => {
            let kind = detail.split_once("error[").and_then(|(_, rest)| rest.split(']').next());
            Some(kind.unwrap_or("refused").into())
        }
    }
}

/// The innermost line of the project's own source and the calls around it.
fn place(mutant: &Mutant) -> String {
    let own = mutant.source.iter().filter(|(file, line)| *line != 0 && file.contains("kernels/"));
    let lines: Vec<String> = own.map(|(file, line)| format!("{file}:{line}")).collect();
    if lines.is_empty() { format!("ptx:{}", mutant.ptx_line) } else { lines.join(" < ") }
}

/// The innermost line of the project's own source, and what is around it as in [`reasons::Site`].
fn source(mutant: &Mutant) -> (String, String) {
    let text = |file: &str| {
        let name = file.rsplit("kernels/").next().unwrap_or_default();
        std::fs::read_to_string(common::root().join("kernels").join(name)).unwrap_or_default()
    };
    let (mut lines, mut around) = (Vec::new(), vec![mutant.text.clone()]);
    for (file, line) in mutant.source.iter().filter(|(file, line)| *line != 0 && file.contains("kernels/")) {
        let (text, at) = (text(file), *line as usize - 1);
        let line = |i: usize| text.lines().nth(i).unwrap_or_default().trim().to_string();
        if lines.is_empty() {
            around.push(format!("before: {}\nafter: {}", line(at.saturating_sub(1)), line(at + 1)));
        }
        lines.push(line(at));
    }
    around.extend(lines.iter().skip(1).cloned());
    (lines.into_iter().next().unwrap_or_default(), around.join("\n"))
}

/// Two guards of each place and all of everything else; of those, where they are more, 40 at even distances.
fn sample(list: Vec<Mutant>) -> Vec<Mutant> {
    if all_mutants() {
        return list;
    }
    let mut seen: HashMap<String, u32> = HashMap::new();
    let few = list.into_iter().filter(|mutant| {
        let count = seen.entry(place(mutant)).or_default();
        *count += u32::from(mutant.cut == Cut::Guard);
        mutant.cut != Cut::Guard || *count <= OF_A_PLACE
    });
    let few: Vec<Mutant> = few.collect();
    let (n, most) = (few.len(), few.len().min(OF_A_KERNEL));
    let chosen: BTreeSet<usize> = (0..most).map(|i| i * n / most).collect();
    few.into_iter().enumerate().filter(|(i, _)| chosen.contains(i)).map(|(_, mutant)| mutant).collect()
}

#[derive(Default)]
struct Tally {
    kernel: &'static str,
    /// Mutants that there are, and those that were tried.
    of: usize,
    mutants: usize,
    found: BTreeMap<String, usize>,
    /// Survivors with a reason, and without.
    explained: Vec<String>,
    missed: Vec<String>,
}

fn examine(module: &'static Module, entry: &Entry, case: Case) -> Tally {
    let plan = Plan::of(entry.name, case).unwrap_or_else(|stop| panic!("{} as it is: {stop:?}", entry.name));
    assert!(!plan.is_empty(), "{} gives nothing to compare", entry.name);
    let text = only(module.ptx, &plan.kernels);
    let again = plan.follow(module.name, text.clone(), case);
    assert!(again.is_ok(), "{} as it is, once more: {again:?}", entry.name);
    let ast = earlybird::vgpu::ptx::parse(&text).unwrap();
    let list = mutants(&ast, &text, entry.name);
    let mut tally = Tally { kernel: entry.name, of: list.len(), ..Tally::default() };
    let list = sample(list);
    tally.mutants = list.len();
    let run = |mutant: &Mutant| verdict(plan.follow(module.name, mutant.ptx(&text), case));
    let verdicts: Vec<Option<String>> = list.par_iter().map(run).collect();
    for (mutant, verdict) in list.iter().zip(verdicts) {
        match verdict {
            Some(how) => *tally.found.entry(how).or_default() += 1,
            None => {
                let ((line, around), place, cut) = (source(mutant), place(mutant), mutant.cut);
                let what = format!("{}: {} `{}` at {place}: {line}", entry.name, cut.name(), mutant.text);
                let site = Site { cut, kernel: entry.name, place: &place, line: &line, around: &around };
                match reasons::reason(&site) {
                    Some(why) => tally.explained.push(format!("{what}\n      {why}")),
                    None => tally.missed.push(what),
                }
            }
        }
    }
    tally
}

#[test]
fn nearly_all_mutants_of_the_kernels_are_found() {
    if !common::have_kernels("mutation test") {
        return;
    }
    let wanted = MODULES.iter().flat_map(|module| module.entries.iter().map(move |entry| (module, entry)));
    let wanted: Vec<_> = wanted.filter(|(_, entry)| is_wanted(entry.name)).collect();
    let (mut jobs, mut uncovered) = (Vec::new(), Vec::new());
    for (module, entry) in wanted {
        match cases::case(entry.name) {
            Some(case) => jobs.push((module, entry, case)),
            None => uncovered.push(entry.name),
        }
    }
    let tallies: Vec<Tally> = jobs.into_par_iter().map(|(module, entry, case)| examine(module, entry, case)).collect();
    println!("{:<28} {:>7} {:>7} {:>6}  how", "kernel", "mutants", "tried", "found");
    let mut all = Tally::default();
    for tally in tallies {
        let how: Vec<String> = tally.found.iter().map(|(how, n)| format!("{n} {how}")).collect();
        let found: usize = tally.found.values().sum();
        println!("{:<28} {:>7} {:>7} {found:>6}  {}", tally.kernel, tally.of, tally.mutants, how.join(", "));
        all.of += tally.of;
        all.mutants += tally.mutants;
        for (how, n) in tally.found {
            *all.found.entry(how).or_default() += n;
        }
        all.explained.extend(tally.explained);
        all.missed.extend(tally.missed);
    }
    let found: usize = all.found.values().sum();
    let share = found as f64 / all.mutants.max(1) as f64;
    let sampled = match all_mutants() {
        true => "all that there are".to_string(),
        false => format!(
            "a sample of {}: at most {OF_A_PLACE} guards of a place and {OF_A_KERNEL} mutants of a kernel; EARLYBIRD_MUTANTS=all takes all",
            all.of
        ),
    };
    println!("{found} of {} mutants found ({:.1}%); {sampled}", all.mutants, 100.0 * share);
    println!("make no difference, {}:\n  {}", all.explained.len(), all.explained.join("\n  "));
    assert!(uncovered.is_empty(), "kernels without a case: {}", uncovered.join(", "));
    assert!(all.missed.is_empty(), "{} not found and without a reason:\n{}", all.missed.len(), all.missed.join("\n"));
    let few = std::env::var_os("EARLYBIRD_MUTANTS_OF").is_some();
    assert!(few || share >= SHARE, "{found} of {} mutants found", all.mutants);
}

#[test]
fn the_command_tells_which_mutants_a_launch_notices() {
    let good = common::root().join("tests/vgpu_san/good.ptx");
    let mutate = |kernel: &str, more: &[&str]| {
        let mut arguments = vec!["vgpu", "mutate", good.to_str().unwrap(), "--kernel", kernel, "--block", "64"];
        arguments.extend(more);
        common::outcome(common::earlybird(&arguments).output().unwrap())
    };
    let (code, out, err) = mutate("reverse_through_shared", &["--arg", "tmp:256"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("without the barrier `bar.sync 0` at good.cu:"), "{out}");
    assert!(out.contains("reverse_through_shared: 1 of 1 mutants noticed (1 shared-race)"), "{out}");
    // The guard of a whole number of blocks guards nothing.
    let list = ["--grid", "2", "--arg", "tmp:512", "tmp:512", "u32:128", "--json"];
    let (code, out, err) = mutate("guarded_tail", &list);
    // Its input is undefined: that is found before any mutant.
    assert_eq!(code, 2, "{out}{err}");
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in");
    std::fs::write(&input, [0; 512]).unwrap();
    let input = format!("in:{}", input.display());
    let list = ["--grid", "2", "--json", "--arg", "tmp:512", &input, "u32:128"];
    let (code, out, err) = mutate("guarded_tail", &list);
    assert_eq!(code, 1, "{out}{err}");
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&json["mutants"], &json["noticed"]), (&1.into(), &0.into()), "{json}");
    assert_eq!(json["list"][0]["cut"], "bounds guard");
    let list = ["--grid", "2", "--arg", "tmp:508", &input, "u32:127"];
    assert_eq!(mutate("guarded_tail", &list).0, 0);
}
