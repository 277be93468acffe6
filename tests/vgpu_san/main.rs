//! The sanitizer against kernels written for it: those of `bad*.cu`/`.ptx` with one mistake each must give exactly the findings that are marked in them, line by
//! line; those of `good.cu` none, under every schedule. The PTX is committed (`make_ptx.py`), so this runs without NVRTC and without a GPU.

#![allow(clippy::unwrap_used, clippy::expect_used)] // clippy.toml allows them in test functions only, not in their helpers

mod cases;
#[path = "../common/mod.rs"]
mod common;

use std::collections::BTreeSet;

use cases::{Arg, Case, cases};
use earlybird::vgpu::device::{Device, Options};
use earlybird::vgpu::exec::Schedule;
use earlybird::vgpu::report::{Finding, Report, Site};

const BAD: (&str, &str) = (include_str!("bad.cu"), include_str!("bad.ptx"));
const BY_HAND: (&str, &str) = (include_str!("bad_by_hand.ptx"), include_str!("bad_by_hand.ptx"));
const GOOD: (&str, &str) = (include_str!("good.cu"), include_str!("good.ptx"));

/// Runs a case; the report, and the first buffer afterwards.
fn run(case: &Case, ptx: &str, schedule: Schedule) -> (Report, Vec<u8>) {
    let budget = case.budget.unwrap_or(10_000_000);
    let mut device = Device::new(Options { schedule, workers: 1, budget, ..Options::checked() });
    let module = device.load("self-test", ptx).unwrap();
    let kernel = device.kernel(module, &case.name).unwrap();
    let mut params: Vec<u8> = Vec::new();
    let mut first = None;
    for (i, arg) in case.args.iter().enumerate() {
        let name = format!("argument {i}");
        let buffer = |device: &mut Device, bytes: usize| device.alloc(bytes as u64, Some(&name)).unwrap();
        let value = match arg {
            Arg::U32(value) => {
                params.extend(value.to_le_bytes());
                continue;
            }
            Arg::Null => 0,
            Arg::Raw(bytes) => buffer(&mut device, *bytes),
            Arg::Freed(bytes) => {
                let address = buffer(&mut device, *bytes);
                assert!(device.free(address));
                address
            }
            Arg::BoxedFreed(bytes) => {
                let address = buffer(&mut device, *bytes);
                assert!(device.free(address));
                // A new buffer must not take the place of the old one.
                let boxed = buffer(&mut device, 8);
                device.write(boxed, &address.to_le_bytes()).unwrap();
                boxed
            }
            Arg::Zeros(_) | Arg::Bytes(_) | Arg::Ramp(..) => {
                let content = arg.content().unwrap();
                let address = buffer(&mut device, content.len());
                device.write(address, &content).unwrap();
                address
            }
        };
        if value != 0 && first.is_none() {
            first = Some((value, arg.bytes()));
        }
        let offset = if let Arg::Ramp(_, offset) = arg { *offset as u64 } else { 0 };
        params.resize(params.len().next_multiple_of(8), 0);
        params.extend((value + offset).to_le_bytes());
    }
    let outcome = device.launch(kernel, case.grid, case.block, case.shared, &params);
    let mut content = Vec::new();
    if let Some((address, bytes)) = first.filter(|(address, _)| device.place(*address).is_some_and(|p| p.live)) {
        content = vec![0; bytes];
        device.read(address, &mut content).unwrap();
    }
    (outcome.report, content)
}

/// The line of a site in the file of the cases: its own or that of the call it was inlined into; in a file without line information that of the PTX.
fn line(site: &Site) -> u32 {
    let chain = site.place.iter().chain(&site.inlined_at);
    let own = chain.filter(|place| place.file.ends_with(".cu")).map(|place| place.line).next_back();
    own.unwrap_or(site.ptx_line)
}

fn lines(findings: &[Finding]) -> BTreeSet<(String, u32)> {
    findings.iter().map(|f| (f.kind.name().to_string(), f.at.as_ref().map_or(0, line))).collect()
}

