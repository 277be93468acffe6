//! `earlybird vgpu run`: any kernel of any PTX file on the virtual GPU, checked and counted, with buffers from and to files.

mod args;
mod mutate;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{DONE, FINDINGS, say, warn};
use crate::driver::vgpu as names;
use crate::vgpu::device::{BUDGET, Device, KernelId, LoadError, Options};
use crate::vgpu::exec::Outcome;
use crate::vgpu::limits::{ALL, Limits};
use crate::vgpu::report::Report;
use crate::vgpu::san::CheckOptions;
use crate::{Error, Result, fsio};
use args::{Argument, Value};

/// `earlybird vgpu`.
#[derive(Subcommand)]
pub enum VgpuCommand {
    /// Run a kernel of a PTX file; exit code 1 where something is wrong with it
    Run(Box<RunArgs>),
    /// Take out every barrier, copy wait and bounds guard of a kernel in turn and run each mutant with checks; exit code 1 where one goes unnoticed
    Mutate(Box<RunArgs>),
}

/// Arguments of `vgpu run`.
#[derive(Args)]
pub struct RunArgs {
    /// PTX file
    file: Option<PathBuf>,
    /// Kernel to run; may be left out where the file has only one
    #[arg(long)]
    kernel: Option<String>,
    /// Blocks: X, X,Y or X,Y,Z
    #[arg(long, default_value = "1", value_parser = args::dims)]
    grid: [u32; 3],
    /// Threads per block: X, X,Y or X,Y,Z
    #[arg(long, default_value = "1", value_parser = args::dims)]
    block: [u32; 3],
    /// Dynamic shared memory per block in bytes
    #[arg(long, default_value_t = 0)]
    shared: u32,
    /// Kernel arguments in order: u8: i8: u16: i16: u32: i32: u64: i64: f16: bf16: f32: f64: and a number; in:FILE, out:BYTES:FILE,
    /// inout:FILE[:OUTFILE], tmp:BYTES (buffers); bytes:FILE (a struct by value); null
    #[arg(long = "arg", value_name = "ARG", num_args = 1..)]
    arguments: Vec<String>,
    /// Check everything: bounds, uninitialised reads, races, barriers
    #[arg(long)]
    check: bool,
    /// Count instructions, traffic and bank conflicts, with a modelled lower bound on the time
    #[arg(long)]
    profile: bool,
    /// Order of execution: converge, reverse or random:SEED
    #[arg(long, default_value = "converge")]
    schedule: String,
    /// GPU that limits and models are those of: a100, h100, rtx4090
    #[arg(long, default_value = "a100")]
    gpu: String,
    /// Sums of float mma: fast, ref, sm80, sm90
    #[arg(long, default_value = "fast")]
    mma: String,
    /// Seed of an error added to approximate functions within the ISA's bounds; 0 adds none
    #[arg(long, default_value_t = 0)]
    jitter: u64,
    /// Worker threads; 0 takes all cores
    #[arg(long, default_value_t = 0)]
    workers: usize,
    /// Warp instructions after which the launch is stopped
    #[arg(long, default_value_t = BUDGET)]
    budget: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl VgpuCommand {
    /// Runs the command; the exit code.
    ///
    /// # Errors
    /// Files that cannot be read or written, PTX that is wrong (2) or has an instruction unknown here (3), arguments that mean nothing.
    pub fn run(self) -> Result<u8> {
        match self {
            VgpuCommand::Run(args) => args.run(),
            VgpuCommand::Mutate(args) => mutate::run(*args),
        }
    }
}

impl RunArgs {
    fn run(mut self) -> Result<u8> {
        let (file, text) = self.read()?;
        let options = self.options()?;
        let arguments: Vec<Argument> = self.arguments.iter().map(|a| Argument::parse(a)).collect::<Result<_>>()?;
        let load = |error: LoadError| load_error(&file, error);
        let mut device = Device::new(options);
        let module = device.load(&file.display().to_string(), &text).map_err(load)?;
        let name = self.kernel_name(&device.entries(module))?;
        let kernel = device.kernel(module, &name).map_err(load)?;
        let values = arguments.iter().map(|a| a.place(&mut device)).collect::<Result<Vec<_>>>()?;
        let names: Vec<String> = device.code(kernel).params.iter().map(|p| p.name.clone()).collect();
        for ((value, name), text) in values.iter().zip(names).zip(&self.arguments) {
            if let Value::Buffer { address, .. } = value {
                device.set_label(*address, &format!("{name} ({text})"));
            }
        }
        let outcome = self.launch(&mut device, kernel, &values);
        self.tell(&device, kernel, &outcome)?;
        // A launch that was refused has computed nothing; one that failed half way has.
        if outcome.instructions > 0 {
            for value in &values {
                write_back(&device, value)?;
            }
        }
        Ok(if outcome.report.is_clean() { DONE } else { FINDINGS })
    }

