//! `earlybird vgpu mutate`: how much of what a kernel needs would its launch miss? Every mutant runs as the kernel would, with checks; it is noticed where the
//! sanitizer objects or a buffer ends up different. Not here: making mutants ([`crate::vgpu::mutate`]).

use std::collections::BTreeMap;

use super::args::{Argument, Value};
use super::{DONE, FINDINGS, RunArgs, load_error, say};
use crate::vgpu::device::{Device, LoadError, Options};
use crate::vgpu::mutate::{Mutant, mutants};
use crate::vgpu::ptx::parse;
use crate::vgpu::report::Report;
use crate::vgpu::san::CheckOptions;
use crate::{Error, Result};

/// What a launch came to: its report, all buffers afterwards, and instructions executed.
type Trial = (Report, Vec<Vec<u8>>, u64);

pub(super) fn run(mut args: RunArgs) -> Result<u8> {
    let (file, text) = args.read()?;
    let options = Options { check: Some(CheckOptions::default()), profile: false, ..args.options()? };
    let arguments: Vec<Argument> = args.arguments.iter().map(|a| Argument::parse(a)).collect::<Result<_>>()?;
    let mut device = Device::new(options.clone());
    let module = device.load(&file.display().to_string(), &text).map_err(|e| load_error(&file, e))?;
    let name = args.kernel_name(&device.entries(module))?;
    let trial = |text: &str, budget: u64| launch(&args, Options { budget, ..options.clone() }, &name, text, &arguments);
    let (report, expected, instructions) = trial(&text, args.budget)?.map_err(|e| load_error(&file, e))?;
    if !report.is_clean() {
        say(report.to_text().trim_end());
        let what = "the kernel has findings as it is".to_string();
        return Err(Error::bad_setting("vgpu mutate", what, "mend them first: earlybird vgpu run --check"));
    }
    let tree = parse(&text).map_err(|error| load_error(&file, LoadError::Parse { name: name.clone(), error }))?;
    // A mutant that loops must not loop for hours.
    let budget = args.budget.min(instructions.saturating_mul(20).max(1_000_000));
    let mut rows = Vec::new();
    for mutant in mutants(&tree, &text, &name) {
        let how = match trial(&mutant.ptx(&text), budget)? {
            Err(_) => Some("refused".to_string()),
            Ok((report, _, _)) if !report.is_clean() => report.findings.first().map(|f| f.kind.name().to_string()),
            Ok((_, buffers, _)) => (buffers != expected).then(|| "another result".to_string()),
        };
        rows.push((mutant, how));
    }
    tell(&args, &name, &rows);
    Ok(if rows.iter().all(|(_, how)| how.is_some()) { DONE } else { FINDINGS })
}

/// Launches the kernel of `text` on a fresh device; the inner error is a module that cannot be loaded.
fn launch(
    args: &RunArgs,
    options: Options,
    name: &str,
    text: &str,
    arguments: &[Argument],
) -> Result<std::result::Result<Trial, LoadError>> {
    let mut device = Device::new(options);
    let kernel = match device.load(name, text).and_then(|module| device.kernel(module, name)) {
        Ok(kernel) => kernel,
        Err(error) => return Ok(Err(error)),
    };
    let values = arguments.iter().map(|a| a.place(&mut device)).collect::<Result<Vec<_>>>()?;
    let outcome = args.launch(&mut device, kernel, &values);
    let mut buffers = Vec::new();
    for value in &values {
        if let Value::Buffer { address, bytes, .. } = value {
            let mut data = vec![0; *bytes as usize];
            device.read(*address, &mut data).map_err(|e| Error::bad_setting("vgpu mutate", e.to_string(), ""))?;
            buffers.push(data);
        }
    }
    Ok(Ok((outcome.report, buffers, outcome.instructions)))
}

fn tell(args: &RunArgs, name: &str, rows: &[(Mutant, Option<String>)]) {
    let found = rows.iter().filter(|(_, how)| how.is_some()).count();
    let line = |mutant: &Mutant| match mutant.source.first() {
        Some((file, line)) => format!("{file}:{line}"),
        None => format!("ptx:{}", mutant.ptx_line),
    };
    if args.json {
        let list: Vec<_> = rows
            .iter()
            .map(|(mutant, how)| {
                serde_json::json!({
                    "cut": mutant.cut.name(),
                    "ptx_line": mutant.ptx_line,
                    "line": line(mutant),
                    "text": mutant.text,
                    "noticed": how,
                })
            })
            .collect();
        return say(serde_json::json!({ "kernel": name, "mutants": rows.len(), "noticed": found, "list": list }));
    }
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for (mutant, how) in rows {
        let verdict = how.as_deref().unwrap_or("NOT NOTICED");
        *kinds.entry(verdict).or_default() += 1;
        let (cut, text, ptx) = (mutant.cut.name(), &mutant.text, mutant.ptx_line);
        say(format_args!("{verdict:<20} without the {cut} `{text}` at {} (ptx {ptx})", line(mutant)));
    }
    let kinds: Vec<String> = kinds.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
    say(format_args!("{name}: {found} of {} mutants noticed ({})", rows.len(), kinds.join(", ")));
}
