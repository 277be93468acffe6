//! The mutation test: takes every barrier, every wait for `cp.async` and every bounds guard out of every kernel of the project, one at a time, and runs a case of
//! that kernel on the virtual GPU. The sanitizer must object, or the result must differ, for at least 95% of all mutants; every other one is in `reasons.rs` with
//! why it makes no difference.
//!
//! Compilers unroll: of the guards that come from one place in the source, `cargo test` takes two of each kernel (and asks for 90%, for those that make no
//! difference are not unrolled). All of them, with the table:
//! `EARLYBIRD_MUTANTS=all cargo test --release --test vgpu_mutation -- --nocapture`; those of a few kernels: `EARLYBIRD_MUTANTS_OF=mask,augment`, of which no share is asked.

#![allow(clippy::unwrap_used, clippy::expect_used)] // clippy.toml allows them in test functions only, not in their helpers

mod cases;
#[path = "../common/mod.rs"]
mod common;
mod operators;
mod reasons;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use earlybird::driver::kernels::{Entry, MODULES, Module};
use earlybird::driver::observe::Observed;
use earlybird::driver::vgpu::Vgpu;
use earlybird::vgpu::device::Options;
use earlybird::vgpu::mutate::{Cut, Mutant, mutants};

/// Share of mutants that must be found: of all, and of the sample.
const SHARE: [f64; 2] = [0.95, 0.90];

/// Whether every mutant is wanted.
fn all_mutants() -> bool {
    std::env::var("EARLYBIRD_MUTANTS").as_deref() == Ok("all")
}

/// Whether mutants of this kernel are wanted: `EARLYBIRD_MUTANTS_OF=mask,augment` names parts of kernels' names.
fn is_wanted(kernel: &str) -> bool {
    std::env::var("EARLYBIRD_MUTANTS_OF").map_or(true, |parts| parts.split(',').any(|part| kernel.contains(part)))
}

/// Runs a case with the module's PTX replaced: the results, or what the device said.
fn run(module: &'static str, ptx: &str, case: cases::Case) -> Result<Vec<u8>, String> {
    let options = Options { budget: 3_000_000, workers: 1, ..Options::checked() };
    let driver = Observed::new(Arc::new(Vgpu::new(options)), common::Swap { module, ptx: ptx.into() });
    let bench = cases::Bench::new(Arc::new(driver)).map_err(|e| e.to_string())?;
    case(&bench).map_err(|e| e.to_string())
}

/// How a mutant was found, or that it was not.
fn verdict(expected: &[u8], result: Result<Vec<u8>, String>) -> Option<String> {
    match result {
        Ok(bytes) if bytes == expected => None,
        Ok(_) => Some("another result".into()),
        Err(detail) => {
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

/// The text of the innermost line of the project's own source.
fn source_line(mutant: &Mutant) -> String {
    let own = mutant.source.iter().find(|(file, line)| *line != 0 && file.contains("kernels/"));
    let Some((file, line)) = own else { return String::new() };
    let name = file.rsplit("kernels/").next().unwrap_or_default();
    let path = common::root().join("kernels").join(name);
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().nth(*line as usize - 1).unwrap_or_default().trim().to_string()
}

/// Two guards of each place; all of everything else.
fn sample(list: Vec<Mutant>) -> Vec<Mutant> {
    let mut seen: HashMap<String, u32> = HashMap::new();
    let all = all_mutants();
    list.into_iter()
        .filter(|mutant| {
            let count = seen.entry(place(mutant)).or_default();
            *count += u32::from(mutant.cut == Cut::Guard);
            all || mutant.cut != Cut::Guard || *count <= 2
        })
        .collect()
}

#[derive(Default)]
struct Tally {
    mutants: usize,
    found: BTreeMap<String, usize>,
    /// Survivors with a reason, and without.
    explained: Vec<String>,
    missed: Vec<String>,
}

fn examine(module: &'static Module, entry: &Entry, case: cases::Case, tally: &mut Tally) {
    let ast = earlybird::vgpu::ptx::parse(module.ptx).unwrap();
    let expected = run(module.name, module.ptx, case).unwrap_or_else(|e| panic!("{} as it is: {e}", entry.name));
    assert!(!expected.is_empty(), "{} gives nothing to compare", entry.name);
    for mutant in sample(mutants(&ast, module.ptx, entry.name)) {
        tally.mutants += 1;
        match verdict(&expected, run(module.name, &mutant.ptx, case)) {
            Some(how) => *tally.found.entry(how).or_default() += 1,
            None => {
                let (line, cut) = (source_line(&mutant), mutant.cut.name());
                let what = format!("{}: {cut} `{}` at {}: {line}", entry.name, mutant.text, place(&mutant));
                match reasons::reason(mutant.cut, &place(&mutant), &line) {
                    Some(why) => tally.explained.push(format!("{what}\n      {why}")),
                    None => tally.missed.push(what),
                }
            }
        }
    }
}

#[test]
fn nearly_all_mutants_of_the_kernels_are_found() {
    if !common::have_kernels("mutation test") {
        return;
    }
    let mut all = Tally::default();
    let mut uncovered = Vec::new();
    println!("{:<28} {:>7} {:>6}  how", "kernel", "mutants", "found");
    for module in MODULES {
        for entry in module.entries.iter().filter(|entry| is_wanted(entry.name)) {
            let Some(case) = cases::case(entry.name) else {
                uncovered.push(entry.name);
                continue;
            };
            let mut tally = Tally::default();
            examine(module, entry, case, &mut tally);
            let found: usize = tally.found.values().sum();
            let how: Vec<String> = tally.found.iter().map(|(how, n)| format!("{n} {how}")).collect();
            println!("{:<28} {:>7} {found:>6}  {}", entry.name, tally.mutants, how.join(", "));
            all.mutants += tally.mutants;
            for (how, n) in tally.found {
                *all.found.entry(how).or_default() += n;
            }
            all.explained.extend(tally.explained);
            all.missed.extend(tally.missed);
        }
    }
    let found: usize = all.found.values().sum();
    let share = found as f64 / all.mutants.max(1) as f64;
    println!("{found} of {} mutants found ({:.1}%)", all.mutants, 100.0 * share);
    println!("make no difference, {}:\n  {}", all.explained.len(), all.explained.join("\n  "));
    println!("kernels without a case: {}", if uncovered.is_empty() { "none".into() } else { uncovered.join(", ") });
    assert!(!all_mutants() || uncovered.is_empty(), "kernels without a case: {}", uncovered.join(", "));
    assert!(all.missed.is_empty(), "not found and without a reason:\n{}", all.missed.join("\n"));
    let few = std::env::var_os("EARLYBIRD_MUTANTS_OF").is_some();
    assert!(few || share >= SHARE[usize::from(!all_mutants())], "{found} of {} mutants found", all.mutants);
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