    /// Launches a kernel with arguments that are on the device; arguments that do not fit are in the outcome's report.
    fn launch(&self, device: &mut Device, kernel: KernelId, values: &[Value]) -> Outcome {
        if self.shared > 0 {
            device.set_shared(kernel, self.shared); // where that is too much, the launch says so
        }
        match args::pack(device.code(kernel), values) {
            Ok(params) => device.launch(kernel, self.grid, self.block, self.shared, &params),
            Err(report) => Outcome { report: *report, summary: None, output: Vec::new(), instructions: 0 },
        }
    }

    /// The PTX file and its text.
    fn read(&mut self) -> Result<(PathBuf, String)> {
        // `--arg` takes several values, so the file may have been taken for one.
        if self.file.is_none() && self.arguments.last().is_some_and(|last| Argument::parse(last).is_err()) {
            self.file = self.arguments.pop().map(PathBuf::from);
        }
        let Some(file) = self.file.clone() else {
            return Err(Error::bad_setting("vgpu run", "no PTX file given", "name one: earlybird vgpu run kernel.ptx"));
        };
        let bytes = std::fs::read(&file).map_err(|e| Error::io("read", &file, e))?;
        let text = String::from_utf8(bytes).map_err(|e| {
            let at = e.utf8_error().valid_up_to() as u64;
            Error::bad_file(&file, Some(at), "not UTF-8 text", "give PTX, not a cubin or fatbin")
        })?;
        Ok((file, text))
    }

    /// The kernel that is meant, of those there are.
    fn kernel_name(&self, entries: &[String]) -> Result<String> {
        match (&self.kernel, entries) {
            (Some(name), _) => Ok(name.clone()),
            (None, [only]) => Ok(only.clone()),
            (None, _) => {
                let what = format!("the file has {} kernels: {}", entries.len(), entries.join(", "));
                Err(Error::bad_setting("--kernel", what, "name one of them"))
            }
        }
    }

    fn options(&self) -> Result<Options> {
        let gpus = ALL.map(|l| l.name).join(", ");
        let limits = Limits::named(&self.gpu).ok_or_else(|| {
            Error::bad_setting("--gpu", format!("no GPU {:?}", self.gpu), format!("there are {gpus}"))
        })?;
        let schedule = names::schedule(&self.schedule).ok_or_else(|| {
            let what = format!("no schedule {:?}", self.schedule);
            Error::bad_setting("--schedule", what, "there are converge, reverse and random:SEED")
        })?;
        let mma = names::mma(&self.mma).ok_or_else(|| {
            Error::bad_setting("--mma", format!("no mode {:?}", self.mma), "there are fast, ref, sm80 and sm90")
        })?;
        let mut options =
            Options { limits, schedule, profile: self.profile, budget: self.budget, ..Options::default() };
        options.lowering.mma = mma;
        options.lowering.jitter = self.jitter;
        options.check = self.check.then(CheckOptions::default);
        options.workers = self.workers.min(4096);
        Ok(options)
    }

