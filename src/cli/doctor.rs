//! `earlybird doctor`: what this machine and this build can do, and whether the CPU computes what it should.

use clap::Args;

use super::{DONE, FINDINGS, device, say};
use crate::autograd::{Hyper, Session};
use crate::{Result, data, driver, nn};
use std::sync::Arc;

/// Arguments of `doctor`.
#[derive(Args)]
pub struct DoctorArgs {
    /// Device to test
    #[arg(long, default_value = "cpu")]
    device: String,
}

/// Environment variables that the program or its build look at.
const VARIABLES: [(&str, &str); 6] = [
    ("EARLYBIRD_NVRTC", "build: path of libnvrtc, or `off`"),
    ("CUDA_HOME", "build: searched for NVRTC"),
    ("CUDA_PATH", "build: searched for NVRTC"),
    ("VIRTUAL_ENV", "build: searched for NVRTC"),
    ("RAYON_NUM_THREADS", "CPU threads, where --threads is not given"),
    ("RUST_BACKTRACE", "backtraces"),
];

impl DoctorArgs {
    /// Runs the command.
    pub fn run(self) -> Result<u8> {
        say(format_args!("earlybird {}", env!("CARGO_PKG_VERSION")));
        say(format_args!("cpu        {} threads, {}", rayon::current_num_threads(), features()));
        match driver::kernels::MODULES.len() {
            0 => say("kernels    none: this build found no NVRTC; run `make nvrtc` and build again"),
            n => say(format_args!("kernels    {n} modules: {}", names())),
        }
        for (name, what) in VARIABLES {
            if let Some(value) = std::env::var_os(name) {
                say(format_args!("{name:17}  {} ({what})", value.to_string_lossy()));
            }
        }
        let backend = device::open(&self.device, None)?;
        let problems = overfit(backend.clone())?;
        say(format_args!(
            "{:9}  {}",
            backend.name(),
            problems.as_deref().unwrap_or("ok: a small network learns sixteen images by heart")
        ));
        Ok(if problems.is_none() { DONE } else { FINDINGS })
    }
}

fn names() -> String {
    driver::kernels::MODULES.iter().map(|module| module.name).collect::<Vec<_>>().join(", ")
}

/// What the CPU offers that our fast paths look for.
fn features() -> String {
    #[cfg(target_arch = "x86_64")]
    {
        let all = [
            ("AVX2", std::arch::is_x86_feature_detected!("avx2")),
            ("FMA", std::arch::is_x86_feature_detected!("fma")),
            ("AVX-512F", std::arch::is_x86_feature_detected!("avx512f")),
            ("AVX-512 VNNI", std::arch::is_x86_feature_detected!("avx512vnni")),
        ];
        let found: Vec<&str> = all.iter().filter(|(_, found)| *found).map(|(name, _)| *name).collect();
        return if found.is_empty() { "no vector extensions found".into() } else { found.join(", ") };
    }
    #[allow(unreachable_code)]
    std::env::consts::ARCH.to_string()
}

/// Trains a narrow VGG on sixteen images: the loss must fall to a tenth. Returns what is wrong, if anything.
fn overfit(backend: Arc<dyn crate::backend::Backend>) -> Result<Option<String>> {
    let graph = nn::build("vgg11", &nn::ModelOptions { width: 0.125, ..Default::default() })?;
    let images = data::noise(16 * graph.input_shape().elements(), 7);
    let labels: Vec<u32> = (0..16).map(|i| i % 10).collect();
    let mut session = Session::new(Arc::new(graph.clone()), backend, Hyper::default())?;
    session.load_state(&nn::init(&graph, 1))?;
    let mut losses = Vec::new();
    for _ in 0..30 {
        session.step(&images, &labels, 0.05)?;
        losses.push(session.take_metrics()?.loss());
    }
    let (first, last) = (losses[0], losses[losses.len() - 1]);
    let learned = last < first / 10.0;
    Ok((!learned).then(|| format!("FAILED: the loss went from {first:.3} to {last:.3} in 30 steps, not below a tenth")))
}
