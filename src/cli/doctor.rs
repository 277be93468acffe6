//! `earlybird doctor`: what this machine and this build can do, and whether a device computes what it should: the CPU by learning, others by
//! comparison with the CPU, kernel by kernel ([`crate::selftest`]) and in a small network.

use clap::Args;

use super::{DONE, FINDINGS, device, say, warn};
use crate::autograd::{Hyper, Session};
use crate::backend::Backend;
use crate::backend::cpu::{self, Cpu, IntegerPath};
use crate::backend::cuda::Cuda;
use crate::driver::{Clock, Driver};
use crate::selftest::{self, Outcome, Report, trust};
use crate::{Result, data, driver, nn};
use std::sync::Arc;

/// Arguments of `doctor`.
#[derive(Args)]
pub struct DoctorArgs {
    /// Device to test
    #[arg(long, default_value = "cpu")]
    device: String,
    /// End with one JSON line
    #[arg(long)]
    json: bool,
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
        say(format_args!("int8       {}", integers()));
        match driver::kernels::MODULES.len() {
            0 => say("kernels    none: this build found no NVRTC; run `make nvrtc` and build again"),
            n => say(format_args!("kernels    {n} modules: {}", names())),
        }
        for (name, what) in VARIABLES {
            if let Some(value) = std::env::var_os(name) {
                say(format_args!("{name:17}  {} ({what})", value.to_string_lossy()));
            }
        }
        let (name, verdicts, report) = if self.device.starts_with("vgpu") || self.device.starts_with("cuda") {
            let driver = driver::open(&self.device)?;
            let report = selftest::run(Arc::clone(&driver))?;
            tell(&report);
            if report.passed() {
                remember(&driver, &report);
            }
            // After a wrong kernel a whole network tells nothing more, and the device may be lost.
            let verdicts =
                if report.passed() { compare(Arc::new(Cuda::new(Arc::clone(&driver))?))? } else { Vec::new() };
            (driver.props().device.clone(), verdicts, Some(report))
        } else {
            let backend = device::open(&self.device, None)?;
            let verdicts =
                if backend.name() == "cpu" { vec![overfit(backend.clone())?] } else { compare(backend.clone())? };
            (backend.name().to_string(), verdicts, None)
        };
        for verdict in &verdicts {
            say(format_args!("{name:9}  {}", verdict.text));
        }
        let good = verdicts.iter().all(|v| v.good) && report.as_ref().is_none_or(Report::passed);
        if self.json {
            let network: Vec<_> =
                verdicts.iter().map(|v| serde_json::json!({ "good": v.good, "text": v.text })).collect();
            say(serde_json::json!({
                "version": env!("CARGO_PKG_VERSION"), "device": name, "passed": good, "network": network, "selftest": report,
            }));
        }
        Ok(if good { DONE } else { FINDINGS })
    }
}

/// A line per kernel, and one for all.
fn tell(report: &Report) {
    say(format_args!("device     {} ({}), driver {}", report.device, report.name, report.driver));
    for k in &report.kernels {
        match &k.outcome {
            Outcome::Passed { share } if *share > 0.0 => {
                say(format_args!(
                    "ok         {:32} {:2} cases, at most {share:.2} of the tolerance",
                    k.kernel, k.cases
                ));
            }
            Outcome::Passed { .. } => say(format_args!("ok         {:32} {:2} cases, every byte", k.kernel, k.cases)),
            Outcome::Failed { case, what } => say(format_args!("FAILED     {:32} {case}: {what}", k.kernel)),
            Outcome::NotReached => say(format_args!("NOT TESTED {:32} no case reached it", k.kernel)),
        }
    }
    for error in &report.errors {
        say(format_args!("FAILED     {error}"));
    }
    let (cases, seconds) = (report.cases, report.seconds);
    say(format_args!("kernels    {}; {cases} cases in {seconds:.1} s", report.summary()));
}

/// Lets `--device auto` know. Virtual devices are none that it would take.
fn remember(driver: &Arc<dyn Driver>, report: &Report) {
    if driver.props().clock == Clock::Simulated {
        return;
    }
    let Some(folder) = trust::folder() else { return };
    match trust::Key::of(driver.props()).and_then(|key| trust::remember(&folder, key, report)) {
        Ok(()) => say(format_args!("auto       --device auto takes {} from now on", report.device)),
        Err(e) => warn(format_args!("warning: the passed test is not remembered: {e}")),
    }
}

