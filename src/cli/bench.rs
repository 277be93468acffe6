//! `earlybird bench step`: how fast a training step is on this machine, measured; or, with `--modelled`, how fast it could be on a GPU that is not here
//! ([`super::modelled`]). The two are never printed together. Compare only what was measured in the same minute.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use clap::{Args, Subcommand};

use super::{DONE, device, say};
use crate::autograd::{Hyper, Session};
use crate::train::checkpoint::Checkpoint;
use crate::{Error, Result, data, nn};

/// What can be measured.
#[derive(Subcommand)]
pub enum BenchCommand {
    /// One optimiser step: forward, backward, update
    Step(StepArgs),
    /// The loader of photographs, alone and beside the step that it feeds
    Loader(super::loading::LoaderArgs),
}

/// Arguments of `bench step`.
#[derive(Args)]
pub struct StepArgs {
    /// Model, or a file that carries its network, such as what `prune` wrote
    #[arg(long, default_value = "vgg16")]
    model: String,
    /// Factor on every layer's channels
    #[arg(long, default_value_t = 1.0)]
    width: f64,
    /// Image as HxWxC, of a model by name [default: 32x32x3]
    #[arg(long)]
    input: Option<String>,
    /// Classes, of a model by name [default: 10]
    #[arg(long)]
    classes: Option<usize>,
    /// Images per batch
    #[arg(long, default_value_t = 128)]
    batch_size: usize,
    /// Device
    #[arg(long, default_value = "auto")]
    device: String,
    /// Precision: f32, eb8, int8
    #[arg(long, default_value = "f32")]
    precision: String,
    /// With int8: weight gradients from output gradients of 16 bits
    #[arg(long)]
    wgrad16: bool,
    /// CPU threads [default: all]
    #[arg(long)]
    threads: Option<usize>,
    /// Steps to measure, after two to warm up
    #[arg(long, default_value_t = 8)]
    steps: usize,
    /// Model the step on the GPU that a virtual device stands for, from counters; measures nothing
    #[arg(long, conflicts_with_all = ["steps", "threads"])]
    modelled: bool,
    /// With --modelled: blocks to count of each launch
    #[arg(long, default_value_t = 8, requires = "modelled")]
    blocks: u64,
    /// End with one JSON line
    #[arg(long)]
    json: bool,
}

impl BenchCommand {
    /// Runs the command.
    pub fn run(self) -> Result<u8> {
        match self {
            BenchCommand::Step(args) => args.run(),
            BenchCommand::Loader(args) => args.run(),
        }
    }
}

impl StepArgs {
    fn run(self) -> Result<u8> {
        let settings = super::Settings {
            search_precision: self.precision.clone(),
            train_precision: self.precision.clone(),
            wgrad16: self.wgrad16,
            ..Default::default()
        };
        let [precision, _] = settings.precisions()?;
        if self.batch_size == 0 || self.steps == 0 {
            return Err(Error::bad_setting("--batch-size, --steps", "0 measures nothing", "give at least 1"));
        }
        let path = Path::new(&self.model);
        if path.extension().is_some() && (self.input.is_some() || self.classes.is_some()) {
            let what = format!("{} has a network of its own", self.model);
            return Err(Error::bad_setting("--input, --classes", what, "leave them out, or name a model"));
        }
        let graph = match path.extension().is_some() {
            true => Checkpoint::load(path)?.graph(path)?.ok_or_else(|| {
                Error::bad_file(path, None, "carries no network", "give a file that earlybird wrote, or a model's name")
            })?,
            false => {
                let usual = nn::ModelOptions::default();
                let input = self.input.as_deref().map_or(Ok(usual.input), super::info::shape)?;
                let classes = self.classes.unwrap_or(usual.classes);
                nn::build(&self.model, &nn::ModelOptions { classes, input, width: self.width })?
            }
        };
        if self.modelled {
            super::modelled::run(&graph, self.batch_size, precision, &self.device, self.blocks, self.json)?;
            return Ok(DONE);
        }
        if self.device.starts_with("vgpu") {
            let what = "a virtual GPU has no speed of its own to measure";
            return Err(Error::bad_setting("--device", what, "add --modelled, or choose cpu or cuda"));
        }
        let backend = device::open(&self.device, self.threads)?;
        let shape = graph.input_shape();
        let mut session =
            Session::with_precision(Arc::new(graph.clone()), backend.clone(), Hyper::default(), precision, 1)?;
        session.load_state(&nn::init(&graph, 1))?;
        let images = data::noise(self.batch_size * shape.elements(), 1);
        let labels: Vec<u32> = (0..self.batch_size).map(|i| (i % graph.classes()) as u32).collect();
        let mut seconds = Vec::new();
        for step in 0..self.steps + 2 {
            let start = Instant::now();
            session.step(&images, &labels, 0.01)?;
            backend.synchronize()?;
            if step >= 2 {
                seconds.push(start.elapsed().as_secs_f64());
            }
        }
        let loss = session.take_metrics()?.loss();
        seconds.sort_by(f64::total_cmp);
        let (median, best) = (seconds[seconds.len() / 2], seconds[0]);
        let rate = self.batch_size as f64 / median;
        let peak = peak_bytes();
        say(format_args!(
            "{} width {} on {} batch {} {} on {}: {rate:.1} images/s (median of {}; best {:.1}), {:.1} ms a step, {:.2} GFLOP/s",
            self.model,
            self.width,
            shape,
            self.batch_size,
            self.precision,
            backend.name(),
            seconds.len(),
            self.batch_size as f64 / best,
            median * 1e3,
            3.0 * graph.flops() as f64 * rate / 1e9,
        ));
        if self.json {
            say(serde_json::json!({
                "model": self.model, "width": self.width, "input": shape, "classes": graph.classes(), "batch_size": self.batch_size, "device": backend.name(),
                "precision": self.precision, "wgrad16": self.wgrad16, "threads": rayon::current_num_threads(), "steps": seconds.len(),
                "images_per_second": rate, "seconds_per_step": median, "best_seconds_per_step": best,
                "peak_bytes": peak, "device_bytes": session.device_bytes(), "loss": loss,
            }));
        }
        Ok(DONE)
    }
}

/// Largest resident set of this process so far, in bytes; `None` where the system does not say.
pub fn peak_bytes() -> Option<u64> {
    status_bytes("VmHWM:")
}

/// Resident set of this process now, in bytes; as [`peak_bytes`].
pub fn resident_bytes() -> Option<u64> {
    status_bytes("VmRSS:")
}

fn status_bytes(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kb| kb * 1024)
}