    fn tell(&self, device: &Device, kernel: KernelId, outcome: &Outcome) -> Result<()> {
        let code = device.code(kernel);
        let lints: Vec<_> = code
            .lints
            .iter()
            .map(|(pc, text)| (code.source.get(*pc as usize).map_or(0, |s| s.ptx_line), text.as_str()))
            .collect();
        if self.json {
            let Report { findings, warnings, .. } = &outcome.report;
            say(serde_json::json!({
                "kernel": code.name,
                "grid": self.grid,
                "block": self.block,
                "gpu": self.gpu,
                "checked": self.check,
                "ok": outcome.report.is_clean(),
                "errors": outcome.report.errors,
                "findings": findings,
                "warnings": warnings,
                "omitted": outcome.report.omitted,
                "lints": lints.iter().map(|(line, text)| serde_json::json!({ "ptx_line": line, "text": text })).collect::<Vec<_>>(),
                "warp_instructions": outcome.instructions,
                "profile": outcome.summary.as_ref().map(|s| s.to_json()),
                "output": String::from_utf8_lossy(&outcome.output),
            }));
            return Ok(());
        }
        let printed = String::from_utf8_lossy(&outcome.output);
        if !printed.is_empty() {
            say(printed.trim_end_matches('\n'));
        }
        if self.check {
            for (line, text) in &lints {
                say(format_args!("hint: ptx line {line}: {text}"));
            }
        }
        let report = outcome.report.to_text();
        if !report.trim().is_empty() {
            say(report.trim_end());
        }
        if let Some(summary) = &outcome.summary {
            say(summary.to_text().trim_end());
        }
        let verdict = match (outcome.report.is_clean(), self.check) {
            (true, true) => "ok, nothing found",
            (true, false) => "ok (without --check only addresses are checked)",
            (false, _) => "FAILED",
        };
        say(format_args!("{}: {verdict}, {} warp instructions", code.name, outcome.instructions));
        Ok(())
    }
}

/// Writes a buffer to its file.
fn write_back(device: &Device, value: &Value) -> Result<()> {
    let Value::Buffer { address, bytes, to: Some(to) } = value else { return Ok(()) };
    let mut data = vec![0; *bytes as usize];
    if let Err(error) = device.read(*address, &mut data) {
        warn(format_args!("error: {}: {error}", to.display()));
        return Ok(());
    }
    fsio::write_atomic(to, &data)
}

fn load_error(file: &std::path::Path, error: LoadError) -> Error {
    if error.unsupported()
        && let LoadError::Lower { error, .. } = &error
    {
        let place = format!("{}:{}", file.display(), error.pos.line);
        let hint = if error.hint.is_empty() { "the virtual GPU runs sm_80 code without it" } else { &error.hint };
        return Error::Unsupported { what: error.what.clone(), place: Some(place), hint: hint.into() };
    }
    match error {
        LoadError::Parse { error, .. } => Error::bad_file(
            file,
            None,
            format!("line {}, column {}: {}", error.pos.line, error.pos.col, error.what),
            if error.hint.is_empty() { "correct the PTX".into() } else { error.hint },
        ),
        LoadError::Lower { error, .. } => Error::bad_file(
            file,
            None,
            format!("line {}, column {}: {}", error.pos.line, error.pos.col, error.what),
            if error.hint.is_empty() { "correct the PTX".into() } else { error.hint },
        ),
        LoadError::NoKernel { entry, known, .. } => {
            let known = if known.is_empty() { "none".into() } else { known };
            Error::bad_setting(
                "--kernel",
                format!("no kernel {entry:?} in {}", file.display()),
                format!("there are: {known}"),
            )
        }
        LoadError::Memory { variable, bytes, .. } => {
            Error::bad_file(file, None, format!("variable {variable} of {bytes} bytes does not fit"), "make it smaller")
        }
    }
}