/// The outcome of one check.
struct Verdict {
    good: bool,
    text: String,
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

/// How 8-bit products are computed on the CPU.
fn integers() -> String {
    let best = IntegerPath::best().name();
    match cpu::amx() {
        Ok(()) => format!("products by {best}, tried out on a small one"),
        Err(why) => format!("products by {best}; no AMX: {why}"),
    }
}

/// Most steps in which a small network must have learned its images.
const PATIENCE: usize = 200;
/// Largest relative deviation of a device's outputs and weights from the CPU's. Both round every sum in an order of their own, so they differ by some units of
/// 2^-24 times the square root of a sum's length.
const DEVIATION: f64 = 1e-5;
/// The same for gradients: where a ReLU or a maximum is a tie but for rounding, the two may take different sides, and a few elements differ wholly.
const GRADIENT_DEVIATION: f64 = 2e-3;

/// A narrow VGG with its initial weights, and sixteen images of noise with labels.
fn subject(backend: Arc<dyn Backend>) -> Result<(Session, Vec<f32>, Vec<u32>)> {
    let graph = nn::build("vgg11", &nn::ModelOptions { width: 0.125, ..Default::default() })?;
    let images = data::noise(16 * graph.input_shape().elements(), 7);
    let labels: Vec<u32> = (0..16).map(|i| i % 10).collect();
    let mut session = Session::new(Arc::new(graph.clone()), backend, Hyper::default())?;
    session.load_state(&nn::init(&graph, 1))?;
    Ok((session, images, labels))
}

/// Trains a small network on sixteen images until it knows them: the loss must fall to a tenth.
fn overfit(backend: Arc<dyn Backend>) -> Result<Verdict> {
    let (mut session, images, labels) = subject(backend)?;
    let mut first = None;
    let mut last = f64::INFINITY;
    for step in 1..=PATIENCE {
        session.step(&images, &labels, 0.05)?;
        last = session.take_metrics()?.loss();
        if last < *first.get_or_insert(last) / 10.0 {
            let text = format!("ok: a small network learns sixteen images by heart in {step} steps");
            return Ok(Verdict { good: true, text });
        }
    }
    let first = first.unwrap_or(f64::NAN);
    let text = format!("FAILED: the loss went from {first:.3} to {last:.3} in {PATIENCE} steps, not below a tenth");
    Ok(Verdict { good: false, text })
}

/// Compares a device with the CPU: outputs, gradients by kind of operator, and weights after a step.
fn compare(device: Arc<dyn Backend>) -> Result<Vec<Verdict>> {
    let mut seen: Vec<Vec<(&str, Vec<f32>)>> = Vec::new();
    for backend in [Cpu::new() as Arc<dyn Backend>, device] {
        let (mut session, images, labels) = subject(backend)?;
        session.differentiate(&images, &labels)?;
        let gradients = session.gradients()?;
        // Convolutions have four dimensions, the classifier two, batchnorm one.
        let of =
            |dims: usize| gradients.values().filter(|t| t.dims.len() == dims).flat_map(|t| t.data.clone()).collect();
        let mut parts =
            vec![("conv2d, gradients", of(4)), ("batchnorm, gradients", of(1)), ("linear, gradients", of(2))];
        session.step(&images, &labels, 0.05)?;
        parts.push(("sgd, weights and statistics", session.state_dict()?.into_values().flat_map(|t| t.data).collect()));
        parts.push(("evaluation, outputs", session.logits(&images)?));
        seen.push(parts);
    }
    let (here, there) = (&seen[0], &seen[1]);
    let verdicts = here.iter().zip(there).map(|((name, expected), (_, got))| {
        let (mut error, mut size) = (0f64, 0f64);
        for (e, g) in expected.iter().zip(got) {
            error += f64::from(g - e).powi(2);
            size += f64::from(*e).powi(2);
        }
        let deviation = (error / size).sqrt();
        let allowed = if name.ends_with("gradients") { GRADIENT_DEVIATION } else { DEVIATION };
        let good = expected.len() == got.len() && deviation <= allowed;
        let word = if good { "ok" } else { "FAILED" };
        Verdict { good, text: format!("{word}: {name}: {deviation:.1e} from the CPU (allowed {allowed:.0e})") }
    });
    Ok(verdicts.collect())
}