/// What is not as marked, in words; empty where all is.
fn compare(case: &Case, report: &Report) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut bad = case.bad.clone();
    bad.extend(case.expect.iter().map(|kind| (kind.clone(), 0)));
    let (found, warned) = (lines(&report.findings), lines(&report.warnings));
    if found != bad {
        wrong.push(format!("errors {found:?}, marked are {bad:?}"));
    }
    if warned != case.warn {
        wrong.push(format!("warnings {warned:?}, marked are {:?}", case.warn));
    }
    let all = report.findings.iter().chain(&report.warnings);
    let others: BTreeSet<u32> = all.filter_map(|f| f.other.as_ref()).map(line).collect();
    if !case.other.is_subset(&others) {
        wrong.push(format!("other accesses on {others:?}, marked are {:?}", case.other));
    }
    wrong
}

#[test]
fn bad_kernels_give_exactly_the_findings_marked_in_them() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for (text, ptx) in [BAD, BY_HAND] {
        for case in cases(text) {
            let marks = case.bad.len() + case.warn.len() + usize::from(case.expect.is_some());
            assert!(marks != 0, "{} expects nothing", case.name);
            let (report, _) = run(&case, ptx, Schedule::Converge);
            count += 1;
            for what in compare(&case, &report) {
                wrong.push(format!("{}: {what}\n{}", case.name, report.to_text()));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count >= 35, "{count} bad kernels");
    println!("{count} bad kernels, each with exactly the findings marked");
}

#[test]
fn bad_kernels_are_bad_under_every_schedule() {
    for (text, ptx) in [BAD, BY_HAND] {
        for case in cases(text) {
            for schedule in [Schedule::Reverse, Schedule::Random(1), Schedule::Random(2)] {
                let (report, _) = run(&case, ptx, schedule);
                let found = !report.is_clean() || (case.bad.is_empty() && !report.warnings.is_empty());
                assert!(found, "{} under {schedule:?}: {}", case.name, report.to_text());
            }
        }
    }
}

#[test]
fn good_kernels_give_none_under_any_schedule_and_compute_what_they_should() {
    let mut wrong = Vec::new();
    let list = cases(GOOD.0);
    for case in &list {
        let mut first: Option<Vec<u8>> = None;
        let random = (1..4).map(Schedule::Random);
        for schedule in [Schedule::Converge, Schedule::Reverse].into_iter().chain(random) {
            let (report, content) = run(case, GOOD.1, schedule);
            for what in compare(case, &report) {
                wrong.push(format!("{} under {schedule:?}: {what}\n{}", case.name, report.to_text()));
            }
            let expected: Vec<u8> = case.out.iter().flat_map(|word| word.to_le_bytes()).collect();
            let words: Vec<u32> =
                content.chunks_exact(4).map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]])).collect();
            if !content.starts_with(&expected) {
                let n = case.out.len().min(words.len());
                wrong.push(format!("{} under {schedule:?}: {:?}, expected {:?}", case.name, &words[..n], case.out));
            }
            if *first.get_or_insert(content.clone()) != content {
                wrong.push(format!("{}: another result under {schedule:?}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(list.len() >= 35, "{} good kernels", list.len());
    println!("{} good kernels, nothing found under 5 schedules", list.len());
}

#[test]
fn committed_ptx_is_that_of_the_sources() {
    for (name, source, ptx) in [("bad.cu", BAD.0, BAD.1), ("good.cu", GOOD.0, GOOD.1)] {
        let mut crc = flate2::Crc::new();
        crc.update(include_bytes!("common.cuh"));
        crc.update(source.as_bytes());
        let expected = format!("// crc32 {:08x} of common.cuh and {name}", crc.sum());
        assert_eq!(ptx.lines().next(), Some(expected.as_str()), "run tests/vgpu_san/make_ptx.py");
    }
}

#[test]
fn ptxas_accepts_every_kernel() {
    if !common::have_ptxas("self-test kernels") {
        return;
    }
    let ptxas = earlybird::driver::ptxas::Tool::ptxas().unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (name, ptx) in [("bad", BAD.1), ("bad_by_hand", BY_HAND.1), ("good", GOOD.1)] {
        for arch in ["sm_80", "sm_86", "sm_89", "sm_90"] {
            let answer = ptxas.assemble(name, ptx, arch, &folder.path().join("cubin"));
            assert!(answer.is_ok(), "{name} for {arch}: {:?}", answer.err().map(|e| e.to_string()));
        }
    }
}
